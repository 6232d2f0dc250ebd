"""The journal of changes to membership and penalties: written before anything is sent, and the outcome after.

A plan, the request of a step, and its outcome are a commit each. A step stands as it is now, with its latest request,
so what a crash leaves open can be seen and recovered by the next run.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select, true, union

from evergreen_groups.changes.journal_statements import (
    ENTRIES,
    ENTRY,
    NEW_ENTRY,
    NEW_STEPS,
    OPEN_AT_THE_SAME_PLACE,
    OPEN_STEPS,
    STEPS_OF_ENTRY,
    UPDATE_STEP,
    changes,
    steps,
)
from evergreen_groups.changes.journal_step import (
    PENALTIES,
    FieldChange,
    JournalEntry,
    JournalStep,
    Operator,
    Refusal,
    Sending,
    StepState,
    change_number,
    is_change_id,
    new_suffix,
)
from evergreen_groups.changes.seat import seat_columns, seat_in
from evergreen_groups.changes.step_reason import NO_REASON, TAKEN_OVER, StepReason
from evergreen_groups.errors import NotFoundError, StateError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions

_TEXTS = "texts"


class Journal:
    """The journal in a database. Each patron's steps have one writer at a time: over the lease of
    :meth:`State.changing`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def now(self) -> datetime:
        """As :meth:`Transactions.now`."""
        return self._transactions.now()

    def begin(
        self,
        gateway: str,
        operator: Operator,
        action: str,
        planned: Sequence[FieldChange],
        undoes: str | None = None,
        also: Callable[[Connection, str], None] | None = None,
    ) -> list[int]:
        """Write a plan down before anything of it is sent; gives the steps' ids, in their order.

        ``also`` writes something else, in the same transaction: it gets the connection and the entry's id.
        """
        now = self.now()
        shared = {"gateway": gateway, "state": StepState.PLANNED.value, "touched_at": now}
        # A plan is down as a whole or not at all: of half a plan nobody could say later what the rest had been.
        with self._transactions.writing() as connection:
            entry = {
                "suffix": new_suffix(),
                "gateway": gateway,
                "account": operator.account,
                "staff": operator.staff,
                "workstation": operator.workstation,
                "approved_by": operator.approved_by,
                **seat_columns(operator.seat),
                "at": now,
                "action": action,
                "undoes": undoes and change_number(undoes),
                "step_count": len(planned),
            }
            change: int = connection.execute(NEW_ENTRY, entry).scalar_one()
            if also is not None:
                also(connection, f"{change}-{entry['suffix']}")
            rows = [
                {
                    **shared,
                    "change": change,
                    "patron": step.patron_id,
                    "field": step.field,
                    "before": step.before,
                    "after": step.after,
                }
                for step in planned
            ]
            return list(connection.execute(NEW_STEPS, rows).scalars()) if rows else []

    def record_sending(self, step: int, sending: Sending) -> None:
        """Write down that a request of a step goes out now; it is on disk when this returns.

        An open step of an earlier run that means the same change is closed: what its request may still do is this
        step's outcome from now on.

        Raises:
            StateError: another change of the same field of the patron is open, so this one must not be sent.
        """
        with self._transactions.writing() as connection:
            _take_over(connection, step, sending.at)
            _update(
                connection,
                step,
                state=StepState.SENDING.value,
                value=None,
                **_reason(NO_REASON),
                touched_at=sending.at,
                sent_at=sending.at,
                sent_until=sending.until,
                last_xact_id=sending.last_xact_id,
                other_fields=sending.other_fields,
            )

    def restart(self, step: int, sending: Sending) -> None:
        """Replace the times of an open step's request. Durable once this returns."""
        with self._transactions.writing() as connection:
            _update(connection, step, touched_at=sending.at, sent_at=sending.at, sent_until=sending.until)

    def record(
        self,
        step: int,
        state: StepState,
        *,
        value: int | None = None,
        reason: StepReason = NO_REASON,
        refusal: Refusal | None = None,
    ) -> None:
        """Write down what became of a step; it is on disk when this returns."""
        with self._transactions.writing() as connection:
            _update(
                connection,
                step,
                state=state.value,
                value=value,
                **_reason(reason),
                permission=refusal.permission if refusal else None,
                org_unit=refusal.org_unit if refusal else None,
                touched_at=self.now(),
            )

    def entries(self, gateway: str | None = None) -> list[JournalEntry]:
        """All entries, the latest first; of one gateway where it is given."""
        return self._found(changes.c.gateway == gateway if gateway else true())

    def entries_of(self, gateway: str, staff: int, since: datetime) -> list[JournalEntry]:
        """What a staff user (``au.id``) has changed since then, the latest first."""
        mine = (changes.c.gateway == gateway, changes.c.staff == staff, changes.c.at >= since)
        return self._found(and_(*mine))

    def entries_about(self, gateway: str, group: int, most: int) -> list[JournalEntry]:
        """The latest changes by which somebody came into a group, left it, or changed in it: ``most`` at most."""
        moved = [
            select(steps.c.change).where(steps.c.gateway == gateway, steps.c.field == "usrgroup", number == group)
            for number in (steps.c.before, steps.c.value)
        ]
        found = union(*moved).subquery()
        latest = select(changes.c.id).where(changes.c.id.in_(select(found.c.change)))
        return self._found(changes.c.id.in_(latest.order_by(changes.c.id.desc()).limit(most)))

    def _found(self, condition: ColumnElement[bool]) -> list[JournalEntry]:
        """The entries for which a condition holds, with their steps, the latest first."""
        entries = ENTRIES.where(condition).order_by(changes.c.id.desc())
        their_steps = select(steps).join(changes, steps.c.change == changes.c.id).where(condition).order_by(steps.c.id)
        by_entry: defaultdict[int, list[JournalStep]] = defaultdict(list)
        with self._transactions.reading() as connection:
            for row in connection.execute(their_steps):
                by_entry[row.change].append(_step(row))
            return [_entry(row, by_entry[row.id]) for row in connection.execute(entries)]

    def entry(self, id: str) -> JournalEntry:
        """One entry with its steps as they stand.

        Raises:
            NotFoundError: there is no such entry.
        """
        if is_change_id(id):
            values = {"entry": change_number(id), "with_suffix": id.partition("-")[2]}
            with self._transactions.reading() as connection:
                row = connection.execute(ENTRY, values).one_or_none()
                if row is not None:
                    its_steps = connection.execute(STEPS_OF_ENTRY, {"entry": row.id})
                    return _entry(row, [_step(step) for step in its_steps])
        raise NotFoundError(
            "the journal has no entry {entry}",
            advice="`journal` lists them",
            code="no-such-entry",
            values={"entry": id},
        )

    def moved_since(self, entry: JournalEntry) -> frozenset[int]:
        """Return the ids of those of an entry's patrons whom later entries have moved, or may have."""
        its_own = steps.alias("its_own")
        later = select(steps.c.patron).where(
            steps.c.patron.in_(select(its_own.c.patron).where(its_own.c.change == change_number(entry.id))),
            steps.c.gateway == entry.gateway,
            steps.c.field == "usrgroup",
            steps.c.state.in_((StepState.DONE.value, StepState.SENDING.value)),
            steps.c.id > max((step.id for step in entry.steps), default=0),
        )
        with self._transactions.reading() as connection:
            return frozenset(connection.execute(later).scalars())

    def open_steps(self, gateway: str, patrons: Collection[int] | None = None) -> list[JournalStep]:
        """The steps that were being sent and whose outcome isn't known yet, with their latest sendings.

        Those of some patrons (ids), or of everybody.
        """
        with self._transactions.reading() as connection:
            open_ones = [_step(row) for row in connection.execute(OPEN_STEPS, {"of_gateway": gateway})]
        # Few are open at any time; those of many patrons in one question would be more values than a server takes.
        return [step for step in open_ones if patrons is None or step.patron in patrons]

    def last_touched(self, step: int) -> datetime:
        """When a step was last written."""
        with self._transactions.reading() as connection:
            found: datetime = connection.execute(select(steps.c.touched_at).where(steps.c.id == step)).scalar_one()
            return found


def _take_over(connection: Connection, step: int, at: datetime) -> None:
    """Close the open step at the same place, where it means the same."""
    found = connection.execute(OPEN_AT_THE_SAME_PLACE, {"step": step}).one_or_none()
    if found is None:
        return
    # The ILS takes the two requests once at most, or twice is the same as once.
    is_protected = bool(found.last_xact_id) and found.after is not None
    is_same = (found.before, found.after) == (found.my_before, found.my_after)
    if found.field != PENALTIES and not (is_protected and is_same):
        raise StateError(
            "patron {patron}: what became of an earlier change of the same field isn't known yet, so none is sent",
            advice="run the same command again later: each run looks what became of it",
            code="step-still-open",
            values={"patron": found.patron},
        )
    _update(connection, found.id, state=StepState.NOT_DONE.value, **_reason(TAKEN_OVER), touched_at=at)


def _update(connection: Connection, step: int, **values: Any) -> None:
    if connection.execute(UPDATE_STEP, {"step": step, **values}).rowcount != 1:
        raise StateError(
            "step {step} isn't in the journal any more",
            advice="look whether it was forgotten while the change was being made",
            code="step-gone",
            values={"step": step},
        )


def _reason(reason: StepReason) -> dict[str, Any]:
    """The columns of a reason."""
    values = dict(reason.values)
    if reason.texts not in ((), (str(reason),)):
        values[_TEXTS] = reason.texts  # what the sentence is made of, for readers of other languages
    return {
        "reason": str(reason),
        "reason_code": reason.code or None,
        "reason_values": json.dumps(values) if values else None,
    }


def _reason_of(row: Row[Any]) -> StepReason:
    values = json.loads(row.reason_values or "{}")
    texts = values.pop(_TEXTS, None)
    return StepReason(row.reason if texts is None else texts, row.reason_code or "", **values)


def _entry(row: Row[Any], its_steps: Sequence[JournalStep]) -> JournalEntry:
    missing = int(row.step_count) - len(its_steps)
    return JournalEntry(
        f"{row.id}-{row.suffix}",
        row.gateway,
        Operator(row.account, _number(row.staff), _number(row.workstation), _number(row.approved_by), seat_in(row)),
        row.at,
        row.action,
        None if row.undoes is None else f"{row.undoes}-{row.undone_suffix}",
        tuple(its_steps),
        missing,
    )


def _step(row: Row[Any]) -> JournalStep:
    state = StepState(row.state)
    sending = None
    if row.sent_at is not None:
        sending = Sending(row.sent_at, row.sent_until, row.last_xact_id, row.other_fields)
    return JournalStep(
        id=int(row.id),
        patron=int(row.patron),
        field=row.field,
        before=int(row.before),
        after=_number(row.after),
        state=state,
        value=_number(row.value),
        reason=_reason_of(row),
        sending=sending,
        refusal=None if row.permission is None else Refusal(row.permission, _number(row.org_unit)),
    )


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
