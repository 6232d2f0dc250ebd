"""Sending calls: the login session, timeouts, retries, and checks of whose answer arrived."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from evergreen_groups import arguments, errors
from evergreen_groups.gateway import call as wire
from evergreen_groups.gateway.answer import Redactor, Result
from evergreen_groups.gateway.call import LONGEST_CALL, PCRUD, Call, GatewayKind
from evergreen_groups.gateway.transport import HTTPRequest
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway.answer import Expect
    from evergreen_groups.gateway.call import CallObserver, RetryPolicy
    from evergreen_groups.gateway.transport import Transport

log = logging.getLogger("evergreen_groups.gateway")

_LOGIN: Final = Call(wire.AUTH, "open-ils.auth.login")
_LOGOUT: Final = Call(wire.AUTH, "open-ils.auth.session.delete")
_RETRIEVE: Final = Call(wire.AUTH, "open-ils.auth.session.retrieve")

# Sessions of type temp end after 300 idle seconds, other types later (opensrf.xml).
_SURE_SECONDS = 120.0
# In seconds, and short: a session that isn't logged out ends when it has been idle (staff: 7,200 s, auth-001).
_LOGOUT_TIMEOUT = 5.0


class Token:
    """The type of :data:`TOKEN`."""

    def __repr__(self) -> str:
        return "TOKEN"


TOKEN: Final = Token()
"""A placeholder for the session's token among a call's parameters, replaced when the call is sent."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """The account that logs in, by user name or barcode. Raises ConfigurationError without one name and a password.

    ``workstation`` is the name of a registered one, ``login_type`` one of Evergreen's (``staff``, ``opac``, ``temp``).
    """

    username: str | None = None
    barcode: str | None = None
    password: str = field(repr=False)
    workstation: str | None = None
    login_type: str = "staff"

    def __post_init__(self) -> None:
        if bool(self.username) == bool(self.barcode):
            raise _no_login("login-without-name", "expected either a user name or a barcode")
        if not self.password:
            raise _no_login("login-without-password", "no password")

    def __repr__(self) -> str:
        return f"Credentials(login_type={self.login_type!r})"

    def arguments(self) -> dict[str, str]:
        """Return the argument for the login method."""
        given = {
            "username": self.username,
            "barcode": self.barcode,
            "password": self.password,
            "type": self.login_type,
            "workstation": self.workstation,
        }
        return {name: value for name, value in given.items() if value}


def _no_login(code: str, detail: str) -> errors.ConfigurationError:
    return errors.ConfigurationError("can't log in: {detail}", code=code, values={"detail": detail})


class Session:
    """A token and its source. Safe to share between threads: a login happens once, however many threads need it.

    Calls go through the given ``sender``; only the logout uses the session's own, which has no deadline. A ``token``
    that was passed in is neither renewed nor logged out.
    """

    def __init__(self, sender: Sender, *, credentials: Credentials | None = None, token: str | None = None) -> None:
        if credentials is not None:
            arguments.instance("credentials", credentials, Credentials)
            sender.redactor.learn(credentials.password)
        if token is not None:
            sender.redactor.learn(arguments.text("token", token))
        if credentials is not None and token is not None:
            raise _no_login("login-given-twice", "both credentials and a token")
        self._sender = sender
        self._credentials = credentials
        self._token = token
        self._lock = threading.Lock()
        self._used = -math.inf  # the last time the session was certainly alive, on the monotonic clock

    def __repr__(self) -> str:
        return "Session()"

    def token(self, sender: Sender, ended: str | None = None) -> str:
        """Return the token, logging in first if there is none but the ``ended`` one. Raises LoginRefusedError."""
        token = self._token
        if token is not None and token != ended:
            return token
        with wire.held(self._lock, sender.deadline, _LOGIN):
            if self._token in (None, ended):  # another thread may already have fetched one
                self._token = None
                self._token = self._login(sender)
            return self._token

    def send(self, sender: Sender, call: Call, params: Sequence[object], **options: Any) -> Result:
        """Send a call, with the token if it takes one. If the session has ended, log in again and repeat the call."""
        if TOKEN not in params:
            return sender.send(call, params, **options)
        token = self.token(sender)
        try:
            return self._send_with(token, sender, call, params, **options)
        except errors.NoSessionError:
            # Sessions also end during a long run. pcrud then answers 401 (auth-043), actor an event (auth-042), both
            # before doing anything.
            if self._credentials is None:
                raise
            log.info("%s %s: the session had ended; logging in again", call.service, call.method)
            return self._send_with(self.token(sender, token), sender, call, params, **options)

    def _send_with(self, token: str, sender: Sender, call: Call, params: Sequence[object], **options: Any) -> Result:
        refuse_ended = partial(self._refuse_ended, sender, token)
        # The Rust gateway doesn't report an ended session, so check before the call.
        unsure = self._used + _SURE_SECONDS < time.monotonic()
        if unsure and sender.transport.kind is GatewayKind.RUST and call.service == PCRUD:
            sender.with_retries(refuse_ended)
        sent = [token if param is TOKEN else param for param in params]
        result = sender.send(call, sent, explain=refuse_ended, **options)
        self._used = time.monotonic()
        return result

    def logout(self) -> None:
        """End the session on the server if it was opened here. Log errors instead of raising them."""
        if self._credentials is None:
            return
        with self._lock:
            token, self._token = self._token, None
        if token is None:
            return
        try:
            self._sender.once(_LOGOUT, [token], expect="optional", seconds=_LOGOUT_TIMEOUT)
        except errors.GatewayError as error:
            log.info("logging out failed (%s); the session will time out", type(error).__name__)

    def _refuse_ended(self, sender: Sender, token: str) -> None:
        """Raise NoSessionError if the session has ended; the Rust gateway wouldn't report it."""
        with suppress(errors.UnexplainedError):
            sender.once(_RETRIEVE, [token], expect="one", seconds=wire.BRIEF_CALL)
            self._used = time.monotonic()

    def _login(self, sender: Sender) -> str:
        if self._credentials is None:
            raise _no_login("login-not-given", "neither credentials nor a token")
        try:
            result = sender.send(_LOGIN, [self._credentials.arguments()])
        except errors.EventError as error:
            raise _refused(error) from error
        payload: Any = result.value.get("payload") if isinstance(result.value, dict) else None
        token = payload.get("authtoken") if isinstance(payload, dict) else None
        if not isinstance(token, str) or not token:
            raise errors.UnexpectedAnswerError(
                "Evergreen's answer can't be read: {detail}",
                code="login-without-token",
                values={"detail": "login without a token"},
                **_LOGIN.names,
            )
        sender.redactor.learn(token)
        # Since 3.14, an account with a second factor gets a token that is useless until the factor arrives. Earlier
        # releases don't send this key (3.12/auth-001).
        if payload.get("provisional") not in (None, 0, "0", "f", False):
            raise errors.LoginRefusedError(
                "the account needs a second factor to log in",
                advice="use an account without one, or exempt this account",
                code="second-factor",
                textcode="PROVISIONAL",
                **_LOGIN.names,
            )
        log.debug("logged in")
        self._used = time.monotonic()
        return token


_ADVICE = {
    # The same answer for a wrong password (auth-016), a deleted user (auth-024), and a missing permission at the root
    # org unit (auth-012).
    "LOGIN_FAILED": Message("check user name and password; staff accounts also need STAFF_LOGIN at the root org unit"),
    "WORKSTATION_NOT_FOUND": Message("check the workstation's name: Evergreen doesn't know it"),
}


def _refused(error: errors.EventError) -> errors.LoginRefusedError:
    advice = _ADVICE.get(error.textcode, error.description.rstrip("."))
    return errors.LoginRefusedError(
        "login refused ({textcode})",
        advice="{advice}",
        values={"textcode": error.textcode, "advice": advice},
        textcode=error.textcode,
        number=error.number,
        description=error.description,
        raw=error.raw,
        **_LOGIN.names,
    )


Value = TypeVar("Value")

_ECHO = "opensrf.system.echo"
_ECHOES = 2
_SETTING, _PROGRAM = "EG_HTTP_GATEWAY_MAX_REQUESTS", "eg-http-gateway"


@dataclass(eq=False, repr=False)
class Sender:
    """Sends calls over a transport, with timeouts and retries, but without knowing about sessions.

    Safe to share between threads. ``timeout``, ``grace``, ``locale`` and ``on_call`` are as in the gateway.
    ``on_change`` is called after failures that suggest an upgrade of Evergreen. ``redactor`` hides the secrets of the
    session. ``deadline`` is when all calls must have ended, on the monotonic clock. A view's ``origin`` is the sender
    that it was copied from; the view also refuses calls when that is closed.
    """

    transport: Transport
    retries: RetryPolicy
    locale: str | None
    timeout: float
    grace: float
    on_call: CallObserver | None
    on_change: Callable[[], None]
    redactor: Redactor = field(default_factory=Redactor)
    deadline: float = math.inf
    closed: bool = False
    origin: Sender | None = None

    @property
    def is_closed(self) -> bool:
        """Whether this sender or the one it is a view of is closed."""
        return self.closed or (self.origin is not None and self.origin.is_closed)

    def close(self, logout: Callable[[], None]) -> None:
        """Refuse further calls. Unless this is a view, end running ones, log out, and close the connections."""
        if self.closed:
            return
        self.closed = True  # before logging out, because another thread's next call would open a new session
        if self.origin is None:
            self.transport.interrupt()  # the logout then finds a free connection
            logout()
            self.transport.close()

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
        """Send a call as :meth:`Gateway.call` does. ``explain`` may raise a better error than one without a reason."""
        self._refuse_closed(call)
        post = partial(self._post, call, params, expect, timeout or self.timeout, fresh=own_connection or write)

        def read() -> Result:
            try:
                result = post()
            except errors.UnexplainedError:
                self._refuse_mixed_up(call)
                if explain is not None:
                    explain()
                raise
            # An answer is believed only if it belongs to its question. An empty one doesn't show that, and a token
            # must be this login's.
            if self.transport.kind is GatewayKind.RUST and (not result.value or call.service == wire.AUTH):
                self._refuse_mixed_up(call)
            return result

        if not write:
            return self.with_retries(read)
        # The answer may get lost after the work was done, and a second usergroup.new would create a second group.
        if self.transport.kind is GatewayKind.RUST:
            self._refuse_to_write(call)
        return post()

    def once(self, call: Call, params: Sequence[object], *, expect: Expect, seconds: float) -> Result:
        """Send a call once, with a timeout of at most ``seconds``."""
        return self._post(call, params, expect, min(self.timeout, seconds))

    def fetch(self, url: str) -> bytes:
        """Fetch an IDL file."""
        self._refuse_closed(wire.IDL_CALL)

        def fetch() -> bytes:
            wire.seconds_left(self.deadline, wire.IDL_CALL)
            request = HTTPRequest(wire.IDL_CALL, url, b"", self.timeout + self.grace, self.redactor, self.deadline)
            with self._observed(wire.IDL_CALL):
                return self.transport.send(request).body

        return self.with_retries(fetch)

    def with_retries(self, attempt: Callable[[], Value]) -> Value:
        """Return the result of ``attempt``, retrying while the failure may pass."""
        latest = min(time.monotonic() + self.retries.total_seconds, self.deadline)
        delays = self.retries.delays()
        while True:
            try:
                return attempt()
            except (errors.TransportError, errors.ServerError) as error:
                delay = next(delays, None)
                if delay is None or not self._may_pass(error):
                    raise
                # Waiting returns True once the gateway is closed.
                if time.monotonic() + delay > latest or self.transport.closing.wait(delay):
                    raise
                log.info("%s %s: %s; trying again", error.service, error.method, type(error).__name__)
                self.transport.statistics.add(retries=1)

    def _may_pass(self, error: errors.TransportError | errors.ServerError) -> bool:
        """Return whether the same request may succeed a little later."""
        match error:
            case errors.HTTPStatusError():  # a proxy sends 5xx while the server behind it restarts; 4xx won't change
                return error.status >= 500
            case errors.UnreachableError():  # a bad certificate doesn't get better within seconds
                return not error.code.startswith("certificate-")
            case errors.UnexplainedError():
                return self.retries.unexplained
        # A method may fail because a database or another service is down for a moment. A query that will never work
        # looks the same, and retrying it costs only a few seconds.
        return not isinstance(error, errors.NotJSONError)

    def _post(
        self, call: Call, params: Sequence[object], expect: Expect, timeout: float, *, fresh: bool = False
    ) -> Result:
        """Send a call once. Raises RequestTooLargeError, or TimedOutError if the deadline has passed."""
        seconds = min(timeout, wire.seconds_left(self.deadline, call))
        body = wire.form(call, params, locale=self.locale, timeout=seconds)
        longest, transport = seconds + self.grace, self.transport
        if transport.kind is not GatewayKind.OPENSRF:
            longest = min(longest, LONGEST_CALL)
        request = HTTPRequest(call, transport.url, body, longest, self.redactor, self.deadline, fresh)
        try:
            with self._observed(call):
                reply = transport.send(request)
                # Where both kinds answer in turn, assume Rust: it needs more care.
                if transport.kind is None or wire.is_rust_gateway(reply.headers):
                    transport.kind = GatewayKind.RUST if wire.is_rust_gateway(reply.headers) else GatewayKind.OPENSRF
                return Result(call, reply.body, self.redactor, expect)
        except errors.UnexplainedError:
            transport.kind = GatewayKind.RUST
            raise
        except (errors.MethodNotFoundError, errors.TransportError):
            self.on_change()  # these failures suggest an upgrade or a downgrade
            raise

    @contextmanager
    def _observed(self, call: Call) -> Iterator[None]:
        """Report the outcome and duration of a request to ``on_call``."""
        began, outcome = time.monotonic(), wire.CallOutcome.FAILED
        try:
            yield
            outcome = wire.CallOutcome.ANSWERED
        except (errors.EventError, errors.ProtocolError):
            outcome = wire.CallOutcome.REFUSED
            raise
        finally:
            if self.on_call is not None:
                self.on_call(call, time.monotonic() - began, outcome)

    def _refuse_mixed_up(self, call: Call) -> None:
        """Raise DataError unless the Rust gateway answers this question: it has a random word echoed."""

        def echo(word: str) -> Any:
            try:
                return self.once(Call(call.service, _ECHO), [word], expect="many", seconds=wire.BRIEF_CALL).value
            except errors.UnexplainedError:
                return None

        for _ in range(_ECHOES):
            word = secrets.token_hex(8)
            answer = self.with_retries(partial(echo, word))
            if answer == [word]:
                return
            # A failure says nothing about this question, so ask again.
            if answer is not None:
                raise errors.DataError(
                    "the gateway's answer belongs to another request",
                    advice="set {variable}=1 for {program}, and restart it",
                    code="answers-mixed-up",
                    values={"variable": _SETTING, "program": _PROGRAM},
                )

    def _refuse_to_write(self, call: Call) -> None:
        """Raise a TransportError with ``sent`` false unless the Rust gateway answers this question."""
        try:
            self._refuse_mixed_up(call)
        except errors.TransportError as error:
            error.sent = False
            raise
        except errors.DataError:
            raise errors.TransportError(
                "not sent, because the gateway's answer belongs to another request",
                advice="set {variable}=1 for {program}, and restart it",
                code="write-withheld",
                values={"variable": _SETTING, "program": _PROGRAM},
                sent=False,
                **call.names,
            ) from None

    def _refuse_closed(self, call: Call) -> None:
        if self.is_closed:
            raise errors.UnreachableError("the gateway is closed", code="gateway-closed", **call.names)
