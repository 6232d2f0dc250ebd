"""The sandbox's state: rows and their types, order after updates, sequences, reset, files, datasets, permissions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.data import Contents
from evergreen_groups.sandbox.database import BadValueError, Store
from evergreen_groups.sandbox.services import permissions


def filled(path: Path | None = None) -> Store:
    return Store(Contents(None), path)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = filled()
    yield opened
    opened.close()


def test_updated_rows_come_last(store: Store) -> None:
    store.update("au", 1002, {"usrgroup": "1002"})
    store.update("au", 1001, {"usrgroup": 1002})
    assert [row["id"] for row in store.rows("au", {"usrgroup": 1002})][-2:] == [1002, 1001]
    with pytest.raises(BadValueError):
        store.update("au", 1002, {"usrgroup": "abc"})


def test_a_failed_transaction_only_leaves_gaps_in_sequences(store: Store) -> None:
    before = store.next_value("actor.usr_usrgroup_seq")

    def fail() -> None:
        with store.transaction():
            store.update("au", 1001, {"usrgroup": store.next_value("actor.usr_usrgroup_seq")})
            assert store.rows("au", {"usrgroup": before + 1})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert store.rows("au", {"usrgroup": before + 1}) == []
    assert store.next_value("actor.usr_usrgroup_seq") == before + 2


def test_reset_restores_the_fresh_state(store: Store) -> None:
    fresh = {class_id: store.rows(class_id) for class_id in ("au", "mous", "ausp")}
    group = store.next_value("actor.usr_usrgroup_seq")
    store.update("au", 1001, {"usrgroup": group})
    store.set_password(1001, "another")
    store.insert("ausp", {"usr": 1001, "standing_penalty": 20, "org_unit": 1})
    store.reset()
    assert {class_id: store.rows(class_id) for class_id in fresh} == fresh
    assert store.password(1001) == "sandbox"
    assert store.next_value("actor.usr_usrgroup_seq") == group


def test_a_database_file_keeps_the_state_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.db"
    first = filled(path)
    first.update("au", 1001, {"usrgroup": 4711})
    first.close()
    assert path.stat().st_mode & 0o077 == 0
    second = filled(path)
    assert [row["id"] for row in second.rows("au", {"usrgroup": 4711})] == [1001]
    second.reset()
    assert second.rows("au", {"usrgroup": 4711}) == []
    second.close()


@pytest.mark.parametrize(
    ("content", "words"), [("{", "not JSON"), ("[]", "no list of rows named"), ({"au": [{"id": "x"}]}, "au")]
)
def test_an_invalid_dataset_is_an_error_with_a_reason(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "people.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigurationError, match=words):
        Sandbox(dataset=path, database=tmp_path / "sandbox.db")
    assert [item.name for item in tmp_path.iterdir()] == ["people.json"]


def test_a_missing_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Sandbox(dataset=tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("user", "permission", "orgs", "tops"),
    [
        (1, "ANYTHING", {1, 2, 3, 11, 12, 21, 22, 23}, [1]),
        (2, "VIEW_USER", {1, 2, 3, 11, 12, 21, 22, 23}, [1]),
        (3, "VIEW_USER", {2, 11, 12}, [2]),
        (4, "VIEW_USER", {11}, [11]),
        (4, "UPDATE_USER", set(), []),
        (1001, "OPAC_LOGIN", {1, 2, 3, 11, 12, 21, 22, 23}, []),
        (1001, "VIEW_USER", set(), []),
        (999_999, "VIEW_USER", set(), []),
    ],
)
def test_permissions_by_depth_and_work_org(
    store: Store, user: int, permission: str, orgs: set[int], tops: list[int]
) -> None:
    assert permissions.orgs_where(store, user, permission) == orgs
    assert permissions.highest_orgs(store, user, permission) == tops
    assert permissions.allowed(store, user, permission, 11) == (11 in orgs)
    assert permissions.allowed(store, user, permission, None) == (user == 1)


def test_an_inactive_superuser_has_no_permissions(store: Store) -> None:
    store.update("au", 1, {"active": "f"})
    assert not permissions.allowed(store, 1, "VIEW_USER", 1)
    assert permissions.orgs_where(store, 1, "VIEW_USER") == set()


def test_the_org_tree(store: Store) -> None:
    orgs = store.orgs
    assert orgs.full_path(21) == [1, 3, 21, 23]
    assert orgs.ancestors(23) == [1, 3, 21, 23]
    assert orgs.ancestor_at_depth(23, 1) == 3
    assert orgs.descendants_of_depth(23, 2) == [21, 23]
    assert orgs.descendants_of_depth(1, 2) == []
    assert orgs.descendants(99) == orgs.ancestors(99) == []
