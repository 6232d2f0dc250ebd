"""Infer from a patron's record whether a change that was sent has taken effect.

A lost answer doesn't mean a lost request. The request may wait in Apache (which gives a slow one 300 seconds), in a
proxy, or on the bus until a service process is free, and none of these drops it when the client gives up. So a request
counts as open for the gateway's timeout plus ``ARRIVES_WITHIN``.

``patron.update`` is protected during that time: Evergreen compares the request's ``last_xact_id`` with the record's. So
the request takes effect at most once, and never after another write to the record (``xact-collision-003``).
``usergroup.new`` checks nothing and always makes a new group.
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
    HIDDEN_WHILE_OPEN,
    NEVER_ARRIVED,
    NO_EFFECT,
    NO_REASON,
    OVERTAKEN,
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

# The database sets the first three on each write. It also rebuilds the search words of names by its current version's
# rules, so the first write after an upgrade may change them (3.16/move-fleshed-004).
_ALWAYS_CHANGE = {"last_xact_id", "last_update_time", "name_kw_tsvector", "passwd"}


def is_older(record: Record, other: Record) -> bool:
    """Return whether ``record`` was written before ``other``, as far as ``last_update_time`` (in seconds) can tell."""
    written, later = record.last_update_time, other.last_update_time
    differs = record.last_xact_id != other.last_xact_id
    return differs and written is not None and later is not None and bool(written < later)


def value_of(record: Record | None, field_name: str) -> int | None:
    """Return the number in a field that a step changes, or None for a hidden patron."""
    if record is None:
        return None
    value = record[field_name]
    return None if value is None else int(value)


def untouched_fields(record: Record, changed: str) -> Iterator[tuple[str, object, object]]:
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


def digest_of_untouched(record: Record, changed: str) -> str:
    """Return a digest of the fields that a change of ``changed`` must not touch. It reveals no patron data."""
    text = json.dumps(sorted((name, str(value)) for name, _sent, value in untouched_fields(record, changed)))
    return sha256(text.encode()).hexdigest()


ARRIVES_WITHIN = timedelta(minutes=15)
"""How long after the gateway's timeout a request may still arrive: three times Apache's 300 seconds."""

MAX_CLOCK_SKEW = timedelta(minutes=2)
"""The largest accepted difference between this machine's clock and Evergreen's."""

_MOST_SUSPECTS = 20

_MEMBERS = "open-ils.actor.usergroup.members.retrieve.authoritative"


@dataclass(frozen=True, slots=True)
class SentChange:
    """A change of one field of one patron that was sent. See :class:`JournalStep` for the fields.

    ``seen`` is a group other than ``before`` in which the patron was found while the request was open.
    """

    patron: int
    field: str
    before: int
    after: int | None
    sending: Sending
    seen: int | None = None

    @property
    def protected(self) -> bool:
        """Whether Evergreen rejects the request if the record has been written since the request was made."""
        return self.after is not None and bool(self.sending.last_xact_id)

    def means(self, field: str, before: int, after: int | None) -> bool:
        """Return whether a repeat of the request for this change is safe: Evergreen accepts only one of the two."""
        return self.protected and (self.field, self.before, self.after) == (field, before, after)

    def may_still_arrive(self, now: datetime) -> bool:
        """Return whether the request may still reach Evergreen.

        If the clock was set back, the request appears to be from the future, and its age is unknown. The request stays
        open, and recovery restarts the wait if the clock was wrong by more than a day.
        """
        return now < self.sending.until


@dataclass(frozen=True, slots=True)
class ChangeVerdict:
    """The result of checking a sent change: ``SENDING`` while the request may still arrive, else the final state.

    ``value`` is the field's value now, if the change is done or another user has changed the field.
    """

    state: StepState
    value: int | None = None
    reason: StepReason = NO_REASON


def new_sending(
    gateway: Gateway, now: datetime, *, last_xact_id: str | None = None, other_fields: str | None = None
) -> Sending:
    """Describe a request that goes out now."""
    until = now + timedelta(seconds=gateway.timeout) + ARRIVES_WITHIN
    return Sending(now, until, last_xact_id or None, other_fields)


def sending_of(record: Record, field: str, gateway: Gateway, now: datetime) -> Sending:
    """Describe a request that goes out now and is made from ``record``."""
    return new_sending(gateway, now, last_xact_id=record.last_xact_id, other_fields=digest_of_untouched(record, field))


def judge(gateway: Gateway, change: SentChange, record: Record | None, at: datetime) -> ChangeVerdict:
    """Infer the outcome of a sent change from the patron's current record, read at the time ``at``.

    Raises:
        GatewayError: the members of the patron's group can't be read.
        DataError: the answer isn't a list of the group's members.
    """
    now = value_of(record, change.field)
    if record is None or now is None:
        return ChangeVerdict(StepState.SENDING, reason=HIDDEN_WHILE_OPEN)
    if now == change.before:
        return _judge_unchanged(change, record, at)
    if now == change.after:
        return _judge_as_planned(change, record, now, at)
    if change.after is None and _is_alone(gateway, change.patron, now):
        return _judge_alone(change, record, now, at)
    return _judge_elsewhere(change, now, at)


def _judge_unchanged(change: SentChange, record: Record, at: datetime) -> ChangeVerdict:
    if change.protected and record.last_xact_id != change.sending.last_xact_id:
        return ChangeVerdict(StepState.NOT_DONE, reason=OVERTAKEN)
    if change.may_still_arrive(at):
        return ChangeVerdict(StepState.SENDING, reason=no_clear_answer(change.sending.until))
    return ChangeVerdict(StepState.NOT_DONE, reason=NEVER_ARRIVED)


def _judge_as_planned(change: SentChange, record: Record, now: int, at: datetime) -> ChangeVerdict:
    if _written_by_another(change, record, at):
        return ChangeVerdict(StepState.FAILED, reason=_unclear_author(change, now))
    return ChangeVerdict(StepState.DONE, now)


def _judge_alone(change: SentChange, record: Record, now: int, at: datetime) -> ChangeVerdict:
    """Judge a patron who was to get a new group and is now alone in a group other than before."""
    if _written_by_another(change, record, at):
        return ChangeVerdict(StepState.FAILED, reason=_unclear_author(change, now))
    if change.seen is not None:
        late = Message("it came in late, after somebody else had moved the patron to group {group}")
        return ChangeVerdict(StepState.DONE, now, StepReason(late, "came-in-late", group=change.seen))
    return ChangeVerdict(StepState.DONE, now)


def _judge_elsewhere(change: SentChange, now: int, at: datetime) -> ChangeVerdict:
    moved = StepReason(Message("somebody else changed it"), "lead-changed-meanwhile")
    if change.field == GROUP:
        moved = StepReason(Message("somebody else moved the patron to group {group}"), "moved-meanwhile", group=now)
    if not change.protected and change.may_still_arrive(at):
        return ChangeVerdict(
            StepState.SENDING, now, may_come_in(change.sending.until).preceded_by(*moved.texts, **moved.values)
        )
    return ChangeVerdict(StepState.FAILED, reason=moved)


def _written_by_another(change: SentChange, record: Record, at: datetime) -> bool:
    """Return whether another user has written the record since.

    True if the last write is too late to be the change, or if other fields differ. Another write within that time that
    changes no other field can't be told from ours.
    """
    sending, written = change.sending, record.last_update_time
    # Evergreen's clock may be far ahead of ours, so cap the time of writing at the present.
    if written is not None and min(written, at) > sending.until + MAX_CLOCK_SKEW:
        return True
    return sending.other_fields is not None and digest_of_untouched(record, change.field) != sending.other_fields


def _unclear_author(change: SentChange, now: int) -> StepReason:
    text = (
        Message("in group {value} now, but somebody else has written the record since, perhaps this very change")
        if change.field == GROUP
        else Message(
            "changed as it was meant, but somebody else has written the record since, perhaps this very change"
        )
    )
    return StepReason(text, "so-by-somebody", value=now)


def has_late_duplicate(gateway: Gateway, step: JournalStep, record: Record, at: datetime) -> bool:
    """Return whether a late duplicate of a request for a new group has moved the patron to a second new group.

    Nothing protects ``usergroup.new`` from a network that delivers it twice. In that case the patron is alone in the
    second group, and no other user has written the record.
    """
    if step.sending is None:
        return False
    change = SentChange(step.patron, step.field, step.before, step.after, step.sending)
    return not _written_by_another(change, record, at) and _is_alone(gateway, step.patron, int(record.usrgroup))


def _is_alone(gateway: Gateway, patron: int, group: int) -> bool:
    """Return whether a patron is the only member of a group. Counts hidden members, ignores deleted ones."""
    members = gateway.call("open-ils.actor", _MEMBERS, TOKEN, group).value
    ids = set(map(whole_number, members)) if isinstance(members, list) else {None}
    others = {id for id in ids if id is not None} - {patron}
    if None in ids:
        raise DataError("the ILS gave no list of a group's members", code="members-not-a-list")
    # Cross-check with a query. With another group's member list, this run would claim another user's move or disown
    # its own.
    if bool(others) is not holds(gateway, {"-exists": rows_beyond(0, "au", _others_in(group, patron), "id")}):
        _refuse_unless_behind(gateway, patron, group, others)
    return not others


def _refuse_unless_behind(gateway: Gateway, patron: int, group: int, others: Set[int]) -> None:
    """Refuse a member list that contradicts a query, unless a lagging replica explains the difference.

    ``others`` are the ids in the list besides the patron. The members' records on the primary decide.

    Raises:
        DataError: the list is wrong, or some of the patrons in question are hidden.
    """
    suspects = others
    if gateway.reads_replicas and not others:
        where = _others_in(group, patron)
        suspects = frozenset(gateway.pcrud.id_list("au", where, limit=_MOST_SUSPECTS))
        if holds(gateway, {"-exists": rows_beyond(len(suspects), "au", where, "id")}):  # a hidden member
            raise inconsistent_members()
    records = [read_patron(gateway, id) for id in sorted(suspects)[:_MOST_SUSPECTS] if gateway.reads_replicas]
    here = [value_of(record, GROUP) == group and not record.deleted for record in records if record is not None]
    if not here or (not any(here) if others else any(here) or len(here) < len(suspects)):
        raise inconsistent_members()


def _others_in(group: int, patron: int) -> dict[str, Any]:
    return {"usrgroup": group, "deleted": "f", "id": {"<>": patron}}


def judge_penalties(change: SentChange, penalties: PatronPenalties, at: datetime) -> ChangeVerdict:
    """Infer the outcome of a recalculation: done if the penalties in force differ from those before it was sent.

    Someone else may have changed them. That makes no difference, because a recalculation can't be undone.
    """
    now = count_set_by_ils(penalties.in_force)
    former = change.sending.other_fields
    if now != change.before if former is None else penalties.digest != former:
        return ChangeVerdict(StepState.DONE, now)
    if change.may_still_arrive(at):
        return ChangeVerdict(StepState.SENDING, reason=may_come_in(change.sending.until))
    return ChangeVerdict(StepState.NOT_DONE, reason=NO_EFFECT)


_REFUSALS = frozenset({"NO_SESSION", "PERM_FAILURE", "XACT_COLLISION", "DATABASE_UPDATE_FAILED"})


class UnclearAnswer(Exception):  # noqa: N818 - control flow, never shown: the record is read back instead
    """The answer to a write says neither yes nor no."""


@dataclass(frozen=True, slots=True)
class ConfirmedWrite:
    """The ``last_xact_id`` of a write and the field's new value, from the answer to an update."""

    last_xact_id: str
    value: int


def is_refusal(error: GatewayError) -> bool:
    """Return whether an error proves that nothing was written.

    The list of events is closed: ``OpenILS/Application/Actor.pm`` (``update_patron``, ``update_penalties``) and
    ``Actor/UserGroups.pm`` (``reset_group``) return these before they commit. Any other event may come after the
    commit: ``update_patron`` then reads the patron again, and returns that read's event, for example
    ``DATABASE_QUERY_FAILED`` or ``ACTOR_USER_NOT_FOUND``.

    A refused login also proves it: the session had ended before the write, and the login was to renew it.
    """
    if isinstance(error, LoginRefusedError | RequestTooLargeError):
        return True
    return isinstance(error, EventError) and error.textcode in _REFUSALS


def was_never_sent(error: GatewayError) -> bool:
    """Return whether the request never left this machine.

    A missing service doesn't count: the gateway also reports one if the service was stopped in the middle of its work.
    """
    return isinstance(error, TransportError) and not (error.sent or isinstance(error, ServiceNotFoundError))


def new_group_number(answer: Any) -> int:
    """Read the number of a new group, which Evergreen sends as a string (``usergroup-new-001``).

    Raises:
        UnclearAnswer: the answer is something else.
    """
    number = whole_number(answer)
    if number is None or number < 0:
        raise UnclearAnswer
    return number


def confirmed_write(answer: Any, record: Record, field: str) -> ConfirmedWrite:
    """Read the patron record in the answer to an update (``xact-collision-002``).

    Raises:
        UnclearAnswer: the answer is something else, or the record from before the update.
    """
    positions = record._class.positions
    try:
        values = answer["__p"]
        mark, value = values[positions["last_xact_id"]], values[positions[field]]
        is_theirs = answer["__c"] == record.class_id and str(values[positions["id"]]) == str(record.id)
        if is_theirs and isinstance(mark, str) and mark not in ("", record.last_xact_id):
            return ConfirmedWrite(mark, _number(value))
    except (TypeError, KeyError, IndexError, ValueError):
        pass
    raise UnclearAnswer


def _number(value: Any) -> int:
    """Convert a wire value to the number of a group, or a truth value to 1 or 0."""
    return int({"t": 1, "f": 0}.get(value, value) if isinstance(value, str) else value)
