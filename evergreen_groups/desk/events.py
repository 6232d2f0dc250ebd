"""Handle Evergreen's events: decide about one patron again, and have Evergreen recalculate the penalties."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, literal_column, select

from evergreen_groups import arguments
from evergreen_groups.changes import Changer, StepState
from evergreen_groups.errors import BusyError, DataError, EventError, EvergreenGroupsError, NotFoundError
from evergreen_groups.state import schema

if TYPE_CHECKING:
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

    def __init__(self, gateway: Gateway, summaries: SummaryReader, changes: Changer, state: State) -> None:
        self._gateway = gateway
        self._summaries = summaries
        self._changes = changes
        self._state = state

    def handle(self, event: Event, *, recalculate: bool) -> EventOutcome:
        """Handle an event, unless it was handled before. See :func:`evergreen_groups.hooks.interface.handle_event`."""
        url = self._gateway.url
        trail = AuditTrail(self._state.database, url)
        # Duplicates come from a proxy that retries, or from staff who reset the event.
        former = trail.outcome_of(event)
        if former is not None:
            return former
        key = f"{url} {event.id} {event.hook} {event.patron_id}"
        left = self._gateway.seconds_left
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(self._state.event_lease(key, TIMEOUT if left is None else left))
            except BusyError as error:
                trail.write(event, done=False, reason=_cause(error))
                raise
            return self._handle_leased(AuditTrail(lease, url), event, recalculate)

    def _handle_leased(self, trail: AuditTrail, event: Event, recalculate: bool) -> EventOutcome:
        """Handle an event under its lease, which no other server holds."""
        former = trail.outcome_of(event)  # another server may have handled it while this one waited
        if former is not None:
            return former
        try:
            blocked, recalculated, reason = self._work(event, recalculate)
        except EvergreenGroupsError as error:
            trail.write(event, done=False, reason=_cause(error))
            raise
        trail.write(event, done=True, blocked=blocked, recalculated=recalculated, reason=reason)
        return EventOutcome(event.id, event.patron_id, blocked, recalculated)

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
        over_limit, left = {event.patron_id: decision.over_limit}, self._gateway.seconds_left
        timeout = TIMEOUT if left is None else min(TIMEOUT, left)
        (outcome,) = self._changes.recalculate(over_limit, timeout=timeout).steps
        if outcome.error is not None:
            raise outcome.error
        if outcome.state in (StepState.FAILED, StepState.SENDING):
            raise DataError(
                "refreshing penalties failed: {reason}", code="recalculation-failed", values={"reason": outcome.reason}
            )
        return decision.over_limit, outcome.state is StepState.DONE, str(outcome.reason)


def _cause(error: EvergreenGroupsError) -> str:
    """Return the kind of an error. Its message may contain data that the trail must not hold."""
    kind = type(error).__name__
    return f"{kind} ({error.textcode})" if isinstance(error, EventError) else kind


class AuditTrail:
    """The audit trail of one gateway's events."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def outcome_of(self, event: Event) -> EventOutcome | None:
        """Return the outcome of an event that was handled to the end before, or None.

        The id alone doesn't identify an event: an Evergreen restored from a backup reuses ids.
        """
        events = schema.events
        found = select(events).where(
            events.c.gateway == self._gateway,
            events.c.event == event.id,
            events.c.hook == event.hook,
            events.c.patron == event.patron_id,
            literal_column("done"),  # literal, to match the partial index
        )
        with self._transactions.reading() as connection:
            row = connection.execute(found).one_or_none()
        return (
            None if row is None else EventOutcome(row.event, row.patron, row.blocked, row.recalculated, replayed=True)
        )

    def write(
        self, event: Event, *, done: bool, blocked: bool | None = None, recalculated: bool = False, reason: str = ""
    ) -> None:
        """Add a row. Durable once this returns.

        ``blocked`` is the rule's decision, None if there was none to make. ``reason`` says why nothing was decided or
        recalculated, or what failed if the event isn't ``done``. An event that is already done is a StateError.
        """
        with self._transactions.writing() as connection:
            connection.execute(
                insert(schema.events).values(
                    gateway=self._gateway,
                    at=self._transactions.now(),
                    event=event.id,
                    hook=event.hook,
                    patron=event.patron_id,
                    done=done,
                    blocked=blocked,
                    recalculated=recalculated,
                    reason=reason,
                )
            )
