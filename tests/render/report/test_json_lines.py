"""JSON lines: what the report is about, then each group, as they stand in the JSON document."""

from __future__ import annotations

import io
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from support.detailed_reports import detailed
from support.report_samples import (
    blocked_report,
    changed_report,
    empty_report,
    member,
    report_of,
    report_with_limits,
    sample_report,
)
from support.schemas import strict

from evergreen_groups.groups import Group
from evergreen_groups.render.report import render
from evergreen_groups.report import Report


def schema(name: str) -> Any:
    return strict(json.loads(resources.files("evergreen_groups.render.report").joinpath(name).read_text("utf-8")))


LINES = schema("report_lines.schema.json")
DOCUMENT: Resource[Any] = Resource.from_contents(schema("report.schema.json"))
VALIDATOR = jsonschema.Draft202012Validator(
    LINES, registry=Registry().with_resource("urn:evergreen-groups:report:1", DOCUMENT)
)


def written(report: Report, format: str, *, details: bool = True) -> str:
    stream = io.StringIO(newline="")
    render(report, format, stream, details=details)
    return stream.getvalue()


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize(
    "report",
    [
        sample_report(),
        changed_report(),
        blocked_report(),
        empty_report(),
        report_with_limits(),
        detailed(),
    ],
)
def test_lines_say_what_the_document_says(report: Report, details: bool) -> None:
    text = written(report, "jsonl", details=details)
    assert text.endswith("\n")
    about, *groups = map(json.loads, text.splitlines())
    for line in (about, *groups):
        VALIDATOR.validate(line)
    document = json.loads(written(report, "json", details=details))
    assert groups == document.pop("groups")
    assert {**about, "schema": document["schema"]} == document
    assert about["schema"] == "evergreen-groups/report-lines/1"


def test_line_breaks_and_halves_of_pairs_in_names_make_no_line() -> None:
    name = "Smith\n\u2028\u2029\x85\ud83d"
    about, group = written(report_of([Group(1, (member(1, name, "30.00"),))]), "jsonl").rstrip("\n").split("\n")
    assert json.loads(about)["totals"]["group_count"] == 1
    assert json.loads(group)["lead"]["name"] == name.replace("\ud83d", "\ufffd")
