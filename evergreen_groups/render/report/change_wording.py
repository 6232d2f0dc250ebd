"""What changed since the run before, in sentences and figures for people."""

from __future__ import annotations

from collections.abc import Iterator

from evergreen_groups.money import amount
from evergreen_groups.render import counted, local_time, printable
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

UNCERTAIN = "not certain: what hidden members owe, or owed, is not known"
CLEARED = "No longer listed"
NO_LEAD = "lead not known"
"""Its members are in no group together any more, or they couldn't be looked up."""
CLEARED_EXPLANATION = "They were in the report before and don't fit it any more, mostly because enough was paid."


def compared(report: Report) -> Changes | None:
    """What changed, where there was a run before to compare with."""
    return report.changes if report.changes is not None and report.changes.compared else None


def counts(changes: Changes) -> str:
    """Say how many groups are of each kind: ``2 new, 14 unchanged``."""
    numbers = [(changes.count(kind), kind.value) for kind in ChangeKind]
    words = ", ".join(f"{number:,} {word}" for number, word in numbers if number)
    return words or "no group was listed then, and none is now"


def since(changes: Changes) -> str:
    """Say since when, where there was a run before: ``since 2026-08-13 03:15``."""
    return f"since {local_time(changes.since)[:16]}" if changes.since else ""


def change_sentence(change: GroupChange | None) -> str:
    """Say what became of a group, and the remarks: ``worse by 12.50; 1 member joined``. Empty where nothing did."""
    if change is None:
        return ""
    verdicts = {
        ChangeKind.NEW: "new",
        ChangeKind.WORSE: f"worse by {amount(change.difference)}",
        ChangeKind.BETTER: f"better by {amount(-change.difference)}",
    }
    return "; ".join(filter(None, (verdicts.get(change.kind), remarks(change))))


def remarks(change: GroupChange | None) -> str:
    """Say what else happened to a group, which may explain the difference; empty where nothing did."""
    return "; ".join(_remarks(change)) if change else ""


def _remarks(change: GroupChange) -> Iterator[str]:
    if change.kind is ChangeKind.NEW and change.formerly:
        yield f"split from group {change.formerly[0]}"
    elif len(change.formerly) == 1:
        yield f"was group {change.formerly[0]}"
    elif change.formerly:
        numbers = [str(number) for number in change.formerly]
        yield f"were groups {', '.join(numbers[:-1])} and {numbers[-1]}"
    if change.joined_count:
        yield f"{counted(change.joined_count, 'member')} joined"
    if change.left_count:
        yield f"{counted(change.left_count, 'member')} left"
    if not change.certain:
        yield UNCERTAIN


def cleared_lead(change: GroupChange) -> str:
    """The name of a cleared group's lead now; what there is instead where nobody can be named."""
    return printable(change.present.lead_name) if change.present else NO_LEAD


def cleared_now(change: GroupChange) -> str:
    """What a cleared group owes now."""
    if change.present is None or change.present.combined_fines is None:
        return "not known"
    return amount(change.present.combined_fines)


def cleared_remarks(change: GroupChange) -> str:
    """Say where a cleared group is now, and how sure the amounts are."""
    found = []
    if change.present and change.present.group != change.group:
        found.append(f"now group {change.present.group}")
    if change.present:
        found.append(f"now {counted(change.present.member_count, 'member')}")
    if not change.certain:
        found.append(UNCERTAIN)
    return "; ".join(found)


def explain_cleared(report: Report) -> str:
    """Say why groups are no longer listed; with a choice, others than those that paid may not fit any more."""
    if report.criteria.choice.document():
        return "They were in the report before; they owe less now, or aren't what was asked for any more."
    return CLEARED_EXPLANATION
