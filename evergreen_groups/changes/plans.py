"""Plans: which patrons will change, from which group to which, and what to look at before saying yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES
from evergreen_groups.money import NOTHING
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.groups import Group, Member, PatronAccount

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
    def before(self) -> int:
        """What the field had when the plan was made."""
        if self.field == PENALTIES:
            return 0
        return self.member.patron.group if self.field == GROUP else int(self.member.group_lead)


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """A group that a plan changes: ``before`` is the group as it is (None: a new one), ``after`` who is in it then.

    ``after`` has the visible members alone. What all owe together is for information only: both totals include what
    hidden members owe, and are None if that is unknown.
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
    def total_before(self) -> Decimal | None:
        """What all members owe together before the plan is applied."""
        return self.before.combined_fines if self.before else NOTHING

    @property
    def total_after(self) -> Decimal | None:
        """What all members owe together after it."""
        hidden = self.before.hidden_fines if self.before else NOTHING
        return None if hidden is None else sum((member.own_fines for member in self.after), hidden)

    def counted_after(self, number: int) -> Total[int]:
        """Make a total of all members after it from a number of visible ones."""
        return self.before.counted(number) if self.before else Total(number)


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """Something to look at before agreeing: ``code`` names the case, ``values`` are what it is about, by name.

    :func:`evergreen_groups.render.describe_warning` makes a sentence of it.
    """

    code: str
    values: Mapping[str, object]

    @classmethod
    def counted(cls, code: str, count: Total[int], values: Mapping[str, object]) -> PlanWarning:
        """A warning with a count, ``at_least`` so many where hidden members may raise it."""
        return cls(code, {**values, "count" if count.exact else "at_least": count.at_least})


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that nobody has agreed to yet: what will happen, what won't because it is so already, and warnings.

    ``named`` are the ids of those who were named, in the order of that; whose group is joined comes last.
    """

    action: Action
    steps: tuple[Step, ...]
    groups: tuple[PlannedGroup, ...]
    warnings: tuple[PlanWarning, ...] = ()
    unchanged: tuple[str, ...] = ()
    named: tuple[int, ...] = ()


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
        arriving = (step.member for step in moves if step.after == number)
        staying = (member for member in groups[number].members if member.id not in leaving)
        found.append(PlannedGroup(groups[number], (*staying, *arriving)))
    return (*found, *(PlannedGroup(None, (step.member,)) for step in moves if step.after is None))
