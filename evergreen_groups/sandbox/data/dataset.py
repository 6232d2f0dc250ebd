"""Read a dataset, a JSON file of rows by class, into an empty database.

Beside the classes' rows it may hold ``_defaults`` (by class, the fields that rows leave out), ``staff_permissions``
(accounts with their grants: permission, work org unit, depth), ``group_permissions`` (grants to profiles, by
``"<id> <name>"``), ``passwords`` and, in ``_about``, what the sequences give next. The families built in are of this
form.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.sandbox.database import VIEWS, BadValueError, StoredClass, idl_classes, to_storage

_NEXT = re.compile(r"\D(\d+)$")
BILLING_SEQUENCE = "money.billing_id_seq"
# A dataset has no billings; this is where the recorded server's sequence stood (``fines-elsewhere-004``).
FIRST_BILLING = 60_071
_DEFAULT_PASSWORD = re.compile(r"every au with id > (\d+) has the password (\S+)$")


def read(path: Path | None) -> dict[str, Any]:
    """The dataset in a file, or the families built in where no file is named.

    Raises:
        ConfigurationError: the file can't be read or isn't a dataset.
    """
    try:
        if path is None:
            text = resources.files(__package__).joinpath("families.json").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise ConfigurationError(
            "dataset {path} cannot be read: {reason}",
            code="dataset-not-read",
            values={"path": path, "reason": system_reason(error)},
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            "dataset {path} is not JSON: {reason}",
            code="dataset-not-json",
            values={"path": path, "reason": error if isinstance(error, ValueError) else Message("nested too deeply")},
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("au"), list):
        raise ConfigurationError(
            'dataset {path} holds no patrons: it needs a list of rows named "au"',
            code="dataset-without-patrons",
            values={"path": path},
        )
    return content


def consortium() -> dict[str, Any]:
    """More systems and branches beside those built in, as a dataset."""
    text = resources.files(__package__).joinpath("consortium.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def load(connection: sqlite3.Connection, path: Path | None) -> None:
    """Write a dataset into the empty tables.

    Raises:
        ConfigurationError: the file can't be read, or a row doesn't fit its class.
    """
    content = read(path)
    try:
        fill(connection, content)
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, sqlite3.Error) as error:
        raise ConfigurationError(
            "dataset {path} has another shape than it should ({reason})",
            advice="compare it with the built-in one",
            code="dataset-of-another-shape",
            values={"path": path or Message("(built in)"), "reason": type(error).__name__},
        ) from error


def fill(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    """Write a dataset into the empty tables, or beside the rows of another one that has none of its ids.

    Raises:
        ConfigurationError: a row that doesn't fit its class.
    """
    for class_id, rows in content.items():
        if class_id in idl_classes() and class_id not in VIEWS:
            defaults = content.get("_defaults", {}).get(class_id, {})
            insert_rows(connection, idl_classes()[class_id], [{**defaults, **row} for row in rows])
    _fill_permissions(connection, content)
    _fill_passwords(connection, content)
    set_sequences(connection, content.get("_about", {}).get("sequences", {}))


def insert_rows(connection: sqlite3.Connection, known: StoredClass, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows of wire values as they are; fields that they leave out are null.

    Raises:
        ConfigurationError: a value doesn't fit its field.
    """
    names = ", ".join(f'"{item.name}"' for item in known.columns)
    marks = ", ".join("?" * len(known.columns))
    try:
        stored = [[to_storage(item.kind, row.get(item.name)) for item in known.columns] for row in rows]
    except BadValueError as problem:
        raise ConfigurationError(
            "dataset: a row of {name} doesn't fit: {reason}",
            code="dataset-row-wrong",
            values={"name": known.id, "reason": problem},
        ) from problem
    connection.executemany(
        f"INSERT INTO {known.id} ({names}) VALUES ({marks})",
        stored,
    )


def _fill_permissions(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    for profile, grants in content.get("group_permissions", {}).items():
        connection.executemany(
            "INSERT INTO profile_grants VALUES (?, ?, ?)",
            [(int(profile.split()[0]), permission, depth) for permission, depth in grants],
        )
    (there,) = connection.execute("SELECT count(*) FROM accounts").fetchone()
    for position, (name, account) in enumerate(content.get("staff_permissions", {}).items(), there):
        user_id = _user_of(connection, name, account)
        if user_id is None:
            continue
        login = account.get("barcode", name)
        connection.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?)",
            [position, account.get("as", name), login, account["password"], account["type"], account.get("note")],
        )
        connection.execute("INSERT OR REPLACE INTO passwords VALUES (?, ?)", [user_id, account["password"]])
        if "barcode" in account:
            continue
        for permission, work_org, depth in account["perms"]:
            connection.execute("INSERT OR IGNORE INTO grants VALUES (?, ?, ?)", [user_id, permission, depth])
            connection.execute("INSERT OR IGNORE INTO work_orgs VALUES (?, ?)", [user_id, work_org])


def _user_of(connection: sqlite3.Connection, name: str, account: Mapping[str, Any]) -> int | None:
    if "barcode" in account:
        row = connection.execute("SELECT usr FROM ac WHERE barcode = ?", [account["barcode"]]).fetchone()
    else:
        row = connection.execute("SELECT id FROM au WHERE usrname = ?", [name]).fetchone()
    return row[0] if row else None


def _fill_passwords(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    match = _DEFAULT_PASSWORD.match(content.get("passwords", ""))
    if match:
        connection.execute("INSERT INTO default_passwords VALUES (?, ?)", [int(match[1]), match[2]])


def set_sequences(connection: sqlite3.Connection, given: Mapping[str, str]) -> None:
    """Let the sequences go on after the rows' highest ids, or where the dataset says (``"next id is 8110"``)."""
    following: dict[str, int] = {}
    for known in idl_classes().values():
        if known.id in VIEWS or not known.sequence:
            continue
        highest = connection.execute(f"SELECT max({known.primary}) FROM {known.id}").fetchone()[0]
        following[known.sequence] = max(following.get(known.sequence, 1), (highest or 0) + 1)
    if following[BILLING_SEQUENCE] == 1:
        following[BILLING_SEQUENCE] = FIRST_BILLING
    highest = connection.execute("SELECT max(usrgroup) FROM au").fetchone()[0]
    following["actor.usr_usrgroup_seq"] = (highest or 0) + 1
    for name, text in given.items():
        match = _NEXT.search(text)
        if match:
            following[name.split()[0]] = int(match[1])
    connection.executemany("INSERT OR REPLACE INTO sequences VALUES (?, ?)", following.items())
