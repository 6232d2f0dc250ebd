"""What groups owed in the recorded nights, across changes of their numbers, on each engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import delete, func, select
from support.report_samples import ORG_UNITS, member, report_of

from evergreen_groups.groups import Group
from evergreen_groups.report import Criteria, GroupNights, History, Report
from evergreen_groups.report.listings import NIGHTS
from evergreen_groups.state import State, schema
from evergreen_groups.values import ZERO

URL = "https://ils.example.org/osrf-gateway-v1"
FIRST = datetime(2026, 8, 1, 3, 15, tzinfo=UTC)


def group(number: int, owed: str, members: Iterable[int] = (), hidden: int = 0) -> Group:
    ids = list(members) or [number * 10, number * 10 + 1]
    found = [member(id, f"Secret{id}, Name", owed if place == 0 else "0.00") for place, id in enumerate(ids)]
    return Group(number, tuple(found), hidden, None if hidden else ZERO)


def run(state: State, night: int, *groups: Group, criteria: Criteria | None = None) -> None:
    report: Report = replace(report_of(groups, criteria=criteria), org_units=ORG_UNITS)
    with state.report_lease() as lease:
        History(lease, URL).record(replace(report, generated_at=FIRST + timedelta(days=night)))


def nights(state: State, number: int, *members: int, url: str = URL) -> list[tuple[int, str | None]]:
    found = GroupNights(state.database, url).of_group(number, members or (number * 10, number * 10 + 1))
    return [((night.at - FIRST).days, night.combined_fines and str(night.combined_fines)) for night in found]


def test_nothing_recorded_and_no_file_made(state: State) -> None:
    assert nights(state, 1) == []
    assert state.database.path is None or not state.directory.exists()


def test_a_group_by_its_number(state: State) -> None:
    run(state, 0, group(2, "90.00"))
    run(state, 1, group(1, "30.00"), group(2, "90.00"))
    run(state, 2, group(2, "91.00"))
    run(state, 3, group(1, "28.00"), group(2, "90.00"))
    assert nights(state, 1) == [(1, "30.00"), (2, None), (3, "28.00")]
    assert nights(state, 2) == [(0, "90.00"), (1, "90.00"), (2, "91.00"), (3, "90.00")]
    assert nights(state, 3) == []
    assert nights(state, 1, url="https://other.example.org/osrf-gateway-v1") == []


def test_a_number_that_changed(state: State) -> None:
    """The members moved together into a new group, between nights and again after the last night."""
    run(state, 0, group(1, "30.00", [10, 11, 12]))
    run(state, 1, group(7, "31.00", [10, 11, 12]))
    run(state, 2, group(7, "32.00", [10, 11, 12]))
    assert nights(state, 7, 10, 11, 12) == [(0, "30.00"), (1, "31.00"), (2, "32.00")]
    assert nights(state, 9, 10, 11) == [(0, "30.00"), (1, "31.00"), (2, "32.00")]
    assert nights(state, 9, 12) == [], "one who has left isn't the family"
    assert nights(state, 9, 1, 2) == [], "a part of an id is nobody's"


def test_groups_that_were_merged_owed_what_they_owed_together(state: State) -> None:
    run(state, 0, group(1, "30.00"), group(2, "25.00"))
    run(state, 1, group(2, "55.00", [20, 21, 10, 11]))
    assert nights(state, 2, 20, 21, 10, 11) == [(0, "55.00"), (1, "55.00")]


def test_a_number_that_others_have_now(state: State) -> None:
    """A group with a reused number doesn't show the fines of the number's former group."""
    run(state, 0, group(1, "99.00", [10, 11]))
    run(state, 1, group(1, "30.00", [50, 51]), group(3, "99.00", [10, 11]))
    assert nights(state, 1, 50, 51) == [(1, "30.00")]
    assert nights(state, 3, 10, 11) == [(0, "99.00"), (1, "99.00")]
    assert nights(state, 1, 70, 71) == [], "others again, since the last night"


def test_members_who_leave_a_group_start_a_new_history(state: State) -> None:
    run(state, 0, group(1, "99.00", [10, 11, 12]))
    run(state, 1, group(1, "60.00", [10, 11]), group(5, "39.00", [12, 13]))
    assert nights(state, 5, 12, 13) == [(1, "39.00")]


def test_of_several_reports_the_one_that_lists_it_most(state: State) -> None:
    few = Criteria(min_total=Decimal(50))
    run(state, 0, group(1, "30.00"))
    run(state, 1, group(1, "60.00"))
    run(state, 1, group(1, "60.00"), criteria=few)
    assert nights(state, 1) == [(0, "30.00"), (1, "60.00")]


def test_sums_that_miss_somebody_say_so(state: State) -> None:
    run(state, 0, group(1, "30.00", hidden=1))
    assert [night.certain for night in GroupNights(state.database, URL).of_group(1, [10, 11])] == [False]


def test_no_more_than_the_last_nights_are_kept(state: State) -> None:
    for night in range(NIGHTS + 3):
        run(state, night, group(1, f"{night + 30}.00"))
    found = nights(state, 1)
    assert (len(found), found[0], found[-1]) == (NIGHTS, (3, "33.00"), (NIGHTS + 2, f"{NIGHTS + 32}.00"))
    with state.database.writing() as connection:
        count = select(func.count()).select_from(schema.group_nights)
        assert connection.execute(count).scalar_one() == NIGHTS
        connection.execute(delete(schema.runs))
        assert connection.execute(count).scalar_one() == 0


def test_no_patron_is_in_it() -> None:
    assert {column.name for column in schema.group_nights.c} == {
        "run", "number", "combined_fines", "certain", "formerly",
    }  # fmt: skip
