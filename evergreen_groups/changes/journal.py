"""The journal of changes to membership and penalties, written before each request and after each outcome.

The plan, each request and each outcome are separate commits. A step's row holds its current state and latest request,
so the next run can detect and recover what a crash left open.
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
"""The field name of a step that recalculates a patron's penalties."""

_CHANGE_ID = re.compile(r"[1-9][0-9]{0,17}-[0-9a-z]{6}")
_SUFFIX_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # base32 without letters that look like digits


def is_change_id(text: str) -> bool:
    """Return whether ``text`` has the form of a change id: a number and a random suffix, as in ``2-k7q4tz``.

    Restoring a backup can reuse a number. The suffix tells the two changes apart.
    """
    return bool(_CHANGE_ID.fullmatch(text))


def change_number(id: str) -> int:
    """Return the number in a change's id."""
    return int(id.partition("-")[0])


class StepState(Enum):
    """The progress of a step. ``UNCHANGED`` means that Evergreen already had the value, so nothing was sent."""

    PLANNED = "planned"
    SENDING = "sending"
    DONE = "done"
    UNCHANGED = "unchanged"
    NOT_DONE = "not done"
    FAILED = "failed"

    @property
    def is_as_planned(self) -> bool:
        """Whether Evergreen has the planned value, so nothing is left to do."""
        return self in (StepState.DONE, StepState.UNCHANGED)


class FieldChange(Protocol):
    """A planned change of one field of one patron. See :class:`JournalStep` for the fields."""

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
    """Who is responsible for a change. ``account`` is the account name to record in the journal.

    For a change at a desk, ``staff`` is the id of the logged-in account (``au.id``), ``workstation`` the id of its
    workstation (``aws.id``), and ``approved_by`` the id of the supervisor who approved this change with their own
    login. For a change from the command line, ``terminal_user`` identifies the person at the terminal.
    """

    account: str
    staff: int | None = None
    workstation: int | None = None
    approved_by: int | None = None
    terminal_user: TerminalUser | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A missing permission that made the ILS refuse a change, and the org unit (id) where it is missing, if known."""

    permission: str
    org_unit: int | None


@dataclass(frozen=True, slots=True)
class Sending:
    """One request of a step, recorded before sending, with the facts that its outcome can be inferred from.

    After ``until`` the request can no longer reach Evergreen. ``last_xact_id`` is the value in the record that the
    request was made from (None: the record had none, or the method doesn't check it). ``other_fields`` is a digest of
    the fields that the request must not change; for a recalculation, of the penalties in force.
    """

    at: datetime
    until: datetime
    last_xact_id: str | None = None
    other_fields: str | None = None


@dataclass(frozen=True, slots=True)
class JournalStep:
    """One change of one field of one patron.

    ``field`` is ``usrgroup``, ``master_account`` (0 or 1), or ``penalties``. For a recalculation (``penalties``), the
    values are the number of penalties in force that the ILS set itself. ``after`` is None where the ILS picks the
    value: the number of a new group, or the penalties. ``value`` is the field's value after a step that is done, or
    the latest value seen for an open step. ``reason`` explains the state, ``refusal`` names a missing permission.
    ``sending`` is the step's latest request, None if none was sent or none is known.
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
    """An applied plan, complete or not. ``undoes`` is the id of the entry that the plan undid, if any.

    ``missing_step_count`` is how many of its steps have been deleted since, because their patrons were forgotten.
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

# Must match the condition of the partial index on open steps literally. With a bound parameter, neither SQLite nor
# PostgreSQL would use the index, and each run would scan the whole journal.
_IS_OPEN = steps.c.state == literal_column("'sending'")
_mine, _earlier = steps.alias("mine"), steps.alias("earlier")
_STEP_KEY = ("gateway", "patron", "field")

_undone = changes.alias("undone")
_undone_suffix = _undone.c.suffix.label("undone_suffix")

ENTRIES = select(changes, _undone_suffix).outerjoin(_undone, changes.c.undoes == _undone.c.id)
NEW_ENTRY = insert(changes).returning(changes.c.id)
NEW_STEPS = insert(steps).returning(steps.c.id, sort_by_parameter_order=True)
ENTRY = ENTRIES.where(changes.c.id == bindparam("entry"), changes.c.suffix == bindparam("with_suffix"))
STEPS_OF_ENTRY = select(steps).where(steps.c.change == bindparam("entry")).order_by(steps.c.id)
OPEN_STEPS = select(steps).where(_IS_OPEN, steps.c.gateway == bindparam("of_gateway")).order_by(steps.c.id)
UPDATE_STEP = update(steps).where(steps.c.id == bindparam("step"))
SAME_OPEN_STEP = select(
    _earlier.c.id,
    *(_earlier.c[name] for name in ("patron", "field", "before", "after", "last_xact_id")),
    _mine.c.before.label("my_before"),
    _mine.c.after.label("my_after"),
).where(
    _mine.c.id == bindparam("step"),
    _earlier.c.id != bindparam("step"),
    literal_column("earlier.state") == literal_column("'sending'"),
    *(_earlier.c[name] == _mine.c[name] for name in _STEP_KEY),
)


@dataclass(frozen=True, slots=True)
class TerminalUser:
    """A person at a command line. ``user`` is the account the program runs as, ``host`` the machine's name.

    ``login_user`` is the user who logged in, if different (``sudo`` keeps it). ``terminal`` is the terminal's name,
    for example ``pts/3``. Both are None if unknown (a program started by a timer).
    """

    user: str
    host: str
    login_user: str | None = None
    terminal: str | None = None


def current_terminal_user() -> TerminalUser:
    """Identify the user and the terminal that started this program."""
    user, login_user = _user_name(), None
    with suppress(OSError):  # no login session, for example under systemd
        login_user = os.getlogin()
    return TerminalUser(user, socket.gethostname(), login_user if login_user != user else None, _terminal())


def terminal_user_columns(terminal_user: TerminalUser | None) -> dict[str, str | None]:
    """Return the journal's column values for a terminal user; empty for None."""
    if terminal_user is None:
        return {}
    return {
        "os_user": terminal_user.user,
        "login_user": terminal_user.login_user,
        "host": terminal_user.host,
        "terminal": terminal_user.terminal,
    }


def read_terminal_user(row: Row[Any]) -> TerminalUser | None:
    """Read the terminal user from a row of the journal."""
    return None if row.os_user is None else TerminalUser(row.os_user, row.host, row.login_user, row.terminal)


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a user id without a name, as in a container
        return f"uid {os.geteuid()}"


def _terminal() -> str | None:
    for stream in (sys.stdin, sys.stderr, sys.stdout):
        # The stream may be closed, or replaced by an object without a file descriptor.
        with suppress(OSError, ValueError, AttributeError):
            if os.isatty(stream.fileno()):
                return os.ttyname(stream.fileno()).removeprefix("/dev/")
    return None


_TEXTS = "texts"


class Journal:
    """The journal in a database.

    The lease of :meth:`State.change_lease` ensures that only one run at a time writes a patron's steps.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def now(self) -> datetime:
        """Return the current time by the database's clock. See :meth:`Transactions.now`."""
        return self._transactions.now()

    def begin(
        self,
        gateway: str,
        operator: Operator,
        action: str,
        planned: Sequence[FieldChange],
        undoes: str | None = None,
        in_transaction: Callable[[Connection, str], None] | None = None,
    ) -> list[int]:
        """Record a plan before any of it is sent, and return the ids of its steps in order.

        ``in_transaction`` adds writes to the same transaction. Its arguments are the connection and the new entry's id.
        """
        now = self.now()
        shared = {"gateway": gateway, "state": StepState.PLANNED.value, "touched_at": now}
        # One transaction for the whole plan: from half a plan, nothing could reconstruct the other steps.
        with self._transactions.writing() as connection:
            entry = {
                "suffix": "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(6)),
                "gateway": gateway,
                "account": operator.account,
                "staff": operator.staff,
                "workstation": operator.workstation,
                "approved_by": operator.approved_by,
                **terminal_user_columns(operator.terminal_user),
                "at": now,
                "action": action,
                "undoes": undoes and change_number(undoes),
                "step_count": len(planned),
            }
            change: int = connection.execute(NEW_ENTRY, entry).scalar_one()
            if in_transaction is not None:
                in_transaction(connection, f"{change}-{entry['suffix']}")
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
        """Record that a step's request is about to go out. Durable once this returns.

        If an earlier run left a step open for the same change, close that step. This step now records the outcome of
        both requests.

        Raises:
            StateError: a different change of the same field is open for this patron, so this one must not be sent.
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
        """Record the outcome of a step. Durable once this returns."""
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
        """Return all entries, or those of one gateway, latest first."""
        return self._found(changes.c.gateway == gateway if gateway else true())

    def entries_of(self, gateway: str, staff: int, since: datetime) -> list[JournalEntry]:
        """Return the changes that a staff user (``au.id``) has made since a time, latest first."""
        mine = (changes.c.gateway == gateway, changes.c.staff == staff, changes.c.at >= since)
        return self._found(and_(*mine))

    def entries_about(self, gateway: str, group: int, most: int) -> list[JournalEntry]:
        """Return the latest ``most`` changes in which a patron joined or left a group, latest first."""
        moved = [
            select(steps.c.change).where(steps.c.gateway == gateway, steps.c.field == "usrgroup", number == group)
            for number in (steps.c.before, steps.c.value)
        ]
        found = union(*moved).subquery()
        latest = select(changes.c.id).where(changes.c.id.in_(select(found.c.change)))
        return self._found(changes.c.id.in_(latest.order_by(changes.c.id.desc()).limit(most)))

    def _found(self, condition: ColumnElement[bool]) -> list[JournalEntry]:
        """Return the entries that meet a condition, with their steps, latest first."""
        entries = ENTRIES.where(condition).order_by(changes.c.id.desc())
        their_steps = select(steps).join(changes, steps.c.change == changes.c.id).where(condition).order_by(steps.c.id)
        by_entry: defaultdict[int, list[JournalStep]] = defaultdict(list)
        with self._transactions.reading() as connection:
            for row in connection.execute(their_steps):
                by_entry[row.change].append(_step(row))
            return [_entry(row, by_entry[row.id]) for row in connection.execute(entries)]

    def entry(self, id: str) -> JournalEntry:
        """Return one entry with its steps in their current state.

        Raises:
            NotFoundError: the id is unknown.
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
        """Return the ids of the entry's patrons whom later entries have moved, or may have moved."""
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
        """Return the steps that were sent and have no known outcome, with their latest requests.

        Covers the given patrons (ids), or all patrons.
        """
        with self._transactions.reading() as connection:
            open_ones = [_step(row) for row in connection.execute(OPEN_STEPS, {"of_gateway": gateway})]
        # Filter here instead of in the query: few steps are ever open, and a long list of ids can exceed the limit on
        # bound parameters.
        return [step for step in open_ones if patrons is None or step.patron in patrons]

    def last_touched(self, step: int) -> datetime:
        """Return the time of the last write to a step."""
        with self._transactions.reading() as connection:
            found: datetime = connection.execute(select(steps.c.touched_at).where(steps.c.id == step)).scalar_one()
            return found


def _take_over(connection: Connection, step: int, at: datetime) -> None:
    """Close another open step for the same patron and field if it requests the same change."""
    found = connection.execute(SAME_OPEN_STEP, {"step": step}).one_or_none()
    if found is None:
        return
    # A repeat is safe if Evergreen accepts only one of the two requests, or if a second one has no further effect.
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
    """Return the column values that store a reason."""
    values = dict(reason.values)
    if reason.texts not in ((), (str(reason),)):
        values[_TEXTS] = reason.texts  # the separate messages, for translation
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
        Operator(
            row.account, _number(row.staff), _number(row.workstation), _number(row.approved_by), read_terminal_user(row)
        ),
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
