"""Calls to a gateway in one session, in several threads, and what its server can do.

The server's capabilities decide only how to ask a question, and whether to ask it at all; no answer depends on them.
They are cached for a short time. After a server was unreachable, sent another IDL or lacked a method, they are asked
for again, because it may have been upgraded.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.errors import (
    EventError,
    EvergreenGroupsError,
    GatewayError,
    MethodNotFoundError,
    OldReleaseError,
    ServiceNotFoundError,
    UnexplainedError,
)
from evergreen_groups.gateway.address import Address
from evergreen_groups.gateway.call import PCRUD, Call, GatewayKind, RetryPolicy, view_of
from evergreen_groups.gateway.idl import IdlCache, IdlSource
from evergreen_groups.gateway.record import class_ids, decode, unrequested_rows
from evergreen_groups.gateway.sender import TOKEN, Credentials, Sender, Session
from evergreen_groups.gateway.transport import Transport
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.call import CallObserver
    from evergreen_groups.gateway.idl import Idl
    from evergreen_groups.gateway.sender import SendOptions

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(function: Callable[[Item], Value], items: Iterable[Item], concurrency: int) -> Iterator[Value]:
    """Yield ``function(item)`` for each item, in the items' order, with up to ``concurrency`` calls running at once.

    Items are taken as needed, never more than ``concurrency`` ahead of the last value yielded. The first exception, in
    the items' order, is raised, and calls that haven't begun never do.
    """
    if concurrency <= 1 or (isinstance(items, Sequence) and len(items) == 1):
        yield from map(function, items)
        return
    if isinstance(items, Sequence) and len(items) <= concurrency:
        # The calling thread takes the first item, since it would only wait.
        others = [begin(partial(function, item)) for item in items[1:]]
        yield from map(function, items[:1])
        for other in others:
            yield other.result()
        return
    # Calls under way end by themselves, at the latest on their timeout or when the gateway is closed.
    source = iter(items)
    under_way = deque(begin(partial(function, item)) for item in islice(source, concurrency))
    while under_way:
        value = under_way.popleft().result()
        # Before yielding, so that the next call runs while the caller works on this value.
        under_way.extend(begin(partial(function, item)) for item in islice(source, 1))
        yield value


# Every request of a web service needs several threads, and starting one takes about as long as much of its work.
_IDLE_SECONDS = 10.0
_idle: list[SimpleQueue[Callable[[], None]]] = []
os.register_at_fork(after_in_child=_idle.clear)  # a forked process doesn't have these threads


def begin(function: Callable[[], Value]) -> Future[Value]:
    """Run a function in an idle or a new daemon thread. The future raises what the function raises."""
    future: Future[Value] = Future()
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = SimpleQueue()
        threading.Thread(target=_work, args=(tasks,), name="evergreen", daemon=True).start()

    def task() -> None:
        try:
            value = function()
        except BaseException as error:
            _idle.append(tasks)
            future.set_exception(error)
        else:
            _idle.append(tasks)  # before the result is set: its reader may need a thread at once
            future.set_result(value)

    tasks.put(task)
    return future


def _work(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        try:
            task = tasks.get(timeout=_IDLE_SECONDS)
        except Empty:
            try:
                _idle.remove(tasks)
            except ValueError:  # another thread has just taken this one
                continue
            return
        task()
        del task  # don't keep the result in memory while idle


_METHOD = "opensrf.open-ils.system.use_authoritative"
# The answer comes from the site's opensrf.xml, and services have to be restarted after a change there.
_REPLICAS_SECONDS = 300.0
# Perl's truth: None, an empty string (releases-056) and zero are false.
_ANSWERS = {None: False, "": False, "0": False, 0: False, "1": True, 1: True}


def _uses_replicas(gateway: Connection) -> bool:
    """Return whether the site reads, or may read, from database replicas.

    Elsewhere, the ``.authoritative`` form of a method is an alias of the plain one (``OpenILS/Application.pm``).
    """
    try:
        result = gateway.call("open-ils.actor", _METHOD, expect="optional")
    except (MethodNotFoundError, UnexplainedError):
        # Servers before 3.12 lack the method (3.11/releases-056), and the Rust gateway gives no reason for a failure.
        # Assuming replicas is safe: an .authoritative form always reads from the primary database.
        return True
    if isinstance(result.value, dict | list) or result.value not in _ANSWERS:
        raise result.unexpected("a boolean")
    return _ANSWERS[result.value]


# Examples: "3-12-10", "3-12" from a branch, "3-11-0-rc1" and "3-9-0RC1" before a release (OpenILS/Application.pm,
# ils_version).
_RELEASE_NAME = re.compile(r"(\d{1,3})-(\d{1,3})(?:-(\d{1,3}))?(?:-?([A-Za-z][A-Za-z0-9]{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class IlsRelease:
    """A release such as 3.12.10; ``patch`` is None for a whole series.

    All releases of a series, release candidates included, have the same capabilities.

    >>> str(IlsRelease(3, 12, 10)), IlsRelease(3, 12, 10).series < IlsRelease(3, 16).series
    ('3.12.10', True)
    """

    major: int
    minor: int
    patch: int | None = None

    @classmethod
    def named(cls, name: str) -> IlsRelease | None:
        """Parse a release name such as ``3-12-10``; None for a build from git (``HEAD``) and for anything else."""
        found = _RELEASE_NAME.fullmatch(name)
        if found is None:
            return None
        major, minor, patch, _suffix = found.groups()
        return cls(int(major), int(minor), None if patch is None else int(patch))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + ("" if self.patch is None else f".{self.patch}")

    @property
    def series(self) -> tuple[int, int]:
        """The major and minor number."""
        return self.major, self.minor


OLDEST_RELEASE = IlsRelease(3, 11)
"""The first release that recalculates penalties at a patron's home library (Evergreen's commit 20a752e24f)."""


SECONDS = 60.0
"""How long capabilities stay cached. An upgrade or a downgrade takes longer."""

NO_TOKEN: Final = "0" * 32
"""A token that no session has. It probes for a method without running it (``errors-028``, ``pcrud-148``)."""

_ACTOR = "open-ils.actor"
_VERSION = "opensrf.open-ils.system.ils_version"
_VERSION_SERVICES = (_ACTOR, "open-ils.circ", "open-ils.fielder")  # services written in C lack this method
# A run can go on without the version, so it shouldn't wait long for one.
_VERSION_SECONDS = 5.0
_NAME = re.compile(r"[A-Za-z0-9._-]{1,24}", re.ASCII)  # anything longer might be a token, and isn't shown
_COUNT_SINCE = IlsRelease(3, 16)
_NO_SERVICE = "open-ils.evergreen-groups"
_ONCE = RetryPolicy(tries=1)
_NO_REASON_NO_RETRY = RetryPolicy(unexplained=False)
_AT_HOME = (_ACTOR, "open-ils.actor.user.penalties.update_at_home", NO_TOKEN, -1)
_COUNT = (PCRUD, "open-ils.pcrud.count.aou", NO_TOKEN, {"id": 1})
_OVERDUE_COUNT = (_ACTOR, "open-ils.actor.usergroup.members.overdue_count", NO_TOKEN, -1)


class Bus(Enum):
    """The message bus of a site's OpenSRF."""

    REDIS = "redis"
    XMPP = "xmpp"


class RowChecks(Enum):
    """How pcrud checks which rows an account may see."""

    IN_QUERY = "in-query"
    ROW_BY_ROW = "row-by-row"


@dataclass(frozen=True, slots=True)
class Version:
    """A server's name for its release: ``HEAD`` for a build from git, an empty string if the server doesn't say.

    ``is_old`` means older than :data:`OLDEST_RELEASE`, judged by its number or, for a build from git, by its methods.
    """

    name: str = ""
    is_old: bool = False

    @property
    def release(self) -> IlsRelease | None:
        """The release, None if the name isn't one."""
        return IlsRelease.named(self.name)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a server; None for anything that couldn't be determined.

    ``versions`` are by service. ``at_least`` is the latest release of which a method was found.
    """

    versions: Mapping[str, Version]
    at_least: IlsRelease | None
    gateway: GatewayKind | None
    bus: Bus | None
    row_checks: RowChecks | None

    @property
    def version(self) -> Version:
        """The version according to the service for patrons."""
        return self.versions.get(_ACTOR, Version())

    @classmethod
    def read(cls, gateway: Connection) -> Capabilities:
        """Ask for everything, without a login: about ten calls, three at a time."""
        once = gateway.for_probes(_ONCE)
        found = gateway.map(lambda service: _version(once, service), _VERSION_SERVICES)
        versions = {service: version for service, version in zip(_VERSION_SERVICES, found, strict=True) if version}
        overdue_count, at_home = gateway.map(lambda method: _offers(once, *method), (_OVERDUE_COUNT, _AT_HOME))
        # Behind the Rust gateway, a token that pcrud refuses would leave a worker one answer behind.
        has_count = None if gateway.kind is GatewayKind.RUST else _offers(once, *_COUNT)
        signs = ((overdue_count, IlsRelease(3, 17)), (has_count, _COUNT_SINCE), (at_home, OLDEST_RELEASE))
        kind, bus = _kind_and_bus(once)
        return cls(
            versions,
            next((release for is_there, release in signs if is_there), None),
            kind,
            bus,
            None if has_count is None else RowChecks.IN_QUERY if has_count else RowChecks.ROW_BY_ROW,
        )


class KnownCapabilities:
    """Cached capabilities of a server, shared by a gateway and its views. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._forgotten = 0
        self._hidden_rows: tuple[float, bool] | None = None
        self._version: Version | None = None
        self._asking: Future[Version] | None = None
        self._expires = 0.0

    def forget_rows(self) -> None:
        """Drop what is cached about pcrud's row checks: the server may have been replaced or upgraded."""
        self._forgotten += 1
        self._hidden_rows = None

    def counts_hidden_rows(self, gateway: Connection) -> bool:
        """Return whether hidden rows may count against ``limit``.

        They don't if pcrud has the method ``count``, which arrived together with permission checks in SQL. Releases
        without it differ (``3.14/releases-044``). Assuming that hidden rows count costs some calls and nothing else.
        """
        with self._counting:
            known = self._hidden_rows
            if known is None or time.monotonic() > known[0]:
                forgotten = self._forgotten
                # The Rust gateway doesn't explain a failure.
                asked = gateway.for_probes(_NO_REASON_NO_RETRY if gateway.kind is GatewayKind.RUST else None)
                service, method, _token, where = _COUNT
                try:
                    found = asked.call(service, method, TOKEN, where, own_connection=True).value
                    if str(found) not in ("0", "1"):
                        raise unrequested_rows()
                    counts_hidden = False
                except (MethodNotFoundError, UnexplainedError):  # 3.12/releases-059
                    counts_hidden = True
                known = (time.monotonic() + SECONDS, counts_hidden)
                if forgotten == self._forgotten:
                    self._hidden_rows = known
            return known[1]

    def release(self, gateway: Connection) -> Version | Future[Version]:
        """Return the release, or the request for it if it isn't known yet. An empty one if the server doesn't answer.

        After the first answer, later ones are fetched in the background.
        """
        with self._lock:
            if self._asking is not None and self._asking.done():
                self._version, self._asking = self._asking.result(), None
            if self._asking is None and time.monotonic() >= self._expires:
                self._expires = time.monotonic() + SECONDS
                once = gateway.for_probes(_ONCE)

                def version() -> Version:
                    try:
                        return _version(once, _ACTOR) or Version()
                    except EvergreenGroupsError:  # leave it to other calls to report an answer that can't be trusted
                        return Version()

                self._asking = gateway.begin(version)
            return self._version or self._asking or Version()

    def refuse_old(self, asked: Version | Future[Version]) -> None:
        """Raise OldReleaseError if what :meth:`release` returned is, or becomes, older than :data:`OLDEST_RELEASE`."""
        version = asked if isinstance(asked, Version) else asked.result()
        if version.is_old:
            with self._lock:
                # Ask again at the next call, after an upgrade perhaps.
                self._version, self._asking, self._expires = None, None, 0.0
            raise OldReleaseError(
                "this is Evergreen {release}, which is too old",
                advice="upgrade it to {oldest} or later",
                values={"release": str(version.release or version.name), "oldest": str(OLDEST_RELEASE)},
            )


def _version(gateway: Connection, service: str) -> Version | None:
    """Return a service's name for its release, None if the service isn't running."""
    in_time = gateway.within(_VERSION_SECONDS)
    try:
        answer = in_time.call(service, _VERSION, expect="optional").value
    except ServiceNotFoundError:
        return None
    except GatewayError:
        return Version()
    name = answer if isinstance(answer, str) and _NAME.fullmatch(answer) else ""
    release = IlsRelease.named(name)
    if release is not None:
        return Version(name, release.series < OLDEST_RELEASE.series)
    # A build from git says HEAD, even from an old branch (Application.pm).
    return Version(name, _offers(in_time, *_AT_HOME) is False)


def _offers(gateway: Connection, service: str, method: str, *parameters: object) -> bool | None:
    """Return whether a service has a method that does nothing with these parameters; None if unknown."""
    try:
        gateway.call(service, method, *parameters, expect="optional")
    except MethodNotFoundError:
        return False
    except EventError:
        return True
    except GatewayError:
        return None
    return True


def _kind_and_bus(gateway: Connection) -> tuple[GatewayKind | None, Bus | None]:
    """Tell the gateway's kind and its bus from the way it refuses a service that doesn't exist."""
    try:
        gateway.call(_NO_SERVICE, "opensrf.system.echo")
    except ServiceNotFoundError as error:
        return GatewayKind.OPENSRF, Bus.XMPP if error.undelivered else Bus.REDIS
    except GatewayError:
        pass
    # The Rust gateway refuses everything in the same way, and works over Redis only (http-gateway.rs).
    return (GatewayKind.RUST, Bus.REDIS) if gateway.kind is GatewayKind.RUST else (None, None)


class Connection:
    """Calls to one server in one session: a :class:`Gateway` without its searches."""

    def __init__(  # noqa: PLR0913  # the settings of a connection, all by name and with a default
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        token: str | None = None,
        locale: str | None = None,
        # The gateway's own answer to a timeout (errors-034) says more than our giving up, so it gets a little longer.
        timeout: float = 60.0,
        grace: float = 5.0,
        connect_timeout: float = 10.0,
        # A service has few processes, and each handles one request at a time. Three calls at once took 2.5 s for what
        # one at a time took 4.1 s for (10,901 members); dozens would keep the circulation desks waiting.
        concurrency: int = 3,
        ca_bundle: Path | str | None = None,
        allow_plain_http: bool = False,
        retries: RetryPolicy | None = None,
        cache_directory: Path | str | None = None,
        on_call: CallObserver | None = None,
        only_supported: bool = False,
    ) -> None:
        self._address = Address.parse(arguments.text("url", url))
        if not allow_plain_http:
            self._address.refuse_plain_http()
        self.concurrency = concurrency
        self._known = KnownCapabilities()
        bundle = Path(ca_bundle) if ca_bundle else None
        transport = Transport(self._address, connect_timeout=connect_timeout, concurrency=concurrency, ca_bundle=bundle)
        self._sender = Sender(
            transport,
            retries=retries or RetryPolicy(),
            locale=locale,
            timeout=timeout,
            grace=grace,
            on_call=on_call,
            on_change=self._known.forget_rows,
        )
        self.statistics = transport.statistics
        self._session = Session(self._sender, credentials=credentials, token=token)
        cache = IdlCache(Path(cache_directory)) if cache_directory else None
        self._idl_source = IdlSource(self._address.idl, cache, self._known.forget_rows)
        self._only_supported = only_supported
        self._replicas = TimeToLiveCache[bool](time.monotonic, _REPLICAS_SECONDS)  # shared by views

    def __repr__(self) -> str:
        return f"Gateway({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The server's root, without a trailing slash."""
        return self._address.base

    @property
    def timeout(self) -> float:
        """How long the gateway waits for a service, in seconds, unless a call overrides it."""
        return self._sender.timeout

    @property
    def kind(self) -> GatewayKind | None:
        """The kind of gateway, None before its first answer."""
        return self._sender.kind

    @property
    def token(self) -> str:
        """The session's token. Logs in if necessary."""
        return self._session.token(self._sender)

    @property
    def seconds_left(self) -> float | None:
        """Seconds in which calls may still begin after :meth:`within`; None without a limit."""
        return self._sender.seconds_left

    @property
    def reads_replicas(self) -> bool:
        """Whether plain reads, and pcrud's, may lag some seconds behind writes, because they use replicas.

        If so, the ``.authoritative`` forms of methods read from the primary database. Makes a call now and then.
        """
        return self._replicas.get("", lambda: _uses_replicas(self))

    def acting_as(self, token: str) -> Self:
        """Return this gateway for another session, which is neither renewed nor logged out.

        Connections, the IDL, retries and statistics are shared. Closing the returned gateway leaves them open; closing
        this one closes both. Errors don't show ``token``, and nothing stores it.
        """
        return self._for_session(token=arguments.text("token", token))

    @contextmanager
    def logged_in(self, credentials: Credentials) -> Iterator[Self]:
        """Return this gateway for a session that lasts for the block only, otherwise as in :meth:`acting_as`."""
        view = self._for_session(credentials=credentials)
        try:
            yield view
        finally:
            view._session.logout()

    def within(self, seconds: float) -> Self:
        """Return this gateway and its session, for calls that must all end ``seconds`` from now.

        The limit includes waiting for a connection or another thread, retries, a login, and fetching the IDL. Calls
        that run longer, or begin later, raise TimedOutError. Closing the returned gateway closes nothing.
        """
        arguments.seconds("seconds", seconds)
        return self._view(self._sender.within(seconds))

    def _for_session(self, *, credentials: Credentials | None = None, token: str | None = None) -> Self:
        view = self._view(self._sender.for_session())
        view._session = Session(view._sender, credentials=credentials, token=token)
        return view

    def _view(self, sender: Sender) -> Self:
        view = view_of(self)
        view._sender = sender
        return view

    def refusing_old_releases(self) -> Self:
        """Return this gateway and its session with ``only_supported``. Closing the returned gateway closes nothing."""
        if self._only_supported:
            return self
        view = self._view(self._sender.view())
        view._only_supported = True
        return view

    def for_probes(self, retries: RetryPolicy | None = None) -> Self:
        """Return this gateway and its session for probing the server: failures don't reset cached capabilities."""
        known = KnownCapabilities()
        view = self._view(self._sender.for_probes(retries, known.forget_rows))
        view._known, view._only_supported = known, False
        return view

    def capabilities(self) -> Capabilities:
        """Ask the server for its capabilities, without a login. Raises GatewayError if it can't be asked."""
        return Capabilities.read(self)

    def counts_hidden_rows(self) -> bool:
        """Return whether hidden rows may count against ``limit``, cached for a minute. Raises GatewayError."""
        return self._known.counts_hidden_rows(self)

    def login(self) -> None:
        """Log in now instead of with the first call. Raises LoginRefusedError if Evergreen refuses."""
        self._session.token(self._sender)

    def logout(self) -> None:
        """End the session on the server if it was opened here. The next call that needs a session logs in again."""
        self._session.logout()

    def close(self) -> None:
        """Stop calls in other threads, log out and close all connections. A view only stops accepting calls."""
        self._sender.close(self._session.logout)

    def call(
        self,
        service: str,
        method: str,
        *params: object,
        expect: Expect = "one",
        write: bool = False,
        own_connection: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """Call a method and return its result.

        :data:`TOKEN` among ``params`` is replaced with the session's token. ``expect`` is the number of results that
        the method promises: ``"one"``, ``"optional"`` (one or none), or ``"many"`` for streaming methods. Prefer their
        ``.atomic`` form with ``"one"``, because a truncated stream looks complete. ``own_connection`` sends a read over
        a new connection. Use it when an answer doesn't show what it belongs to, such as a count or an empty list: if
        answers on a kept-alive connection were off by one, nothing else would tell.

        A read is retried if the failure may pass. A ``write`` is sent once, over its own connection; the
        TransportError's ``sent`` says whether the server may have executed it. After the session has ended, it is
        renewed and the call repeated, even a write, because NO_SESSION means that nothing was done.

        Workers of the Rust gateway may return an answer that belongs to another request. So with this gateway, an echo
        verifies every empty result and every failure, and precedes every write. Raises a GatewayError from
        :mod:`evergreen_groups.errors`, and DataError if the answer may belong to another request.
        """
        if timeout is not None:
            arguments.seconds("timeout", timeout)
        call = Call(arguments.text("service", service), arguments.text("method", method))
        options: SendOptions = {"expect": expect, "write": write, "own_connection": own_connection, "timeout": timeout}
        if not self._only_supported:
            return self._session.send(self._sender, call, params, **options)
        release = self._known.release(self)
        if write:
            self._known.refuse_old(release)
        try:
            result = self._session.send(self._sender, call, params, **options)
        except GatewayError:
            self._known.refuse_old(release)
            raise
        self._known.refuse_old(release)
        return result

    def idl(self, *class_ids: str) -> Idl:
        """Return the classes known so far, fetching missing ones. Raises DataError for a class that doesn't exist."""
        return self._idl_source.require(class_ids, self._sender.fetch, self._sender.deadline)

    def decode(self, value: Any) -> Any:
        """Turn every fieldmapper object in ``value`` into a Record. Raises DataError for a class that doesn't exist."""
        return decode(value, self.idl(*class_ids(value)))

    def map(self, function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
        """Yield ``function(item)`` in the items' order. Takes them as needed; makes ``concurrency`` calls at once."""
        return ordered_map(function, items, self.concurrency)

    def in_parallel(self, *functions: Callable[[], Any]) -> list[Any]:
        """Call functions in parallel, and return their results in order. The first exception is raised."""
        if len(functions) > self.concurrency:
            return list(self.map(lambda function: function(), functions))
        others = [begin(function) for function in functions[1:]]
        # The calling thread takes the first function, since it would only wait.
        return [functions[0](), *(other.result() for other in others)]

    def begin(self, function: Callable[[], Value]) -> Future[Value]:
        """Start reading in another thread. The read uses one of the ``concurrency`` connections."""
        return begin(function)
