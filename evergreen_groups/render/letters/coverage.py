"""What letters cover, and who gets none and why: above the letters, for a terminal, and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.follow_up import FollowUpState, FollowUpStatus, What
from evergreen_groups.language import gettext, price
from evergreen_groups.letters import Debtors, NoLetter
from evergreen_groups.message import Message
from evergreen_groups.render.follow_ups import describe_latest, describe_status, describe_unreturned
from evergreen_groups.render.json_documents import total_document
from evergreen_groups.render.text import isolated
from evergreen_groups.values import ZERO, Total, plain_amount, sum_of_counts, sum_of_prices

if TYPE_CHECKING:
    from evergreen_groups.letters import Coverage, LeftOut, Letters

FollowUpStates = Mapping[int, FollowUpState]
"""How far the follow-ups are, by group number. Groups without a follow-up may be left out."""

REASONS = {
    NoLetter.NO_CONTACT: Message("no adult, and no parent or guardian"),
    NoLetter.INACTIVE: Message("the account is inactive or deleted"),
    NoLetter.WITHHELD: Message("the contact belongs to another library"),
    NoLetter.MINOR: Message("the contact is a child"),
    NoLetter.IN_COLLECTIONS: Message("in collections"),
    NoLetter.EXEMPT: Message("exempt from collections"),
    NoLetter.NO_ADDRESS: Message("no valid address"),
    NoLetter.NOTHING_OWED: Message("nothing owed"),
    NoLetter.BELOW_MINIMUM: Message("below the minimum"),
    NoLetter.CLOSED: Message("the follow-up is closed"),
    NoLetter.WAITING: Message("waiting for a promise or reminder"),
}
"""Why a family gets no letter, or why a member's debts are in none."""

_COVERED = Message("{covered} of {owed}")
_ITEMS_COVERED = Message(
    "{items} of {unreturned} overdue or lost item", plural="{items} of {unreturned} overdue or lost items"
)
_IN_LETTERS = Message("{amounts} in {count} letter", plural="{amounts} in {count} letters")
_NO_LETTER = Message("no letter: {reason}")
_LEFT_OUT = Message("{name}: {owed}, {reason}")
_TO_LEAD = Message("{name}: send it to the group lead's address")
_GUARDIAN_TO_LEAD = Message("Parent or guardian of {name}: send it to the group lead's address")
_ANYWAY = Message("Write anyway")
_INCOMPLETE = Message(
    "Incomplete: {count} hidden member may be missing", plural="Incomplete: {count} hidden members may be missing"
)
_LETTERS = Message("{count} letter covers {amounts}", plural="{count} letters cover {amounts}")
_PEOPLE = Message("{count} person owes {amounts}", plural="{count} people owe {amounts}")
_MORE = Message("{count} more family to check (--json)", plural="{count} more families to check (--json)")
_UNREACHABLE = Message("{library} has neither an address nor a phone number in Evergreen")
_LATER = Message("letter no. {number}")
_FEW, _FAMILIES = 5, 20
"""How many groups a line names, and how many families a terminal shows."""
_HELD_BACK = {NoLetter.CLOSED, NoLetter.WAITING}


def held_back(follow_ups: FollowUpStates, anyway: Collection[int] = ()) -> dict[int, NoLetter]:
    """Return the groups that are closed, or wait for a promise or a reminder, except those to write to ``anyway``."""
    found = {}
    for number, state in follow_ups.items():
        is_waiting = state.status is FollowUpStatus.WAITING
        promised = state.latest is not None and state.latest.what is What.PROMISED  # perhaps without a day
        if number not in anyway and (state.is_closed or (is_waiting and (state.waits_for or promised))):
            found[number] = NoLetter.CLOSED if state.is_closed else NoLetter.WAITING
    return found


class LetterOption(NamedTuple):
    """What staff may choose for a family: the ``name`` and ``value`` of a checkbox."""

    name: str
    value: int
    text: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class FamilyLine:
    """A family above the letters. ``name`` is the lead's, empty if only the group's number is known.

    ``text`` says what the letters cover, or why there is none. ``warnings`` are reasons not to mail them, ``left_out``
    says who owes the rest.
    """

    name: str
    text: str
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    options: tuple[LetterOption, ...] = ()


def family_lines(letters: Letters, follow_ups: FollowUpStates, anyway: Collection[int] = ()) -> Iterator[FamilyLine]:
    """Yield the families, including those without a letter: first the groups of which no member was read.

    Letters to the groups (numbers) in ``anyway`` were chosen although the family is closed or waiting.
    """
    reasons = {one.group: one.reason for one in letters.left_out}
    for number in reasons.keys() - {family.group.number for family in letters.coverage}:
        yield FamilyLine("", _joined(number, _no_letter(reasons[number])))
    for family in letters.coverage:
        number = family.group.number
        reason = reasons.get(number)
        is_held = any(one.reason in _HELD_BACK for one in family.left_out)
        text = _joined(number, _amounts(family) if reason is None else f"{_no_letter(reason)} · {_covered(family)}")
        if reason is None and (sent := follow_ups[number].letters_sent if number in follow_ups else 0):
            text = f"{text} · {gettext(_LATER, number=sent + 1)}"
        warnings = _warnings(family, follow_ups.get(number)) if reason is None or is_held else ()
        options = [
            LetterOption(
                "to_lead",
                one.member.id,
                gettext(_GUARDIAN_TO_LEAD if one.guardian else _TO_LEAD, name=isolated(one.member.name)),
                one.to_lead,
            )
            for one in family.without_address
        ]
        if is_held or number in anyway:
            options.append(LetterOption("anyway", number, gettext(_ANYWAY), number in anyway))
        rest = tuple(_not_included(family, reason))
        yield FamilyLine(family.group.lead.name, text, tuple(warnings), rest, tuple(options))


def _no_letter(reason: NoLetter) -> str:
    return gettext(_NO_LETTER, reason=gettext(REASONS[reason]))


def _joined(number: int, *parts: str) -> str:
    return " · ".join(filter(None, (gettext("group {group}", group=number), *parts)))


def _amounts(family: Coverage) -> str:
    """Say how much of a family's debts is covered, in how many letters."""
    return gettext(_IN_LETTERS, amounts=_covered(family), count=family.letter_count)


def _covered(*families: Coverage) -> str:
    """Say how much of the families' debts is covered, and in a report by items, how many overdue and lost items."""
    owed = sum_of_prices(family.owed for family in families)
    amounts = gettext(_COVERED, covered=sum((family.covered for family in families), ZERO), owed=owed)
    unreturned = [family.unreturned for family in families if family.unreturned is not None]
    if not unreturned:
        return amounts
    total, covered = sum_of_counts(unreturned), sum(family.items for family in families)
    items = gettext(_ITEMS_COVERED, count=total.at_least, items=covered, unreturned=total)
    return items if owed == Total(ZERO) else f"{amounts}, {items}"


def _warnings(family: Coverage, follow_up: FollowUpState | None) -> Iterator[str]:
    if follow_up is not None and follow_up.status is not FollowUpStatus.TO_DO:
        label, value = describe_status(follow_up), describe_latest(follow_up)
        yield gettext("{label}: {value}", label=label, value=value) if value else label
    if count := family.group.hidden_member_count:
        yield gettext(_INCOMPLETE, count=count)


def _not_included(family: Coverage, known: NoLetter | None = None) -> Iterator[str]:
    """Say who owes what no letter covers, and why, unless the reason is the ``known`` one of the whole family."""
    for one in family.left_out:
        if (member := one.member) is not None and one.reason is not known:
            debt = price(member.own_fines) if member.own_fines > 0 else ""
            owed = ", ".join(filter(None, (debt, describe_unreturned(one.unreturned))))
            yield gettext(_LEFT_OUT, name=isolated(member.name), owed=owed, reason=gettext(REASONS[one.reason]))


def describe_amounts(made: Letters | Debtors) -> str:
    """Return the number of letters, or of people in a mail-merge file, and what they cover."""
    amounts = _covered(*made.coverage)
    if isinstance(made, Debtors):
        return gettext(_PEOPLE, count=len(made.people), amounts=amounts)
    return gettext(_LETTERS, count=len(made.letters), amounts=amounts)


def describe_libraries(letters: Letters) -> Iterator[str]:
    """Yield a warning for each library that no one could reach by its letters."""
    for name in letters.incomplete_libraries:
        yield gettext(_UNREACHABLE, library=name)


def describe_coverage(made: Letters | Debtors, follow_ups: FollowUpStates) -> Iterator[str]:
    """Yield lines for a terminal: the total, who gets none and why, and the first families to check."""
    yield describe_amounts(made)
    if not isinstance(made, Debtors):
        yield from describe_libraries(made)
    yield from _describe_left_out(made.left_out)
    written = {one.group for one in (made.people if isinstance(made, Debtors) else made.letters)}
    found = (
        (family, [*_warnings(family, follow_ups.get(family.group.number)), *_not_included(family)])
        for family in made.coverage
        if family.group.number in written
    )
    to_check = [(family, remarks) for family, remarks in found if remarks]
    for family, remarks in to_check[:_FAMILIES]:
        amounts = _covered(family) if isinstance(made, Debtors) else _amounts(family)
        yield f"{isolated(family.group.lead.name)} · {_joined(family.group.number, amounts)}"
        yield from (fill(remark, 80, initial_indent="  ", subsequent_indent="    ") for remark in remarks)
    if len(to_check) > _FAMILIES:
        yield gettext(_MORE, count=len(to_check) - _FAMILIES)


def _describe_left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """Yield a line for each reason, with the groups (of a mail-merge file: of the people)."""
    of_people = any(one.member for one in left_out)
    text = Message("People left out: {reason} ({groups})") if of_people else Message("No letter: {reason} ({groups})")
    groups: dict[NoLetter, dict[int, None]] = defaultdict(dict)
    for one in left_out:
        groups[one.reason][one.group] = None
    for reason, numbers in groups.items():
        yield gettext(text, reason=gettext(REASONS[reason]), groups=_few(numbers))


def _few(numbers: Mapping[int, None]) -> str:
    """Name groups, only the first few of many."""
    if len(numbers) <= _FEW:
        return ", ".join(gettext("group {group}", group=number) for number in numbers)
    first = ", ".join(map(str, islice(numbers, _FEW)))
    return gettext("{count:,} groups: {groups}, …", count=len(numbers), groups=first)


def letters_document(made: Letters | Debtors, follow_ups: FollowUpStates) -> dict[str, Any]:
    """Return who is written to, who isn't and why, and what each family's letters cover, as JSON, version 1.

    People are ids.
    """
    written: list[dict[str, Any]]
    if isinstance(made, Debtors):
        kind, left_out = "people-who-owe", made.left_out
        written = [
            {"group": one.group, "patron": one.member.id, "contact": one.addressee.patron} for one in made.people
        ]
    else:
        kind, left_out = "letters", (*made.left_out, *(one for family in made.coverage for one in family.left_out))
        written = [
            {"group": one.group, "contact": one.addressee.patron, "owed": plain_amount(one.statement.owed)}
            for one in made.letters
        ]
    return {
        "version": 1,
        "kind": kind,
        "written": written,
        "left_out": [*map(_left_out_document, left_out)],
        "families": [
            {
                "group": family.group.number,
                "covered": plain_amount(family.covered),
                **total_document("owed", family.owed),
                **_items_document(family),
                "hidden_member_count": family.group.hidden_member_count,
                "follow_up": state.status.value if (state := follow_ups.get(family.group.number)) else None,
            }
            for family in made.coverage
        ],
    }


def _items_document(family: Coverage) -> dict[str, Any]:
    """Return the fields of a report by items."""
    unreturned = family.unreturned
    return {} if unreturned is None else {"items_covered": family.items, **total_document("unreturned", unreturned)}


def _left_out_document(one: LeftOut) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if one.member is not None:
        about = {"patron": one.member.id, "owed": plain_amount(one.member.own_fines)}
    if one.unreturned:
        about["unreturned"] = one.unreturned
    return {"group": one.group, **about, "reason": one.reason.value}
