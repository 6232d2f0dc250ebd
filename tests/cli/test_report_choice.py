"""``evergreen-groups report``: which groups are listed, in which order, with how much detail; by option and by TOML."""

from __future__ import annotations

import json

from support.command import Command

LOST = {1003, 1008}


def listed(run: Command, *options: str) -> list[int]:
    answer = run("-q", "report", "--no-history", "--format", "json", *options)
    assert answer.returncode == 0, answer.stderr
    return [group["group"] for group in json.loads(answer.stdout)["groups"]]


def test_by_options(run: Command) -> None:
    assert set(listed(run, "--kind", "lost materials")) == LOST
    assert set(listed(run, "--within-limit", "--with-juvenile")) == {1001, 1002, 1005}
    assert listed(run, "--with-items-out", "--over-limit") == [1004]
    assert set(listed(run, "--profile", "Child", "--kind", "Lost materials", "--owing-since", "1")) == LOST
    assert listed(run, "--sort", "age") != listed(run)


def test_by_configuration_and_options_over_it(run: Command) -> None:
    run.config.write_text('[report]\nkinds = ["lost materials"]\nover_limit = "somebody"\nsort = "name"\n')
    assert set(listed(run)) == LOST
    assert listed(run, "--within-limit") == []
    assert listed(run, "--kind", "nothing like it") == []


def test_details(run: Command) -> None:
    for options, has_kinds, has_members in (
        ((), True, True),
        (("--details",), True, True),
        (("--details", "full"), True, True),
        (("--details", "sums"), False, True),
        (("--no-members",), True, False),
    ):
        answer = run("-q", "report", "--no-history", "--top", "1", "--format", "json", *options)
        (group,) = json.loads(answer.stdout)["groups"]
        assert ("kinds" in group, "members" in group) == (has_kinds, has_members), options
    run.config.write_text('[report]\ndetails = "sums"\n')
    answer = run("report", "--no-history", "--kind", "lost materials")
    assert answer.returncode == 3
    assert 'details = "full"' in answer.stderr
    assert set(listed(run, "--details", "full", "--kind", "lost materials")) == LOST
