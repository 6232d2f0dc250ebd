"""The large population: reproducible even after interruptions, with the documented distribution."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from evergreen_groups.errors import DiskError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.data import Contents
from evergreen_groups.sandbox.data.dataset import LARGE
from evergreen_groups.sandbox.data.population import FirstNumbers, batches
from evergreen_groups.sandbox.database import Store
from evergreen_groups.sandbox.database import schema as fresh_file

PATRONS = 20_000
LISTED = """
    SELECT d.usrgroup, count(*), total FROM au d JOIN
      (SELECT usrgroup, sum(balance_owed) AS total FROM mbts JOIN au ON au.id = mbts.usr
        WHERE xact_finish IS NULL AND NOT au.deleted GROUP BY usrgroup) USING (usrgroup)
     WHERE d.id > 100000 AND NOT d.deleted AND total >= 2500 GROUP BY d.usrgroup HAVING count(*) > 1
"""
OWING = "SELECT balance_owed FROM mous WHERE usr > 100000 AND balance_owed > 0"
GAPS = "SELECT id - lag(id) OVER (ORDER BY id) AS gap FROM au WHERE id > 100000"
SPANS = "SELECT max(id) - min(id) AS span FROM au WHERE id > 100000 GROUP BY usrgroup"
BLOCKED = "SELECT usr FROM ausp WHERE standing_penalty = 1 AND stop_date IS NULL"
OVER = "SELECT usr FROM mous WHERE balance_owed > 500"
BORROWED = "SELECT count(*) FROM au JOIN aua ON aua.id = au.mailing_address JOIN au o ON o.id = aua.usr"
BILLABLE = "SELECT id FROM mg UNION ALL SELECT id FROM circ"


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with Sandbox(patrons=PATRONS) as running:
        yield running._store.read()


def number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


@pytest.mark.long
@pytest.mark.parametrize(
    ("statement", "least", "most"),
    [
        ("SELECT count(*) FROM au WHERE id > 100000", PATRONS, PATRONS),
        ("SELECT count(DISTINCT barcode) FROM ac WHERE id > 100000", PATRONS, PATRONS),
        ("SELECT count(*) FROM au WHERE usrname = 'consortium_staff'", 1, 1),
        ("SELECT count(DISTINCT home_ou) FROM au WHERE id > 100000 AND home_ou IN (11, 12, 21, 22, 23)", 5, 5),
        # A quarter owes, with a long tail.
        (f"SELECT count(*) FROM ({OWING})", 0.22 * PATRONS, 0.28 * PATRONS),
        (f"SELECT count(*) FROM ({OWING}) WHERE balance_owed < 1000", 0.12 * PATRONS, 0.28 * PATRONS),
        ("SELECT max(balance_owed) FROM mous WHERE usr > 100000", 20_000, 1_000_000),
        ("SELECT count(*) FROM mous WHERE balance_owed < 0", 1, PATRONS),
        ("SELECT count(*) FROM mbts WHERE xact_finish IS NOT NULL", 100, PATRONS),
        # Ids have gaps, also within families.
        (f"SELECT count(*) FROM ({GAPS}) WHERE gap > 1", 10, PATRONS / 100),
        (f"SELECT max(gap) FROM ({GAPS})", 1_000, 1_000_000),
        (f"SELECT count(*) FROM ({SPANS}) WHERE span > 1000", 100, PATRONS),
        # The audit has something to find.
        (f"SELECT count(*) FROM ({OVER}) WHERE usr NOT IN ({BLOCKED})", 20, 200),
        (f"SELECT count(*) FROM ({BLOCKED}) WHERE usr NOT IN ({OVER})", 5, 60),
        ("SELECT count(*) FROM ausp WHERE stop_date IS NOT NULL", 20, PATRONS),
        (f"{BORROWED} WHERE o.usrgroup <> au.usrgroup", 1, PATRONS),
        (f"{BORROWED} WHERE o.id <> au.id AND o.usrgroup = au.usrgroup", 500, PATRONS),
        ("SELECT count(*) FROM au WHERE id > 100000 AND deleted", PATRONS / 100, PATRONS),
        *(
            (f"SELECT count({column}) FROM au WHERE id > 100000", 0.05 * PATRONS, 0.9 * PATRONS)
            for column in ("day_phone", "email", "mailing_address", "dob")
        ),
        # Rows fit together.
        ("SELECT count(*) FROM mbts WHERE balance_owed <> total_owed - total_paid", 0, 0),
        (f"SELECT (SELECT count(*) FROM ({BILLABLE})) - (SELECT count(*) FROM mbts)", 0, 0),
        (f"SELECT count(*) FROM mbts WHERE id NOT IN ({BILLABLE}) OR usr NOT IN (SELECT id FROM au)", 0, 0),
        ("SELECT count(*) FROM au WHERE mailing_address NOT IN (SELECT id FROM aua)", 0, 0),
    ],
)
def test_there_are_so_many(connection: sqlite3.Connection, statement: str, least: float, most: float) -> None:
    assert least <= number(connection, statement) <= most


@pytest.mark.long
def test_most_are_alone_others_in_families_of_two_to_eight_or_a_giant_group(connection: sqlite3.Connection) -> None:
    sizes = Counter(
        size for (size,) in connection.execute("SELECT count(*) FROM au WHERE id > 100000 GROUP BY usrgroup")
    )
    giants = [size for size in sizes if size > 8]
    assert giants == [400]
    assert sizes[1] == round((PATRONS - 400) * 0.6)
    assert set(sizes) == {1, 2, 3, 4, 5, 6, 7, 8, *giants}
    assert sizes[2] > sizes[3] > sizes[5] > sizes[8] > 0


@pytest.mark.long
def test_the_default_number_of_groups_is_listed_and_some_owe_much(connection: sqlite3.Connection) -> None:
    totals = [total for _, _, total in connection.execute(LISTED)]
    assert len(totals) == round(PATRONS * 0.02125)
    assert 0.15 < sum(total >= 10_000 for total in totals) / len(totals) < 0.35


@pytest.mark.parametrize("listed", [0, 100])
def test_the_requested_number_of_groups_is_listed(listed: int) -> None:
    with Sandbox(patrons=2_500, listed_groups=listed) as running:
        assert len(running._store.read().execute(LISTED).fetchall()) == listed


def test_more_listed_groups_than_families_are_rejected() -> None:
    with pytest.raises(ValueError, match="too many listed groups"):
        Sandbox(patrons=2_500, listed_groups=101)


@pytest.mark.parametrize("patrons", [1, 9_999, 10_001, 200_000, 3_000_000])
def test_batches_sum_up_and_their_ids_never_overlap(patrons: int) -> None:
    listed = patrons // 50
    cut = list(batches(patrons, listed, FirstNumbers(100_001, 1_000_001, 1)))
    assert sum(batch.patrons for batch in cut) == patrons
    assert sum(batch.listed for batch in cut) == listed
    assert all(0 <= batch.listed <= batch.patrons / 12 for batch in cut)
    starts = [batch.first.patron for batch in cut]
    assert all(after - before >= 3 * max(batch.patrons for batch in cut) for before, after in pairwise(starts))


def test_listed_giants_have_the_same_size_in_any_population() -> None:
    def giants(patrons: int) -> list[int]:
        cut = batches(patrons, 4_250, FirstNumbers(1, 1, 1))
        return [batch.giant for batch in cut if batch.giant_listed]

    assert giants(200_000) == giants(3_000_000) == [400, 150]


def everything(store: Store) -> list[object]:
    return [store.rows(class_id) for class_id in ("au", "ac", "aua", "mbts", "mg", "circ", "ausp")]


def test_the_same_size_gives_the_same_people() -> None:
    def made() -> list[object]:
        with Sandbox(patrons=500) as running:
            return everything(running._store)

    assert made() == made()


@pytest.mark.long
def test_an_interrupted_run_continues_and_makes_the_same_file(tmp_path: Path) -> None:
    contents = Contents(None, PATRONS)
    interrupted, whole = tmp_path / "interrupted.db", tmp_path / "whole.db"
    done: list[int] = []

    def stop(step: int, _steps: int) -> None:
        done.append(step)
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh_file.make(interrupted, contents, stop, lasting=True)
    assert not interrupted.exists()
    again: list[int] = []
    # like another process, which knows nothing of the first
    fresh_file.make(interrupted, Contents(None, PATRONS), lambda step, _steps: again.append(step), lasting=True)
    assert (done, again) == ([0, 1, 2], [2, 3])
    fresh_file.make(whole, contents, lasting=True)
    dumps = []
    for path in (interrupted, whole):
        connection = sqlite3.connect(path)
        dumps.append(list(connection.iterdump()))
        connection.close()
    assert dumps[0] == dumps[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["interrupted.db", "whole.db"]


def test_a_partial_file_with_other_contents_is_discarded(tmp_path: Path) -> None:
    def stop(step: int, _steps: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    path = tmp_path / "sandbox.db"
    with pytest.raises(KeyboardInterrupt):
        fresh_file.make(path, Contents(None, 300), stop, lasting=True)
    fresh_file.make(path, Contents(None, 200), lasting=True)
    connection = sqlite3.connect(path)
    assert number(connection, "SELECT count(*) FROM au WHERE id > 100000") == 200
    connection.close()


def test_two_processes_cannot_make_the_same_file(tmp_path: Path) -> None:
    def another(step: int, _steps: int) -> None:
        if step == 1:
            with pytest.raises(DiskError, match="database is locked"):
                Sandbox(patrons=200, prepared=tmp_path)

    with Sandbox(patrons=200, prepared=tmp_path, report=another) as sandbox:
        assert sandbox.barcodes


def test_sandboxes_that_share_a_prepared_file_can_write_and_reset(tmp_path: Path) -> None:
    with Sandbox(patrons=200, prepared=tmp_path) as one:
        (file,) = tmp_path.glob("*.db")
        as_made = file.read_bytes()
        with Sandbox(patrons=200, prepared=tmp_path, report=lambda *_: pytest.fail("made twice")) as other:
            before = everything(other._store)
            one._store.update("au", 100_001, {"usrgroup": 4711})
            other._store.update("au", 100_001, {"usrgroup": 4712})
            assert [store.rows("au", {"id": 100_001})[0]["usrgroup"] for store in (one._store, other._store)] == [
                4711,
                4712,
            ]
            other.reset()
            assert everything(other._store) == before
    assert file.read_bytes() == as_made
    assert list(tmp_path.iterdir()) == [file]


def test_files_of_an_earlier_release_are_removed(tmp_path: Path) -> None:
    former = [tmp_path / name for name in ("sandbox-200-4-0123456789abcdef.db", "sandbox-2000-42-0123456789abcdef.db")]
    for path in former:
        path.touch()
    with Sandbox(patrons=200, prepared=tmp_path):
        assert [path.exists() for path in former] == [False, True]


@pytest.mark.long
def test_a_large_population_has_ten_systems_with_sixty_branches_and_accounts() -> None:
    with Sandbox(patrons=LARGE, listed_groups=200) as running:
        connection = running._store.read()
        kinds = dict(connection.execute("SELECT ou_type, count(*) FROM aou GROUP BY ou_type"))
        assert (kinds[2], kinds[3]) == (10, 60)
        homes = number(connection, "SELECT count(DISTINCT home_ou) FROM au WHERE id > 100000")
        assert homes == 61
        assert {"consortium_staff", "north_manager", "harbor_desk", "eastshore_manager", "clover_desk"} <= set(
            running.accounts
        )
        assert running.report_account[0] == "consortium_staff"


def test_new_ids_follow_the_population() -> None:
    with Sandbox(patrons=500) as running:
        store = running._store
        (highest,) = store.read().execute("SELECT max(usrgroup) FROM au").fetchone()
        assert store.next_value("actor.usr_usrgroup_seq") == highest + 1
        (highest,) = store.read().execute("SELECT max(id) FROM mbts").fetchone()
        assert store.next_value("money.billable_xact_id_seq") == highest + 1
        assert store.password(100_001) == "sandbox"
