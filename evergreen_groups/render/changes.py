"""Plans, what became of them, and the journal, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.changes import (
    GROUP,
    PENALTIES,
    Action,
    Draft,
    JournalEntry,
    JournalStep,
    PlannedGroup,
    PlanOutcome,
    Recalculated,
    Recalculations,
    Step,
    StepOutcome,
    StepState,
)
from evergreen_groups.language import enumeration, filled, gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.money import amount
from evergreen_groups.render.audit import HEADINGS, describe_patron_finding, person_heading
from evergreen_groups.render.safe_text import isolated, printable
from evergreen_groups.render.wording import counted, local_time

if TYPE_CHECKING:
    from evergreen_groups.audit import PatronFinding
    from evergreen_groups.changes import PlanWarning

_HEADINGS = {
    Action.MOVE: "Move into another group",
    Action.REMOVE: "Remove from the group",
    Action.MERGE: "Merge two groups",
    Action.LEAD: "Group lead",
    Action.BATCH: "Changes from a file",
    Action.UNDO: "Take back",
    Action.RECALCULATE: "Recalculate penalties",
}


WARNINGS: Mapping[str, str] = {
    "card-not-active": Message("the card given for {name} is not active"),
    "account-deleted": Message("the account of {name} is deleted"),
    "account-barred": Message("the account of {name} is barred"),
    "account-not-active": Message("the account of {name} is not active"),
    "account-expired": Message("the account of {name} has expired"),
    "stranger-to-group": Message(
        "{name} shares no surname, address, phone, e-mail or library with anybody in group {group}"
    ),
    "borrowed-address": Message(
        "{name} uses an address that belongs to {owner}'s record: where one of the two changes it, it changes for both"
    ),
    "borrowed-address-of-another": Message(
        "{name} uses an address that belongs to the record of somebody outside these groups: where one of the two "
        "changes it, it changes for both"
    ),
    "lent-address": Message(
        "{borrower} stays and uses an address that belongs to {name}'s record: where one of the two changes it, it "
        "changes for both"
    ),
    "several-adults": "group {group} will have {count} adults, more than {most}: adults see each other's affairs there",
    "group-left-empty": Message("group {group} will be empty"),
    "last-member-leaves": Message("the last member leaves group {group}"),
    "left-alone": Message("{name} is left alone in group {group}"),
    "left-without-lead": "{names} leads group {group}; {count} stay behind without a lead",
    "several-leads": "group {group} will have {count} group leads: {names}",
    "hidden-members": "group {group} has members that the account can't see ({count})",
}
"""What to look at before agreeing to a plan, by the code of the warning; those with a count for many."""


def describe_warning(warning: PlanWarning) -> str:
    """Describe a plan's warning; several names are joined."""
    values = {name: _written(value) for name, value in warning.values.items()}
    count = values.pop("count", None)
    if not isinstance(count, int):
        return gettext(WARNINGS[warning.code], **values)
    return _counted_warning(warning.code, count, values)


def _counted_warning(code: str, count: int, values: Mapping[str, object]) -> str:
    match code:
        case "several-adults":
            return ngettext(
                "group {group} will have {count} adult, more than {most}: adults see each other's affairs there",
                "group {group} will have {count} adults, more than {most}: adults see each other's affairs there",
                count,
                **values,
            )
        case "left-without-lead":
            return ngettext(
                "{names} leads group {group}; {count} stays behind without a lead",
                "{names} leads group {group}; {count} stay behind without a lead",
                count,
                **values,
            )
        case "several-leads":
            return ngettext(
                "group {group} will have {count} group lead: {names}",
                "group {group} will have {count} group leads: {names}",
                count,
                **values,
            )
        case "hidden-members":
            return ngettext(
                "group {group} has members that the account can't see ({count})",
                "group {group} has members that the account can't see ({count})",
                count,
                **values,
            )
    return filled(WARNINGS[code], {"count": count, **values})


def _written(value: object) -> object:
    if isinstance(value, tuple):
        return enumeration(isolated(name) for name in value)
    return isolated(value) if isinstance(value, str) else value


def write_draft(draft: Draft, stream: TextIO) -> None:
    """Write what a plan will do, what it means for the groups, and what to look at before saying yes."""
    _write_lines(stream, _draft_lines(draft))


def _draft_lines(draft: Draft) -> Iterator[str]:
    yield f"{_HEADINGS[draft.action]}: {counted(len(draft.steps), 'change')}"
    for step in draft.steps:
        member = step.member
        barcode = printable(member.barcode or "no card")
        yield f"  {printable(member.name)} ({barcode}), own fines {amount(member.own_fines)}"
        yield f"    {_change(step)}"
    if draft.groups:
        yield "Groups before and after, their fines for information only:"
        for group in draft.groups:
            yield from _group_lines(group)
    yield from _listed("Look at this before you agree:", map(describe_warning, draft.warnings))
    yield from _listed("Nothing to do for these:", draft.unchanged)


def _change(step: Step) -> str:
    if step.field == PENALTIES:
        return "the ILS recalculates the penalties"
    if step.field != GROUP:
        return "becomes a group lead" if step.after else "is no group lead any more"
    to = "a new group of their own" if step.after is None else f"group {step.after}"
    return f"from group {step.before} to {to}"


def _group_lines(group: PlannedGroup) -> Iterator[str]:
    name = "  a new group" if group.number is None else f"  group {group.number}"
    members, hidden = group.members_before, group.hidden_member_count
    before = f"{counted(len(members) + hidden, 'member')} owing {amount(group.total_before)}"
    after = f"{counted(len(group.after) + hidden, 'member')} owing {amount(group.total_after)}"
    yield f"{name}: {before}, then {after}"
    staying = [member for member in members if member in group.after]
    if staying and len(group.after) < len(members):
        yield f"    stay behind: {'; '.join(printable(member.name) for member in staying)}"
    elif staying:
        yield f"    there now: {'; '.join(printable(member.name) for member in staying)}"


def write_outcome(outcome: PlanOutcome, stream: TextIO) -> None:
    """Write what was done and, one by one, what wasn't and why."""
    _write_lines(stream, _outcome_lines(outcome))


def _outcome_lines(outcome: PlanOutcome) -> Iterator[str]:
    done = sum(step.state is StepState.DONE for step in outcome.steps)
    yield f"{done} of {counted(len(outcome.steps), 'change')} done."
    for step in outcome.steps:
        if step.state is not StepState.DONE:
            yield f"  {printable(step.step.member.name)}: {_why(step)}"
        elif step.step.after is None:
            also = f" ({step.reason})" if step.reason and not step.side_effects else ""
            yield f"  {printable(step.step.member.name)} is in group {step.value} now{also}"
        elif step.reason and not step.side_effects:
            yield f"  {printable(step.step.member.name)}: done: {step.reason}"
        for effect in step.side_effects:
            yield (
                f"  {printable(step.step.member.name)}: {effect.field} changed as well, "
                f"from {printable(str(effect.before))} to {printable(str(effect.after))}"
            )


def _why(step: StepOutcome[Step]) -> str:
    words = {StepState.PLANNED: "not begun", StepState.SENDING: "not known yet", StepState.NOT_DONE: "not done"}
    state = words.get(step.state, step.state.value)
    return state if step.reason in ("", state) else f"{state}: {step.reason}"


def write_entries(entries: Iterable[JournalEntry], stream: TextIO) -> None:
    """Write a line for each entry of the journal."""
    _write_lines(stream, (_entry_line(entry) for entry in entries))


def _entry_line(entry: JournalEntry) -> str:
    done = sum(step.state is StepState.DONE for step in entry.steps)
    undoes = f" of entry {entry.undoes}" if entry.undoes is not None else ""
    missing = f", {entry.missing_step_count} more not kept any longer" if entry.missing_step_count else ""
    return (
        f"{entry.id:>5}  {local_time(entry.at)}  {entry.operator.account}: {entry.action}{undoes}, "
        f"{done} of {counted(len(entry.steps), 'change')} done{missing}"
    )


def write_entry(entry: JournalEntry, stream: TextIO) -> None:
    """Write one entry of the journal with its steps."""
    _write_lines(stream, [_entry_line(entry), *(_journal_step(step) for step in entry.steps)])


def _journal_step(step: JournalStep) -> str:
    after = step.value if step.value is not None else step.after
    if step.field == PENALTIES:
        change = f"penalties set by the ILS: {step.before}, then {'not known' if after is None else after}"
    elif step.field == GROUP:
        change = f"group {step.before} to {'a new one' if after is None else after}"
    else:
        change = "group lead on" if after else "group lead off"
    reason = f" ({step.reason})" if step.reason else ""
    return f"       patron {step.patron}: {change}: {step.state.value}{reason}"


def _listed(heading: str, texts: Iterable[str]) -> Iterator[str]:
    items = [f"  - {printable(text)}" for text in texts]
    if items:
        yield heading
        yield from items


def _write_lines(stream: TextIO, lines: Iterable[str]) -> None:
    stream.writelines(f"{line}\n" for line in lines)


def write_recalculation_plan(findings: Sequence[PatronFinding], stream: TextIO) -> None:
    """Write whose penalties would be recalculated, and why."""
    stream.writelines(f"{line}\n" for line in _recalculation_plan_lines(findings))


def _recalculation_plan_lines(findings: Sequence[PatronFinding]) -> Iterator[str]:
    if not findings:
        yield "Nobody's penalties need to be recalculated."
        return
    yield f"Recalculate the penalties of {counted(len(findings), 'patron')}, as the ILS does at their home libraries:"
    for finding in findings:
        yield f"  {person_heading(finding)}"
        yield f"    {HEADINGS[finding.kind]}: {describe_patron_finding(finding)}"


def write_recalculations(outcome: Recalculations, stream: TextIO) -> None:
    """Write what changed for whom, and what didn't and why."""
    stream.writelines(f"{line}\n" for line in _recalculation_lines(outcome))


def _recalculation_lines(outcome: Recalculations) -> Iterator[str]:
    resolved = sum(person.resolved for person in outcome.people)
    yield f"{resolved} of {counted(len(outcome.people), 'finding')} resolved."
    for person in outcome.people:
        yield f"  {person_heading(person.finding)}: {_what(person)}"


def _what(person: Recalculated) -> str:
    words = {StepState.NOT_DONE: "left out: ", StepState.FAILED: "failed: ", StepState.SENDING: "not known yet: "}
    return words.get(person.state, "") + person.reason
