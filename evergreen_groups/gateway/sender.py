"""Sending calls: the login session, timeouts, retries, and checks of whose answer arrived."""

from __future__ import annotations

import logging
import math
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

from evergreen_groups import arguments
from evergreen_groups.errors import (
    ConfigurationError,
    CutOffError,
    DataError,
    EventError,
    GatewayError,
    HTTPStatusError,
    LoginRefusedError,
    MethodNotFoundError,
    NoSessionError,
    ProtocolError,
    ServerError,
    ServiceNotFoundError,
    TimedOutError,
    TransportError,
    UnexpectedAnswerError,
    UnexplainedError,
    UnreachableError,
)
from evergreen_groups.gateway.answer import Answer, Redactor
from evergreen_groups.gateway.call import (
    AUTH,
    BRIEF_CALL,
    IDL_CALL,
    LONGEST_CALL,
    PCRUD,
    Call,
    CallOutcome,
    DetectedKind,
    GatewayKind,
    form,
    held,
    seconds_left,
    view_of,
)
from evergreen_groups.gateway.transport import require_positive
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.call import CallObserver, RetryPolicy
    from evergreen_groups.gateway.transport import Reply, Transport

log = logging.getLogger("evergreen_groups.gateway")

_LOGIN: Final = Call(AUTH, "open-ils.auth.login")
_LOGOUT: Final = Call(AUTH, "open-ils.auth.session.delete")
_RETRIEVE: Final = Call(AUTH, "open-ils.auth.session.retrieve")

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
    """The account that logs in: either a user name or a barcode, and the password.

    ``workstation`` is the name of a registered workstation, ``login_type`` one of Evergreen's (``staff``, ``opac``,
    ``temp``). Raises ConfigurationError without exactly one name and a password.
    """

    username: str | None = None
    barcode: str | None = None
    password: str = field(repr=False)
    workstation: str | None = None
    login_type: str = "staff"

    def __post_init__(self) -> None:
        if bool(self.username) == bool(self.barcode):
            raise ConfigurationError(
                _NO_LOGIN, code="login-without-name", values={"detail": "expected either a user name or a barcode"}
            )
        if not self.password:
            raise ConfigurationError(_NO_LOGIN, code="login-without-password", values={"detail": "no password"})

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


class Session:
    """A token and its source. Safe to share between threads: a login happens once, however many threads need it.

    Calls go through the given ``sender``; only the logout uses the session's own, which has no deadline. A ``token``
    that was passed in is neither renewed nor logged out.
    """

    def __init__(self, sender: Sender, *, credentials: Credentials | None, token: str | None) -> None:
        if credentials is not None:
            arguments.instance("credentials", credentials, Credentials)
        if token is not None:
            arguments.text("token", token)
        if credentials is not None and token is not None:
            raise ConfigurationError(
                _NO_LOGIN, code="login-given-twice", values={"detail": "both credentials and a token"}
            )
        self._end = sender.once
        self._credentials = credentials
        self._token = token
        self._redactor = sender.redactor
        self._lock = threading.Lock()
        self._used = -math.inf  # the last time the session was certainly alive, on the monotonic clock
        for secret in (token, credentials.password if credentials else None):
            if secret:
                self._redactor.learn(secret)

    def __repr__(self) -> str:
        return "Session()"

    def token(self, sender: Sender) -> str:
        """Return the token, logging in first if necessary. Raises ConfigurationError or LoginRefusedError."""
        if (token := self._token) is not None:
            return token
        with held(self._lock, sender.deadline, _LOGIN):
            if self._token is None:
                self._token = self._login(sender)
            return self._token

    def send(self, sender: Sender, call: Call, params: Sequence[object], **options: Unpack[SendOptions]) -> Result:
        """Send a call, with the token if it takes one. If the session has ended, log in again and repeat the call."""
        if TOKEN not in params:
            return sender.send(call, params, **options)
        token = self.token(sender)
        refuse_ended = partial(self._refuse_ended, sender, token)
        try:
            # The Rust gateway doesn't report an ended session, and its worker is one answer behind after pcrud has
            # refused one. So check before the call.
            unsure = self._used + _SURE_SECONDS < time.monotonic()
            if unsure and sender.kind is GatewayKind.RUST and call.service == PCRUD:
                sender.with_retries(refuse_ended)
            result = sender.send(call, _with_token(params, token), explain=refuse_ended, **options)
        except NoSessionError:
            # Sessions also end during a long run. pcrud then answers 401 (auth-043), actor an event (auth-042), both
            # before doing anything.
            if self._credentials is None:
                raise
            log.info("%s %s: the session had ended; logging in again", call.service, call.method)
            token = self._renew(token, sender)
            refuse_ended = partial(self._refuse_ended, sender, token)
            result = sender.send(call, _with_token(params, token), explain=refuse_ended, **options)
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
            self._end(_LOGOUT, [token], expect="optional", seconds=_LOGOUT_TIMEOUT)
        except GatewayError as error:
            log.info("logging out failed (%s); the session will time out", type(error).__name__)

    def _refuse_ended(self, sender: Sender, token: str) -> None:
        """Raise NoSessionError if the session has ended; the Rust gateway wouldn't report it."""
        with suppress(UnexplainedError):
            sender.once(_RETRIEVE, [token], expect="one", seconds=BRIEF_CALL)
            self._used = time.monotonic()

    def _renew(self, ended: str, sender: Sender) -> str:
        """Return a token to replace ``ended``; another thread may already have fetched one."""
        with held(self._lock, sender.deadline, _LOGIN):
            if self._token == ended:
                self._token = None
        return self.token(sender)

    def _login(self, sender: Sender) -> str:
        if self._credentials is None:
            raise ConfigurationError(
                _NO_LOGIN, code="login-not-given", values={"detail": "neither credentials nor a token"}
            )
        try:
            event = sender.send(_LOGIN, [self._credentials.arguments()]).value
        except EventError as error:
            raise self._refused(error) from error
        payload = event.get("payload") if isinstance(event, dict) else None
        token = payload.get("authtoken") if isinstance(payload, dict) else None
        if not isinstance(payload, dict) or not isinstance(token, str) or not token:
            raise UnexpectedAnswerError(
                _UNREADABLE, code="login-without-token", values={"detail": "login without a token"}, **_LOGIN.names
            )
        self._redactor.learn(token)
        # Since 3.14, an account with a second factor gets a token that is useless until the factor arrives. Earlier
        # releases don't send this key (3.12/auth-001).
        if payload.get("provisional") not in (None, 0, "0", "f", False):
            raise LoginRefusedError(
                "the account needs a second factor to log in",
                advice="use an account without one, or exempt this account",
                code="second-factor",
                textcode="PROVISIONAL",
                **_LOGIN.names,
            )
        log.debug("logged in")
        self._used = time.monotonic()
        return token

    def _refused(self, error: EventError) -> LoginRefusedError:
        advice = {
            # The same answer for a wrong password (auth-016), a deleted user (auth-024), and a missing permission at
            # the root org unit (auth-012).
            "LOGIN_FAILED": Message(
                "check user name and password; staff accounts also need STAFF_LOGIN at the root org unit"
            ),
            "WORKSTATION_NOT_FOUND": Message("check the workstation's name: Evergreen doesn't know it"),
        }.get(error.textcode, error.description.rstrip("."))
        return LoginRefusedError(
            "login refused ({textcode})",
            advice="{advice}",
            values={"textcode": error.textcode, "advice": advice},
            textcode=error.textcode,
            number=error.number,
            description=error.description,
            raw=error.raw,
            **_LOGIN.names,
        )


def _with_token(params: Sequence[object], token: str) -> list[object]:
    return [token if param is TOKEN else param for param in params]


Value = TypeVar("Value")

_NO_LOGIN = "can't log in: {detail}"
_UNREADABLE = "Evergreen's answer can't be read: {detail}"
_ECHO = "opensrf.system.echo"
_ECHOES = 2
_SETTING, _PROGRAM = "EG_HTTP_GATEWAY_MAX_REQUESTS", "eg-http-gateway"


class SendOptions(TypedDict, total=False):
    """Options for sending a call, as in :meth:`Sender.send`."""

    expect: Expect
    write: bool
    own_connection: bool
    timeout: float | None


@dataclass(eq=False, repr=False)
class Sender:
    """Sends calls over a transport, with timeouts and retries, but without knowing about sessions.

    Safe to share between threads. ``timeout``, ``grace``, ``locale`` and ``on_call`` are as in the gateway.
    ``on_change`` is called after failures that suggest an upgrade of Evergreen. ``deadline`` is when all calls must
    have ended, on the monotonic clock. A view's ``origin`` is the sender that owns its connections; the view also
    refuses calls when that is closed.
    """

    transport: Transport
    _: KW_ONLY
    retries: RetryPolicy
    locale: str | None
    timeout: float
    grace: float
    on_call: CallObserver | None
    on_change: Callable[[], None]
    redactor: Redactor = field(default_factory=Redactor)
    """Redacts the secrets of the session that calls are sent for."""
    seen: DetectedKind = field(default_factory=DetectedKind)
    deadline: float | None = None
    is_closed: bool = False
    origin: Sender | None = None

    def __post_init__(self) -> None:
        require_positive(arguments.seconds("timeout", self.timeout), arguments.seconds("grace", self.grace))

    @property
    def kind(self) -> GatewayKind | None:
        """The kind of gateway, None before its first answer."""
        return self.seen.kind

    @property
    def seconds_left(self) -> float | None:
        """Seconds in which calls may still begin, None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def view(self) -> Sender:
        """Return a sender over the same connections that can be closed separately."""
        view = view_of(self)
        view.origin = self
        return view

    def for_session(self) -> Sender:
        """Return a view for another session, whose secrets it doesn't share."""
        view = self.view()
        view.redactor = Redactor()
        return view

    def within(self, seconds: float) -> Sender:
        """Return a view for calls that must all end ``seconds`` from now."""
        view = self.view()
        view.deadline = min(time.monotonic() + seconds, math.inf if self.deadline is None else self.deadline)
        return view

    def for_probes(self, retries: RetryPolicy | None, on_change: Callable[[], None]) -> Sender:
        """Return a view with another ``on_change`` and, if given, other ``retries``."""
        view = self.view()
        view.retries, view.on_change = retries or self.retries, on_change
        return view

    def close(self, logout: Callable[[], None]) -> None:
        """Refuse further calls. Unless this is a view, end running ones, log out, and close the connections."""
        if self.is_closed:
            return
        self.is_closed = True  # before logging out, because another thread's next call would open a new session
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
        """Send a call and return its result. A read is retried if the failure may pass; a write is sent once.

        ``explain`` is called after a failure without a reason, and raises a better error if it finds one.
        """
        left = seconds_left(self.deadline, call)
        seconds = min(timeout or self.timeout, math.inf if left is None else left)
        body = form(call, params, locale=self.locale, timeout=seconds)

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
        body = form(call, params, locale=self.locale, timeout=seconds)
        return self._attempt(call, body, expect, seconds, fresh=False)

    def fetch(self, url: str) -> Reply:
        """Fetch an IDL file."""

        def attempt() -> Reply:
            with self._observed(IDL_CALL):
                return self.transport.get(IDL_CALL, url, self.timeout + self.grace, self.redactor, self.deadline)

        self._refuse_closed(IDL_CALL)
        seconds_left(self.deadline, IDL_CALL)
        return self.with_retries(attempt)

    def with_retries(self, attempt: Callable[[], Value]) -> Value:
        """Return the result of ``attempt``, retrying while the failure may pass."""
        policy, stop = self.retries, self.transport.stop
        latest = min(time.monotonic() + policy.total_seconds, math.inf if self.deadline is None else self.deadline)
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
                if time.monotonic() + delay > latest or stop.wait(delay):
                    raise
                log.info("%s %s: %s; trying again", error.service, error.method, type(error).__name__)
                self.transport.statistics.retry()

    def _attempt(self, call: Call, body: bytes, expect: Expect, seconds: float, *, fresh: bool) -> Result:
        longest = seconds + self.grace
        if self.kind is not GatewayKind.OPENSRF:
            longest = min(longest, LONGEST_CALL)
        try:
            with self._observed(call):
                reply = self.transport.post(call, body, longest, self.redactor, fresh=fresh, deadline=self.deadline)
                self.seen.learn(reply.headers)
                return Answer(call, reply.body, self.redactor).result(expect)
        except UnexplainedError:
            self.seen.kind = GatewayKind.RUST
            raise
        except (MethodNotFoundError, TransportError):
            self.on_change()  # these failures suggest an upgrade or a downgrade
            raise

    @contextmanager
    def _observed(self, call: Call) -> Iterator[None]:
        """Report a request's outcome and duration to ``on_call``."""
        if self.on_call is None:
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
            self.on_call(call, time.monotonic() - began, outcome)

    def _is_mixed_up(self, call: Call) -> bool:
        """Return whether the Rust gateway returns answers that belong to other requests, by echoing a random word.

        On an idle gateway the echo reaches the same worker as the call: requests go to the first idle one.
        """
        for _ in range(_ECHOES):
            word = secrets.token_hex(8)

            def echo(word: str = word) -> Any:
                try:
                    return self.once(Call(call.service, _ECHO), [word], expect="many", seconds=BRIEF_CALL).value
                except UnexplainedError:
                    return None

            answer = self.with_retries(echo)
            # This failure may belong to an earlier request. If so, the next answer is this word.
            if answer is not None:
                return bool(answer != [word])
        return False

    def _refuse_mixed_up(self, call: Call) -> None:
        if self._is_mixed_up(call):
            raise DataError(
                "the gateway's answer belongs to another request",
                advice="set {variable}=1 for {program}, and restart it",
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
                "not sent, because the gateway mixes up answers",
                advice="set {variable}=1 for {program}, and restart it",
                code="write-withheld",
                values={"variable": _SETTING, "program": _PROGRAM},
                sent=False,
                **call.names,
            )

    def _refuse_closed(self, call: Call) -> None:
        sender: Sender | None = self
        while sender is not None:
            if sender.is_closed:
                raise UnreachableError("the gateway is closed", code="gateway-closed", **call.names)
            sender = sender.origin


def _may_pass(error: TransportError | ServerError) -> bool:
    """Return whether the same request may succeed a little later."""
    # A proxy sends 5xx while the server behind it restarts. A 4xx status won't change.
    if isinstance(error, HTTPStatusError):
        return error.status >= 500
    if isinstance(error, UnreachableError):
        # A bad certificate doesn't get better within seconds.
        return not isinstance(error.__cause__, ssl.SSLCertVerificationError)
    # A method may fail because a database or another service is down for a moment. A query that will never work looks
    # the same, and retrying it costs only a few seconds.
    return isinstance(error, ServerError | TimedOutError | CutOffError | ServiceNotFoundError)
