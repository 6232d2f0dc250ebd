"""What becomes of a session after the login: the methods of ``open-ils.auth`` that take its token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.services.auth import SERVICE, scalar_text
from evergreen_groups.sandbox.services.ils_events import c_event, no_session
from evergreen_groups.sandbox.services.registry import CallContext, method

if TYPE_CHECKING:
    from evergreen_groups.sandbox.services.sessions import SandboxSession


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
