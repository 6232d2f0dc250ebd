"""Methods that recalculate, apply and remove penalties, after ``OpenILS/Application/Actor.pm``.

Recalculation follows the SQL function ``actor.calculate_system_penalties``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from evergreen_groups.sandbox.database import Row, Store, now, timestamp_text
from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    argument_of,
    is_true,
    method,
    setting_value,
    text,
)

KINDS = ("out", "overdue", "lost", "claims_returned", "long_overdue")

_HOURS = re.compile(r"(\d+):\d\d:\d\d")
INFINITY_AS_SENT = "1970-01-01T00:00:00+0000"
_STOPPED = {"LOST": "lost", "CLAIMSRETURNED": "claims_returned", "LONGOVERDUE": "long_overdue"}


def _is_overdue(row: Row) -> bool:
    time, interval = timestamp_text(now()), row["fine_interval"] or ""
    # Daily loans aren't overdue before the next day. Intervals are in PostgreSQL's format (1 day, 24:00:00).
    hours = _HOURS.match(interval)
    if re.search(r"day|mon|year|week", interval) or (hours and int(hours[1]) >= 24):
        time = f"{time[:10]}T00:00:00+0000"
    return due_before(row, time)


def due_before(row: Row, time: str) -> bool:
    """Return whether a circulation is due before a time; rows have 1970 where the database has infinity."""
    return bool(row["due_date"] != INFINITY_AS_SENT and row["due_date"] < time)


def open_circulations(store: Store, user_id: int) -> dict[str, list[int]]:
    """Return the ids of a patron's circulations that aren't checked in, by kind (:data:`KINDS`)."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for row in store.rows("circ", {"usr": user_id, "checkin_time": None}):
        kind = _STOPPED.get(row["stop_fines"])
        if kind is None:
            kind = "overdue" if _is_overdue(row) else "out"
        elif kind != "claims_returned" and row["xact_finish"] is not None:
            continue
        found[kind].append(row["id"])
    return found


Measure = Callable[[Store, int, Sequence[int]], Decimal | None]

OVERRIDE = "circ.custom_penalty_override."


@dataclass(frozen=True, slots=True)
class AppliedThreshold:
    """The threshold that applies to a patron: where it is set, its amount or count, and its penalty's id."""

    org_unit: int
    limit: Decimal
    penalty: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A stock penalty: its name, its id in ``csp``, and the measure compared with the threshold.

    ``counted`` rules round the threshold to a whole number; ``above_zero`` rules ignore a threshold of zero.
    """

    name: str
    penalty: int
    measure: Measure
    counted: bool = True
    above_zero: bool = False

    def reached(self, store: Store, user_id: int, threshold: AppliedThreshold) -> bool:
        """Return whether the patron is at or over the threshold."""
        measured = self.measure(store, user_id, store.orgs.full_path(threshold.org_unit))
        limit = threshold.limit.quantize(Decimal(1), ROUND_HALF_UP) if self.counted else threshold.limit
        if measured is None or (self.above_zero and limit <= 0):
            return False
        # Being exactly at the threshold is enough: owing 10.00 at 10.00 keeps the penalty (penalties-update-015).
        return measured >= limit


def _open_fines(store: Store, user_id: int, org_units: Sequence[int]) -> Decimal | None:
    """Return the balance of the open transactions at some org units; None without any."""
    # The billing location counts, not the home library (fines-elsewhere-008).
    groceries = store.rows("mg", {"usr": user_id, "xact_finish": None, "billing_location": org_units})
    loans = store.rows("circ", {"usr": user_id, "xact_finish": None, "circ_lib": org_units})
    transactions = [row["id"] for row in (*groceries, *loans)]
    balances = [Decimal(row["balance_owed"]) for row in store.rows("mbts", {"id": transactions})]
    return sum(balances, Decimal(0)) if balances else None


def _loans(store: Store, user_id: int, org_units: Sequence[int]) -> list[Row]:
    return store.rows("circ", {"usr": user_id, "checkin_time": None, "circ_lib": org_units})


def _overdue(store: Store, user_id: int, org_units: Sequence[int]) -> Decimal:
    time = timestamp_text(now())
    loans = _loans(store, user_id, org_units)
    return Decimal(sum(due_before(row, time) and row["stop_fines"] in (None, "MAXFINES") for row in loans))


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


def _out(store: Store, user_id: int, org_units: Sequence[int]) -> Decimal:
    count = 0
    for row in _loans(store, user_id, org_units):
        if row["xact_finish"] is not None:
            continue
        tallied = {None, "MAXFINES", "LONGOVERDUE"}
        if _is_true(setting_value(store, "circ.tally_lost", row["circ_lib"])):
            tallied.add("LOST")
        if not _is_true(setting_value(store, "circ.do_not_tally_claims_returned", row["circ_lib"])):
            tallied.add("CLAIMSRETURNED")
        count += row["stop_fines"] in tallied
    return Decimal(count)


def _stopped(reason: str) -> Measure:
    def count(store: Store, user_id: int, org_units: Sequence[int]) -> Decimal:
        loans = _loans(store, user_id, org_units)
        return Decimal(sum(row["stop_fines"] == reason and row["xact_finish"] is None for row in loans))

    return count


RULES = (
    Rule("PATRON_EXCEEDS_FINES", 1, _open_fines, counted=False),
    Rule("PATRON_EXCEEDS_OVERDUE_COUNT", 2, _overdue),
    Rule("PATRON_EXCEEDS_CHECKOUT_COUNT", 3, _out),
    Rule("PATRON_EXCEEDS_LOST_COUNT", 5, _stopped("LOST"), above_zero=True),
    Rule("PATRON_EXCEEDS_LONGOVERDUE_COUNT", 35, _stopped("LONGOVERDUE"), above_zero=True),
    Rule("PATRON_EXCEEDS_COLLECTIONS_WARNING", 4, _open_fines, counted=False),
)
_IN_COLLECTIONS = Rule("PATRON_IN_COLLECTIONS", 30, _open_fines, counted=False)


def _threshold(store: Store, rule: Rule, profile: int, context_org: int | None) -> AppliedThreshold | None:
    """Find the nearest threshold: at each org unit, search up the profile tree, then go up the org tree."""
    # A custom penalty only has its own thresholds; those of the stock penalty don't apply to it (settings-019).
    override = setting_value(store, OVERRIDE + rule.name, context_org)
    penalty = rule.penalty if override is None else int(str(override).strip('"'))
    limits = {(row["org_unit"], row["grp"]): row["threshold"] for row in store.rows("pgpt", {"penalty": penalty})}
    # The penalty is set at the threshold's org unit, so the two methods can set one each (penalties-update-005).
    for org_unit in store.orgs.upwards(context_org):
        for ancestor in store.profiles.upwards(profile):
            if (org_unit, ancestor) in limits:
                return AppliedThreshold(org_unit, Decimal(limits[org_unit, ancestor]), penalty)
    return None


def in_force(rows: Iterable[Row]) -> list[Row]:
    """Return the ``ausp`` rows that aren't archived."""
    time = timestamp_text(now())
    return [row for row in rows if row["stop_date"] in (None, "", INFINITY_AS_SENT) or row["stop_date"] > time]


def active_penalties(store: Store, user_id: int) -> list[Row]:
    """Return a patron's ``ausp`` rows that aren't archived."""
    return in_force(store.rows("ausp", {"usr": user_id}))


def _of_rule(rows: Iterable[Row], rule: Rule, penalty: int, org_units: Iterable[int]) -> list[Row]:
    kinds = {rule.penalty, penalty}
    return [row for org in org_units for row in rows if row["org_unit"] == org and row["standing_penalty"] in kinds]


def _out_of_collections(store: Store, user: Row, context_org: int | None, rows: Iterable[Row]) -> list[Row]:
    """Return the in-collections penalties to remove because the patron has paid down to the threshold.

    Recalculation never sets this penalty; staff do.
    """
    threshold = _threshold(store, _IN_COLLECTIONS, user["profile"], context_org)
    if threshold is None:
        return []
    owed = _open_fines(store, user["id"], store.orgs.full_path(threshold.org_unit))
    if owed is not None and owed > threshold.limit:
        return []
    kind = store.row("csp", threshold.penalty)
    if kind is None or kind["org_depth"] is None:
        return _of_rule(rows, _IN_COLLECTIONS, threshold.penalty, [threshold.org_unit])
    upwards = store.orgs.upwards(context_org)
    org_units = [org for org in upwards if (store.orgs.depth(org) or 0) >= kind["org_depth"]]
    return _of_rule(rows, _IN_COLLECTIONS, threshold.penalty, org_units)


def calculate(store: Store, user_id: int, context_org: int | None) -> tuple[list[Row], list[tuple[int, int]]]:
    """Return the rows that the rules control, and the (org unit, penalty) pairs that should exist."""
    user = store.row("au", user_id)
    if user is None:
        return [], []
    rows = active_penalties(store, user_id)
    present: list[Row] = []
    wanted: list[tuple[int, int]] = []
    for rule in RULES:
        threshold = _threshold(store, rule, user["profile"], context_org)
        if threshold is None:
            continue
        # Only at the threshold's org unit: stale rows elsewhere stay (penalties-update-010, penalties-update-017).
        present += _of_rule(rows, rule, threshold.penalty, [threshold.org_unit])
        if rule.reached(store, user_id, threshold):
            wanted.append((threshold.org_unit, threshold.penalty))
    return present + _out_of_collections(store, user, context_org, rows), wanted


def _only(store: Store, names: Sequence[object], context_org: int | None) -> set[int]:
    """Return the ids of penalties given by id or name, plus the custom penalties that override them at an org unit."""
    texts = [str(name) for name in names if name is not None]
    chosen = {int(text) for text in texts if text.isdecimal()}
    named = [text for text in texts if not text.isdecimal() and text]
    if named:
        chosen.update(row["id"] for row in store.rows("csp", {"name": named}))
        overrides = (setting_value(store, OVERRIDE + name, context_org) for name in named)
        chosen.update(int(value) for value in overrides if str(value).isdecimal())
    return chosen


def recalculate(store: Store, user_id: int, context_org: int | None, only: Sequence[object] = ()) -> None:
    """Add missing penalties and remove obsolete ones, with the thresholds of an org unit.

    ``only`` restricts this to some penalties, by id or name. Runs in the caller's transaction.
    """
    present, wanted = calculate(store, user_id, context_org)
    if only:
        chosen = _only(store, only, context_org)
        present = [row for row in present if row["standing_penalty"] in chosen]
        wanted = [pair for pair in wanted if pair[1] in chosen]
    stale = {row["id"]: row for row in present}
    for org_unit, penalty in wanted:
        pair = (org_unit, penalty)
        existing = next((row for row in stale.values() if (row["org_unit"], row["standing_penalty"]) == pair), None)
        if existing is not None:
            del stale[existing["id"]]
            continue
        values = {"usr": user_id, "org_unit": org_unit, "standing_penalty": penalty}
        store.insert("ausp", {**values, "set_date": timestamp_text(now())})
    # This also removes penalties of these kinds that staff applied manually (penalties-update-012).
    for row_id in stale:
        store.delete("ausp", row_id)


SERVICE = "open-ils.actor"


def _update(context: CallContext, token: Any, user_id: Any, only: tuple[Any, ...], *, at_home: bool) -> int:
    with context.store.transaction():
        editor = Editor(context, token)
        user = editor.retrieve("au", user_id)
        editor.require("UPDATE_USER", user["home_ou"])
        recalculate(editor.store, user["id"], user["home_ou"] if at_home else editor.session.work_org, only)
        return 1


@method(SERVICE, "open-ils.actor.user.penalties.update")
def update(context: CallContext, token: Any = None, user_id: Any = None, *only: Any) -> int:
    """Recalculate a user's penalties with the thresholds of the caller's work org unit."""
    return _update(context, token, user_id, only, at_home=False)


@method(SERVICE, "open-ils.actor.user.penalties.update_at_home")
def update_at_home(context: CallContext, token: Any = None, user_id: Any = None, *only: Any) -> int:
    """Recalculate a user's penalties with the thresholds of the user's home library."""
    return _update(context, token, user_id, only, at_home=True)


@method(SERVICE, "open-ils.actor.user.penalty.apply")
@method(SERVICE, "open-ils.actor.user.note.apply")
def apply(context: CallContext, token: Any = None, sent: Any = None, message: Any = None) -> int:
    """Apply a penalty manually, with an optional note, and return the row's id; applying it twice adds two rows."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        editor.retrieve("csp", penalty["standing_penalty"])
        note = message if is_true(message) else {}
        if not isinstance(note, dict):
            raise Die("Not a HASH reference at OpenILS/Application/Actor.pm.")
        if any(is_true(note.get(name)) for name in ("title", "message")):
            values = {name: note.get(name) for name in ("title", "message", "pub")}
            sender = {"create_date": "now", "usr": penalty["usr"], "sending_lib": str(editor.session.work_org)}
            penalty["usr_message"] = editor.create("aum", {**values, **sender})
        penalty["staff"] = editor.user_id
        return editor.create("ausp", penalty)


@method(SERVICE, "open-ils.actor.user.penalty.remove")
@method(SERVICE, "open-ils.actor.user.note.remove")
def remove(context: CallContext, token: Any = None, sent: Any = None) -> int:
    """Delete a penalty's row; the permission is checked for the user in the object, not the user in the row."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        editor.delete("ausp", penalty)
        return 1


@method(SERVICE, "open-ils.actor.user.penalty.modify")
@method(SERVICE, "open-ils.actor.user.note.modify")
def modify(context: CallContext, token: Any = None, sent: Any = None, message: Any = None) -> int:
    """Update a penalty and its note; objects marked as new are created."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        note = {**argument_of(editor.classes, "aum", message), "editor": editor.user_id, "edit_date": "now"}
        if is_true(note["isnew"]):
            penalty["usr_message"] = editor.create("aum", note)
        else:
            editor.update("aum", note)
        if is_true(penalty["isnew"]):
            editor.create("ausp", penalty)
        else:
            editor.update("ausp", penalty)
        return 1


@method(SERVICE, "open-ils.actor.user.note.note.update")
@method(SERVICE, "open-ils.actor.user.penalty.note.update")
def update_note(context: CallContext, token: Any = None, penalty_ids: Any = None, note: Any = None) -> int:
    """Replace the text of the notes of some penalties."""
    if not isinstance(penalty_ids, list):
        raise Die("Can't use that value as an ARRAY reference.")
    with context.store.transaction():
        editor = Editor(context, token)
        for penalty_id in penalty_ids:
            sent = [{"id": penalty_id}, {"flesh": 1, "flesh_fields": {"aum": ["usr_message"]}}]
            penalty = editor.retrieve("ausp", penalty_id, sent=sent)
            user = editor.retrieve("au", penalty["usr"])
            editor.require("UPDATE_USER", user["home_ou"])
            if penalty["usr_message"] is not None:
                editor.store.update("aum", penalty["usr_message"], {"message": text(note)})
                continue
            values = {"title": "", "message": note, "pub": 0, "usr": penalty["usr"]}
            note_id = editor.create("aum", {**values, "sending_lib": editor.session.work_org})
            editor.store.update("ausp", penalty["id"], {"usr_message": note_id})
        return 1
