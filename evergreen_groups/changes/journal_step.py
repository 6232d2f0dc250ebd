"""What the journal holds: plans that were applied, with their steps and how far each is."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen_groups.changes.seat import Seat
    from evergreen_groups.changes.step_reason import StepReason

PENALTIES = "penalties"
"""The field of a step that recalculates somebody's penalties."""

_CHANGE_ID = re.compile(r"[1-9][0-9]{0,17}-[0-9a-z]{6}")
_SUFFIX_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # base32 without letters that look like digits


def is_change_id(text: str) -> bool:
    """Return whether ``text`` may be a change's id, such as ``2-k7q4tz``: a number and a random suffix.

    The suffix tells a change from the one that gets the same number after a backup was restored.
    """
    return bool(_CHANGE_ID.fullmatch(text))


def new_suffix() -> str:
    """Return a random suffix for a new change's id."""
    return "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(6))


def change_number(id: str) -> int:
    """Return the number in a change's id."""
    return int(id.partition("-")[0])


class StepState(Enum):
    """How far a step is. ``UNCHANGED``: nothing was sent, because Evergreen already had the value."""

    PLANNED = "planned"
    SENDING = "sending"
    DONE = "done"
    UNCHANGED = "unchanged"
    NOT_DONE = "not done"
    FAILED = "failed"

    @property
    def is_as_planned(self) -> bool:
        """Whether Evergreen has the value that was wanted, so nothing is left to do."""
        return self in (StepState.DONE, StepState.UNCHANGED)


class FieldChange(Protocol):
    """A change of one field of one patron, as it is planned: see :class:`JournalStep`."""

    @property
    def patron_id(self) -> int: ...

    @property
    def field(self) -> str: ...

    @property
    def before(self) -> int: ...

    @property
    def after(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever has changes made. ``account`` is the name that the journal calls them by.

    At a desk ``staff`` is the id of the account whose session it is (``au.id``), ``workstation`` that of where it works
    (``aws.id``), and ``approved_by`` that of the supervisor who approved this one change with their own login. At a
    command line ``seat`` is who sits there.
    """

    account: str
    staff: int | None = None
    workstation: int | None = None
    approved_by: int | None = None
    seat: Seat | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the ILS refused a change for: a permission that is missing, at an org unit (id) where it said which."""

    permission: str
    org_unit: int | None


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
    ``reason`` says why it isn't done, or what else there is to know of it, ``refusal`` which permission was missing,
    where that is why. ``sending`` is the step's latest request, None where none was sent or it isn't known.
    """

    id: int
    patron: int
    field: str
    before: int
    after: int | None
    state: StepState
    value: int | None
    reason: StepReason
    sending: Sending | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One plan that was applied, or begun. ``undoes`` is the id of the entry that it took back, if any.

    ``missing_step_count`` is how many of its steps aren't kept any more.
    """

    id: str
    gateway: str
    operator: Operator
    at: datetime
    action: str
    undoes: str | None
    steps: tuple[JournalStep, ...]
    missing_step_count: int = 0
