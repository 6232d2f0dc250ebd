"""Whether a change that was sent has come in, told by the patron's record alone.

A request whose answer was lost isn't lost itself. It may wait in Apache, which gives a slow one 300 seconds, in a proxy
before it, or in the bus for a free child of the service; none of them drops it because nobody waits for the answer any
more. So for ``LANDS_WITHIN`` and the gateway's own timeout it counts as on its way.

``patron.update`` is protected meanwhile: the ILS compares ``last_xact_id`` with the record's, so it comes in once or
not at all, and not any more once somebody else has written the record (``xact-collision-003``). ``usergroup.new`` goes
by nothing: it makes a new group whatever has happened since.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from evergreen_groups.changes.journal import Sending, StepState
from evergreen_groups.changes.plans import GROUP
from evergreen_groups.changes.reasons import (
    HIDDEN_OPEN,
    NEVER_CAME_IN,
    NO_REASON,
    NOTHING_CAME,
    REFUSED_FOR_ANOTHER,
    StepReason,
    may_come_in,
    no_clear_answer,
)
from evergreen_groups.errors import (
    DataError,
    EventError,
    LoginRefusedError,
    RequestTooLargeError,
    ServiceNotFoundError,
    TransportError,
)
from evergreen_groups.gateway import TOKEN, holds, rows_beyond, whole_number
from evergreen_groups.groups import inconsistent_members, read_patron
from evergreen_groups.ils import count_set_by_ils
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.changes.journal import JournalStep
    from evergreen_groups.changes.penalties import PatronPenalties
    from evergreen_groups.errors import GatewayError
    from evergreen_groups.gateway import Gateway, Record

# The database writes the first three itself. The search words it makes of the names each time, by its release's rule:
# those of a patron who wasn't written since an upgrade change with any move (3.16/move-fleshed-004).
_ALWAYS_CHANGE = {"last_xact_id", "last_update_time", "name_kw_tsvector", "passwd"}


def is_older(record: Record, other: Record) -> bool:
    """Whether a state of a record is from before another one, as far as the time of its writing tells (in seconds)."""
    written, later = record.last_update_time, other.last_update_time
    differs = record.last_xact_id != other.last_xact_id
    return differs and written is not None and later is not None and bool(written < later)


def value_of(record: Record | None, field_name: str) -> int | None:
    """The number in a field that a step changes, None for a patron whom the account can't see."""
    if record is None:
        return None
    value = record[field_name]
    return None if value is None else int(value)


def fields_but(record: Record, changed: str) -> Iterator[tuple[str, object, object]]:
    """Yield each field that a change of ``changed`` must not touch: its name, its value as sent, and its value decoded.

    Only decoded values can be compared: two gateways behind one address may send a number as text or as a number.
    """
    names = list(record._class.positions)
    for position, value in enumerate(record.to_wire()["__p"]):
        name = names[position] if position < len(names) else f"field {position}"
        if name != changed and name not in _ALWAYS_CHANGE and value is not None:
            yield name, value, _decoded(record, name, value)


def _decoded(record: Record, name: str, value: object) -> object:
    try:
        return record[name]
    except (KeyError, DataError):  # a field the IDL doesn't know, or a value its datatype doesn't allow
        return str(value)


def digest_but(record: Record, changed: str) -> str:
    """Return a digest of these fields: equal for two states that differ in nothing else, and revealing nothing."""
    text = json.dumps(sorted((name, str(value)) for name, _sent, value in fields_but(record, changed)))
    return sha256(text.encode()).hexdigest()


LANDS_WITHIN = timedelta(minutes=15)
"""How long after the gateway's timeout a request may still come in: three of Apache's 300 seconds."""

CLOCKS_DIFFER_BY = timedelta(minutes=2)
"""How far this machine's clock and the ILS's may be apart."""

_MOST_SUSPECTS = 20

_MEMBERS = "open-ils.actor.usergroup.members.retrieve.authoritative"


@dataclass(frozen=True, slots=True)
class SentChange:
    """A change of one field of one patron that went out: see :class:`JournalStep`.

    ``seen`` is the group in which the patron was found while it was on its way, where that wasn't ``before``.
    """

    patron: int
    field: str
    before: int
    after: int | None
    sending: Sending
    seen: int | None = None

    @property
    def protected(self) -> bool:
        """Whether the ILS takes it only for the record that it was made from."""
        return self.after is not None and bool(self.sending.last_xact_id)

    def means(self, field: str, before: int, after: int | None) -> bool:
        """Whether another request may be sent for the same: the ILS takes the two of them once at most."""
        return self.protected and (self.field, self.before, self.after) == (field, before, after)

    def may_land(self, now: datetime) -> bool:
        """Whether the request may still come in.

        A clock that was set back puts it into the future. Nobody knows then when it was sent, so it stays open.
        Recovery restarts this time if the clock was wrong by more than a day.
        """
        return now < self.sending.until


@dataclass(frozen=True, slots=True)
class Landing:
    """What is known of a sent change: ``SENDING`` as long as it may come in, otherwise how it ended.

    ``value`` is what the field has now where it was done, or where somebody else has changed it meanwhile.
    """

    state: StepState
    value: int | None = None
    reason: StepReason = NO_REASON


def new_sending(
    gateway: Gateway, now: datetime, *, last_xact_id: str | None = None, other_fields: str | None = None
) -> Sending:
    """A request that goes out now."""
    until = now + timedelta(seconds=gateway.timeout) + LANDS_WITHIN
    return Sending(now, until, last_xact_id or None, other_fields)


def sending_of(record: Record, field: str, gateway: Gateway, now: datetime) -> Sending:
    """A request that goes out now and is made from a record."""
    return new_sending(gateway, now, last_xact_id=record.last_xact_id, other_fields=digest_but(record, field))


def judge(gateway: Gateway, change: SentChange, record: Record | None, at: datetime) -> Landing:
    """Tell what became of a change by the record as it is now (``at``).

    Raises:
        GatewayError: who else is in the patron's group can't be read.
        DataError: what came isn't the members of a group.
    """
    now = value_of(record, change.field)
    if record is None or now is None:
        return Landing(StepState.SENDING, reason=HIDDEN_OPEN)
    if now == change.before:
        return _unchanged(change, record, at)
    if now == change.after:
        return _as_meant(change, record, now, at)
    if change.after is None and _is_alone(gateway, change.patron, now):
        return _alone(change, record, now, at)
    return _elsewhere(change, now, at)


def _unchanged(change: SentChange, record: Record, at: datetime) -> Landing:
    if change.protected and record.last_xact_id != change.sending.last_xact_id:
        return Landing(StepState.NOT_DONE, reason=REFUSED_FOR_ANOTHER)
    if change.may_land(at):
        return Landing(StepState.SENDING, reason=no_clear_answer(change.sending.until))
    return Landing(StepState.NOT_DONE, reason=NEVER_CAME_IN)


def _as_meant(change: SentChange, record: Record, now: int, at: datetime) -> Landing:
    if _by_somebody_else(change, record, at):
        return Landing(StepState.FAILED, reason=_uncertain(change, now))
    return Landing(StepState.DONE, now)


def _alone(change: SentChange, record: Record, now: int, at: datetime) -> Landing:
    """A patron who was to get a group of their own is alone in another group than before."""
    if _by_somebody_else(change, record, at):
        return Landing(StepState.FAILED, reason=_uncertain(change, now))
    if change.seen is not None:
        late = Message("it came in late, after somebody else had moved the patron to group {group}")
        return Landing(StepState.DONE, now, StepReason(late, "came-in-late", group=change.seen))
    return Landing(StepState.DONE, now)


def _elsewhere(change: SentChange, now: int, at: datetime) -> Landing:
    moved = StepReason(Message("somebody else changed it"), "lead-changed-meanwhile")
    if change.field == GROUP:
        moved = StepReason(Message("somebody else moved the patron to group {group}"), "moved-meanwhile", group=now)
    if not change.protected and change.may_land(at):
        return Landing(
            StepState.SENDING, now, may_come_in(change.sending.until).preceded_by(*moved.texts, **moved.values)
        )
    return Landing(StepState.FAILED, reason=moved)


def _by_somebody_else(change: SentChange, record: Record, at: datetime) -> bool:
    """Whether the record was written again by somebody else: later than the change can have come in, or otherwise.

    What somebody else writes within that time and with nothing else changed looks like ours in every field.
    """
    sending, written = change.sending, record.last_update_time
    # The ILS's clock may be far ahead of ours, but nothing is written later than now.
    if written is not None and min(written, at) > sending.until + CLOCKS_DIFFER_BY:
        return True
    return sending.other_fields is not None and digest_but(record, change.field) != sending.other_fields


def _uncertain(change: SentChange, now: int) -> StepReason:
    text = (
        Message("in group {value} now, but somebody else has written the record since, perhaps this very change")
        if change.field == GROUP
        else Message(
            "changed as it was meant, but somebody else has written the record since, perhaps this very change"
        )
    )
    return StepReason(text, "so-by-somebody", value=now)


def has_come_twice(gateway: Gateway, step: JournalStep, record: Record, at: datetime) -> bool:
    """Return whether a late copy of a request for a new group has moved the patron on, to yet another new group.

    Nothing protects ``usergroup.new`` from a network that sends it twice. The patron is alone in the second group, and
    nobody else has written the record.
    """
    if step.sending is None:
        return False
    change = SentChange(step.patron, step.field, step.before, step.after, step.sending)
    return not _by_somebody_else(change, record, at) and _is_alone(gateway, step.patron, int(record.usrgroup))


def _is_alone(gateway: Gateway, patron: int, group: int) -> bool:
    """Whether a patron is the only member of a group, deleted ones aside, hidden ones counted."""
    members = gateway.call("open-ils.actor", _MEMBERS, TOKEN, group).value
    ids = set(map(whole_number, members)) if isinstance(members, list) else {None}
    others = {id for id in ids if id is not None} - {patron}
    if None in ids:
        raise DataError("the ILS gave no list of a group's members", code="members-not-a-list")
    # Another group's members would make somebody else's move ours, or ours somebody else's; a query sees them as well.
    if bool(others) is not holds(gateway, {"-exists": rows_beyond(0, "au", _others_in(group, patron), "id")}):
        _refuse_unless_behind(gateway, patron, group, others)
    return not others


def _refuse_unless_behind(gateway: Gateway, patron: int, group: int, others: Set[int]) -> None:
    """Refuse a list of the ``others`` (ids) in a patron's group that a query contradicts, unless a copy of the database
    is behind: then each record says where its patron is.

    Raises:
        DataError: it isn't, or not everybody can be seen whom it is about.
    """
    suspects = others
    if gateway.reads_replicas and not others:
        where = _others_in(group, patron)
        suspects = frozenset(gateway.pcrud.id_list("au", where, limit=_MOST_SUSPECTS))
        if holds(gateway, {"-exists": rows_beyond(len(suspects), "au", where, "id")}):  # somebody else, who is hidden
            raise inconsistent_members()
    records = [read_patron(gateway, id) for id in sorted(suspects)[:_MOST_SUSPECTS] if gateway.reads_replicas]
    here = [value_of(record, GROUP) == group and not record.deleted for record in records if record is not None]
    if not here or (not any(here) if others else any(here) or len(here) < len(suspects)):
        raise inconsistent_members()


def _others_in(group: int, patron: int) -> dict[str, Any]:
    return {"usrgroup": group, "deleted": "f", "id": {"<>": patron}}


def judge_penalties(change: SentChange, penalties: PatronPenalties, at: datetime) -> Landing:
    """The same for a recalculation: whether other penalties are in force than when it was sent.

    Who changed them can't be told, and there is nothing to take back.
    """
    now = count_set_by_ils(penalties.in_force)
    former = change.sending.other_fields
    if now != change.before if former is None else penalties.digest != former:
        return Landing(StepState.DONE, now)
    if change.may_land(at):
        return Landing(StepState.SENDING, reason=may_come_in(change.sending.until))
    return Landing(StepState.NOT_DONE, reason=NOTHING_CAME)


_NOES = frozenset({"NO_SESSION", "PERM_FAILURE", "XACT_COLLISION", "DATABASE_UPDATE_FAILED"})


class UnclearAnswer(Exception):  # noqa: N818 - nobody is told of it: the record is read back instead
    """A write was answered with neither yes nor no."""


@dataclass(frozen=True, slots=True)
class Written:
    """What an update's answer says of the record as it was written: the mark of this very write, and the value."""

    last_xact_id: str
    value: int


def is_no(error: GatewayError) -> bool:
    """Whether an error says that nothing was written.

    Of events that's a closed list: those that ``OpenILS/Application/Actor.pm`` (``update_patron``,
    ``update_penalties``) and ``Actor/UserGroups.pm`` (``reset_group``) give before they commit. Any other may come
    after: ``update_patron`` reads the patron again when it has committed, and gives the event of that, such as
    ``DATABASE_QUERY_FAILED`` or ``ACTOR_USER_NOT_FOUND``.

    A login that is refused is one that was to renew the session, which had ended before anything was done.
    """
    if isinstance(error, LoginRefusedError | RequestTooLargeError):
        return True
    return isinstance(error, EventError) and error.textcode in _NOES


def never_left(error: GatewayError) -> bool:
    """Whether the request hasn't left this machine.

    What the gateway says of a missing service it may also say of one that is stopped in the middle of its work.
    """
    return isinstance(error, TransportError) and not (error.sent or isinstance(error, ServiceNotFoundError))


def group_number(answer: Any) -> int:
    """The number of a new group, which comes as a text (``usergroup-new-001``).

    Raises:
        UnclearAnswer: it's something else.
    """
    number = whole_number(answer)
    if number is None or number < 0:
        raise UnclearAnswer
    return number


def written(answer: Any, record: Record, field: str) -> Written:
    """What the patron that an update gives back says of the write (``xact-collision-002``).

    Raises:
        UnclearAnswer: it's something else, or the record as it was before.
    """
    positions = record._class.positions
    try:
        values = answer["__p"]
        mark, value = values[positions["last_xact_id"]], values[positions[field]]
        is_theirs = answer["__c"] == record.class_id and str(values[positions["id"]]) == str(record.id)
        if is_theirs and isinstance(mark, str) and mark not in ("", record.last_xact_id):
            return Written(mark, _number(value))
    except (TypeError, KeyError, IndexError, ValueError):
        pass
    raise UnclearAnswer


def _number(value: Any) -> int:
    """The number of a group, or 1 and 0 for yes and no."""
    return int({"t": 1, "f": 0}.get(value, value) if isinstance(value, str) else value)
