"""Texts and JSON keys for a report's details (kinds of bills, dates, items) and changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from evergreen_groups.language import (
    current_language,
    day,
    describe_difference,
    describe_total,
    gettext,
    ngettext,
    pgettext,
    price,
)
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.render.text import capitalized
from evergreen_groups.render.wording import NOT_KNOWN
from evergreen_groups.report import ADULT, GUARDIAN, LEAD, ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.groups import Group
    from evergreen_groups.ils import BillKind, CirculationCounts, UnreturnedItems
    from evergreen_groups.report import (
        AgeBand,
        AgeSum,
        Contact,
        GroupItems,
        ItemTotals,
        KindSum,
        MemberDetails,
        SummedDetails,
    )


def describe_kinds(kinds: Iterable[KindSum]) -> str:
    """Describe what is owed by kind: ``lost materials: $23.00, overdue materials: $0.50``."""
    tag = current_language().tag
    return ", ".join(
        gettext("{label}: {value}", label=_described_kind(one.kind, tag), value=_owed_or_credit(one.balance))
        for one in kinds
    )


def _owed_or_credit(balance: Decimal) -> str:
    return price(balance) if balance >= 0 else gettext("{amount} (credit)", amount=price(balance))


# A report has about a dozen kinds of bills and a hundred thousand bills.
@lru_cache(maxsize=1024)
def _described_kind(kind: BillKind, _tag: str) -> str:
    return printable(kind.describe())


def describe_age_band(band: AgeBand | None) -> str | None:
    """Write a band of days for a cell: ``30–59`` or ``90+``."""
    if band is None:
        return None
    return f"{band.least}+" if band.below is None else f"{band.least}\N{EN DASH}{band.below - 1}"


def describe_age_sum(one: AgeSum) -> str:
    """Describe the groups of a band, and all that they owe: ``Owing for 30–59 days: 3 groups ($120.00)``."""
    groups = ngettext("{count} group", "{count} groups", one.group_count)
    label = gettext("Owing for {days} days", days=describe_age_band(one.band))
    return gettext("{label}: {value}", label=label, value=f"{groups} ({describe_total(one.group_fines)})")


def describe_days(band: AgeBand) -> str:
    """Name the sum of a band, which includes newer debts: ``Fines of groups owing for 30–59 days``."""
    return gettext("Fines of groups owing for {days} days", days=describe_age_band(band))


_ROLES = {LEAD: Message("group lead"), ADULT: Message("adult member"), GUARDIAN: Message("parent or guardian")}
WAYS_TO_REACH = {
    "day_phone": Message("Daytime phone"),
    "evening_phone": Message("Evening phone"),
    "other_phone": Message("Other phone"),
    "email": Message("E-mail"),
    "address": Message("Postal address"),
}
"""Names of the ways to reach a person."""


def describe_role(contact: Contact) -> str:
    """Say why this is the person to contact; empty without a contact."""
    return gettext(_ROLES.get(contact.role, ""))


def describe_invalid(contact: Contact) -> str:
    """Name what is marked invalid in Evergreen."""
    return ", ".join(gettext(WAYS_TO_REACH[way]) for way in contact.invalid)


def describe_group(report: Report, group: Group) -> str:
    """Describe in one sentence what is known of a group: what it owes for, and its items; empty without either."""
    late = None if report.items is None else report.items.of_group(group)
    if report.details is not None:
        return describe_group_details(report.details.of_group(group), late)
    return "" if late is None else describe_late(late)


REPLACEMENT_PRICE = Message("Replacement price (estimate)")


def describe_late(items: GroupItems) -> str:
    """Describe a group's items where groups are listed by items: ``4 items overdue, the oldest since 3 Sep 2026``.

    What follows is an estimate: ``estimated replacement price $62.00``.
    """
    counted = items.items.overdue or items.items.lost
    return "; ".join(filter(None, (_describe_counts(items), describe_price(items) if counted else "")))


def describe_price(items: GroupItems) -> str:
    return gettext("estimated replacement price {price}", price=items.replacement_price)


def _describe_counts(items: GroupItems) -> str:
    count, oldest = items.items.overdue, items.oldest_due
    if not count or oldest is None:
        return describe_returnable(items)
    if items.items_certain:
        late = ngettext(
            "{count} item overdue since {day}", "{count} items overdue, the oldest since {day}", count, day=day(oldest)
        )
    else:
        late = ngettext(
            "at least {count} item overdue, since {day} or longer",
            "at least {count} items overdue, the oldest since {day} or longer",
            count,
            day=day(oldest),
        )
    return "; ".join(filter(None, (late, describe_items(replace(items.items, overdue=0)))))


def describe_group_details(details: SummedDetails, late: GroupItems | None = None) -> str:
    """Describe in one sentence what a group owes for, since when, and which items are overdue or lost."""
    owed = describe_kinds(details.kinds)
    if details.not_known is None:
        owed = gettext("at least {total}", total=owed) if owed else gettext(NOT_KNOWN)
    elif details.not_known:
        unknown = gettext("{label}: {value}", label=Message("unknown kind"), value=_owed_or_credit(details.not_known))
        owed = ", ".join(filter(None, (owed, unknown)))
    parts = [owed]
    if details.owing_since is not None:
        since = Message("since {day}") if details.certain else Message("since {day} or longer")
        parts.append(gettext(since, day=day(details.owing_since)))
    if details.last_payment is not None:
        parts.append(gettext("last paid {day}", day=day(details.last_payment)))
    return "; ".join(filter(None, [*parts, describe_returnable(details) if late is None else describe_late(late)]))


def describe_returnable(details: ItemTotals) -> str:
    """Describe a group's overdue and lost items; empty if there are none."""
    items = describe_items(details.items)
    if not details.items_certain and items:
        items = gettext("at least {total}", total=items)
    unknown = gettext("items overdue not known") if details.returnable is None else ""
    return ", ".join(filter(None, (items, unknown)))


def describe_items(items: UnreturnedItems | CirculationCounts) -> str:
    """Describe the number of overdue and lost items: ``2 items overdue, 1 item lost``; empty if there are none."""
    found = []
    if items.overdue:
        found.append(ngettext("{count} item overdue", "{count} items overdue", items.overdue))
    if items.lost:
        found.append(ngettext("{count} item lost", "{count} items lost", items.lost))
    return ", ".join(found)


def describe_member_details(details: MemberDetails) -> str:
    """Describe a member's bills, items and account; empty if nothing is worth mentioning."""
    parts = []
    if details.owed is None:
        parts.append(gettext("{label}: {value}", label=gettext("Owed for"), value=NOT_KNOWN))
    elif details.owed.kinds:
        parts.append(describe_kinds(details.owed.kinds))
        if details.owing_since is not None:
            parts.append(gettext("since {day}", day=day(details.owing_since)))
        if details.last_payment is not None:
            parts.append(gettext("last paid {day}", day=day(details.last_payment)))
    parts.append(gettext("items overdue not known") if details.items is None else describe_items(details.items))
    return "; ".join(filter(None, [*parts, describe_state(details)]))


def describe_state(details: MemberDetails) -> str:
    """Describe what is unusual about a member's account: ``juvenile, expired``; empty for a regular adult account."""
    state = details.state
    remarks = {
        pgettext("remark about a member", "juvenile"): state.juvenile,
        pgettext("remark about a member", "expired"): state.expired,
        pgettext("remark about a member", "barred"): state.barred,
    }
    return ", ".join(remark for remark, applies in remarks.items() if applies)


CHANGE_IN_FINES = Message("Change in Group Fines")
UNCERTAIN = Message("not certain")
KINDS: Mapping[ChangeKind, Message] = {
    ChangeKind.NEW: Message("new", context="group"),
    ChangeKind.WORSE: Message("owes more", context="group"),
    ChangeKind.BETTER: Message("owes less", context="group"),
    ChangeKind.MORE_ITEMS: Message("more items", context="group"),
    ChangeKind.FEWER_ITEMS: Message("fewer items", context="group"),
    ChangeKind.UNCHANGED: Message("unchanged", context="group"),
    ChangeKind.CLEARED: Message("no longer listed", context="group"),
    ChangeKind.HIDDEN: Message("now hidden from the report's account", context="group"),
}
"""A word for each kind of change."""
_COUNTED: Mapping[ChangeKind, Message] = {
    ChangeKind.NEW: Message("{count} group newly listed", plural="{count} groups newly listed"),
    ChangeKind.WORSE: Message("{count} group owes more", plural="{count} groups owe more"),
    ChangeKind.BETTER: Message("{count} group owes less", plural="{count} groups owe less"),
    ChangeKind.MORE_ITEMS: Message("{count} group has more items", plural="{count} groups have more items"),
    ChangeKind.FEWER_ITEMS: Message("{count} group has fewer items", plural="{count} groups have fewer items"),
    ChangeKind.UNCHANGED: Message("{count} group unchanged", plural="{count} groups unchanged"),
    ChangeKind.CLEARED: Message("{count} group no longer listed", plural="{count} groups no longer listed"),
    ChangeKind.HIDDEN: Message(
        "{count} group now hidden from the report's account",
        plural="{count} groups now hidden from the report's account",
    ),
}


def change_heading(kind: ChangeKind) -> str:
    """Return the word for a kind of change as a heading."""
    return capitalized(gettext(KINDS[kind]))


def compared_changes(report: Report) -> Changes | None:
    """Return the changes since the last run, None if there was no last run to compare with."""
    return report.changes if report.changes is not None and report.changes.compared else None


def counts(changes: Changes) -> str:
    """Say how many groups there are of each kind of change: ``2 groups newly listed, 1 group owes more``."""
    return ", ".join(_counted(changes, KINDS)) or gettext(KINDS[ChangeKind.UNCHANGED])


def _counted(changes: Changes, kinds: Iterable[ChangeKind]) -> list[str]:
    return [gettext(_COUNTED[kind], count=count) for kind in kinds if (count := changes.count(kind))]


def since(changes: Changes) -> str:
    """Say what changed since when: ``1 group owes more since 13 Aug 2026, 03:15``; empty without a last run."""
    if changes.since is None:
        return ""
    return gettext("{changes} since {moment}", changes=counts(changes), moment=changes.since)


def explain_difference(changes: Changes) -> str:
    """Say which groups the change in fines is of, since when, and what isn't included in it."""
    both = _counted(changes, [kind for kind in KINDS if kind not in (ChangeKind.NEW, ChangeKind.CLEARED)])
    compared = ", ".join(both) or gettext(_COUNTED[ChangeKind.UNCHANGED], count=0)
    text = gettext("{changes} since {moment}", changes=compared, moment=changes.since)
    return "; ".join(filter(None, (text, not_included(changes))))


def not_included(changes: Changes) -> str:
    """Name the groups that joined or left the list, which the change doesn't include; empty if none did."""
    amounts = {
        ChangeKind.NEW: describe_total(changes.new_fines),
        ChangeKind.CLEARED: describe_difference(changes.cleared_difference),
    }
    found = [f"{count} ({amount})" for kind, amount in amounts.items() for count in _counted(changes, [kind])]
    return gettext("not included: {groups}", groups=", ".join(found)) if found else ""


def change_sentence(change: GroupChange | None) -> str:
    """Describe a group's change with remarks: ``owes more: +$12.50; 1 member joined``; empty if nothing changed."""
    if change is None:
        return ""
    if change.kind is ChangeKind.UNCHANGED:
        verdict = ""
    elif change.difference is None:
        verdict = gettext(KINDS[change.kind])
    else:
        verdict = describe_kind_or_amount(change)
    return "; ".join(filter(None, (verdict, remarks(change))))


def describe_change_amount(change: GroupChange) -> str:
    """Describe by how much a group's fines changed: ``owes more: +$12.50``."""
    return gettext("{label}: {value}", label=KINDS[change.kind], value=describe_difference(change.difference))


def describe_kind_or_amount(change: GroupChange) -> str:
    """Describe a change by its amount, or by its kind if it has none."""
    amount_known = change.kind in (ChangeKind.WORSE, ChangeKind.BETTER)
    return describe_change_amount(change) if amount_known else gettext(KINDS[change.kind])


def remarks(change: GroupChange | None) -> str:
    """Describe moves and mergers that may explain a group's change; empty if there were none."""
    if change is None:
        return ""
    found = []
    if change.kind is ChangeKind.NEW and change.formerly:
        found.append(gettext("split from group {group}", group=change.formerly[0]))
    elif change.group in change.formerly:
        others = [str(group) for group in change.formerly if group != change.group]
        found.append(
            ngettext(
                "group {groups} was merged into this one",
                "groups {groups} were merged into this one",
                len(others),
                groups=others,
            )
        )
    elif change.formerly:
        groups = list(map(str, change.formerly))
        found.append(ngettext("formerly group {groups}", "formerly groups {groups}", len(groups), groups=groups))
    if change.joined_count:
        found.append(ngettext("{count} member joined", "{count} members joined", change.joined_count))
    if change.left_count:
        found.append(ngettext("{count} member left", "{count} members left", change.left_count))
    if not change.certain:
        found.append(gettext(UNCERTAIN))
    return "; ".join(found)


def cleared_lead(change: GroupChange) -> str:
    """Return the name of a cleared group's current lead, or that it isn't known."""
    return printable(change.present.lead_name) if change.present else gettext(NOT_KNOWN)


def cleared_now(change: GroupChange) -> str:
    """Return what a cleared group owes now."""
    return describe_total(change.present.group_fines) if change.present else gettext(NOT_KNOWN)


def cleared_remarks(change: GroupChange) -> str:
    """Say where the members of a cleared group are now, if known, and whether the amounts are certain."""
    found = []
    if change.present and change.present.group != change.group:
        found.append(gettext("now group {group}", group=change.present.group))
    if change.present and change.present.member_count != change.member_count:
        found.append(ngettext("now {count} member", "now {count} members", change.present.member_count))
    if not change.present:
        found.append(gettext("not found: its members may be in several groups, or hidden"))
    if not change.certain:
        found.append(gettext(UNCERTAIN))
    return "; ".join(found)


CLEARED_EXPLANATION = Message(
    "The previous report listed these groups. Now they owe too little, have too few members, or don't meet another "
    "condition of the report."
)
