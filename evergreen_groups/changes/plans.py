"""Plans: which patrons will change, from which group to which, and what to look at before saying yes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.groups import Membership, Person

GROUP = "usrgroup"
LEAD = "master_account"


class Action(Enum):
    """What a plan does, named as its command is."""

    MOVE = "move"
    REMOVE = "remove"
    MERGE = "merge"
    LEAD = "lead"
    BATCH = "batch"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one field of one patron.

    ``field`` is ``GROUP`` or ``LEAD``; ``after`` is the group to move to (None: a new one of their own), or 0 or 1.
    """

    person: Person
    field: str
    after: int | None

    @property
    def before(self) -> int:
        """What the field had when the plan was made."""
        return self.person.group if self.field == GROUP else int(self.person.group_lead)


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """A group before and after: its members in sight and what they owe together, for information only.

    ``number`` is None for a new group. ``hidden_count`` members are hidden from the account; what they owe is in both
    totals as far as the ILS tells.
    """

    number: int | None
    before: tuple[Person, ...]
    after: tuple[Person, ...]
    total_before: Decimal
    total_after: Decimal
    hidden_count: int = 0


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """Something to look at before agreeing: ``code`` names the case, ``values`` are what it is about, by name.

    :func:`evergreen_groups.render.warning_words` puts it into words.
    """

    code: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that nobody has agreed to yet: what will happen, what won't because it is so already, and warnings."""

    action: Action
    steps: tuple[Step, ...]
    groups: tuple[PlannedGroup, ...]
    warnings: tuple[PlanWarning, ...] = ()
    unchanged: tuple[str, ...] = ()


def group_changes(steps: Sequence[Step], groups: Mapping[int, Membership]) -> tuple[PlannedGroup, ...]:
    """What the steps do to each group that loses or gains a member (those that lose one first), and each new group.

    ``groups`` has every group that a patron leaves or joins.
    """
    moves = [step for step in steps if step.field == GROUP]
    leaving = {step.person.id for step in moves}
    left = sorted({step.person.group for step in moves})
    joined = sorted({step.after for step in moves if step.after is not None} - set(left))
    found = []
    for number in left + joined:
        arriving = [step.person for step in moves if step.after == number]
        found.append(_change(groups[number], leaving, arriving))
    alone = [step.person for step in moves if step.after is None]
    return (*found, *(PlannedGroup(None, (), (person,), NOTHING, person.own_fines) for person in alone))


def _change(group: Membership, leaving: set[int], arriving: Iterable[Person]) -> PlannedGroup:
    after = (*(member for member in group.members if member.id not in leaving), *arriving)
    moved = sum((member.own_fines for member in after), NOTHING) - sum((m.own_fines for m in group.members), NOTHING)
    return PlannedGroup(
        group.group, group.members, after, group.total, group.total + moved, hidden_count=len(group.hidden_ids)
    )


def warnings_about(
    steps: Sequence[Step],
    groups: Mapping[int, Membership],
    addresses: Mapping[int, frozenset[tuple[str, str]]],
) -> Iterator[PlanWarning]:
    """What somebody should look at before agreeing: about the patrons, and about the groups they leave and join."""
    moves = [step for step in steps if step.field == GROUP]
    leaving = {step.person.id for step in moves}
    for step in steps:
        yield from _about_account(step.person)
    for step in moves:
        if step.after is not None and _is_stranger(step.person, groups[step.after].members, addresses):
            yield PlanWarning("stranger-to-group", {"name": step.person.name, "group": step.after})
    for number in sorted({step.person.group for step in moves}):
        yield from _about_those_left(groups[number], leaving)
    for number in sorted(groups):
        if groups[number].hidden_ids:
            yield PlanWarning("hidden-members", {"group": number, "count": len(groups[number].hidden_ids)})


def _about_account(person: Person) -> Iterator[PlanWarning]:
    for holds, code in (
        (person.deleted, "account-deleted"),
        (person.barred, "account-barred"),
        (not person.active and not person.deleted, "account-not-active"),
        (person.expired, "account-expired"),
    ):
        if holds:
            yield PlanWarning(code, {"name": person.name})


def _about_those_left(group: Membership, leaving: set[int]) -> Iterator[PlanWarning]:
    """A group that is left without a lead, or without anybody."""
    stays = [member for member in group.members if member.id not in leaving]
    if not stays and not group.hidden_ids and len(group.members) > 1:
        yield PlanWarning("group-left-empty", {"group": group.group})
    elif not stays and not group.hidden_ids:
        yield PlanWarning("last-member-leaves", {"group": group.group})
    leads = [member for member in group.members if member.group_lead]
    if stays and leads and not any(member.group_lead for member in stays):
        names = tuple(member.name for member in leads)
        yield PlanWarning("left-without-lead", {"names": names, "group": group.group, "count": len(stays)})


def _is_stranger(
    person: Person, members: Sequence[Person], addresses: Mapping[int, frozenset[tuple[str, str]]]
) -> bool:
    """Whether a patron has surname, address and library in common with nobody of a group that isn't empty."""
    others = [member for member in members if member.id != person.id]
    return bool(others) and not any(
        member.surname.casefold() == person.surname.casefold()
        or member.home_library == person.home_library
        or addresses.get(member.id, frozenset()) & addresses.get(person.id, frozenset())
        for member in others
    )
