"""The effective writes to patrons in the sandbox, by the gateway's responses."""

import json
import threading
from dataclasses import dataclass
from typing import Any

from support.desk_caller import NEW_GROUP, UPDATE
from support.fault_proxy import Call, HttpAnswer

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.database import idl_classes


@dataclass(frozen=True)
class Write:
    """Who wrote (the session's token), to whom, which field (the API's name), and its new value."""

    token: str
    patron: int
    field: str
    value: int


class WriteLog:
    """Attach to a proxy's ``carried_out``. Safe to share between threads."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._places = idl_classes()["au"].positions
        self._now: dict[int, dict[str, int]] = {}
        self.writes: list[Write] = []
        self.without_effect: list[int] = []

    def watch(self, patrons: list[int]) -> None:
        """Start over with the current state of these patrons."""
        with self._lock:
            self.writes, self.without_effect, self._now = [], [], {}
            for patron in patrons:
                (row,) = self._sandbox._store.rows("au", {"id": patron})
                self._now[patron] = {"group": row["usrgroup"], "lead": int(row["master_account"] == "t")}

    def state(self) -> dict[int, dict[str, int]]:
        """The patrons' state after the writes."""
        with self._lock:
            return {patron: dict(fields) for patron, fields in self._now.items()}

    def carried_out(self, call: Call, answer: HttpAnswer) -> None:
        """Record what a request has changed."""
        if call.method not in (UPDATE, NEW_GROUP):
            return
        payload = json.loads(answer.body).get("payload") or [None]
        result: Any = payload[0]
        if isinstance(result, dict) and "textcode" in result:
            return
        with self._lock:
            if call.method == NEW_GROUP:
                if result is not None:
                    self._changed(call.parameters[0], int(call.parameters[1]), {"group": int(result)})
            elif isinstance(result, dict):
                values = result["__p"]
                lead = values[self._places["master_account"]] in ("t", 1, True)
                found = {"group": int(values[self._places["usrgroup"]]), "lead": int(lead)}
                self._changed(call.parameters[0], int(values[self._places["id"]]), found)

    def _changed(self, token: str, patron: int, found: dict[str, int]) -> None:
        now = self._now.setdefault(patron, {})
        changed = {field: value for field, value in found.items() if now.get(field) != value}
        if not changed:
            self.without_effect.append(patron)
        self.writes += [Write(token, patron, field, value) for field, value in changed.items()]
        now.update(found)
