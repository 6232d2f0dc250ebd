"""What one process of the service shares between its requests.

All of it is in that process's memory, and nothing is shared with another: who was admitted a moment ago, how often
each session and address has asked (:class:`Admission`), limits and their reference data, whether the gateway answers
(:class:`Breaker`) and who waits for it (:class:`Slots`). So of several instances, each allows ``[serve] rate_limit``
and ``[serve] threads`` for itself, and finds out for itself that the gateway is dead; the processes of one instance
(:mod:`evergreen_groups.web.supervisor`) share the threads out and count together. Nothing else is lost with a process:
what has to outlive it is in the state's database, such as plans, the journal, and the audit trail of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from flask import Request, g

from evergreen_groups.changes import WAIT, Operator
from evergreen_groups.client import Client, adult_rule
from evergreen_groups.connect import configured_state
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.language import current_language, set_language
from evergreen_groups.limits import ReferenceData
from evergreen_groups.settings import Settings, passwords, values
from evergreen_groups.web import gateways, problems
from evergreen_groups.web.approvals import Approvals
from evergreen_groups.web.authorization import Admission, Caller, has_permission
from evergreen_groups.web.change_runs import ChangeRuns
from evergreen_groups.web.health import Health
from evergreen_groups.web.overload import Breaker, Slots
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.rate_limits import Counters
from evergreen_groups.web.requests import (
    Address,
    client_address,
    is_followed_link,
    neighbourhood,
    read_body,
    refuse_foreign_writes,
    refuse_other_origins,
    token_of,
)

if TYPE_CHECKING:
    from evergreen_groups.gateway import Call, CallOutcome, Gateway
    from evergreen_groups.metrics import ServiceCounters
    from evergreen_groups.state import State
    from evergreen_groups.ttl_cache import TimeToLiveCache

EXTENSION = "evergreen-groups"

_WAIT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class DeskRequest:
    """A request of somebody at a desk: who asks, and the jobs done in their name."""

    caller: Caller
    client: Client
    gateway: Gateway
    """That of whoever asks, without the time for a request."""


class Service:
    """Gateways, admission, slots and breakers. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        counters: ServiceCounters,
        asked: Counters | None = None,
        *,
        former: Service | None = None,
    ) -> None:
        """Make it; ``former`` is the one before it in this process, of which it takes over what is the same.

        ``asked`` counts requests where the settings name no Redis: that of processes which count together.

        Raises:
            ConfigurationError: no gateway is configured, or what events need can't be had.
        """
        self.settings = settings
        self._environ = environ
        self.counters = counters
        self.state = self._state(former)
        threads = settings.serve.threads
        self.gateway = gateways.for_desks(settings, environ, self._count_call)
        self.origin = settings.serve.origin or values.origin_of(settings.client.url or self.gateway.url)
        self._asked = self._request_counters(asked, former)
        self._reference = ReferenceData(settings.policy, clock=clock)
        self.admission = Admission(clock, self._asked, self._reference, per_minute=settings.serve.rate_limit)
        # Half of the threads may hang before new requests are refused; the rest still answers what needs no ILS.
        self.breaker = Breaker(clock, failures=5, most_waiting=threads // 2, slow_after=_WAIT_SECONDS, pause=10.0)
        self.change_runs = ChangeRuns()
        self.approvals = Approvals(self._asked)
        self.slots = Slots(threads, timeout=_WAIT_SECONDS)
        self.health = Health(clock, self.gateway, self.breaker, self.state)
        self.events_secret = passwords.events_secret(settings.events, environ)
        self.metrics_token = passwords.metrics_token(settings.metrics, environ)
        self._events_gateway = None
        if self.events_secret is not None:
            self._events_gateway = gateways.for_events(settings, environ, self._count_call)
        self.state.load()  # here, in one thread, and not in those of the first requests
        # Apart from the desks': an event takes longer, and one that hangs mustn't shut the panel.
        self.events_breaker = Breaker(
            clock, failures=5, most_waiting=gateways.EVENTS_AT_ONCE, slow_after=0.0, pause=10.0
        )

    @contextmanager
    def desk(self, request: Request, *, by_link: bool = False, largest: int = 0) -> Iterator[DeskRequest]:
        """Admit the caller of a request, and do what is done inside in their name, within the time for a request.

        ``by_link``: whoever follows a link from elsewhere may come, to see what their own session sees. A body may
        have ``largest`` bytes.

        Raises:
            ProblemError: the caller isn't let in, or what is done inside failed.
        """
        if not (by_link and is_followed_link(request.method, request.headers)):
            refuse_other_origins(request.headers, self.origin)
        with self._admitted(request, largest, problems.of_reading) as desk:
            yield desk

    @contextmanager
    def changing_desk(self, request: Request, *, largest: int) -> Iterator[DeskRequest]:
        """The same for a request that plans or changes something.

        Raises:
            ProblemError: as :meth:`desk`; 403 for another origin, or where the desk changes nothing by setting.
        """
        token_of(request.headers)  # whoever has none hears that first
        refuse_foreign_writes(request.headers, self.origin)
        if not self.settings.desk.changes:
            raise ProblemError(403, "Nothing is changed here: see changes in [desk].", code="changes-off")
        # Who waits for another desk doesn't wait for the ILS: some of them would shut the panel out.
        with self._admitted(request, largest, problems.of_changing, wait=WAIT) as desk:
            yield desk

    @contextmanager
    def _admitted(
        self,
        request: Request,
        largest: int,
        problem_of: Callable[[EvergreenGroupsError], ProblemError],
        *,
        wait: float = 0.0,
    ) -> Iterator[DeskRequest]:
        address = neighbourhood(self.address_of(request))
        unhurried = self.gateway.acting_as(token_of(request.headers))
        gateway = unhurried.within(self.settings.serve.timeout)
        try:
            if largest:  # the body of somebody who is let in, before anything is held for the request
                with self.breaker.watching(), self.slots.taken():
                    caller = self.admission.admit(gateway, address)
                read_body(request, largest)
                gateway = unhurried.within(self.settings.serve.timeout)
            with self.breaker.watching(wait=wait), self.slots.taken():
                if not largest:
                    caller = self.admission.admit(gateway, address)
                yield DeskRequest(caller, self.client_for(caller, gateway), unhurried)
        except EvergreenGroupsError as error:
            raise problem_of(error) from error

    def client_for(self, caller: Caller, gateway: Gateway, *, approved_by: int | None = None) -> Client:
        """The jobs in the name of ``caller``, done with the session of ``gateway``."""
        permission = self.settings.desk.undo_others
        return Client(
            gateway,
            account=Operator(f"user {caller.user}", caller.user, caller.workstation, approved_by),
            policy=self.settings.policy,
            state=self.state,
            reference=self._reference,
            # Once for each request, however many changes it lists.
            may_undo_others=cache(
                lambda: permission is not None and has_permission(gateway, caller, caller.library, permission)
            ),
            adults=adult_rule(self.settings.audit),
        )

    def write_times_of(self, gateway: Gateway) -> None:
        """Write times as they are where the session's account works, unless the settings say how.

        Raises:
            ProblemError: the ILS doesn't answer, or not as it should.
        """
        if self.settings.language.timezone is None:
            try:
                timezone = self._reference.timezone(gateway)
            except EvergreenGroupsError as error:
                raise problems.of_reading(error) from error
            set_language(self.settings.language.language(current_language().tag, timezone))

    def address_of(self, request: Request) -> Address | None:
        """Where a request comes from, as far as the proxies that are trusted report it."""
        return client_address(request.remote_addr, request.headers, self.settings.serve.trusted_proxies)

    def events_client(self) -> Client:
        """The jobs as the service account, for one event, within the time for it.

        Raises:
            ProblemError: 404, no events are taken here.
        """
        if self._events_gateway is None:
            raise problems.no_events()
        gateway = self._events_gateway.within(self.settings.events.deadline)
        return self._client(gateway, self.settings.gateway.username or "")

    def close(self, *, successor: Service | None = None) -> None:
        """Log out and close all connections; changes that are being made finish the step that they are at.

        What a ``successor`` has taken over stays open.
        """
        self.change_runs.close()
        for gateway in (self.gateway, self._events_gateway):
            if gateway is not None:
                gateway.close()
        if successor is None or successor.state is not self.state:
            self.state.close()

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """The desks', and that for events where they are taken."""
        return tuple(gateway for gateway in (self.gateway, self._events_gateway) if gateway is not None)

    @property
    def caches(self) -> Mapping[str, TimeToLiveCache[Any]]:
        """What is kept of the ILS for a while, by what it is."""
        return {"callers": self.admission.callers, **self._reference.caches}

    def _state(self, former: Service | None) -> State:
        """Where everything is kept: that of the ``former`` one where the settings lead there."""
        if former is not None and former.settings.state == self.settings.state:
            return former.state
        return configured_state(self.settings, self._environ)

    def _request_counters(self, given: Counters | None, former: Service | None) -> Counters:
        """What counts requests: that of the ``former`` one, so that nobody begins anew, unless it counts elsewhere."""
        if former is not None and former.settings.redis == self.settings.redis:
            return former._asked
        redis = self.settings.redis
        if given is not None and redis.url is None:
            return given
        return Counters.configured(redis.url, passwords.redis_password(redis, self._environ))

    def _count_call(self, call: Call, seconds: float, outcome: CallOutcome) -> None:
        self.counters.call(call.service, str(call), seconds, outcome.value)

    def _client(self, gateway: Gateway, account: str) -> Client:
        return Client(
            gateway,
            account=account,
            policy=self.settings.policy,
            state=self.state,
            reference=self._reference,
        )


def service() -> Service:
    """The service of the request at work: the same from its beginning to its end."""
    return cast(Service, g.service)
