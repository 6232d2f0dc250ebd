"""Whether an answer says what a recorded one says, apart from what is another at each asking."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

TOKEN_PLACE = "$TOKEN"
_LEFT_OUT = {"stacktrace", "servertime", "pid", "debug"}
_CHANGING = (
    re.compile(r"[0-9a-f]{32}"),  # a token, a hash
    re.compile(r"\d{9,10}\.\d+\.\d+"),  # last_xact_id
    re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d[+-]\d{4})?"),
    re.compile(r"'.+':\d+(,\d+)*"),  # the words of a name
)
_AMOUNT = re.compile(r"-?\d+\.\d+")


def alike(recorded: Any, came: Any, *, ordered: bool) -> bool:
    """Whether two payloads say the same; lists in any order unless ``ordered``."""
    return _same(_tidy(recorded), _tidy(came), ordered)


def _tidy(value: Any) -> Any:
    """Without what tells of the moment and the process, who logged in before, and nulls at an object's end."""
    if isinstance(value, list):
        return [_tidy(item) for item in value if not _is_login_activity(item)]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__c", "__p"}:
        fields = [_tidy(item) for item in value["__p"]]
        while fields and fields[-1] is None:
            fields.pop()
        return {"__c": value["__c"], "__p": tuple(fields)}
    return {key: _tidy(item) for key, item in value.items() if key not in _LEFT_OUT}


def _is_login_activity(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__c") == "auact"


def _same(recorded: Any, came: Any, ordered: bool) -> bool:
    if recorded == TOKEN_PLACE:
        return isinstance(came, str) and _CHANGING[0].fullmatch(came) is not None
    if type(recorded) is not type(came):
        return False
    if isinstance(recorded, dict):
        keys = recorded.keys() == came.keys()
        return keys and all(_same(item, came[key], ordered) for key, item in recorded.items())
    if isinstance(recorded, list | tuple):
        if len(recorded) != len(came):
            return False
        if ordered or isinstance(recorded, tuple):
            return all(_same(one, other, ordered) for one, other in zip(recorded, came, strict=True))
        return _same_in_any_order(recorded, list(came))
    return bool(recorded == came) or (isinstance(recorded, str) and _same_text(recorded, came))


def _same_in_any_order(recorded: list[Any], rest: list[Any]) -> bool:
    for item in recorded:
        place = next((place for place, other in enumerate(rest) if _same(item, other, False)), None)
        if place is None:
            return False
        del rest[place]
    return True


def _same_text(recorded: str, came: str) -> bool:
    if any(form.fullmatch(recorded) and form.fullmatch(came) for form in _CHANGING):
        return True
    return all(map(_AMOUNT.fullmatch, (recorded, came))) and Decimal(recorded) == Decimal(came)


def changed(recorded: Any, came: Any) -> dict[str, str]:
    """What is another each time and is sent back later: each recorded ``last_xact_id`` with the one that came."""
    if isinstance(recorded, dict) and isinstance(came, dict):
        pairs = [(item, came.get(key)) for key, item in recorded.items()]
    elif isinstance(recorded, list) and isinstance(came, list):
        pairs = list(zip(recorded, came, strict=False))
    else:
        pairs = []
        if all(isinstance(one, str) and _CHANGING[1].fullmatch(one) for one in (recorded, came)):
            return {recorded: came}
    return {name: value for pair in pairs for name, value in changed(*pair).items()}
