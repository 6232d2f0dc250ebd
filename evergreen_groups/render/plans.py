"""Plans, their outcomes, the journal, and lists of patrons as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len

from evergreen_groups.changes import (
    GROUP,
    PENALTIES,
    Action,
    Draft,
    JournalEntry,
    JournalStep,
    PlannedGroup,
    PlanOutcome,
    Step,
    StepOutcome,
    StepState,
    TerminalUser,
)
from evergreen_groups.language import describe_total, gettext, minute, ngettext, number, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render.column import Column
from evergreen_groups.render.columns import aligned, text_table
from evergreen_groups.render.text import isolated, printable
from evergreen_groups.values import Total

if TYPE_CHECKING:
    from evergreen_groups.changes import PlanWarning, StepReason
    from evergreen_groups.desk import FoundPatron, Lookup, UnknownBarcode

WARNINGS: Mapping[str, Message] = {
    "card-not-active": Message("{name}'s card is inactive: check that it is theirs"),
    "account-barred": Message("{name} is barred: see their Notes"),
    "account-not-active": Message("{name}'s account is inactive: check that it is the right one"),
    "account-expired": Message("{name}'s account has expired: renew it"),
    "stranger-to-group": Message(
        "{names} shares no surname, address, phone or e-mail with anyone in {group}: check that they belong together",
        plural="{names} share no surname, address, phone or e-mail with anyone in {group}: check that they belong "
        "together",
    ),
    "borrowed-address": Message(
        "{name} and {owner} share an address record, so a change to one address changes the other: enter a separate "
        "address for {name}"
    ),
    "borrowed-address-of-another": Message(
        "{name} and a patron outside these groups share an address record, so a change to one address changes the "
        "other: enter a separate address for {name}"
    ),
    "lent-address": Message(
        "{borrower} will stay, but shares an address record with {name}, so a change to one address changes the other: "
        "enter a separate address for {borrower}"
    ),
    "several-adults": Message(
        "{group} will have {count} adult, more than {most}. They will see each other's fines: ask them first",
        plural="{group} will have {count} adults, more than {most}. They will see each other's fines: ask them first",
    ),
    "group-left-empty": Message("{group} will be empty"),
    "last-member-leaves": Message("the last member leaves {group}"),
    "left-alone": Message("{name} will stay behind alone: check whether {name} should leave too"),
    "left-without-lead": Message("{group} will be left without a lead: afterwards, make another member its lead"),
    "several-leads": Message(
        "{group} will have several leads: {names}. If only one of them should be lead, remove the lead mark from the "
        "others afterwards"
    ),
    "hidden-members": Message(
        "{group} has {count} member hidden from your login: if in doubt, ask a colleague who can see them",
        plural="{group} has {count} members hidden from your login: if in doubt, ask a colleague who can see them",
    ),
}
"""What to check before confirming a plan, by the code of the warning."""


@dataclass(frozen=True, slots=True)
class GroupNames:
    """How sentences name groups: ``this`` is the page's, and ``leads`` are other groups' leads (names, by number)."""

    this: int | None = None
    leads: Mapping[int, str] = field(default_factory=dict)

    def name(self, number: int) -> str:
        """Name a group within a sentence."""
        if number == self.this:
            return gettext("this group")
        if number in self.leads:
            return gettext("{lead}'s group", lead=isolated(self.leads[number]))
        return pgettext("in a sentence", "group {group}", group=number)

    def for_patron(self, name: str) -> GroupNames:
        """Return the names for a sentence about a patron, whose name doesn't help to recognize the group."""
        return replace(self, leads={number: lead for number, lead in self.leads.items() if lead != name})


NUMBERS = GroupNames()


def describe_warning(warning: PlanWarning, names: GroupNames = NUMBERS) -> str:
    """Describe a plan's warning in the reader's language, joining lists of names."""
    values = {name: _isolated_value(value) for name, value in warning.values.items()}
    if isinstance(number := values.get("group"), int):
        values["group"] = names.name(number)
    if isinstance(at_least := values.pop("at_least", None), int):
        values["count"] = Total(at_least, exact=False)
    return gettext(WARNINGS[warning.code], **values)


def _isolated_value(value: object) -> object:
    if isinstance(value, tuple):
        return "; ".join(map(isolated, value))  # names have commas
    return isolated(value) if isinstance(value, str) else value


ACTIONS = {
    Action.MOVE.value: Message("Move to another group"),
    Action.REMOVE.value: Message("Remove from the group"),
    Action.MERGE.value: Message("Merge groups"),
    Action.LEAD.value: Message("Change group lead"),
    Action.BATCH.value: Message("Changes from a file"),
    Action.UNDO.value: Message("Undo"),
    Action.RECALCULATE.value: Message("Refresh penalties"),
}
"""What a plan does, by its action."""

STATES = {
    StepState.PLANNED: Message("not started"),
    StepState.SENDING: Message("not confirmed yet"),
    StepState.DONE: Message("done"),
    StepState.UNCHANGED: Message("unchanged"),
    StepState.NOT_DONE: Message("not done"),
    StepState.FAILED: Message("failed"),
}
"""The state of a step."""


def write_draft(draft: Draft, stream: TextIO) -> None:
    """Write what a plan will do, how the groups change, and the warnings."""
    stream.writelines(f"{line}\n" for line in _draft_lines(draft))


def describe_reason(reason: StepReason) -> str:
    """Describe why a step has its state, in the journal's words."""
    return "; ".join(map(gettext, reason.messages))


def _draft_lines(draft: Draft) -> Iterator[str]:
    heading = gettext(ACTIONS[draft.action.value])
    yield ngettext("{heading}: {count} change", "{heading}: {count} changes", len(draft.steps), heading=heading)
    for step in draft.steps:
        member = step.member
        yield "  " + gettext(
            "{name} ({barcode}), own fines {fines}",
            name=printable(member.name),
            barcode=printable(member.barcode) if member.barcode else gettext("no card"),
            fines=member.own_fines,
        )
        yield f"    {describe_change(step.field, step.before, step.after)}"
    if draft.groups:
        yield gettext("Groups before and after (fines for information only):")
        for group in draft.groups:
            yield from _group_lines(group)
    yield from _listed(gettext("Check:"), map(describe_warning, draft.warnings))
    yield from _listed(gettext("Unchanged:"), map(gettext, draft.unchanged))


def describe_change(field: str, before: int, after: int | None, names: GroupNames = NUMBERS) -> str:
    """Describe the change of one field, planned or made. A group of None is a new one."""
    if field == PENALTIES:
        return gettext("penalties refreshed")
    if field != GROUP:
        return gettext("becomes group lead") if after else gettext("no longer group lead")
    if after is None:
        return gettext("from {before} to a new group", before=names.name(before))
    return gettext("from {before} to {after}", before=names.name(before), after=names.name(after))


def _group_lines(group: PlannedGroup) -> Iterator[str]:
    number = group.number
    yield "  " + group_line(group, gettext("New group") if number is None else gettext("Group {group}", group=number))
    if staying := [printable(member.name) for member in group.members_before if member in group.after]:
        yield "    " + gettext("other members: {names}", names="; ".join(staying))


def group_line(group: PlannedGroup, name: str) -> str:
    """Describe a group before and after a plan in one line. ``name`` is the group's for the reader."""
    hidden = group.hidden_member_count
    if group.total_before == group.total_after:  # also if both are unknown
        return ngettext(
            "{group}: {before} → {count} member, fines {owed}",
            "{group}: {before} → {count} members, fines {owed}",
            len(group.after) + hidden,
            group=name,
            before=number(len(group.members_before) + hidden),
            owed=describe_total(group.total_before),
        )
    return ngettext(
        "{group}: {before} → {count} member, fines {owed} → {left}",
        "{group}: {before} → {count} members, fines {owed} → {left}",
        len(group.after) + hidden,
        group=name,
        before=number(len(group.members_before) + hidden),
        owed=describe_total(group.total_before),
        left=describe_total(group.total_after),
    )


def write_outcome(outcome: PlanOutcome[Step], stream: TextIO) -> None:
    """Write how many steps were done, and the reason for each that wasn't."""
    print(describe_progress(outcome.steps), file=stream)
    for step in outcome.steps:
        name = printable(step.step.member.name)
        if text := _about_step(name, step):
            print(f"  {text}", file=stream)
        for effect in step.side_effects:
            before, after = printable(str(effect.before)), printable(str(effect.after))
            changed = Message("{name}: {field} also changed, from {before} to {after}")
            text = gettext(changed, name=name, field=effect.field, before=before, after=after)
            print(f"  {text}", file=stream)


def describe_progress(steps: Sequence[StepOutcome[Step]] | Sequence[JournalStep]) -> str:
    """Describe how many of a change's steps were done."""
    done = sum(step.state is StepState.DONE for step in steps)
    return gettext("{done:,} of {all:,} done", done=done, all=len(steps))


def _about_step(name: str, step: StepOutcome[Step]) -> str:
    """Describe a step's outcome; empty for a step that was done as planned into a known group."""
    reason = "" if step.side_effects or step.state is StepState.PLANNED else describe_reason(step.reason)
    if step.state is StepState.DONE and step.step.after is None and step.step.field == GROUP:
        return _with_reason(gettext("{name} is now in group {group}", name=name, group=step.value), reason)
    if step.state is StepState.DONE and not reason:
        return ""
    return gettext("{name}: {state}", name=name, state=_with_reason(gettext(STATES[step.state]), reason))


def _with_reason(state: str, reason: str) -> str:
    return gettext("{state}: {reason}", state=state, reason=reason) if reason else state


def _listed(heading: str, texts: Iterable[str]) -> Iterator[str]:
    items = [f"  - {printable(text)}" for text in texts]
    if items:
        yield heading
        yield from items


def write_entries(entries: Iterable[JournalEntry], stream: TextIO) -> None:
    """Write a line for each journal entry, or that there are none."""
    found = list(entries)
    if not found:
        stream.write(gettext("No changes yet.") + "\n")
    width = max((cell_len(minute(entry.at)) for entry in found), default=0)
    stream.writelines(f"{_entry_line(entry, width)}\n" for entry in found)


def _entry_line(entry: JournalEntry, width: int = 0) -> str:
    parts = [describe_progress(entry.steps)]
    if missing := entry.missing_step_count:
        parts.append(ngettext("{count} change deleted", "{count} changes deleted", missing))
    action = gettext(ACTIONS.get(entry.action, entry.action))
    what = gettext(
        "{account}: {action}",
        account=printable(entry.operator.account) or "-",  # forgotten
        action=action if entry.undoes is None else f"{action} {entry.undoes}",
    )
    if entry.operator.terminal_user is not None:
        parts.append(_describe_terminal_user(entry.operator.terminal_user))
    return f"{entry.id:>12}  {aligned(minute(entry.at), width)}  {', '.join([what, *parts])}"


def _describe_terminal_user(terminal_user: TerminalUser) -> str:
    person, host = printable(terminal_user.user), printable(terminal_user.host)
    if terminal_user.login_user is not None:
        person = gettext("{person} as {user}", person=printable(terminal_user.login_user), user=person)
    if terminal_user.terminal is not None:
        host = f"{host} ({printable(terminal_user.terminal)})"
    return gettext("by {person} on {host}", person=person, host=host)


def write_entry(entry: JournalEntry, stream: TextIO) -> None:
    stream.writelines(f"{line}\n" for line in [_entry_line(entry), *map(_journal_step, entry.steps)])


def _journal_step(step: JournalStep) -> str:
    after = step.value if step.value is not None else step.after
    if step.field == PENALTIES:
        left = describe_total(None) if after is None else after
        change = gettext("penalties set by Evergreen: {before}, then {after}", before=step.before, after=left)
    else:
        change = describe_change(step.field, step.before, after)
    state = _with_reason(gettext(STATES[step.state]), describe_reason(step.reason))
    return "       " + gettext("patron {patron}: {change} ({state})", patron=step.patron, change=change, state=state)


def describe_unknown(unknown: UnknownBarcode) -> Iterator[str]:
    """Yield what may be wrong with an unknown barcode, a sentence each."""
    if unknown.length is not None:
        yield gettext(
            "Barcodes here have {length} characters, this one has {count}.",
            length=unknown.length,
            count=len(unknown.barcode),
        )
    if unknown.check_digit_fails:
        yield gettext("The check digit is wrong: one of the digits was misread or mistyped.")
    if unknown.deleted is not None:
        yield gettext(
            "The card belongs to {name}, a deleted patron. If that was a mistake, ask your Evergreen administrator to "
            "restore the record.",
            name=printable(unknown.deleted),
        )


def similar_cards(unknown: UnknownBarcode) -> list[str]:
    """Return a heading, and for each card that is nearly the same its barcode, and a line that marks the difference."""
    lines = [gettext("Similar cards:")]
    for card in unknown.near:
        same, different, _rest = map(printable, card.parts)
        barcode = printable(card.barcode)
        lines.append(barcode if card.active else gettext("{barcode} (old card)", barcode=barcode))
        if different:
            lines.append(" " * len(same) + "^" * len(different))
    return lines if unknown.near else []


def write_found_patrons(found: Lookup, stream: TextIO, *, width: int) -> None:
    """Write a row for each patron, numbered from 1, and say if there are more."""
    print(*text_table(_FOUND, list(enumerate(found.patrons, 1)), width), sep="\n", file=stream)
    if found.more:
        text = gettext("There are more than {most}: type more of the name.", most=len(found.patrons))
        stream.write(f"{text}\n")


def _remarks(one: FoundPatron) -> str:
    notes = [pgettext("remark about a member", "juvenile")] if one.account.juvenile else []
    if one.note is not None:
        notes.append(gettext(one.note))
    return "; ".join(notes)


_FOUND: tuple[Column[tuple[int, FoundPatron]], ...] = (
    Column("", lambda row: row[0], kind="id"),
    Column("", lambda row: row[1].patron.name, Message("Name"), least=14),
    Column("", lambda row: row[1].patron.barcode or "–", Message("Barcode"), least=14),
    Column("", lambda row: row[1].patron.home_library.shortname, Message("Library")),
    Column("", lambda row: row[1].profile, Message("Profile"), least=10),
    Column("", lambda row: _remarks(row[1]), least=10),
)
