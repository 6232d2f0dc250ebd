"""Working on events that the ILS sends: deciding anew about one patron, and having the ILS recalculate."""

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

# The ILS sends an event once, whatever it is answered: one turned away because of a lock would be lost until the next
# audit.
TIMEOUT = 10.0
"""How long to wait while another run changes something at the same gateway, in seconds, unless less time is left."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the ILS: its id (``action_trigger.event``), the name of its hook, and the patron it is about."""

    id: int
    hook: str
    patron_id: int

    def __post_init__(self) -> None:
        """Refuse values of other types. Raises ArgumentError."""
        arguments.integer("id", self.id)
        arguments.text("hook", self.hook)
        arguments.integer("patron_id", self.patron_id)


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What came of an event: whether the patron is over the limit, and whether the ILS has recalculated.

    ``over_limit`` is None for a patron who has been deleted. ``replayed`` says that the event had been worked on
    before; the rest is what came of it then.
    """

    event: int
    patron: int
    over_limit: bool | None
    recalculated: bool
    replayed: bool = False


class EventHandler:
    """Works on events with a service account's session. The trail of them is in ``state``."""

    def __init__(self, gateway: Gateway, summaries: SummaryReader, recalculator: Recalculator, state: State) -> None:
        self._gateway = gateway
        self._summaries = summaries
        self._recalculator = recalculator
        self._state = state

    def handle(self, event: Event, *, recalculate: bool) -> EventOutcome:
        """Work on an event, unless that was done before; see :func:`evergreen_groups.hooks.interface.handle_event`."""
        trail = self._trail(self._state.database)
        former = _former(trail, event)
        # Sent twice all the same: by a proxy that tried again, or by staff who reset the event.
        if former is not None:
            return former
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(
                    self._state.working_on(
                        f"{self._gateway.url} {event.id} {event.hook} {event.patron_id}", self._time_left(most=None)
                    )
                )
            except BusyError as error:
                _write_failure(trail, event, error)
                raise
            return self._handle_alone(self._trail(lease), event, recalculate)

    def _handle_alone(self, trail: AuditTrail, event: Event, recalculate: bool) -> EventOutcome:
        """The same while nobody else works on the event, on whatever server."""
        former = _former(trail, event)  # somebody has, while this one waited
        if former is not None:
            return former
        try:
            blocked, recalculated, reason = self._work(event, recalculate)
        except EvergreenGroupsError as error:
            _write_failure(trail, event, error)
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
        """How many seconds there are to wait: those until the event's deadline, ``most`` of them."""
        left = self._gateway.seconds_left
        if left is None:
            return TIMEOUT
        return left if most is None else min(most, left)

    def _work(self, event: Event, recalculate: bool) -> tuple[bool | None, bool, str]:
        """The decision, whether the ILS has recalculated, and why not or what that changed."""
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


def _former(trail: AuditTrail, event: Event) -> EventOutcome | None:
    """What came of an event when it was worked on before."""
    entry = trail.done(event.id, event.hook, event.patron_id)
    if entry is None:
        return None
    return EventOutcome(entry.event, entry.patron, entry.blocked, entry.recalculated, replayed=True)


def _write_failure(trail: AuditTrail, event: Event, error: EvergreenGroupsError) -> None:
    trail.write(event=event.id, hook=event.hook, patron=event.patron_id, done=False, reason=_cause(error))


def _cause(error: EvergreenGroupsError) -> str:
    """The kind of an error: in a message there might be more than the trail is to hold."""
    kind = type(error).__name__
    return f"{kind} ({error.textcode})" if isinstance(error, EventError) else kind


events = schema.events


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """What came of one event. ``event`` is its id in the ILS, ``patron`` an ``au.id``.

    ``blocked`` is the rule's decision, None where there was none to make; ``reason`` says why nothing was decided or
    recalculated, or what failed where the event isn't ``done``. ``at`` is when the row was written.
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
    """The trail of one gateway's events in a database."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def done(self, event: int, hook: str, patron: int) -> TrailEntry | None:
        """What came of an event that was worked on to its end, None where none was.

        Its id alone isn't enough: an ILS that is restored from a backup gives out ids again.
        """
        found = select(events).where(
            events.c.gateway == self._gateway,
            events.c.event == event,
            events.c.hook == hook,
            events.c.patron == patron,
            literal_column("done"),  # as it stands in the index of those
        )
        with self._transactions.reading() as connection:
            row = connection.execute(found).one_or_none()
            return None if row is None else _entry(row)

    def entries(self) -> list[TrailEntry]:
        """All rows, the latest first."""
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
        """Write a row; it is on disk when this returns.

        Raises:
            StateError: it can't be written, or says that an event was done that is done already.
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
