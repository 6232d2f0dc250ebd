"""The list of a report's groups over HTTP: what is listed, for whom, in which order, and in parts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update
from support.description import check_answer
from support.desk_caller import Answer, DeskCaller, caller_of
from support.fault_proxy import FaultProxy
from support.follow_ups import note_run
from support.gateways import gateway_of
from support.web_caller import MakeApp, settings_of

from evergreen_groups.policy import Limit
from evergreen_groups.report import Criteria, Report, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings
from evergreen_groups.state import State, record_ids, schema


@pytest.fixture
def report(proxy: FaultProxy) -> Report:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        return build_report(gateway, Criteria(limit=Limit(), details=True))


@pytest.fixture
def desk(app: Flask, sandbox: Sandbox) -> DeskCaller:
    return caller_of(app, sandbox)


def ask(desk: DeskCaller, query: str = "") -> Answer:
    found = desk.send("GET", f"groups{query and '?'}{query}")
    check_answer("GET", "/api/v1/groups", found.status, found.body)
    return found


def numbers(desk: DeskCaller, query: str = "") -> list[int]:
    found = ask(desk, query)
    assert found.status == 200, found.body
    return [one["group"] for one in found.body["groups"]]


def test_without_a_recorded_run_the_answer_says_so(desk: DeskCaller) -> None:
    found = ask(desk)
    assert (found.status, found.code) == (404, "no-run")
    assert found.body["detail"].startswith("This report hasn't run yet. ")


def test_a_report_without_a_run_differs_from_none(make_app: MakeApp, sandbox: Sandbox) -> None:
    named = NamedReport(name="Children", report=ReportSettings())
    desk = caller_of(make_app(replace(settings_of(sandbox.url), reports=(named,))), sandbox)
    assert ask(desk, "report=children").code == "no-run"
    unknown = ask(desk, "report=nope")
    assert (unknown.status, unknown.code) == (404, "no-such-report")
    assert unknown.body["errors"] == [{"pointer": "#/report"}]


def test_lists_what_the_report_lists(desk: DeskCaller, state: State, report: Report) -> None:
    note_run(state, replace(report, groups=report.groups[1:], left_out=report.groups[:1]))
    found = ask(desk).body
    assert found["as_of"] == report.generated_at.isoformat()
    assert found["group_count"] == len(report.groups) - 1
    assert report.details is not None
    for one, group in zip(found["groups"], report.groups[1:], strict=True):
        band = report.details.age_band(group)
        assert one == {
            "group": group.number,
            "group_fines": None if group.group_fines is None else f"{group.group_fines:.2f}",
            "member_count": group.member_count,
            "members": sorted(member.id for member in group.members),
            "over_limit_count": group.over_limit_count.value,
            "over_limit_count_at_least": group.over_limit_count.at_least,
            "library": group.library,
            "libraries": sorted({member.library for member in group.members}),
            "age_band": band and band.text,
        }
    assert any(one["age_band"] for one in found["groups"])


def test_the_session_sees_the_groups_of_its_libraries(
    desk: DeskCaller, app: Flask, sandbox: Sandbox, state: State, report: Report
) -> None:
    note_run(state, report)
    at_harbor = {group.number for group in report.groups if any(member.library == "HARBOR" for member in group.members)}
    assert set(numbers(caller_of(app, sandbox, "harbor_desk"))) == at_harbor
    assert at_harbor < set(numbers(desk))


def test_filters(desk: DeskCaller, state: State, report: Report) -> None:
    note_run(state, report)
    groups = {group.number: group for group in report.groups}
    amounts = sorted(group.known_fines for group in report.groups)
    for least in (amounts[len(amounts) // 2], amounts[-1], amounts[-1] + Decimal("0.01")):
        assert set(numbers(desk, f"min_total={least}")) == {n for n, one in groups.items() if one.known_fines >= least}
    over = {number for number, one in groups.items() if one.over_limit_count.at_least}
    assert set(numbers(desk, "over_limit=true")) == over
    assert set(numbers(desk, "over_limit=false")) == {n for n, one in groups.items() if one.over_limit_count.value == 0}
    assert numbers(desk, "min_unreturned=1") == [], "the report isn't by items"
    bands = {one["age_band"] for one in ask(desk).body["groups"]} - {None}
    for band in bands:
        assert {one["age_band"] for one in ask(desk, f"age_band={band}").body["groups"]} == {band}
    assert set(numbers(desk, "library=LAKELAND")) == set(groups)
    north = {"NORTH", "HARBOR", "PINE"}
    in_the_north = {n for n, one in groups.items() if north & {member.library for member in one.members}}
    assert set(numbers(desk, "library=NORTH")) == in_the_north


def test_a_report_by_items_has_its_items(desk: DeskCaller, state: State, proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(min_overdue=1))
    note_run(state, report)
    assert report.items is not None
    counts = {}
    for group in report.groups:
        items = report.items.of_group(group).items
        counts[group.number] = items.overdue + items.lost
    found = {one["group"]: one["unreturned_at_least"] for one in ask(desk, "sort=unreturned").body["groups"]}
    assert found == counts
    assert list(found.values()) == sorted(counts.values(), reverse=True)
    most = max(counts.values())
    assert set(numbers(desk, f"min_unreturned={most}")) == {n for n, count in counts.items() if count == most}
    assert most > min(counts.values())


@pytest.mark.parametrize("sort", ["group_fines", "member_count", "over_limit_count", "group"])
def test_the_parts_of_the_list_are_the_list(desk: DeskCaller, state: State, report: Report, sort: str) -> None:
    note_run(state, report)
    whole = numbers(desk, f"sort={sort}")
    parts: list[int] = []
    query = f"sort={sort}&limit=2"
    following: str | None = ""
    while following is not None:
        answer = ask(desk, query + (following and f"&cursor={following}")).body
        parts += [one["group"] for one in answer["groups"]]
        following = answer["next"]
    assert parts == whole
    keys = {
        "group_fines": lambda group: -group.known_fines,
        "member_count": lambda group: -group.member_count,
        "over_limit_count": lambda group: -group.over_limit_count.at_least,
        "group": lambda group: group.number,
    }
    found = {group.number: group for group in report.groups}
    values = [keys[sort](found[number]) for number in whole]
    assert values == sorted(values)


def test_a_cursor_ends_with_its_run(desk: DeskCaller, state: State, report: Report) -> None:
    note_run(state, report)
    following = ask(desk, "limit=1").body["next"]
    note_run(state, report)
    found = ask(desk, f"cursor={following}")
    assert (found.status, found.code) == (410, "cursor-outdated")
    following = ask(desk, "limit=1").body["next"]
    with state.database.writing() as connection:  # as after a restore and another run with the same number
        connection.execute(update(schema.runs).values(suffix=record_ids.new_suffix()))
    assert ask(desk, f"cursor={following}").code == "cursor-outdated"


@pytest.mark.parametrize(
    ("query", "code", "pointer", "says"),
    [
        ("min_totl=25", "key-unknown", "#/min_totl", "min_total"),
        ("order=group", "key-unknown", "#/order", "sort"),
        ("min_total=25,00", "field-wrong", "#/min_total", "25.00"),
        ("min_unreturned=-1", "field-wrong", "#/min_unreturned", "whole number"),
        ("sort=fines", "field-wrong", "#/sort", "group_fines"),
        ("limit=0", "field-wrong", "#/limit", "1,000"),
        ("over_limit=perhaps", "field-wrong", "#/over_limit", "true or false"),
        ("age_band=30-59", "field-wrong", "#/age_band", "30 to 59"),
        ("cursor=x", "field-wrong", "#/cursor", "next"),
        ("library=NOWHERE", "library-unknown", "#/library", "short name"),
        ("limit=1&limit=2", "parameter-twice", None, "twice"),
    ],
)
def test_a_wrong_parameter_is_named(
    desk: DeskCaller, state: State, report: Report, query: str, code: str, pointer: str | None, says: str
) -> None:
    note_run(state, report)
    found = ask(desk, query)
    assert (found.status, found.code) == (400, code)
    assert says in found.body["detail"]
    assert [one["pointer"] for one in found.body.get("errors", [])] == ([pointer] if pointer else [])


def test_a_patron_by_barcode_is_the_patron_by_id(desk: DeskCaller) -> None:
    for name in ("summary", "group", "group/bills", "group/slip", "block"):
        by_id, by_barcode = (desk.send("GET", f"patrons/{one}/{name}") for one in (1015, "by-barcode/20000000001015"))
        assert by_id.status == by_barcode.status == 200
        assert by_id.body.keys() == by_barcode.body.keys()
        # They were read at different times.
        by_barcode.body.update({key: by_id.body[key] for key in {"as_of", "at"} & by_id.body.keys()})
        assert by_barcode.body == by_id.body
        assert desk.send("GET", f"patrons/by-barcode/29999999999999/{name}").status == 404


@pytest.mark.parametrize(
    ("body", "code", "pointer", "says"),
    [
        ({"action": "move", "patron": [], "target": "x"}, "key-unknown", "#/patron", "patrons"),
        ({"action": "move", "patrons": [{"idd": 3}]}, "key-unknown", "#/patrons/0/idd", "id"),
        ({"action": "mov"}, "field-wrong", "#/action", "recalculate"),
        ({"action": "move", "patrons": ["1"], "target": 2}, "field-wrong", "#/target", "target must be a barcode"),
        ({"action": "move", "patrons": ["1", " 2"]}, "field-wrong", "#/patrons/1", "barcode"),
        ({"action": "move", "20000000001015": 1}, "key-unknown", "#/20000000001015", "action"),
        ({"action": "move", "a/b~`": 1}, "key-unknown", "#/a~1b~0`", "action"),
    ],
)
def test_a_wrong_key_of_a_body_is_pointed_to(
    desk: DeskCaller, body: dict[str, Any], code: str, pointer: str, says: str
) -> None:
    found = desk.send("POST", "plans", body)
    assert (found.status, found.code) == (400, code)
    assert found.body["errors"] == [{"pointer": pointer}]
    assert says in found.body["detail"]
    assert "20000000001015" not in found.body["detail"]
