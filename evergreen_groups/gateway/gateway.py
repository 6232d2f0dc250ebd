"""The gateway, the entry point of this package."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.errors import MethodNotFoundError, UnexplainedError
from evergreen_groups.gateway.call import Call, RetryPolicy
from evergreen_groups.gateway.capabilities import Capabilities, KnownCapabilities
from evergreen_groups.gateway.idl import IdlCache, IdlSource
from evergreen_groups.gateway.pcrud import Pcrud
from evergreen_groups.gateway.record import class_ids, decode
from evergreen_groups.gateway.sender import Credentials, Sender, Session
from evergreen_groups.gateway.transport import Address, Transport
from evergreen_groups.message import Message
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from types import TracebackType

    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.call import CallObserver, GatewayKind
    from evergreen_groups.gateway.idl import Idl
    from evergreen_groups.gateway.sender import SendOptions

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(function: Callable[[Item], Value], items: Iterable[Item], concurrency: int) -> Iterator[Value]:
    """Yield ``function(item)`` for each item, in the items' order, with up to ``concurrency`` calls running at once.

    Items are taken as needed, never more than ``concurrency`` ahead of the last value yielded, so neither the items nor
    the values have to fit in memory. The first exception, in the items' order, is raised, and calls that haven't begun
    never do. With a concurrency of 1, or a list of one item, everything runs in the calling thread.
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


# Idle threads stay for a while: every request of a web service needs several, and starting a thread takes about as long
# as much of its work.
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
_SECONDS = 300.0
# Perl's truth: None, an empty string (releases-056) and zero are false.
_ANSWERS = {None: False, "": False, "0": False, 0: False, "1": True, 1: True}


def _uses_replicas(gateway: Gateway) -> bool:
    """Return whether the site reads, or may read, from database replicas.

    There, the ``.authoritative`` form of a method reads from the primary database. Elsewhere it is an alias of
    the plain form (``OpenILS/Application.pm``, authoritative_wrapper). pcrud has no ``.authoritative`` form.
    """
    try:
        result = gateway.call("open-ils.actor", _METHOD, expect="optional")
    except (MethodNotFoundError, UnexplainedError):
        # Servers before 3.12 lack the method (3.11/releases-056), and the Rust gateway gives no reason for a failure.
        # Assuming replicas is safe: an .authoritative form always reads from the primary database.
        return True
    if isinstance(result.value, dict | list) or result.value not in _ANSWERS:
        raise result.unexpected(Message("a boolean"))
    return _ANSWERS[result.value]


class Gateway:
    """An Evergreen gateway. Safe to share between threads. Close it, or use it in a ``with`` statement.

    ``url`` is the server's root (``https://host``), with or without ``/osrf-gateway-v1``. Give ``credentials``, or an
    existing ``token``, which is neither renewed nor logged out; calls without a session need neither. ``locale`` (such
    as ``fr-CA``) sets the language of descriptions.

    ``timeout`` is how long the gateway waits for the service, in seconds; the whole answer must arrive within ``grace``
    more seconds. ``connect_timeout`` limits connecting. ``concurrency`` is the maximum number of calls at once.
    ``keep_alive`` reuses connections. ``ca_bundle`` is a PEM file of certificates to trust instead of the usual ones;
    TLS is always verified. ``allow_plain_http`` permits sending secrets unencrypted to another machine.
    ``cache_directory`` keeps IDL files between runs. ``on_call`` is called after each request. Proxies come from the
    environment, except for this machine itself.

    ``only_supported`` refuses releases before 3.11 with OldReleaseError. The release is read in parallel with the first
    call. The result of a read is held back, and a write isn't sent, until the release is known.

    Raises ConfigurationError for invalid settings and ArgumentError for arguments of a wrong type.
    """

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
        keep_alive: bool = True,
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
        transport = Transport(
            self._address,
            connect_timeout=connect_timeout,
            concurrency=concurrency,
            keep_alive=keep_alive,
            ca_bundle=Path(ca_bundle) if ca_bundle else None,
        )
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
        self._replicas = TimeToLiveCache[bool](time.monotonic, _SECONDS)  # shared by views
        self.pcrud = Pcrud(self)

    def __repr__(self) -> str:
        return f"Gateway({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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

    def acting_as(self, token: str) -> Gateway:
        """Return this gateway for another session, which is neither renewed nor logged out.

        Connections, the IDL, retries and statistics are shared. Closing the returned gateway leaves them open; closing
        this one closes both. Errors don't show ``token``, and nothing stores it.
        """
        return self._for_session(token=arguments.text("token", token))

    @contextmanager
    def logged_in(self, credentials: Credentials) -> Iterator[Gateway]:
        """Return this gateway for a session that lasts for the block only.

        Logs in with the first call and out at the end. The rest is as in :meth:`acting_as`.
        """
        view = self._for_session(credentials=credentials)
        try:
            yield view
        finally:
            view._session.logout()

    def within(self, seconds: float) -> Gateway:
        """Return this gateway and its session, for calls that must all end ``seconds`` from now.

        The limit includes waiting for a connection or another thread, retries, a login, and fetching the IDL. Calls
        that run longer, or begin later, raise TimedOutError. Closing the returned gateway closes nothing.
        """
        arguments.seconds("seconds", seconds)
        return self._view(self._sender.within(seconds))

    def _for_session(self, *, credentials: Credentials | None = None, token: str | None = None) -> Gateway:
        view = self._view(self._sender.for_session())
        view._session = Session(view._sender, credentials=credentials, token=token)
        return view

    def _view(self, sender: Sender) -> Gateway:
        view = copy.copy(self)
        view._sender = sender
        view.pcrud = Pcrud(view)
        return view

    def refusing_old_releases(self) -> Gateway:
        """Return this gateway and its session with ``only_supported``. Closing the returned gateway closes nothing."""
        if self._only_supported:
            return self
        view = self._view(self._sender.view())
        view._only_supported = True
        return view

    def for_probes(self, retries: RetryPolicy | None = None) -> Gateway:
        """Return this gateway and its session for probing the server: failures don't reset cached capabilities."""
        known = KnownCapabilities()
        view = self._view(self._sender.for_probes(retries, known.forget_rows))
        view._known, view._only_supported = known, False
        return view

    def capabilities(self) -> Capabilities:
        """Ask the server for its capabilities, without a login. Raises GatewayError if it can't be asked."""
        return Capabilities.read(self)

    def counts_hidden_rows(self) -> bool:
        """Return whether hidden rows may count against ``limit``; cached for a minute.

        Raises GatewayError if the server can't be asked.
        """
        return self._known.counts_hidden_rows(self)

    def login(self) -> None:
        """Log in now instead of with the first call. Raises LoginRefusedError if Evergreen refuses."""
        self._session.token(self._sender)

    def logout(self) -> None:
        """End the session on the server if it was opened here. The next call that needs a session logs in again."""
        self._session.logout()

    def close(self) -> None:
        """Stop calls in other threads, log out and close all connections. Raises nothing.

        Gateways returned by :meth:`acting_as` and :meth:`within` only stop accepting calls.
        """
        if self._sender.is_closed:
            return
        # Before logging out, because another thread's next call would open a new session.
        self._sender.stop()
        if not self._sender.is_view:
            self._session.logout()
            self._sender.close_connections()

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
        ``.atomic`` form with ``"one"``, because a truncated stream looks complete.

        ``own_connection`` sends a read over a new connection. Use it when an answer doesn't show what it belongs to,
        such as a count or an empty list: if answers on a kept-alive connection were off by one, nothing else would
        tell.

        A read is retried if the failure may pass. A ``write`` is sent once, over its own connection; the
        TransportError's ``sent`` says whether the server may have executed it. After the session has ended, it is
        renewed and the call repeated, even a write, because NO_SESSION means that nothing was done.

        Workers of the Rust gateway may return an answer that belongs to another request. With this gateway, an echo
        verifies every empty result and every failure, and precedes every write.

        Raises a GatewayError from :mod:`evergreen_groups.errors`, and DataError if the answer may belong to another
        request.
        """
        if timeout is not None:
            arguments.seconds("timeout", timeout)
        call = Call(arguments.text("service", service), arguments.text("method", method))
        options: SendOptions = {"expect": expect, "write": write, "own_connection": own_connection, "timeout": timeout}
        if not self._only_supported:
            return self._session.send(self._sender, call, params, **options)
        with self._known.refuse_old_release(self, beforehand=write):
            return self._session.send(self._sender, call, params, **options)

    def idl(self, *class_ids: str) -> Idl:
        """Return the classes known so far, fetching those of ``class_ids`` that are missing.

        Raises DataError for a class that the server doesn't have.
        """
        return self._idl_source.require(class_ids, self._sender.fetch, self._sender.deadline)

    def decode(self, value: Any) -> Any:
        """Return ``value`` with every fieldmapper object in it as a Record, fetching the classes if necessary.

        Raises DataError for a class that the server doesn't have.
        """
        return decode(value, self.idl(*class_ids(value)))

    def map(self, function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
        """Yield ``function(item)`` for each item, in the items' order, with up to ``concurrency`` calls at once.

        Items are taken as needed. The first exception is raised, and the remaining items are dropped.
        """
        return ordered_map(function, items, self.concurrency)

    def begin(self, function: Callable[[], Value]) -> Future[Value]:
        """Start reading in another thread. The read uses one of the ``concurrency`` connections."""
        return begin(function)
