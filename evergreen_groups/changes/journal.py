"""The journal of changes to membership and penalties: written before anything is sent, and the outcome after.

A plan, the request of a step, and its outcome are a commit each. A step stands as it is now, with its latest request,
so what a crash leaves open can be seen and recovered by the next run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import and_, bindparam, insert, literal_column, select, true, union, update

from evergreen_groups.changes.reasons import NO_REASON, TAKEN_OVER, StepReason
from evergreen_groups.errors import NotFoundError, StateError
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions

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


changes, steps = schema.changes, schema.steps

# As it stands in the index of open steps: with a value that comes later neither engine could tell that the index will
# do, and each run would look through the whole journal.
_IS_OPEN = steps.c.state == literal_column("'sending'")
_mine, _earlier = steps.alias("mine"), steps.alias("earlier")
_PLACE = ("gateway", "patron", "field")

_undone = changes.alias("undone")
_undone_suffix = _undone.c.suffix.label("undone_suffix")

ENTRIES = select(changes, _undone_suffix).outerjoin(_undone, changes.c.undoes == _undone.c.id)
NEW_ENTRY = insert(changes).returning(changes.c.id)
NEW_STEPS = insert(steps).returning(steps.c.id, sort_by_parameter_order=True)
ENTRY = ENTRIES.where(changes.c.id == bindparam("entry"), changes.c.suffix == bindparam("with_suffix"))
STEPS_OF_ENTRY = select(steps).where(steps.c.change == bindparam("entry")).order_by(steps.c.id)
OPEN_STEPS = select(steps).where(_IS_OPEN, steps.c.gateway == bindparam("of_gateway")).order_by(steps.c.id)
UPDATE_STEP = update(steps).where(steps.c.id == bindparam("step"))
OPEN_AT_THE_SAME_PLACE = select(
    _earlier.c.id,
    *(_earlier.c[name] for name in ("patron", "field", "before", "after", "last_xact_id")),
    _mine.c.before.label("my_before"),
    _mine.c.after.label("my_after"),
).where(
    _mine.c.id == bindparam("step"),
    _earlier.c.id != bindparam("step"),
    literal_column("earlier.state") == literal_column("'sending'"),
    *(_earlier.c[name] == _mine.c[name] for name in _PLACE),
)


@dataclass(frozen=True, slots=True)
class Seat:
    """A person at a command line. ``user`` is whose rights a program runs with, ``host`` the machine's name.

    ``login_user`` is who logged in where that is somebody else (``sudo`` doesn't change it), ``terminal`` which
    terminal it is (``pts/3``); each is None where there is none, as for what a timer starts.
    """

    user: str
    host: str
    login_user: str | None = None
    terminal: str | None = None


def current_seat() -> Seat:
    """Who has started this program, and where."""
    user, login_user = _user_name(), None
    with suppress(OSError):  # nobody has logged in
        login_user = os.getlogin()
    return Seat(user, socket.gethostname(), login_user if login_user != user else None, _terminal())


def seat_columns(seat: Seat | None) -> dict[str, str | None]:
    """The columns of the journal for whoever sits there; none where nobody does."""
    if seat is None:
        return {}
    return {
        "os_user": seat.user,
        "login_user": seat.login_user,
        "host": seat.host,
        "terminal": seat.terminal,
    }


def seat_in(row: Row[Any]) -> Seat | None:
    """Who sat there, as a row of the journal has it."""
    return None if row.os_user is None else Seat(row.os_user, row.host, row.login_user, row.terminal)


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # one that has a number alone, as in a container
        return f"uid {os.geteuid()}"


def _terminal() -> str | None:
    for stream in (sys.stdin, sys.stderr, sys.stdout):
        # A stream that is closed, or was put in the place of one.
        with suppress(OSError, ValueError, AttributeError):
            if os.isatty(stream.fileno()):
                return os.ttyname(stream.fileno()).removeprefix("/dev/")
    return None


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
