"""The journal of changes to membership and penalties, written before each request and after each outcome.

The plan, each request and each outcome are separate commits. A step's row holds its current state and latest request,
so the next run can detect and recover what a crash left open.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, insert, literal_column, select, true, union, update

from evergreen_groups import arguments, errors, threads
from evergreen_groups.changes.reasons import NO_REASON, TAKEN_OVER, StepReason
from evergreen_groups.state import record_ids, schema

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.engine import Connection

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State, Transactions

GROUP = "usrgroup"
LEAD = "master_account"
PENALTIES = "penalties"
"""The field name of a step that recalculates a patron's penalties."""


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


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One planned change of one field of one patron, by ids.

    A step marked ``last`` waits until every other step that makes the same move is done, so that the same command still
    finds the rest of the group after an interruption.
    """

    patron_id: int
    field: str  # GROUP, LEAD, or PENALTIES for a recalculation
    before: int  # the field's value when the plan was made; 0 for a recalculation
    after: int | None  # a group (None: a new one), a flag (0 or 1), or None for a recalculation: up to Evergreen
    last: bool = False
    lead: bool = False  # whether the patron was a group lead then
    due: bool = False  # for a recalculation: whether the rule has the patron over the limit

    @property
    def stored(self) -> StoredStep:
        """The step by ids alone."""
        return StoredStep(self.patron_id, self.field, self.before, self.after, self.last, self.lead, self.due)


@dataclass(frozen=True, slots=True)
class TerminalUser:
    """A person at a command line. ``user`` is the account the program runs as, ``host`` the machine's name."""

    user: str
    host: str
    login_user: str | None = None  # the user who logged in, if different and known
    terminal: str | None = None  # such as "pts/3"

    @classmethod
    def current(cls) -> TerminalUser:
        """Identify the user and the terminal that started this program."""
        import pwd

        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a user id without a name, as in a container
            user = f"uid {os.geteuid()}"
        login_user = terminal = None
        with suppress(OSError):  # no login session, for example under systemd
            login_user = os.getlogin()
        for stream in (sys.stdin, sys.stderr, sys.stdout):
            # The stream may be closed, or replaced by an object without a file descriptor.
            with suppress(OSError, ValueError, AttributeError):
                terminal = os.ttyname(stream.fileno()).removeprefix("/dev/")
                break
        return cls(user, socket.gethostname(), login_user if login_user != user else None, terminal)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who is responsible for a change."""

    account: str  # the account name to record in the journal
    staff: int | None = None  # at a desk, the id of the logged-in account (``au.id``)
    workstation: int | None = None  # and of its workstation (``aws.id``)
    approved_by: int | None = None  # the id of the supervisor who approved this change with their own login
    terminal_user: TerminalUser | None = None  # the person at the command line


@dataclass(frozen=True, slots=True)
class Sending:
    """One request of a step, recorded before sending, with the facts that its outcome can be inferred from."""

    at: datetime
    until: datetime  # when the request can no longer reach Evergreen
    last_xact_id: str | None = None  # of the record that the request was made from; None if Evergreen can't check it
    other_fields: str | None = None  # a digest of the fields that must stay, or of the penalties before a recalculation


@dataclass(frozen=True, slots=True)
class JournalStep:
    """One change of one field of one patron.

    For a recalculation, the values are the number of penalties in force that Evergreen set itself.
    """

    __repr__ = arguments.brief

    id: int
    patron: int
    field: str
    before: int
    after: int | None  # None where Evergreen picks the value: the number of a new group, or the penalties
    state: StepState
    value: int | None = None  # after a step that is done, or the latest seen for an open step
    reason: StepReason = NO_REASON
    sending: Sending | None = None  # the latest request, if known
    permission: str | None = None  # one that the account lacked, at ``org_unit`` (id) if known
    org_unit: int | None = None

    @property
    def request(self) -> Sending:
        """The latest request of a step that was sent."""
        if self.sending is None:
            raise ValueError(f"step {self.id} was never sent")
        return self.sending

    @property
    def protected(self) -> bool:
        """Whether Evergreen rejects the request if the record has been written since the request was made."""
        return self.after is not None and bool(self.request.last_xact_id)

    def is_safe_repeat(self, step: StoredStep) -> bool:
        """Return whether ``step`` repeats this open step's change, and Evergreen accepts only one of the two."""
        change = (step.patron_id, step.field, step.before, step.after)
        return self.protected and change == (self.patron, self.field, self.before, self.after)

    def may_still_arrive(self, now: datetime) -> bool:
        """Return whether the request may still reach Evergreen."""
        return now < self.request.until


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An applied plan, complete or not. ``undoes`` is the id of the entry that the plan undid, if any."""

    __repr__ = arguments.brief

    id: str
    gateway: str
    operator: Operator
    at: datetime
    action: str
    undoes: str | None
    steps: tuple[JournalStep, ...]
    missing_step_count: int = 0  # deleted since, because their patrons were forgotten

    @property
    def undecided(self) -> set[int]:
        """The patrons (ids) of steps without an outcome."""
        return {step.patron for step in self.steps if step.state in (StepState.PLANNED, StepState.SENDING)}


changes, steps = schema.changes, schema.steps

# Must match the condition of the partial index on open steps literally. With a bound parameter, neither SQLite nor
# PostgreSQL would use the index, and each run would scan the whole journal.
_IS_OPEN = steps.c.state == literal_column("'sending'")


@dataclass(frozen=True)
class Journal:
    """The journal in a database. With a lease on its patrons, only one run at a time writes a patron's steps."""

    transactions: Transactions

    def now(self) -> datetime:
        """Return the current time by the database's clock."""
        return self.transactions.now()

    def begin(
        self,
        connection: Connection,
        gateway: str,
        operator: Operator,
        action: str,
        planned: Sequence[StoredStep],
        undoes: str | None = None,
    ) -> JournalEntry:
        """Record a plan before any of it is sent, and return its entry.

        All of it is in one transaction: from half a plan, nothing could reconstruct the other steps.
        """
        now = self.now()
        columns = asdict(operator)
        person = columns.pop("terminal_user") or {}
        columns |= {"os_user": person.pop("user", None), **person, "gateway": gateway, "at": now, "action": action}
        columns |= {"undoes": undoes and record_ids.number_of(undoes), "step_count": len(planned)}
        new_entry = insert(changes).returning(changes.c.id, changes.c.suffix)
        change, suffix = connection.execute(new_entry, columns).one()
        common = {"change": change, "gateway": gateway, "state": StepState.PLANNED.value, "touched_at": now}
        rows = [
            {"patron": step.patron_id, "field": step.field, "before": step.before, "after": step.after, **common}
            for step in planned
        ]
        new_steps = insert(steps).returning(*steps.c, sort_by_parameter_order=True)
        journaled = tuple(map(_step, connection.execute(new_steps, rows))) if rows else ()
        return JournalEntry(record_ids.of(change, suffix), gateway, operator, now, action, undoes, journaled)

    def record_sending(self, step: int, sending: Sending) -> None:
        """Record that a step's request is about to go out. Durable once this returns.

        If an earlier run left a step open for the same change, close that step. This step now records the outcome of
        both requests. Raises StateUnavailableError if a different change of the same field is open for this patron:
        this one must not be sent.
        """
        known = {"last_xact_id": sending.last_xact_id, "other_fields": sending.other_fields, **_reason(NO_REASON)}
        with self.transactions.writing() as connection:
            _take_over(connection, step, sending.at)
            _update(connection, step, state=StepState.SENDING.value, value=None, **_times(sending), **known)

    def restart(self, step: int, sending: Sending) -> None:
        """Replace the times of an open step's request. Durable once this returns."""
        with self.transactions.writing() as connection:
            _update(connection, step, **_times(sending))

    def record(
        self,
        step: int,
        state: StepState,
        *,
        value: int | None = None,
        reason: StepReason = NO_REASON,
        error: errors.EvergreenGroupsError | None = None,
    ) -> None:
        """Record the outcome of a step, with the missing permission that ``error`` names. Durable once this returns."""
        outcome = {"state": state.value, "value": value, "permission": None, "org_unit": None, **_reason(reason)}
        if isinstance(error, errors.PermissionDeniedError) and error.permission:
            outcome |= {"permission": error.permission, "org_unit": error.org_unit}
        with self.transactions.writing() as connection:
            _update(connection, step, touched_at=self.now(), **outcome)

    def entries(
        self, gateway: str | None = None, *, since: datetime | None = None, most: int | None = None
    ) -> list[JournalEntry]:
        """Return all entries, or those of one gateway, ``since`` a time, or the latest ``most``; latest first."""
        wanted = [changes.c.gateway == gateway] if gateway else []
        wanted += [changes.c.at >= since] if since else []
        condition = and_(true(), *wanted)
        if most is None:
            return self._found(condition)
        latest = select(changes.c.id).where(condition).order_by(changes.c.id.desc()).limit(most)
        return self._found(changes.c.id.in_(latest))

    def entries_of(self, gateway: str, staff: int, since: datetime) -> list[JournalEntry]:
        """Return the changes that a staff user (``au.id``) has made since a time, latest first."""
        return self._found(and_(changes.c.gateway == gateway, changes.c.staff == staff, changes.c.at >= since))

    def entries_about(self, gateway: str, group: int, members: Collection[int], most: int) -> list[JournalEntry]:
        """Return the latest ``most`` changes to a group, latest first.

        These are the changes in which a patron joined or left the group, and the other changes of its current
        ``members`` (ids) since they were last moved.
        """
        here, later = select(steps.c.change).where(steps.c.gateway == gateway), steps.alias()
        moved = [here.where(steps.c.field == GROUP, number == group) for number in (steps.c.before, steps.c.value)]
        moved_since = select(later.c.id).where(
            later.c.gateway == gateway,
            later.c.patron == steps.c.patron,
            later.c.field == GROUP,
            later.c.state == StepState.DONE.value,
            later.c.id > steps.c.id,
        )
        others = here.where(steps.c.patron.in_(members), steps.c.field != GROUP, ~moved_since.exists())
        found = union(*moved, others).subquery()
        latest = select(changes.c.id).where(changes.c.id.in_(select(found.c.change)))
        return self._found(changes.c.id.in_(latest.order_by(changes.c.id.desc()).limit(most)))

    def entry(self, id: str) -> JournalEntry:
        """Return one entry with its steps in their current state."""
        if record_ids.is_record_id(id):
            number, suffix = record_ids.number_of(id), id.partition("-")[2]
            for entry in self._found(and_(changes.c.id == number, changes.c.suffix == suffix)):
                return entry
        raise errors.NotFoundError(
            "there is no change {entry}", advice="`journal` lists them", code="no-such-entry", values={"entry": id}
        )

    def _found(self, condition: ColumnElement[bool]) -> list[JournalEntry]:
        """Return the entries that meet a condition, with their steps, latest first."""
        undone = changes.alias("undone")
        entries = (
            select(changes, undone.c.suffix.label("undone_suffix"))
            .outerjoin(undone, changes.c.undoes == undone.c.id)
            .where(condition)
            .order_by(changes.c.id.desc())
        )
        their_steps = select(steps).join(changes, steps.c.change == changes.c.id).where(condition).order_by(steps.c.id)
        by_entry: defaultdict[int, list[JournalStep]] = defaultdict(list)
        with self.transactions.reading() as connection:
            for row in connection.execute(their_steps):
                by_entry[row.change].append(_step(row))
            return [_entry(row, by_entry[row.id]) for row in connection.execute(entries)]

    def changed_since(self, entry: JournalEntry) -> frozenset[tuple[int, str]]:
        """Return the entry's patrons (ids) and fields that later entries have changed, or may have changed."""
        its_own = steps.alias("its_own")
        later = select(steps.c.patron, steps.c.field).where(
            steps.c.patron.in_(select(its_own.c.patron).where(its_own.c.change == record_ids.number_of(entry.id))),
            steps.c.gateway == entry.gateway,
            steps.c.state.in_((StepState.DONE.value, StepState.SENDING.value)),
            steps.c.id > max((step.id for step in entry.steps), default=0),
        )
        with self.transactions.reading() as connection:
            return frozenset((row.patron, row.field) for row in connection.execute(later))

    def open_steps(self, gateway: str, patrons: Collection[int] | None = None) -> list[JournalStep]:
        """Return the steps of these patrons (ids), or of all, that were sent and have no known outcome."""
        query = select(steps).where(_IS_OPEN, steps.c.gateway == gateway).order_by(steps.c.id)
        with self.transactions.reading() as connection:
            found = map(_step, connection.execute(query).all())
        # Filter here instead of in the query: few steps are ever open, and a long list of ids can exceed the limit on
        # bound parameters.
        return [step for step in found if patrons is None or step.patron in patrons]


def _take_over(connection: Connection, step: int, at: datetime) -> None:
    """Close another open step for the same patron and field if it requests the same change."""
    mine = steps.alias("mine")
    same_field = [mine.c[name] == steps.c[name] for name in ("gateway", "patron", "field")]
    query = select(steps, mine.c.before.label("my_before"), mine.c.after.label("my_after"))
    row = connection.execute(query.where(_IS_OPEN, mine.c.id == step, steps.c.id != step, *same_field)).one_or_none()
    if row is None:
        return
    earlier = _step(row)
    # A repeat is safe if Evergreen accepts only one of the two requests, or if a second one has no further effect.
    is_same = (earlier.before, earlier.after) == (row.my_before, row.my_after)
    if earlier.field != PENALTIES and not (earlier.protected and is_same):
        raise errors.StateUnavailableError(
            "patron {patron}: an earlier change isn't confirmed yet",
            advice="try again later",
            code="step-still-open",
            values={"patron": earlier.patron},
        )
    _update(connection, earlier.id, state=StepState.NOT_DONE.value, **_reason(TAKEN_OVER), touched_at=at)


def _update(connection: Connection, step: int, **values: Any) -> None:
    if connection.execute(update(steps).where(steps.c.id == step).values(values)).rowcount != 1:
        raise errors.StateError("step {step} is no longer in the journal", code="step-gone", values={"step": step})


def _reason(reason: StepReason) -> dict[str, Any]:
    # Texts are the separate messages, for translation.
    values = json.dumps({**reason.values, "texts": reason.texts}) if reason else None
    return {"reason": str(reason), "reason_code": reason.code or None, "reason_values": values}


def _times(sending: Sending) -> dict[str, Any]:
    return {"touched_at": sending.at, "sent_at": sending.at, "sent_until": sending.until}


def _entry(row: Row[Any], its_steps: Sequence[JournalStep]) -> JournalEntry:
    person = None if row.os_user is None else TerminalUser(row.os_user, row.host, row.login_user, row.terminal)
    operator = Operator(row.account, row.staff, row.workstation, row.approved_by, person)
    undoes = None if row.undoes is None else record_ids.of(row.undoes, row.undone_suffix)
    id, missing = record_ids.of(row.id, row.suffix), row.step_count - len(its_steps)
    return JournalEntry(id, row.gateway, operator, row.at, row.action, undoes, tuple(its_steps), missing)


def _step(row: Row[Any]) -> JournalStep:
    values = json.loads(row.reason_values or "{}")
    texts = values.pop("texts", row.reason)
    reason = StepReason(texts, row.reason_code or "", **values)
    sending = Sending(row.sent_at, row.sent_until, row.last_xact_id, row.other_fields) if row.sent_at else None
    patron = int(row.patron)  # SQLite keeps a text in a column of integers
    change = (row.id, patron, row.field, row.before, row.after)
    return JournalStep(*change, StepState(row.state), row.value, reason, sending, row.permission, row.org_unit)


MAX_REPLICA_LAG = timedelta(minutes=15)
"""The largest replica lag to allow for. A replica further behind has stopped, and its site has bigger problems."""
_TIMEOUT = 0.5  # seconds; a query normally takes a millisecond or two


@dataclass(frozen=True, slots=True)
class RecentlyChanged:
    """Patrons (ids) with recent changes, and those with changed penalties. None is unknown: it may be any patron."""

    patrons: frozenset[int] | None = frozenset()
    recalculated: frozenset[int] | None = frozenset()


def recently_changed(gateway: Gateway, state: State) -> RecentlyChanged:
    """Return the patrons with recent changes in the journal; none if plain reads never come from a replica."""
    if not gateway.reads_replicas or not state.database.is_there:
        return RecentlyChanged()
    since = state.database.now() - MAX_REPLICA_LAG
    query = select(steps.c.patron, steps.c.field).where(steps.c.gateway == gateway.url, steps.c.touched_at >= since)
    with state.database.reading() as connection:
        found = connection.execute(query).all()
    recalculated = frozenset(row.patron for row in found if row.field == PENALTIES)
    return RecentlyChanged(frozenset(row.patron for row in found), recalculated)


def recently_changed_or_unknown(gateway: Gateway, state: State) -> RecentlyChanged:
    """Return the patrons with recent changes, or any patron if the journal doesn't answer at once.

    A database server that hangs must not hold up the reader.
    """
    if not gateway.reads_replicas:
        return RecentlyChanged()
    try:
        return threads.begin(partial(recently_changed, gateway, state)).result(_TIMEOUT)
    except (errors.EvergreenGroupsError, TimeoutError):
        return RecentlyChanged(None, None)
