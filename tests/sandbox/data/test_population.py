"""The large population: always the same, with the spread that is promised."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator

import pytest

from evergreen_groups.sandbox import Sandbox

PATRONS = 20_000


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with Sandbox(patrons=PATRONS) as running:
        yield running._store.read()


@pytest.mark.long
def test_as_many_as_asked_for_on_top_of_the_families(connection: sqlite3.Connection) -> None:
    (count,) = connection.execute("SELECT count(*) FROM au WHERE id > 100000").fetchone()
    (cards,) = connection.execute("SELECT count(DISTINCT barcode) FROM ac WHERE id > 100000").fetchone()
    assert (count, cards) == (PATRONS, PATRONS)
    assert connection.execute("SELECT usrname FROM au WHERE id = 2").fetchone() == ("consortium_staff",)


def test_four_in_ten_are_alone_the_others_in_families_of_two_to_seven(connection: sqlite3.Connection) -> None:
    sizes = Counter(
        size for (size,) in connection.execute("SELECT count(*) FROM au WHERE id > 100000 GROUP BY usrgroup")
    )
    assert sizes[1] == round(PATRONS * 0.4)
    assert set(sizes) == {1, 2, 3, 4, 5, 6, 7}
    numbers = [row[0] for row in connection.execute("SELECT DISTINCT usrgroup FROM au WHERE id > 100000 ORDER BY 1")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_quarter_owes_with_a_long_tail(connection: sqlite3.Connection) -> None:
    owed = [
        row[0] for row in connection.execute("SELECT balance_owed FROM mous WHERE usr > 100000 AND balance_owed > 0")
    ]
    assert 0.24 < len(owed) / PATRONS < 0.26
    assert sorted(owed)[len(owed) // 2] < 1000 < 20_000 < max(owed)
    assert connection.execute("SELECT count(*) FROM mous WHERE balance_owed < 0").fetchone()[0] > 0
    assert connection.execute("SELECT count(*) FROM mbts WHERE xact_finish IS NOT NULL").fetchone()[0] > 100


def test_patrons_live_at_every_library_that_may_have_users(connection: sqlite3.Connection) -> None:
    homes = {row[0] for row in connection.execute("SELECT DISTINCT home_ou FROM au WHERE id > 100000")}
    assert homes == {11, 12, 21, 22, 23}


def test_summaries_agree_with_themselves(connection: sqlite3.Connection) -> None:
    wrong = "SELECT count(*) FROM mbts WHERE balance_owed <> total_owed - total_paid"
    assert connection.execute(wrong).fetchone() == (0,)
    known = "SELECT id FROM mg UNION SELECT id FROM circ"
    loose = f"SELECT count(*) FROM mbts WHERE id NOT IN ({known}) OR usr NOT IN (SELECT id FROM au)"
    assert connection.execute(loose).fetchone() == (0,)


def test_the_same_size_gives_the_same_people() -> None:
    def everything() -> list[object]:
        with Sandbox(patrons=500) as running:
            store = running._store
            return [store.rows(class_id) for class_id in ("au", "ac", "mbts", "mg", "ausp")]

    assert everything() == everything()


def test_new_numbers_go_on_after_the_population() -> None:
    with Sandbox(patrons=500) as running:
        store = running._store
        (highest,) = store.read().execute("SELECT max(usrgroup) FROM au").fetchone()
        assert store.next_value("actor.usr_usrgroup_seq") == highest + 1
        (highest,) = store.read().execute("SELECT max(id) FROM mbts").fetchone()
        assert store.next_value("money.billable_xact_id_seq") == highest + 1
        assert store.password(100_001) == "sandbox"
