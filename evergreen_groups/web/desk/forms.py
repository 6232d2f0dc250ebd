"""Parse the forms of the desk's pages. A ProblemError refuses what the pages never send."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace
from werkzeug.datastructures import MultiDict

from evergreen_groups.values import one_line
from evergreen_groups.web import (
    Approval,
    Id,
    ProblemError,
    RecordId,
    incomplete_form,
    is_plan_id,
    read_form,
    requests,
)

if TYPE_CHECKING:
    from flask import Request

    from evergreen_groups.web import DeskRequest

LARGEST_FORM = 60 * 1024
"""Maximum size in bytes; enough for a thousand selected members."""
MOST_PATRONS = 1000
LONGEST_TEXT = 100


class ChangeForm(Struct, frozen=True):
    """The change that a clerk wants, as the pages' forms carry it.

    ``patrons`` are ids in the order in which they were named. ``target`` is the id of a member of the target group,
    None until one is named. ``approve`` asks for a supervisor's login. ``change`` is the id of the change to undo or
    redo.
    """

    # "join" moves other patrons into the page's group, "move" moves its members into another group.
    action: Literal["join", "move", "remove", "merge", "lead", "no-lead", "recalculate", "undo", "redo"]
    patrons: tuple[Id, ...] = field(default=(), name="patron")
    target: Id | None = field(default=None, name="target_id")
    approve: bool = False
    change: RecordId | None = field(default=None, name="entry")

    def with_found(self, patron: int) -> ChangeForm:
        """Return the form with a patron added: as one who joins (once), or as a member of the target group."""
        if self.action == "join":
            return replace(self, patrons=tuple(dict.fromkeys((*self.patrons, patron))))
        return replace(self, target=patron)

    @property
    def selected(self) -> tuple[int, ...]:
        """The members who were selected in the list."""
        return self.patrons if self.action in ("move", "remove", "lead", "no-lead") else ()

    @property
    def needs_target(self) -> bool:
        """Whether a member of the target group must still be named."""
        return self.action in ("move", "merge") and self.target is None


class UndoForm(Struct, frozen=True):
    """The change to undo, and the idempotency key of the undo."""

    entry: RecordId
    key: Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{16,64}\Z")]


def read_fields(request: Request, desk: DeskRequest) -> MultiDict[str, str]:
    """Return the fields of a form that was made for this session."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise ProblemError(415, "The form is incomplete.", code="not-a-form")
    if not desk.has_made(request.form):
        raise ProblemError(
            403,
            "You have logged in again since this page was opened.",
            advice="Show the group again.",
            code="form-of-another-session",
        )
    return request.form


def read_change(fields: MultiDict[str, str]) -> ChangeForm:
    """Parse the requested change. Members selected in the list and patrons looked up earlier are treated alike."""
    same = MultiDict(("patron" if name == "member" else name, text) for name, text in fields.items(multi=True))
    form = read_form(same, ChangeForm)
    patrons = tuple(dict.fromkeys(form.patrons))
    if len(patrons) > MOST_PATRONS:
        values = {"most": MOST_PATRONS}
        raise ProblemError(400, "Change at most {most} patrons at once.", code="too-many-patrons", values=values)
    return replace(form, patrons=patrons)


def read_selection(text: str) -> tuple[int, ...]:
    """Parse comma-separated ids: those that a URL selects initially, or that a button is about.

    One more than a plan may have, so that a plan of too many is refused rather than cut off.
    """
    return tuple(map(requests.record_id, text.split(",")[: MOST_PATRONS + 1])) if text else ()


def read_text(fields: MultiDict[str, str], name: str) -> str:
    """Return typed or scanned text on one line."""
    text = one_line(fields.get(name, "").replace("\0", " "))
    if len(text) > LONGEST_TEXT:
        values = {"most": LONGEST_TEXT}
        raise ProblemError(400, "Type at most {most} characters.", code="text-too-long", values=values)
    return text


def read_card(fields: MultiDict[str, str]) -> str:
    """Return the scanned or typed text to look up; "" if there is none.

    A scanner types into the field with the focus, which may be the supervisor's user name. The confirming button
    concerns the patrons shown, whatever the field contains. Text that was looked up in vain stays in the field, and
    approving the plan doesn't look it up again.
    """
    if fields.get("do") == "apply":
        return ""
    card = _scan_as_username(fields) or read_text(fields, "card")
    return "" if card == read_text(fields, "unfound") and read_approval(fields) else card


def read_plan(fields: MultiDict[str, str]) -> str:
    """Return the id of the plan that was shown."""
    plan = fields.get("plan", "")
    if not is_plan_id(plan):
        raise incomplete_form()
    return plan


def read_approval(fields: MultiDict[str, str]) -> Approval | None:
    """Return the login of the supervisor who approves this change; None if either field is empty."""
    username = read_username(fields)
    if not (username and fields.get("password")):
        return None
    return replace(read_form(fields, Approval), username=username)


def read_username(fields: MultiDict[str, str]) -> str:
    """Return the supervisor's user name as typed; "" if empty or a scanned card."""
    return "" if _scan_as_username(fields) else fields.get("username", "").strip()


_BARCODE = re.compile("[0-9]{8,}")  # as in desk.js


def _scan_as_username(fields: MultiDict[str, str]) -> str:
    """Return the card that was scanned into the field for a user name; "" if none. A user name has a password."""
    username = fields.get("username", "").strip()
    joins = fields.get("action") == "join" and not fields.get("password")
    return username if joins and len(username) <= LONGEST_TEXT and _BARCODE.fullmatch(username) else ""
