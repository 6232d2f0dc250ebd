"""Sending calls: timeouts, retries, and checks of whose answer arrived."""

from __future__ import annotations

import copy
import logging
import secrets
import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from evergreen_groups import arguments
from evergreen_groups.errors import (
    CutOffError,
    DataError,
    EventError,
    HTTPStatusError,
    MethodNotFoundError,
    ProtocolError,
    ServerError,
    ServiceNotFoundError,
    TimedOutError,
    TransportError,
    UnexplainedError,
    UnreachableError,
)
from evergreen_groups.gateway.answer import Answer
from evergreen_groups.gateway.call import (
    AUTH,
    BRIEF_CALL,
    IDL_CALL,
    LONGEST_CALL,
    Call,
    CallOutcome,
    DetectedKind,
    GatewayKind,
    form,
    seconds_left,
)
from evergreen_groups.gateway.transport import require_positive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.call import CallObserver, RetryPolicy
    from evergreen_groups.gateway.failures import Redactor
    from evergreen_groups.gateway.transport import Reply, Transport

log = logging.getLogger("evergreen_groups.gateway")

Value = TypeVar("Value")

_ECHO = "opensrf.system.echo"
_ECHOES = 2
_SETTING, _PROGRAM = "EG_HTTP_GATEWAY_MAX_REQUESTS", "eg-http-gateway"


class SendOptions(TypedDict, total=False):
    """Options for sending a call, as in :meth:`Sender.send`."""

    expect: Expect
    write: bool
    own_connection: bool
    timeout: float | None


class Sender:
    """Sends calls over a transport, with timeouts and retries, but without knowing about sessions.

    Safe to share between threads. ``timeout``, ``grace``, ``locale`` and ``on_call`` are as in the gateway.
    ``on_change`` is called after failures that suggest an upgrade of Evergreen.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retries: RetryPolicy,
        locale: str | None,
        timeout: float,
        grace: float,
        on_call: CallObserver | None,
        on_change: Callable[[], None],
    ) -> None:
        require_positive(arguments.seconds("timeout", timeout), arguments.seconds("grace", grace))
        self.timeout = timeout
        """How long to wait for a service, in seconds, unless a call overrides it."""
        self.deadline: float | None = None
        """When all calls must have ended, on the monotonic clock."""
        self.is_closed = False
        """Whether this sender refuses calls. A view also refuses calls when the original sender is closed."""
        self._transport = transport
        self._retries = retries
        self._locale = locale
        self._grace = grace
        self._on_call = on_call
        self._on_change = on_change
        self._seen = DetectedKind()
        self._origin: Sender | None = None  # the sender that owns a view's connections

    @property
    def kind(self) -> GatewayKind | None:
        """The kind of gateway, None before its first answer."""
        return self._seen.kind

    @property
    def seconds_left(self) -> float | None:
        """Seconds in which calls may still begin, None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def redactor(self) -> Redactor:
        """The redactor of the session that calls are sent for."""
        return self._transport.redactor

    @property
    def is_view(self) -> bool:
        """Whether another sender owns the connections."""
        return self._origin is not None

    def view(self) -> Sender:
        """Return a sender over the same connections that can be closed separately."""
        view = copy.copy(self)
        view._origin = self
        return view

    def for_session(self) -> Sender:
        """Return a view for another session, whose secrets it doesn't share."""
        view = self.view()
        view._transport = self._transport.for_session()
        return view

    def within(self, seconds: float) -> Sender:
        """Return a view for calls that must all end ``seconds`` from now."""
        view = self.view()
        deadline = time.monotonic() + seconds
        view.deadline = deadline if self.deadline is None else min(self.deadline, deadline)
        return view

    def for_probes(self, retries: RetryPolicy | None, on_change: Callable[[], None]) -> Sender:
        """Return a view with another ``on_change`` and, if given, other ``retries``."""
        view = self.view()
        view._retries = retries or self._retries
        view._on_change = on_change
        return view

    def stop(self) -> None:
        """Refuse further calls and, unless this is a view, end running ones in other threads.

        The logout that follows then finds a free connection.
        """
        self.is_closed = True
        if not self.is_view:
            self._transport.interrupt()

    def close_connections(self) -> None:
        """Close the kept-alive connections."""
        self._transport.close()

    def send(
        self,
        call: Call,
        params: Sequence[object],
        *,
        expect: Expect = "one",
        write: bool = False,
        own_connection: bool = False,
        timeout: float | None = None,
        explain: Callable[[], None] | None = None,
    ) -> Result:
        """Send a call and return its result. A read is retried if the failure may pass; a write is sent once.

        ``explain`` is called after a failure without a reason, and raises a better error if it finds one.
        """
        left = seconds_left(self.deadline, call)
        seconds = timeout or self.timeout
        if left is not None:
            seconds = min(seconds, left)
        body = form(call, params, locale=self._locale, timeout=seconds)

        def read() -> Result:
            try:
                result = self._attempt(call, body, expect, seconds, fresh=own_connection)
                # An empty answer doesn't show whose it is, and the answer to another login would hold another person's
                # token.
                if self.kind is GatewayKind.RUST and (not result.value or call.service == AUTH):
                    self._refuse_mixed_up(call)
            except UnexplainedError:
                self._refuse_mixed_up(call)
                if explain is not None:
                    explain()
                raise
            return result

        self._refuse_closed(call)
        # The answer may get lost after the work was done, and a second usergroup.new would create a second group.
        if write:
            if self.kind is GatewayKind.RUST:
                self._refuse_to_write(call)
            return self._attempt(call, body, expect, seconds, fresh=True)
        return self.with_retries(read)

    def once(self, call: Call, params: Sequence[object], *, expect: Expect, seconds: float) -> Result:
        """Send a call once, with a timeout of at most ``seconds``."""
        seconds = min(self.timeout, seconds)
        return self._attempt(
            call, form(call, params, locale=self._locale, timeout=seconds), expect, seconds, fresh=False
        )

    def fetch(self, url: str, headers: Mapping[str, str]) -> Reply:
        """Fetch an IDL file."""

        def attempt() -> Reply:
            with self._observed(IDL_CALL):
                return self._transport.get(IDL_CALL, url, self.timeout + self._grace, headers, self.deadline)

        self._refuse_closed(IDL_CALL)
        seconds_left(self.deadline, IDL_CALL)
        return self.with_retries(attempt)

    def with_retries(self, attempt: Callable[[], Value]) -> Value:
        """Return the result of ``attempt``, retrying while the failure may pass."""
        policy = self._retries.before(self.deadline)
        stop = self._transport.stop
        began = time.monotonic()
        delays = policy.delays()
        while True:
            try:
                return attempt()
            except (TransportError, ServerError) as error:
                delay = next(delays, None)
                if delay is None or not _may_pass(error):
                    raise
                if isinstance(error, UnexplainedError) and not policy.unexplained:
                    raise
                # stop.wait() returns True once the gateway is closed.
                if time.monotonic() - began + delay > policy.total_seconds or stop.wait(delay):
                    raise
                log.info("%s %s: %s; trying again", error.service, error.method, type(error).__name__)
                self._transport.statistics.retry()

    def _attempt(self, call: Call, body: bytes, expect: Expect, seconds: float, *, fresh: bool) -> Result:
        longest = seconds + self._grace
        if self.kind is not GatewayKind.OPENSRF:
            longest = min(longest, LONGEST_CALL)
        try:
            with self._observed(call):
                reply = self._transport.post(call, body, longest, fresh=fresh, deadline=self.deadline)
                self._seen.learn(reply.headers)
                return Answer(call, reply.body, self.redactor).result(expect)
        except UnexplainedError:
            self._seen.kind = GatewayKind.RUST
            raise
        except (MethodNotFoundError, TransportError):
            self._on_change()  # these failures suggest an upgrade or a downgrade
            raise

    @contextmanager
    def _observed(self, call: Call) -> Iterator[None]:
        """Report a request's outcome and duration to ``on_call``."""
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

    def _is_mixed_up(self, call: Call) -> bool:
        """Return whether the Rust gateway returns answers that belong to other requests, by echoing a random word.

        The echo may reach another worker than the call did. On an idle gateway it reaches the same one, because
        requests go to the first idle worker.
        """
        for _ in range(_ECHOES):
            word = secrets.token_hex(8)

            def echo(word: str = word) -> list[Any] | None:
                try:
                    answer: list[Any] = self.once(
                        Call(call.service, _ECHO), [word], expect="many", seconds=BRIEF_CALL
                    ).value
                except UnexplainedError:
                    return None
                return answer

            answer = self.with_retries(echo)
            # This failure may belong to an earlier request. If so, the next answer is this word.
            if answer is not None:
                return answer != [word]
        return False

    def _refuse_mixed_up(self, call: Call) -> None:
        if self._is_mixed_up(call):
            raise DataError(
                "the gateway gave an answer that belongs to another request",
                advice="set {variable}=1 for {program} and restart it: its workers mix up answers after a failure",
                code="answers-mixed-up",
                values={"variable": _SETTING, "program": _PROGRAM},
            )

    def _refuse_to_write(self, call: Call) -> None:
        """Raise a TransportError with ``sent`` false if the Rust gateway mixes up answers or can't be checked."""
        try:
            mixed_up = self._is_mixed_up(call)
        except TransportError as error:
            error.sent = False
            raise
        if mixed_up:
            raise TransportError(
                "not sent, because the gateway gives answers that belong to other requests",
                advice="set {variable}=1 for {program} and restart it: its workers mix up answers after a failure",
                code="write-withheld",
                values={"variable": _SETTING, "program": _PROGRAM},
                sent=False,
                **call.names,
            )

    def _refuse_closed(self, call: Call) -> None:
        sender: Sender | None = self
        while sender is not None:
            if sender.is_closed:
                raise UnreachableError("this gateway has been closed", code="gateway-closed", **call.names)
            sender = sender._origin


def _may_pass(error: TransportError | ServerError) -> bool:
    """Return whether the same request may succeed a little later."""
    # A method may fail because a database or another service is down for a moment. A query that will never work looks
    # the same, and retrying it costs only a few seconds.
    if isinstance(error, ServerError):
        return True
    # A 4xx status won't change. A proxy sends 5xx while the server behind it restarts.
    if isinstance(error, HTTPStatusError):
        return error.status >= 500
    if isinstance(error, UnreachableError):
        # A bad certificate doesn't get better within seconds.
        return not isinstance(error.__cause__, ssl.SSLCertVerificationError)
    return isinstance(error, TimedOutError | CutOffError | ServiceNotFoundError)
