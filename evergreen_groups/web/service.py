"""The state that all requests of one process share, in memory.

Each process applies ``[serve] rate_limit`` and ``[serve] threads``, and detects an unresponsive gateway, on its own.
Data that must survive a restart is in the state database: plans, the journal, and the audit trail of events.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from flask import Request, current_app

from evergreen_groups.breaker import BreakerState, CircuitBreaker
from evergreen_groups.changes import WAIT, Operator
from evergreen_groups.client import Client, adult_rule
from evergreen_groups.configured import configured_state, gateway_url
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy
from evergreen_groups.ils import VIEW_USER, ReferenceData
from evergreen_groups.language import current_language, set_language
from evergreen_groups.metrics import samples_of
from evergreen_groups.settings import Settings, passwords, values
from evergreen_groups.state import counter_store
from evergreen_groups.threads import begin
from evergreen_groups.ttl_cache import TimeToLiveCache
from evergreen_groups.web import problems
from evergreen_groups.web.admission import Admission, Caller, Counters, Slots, not_let_in, permitted_at, unanswered
from evergreen_groups.web.approvals import Approvals
from evergreen_groups.web.change_runs import MAX_AWAITED_STEPS, ChangeRuns
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.requests import (
    Address,
    client_address,
    client_network,
    is_followed_link,
    refuse_foreign_writes,
    refuse_other_origins,
    token_of,
)

if TYPE_CHECKING:
    from flask import Flask
    from prometheus_client.core import Metric
    from werkzeug.datastructures import MultiDict

    from evergreen_groups.breaker import RequestOutcome
    from evergreen_groups.changes import Changer, PlanRun, StoredStep
    from evergreen_groups.metrics import ServiceCounters
    from evergreen_groups.state import State
    from evergreen_groups.web.bodies import Approval

# A clerk is waiting: an error within a few seconds is better than a total after a minute. The nightly run allows more.
_CONNECT_SECONDS = 3.0
_GRACE_SECONDS = 1.0
EVENTS_AT_ONCE = 3  # Evergreen's default number of parallel events (opensrf.xml, open-ils.trigger: parallel)
# One retry covers a connection that was just closed and a service that was just reloaded.
_RETRIES = RetryPolicy(tries=2, first_delay=0.2, longest_delay=0.5)


# Monitoring polls the health page without logging in, so neither Evergreen nor the database is queried every time.
FRESH_SECONDS = 15.0
"""How long the last known state of the gateway or the database counts as current."""

# An echo touches no database, so a healthy service answers quickly.
_ECHO_SECONDS = 2.0
# The check is an empty transaction. A caller stops waiting after this time even if the attempt takes longer to fail.
_DATABASE_SECONDS = 2.0
_SERVICES = ("open-ils.auth", "open-ils.actor", "open-ils.pcrud")  # the services that desk requests call

CHANGES_OFF = "Your library has turned changes off (setting: changes in [desk])."


class Health:
    """Checks the gateway and the database, rarely and in one thread at a time.

    If every request checked, a server that hangs would block all threads. ``breaker`` contributes what ordinary
    requests have learned about the gateway. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], gateway: Gateway, breaker: CircuitBreaker, state: State) -> None:
        self._gateway = gateway
        self._breaker = breaker
        self._state = state
        self._checking_gateway, self._checking_database = threading.Lock(), threading.Lock()
        self._database_seen: TimeToLiveCache[bool] = TimeToLiveCache(clock, FRESH_SECONDS)
        self._database_answers = True

    def gateway_outcome(self) -> RequestOutcome | None:
        """Return the latest outcome of a gateway call, after a new check if it is old. None if there is none yet."""
        last = self._breaker.last_outcome()
        if (last is None or last.seconds_ago > FRESH_SECONDS) and self._checking_gateway.acquire(blocking=False):
            try:
                self.check_gateway()
            finally:
                self._checking_gateway.release()
            last = self._breaker.last_outcome()
        return last

    def check_gateway(self, seconds: float = _ECHO_SECONDS) -> EvergreenGroupsError | None:
        """Send an echo to each service that a desk needs, within ``seconds`` in total. Return the error, or None.

        While the breaker is open, nothing is sent.
        """
        try:
            with self._breaker.watching():
                gateway = self._gateway.within(seconds)
                for name in _SERVICES:
                    gateway.call(name, "opensrf.system.echo", "evergreen-groups")
        except EvergreenGroupsError as error:
            return error
        return None

    def database_answers(self) -> bool:
        """Return whether the state database was usable within the last few seconds."""

        def check() -> None:
            try:
                self._database_answers = self._database_seen.get("", can_be_read)
            finally:
                self._checking_database.release()

        def can_be_read() -> bool:
            with suppress(EvergreenGroupsError):
                if self._state.database.is_there:
                    with self._state.database.reading():
                        pass
                return True
            return False

        if self._checking_database.acquire(blocking=False):
            try:
                begin(check).result(_DATABASE_SECONDS)
            except TimeoutError:
                self._database_answers = False
        return self._database_answers


_WAIT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class DeskRequest:
    """An admitted request from a desk."""

    service: Service
    caller: Caller
    client: Client
    gateway: Gateway
    """The gateway with the caller's session and without the request's deadline."""

    @property
    def form_token(self) -> str:
        """The CSRF token for forms in the caller's session."""
        text = f"evergreen-groups desk form 1{self.caller.user}"
        return hmac.new(self.gateway.token.encode(), text.encode(), sha256).hexdigest()

    def has_made(self, form: MultiDict[str, str]) -> bool:
        """Return whether a form was made in the caller's session, in constant time."""
        return hmac.compare_digest(form.get("form", "").encode(), self.form_token.encode())

    def apply_plan(self, plan: str, key: str, approval: Approval | None) -> str:
        """Apply a plan, with a supervisor's approval if the request has one. Return the change's id.

        A long change continues in the background. A plan that was already applied needs neither approval nor a thread.
        """
        running, changes = self.service, self.client.changes
        with running.change_runs.running(), ExitStack() as stack:
            found = changes.find(plan)
            is_long = len(found.steps) > MAX_AWAITED_STEPS
            if found.key is not None and is_long:
                return changes.apply(plan, key, timeout=0.0)
            if found.key is not None or (approval is None and not is_long):
                return changes.apply(plan, key)
            if approval is None:
                return self._begin(lambda changes: changes.begin(plan, key))
            # A long change keeps the supervisor's session beyond this block.
            supervisor, user = stack.enter_context(
                running.approvals.approved(running.gateway, self.client.gateway, self.caller, approval)
            )
            if not is_long:
                with_deadline = supervisor.within(running.settings.serve.timeout)
                return running.client_for(self.caller, with_deadline, approved_by=user).changes.apply(plan, key)
            client, session = running.client_for(self.caller, supervisor, approved_by=user), ExitStack()

            @contextmanager
            def begun() -> Iterator[PlanRun[StoredStep]]:
                with session, client.changes.begin(plan, key) as change:
                    yield change

            # If the change can't start, this block ends the session. Once started, the thread does.
            return running.change_runs.begin(begun, on_accepted=lambda: session.push(stack.pop_all()))

    def undo_change(self, change: str, key: str) -> str:
        """Undo a change. Return the id of the new change that does it. A long one continues in the background."""
        with self.service.change_runs.running():
            if len(self.client.changes.entry(change).steps) <= MAX_AWAITED_STEPS:
                return self.client.changes.undo(change, key)
            return self._begin(lambda changes: changes.begin_undo(change, key))

    def _begin(self, begin: Callable[[Changer], AbstractContextManager[PlanRun[StoredStep]]]) -> str:
        without_deadline = self.service.client_for(self.caller, self.gateway)
        return self.service.change_runs.begin(lambda: begin(without_deadline.changes))

    def lacking(self, library: int, profile: int | None) -> str | None:
        """Return a permission that the caller lacks to change such patrons. One call per session and library (id)."""
        return self.service.reference.lacking(self.client.gateway, library, profile)

    @property
    def sees_patrons_at(self) -> frozenset[int]:
        """The ids of the org units whose patrons the caller may see."""
        return self.caller.rights.at(VIEW_USER)

    def sees_everybody(self) -> bool:
        """Return whether the caller sees patrons of every library."""
        units = self.service.reference.org_units(self.client.gateway)
        return self.sees_patrons_at.issuperset(unit.id for unit in units)


class Service:
    """Gateways, admission, slots and breakers. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        counters: ServiceCounters,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.is_closed = False
        self.state = configured_state(settings, environ)
        threads, account = settings.serve.threads, settings.gateway

        def gateway(timeout: float, concurrency: int, credentials: Credentials | None = None) -> Gateway:
            return Gateway(
                gateway_url(settings),
                credentials=credentials,
                locale=account.locale,
                timeout=timeout,
                grace=_GRACE_SECONDS,
                connect_timeout=min(_CONNECT_SECONDS, timeout),
                concurrency=concurrency,
                ca_bundle=account.ca_bundle,
                allow_plain_http=account.allow_plain_http,
                retries=_RETRIES,
                on_call=lambda call, seconds, outcome: counters.call(call.service, str(call), seconds, outcome.value),
                only_supported=True,
            )

        self.gateway = gateway(settings.serve.timeout, threads)  # each desk request has its own session
        self.origin = settings.serve.origin or values.origin_of(settings.client.url or self.gateway.url)
        redis = settings.redis
        request_counters = Counters(counter_store(redis.url, passwords.secret(redis, environ)) if redis.url else None)
        self._adults = adult_rule(settings.audit)
        self.reference = ReferenceData(settings.policy, clock=clock)
        self.admission = Admission(clock, request_counters, self.reference, per_minute=settings.serve.rate_limit)
        breaker = partial(CircuitBreaker, clock, unanswered, not_let_in, failures=5, pause=10.0)
        # Refuse new requests once half of the threads hang. The others still answer what doesn't need Evergreen.
        self.breaker = breaker(most_waiting=threads // 2, slow_after=_WAIT_SECONDS)
        # Separate from the desks' breaker: events take longer, and one that hangs must not lock the desks out.
        self.events_breaker = breaker(most_waiting=EVENTS_AT_ONCE, slow_after=0.0)
        self.change_runs = ChangeRuns()
        self.approvals = Approvals(request_counters)
        self.slots = Slots(threads, timeout=_WAIT_SECONDS)
        self.health = Health(clock, self.gateway, self.breaker, self.state)
        self.events_secret = passwords.secret(settings.events, environ)
        self.metrics_token = passwords.secret(settings.metrics, environ)
        self._events_gateway = None
        if self.events_secret is not None:
            if account.username is None:
                raise ConfigurationError(
                    "events need a service account",
                    advice="set username in section [gateway]",
                    setting="gateway.username",
                    code="events-without-account",
                )
            password = passwords.password(account, environ)
            credentials = Credentials(username=account.username, password=password, workstation=account.workstation)
            self._events_gateway = gateway(settings.events.deadline, EVENTS_AT_ONCE, credentials)
        self.state.load()  # now, in one thread, instead of in several during the first requests

    def desk(
        self, request: Request, *, by_link: bool = False, largest: int = 0, verify: bool = True
    ) -> AbstractContextManager[DeskRequest]:
        """Admit the caller and run the block in their name, within the deadline for a request.

        ``by_link`` also admits a browser that followed a link from another site: the page shows only what the caller's
        own session may see. ``largest`` is the maximum size of the body in bytes. Without ``verify``, a cached caller's
        session may have ended: only for blocks that answer with what they read from Evergreen, which then refuses. A
        ProblemError says that the caller isn't admitted, or that the block failed.
        """
        if not (by_link and is_followed_link(request.method, request.headers)):
            refuse_other_origins(request.headers, self.origin)
        return self._admitted(request, largest, problems.read_problem, verify=verify)

    def changing_desk(
        self, request: Request, *, largest: int, verify: bool = True
    ) -> AbstractContextManager[DeskRequest]:
        """Like :meth:`desk`, for a request that plans or makes a change: only if settings and origin allow it."""
        token_of(request.headers)  # a missing session is the first thing to report
        refuse_foreign_writes(request.headers, self.origin)
        if not self.settings.desk.changes:
            raise ProblemError(403, CHANGES_OFF, code="changes-off")
        # Waiting for another desk's lock doesn't count as waiting for Evergreen. If it did, a few could open the
        # breaker.
        return self._admitted(request, largest, problems.change_problem, verify=verify, wait=WAIT)

    @contextmanager
    def _admitted(
        self,
        request: Request,
        largest: int,
        problem_of: Callable[[EvergreenGroupsError], ProblemError],
        *,
        verify: bool,
        wait: float = 0.0,
    ) -> Iterator[DeskRequest]:
        def address() -> str:
            return client_network(self.address_of(request))

        without_deadline = self.gateway.acting_as(token_of(request.headers))
        gateway = without_deadline.within(self.settings.serve.timeout)
        try:
            if largest:
                with self.breaker.watching(), self.slots.taken():
                    caller = self.admission.admit(gateway, address, verify=verify)
                # Under mod_wsgi, the body may still be arriving. Hold no slot until then.
                request.max_content_length = largest
                request.get_data()
                gateway = without_deadline.within(self.settings.serve.timeout)
            with self.breaker.watching(wait=wait), self.slots.taken():
                if not largest:
                    caller = self.admission.admit(gateway, address, verify=verify)
                yield DeskRequest(self, caller, self.client_for(caller, gateway), without_deadline)
        except EvergreenGroupsError as error:
            raise problem_of(error) from error

    def client_for(self, caller: Caller, gateway: Gateway, *, approved_by: int | None = None) -> Client:
        """Return a client that acts for ``caller`` with the session of ``gateway``."""
        permission = self.settings.desk.undo_others
        return Client(
            gateway,
            account=Operator(f"user {caller.user}", caller.user, caller.workstation, approved_by),
            policy=self.settings.policy,
            state=self.state,
            reference=self.reference,
            may_undo_others=lambda: (
                permission is not None and bool(permitted_at(gateway, caller, {caller.library}, permission))
            ),
            adults=self._adults,
        )

    def use_session_timezone(self, gateway: Gateway) -> None:
        """Show times in the time zone of the caller's library unless the settings name one."""
        if self.settings.language.timezone is None:
            try:
                timezone = self.reference.timezones(gateway).get(self.reference.account(gateway).library)
            except EvergreenGroupsError as error:
                raise problems.read_problem(error) from error
            set_language(self.settings.language.language(current_language().tag, timezone))

    def address_of(self, request: Request) -> Address | None:
        """Return the client's address, looking behind trusted proxies."""
        return client_address(request.remote_addr, request.headers, self.settings.serve.trusted_proxies)

    def events_client(self) -> Client:
        """Return a client that acts as the service account, with the deadline for one event."""
        if self._events_gateway is None:
            raise problems.no_events()
        gateway = self._events_gateway.within(self.settings.events.deadline)
        return Client(
            gateway,
            account=self.settings.gateway.username or "",
            policy=self.settings.policy,
            state=self.state,
            reference=self.reference,
        )

    def close(self) -> None:
        """Log out and close all connections. Running changes finish their current step."""
        self.is_closed = True
        self.change_runs.close()
        for gateway in self.gateways:
            gateway.close()
        self.state.close()

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """The desks' gateway, and the one for events if events are enabled."""
        return (self.gateway, self._events_gateway) if self._events_gateway else (self.gateway,)


EXTENSION = "evergreen-groups"
"""The service's key in ``app.extensions``."""


def service_of(app: Flask) -> Service:
    """Return the service of an app."""
    return cast("Service", app.extensions[EXTENSION])


def service() -> Service:
    """Return the service of the app that answers the current request."""
    return service_of(current_app)


class ServiceCollector:
    """Collects metrics from the service on request."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Return nothing, as for every collector whose values vary."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        running = self._service
        retries = sum(gateway.statistics.retries for gateway in running.gateways)
        yield samples_of("gateway_retries_total", [((), retries)])
        last = running.breaker.last_outcome()
        yield samples_of("gateway_answers", [((), last.answered)] if last else [])
        breakers = {"desks": running.breaker, "events": running.events_breaker}
        yield samples_of(
            "breaker_closed", [((name,), breaker.state is BreakerState.CLOSED) for name, breaker in breakers.items()]
        )
        caches = {"callers": running.admission.callers, **running.reference.caches}
        yield samples_of("cache_hits_total", [((name,), cache.hits) for name, cache in caches.items()])
        yield samples_of("cache_misses_total", [((name,), cache.misses) for name, cache in caches.items()])
