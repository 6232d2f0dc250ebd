"""What a login ends in: a session, or one that still waits for a second factor (``oils_auth_internal.c``)."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.services import releases
from evergreen_groups.sandbox.services.ils_events import EventAnswer, c_event
from evergreen_groups.sandbox.services.library_settings import setting_value

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import Row, Store
    from evergreen_groups.sandbox.services.registry import CallContext

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
