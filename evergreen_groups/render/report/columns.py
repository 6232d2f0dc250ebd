"""The report's columns, each declared once: all formats and the JSON's schema are made from these declarations.

A new column needs an entry in one of the tuples. CSV names it like the JSON key, after ``member_`` for members.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.render.column import Amount, Column, Count, JSONObject, Mark, Value, known, of_part, own
from evergreen_groups.render.follow_ups import STATUSES
from evergreen_groups.render.json_documents import LIMIT, PENALTY
from evergreen_groups.render.report import wording
from evergreen_groups.render.wording import DIFFERENCES, NOT_KNOWN, describe_limit, describe_penalty, penalty_cell
from evergreen_groups.report import WAYS, ChangeKind, GroupChange
from evergreen_groups.values import plain_amount

if TYPE_CHECKING:
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.report import (
        Contact,
        GroupItems,
        ItemTotals,
        KindSum,
        MemberDetails,
        MemberItems,
        Report,
        SummedDetails,
    )


def _before(change: GroupChange) -> Value:
    """Return what the group owed in the last run, None for a new group."""
    return None if change.before is None else known(change.known_before)


def _difference(change: GroupChange) -> Value:
    """Return how much more the group owes, None for a new group."""
    return None if change.before is None else known(change.difference)


_CHANGE_MARKS: dict[ChangeKind, Mark] = dict.fromkeys(
    (ChangeKind.NEW, ChangeKind.WORSE, ChangeKind.MORE_ITEMS), "notable"
)


KIND: JSONObject[KindSum] = JSONObject(
    "Kind",
    Column("kind", attrgetter("kind.text"), help="The kind's name."),
    Column("transaction", attrgetter("kind.transaction"), help="circulation, grocery or reservation."),
    Column(
        "billing_type",
        lambda one: one.kind.billing_type or None,
        type=str | None,
        help="The library's name for it; null: claims returned, or nothing was billed.",
    ),
    own("balance", kind="money", type=Amount),
    own("bill_count", kind="number", help="How many bills."),
    help="The open bills of one kind.",
)


def _kinds_json(of: SummedDetails | MemberDetails) -> list[dict[str, Any]] | None:
    return None if of.kinds is None else [*map(KIND.document, of.kinds)]


def _kinds_csv(of: SummedDetails | MemberDetails) -> str:
    return "; ".join([f"{one.kind.text} {plain_amount(one.balance)}" for one in of.kinds or ()])


def _kinds_shown(of: SummedDetails | MemberDetails) -> str | None:
    return gettext(NOT_KNOWN) if of.kinds is None else wording.describe_kinds(of.kinds) or None


CERTAIN: Column[Any] = own(
    "certain",
    kind="flag",
    help="false: hidden members owe, or owed, an unknown amount; or a new group may have been hidden before.",
)
_CHANGE: JSONObject[GroupChange] = JSONObject(
    "Change",
    Column(
        "kind",
        lambda change: change.kind.value,
        type=Literal["new", "worse", "better", "more_items", "fewer_items", "unchanged"],
    ),
    Column(
        "before",
        attrgetter("known_before"),
        kind="money",
        help="The combined fines in the previous run; null: it wasn't listed, or they aren't known (certain is false).",
    ),
    own(
        "difference",
        kind="money",
        help="null: it wasn't listed before, or the amounts aren't known (certain is false).",
    ),
    own(
        "formerly",
        type=list[int],
        help="Former numbers, unless there is only its own: several after a merge; for a new group, the one it was "
        "split from.",
    ),
    own("joined_count", type=Count | None, help="How many members joined; null: not known."),
    own("left_count", type=Count | None, help="How many members left; null: not known."),
    CERTAIN,
    help="What changed for a listed group since the previous run.",
)
_LEAD: JSONObject[Member] = JSONObject(
    "Lead",
    own("id", kind="id"),
    own("name", help="Family name first."),
    own("barcode", type=str | None, help="The primary card's barcode; null: no card."),
    own(
        "group_lead", kind="flag", help="false: the group has no visible lead, and this is the member registered first."
    ),
)


GROUP: tuple[Column[Group], ...] = of_part(
    "group",
    Column(
        "group",
        lambda one: one.number,
        Message("Group"),
        "id",
        help="The group's number (usrgroup in Evergreen).",
        page="group",
        mail=1,
    ),
    Column("lead", lambda one: _LEAD.document(one.lead), type=_LEAD.type, for_csv=False),
    Column("lead_id", lambda one: one.lead.id, for_json=False),
    Column("lead_name", lambda one: one.lead.name, Message("Name"), page="name", mail=6, for_json=False),
    Column("lead_barcode", lambda one: one.lead.barcode, Message("Barcode"), for_json=False),
    Column("lead_group_lead", lambda one: one.lead.group_lead, for_json=False),
    own("library", Message("Library"), help="Short name of the lead's home library.", page="library", mail=2),
    own("member_count", Message("Members"), "number", help="Includes hidden members.", page="members", mail=3),
    own("owing_count", Message("Members who owe"), "number", page="owing", total=True),
    own(
        "group_fines",
        Message("Group Fines"),
        "money",
        mark=lambda one: "notable" if one.hidden_fines is None else "",
        help="null: not known, because of hidden members.",
        page="total",
        mail=4,
    ),
    own("highest_own_fines", Message("Highest own fines"), "money", page="highest", total=True),
    own(
        "over_limit_count",
        Message("Over the limit"),
        "number",
        page="over",
        cell=("count_over_limit", lambda one: (one.over_limit_count, one.no_member_over_limit)),
        total=True,
    ),
    own(
        "no_member_over_limit",
        type=bool | None,
        help="Whether the group owes more than the limit although no member is over it; null: hidden members may be.",
    ),
    own("complete", kind="flag", help="Whether all members are visible to the account."),
    own("hidden_member_count", Message("Hidden members"), "number", mark=lambda one: "" if one.complete else "notable"),
    own(
        "hidden_fines",
        Message("Fines of hidden members"),
        "money",
        shown=lambda one: known(one.hidden_fines),
        help="What hidden members owe, which is part of group_fines; null: not known.",
    ),
)
CHANGE: tuple[Column[GroupChange], ...] = of_part(
    "change",
    Column(
        "change",
        lambda change: change.kind.value,
        Message("Change"),
        shown=lambda change: gettext(wording.KINDS[change.kind]),
        mark=lambda change: _CHANGE_MARKS.get(change.kind, ""),
        json=_CHANGE.document,
        type=_CHANGE.type | None,
        help="null: there is no previous run.",
        page="change",
        cell=("change", lambda change: (change.kind, change.difference, change.certain)),
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
    own("difference", wording.CHANGE_IN_FINES, "change", for_json=False, shown=_difference),
    Column("formerly", lambda change: " ".join(map(str, change.formerly)), for_json=False),
    Column("", wording.remarks, Message("Remarks"), rank=1),
    Column("", wording.describe_kind_or_amount, Message("Change"), "words", mail=5, for_sheet=False),
)
_GROUP_OWED: tuple[Column[SummedDetails], ...] = of_part(
    "details",
    Column(
        "kinds",
        _kinds_csv,
        Message("Owed for"),
        shown=_kinds_shown,
        json=_kinds_json,
        type=KIND.array,
        help="What is owed for, as far as known. Missing: details weren't read.",
    ),
    Column(
        "kinds_not_known",
        lambda one: one.not_known,
        Message("Amount of unknown kind"),
        "money",
        lambda one: known(one.not_known) or None,
        help="The amount of unknown kind. With the kinds, it adds up to group_fines.",
    ),
    Column("kinds_complete", lambda one: one.certain, kind="flag", help="Whether the bills of all members are known."),
    own(
        "owing_since",
        Message("Owing since"),
        "day",
        help="When the oldest unpaid bill began; null: none is known.",
    ),
    Column(
        "",
        attrgetter("owing_since"),
        Message("Owing since (days)"),
        "day",
        page="age",
        cell=("dated", lambda one: (one.owing_since, one.certain, wording.describe_age_band(one.age_band))),
        for_sheet=False,
    ),
    Column(
        "age_band",
        lambda one: one.age_band and one.age_band.text,
        Message("Days owing"),
        shown=lambda one: wording.describe_age_band(one.age_band),
        type=str | None,
        help="How many days ago that was, such as 30 to 59; null: not known, or bands are turned off.",
        new=1,
    ),
    own(
        "last_payment",
        Message("Last payment"),
        "day",
        help="The latest payment on a bill that isn't paid off; null: none is known.",
    ),
)
_GROUP_ITEMS: tuple[Column[ItemTotals], ...] = of_part(
    "items",
    Column(
        "items_overdue",
        lambda one: one.overdue,
        Message("Items overdue"),
        "number",
        help="null: not known for all members.",
        page="overdue",
        total=True,
    ),
    Column(
        "items_lost",
        lambda one: one.lost,
        Message("Items lost"),
        "number",
        help="null: not known for all members.",
        total=True,
    ),
    Column(
        "items_complete", lambda one: one.items_certain, kind="flag", help="Whether the items of all members are known."
    ),
    own("returnable", type=bool | None, help="Whether an overdue item can still be returned; null: not known."),
)


def _items_asked_for(name: str, heading: Message, page: str = "") -> Column[GroupItems]:
    """Return a column for people, by which the report lists groups. Workbooks have it anyway."""
    return Column("", attrgetter(name), heading, "number", total=True, mail=4, page=page, for_sheet=False)


# Of reports that list groups by items.
GROUP_LATE: tuple[Column[GroupItems], ...] = (
    *of_part(
        "late",
        Column(
            "overdue_since",
            lambda one: one.oldest_due,
            Message("Overdue since"),
            "day",
            help="When the item that has been overdue the longest was due; null: none is known. Missing: the report "
            "doesn't list groups by items.",
            page="overdue_since",
            cell=("dated", lambda one: (one.oldest_due, one.items_certain)),
            new=3,
        ),
        own(
            "replacement_price",
            wording.REPLACEMENT_PRICE,
            "money",
            help="An estimate: what Evergreen would bill for the overdue and lost items. It isn't part of any fines.",
            total=True,
            page="replacement_price",
            new=3,
        ),
    ),
    *of_part("by_overdue", _items_asked_for("overdue", Message("Items overdue"))),
    *of_part("by_lost", _items_asked_for("lost", Message("Items lost"), page="lost")),
)
GROUP_DETAILS: tuple[Column[Any], ...] = (*_GROUP_OWED, *_GROUP_ITEMS, *GROUP_LATE)


def _over(member: Member) -> Mark:
    return "notable" if member.over_limit else ""


MEMBER: tuple[Column[Member], ...] = of_part(
    "member",
    own("id", type=int),
    own(
        "barcode",
        Message("Barcode"),
        shown=lambda member: gettext("no card") if member.barcode is None else member.barcode,
        type=str | None,
        help="The primary card's barcode; null: no card.",
        page="barcode",
    ),
    own("name", Message("Name"), help="Family name first.", page="name", rank=-1),
    own("library", Message("Library"), help="Short name of the home library.", page="library"),
    own("own_fines", Message("Own fines"), "money", mark=_over, type=Amount, page="own_fines"),
    own(
        "over_limit",
        Message("Over the limit"),
        "flag",
        mark=_over,
        help="By the member's own fines only.",
        page="over",
        cell=("over_limit", lambda member: (member.over_limit, member.limit)),
    ),
    own("group_lead", Message("Group lead"), "flag", rank=1),
    Column(
        "limit",
        lambda member: member.limit.amount,
        Message("Limit"),
        shown=lambda member: describe_limit(member.limit),
        json=lambda member: LIMIT.document(member.limit),
        type=LIMIT.type,
        help="The limit that applies to this member.",
    ),
)
BLOCKS: tuple[Column[Standing], ...] = of_part(
    "standing",
    Column(
        "blocked_in_evergreen",
        lambda standing: "; ".join(map(penalty_cell, standing.blocks_for_fines)),
        Message("Blocked in Evergreen"),
        shown=lambda standing: "; ".join(map(describe_penalty, standing.blocks_for_fines)) or gettext("no"),
        # Only this column has red cells: red is used for blocks only.
        mark=lambda standing: "blocked" if standing.blocks_for_fines else "",
        json=lambda standing: [*map(PENALTY.document, standing.blocks_for_fines)],
        type=PENALTY.array | None,
        help="The penalties that block the member for fines; null: not read.",
        page="blocked",
        cell=(
            "blocked",
            lambda standing: (tuple(map(describe_penalty, standing.blocks_for_fines)), standing.difference),
        ),
    ),
    Column(
        "difference",
        lambda standing: None if standing.difference is None else standing.difference.value,
        Message("Limit and block differ"),
        shown=lambda standing: None if standing.difference is None else gettext(DIFFERENCES[standing.difference]),
        type=Literal["not-yet-blocked", "now-within-limit"] | None,
        help="How over_limit and blocked_in_evergreen differ; null: they don't, or penalties weren't read.",
    ),
)


def _items(name: str, heading: Message) -> Column[MemberItems]:
    value_of = attrgetter(f"items.{name}")
    return Column(
        f"items_{name}",
        lambda one: None if one.items is None else value_of(one),
        heading,
        "number",
        lambda one: gettext(NOT_KNOWN) if one.items is None else value_of(one),
        type=Count | None,
        help="null: not known.",
        part="member_items",
    )


_OWED: tuple[Column[MemberDetails], ...] = of_part(
    "member_details",
    Column(
        "kinds",
        _kinds_csv,
        Message("Owed for"),
        shown=_kinds_shown,
        json=_kinds_json,
        type=KIND.array | None,
        help="What is owed for, which adds up to own_fines; null: not known. Missing: details weren't read.",
    ),
    own("owing_since", Message("Owing since"), "day", help="As for a group."),
    own("last_payment", Message("Last payment"), "day", help="As for a group."),
)
_ACCOUNT: tuple[Column[MemberDetails], ...] = of_part(
    "member_details",
    Column("juvenile", lambda one: one.state.juvenile, kind="flag"),
    Column("expired", lambda one: one.state.expired, kind="flag"),
    Column("barred", lambda one: one.state.barred, kind="flag"),
    Column("", lambda one: wording.describe_state(one) or None, Message("Remarks")),
    own("profile", Message("Profile"), help="Name of the permission profile."),
)
MEMBER_DETAILS: tuple[Column[Any], ...] = (
    *_OWED,
    _items("overdue", Message("Items overdue")),
    _items("lost", Message("Items lost")),
    *_ACCOUNT,
)
CONTACT: tuple[Column[Contact], ...] = of_part(
    "contact",
    Column(
        "contact_id",
        lambda one: one.patron,
        type=int | None,
        help="The member to contact, or the juvenile whose guardian to contact; null: no one. The keys from here to "
        "collections_since need contact = true.",
        new=1,
    ),
    Column("contact_name", lambda one: one.name, Message("Contact"), new=1),
    Column(
        "contact_role",
        lambda one: one.role,
        Message("Contact's role"),
        shown=lambda one: wording.describe_role(one) or None,
        type=Literal["lead", "adult", "guardian", ""],
        help="Empty: no one to contact.",
        new=1,
    ),
    *(Column(f"contact_{way}", attrgetter(way), heading, new=1) for way, heading in wording.WAYS_TO_REACH.items()),
    Column(
        "contact_invalid",
        lambda one: " ".join(one.invalid),
        Message("Marked invalid"),
        shown=lambda one: wording.describe_invalid(one) or None,
        json=lambda one: list(one.invalid),
        type=list[str],
        help=f"What is marked as invalid in Evergreen: {', '.join(WAYS)}.",
        new=1,
    ),
    Column(
        "contact_withheld",
        lambda one: one.withheld,
        kind="flag",
        help="Whether only the files of another library say how to reach the person.",
        new=1,
    ),
    own("in_collections", Message("In collections"), "flag", help="Whether a member is in collections.", new=1),
    own("collections_since", Message("In collections since"), "day", new=1),
)
FOLLOW_UP: tuple[Column[FollowUpState], ...] = of_part(
    "follow_up",
    Column("", lambda state: gettext(STATUSES[state.status]), Message("Follow-up"), page="status"),
    Column(
        "",
        attrgetter("last_contact"),
        Message("Last contact"),
        "day",
        shown=attrgetter("last_contact"),
        page="contact",
    ),
    Column(
        "",
        attrgetter("next_day"),
        Message("Promise or reminder"),
        "day",
        shown=attrgetter("next_day"),
        page="next",
    ),
)
"""How far the groups' follow-ups are, in workbooks and in the page as the service shows it."""
CLEARED: tuple[Column[GroupChange], ...] = (
    own("group", Message("Group"), "id"),
    Column(
        "lead_name",
        lambda change: change.present and change.present.lead_name,
        Message("Name"),
        shown=wording.cleared_lead,
    ),
    own("library", Message("Library")),
    Column("", _before, Message("Owed before"), "money", _before),
    Column("", lambda change: change.present and change.present.group, Message("Now in group"), "id"),
    Column("", lambda change: change.present and change.present.group_fines, Message("Owes now"), "money"),
)
"""The columns of cleared groups. Those with a name are columns of groups as well, which cleared groups fill in CSV."""


class GroupRow(NamedTuple):
    """A group with its change, details, contact, members and follow-up, None if there are none.

    ``late`` is only read for reports that list groups by items.
    """

    group: Group
    change: GroupChange | None
    details: SummedDetails | None
    contact: Contact | None
    members: list[MemberRow] | None
    follow_up: FollowUpState | None = None
    late: GroupItems | None = None

    @property
    def items(self) -> SummedDetails | GroupItems | None:
        return self.details if self.late is None else self.late

    @property
    def by_overdue(self) -> GroupItems | None:
        return self.late

    @property
    def by_lost(self) -> GroupItems | None:
        return self.late


class MemberRow(NamedTuple):
    """A member of a group with standing, details and items, None if they weren't read."""

    group: Group
    member: Member
    standing: Standing | None
    member_details: MemberDetails | None
    member_items: MemberDetails | MemberItems | None


def group_row(report: Report, group: Group, *, members: bool = False) -> GroupRow:
    """Return a group with what the report knows about it, and about its ``members`` if requested."""
    change = report.changes.by_group.get(group.number) if report.changes else None
    details = None if report.details is None else report.details.of_group(group)
    contact = None if report.contacts is None else report.contacts[group.number]
    rows = [member_row(report, group, member) for member in group.members] if members else None
    late = None if report.items is None else report.items.of_group(group)
    return GroupRow(group, change, details, contact, rows, late=late)


def member_row(report: Report, group: Group, member: Member) -> MemberRow:
    """Return a member with what the report knows about them."""
    details = None if report.details is None else report.details.of(member)
    items = details if report.items is None else report.items.of(member)
    return MemberRow(group, member, report.standing(member), details, items)


def shown_columns(report: Report, *some: tuple[Column[Any], ...]) -> list[Column[Any]]:
    """Return the columns that people read, without those about what wasn't read or compared."""
    unknown = {
        "change": wording.compared_changes(report) is None,
        "details": report.details is None,
        "items": report.details is None and report.items is None,
        "late": report.items is None,
        "by_overdue": not report.criteria.min_overdue,
        "by_lost": not report.criteria.min_lost,
        "member_details": report.details is None,
        "member_items": report.details is None and report.items is None,
        "contact": report.contacts is None,
        "standing": report.blocks is None,
    }
    every = (column for columns in some for column in columns)
    known_ones = (column for column in every if column.heading and not unknown.get(column.part))
    return sorted(known_ones, key=lambda column: column.rank)
