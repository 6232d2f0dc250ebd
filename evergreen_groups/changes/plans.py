"""Plans: which patrons change, from which group to which, and which warnings to review first.

A stored plan belongs to one staff user and can be applied only once.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import msgspec
from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from evergreen_groups import arguments
from evergreen_groups.changes.journal import GROUP, LEAD, StepState, StoredStep
from evergreen_groups.changes.reasons import NO_REASON, StepReason
from evergreen_groups.errors import NotFoundError, PlanError
from evergreen_groups.message import Message
from evergreen_groups.state import record_ids, schema
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.engine import Connection

    from evergreen_groups.changes.journal import JournalStep
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError
    from evergreen_groups.groups import Group, Member, PatronAccount, PatronReference
    from evergreen_groups.state import Transactions
    from evergreen_groups.values import Total


MOST_NAMED = 10
"""How many patrons an error names at most."""
DELETED = Message("{name} was deleted")


def about_patron(text: Message, patron: int, **values: object) -> Message:
    """Fill in a text with the patron's id as their ``name``."""
    return text.with_values({**values, "name": Message("patron {patron}", values={"patron": patron})})


def has_now(patron: int, field: str, value: int) -> Message:
    """Say which group a patron is in now, or whether they are group lead now."""
    if field == GROUP:
        return about_patron(Message("{name} is now in group {group}"), patron, group=value)
    text = Message("{name} is now group lead") if value else Message("{name} is no longer group lead")
    return about_patron(text, patron)


class Action(Enum):
    """The kind of a plan. Values are the names of the commands."""

    MOVE = "move"
    REMOVE = "remove"
    MERGE = "merge"
    LEAD = "lead"
    BATCH = "batch"
    UNDO = "undo"
    RECALCULATE = "recalculate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(StoredStep):
    """A planned step with the member and the state of the member's account, to show before it is applied."""

    __repr__ = arguments.brief

    member: Member
    account: PatronAccount

    @classmethod
    def of(cls, member: Member, field: str, after: int | None, account: PatronAccount, **marks: bool) -> Self:
        """Make a step from the current value of the member's field. ``marks`` are ``last`` and ``due``."""
        before = {GROUP: member.patron.group, LEAD: int(member.group_lead)}.get(field, 0)
        return cls(member.id, field, before, after, lead=member.group_lead, member=member, account=account, **marks)


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    # A plug-in writes PlanOutcome without an argument. Python has defaults from 3.13 on, type checkers earlier.
    StepT = TypeVarWithDefault("StepT", bound=StoredStep, default=StoredStep)
else:
    StepT = TypeVar("StepT", bound=StoredStep)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ExpectedGroup:
    """The ids of a group's members when the plan was made, including hidden members."""

    number: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlanByIds(Generic[StepT]):
    """What a run applies: the steps, and the groups whose members must not change before.

    Only a plan that staff review is stored, with an ``id``, and applied once, under the caller's ``key``.
    """

    __repr__ = arguments.brief

    action: Action
    steps: tuple[StepT, ...]
    groups: tuple[ExpectedGroup, ...] = ()
    undoes: str | None = None  # the id of the journal entry that the plan undoes
    id: str = ""
    expires: datetime = _NEVER
    key: str | None = None
    change: str | None = None  # the id of the journal entry that applied the plan

    @property
    def patrons(self) -> frozenset[int]:
        """The ids of the patrons whom the plan changes."""
        return frozenset(step.patron_id for step in self.steps)


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """A group that a plan changes: ``before`` is the current group (None: a new one), ``after`` its members afterwards.

    ``after`` has only visible members. Total fines include what hidden members owe, and are None if that is unknown.
    """

    __repr__ = arguments.brief

    before: Group | None
    after: tuple[Member, ...]

    @property
    def number(self) -> int | None:
        return self.before.number if self.before else None

    @property
    def members_before(self) -> tuple[Member, ...]:
        return self.before.members if self.before else ()

    @property
    def hidden_member_count(self) -> int:
        return self.before.hidden_member_count if self.before else 0

    @property
    def total_before(self) -> Decimal | None:
        return self.before.group_fines if self.before else ZERO

    @property
    def total_after(self) -> Decimal | None:
        hidden = self.before.hidden_fines if self.before else ZERO
        return None if hidden is None else sum((member.own_fines for member in self.after), hidden)


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """A point to review before applying a plan. ``code`` identifies the warning, ``values`` fill in its text."""

    __repr__ = arguments.brief

    code: str
    values: Mapping[str, object]

    @classmethod
    def counted(cls, code: str, count: Total[int], values: Mapping[str, object]) -> PlanWarning:
        """Make a warning with ``count``, or with ``at_least`` if hidden members may raise the count."""
        return cls(code, {**values, "count" if count.exact else "at_least": count.at_least})


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan for review: its steps and warnings, and texts about patrons for whom nothing changes."""

    __repr__ = arguments.brief

    action: Action
    steps: tuple[Step, ...]
    groups: tuple[PlannedGroup, ...]
    warnings: tuple[PlanWarning, ...] = ()
    unchanged: tuple[str, ...] = ()
    named: tuple[int, ...] = ()  # the ids of the requested patrons, in order, then of the one whose group is joined
    undoes: str | None = None  # the id of the journal entry that the plan undoes

    @property
    def by_ids(self) -> PlanByIds[Step]:
        """The plan to apply.

        The members of groups that patrons join must not change before, nor those of a group that a merge empties, where
        a new member would be left behind. A group that patrons only leave may change, because that doesn't affect the
        patrons who leave.
        """
        joined = {step.after for step in self.steps if step.field == GROUP}
        groups = tuple(
            ExpectedGroup(before.number, tuple(sorted(before.ids)))
            for before in (group.before for group in self.groups)
            if before is not None and (self.action is Action.MERGE or before.number in joined)
        )
        return PlanByIds(self.action, self.steps, groups, self.undoes)


MOST_PATRONS = 1_000
"""How many patrons a stored plan may name. A program, or a batch file, may name more."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A request for a plan. Patrons are named by barcodes or ids."""

    __repr__ = arguments.brief

    action: Action
    patrons: tuple[PatronReference, ...] = ()  # for a merge, one member of the group that moves
    target: PatronReference | None = None  # a member of the group to move to
    lead: bool = False  # make removed patrons leads of their new groups
    off: bool = False  # clear the lead flag
    change: str | None = None  # the id of the journal entry to undo
    active_cards: bool = False  # refuse inactive cards of a move or merge, which only cause a warning by default

    def checked(self, most: int = sys.maxsize) -> PlanRequest:
        """Return the request after checking that its fields fit the action. ``most`` limits its patrons."""
        action = arguments.instance("action", self.action, Action)
        arguments.references("patrons", self.patrons)
        if self.target is not None:
            arguments.reference("target", self.target)
        for name in ("lead", "off", "active_cards"):
            arguments.boolean(name, getattr(self, name))
        if self.change is not None:
            arguments.text("change", self.change)
        undo, joins, merge = action is Action.UNDO, self.target is not None, action is Action.MERGE
        takes_target = merge or action is Action.MOVE
        misplaced = (self.lead and action is not Action.REMOVE) or (self.off and action is not Action.LEAD)
        for is_wrong, field, problem in (
            # A batch has several actions, so no single request can describe one.
            (action is Action.BATCH, "action", "`action` can't be batch: only the command line reads files of changes"),
            (undo is (self.change is None), "change", "undo needs `change`, and no other action takes it"),
            (not (undo or self.patrons), "patrons", "`patrons` is missing: name at least one"),
            (undo and self.patrons, "patrons", "undo takes no `patrons`"),
            (takes_target and not joins, "target", "`target` is missing: move and merge need one"),
            (joins and not takes_target, "target", "only move and merge take a `target`"),
            (merge and len(self.patrons) > 1, "patrons", "merge takes one of `patrons`: a member of the moving group"),
            (misplaced, "lead", "`lead` goes with remove, `off` with lead"),
            (self.active_cards and not joins, "active_cards", "`active_cards` goes with move and merge"),
            (len(self.patrons) > most, "patrons", f"`patrons` names more than {most:,} patrons at once"),
        ):
            if is_wrong:
                values = {"problem": problem, "field": field}
                raise PlanError("{problem}", code="plan-unclear", values=values)
        return self


LIFE = timedelta(hours=1)
"""How long a plan can be applied after it was made."""
_KEEP_UNUSED = timedelta(days=1)
"""How long to keep an unused plan after it expires, in order to report it as too old rather than unknown."""


@dataclass(frozen=True, slots=True)
class ProposedPlan:
    """A proposed plan: display ``draft``, apply ``stored``."""

    __repr__ = arguments.brief

    stored: PlanByIds[StoredStep]
    draft: Draft


@dataclass(frozen=True, slots=True)
class SideEffect:
    """A field that a write changed unexpectedly, with its values before and after as received."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class StepOutcome(Generic[StepT]):
    """The outcome of one step. A step in state ``SENDING`` may still take effect."""

    __repr__ = arguments.brief

    step: StepT
    state: StepState
    value: int | None = None  # the field's value now if the step is done or had nothing to change
    reason: StepReason = NO_REASON
    side_effects: tuple[SideEffect, ...] = ()
    error: EvergreenGroupsError | None = None  # what ended the step
    sent: JournalStep | None = None  # the journal's step with the request, in state ``SENDING``
    resolved: bool = False  # for a recalculation: whether Evergreen's block for fines now agrees with the rule


@dataclass(frozen=True, slots=True)
class PlanOutcome(Generic[StepT]):
    """The outcome of a plan. Steps that weren't reached are ``PLANNED``: make the same plan again to apply them."""

    __repr__ = arguments.brief

    steps: tuple[StepOutcome[StepT], ...]
    stopped: GatewayError | None = None  # what ended the run early
    entry: str | None = None  # the id of the journal entry, if there was anything to do

    @property
    def done(self) -> bool:
        """Whether each step is done or had nothing to change, without side effects."""
        return all(step.state.is_as_planned and not step.side_effects for step in self.steps)


plans = schema.plans


@dataclass
class PlanStore:
    """The plans of one staff user (``au.id``) for one gateway (its address)."""

    transactions: Transactions
    gateway: str
    staff: int

    def add(self, connection: Connection, plan: PlanByIds[StepT]) -> PlanByIds[StoredStep]:
        """Store a new plan and return it. Delete unused plans that expired long ago."""
        now = self.transactions.now()
        steps = tuple(step.stored for step in plan.steps)  # of planned steps, the ids alone
        made = PlanByIds(plan.action, steps, plan.groups, plan.undoes, secrets.token_urlsafe(18), now + LIFE)
        content = {"steps": steps, "groups": plan.groups, "undoes": plan.undoes}
        row = {"id": made.id, "gateway": self.gateway, "staff": self.staff, "at": now, "expires": made.expires}
        row |= {"action": plan.action.value, "content": msgspec.json.encode(content).decode()}
        connection.execute(delete(plans).where(plans.c.at < now - _KEEP_UNUSED, plans.c.idempotency_key.is_(None)))
        connection.execute(insert(plans), row)
        return made

    def find(self, id: str) -> PlanByIds[StoredStep]:
        """Return the user's plan. Raises NotFoundError if there is none or it belongs to another user."""
        for plan in self._found(plans.c.id == id):
            return plan
        raise NotFoundError("there is no such plan", advice="make the plan again", code="no-such-plan")

    def change_of(self, plan: PlanByIds[StepT], key: str) -> str | None:
        """Return the id of the change that applied a plan, or the same undo, under this key; None if none did."""
        meant = or_(plans.c.idempotency_key == key, plans.c.id == plan.id)
        for applied in self._found(and_(plans.c.idempotency_key.is_not(None), meant)):
            if applied.key != key or applied.change is None:  # without an id: retention has deleted the entry since
                raise _already_applied()
            if applied.id != plan.id and (plan.id or applied.undoes != plan.undoes):
                raise PlanError(
                    "this idempotency key belongs to another change",
                    advice="use a new key for each change",
                    code="key-of-another-change",
                )
            return applied.change
        return None

    def _found(self, condition: ColumnElement[bool]) -> list[PlanByIds[StoredStep]]:
        query = (
            select(plans, schema.changes.c.suffix)
            .outerjoin(schema.changes, plans.c.change == schema.changes.c.id)
            .where(condition, plans.c.gateway == self.gateway, plans.c.staff == self.staff)
        )
        with self.transactions.reading() as connection:
            return [_stored_plan(row) for row in connection.execute(query)]


def _stored_plan(row: Row[Any]) -> PlanByIds[StoredStep]:
    change = None if row.change is None else record_ids.of(row.change, row.suffix)
    columns = {"id": row.id, "action": row.action, "expires": row.expires, "key": row.idempotency_key, "change": change}
    return msgspec.convert({**json.loads(row.content), **columns}, PlanByIds[StoredStep])


def claim(connection: Connection, plan: str, key: str, change: str) -> None:
    """Mark a plan (id) as applied by a change under this key, in the transaction that journals the change.

    Of two requests, only one updates the row, and the database accepts each key once. The other gets a PlanError.
    """
    unused = update(plans).where(plans.c.id == plan, plans.c.change.is_(None), plans.c.idempotency_key.is_(None))
    try:
        claimed = connection.execute(unused.values(idempotency_key=key, change=record_ids.number_of(change))).rowcount
    except IntegrityError:
        claimed = 0
    if claimed != 1:
        raise _already_applied()


def _already_applied() -> PlanError:
    return PlanError(
        "this plan was already applied, under another key",
        advice="make a new plan for what is left",
        code="plan-applied-before",
    )
