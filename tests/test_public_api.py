"""The public Python API: one import, short reprs without patron data, and a help that reads well."""

import csv
import inspect
import json
import pydoc
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import evergreen_groups as eg
from evergreen_groups.changes.journal import Journal
from evergreen_groups.errors import ArgumentError
from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.state import State

HEAVY = ("lazy_loader", "requests", "lxml", "msgspec", "sqlalchemy", "click", "flask", "typing", "dataclasses")
GRACE, THOMAS = "20000000001036", "20000000001037"


def test_importing_loads_nothing_else() -> None:
    code = f"import sys, evergreen_groups; print(*set({HEAVY!r}).intersection(sys.modules))"
    # -S: site-packages may import anything by their .pth files.
    environ = {"PYTHONPATH": str(Path(eg.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_name_is_there() -> None:
    for name in dir(eg):
        assert getattr(eg, name) is not None
    with pytest.raises(AttributeError):
        eg.nothing  # type: ignore[attr-defined]  # noqa: B018


def classes() -> list[type]:
    return [value for value in (getattr(eg, name) for name in dir(eg)) if inspect.isclass(value)]


def test_signatures_and_help_show_nothing_private() -> None:
    for value in classes():
        assert not [name for name in inspect.signature(value).parameters if name.startswith("_")], value
        shown = pydoc.render_doc(value, renderer=pydoc.plaintext)
        assert "cached_property object" not in shown
    assert len(pydoc.render_doc(eg, renderer=pydoc.plaintext).splitlines()) < 100
    assert " at 0x" not in pydoc.render_doc(eg.Plan, renderer=pydoc.plaintext)
    assert len(pydoc.render_doc(eg.Client.move, renderer=pydoc.plaintext).splitlines()) < 30


def parts(value: Any, depth: int = 0) -> list[Any]:
    """Return a record and the records in it."""
    found = [value]
    if depth < 5 and is_dataclass(value):
        for each in fields(value):
            inside = getattr(value, each.name)
            for one in inside if isinstance(inside, tuple) else (inside,):
                found += parts(one, depth + 1) if type(one) in classes() else []
    return found


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with (
        eg.Sandbox() as sandbox,
        eg.connect(sandbox.url, username="consortium_staff", password="sandbox", state=tmp_path) as client,
    ):
        yield client


def test_reprs_are_short_and_name_no_patron(client: eg.Client) -> None:
    group, plan = client.group(GRACE), client.move([GRACE], to="20000000001001")
    outcome = plan.apply()
    reports = (client.report(min_total=20), client.audit(), client.changes.entries()[0])
    records = [
        client,
        client.gateway,
        plan,
        eg.Criteria(),
        eg.Limit(),
        *client.gateway.pcrud.search("au", {"id": 1036}),
    ]
    records += [one for record in (group, plan.draft, outcome, client.check(GRACE), *reports) for one in parts(record)]
    names = {text for member in group.members for text in (member.name, member.patron.family_name, member.barcode)}
    assert len(records) > 50
    for record in records:
        assert len(repr(record)) <= 120, repr(record)
        assert not [text for text in names if text and text in repr(record)], repr(record)
    assert repr(group).startswith("<GroupSummary number=1009 3 members ")
    assert repr(plan) == "<Plan to move: 1 steps, 3 warnings>"


def test_rows_are_the_columns_of_the_csv_with_types(client: eg.Client) -> None:
    report = client.report(min_total=20)
    rows, lines = report.rows(), list(csv.DictReader(StringIO(report.to_csv(), newline="")))
    assert len(rows) == len(lines) == sum(len(group.members) for group in report.groups)
    assert list(rows[0]) == list(lines[0])
    first, line = rows[0], lines[0]
    assert (first["group"], first["group_fines"]) == (report.groups[0].number, report.groups[0].group_fines)
    assert (line["group"], line["group_fines"]) == (str(first["group"]), str(first["group_fines"]))
    assert [row["first_of_group"] for row in rows].count(True) == len(report.groups)
    assert {type(row["member_over_limit"]) for row in rows} == {bool}
    assert json.loads(report.to_json())["groups"][0]["group"] == first["group"]


def test_a_group_and_an_audit_have_rows_too(client: eg.Client) -> None:
    group = client.group(GRACE)
    assert [row["member_id"] for row in group.rows()] == [member.id for member in group.members]
    (of_report,) = (one for one in client.report(min_total="0.01").groups if one.number == group.number)
    assert set(group.rows()[0]) < set(client.report(min_total="0.01").rows()[0])
    assert [row["member_own_fines"] for row in of_report.rows()] == [member.own_fines for member in of_report.members]
    assert group.rows()[0]["member_blocked_in_evergreen"] is not None
    assert group.to_csv().splitlines()[0] == ",".join(group.rows()[0])
    assert json.loads(group.to_json()) == eg.hooks.as_json(group)
    audit = client.audit()
    lines = list(csv.DictReader(StringIO(audit.to_csv(), newline="")))
    assert [row["kind"] for row in audit.rows()] == [line["kind"] for line in lines]
    assert list(audit.rows()[0]) == list(lines[0])
    assert json.loads(audit.to_json())["people"]


def test_as_json_of_a_report_names_what_to_use(client: eg.Client) -> None:
    report: Any = client.report()
    with pytest.raises(ArgumentError, match=r"Report has to_json\(\) and rows\(\)"):
        eg.hooks.as_json(report)


def test_a_plan_prints_what_will_happen_and_an_outcome_can_be_undone(client: eg.Client) -> None:
    plan = client.move([THOMAS], to="20000000001001")
    assert str(plan).startswith("Move to another group: 1 change")
    assert "Whitfield" in str(plan)
    assert client.group(THOMAS).number == 1009  # nothing has been changed yet
    outcome = plan.apply()
    assert client.group(THOMAS).number == 1001
    assert outcome.done
    assert str(outcome) == "1 of 1 done"
    assert outcome.entry == client.changes.entries()[0].id
    undone = outcome.undo()
    assert undone.done
    assert client.group(THOMAS).number == 1009
    assert undone.entry != outcome.entry
    with pytest.raises(eg.errors.PlanError, match="already undone"):
        outcome.undo()
    with pytest.raises(eg.errors.PlanError, match="there is nothing to do"):
        client.move([THOMAS], to=GRACE).apply().undo()


def test_a_closed_client_changes_nothing_and_leaves_the_journal_closed(client: eg.Client) -> None:
    plan = client.remove([THOMAS])
    client.close()
    client.close()
    for use in (plan.apply, lambda: client.changes.entries(), lambda: client.group(THOMAS)):
        with pytest.raises(eg.errors.UnreachableError) as caught:
            use()  # type: ignore[operator]
        assert caught.value.code == "gateway-closed"
    with State(client.state.directory) as state:
        assert Journal(state.database).entries(client.gateway.url) == []


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("patron", lambda client: client.group(1.5)),
        ("file", lambda client: client.batch(3)),
        ("timeout", lambda client: client.remove([THOMAS]).apply(timeout=-1)),
        ("username", lambda client: eg.connect(client.gateway.url, username=3, password="x")),  # type: ignore[arg-type]
        ("select", lambda client: client.gateway.pcrud.search("au", {"id": 1}, select="id")),
    ],
)
def test_errors_name_the_argument(client: eg.Client, name: str, call: Callable[[eg.Client], object]) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(client)
    assert caught.value.values["name"] == name


def test_a_plan_without_patrons_says_what_is_missing(client: eg.Client) -> None:
    with pytest.raises(eg.errors.PlanError, match="`patrons` is missing: name"):
        client.move([], to=GRACE)


def test_groups_by_barcode_id_and_number(client: eg.Client) -> None:
    found = (client.group(GRACE), client.group(" 2 0000 00000 1036"), client.group(1036), client.group(number=1009))
    assert {group.number for group in found} == {1009}
    assert {group.group_fines for group in found} == {Decimal("24.99")}
    assert client.check(GRACE) == client.check(1036)


def test_a_recalculation_is_a_plan_too(client: eg.Client) -> None:
    plan = client.recalculate(["20000000001030"])
    assert [step.patron_id for step in plan.steps] == [1030]
    outcome = plan.apply()
    assert outcome.done
    with pytest.raises(eg.errors.PlanError, match="can't be undone"):
        outcome.undo()


@pytest.mark.parametrize("amount", [25, "25", "25.00", Decimal(25)])
def test_amounts(client: eg.Client, amount: Any) -> None:
    report = client.report(min_total=amount, libraries=["LAKELAND"])
    assert report.criteria.min_total == Decimal("25.00")
    assert report.groups


@pytest.mark.parametrize(
    ("asked", "found"),
    [({}, "25.00"), ({"min_overdue": 1}, "0.00"), ({"min_lost": 1, "min_total": 30}, "30.00")],
)
def test_money_is_not_asked_for_with_items_unless_given(client: eg.Client, asked: Any, found: str) -> None:
    assert client.report(**asked).criteria.min_total == Decimal(found)


@pytest.mark.parametrize(
    ("amount", "reason"), [(25.0, "because a float can't hold"), ("25,00", "another text"), ("1.005", "another text")]
)
def test_amounts_that_are_refused(client: eg.Client, amount: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        client.report(min_total=amount)


def test_configuration_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with eg.Sandbox() as sandbox:
        file = tmp_path / "config.toml"
        file.write_text(f'[gateway]\nurl = "{sandbox.url}"\nusername = "consortium_staff"\n[policy]\nlimit = 20.00\n')
        monkeypatch.setenv("EVERGREEN_GROUPS_PASSWORD", "sandbox")
        with eg.connect(config=file, state=tmp_path) as client:
            assert client.check("20000000001015").limit.amount == Decimal("20.00")
        monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(file))
        with eg.connect(state=tmp_path) as client:
            assert client.group(GRACE).number == 1009
        url, who = sandbox.url, {"username": "consortium_staff", "password": "sandbox"}
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"url": url}, "a URL without username and password"),
            ({"url": url, "limit": 5}, "a URL without username and password"),
            ({"url": url, "username": "me"}, "a URL without password"),
            ({"url": url, **who, "config": file}, "a URL with config"),
            (who, "username and password without a URL"),
            ({"limit": 0}, "limit without a URL"),
            ({"workstation": "BR1-1"}, "workstation without a URL"),
        ]
        for options, given in wrong:
            with pytest.raises(ArgumentError, match=f"connect takes a URL with username and password.* not {given}$"):
                eg.connect(**options)
        with eg.connect(
            sandbox.url, username="consortium_staff", password="sandbox", limit=20, state=tmp_path
        ) as client:
            assert not client.check("20000000001015").over_limit


def test_the_gateway_alone() -> None:
    with eg.Sandbox() as sandbox:
        with eg.gateway.connect(sandbox.url, username="consortium_staff", password="sandbox") as gateway:
            (patron,) = gateway.pcrud.search("au", {"id": 1036})
            assert patron.family_name == "Whitfield"
        with pytest.raises(ArgumentError):
            eg.gateway.connect(sandbox.url, username="consortium_staff")


@pytest.mark.parametrize(
    ("class_id", "where", "order_by", "says"),
    [
        ("circ", {"duedate": None}, None, "did you mean due_date"),
        ("circ", {"id": [70202, 70203]}, "checkintime", "did you mean checkin_time"),
        ("circulation", {"id": 1}, None, "no class circulation"),
        ("au", {THOMAS: "barcode"}, None, "names of fields of au, not another text"),
    ],
)
def test_the_gateway_names_what_does_not_exist(
    class_id: str, where: dict[str, Any], order_by: str | None, says: str
) -> None:
    with (
        eg.Sandbox() as sandbox,
        eg.Gateway(
            sandbox.url,
            credentials=eg.Credentials(username="consortium_staff", password="sandbox"),
            retries=RetryPolicy(tries=1),
        ) as gateway,
        pytest.raises(eg.EvergreenGroupsError, match=says) as caught,
    ):
        gateway.pcrud.search(class_id, where, order_by=order_by)
    assert THOMAS not in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 suggests names only at the top level")
def test_a_record_suggests_a_name(client: eg.Client) -> None:
    (patron,) = client.gateway.pcrud.search("au", {"id": 1036})
    assert "family_name" in dir(patron)
    with pytest.raises(AttributeError) as caught:
        patron.familyname  # noqa: B018
    assert "Did you mean: 'family_name'?" in "".join(traceback.format_exception(caught.value))
