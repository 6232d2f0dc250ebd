"""Plans: which patrons will change, from which group to which, and what to look at before saying yes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.groups import Group, Member, Patron, PatronAccount

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
    RECALCULATE = "recalculate"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one field of one patron.

    ``field`` is ``GROUP`` or ``LEAD``; ``after`` is the group to move to (None: a new one of their own), or 0 or 1. Of
    a recalculation it is ``PENALTIES``, whose number before and after is the ILS's affair (0 and None here).
    ``account`` is the state of the patron's account. Whoever is ``last`` to leave a group stays until all others of the
    plan who go the same way have gone: by them the rest is found when the plan is made again.
    """

    member: Member
    field: str
    after: int | None
    account: PatronAccount
    last: bool = False

    @property
    def patron_id(self) -> int:
        """The patron's id."""
        return self.member.id

    @property
    def deleted(self) -> bool:
        """Whether the patron's account was deleted when the plan was made."""
        return self.member.patron.deleted

    @property
    def before(self) -> int:
        """What the field had when the plan was made."""
        if self.field == PENALTIES:
            return 0
        return self.member.patron.group if self.field == GROUP else int(self.member.group_lead)


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """A group that a plan changes: ``before`` is the group as it is (None: a new one), ``after`` who is in it then.

    ``after`` has the visible members alone. What they owe together is for information only; what hidden members owe is
    in both totals, as far as the ILS says.
    """

    before: Group | None
    after: tuple[Member, ...]

    @property
    def number(self) -> int | None:
        """The group's number, None for a new one."""
        return self.before.number if self.before else None

    @property
    def members_before(self) -> tuple[Member, ...]:
        """The visible members before the plan is applied."""
        return self.before.members if self.before else ()

    @property
    def hidden_member_count(self) -> int:
        """How many members are hidden from the account."""
        return self.before.hidden_member_count if self.before else 0

    @property
    def total_before(self) -> Decimal:
        """What all members owe together before the plan is applied."""
        return self.before.combined_fines if self.before else NOTHING

    @property
    def total_after(self) -> Decimal:
        """What all members owe together after it."""
        hidden = self.before.hidden_fines if self.before else None
        return sum((member.own_fines for member in self.after), NOTHING) + (hidden or NOTHING)


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """Something to look at before agreeing: ``code`` names the case, ``values`` are what it is about, by name.

    :func:`evergreen_groups.render.describe_warning` makes a sentence of it.
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


def group_changes(steps: Sequence[Step], groups: Mapping[int, Group]) -> tuple[PlannedGroup, ...]:
    """What the steps do to each group that loses or gains a member (those that lose one first), and each new group.

    ``groups`` has every group that a patron leaves or joins.
    """
    moves = [step for step in steps if step.field == GROUP]
    leaving = {step.member.id for step in moves}
    left = sorted({step.member.patron.group for step in moves})
    joined = sorted({step.after for step in moves if step.after is not None} - set(left))
    found = []
    for number in left + joined:
        arriving = _members([step.member for step in moves if step.after == number])
        staying = (member for member in groups[number].members if member.id not in leaving)
        found.append(PlannedGroup(groups[number], (*staying, *arriving)))
    return (*found, *(PlannedGroup(None, _members([step.member])) for step in moves if step.after is None))


def _members(patrons: Sequence[Member]) -> tuple[Member, ...]:
    """Those of the patrons who count as members: a deleted one keeps a group's number and isn't one."""
    return tuple(patron for patron in patrons if not patron.patron.deleted)


def warnings_about(
    steps: Sequence[Step],
    groups: Mapping[int, Group],
    addresses: Mapping[int, frozenset[tuple[str, str]]],
) -> Iterator[PlanWarning]:
    """What somebody should look at before agreeing: about the patrons, and about the groups they leave and join."""
    moves = [step for step in steps if step.field == GROUP]
    leaving = {step.member.id for step in moves}
    for step in steps:
        yield from _about_account(step)
    for step in moves:
        if step.after is not None and _is_stranger(step.member.patron, groups[step.after].members, addresses):
            yield PlanWarning("stranger-to-group", {"name": step.member.name, "group": step.after})
    for number in sorted({step.member.patron.group for step in moves}):
        yield from _about_those_left(groups[number], leaving)
    for number in sorted(groups):
        if not groups[number].complete:
            yield PlanWarning("hidden-members", {"group": number, "count": groups[number].hidden_member_count})


def warnings_about_leads(steps: Sequence[Step], groups: Mapping[int, Group]) -> Iterator[PlanWarning]:
    """Groups that get one lead more by a plan, and have several then; Evergreen takes any number of them.

    ``groups`` has every group that a patron of the plan is in or joins.
    """
    destinations = {step.member.id: step.after for step in steps if step.field == GROUP}
    flags = {step.member.id: bool(step.after) for step in steps if step.field == LEAD}
    planned = {step.member.id: step.member for step in steps}
    for number, group in sorted(groups.items()):
        members = {member.id: member for member in group.members}
        members |= {id: planned[id] for id, destination in destinations.items() if destination == number}
        leads = [
            member
            for id, member in members.items()
            if destinations.get(id, number) == number and flags.get(id, member.group_lead)
        ]
        new = any(flags.get(member.id) or member.id in destinations for member in leads)
        if new and len(leads) > 1:
            names = tuple(member.name for member in leads)
            yield PlanWarning("several-leads", {"names": names, "group": number, "count": len(leads)})


def _about_account(step: Step) -> Iterator[PlanWarning]:
    patron, account = step.member.patron, step.account
    for holds, code in (
        # The ILS moves deleted patrons without a word (deleted-user-002).
        (patron.deleted, "account-deleted"),
        (account.barred, "account-barred"),
        (not account.active and not patron.deleted, "account-not-active"),
        (account.expired, "account-expired"),
    ):
        if holds:
            yield PlanWarning(code, {"name": patron.name})


def _about_those_left(group: Group, leaving: set[int]) -> Iterator[PlanWarning]:
    """A group that is left without a lead, without anybody, or with one alone."""
    stays = [member for member in group.members if member.id not in leaving]
    if not stays and group.complete and len(group.members) > 1:
        yield PlanWarning("group-left-empty", {"group": group.number})
    elif not stays and group.complete:
        yield PlanWarning("last-member-leaves", {"group": group.number})
    if len(stays) == 1 and group.complete and len(group.members) > 1:
        yield PlanWarning("left-alone", {"name": stays[0].name, "group": group.number})
    leads = [member for member in group.members if member.group_lead]
    if stays and leads and not any(member.group_lead for member in stays):
        names = tuple(member.name for member in leads)
        yield PlanWarning("left-without-lead", {"names": names, "group": group.number, "count": len(stays)})


def _is_stranger(
    patron: Patron, members: Sequence[Member], addresses: Mapping[int, frozenset[tuple[str, str]]]
) -> bool:
    """Whether a patron has surname, address and library in common with nobody of a group that isn't empty."""
    others = [member.patron for member in members if member.id != patron.id]
    return bool(others) and not any(
        other.family_name.casefold() == patron.family_name.casefold()
        or other.home_library.id == patron.home_library.id
        or addresses.get(other.id, frozenset()) & addresses.get(patron.id, frozenset())
        for other in others
    )
