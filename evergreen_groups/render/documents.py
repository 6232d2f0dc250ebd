"""The documents that the hooks' ``as_json`` returns: their keys, and the schemas that are made from them.

Within a version, keys may be added but never changed or removed, so readers must ignore unknown keys.

    python -m evergreen_groups.render.documents KIND
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import schema_components

from evergreen_groups.render import column
from evergreen_groups.render.json_documents import laid_out

if TYPE_CHECKING:
    from collections.abc import Iterable

Id = Annotated[int, Meta(ge=1)]
Count = column.Count
Amount = Annotated[
    column.Amount, Meta(description="An amount in the library's currency. A negative amount is a credit.")
]
Time = column.Time
CHANGE_ID_PATTERN = "^[1-9][0-9]{0,17}-[0-9a-z]{6}$"
ChangeId = Annotated[
    str,
    Meta(
        description="A number and a random suffix, such as `2-k7q4tz`. No other change ever gets the same id.",
        extra_json_schema={"pattern": CHANGE_ID_PATTERN},
    ),
]
_True = Annotated[bool, Meta(extra_json_schema={"const": True})]

_Name = Annotated[str, Meta(description="Family name first.")]
_Barcode = Annotated[str | None, Meta(description="The barcode of the primary card.")]
_HomeLibrary = Annotated[str, Meta(description="The short name of the home library.")]
_OverLimit = Annotated[
    bool | None,
    Meta(description="Whether the patron's own fines exceed the limit; null: the account may not see the limit."),
]
_Difference = Annotated[
    Literal["not-yet-blocked", "now-within-limit"] | None,
    Meta(description="How Evergreen's blocks contradict the rule; null: they don't."),
]
_Recalculation = Annotated[
    Literal[
        "may-help",
        "not-known",
        "below-threshold",
        "reaches-threshold",
        "threshold-hidden",
        "no-threshold",
        "blocks-nothing",
        "set-by-staff",
    ]
    | None,
    Meta(
        description="Whether recalculating could correct the difference: may-help, or not-known (the account can't see "
        "Evergreen's threshold or the bills that it counts). The other codes say why it couldn't; threshold-hidden: "
        "the person is blocked, probably because of a threshold that the account can't see."
    ),
]
_Threshold = Annotated[
    Amount | None,
    Meta(
        description="The amount at which Evergreen blocks. Null: there is none, the account can't see it, or nothing "
        "differs."
    ),
]
_Limit = Annotated[
    Amount | None,
    Meta(
        description="The limit for the patron's own fines. Null: there is none, or, if over_limit is null too, the "
        "account may not see it."
    ),
]
_Field = Annotated[
    Literal["group", "lead", "penalties"],
    Meta(
        description="What changes: the group's number, the mark of a group lead (0 or 1), or the penalties, which "
        "Evergreen recalculates."
    ),
]


class Document(Struct, kw_only=True):
    """A document of a ``kind``, in a ``version`` of that kind's form."""

    version: int
    kind: str


class StandingPenalty(Struct, kw_only=True):
    name: str
    label: Annotated[str | UnsetType, Meta(description="What the staff client calls it; empty if it has no label.")] = (
        UNSET
    )
    org_unit: str
    since: Time | None
    by_staff: bool


_BlocksForFines = Annotated[
    list[StandingPenalty] | None,
    Meta(description="The penalties in Evergreen that block for fines; null: not read."),
]
_OtherBlocks = Annotated[
    list[StandingPenalty] | None,
    Meta(description="The penalties in Evergreen that block for other reasons; null: not read."),
]


class Block(Document, kw_only=True):
    """Whether the patron's own fines exceed the limit. Evergreen's penalties are separate, because they can differ."""

    version: Literal[2]
    kind: Literal["block"]
    patron: Id
    over_limit: Annotated[bool, Meta(description="Whether the patron's own fines exceed the limit.")]
    blocked_in_evergreen: Annotated[
        bool | None,
        Meta(
            description="Whether a penalty for fines blocks the patron in Evergreen; null: the account can't see "
            "penalties."
        ),
    ]
    other_blocks: Annotated[
        list[StandingPenalty] | None,
        Meta(
            description="The penalties in Evergreen that block for other reasons; null: the account can't see "
            "penalties."
        ),
    ]
    own_fines: Annotated[Amount, Meta(description="The fines that count toward the limit.")]
    limit: Annotated[Amount | None, Meta(description="Null: no limit.")]
    comparison: Annotated[
        Literal["exceeds", "reaches"],
        Meta(description="`exceeds`: own fines of exactly the limit are within it. `reaches`: they are over it."),
    ]
    explanation: Annotated[str, Meta(description="A sentence for people.")]


class EventOutcome(Document, kw_only=True):
    """The outcome of an event from Evergreen."""

    version: Literal[2]
    kind: Literal["event-outcome"]
    event: Id
    patron: Id
    over_limit: Annotated[bool | None, Meta(description="Null: the patron was deleted.")]
    recalculated: Annotated[bool, Meta(description="Whether Evergreen recalculated the patron's penalties.")]
    replayed: Annotated[
        bool,
        Meta(
            description="Whether the event was handled before. The other keys then have the earlier outcome.",
        ),
    ]


class HiddenMembers(Struct):
    """Members whom the caller may not see."""

    count: Count
    fines: Annotated[Amount | None, Meta(description="What they owe together, as part of group_fines; null: unknown.")]


class _OfGroup(Document, kw_only=True):
    group: int
    for_information_only: _True
    note: str


class _Totals(_OfGroup, kw_only=True):
    group_fines: Annotated[
        Amount | None,
        Meta(
            description="What all members owe together, including hidden ones; null: what hidden members owe is "
            "unknown."
        ),
    ]
    lead: Annotated[int | None, Meta(description="The id of the group lead; null: no lead is visible.")]
    hidden_members: HiddenMembers
    over_limit_count: Annotated[
        Count | None,
        Meta(description="How many members are over the limit; null: unknown, because members or limits are hidden."),
    ]
    over_limit_count_at_least: Annotated[Count, Meta(description="The lower bound of over_limit_count.")]
    blocked_in_evergreen_count: Annotated[
        Count | None,
        Meta(description="How many members Evergreen blocks for fines; null: unknown, because members are hidden."),
    ]
    blocked_in_evergreen_count_at_least: Annotated[
        Count, Meta(description="The lower bound of blocked_in_evergreen_count.")
    ]
    blocked_count: Annotated[
        Count | None,
        Meta(
            description="How many members Evergreen blocks, for fines or anything else; null: unknown, because members "
            "are hidden."
        ),
    ]
    blocked_count_at_least: Annotated[Count, Meta(description="The lower bound of blocked_count.")]


class LateItems(Struct):
    overdue: Count
    lost: Count


_LateItems = Annotated[
    LateItems | None,
    Meta(
        description="Items overdue and lost, counted if no member of the group owes anything; null: not exactly known."
    ),
]
_LateItemsAtLeast = Annotated[LateItems | None, Meta(description="The lower bounds of late_items; null: not counted.")]


class Member(Struct, kw_only=True):
    id: Id
    name: _Name
    barcode: _Barcode
    library: _HomeLibrary
    own_fines: Amount
    limit: _Limit
    over_limit: _OverLimit
    blocked_in_evergreen: _BlocksForFines
    other_blocks: _OtherBlocks
    difference: _Difference
    recalculation: _Recalculation
    evergreen_threshold: _Threshold
    late_items: _LateItems
    late_items_at_least: _LateItemsAtLeast
    group_lead: bool
    juvenile: Annotated[bool | None, Meta(description="As marked in the record; null: not read.")]


class GroupSummary(_Totals, kw_only=True):
    """What the group owes is for information only."""

    version: Literal[2]
    kind: Literal["group-summary"]
    late_items: _LateItems
    late_items_at_least: _LateItemsAtLeast
    members: list[Member]


class PatronSummary(_Totals, kw_only=True):
    """A patron and their group. What the group owes is for information only."""

    version: Literal[2]
    kind: Literal["patron-summary"]
    patron: Id
    barcode: _Barcode
    show: Annotated[bool, Meta(description="Whether the panel shows the group: false if it has only one member.")]
    own_fines: Amount
    limit: _Limit
    over_limit: _OverLimit
    blocked_in_evergreen: _BlocksForFines
    other_blocks: _OtherBlocks
    difference: _Difference
    recalculation: _Recalculation
    evergreen_threshold: _Threshold
    late_items: _LateItems
    late_items_at_least: _LateItemsAtLeast
    members: list[Member]


class ItemCounts(Struct):
    """As Evergreen counts them."""

    out: Count
    overdue: Count
    lost: Count


class DetailedMember(Struct, kw_only=True):
    id: Id
    name: _Name
    barcode: _Barcode
    library: _HomeLibrary
    profile: str
    own_fines: Amount
    limit: _Limit
    over_limit: _OverLimit
    blocked_in_evergreen: Annotated[
        list[StandingPenalty], Meta(description="The penalties for fines that block the member in Evergreen.")
    ]
    other_blocks: Annotated[list[StandingPenalty], Meta(description="The penalties that block for other reasons.")]
    difference: _Difference
    recalculation: _Recalculation
    evergreen_threshold: _Threshold
    items: ItemCounts | None
    group_lead: bool
    juvenile: bool
    active: bool
    barred: bool
    expired: bool
    expires: Time | None
    deleted: bool


class GroupDetails(_Totals, kw_only=True):
    """What the group owes is for information only."""

    version: Literal[2]
    kind: Literal["group-details"]
    member_count: Id
    items: Annotated[ItemCounts | None, Meta(description="What all members have out; null: unknown.")]
    items_at_least: Annotated[ItemCounts, Meta(description="The lower bounds of items.")]
    members: list[DetailedMember]


class Billing(Struct):
    billing_type: Annotated[
        str | None, Meta(description="As the library names it. Null for overdue fines and adjusted billings.")
    ]
    amount: Amount


class OpenBill(Struct, kw_only=True, rename={"for_": "for"}):
    id: Annotated[Id, Meta(description="The id of the transaction.")]
    transaction: Annotated[str, Meta(description="`circulation`, `grocery` or `reservation`.")]
    billing_type: Annotated[
        str | None,
        Meta(
            description="The billing type, as the library names it. Null for a claim, and for a transaction without a "
            "billing."
        ),
    ]
    for_: Annotated[str, Meta(description="What is owed for, in words for people.")]
    since: Time
    library: Annotated[str | None, Meta(description="The short name of the library that billed it.")]
    billed: Amount
    paid: Amount
    owed: Amount
    billings: Annotated[
        list[Billing],
        Meta(description="The billed amounts by type, if there are several types. They add up to billed."),
    ]
    last_payment: Time | None
    title: Annotated[str | None, Meta(description="The item's title, if the library's settings allow titles.")]


class ItemOut(Struct, kw_only=True):
    id: Annotated[Id, Meta(description="The id of the circulation.")]
    state: Literal["out", "overdue", "long_overdue", "lost", "claims_returned"] | None
    due: Time | None
    days_overdue: Count
    library: Annotated[str | None, Meta(description="The short name of the library that lent it.")]
    title: Annotated[str | None, Meta(description="If the library's settings allow titles.")]


class MemberBills(Struct, kw_only=True):
    id: Id
    own_fines: Amount
    bills: Annotated[
        list[OpenBill] | None,
        Meta(
            description="The open bills, oldest first. Null if the caller can't see them, or if they don't add up to "
            "the own fines."
        ),
    ]
    items: Annotated[list[ItemOut], Meta(description="The visible items that are out.")]
    all_items: Annotated[bool, Meta(description="False if the member may have items out that the caller can't see.")]


class GroupBills(_OfGroup, kw_only=True):
    """The visible members' open bills and items out. Unknown values are null, never zero."""

    version: Literal[2]
    kind: Literal["group-bills"]
    at: Annotated[Time, Meta(description="When the data was read.")]
    complete: Annotated[bool, Meta(description="Whether these are all members of the group.")]
    members: list[MemberBills]


class FamilyItem(ItemOut, kw_only=True):
    patron: Annotated[Id, Meta(description="Who has it out.")]
    renewals: Annotated[Count | None, Meta(description="How often it may still be renewed; null: unknown.")]


class ReadyHold(Struct, kw_only=True):
    id: Annotated[Id, Meta(description="The id of the hold.")]
    patron: Annotated[Id, Meta(description="Who may pick it up.")]
    library: Annotated[str | None, Meta(description="The short name of the pickup library.")]
    until: Annotated[Time | None, Meta(description="Until when it is held; null: no deadline.")]
    title: Annotated[str | None, Meta(description="If the library's settings allow titles.")]


class FamilyMember(Struct, kw_only=True):
    id: Id
    name: _Name
    own_fines: Amount


class FamilyItems(_OfGroup, kw_only=True):
    """What a patron and the children of the group have out, and which holds they can pick up."""

    version: Literal[1]
    kind: Literal["family-items"]
    at: Annotated[Time, Meta(description="When the data was read.")]
    patron: Annotated[Id, Meta(description="The patron who asks.")]
    members: Annotated[list[FamilyMember], Meta(description="Who is included.")]
    owed: Annotated[Amount, Meta(description="What they have to pay. The credit of one doesn't pay for another.")]
    items: Annotated[list[FamilyItem], Meta(description="The visible items, overdue ones first, then by due date.")]
    all_items: Annotated[bool, Meta(description="False if there may be items that the caller can't see.")]
    holds: Annotated[list[ReadyHold], Meta(description="The visible holds that are ready for pickup.")]
    all_holds: Annotated[bool, Meta(description="False if there may be ready holds that the caller can't see.")]


class PlannedPatron(Struct, kw_only=True):
    id: Id
    name: _Name
    barcode: _Barcode
    library: _HomeLibrary
    own_fines: Amount
    group_lead: bool


class PlannedStep(Struct, kw_only=True):
    patron: PlannedPatron
    field: _Field
    before: int | None
    after: Annotated[int | None, Meta(description="Null: Evergreen decides, such as the number of a new group.")]


class PlannedSide(Struct, kw_only=True):
    member_count: Annotated[Count, Meta(description="Includes hidden members.")]
    group_fines: Annotated[
        Amount | None,
        Meta(description="What all members owe together, including hidden ones; null: unknown."),
    ]
    members: list[PlannedPatron]


class PlannedGroup(Struct, kw_only=True):
    group: int | None
    hidden_member_count: Count
    before: PlannedSide
    after: PlannedSide


class PlanWarning(Struct):
    code: str
    text: str
    values: dict[str, Any]


class Plan(Document, kw_only=True):
    """What will happen if the plan is applied. What groups owe is for information only."""

    version: Literal[1]
    kind: Literal["plan"]
    id: Annotated[
        str | None, Meta(description="The id to apply the plan by. Null for commands, which don't store plans.")
    ]
    action: Literal["move", "remove", "merge", "lead", "batch", "undo", "recalculate"]
    expires: Time | None
    steps: list[PlannedStep]
    groups: Annotated[
        list[PlannedGroup],
        Meta(description="Each group that a patron leaves or joins, and each new one (group null)."),
    ]
    warnings: Annotated[list[PlanWarning], Meta(description="What to check before applying the plan.")]
    unchanged: Annotated[list[str], Meta(description="For whom nothing changes, and why.")]
    for_information_only: _True
    note: str


class ChangeStep(Struct, kw_only=True):
    patron: Id
    field: _Field
    before: int
    after: int | None
    state: Annotated[
        Literal["planned", "sending", "done", "unchanged", "not done", "failed"],
        Meta(
            description="While the change is in progress, `planned` steps are still to come, and the `sending` step is "
            "being sent. Afterward, a `planned` step was never started, and the outcome of a `sending` step isn't "
            "known yet: it is checked later, so don't repeat it. `unchanged`: nothing was sent, because Evergreen "
            "already had the value."
        ),
    ]
    value: Annotated[int | None, Meta(description="The field's value after the step.")]
    reason: str
    code: Annotated[
        str | None,
        Meta(description="The reason's code. Null if there is no reason, or if an earlier version wrote it."),
    ]
    values: Annotated[
        dict[str, Any],
        Meta(description="The values in the reason, by name: group numbers, times, names of fields and events."),
    ]
    permission: Annotated[str | None, Meta(description="The missing permission, if that is the reason.")]
    org_unit: Annotated[int | None, Meta(description="The org unit where the permission is missing (aou.id).")]


class CommandLine(Struct):
    user: Annotated[str, Meta(description="The user that the command ran as.")]
    login_user: Annotated[str | None, Meta(description="The user who had logged in, if different.")]
    terminal: Annotated[str | None, Meta(description="The terminal, if there was one.")]
    host: Annotated[str, Meta(description="The name of the machine.")]


class Change(Document, kw_only=True):
    """A change, finished or in progress, with the steps for patrons whom the caller may see."""

    version: Literal[1]
    kind: Literal["change"]
    id: ChangeId
    action: str
    at: Time
    staff: Annotated[int | None, Meta(description="The staff user who made it (au.id).")]
    workstation: Annotated[int | None, Meta(description="The workstation (aws.id).")]
    approved_by: Annotated[int | None, Meta(description="The supervisor who approved it (au.id).")]
    undoes: Annotated[str | None, Meta(description="The id of the change that this one undoes.")]
    own: bool
    under_way: Annotated[bool, Meta(description="Whether the change is in progress.")]
    done: Annotated[bool, Meta(description="Whether every step is `done` or `unchanged`.")]
    hidden_step_count: Annotated[Count, Meta(description="The number of steps for patrons whom the caller can't see.")]
    steps: list[ChangeStep]
    account: Annotated[
        str | UnsetType, Meta(description="For changes made by a command: the account that made it.")
    ] = UNSET
    command_line: Annotated[
        CommandLine | UnsetType | None,
        Meta(
            description="For changes made by a command: the user and the terminal. Null for a change made at the desk."
        ),
    ] = UNSET
    gateway: Annotated[str | UnsetType, Meta(description="For changes made by a command: Evergreen's address.")] = UNSET
    missing_step_count: Annotated[
        Count | UnsetType,
        Meta(description="For changes made by a command: how many of its steps are no longer stored."),
    ] = UNSET


class ChangeList(Document, kw_only=True):  # generators of clients confuse a class Changes with its own list of changes
    """Several changes."""

    version: Literal[1]
    kind: Literal["changes"]
    changes: list[Change]


KINDS: dict[str, type[Document]] = {
    "block": Block,
    "change": Change,
    "changes": ChangeList,
    "event-outcome": EventOutcome,
    "family-items": FamilyItems,
    "group-bills": GroupBills,
    "group-details": GroupDetails,
    "group-summary": GroupSummary,
    "patron-summary": PatronSummary,
    "plan": Plan,
}


def schemas(types: Iterable[type[Struct]], ref_template: str) -> dict[str, Any]:
    """Return the JSON schemas of types and of all that they refer to, by name."""
    _, found = schema_components(types, ref_template=ref_template)
    # Generated clients have a class for each enum, and none for a constant.
    made: dict[str, Any] = json.loads(json.dumps(found), object_hook=_with_constants)
    return made


def _with_constants(schema: dict[str, Any]) -> dict[str, Any]:
    match schema.pop("enum", None):
        case [only]:
            schema["const"] = only
        case list() as several:
            schema["enum"] = several
    return schema


def json_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a kind of document. An object may have more keys than it names."""
    document = KINDS[kind]
    definitions = schemas([document], "#/$defs/{name}")
    own = definitions.pop(document.__name__)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **own, "$defs": definitions}


if __name__ == "__main__":
    sys.stdout.write(laid_out(json_schema(sys.argv[1])) + "\n")
