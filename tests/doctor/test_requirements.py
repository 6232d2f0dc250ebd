"""The doctor checks exactly the calls that the jobs make: run the jobs and record their calls."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.circulators import make_stock_circulator
from support.desk_caller import DeskCaller
from support.fault_proxy import Call, fault_proxy
from support.gateways import client_of, gateway_of
from support.states import state_in
from support.web_caller import API, PASSWORD, bearer, session, settings_of
from support.web_caller import client_of as web_client_of

from evergreen_groups import hooks
from evergreen_groups.audit import AuditCriteria
from evergreen_groups.changes import over_limit_of, recalculable
from evergreen_groups.client import Client
from evergreen_groups.doctor.interface import FIELDS, METHODS
from evergreen_groups.errors import NotFoundError
from evergreen_groups.policy import LimitRule
from evergreen_groups.report import Criteria
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings, ServeSettings
from evergreen_groups.web import PREFIX, close, create_app


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """Return every call of every job, for an account that sees all patrons and for one that doesn't."""
    tmp_path = tmp_path_factory.mktemp("state")
    with Sandbox() as sandbox:
        return _calls(sandbox, tmp_path)


def _calls(sandbox: Sandbox, tmp_path: Path) -> list[Call]:
    # A threshold for only some libraries, so that the place of a fine matters.
    sandbox._store.insert("pgpt", {"org_unit": 2, "grp": 1, "penalty": 1, "threshold": "5.00"})
    seen: list[Call] = []
    with fault_proxy(sandbox.url) as proxy:
        proxy.before_answer = seen.append
        for account in ("consortium_staff", "north_manager"):
            with gateway_of(proxy.url, account) as gateway:
                by_ils = Client(gateway, account=account, policy=PolicySettings(limit="ils"), state=state_in(tmp_path))
                _read(by_ils)
                _read(Client(gateway, account=account, policy=BY_PROFILE, state=state_in(tmp_path)))
                _serve(proxy.url, gateway.token, tmp_path)
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            # An empty answer makes the change read back who else is in the group.
            proxy.garble = lambda call: {"payload": [], "status": 200} if call.method == NEW_GROUP else None
            _change(client_of(gateway, tmp_path))
        clerk = session(proxy.url, username="harbor_desk", workstation="HARBOR-desk1")
        _change_at_the_desk(proxy.url, clerk, tmp_path)
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            refused = client_of(gateway, tmp_path).move(["20000000001052"], to="20000000001001").apply()
            assert not refused.done
        _look_at_items_elsewhere(proxy.url, sandbox, tmp_path)
    seen += _calls_where_reads_are_behind(tmp_path)
    return seen


def _calls_where_reads_are_behind(tmp_path: Path) -> list[Call]:
    seen: list[Call] = []
    with Sandbox(differences=["replica"]) as sandbox, fault_proxy(sandbox.url) as proxy:
        proxy.before_answer = seen.append
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            client = client_of(gateway, tmp_path)
            hooks.patron_summary(client, 1026)
            hooks.block_decision(client, 1001)
            with pytest.raises(NotFoundError):
                hooks.block_decision_by_barcode(client, "99999999")
    return seen


def _look_at_items_elsewhere(url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Look at items elsewhere: circulations that the account can't see are requested patron by patron."""
    account = make_stock_circulator(sandbox)
    lent = sandbox._store.rows("circ", {"usr": OUT, "checkin_time": None})[0]
    sandbox._store.update("circ", lent["id"], {"circ_lib": ELSEWHERE})
    with gateway_of(url, account) as gateway:
        client_of(gateway, tmp_path).details.of_user(OUT)


VERSION = "opensrf.open-ils.system.ils_version"
DELETED = 1031
OUT, ELSEWHERE = 1015, 21
NEW_GROUP = "open-ils.actor.usergroup.new"
BY_PROFILE = PolicySettings(limits=(LimitRule("Child", "HARBOR", Decimal("2.00"), None),))


def _read(client: Client) -> None:
    client.report(Criteria(min_total=Decimal("20.00"), orgs=("NORTH",)))
    client.details.of_group(1010)
    client.checks.of_user(1007, all_members=True)
    client.audit(AuditCriteria())
    client.explanations.of_user(1026)
    hooks.patron_summary(client, 1026)
    hooks.group_summary(client, 1006)
    hooks.block_decision(client, 1001)
    hooks.block_decision_by_barcode(client, "20000000001001")


def _serve(url: str, token: str, directory: Path) -> None:
    """Make the web service's requests for a user, including the report and the health check."""
    (directory / "report.html").write_text("the report")
    app = create_app(settings_of(url, serve=ServeSettings(report=directory / "report.html")), {"HOME": str(directory)})
    caller = web_client_of(app)
    assert caller.get(f"{API}/patrons/1026/summary", headers=bearer(token)).status_code == 200
    assert caller.get(f"{PREFIX}/reports/latest", headers=bearer(token)).status_code in (200, 403)
    assert caller.get(f"{PREFIX}/healthz").status_code == 200
    close(app)


def _change_at_the_desk(url: str, token: str, directory: Path) -> None:
    """Make a change as a clerk at a workstation, with a supervisor's approval."""
    app = create_app(settings_of(url), {"HOME": str(directory), "STATE_DIRECTORY": str(directory / "desk")})
    desk = DeskCaller(web_client_of(app), token)
    plan, supervisor = desk.planned("move", 1053, target=1001), {"username": "north_manager", "password": PASSWORD}
    made = desk.apply(plan, approval=supervisor)
    assert made.body["done"]
    assert desk.undo(made.body["id"]).status == 200
    assert desk.send("GET", "changes").status == 200
    close(app)


def _change(client: Client) -> None:
    client.move(["20000000001052"], to="20000000001007").apply()
    client.remove(["20000000001052"], lead=True).apply()
    client.changes.recover()
    client.changes.recalculate(over_limit_of(recalculable(client.audit(AuditCriteria()))))
    for number, patron in enumerate((1007, DELETED), 1):
        hooks.handle_event(client, hooks.Event(number, "au.updated", patron), recalculate=True)


@pytest.mark.long
def test_every_method_that_is_called_is_asked_for_and_the_other_way_round(calls: list[Call]) -> None:
    # Every job asks for the release first; the doctor reports it separately, not among METHODS.
    called = {(call.service, call.method) for call in calls if call.method not in ("", VERSION)}
    listed = {(method.service, method.name) for method in METHODS}
    assert called == listed


@pytest.mark.long
def test_every_field_that_is_selected_is_asked_for(calls: list[Call]) -> None:
    selected = {
        (class_id, name)
        for call in calls
        if ".search." in call.method
        for class_id, names in call.parameters[2].get("select", {}).items()
        for name in names
    }
    compared = {pair for call in calls if ".search." in call.method for pair in _compared(call)}
    listed = {(class_id, name) for class_id, names in FIELDS.items() for name in names}
    assert selected
    assert selected - listed == set()
    assert compared - listed == set()
    assert ("au", "usrgroup") in compared


def _compared(call: Call) -> Iterator[tuple[str, str]]:
    """Yield the fields of the searched class in a condition, without fields of subqueries, which use aliases."""
    class_id = call.method.split(".")[3]
    yield from ((class_id, name) for name in _names(call.parameters[1]))


def _names(condition: Any) -> Iterator[str]:
    for key, value in condition.items():
        if key in ("-and", "-or"):
            for part in value if isinstance(value, list) else [value]:
                yield from _names(part)
        elif not key.startswith(("-", "+")):
            yield key
