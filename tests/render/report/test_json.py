"""JSON: follows its schema, key by key, as a document and as lines, laid out as Python's encoder does it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import report_samples as samples
from support.documents import strict
from support.rendered import written

from evergreen_groups.groups import Group
from evergreen_groups.policy import Limit
from evergreen_groups.render.report.json import json_schema, text
from evergreen_groups.report import Changes, Criteria, Report


def printed(name: str) -> Any:
    return json.loads(resources.files("evergreen_groups.render.report").joinpath(name).read_text("utf-8"))


SCHEMA, LINES_SCHEMA = json_schema(), json_schema(lines=True)
VALIDATOR = jsonschema.Draft202012Validator(strict(SCHEMA))
LINES = jsonschema.Draft202012Validator(strict(LINES_SCHEMA))
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()


def document(report: Report, *, details: bool = True) -> Any:
    return json.loads(written(report, "json", details=details))


@pytest.mark.parametrize(
    ("schema", "file"), [(SCHEMA, "report.schema.json"), (LINES_SCHEMA, "report_lines.schema.json")]
)
def test_the_published_schema_is_made_from_the_columns(schema: Any, file: str) -> None:
    """``nox -s docs`` writes it."""
    jsonschema.Draft202012Validator.check_schema(schema)
    assert printed(file) == schema


def test_a_consumer_who_validates_survives_new_keys() -> None:
    assert "additionalProperties" not in json.dumps([SCHEMA, LINES_SCHEMA])
    shown = document(samples.detailed())
    for one in (shown, shown["totals"], shown["groups"][0], shown["groups"][0]["members"][0]):
        one["new_key"] = "new"
    jsonschema.validate(shown, SCHEMA)
    for line in (shown["groups"][0], {**shown, "schema": "evergreen-groups/report-lines/1"}):
        jsonschema.validate(line, LINES_SCHEMA)


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize(
    "report",
    [
        samples.sample_report(),
        samples.changed_report(),
        samples.blocked_report(),
        samples.empty_report(),
        samples.report_with_limits(),
        samples.report_of((), criteria=Criteria(limit=Limit(None))),
        samples.detailed(),
    ],
)
def test_follows_the_schema_and_lines_say_the_same(report: Report, details: bool) -> None:
    shown = document(report, details=details)
    VALIDATOR.validate(shown)
    lines = written(report, "jsonl", details=details)
    assert lines.endswith("\n")
    about, *groups = map(json.loads, lines.splitlines())
    for line in (about, *groups):
        LINES.validate(line)
    assert groups == shown.pop("groups")
    assert {**about, "schema": shown["schema"]} == shown
    assert about["schema"] == "evergreen-groups/report-lines/1"


def test_keys_in_their_order() -> None:
    shown = document(samples.sample_report())
    keys = "schema generated_at gateway criteria totals notes left_out_count changes groups"
    assert list(shown) == keys.split()
    assert shown["schema"] == "evergreen-groups/report/1"
    assert shown["generated_at"] == samples.GENERATED_AT.isoformat()
    assert shown["criteria"] == {
        "min_total": "25.00",
        "min_members": 2,
        "orgs": ["SYS1", "BM1"],
        "top": 5,
        "sort": "total",
        "limit": {"amount": "5.00", "comparison": "exceeds"},
        "choice": {},
        "details": "full",
    }


def test_groups_and_totals() -> None:
    shown = document(samples.sample_report())
    group, unknown = shown["groups"][2], shown["groups"][4]
    assert group["members"][1]["blocked_in_evergreen"] is None, "not read"
    assert (group["members"][1]["own_fines"], group["members"][1]["over_limit"]) == ("9.99", True)
    assert group["lead"] == {"id": 1511, "name": "O'Malley, Síle", "barcode": "29999000001511", "group_lead": True}
    assert [group[key] for key in ("group", "library", "member_count", "complete")] == [2240, "BR2", 4, False]
    assert (group["owing_count"], group["owing_count_at_least"]) == (None, 2)
    assert (group["highest_own_fines"], group["highest_own_fines_at_least"]) == (None, "12.00")
    assert (group["over_limit_count"], group["over_limit_count_at_least"]) == (None, 2)
    assert [group[key] for key in ("group_fines", "hidden_member_count", "hidden_fines")] == ["28.39", 2, "6.40"]
    assert (unknown["hidden_fines"], unknown["group_fines"]) == (None, None)
    totals = shown["totals"]
    assert (totals["group_count"], totals["member_count"], totals["incomplete_group_count"]) == (5, 19, 2)
    assert (totals["group_fines"], totals["owing_count"], totals["owing_count_at_least"]) == (None, None, 13)
    # Each incomplete group has a visible member over the limit.
    assert (totals["groups_no_member_over_limit"], totals["groups_no_member_over_limit_at_least"]) == (1, 1)
    assert (totals["blocked_in_evergreen_count"], totals["blocked_in_evergreen_count_at_least"]) == (None, 0)


def test_over_the_limit_and_blocked_in_evergreen_are_keys_of_their_own() -> None:
    shown = document(samples.blocked_report())
    members = {one["id"]: one for group in shown["groups"] for one in group["members"]}
    keys = ("over_limit", "blocked_in_evergreen", "difference")
    penalty = {"name": "PATRON_EXCEEDS_FINES", "org_unit": "CONS", "since": "2026-08-01T10:00:00+00:00"}
    assert [members[412][key] for key in keys] == [True, [{**penalty, "by_staff": False}], None]
    assert [members[413][key] for key in keys] == [True, [], "not-yet-blocked"]
    by_staff = {**penalty, "since": None, "by_staff": True}
    assert [members[977][key] for key in keys] == [False, [by_staff], "now-within-limit"]
    totals = shown["totals"]
    names = ("over_limit_count", "blocked_in_evergreen_count", "not_yet_blocked_count", "now_within_limit_count")
    assert [totals[name] for name in names] == [None] * 4  # groups are incomplete
    assert [totals[f"{name}_at_least"] for name in names] == [7, 2, 6, 1]


def test_each_member_has_the_limit_that_counts_for_them() -> None:
    shown = document(samples.report_with_limits())
    assert shown["criteria"]["limit"] is None
    assert [one["limit"] for one in shown["groups"][0]["members"]] == [
        {"amount": "5.00", "comparison": "exceeds"},
        {"amount": "2.00", "comparison": "reaches"},
        {"amount": None, "comparison": "exceeds"},
    ]


def test_changes() -> None:
    shown = document(samples.changed_report())
    changes = shown["changes"]
    assert changes["since"] == "2026-08-13T03:15:07-05:00"
    items = {"more_items": 0, "fewer_items": 0}
    assert changes["counts"] == {"new": 1, "worse": 1, "better": 1, **items, "unchanged": 2, "cleared": 2, "hidden": 0}
    assert (changes["difference"], changes["new_fines"], changes["cleared_difference"]) == (None, "29.00", None)
    first, second = changes["cleared"]
    assert (first["group"], first["library"], first["before"], first["certain"]) == (611, "BR1", "1260.10", True)
    assert (first["present"]["group"], first["present"]["group_fines"], second["present"]) == (612, "3.00", None)
    assert len(changes["trend"]) == 30
    assert (changes["trend"][-1]["group_count"], changes["trend"][-1]["group_fines"]) == (7, "1290.00")
    worse, *others = (group["change"] for group in shown["groups"])
    assert (worse["kind"], worse["before"], worse["difference"]) == ("worse", "1204.00", "85.35")
    assert (worse["formerly"], worse["joined_count"], worse["left_count"], worse["certain"]) == ([], 1, 0, True)
    assert [change["kind"] for change in others[:2]] == ["new", "better"]


def test_the_first_run_has_nothing_to_compare_with() -> None:
    shown = document(replace(samples.sample_report(), changes=Changes(None, {})))
    VALIDATOR.validate(shown)
    assert shown["changes"]["since"] is None
    assert shown["groups"][0]["change"] is None


def test_written_as_the_standard_library_would() -> None:
    for report in (samples.sample_report(), samples.changed_report(), samples.empty_report()):
        assert written(report, "json") == json.dumps(document(report), indent=2, ensure_ascii=False) + "\n"


@settings(deadline=None, max_examples=25)
@given(samples.hostile_reports(), st.booleans())
def test_hostile_names_read_back(report: Report, details: bool) -> None:
    shown = document(report, details=details)
    VALIDATOR.validate(shown)
    assert [group["lead"]["name"] for group in shown["groups"]] == [group.lead.name for group in report.groups]
    if details:
        names = [one["name"] for group in shown["groups"] for one in group["members"]]
        assert names == [one.name for group in report.groups for one in group.members]


def test_line_breaks_and_halves_of_pairs_in_names_make_no_line_and_no_error() -> None:
    name = "Smith\n\u2028\u2029\x85\ud83d"
    report = samples.report_of([Group(1, (samples.member(1, name, "30.00"),))])
    about, group = written(report, "jsonl").rstrip("\n").split("\n")
    assert json.loads(about)["totals"]["group_count"] == 1
    for shown in (json.loads(group), document(report)["groups"][0]):
        assert shown["lead"]["name"] == name.replace("\ud83d", "\ufffd")


def values(deeper: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(deeper, max_size=4)
    return several | several.map(tuple) | st.dictionaries(st.text(max_size=8), deeper, max_size=4)


@given(st.dictionaries(st.text(max_size=8), st.recursive(LEAVES, values)))
def test_is_what_python_writes(value: dict[str, Any]) -> None:
    assert text(value) == json.dumps(value, indent=2, ensure_ascii=False)
