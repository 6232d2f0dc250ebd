"""Plans, their outcomes, the journal, and lists of patrons as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
from evergreen_groups.language import (
    describe_total,
    enumeration,
    gettext,
    minute,
    ngettext,
    pgettext,
)
from evergreen_groups.message import Message
from evergreen_groups.render.columns import Cell, Columns, TextColumn, aligned
from evergreen_groups.render.text import isolated, printable
from evergreen_groups.values import Total

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.changes import PlanWarning, StepReason
    from evergreen_groups.desk import FoundPatron, Lookup, NearCard, UnknownBarcode

WARNINGS: Mapping[str, Message] = {
    "card-not-active": Message("{name}'s card isn't active: check that it is theirs"),
    "account-barred": Message("{name} is barred: see the messages of their account"),
    "account-not-active": Message("{name}'s account isn't active: check that it is the right one"),
    "account-expired": Message("{name}'s account has expired: renew it"),
    "stranger-to-group": Message(
        "{names} shares no surname, address, phone or e-mail with group {group}: check that they belong together",
        plural="{names} share no surname, address, phone or e-mail with group {group}: check that they belong together",
    ),
    "borrowed-address": Message(
        "{name} uses {owner}'s address, and editing one changes both: give {name} an address of their own"
    ),
    "borrowed-address-of-another": Message(
        "{name} uses the address of somebody outside these groups, and editing one changes both: give {name} an "
        "address of their own"
    ),
    "lent-address": Message(
        "{borrower} stays and uses {name}'s address, and editing one changes both: give {borrower} an address of "
        "their own"
    ),
    "several-adults": Message(
        "group {group} will have {count} adult, more than {most}: ask them, they see each other's fines",
        plural="group {group} will have {count} adults, more than {most}: ask them, they see each other's fines",
    ),
    "group-left-empty": Message("group {group} will be empty"),
    "last-member-leaves": Message("the last member leaves group {group}"),
    "left-alone": Message("{name} stays alone in group {group}: move them too if they belong together"),
    "left-without-lead": Message("group {group} loses its lead: make another member lead"),
    "several-leads": Message("group {group} will have several leads ({names}): keep one"),
    "hidden-members": Message(
        "group {group} has {count} member that the account can't see",
        plural="group {group} has {count} members that the account can't see",
    ),
}
"""What to check before confirming a plan, by the code of the warning."""


def describe_warning(warning: PlanWarning) -> str:
    """Describe a plan's warning in the reader's language, joining lists of names."""
    values = {name: _isolated_value(value) for name, value in warning.values.items()}
    if isinstance(at_least := values.pop("at_least", None), int):
        values["count"] = Total(at_least, exact=False)
    return gettext(WARNINGS[warning.code], **values)


def _isolated_value(value: object) -> object:
    if isinstance(value, tuple):
        return enumeration(isolated(name) for name in value)
    return isolated(value) if isinstance(value, str) else value


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
    """Write what a plan will do, how the groups change, and the warnings."""
    _write_lines(stream, _draft_lines(draft))


def describe_reason(reason: StepReason) -> str:
    """Describe why a step has its state, in the journal's words."""
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
    yield from _listed(gettext("Check:"), map(describe_warning, draft.warnings))
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


def write_outcome(outcome: PlanOutcome[Step], stream: TextIO) -> None:
    """Write how many steps were done, and the reason for each that wasn't."""
    _write_lines(stream, _outcome_lines(outcome))


def _outcome_lines(outcome: PlanOutcome[Step]) -> Iterator[str]:
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
    """Describe a step's outcome; empty for a step that was done as planned into a known group."""
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


_ACTIONS = {
    Action.MOVE.value: Message("move", context="action in the journal"),
    Action.REMOVE.value: Message("remove", context="action in the journal"),
    Action.MERGE.value: Message("merge", context="action in the journal"),
    Action.LEAD.value: Message("lead", context="action in the journal"),
    Action.BATCH.value: Message("batch", context="action in the journal"),
    Action.UNDO.value: Message("undo", context="action in the journal"),
    Action.RECALCULATE.value: Message("recalculate", context="action in the journal"),
}
_JOURNAL_STATES = {
    StepState.PLANNED: Message("planned", context="step in the journal"),
    StepState.SENDING: Message("sending", context="step in the journal"),
    StepState.DONE: Message("done", context="step in the journal"),
    StepState.UNCHANGED: Message("unchanged", context="step in the journal"),
    StepState.NOT_DONE: Message("not done", context="step in the journal"),
    StepState.FAILED: Message("failed", context="step in the journal"),
}


def write_entries(entries: Iterable[JournalEntry], stream: TextIO) -> None:
    """Write a line for each journal entry, or that there are none."""
    found = list(entries)
    if not found:
        stream.write(gettext("No changes yet.") + "\n")
    width = max((cell_len(minute(entry.at)) for entry in found), default=0)
    stream.writelines(f"{_entry_line(entry, width)}\n" for entry in found)


def _entry_line(entry: JournalEntry, width: int = 0) -> str:
    done = sum(step.state is StepState.DONE for step in entry.steps)
    parts = [gettext("changes done: {done:,} of {all:,}", done=done, all=len(entry.steps))]
    if missing := entry.missing_step_count:
        parts.append(ngettext("{count} change not kept any longer", "{count} changes not kept any longer", missing))
    action: str = _ACTIONS.get(entry.action, entry.action)
    if entry.undoes is not None:
        action = Message("{action} of entry {entry}", values={"action": action, "entry": entry.undoes})
    what = gettext("{account}: {action}", account=printable(entry.operator.account), action=action)
    if entry.operator.terminal_user is not None:
        parts.append(_describe_terminal_user(entry.operator.terminal_user))
    return f"{entry.id:>12}  {aligned(minute(entry.at), width)}  {', '.join([what, *parts])}"


def _describe_terminal_user(terminal_user: TerminalUser) -> str:
    person, host = printable(terminal_user.user), printable(terminal_user.host)
    if terminal_user.login_user is not None:
        person = gettext("{person} as {user}", person=printable(terminal_user.login_user), user=person)
    if terminal_user.terminal is None:
        return gettext("by {person} on {host}", person=person, host=host)
    return gettext(
        "by {person} at {terminal} on {host}", person=person, terminal=printable(terminal_user.terminal), host=host
    )


def write_entry(entry: JournalEntry, stream: TextIO) -> None:
    """Write a journal entry with its steps."""
    stream.writelines(f"{line}\n" for line in [_entry_line(entry), *map(_journal_step, entry.steps)])


def _journal_step(step: JournalStep) -> str:
    values = {"patron": step.patron, "change": _journal_change(step), "state": gettext(_JOURNAL_STATES[step.state])}
    if not step.reason:
        return "       " + gettext("patron {patron}: {change}: {state}", **values)
    reason = describe_reason(step.reason)
    return "       " + gettext("patron {patron}: {change}: {state} ({reason})", reason=reason, **values)


def _journal_change(step: JournalStep) -> str:
    after = step.value if step.value is not None else step.after
    if step.field == PENALTIES:
        if after is None:
            return gettext("penalties set by the ILS: {before}, then not known", before=step.before)
        return gettext("penalties set by the ILS: {before}, then {after}", before=step.before, after=after)
    if step.field == GROUP:
        if after is None:
            return gettext("group {before} to a new one", before=step.before)
        return gettext("group {before} to {after}", before=step.before, after=after)
    return gettext("group lead on") if after else gettext("group lead off")


def describe_unknown(unknown: UnknownBarcode) -> Iterator[str]:
    """Yield what may be wrong with an unknown barcode, a sentence each, and the cards that are nearly the same."""
    if unknown.length is not None:
        yield ngettext(
            "It has {count} character; the cards here have {length}.",
            "It has {count} characters; the cards here have {length}.",
            len(unknown.barcode),
            length=unknown.length,
        )
    if unknown.check_digit_fails:
        yield gettext("Its check digit doesn't fit: one of the digits is wrong.")
    if unknown.deleted is not None:
        yield gettext("It is a card of {name}, whose record is deleted.", name=printable(unknown.deleted))
    if unknown.near:
        near = enumeration(_near_card(card) for card in unknown.near)
        yield gettext("Nearly the same: {cards}", cards=near)


def _near_card(card: NearCard) -> str:
    named = {"barcode": printable(card.barcode), "name": isolated(card.name)}
    text = gettext("{barcode}  {name}", **named)
    return text if card.active else gettext("{barcode}  {name} (an old card)", **named)


def write_found_patrons(found: Lookup, stream: TextIO, *, width: int) -> None:
    """Write a row for each patron, numbered from 1, and say if there are more."""
    headings = (
        TextColumn("", right=True),
        TextColumn(gettext("Name"), least=14),
        TextColumn(gettext("Barcode"), least=14),
        TextColumn(gettext("Library")),
        TextColumn(gettext("Profile"), least=10),
        TextColumn("", least=10),
    )
    rows = [_row(number, one) for number, one in enumerate(found.patrons, 1)]
    print(*Columns(headings, rows, width).lines(rows), sep="\n", file=stream)
    if found.more:
        text = gettext("There are more than these {most}: type more of the name.", most=len(found.patrons))
        stream.write(f"{text}\n")


def _row(number: int, one: FoundPatron) -> list[Cell]:
    patron = one.patron
    notes = [pgettext("remark about a member", "juvenile")] if one.account.juvenile else []
    if one.note is not None:
        notes.append(gettext(one.note))
    texts = (patron.name, patron.barcode or "–", patron.home_library.shortname, one.profile, "; ".join(notes))
    return [Cell(f"{number}"), *(Cell(printable(text)) for text in texts)]
