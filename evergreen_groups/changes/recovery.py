"""Finding out what became of changes that were being sent when their run ended, or that had no clear answer."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import PENALTIES, JournalStep, Refusal, Sending, StepState
from evergreen_groups.changes.landing import (
    CLOCKS_DIFFER_BY,
    LANDS_WITHIN,
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
    from evergreen_groups.changes.landing import Landing
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

STOPPING = (TransportError, NoSessionError, LoginRefusedError)
"""Errors after which whatever is left would only fail in the same way."""

_LONGEST_AHEAD = timedelta(days=1)


def recover(gateway: Gateway, journal: Journal, patrons: Collection[int]) -> list[JournalStep]:
    """Look up what is open of these patrons (ids), by reading only, write into the journal what became of it, and give
    that.

    What may still come in stays open, and so does what is about a patron whom the account can't see: nothing can be
    concluded about them, and whoever acts next may see them.

    Raises:
        GatewayError: the ILS can't be reached, or the session has ended.
    """
    ended: list[JournalStep] = []
    penalties = PenaltyReader(gateway)
    for found in journal.open_steps(gateway.url, patrons):
        step = _sent_by_a_right_clock(gateway, journal, found)
        landing = _landing(gateway, journal, penalties, step)
        if landing is None or landing.state is StepState.SENDING:
            if landing is not None and (step is not found or landing.value not in (None, step.value)):
                value = step.value if landing.value is None else landing.value
                journal.record(step.id, landing.state, value=value, reason=landing.reason)
            continue
        reason = landing.reason or FOUND_DONE
        journal.record(step.id, landing.state, value=landing.value, reason=reason)
        ended.append(replace(step, state=landing.state, value=landing.value, reason=reason))
    return ended


def _landing(gateway: Gateway, journal: Journal, penalties: PenaltyReader, step: JournalStep) -> Landing | None:
    """What became of one step; None where that can't be read now."""
    change = sent_change(journal, step)
    try:
        if step.field == PENALTIES:
            found = penalties.read(step.patron)
            return None if found is None else judge_penalties(change, found, journal.now())
        return judge(gateway, change, read_patron(gateway, step.patron), journal.now())
    except STOPPING:
        raise
    except (GatewayError, DataError):
        return None


def _sent_by_a_right_clock(gateway: Gateway, journal: Journal, step: JournalStep) -> JournalStep:
    """Restart the time during which a request may come in, if a wrong clock dated it more than a day ahead.

    It went out before now, so counting from now is safe if now is right: Evergreen's clock has to agree.
    """
    sending, now = step.sending, journal.now()
    if sending is None or sending.at - now <= _LONGEST_AHEAD or not _agrees_with_ils(gateway, now):
        return step
    restarted = replace(sending, at=now, until=now + (sending.until - sending.at))
    journal.restart(step.id, restarted)
    return replace(step, sending=restarted)


def _agrees_with_ils(gateway: Gateway, now: datetime) -> bool:
    try:
        seconds = float(gateway.call("open-ils.actor", "opensrf.system.time").value)
    except STOPPING:
        raise
    except (GatewayError, DataError, TypeError, ValueError, OverflowError):
        return False
    return abs(seconds - now.timestamp()) <= CLOCKS_DIFFER_BY.total_seconds()


def sent_change(journal: Journal, step: JournalStep) -> SentChange:
    """An open step as the request that it was; an older release wrote down no more than when it went out."""
    sending = step.sending
    if sending is None:
        at = journal.last_touched(step.id)
        sending = Sending(at, at + LANDS_WITHIN)
    return SentChange(step.patron, step.field, step.before, step.after, sending, seen=step.value)


def refusal(gateway: Gateway, error: EvergreenGroupsError) -> StepReason:
    """Why the ILS refused something; a missing permission with the library that it is missing at."""
    if isinstance(error, PermissionDeniedError):
        return refused(error, library_name(gateway, error.org_unit), error.org_unit)
    return refused(error)


def refused_permission(error: EvergreenGroupsError | None) -> Refusal | None:
    """The permission that was missing, where an error says that one was."""
    if isinstance(error, PermissionDeniedError) and error.permission:
        return Refusal(error.permission, error.org_unit)
    return None


_AT_ONCE = 0.5  # seconds; it takes a millisecond or two
COPIED_WITHIN = timedelta(minutes=15)
"""How far behind a copy may be; one that is further behind has stopped, and its site has other troubles."""


@dataclass(frozen=True, slots=True)
class RecentlyChanged:
    """The ``patrons`` (ids) of the last changes; of those ``recalculated``, penalties may be others by now.

    None: it isn't known, so anybody may be one of them.
    """

    patrons: frozenset[int] | None = frozenset()
    recalculated: frozenset[int] | None = frozenset()


ANYBODY = RecentlyChanged(None, None)


def recently_changed(gateway: Gateway, state: State) -> RecentlyChanged:
    """Whom the journal in ``state`` names; nobody at a site whose plain reads don't come from copies.

    Raises:
        StateError: the journal can't be read.
    """
    if not gateway.reads_replicas or not state.database.is_there:
        return RecentlyChanged()
    from sqlalchemy import select  # takes long to import

    from evergreen_groups.state import schema

    steps = schema.steps
    query = select(steps.c.patron, steps.c.field).where(
        steps.c.gateway == gateway.url, steps.c.touched_at >= state.database.now() - COPIED_WITHIN
    )
    with state.database.reading() as connection:
        found = connection.execute(query).all()
    return RecentlyChanged(
        frozenset(row.patron for row in found), frozenset(row.patron for row in found if row.field == PENALTIES)
    )


def recently_changed_at_once(gateway: Gateway, state: State) -> RecentlyChanged:
    """Whom the journal names, or anybody where it can't be read at once: nobody waits for a server that hangs."""
    if not gateway.reads_replicas:
        return RecentlyChanged()
    found = [ANYBODY]

    def read() -> None:
        with suppress(EvergreenGroupsError):
            found.append(recently_changed(gateway, state))

    if state.database.path is not None:  # a file's readers wait for nobody
        read()
    else:
        reading = threading.Thread(target=read, name="state", daemon=True)
        reading.start()
        reading.join(_AT_ONCE)
    return found[-1]
