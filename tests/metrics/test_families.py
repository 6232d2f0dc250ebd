"""The metrics: each that is declared is shown, each that is shown is declared, and the pages speak of no other."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from support.repository import REPOSITORY

from evergreen_groups.metrics import FAMILIES

ALERTS = yaml.safe_load((REPOSITORY / "config" / "prometheus" / "evergreen-groups.yml").read_text("utf-8"))
DASHBOARD = json.loads((REPOSITORY / "config" / "grafana" / "evergreen-groups.json").read_text("utf-8"))
OF_THE_PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
SERIES = {
    f"{family.name}{ending}"
    for family in FAMILIES
    for ending in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
}
"""The names under which there are samples."""


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def rules() -> list[dict[str, str]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def named_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:evergreen_groups|process)_\w+", query))


def test_names_are_as_prometheus_wants_them() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"evergreen_groups_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.help.endswith(".")


@pytest.mark.parametrize("query", queries())
def test_a_panel_asks_for_what_there_is(query: str) -> None:
    assert named_in(query)
    assert named_in(query) <= SERIES | OF_THE_PROCESS
    labels = {label for family in FAMILIES for label in family.labels} | {"job", "instance", "le"}
    assert set(re.findall(r"(\w+)(?:=~|!=|=)\"", query)) <= labels


def test_every_metric_of_interest_is_on_the_dashboard() -> None:
    shown = set().union(*map(named_in, queries()))
    missing = {family.name for family in FAMILIES if not {f"{family.name}{end}" for end in ("", "_bucket")} & shown}
    # That of the last report written says more than either.
    assert missing == {"evergreen_groups_report_timestamp_seconds", "evergreen_groups_last_run_timestamp_seconds"}


def test_alerts_are_about_what_there_is() -> None:
    assert len(rules()) >= 8
    for rule in rules():
        assert named_in(rule["expr"]) <= SERIES, rule["alert"]
        assert rule["annotations"]["summary"]  # type: ignore[index]
