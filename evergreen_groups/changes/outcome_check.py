"""Infer from a patron's record whether a change that was sent has taken effect, also after an interruption.

A lost answer doesn't mean a lost request. The request may wait in Apache (which gives a slow one 300 seconds), in a
proxy, or on the bus until a service process is free, and none of these drops it when the client gives up. So a request
counts as open for the gateway's timeout plus ``ARRIVES_WITHIN``.

``patron.update`` is protected during that time: Evergreen compares the request's ``last_xact_id`` with the record's. So
the request takes effect at most once, and never after another write to the record (``xact-collision-003``).
``usergroup.new`` takes no such id and always makes a new group.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from evergreen_groups import errors
from evergreen_groups.changes import reasons
from evergreen_groups.changes.journal import GROUP, LEAD, PENALTIES, Journal, JournalStep, Sending, StepState
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.gateway import TOKEN, holds, rows_beyond, whole_number
from evergreen_groups.groups import inconsistent_members, read_patron
from evergreen_groups.ils import PenaltyRow
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.changes.penalties import PatronPenalties
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.state import State

ARRIVES_WITHIN = timedelta(minutes=15)
"""How long after the gateway's timeout a request may still arrive: three times Apache's 300 seconds."""
MAX_CLOCK_SKEW = timedelta(minutes=2)
"""The largest accepted difference between this machine's clock and Evergreen's."""
FATAL_ERRORS = (errors.TransportError, errors.NoSessionError, errors.LoginRefusedError)
"""Errors that would also hit every later step."""
_MAX_AHEAD = timedelta(days=1)
_MOST_SUSPECTS = 20
_MEMBERS = "open-ils.actor.usergroup.members.retrieve.authoritative"
_REFUSALS = frozenset({"NO_SESSION", "PERM_FAILURE", "XACT_COLLISION", "DATABASE_UPDATE_FAILED"})
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
    value = None if record is None else record[field_name]
    return None if value is None else int(value)


def untouched_fields(record: Record, changed: str) -> Iterator[tuple[str, object, object]]:
    """Yield each field that a change of ``changed`` must not touch: its name, its value as sent, and its value decoded.

    Only decoded values can be compared: two gateways behind one address may send a number as text or as a number.
    """
    names = list(record._class.positions)
    for position, value in enumerate(record.to_wire()["__p"]):
        name = names[position] if position < len(names) else f"field {position}"
        if name != changed and name not in _ALWAYS_CHANGE and value is not None:
            try:
                decoded = record[name]
            except (KeyError, errors.DataError):  # a field the IDL doesn't know, or a value its datatype doesn't allow
                decoded = str(value)
            yield name, value, decoded


def digest_of_untouched(record: Record, changed: str) -> str:
    """Return a digest of :func:`untouched_fields`. It reveals no patron data.

    The digest for the flag of a group lead leaves out the group: a late duplicate of the request for a new group may
    move the patron after the flag was set.
    """
    fields = {name: str(value) for name, _sent, value in untouched_fields(record, changed)}
    if changed == LEAD:
        fields.pop(GROUP, None)
    text = json.dumps(sorted(fields.items()))
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChangeVerdict:
    """The result of checking a sent change: ``SENDING`` while the request may still arrive, else the final state."""

    state: StepState
    value: int | None = None  # the field's value now, if the change is done or another user has changed the field
    reason: reasons.StepReason = reasons.NO_REASON


def new_sending(
    gateway: Gateway, now: datetime, *, last_xact_id: str | None = None, other_fields: str | None = None
) -> Sending:
    """Describe a request that goes out now."""
    until = now + timedelta(seconds=gateway.timeout) + ARRIVES_WITHIN
    return Sending(now, until, last_xact_id or None, other_fields)


def judge(gateway: Gateway, step: JournalStep, record: Record | None, at: datetime) -> ChangeVerdict:
    """Infer the outcome of a step that was sent from the patron's current record, read at the time ``at``.

    The step's ``value`` is a group other than ``before`` in which the patron was found while the request was open.
    """
    now = value_of(record, step.field)
    if record is None or now is None:
        return ChangeVerdict(StepState.SENDING, reason=reasons.HIDDEN_WHILE_OPEN)
    if now == step.before:
        if step.protected and record.last_xact_id != step.request.last_xact_id:
            return ChangeVerdict(StepState.NOT_DONE, reason=reasons.CHANGED_BY_ANOTHER)
        return _judge_unchanged(step, at)
    if now == step.after or (step.after is None and _is_alone(gateway, step.patron, now)):
        return _judge_as_planned(step, record, now, at)
    moved = reasons.changed_by_another(step.field, now)
    if not step.protected and step.may_still_arrive(at):
        return ChangeVerdict(StepState.SENDING, now, reasons.may_come_in(step.request.until, moved))
    return ChangeVerdict(StepState.FAILED, reason=moved)


def _judge_unchanged(step: JournalStep, at: datetime) -> ChangeVerdict:
    if step.may_still_arrive(at):
        return ChangeVerdict(StepState.SENDING, reason=reasons.may_come_in(step.request.until))
    return ChangeVerdict(StepState.NOT_DONE, reason=reasons.NEVER_ARRIVED)


def _judge_as_planned(step: JournalStep, record: Record, now: int, at: datetime) -> ChangeVerdict:
    """Judge a patron whose field is as planned, or who was to get a new group and is alone in another one."""
    if _written_by_another(step, record, at):
        text = Message("the record has the new value, but another user may have set it")
        return ChangeVerdict(StepState.FAILED, reason=reasons.StepReason(text, "so-by-somebody", value=now))
    reason = reasons.NO_REASON
    if step.after is None and step.value is not None:
        reason = reasons.StepReason(reasons.MOVED_BY_ANOTHER, "came-in-late", group=step.value)
    return ChangeVerdict(StepState.DONE, now, reason)


def _written_by_another(step: JournalStep, record: Record, at: datetime) -> bool:
    """Return whether another user has written the record since.

    Another write in time that changes no other field can't be told from ours.
    """
    sending, written = step.request, record.last_update_time
    # Evergreen's clock may be far ahead of ours, so cap the time of writing at the present.
    if written is not None and min(written, at) > sending.until + MAX_CLOCK_SKEW:
        return True
    return sending.other_fields is not None and digest_of_untouched(record, step.field) != sending.other_fields


def has_late_duplicate(gateway: Gateway, step: JournalStep, record: Record, at: datetime) -> bool:
    """Return whether a late duplicate of a request for a new group has moved the patron to a second new group.

    ``usergroup.new`` makes a new group each time that a network delivers it. After a second delivery the patron is
    alone in the second group, and no other user has written the record.
    """
    if step.sending is None or _written_by_another(step, record, at):
        return False
    return _is_alone(gateway, step.patron, int(record.usrgroup))


def _is_alone(gateway: Gateway, patron: int, group: int) -> bool:
    """Return whether a patron is the only member of a group. Counts hidden members, ignores deleted ones."""
    members = gateway.call("open-ils.actor", _MEMBERS, TOKEN, group).value
    ids = [whole_number(member) for member in members] if isinstance(members, list) else [None]
    if None in ids:
        raise errors.unreadable("members-not-a-list", "a group's members aren't a list")
    others = {id for id in ids if id is not None} - {patron}
    # Cross-check with a query. With another group's member list, this run would claim another user's move or disown
    # its own.
    if bool(others) is not holds(gateway, {"-exists": rows_beyond(0, "au", _others_in(group, patron), "id")}):
        _refuse_unless_behind(gateway, patron, group, others)
    return not others


def _refuse_unless_behind(gateway: Gateway, patron: int, group: int, others: Set[int]) -> None:
    """Refuse a member list that contradicts a query, unless a lagging replica explains the difference.

    ``others`` are the ids in the list besides the patron. The members' records on the primary decide.
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


def judge_penalties(step: JournalStep, penalties: PatronPenalties, at: datetime) -> ChangeVerdict:
    """Infer the outcome of a recalculation: done if the penalties in force differ from those before it was sent.

    Someone else may have changed them. That makes no difference, because a recalculation can't be undone.
    """
    if penalties.digest != step.request.other_fields:
        return ChangeVerdict(StepState.DONE, PenaltyRow.count_set_by_ils(penalties.in_force))
    return _judge_unchanged(step, at)


class UnclearAnswer(Exception):  # noqa: N818 - control flow, never shown: the record is read back instead
    """The answer to a write says neither yes nor no."""


@dataclass(frozen=True, slots=True)
class ConfirmedWrite:
    """The ``last_xact_id`` of a write and the field's new value, from the answer to an update."""

    last_xact_id: str
    value: int


def is_refusal(error: errors.GatewayError) -> bool:
    """Return whether an error proves that nothing was written.

    The list of events is closed: ``OpenILS/Application/Actor.pm`` (``update_patron``, ``update_penalties``) and
    ``Actor/UserGroups.pm`` (``reset_group``) return these before they commit. Any other event may come from a read
    after the commit, for example ``DATABASE_QUERY_FAILED`` or ``ACTOR_USER_NOT_FOUND``. A refused login also proves it:
    the session had ended before the write, and the login was to renew it.
    """
    if isinstance(error, errors.LoginRefusedError | errors.RequestTooLargeError):
        return True
    return isinstance(error, errors.EventError) and error.textcode in _REFUSALS


def was_never_sent(error: errors.GatewayError) -> bool:
    """Return whether the request never left this machine.

    A missing service doesn't count: the gateway also reports one if the service was stopped in the middle of its work.
    """
    return isinstance(error, errors.TransportError) and not (
        error.sent or isinstance(error, errors.ServiceNotFoundError)
    )


def new_group_number(answer: Any) -> int:
    """Read the number of a new group, which is sent as a string (``usergroup-new-001``), or raise UnclearAnswer."""
    number = whole_number(answer)
    if number is None or number < 0:
        raise UnclearAnswer
    return number


def confirmed_write(answer: Any, record: Record, field: str) -> ConfirmedWrite:
    """Read the patron record in the answer to an update (``xact-collision-002``), or raise UnclearAnswer."""
    positions = record._class.positions
    try:
        values = answer["__p"]
        mark, value = values[positions["last_xact_id"]], values[positions[field]]
        is_theirs = answer["__c"] == record.class_id and str(values[positions["id"]]) == str(record.id)
        if is_theirs and isinstance(mark, str) and mark not in ("", record.last_xact_id):
            # The number of a group as sent, or a truth value.
            return ConfirmedWrite(mark, int({"t": 1, "f": 0}.get(value, value) if isinstance(value, str) else value))
    except (TypeError, KeyError, IndexError, ValueError):
        pass
    raise UnclearAnswer


def recover(gateway: Gateway, journal: Journal, patrons: Collection[int]) -> list[JournalStep]:
    """Determine the outcomes of these patrons' open steps by reading only, journal them, and return the ended steps.

    Steps that may still take effect stay open. So do steps of hidden patrons: a later run under another account may see
    them.
    """
    ended: list[JournalStep] = []
    penalties = PenaltyReader(gateway)
    for found in journal.open_steps(gateway.url, patrons):
        step = _restart_if_misdated(gateway, journal, found)
        try:
            if step.field != PENALTIES:
                verdict = judge(gateway, step, read_patron(gateway, step.patron), journal.now())
            elif (in_force := penalties.read(step.patron)) is not None:
                verdict = judge_penalties(step, in_force, journal.now())
            else:  # a hidden patron
                continue
        except FATAL_ERRORS:
            raise
        # An error about one patron must not stop the recovery of the others.
        except (errors.GatewayError, errors.DataError):
            continue
        if verdict.state is not StepState.SENDING:
            reason = verdict.reason or reasons.FOUND_DONE
            journal.record(step.id, verdict.state, value=verdict.value, reason=reason)
            ended.append(replace(step, state=verdict.state, value=verdict.value, reason=reason))
        # Rewrite an open step only if there is something new: a restarted wait, or another group.
        elif step is not found or verdict.value not in (None, step.value):
            value = step.value if verdict.value is None else verdict.value
            journal.record(step.id, verdict.state, value=value, reason=verdict.reason)
    return ended


def recover_left_open(gateway: Gateway, state: State, patrons: Collection[int] | None = None) -> list[JournalStep]:
    """Resolve steps that an earlier run left open, without sending any, and return the resolved steps.

    Covers the given patrons (ids), or all patrons. Make no call if nothing is open. Skip patrons whom another run is
    changing: that run resolves its steps itself. Raises the errors of the journal, and GatewayError.
    """
    ended: list[JournalStep] = []
    for patron in sorted({step.patron for step in Journal(state.database).open_steps(gateway.url, patrons)}):
        # One lease per patron, so that a busy patron doesn't hold up the others.
        with suppress(errors.BusyError), state.change_lease(gateway.url, [patron]) as lease:
            ended += recover(gateway, Journal(lease), [patron])
    return ended


def _restart_if_misdated(gateway: Gateway, journal: Journal, step: JournalStep) -> JournalStep:
    """Restart a request's wait for arrival if a wrong clock dated it more than a day ahead.

    The request went out before now, so a wait that starts now is long enough, provided that Evergreen's clock agrees.
    """
    sending, now = step.request, journal.now()
    if sending.at - now <= _MAX_AHEAD:
        return step
    try:
        seconds = float(gateway.call("open-ils.actor", "opensrf.system.time").value)
    except FATAL_ERRORS:
        raise
    except (errors.GatewayError, errors.DataError, TypeError, ValueError, OverflowError):
        return step
    if abs(seconds - now.timestamp()) > MAX_CLOCK_SKEW.total_seconds():
        return step
    restarted = replace(sending, at=now, until=now + (sending.until - sending.at))
    journal.restart(step.id, restarted)
    return replace(step, sending=restarted)
