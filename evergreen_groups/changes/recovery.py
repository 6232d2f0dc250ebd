"""Find the outcome of changes that an interrupted run left open, or that got no clear answer."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import PENALTIES, JournalStep, Refusal, Sending, StepState
from evergreen_groups.changes.outcome_check import (
    ARRIVES_WITHIN,
    MAX_CLOCK_SKEW,
    SentChange,
    judge,
    judge_penalties,
)
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.changes.reasons import FOUND_DONE, StepReason, refused
from evergreen_groups.errors import (
    DataError,
    EvergreenGroupsError,
    GatewayError,
    LoginRefusedError,
    NoSessionError,
    PermissionDeniedError,
    TransportError,
)
from evergreen_groups.groups import read_patron
from evergreen_groups.ils import library_name

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.outcome_check import ChangeVerdict
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

FATAL_ERRORS = (TransportError, NoSessionError, LoginRefusedError)
"""Errors that would also hit every later step."""

_MAX_AHEAD = timedelta(days=1)


def recover(gateway: Gateway, journal: Journal, patrons: Collection[int]) -> list[JournalStep]:
    """Determine the outcomes of these patrons' open steps by reading only, journal them, and return the ended steps.

    Steps that may still take effect stay open. So do steps of hidden patrons, because nothing can be concluded about
    them. A later run under another account may see them.

    Raises:
        GatewayError: the ILS can't be reached, or the session has ended.
    """
    ended: list[JournalStep] = []
    penalties = PenaltyReader(gateway)
    for found in journal.open_steps(gateway.url, patrons):
        step = _restart_if_misdated(gateway, journal, found)
        verdict = _verdict(gateway, journal, penalties, step)
        if verdict is None or verdict.state is StepState.SENDING:
            # Rewrite an open step only if there is something new: a restarted wait, or another group.
            if verdict is not None and (step is not found or verdict.value not in (None, step.value)):
                value = step.value if verdict.value is None else verdict.value
                journal.record(step.id, verdict.state, value=value, reason=verdict.reason)
            continue
        reason = verdict.reason or FOUND_DONE
        journal.record(step.id, verdict.state, value=verdict.value, reason=reason)
        ended.append(replace(step, state=verdict.state, value=verdict.value, reason=reason))
    return ended


def _verdict(gateway: Gateway, journal: Journal, penalties: PenaltyReader, step: JournalStep) -> ChangeVerdict | None:
    """Return the outcome of one step, or None if it can't be read now."""
    change = sent_change(journal, step)
    try:
        if step.field == PENALTIES:
            found = penalties.read(step.patron)
            return None if found is None else judge_penalties(change, found, journal.now())
        return judge(gateway, change, read_patron(gateway, step.patron), journal.now())
    # An error about one patron must not stop the recovery of the others.
    except FATAL_ERRORS:
        raise
    except (GatewayError, DataError):
        return None


def _restart_if_misdated(gateway: Gateway, journal: Journal, step: JournalStep) -> JournalStep:
    """Restart a request's wait for arrival if a wrong clock dated it more than a day ahead.

    The request went out before now, so a wait that starts now is long enough, provided that the clock is right by now.
    Evergreen's clock has to agree.
    """
    sending, now = step.sending, journal.now()
    if sending is None or sending.at - now <= _MAX_AHEAD or not _agrees_with_ils(gateway, now):
        return step
    restarted = replace(sending, at=now, until=now + (sending.until - sending.at))
    journal.restart(step.id, restarted)
    return replace(step, sending=restarted)


def _agrees_with_ils(gateway: Gateway, now: datetime) -> bool:
    try:
        seconds = float(gateway.call("open-ils.actor", "opensrf.system.time").value)
    except FATAL_ERRORS:
        raise
    except (GatewayError, DataError, TypeError, ValueError, OverflowError):
        return False
    return abs(seconds - now.timestamp()) <= MAX_CLOCK_SKEW.total_seconds()


def sent_change(journal: Journal, step: JournalStep) -> SentChange:
    """Return an open step's request. Steps from older releases have no record of one, only a time."""
    sending = step.sending
    if sending is None:
        at = journal.last_touched(step.id)
        sending = Sending(at, at + ARRIVES_WITHIN)
    return SentChange(step.patron, step.field, step.before, step.after, sending, seen=step.value)


def refusal(gateway: Gateway, error: EvergreenGroupsError) -> StepReason:
    """Return why Evergreen refused. Names the library at which a permission is missing."""
    if isinstance(error, PermissionDeniedError):
        return refused(error, library_name(gateway, error.org_unit), error.org_unit)
    return refused(error)


def refused_permission(error: EvergreenGroupsError | None) -> Refusal | None:
    """Return the missing permission that an error reports, or None."""
    if isinstance(error, PermissionDeniedError) and error.permission:
        return Refusal(error.permission, error.org_unit)
    return None


_TIMEOUT = 0.5  # seconds; a query normally takes a millisecond or two
MAX_REPLICA_LAG = timedelta(minutes=15)
"""The largest replica lag to allow for. A replica further behind has stopped, and its site has bigger problems."""


@dataclass(frozen=True, slots=True)
class RecentlyChanged:
    """Patrons (ids) with recent changes. Of those in ``recalculated``, the penalties may have changed.

    None means unknown: it may be any patron.
    """

    patrons: frozenset[int] | None = frozenset()
    recalculated: frozenset[int] | None = frozenset()


UNKNOWN = RecentlyChanged(None, None)


def recently_changed(gateway: Gateway, state: State) -> RecentlyChanged:
    """Return the patrons with recent changes in the journal; none if plain reads never come from a replica.

    Raises:
        StateError: the journal can't be read.
    """
    if not gateway.reads_replicas or not state.database.is_there:
        return RecentlyChanged()
    from sqlalchemy import select  # slow to import

    from evergreen_groups.state import schema

    steps = schema.steps
    query = select(steps.c.patron, steps.c.field).where(
        steps.c.gateway == gateway.url, steps.c.touched_at >= state.database.now() - MAX_REPLICA_LAG
    )
    with state.database.reading() as connection:
        found = connection.execute(query).all()
    return RecentlyChanged(
        frozenset(row.patron for row in found), frozenset(row.patron for row in found if row.field == PENALTIES)
    )


def recently_changed_or_unknown(gateway: Gateway, state: State) -> RecentlyChanged:
    """Return the patrons with recent changes, or any patron if the journal doesn't answer at once.

    A database server that hangs must not hold up the reader.
    """
    if not gateway.reads_replicas:
        return RecentlyChanged()
    found = [UNKNOWN]

    def read() -> None:
        with suppress(EvergreenGroupsError):
            found.append(recently_changed(gateway, state))

    if state.database.path is not None:  # SQLite: readers never wait
        read()
    else:
        reading = threading.Thread(target=read, name="state", daemon=True)
        reading.start()
        reading.join(_TIMEOUT)
    return found[-1]
