"""What changed since the run before, in sentences and figures for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evergreen_groups.language import describe_total, enumeration, gettext, minute, ngettext, npgettext
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

UNCERTAIN = Message("not certain: what hidden members owe, or owed, is not known")
CLEARED = Message("No longer listed")
NO_LEAD = Message("lead not known")
"""Its members are in no group together any more, or they couldn't be looked up."""
NOT_KNOWN = Message("not known")
KINDS: Mapping[ChangeKind, Message] = {
    ChangeKind.NEW: Message("new", context="group"),
    ChangeKind.WORSE: Message("worse", context="group"),
    ChangeKind.BETTER: Message("better", context="group"),
    ChangeKind.UNCHANGED: Message("unchanged", context="group"),
    ChangeKind.CLEARED: Message("no longer listed", context="group"),
    ChangeKind.HIDDEN: Message("hidden", context="group"),
}
"""What became of a group, in a word."""


def compared(report: Report) -> Changes | None:
    """What changed, where there was a run before to compare with."""
    return report.changes if report.changes is not None and report.changes.compared else None


def counts(changes: Changes) -> str:
    """Say how many groups are of each kind: ``2 new, 14 unchanged``."""
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
    """Say what changed since when, where there was a run before: ``since 13 Aug 2026, 03:15: 2 new``."""
    if changes.since is None:
        return ""
    return gettext("since {moment}: {changes}", moment=minute(changes.since), changes=counts(changes))


def change_sentence(change: GroupChange | None) -> str:
    """Say what became of a group, and the remarks: ``worse by $12.50; 1 member joined``. Empty where nothing did."""
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
    """Say what else happened to a group, which may explain the difference; empty where nothing did."""
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
    """The name of a cleared group's lead now; what there is instead where nobody can be named."""
    return printable(change.present.lead_name) if change.present else gettext(NO_LEAD)


def cleared_now(change: GroupChange) -> str:
    """What a cleared group owes now."""
    return describe_total(change.present.combined_fines if change.present else None)


def cleared_remarks(change: GroupChange) -> str:
    """Say where a cleared group is now, and how sure the amounts are."""
    found = []
    if change.present and change.present.group != change.group:
        found.append(gettext("now group {group}", group=change.present.group))
    if change.present:
        found.append(ngettext("now {count} member", "now {count} members", change.present.member_count))
    if not change.certain:
        found.append(gettext(UNCERTAIN))
    return "; ".join(found)


def explain_cleared(report: Report) -> str:
    """Say why groups are no longer listed; with a choice, others than those that paid may not fit any more."""
    if report.criteria.choice.document():
        return gettext("They were in the report before; they owe less now, or aren't what was asked for any more.")
    return gettext("They were in the report before and don't fit it any more, mostly because enough was paid.")
