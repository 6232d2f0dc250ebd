"""A clerk who plans and makes changes through the API, over any transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from support.web_caller import API, bearer, client_of, session

from evergreen_groups.sandbox import Sandbox

UPDATE = "open-ils.actor.patron.update"
NEW_GROUP = "open-ils.actor.usergroup.new"
WRITES = (UPDATE, NEW_GROUP, "open-ils.actor.user.penalties.update_at_home")

_numbers = count(1)


@dataclass
class Answer:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        return str(self.body["code"])

    @property
    def states(self) -> list[str]:
        return [step["state"] for step in self.body["steps"]]


class DeskCaller:
    """Calls the API with one session, through an app's test client. ``sandbox`` is set by :func:`caller_of`."""

    sandbox: Sandbox

    def __init__(self, client: FlaskClient, token: str, **headers: str) -> None:
        self._client = client
        self.headers = {**bearer(token), **headers}

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        more = {} if body is None else {"json": body}
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = self._client.open(f"{API}/{path}", method=method, headers=sent, **more)
        return Answer(answer.status_code, answer.get_json(force=True), dict(answer.headers))

    def plan(self, action: str, *patrons: int | str, **more: object) -> Answer:
        return self.send("POST", "plans", plan_body(action, *patrons, **more))

    def planned(self, action: str, *patrons: int | str, **more: object) -> str:
        """Make a plan that must be possible, and return its id."""
        answer = self.plan(action, *patrons, **more)
        assert answer.status == 201, answer.body
        return str(answer.body["id"])

    def apply(self, plan: str, key: str | None = None, **more: object) -> Answer:
        return self.send("POST", "changes", {"plan": plan, **more}, Idempotency_Key=key or new_key())

    def change(self, id: str) -> Answer:
        return self.send("GET", f"changes/{id}")

    def undo(self, id: str, key: str | None = None) -> Answer:
        return self.send("POST", f"changes/{id}/undo", Idempotency_Key=key or new_key())

    def colleague(self, account: str, **login: Any) -> DeskCaller:
        """Return a caller of the same service with a new session."""
        return caller_of(self._client.application, self.sandbox, account, **login)

    def group_of(self, patron: int) -> int:
        return group_of(self.sandbox, patron)


def caller_of(app: Flask, sandbox: Sandbox, account: str = "consortium_staff", **login: Any) -> DeskCaller:
    """Return a caller with a new session."""
    caller = DeskCaller(client_of(app), session(sandbox.url, username=account, **login))
    caller.sandbox = sandbox
    return caller


def plan_body(action: str, *patrons: int | str, target: int | str | None = None, **more: object) -> dict[str, object]:
    body: dict[str, object] = {"action": action, **more}
    if patrons:
        body["patrons"] = [_reference(patron) for patron in patrons]
    if target is not None:
        body["target"] = _reference(target)
    return body


def _reference(patron: int | str) -> object:
    return {"id": patron} if isinstance(patron, int) else patron


def new_key() -> str:
    return f"key-{next(_numbers)}"


def group_of(sandbox: Sandbox, patron: int) -> int:
    return int(sandbox._store.rows("au", {"id": patron})[0]["usrgroup"])


def leads(sandbox: Sandbox, patron: int) -> bool:
    return bool(sandbox._store.rows("au", {"id": patron})[0]["master_account"] == "t")
