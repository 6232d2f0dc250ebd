"""Plans: which patrons will change, from which group to which, and what to look at before saying yes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from evergreen_groups import arguments
from evergreen_groups.changes.journal import PENALTIES, FieldChange, StepState
from evergreen_groups.changes.reasons import NO_REASON, StepReason
from evergreen_groups.errors import PlanError
from evergreen_groups.message import Message
from evergreen_groups.money import ZERO
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.changes.landing import SentChange
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError
    from evergreen_groups.groups import Group, Member, PatronAccount, PatronReference

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
        return self.before.combined_fines if self.before else ZERO

    @property
    def total_after(self) -> Decimal | None:
        """What all members owe together after it."""
        hidden = self.before.hidden_fines if self.before else ZERO
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


MOST_PATRONS = 1_000
"""How many patrons one plan may name; a file of changes may have more."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is to do.

    ``patrons`` and ``target`` are barcodes or patrons' ids; a target is somebody in the group to move to. Of a merge
    ``patrons`` names one of the group that moves. ``lead`` makes those who are removed leads of their new groups,
    ``off`` takes the mark of a lead away, ``change`` is the entry of the journal to take back. With ``active_cards``
    a barcode, of a move or a merge, has to be that of an active card; without, one that isn't is warned of.
    """

    action: Action
    patrons: tuple[PatronReference, ...] = ()
    target: PatronReference | None = None
    lead: bool = False
    off: bool = False
    change: str | None = None
    active_cards: bool = False

    def checked(self) -> PlanRequest:
        """The request itself, where it says all that its action needs and nothing else.

        Raises:
            PlanError: it doesn't.
            ArgumentError: something in it is of another type than is documented.
        """
        self._refuse_other_types()
        if self.action is Action.BATCH:
            raise _unclear(Message("a file of changes is for the command line"), "action")
        if (self.change is None) is (self.action is Action.UNDO):
            raise _unclear(Message("`change` names the entry to take back, and goes with `undo` alone"), "change")
        if bool(self.patrons) is (self.action is Action.UNDO):
            raise _unclear(Message("patrons are needed, but for `undo`"), "patrons")
        if (self.target is None) is (self.action in (Action.MOVE, Action.MERGE)):
            raise _unclear(Message("a target goes with `move` and `merge`, and they need one"), "target")
        if self.action is Action.MERGE and len(self.patrons) > 1:
            raise _unclear(Message("`merge` takes one patron of the group that moves"), "patrons")
        if len(self.patrons) > MOST_PATRONS:
            raise _unclear(Message("more than {most:,} patrons at once", values={"most": MOST_PATRONS}), "patrons")
        if (self.lead and self.action is not Action.REMOVE) or (self.off and self.action is not Action.LEAD):
            raise _unclear(Message("`lead` goes with `remove`, `off` with `lead`"), "lead")
        if self.active_cards and self.target is None:
            raise _unclear(Message("`active_cards` goes with `move` and `merge`"), "active_cards")
        return self

    def _refuse_other_types(self) -> None:
        arguments.instance("action", self.action, Action)
        arguments.references("patrons", self.patrons)
        if self.target is not None:
            arguments.reference("target", self.target)
        for name in ("lead", "off", "active_cards"):
            arguments.boolean(name, getattr(self, name))
        if self.change is not None:
            arguments.text("change", self.change)


def _unclear(problem: Message, field: str) -> PlanError:
    return PlanError(
        "it isn't clear what is to be planned by {field}: {problem}",
        code="plan-unclear",
        values={"problem": problem, "field": field},
    )


LIFE = timedelta(hours=1)
"""How long a plan can be agreed to."""


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One step: see :class:`Step`. ``lead`` is whether the patron led the group when the plan was made; of a
    recalculation ``due`` is whether the rule has them over the limit."""

    patron_id: int
    field: str
    before: int
    after: int | None
    last: bool = False
    lead: bool = False
    due: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedGroup:
    """Who was in a group when the plan was made: the ids of all members, whether the account sees them or not."""

    number: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan of a staff user's (``staff``, an ``au.id``).

    ``groups`` are those whose members must be the same when it is applied. ``change`` is the journal's entry by which
    it was applied, under the caller's ``key``; both are None before that.
    """

    id: str
    staff: int
    action: Action
    at: datetime
    expires: datetime
    steps: tuple[StoredStep, ...]
    groups: tuple[ExpectedGroup, ...] = ()
    undoes: str | None = None
    key: str | None = None
    change: str | None = None

    @classmethod
    def of(cls, draft: Draft, staff: int, undoes: str | None, due: frozenset[int], now: datetime) -> StoredPlan:
        """A new one; ``due`` are the ids of those whom the rule has over the limit, for a recalculation."""
        steps = [
            StoredStep(
                step.patron_id,
                step.field,
                step.before,
                step.after,
                step.last,
                step.member.group_lead,
                step.patron_id in due,
            )
            for step in draft.steps
        ]
        return cls.new(staff, draft.action, steps, expected_groups(draft), undoes=undoes, now=now)

    @classmethod
    def new(
        cls,
        staff: int,
        action: Action,
        steps: Sequence[StoredStep],
        groups: Sequence[ExpectedGroup],
        *,
        undoes: str | None,
        now: datetime,
    ) -> StoredPlan:
        """A new one of these steps."""
        return cls(secrets.token_urlsafe(18), staff, action, now, now + LIFE, tuple(steps), tuple(groups), undoes)

    @property
    def patrons(self) -> frozenset[int]:
        """The ids of those whom it changes."""
        return frozenset(step.patron_id for step in self.steps)

    @property
    def members(self) -> frozenset[int]:
        """The ids of those who must be in its groups."""
        return frozenset(id for group in self.groups for id in group.members)

    @property
    def is_recalculation(self) -> bool:
        """Whether it has the ILS recalculate penalties, and changes nothing itself."""
        return any(step.field == PENALTIES for step in self.steps)

    @property
    def content(self) -> str:
        """What is stored of it in one column, as JSON."""
        return json.dumps(
            {
                "steps": [asdict(step) for step in self.steps],
                "groups": [asdict(group) for group in self.groups],
                "undoes": self.undoes,
            }
        )


def expected_groups(draft: Draft) -> tuple[ExpectedGroup, ...]:
    """The groups that somebody joins, and that a merge empties: whoever has come there meanwhile would be left behind.

    Those that are only left may change: who else goes there changes nothing for those who were chosen.
    """
    joined = {step.after for step in draft.steps if step.field == GROUP}
    return tuple(
        ExpectedGroup(before.number, tuple(sorted(before.ids)))
        for before in (group.before for group in draft.groups)
        if before is not None and (draft.action is Action.MERGE or before.number in joined)
    )


@dataclass(frozen=True, slots=True)
class ProposedPlan:
    """A plan to be shown: ``stored`` can be agreed to, ``draft`` says what it means."""

    stored: StoredPlan
    draft: Draft


@dataclass(frozen=True, slots=True)
class SideEffect:
    """A field that changed although it shouldn't have, with its values before and after, as they came."""

    field: str
    before: object
    after: object


class PlannedStep(FieldChange, Protocol):
    """A step of a plan, be it with all that is known of the patron or as it was written down: see :class:`Step`."""

    @property
    def last(self) -> bool: ...


StepT = TypeVar("StepT", bound=PlannedStep)


@dataclass(frozen=True, slots=True)
class StepOutcome(Generic[StepT]):
    """What became of one step. ``value`` is what the field has now where the step was done, or had nothing to change.

    A step that is ``SENDING`` may still come in; ``sent`` is its request then. ``error`` is what ended it, where
    something did.
    """

    step: StepT
    state: StepState
    value: int | None = None
    reason: StepReason = NO_REASON
    side_effects: tuple[SideEffect, ...] = ()
    error: EvergreenGroupsError | None = None
    sent: SentChange | None = None


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What became of a plan.

    ``stopped`` is the error that ended it early, None where every step was dealt with. What wasn't reached is
    ``PLANNED``; the same plan can be made and applied again, and only does what is left.
    ``entry`` is the id that it has in the journal; None where there was nothing to do.
    """

    steps: tuple[StepOutcome[Step], ...]
    stopped: GatewayError | None = None
    entry: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, and nothing else was changed: each step was done, or unchanged."""
        return all(step.state.is_as_planned and not step.side_effects for step in self.steps)
