"""The bodies of requests that plan and change something, read strictly: whatever isn't understood is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups import hooks
from evergreen_groups.changes import MOST_PATRONS, Action, is_change_id
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.requests import LARGEST_ID

if TYPE_CHECKING:
    from flask import Request

    from evergreen_groups.groups import PatronReference

LARGEST = 128 * 1024
"""How many bytes such a body may have: a thousand of the longest barcodes."""

KEY_HEADER = "Idempotency-Key"

# Cards are printed in many ways; blanks within a barcode are ignored where it is looked up, and here only what no card
# can have is refused.
_LONGEST_BARCODE = 100
_KEY = re.compile(r"[\x21-\x7e]{1,100}")
_PLAN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_LOGIN = 200


@dataclass(frozen=True, slots=True, repr=False)
class Approval:
    """The login of a supervisor who approves one change."""

    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """A plan to apply, its key, and who approves it, where somebody does."""

    plan: str
    key: str
    approval: Approval | None = None


def plan_request(asked: Request) -> hooks.PlanRequest:
    """What is to be planned.

    Raises:
        ProblemError: 400 or 415, the body isn't that.
    """
    fields = _fields(asked, {"action", "patrons", "target", "lead", "off", "change"})
    try:
        action = Action(fields.get("action"))
    except ValueError:
        raise _wrong("action", "one of move, remove, merge, lead, undo and recalculate") from None
    patrons = fields.get("patrons", [])
    if not isinstance(patrons, list) or len(patrons) > MOST_PATRONS:
        raise _wrong("patrons", f"a list of at most {MOST_PATRONS:,}")
    target, change = fields.get("target"), fields.get("change")
    return hooks.PlanRequest(
        action=action,
        patrons=tuple(_reference(patron, "patrons") for patron in patrons),
        target=None if target is None else _reference(target, "target"),
        lead=_flag(fields, "lead"),
        off=_flag(fields, "off"),
        change=None if change is None else _change_id(change),
    )


def agreement(asked: Request) -> Agreement:
    """Which plan is to be applied; raises what :func:`plan_request` does."""
    fields = _fields(asked, {"plan", "approval"})
    plan = fields.get("plan")
    if not isinstance(plan, str) or not is_plan_id(plan):
        raise _wrong("plan", "the id of a plan")
    approval = fields.get("approval")
    return Agreement(plan, idempotency_key(asked), None if approval is None else _approval(approval))


def is_plan_id(text: str) -> bool:
    """Whether a text may be the id of a plan; a server's database takes not every text."""
    return bool(_PLAN.fullmatch(text))


def nothing_else(asked: Request) -> None:
    """See that a body says nothing: it is empty, or an empty object."""
    if asked.content_length or asked.is_json:
        _fields(asked, set())


def idempotency_key(asked: Request) -> str:
    """The key under which a change's answer can be asked for again.

    A page of another site can't send such a header with a form.

    Raises:
        ProblemError: 400, it is missing, or isn't 1 to 100 printable ASCII characters.
    """
    key = asked.headers.get(KEY_HEADER, "")
    if not _KEY.fullmatch(key):
        raise ProblemError(
            400,
            "A change takes a header {header}: 1 to 100 characters of the caller's own choice, other ones for each "
            "change, and the same when the same change is asked for again.",
            code="key-missing",
            values={"header": KEY_HEADER},
        )
    return key


def _fields(asked: Request, known: set[str]) -> dict[str, Any]:
    if asked.mimetype != "application/json":
        raise ProblemError(415, "The body is application/json.", code="body-of-another-type")
    try:
        fields = json.loads(asked.get_data().decode())
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body can't be read.", code="body-unreadable") from None
    if not isinstance(fields, dict) or not fields.keys() <= known:
        names = ", ".join(sorted(known)) or "nothing"
        raise ProblemError(
            400, "The body is an object with {names}, and nothing else.", code="body-wrong", values={"names": names}
        )
    return fields


def _reference(value: object, field: str) -> PatronReference:
    if isinstance(value, str) and _may_be_barcode(value):
        return value
    if isinstance(value, dict) and value.keys() == {"id"}:
        return _number(value["id"], field, LARGEST_ID)
    raise _wrong(field, 'a barcode, or {"id": NUMBER}')


def _may_be_barcode(text: str) -> bool:
    return 1 <= len(text) <= _LONGEST_BARCODE and text.isprintable() and text.strip() == text


def _change_id(value: object) -> str:
    if not isinstance(value, str) or not is_change_id(value):
        raise _wrong("change", "the id of a change")
    return value


def _number(value: object, field: str, largest: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 is a whole number in JSON
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise _wrong(field, f"a whole number from 1 to {largest}")
    return value


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def _approval(value: object) -> Approval:
    if isinstance(value, dict) and value.keys() == {"username", "password"}:
        username, password = value["username"], value["password"]
        if all(isinstance(text, str) and _may_be_login(text) for text in (username, password)):
            return Approval(username, password)
    raise _wrong("approval", "an object with username and password")


def _may_be_login(text: str) -> bool:
    """Whether a text may be a name or a password: JSON can say half a character, which nobody could send on."""
    is_whole = not any("\ud800" <= letter <= "\udfff" for letter in text)
    return 1 <= len(text) <= _LONGEST_LOGIN and is_whole


def _wrong(field: str, form: str) -> ProblemError:
    return ProblemError(400, "{field} is {form}.", code="field-wrong", values={"field": field, "form": form})
