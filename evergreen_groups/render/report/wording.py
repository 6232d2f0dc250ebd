"""Texts and JSON keys for a report's details (kinds of bills, dates, items) and changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.ils import BillKind, UnreturnedItems
    from evergreen_groups.report import KindSum, MemberDetails, SummedDetails


def describe_kinds(kinds: Iterable[KindSum]) -> str:
    """Describe what is owed by kind: ``lost materials: $23.00, overdue materials: $0.50``."""
    return ", ".join(_kinds(kinds))


def _kinds(kinds: Iterable[KindSum]) -> Iterator[str]:
    for one in kinds:
        kind = _described_kind(one.kind, current_language().tag)
        yield gettext("{kind}: {amount}", kind=kind, amount=one.balance)


# A report has about a dozen kinds of bills and a hundred thousand bills.
@lru_cache(maxsize=1024)
def _described_kind(kind: BillKind, _tag: str) -> str:
    return printable(kind.describe())


def describe_group_details(details: SummedDetails) -> str:
    """Describe in one sentence what a group owes for, since when, and whether anything can still be returned."""
    return "; ".join(_of_group(details))


def _of_group(details: SummedDetails) -> Iterator[str]:
    parts = list(_kinds(details.kinds))
    if details.not_known is None or details.not_known:
        parts.append(gettext("not known for what: {amount}", amount=describe_total(details.not_known)))
    yield ", ".join(parts)
    if details.owing_since is not None:
        since = day(details.owing_since)
        at_least = gettext("owing since {day} or longer", day=since)
        yield gettext("owing since {day}", day=since) if details.certain else at_least
    if details.last_payment is not None:
        yield gettext("last paid {day}", day=day(details.last_payment))
    yield describe_returnable(details)


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
    return "; ".join(filter(None, _of_member(details)))


def _of_member(details: MemberDetails) -> Iterator[str]:
    if details.owed is None:
        yield gettext("not known for what")
    elif details.owed.kinds:
        yield describe_kinds(details.kinds or ())
        if details.owing_since is not None:
            yield gettext("since {day}", day=day(details.owing_since))
        if details.last_payment is not None:
            yield gettext("last paid {day}", day=day(details.last_payment))
    yield gettext("items overdue not known") if details.items is None else describe_items(details.items)
    yield describe_state(details)


def describe_state(details: MemberDetails) -> str:
    """Describe what is unusual about a member's account: ``juvenile, expired``; empty for a regular adult account."""
    return ", ".join(_of_state(details))


def _of_state(details: MemberDetails) -> Iterator[str]:
    if details.state.juvenile:
        yield pgettext("remark about a member", "juvenile")
    if details.state.expired:
        yield pgettext("remark about a member", "expired")
    if details.state.barred:
        yield pgettext("remark about a member", "barred")


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


def counts(changes: Changes) -> str:
    """Say how many groups there are of each kind of change: ``2 new, 14 unchanged``."""
    numbers = [(kind, changes.count(kind)) for kind in ChangeKind]
    words = ", ".join(_count(kind, number) for kind, number in numbers if number)
    return words or gettext("no group was listed then, and none is now")


def _count(kind: ChangeKind, number: int) -> str:
    match kind:
        case ChangeKind.NEW:
            return npgettext("groups", "{count} new", "{count} new", number)
        case ChangeKind.WORSE:
            return npgettext("groups", "{count} worse", "{count} worse", number)
        case ChangeKind.BETTER:
            return npgettext("groups", "{count} better", "{count} better", number)
        case ChangeKind.UNCHANGED:
            return npgettext("groups", "{count} unchanged", "{count} unchanged", number)
        case ChangeKind.CLEARED:
            return npgettext("groups", "{count} no longer listed", "{count} no longer listed", number)
        case ChangeKind.HIDDEN:
            return npgettext("groups", "{count} hidden", "{count} hidden", number)


def since(changes: Changes) -> str:
    """Say what changed since when: ``since 13 Aug 2026, 03:15: 2 new``; empty without a last run."""
    if changes.since is None:
        return ""
    return gettext("since {moment}: {changes}", moment=minute(changes.since), changes=counts(changes))


def change_sentence(change: GroupChange | None) -> str:
    """Describe a group's change with remarks: ``worse by $12.50; 1 member joined``; empty if nothing changed."""
    if change is None:
        return ""
    return "; ".join(filter(None, (_verdict(change), remarks(change))))


def _verdict(change: GroupChange) -> str:
    if change.kind is ChangeKind.UNCHANGED:
        return ""
    if change.kind is ChangeKind.NEW or change.difference is None:
        return gettext(KINDS[change.kind])
    if change.kind is ChangeKind.WORSE:
        return gettext("worse by {amount}", amount=change.difference)
    return gettext("better by {amount}", amount=-change.difference)


def remarks(change: GroupChange | None) -> str:
    """Describe moves and mergers that may explain a group's change; empty if there were none."""
    return "; ".join(_remarks(change)) if change else ""


def _remarks(change: GroupChange) -> Iterator[str]:
    if change.kind is ChangeKind.NEW and change.formerly:
        yield gettext("split from group {group}", group=change.formerly[0])
    elif len(change.formerly) == 1:
        yield gettext("was group {group}", group=change.formerly[0])
    elif change.formerly:
        yield gettext("were groups {groups}", groups=enumeration(map(str, change.formerly)))
    if change.joined_count:
        yield ngettext("{count} member joined", "{count} members joined", change.joined_count)
    if change.left_count:
        yield ngettext("{count} member left", "{count} members left", change.left_count)
    if not change.certain:
        yield gettext(UNCERTAIN)


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
