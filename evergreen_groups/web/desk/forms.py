"""What a form of the desk sends."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.web import Approval, ProblemError, is_plan_id, requests

if TYPE_CHECKING:
    from flask import Request
    from werkzeug.datastructures import MultiDict

_LABEL = b"evergreen-groups desk form 1"


def form_token(session_token: str, user: int) -> str:
    """The form's token for a session of a user (``au.id``)."""
    return hmac.new(session_token.encode(), _LABEL + str(user).encode(), sha256).hexdigest()


def is_form_token(given: str, session_token: str, user: int) -> bool:
    """Whether ``given`` is that token; in the same time however much of it is right."""
    return hmac.compare_digest(given.encode(), form_token(session_token, user).encode())


LARGEST_FORM = 60 * 1024
"""Bytes: enough for a thousand selected members."""
MOST_PATRONS = 1000
LONGEST_TEXT = 100
LONGEST_LOGIN = 200

ACTIONS = ("join", "move", "remove", "merge", "lead", "no-lead", "recalculate")
"""What can be done: ``join`` brings others into the page's group, ``move`` its members into another."""


@dataclass(frozen=True, slots=True)
class ChangeForm:
    """What a clerk wants done. ``patrons`` are ids, in the order in which they were named; ``target`` is the id of
    somebody in the group that they are to come into, None where nobody has been named yet. ``approve`` says that a
    supervisor's login is asked for.
    """

    action: str
    patrons: tuple[int, ...]
    target: int | None = None
    approve: bool = False

    def with_patron(self, patron: int) -> ChangeForm:
        """The same with one patron more, who counts once."""
        return replace(self, patrons=tuple(dict.fromkeys((*self.patrons, patron))))

    @property
    def needs_target(self) -> bool:
        """Whether somebody of another group has to be named still."""
        return self.action in ("move", "merge") and self.target is None


def read_fields(request: Request, session_token: str, user: int) -> MultiDict[str, str]:
    """The fields of a form that was made for this session.

    Raises:
        ProblemError: it wasn't, or it isn't a form.
    """
    if request.mimetype != "application/x-www-form-urlencoded":
        raise ProblemError(415, "This takes a form of the page.", code="not-a-form")
    if not is_form_token(request.form.get("form", ""), session_token, user):
        raise ProblemError(
            403,
            "This form was made in another session.",
            advice="Show the group again: you may have logged in anew, or as somebody else, since the page was loaded.",
            code="form-of-another-session",
        )
    return request.form


def read_change(fields: MultiDict[str, str]) -> ChangeForm:
    """What is wanted; members that were selected in the list and patrons looked up before are the same.

    Raises:
        ProblemError: 400, it is nothing that the pages send.
    """
    action = fields.get("action", "")
    if action not in ACTIONS:
        raise ProblemError(400, "There is no such action.", code="no-such-action")
    patrons = tuple(dict.fromkeys(map(requests.record_id, [*fields.getlist("patron"), *fields.getlist("member")])))
    if len(patrons) > MOST_PATRONS:
        raise ProblemError(
            400, "At most {most} patrons go into one change.", code="too-many-patrons", values={"most": MOST_PATRONS}
        )
    target = fields.get("target_id")
    return ChangeForm(
        action, patrons, requests.record_id(target) if target else None, approve=fields.get("approve") == "1"
    )


def read_selection(text: str) -> tuple[int, ...]:
    """The ids that an address has, with commas between them: who is selected to begin with.

    Raises:
        ProblemError: 400, it is nothing that an audit links to.
    """
    return tuple(map(requests.record_id, text.split(",")[: MOST_PATRONS + 1])) if text else ()


def read_text(fields: MultiDict[str, str], name: str) -> str:
    """A text that somebody typed or a scanner did: on one line, and not too long.

    Raises:
        ProblemError: 400, it is too long.
    """
    text = " ".join(fields.get(name, "").replace("\0", " ").split())
    if len(text) > LONGEST_TEXT:
        raise ProblemError(
            400,
            "That is longer than a barcode or a name: at most {most} letters.",
            code="text-too-long",
            values={"most": LONGEST_TEXT},
        )
    return text


def read_plan(fields: MultiDict[str, str]) -> str:
    """The id of the plan that was shown.

    Raises:
        ProblemError: 400, it is nothing that the pages send.
    """
    plan = fields.get("plan", "")
    if not is_plan_id(plan):
        raise ProblemError(400, "The form isn't whole.", code="form-incomplete")
    return plan


def read_approval(fields: MultiDict[str, str]) -> Approval | None:
    """Return the login of a supervisor who approves this one change, None where none was given, or half of one.

    Raises:
        ProblemError: 400, it is longer than the pages send.
    """
    username, password = read_username(fields), fields.get("password", "")
    if len(password) > LONGEST_LOGIN:
        raise _login_too_long()
    return Approval(username, password) if username and password else None


def read_username(fields: MultiDict[str, str]) -> str:
    """Return the user name of a supervisor, as it was typed; empty where none was.

    Raises:
        ProblemError: 400, it is longer than the pages send.
    """
    username = fields.get("username", "").strip()
    if len(username) > LONGEST_LOGIN:
        raise _login_too_long()
    return username


def _login_too_long() -> ProblemError:
    return ProblemError(400, "A supervisor's login is a name and a password.", code="approval-incomplete")


def read_key(fields: MultiDict[str, str]) -> str:
    """The key under which an outcome can be asked for again.

    Raises:
        ProblemError: 400, it is nothing that the pages send.
    """
    key = fields.get("key", "")
    if not (16 <= len(key) <= 64 and key.isascii() and key.isalnum()):
        raise ProblemError(400, "The form isn't whole.", code="form-incomplete")
    return key
