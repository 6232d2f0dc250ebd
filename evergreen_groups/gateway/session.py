"""The login session: opened by the first call that needs one, renewed after it ends, and closed at the end."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Unpack

from evergreen_groups import arguments
from evergreen_groups.errors import (
    ConfigurationError,
    EventError,
    GatewayError,
    LoginRefusedError,
    NoSessionError,
    UnexpectedAnswerError,
    UnexplainedError,
)
from evergreen_groups.gateway.call import AUTH, BRIEF_CALL, PCRUD, Call, GatewayKind, held
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.gateway.answer import Result
    from evergreen_groups.gateway.sender import Sender, SendOptions

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
            raise ConfigurationError("to log in, give either a user name or a barcode", code="login-without-name")
        if not self.password:
            raise ConfigurationError("to log in, give a password", code="login-without-password")

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

    Methods send their calls through the given ``sender``; only the logout uses the session's own, which has no
    deadline. A ``token`` that was passed in is neither renewed nor logged out. While another thread logs in, a call
    waits until its sender's deadline, and then raises TimedOutError.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        credentials: Credentials | None,
        token: str | None,
    ) -> None:
        if credentials is not None:
            arguments.instance("credentials", credentials, Credentials)
        if token is not None:
            arguments.text("token", token)
        if credentials is not None and token is not None:
            raise ConfigurationError("give either credentials or an existing token, not both", code="login-given-twice")
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

    @property
    def renewable(self) -> bool:
        """Whether the session can log in again."""
        return self._credentials is not None

    def token(self, sender: Sender) -> str:
        """Return the token, logging in first if necessary.

        Raises ConfigurationError without credentials, LoginRefusedError if Evergreen refuses.
        """
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
            if (
                sender.kind is GatewayKind.RUST
                and call.service == PCRUD
                and self._used + _SURE_SECONDS < time.monotonic()
            ):
                sender.with_retries(refuse_ended)
            result = sender.send(call, _with_token(params, token), explain=refuse_ended, **options)
        except NoSessionError:
            # Sessions also end during a long run. pcrud then answers 401 (auth-043), actor an event (auth-042), both
            # before doing anything.
            if not self.renewable:
                raise
            log.info("%s %s: the session had ended; logging in again", call.service, call.method)
            token = self._renew(token, sender)
            refuse_ended = partial(self._refuse_ended, sender, token)
            result = sender.send(call, _with_token(params, token), explain=refuse_ended, **options)
        self._used = time.monotonic()
        return result

    def logout(self) -> None:
        """End the session on the server if it was opened here. Log errors instead of raising them."""
        with self._lock:
            token, self._token = self._token, (None if self.renewable else self._token)
        if token is None or not self.renewable:
            return
        try:
            self._end(_LOGOUT, [token], expect="optional", seconds=_LOGOUT_TIMEOUT)
        except GatewayError as error:
            log.info("logging out failed (%s); the session ends by itself later", type(error).__name__)

    def _refuse_ended(self, sender: Sender, token: str) -> None:
        """Raise NoSessionError if the session has ended; the Rust gateway wouldn't report it."""
        with suppress(UnexplainedError):
            sender.once(_RETRIEVE, [token], expect="one", seconds=BRIEF_CALL)
            self._used = time.monotonic()

    def _renew(self, ended: str, sender: Sender) -> str:
        """Return a token to replace ``ended``; another thread may already have fetched one."""
        with held(self._lock, sender.deadline, _LOGIN):
            if self._token is None or self._token == ended:
                self._token = None
                self._token = self._login(sender)
            return self._token

    def _login(self, sender: Sender) -> str:
        if self._credentials is None:
            raise ConfigurationError(
                "this call needs a session", advice="give the gateway credentials or a token", code="login-not-given"
            )
        try:
            event = sender.send(_LOGIN, [self._credentials.arguments()]).value
        except EventError as error:
            raise self._refused(error) from error
        payload = event.get("payload") if isinstance(event, dict) else None
        token = payload.get("authtoken") if isinstance(payload, dict) else None
        if not isinstance(payload, dict) or not isinstance(token, str) or not token:
            raise UnexpectedAnswerError(
                "the login was accepted, but no token came with it", code="login-without-token", **_LOGIN.names
            )
        self._redactor.learn(token)
        # Since 3.14, an account with a second factor gets a token that is useless until the factor arrives. Earlier
        # releases don't send this key (3.12/auth-001).
        if payload.get("provisional") not in (None, 0, "0", "f", False):
            raise LoginRefusedError(
                "the account must confirm logins with a second factor, which a program can't",
                advice="use an account without one, or exempt it",
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
                "check the name and password, and that the account may log in like this "
                "(STAFF_LOGIN at the root org unit for staff)"
            ),
            "WORKSTATION_NOT_FOUND": Message("check the workstation's name: it isn't registered"),
        }.get(error.textcode, error.description.rstrip(".") or Message("check the account"))
        return LoginRefusedError(
            "login refused ({textcode})",
            advice="{advice}",
            values={"textcode": error.textcode, "advice": advice},
            textcode=error.textcode,
            number=error.number,
            description=error.description,
            service=error.service,
            method=error.method,
            asked=error.asked,
            raw=error.raw,
        )


def _with_token(params: Sequence[object], token: str) -> list[object]:
    return [token if param is TOKEN else param for param in params]
