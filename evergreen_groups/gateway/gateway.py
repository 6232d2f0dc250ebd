"""The gateway itself: what programs use.

It is one module because all of it is one class, with a method for each thing that a program does.
"""

from __future__ import annotations

import copy
import logging
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.errors import (
    ConfigurationError,
    EventError,
    MethodNotFoundError,
    NoSessionError,
    ProtocolError,
    TransportError,
    UnexplainedError,
    UnreachableError,
)
from evergreen_groups.gateway.address import Address
from evergreen_groups.gateway.answer import Answer
from evergreen_groups.gateway.call import IDL_CALL, Call, CallOutcome, form
from evergreen_groups.gateway.capabilities import Capabilities, KnownCapabilities
from evergreen_groups.gateway.copies import Copies
from evergreen_groups.gateway.deadline import seconds_left
from evergreen_groups.gateway.idl_source import IdlCache, IdlSource
from evergreen_groups.gateway.kind import LONGEST_CALL, GatewayKind, KindSeen, is_mixed_up, not_believed, not_sent
from evergreen_groups.gateway.parallel import begin, ordered_map
from evergreen_groups.gateway.pcrud import Pcrud
from evergreen_groups.gateway.record import class_ids, decode
from evergreen_groups.gateway.redaction import Redactor
from evergreen_groups.gateway.retry import RetryPolicy
from evergreen_groups.gateway.session import SERVICE as AUTH
from evergreen_groups.gateway.session import TOKEN, Credentials, Session
from evergreen_groups.gateway.statistics import Statistics
from evergreen_groups.gateway.transport import Reply, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from evergreen_groups.gateway.call import CallObserver
    from evergreen_groups.gateway.idl import Idl
    from evergreen_groups.gateway.result import Expect, Result

log = logging.getLogger("evergreen_groups.gateway")

Item = TypeVar("Item")
Value = TypeVar("Value")

# Seconds. A session that couldn't be ended ends itself when it has been idle (staff: 7,200 s, auth-001), so nobody has
# to wait for it.
_LOGOUT_TIMEOUT = 5.0
_BRIEF = 10.0
"""How long, in seconds, the answer to a question may take that any service answers at once."""


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
        for name, value in (("timeout", timeout), ("grace", grace), ("connect_timeout", connect_timeout)):
            arguments.seconds(name, value)
        arguments.whole("concurrency", concurrency)
        if credentials is not None:
            arguments.instance("credentials", credentials, Credentials)
        if token is not None:
            arguments.text("token", token)
        if min(timeout, grace, connect_timeout) <= 0 or concurrency < 1:
            raise ConfigurationError(
                "timeouts and concurrency must be greater than nothing", code="timeouts-not-positive"
            )
        self._address = Address.parse(arguments.text("url", url))
        if not allow_plain_http:
            self._address.refuse_plain_http()
        self.concurrency = concurrency
        self.statistics = Statistics()
        self._locale = locale
        self._timeout = timeout
        self._grace = grace
        self._retries = retries or RetryPolicy()
        self._redactor = Redactor()
        self._transport = Transport(
            self._address,
            statistics=self.statistics,
            redactor=self._redactor,
            connect_timeout=connect_timeout,
            concurrency=concurrency,
            keep_alive=keep_alive,
            ca_bundle=Path(ca_bundle) if ca_bundle else None,
        )
        self._session = Session(self._invoke_once, credentials=credentials, token=token, redactor=self._redactor)
        cache = IdlCache(Path(cache_directory)) if cache_directory else None
        self._known = KnownCapabilities()
        self._only_supported = only_supported
        self._idl_source = IdlSource(self._address.idl, cache, self._known.forget_rows)
        self._on_call = on_call
        self._seen = KindSeen()
        self._closed = False
        self._origin: Gateway | None = None  # what a view shares its connections with
        self._deadline: float | None = None
        self._copies = Copies()  # views share it
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
        return self._timeout

    @property
    def kind(self) -> GatewayKind | None:
        """Which gateway answers there, None before its first answer."""
        return self._seen.kind

    @property
    def token(self) -> str:
        """The session's token; logs in where there is none yet."""
        return self._session.token(self._invoke, self._deadline)

    @property
    def seconds_left(self) -> float | None:
        """How long :meth:`within` still lets calls begin, in seconds; None where there is no such limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def reads_copies(self) -> bool:
        """Whether plain reads, and pcrud's, may be some seconds behind what was written; one call, now and then.

        Then the ``.authoritative`` forms of methods read where changes are written.
        """
        return self._copies.are_read(self)

    def acting_as(self, token: str) -> Gateway:
        """This gateway in the name of somebody else's session, which is neither renewed nor logged out.

        Connections, the IDL, retries and statistics are shared. Closing the result leaves them alone; once this gateway
        is closed, the result is as well. Errors of the result don't show ``token``, and nothing keeps it.
        """
        arguments.text("token", token)
        view = self._view()
        view._redactor = Redactor()
        view._transport = self._transport.for_session(view._redactor)
        view._session = Session(view._invoke_once, credentials=None, token=token, redactor=view._redactor)
        return view

    @contextmanager
    def logged_in(self, credentials: Credentials) -> Iterator[Gateway]:
        """This gateway in the name of somebody who logs in for the block alone; the session is ended after it.

        Otherwise as :meth:`acting_as`. The login takes place at the first call.
        """
        view = self._view()
        view._redactor = Redactor()
        view._transport = self._transport.for_session(view._redactor)
        view._session = Session(view._invoke_once, credentials=credentials, token=None, redactor=view._redactor)
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
        view = self._view()
        deadline = time.monotonic() + seconds
        view._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        return view

    def _view(self) -> Gateway:
        view = copy.copy(self)
        view._origin = self
        view.pcrud = Pcrud(view)
        return view

    def refusing_old_releases(self) -> Gateway:
        """This gateway and its session, with ``only_supported``. Closing the result closes nothing."""
        if self._only_supported:
            return self
        view = self._view()
        view._only_supported = True
        return view

    def for_questions(self, retries: RetryPolicy | None = None) -> Gateway:
        """This gateway and its session, to find out what the server is: what is refused here says nothing new of it."""
        view = self._view()
        view._known, view._only_supported = KnownCapabilities(), False
        view._retries = retries or self._retries
        return view

    def capabilities(self) -> Capabilities:
        """What the server can do, asked now; takes no login.

        Raises:
            GatewayError: it can't be asked.
        """
        return Capabilities.read(self)

    def hidden_rows_count(self) -> bool:
        """Whether rows that the account may not see may count against ``limit``; known for a minute once it was asked.

        Raises:
            GatewayError: it can't be asked.
        """
        return self._known.hidden_rows_count(self)

    def login(self) -> None:
        """Log in now rather than with the first call that needs it. Raises LoginRefusedError when the ILS says no."""
        self._session.token(self._invoke, self._deadline)

    def logout(self) -> None:
        """End the session on the server, if it was opened here; the next call that needs one logs in again."""
        self._session.logout()

    def close(self) -> None:
        """Stop what is under way in other threads, log out and close all connections. Raises nothing.

        What :meth:`acting_as` and :meth:`within` gave only stops taking calls.
        """
        if self._closed:
            return
        if self._origin is not None:
            self._closed = True
            return
        # Before the session is ended: a thread that goes on to its next call would open another.
        self._closed = True
        # First, so that logging out finds a free connection.
        self._transport.interrupt()
        self._session.logout()
        self._transport.close()

    def call(
        self,
        service: str,
        method: str,
        *params: object,
        expect: Expect = "one",
        write: bool = False,
        apart: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """Call a method and return its result.

        :data:`TOKEN` among ``params`` becomes the session's token. ``expect`` says how many results the method
        promises: ``"one"``, ``"optional"`` (one or nothing), or ``"many"`` (streaming methods; their ``.atomic`` form
        with ``"one"`` is better, for a stream that is cut short looks whole).

        ``apart`` gives a read a connection of its own as well. It is for answers that don't say what they are about,
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
        send = partial(self._send, call, expect=expect, write=write, apart=apart, timeout=timeout)
        if not self._only_supported:
            return self._called(call, params, send)
        with self._known.supported(self, beforehand=write):
            return self._called(call, params, send)

    def _called(self, call: Call, params: Sequence[object], send: Callable[..., Result]) -> Result:
        """Send a call, with the session's token where it takes one."""
        if TOKEN not in params:
            return send(params)
        token = self.token
        try:
            # The Rust gateway tells nobody that a session has ended, and is behind after pcrud has said so.
            if self.kind is GatewayKind.RUST and call.service == Pcrud.SERVICE and self._session.may_have_ended:
                check = partial(self._refuse_ended, token)
                self._retries.before(self._deadline).run(check, self._transport.stop, self.statistics.retry)
            result = send(_with_token(params, token), token=token)
        except NoSessionError:
            # A session ends by idleness, also in the middle of a long run: pcrud answers 401 (auth-043), actor an
            # event (auth-042). Both come before anything is done.
            if not self._session.renewable:
                raise
            log.info("%s %s: the session had ended; logging in again", call.service, call.method)
            token = self._session.renew(token, self._invoke, self._deadline)
            result = send(_with_token(params, token), token=token)
        self._session.was_used()
        return result

    def idl(self, *class_ids: str) -> Idl:
        """Return the classes known so far, with at least ``class_ids`` among them.

        Raises DataError for a class that the server doesn't have.
        """
        return self._idl_source.require(class_ids, self._fetch_idl, self._deadline)

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

    def _send(  # what call() takes
        self,
        call: Call,
        params: Sequence[object],
        *,
        expect: Expect = "one",
        write: bool = False,
        apart: bool = False,
        timeout: float | None = None,
        token: str | None = None,
    ) -> Result:
        left = seconds_left(self._deadline, call)
        seconds = timeout or self._timeout
        if left is not None:
            seconds = min(seconds, left)
        body = form(call, params, locale=self._locale, timeout=seconds)

        def attempt() -> Result:
            result = self._attempt(call, body, expect, seconds, fresh=write or apart)
            # What is empty doesn't show whose answer it is, and with another's token one would be somebody else.
            if self.kind is GatewayKind.RUST and not write and (not result.value or call.service == AUTH):
                self._refuse_mixed_up(call)
            return result

        def explained_attempt() -> Result:
            try:
                return attempt()
            except UnexplainedError:
                self._refuse_mixed_up(call)
                if token is not None:
                    self._refuse_ended(token)
                raise

        self._refuse_closed(call)
        # Its answer may get lost after the work was done: a second usergroup.new would make a second group.
        if write:
            if self.kind is GatewayKind.RUST:
                self._refuse_to_write(call)
            return attempt()
        return self._retries.before(self._deadline).run(explained_attempt, self._transport.stop, self.statistics.retry)

    def _is_mixed_up(self, call: Call) -> bool:
        """Whether the Rust gateway gives answers that belong to other requests."""
        seconds = min(self._timeout, _BRIEF)

        def ask(echo: Call, word: str) -> list[Any] | None:
            body = form(echo, [word], locale=self._locale, timeout=seconds)

            def attempt() -> list[Any] | None:
                try:
                    answer: list[Any] = self._attempt(echo, body, "many", seconds, fresh=False).value
                except UnexplainedError:
                    return None
                return answer

            return self._retries.before(self._deadline).run(attempt, self._transport.stop, self.statistics.retry)

        return is_mixed_up(call.service, ask)

    def _refuse_mixed_up(self, call: Call) -> None:
        if self._is_mixed_up(call):
            raise not_believed()

    def _refuse_to_write(self, call: Call) -> None:
        """Raises a TransportError, ``sent`` being false, where the Rust gateway mixes up answers or may do so."""
        try:
            if self._is_mixed_up(call):
                raise not_sent(call)
        except TransportError as error:
            error.sent = False
            raise

    def _refuse_ended(self, token: str) -> None:
        """Raises NoSessionError where that is what becomes of a session's token; the Rust gateway wouldn't say so."""
        call = Call(AUTH, "open-ils.auth.session.retrieve")
        seconds = min(self._timeout, _BRIEF)
        body = form(call, [token], locale=self._locale, timeout=seconds)
        with suppress(UnexplainedError):
            self._attempt(call, body, "one", seconds, fresh=False)
            self._session.was_used()

    def _attempt(self, call: Call, body: bytes, expect: Expect, seconds: float, *, fresh: bool) -> Result:
        longest = seconds + self._grace
        if self.kind is not GatewayKind.OPENSRF:
            longest = min(longest, LONGEST_CALL)
        try:
            with self._observed(call):
                reply = self._transport.post(call, body, longest, fresh=fresh, deadline=self._deadline)
                self._seen.learn(reply.headers)
                return Answer(call, reply.body, self._redactor).result(expect)
        except UnexplainedError:
            self._seen.kind = GatewayKind.RUST
            raise
        except (MethodNotFoundError, TransportError):
            self._known.forget_rows()  # so looks an upgrade, and the way back
            raise

    @contextmanager
    def _observed(self, call: Call) -> Iterator[None]:
        """Tell whoever wants to know how one request ended, and how long it took."""
        if self._on_call is None:
            yield
            return
        began, outcome = time.monotonic(), CallOutcome.FAILED
        try:
            yield
            outcome = CallOutcome.ANSWERED
        except (EventError, ProtocolError):
            outcome = CallOutcome.REFUSED
            raise
        finally:
            self._on_call(call, time.monotonic() - began, outcome)

    def _invoke(self, service: str, method: str, *params: object) -> Any:
        return self._send(Call(service, method), params).value

    def _invoke_once(self, service: str, method: str, *params: object) -> Any:
        call = Call(service, method)
        seconds = min(self._timeout, _LOGOUT_TIMEOUT)
        body = form(call, params, locale=self._locale, timeout=seconds)
        return self._attempt(call, body, "optional", seconds, fresh=False).value

    def _fetch_idl(self, url: str, headers: Mapping[str, str]) -> Reply:
        def attempt() -> Reply:
            with self._observed(IDL_CALL):
                return self._transport.get(IDL_CALL, url, self._timeout + self._grace, headers, self._deadline)

        self._refuse_closed(IDL_CALL)
        seconds_left(self._deadline, IDL_CALL)
        return self._retries.before(self._deadline).run(attempt, self._transport.stop, self.statistics.retry)

    @property
    def _is_closed(self) -> bool:
        return self._closed or (self._origin is not None and self._origin._is_closed)

    def _refuse_closed(self, call: Call) -> None:
        if self._is_closed:
            raise UnreachableError("this gateway has been closed", code="gateway-closed", **call.names)


def _with_token(params: Sequence[object], token: str) -> list[object]:
    return [token if param is TOKEN else param for param in params]
