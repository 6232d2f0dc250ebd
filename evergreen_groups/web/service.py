"""What one process of the service shares between its requests.

All of it is in that process's memory, and nothing is shared with another: who was admitted a moment ago, how often
each session and address has asked (:class:`Admission`), limits and their reference data, whether the gateway answers
(:class:`Breaker`) and who waits for it (:class:`Slots`). So of several instances, each allows ``[serve] rate_limit``
and ``[serve] threads`` for itself, and finds out for itself that the gateway is dead; the processes of one instance
(:mod:`evergreen_groups.web.supervisor`) share the threads out and count together. Nothing else is lost with a process:
what has to outlive it is in the state's database, such as plans, the journal, and the audit trail of events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from flask import Request, g

from evergreen_groups.changes import WAIT, Operator
from evergreen_groups.client import Client, adult_rule
from evergreen_groups.connect import configured_state, gateway_url
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy
from evergreen_groups.ils import ReferenceData
from evergreen_groups.language import current_language, set_language
from evergreen_groups.settings import Settings, declared, passwords, value_of, values, with_values
from evergreen_groups.state import find_cache_directory
from evergreen_groups.ttl_cache import TimeToLiveCache
from evergreen_groups.web import problems
from evergreen_groups.web.admission import Admission, Caller, Counters, has_permission
from evergreen_groups.web.change_runs import Approvals, ChangeRuns
from evergreen_groups.web.overload import Breaker, Slots
from evergreen_groups.web.problems import ProblemError
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
    from flask import Flask

    from evergreen_groups.gateway import Call, CallObserver, CallOutcome
    from evergreen_groups.metrics import ServiceCounters
    from evergreen_groups.state import State
    from evergreen_groups.web.overload import RequestOutcome

# Somebody stands at the desk: better no figures within a few seconds than figures after a minute. A nightly run has
# more of all of these.
_CONNECT_SECONDS = 3.0
_GRACE_SECONDS = 1.0
EVENTS_AT_ONCE = 3  # what Evergreen sends at once unless configured otherwise (opensrf.xml, open-ils.trigger: parallel)
# One repeat, for a connection that had just been closed or a service that was just reloaded.
_RETRIES = RetryPolicy(tries=2, first_delay=0.2, longest_delay=0.5)


def for_desks(settings: Settings, environ: Mapping[str, str], on_call: CallObserver) -> Gateway:
    """The one that each request asks with a session of its own.

    Raises:
        ConfigurationError: no gateway is configured.
    """
    return _made(
        settings, environ, on_call, timeout=settings.serve.timeout, concurrency=settings.serve.threads, credentials=None
    )


def for_events(settings: Settings, environ: Mapping[str, str], on_call: CallObserver) -> Gateway:
    """The service account's, for events alone: nothing is read on somebody's behalf with it.

    Raises:
        ConfigurationError: no gateway is configured, no account, or its password can't be had.
    """
    account = settings.gateway
    if account.username is None:
        raise ConfigurationError(
            "events are taken with a service account",
            advice="set username in section [gateway]",
            setting="gateway.username",
            code="events-without-account",
        )
    password = passwords.password(account, environ)
    credentials = Credentials(username=account.username, password=password, workstation=account.workstation)
    return _made(
        settings,
        environ,
        on_call,
        timeout=settings.events.deadline,
        concurrency=EVENTS_AT_ONCE,
        credentials=credentials,
    )


def _made(
    settings: Settings,
    environ: Mapping[str, str],
    on_call: CallObserver,
    *,
    timeout: float,
    concurrency: int,
    credentials: Credentials | None,
) -> Gateway:
    chosen = settings.gateway
    return Gateway(
        gateway_url(settings),
        credentials=credentials,
        locale=chosen.locale,
        timeout=timeout,
        grace=_GRACE_SECONDS,
        connect_timeout=min(_CONNECT_SECONDS, timeout),
        concurrency=concurrency,
        # Apache has a process for each connection, few to spare, and makes a new one each second. One that is kept
        # occupies its process for 3 s: 1 s of keep-alive, then 2 s in which Apache waits for us to close. So the
        # ninth of a page's first calls waited for 3.0 s, and the client's own calls behind it.
        keep_alive=False,
        ca_bundle=chosen.ca_bundle,
        allow_plain_http=chosen.allow_plain_http,
        retries=_RETRIES,
        cache_directory=find_cache_directory(environ),
        on_call=on_call,
        only_supported=True,
    )


# Anybody may ask, monitoring does every minute or so: neither the ILS nor the database is asked for each.
FRESH_SECONDS = 15.0
"""How long a state of the gateway, or of the database, is taken to last."""

# An echo touches no database; what takes longer isn't well.
_ECHO_SECONDS = 2.0
# Nor does a transaction that reads nothing; whoever asks waits no longer for it, however long it takes to fail.
_DATABASE_SECONDS = 2.0
_SERVICES = ("open-ils.auth", "open-ils.actor", "open-ils.pcrud")  # what a request of a desk asks


class Health:
    """Looks at both, seldom, and one request at a time: all threads would wait for a server that hangs.

    ``breaker`` knows of the gateway what requests have seen. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], gateway: Gateway, breaker: Breaker, state: State) -> None:
        self._gateway = gateway
        self._breaker = breaker
        self._state = state
        self._looking, self._looking_at_database = threading.Lock(), threading.Lock()
        self._database_seen: TimeToLiveCache[bool] = TimeToLiveCache(clock, FRESH_SECONDS)
        self._database_answers = True

    def gateway_outcome(self) -> RequestOutcome | None:
        """Whether the gateway answers, as last seen; it is asked where that was too long ago. None: not known yet."""
        last = self._breaker.last_outcome()
        if (last is None or last.seconds_ago > FRESH_SECONDS) and self._looking.acquire(blocking=False):
            try:
                self.look_at_gateway()
            finally:
                self._looking.release()
            last = self._breaker.last_outcome()
        return last

    def look_at_gateway(self, seconds: float = _ECHO_SECONDS) -> EvergreenGroupsError | None:
        """Ask each service that a desk needs for a sign of life; gives what went wrong, None where all is well.

        They have so many ``seconds`` together. While the gateway is known to be dead it isn't asked.
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
        """Whether the state's database can be used, as seen in the last seconds."""
        if self._looking_at_database.acquire(blocking=False):
            looking = threading.Thread(target=self._look_at_database, name="state", daemon=True)
            looking.start()
            looking.join(_DATABASE_SECONDS)
            if looking.is_alive():
                self._database_answers = False
        return self._database_answers

    def _look_at_database(self) -> None:
        try:
            self._database_answers = self._database_seen.get("", self._database_can_be_read)
        finally:
            self._looking_at_database.release()

    def _database_can_be_read(self) -> bool:
        try:
            if self._state.database.is_there:
                with self._state.database.reading():
                    pass
        except EvergreenGroupsError:
            return False
        return True


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
        self.gateway = for_desks(settings, environ, self._count_call)
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
            self._events_gateway = for_events(settings, environ, self._count_call)
        self.state.load()  # here, in one thread, and not in those of the first requests
        # Apart from the desks': an event takes longer, and one that hangs mustn't shut the panel.
        self.events_breaker = Breaker(clock, failures=5, most_waiting=EVENTS_AT_ONCE, slow_after=0.0, pause=10.0)

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


SUCCESSION = "evergreen-groups-succession"
"""Where the app has it."""

AT_START = ("serve.host", "serve.port", "serve.threads", "serve.processes", "metrics.listen")
"""The settings that count from the start of the process to its end."""


class Succession:
    """One :class:`Service` after the other, each with the settings that it was made with.

    A request keeps the one that it began with (:meth:`enter`, :meth:`leave`). ``environ``, ``clock``, ``counters`` and
    ``asked`` are the process's own. Safe to share between threads.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        counters: ServiceCounters,
        asked: Counters | None = None,
    ) -> None:
        self._extensions = app.extensions
        self._environ = environ
        self._clock = clock
        self.counters = counters
        self._changed = threading.Condition()
        self._under_way: dict[Service, int] = {}
        self._replacing = threading.Lock()
        self._retiring: list[threading.Thread] = []
        self._asked = asked
        self._extensions[EXTENSION] = Service(settings, environ, clock, counters, asked)
        self._extensions[SUCCESSION] = self

    @property
    def current(self) -> Service:
        """The one that new requests get."""
        service: Service = self._extensions[EXTENSION]
        return service

    def enter(self) -> Service:
        """The one for a request that begins now; it stays as it is until the request leaves."""
        with self._changed:
            service = self.current
            self._under_way[service] = self._under_way.get(service, 0) + 1
            return service

    def leave(self, service: Service) -> None:
        """The request has ended."""
        with self._changed:
            self._under_way[service] -= 1
            if not self._under_way[service]:
                del self._under_way[service]
                self._changed.notify_all()

    def replace(self, settings: Settings) -> list[str]:
        """Have new requests use these settings; gives the names of those that take a restart to change.

        Requests under way, and changes that are being made, go on with the former ones. Where this raises, nothing
        has changed.

        Raises:
            ConfigurationError: something is wrong with them, or with a secret that they name.
        """
        with self._replacing:
            former = self.current
            at_start = [one for one in declared(type(settings)) if one.key in AT_START]
            at_work = {one.key: value_of(former.settings, one) for one in at_start}
            new = Service(
                with_values(settings, at_work), self._environ, self._clock, self.counters, self._asked, former=former
            )
            with self._changed:
                self._extensions[EXTENSION] = new
            thread = threading.Thread(target=self._retire, args=(former, new), name="retiring", daemon=True)
            thread.start()
            self._retiring = [one for one in self._retiring if one.is_alive()] + [thread]
        return [one.key for one in at_start if value_of(settings, one) != at_work[one.key]]

    def close(self) -> None:
        """Close the one at work. Those before it close themselves when nobody needs them any more."""
        with self._changed:
            self._under_way.clear()
            self._changed.notify_all()
        self.current.close()
        for thread in self._retiring:
            thread.join(1.0)

    def _retire(self, former: Service, new: Service) -> None:
        with self._changed:
            self._changed.wait_for(lambda: former not in self._under_way)
        former.change_runs.finish()
        former.close(successor=new)


def succession_of(app: Flask) -> Succession:
    """What the requests of an app share, one after the other as settings are read anew."""
    return cast(Succession, app.extensions[SUCCESSION])
