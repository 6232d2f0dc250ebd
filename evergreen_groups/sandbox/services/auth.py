"""Logging in: ``open-ils.auth``, after Evergreen's ``oils_auth.c`` and ``oils_auth_internal.c``.

A wrong password, an unknown or deleted user, a barred one and one without the permission all get the same answer;
only who has the right password learns that card or account is inactive (``auth-016`` to ``auth-024``).
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
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
    from evergreen_groups.sandbox.services.sessions import SandboxSession

PERSIST_EXTENSION = 600
_TIMEOUTS = {
    # Seconds of idleness, unless a library sets its own (auth-009, auth-001).
    "opac": (420, "auth.opac_timeout"),
    "api": (3600, "auth.api_timeout"),
    "staff": (7200, "auth.staff_timeout"),
    "temp": (300, "auth.temp_timeout"),
    "persist": (1_209_600, "auth.persistent_login_interval"),
}
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_INTERVAL = re.compile(r"\s*(\d+)\s*(second|minute|hour|day|week)?s?\s*", re.IGNORECASE)


def _authtime(store: Store, user: Row, kind: str, org_unit: int) -> int:
    """The idle time in seconds of a session: the library's setting, else the server's default for the type."""
    default, name = _TIMEOUTS.get(kind, (0, None))
    value = setting_value(store, name, org_unit) or setting_value(store, name, user["home_ou"]) if name else None
    match = _INTERVAL.fullmatch(str(value)) if value is not None else None
    return int(match[1]) * _UNITS[(match[2] or "second").lower()] if match else default


def open_session(context: CallContext, user: Row, *, kind: str, place: int, workstation: str | None) -> dict[str, Any]:
    """Begin a session of a type for a user whose password was right; the event has its token.

    ``place`` is the org unit that the login names, 0 for none; it counts for the idle time alone.

    Raises:
        Event: WORKSTATION_NOT_FOUND.
    """
    store = context.store
    work_org, workstation_id = user["home_ou"], None
    place = place if place > 0 else work_org
    if workstation is not None:
        found = next(iter(store.rows("aws", {"name": workstation})), None)
        if found is None:
            raise EventAnswer(c_event("WORKSTATION_NOT_FOUND"))
        workstation_id, work_org = found["id"], found["owning_lib"]
        place = work_org
    authtime = _authtime(store, user, kind, place)
    if _waits(context, user, kind):
        # Nobody knows this token until the second factor has come.
        return c_event("SUCCESS", payload={"authtoken": secrets.token_hex(16), "authtime": authtime, "provisional": 1})
    extension = PERSIST_EXTENSION if kind == "persist" else None
    token = context.sessions.open(user["id"], work_org, workstation_id, authtime, user=user, extension=extension)
    payload = {"authtoken": token, "authtime": authtime}
    if releases.NO_SECOND_FACTOR not in context.differences and not _may_wait(context, kind):
        payload["provisional"] = 0
    return c_event("SUCCESS", payload=payload)


def _may_wait(context: CallContext, kind: str) -> bool:
    """Whether a login of this type may have to wait for a second factor; those of staff alone may."""
    here = releases.SECOND_FACTOR in context.differences and releases.NO_SECOND_FACTOR not in context.differences
    return here and kind == "staff"


def _waits(context: CallContext, user: Row, kind: str) -> bool:
    """Whether the user owes a second factor, which it takes no more for than a profile that is allowed one."""
    if not _may_wait(context, kind):
        return False
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
    """What C reads as text: a string or a number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if isinstance(value, str) else f"{value:.15g}"


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _salt(user_id: int) -> str:
    """The seed of a user's password, always the same, in the form that PostgreSQL's crypt has."""
    digest = sha256(f"evergreen-groups sandbox {user_id}".encode()).digest()
    return "$2a$10$" + base64.b64encode(digest, b"./").decode()[:22]


@dataclass(frozen=True, slots=True)
class LoginArguments:
    """The hash of arguments of a login, as C takes it apart."""

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
        """Take them from a parameter; from anything but a hash nothing is taken."""
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
    """Whether an identifier looks like a barcode: by the library's pattern, else because it begins with a digit."""
    pattern = setting_value(store, "opac.barcode_regex", store.orgs.root) or r"^\d"
    return re.search(str(pattern), identifier) is not None


def _by_username(store: Store, username: str) -> Row | None:
    return next(iter(store.rows("au", {"usrname": username})), None)


def _by_barcode(store: Store, barcode: str) -> Row | None:
    card = next(iter(store.rows("ac", {"barcode": barcode})), None)
    return store.row("au", card["usr"]) if card else None


def _has_api(context: CallContext) -> bool:
    """Whether there are logins of the type ``api``."""
    return releases.NO_API_LOGINS not in context.differences


def _verified(context: CallContext, credentials: LoginArguments, expected: str | None) -> bool:
    """Whether the password is right; nobody has one for the API."""
    return not (credentials.kind == "api" and _has_api(context)) and credentials.password == expected


def _obstacle(context: CallContext, user: Row, barcode: str | None, kind: str) -> str | None:
    """The event that stands in the way of a login (``open-ils.auth_internal.user.validate``), None if nothing does."""
    store = context.store
    if user["barred"] == "t" or user["deleted"] == "t":
        return "LOGIN_FAILED"
    # An expired account isn't stopped (auth-023).
    if user["active"] != "t":
        return "PATRON_INACTIVE"
    if barcode is not None:
        card = next(iter(store.rows("ac", {"barcode": barcode})), None)
        if card is None or card["active"] != "t":
            return "PATRON_CARD_INACTIVE"
    # Asked at the root alone: granted lower down it opens no session, whatever org the login names (auth-012,
    # auth-013).
    permission = None if kind.lower() == "api" and not _has_api(context) else _PERMISSIONS.get(kind.lower())
    if permission in _OF_ALL_USERS and releases.ALL_USERS_LOG_IN in context.differences:
        return None
    if permission is None or not allowed(store, user["id"], permission, store.orgs.root):
        return "PERM_FAILURE"
    return None


def _attempt(context: CallContext, identifier: str, verified: bool) -> bool:
    """Count a failed attempt; after too many of them the right password doesn't help for a while."""
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
        context, user, kind=credentials.kind, place=credentials.org_unit, workstation=credentials.workstation
    )


def _identity_missing(context: CallContext) -> Failure:
    return method_exception(f"username/barcode and password required for method: {context.api_name}", 404)


@method(SERVICE, "open-ils.auth.login")
def login(context: CallContext, arguments: Any = None) -> dict[str, Any]:
    """Log in with user name or barcode and password; the permission counts at the root org unit alone."""
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
        # The real service crashes here, and the gateway waits for it in vain (``auth-027``).
        raise Failure(408, "Timeout Error : Request Timeout")
    verified = _verified(context, credentials, store.password(user["id"]))
    if not _attempt(context, username or user["usrname"], verified):
        raise _failed()
    return _finish(context, user, credentials, obstacle)


def _seed(context: CallContext, user: Row | None, identifier: str, nonce: str, *, barcode: bool) -> str:
    seed = _salt(user["id"]) if user else "x"
    cached = (user["id"] if user else None, barcode)
    context.sessions.cache.put("seed", identifier + nonce, cached, SEED_SECONDS)
    return seed


def _begin(context: CallContext, given: tuple[Any, ...], *, barcode: bool | None) -> str:
    identifier = scalar_text(given[0]) if given else None
    if identifier is None:
        raise method_exception("An unknown server error occurred", 404)
    nonce = (scalar_text(given[1]) if len(given) > 1 else None) or ""
    is_barcode = _is_barcode(context.store, identifier) if barcode is None else barcode
    find = _by_barcode if is_barcode else _by_username
    return _seed(context, find(context.store, identifier), identifier, nonce, barcode=is_barcode)


@method(SERVICE, "open-ils.auth.authenticate.init")
def begin(context: CallContext, *given: Any) -> str:
    """The seed to hash a password with, for a user name or barcode; ``x`` for an unknown one (``auth-051``)."""
    return _begin(context, given, barcode=None)


@method(SERVICE, "open-ils.auth.authenticate.init.username")
def begin_with_username(context: CallContext, *given: Any) -> str:
    """The seed for a user name."""
    return _begin(context, given, barcode=False)


@method(SERVICE, "open-ils.auth.authenticate.init.barcode")
def begin_with_barcode(context: CallContext, *given: Any) -> str:
    """The seed for a barcode."""
    return _begin(context, given, barcode=True)


@method(SERVICE, "open-ils.auth.authenticate.verify")
@method(SERVICE, "open-ils.auth.authenticate.complete")
def complete(context: CallContext, arguments: Any = None) -> dict[str, Any]:
    """Log in with the MD5 of seed (``auth-045``, ``auth-049``) and hashed password (``auth-046``, ``auth-050``)."""
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
        context.sessions.cache.pop("seed", identifier + credentials.nonce)
        raise _failed()
    barcode = identifier if found_by_barcode else credentials.barcode
    obstacle = _obstacle(context, user, barcode, credentials.kind)
    if obstacle == "LOGIN_FAILED":
        raise _failed()
    context.sessions.cache.pop("seed", identifier + credentials.nonce)
    expected = _md5(_salt(user["id"]) + _md5(store.password(user["id"]) or ""))
    verified = _verified(context, credentials, expected)
    if not _attempt(context, identifier, verified):
        raise _failed()
    return _finish(context, user, credentials, obstacle)


def _user(context: CallContext, session: SandboxSession) -> dict[str, Any]:
    """The user as at the login, with workstation and its org unit as text, and an empty password."""
    workstation = None if session.workstation is None else str(session.workstation)
    return context.classes.wire_object(
        "au", session.user, {"ws_ou": str(session.work_org), "wsid": workstation, "passwd": ""}
    )


def _is_set(value: Any) -> bool:
    """Whether an option is given: a text or number other than 0; true doesn't count."""
    text = scalar_text(value)
    return text is not None and text != "0"


@method(SERVICE, "open-ils.auth.session.retrieve")
def retrieve(context: CallContext, token: Any = None, full: Any = None, unprolonged: Any = None) -> dict[str, Any]:
    """The user of a session; with ``full`` in a hash beside the idle time; ``unprolonged`` doesn't begin that anew."""
    session = context.sessions.find(scalar_text(token), prolong=not _is_set(unprolonged))
    if session is None:
        raise no_session()
    user = _user(context, session)
    return {"authtime": session.authtime, "userobj": user} if _is_set(full) else user


@method(SERVICE, "open-ils.auth.session.delete")
def delete(context: CallContext, token: Any = None) -> str | None:
    """End a session and return its token, whether there was one or not (``auth-044``)."""
    text = scalar_text(token)
    context.sessions.close(text)
    return text


@method(SERVICE, "open-ils.auth.session.reset_timeout")
def reset_timeout(context: CallContext, token: Any = None, reload_user: Any = None) -> dict[str, Any] | None:
    """Begin a session's idle time anew, and read its user again if asked to; the payload is the time left."""
    text = scalar_text(token)
    if text is None:
        return None
    session = context.sessions.find(text)
    if session is None:
        raise no_session()
    if isinstance(reload_user, int | float) and not isinstance(reload_user, bool) and reload_user:
        session.user = context.requestor(session)
    return c_event("SUCCESS", payload=context.sessions.remaining(session))
