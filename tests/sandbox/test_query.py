"""JSON queries: their results, compared with a plain reading of the same rows, and their rejections.

A real Evergreen gave the same results for these cases.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.sandbox_caller import Caller

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.database import Row, Store, idl_classes
from evergreen_groups.sandbox.query import Frame, QueryError, Source, run_search


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Sandbox() as running:
        yield running._store


@pytest.fixture(scope="module")
def patrons(store: Store) -> list[Row]:
    return store.rows("au")


def everything(_frame: Frame, _source: Source) -> str:
    return "1"


def found(store: Store, where: Any, class_id: str = "au", options: dict[str, Any] | None = None) -> list[int]:
    wanted = {"order_by": {class_id: "id"}, **(options or {})}
    built = run_search(Frame(idl_classes()), idl_classes()[class_id], where, wanted, everything)
    place = [item.name for item in built.columns].index("id")
    return [row[place] for row in store.read().execute(built.sql)]


def kept(patrons: list[Row], test: Callable[[Row], bool]) -> list[int]:
    return sorted(row["id"] for row in patrons if test(row))


@pytest.mark.parametrize(
    ("where", "test"),
    [
        ({"family_name": {"like": "K%"}}, lambda row: row["family_name"].startswith("K")),
        ({"family_name": {"ilike": "%OKON%"}}, lambda row: "okon" in row["family_name"].lower()),
        ({"family_name": {"ilike": "%ÑEZ%"}}, lambda row: False),
        ({"family_name": {"~": "^[KO]"}}, lambda row: row["family_name"][0] in "KO"),
        ({"family_name": {"!~*": "^[ko]"}}, lambda row: row["family_name"][0] not in "KO"),
        ({"family_name": {"startwith": "van"}}, lambda row: row["family_name"].startswith("van")),
        ({"id": {"between": [1003, "1006"]}}, lambda row: 1003 <= row["id"] <= 1006),
        ({"id": {"not in": [1001, "1002"]}}, lambda row: row["id"] not in (1001, 1002)),
        ({"id": {">": 1005.5}, "usrgroup": 1001}, lambda row: row["id"] > 1005 and row["usrgroup"] == 1001),
        ({"deleted": False}, lambda row: False),
        ({"deleted": {"<>": False}}, lambda row: True),
        ({"deleted": 0}, lambda row: row["deleted"] == "f"),
        ({"card": {"is": None}}, lambda row: row["card"] is not None),
        ({"id": {"=": {"+au": "card"}}}, lambda row: row["id"] == row["card"]),
        ({"expire_date": {"<": "2026-01-01"}}, lambda row: row["expire_date"] < "2026"),
        (
            {"family_name": {"=": {"transform": "lower", "value": "okonkwo"}}},
            lambda row: row["family_name"] == "Okonkwo",
        ),
        ({"family_name": {">": {"transform": "length", "value": 12}}}, lambda row: len(row["family_name"]) > 12),
        ({"deleted": {"=": {"transform": "int4", "value": "0"}}}, lambda row: row["deleted"] == "f"),
        ({"usrname": {"=": ["lower", "ADMIN"]}}, lambda row: row["usrname"] == "admin"),
        ({"-or": [{"id": 1001, "usrgroup": 1002}]}, lambda row: row["id"] == 1001 or row["usrgroup"] == 1002),
        ([{"usrgroup": 1001}, {"id": {"<": 1003}}], lambda row: row["usrgroup"] == 1001 and row["id"] < 1003),
        ({"passwd": "sandbox"}, lambda row: False),
        ({"family_name": {">=": "O"}}, lambda row: row["family_name"] >= "O"),
        (
            {"-not": {"-and": [{"usrgroup": 1001}, {"-or": [{"id": 1002}, {"+au": "juvenile"}]}]}},
            lambda row: not (row["usrgroup"] == 1001 and (row["id"] == 1002 or row["juvenile"] == "t")),
        ),
        (
            {"-or": [{"-not": {"card": None}}, {"-and": [{"id": {"<": 1010}}, {"usrgroup": {"<>": 1001}}]}]},
            lambda row: row["card"] is not None or (row["id"] < 1010 and row["usrgroup"] != 1001),
        ),
    ],
)
def test_operators(store: Store, patrons: list[Row], where: Any, test: Callable[[Row], bool]) -> None:
    assert found(store, where) == kept(patrons, test)


@pytest.mark.parametrize(
    "where",
    [
        *({}, [], 5, None, {"nosuch": 1}, {"cards": 1}, {"+au": "family_name"}, {"+zz": {"id": 1}}),
        *({"-xor": [{"id": 1}]}, {"-or": []}, {"deleted": "maybe"}, {"create_date": "rubbish"}),
        *({"id": value} for value in ([], {}, "abc", "5.5", "99999999999", [None], {">": 1, "<": 5}, {"==": 5})),
        *({"id": value} for value in ({"like": "5%"}, {"not between": [1, 2]}, {"between": [1]})),
        *({"id": {"=": value}} for value in ({"+au": "family_name"}, {"transform": "sum", "value": 5})),
        {"id": {"=": {"transform": "clock_timestamp", "value": 5}}},
        *(
            {"id": {"in": {"select": {"au": names}, "from": "au"}}}
            for names in (["id", "card"], ["family_name"], ["nosuch"])
        ),
        {"id": {"in": {"select": {"au": ["id"]}}}},
        {
            "-exists": {
                "select": {"mbts": ["usr"]},
                "from": "mbts",
                "having": {"usr": {">": {"transform": "sum", "value": 1}}},
            }
        },
    ],
)
def test_queries_that_the_real_service_rejects(store: Store, where: Any) -> None:
    with pytest.raises(QueryError):
        found(store, where)


@pytest.mark.parametrize(
    ("amount", "operator"), [(5, ">"), ("5.00", ">="), (4.995, ">"), ("4.999", ">="), (-4, "<="), ("1e1", "<")]
)
def test_money_is_compared_exactly(store: Store, amount: Any, operator: str) -> None:
    compare = {">": Decimal.__gt__, ">=": Decimal.__ge__, "<": Decimal.__lt__, "<=": Decimal.__le__}[operator]
    built = run_search(
        Frame(idl_classes()), idl_classes()["mous"], {"balance_owed": {operator: amount}}, {}, everything
    )
    users = sorted(row[-1] for row in store.read().execute(built.sql))
    rows = store.rows("mous")
    assert users == sorted(row["usr"] for row in rows if compare(Decimal(row["balance_owed"]), Decimal(str(amount))))


def test_org_trees_in_subqueries(store: Store, patrons: list[Row]) -> None:
    walk = {"column": "id", "transform": "actor.org_unit_descendants", "result_field": "id"}
    where = {"home_ou": {"in": {"select": {"aou": [walk]}, "from": "aou", "where": {"shortname": "VALLEY"}}}}
    assert found(store, where) == kept(patrons, lambda row: row["home_ou"] in (3, 21, 22, 23))


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"join": {"ac": {"fkey": "id", "field": "usr"}}}, [1040, 1042, 1043]),
        ({"join": {"ac": {"fkey": "card", "field": "id", "type": "left"}}, "limit": 2}, [1040, 1041]),
        ({"join": {"ac": {"field": "usr", "filter": {"active": "f"}}}}, [1042]),
        ({"join": "aou", "order_by": [{"class": "au", "field": "id", "direction": "desc"}], "limit": 1}, [1043]),
        ({"join": {"zzz": {}}}, [1040, 1041, 1042, 1043]),
        ({"order_by": {"au": "card desc"}, "limit": 2}, [1041, 1043]),
        ({"order_by": {"au": {"card": {"direction": "asc"}}}, "limit": "2", "offset": "2"}, [1043, 1041]),
        ({"limit": -1, "offset": -1}, [1040, 1041, 1042, 1043]),
        ({"limit": "all of them"}, []),
    ],
)
def test_joins_order_and_limits(caller: Caller, options: dict[str, Any], ids: list[int]) -> None:
    (family,) = caller.pcrud("admin", "id_list.au.atomic", {"usrgroup": 1014}, {"order_by": {"au": "id"}})["payload"]
    shift = family[0] - 1040
    expected = [identity + shift for identity in ids]
    assert caller.ids("admin", "au", {"usrgroup": 1014}, {"order_by": {"au": "id"}, **options}) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"order_by": {"au": "nosuch"}},
        {"order_by": [{"class": "au"}]},
        {"order_by": {"au": "id; drop"}},
        {"select": {"au": ["cards"]}},
        {"join": {"ac": {"fkey": "nosuch", "field": "usr"}}},
        {"join": {"m": {"class": "au", "fkey": "usrgroup", "field": "usrgroup"}}},
    ],
)
def test_rejected_options(caller: Caller, options: dict[str, Any]) -> None:
    assert caller.refused("admin", "au", {"usrgroup": 1014}, options)
