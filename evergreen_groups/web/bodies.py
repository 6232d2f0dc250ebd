"""The bodies and queries of requests: their shapes, and what is refused in them, with a ProblemError.

The API description shows the shapes of bodies as they are declared here.
"""

from __future__ import annotations

import datetime
import json
import re
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from evergreen_groups import hooks
from evergreen_groups.changes import MOST_PATRONS, Action
from evergreen_groups.follow_up import LONGEST_NOTE, DraftEntry
from evergreen_groups.state import record_ids
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.requests import LARGEST_ID

if TYPE_CHECKING:
    from flask import Request
    from werkzeug.datastructures import MultiDict

    from evergreen_groups.groups import PatronReference

MOST_FIELDS = 20
"""Maximum number of fields in an event. Fields other than event, hook and patron are ignored."""

MOST_ENTRIES = 200
"""Maximum number of entries that are saved at once."""

MOST_LISTED = 1000
"""Maximum number of groups in one answer."""

_PLAN = "[A-Za-z0-9_-]{1,64}"
_RECORD = f"^{record_ids.PATTERN}$"

# Looking up a barcode ignores spaces in it, since cards are printed in many ways. Refuse only what no card can have.
_Barcode = Annotated[str, Meta(min_length=1, max_length=100)]
Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
RecordId = Annotated[str, Meta(pattern=rf"^{record_ids.PATTERN}\Z")]
_Login = Annotated[str, Meta(min_length=1, max_length=200)]
_Password = Annotated[str, Meta(min_length=1, max_length=200, extra_json_schema={"format": "password"})]


class PatronId(Struct, frozen=True, forbid_unknown_fields=True):
    """A patron by id."""

    id: Id


class PlanBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`move` and `merge` take a target: a member of the group to move to. Of `merge`, `patrons` names a member of the
    group that moves. `undo` takes `change` and no patrons. A patron is the barcode of any of their cards, or their id.
    """

    action: Literal["move", "remove", "merge", "lead", "undo", "recalculate"]
    patrons: Annotated[tuple[_Barcode | PatronId, ...], Meta(max_length=MOST_PATRONS)] = ()
    target: _Barcode | PatronId | None = None
    lead: Annotated[bool, Meta(description="With `remove`: make them leads of their new groups.")] = False
    off: Annotated[bool, Meta(description="With `lead`: no longer a lead.")] = False
    change: Annotated[str, Meta(extra_json_schema={"pattern": _RECORD})] | None = None


class Approval(Struct, frozen=True, forbid_unknown_fields=True):
    """A supervisor approves this one change with their own login."""

    username: _Login
    password: _Password
    __repr__ = object.__repr__  # without the login


class Agreement(Struct, frozen=True, forbid_unknown_fields=True):
    """A request to apply a plan."""

    plan: Annotated[str, Meta(description="The id of the plan.", extra_json_schema={"pattern": f"^{_PLAN}$"})]
    approval: Approval | None = None


class FollowUpEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of a group's follow-up. With `deletes`, the fields after it don't matter."""

    group: Id
    seen: Annotated[
        Annotated[str, Meta(pattern=_RECORD)] | None,
        Meta(description="The group's `seen`, as last read. If there is a newer entry, nothing is saved."),
    ] = None
    corrects: Annotated[
        Annotated[str, Meta(pattern=_RECORD)] | None, Meta(description="The id of the entry to replace.")
    ] = None
    deletes: Annotated[bool, Meta(description="With `corrects`: replace it with nothing.")] = False
    what: Literal["contacted", "promised", "no-answer", "closed", "note"] = "note"
    detail: Annotated[
        Literal["left-message", "wrong-contact", "paid", "waived", "given-up", "other"] | None,
        Meta(description="The first two with no-answer, the others with closed."),
    ] = None
    how: Annotated[
        Literal["phone", "email", "letter", "in-person"] | None,
        Meta(description="Needed with contacted, promised and no-answer."),
    ] = None
    day: Annotated[datetime.date | None, Meta(description="When it happened; today unless given.")] = msgspec.field(
        default=None, name="date"
    )
    remind_on: Annotated[datetime.date | None, Meta(description="Today or later; not with closed.")] = None
    note: Annotated[str, Meta(max_length=LONGEST_NOTE)] = ""
    pay_by: Annotated[
        datetime.date | None,
        Meta(description="With promised: the day of the promise; that of its reminder unless given."),
    ] = None
    amount: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{2})?$")] | None,
        Meta(description="With promised: what was promised; everything unless given."),
    ] = None
    cancels: Annotated[
        Literal["promise", "reminder"] | None, Meta(description="With note: end the promise or the reminder.")
    ] = None
    __repr__ = object.__repr__  # without the note


class FollowUpBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Entries to save, one for each group: all of them or none."""

    entries: Annotated[tuple[FollowUpEntry, ...], Meta(min_length=1, max_length=MOST_ENTRIES)]
    report: Annotated[str, Meta(max_length=100, description="As in `GET`.")] = ""
    __repr__ = object.__repr__


class Empty(Struct, frozen=True, forbid_unknown_fields=True):
    """No fields."""


class EventBody(Struct, frozen=True):
    """An event of Evergreen. Other fields are ignored."""

    event: Annotated[int, Meta(ge=1, le=2**63 - 1, description="The event's id.")]
    hook: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="The name of Evergreen's hook, such as `au.updated`.",
            extra_json_schema={"pattern": "^[ -~]+$"},
        ),
    ]
    patron: Id


class GroupsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which groups of a report to list, in which order, and how many."""

    report: Annotated[
        str, Meta(description="The name of a report in `[[reports]]`. By default, the report of `[report]`.")
    ] = ""
    min_total: Annotated[
        str, Meta(pattern=r"^[0-9]{1,8}(\.[0-9]{1,2})?$", description="The lowest combined fines to list.")
    ] = "0"
    min_unreturned: Annotated[
        int,
        Meta(ge=0, description="The fewest overdue and lost items, all members together. For a report by items."),
    ] = 0
    library: Annotated[
        str, Meta(description="The short name of an org unit. Lists groups with a member there or below.")
    ] = ""
    over_limit: Annotated[
        bool | UnsetType,
        Meta(
            description="With `true`, only groups with a member over the limit; with `false`, only groups that "
            "certainly have none."
        ),
    ] = UNSET
    age_band: Annotated[
        str,
        Meta(
            pattern=r"^([0-9]{1,9} (to [0-9]{1,9}|or more))?$",
            description="For how many days the group has owed something, as in `age_band` of the answer.",
        ),
    ] = ""
    sort: Annotated[
        Literal["group_fines", "unreturned", "over_limit_count", "member_count", "group"],
        Meta(description="What to sort by. The highest amounts and counts come first."),
    ] = "group_fines"
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED, description="The maximum number of groups to return.")] = 100
    cursor: Annotated[
        str,
        Meta(
            pattern=f"^({record_ids.PATTERN}-[0-9]{{1,9}})?$",
            description="`next` of the previous answer. Don't change the other parameters.",
        ),
    ] = ""


_REFERENCE = 'a barcode, or {"id": NUMBER}'
_NUMBER = f"a whole number from 1 to {LARGEST_ID}"
_FORMS = {
    "action": "one of move, remove, merge, lead, undo and recalculate",
    "patrons": f"a list of at most {MOST_PATRONS:,}",
    "patrons[]": _REFERENCE,
    "patrons[].id": _NUMBER,
    "target": _REFERENCE,
    "target.id": _NUMBER,
    "lead": "true or false",
    "off": "true or false",
    "change": "the id of a change",
    "plan": "the id of a plan",
    "approval": "an object with username and password",
    "report": "the name of a report",
    "entries": f"a list of 1 to {MOST_ENTRIES} objects",
    "entries[].group": _NUMBER,
    "entries[].seen": "the id of an entry, or null",
    "entries[].corrects": "the id of an entry, or null",
    "entries[].deletes": "true or false",
    "entries[].what": "one of contacted, promised, no-answer, closed and note",
    "entries[].detail": "one of left-message, wrong-contact, paid, waived, given-up and other",
    "entries[].how": "one of phone, email, letter and in-person, or null",
    "entries[].date": "a date, such as 2026-11-29, or null",
    "entries[].remind_on": "a date, such as 2026-11-29, or null",
    "entries[].pay_by": "a date, such as 2026-11-29, or null",
    "entries[].amount": "an amount, such as 20.00, or null",
    "entries[].cancels": "promise or reminder, or null",
    "entries[].note": f"a text of at most {LONGEST_NOTE} characters",
    "min_total": "an amount, such as 25.00",
    "min_unreturned": "a whole number, such as 3",
    "over_limit": "true or false",
    "age_band": "the `age_band` of an answer, such as 30 to 59",
    "sort": "one of group_fines, unreturned, over_limit_count, member_count and group",
    "limit": f"a whole number from 1 to {MOST_LISTED:,}",
    "cursor": "`next` of an earlier answer",
}
"""What each field is, by its place in the body or query."""

# The beginnings of msgspec's messages aren't stable, but their ends have been since 0.1.
_PLACE = re.compile(
    r"(?:(?P<kind>unknown|required) field `(?P<field>.*?)`)?(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL
)
_OBJECTS: dict[str, type[Struct]] = {
    "patrons": PatronId,
    "target": PatronId,
    "approval": Approval,
    "entries": FollowUpEntry,
}
"""What the fields of bodies hold that are objects."""


def plan_request(request: Request) -> hooks.PlanRequest:
    """Parse the body of a request for a plan."""
    body = _body(request, PlanBody)
    if body.change is not None and not record_ids.is_record_id(body.change):
        raise _wrong(("change",))
    return hooks.PlanRequest(
        action=Action(body.action),
        patrons=tuple(_reference(patron, "patrons", str(place)) for place, patron in enumerate(body.patrons)),
        target=None if body.target is None else _reference(body.target, "target"),
        lead=body.lead,
        off=body.off,
        change=body.change,
    )


def agreement(request: Request) -> Agreement:
    """Parse the body of a request to apply a plan."""
    body = _body(request, Agreement)
    if not is_plan_id(body.plan):
        raise _wrong(("plan",))
    # JSON can contain a lone surrogate, but it can't be sent to Evergreen.
    if body.approval and re.search("[\ud800-\udfff]", body.approval.username + body.approval.password):
        raise _wrong(("approval",))
    return body


def follow_up_entries(request: Request) -> tuple[str, list[DraftEntry]]:
    """Parse a report's name and the entries to save."""
    body = _body(request, FollowUpBody)
    return body.report, msgspec.convert(body.entries, list[DraftEntry], from_attributes=True)


def groups_query(request: Request) -> GroupsQuery:
    """Parse the query of a request for a report's groups."""
    try:
        fields = _without_duplicates(list(request.args.items(multi=True)))
    except ValueError:
        raise ProblemError(400, "A parameter is given twice.", code="parameter-twice") from None
    return _converted(fields, GroupsQuery, strict=False)


def is_plan_id(text: str) -> bool:
    """Return whether a text may be a plan's id. PostgreSQL rejects NUL, for example."""
    return bool(re.fullmatch(_PLAN, text))


def require_empty_body(request: Request) -> None:
    """Refuse a body that is neither empty nor an empty object."""
    if request.content_length or request.is_json:
        _body(request, Empty)


def event(request: Request) -> hooks.Event:
    """Parse an event, in JSON or a form."""
    try:
        text = request.get_data(cache=False).decode()
        if request.mimetype == "application/json":
            fields = _parse(text)
        elif request.mimetype == "application/x-www-form-urlencoded":
            fields = _without_duplicates(parse_qsl(text, max_num_fields=MOST_FIELDS))
        else:
            raise ProblemError(
                415,
                "An event must be application/json or application/x-www-form-urlencoded.",
                code="event-of-another-type",
            )
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body can't be read.", code="event-unreadable") from None
    if not isinstance(fields, dict) or len(fields) > MOST_FIELDS:
        raise ProblemError(
            400, "An event must be an object with the fields event, hook and patron.", code="event-of-another-shape"
        )
    body: EventBody | None = None
    try:
        # Evergreen's template writes numbers as text, in a form or in quotation marks.
        body = msgspec.convert(fields, EventBody, strict=False)
    except msgspec.ValidationError as error:
        place = ".".join(_place(error)[0])
        if place != "hook":
            raise ProblemError(
                400, "{name} must be a whole number above zero.", code="event-number-wrong", values={"name": place}
            ) from None
    if body is None or not body.hook.isascii() or not body.hook.isprintable():
        raise ProblemError(400, "hook must be the name of an Evergreen hook.", code="event-without-hook")
    return hooks.Event(id=body.event, hook=body.hook, patron_id=body.patron)


Body = TypeVar("Body", bound=Struct)


_fields_of = cache(msgspec.structs.fields)  # it evaluates annotations, which takes longer than a form


def read_form(fields: MultiDict[str, str], shape: type[Body]) -> Body:
    """Return the fields of a form, or of a page's address, as a ``shape``. Empty fields count as missing.

    A ProblemError refuses what the pages never send. Fields that ``shape`` lacks belong to others.
    """
    values: dict[str, str | list[str]] = {}
    for field in _fields_of(shape):
        if texts := [text for text in fields.getlist(field.encode_name) if text]:
            values[field.encode_name] = texts if get_origin(field.type) is tuple else texts[0]
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError:
        raise incomplete_form() from None


def incomplete_form() -> ProblemError:
    """Return the error for a form that no page sends."""
    return ProblemError(400, "The form is incomplete.", code="form-incomplete")


def _body(request: Request, shape: type[Body]) -> Body:
    if request.mimetype != "application/json":
        raise ProblemError(415, "The body must be application/json.", code="body-of-another-type")
    try:
        fields = _parse(request.get_data().decode())
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body can't be read.", code="body-unreadable") from None
    if not isinstance(fields, dict):
        names = ", ".join(sorted(shape.__struct_encode_fields__)) or "nothing"
        raise ProblemError(400, "The body must be an object with {names}.", code="body-wrong", values={"names": names})
    return _converted(fields, shape)


def _converted(fields: dict[str, Any], shape: type[Body], *, strict: bool = True) -> Body:
    """Return the fields as a ``shape``. Unless ``strict``, numbers and flags are texts, as in a query.

    The error names the wrong key in its document only: a mistyped key may be anything.
    """
    try:
        return msgspec.convert(fields, shape, strict=strict)
    except msgspec.ValidationError as error:
        place, is_unknown = _place(error)
    if not is_unknown:
        raise _wrong(place)
    known = (_OBJECTS.get(place[0], shape) if len(place) > 1 else shape).__struct_encode_fields__
    nearest = get_close_matches(place[-1], known, 1) or [f"one of {', '.join(known)}" if known else "none"]
    raise ProblemError(
        400,
        "Unknown key. Did you mean {nearest}?",
        code="key-unknown",
        values={"nearest": nearest[0]},
        more=_pointing(place),
    )


def _parse(text: str) -> Any:
    """Parse JSON without duplicate keys. msgspec's own parser accepts them. JSON doesn't distinguish 1.0 from 1."""
    return json.loads(text, object_pairs_hook=_without_duplicates, parse_float=_whole_or_float)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _whole_or_float(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _place(error: msgspec.ValidationError) -> tuple[tuple[str, ...], bool]:
    """Return the keys and indices that lead to the wrong field, and whether its key is unknown."""
    found = _PLACE.search(str(error))
    if found is None:
        return (), False
    place = re.findall(r"[^.\[\]]+", found["path"] or "")
    return (*place, *([] if found["field"] is None else [found["field"]])), found["kind"] == "unknown"


def _pointing(place: tuple[str, ...]) -> dict[str, Any]:
    """Return the part of a problem's document that names the wrong key, as in RFC 9457's example."""
    parts = (part.replace("~", "~0").replace("/", "~1") for part in place)
    return {"errors": [{"pointer": "#" + "".join(f"/{part}" for part in parts)}]}


def _reference(patron: str | PatronId, *place: str) -> PatronReference:
    if isinstance(patron, PatronId):
        return patron.id
    if not patron.isprintable() or patron.strip() != patron:
        raise _wrong(place)
    return patron


def _wrong(place: tuple[str, ...]) -> ProblemError:
    name = re.sub(r"\.\d+", "[]", ".".join(place))
    field = place[0] if place else "the body"
    form = _FORMS.get(name) or _FORMS.get(field, "an object with other keys")
    return ProblemError(
        400, "{field} must be {form}.", code="field-wrong", values={"field": field, "form": form}, more=_pointing(place)
    )
