"""The history, on each engine: atomic, without names, bounded, and a one-line error when unusable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import delete, func, select, text
from support.report_samples import ORG_UNITS, large_report, member, report_of, sample_report

from evergreen_groups.errors import StateError
from evergreen_groups.groups import Group
from evergreen_groups.policy import Limit
from evergreen_groups.report import ChangeKind, Changes, Criteria, GroupNights, History, Report
from evergreen_groups.report.history import TREND, Run, incomplete_since
from evergreen_groups.report.history import compare as compare_runs
from evergreen_groups.report.listings import NIGHTS
from evergreen_groups.state import State, prune, schema
from evergreen_groups.values import ZERO

URL = "https://ils.example.org/osrf-gateway-v1"
TONIGHT = datetime(2026, 8, 14, 3, 15, 7, 250_000, tzinfo=UTC)


def group(number: int, owed: str, members: Iterable[int] = (), hidden: int = 0) -> Group:
    ids = list(members) or [number * 10, number * 10 + 1]
    found = [member(id, f"Secret{id}, Name", owed if place == 0 else "0.00") for place, id in enumerate(ids)]
    return Group(number, tuple(found), hidden, None if hidden else ZERO)


def report(*groups: str | Group, night: int = 0, criteria: Criteria | None = None) -> Report:
    """Return a report this many nights after the first. Of groups 1, 2, …, their fines are enough."""
    found = report_of(
        [one if isinstance(one, Group) else group(number, one) for number, one in enumerate(groups, 1)],
        criteria=criteria,
    )
    return replace(found, generated_at=TONIGHT + timedelta(days=night), org_units=ORG_UNITS)


def record(state: State, *reports: Report, url: str = URL, keep_days: int = 400) -> None:
    for one in reports:
        with state.report_lease() as lease:
            History(lease, url).record(one)
            prune(lease, {"history": keep_days, "journal": 730, "events": 90, "follow-ups": 400}, one.generated_at)


def compare(state: State, one: Report, url: str = URL) -> Changes:
    return History(state.database, url).compare(one)


def kinds(found: Changes) -> dict[int, ChangeKind]:
    return {number: change.kind for number, change in found.by_group.items()}


def rows(state: State, table: str) -> int:
    with state.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.metadata.tables[table])).scalar_one())


def test_the_first_run_compares_with_nothing_and_makes_no_file(state: State) -> None:
    found = compare(state, report("30.00"))
    assert not found.compared
    assert state.database.path is None or not state.directory.exists()
    assert [(totals.group_count, totals.group_fines) for totals in found.trend] == [(1, Decimal("30.00"))]


def test_what_was_recorded_is_compared_with(state: State) -> None:
    record(state, report("30.00", "40.00", "50.00"))
    found = compare(state, report("30.00", "40.01", night=1))
    assert found.since == TONIGHT
    assert kinds(found) == {1: ChangeKind.UNCHANGED, 2: ChangeKind.WORSE}
    assert [(change.group, change.before, change.library) for change in found.cleared] == [(3, Decimal("50.00"), "BR1")]
    assert found.cleared[0].members == {30, 31}


def test_everything_about_a_group_survives(state: State) -> None:
    """A report compared with itself is unchanged, incomplete groups included."""
    record(state, sample_report())
    found = compare(state, sample_report())
    assert set(kinds(found).values()) == {ChangeKind.UNCHANGED}
    assert [group for group, change in found.by_group.items() if not change.certain] == [31007]
    counts = {group: (change.joined_count, change.left_count) for group, change in found.by_group.items()}
    assert counts == {**dict.fromkeys((1187, 902, 85), (0, 0)), **dict.fromkeys((2240, 31007), (None, None))}


def test_whether_the_last_runs_show_everything(state: State) -> None:
    hidden, earlier = report(group(1, "30.00", hidden=1)), report("30.00", criteria=Criteria(min_members=3))
    record(state, earlier, hidden)
    assert incomplete_since(state.database, TONIGHT)
    assert not incomplete_since(state.database, TONIGHT + timedelta(seconds=1))
    record(state, report("30.00", night=1))
    assert not incomplete_since(state.database, TONIGHT)


def test_hidden_libraries_are_remembered(state: State) -> None:
    record(state, replace(report(), hidden_libraries=frozenset({"BR1"})))
    [change] = compare(state, report("30.00", night=1)).by_group.values()
    assert (change.kind, change.certain) == (ChangeKind.NEW, False)


def test_comparing_records_nothing(state: State) -> None:
    record(state, report("30.00"))
    for _ in range(2):
        assert compare(state, report("35.00", night=1)).since == TONIGHT
    assert rows(state, "runs") == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("criteria", "same"),
    [
        (Criteria(top=1), True),
        (Criteria(sort="name"), True),
        (Criteria(limit=Limit(None)), True),
        (Criteria(min_total=Decimal("25")), True),
        (Criteria(min_total=Decimal("20.00")), False),
        (Criteria(min_members=3), False),
        (Criteria(orgs=("BR1",)), False),
        (Criteria(min_overdue=3), False),
        (Criteria(min_lost=1), False),
    ],
)
def test_what_is_listed_decides_on_the_series(state: State, criteria: Criteria, same: bool) -> None:
    record(state, report("30.00", criteria=Criteria(min_total=Decimal("25.00"))))
    assert compare(state, report("30.00", criteria=criteria)).compared == same


def test_org_units_are_the_same_in_whatever_order_and_case(state: State) -> None:
    record(state, report("30.00", criteria=Criteria(orgs=("BR1", "br2"))))
    assert compare(state, report("30.00", criteria=Criteria(orgs=("BR2", "Br1", "BR1")))).compared


def test_gateways_have_series_of_their_own(state: State) -> None:
    record(state, report("30.00"))
    assert not compare(state, report("30.00"), url="https://other.example.org/osrf-gateway-v1").compared


def test_trend_is_of_the_last_thirty_runs_the_oldest_first(state: State) -> None:
    record(state, *[report(f"{100 + night}.00", night=night) for night in range(35)])
    trend = compare(state, report("200.00", night=35)).trend
    assert len(trend) == TREND
    assert [totals.group_fines for totals in trend] == [*map(Decimal, range(106, 135)), Decimal("200.00")]
    assert trend[0].at == TONIGHT + timedelta(days=6)
    assert (trend[-1].group_count, trend[-1].member_count) == (1, 2)


def test_trend_of_an_org_unit_has_zeros_where_it_had_no_groups(state: State) -> None:
    record(state, report("30.00"), report(night=1))
    found = compare(state, report("40.00", night=2))
    for name in ("CONS", "SYS", "BR1"):
        assert [str(totals.group_fines) for totals in found.library_trends[name]] == ["30.00", "0.00", "40.00"]
    assert "BR2" not in found.library_trends
    part = found.restricted([1], {"BR1"}, "SYS")
    assert part.trend == found.library_trends["SYS"]
    assert found.restricted([1], {"BR1", "BR2"}).trend == ()


def test_totals_count_the_groups_that_top_leaves_out(state: State) -> None:
    whole = report("30.00", "40.00")
    record(state, replace(whole, groups=whole.groups[:1], left_out=whole.groups[1:], left_out_count=1))
    found = compare(state, report("30.00", "40.00", night=1))
    assert kinds(found) == {1: ChangeKind.UNCHANGED, 2: ChangeKind.UNCHANGED}
    assert found.trend[0].group_fines == Decimal("70.00")


def test_old_runs_are_forgotten_those_of_other_settings_too(state: State) -> None:
    record(state, report("30.00", criteria=Criteria(min_members=3)))
    record(state, *[report("30.00", night=night) for night in range(1, 12)], keep_days=5)
    assert rows(state, "runs") == 6
    assert rows(state, "series") == 1
    assert len(compare(state, report("30.00", night=12)).trend) == 7


def test_a_run_after_a_long_pause_still_has_one_to_compare_with(state: State) -> None:
    record(state, report("30.00"))
    assert compare(state, report("31.00", night=900)).since == TONIGHT
    record(state, report("31.00", night=900))
    assert kinds(compare(state, report("31.00", night=901))) == {1: ChangeKind.UNCHANGED}


def test_a_clock_that_was_set_back_does_not_change_which_run_was_the_last(state: State) -> None:
    record(state, report("30.00", night=9), report("31.00", night=1))
    found = compare(state, report("31.00", night=2))
    assert found.since == TONIGHT + timedelta(days=1)
    assert kinds(found) == {1: ChangeKind.UNCHANGED}
    assert [str(totals.group_fines) for totals in found.trend] == ["30.00", "31.00", "31.00"]


def test_groups_are_kept_of_the_last_run_alone(state: State) -> None:
    record(state, *[report("30.00", "40.00", night=night) for night in range(3)])
    assert rows(state, "run_groups") == 2
    assert rows(state, "runs") == 3


def test_without_names(state: State) -> None:
    record(state, report("30.00"))
    with state.database.reading() as connection:
        rows = [connection.execute(table.select()).all() for table in schema.metadata.sorted_tables]
    assert "[10, 11]" in str(rows)
    assert "Secret" not in str(rows)
    assert "29999" not in str(rows)


@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
@pytest.mark.long
def test_stays_small(state: State) -> None:
    large = large_report()
    record(state, *[replace(large, generated_at=TONIGHT + timedelta(days=night)) for night in range(3)])
    assert state.database.path is not None
    assert state.database.path.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("run_groups", "combined_fines", "'many'"),
        ("run_groups", "members", "'[1'"),
        ("run_groups", "members", "7"),
        ("retention", "believed_at", "'2026-13-45'"),
    ],
)
@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
def test_values_that_were_never_written(state: State, table: str, column: str, value: str) -> None:
    """SQLite only: PostgreSQL rejects invalid values."""
    record(state, report("30.00"))
    with state.database.writing() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = {value}"))
    with pytest.raises(StateError, match="is damaged; restore a backup") as caught:
        (compare if table == "run_groups" else record)(state, report("31.00", night=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
def test_it_can_be_compared_with_while_another_run_records(state: State) -> None:
    record(state, report("30.00"))
    with closing(sqlite3.connect(str(state.database.path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM runs")
        assert compare(state, report("31.00", night=1)).since == TONIGHT


@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
def test_a_full_disk_leaves_the_last_run_as_it_was(state: State) -> None:
    record(state, report("30.00"))
    with state.database.reading() as connection:
        connection.execute(text("PRAGMA max_page_count=45"))
    with pytest.raises(StateError, match=r"disk is full.*free up disk space"):
        record(state, replace(large_report(2000), generated_at=TONIGHT + timedelta(days=1)))
    assert kinds(compare(state, report("35.00", night=2))) == {1: ChangeKind.WORSE}
    assert (rows(state, "runs"), rows(state, "run_groups")) == (1, 1)


def run(state: State, night: int, *groups: Group, criteria: Criteria | None = None) -> None:
    record(state, report(*groups, night=night, criteria=criteria))


def nights(state: State, number: int, *members: int, url: str = URL) -> list[tuple[int, str | None]]:
    found = GroupNights(state.database, url).of_group(number, members or (number * 10, number * 10 + 1))
    return [((night.at - TONIGHT).days, night.group_fines and str(night.group_fines)) for night in found]


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


@pytest.mark.parametrize(
    ("owed", "items", "kind"),
    [
        (("0.00", "0.00"), (2, 3), ChangeKind.MORE_ITEMS),
        (("0.00", "0.00"), (3, 2), ChangeKind.FEWER_ITEMS),
        (("7.00", "7.00"), (2, 2), ChangeKind.UNCHANGED),
        (("7.00", "8.00"), (3, 2), ChangeKind.WORSE),
        (("8.00", "7.00"), (2, 3), ChangeKind.BETTER),
        (("7.00", "7.00"), (None, 3), ChangeKind.UNCHANGED),
        (("7.00", "7.00"), (2, None), ChangeKind.UNCHANGED),
    ],
)
def test_items_are_compared_where_fines_are_the_same(
    owed: tuple[str, str], items: tuple[int | None, int | None], kind: ChangeKind
) -> None:
    nights = [
        Run(TONIGHT + timedelta(night), {1: listing._replace(unreturned=items[night])}, listed_count=1)
        for night in (0, 1)
        for listing in [next(Run.of(report(owed[night])).listed)]
    ]
    assert compare_runs(*nights).by_group[1].kind is kind
