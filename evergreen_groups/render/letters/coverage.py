"""What letters cover, and who gets none and why: above the letters, for a terminal, and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from textwrap import fill
from typing import TYPE_CHECKING, Any

from evergreen_groups.follow_up import FollowUpState, FollowUpStatus
from evergreen_groups.language import gettext, ngettext, price
from evergreen_groups.letters import Debtors, NoLetter
from evergreen_groups.message import Message
from evergreen_groups.render.follow_ups import describe_latest, describe_status
from evergreen_groups.render.json_documents import total_document
from evergreen_groups.render.text import isolated
from evergreen_groups.values import ZERO, Total, plain_amount, sum_of_counts, sum_of_prices

if TYPE_CHECKING:
    from evergreen_groups.groups import Member
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
    NoLetter.NOTHING_OWED: Message("the contact and the children owe nothing"),
    NoLetter.OTHER_ADULT: Message("another adult"),
}
"""Why a family gets no letter, or why a member's debts are in none."""

_COVERED = Message("{covered} of {owed}")
_ITEMS_COVERED = Message("{items} of {overdue} overdue item", plural="{items} of {overdue} overdue items")
_NO_LETTER = Message("no letter: {reason}")
_LEFT_OUT = Message("Not included ({reason}): {people}")
_INCOMPLETE = Message(
    "Incomplete: {count} hidden member may be missing", plural="Incomplete: {count} hidden members may be missing"
)
_LETTERS = Message("{count} letter covers {amounts}", plural="{count} letters cover {amounts}")
_PEOPLE = Message("{count} person owes {amounts}", plural="{count} people owe {amounts}")
_MORE = Message("{count} more family to check (--json)", plural="{count} more families to check (--json)")
_FEW, _FAMILIES = 5, 20
"""How many groups a line names, and how many families a terminal shows."""


@dataclass(frozen=True, slots=True)
class FamilyLine:
    """A family above the letters. ``name`` is the lead's, empty if only the group's number is known.

    ``text`` says what the letter covers, or why there is none. ``warnings`` are reasons not to mail it, ``left_out``
    says who owes the rest.
    """

    name: str
    text: str
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def family_lines(letters: Letters, follow_ups: FollowUpStates) -> Iterator[FamilyLine]:
    """Yield the families, including those without a letter: first the groups of which no member was read."""
    reasons = {one.group: gettext(_NO_LETTER, reason=gettext(REASONS[one.reason])) for one in letters.left_out}
    for number in reasons.keys() - {family.group.number for family in letters.coverage}:
        yield FamilyLine("", _joined(number, reasons[number]))
    for family in letters.coverage:
        number = family.group.number
        text = _joined(number, reasons.get(number, ""), _amounts(family))
        warnings = () if number in reasons else _warnings(family, follow_ups.get(number))
        yield FamilyLine(family.group.lead.name, text, tuple(warnings), tuple(_not_included(family)))


def _joined(number: int, *parts: str) -> str:
    return " · ".join(filter(None, (gettext("group {group}", group=number), *parts)))


def _amounts(*families: Coverage) -> str:
    """Say how much of the families' debts is covered, and in a report by items, how many of the overdue items."""
    owed = sum_of_prices(family.owed for family in families)
    amounts = gettext(_COVERED, covered=sum((family.covered for family in families), ZERO), owed=owed)
    overdue = [family.overdue for family in families if family.overdue is not None]
    if not overdue:
        return amounts
    total, covered = sum_of_counts(overdue), sum(family.items for family in families)
    items = gettext(_ITEMS_COVERED, count=total.at_least, items=covered, overdue=total)
    return items if owed == Total(ZERO) else f"{amounts}, {items}"


def _warnings(family: Coverage, follow_up: FollowUpState | None) -> Iterator[str]:
    if follow_up is not None and follow_up.status is not FollowUpStatus.TO_DO:
        label, value = describe_status(follow_up), describe_latest(follow_up)
        yield gettext("{label}: {value}", label=label, value=value) if value else label
    if count := family.group.hidden_member_count:
        yield gettext(_INCOMPLETE, count=count)


def _not_included(family: Coverage) -> Iterator[str]:
    people: dict[NoLetter, list[str]] = defaultdict(list)
    for one in family.left_out:
        if one.member is not None:
            people[one.reason].append(f"{isolated(one.member.name)} {_of_member(one.member, one.overdue)}")
    for reason, named in people.items():
        yield gettext(_LEFT_OUT, reason=gettext(REASONS[reason]), people=tuple(named))


def _of_member(member: Member, overdue: int) -> str:
    """Say what a member owes, and in a report by items, how many items are overdue."""
    if not overdue:
        return price(member.own_fines)
    items = ngettext("{count} item overdue", "{count} items overdue", overdue)
    return f"({price(member.own_fines)}, {items})" if member.own_fines > 0 else f"({items})"


def describe_amounts(made: Letters | Debtors) -> str:
    """Return the number of letters, or of people in a mail-merge file, and what they cover."""
    amounts = _amounts(*made.coverage)
    if isinstance(made, Debtors):
        return gettext(_PEOPLE, count=len(made.people), amounts=amounts)
    return gettext(_LETTERS, count=len(made.letters), amounts=amounts)


def describe_coverage(made: Letters | Debtors, follow_ups: FollowUpStates) -> Iterator[str]:
    """Yield lines for a terminal: the total, who gets none and why, and the first families to check."""
    yield describe_amounts(made)
    yield from _describe_left_out(made.left_out)
    written = {one.group for one in (made.people if isinstance(made, Debtors) else made.letters)}
    found = (
        (family, [*_warnings(family, follow_ups.get(family.group.number)), *_not_included(family)])
        for family in made.coverage
        if family.group.number in written
    )
    to_check = [(family, remarks) for family, remarks in found if remarks]
    for family, remarks in to_check[:_FAMILIES]:
        yield f"{isolated(family.group.lead.name)} · {_joined(family.group.number, _amounts(family))}"
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
    if isinstance(made, Debtors):
        kind, left_out = "people-who-owe", made.left_out
        written = [
            {"group": one.group, "patron": one.member.id, "contact": one.addressee.patron} for one in made.people
        ]
    else:
        kind, left_out = "letters", (*made.left_out, *(one for family in made.coverage for one in family.left_out))
        written = [{"group": one.group, "contact": one.addressee.patron} for one in made.letters]
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
    overdue = family.overdue
    return {} if overdue is None else {"items_covered": family.items, **total_document("overdue", overdue)}


def _left_out_document(one: LeftOut) -> dict[str, Any]:
    about = {} if one.member is None else {"patron": one.member.id, "owed": plain_amount(one.member.own_fines)}
    if one.overdue:
        about["overdue"] = one.overdue
    return {"group": one.group, **about, "reason": one.reason.value}
