"""What the journal holds: plans that were applied, with their steps and how far each is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

PENALTIES = "penalties"
"""The field of a step that recalculates somebody's penalties."""


class StepState(Enum):
    """How far a step is."""

    PLANNED = "planned"
    SENDING = "sending"
    DONE = "done"
    NOT_DONE = "not done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Sending:
    """One request of a step, written down before it went out, with what its outcome can be told by.

    ``until`` is when it can't come in any more. ``last_xact_id`` is that of the record it was made from (None: the
    record had none, or the request doesn't go by it), ``other_fields`` a digest of all that it wasn't to change; for a
    recalculation, of the penalties that were in force.
    """

    at: datetime
    until: datetime
    last_xact_id: str | None = None
    other_fields: str | None = None


@dataclass(frozen=True, slots=True)
class JournalStep:
    """One change of one field of one patron.

    ``field`` is ``usrgroup``, ``master_account`` (0 or 1), or ``penalties`` for a recalculation: how many penalties
    in force the ILS has set itself. ``after`` is None for what the ILS decides: the number of a new group, and the
    penalties. ``value`` is what the field had when the step was done, or was last looked at while it is open;
    ``reason`` says why it isn't done. ``sending`` is the latest request of an open step, None where it isn't known.
    """

    id: int
    patron: int
    field: str
    before: int
    after: int | None
    state: StepState
    value: int | None
    reason: str
    sending: Sending | None = None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One plan that was applied, or begun. ``undoes`` is the entry that it took back, where it did.

    ``missing_step_count`` is how many of its steps aren't kept any more.
    """

    id: int
    gateway: str
    account: str
    at: datetime
    action: str
    undoes: int | None
    steps: tuple[JournalStep, ...]
    missing_step_count: int = 0
