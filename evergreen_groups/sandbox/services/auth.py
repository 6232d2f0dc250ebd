"""Logging in: ``open-ils.auth``, after Evergreen's ``oils_auth.c`` and ``oils_auth_internal.c``.

The response is the same for a wrong password, for unknown, deleted and barred users, and for users without the
permission. Only with the right password does it reveal an inactive card or account (``auth-016`` to ``auth-024``).
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import md5, sha256
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.services import releases
from evergreen_groups.sandbox.services.permissions import allowed, setting_value
from evergreen_groups.sandbox.services.registry import (
    CallContext,
    EventAnswer,
    Failure,
    c_event,
    method,
    method_exception,
    no_session,
)

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import Row, Store


PERSIST_EXTENSION = 600
_TIMEOUTS = {
    # Idle timeouts in seconds, and the library settings that override them (auth-009, auth-001).
    "opac": (420, "auth.opac_timeout"),
    "api": (3600, "auth.api_timeout"),
    "staff": (7200, "auth.staff_timeout"),
    "temp": (300, "auth.temp_timeout"),
    "persist": (1_209_600, "auth.persistent_login_interval"),
}
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_INTERVAL = re.compile(r"\s*(\d+)\s*(second|minute|hour|day|week)?s?\s*", re.IGNORECASE)


def _authtime(store: Store, user: Row, kind: str, org_unit: int) -> int:
    """Return a session's idle timeout in seconds: the library's setting, or the default for the login type."""
    default, name = _TIMEOUTS.get(kind, (0, None))
    value = setting_value(store, name, org_unit) or setting_value(store, name, user["home_ou"]) if name else None
    match = _INTERVAL.fullmatch(str(value)) if value is not None else None
    return int(match[1]) * _UNITS[(match[2] or "second").lower()] if match else default


def open_session(
    context: CallContext, user: Row, *, kind: str, org_unit: int, workstation: str | None
) -> dict[str, Any]:
    """Open a session for a user with the right password, and return the event with the token.

    ``org_unit`` is the one sent with the login (0: none), and only affects the idle timeout.

    Raises:
        EventAnswer: WORKSTATION_NOT_FOUND.
    """
    store = context.store
    work_org, workstation_id = user["home_ou"], None
    org_unit = org_unit if org_unit > 0 else work_org
    if workstation is not None:
        found = next(iter(store.rows("aws", {"name": workstation})), None)
        if found is None:
            raise EventAnswer(c_event("WORKSTATION_NOT_FOUND"))
        workstation_id, work_org = found["id"], found["owning_lib"]
        org_unit = work_org
    authtime = _authtime(store, user, kind, org_unit)
    if _needs_second_factor(context, user, kind):
        # The token doesn't work before the second factor arrives, which the sandbox can't receive.
        return c_event("SUCCESS", payload={"authtoken": secrets.token_hex(16), "authtime": authtime, "provisional": 1})
    extension = PERSIST_EXTENSION if kind == "persist" else None
    token = context.sessions.open(user["id"], work_org, workstation_id, authtime, user=user, extension=extension)
    payload = {"authtoken": token, "authtime": authtime}
    if releases.NO_SECOND_FACTOR not in context.differences and not _uses_second_factor(context, kind):
        payload["provisional"] = 0
    return c_event("SUCCESS", payload=payload)


def _uses_second_factor(context: CallContext, kind: str) -> bool:
    enabled = releases.SECOND_FACTOR in context.differences and releases.NO_SECOND_FACTOR not in context.differences
    return enabled and kind == "staff"


def _needs_second_factor(context: CallContext, user: Row, kind: str) -> bool:
    if not _uses_second_factor(context, kind):
        return False
    # A profile that merely allows a second factor is enough to be asked for one.
    profiles = context.store.rows("pgt", {"id": context.store.profiles.ancestors(user["profile"])})
    return any(row["mfa_allowed"] == "t" for row in profiles)


SERVICE = "open-ils.auth"
SEED_SECONDS = 30
BLOCK_SECONDS = 90
BLOCK_COUNT = 10

_PERMISSIONS = {
    "opac": "OPAC_LOGIN",
    "api": "API_LOGIN",
    "staff": "STAFF_LOGIN",
    "temp": "STAFF_LOGIN",
    "persist": "PERSISTENT_LOGIN",
}
_OF_ALL_USERS = ("OPAC_LOGIN", "PERSISTENT_LOGIN")


def scalar_text(value: Any) -> str | None:
    """Return a string or number as text, as the C code reads it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if isinstance(value, str) else f"{value:.15g}"


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _salt(user_id: int) -> str:
    """Return a user's fixed password salt, in the form of PostgreSQL's crypt."""
    digest = sha256(f"evergreen-groups sandbox {user_id}".encode()).digest()
    return "$2a$10$" + base64.b64encode(digest, b"./").decode()[:22]


@dataclass(frozen=True, slots=True)
class LoginArguments:
    """The parameter of a login, decoded like in the C code."""

    username: str | None
    barcode: str | None
    identifier: str | None
    password: str | None
    kind: str
    org_unit: int
    workstation: str | None
    nonce: str

    @classmethod
    def read(cls, arguments: Any) -> LoginArguments:
        """Decode a parameter; a value other than a hash counts as an empty hash."""
        given: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
        texts = {
            name: scalar_text(given.get(name)) for name in ("username", "barcode", "identifier", "password", "type")
        }
        return cls(
            username=texts["username"],
            barcode=texts["barcode"],
            identifier=texts["identifier"],
            password=texts["password"],
            kind="staff" if texts["type"] is None else texts["type"],
            org_unit=_number(given.get("org")),
            workstation=scalar_text(given.get("workstation")),
            nonce=scalar_text(given.get("nonce")) or "",
        )


def _failed() -> EventAnswer:
    return EventAnswer(c_event("LOGIN_FAILED"))


def _is_barcode(store: Store, identifier: str) -> bool:
    """Return whether an identifier matches the barcode pattern of the library settings; by default, a leading digit."""
    pattern = setting_value(store, "opac.barcode_regex", store.orgs.root) or r"^\d"
    return re.search(str(pattern), identifier) is not None


def _by_username(store: Store, username: str) -> Row | None:
    return next(iter(store.rows("au", {"usrname": username})), None)


def _by_barcode(store: Store, barcode: str) -> Row | None:
    card = next(iter(store.rows("ac", {"barcode": barcode})), None)
    return store.row("au", card["usr"]) if card else None


def _has_api(context: CallContext) -> bool:
    return releases.NO_API_LOGINS not in context.differences


def _verified(context: CallContext, credentials: LoginArguments, expected: str | None) -> bool:
    # API logins have passwords of another type, and no user of the sandbox has one.
    return not (credentials.kind == "api" and _has_api(context)) and credentials.password == expected


def _obstacle(context: CallContext, user: Row, barcode: str | None, kind: str) -> str | None:
    """Return the event that prevents a login (``open-ils.auth_internal.user.validate``), or None."""
    store = context.store
    if user["barred"] == "t" or user["deleted"] == "t":
        return "LOGIN_FAILED"
    # Expired accounts can log in (auth-023).
    if user["active"] != "t":
        return "PATRON_INACTIVE"
    if barcode is not None:
        card = next(iter(store.rows("ac", {"barcode": barcode})), None)
        if card is None or card["active"] != "t":
            return "PATRON_CARD_INACTIVE"
    # Checked at the root only; a grant further down doesn't help, whatever org the login names (auth-012, auth-013).
    permission = None if kind.lower() == "api" and not _has_api(context) else _PERMISSIONS.get(kind.lower())
    if permission in _OF_ALL_USERS and releases.ALL_USERS_LOG_IN in context.differences:
        return None
    if permission is None or not allowed(store, user["id"], permission, store.orgs.root):
        return "PERM_FAILURE"
    return None


def _attempt(context: CallContext, identifier: str, verified: bool) -> bool:
    """Count failed attempts. After too many, even the right password is rejected for a while."""
    count = context.sessions.cache.get("failures", identifier) or 0
    if count >= BLOCK_COUNT:
        return False
    if not verified:
        context.sessions.cache.put("failures", identifier, count + 1, BLOCK_SECONDS)
    return verified


def _finish(context: CallContext, user: Row, credentials: LoginArguments, obstacle: str | None) -> dict[str, Any]:
    if obstacle in ("PATRON_INACTIVE", "PATRON_CARD_INACTIVE"):
        raise EventAnswer(c_event(obstacle))
    if obstacle is not None:
        raise _failed()
    if context.api_name.endswith(".verify"):
        return c_event("SUCCESS")
    return open_session(
        context, user, kind=credentials.kind, org_unit=credentials.org_unit, workstation=credentials.workstation
    )


def _identity_missing(context: CallContext) -> Failure:
    return method_exception(f"username/barcode and password required for method: {context.api_name}", 404)


@method(SERVICE, "open-ils.auth.login")
def login(context: CallContext, arguments: Any = None) -> dict[str, Any]:
    """Log in with a user name or barcode, and the password in plain text."""
    credentials = LoginArguments.read(arguments)
    store = context.store
    username, barcode = credentials.username, credentials.barcode
    if credentials.identifier is not None and username is None and barcode is None:
        if _is_barcode(store, credentials.identifier):
            barcode = credentials.identifier
        else:
            username = credentials.identifier
    if username is not None:
        barcode = None
        user = _by_username(store, username)
    elif barcode is not None:
        user = _by_barcode(store, barcode)
    else:
        raise _identity_missing(context)
    if user is None:
        raise _failed()
    obstacle = _obstacle(context, user, barcode, credentials.kind)
    if obstacle == "LOGIN_FAILED":
        raise _failed()
    if credentials.password is None:
        # The real service crashes here, and the gateway times out (auth-027).
        raise Failure(408, "Timeout Error : Request Timeout")
    verified = _verified(context, credentials, store.password(user["id"]))
    if not _attempt(context, username or user["usrname"], verified):
        raise _failed()
    return _finish(context, user, credentials, obstacle)


def begin(context: CallContext, *given: Any, barcode: bool | None) -> str:
    """Return the seed to hash a password with; ``x`` for an unknown user name or barcode (``auth-051``)."""
    identifier = scalar_text(given[0]) if given else None
    if identifier is None:
        raise method_exception("An unknown server error occurred", 404)
    nonce = (scalar_text(given[1]) if len(given) > 1 else None) or ""
    is_barcode = _is_barcode(context.store, identifier) if barcode is None else barcode
    user = _by_barcode(context.store, identifier) if is_barcode else _by_username(context.store, identifier)
    cached = (user["id"] if user else None, is_barcode)
    context.sessions.cache.put("seed", identifier + nonce, cached, SEED_SECONDS)
    return _salt(user["id"]) if user else "x"


for _form, _barcode in (("", None), (".username", False), (".barcode", True)):
    method(SERVICE, f"open-ils.auth.authenticate.init{_form}")(partial(begin, barcode=_barcode))


@method(SERVICE, "open-ils.auth.authenticate.verify")
@method(SERVICE, "open-ils.auth.authenticate.complete")
def complete(context: CallContext, arguments: Any = None) -> dict[str, Any]:
    """Log in with the MD5 of seed (``auth-045``, ``auth-049``) and MD5 password (``auth-046``, ``auth-050``)."""
    credentials = LoginArguments.read(arguments)
    store = context.store
    identifier = next(
        (text for text in (credentials.identifier, credentials.username, credentials.barcode) if text is not None), None
    )
    if identifier is None:
        raise _identity_missing(context)
    cached = context.sessions.cache.get("seed", identifier + credentials.nonce)
    if cached is None:
        raise method_exception(
            "No authentication seed found. open-ils.auth.authenticate.init must be called first", 404
        )
    user_id, found_by_barcode = cached
    user = store.row("au", user_id) if user_id is not None else None
    if user is None:
        context.sessions.cache.remove("seed", identifier + credentials.nonce)
        raise _failed()
    barcode = identifier if found_by_barcode else credentials.barcode
    obstacle = _obstacle(context, user, barcode, credentials.kind)
    if obstacle == "LOGIN_FAILED":
        raise _failed()
    context.sessions.cache.remove("seed", identifier + credentials.nonce)
    expected = _md5(_salt(user["id"]) + _md5(store.password(user["id"]) or ""))
    verified = _verified(context, credentials, expected)
    if not _attempt(context, identifier, verified):
        raise _failed()
    return _finish(context, user, credentials, obstacle)


def _is_set(value: Any) -> bool:
    """Return whether an option is a text or number other than 0; JSON's true doesn't count."""
    text = scalar_text(value)
    return text is not None and text != "0"


@method(SERVICE, "open-ils.auth.session.retrieve")
def retrieve(context: CallContext, token: Any = None, full: Any = None, unprolonged: Any = None) -> dict[str, Any]:
    """Return the session's user as of the login.

    With ``full``, return a hash with the user and the idle timeout; ``unprolonged`` doesn't restart that timeout.
    """
    session = context.sessions.find(scalar_text(token), prolong=not _is_set(unprolonged))
    if session is None:
        raise no_session()
    workstation = None if session.workstation is None else str(session.workstation)
    fields = {"ws_ou": str(session.work_org), "wsid": workstation, "passwd": ""}
    user = context.classes.wire_object("au", session.user, fields)
    return {"authtime": session.authtime, "userobj": user} if _is_set(full) else user


@method(SERVICE, "open-ils.auth.session.delete")
def delete(context: CallContext, token: Any = None) -> str | None:
    """End a session and return its token, even if there is no such session (``auth-044``)."""
    text = scalar_text(token)
    context.sessions.close(text)
    return text


@method(SERVICE, "open-ils.auth.session.reset_timeout")
def reset_timeout(context: CallContext, token: Any = None, reload_user: Any = None) -> dict[str, Any] | None:
    """Restart a session's idle timeout, and reload its user if asked to; the payload is the seconds left."""
    text = scalar_text(token)
    if text is None:
        return None
    session = context.sessions.find(text)
    if session is None:
        raise no_session()
    if isinstance(reload_user, int | float) and not isinstance(reload_user, bool) and reload_user:
        session.user = context.requestor(session)
    return c_event("SUCCESS", payload=context.sessions.remaining(session))
