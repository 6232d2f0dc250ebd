"""Plans and what became of them, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.changes import (
    GROUP,
    PENALTIES,
    Action,
    Draft,
    PlannedGroup,
    PlanOutcome,
    Recalculated,
    Recalculations,
    Step,
    StepOutcome,
    StepState,
)
from evergreen_groups.language import describe_total, gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.render.audit import HEADINGS, describe_patron_finding, person_heading
from evergreen_groups.render.plan_warnings import describe_warning
from evergreen_groups.render.safe_text import printable

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.audit import PatronFinding
    from evergreen_groups.changes import StepReason

_HEADINGS = {
    Action.MOVE: Message("Move into another group"),
    Action.REMOVE: Message("Remove from the group"),
    Action.MERGE: Message("Merge two groups"),
    Action.LEAD: Message("Group lead"),
    Action.BATCH: Message("Changes from a file"),
    Action.UNDO: Message("Take back"),
    Action.RECALCULATE: Message("Recalculate penalties"),
}
_STATES = {
    StepState.PLANNED: Message("not begun"),
    StepState.SENDING: Message("not known yet"),
    StepState.UNCHANGED: Message("unchanged"),
    StepState.NOT_DONE: Message("not done"),
    StepState.FAILED: Message("failed"),
}


def write_draft(draft: Draft, stream: TextIO) -> None:
    """Write what a plan will do, what it means for the groups, and what to look at before saying yes."""
    _write_lines(stream, _draft_lines(draft))


def describe_reason(reason: StepReason) -> str:
    """Say why a step is as it is, in the words of the journal."""
    return "; ".join(map(gettext, reason.messages))


def _draft_lines(draft: Draft) -> Iterator[str]:
    heading = gettext(_HEADINGS[draft.action])
    yield ngettext("{heading}: {count} change", "{heading}: {count} changes", len(draft.steps), heading=heading)
    for step in draft.steps:
        member = step.member
        yield "  " + gettext(
            "{name} ({barcode}), own fines {fines}",
            name=printable(member.name),
            barcode=printable(member.barcode) if member.barcode else gettext("no card"),
            fines=member.own_fines,
        )
        yield f"    {_change(step)}"
    if draft.groups:
        yield gettext("Groups before and after, their fines for information only:")
        for group in draft.groups:
            yield from _group_lines(group)
    yield from _listed(gettext("Look at this before you agree:"), map(describe_warning, draft.warnings))
    yield from _listed(gettext("Nothing to do for these:"), map(gettext, draft.unchanged))


def _change(step: Step) -> str:
    if step.field == PENALTIES:
        return gettext("the ILS recalculates the penalties")
    if step.field != GROUP:
        return gettext("becomes a group lead") if step.after else gettext("is no group lead any more")
    if step.after is None:
        return gettext("from group {group} to a new group of their own", group=step.before)
    return gettext("from group {group} to group {other}", group=step.before, other=step.after)


def _group_lines(group: PlannedGroup) -> Iterator[str]:
    members, hidden = group.members_before, group.hidden_member_count
    values = {
        "before": _owing(len(members) + hidden, group.total_before),
        "after": _owing(len(group.after) + hidden, group.total_after),
    }
    if group.number is None:
        yield "  " + gettext("a new group: {before}, then {after}", **values)
    else:
        yield "  " + gettext("group {group}: {before}, then {after}", group=group.number, **values)
    staying = [printable(member.name) for member in members if member in group.after]
    if staying and len(group.after) < len(members):
        yield "    " + gettext("stay behind: {names}", names="; ".join(staying))
    elif staying:
        yield "    " + gettext("there now: {names}", names="; ".join(staying))


def _owing(count: int, total: Decimal | None) -> str:
    fines = describe_total(total)
    return ngettext("{count} member owing {fines}", "{count} members owing {fines}", count, fines=fines)


def write_outcome(outcome: PlanOutcome, stream: TextIO) -> None:
    """Write what was done and, one by one, what wasn't and why."""
    _write_lines(stream, _outcome_lines(outcome))


def _outcome_lines(outcome: PlanOutcome) -> Iterator[str]:
    done = sum(step.state is StepState.DONE for step in outcome.steps)
    yield gettext("Changes done: {done:,} of {all:,}.", done=done, all=len(outcome.steps))
    for step in outcome.steps:
        name = printable(step.step.member.name)
        if text := _about_step(name, step):
            yield f"  {text}"
        for effect in step.side_effects:
            yield "  " + gettext(
                "{name}: {field} changed as well, from {before} to {after}",
                name=name,
                field=effect.field,
                before=printable(str(effect.before)),
                after=printable(str(effect.after)),
            )


def _about_step(name: str, step: StepOutcome[Step]) -> str:
    """What there is to say of one step; nothing of one that was done as planned into a group that is known."""
    reason = "" if step.side_effects else describe_reason(step.reason)
    if step.state is not StepState.DONE:
        return gettext("{name}: {state}", name=name, state=_why(step))
    if step.step.after is None and step.step.field == GROUP:
        if reason:
            return gettext("{name} is in group {group} now ({reason})", name=name, group=step.value, reason=reason)
        return gettext("{name} is in group {group} now", name=name, group=step.value)
    return gettext("{name}: done: {reason}", name=name, reason=reason) if reason else ""


def _why(step: StepOutcome[Step]) -> str:
    state = gettext(_STATES[step.state])
    if not step.reason or step.reason.code == "not-begun":
        return state
    return gettext("{state}: {reason}", state=state, reason=describe_reason(step.reason))


def _listed(heading: str, texts: Iterable[str]) -> Iterator[str]:
    items = [f"  - {printable(text)}" for text in texts]
    if items:
        yield heading
        yield from items


def _write_lines(stream: TextIO, lines: Iterable[str]) -> None:
    stream.writelines(f"{line}\n" for line in lines)


def write_recalculation_plan(findings: Sequence[PatronFinding], stream: TextIO) -> None:
    """Write whose penalties would be recalculated, and why."""
    _write_lines(stream, _recalculation_plan_lines(findings))


def _recalculation_plan_lines(findings: Sequence[PatronFinding]) -> Iterator[str]:
    if not findings:
        yield gettext("Nobody's penalties need to be recalculated.")
        return
    yield ngettext(
        "Recalculate the penalties of {count} patron, as the ILS does at their home libraries:",
        "Recalculate the penalties of {count} patrons, as the ILS does at their home libraries:",
        len(findings),
    )
    for finding in findings:
        yield f"  {person_heading(finding)}"
        heading, described = gettext(HEADINGS[finding.kind]), describe_patron_finding(finding)
        yield "    " + gettext("{heading}: {finding}", heading=heading, finding=described)


def write_recalculations(outcome: Recalculations, stream: TextIO) -> None:
    """Write what changed for whom, and what didn't and why."""
    _write_lines(stream, _recalculation_lines(outcome))


def _recalculation_lines(outcome: Recalculations) -> Iterator[str]:
    resolved = sum(person.resolved for person in outcome.people)
    yield gettext("Findings resolved: {resolved:,} of {all:,}.", resolved=resolved, all=len(outcome.people))
    for person in outcome.people:
        yield "  " + gettext("{person}: {what}", person=person_heading(person.finding), what=_what(person))


def _what(person: Recalculated) -> str:
    reason = describe_reason(person.reason)
    match person.state:
        case StepState.NOT_DONE:
            return gettext("left out: {reason}", reason=reason)
        case StepState.FAILED:
            return gettext("failed: {reason}", reason=reason)
        case StepState.SENDING:
            return gettext("not known yet: {reason}", reason=reason)
        case _:
            return reason
