"""Methods that recalculate, set and remove penalties, after ``OpenILS/Application/Actor.pm``."""

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


def _by_the_day(interval: str) -> bool:
    """Whether a fine interval is a day or more, in PostgreSQL's spelling (``1 day``, ``01:00:00``)."""
    if re.search(r"day|mon|year|week", interval):
        return True
    match = _HOURS.match(interval)
    return match is not None and int(match[1]) >= 24


def _is_overdue(row: Row) -> bool:
    moment = timestamp_text(now())
    if _by_the_day(row["fine_interval"] or ""):
        moment = f"{moment[:10]}T00:00:00+0000"
    return due_before(row, moment)


def due_before(row: Row, moment: str) -> bool:
    """Whether a circulation is due before a moment. The database compares the infinity that is sent as 1970."""
    return bool(row["due_date"] != INFINITY_AS_SENT and row["due_date"] < moment)


def open_circulations(store: Store, user_id: int) -> dict[str, list[int]]:
    """The ids of a patron's circulations that haven't been checked in, by kind (:data:`KINDS`)."""
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
    """The threshold that applies to a patron: the row's org unit, its amount or count, and the penalty it sets."""

    org_unit: int
    limit: Decimal
    penalty: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the stock penalties: its name, its id in ``csp``, and what is held against the threshold.

    ``counted`` measures are compared with the threshold as a whole number; ``above_zero`` thresholds of nought
    count for nothing.
    """

    name: str
    penalty: int
    measure: Measure
    counted: bool = True
    above_zero: bool = False

    def reached(self, store: Store, user_id: int, threshold: AppliedThreshold) -> bool:
        """Whether the patron is at or over the threshold."""
        measured = self.measure(store, user_id, store.orgs.full_path(threshold.org_unit))
        limit = threshold.limit.quantize(Decimal(1), ROUND_HALF_UP) if self.counted else threshold.limit
        if measured is None or (self.above_zero and limit <= 0):
            return False
        # At the threshold already: 10.00 owed at one of 10.00 keeps the penalty (penalties-update-015).
        return measured >= limit


def _open_fines(store: Store, user_id: int, org_units: Sequence[int]) -> Decimal | None:
    """What is owed on the open transactions at these org units; None where there is none."""
    # By where it was billed, not by home library (fines-elsewhere-008).
    groceries = store.rows("mg", {"usr": user_id, "xact_finish": None, "billing_location": org_units})
    loans = store.rows("circ", {"usr": user_id, "xact_finish": None, "circ_lib": org_units})
    transactions = [row["id"] for row in (*groceries, *loans)]
    balances = [Decimal(row["balance_owed"]) for row in store.rows("mbts", {"id": transactions})]
    return sum(balances, Decimal(0)) if balances else None


def _loans(store: Store, user_id: int, org_units: Sequence[int]) -> list[Row]:
    return store.rows("circ", {"usr": user_id, "checkin_time": None, "circ_lib": org_units})


def _overdue(store: Store, user_id: int, org_units: Sequence[int]) -> Decimal:
    moment = timestamp_text(now())
    late = [
        row
        for row in _loans(store, user_id, org_units)
        if due_before(row, moment) and row["stop_fines"] in (None, "MAXFINES")
    ]
    return Decimal(len(late))


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
    """The nearest threshold: up the profile tree at each org unit, then up the org tree."""
    # A custom penalty has thresholds of its own; those of the stock one don't count for it (settings-019).
    override = setting_value(store, OVERRIDE + rule.name, context_org)
    penalty = rule.penalty if override is None else int(str(override).strip('"'))
    limits = {(row["org_unit"], row["grp"]): row["threshold"] for row in store.rows("pgpt", {"penalty": penalty})}
    # Where it is found decides where the row stands, so the two methods may leave one each (penalties-update-005).
    for org_unit in store.orgs.upwards(context_org):
        for ancestor in store.profiles.upwards(profile):
            if (org_unit, ancestor) in limits:
                return AppliedThreshold(org_unit, Decimal(limits[org_unit, ancestor]), penalty)
    return None


def in_force(rows: Iterable[Row]) -> list[Row]:
    """Those of the ``ausp`` rows that haven't been archived."""
    moment = timestamp_text(now())
    # The database compares the infinity that is sent as 1970.
    return [row for row in rows if row["stop_date"] in (None, "", INFINITY_AS_SENT) or row["stop_date"] > moment]


def active_penalties(store: Store, user_id: int) -> list[Row]:
    """The patron's ``ausp`` rows that haven't been archived."""
    return in_force(store.rows("ausp", {"usr": user_id}))


def _of_rule(rows: Iterable[Row], rule: Rule, penalty: int, org_units: Iterable[int]) -> list[Row]:
    kinds = {rule.penalty, penalty}
    return [row for org in org_units for row in rows if row["org_unit"] == org and row["standing_penalty"] in kinds]


def _out_of_collections(store: Store, user: Row, context_org: int | None, rows: Iterable[Row]) -> list[Row]:
    """The in-collections penalties of a patron who has paid down to the threshold; staff set them, this ends them."""
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
    places = [org for org in upwards if (store.orgs.depth(org) or 0) >= kind["org_depth"]]
    return _of_rule(rows, _IN_COLLECTIONS, threshold.penalty, places)


def calculate(store: Store, user_id: int, context_org: int | None) -> tuple[list[Row], list[tuple[int, int]]]:
    """The rows that the rules have a say about, and the (org unit, penalty) pairs that there should be."""
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
        # At that one org unit: a stale row elsewhere stays (penalties-update-010, penalties-update-017).
        present += _of_rule(rows, rule, threshold.penalty, [threshold.org_unit])
        if rule.reached(store, user_id, threshold):
            wanted.append((threshold.org_unit, threshold.penalty))
    return present + _out_of_collections(store, user, context_org, rows), wanted


def _only(store: Store, names: Sequence[object], context_org: int | None) -> set[int]:
    """The penalties meant by a list of ids and names, those that replace them at this org unit with them."""
    texts = [str(name) for name in names if name is not None]
    chosen = {int(text) for text in texts if text.isdecimal()}
    named = [text for text in texts if not text.isdecimal() and text]
    if named:
        chosen.update(row["id"] for row in store.rows("csp", {"name": named}))
        overrides = (setting_value(store, OVERRIDE + name, context_org) for name in named)
        chosen.update(int(value) for value in overrides if str(value).isdecimal())
    return chosen


def recalculate(store: Store, user_id: int, context_org: int | None, only: Sequence[object] = ()) -> None:
    """Set the penalties that are missing and remove those that no longer hold, as seen from an org unit.

    ``only`` limits it to penalties given by id or name. Runs in the caller's transaction.
    """
    present, wanted = calculate(store, user_id, context_org)
    if only:
        chosen = _only(store, only, context_org)
        present = [row for row in present if row["standing_penalty"] in chosen]
        wanted = [pair for pair in wanted if pair[1] in chosen]
    stale = {row["id"]: row for row in present}
    for org_unit, penalty in wanted:
        standing = next(
            (r for r in stale.values() if (r["org_unit"], r["standing_penalty"]) == (org_unit, penalty)), None
        )
        if standing is not None:
            del stale[standing["id"]]
            continue
        values = {"usr": user_id, "org_unit": org_unit, "standing_penalty": penalty}
        store.insert("ausp", {**values, "set_date": timestamp_text(now())})
    # Those that staff set as well: of these kinds the ILS keeps none that no threshold asks for
    # (penalties-update-012).
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
    """Recalculate a user's penalties as seen from the caller's work org unit."""
    return _update(context, token, user_id, only, at_home=False)


@method(SERVICE, "open-ils.actor.user.penalties.update_at_home")
def update_at_home(context: CallContext, token: Any = None, user_id: Any = None, *only: Any) -> int:
    """Recalculate a user's penalties as seen from the user's home library."""
    return _update(context, token, user_id, only, at_home=True)


def _message(editor: Editor, user_id: Any, message: dict[str, Any]) -> int | None:
    """The id of the note that goes with a penalty; None for one without title and text."""
    if not any(is_true(message.get(name)) for name in ("title", "message")):
        return None
    values = {name: message.get(name) for name in ("title", "message", "pub")}
    sent = {"create_date": "now", "usr": user_id, "sending_lib": str(editor.session.work_org)}
    return editor.create("aum", {**values, **sent})


@method(SERVICE, "open-ils.actor.user.penalty.apply")
@method(SERVICE, "open-ils.actor.user.note.apply")
def apply(context: CallContext, token: Any = None, sent: Any = None, message: Any = None) -> int:
    """Set a penalty as staff do, with a note where there is one, and return the row's id; twice makes two rows."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        editor.retrieve("csp", penalty["standing_penalty"])
        note = message if is_true(message) else {}
        if not isinstance(note, dict):
            raise Die("Not a HASH reference at OpenILS/Application/Actor.pm.")
        note_id = _message(editor, penalty["usr"], note)
        if note_id is not None:
            penalty["usr_message"] = note_id
        penalty["staff"] = editor.user_id
        return editor.create("ausp", penalty)


@method(SERVICE, "open-ils.actor.user.penalty.remove")
@method(SERVICE, "open-ils.actor.user.note.remove")
def remove(context: CallContext, token: Any = None, sent: Any = None) -> int:
    """Delete the row of a penalty; the permission is checked for the user that the object names."""
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
    """Change a penalty and its note, or add them where they are marked as new."""
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
    """Put another text into the notes of these penalties."""
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
