"""Carrying out changes to membership: nothing sent twice blindly, nothing else changed, everything in the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from evergreen_groups.changes.journal import Journal, JournalEntry, JournalStep, StepState
from evergreen_groups.changes.planner import Planner
from evergreen_groups.changes.plans import GROUP, Draft, Step
from evergreen_groups.changes.recovery import refusal, settle, value_of
from evergreen_groups.errors import (
    CollisionError,
    EventError,
    GatewayError,
    LoginRefusedError,
    NoSessionError,
    NotFoundError,
    ProtocolError,
    TransportError,
)
from evergreen_groups.gateway import TOKEN, Gateway, Record
from evergreen_groups.progress import Progress, silent
from evergreen_groups.state import changes_lock

TRIES = 3
_STOPPING = (TransportError, NoSessionError, LoginRefusedError)
_MAY_CHANGE = {"last_xact_id", "last_update_time"}
_UPDATE = "open-ils.actor.patron.update"
_NEW_GROUP = "open-ils.actor.usergroup.new"


@dataclass(frozen=True, slots=True)
class SideEffect:
    """A field that changed although it shouldn't have, with its values before and after, as they came."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of one step. ``value`` is what the field has now where the step was done."""

    step: Step
    state: StepState
    value: int | None = None
    reason: str = ""
    side_effects: tuple[SideEffect, ...] = ()
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What became of a plan.

    ``stopped`` is the error that ended it early, None where every step was dealt with. What wasn't reached is
    ``PLANNED``; the same plan can be made and carried out again, and only does what is left.
    """

    steps: tuple[StepOutcome, ...]
    stopped: GatewayError | None = None

    @property
    def done(self) -> bool:
        """Whether every step was done and nothing else was changed."""
        return all(step.state is StepState.DONE and not step.side_effects for step in self.steps)


@dataclass(frozen=True)
class Plan:
    """A plan that can be carried out. Look at ``draft`` first; nothing has been sent yet."""

    draft: Draft
    _mover: Mover = field(repr=False)
    _undoes: int | None = None

    def carry_out(self, progress: Progress = silent) -> PlanOutcome:
        """Do it, one step after the other.

        Raises:
            BusyError: another run is changing groups at the same gateway.
            TransportError: what an interrupted run left open couldn't be settled; nothing has been sent.
        """
        return self._mover.carry_out(self.draft, self._undoes, progress)


class Moves:
    """Changes to membership at one gateway, with a journal in a state directory.

    ``account`` is the name of the ILS account that acts; it is written into the journal.
    """

    def __init__(self, gateway: Gateway, state_directory: Path, account: str) -> None:
        self._planner = Planner(gateway)
        self._mover = Mover(gateway, state_directory, account)
        self._gateway = gateway
        self._directory = state_directory

    @property
    def planner(self) -> Planner:
        """The planner, for making drafts of other shapes."""
        return self._planner

    def plan(self, draft: Draft) -> Plan:
        """Make a draft one that can be carried out."""
        return Plan(draft, self._mover)

    def plan_move(self, barcodes: Sequence[str], *, to: str) -> Plan:
        """Plan to move patrons into the group of the patron with barcode ``to``.

        Raises:
            PlanError: a barcode is unknown, hidden, or given twice.
        """
        return self.plan(self._planner.move(barcodes, to))

    def plan_remove(self, barcodes: Sequence[str], *, lead: bool = False) -> Plan:
        """Plan to give each patron a new group of their own."""
        return self.plan(self._planner.remove(barcodes, lead=lead))

    def plan_merge(self, source: str, *, to: str) -> Plan:
        """Plan to move everyone in the group of one patron into the group of another."""
        return self.plan(self._planner.merge(source, to))

    def plan_lead(self, barcode: str, *, off: bool = False) -> Plan:
        """Plan to make a patron group lead, or no longer."""
        return self.plan(self._planner.lead(barcode, off=off))

    def plan_undo(self, entry: int) -> Plan:
        """Plan to take back a journal entry.

        Raises:
            NotFoundError: there is no such entry for this gateway.
        """
        found = self.entry(entry)
        if found.gateway != self._gateway.url:
            raise NotFoundError(
                f"the journal's entry {entry} is of another gateway, {found.gateway}", textcode="ENTRY_NOT_FOUND"
            )
        return Plan(self._planner.undo(found), self._mover, entry)

    def settle(self) -> list[JournalStep]:
        """Find out what became of steps that were being sent when an earlier run ended; gives those steps."""
        return self._mover.settle()

    def entries(self) -> list[JournalEntry]:
        """The journal's entries for this gateway, the latest first."""
        with closing(Journal(self._directory)) as journal:
            return journal.entries(self._gateway.url)

    def entry(self, id: int) -> JournalEntry:
        """One entry of the journal.

        Raises:
            NotFoundError: there is no such entry.
        """
        with closing(Journal(self._directory)) as journal:
            return journal.entry(id)


class Mover:
    """Sends the changes."""

    def __init__(self, gateway: Gateway, directory: Path, account: str) -> None:
        self._gateway = gateway
        self._directory = directory
        self._account = account

    def carry_out(self, draft: Draft, undoes: int | None, progress: Progress) -> PlanOutcome:
        """Carry out a plan: see :meth:`Plan.carry_out`."""
        if not draft.steps:
            return PlanOutcome(())
        with self._journal() as journal:
            settle(self._gateway, journal)
            rows = [(step.member.id, step.field, step.before, step.after) for step in draft.steps]
            ids = journal.begin(self._gateway.url, self._account, draft.action.value, rows, undoes)
            outcomes: list[StepOutcome] = []
            stopped: GatewayError | None = None
            for step_id, step in zip(ids, draft.steps, strict=True):
                if stopped is None:
                    outcomes.append(_Change(self._gateway, journal, step_id, step).carry_out())
                    progress("changing", len(outcomes), len(ids))
                    if isinstance(outcomes[-1].error, _STOPPING):
                        stopped = outcomes[-1].error
                else:
                    outcomes.append(StepOutcome(step, StepState.PLANNED, reason="not begun"))
        return PlanOutcome(tuple(outcomes), stopped)

    def settle(self) -> list[JournalStep]:
        """Settle what an interrupted run left open."""
        with self._journal() as journal:
            return settle(self._gateway, journal)

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        with changes_lock(self._directory, self._gateway.url), closing(Journal(self._directory)) as journal:
            yield journal


class _Change:
    """One step on its way: fetched fresh, checked, written down, sent, read back, compared."""

    def __init__(self, gateway: Gateway, journal: Journal, step_id: int, step: Step) -> None:
        self._gateway = gateway
        self._journal = journal
        self._id = step_id
        self._step = step
        self._sending = False
        self._last_reason = ""

    def carry_out(self) -> StepOutcome:
        """Do it, at most ``TRIES`` times where somebody else changes the record in between or an answer is lost."""
        try:
            for _ in range(TRIES):
                outcome = self._try()
                if outcome is not None:
                    return outcome
        except GatewayError as error:
            if not self._sending:
                return self._ended(StepState.NOT_DONE, reason=refusal(self._gateway, error), error=error)
            # Whether it was carried out can't be found out now: the step stays open and the next run settles it.
            return StepOutcome(self._step, StepState.SENDING, reason="the connection was lost", error=error)
        return self._ended(StepState.FAILED, reason=f"{self._last_reason}, {TRIES} times")

    def _try(self) -> StepOutcome | None:
        """One try; None where it has to be tried again."""
        before = self._fetch()
        obstacle = self._obstacle(before)
        if before is None or obstacle is not None:
            return self._ended(StepState.NOT_DONE, reason=obstacle or "")
        if value_of(before, self._step.field) == self._step.after:
            return self._ended(StepState.DONE, value=self._step.after, reason="it was so already")
        self._journal.note(self._id, StepState.SENDING)
        self._sending = True
        return self._sent(before)

    def _sent(self, before: Record) -> StepOutcome | None:
        """Send the change and find out what came of it."""
        try:
            self._send(before)
        except CollisionError:
            self._last_reason = "the record was changed by somebody else"
        except TransportError:
            # Read back, never sent again blindly: only where it did not land may it be tried again.
            after = self._fetch()
            if value_of(after, self._step.field) != self._step.before:
                return self._compared(before, after)
            self._last_reason = "the answer was lost and nothing was changed"
        except (EventError, ProtocolError) as error:
            return self._ended(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
        else:
            return self._compared(before, self._fetch())
        self._sending = False
        return None

    def _fetch(self) -> Record | None:
        return self._gateway.pcrud.retrieve("au", self._step.member.id)

    def _obstacle(self, record: Record | None) -> str | None:
        """Why the plan no longer holds for this patron, None where it does."""
        if record is None:
            return "the account can't see this patron any more"
        if bool(record.deleted) and not self._step.member.patron.deleted:
            return "the account has been deleted meanwhile"
        now = value_of(record, self._step.field)
        if now not in (self._step.before, self._step.after):
            return f"moved meanwhile, to group {now}" if self._step.field == GROUP else "changed meanwhile"
        return None

    def _send(self, record: Record) -> None:
        if self._step.after is None:
            self._gateway.call("open-ils.actor", _NEW_GROUP, TOKEN, record.id, write=True)
            return
        value = self._step.after if self._step.field == GROUP else bool(self._step.after)
        changed = record.replace(**{self._step.field: value, "passwd": None}).to_wire(changed=True)
        self._gateway.call("open-ils.actor", _UPDATE, TOKEN, changed, write=True)

    def _compared(self, before: Record, after: Record | None) -> StepOutcome:
        """Hold the record against what it was: the one field changed, and no other."""
        now = value_of(after, self._step.field)
        if after is None or now is None:
            return self._ended(StepState.FAILED, reason="sent, but the account can't see this patron any more")
        if now == self._step.before:
            return self._ended(StepState.FAILED, reason="the ILS accepted the change and wrote nothing")
        if self._step.after not in (None, now):
            return self._ended(StepState.FAILED, reason=f"sent, but it is {now} now; somebody else changed it too")
        effects = tuple(side_effects(before, after, self._step.field))
        reason = f"also changed: {', '.join(effect.field for effect in effects)}" if effects else ""
        return self._ended(StepState.DONE, value=now, reason=reason, effects=effects)

    def _ended(
        self,
        state: StepState,
        *,
        value: int | None = None,
        reason: str = "",
        effects: tuple[SideEffect, ...] = (),
        error: GatewayError | None = None,
    ) -> StepOutcome:
        self._journal.note(self._id, state, value=value, reason=reason)
        return StepOutcome(self._step, state, value, reason, effects, error)


def side_effects(before: Record, after: Record, changed: str) -> Iterator[SideEffect]:
    """The fields that differ between two states of a record, but for the one meant to change and the time stamps."""
    old, new = before.to_wire()["__p"], after.to_wire()["__p"]
    names = list(before._class.positions)
    for position in range(max(len(old), len(new))):
        was, is_now = (values[position] if position < len(values) else None for values in (old, new))
        name = names[position] if position < len(names) else f"field {position}"
        if was != is_now and name != changed and name not in _MAY_CHANGE:
            yield SideEffect(name, was, is_now)
