"""Reading whole classes and lists from releases in which hidden rows count against ``limit``."""

from collections.abc import Iterator

import pytest
from support.fault_proxy import Call, Fault, fault_proxy
from support.gateways import gateway_of

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.pcrud import LARGEST_LIST, LIMIT_FACTOR
from evergreen_groups.groups import GroupSearch, search
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.values import ZERO

pytestmark = pytest.mark.long

OLD = "3.12"
NEW = None
MILL = 21
COPIES = 10_000
"""Ids below those of the generated patrons, above those of the families."""


@pytest.fixture(scope="module", params=[OLD, NEW], ids=["3.12", "newest"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(patrons=700, release=request.param) as sandbox:
        yield sandbox


def visible(sandbox: Sandbox, account: str) -> set[int]:
    """The patrons that an account sees, straight from the data."""
    homes = {"harbor_desk": "(11)", "north_manager": "(2, 11, 12)", "admin": "(SELECT id FROM aou)"}[account]
    return {id for (id,) in sandbox._store.read().execute(f"SELECT id FROM au WHERE home_ou IN {homes}")}


@pytest.mark.parametrize("account", ["harbor_desk", "north_manager", "admin"])
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("page_size", [60, 200])
def test_every_row_that_is_seen_once(sandbox: Sandbox, account: str, concurrency: int, page_size: int) -> None:
    with gateway_of(sandbox.url, account) as gateway:
        pages = gateway.pcrud.pages("au", select=["home_ou"], page_size=page_size, concurrency=concurrency)
        found = [record.id for page in pages for record in page]
    assert len(found) == len(set(found))
    # Patrons see themselves, at any library.
    assert visible(sandbox, account) <= set(found)
    assert len(set(found) - visible(sandbox, account)) <= 1


def test_where_nothing_is_seen_at_the_beginning_and_the_end(sandbox: Sandbox) -> None:
    """The visible rows lie among many hidden ones."""
    with sandbox._store.transaction() as connection:
        homes = dict(connection.execute("SELECT id, home_ou FROM au").fetchall())
        ids = sorted(id for id in homes if id > 1000)
        low, high = ids[len(ids) // 3], ids[2 * len(ids) // 3]
        connection.execute("UPDATE au SET home_ou = ? WHERE id > ? OR id BETWEEN 1000 AND ?", [MILL, high, low])
    try:
        with gateway_of(sandbox.url, "harbor_desk") as gateway:
            for concurrency in (1, 3):
                pages = gateway.pcrud.pages("au", {"id": {">": 1000}}, page_size=50, concurrency=concurrency)
                found = {record.id for page in pages for record in page}
                assert found == {id for id in visible(sandbox, "harbor_desk") if id > 1000}
                assert found
            assert list(gateway.pcrud.pages("au", {"home_ou": MILL}, page_size=50)) == []
            assert list(gateway.pcrud.pages("au", {"home_ou": 777}, page_size=50)) == []
            query = search.HighFines(ZERO, visible_orgs=[11])
            assert GroupSearch(gateway, query).highest_group() > 0
    finally:
        with sandbox._store.transaction() as connection:
            connection.executemany("UPDATE au SET home_ou = ? WHERE id = ?", [(home, id) for id, home in homes.items()])


def test_everything_a_row_links_to(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "admin") as gateway:
        [row] = gateway.pcrud.search("au", {"id": 1001}, flesh=2, flesh_fields={"au": ["*"], "ac": ["usr"]})
        assert row.card.usr.home_ou == row.home_ou.id


def test_lists_of_values(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "harbor_desk") as gateway, gateway_of(sandbox.url, "admin") as admin:
        seen, everybody = (sorted(visible(sandbox, account)) for account in ("harbor_desk", "admin"))
        groups = sorted({group for (group,) in gateway.pcrud.columns_by_values("au", ["usrgroup"], "id", everybody)})
        for class_id, field, values in (("mous", "usr", everybody), ("au", "usrgroup", groups), ("ausp", "usr", seen)):
            found = list(gateway.pcrud.columns_by_values(class_id, (field,), field, values))
            whole = [row for page in admin.pcrud.by_values(class_id, field, values) for row in page]
            if class_id == "au":
                whole = [row for row in whole if row.home_ou == 11]
            if class_id == "mous":
                whole = [row for row in whole if row.usr in seen]
            assert sorted(found) == sorted((row[field],) for row in whole)
            assert found


def test_a_list_with_more_hidden_rows_than_an_answer_takes(sandbox: Sandbox) -> None:
    """The visible rows come last in the table, and so last in the server's scan."""
    copies = 3 * LIMIT_FACTOR * LARGEST_LIST
    with sandbox._store.transaction() as connection:
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(au)")]
        [hidden, *_] = [id for (id,) in connection.execute("SELECT id FROM au WHERE home_ou = ?", [MILL])]
        seen = sorted(visible(sandbox, "harbor_desk"))[-3:]
        named = ", ".join(f'"{name}"' for name in columns)
        values = ", ".join({"id": "n", "usrname": "'copy-' || n"}.get(name, f'"{name}"') for name in columns)
        connection.execute(
            f"WITH RECURSIVE copy(n) AS (SELECT {COPIES} UNION ALL SELECT n + 1 FROM copy WHERE n < {COPIES + copies}) "
            f"INSERT INTO au ({named}) SELECT {values} FROM au, copy WHERE id = ?",
            [hidden],
        )
        [group] = connection.execute("SELECT usrgroup FROM au WHERE id = ?", [hidden]).fetchone()
        former = [connection.execute("SELECT usrgroup, id FROM au WHERE id = ?", [id]).fetchone() for id in seen]
        connection.executemany("UPDATE au SET usrgroup = ? WHERE id = ?", [(group, id) for id in seen])
    try:
        with gateway_of(sandbox.url, "harbor_desk") as gateway:
            rows = gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), "usrgroup", [group, 999_999])
            assert sorted(id for id, _ in rows) == seen
    finally:
        with sandbox._store.transaction() as connection:
            connection.execute(f"DELETE FROM au WHERE id BETWEEN {COPIES} AND {COPIES + copies}")
            connection.executemany("UPDATE au SET usrgroup = ? WHERE id = ?", former)


@pytest.mark.parametrize(("release", "lengths"), [(OLD, [1500, 1500, 100]), (NEW, [3000, 100])])
def test_lists_are_shorter_where_the_server_looks_up_each_row(release: str | None, lengths: list[int]) -> None:
    named: list[int] = []

    def look(call: Call) -> Fault:
        if call.method == "open-ils.pcrud.search.mous.atomic":
            named.append(len(call.parameters[1]["usr"]))
        return Fault.NONE

    ids = range(100_000, 103_100)
    with (
        Sandbox(release=release) as sandbox,
        fault_proxy(sandbox.url) as proxy,
        gateway_of(proxy.url, "admin") as gateway,
    ):
        proxy.decide = look
        for values in (ids, iter(ids)):
            named.clear()
            assert list(gateway.pcrud.columns_by_values("mous", ("usr",), "usr", values)) == []
            assert sorted(named, reverse=True) == lengths


def test_keys_that_are_no_numbers_are_an_error_and_no_smaller_answer() -> None:
    with (
        Sandbox(release=OLD) as sandbox,
        gateway_of(sandbox.url, "harbor_desk") as gateway,
        pytest.raises(DataError, match="order by primary key"),
    ):
        list(gateway.pcrud.pages("ac", key="barcode", concurrency=1, page_size=5))


def test_how_the_release_behaves_is_asked_once() -> None:
    with Sandbox() as sandbox, fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, "harbor_desk") as gateway:
        for _ in range(3):
            list(gateway.within(60).pcrud.pages("au"))
        assert sum(".count." in method for method in proxy.seen) == 1
