"""Moves of one family over an unreliable network, and what staff do to the same patrons meanwhile."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.change_ids import change_id
from support.fault_proxy import Call, Fault, FaultProxy

from evergreen_groups.changes import JournalStep
from evergreen_groups.client import Client, Plan
from evergreen_groups.gateway import TOKEN, Gateway, Record, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state.database import Database

UPDATE, NEW_GROUP = "open-ils.actor.patron.update", "open-ils.actor.usergroup.new"
RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
QUICK = RetryPolicy(tries=2, first_delay=0.001, longest_delay=0.01)
PATRON, CARD, ANOTHER, ANOTHERS_CARD = 1052, "20000000001052", 1053, "20000000001053"
"""Two members of the group ``HOME``."""
HOME, OTHER, OTHERS, OTHERS_CARD = 1015, 1002, 1007, "20000000001007"
"""The patrons' group, another group, and a member of that."""
EMPTY: dict[str, object] = {"payload": [], "status": 200}
BROKEN = 500, "osrfMethodException :  *** Call to [x] failed"


def event(textcode: str, **fields: object) -> dict[str, object]:
    """Return an event, which Evergreen sends in place of a result."""
    return {"ilsevent": "5000", "textcode": textcode, "desc": "as it comes", **fields}


def lacking(permission: str, org_unit: int = 11) -> dict[str, object]:
    return event("PERM_FAILURE", ilsperm=permission, ilspermloc=org_unit)


def record_of(admin: Gateway, patron: int = PATRON) -> Record:
    record = admin.pcrud.retrieve("au", patron)
    assert record is not None
    return record


def write_as_staff(admin: Gateway, patron: int = PATRON, **fields: object) -> None:
    """Change a patron as staff do in the staff client."""
    changed = record_of(admin, patron).replace(passwd=None, **fields).to_wire(changed=True)
    admin.call("open-ils.actor", UPDATE, TOKEN, changed, write=True)


def value_of(sandbox: Sandbox, patron: int = PATRON, field: str = "usrgroup") -> int:
    """Return a field in the ILS as the journal stores it."""
    (row,) = sandbox._store.rows("au", {"id": patron})
    return int({"t": 1, "f": 0}.get(row[field], row[field]))


def plan_with(method: str, client: Client) -> Plan:
    """Plan a move or a removal, depending on which ``method`` makes it."""
    return client.move([CARD], to=OTHERS_CARD) if method == UPDATE else client.remove([CARD])


def only_step(client: Client, number: int = 1) -> JournalStep:
    (step,) = client.changes.entry(change_id(client.changes, number)).steps
    return step


def later(monkeypatch: pytest.MonkeyPatch, **time: float) -> None:
    """Shift the clock of the changes relative to the ILS's; by half an hour, no request can land any more."""
    monkeypatch.setattr(Database, "now", lambda _: datetime.now(UTC) + timedelta(**time or {"minutes": 30}))


def only(method: str, fault: Fault) -> Callable[[Call], Fault]:
    return lambda call: fault if call.method == method else Fault.NONE


def cut_off_at(proxy: FaultProxy, method: str, fault: Fault = Fault.DROP_ANSWER, *, at: int = 1) -> None:
    """Let a fault happen to a request for ``method``, by default the first, and lose all later requests."""

    def decide(call: Call) -> Fault:
        count = proxy.seen.count(method)
        if count < at:
            return Fault.NONE
        return fault if call.method == method and count == at else Fault.DROP_REQUEST

    proxy.decide = decide
