"""The kinds of faults: what a network, proxy or faulty server does to a request or its response.

A kind is either a way of delivery (:class:`support.fault_proxy.Fault`) or a change of the response.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from faults.answers import (
    ABSENCE_IS_AN_ANSWER,
    ROWS,
    Bank,
    altered_amount,
    altered_rows,
    another_record,
    is_rows,
    result_of,
    with_result,
)
from support.fault_proxy import Call, Fault, HttpAnswer, with_numbers_as_text

Alter = Callable[[Random, Call, HttpAnswer, Bank], HttpAnswer | None]
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

    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer:
        return HttpAnswer(page, status, "text/html")

    return Kind(f"HTTP {status}", alter=alter, carried_out=None, passes=status == 408 or status >= 500)


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

    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
        return HttpAnswer.of(envelope) if call.method else None

    # The token is checked before anything is done.
    return Kind(
        f"gateway {name}", alter=alter, carried_out=False if name == "401" else None, passes=name in _PASSING_REFUSALS
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
    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
        if not inside:
            return HttpAnswer.of({"payload": [EVENTS[name]], "status": 200}) if call.method else None
        result = result_of(answer)
        if not isinstance(result, list):
            return None
        items = list(result)
        items.insert(chance.randint(0, len(items)), EVENTS[name])
        return with_result(items)

    # An expired session, a collision and a missing permission mean that nothing was done; true responses mean that it
    # was.
    done = None if name not in ("PERM_FAILURE", "NO_SESSION", "XACT_COLLISION") else False
    return Kind(f"event {name}{' in a list' if inside else ''}", alter=alter, carried_out=done)


SHAPES: dict[str, object] = {
    "null": None,
    "{}": {},
    '""': "",
    "[]": [],
    "0": 0,
    "7": 7,
    "-1": -1,
    "text": "x",
    "true": True,
    "false": False,
    "[null]": [None],
    "[[]]": [[]],
    "a record of nothing": {"__c": "au", "__p": []},
    "a record of no class": {"__c": None, "__p": None},
    "a record of an unknown class": {"__c": "zzz", "__p": [1, 2]},
    "NaN": float("nan"),
    "Infinity": float("inf"),
}


def _shape(name: str) -> Kind:
    value = SHAPES[name]

    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
        true_result = result_of(answer)
        if not call.method or (value == [] and isinstance(true_result, list)):
            return None  # an empty result is valid
        if value == true_result:
            return None
        return with_result(value)

    return Kind(f"{name} for a result", alter=alter)


def _envelope(name: str, body: Callable[[HttpAnswer], bytes], **more: Any) -> Kind:
    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer:
        return HttpAnswer(body(answer), **more)

    return Kind(name, alter=alter)


def _no_result(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
    return HttpAnswer.of({"payload": [], "status": 200}) if call.method and result_of(answer) is not None else None


def _two_results(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
    result = result_of(answer)
    return HttpAnswer.of({"payload": [result, deepcopy(result)], "status": 200}) if call.method else None


def _numbers_as_text(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
    result = result_of(answer)
    records = result if isinstance(result, list) else [result]
    if not records or not all(isinstance(record, dict) and "__p" in record for record in records):
        return None
    return with_numbers_as_text(answer)


def _cut_off(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer:
    return HttpAnswer(answer.body[: chance.randrange(len(answer.body) or 1)], length=len(answer.body) or 1)


def _negative_chunk_length(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer:
    return replace(answer, chunk_length=str(-chance.randint(1, 0xFFFF)))


def _truncated(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
    if not answer.body:
        return None
    return HttpAnswer(answer.body[: chance.randrange(len(answer.body))], content_type=answer.content_type)


def _of_rows(how: str) -> Alter:
    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
        rows = result_of(answer)
        if not is_rows(rows):
            return None
        changed = altered_rows(how, chance, call, rows, bank)
        return None if changed is None or changed == rows else with_result(changed)

    return alter


def _amount(name: str, value: object) -> Kind:
    def alter(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
        result = result_of(answer)
        changed = altered_amount(chance, call, deepcopy(result), value, bank)
        return None if changed is None else with_result(changed)

    return Kind(f"balance {name}", alter=alter)


AMOUNTS: dict[str, object] = {
    "NaN": "NaN",
    "NaN unquoted": float("nan"),
    "Infinity": "Infinity",
    "-Infinity unquoted": float("-inf"),
    "empty": "",
    "text": "a lot",
    "null": None,
    "true": True,
    "list": ["4.50"],
    "hash": {},
    "of 400 digits": "9" * 400,
    "1e400": "1e400",
}


def _earlier(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
    others = [body for body in bank.earlier if body != answer.body]
    if call.method.startswith(ABSENCE_IS_AN_ANSWER):
        others = [body for body in others if result_of(HttpAnswer(body)) != []]
    if '"select"' in json.dumps(call.parameters[1:2]):
        # The rows of a subquery don't show which rows it matched. If those of another request have the same class, the
        # client can't tell them from true ones.
        others = [body for body in others if _class_of(body) != _class_of(answer.body)]
    return HttpAnswer(chance.choice(others)) if others and call.method else None


def _class_of(body: bytes) -> object:
    result = result_of(HttpAnswer(body))
    first = result[0] if is_rows(result) else None
    return first.get("__c") if isinstance(first, dict) else None


def _another_record(chance: Random, call: Call, answer: HttpAnswer, bank: Bank) -> HttpAnswer | None:
    if call.method == "open-ils.auth.session.retrieve":
        return None  # the owner of the session; nothing else shows it
    record = another_record(chance, result_of(answer), bank)
    return None if record is None else with_result(record)


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
    Kind("negative chunk length", alter=_negative_chunk_length, passes=True),
    Kind("answer truncated", alter=_truncated),
    Kind("an earlier answer", alter=_earlier),
    *(_web_status(status) for status in (400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504, 302, 204)),
    *(_refusal(name) for name in REFUSALS),
    *(_event(name) for name in EVENTS),
    *(_event(name, inside=True) for name in EVENTS),
    Kind("no result", alter=_no_result),
    Kind("two results", alter=_two_results),
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
