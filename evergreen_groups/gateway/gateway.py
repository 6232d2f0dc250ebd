"""The gateway itself: what programs use."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.errors import MethodNotFoundError, UnexplainedError
from evergreen_groups.gateway.address import Address
from evergreen_groups.gateway.call import Call, RetryPolicy
from evergreen_groups.gateway.capabilities import Capabilities, KnownCapabilities
from evergreen_groups.gateway.idl import IdlCache, IdlSource
from evergreen_groups.gateway.pcrud import Pcrud
from evergreen_groups.gateway.record import class_ids, decode
from evergreen_groups.gateway.sender import Sender
from evergreen_groups.gateway.session import Credentials, Session
from evergreen_groups.gateway.transport import Transport
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from types import TracebackType

    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.call import CallObserver, GatewayKind
    from evergreen_groups.gateway.idl import Idl
    from evergreen_groups.gateway.sender import SendOptions

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(function: Callable[[Item], Value], items: Iterable[Item], concurrency: int) -> Iterator[Value]:
    """Yield ``function(item)`` for each item, in the items' order, up to ``concurrency`` of them under way at once.

    Items are taken as they are needed, never more than ``concurrency`` ahead of the value last yielded, so neither
    the items nor the values need fit in memory. The first exception, in the items' order, is raised; what hasn't
    begun then never does. With a concurrency of 1, or a list of one item, everything happens in the
    calling thread.
    """
    if concurrency <= 1 or (isinstance(items, Sequence) and len(items) == 1):
        yield from map(function, items)
        return
    if isinstance(items, Sequence) and len(items) <= concurrency:
        yield from _map_few(function, items)
        return
    source = iter(items)
    executor = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="evergreen")
    try:
        under_way: deque[Future[Value]] = deque(executor.submit(function, item) for item in islice(source, concurrency))
        while under_way:
            value = under_way.popleft().result()
            # Before the value is handed out, so that the next call runs while the caller works on this one.
            under_way.extend(executor.submit(function, item) for item in islice(source, 1))
            yield value
    finally:
        # Calls still under way end by themselves, at the latest when their time is up or the gateway is closed.
        executor.shutdown(wait=False, cancel_futures=True)


def begin(function: Callable[[], Value]) -> Future[Value]:
    """Begin something that is needed later, in a thread of its own; what it raises is raised by the result."""
    return _helpers.begin(function)


def _map_few(function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """The same for items that may all be under way: the first in the calling thread, which would only wait for it."""
    if not items:
        return
    others = [_helpers.begin(partial(function, item)) for item in items[1:]]
    yield function(items[0])
    for other in others:
        yield other.result()


class _HelperThreads:
    """Threads beside the calling one, as many as are needed at once. Safe to share between threads.

    Each is kept for a while for whoever needs one next: a service needs several for each request, and to start one
    takes as long as much of what it does. They don't keep the process from ending.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        os.register_at_fork(after_in_child=self._idle.clear)  # of another process's threads none is here

    def begin(self, function: Callable[[], Value]) -> Future[Value]:
        """Have one do something; what it raises is raised by the result."""
        future: Future[Value] = Future()
        try:
            tasks = self._idle.pop()
        except IndexError:
            tasks = SimpleQueue()
            threading.Thread(target=self._work, args=(tasks,), name="evergreen", daemon=True).start()
        tasks.put(partial(self._do, tasks, function, future))
        return future

    def _work(self, tasks: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                task = tasks.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(tasks)
                except ValueError:  # somebody has just taken this one
                    continue
                return
            task()
            del task  # what came of it isn't kept for as long as nothing else is to be done

    def _do(self, tasks: SimpleQueue[Callable[[], None]], function: Callable[[], Value], future: Future[Value]) -> None:
        try:
            value = function()
        except BaseException as error:
            self._idle.append(tasks)
            future.set_exception(error)
        else:
            self._idle.append(tasks)  # before the result is known: whoever waits for it may need one at once
            future.set_result(value)


_IDLE_SECONDS = 10.0
_helpers = _HelperThreads()


_METHOD = "opensrf.open-ils.system.use_authoritative"
# The site's opensrf.xml says it, and its services are restarted for that.
_SECONDS = 300.0
# A Perl truth: nothing, an empty text (releases-056) or a nought is no.
_ANSWERS = {None: False, "": False, "0": False, 0: False, "1": True, 1: True}


class Replicas:
    """Whether there are such copies, or may be: asked once for a server, and again after five minutes.

    Where there are, the ``.authoritative`` form of a method reads where changes are written. Elsewhere it is the plain
    one under another name (``OpenILS/Application.pm``, authoritative_wrapper). pcrud has no such form.
    """

    def __init__(self) -> None:
        self._answer = False
        self._until = -1.0  # of the monotonic clock, in seconds
        self._lock = threading.Lock()

    def are_read(self, gateway: Gateway) -> bool:
        """Whether plain reads come from them."""
        with self._lock:
            if time.monotonic() < self._until:
                return self._answer
        answer = _ask(gateway)  # outside the lock: a slow ILS is to hold up nobody else
        with self._lock:
            self._answer, self._until = answer, time.monotonic() + _SECONDS
        return answer


def _ask(gateway: Gateway) -> bool:
    try:
        result = gateway.call("open-ils.actor", _METHOD, expect="optional")
    except (MethodNotFoundError, UnexplainedError):
        # Before 3.12 nobody says so (3.11/releases-056), over the Rust gateway without a reason; and an .authoritative
        # form always reads where is written.
        return True
    if isinstance(result.value, dict | list) or result.value not in _ANSWERS:
        raise result.unexpected(Message("a boolean"))
    return _ANSWERS[result.value]


class Gateway:
    """An Evergreen gateway. Safe to share between threads; close it, or use it in a ``with`` statement.

    ``url`` is the server's root (``https://host``), with or without ``/osrf-gateway-v1``. Give ``credentials``, or an
    existing ``token``, which is then neither renewed nor logged out; calls that need neither work without. ``locale``
    (such as ``fr-CA``) is the language of descriptions.

    ``timeout`` is how long the gateway waits for the service, in seconds; the whole answer must have come ``grace``
    seconds after that. ``connect_timeout`` is the same for the connection. ``concurrency`` is the number of calls
    at once. With ``keep_alive`` connections are kept for the next call. ``ca_bundle`` is a PEM file of certificates to
    trust instead of the usual ones; TLS is always verified. ``allow_plain_http`` lets secrets go unencrypted to
    another machine. ``cache_directory`` keeps IDL files between runs. Proxies are taken from the environment, but not
    for this machine itself. ``on_call`` is told of each request, for whoever counts them.

    With ``only_supported`` a release before 3.11 is refused: it is asked for beside the first call, whose result is
    handed out, or which is sent if it is a write, when it is known that all goes well (OldReleaseError).

    Raises ConfigurationError for settings that can't be, ArgumentError for those of another type.
    """

    def __init__(  # noqa: PLR0913  # the settings of a connection, all by name and with a default
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        token: str | None = None,
        locale: str | None = None,
        # The gateway's own answer to a time-out (errors-034) says more than our giving up, so it gets a little longer.
        timeout: float = 60.0,
        grace: float = 5.0,
        connect_timeout: float = 10.0,
        # A service answers with few children, one request each. Three calls at once took 2.5 s for what one took 4.1 s
        # for (10,901 members); dozens would keep the desks waiting.
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
        self._replicas = Replicas()  # views share it
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
        """The server's root, without a slash at its end."""
        return self._address.base

    @property
    def timeout(self) -> float:
        """How long the gateway waits for a service, in seconds, unless a call says otherwise."""
        return self._sender.timeout

    @property
    def kind(self) -> GatewayKind | None:
        """Which gateway answers there, None before its first answer."""
        return self._sender.kind

    @property
    def token(self) -> str:
        """The session's token; logs in where there is none yet."""
        return self._session.token(self._sender)

    @property
    def seconds_left(self) -> float | None:
        """How long :meth:`within` still lets calls begin, in seconds; None where there is no such limit."""
        return self._sender.seconds_left

    @property
    def reads_replicas(self) -> bool:
        """Whether plain reads, and pcrud's, may be some seconds behind what was written; one call, now and then.

        Then the ``.authoritative`` forms of methods read where changes are written.
        """
        return self._replicas.are_read(self)

    def acting_as(self, token: str) -> Gateway:
        """This gateway in the name of somebody else's session, which is neither renewed nor logged out.

        Connections, the IDL, retries and statistics are shared. Closing the result leaves them alone; once this gateway
        is closed, the result is as well. Errors of the result don't show ``token``, and nothing keeps it.
        """
        return self._for_session(token=arguments.text("token", token))

    @contextmanager
    def logged_in(self, credentials: Credentials) -> Iterator[Gateway]:
        """This gateway in the name of somebody who logs in for the block alone; the session is ended after it.

        Otherwise as :meth:`acting_as`. The login takes place at the first call.
        """
        view = self._for_session(credentials=credentials)
        try:
            yield view
        finally:
            view._session.logout()

    def within(self, seconds: float) -> Gateway:
        """This gateway and its session, for calls that are all to be over ``seconds`` from now.

        Waiting for a connection, trying again, a login and getting the IDL count, and so does waiting for another
        thread that does either. What isn't over then, or is only begun later, raises a TimedOutError. Closing the
        result closes nothing.
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
        """This gateway and its session, with ``only_supported``. Closing the result closes nothing."""
        if self._only_supported:
            return self
        view = self._view(self._sender.view())
        view._only_supported = True
        return view

    def for_probes(self, retries: RetryPolicy | None = None) -> Gateway:
        """This gateway and its session, to find out what the server is: what is refused here says nothing new of it."""
        known = KnownCapabilities()
        view = self._view(self._sender.for_probes(retries, known.forget_rows))
        view._known, view._only_supported = known, False
        return view

    def capabilities(self) -> Capabilities:
        """What the server can do, asked now; takes no login. Raises GatewayError where it can't be asked."""
        return Capabilities.read(self)

    def counts_hidden_rows(self) -> bool:
        """Whether rows that the account may not see may count against ``limit``; known for a minute once it was asked.

        Raises GatewayError where it can't be asked.
        """
        return self._known.counts_hidden_rows(self)

    def login(self) -> None:
        """Log in now rather than with the first call that needs it. Raises LoginRefusedError when the ILS says no."""
        self._session.token(self._sender)

    def logout(self) -> None:
        """End the session on the server, if it was opened here; the next call that needs one logs in again."""
        self._session.logout()

    def close(self) -> None:
        """Stop what is under way in other threads, log out and close all connections. Raises nothing.

        What :meth:`acting_as` and :meth:`within` gave only stops taking calls.
        """
        if self._sender.is_closed:
            return
        # Before the session is ended: a thread that goes on to its next call would open another.
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

        :data:`TOKEN` among ``params`` becomes the session's token. ``expect`` says how many results the method
        promises: ``"one"``, ``"optional"`` (one or nothing), or ``"many"`` (streaming methods; their ``.atomic`` form
        with ``"one"`` is better, for a stream that is cut short looks whole).

        ``own_connection`` gives a read a connection of its own as well. It is for answers that don't say what they are about,
        such as a count or an empty list: were answers on a kept-alive connection one behind, nothing would tell.

        A read is repeated when it fails for a reason that may pass. A ``write`` goes out once, on a connection of its
        own; a TransportError says in ``sent`` whether it may have been done. Where the session has ended, it
        is renewed and the call repeated, a write as well: an answer of NO_SESSION means that nothing was done.

        Over the gateway that is written in Rust, what is empty and what fails is held against an echo, and so is each
        write beforehand: its workers may give an answer that belongs to another request.

        Raises a GatewayError of one of the kinds in :mod:`evergreen_groups.errors`, and DataError where what was read
        may belong to another request.
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
        """Return the classes known so far, with at least ``class_ids`` among them.

        Raises DataError for a class that the server doesn't have.
        """
        return self._idl_source.require(class_ids, self._sender.fetch, self._sender.deadline)

    def decode(self, value: Any) -> Any:
        """Return ``value`` with every fieldmapper object in it turned into a Record; gets the classes it needs.

        Raises DataError for an object of a class that the server doesn't have.
        """
        return decode(value, self.idl(*class_ids(value)))

    def map(self, function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
        """Yield ``function(item)`` for each item, in the items' order, with up to ``concurrency`` under way at once.

        Items are taken as they are needed. The first exception is raised and the rest is given up.
        """
        return ordered_map(function, items, self.concurrency)

    def begin(self, function: Callable[[], Value]) -> Future[Value]:
        """Begin to read something that is needed later; its connection is one of those ``concurrency`` allows."""
        return begin(function)
