"""What one process of the service shares between its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from flask import Flask, Request, current_app

from evergreen_groups import config, converters, state
from evergreen_groups.client import Client
from evergreen_groups.config import Settings
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy
from evergreen_groups.reference_data import ReferenceData
from evergreen_groups.web import problems
from evergreen_groups.web.admission import Admission, Caller
from evergreen_groups.web.breaker import Breaker
from evergreen_groups.web.origin import refuse_other_origins
from evergreen_groups.web.rate_limit import RateLimit
from evergreen_groups.web.tokens import token_of

EXTENSION = "evergreen-groups"

_CONNECT_SECONDS = 3.0
_GRACE_SECONDS = 1.0
_RETRIES = RetryPolicy(tries=2, first_delay=0.2, longest_delay=0.5)


@dataclass(frozen=True, slots=True)
class Desk:
    """A request of somebody at a desk: who asks, and the jobs done in their name."""

    caller: Caller
    client: Client


class Service:
    """Gateways, admission, rate limit and breakers. Safe to share between threads."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self.settings = settings
        self._environ = environ
        self.events_secret = config.events_secret(settings.events, environ)
        if self.events_secret is not None:
            self._credentials()  # a service account that can't be is found out at once
        threads = settings.serve.threads
        self.gateway = self._gateway(timeout=settings.serve.timeout, concurrency=threads)
        self.origin = settings.serve.origin or converters.origin_of(self.gateway.url)
        self.admission = Admission(clock)
        self._reference = ReferenceData(settings.policy, clock=clock)
        self.rate_limit = RateLimit(clock, per_minute=settings.serve.rate_limit)
        most_waiting = max(1, threads // 2)
        self.breaker = Breaker(clock, failures=5, most_waiting=most_waiting, patience=3.0, pause=10.0)
        self.events_breaker = Breaker(clock, failures=5, most_waiting=most_waiting, patience=0.0, pause=10.0)

    @contextmanager
    def desk(self, request: Request) -> Iterator[Desk]:
        """Admit the caller of a request, and do what is done inside in their name, within the time for a request.

        Raises:
            ProblemError: the caller isn't let in, or what is done inside failed.
        """
        refuse_other_origins(request.headers, self.origin)
        gateway = self.gateway.acting_as(token_of(request.headers)).within(self.settings.serve.timeout)
        try:
            with self.breaker.watching():
                caller = self.admission.admit(gateway)
                self.rate_limit.take(caller.key)
                yield Desk(caller, self._client(gateway, f"user {caller.user}"))
        except EvergreenGroupsError as error:
            raise problems.of_reading(error) from error

    @cached_property
    def events_gateway(self) -> Gateway:
        """The service account's own gateway, for events alone."""
        settings = self.settings.events
        return self._gateway(
            timeout=settings.deadline,
            concurrency=max(1, self.settings.serve.threads // 2),
            credentials=self._credentials(),
        )

    def events_client(self) -> Client:
        """The jobs as the service account, for one event, within the time for it."""
        gateway = self.events_gateway.within(self.settings.events.deadline)
        return self._client(gateway, self.settings.gateway.username or "")

    def close(self) -> None:
        """Log out and close all connections."""
        self.gateway.close()
        if "events_gateway" in self.__dict__:
            self.events_gateway.close()

    def _client(self, gateway: Gateway, account: str) -> Client:
        return Client(
            gateway,
            account=account,
            policy=self.settings.policy,
            state_directory=state.directory(self._environ),
            reference=self._reference,
        )

    def _gateway(self, *, timeout: float, concurrency: int, credentials: Credentials | None = None) -> Gateway:
        settings = self.settings.gateway
        if settings.url is None:
            raise ConfigurationError("no gateway: set url in section [gateway] of the configuration file")
        return Gateway(
            settings.url,
            credentials=credentials,
            locale=settings.locale,
            timeout=timeout,
            grace=_GRACE_SECONDS,
            connect_timeout=min(_CONNECT_SECONDS, timeout),
            concurrency=concurrency,
            ca_bundle=settings.ca_bundle,
            allow_plain_http=settings.allow_plain_http,
            retries=_RETRIES,
            cache_directory=state.cache_directory(self._environ),
        )

    def _credentials(self) -> Credentials:
        settings = self.settings.gateway
        if settings.username is None:
            raise ConfigurationError("events are taken with a service account: set username in section [gateway]")
        password = config.password(settings, self._environ)
        return Credentials(username=settings.username, password=password, workstation=settings.workstation)


def install(app: Flask, settings: Settings, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
    """Make the service of an app."""
    app.extensions[EXTENSION] = Service(settings, environ, clock)


def service() -> Service:
    """The service of the app at work."""
    return cast(Service, current_app.extensions[EXTENSION])
