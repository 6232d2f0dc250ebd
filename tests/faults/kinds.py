"""The kinds of faults: what a network, proxy or faulty server does to a request or its response.

A kind is either a way of delivery (:class:`support.fault_proxy.Fault`) or a change of the response.
"""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random
from typing import Any

from support.fault_proxy import Call, Fault, HttpAnswer, with_numbers_as_text

from evergreen_groups.sandbox.database import idl_classes

Result = Any

ABSENCE_IS_AN_ANSWER = (
    "open-ils.pcrud.search.mous.",  # patrons who owe nothing have no row
    "open-ils.pcrud.search.mbts.",
    "open-ils.pcrud.search.mobts.",
    "open-ils.pcrud.search.ausp.",  # patrons without penalties
    "open-ils.pcrud.search.au.",  # patrons whom the account can't see or who don't match
    "open-ils.pcrud.search.ac.",
    "open-ils.pcrud.search.aua.",
    "open-ils.pcrud.search.circ.",  # patrons without checkouts
    "open-ils.pcrud.search.csp.",  # penalties that the ILS doesn't use
    "open-ils.pcrud.id_list.",  # the ids for a list: if both miss the same one, no client can notice
    "open-ils.actor.usergroup.members.balance_owed",
    "open-ils.actor.usergroup.members.retrieve",
    "open-ils.actor.user.has_work_perm_at",
    "open-ils.actor.user.perm.check",
)
"""Methods where a missing row can be a true answer, so no client could notice the falsification."""

AMOUNT_FIELDS = {"mous": "balance_owed", "mbts": "balance_owed", "mobts": "balance_owed", "pgpt": "threshold"}


@dataclass
class Bank:
    """True responses seen so far: rows by class, and the bodies of those in the same run."""

    rows: dict[str, list[Result]] = field(default_factory=dict)
    earlier: list[bytes] = field(default_factory=list)

    def learn(self, answer: HttpAnswer) -> None:
        result = result_of(answer)
        for row in result if isinstance(result, list) else [result]:
            if isinstance(row, dict) and row.get("__c"):
                known = self.rows.setdefault(row["__c"], [])
                if row not in known:
                    known.append(row)


def result_of(answer: HttpAnswer) -> Result:
    try:
        envelope = json.loads(answer.body)
    except ValueError:
        return None
    payload = envelope.get("payload") if isinstance(envelope, dict) else None
    return payload[0] if isinstance(payload, list) and payload else None


def of_results(*results: Result) -> HttpAnswer:
    return HttpAnswer.of({"payload": results, "status": 200})


def as_of_rust(answer: HttpAnswer) -> HttpAnswer:
    """Convert a response of Apache's gateway to the form of the Rust gateway."""
    if answer.status != HTTPStatus.OK or answer.content_type != "text/plain" or answer.cut_off:
        return answer
    try:
        envelope = json.loads(answer.body)
    except (ValueError, RecursionError):
        envelope = None
    if isinstance(envelope, dict) and isinstance(envelope.get("status"), int) and envelope["status"] != HTTPStatus.OK:
        return HttpAnswer(b'{"status":400,"payload":[]}', 400, "text/json")
    return replace(answer, content_type="text/json")


def is_rows(result: Result) -> bool:
    return isinstance(result, list) and bool(result)


def _key(class_id: str) -> int:
    known = idl_classes()[class_id]
    return known.positions[known.primary]


def altered_rows(how: str, chance: Random, call: Call, rows: list[Result], bank: Bank) -> list[Result] | None:
    """Return falsified rows; None if that is impossible, or if no client could notice."""
    if "missing" in how and call.method.startswith(ABSENCE_IS_AN_ANSWER):
        return None
    place = chance.randrange(len(rows))
    if how in ("one that wasn't asked for", "one with the id of another") and not _is_asked_for(rows[place], call):
        return None
    if how == "one that wasn't asked for" and _asks_for_any_one(call):
        return None
    if how == "one with the id of another" and _asks_by_owner_or_id(call):
        return None
    altered = ROWS[how](chance, deepcopy(rows), place, bank)
    if how != "one with the id of another" or altered is None:
        return altered
    # Another patron of the question who had no row could have had this one: as if a row were missing.
    could_be = _is_asked_for(altered[place], call) and _number(altered[place]) not in map(_number, rows)
    return None if could_be else altered


def _number(row: Result) -> Result:
    """Return the id of the patron or object that a row is about."""
    if isinstance(row, dict) and row.get("__c") in idl_classes():
        return _value(row, _key(row["__c"]))
    return row.get("usr") if isinstance(row, dict) else None


def _is_asked_for(row: Result, call: Call) -> bool:
    """Return whether the request names the patron whom the row is about."""
    number = _number(row)
    return number is not None and re.search(rf"\b{number}\b", json.dumps(call.parameters[1:])) is not None


def _asks_for_any_one(call: Call) -> bool:
    """Whether the question asks, with its others, for any one patron of many: a further row passes for that one.

    A group's members are read that way; the patron says that none of them is hidden (``groups/families.py``). No
    gateway is known to add a row to an answer, so a second question to confirm the patron isn't worth its cost.
    """
    question = json.dumps(call.parameters[1:])
    return '"union"' in question and '"limit": 1}' in question


def _asks_by_owner_or_id(call: Call) -> bool:
    """Whether the question asks for addresses by owner or id: with an owner that was asked for, any id passes.

    The row that the patron's record names is then missing, as if it were hidden (``groups/contacts.py``), and a family
    counts as likelier to be an accidental group. No gateway is known to change ids, so nothing is asked twice.
    """
    return ".aua." in call.method and '"-or"' in json.dumps(call.parameters[1:])


def _added(chance: Random, rows: list[Result], place: int, bank: Bank) -> list[Result] | None:
    other = _another_row(chance, rows, bank, same=True)
    return None if other is None else [*rows[:place], other, *rows[place:]]


def _of_another_class(chance: Random, rows: list[Result], place: int, bank: Bank) -> list[Result] | None:
    other = _another_row(chance, rows, bank, same=False)
    return None if other is None else [*rows[:place], other, *rows[place + 1 :]]


def _cut_short(chance: Random, rows: list[Result], place: int, bank: Bank) -> list[Result] | None:
    row = rows[place]
    if not (isinstance(row, dict) and row.get("__p")):
        return None
    del row["__p"][chance.randrange(len(row["__p"])) :]
    return rows


ROWS: dict[str, Callable[[Random, list[Result], int, Bank], list[Result] | None]] = {
    "one that wasn't asked for": _added,
    "one of another class": _of_another_class,
    "one with the id of another": lambda chance, rows, place, _bank: _renumbered(chance, rows, place),
    "one with an id of 5,000 digits": lambda chance, rows, place, _bank: _renumbered(chance, rows, place, "9" * 5_000),
    "the last missing": lambda _chance, rows, place, _bank: rows[:-1],
    "one missing": lambda _chance, rows, place, _bank: rows[:place] + rows[place + 1 :],
    "half of them missing": lambda _chance, rows, place, _bank: rows[: len(rows) // 2],
    "one twice": lambda _chance, rows, place, _bank: [*rows, rows[place]],
    "in reverse": lambda _chance, rows, place, _bank: rows[::-1],
    "null among them": lambda _chance, rows, place, _bank: [*rows[:place], None, *rows[place:]],
    "a number among them": lambda _chance, rows, place, _bank: [
        *rows[:place],
        7 if isinstance(rows[0], dict | list) else 99_999,
        *rows[place:],
    ],
    "text among them": lambda _chance, rows, place, _bank: [*rows[:place], "x", *rows[place:]],
    "one cut short": _cut_short,
    "ids as text": lambda _chance, rows, place, _bank: (
        [str(row) for row in rows] if all(isinstance(row, int) for row in rows) else None
    ),
}
"""Ways to falsify rows."""


def _another_row(chance: Random, rows: list[Result], bank: Bank, *, same: bool) -> Result | None:
    """Return a row of a true response to another request, of the ``same`` class or another one."""
    first = rows[0]
    class_id = first.get("__c") if isinstance(first, dict) else None
    if class_id is None:
        return None
    classes = [class_id] if same else sorted(set(bank.rows) - {class_id})
    keys = {_value(row, _key(class_id)) for row in rows}
    found = [
        row
        for name in classes
        for row in bank.rows.get(name, ())
        if name != class_id or _value(row, _key(name)) not in keys
    ]
    return deepcopy(chance.choice(found)) if found else None


def _renumbered(chance: Random, rows: list[Result], place: int, id: object = None) -> list[Result] | None:
    """Return a row with the id of another patron or object, requested or not."""
    row = rows[place]
    number = id or chance.choice([1001 + chance.randrange(52), 99_999])
    if isinstance(row, dict) and row.get("__p") and row["__c"] in idl_classes():
        position = _key(row["__c"])
        if position >= len(row["__p"]):
            return None
        row["__p"][position] = number
    elif isinstance(row, dict) and "usr" in row:
        row["usr"] = number
    else:
        return None
    return rows


def _value(row: Result, position: int) -> Result:
    values = row.get("__p") if isinstance(row, dict) else None
    return values[position] if values and position < len(values) else None


def another_record(chance: Random, result: Result, bank: Bank) -> Result | None:
    if not (isinstance(result, dict) and result.get("__c") in idl_classes()):
        return None
    position = _key(result["__c"])
    others = [
        row
        for row in bank.rows.get(result["__c"], ())
        if _value(row, position) not in (None, _value(result, position)) and len(row["__p"]) >= len(result["__p"]) // 2
    ]
    return deepcopy(chance.choice(others)) if others else None


def altered_amount(chance: Random, result: Result, value: object) -> Result | None:
    """Return the result with one balance or threshold replaced by ``value``; None without any."""
    places: list[tuple[Any, Any]] = []
    for row in result if isinstance(result, list) else [result]:
        if not isinstance(row, dict):
            continue
        if "balance_owed" in row:
            places.append((row, "balance_owed"))
        elif row.get("__c") in AMOUNT_FIELDS and row.get("__p"):
            position = idl_classes()[row["__c"]].positions[AMOUNT_FIELDS[row["__c"]]]
            if position < len(row["__p"]) and row["__p"][position] is not None:
                places.append((row["__p"], position))
    if not places:
        return None
    holder, key = chance.choice(places)
    holder[key] = value
    return result


@dataclass(frozen=True)
class Moment:
    """A call with its true response, when a fault hits it."""

    chance: Random
    call: Call
    answer: HttpAnswer
    bank: Bank

    @property
    def result(self) -> Result:
        return result_of(self.answer)


Alter = Callable[[Moment], HttpAnswer | None]
"""Changes a true response; returns None if the fault is impossible for it."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    ``delivery`` is what happens to the request, and ``alter`` changes the response. ``carried_out`` says whether the
    server executes the request (None: sometimes). ``passes`` says whether retrying a read helps.
    """

    name: str
    delivery: Fault | None = None
    alter: Alter | None = None
    carried_out: bool | None = True
    passes: bool = False
    late: bool = field(default=False)
    """Whether it ends with the client's timeout."""
    method: str | None = None
    """The only method that it can affect, or None for any."""

    def __str__(self) -> str:
        return self.name


def _way(fault: Fault, *, passes: bool = True, late: bool = False) -> Kind:
    return Kind(fault.name.lower().replace("_", " "), fault, passes=passes, late=late)


def _web_status(status: int) -> Kind:
    page = f"<html><head><title>{status}</title></head><body><h1>Not now</h1></body></html>".encode()
    passes = status == 408 or status >= 500
    return Kind(
        f"HTTP {status}", alter=lambda _it: HttpAnswer(page, status, "text/html"), carried_out=None, passes=passes
    )


REFUSALS = {
    "401": (401, "osrfMethodException : User authentication failed"),
    "404 no such method": (404, "osrfMethodException :  *** Method [x] not found"),
    "404 no such service": (404, "osrfServiceException : Service Not Found"),
    "404 transport error": (404, "Internal Server Error : Transport Error"),
    "408": (408, "osrfConnectStatus : Request Timeout"),
    "500": (500, "osrfMethodException :  *** Call to [x] failed for session [1.2], thread trace [1]:\nException: …"),
    "500 without words": (500, ""),
}
_PASSING_REFUSALS = ("404 no such service", "404 transport error", "408", "500")


def _refusal(name: str) -> Kind:
    status, debug = REFUSALS[name]
    envelope: dict[str, object] = {"payload": [], "status": status} | ({"debug": debug} if debug else {})
    return Kind(
        f"gateway {name}",
        alter=lambda it: HttpAnswer.of(envelope) if it.call.method else None,
        carried_out=False if name == "401" else None,  # the token is checked before anything is done
        passes=name in _PASSING_REFUSALS,
    )


EVENTS: dict[str, dict[str, object]] = {
    "PERM_FAILURE": {"ilsevent": "5000", "textcode": "PERM_FAILURE", "ilsperm": "VIEW_USER", "ilspermloc": 11},
    "NO_SESSION": {"ilsevent": 1001, "textcode": "NO_SESSION", "desc": "User login session has either timed out"},
    "XACT_COLLISION": {"ilsevent": "1230", "textcode": "XACT_COLLISION", "desc": "changed by another process"},
    "INTERNAL_SERVER_ERROR": {"ilsevent": "1000000", "textcode": "INTERNAL_SERVER_ERROR"},
    "an event without a number": {"ilsevent": None, "textcode": "DATABASE_QUERY_FAILED"},
    "an event without a code": {"ilsevent": 1500},
}


def _event(name: str, *, inside: bool = False) -> Kind:
    def alter(it: Moment) -> HttpAnswer | None:
        if not inside:
            return of_results(EVENTS[name]) if it.call.method else None
        if not isinstance(it.result, list):
            return None
        items = list(it.result)
        items.insert(it.chance.randint(0, len(items)), EVENTS[name])
        return of_results(items)

    # An expired session, a collision and a missing permission mean that nothing was done; true responses mean that it
    # was.
    done = None if name not in ("PERM_FAILURE", "NO_SESSION", "XACT_COLLISION") else False
    return Kind(f"event {name}{' in a list' if inside else ''}", alter=alter, carried_out=done)


SHAPES: dict[str, object] = {
    **{"null": None, "{}": {}, '""': "", "[]": [], "0": 0, "7": 7, "-1": -1, "text": "x", "true": True, "false": False},
    **{"[null]": [None], "[[]]": [[]], "NaN": float("nan"), "Infinity": float("inf")},
    "a record of nothing": {"__c": "au", "__p": []},
    "a record of no class": {"__c": None, "__p": None},
    "a record of an unknown class": {"__c": "zzz", "__p": [1, 2]},
}


def _shape(name: str) -> Kind:
    value = SHAPES[name]

    def alter(it: Moment) -> HttpAnswer | None:
        empty = value == [] and isinstance(it.result, list)  # which is valid
        return of_results(value) if it.call.method and not empty and value != it.result else None

    return Kind(f"{name} for a result", alter=alter)


def _envelope(name: str, body: Callable[[HttpAnswer], bytes], **more: Any) -> Kind:
    return Kind(name, alter=lambda it: HttpAnswer(body(it.answer), **more))


def _numbers_as_text(it: Moment) -> HttpAnswer | None:
    records = it.result if isinstance(it.result, list) else [it.result]
    if not records or not all(isinstance(record, dict) and "__p" in record for record in records):
        return None
    return with_numbers_as_text(it.answer)


def _cut_off(it: Moment) -> HttpAnswer:
    length = len(it.answer.body) or 1
    return HttpAnswer(it.answer.body[: it.chance.randrange(length)], length=length)


def _truncated(it: Moment) -> HttpAnswer | None:
    body = it.answer.body
    return HttpAnswer(body[: it.chance.randrange(len(body))], content_type=it.answer.content_type) if body else None


def _of_rows(how: str) -> Alter:
    def alter(it: Moment) -> HttpAnswer | None:
        rows = it.result
        changed = altered_rows(how, it.chance, it.call, rows, it.bank) if is_rows(rows) else None
        return None if changed is None or changed == rows else of_results(changed)

    return alter


def _amount(name: str, value: object) -> Kind:
    def alter(it: Moment) -> HttpAnswer | None:
        changed = altered_amount(it.chance, deepcopy(it.result), value)
        return None if changed is None else of_results(changed)

    return Kind(f"balance {name}", alter=alter)


AMOUNTS: dict[str, object] = {
    **{"NaN": "NaN", "Infinity": "Infinity", "empty": "", "text": "a lot", "1e400": "1e400"},
    **{"of 400 digits": "9" * 400, "NaN unquoted": float("nan"), "-Infinity unquoted": float("-inf")},
    **{"null": None, "true": True, "list": ["4.50"], "hash": {}},
}


def _earlier(it: Moment) -> HttpAnswer | None:
    others = [body for body in it.bank.earlier if body != it.answer.body]
    if it.call.method.startswith(ABSENCE_IS_AN_ANSWER):
        others = [body for body in others if result_of(HttpAnswer(body)) != []]
    if '"select"' in json.dumps(it.call.parameters[1:2]):
        # The rows of a subquery don't show which rows it matched. If those of another request have the same class, the
        # client can't tell them from true ones.
        others = [body for body in others if _class_of(body) != _class_of(it.answer.body)]
    return HttpAnswer(it.chance.choice(others)) if others and it.call.method else None


def _class_of(body: bytes) -> object:
    result = result_of(HttpAnswer(body))
    first = result[0] if is_rows(result) else None
    return first.get("__c") if isinstance(first, dict) else None


def _another_record(it: Moment) -> HttpAnswer | None:
    # Nothing else shows the owner of a session.
    mine = it.call.method == "open-ils.auth.session.retrieve"
    record = None if mine else another_record(it.chance, it.result, it.bank)
    return None if record is None else of_results(record)


KINDS: tuple[Kind, ...] = (
    *(_way(fault) for fault in (Fault.DROP_REQUEST, Fault.DROP_ANSWER, Fault.HELD_REQUEST)),
    *(_way(fault, late=True) for fault in (Fault.LATE_ANSWER, Fault.LATE_REQUEST)),
    *(
        _way(fault, passes=False)
        for fault in (Fault.REQUEST_TWICE, Fault.REQUEST_REPEATED, Fault.ANSWER_TWICE, Fault.ANSWERS_BEHIND)
    ),
    # Few runs have a call that it can affect.
    *(Kind("late copy of usergroup.new", Fault.LATE_COPY, method="open-ils.actor.usergroup.new"),) * 6,
    Kind("answer cut off", alter=_cut_off, passes=True),
    Kind(
        "negative chunk length",
        alter=lambda it: replace(it.answer, chunk_length=str(-it.chance.randint(1, 0xFFFF))),
        passes=True,
    ),
    Kind("answer truncated", alter=_truncated),
    Kind("an earlier answer", alter=_earlier),
    *(_web_status(status) for status in (400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 302, 204)),
    *(_refusal(name) for name in REFUSALS),
    *(_event(name) for name in EVENTS),
    *(_event(name, inside=True) for name in EVENTS),
    Kind("no result", alter=lambda it: of_results() if it.call.method and it.result is not None else None),
    Kind("two results", alter=lambda it: of_results(it.result, it.result) if it.call.method else None),
    Kind("numbers as text", alter=_numbers_as_text),
    *(_shape(name) for name in SHAPES),
    _envelope("empty body", lambda answer: b""),
    _envelope(
        "a page", lambda answer: b"<html><body>Please log in to the network</body></html>", content_type="text/html"
    ),
    _envelope("a body that isn't text", lambda answer: b"\xff\xfe" + answer.body),
    _envelope("a body that isn't compressed", lambda answer: answer.body, headers=(("Content-Encoding", "gzip"),)),
    _envelope("a body of null", lambda answer: b"null"),
    _envelope("a body of []", lambda answer: b"[]"),
    _envelope("no payload", lambda answer: b'{"status":200}'),
    _envelope("payload null", lambda answer: b'{"payload":null,"status":200}'),
    _envelope("payload a hash", lambda answer: b'{"payload":{},"status":200}'),
    _envelope("no status", lambda answer: b'{"payload":[]}'),
    _envelope("status as text", lambda answer: answer.body.replace(b'"status":200', b'"status":"200"')),
    _envelope("deeply nested", lambda answer: b'{"payload":[' + b"[" * 100_000 + b"]" * 100_000 + b'],"status":200}'),
    _envelope("a number of 5,000 digits", lambda answer: b'{"payload":[' + b"9" * 5_000 + b'],"status":200}'),
    *(Kind(f"rows: {how}", alter=_of_rows(how)) for how in ROWS),
    Kind("another's record", alter=_another_record),
    *(_amount(name, value) for name, value in AMOUNTS.items()),
)
