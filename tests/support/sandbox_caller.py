"""Raw calls to a gateway over HTTP, without the product's gateway client, to test the responses."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from evergreen_groups.sandbox.database import FLAGS, idl_classes

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Caller:
    """Calls a gateway, logged in as the account that a call names."""

    def __init__(self, url: str, password: str = "sandbox") -> None:
        self.address = urlsplit(url).netloc
        self._password = password
        self._tokens: dict[str, str] = {}

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, bytes]:
        """Send a request over a new connection; returns status, content type and body."""
        connection = HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body, {**FORM, **headers})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type") or "", answer.read()
        finally:
            connection.close()

    def form(self, service: str, method: str, *texts: str, **fields: str) -> bytes:
        pairs = [("service", service), ("method", method), *(("param", text) for text in texts), *fields.items()]
        return urlencode(pairs, quote_via=quote).encode()

    def body(self, service: str, method: str, *values: Any, **fields: str) -> dict[str, Any]:
        """Return the whole response to a call with these parameters."""
        form = self.form(service, method, *map(json.dumps, values), **fields)
        status, _, answer = self.send("POST", "/osrf-gateway-v1", form)
        assert status == 200
        found: dict[str, Any] = json.loads(answer)
        return found

    def token(self, account: str) -> str:
        if account not in self._tokens:
            who = "barcode" if account.isdigit() else "username"
            kind = "opac" if account.isdigit() else "staff"
            login = {who: account, "password": self._password, "type": kind}
            (event,) = self.body("open-ils.auth", "open-ils.auth.login", login)["payload"]
            assert event["textcode"] == "SUCCESS"
            self._tokens[account] = event["payload"]["authtoken"]
        return self._tokens[account]

    def pcrud(self, account: str, method: str, *values: Any) -> dict[str, Any]:
        """Return the whole response of open-ils.pcrud to an account."""
        return self.body("open-ils.pcrud", f"open-ils.pcrud.{method}", self.token(account), *values)

    def ids(self, account: str, class_id: str, where: Any, options: Any = None) -> list[int]:
        """Return the ids that a search finds, in order."""
        answer = self.pcrud(account, f"id_list.{class_id}.atomic", where, options or {"order_by": {class_id: "id"}})
        assert answer["status"] == 200, answer
        (found,) = answer["payload"]
        return found

    def refused(self, account: str, class_id: str, where: Any, options: Any = None) -> bool:
        return self.pcrud(account, f"search.{class_id}.atomic", where, options)["status"] == 500


def actor(caller: Caller, account: str | None, name: str, *values: Any) -> Any:
    """Return the only result of a call to open-ils.actor, or None; with no account, it has no session."""
    token = [] if account is None else [caller.token(account)]
    answer = caller.body("open-ils.actor", f"open-ils.actor.{name}", *token, *values)
    assert answer["status"] == 200, answer
    return answer["payload"][0] if answer["payload"] else None


def opened(wire: Any) -> dict[str, Any]:
    parsed = idl_classes().parse_object(wire)
    assert parsed is not None, wire
    return parsed[1]


def closed(class_id: str, values: Mapping[str, Any] = MappingProxyType({}), **more: Any) -> dict[str, Any]:
    """Return an object of the class as clients send it, with null for the other fields."""
    given = {**values, **more}
    names = [*(item.name for item in idl_classes()[class_id].fields), *FLAGS]
    return {"__c": class_id, "__p": [given.get(name) for name in names]}
