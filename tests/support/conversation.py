"""Send recorded exchanges to a gateway again, and find where its responses differ from the recorded server's.

Allowed differences between two servers: session tokens, last_xact_id and times of writes, ``pid``, ``servertime``,
``stacktrace`` and ``debug`` of events, login activity, the order of rows without ORDER BY, and the number of decimal
places of money.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from decimal import Decimal
from http.client import HTTPConnection
from itertools import zip_longest
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from evergreen_groups.gateway.idl import Idl

Exchange = Mapping[str, Any]
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_GATEWAY = "/osrf-gateway-v1"
_UNLIKE = {"stacktrace", "servertime", "pid", "debug"}
_SLOW = 5.0  # seconds; the real service crashed or hung
_TOKEN = re.compile(r"\$TOKEN|[0-9a-f]{32}")
_MARK = re.compile(r"\d{9,10}\.\d+\.\d+")
_KINDS = {
    "a token": _TOKEN,
    "a mark": _MARK,
    "a time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"),
    "a date": re.compile(r"\d{4}-\d\d-\d\d"),
    "search words": re.compile(r"'.+':\d+(,\d+)*"),
}
_AMOUNT = re.compile(r"-?\d+\.\d+")


class Conversation:
    """Exchanges with one gateway, starting with fresh data; close it, or use it in a ``with`` statement."""

    def __init__(self, url: str, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        """``accounts`` are a dataset's ``staff_permissions``."""
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._accounts = {details.get("as", name): {"username": name, **details} for name, details in accounts.items()}
        self._tokens: dict[str, str] = {}
        self._instead: dict[str, str] = {}

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def reset(self) -> None:
        status, _, body = self._send("POST", "/sandbox/reset", [])
        assert status == 200, body
        self._tokens.clear()
        self._instead.clear()

    def difference(self, exchange: Exchange) -> str:
        """Return what is wrong with the gateway's response; empty if it is right."""
        form = [(name, self._live(value, exchange["as"])) for name, value in exchange["form"]]
        http, expected = exchange["http"], exchange["response"]
        status, content_type, body = self._send(http["method"], http.get("path", _GATEWAY), form)
        if status != expected["http_status"] or _kind(content_type) != _kind(expected["content_type"]):
            return f"HTTP {status}, {content_type}"
        if status != 200:
            return ""
        if _kind(content_type) != "text/plain":
            return "" if _shape(body) == _shape(expected["body"]) else "other XML"
        wanted, found = json.loads(expected["body"]), json.loads(body)
        self._remember(wanted["payload"], found["payload"])
        ordered = any(name == "param" and "order_by" in value for name, value in exchange["form"])
        return next(differences(_comparable(_outcome(wanted), ordered), _comparable(_outcome(found), ordered)), "")

    def _send(self, method: str, path: str, form: list[tuple[str, str]]) -> tuple[int, str, str]:
        data = urlencode(form, quote_via=quote)
        if method == "GET":
            self._connection.request(method, f"{path}?{data}")
        else:
            self._connection.request(method, path, data.encode(), _FORM)
        answer = self._connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read().decode()

    def _token(self, account: str) -> str:
        if account not in self._tokens:
            details = self._accounts[account]
            who = "barcode" if "barcode" in details else "username"
            login = {who: details[who], "password": details["password"], "type": details["type"]}
            form = [("service", "open-ils.auth"), ("method", "open-ils.auth.login"), ("param", json.dumps(login))]
            body = self._send("POST", _GATEWAY, form)[2]
            self._tokens[account] = json.loads(body)["payload"][0]["payload"]["authtoken"]
        return self._tokens[account]

    def _live(self, value: str, account: str | None) -> str:
        """Replace values from the recorded gateway in a parameter with those from this one."""
        if account is not None and "$TOKEN" in value:
            value = value.replace("$TOKEN", self._token(account))
        for recorded, live in self._instead.items():
            value = value.replace(recorded, live)
        return value

    def _remember(self, recorded: Any, live: Any) -> None:
        """Remember the tokens and last_xact_ids that later exchanges send back."""
        if isinstance(recorded, dict) and isinstance(live, dict):
            for name in recorded.keys() & live.keys():
                self._remember(recorded[name], live[name])
        elif isinstance(recorded, list) and isinstance(live, list):
            for one, other in zip(recorded, live, strict=False):
                self._remember(one, other)
        elif any(isinstance(recorded, str) and kind.fullmatch(recorded) for kind in (_TOKEN, _MARK)):
            self._instead[recorded] = str(live)


def can_be_sent_again(exchange: Exchange) -> bool:
    """Return whether another server can give the response: it isn't from a crash, random, or a whole IDL."""
    values = dict(map(tuple, exchange["form"]))
    answered = exchange["response"]["http_status"] is not None and exchange.get("elapsed_s", 0.0) < _SLOW
    whole_idl = values.get("class") is None and "fm_IDL" in exchange["http"].get("path", "")
    by_seed = ".authenticate." in values.get("method", "")
    return answered and not whole_idl and not by_seed and "timeout" not in values


def _outcome(answer: dict[str, Any]) -> dict[str, Any]:
    """Return how a call ended: its status, the name of the error, and the results before."""
    error = answer.get("debug", "").partition(" : ")[0]
    return {"status": answer["status"], "error": error, "payload": answer["payload"]}


def _kind(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip()


def _shape(text: str) -> Any:
    """Return an XML response without the order of hashes; of an IDL, the fields in order and their links."""
    if "<class" in text or "IDL/base" in text:
        idl = Idl.parse(text.encode())
        return {class_id: idl[class_id] for class_id in idl}
    return _element(ElementTree.fromstring(text))


def _element(node: ElementTree.Element) -> Any:
    if node.get("key") in _UNLIKE or node.tag.rpartition("}")[2] in _UNLIKE:
        return node.tag
    text = "a token" if _TOKEN.fullmatch(node.text or "") else (node.text or "").strip()
    return node.tag, sorted(node.attrib.items()), text, sorted(map(_element, node), key=repr)


def _comparable(value: Any, ordered: bool) -> Any:
    if isinstance(value, dict):
        if value.get("__c") == "auact":  # who logged in before
            return None
        if "__p" in value:
            fields = [_comparable(field, ordered) for field in value["__p"]]
            while fields and fields[-1] is None:
                fields.pop()
            return {"__c": value["__c"], "__p": fields}
        return {name: _comparable(inner, ordered) for name, inner in value.items() if name not in _UNLIKE}
    if isinstance(value, list):
        items = [item for item in (_comparable(inner, ordered) for inner in value) if item is not None or None in value]
        return items if ordered else sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, str):
        if _AMOUNT.fullmatch(value):
            return format(Decimal(value).normalize(), "f")
        return next((name for name, kind in _KINDS.items() if kind.fullmatch(value)), value)
    return value


def differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield where two JSON documents differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in [*wanted, *(name for name in found if name not in wanted)]:
            yield from differences(wanted.get(name), found.get(name), f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(found, list):
        for place, (one, other) in enumerate(zip_longest(wanted, found)):
            yield from differences(one, other, f"{where}[{place}]")
    elif wanted != found or type(wanted) is not type(found):
        yield f"{where}: {json.dumps(wanted)[:80]} expected, {json.dumps(found)[:80]} came"
