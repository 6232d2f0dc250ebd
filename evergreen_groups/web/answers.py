"""The service's answers in JSON besides the documents of the hooks: their keys, as the API description shows them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from evergreen_groups.render import documents
from evergreen_groups.web.requests import LARGEST_ID

Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
_Date = Annotated[str, Meta(extra_json_schema={"format": "date"})]
_Gateway = Literal["answers", "does not answer", "not known yet"]
_Cause = Annotated[
    str | UnsetType,
    Meta(
        description="Why the gateway doesn't answer: the code of the error, such as certificate-authority-unknown, "
        "host-unknown, unreachable, connecting-timed-out or web-server-refused. Empty while the service refuses "
        "requests because the gateway failed before. Names and addresses are only in the service's log."
    ),
]


class Health(Struct, kw_only=True):
    status: Literal["up"]
    gateway: _Gateway
    cause: _Cause = UNSET
    breaker: Literal["closed", "open", "probing"]


class Readiness(Struct, kw_only=True):
    gateway: _Gateway
    cause: _Cause = UNSET
    database: Literal["answers", "does not answer"]


class DeskSettings(Struct):
    page: Annotated[bool, Meta(description="Whether the group's page is turned on.")]
    tab: Annotated[bool, Meta(description="Whether the page is shown in the staff client's tab.")]
    panel_link: Annotated[
        Literal["same", "new"],
        Meta(description="Whether the panel's link opens the page in the same browser tab or in a new one."),
    ]


class ProblemPlace(Struct):
    pointer: str


class _Problem(Struct, kw_only=True):
    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(pattern="^[a-z]+(-[a-z]+)*$", description="The error's code; docs/errors.md lists them.")]


class Problem(_Problem, kw_only=True):
    errors: Annotated[
        list[ProblemPlace] | UnsetType,
        Meta(description="Where the errors are, as JSON pointers into the body or to the parameter."),
    ] = UNSET


class Group(Struct, kw_only=True):
    group: Id
    group_fines: Annotated[
        documents.Amount | None, Meta(description="For information only. Null if hidden members' fines are unknown.")
    ]
    unreturned_at_least: Annotated[
        int | UnsetType, Meta(description="The group's overdue and lost items. Missing: the report isn't by items.")
    ] = UNSET
    member_count: int
    members: Annotated[list[Id], Meta(description="The ids of the members whom the report's account sees.")]
    over_limit_count: Annotated[
        int | None,
        Meta(
            description="How many members' own fines exceed the limit. Null if hidden members' fines may exceed it too."
        ),
    ]
    over_limit_count_at_least: int
    library: Annotated[str, Meta(description="The lead's home library.")]
    libraries: list[str]
    age_band: Annotated[str | None, Meta(description="For how many days the group has owed something.")]


class GroupList(documents.Document, kw_only=True):
    """Groups of a report."""

    version: Literal[1]
    kind: Literal["groups"]
    report: str
    as_of: Annotated[documents.Time, Meta(description="When the report started to read data.")]
    group_count: Annotated[int, Meta(description="How many groups match in all, not only in this answer.")]
    groups: list[Group]
    next: Annotated[str | None, Meta(description="The cursor for the next groups; null at the end.")]


class Entry(Struct, kw_only=True):
    """The latest version of a follow-up entry."""

    id: Annotated[str, Meta(description="Stays the same when the entry is corrected.")]
    revision: Annotated[str, Meta(description="A new id for each correction.")]
    group: Annotated[int, Meta(description="The group's number at that time.")]
    contact: Annotated[int, Meta(description="The person to contact at that time (`au.id`).")]
    saved_at: documents.Time
    staff: Annotated[
        int | None,
        Meta(description="The staff user who saved it (`au.id`). Null after that person's data was deleted."),
    ]
    workstation: Annotated[int | None, Meta(description="The workstation (`aws.id`).")]
    what: Literal["contacted", "promised", "no-answer", "closed", "note"]
    detail: Annotated[
        Literal["left-message", "wrong-contact", "paid", "waived", "given-up", "other"] | None,
        Meta(description="More about `no-answer`, or why it was `closed`."),
    ]
    how: Literal["phone", "email", "letter", "in-person"] | None
    date: _Date
    remind_on: _Date | None
    pay_by: Annotated[_Date | None, Meta(description="The day of a promise.")]
    amount: Annotated[documents.Amount | None, Meta(description="What was promised. Null: everything.")]
    outcome: Annotated[
        Literal["kept", "broken", "not-owed", "check"] | None,
        Meta(
            description="What the last report after a promise's day found. `not-owed`: the bills went without the "
            "payment; `check`: payments or bills are hidden."
        ),
    ]
    paid: Annotated[documents.Amount | None, Meta(description="Paid since; with `check`, at least.")]
    forgiven: Annotated[documents.Amount | None, Meta(description="Forgiven or worked off since; likewise.")]
    cancels: Annotated[Literal["promise", "reminder"] | None, Meta(description="What this entry ends.")]
    note: str
    deleted: bool
    earlier: Annotated[list[Entry], Meta(description="The versions before corrections, oldest first.")]


class FollowUpCounts(Struct, kw_only=True, rename={"to_do": "to-do"}):
    to_do: documents.Count
    waiting: documents.Count
    closed: documents.Count


class GroupFollowUp(Struct, kw_only=True):
    group: Id
    status: Literal["to-do", "waiting", "closed"]
    contact: Id | None
    library: Annotated[str, Meta(description="The short name of the contact person's home library.")]
    group_fines: Annotated[
        documents.Amount | None,
        Meta(
            description="As of the report, for information only. Null if hidden members' fines are unknown.",
        ),
    ]
    unreturned_at_least: Annotated[
        int | UnsetType, Meta(description="The group's overdue and lost items. Missing: the report isn't by items.")
    ] = UNSET
    promise: Annotated[
        _Date | None,
        Meta(description="The day of the promise that stands. The group is *to do* from the next day."),
    ]
    reminder: Annotated[
        _Date | None,
        Meta(description="The day of the reminder that stands. The group is *to do* from then on."),
    ]
    due: Annotated[list[Literal["promise", "reminder"]], Meta(description="What makes the group *to do* today.")]
    broken: Annotated[bool, Meta(description="Whether a due promise is broken. These groups are first.")]
    seen: Annotated[str | None, Meta(description="The id of the latest revision. Send it with an entry to save.")]
    entries: list[Entry]
    may_write: Annotated[bool, Meta(description="Whether the caller may save entries.")]


class FollowUps(documents.Document, kw_only=True):
    """The follow-ups of a report's groups."""

    version: Literal[1]
    kind: Literal["follow-ups"]
    report: str
    as_of: documents.Time | None
    again_after: Annotated[int, Meta(description="After how many days without an entry a group becomes *to do* again.")]
    counts: FollowUpCounts
    groups: list[GroupFollowUp]


class FollowUpEntries(documents.Document, kw_only=True):
    """Entries that were saved."""

    version: Literal[1]
    kind: Literal["follow-up-entries"]
    entries: list[Entry]


class NewerEntry(_Problem, kw_only=True):
    """A problem, with the entries saved since."""

    newer: list[Entry]
