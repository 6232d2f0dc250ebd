"""Handle Evergreen's events: decide about one patron again, and have Evergreen recalculate the penalties."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, literal_column, select

from evergreen_groups import arguments
from evergreen_groups.changes import Recalculator, StepState
from evergreen_groups.errors import BusyError, DataError, EventError, EvergreenGroupsError, NotFoundError
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from sqlalchemy import Row

    from evergreen_groups.desk.summary import SummaryReader
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State, Transactions

# Evergreen sends an event only once, whatever the answer. An event rejected because of a lock would be lost until the
# next audit.
TIMEOUT = 10.0
"""How many seconds to wait for another run that is changing the patron, unless less time is left."""


@dataclass(frozen=True, slots=True)
class Event:
    """An Evergreen event: its id (``action_trigger.event``), the name of its hook, and its patron."""

    id: int
    hook: str
    patron_id: int

    def __post_init__(self) -> None:
        """Check the types. Raises ArgumentError."""
        arguments.integer("id", self.id)
        arguments.text("hook", self.hook)
        arguments.integer("patron_id", self.patron_id)


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """The outcome of an event: whether the patron is over the limit, and whether Evergreen has recalculated.

    ``over_limit`` is None for a deleted patron. ``replayed`` says that the event was handled before; the rest is the
    outcome of that time.
    """

    event: int
    patron: int
    over_limit: bool | None
    recalculated: bool
    replayed: bool = False


class EventHandler:
    """Handles events under a service account's session, with an audit trail in ``state``."""

    def __init__(self, gateway: Gateway, summaries: SummaryReader, recalculator: Recalculator, state: State) -> None:
        self._gateway = gateway
        self._summaries = summaries
        self._recalculator = recalculator
        self._state = state

    def handle(self, event: Event, *, recalculate: bool) -> EventOutcome:
        """Handle an event, unless it was handled before. See :func:`evergreen_groups.hooks.interface.handle_event`."""
        trail = self._trail(self._state.database)
        former = _handled_before(trail, event)
        # Duplicates come from a proxy that retries, or from staff who reset the event.
        if former is not None:
            return former
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(
                    self._state.event_lease(
                        f"{self._gateway.url} {event.id} {event.hook} {event.patron_id}", self._time_left(most=None)
                    )
                )
            except BusyError as error:
                _record_failure(trail, event, error)
                raise
            return self._handle_leased(self._trail(lease), event, recalculate)

    def _handle_leased(self, trail: AuditTrail, event: Event, recalculate: bool) -> EventOutcome:
        """Handle an event under its lease, which no other server holds."""
        former = _handled_before(trail, event)  # another server may have handled it while this one waited
        if former is not None:
            return former
        try:
            blocked, recalculated, reason = self._work(event, recalculate)
        except EvergreenGroupsError as error:
            _record_failure(trail, event, error)
            raise
        trail.write(
            event=event.id,
            hook=event.hook,
            patron=event.patron_id,
            done=True,
            blocked=blocked,
            recalculated=recalculated,
            reason=reason,
        )
        return EventOutcome(event.id, event.patron_id, blocked, recalculated)

    def _trail(self, transactions: Transactions) -> AuditTrail:
        return AuditTrail(transactions, self._gateway.url)

    def _time_left(self, *, most: float | None = TIMEOUT) -> float:
        """Return how many seconds to wait: those until the event's deadline, but at most ``most``."""
        left = self._gateway.seconds_left
        if left is None:
            return TIMEOUT
        return left if most is None else min(most, left)

    def _work(self, event: Event, recalculate: bool) -> tuple[bool | None, bool, str]:
        """Return the decision, whether Evergreen has recalculated, and a reason: why not, or what changed."""
        try:
            decision = self._summaries.decision(event.patron_id, with_penalties=False)
        except NotFoundError:
            if not self._summaries.is_deleted(event.patron_id):
                raise
            return None, False, "the patron has been deleted"
        if not recalculate:
            return decision.over_limit, False, ""
        attempt = self._recalculator.for_patron(
            event.patron_id, over_limit=decision.over_limit, timeout=self._time_left()
        )
        if attempt.state in (StepState.FAILED, StepState.SENDING):
            raise DataError(
                "the ILS was asked to recalculate: {reason}",
                code="recalculation-failed",
                values={"reason": attempt.reason},
            )
        return decision.over_limit, attempt.state is StepState.DONE, str(attempt.reason)


def _handled_before(trail: AuditTrail, event: Event) -> EventOutcome | None:
    """Return the outcome of an event that was handled before, or None."""
    entry = trail.done(event.id, event.hook, event.patron_id)
    if entry is None:
        return None
    return EventOutcome(entry.event, entry.patron, entry.blocked, entry.recalculated, replayed=True)


def _record_failure(trail: AuditTrail, event: Event, error: EvergreenGroupsError) -> None:
    trail.write(event=event.id, hook=event.hook, patron=event.patron_id, done=False, reason=_cause(error))


def _cause(error: EvergreenGroupsError) -> str:
    """Return the kind of an error. Its message may contain data that the trail must not hold."""
    kind = type(error).__name__
    return f"{kind} ({error.textcode})" if isinstance(error, EventError) else kind


events = schema.events


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """A row of the trail. ``event`` is Evergreen's id, ``patron`` an ``au.id``.

    ``blocked`` is the rule's decision, None if there was none to make. ``reason`` says why nothing was decided or
    recalculated, or what failed if the event isn't ``done``. ``at`` is the time of writing.
    """

    event: int
    hook: str
    patron: int
    done: bool
    blocked: bool | None
    recalculated: bool
    reason: str
    at: datetime


class AuditTrail:
    """The audit trail of one gateway's events."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def done(self, event: int, hook: str, patron: int) -> TrailEntry | None:
        """Return the entry of an event that was handled to the end, or None.

        The id alone doesn't identify an event: an Evergreen restored from a backup reuses ids.
        """
        found = select(events).where(
            events.c.gateway == self._gateway,
            events.c.event == event,
            events.c.hook == hook,
            events.c.patron == patron,
            literal_column("done"),  # literal, to match the partial index
        )
        with self._transactions.reading() as connection:
            row = connection.execute(found).one_or_none()
            return None if row is None else _entry(row)

    def entries(self) -> list[TrailEntry]:
        """Return all rows, latest first."""
        found = select(events).where(events.c.gateway == self._gateway).order_by(events.c.id.desc())
        with self._transactions.reading() as connection:
            return [_entry(row) for row in connection.execute(found)]

    def write(
        self,
        *,
        event: int,
        hook: str,
        patron: int,
        done: bool,
        blocked: bool | None = None,
        recalculated: bool = False,
        reason: str = "",
    ) -> None:
        """Add a row. Durable once this returns.

        Raises:
            StateError: the row can't be written, or the event is already done.
        """
        row = {"event": event, "hook": hook, "patron": patron, "done": done, "blocked": blocked}
        with self._transactions.writing() as connection:
            connection.execute(
                insert(events).values(
                    gateway=self._gateway, at=self._transactions.now(), recalculated=recalculated, reason=reason, **row
                )
            )


def _entry(row: Row[Any]) -> TrailEntry:
    return TrailEntry(
        event=int(row.event),
        hook=row.hook,
        patron=int(row.patron),
        done=row.done,
        blocked=row.blocked,
        recalculated=row.recalculated,
        reason=row.reason,
        at=row.at,
    )
