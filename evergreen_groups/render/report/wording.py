"""Texts and JSON keys for a report's details (kinds of bills, dates, items) and changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from evergreen_groups.language import (
    current_language,
    day,
    describe_total,
    enumeration,
    gettext,
    minute,
    ngettext,
    npgettext,
    pgettext,
)
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.report import ADULT, GUARDIAN, LEAD, ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.ils import BillKind, UnreturnedItems
    from evergreen_groups.report import AgeBand, AgeSum, Contact, KindSum, MemberDetails, SummedDetails


def describe_kinds(kinds: Iterable[KindSum]) -> str:
    """Describe what is owed by kind: ``lost materials: $23.00, overdue materials: $0.50``."""
    tag = current_language().tag
    return ", ".join(
        gettext("{kind}: {amount}", kind=_described_kind(one.kind, tag), amount=one.balance) for one in kinds
    )


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
    """Describe a band with its sum: ``30 to 59 days: $120.00 (3 groups)``."""
    values = {
        "least": one.band.least,
        "most": (one.band.below or 1) - 1,
        "amount": describe_total(one.combined_fines),
        "groups": ngettext("{count} group", "{count} groups", one.group_count),
    }
    if one.band.below is None:
        return gettext("{least} days or more: {amount} ({groups})", **values)
    return gettext("{least} to {most} days: {amount} ({groups})", **values)


_ROLES = {
    LEAD: Message("group lead"),
    ADULT: Message("adult member"),
    GUARDIAN: Message("parent or guardian"),
}
WAYS_TO_REACH = {
    "day_phone": Message("day", context="phone"),
    "evening_phone": Message("evening", context="phone"),
    "other_phone": Message("other", context="phone"),
    "email": Message("e-mail"),
    "address": Message("address"),
}
"""A word for each way to reach a person."""


def describe_role(contact: Contact) -> str:
    """Say why this is the person to contact; empty if there is nobody."""
    return gettext(_ROLES.get(contact.role, ""))


def describe_invalid(contact: Contact) -> str:
    """Name what is marked invalid in Evergreen."""
    return ", ".join(gettext(WAYS_TO_REACH[way]) for way in contact.invalid)


def describe_group_details(details: SummedDetails) -> str:
    """Describe in one sentence what a group owes for, since when, and whether anything can still be returned."""
    owed = [describe_kinds(details.kinds)] if details.kinds else []
    if details.not_known is None or details.not_known:
        owed.append(gettext("not known for what: {amount}", amount=describe_total(details.not_known)))
    parts = [", ".join(owed)]
    if details.owing_since is not None:
        since = day(details.owing_since)
        at_least = gettext("owing since {day} or longer", day=since)
        parts.append(gettext("owing since {day}", day=since) if details.certain else at_least)
    if details.last_payment is not None:
        parts.append(gettext("last paid {day}", day=day(details.last_payment)))
    return "; ".join([*parts, describe_returnable(details)])


def describe_returnable(details: SummedDetails) -> str:
    """Describe a group's overdue and lost items, and whether anything can still be returned."""
    items = describe_items(details.items)
    if not details.items_certain and items:
        items = gettext("at least {total}", total=items)
    if details.returnable:
        return gettext("{items}: can still be returned", items=items)
    if details.returnable is None:
        more = gettext("{items}, items overdue not known", items=items)
        return more if items else gettext("items overdue not known")
    nothing = gettext("nothing to return: can only be paid")
    return gettext("{items}, nothing to return: can only be paid", items=items) if items else nothing


def describe_items(items: UnreturnedItems) -> str:
    """Describe the number of overdue and lost items: ``2 items overdue, 1 lost``; empty if there are none."""
    overdue, lost = items.overdue, items.lost
    if not overdue:
        return ngettext("{count} item lost", "{count} items lost", lost) if lost else ""
    words = ngettext("{count} item overdue", "{count} items overdue", overdue)
    return f"{words}, {npgettext('items', '{count} lost', '{count} lost', lost)}" if lost else words


def describe_member_details(details: MemberDetails) -> str:
    """Describe a member's bills, items and account; empty if nothing is worth mentioning."""
    parts = []
    if details.owed is None:
        parts.append(gettext("not known for what"))
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


UNCERTAIN = Message("not certain: what hidden members owe, or owed, is not known")
CLEARED = Message("No longer listed")
NO_LEAD = Message("lead not known")
"""For groups whose members have all left, or couldn't be looked up."""
NOT_KNOWN = Message("not known")
KINDS: Mapping[ChangeKind, Message] = {
    ChangeKind.NEW: Message("new", context="group"),
    ChangeKind.WORSE: Message("worse", context="group"),
    ChangeKind.BETTER: Message("better", context="group"),
    ChangeKind.UNCHANGED: Message("unchanged", context="group"),
    ChangeKind.CLEARED: Message("no longer listed", context="group"),
    ChangeKind.HIDDEN: Message("hidden", context="group"),
}
"""A word for each kind of change."""


def compared_changes(report: Report) -> Changes | None:
    """Return the changes since the last run, None if there was no last run to compare with."""
    return report.changes if report.changes is not None and report.changes.compared else None


_COUNTS = {
    ChangeKind.NEW: Message("{count} new", plural="{count} new", context="groups"),
    ChangeKind.WORSE: Message("{count} worse", plural="{count} worse", context="groups"),
    ChangeKind.BETTER: Message("{count} better", plural="{count} better", context="groups"),
    ChangeKind.UNCHANGED: Message("{count} unchanged", plural="{count} unchanged", context="groups"),
    ChangeKind.CLEARED: Message("{count} no longer listed", plural="{count} no longer listed", context="groups"),
    ChangeKind.HIDDEN: Message("{count} hidden", plural="{count} hidden", context="groups"),
}


def counts(changes: Changes) -> str:
    """Say how many groups there are of each kind of change: ``2 new, 14 unchanged``."""
    words = [gettext(text, count=count) for kind, text in _COUNTS.items() if (count := changes.count(kind))]
    return ", ".join(words) or gettext("no group was listed then, and none is now")


def since(changes: Changes) -> str:
    """Say what changed since when: ``since 13 Aug 2026, 03:15: 2 new``; empty without a last run."""
    if changes.since is None:
        return ""
    return gettext("since {moment}: {changes}", moment=minute(changes.since), changes=counts(changes))


def change_sentence(change: GroupChange | None) -> str:
    """Describe a group's change with remarks: ``worse by $12.50; 1 member joined``; empty if nothing changed."""
    if change is None:
        return ""
    if change.kind is ChangeKind.UNCHANGED:
        verdict = ""
    elif change.kind is ChangeKind.NEW or change.difference is None:
        verdict = gettext(KINDS[change.kind])
    elif change.kind is ChangeKind.WORSE:
        verdict = gettext("worse by {amount}", amount=change.difference)
    else:
        verdict = gettext("better by {amount}", amount=-change.difference)
    return "; ".join(filter(None, (verdict, remarks(change))))


def remarks(change: GroupChange | None) -> str:
    """Describe moves and mergers that may explain a group's change; empty if there were none."""
    if change is None:
        return ""
    found = []
    if change.kind is ChangeKind.NEW and change.formerly:
        found.append(gettext("split from group {group}", group=change.formerly[0]))
    elif len(change.formerly) == 1:
        found.append(gettext("was group {group}", group=change.formerly[0]))
    elif change.formerly:
        found.append(gettext("were groups {groups}", groups=enumeration(map(str, change.formerly))))
    if change.joined_count:
        found.append(ngettext("{count} member joined", "{count} members joined", change.joined_count))
    if change.left_count:
        found.append(ngettext("{count} member left", "{count} members left", change.left_count))
    if not change.certain:
        found.append(gettext(UNCERTAIN))
    return "; ".join(found)


def cleared_lead(change: GroupChange) -> str:
    """Return the name of a cleared group's current lead, or that it isn't known."""
    return printable(change.present.lead_name) if change.present else gettext(NO_LEAD)


def cleared_now(change: GroupChange) -> str:
    """Return what a cleared group owes now."""
    return describe_total(change.present.combined_fines if change.present else None)


def cleared_remarks(change: GroupChange) -> str:
    """Say where the members of a cleared group are now, and whether the amounts are certain."""
    found = []
    if change.present and change.present.group != change.group:
        found.append(gettext("now group {group}", group=change.present.group))
    if change.present:
        found.append(ngettext("now {count} member", "now {count} members", change.present.member_count))
    if not change.certain:
        found.append(gettext(UNCERTAIN))
    return "; ".join(found)


def explain_cleared(report: Report) -> str:
    """Explain why groups are no longer listed. With filters, paying isn't the only possible reason."""
    if report.criteria.choice.document():
        return gettext("They were in the report before; they owe less now, or aren't what was asked for any more.")
    return gettext("They were in the report before and don't fit it any more, mostly because enough was paid.")
