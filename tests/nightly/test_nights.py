"""Thirty nights in which fines, numbers and members change: each night's report says what changed, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from support.gateways import gateway_of
from support.town import LISTED_FROM, Town

from evergreen_groups.gateway import Gateway
from evergreen_groups.report import (
    ChangeKind,
    Changes,
    Criteria,
    History,
    Report,
    build_report,
    look_up_cleared,
)
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

NIGHTS = 30
CRITERIA = Criteria(min_total=LISTED_FROM)


@pytest.fixture
def town_sandbox() -> Iterator[Sandbox]:
    with Sandbox(patrons=300) as sandbox:
        yield sandbox


def tonight(gateway: Gateway, history: History) -> Report:
    report = build_report(gateway, CRITERIA)
    return look_up_cleared(gateway, replace(report, changes=history.compare(report)))


def check(report: Report, town: Town) -> Changes:
    changes = report.changes
    assert changes
    expected, fines, groups = town.expected(), town.fines, town.groups
    assert {number: change.before for number, change in changes.by_group.items()} == expected.before
    assert {change.group: change.before for change in changes.cleared} == expected.cleared
    for group in report.groups:
        change = changes.by_group[group.number]
        before = expected.before[group.number]
        assert change.after == group.combined_fines == fines[group.number]
        assert change.certain
        if before is None:
            assert change.kind is ChangeKind.NEW
        else:
            kinds = {1: ChangeKind.WORSE, 0: ChangeKind.UNCHANGED, -1: ChangeKind.BETTER}
            assert change.kind is kinds[int(group.combined_fines.compare(before))]
    for change in changes.cleared:
        if change.present is not None:
            assert change.present.group == town.current_numbers[change.group]
            assert change.present.combined_fines == fines[change.present.group]
            assert change.present.member_count == len(groups[change.present.group])
    assert changes.difference == report.totals.combined_fines - sum(town.listed.values())
    return changes


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_nights(town_sandbox: Sandbox, tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    town = Town(town_sandbox, chance)
    failing = set(chance.sample(range(5, NIGHTS - 5), 4))
    seen = dict.fromkeys(ChangeKind, 0)
    sums = []
    with gateway_of(town_sandbox.url, "consortium_staff") as gateway:
        for night in range(NIGHTS):
            town.a_day_of_fines()
            if night and night - 1 not in failing:
                town.a_day_of_moves()
            with State(tmp_path) as state:
                history = History(state.database, gateway.url)
                report = tonight(gateway, history)
                if night:
                    changes = check(report, town)
                    assert [totals.combined_fines for totals in changes.trend] == [*sums, report.totals.combined_fines]
                    for kind in ChangeKind:
                        seen[kind] += changes.count(kind)
                if night in failing:
                    continue  # it ends before it records anything
                history.record(report)
            town.recorded()
            sums.append(report.totals.combined_fines)
    assert seen.pop(ChangeKind.HIDDEN) == 0
    assert min(seen.values()) > 20, seen
