"""The report's columns, each declared once: CSV, JSON, spreadsheet and page are made from these declarations.

A new column needs an entry in one of the tuples. CSV names it like the JSON key, after ``member_`` for members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from evergreen_groups.language import describe_total, gettext
from evergreen_groups.message import Message
from evergreen_groups.render.json_documents import fields, limit_document, penalty_document
from evergreen_groups.render.report import wording
from evergreen_groups.render.wording import DIFFERENCES, describe_limit, describe_penalty, penalty_cell
from evergreen_groups.report import ChangeKind, GroupChange
from evergreen_groups.values import Total, plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.render.sheets import ColumnKind, Mark, Value
    from evergreen_groups.report import Contact, KindSum, MemberDetails, Report, SummedDetails

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column. ``value`` is what programs get: text, a number, an amount, a datetime, a truth, or a total.

    ``heading`` is for people; a column without one is for programs only, and one without a ``name`` for people only.
    ``kind`` determines how people read the value, unless ``shown`` returns what a cell of the spreadsheet holds, and
    ``mark`` highlights the cell. ``json`` returns the value of the JSON key where it isn't ``value``. ``page`` is the
    column's name in the page, empty for columns that the page doesn't have.
    """

    name: str
    value: Callable[[Row], Any]
    heading: Message | None = None
    kind: ColumnKind = "text"
    shown: Callable[[Row], Value] | None = None
    mark: Callable[[Row], Mark] | None = None
    json: Callable[[Row], Any] | None = None
    page: str = ""
    total: bool = False
    """Whether the value is a :class:`Total`. Programs get its lower bound as well, as ``NAME_at_least``."""
    table: bool = False
    """Whether the table on a wide terminal has the column after those that it always has."""
    for_csv: bool = True
    for_json: bool = True
    rank: int = 0
    """People read columns with a lower rank first. Programs get all in the order of the declaration."""
    new: bool = False
    """CSV has new columns after all others, so that those keep their positions."""

    @property
    def is_number(self) -> bool:
        return self.kind not in ("text", "flag", "day")


def _own(name: str, heading: Message | None = None, kind: ColumnKind = "text", **others: Any) -> Column[Any]:
    """Return the column of a row's attribute with the same name."""
    return Column(name, attrgetter(name), heading, kind, **others)


def known(total: Total[int] | Total[Decimal] | Decimal | None) -> Value:
    """Return a total for a cell: a number only if exact, so that sums of the column are right."""
    if isinstance(total, Total):
        return total.at_least if total.exact else describe_total(total)
    return describe_total(None) if total is None else total


def _before(change: GroupChange) -> Value:
    """Return what the group owed in the last run, None for a new group."""
    return None if change.before is None else known(change.known_before)


def _difference(change: GroupChange) -> Value:
    """Return how much more the group owes, None for a new group."""
    return None if change.before is None else known(change.difference)


_CHANGE_MARKS: dict[ChangeKind, Mark] = {ChangeKind.NEW: "notable", ChangeKind.WORSE: "notable"}


def _kinds_json(of: SummedDetails | MemberDetails) -> list[dict[str, Any]] | None:
    return None if of.kinds is None else [*map(_kind_document, of.kinds)]


def _kind_document(one: KindSum) -> dict[str, Any]:
    return {
        "kind": one.kind.text,
        "transaction": one.kind.transaction,
        "billing_type": one.kind.billing_type or None,
        "balance": plain_amount(one.balance),
        "bill_count": one.bill_count,
    }


def _kinds_csv(of: SummedDetails | MemberDetails) -> str:
    return "; ".join([f"{one.kind.text} {plain_amount(one.balance)}" for one in of.kinds or ()])


def _kinds_shown(of: SummedDetails | MemberDetails) -> str | None:
    return gettext(wording.NOT_KNOWN) if of.kinds is None else wording.describe_kinds(of.kinds) or None


def _change_document(change: GroupChange) -> dict[str, Any]:
    return {
        **fields(change, "kind"),
        "before": plain_amount_or_none(change.known_before),
        **fields(change, "difference", "formerly", "joined_count", "left_count", "certain"),
    }


def _lead_document(group: Group) -> dict[str, Any]:
    return fields(group.lead, "id", "name", "barcode", "group_lead")


GROUP: tuple[Column[Group], ...] = (
    Column("group", lambda one: one.number, Message("Group"), "id", page="group"),
    Column("lead", _lead_document, for_csv=False),
    Column("lead_id", lambda one: one.lead.id, for_json=False),
    Column("lead_name", lambda one: one.lead.name, Message("Name"), page="name", for_json=False),
    Column("lead_barcode", lambda one: one.lead.barcode, Message("Barcode"), for_json=False),
    Column("lead_group_lead", lambda one: one.lead.group_lead, for_json=False),
    _own("library", Message("Library"), page="library"),
    _own("member_count", Message("Members"), "number", page="members"),
    _own("owing_count", Message("Members who owe"), "number", page="owing", total=True),
    _own(
        "group_fines",
        Message("Group Fines"),
        "money",
        mark=lambda one: "notable" if one.hidden_fines is None else "",
        page="total",
    ),
    _own("highest_own_fines", Message("Highest own fines"), "money", page="highest", total=True),
    _own("over_limit_count", Message("Over the limit"), "number", page="over", total=True),
    _own("no_member_over_limit"),
    _own("complete"),
    _own(
        "hidden_member_count", Message("Hidden members"), "number", mark=lambda one: "" if one.complete else "notable"
    ),
    _own("hidden_fines", Message("Fines of hidden members"), "money", shown=lambda one: known(one.hidden_fines)),
)
CHANGE: tuple[Column[GroupChange], ...] = (
    Column(
        "change",
        lambda change: change.kind.value,
        Message("Change"),
        shown=lambda change: gettext(wording.KINDS[change.kind]),
        mark=lambda change: _CHANGE_MARKS.get(change.kind, ""),
        json=_change_document,
        page="change",
    ),
    Column(
        "group_fines_before",
        lambda change: change.known_before,
        Message("Previous Group Fines"),
        "money",
        _before,
        for_json=False,
        rank=1,
    ),
    _own("difference", wording.CHANGE_IN_FINES, "change", for_json=False, shown=_difference),
    Column("formerly", lambda change: " ".join(map(str, change.formerly)), for_json=False),
    Column("", wording.remarks, Message("Remarks"), rank=1),
)
GROUP_DETAILS: tuple[Column[SummedDetails], ...] = (
    Column("kinds", _kinds_csv, Message("Owed for"), shown=_kinds_shown, json=_kinds_json),
    Column(
        "kinds_not_known",
        lambda one: one.not_known,
        Message("Amount of unknown kind"),
        "money",
        lambda one: known(one.not_known) or None,
    ),
    Column("kinds_complete", lambda one: one.certain),
    _own("owing_since", Message("Owing since"), "day", page="age"),
    Column(
        "age_band",
        lambda one: one.age_band and one.age_band.text,
        Message("Days owing"),
        shown=lambda one: wording.describe_age_band(one.age_band),
        page="band",
        new=True,
    ),
    _own("last_payment", Message("Last payment"), "day"),
    Column("items_overdue", lambda one: one.overdue, Message("Items overdue"), "number", page="overdue", total=True),
    Column("items_lost", lambda one: one.lost, Message("Items lost"), "number", total=True),
    Column("items_complete", lambda one: one.items_certain),
    _own("returnable"),
)


def _over(member: Member) -> Mark:
    return "notable" if member.over_limit else ""


MEMBER: tuple[Column[Member], ...] = (
    _own("id"),
    _own(
        "barcode",
        Message("Barcode"),
        shown=lambda member: gettext("no card") if member.barcode is None else member.barcode,
        page="barcode",
    ),
    _own("name", Message("Name"), page="name", rank=-1),
    _own("library", Message("Library"), page="library"),
    _own("own_fines", Message("Own fines"), "money", mark=_over, page="own_fines"),
    _own("over_limit", Message("Over the limit"), "flag", mark=_over, page="over"),
    _own("group_lead", Message("Group lead"), "flag", rank=1),
    Column(
        "limit",
        lambda member: member.limit.amount,
        Message("Limit"),
        shown=lambda member: describe_limit(member.limit),
        json=lambda member: limit_document(member.limit),
    ),
)
"""JSON has ``over_limit`` and ``limit`` only if a decision was made."""
BLOCKS: tuple[Column[Standing], ...] = (
    Column(
        "blocked_in_evergreen",
        lambda standing: "; ".join(map(penalty_cell, standing.blocks_for_fines)),
        Message("Blocked in Evergreen"),
        shown=lambda standing: "; ".join(map(describe_penalty, standing.blocks_for_fines)) or gettext("no"),
        # Only this column has red cells: red is used for blocks only.
        mark=lambda standing: "blocked" if standing.blocks_for_fines else "",
        json=lambda standing: [*map(penalty_document, standing.blocks_for_fines)],
        page="blocked",
    ),
    Column(
        "difference",
        lambda standing: None if standing.difference is None else standing.difference.value,
        Message("Limit and block differ"),
        shown=lambda standing: None if standing.difference is None else gettext(DIFFERENCES[standing.difference]),
    ),
)


def _items(name: str, heading: Message) -> Column[MemberDetails]:
    value_of = attrgetter(f"items.{name}")
    return Column(
        f"items_{name}",
        lambda one: None if one.items is None else value_of(one),
        heading,
        "number",
        lambda one: gettext(wording.NOT_KNOWN) if one.items is None else value_of(one),
    )


MEMBER_DETAILS: tuple[Column[MemberDetails], ...] = (
    Column("kinds", _kinds_csv, Message("Owed for"), shown=_kinds_shown, json=_kinds_json),
    _own("owing_since", Message("Owing since"), "day"),
    _own("last_payment", Message("Last payment"), "day"),
    _items("overdue", Message("Items overdue")),
    _items("lost", Message("Items lost")),
    Column("juvenile", lambda one: one.state.juvenile),
    Column("expired", lambda one: one.state.expired),
    Column("barred", lambda one: one.state.barred),
    Column("", lambda one: wording.describe_state(one) or None, Message("Remarks")),
    _own("profile", Message("Profile")),
)
CLEARED: tuple[Column[GroupChange], ...] = (
    _own("group", Message("Group"), "id"),
    Column(
        "lead_name",
        lambda change: change.present and change.present.lead_name,
        Message("Name"),
        shown=wording.cleared_lead,
    ),
    _own("library", Message("Library")),
    Column("", _before, Message("Owed before"), "money", _before),
    Column("", lambda change: change.present and change.present.group, Message("Now in group"), "id"),
    Column("", lambda change: change.present and change.present.group_fines, Message("Owes now"), "money"),
)
"""The columns of cleared groups. Those with a name are columns of groups as well, which cleared groups fill in CSV."""


CONTACT: tuple[Column[Contact], ...] = (
    Column("contact_id", lambda one: one.patron, new=True),
    Column("contact_name", lambda one: one.name, Message("Contact"), new=True),
    Column(
        "contact_role",
        lambda one: one.role,
        Message("Contact's role"),
        shown=lambda one: wording.describe_role(one) or None,
        new=True,
    ),
    *(Column(f"contact_{way}", attrgetter(way), heading, new=True) for way, heading in wording.WAYS_TO_REACH.items()),
    Column(
        "contact_invalid",
        lambda one: " ".join(one.invalid),
        Message("Marked invalid"),
        shown=lambda one: wording.describe_invalid(one) or None,
        json=lambda one: list(one.invalid),
        new=True,
    ),
    Column("contact_withheld", lambda one: one.withheld, new=True),
    _own("in_collections", Message("In collections"), "flag", new=True),
    _own("collections_since", Message("In collections since"), "day", new=True),
)


class GroupRow(NamedTuple):
    """A group with its change, its details and its contact, None if there are none."""

    group: Group
    change: GroupChange | None
    details: SummedDetails | None
    contact: Contact | None


class MemberRow(NamedTuple):
    """A member of a group with standing and details, None if they weren't read."""

    group: Group
    member: Member
    standing: Standing | None
    details: MemberDetails | None


def group_row(report: Report, group: Group) -> GroupRow:
    """Return a group with what the report knows about it."""
    change = report.changes.by_group.get(group.number) if report.changes else None
    details = None if report.details is None else report.details.of_group(group)
    return GroupRow(group, change, details, None if report.contacts is None else report.contacts[group.number])


def member_row(report: Report, group: Group, member: Member) -> MemberRow:
    """Return a member with what the report knows about them."""
    details = None if report.details is None else report.details.of(member)
    return MemberRow(group, member, report.standing(member), details)
