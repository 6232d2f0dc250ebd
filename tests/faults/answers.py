"""Falsify a gateway's response: other rows, other amounts, another patron's record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random
from typing import Any

from support.fault_proxy import Call, HttpAnswer

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


def with_result(result: Result) -> HttpAnswer:
    return HttpAnswer.of({"payload": [result], "status": 200})


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
    return ROWS[how](chance, deepcopy(rows), place, bank)


def _is_asked_for(row: Result, call: Call) -> bool:
    """Return whether the request names the patron whom the row is about."""
    number = row.get("usr") if isinstance(row, dict) else None
    if isinstance(row, dict) and row.get("__c") in idl_classes():
        number = _value(row, _key(row["__c"]))
    return number is not None and re.search(rf"\b{number}\b", json.dumps(call.parameters[1:])) is not None


def _asks_for_any_one(call: Call) -> bool:
    """Whether the question asks, with its others, for any one patron of many: a further row passes for that one.

    A group's members are read that way; the patron says that none of them is hidden (``groups/families.py``). No
    gateway is known to add a row to an answer, so a second question to confirm the patron isn't worth its cost.
    """
    question = json.dumps(call.parameters[1:])
    return '"union"' in question and '"limit": 1}' in question


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
    "one with the id of another": lambda chance, rows, place, bank: _renumbered(chance, rows, place),
    "one with an id of 5,000 digits": lambda chance, rows, place, bank: _renumbered(chance, rows, place, "9" * 5_000),
    "the last missing": lambda chance, rows, place, bank: rows[:-1],
    "one missing": lambda chance, rows, place, bank: rows[:place] + rows[place + 1 :],
    "half of them missing": lambda chance, rows, place, bank: rows[: len(rows) // 2],
    "one twice": lambda chance, rows, place, bank: [*rows, rows[place]],
    "in reverse": lambda chance, rows, place, bank: rows[::-1],
    "null among them": lambda chance, rows, place, bank: [*rows[:place], None, *rows[place:]],
    "a number among them": lambda chance, rows, place, bank: [
        *rows[:place],
        7 if isinstance(rows[0], dict | list) else 99_999,
        *rows[place:],
    ],
    "text among them": lambda chance, rows, place, bank: [*rows[:place], "x", *rows[place:]],
    "one cut short": _cut_short,
    "ids as text": lambda chance, rows, place, bank: (
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


def altered_amount(chance: Random, call: Call, result: Result, value: object, bank: Bank) -> Result | None:
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
