"""Read a dataset (a JSON file of rows by class) into an empty database.

Besides rows by class, a dataset may have these keys:

- ``_defaults``: default values of fields, by class
- ``staff_permissions``: accounts with their grants (permission, work org unit, depth)
- ``group_permissions``: grants to profiles, keyed ``"<id> <name>"``
- ``passwords``: the default password, as a sentence
- ``_about``: the next values of sequences

The built-in families (``families.json``) have the same format.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import system_reason
from evergreen_groups.sandbox.data.population import LISTED, Population
from evergreen_groups.sandbox.database import (
    VIEWS,
    BadValueError,
    StoredClass,
    idl_classes,
    schema_statements,
    to_storage,
)

_NEXT = re.compile(r"\D(\d+)$")
BILLING_SEQUENCE = "money.billing_id_seq"
# Without billings in the dataset, ids continue where the recorded server's sequence was (``fines-elsewhere-004``).
FIRST_BILLING = 60_071
_UNUSABLE = "the dataset {path} can't be used: {reason}"
_DEFAULT_PASSWORD = re.compile(r"every au with id > (\d+) has the password (\S+)$")


def read(path: Path | None) -> dict[str, Any]:
    """Return the dataset in a file, or the built-in families if ``path`` is None.

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
            _UNUSABLE, code="dataset-not-read", values={"path": path, "reason": system_reason(error)}
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            _UNUSABLE, code="dataset-not-json", values={"path": path, "reason": f"not JSON ({error})"}
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("au"), list):
        raise ConfigurationError(
            _UNUSABLE, code="dataset-without-patrons", values={"path": path, "reason": 'no list of rows named "au"'}
        )
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
            _UNUSABLE,
            code="dataset-of-another-shape",
            values={"path": path or "(built in)", "reason": f"not like the built-in one ({type(error).__name__})"},
        ) from error


def fill(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    """Write a dataset into the tables; they may hold another dataset as long as no ids collide.

    Raises:
        ConfigurationError: a row doesn't fit its class.
    """
    for class_id, rows in content.items():
        if class_id in idl_classes() and class_id not in VIEWS:
            defaults = content.get("_defaults", {}).get(class_id, {})
            insert_rows(connection, idl_classes()[class_id], [{**defaults, **row} for row in rows])
    _fill_permissions(connection, content)
    if match := _DEFAULT_PASSWORD.match(content.get("passwords", "")):
        connection.execute("INSERT INTO default_passwords VALUES (?, ?)", [int(match[1]), match[2]])
    set_sequences(connection, content.get("_about", {}).get("sequences", {}))


def insert_rows(connection: sqlite3.Connection, idl_class: StoredClass, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows of wire values; fields that a row lacks are null.

    Raises:
        ConfigurationError: a value doesn't fit its field.
    """
    names = ", ".join(f'"{item.name}"' for item in idl_class.columns)
    marks = ", ".join("?" * len(idl_class.columns))
    try:
        stored = [[to_storage(item.kind, row.get(item.name)) for item in idl_class.columns] for row in rows]
    except BadValueError as problem:
        raise ConfigurationError(
            "a row of {name} in the dataset can't be used: {reason}",
            code="dataset-row-wrong",
            values={"name": idl_class.id, "reason": problem},
        ) from problem
    connection.executemany(f"INSERT INTO {idl_class.id} ({names}) VALUES ({marks})", stored)


def _fill_permissions(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    for profile, grants in content.get("group_permissions", {}).items():
        connection.executemany(
            "INSERT INTO profile_grants VALUES (?, ?, ?)",
            [(int(profile.split()[0]), permission, depth) for permission, depth in grants],
        )
    (count,) = connection.execute("SELECT count(*) FROM accounts").fetchone()
    for position, (name, account) in enumerate(content.get("staff_permissions", {}).items(), count):
        login = account.get("barcode", name)
        by_login = (
            "SELECT usr FROM ac WHERE barcode = ?" if "barcode" in account else "SELECT id FROM au WHERE usrname = ?"
        )
        user = connection.execute(by_login, [login]).fetchone()
        if user is None:
            continue
        connection.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?)",
            [position, account.get("as", name), login, account["password"], account["type"], account.get("note")],
        )
        connection.execute("INSERT OR REPLACE INTO passwords VALUES (?, ?)", [user[0], account["password"]])
        if "barcode" in account:
            continue
        for permission, work_org, depth in account["perms"]:
            connection.execute("INSERT OR IGNORE INTO grants VALUES (?, ?, ?)", [user[0], permission, depth])
            connection.execute("INSERT OR IGNORE INTO work_orgs VALUES (?, ?)", [user[0], work_org])


def set_sequences(connection: sqlite3.Connection, given: Mapping[str, str]) -> None:
    """Set each sequence to follow the highest id, or to the value the dataset gives (``"next id is 8110"``)."""
    following: dict[str, int] = {}
    for idl_class in idl_classes().values():
        if idl_class.id in VIEWS or not idl_class.sequence:
            continue
        highest = connection.execute(f"SELECT max({idl_class.primary}) FROM {idl_class.id}").fetchone()[0]
        following[idl_class.sequence] = max(following.get(idl_class.sequence, 1), (highest or 0) + 1)
    if following[BILLING_SEQUENCE] == 1:
        following[BILLING_SEQUENCE] = FIRST_BILLING
    highest = connection.execute("SELECT max(usrgroup) FROM au").fetchone()[0]
    following["actor.usr_usrgroup_seq"] = (highest or 0) + 1
    for name, text in given.items():
        match = _NEXT.search(text)
        if match:
            following[name.split()[0]] = int(match[1])
    connection.executemany("INSERT OR REPLACE INTO sequences VALUES (?, ?)", following.items())


LARGE = 100_000
"""Populations of at least this size get the larger consortium: ten systems with sixty branches."""
_BYTES_EACH = 700


class Contents:
    """A dataset's rows plus ``patrons`` generated people, written in steps.

    ``dataset_file`` is a JSON file of rows (None: the built-in families). ``listed_groups`` groups of two or more
    people owe 25.00 or more in total; None picks a number typical of the population's size.

    Raises:
        ValueError: more than one listed group for 25 patrons.
    """

    def __init__(self, dataset_file: Path | None, patrons: int = 0, listed_groups: int | None = None) -> None:
        self._dataset_file = dataset_file
        self._patrons = patrons
        self._listed = round(patrons * LISTED) if listed_groups is None else listed_groups
        self._population = Population(patrons, self._listed)

    @property
    def steps(self) -> int:
        """Number of steps: the dataset, each batch of people, and a final step that needs all of them."""
        return len(self._population) + 2 if self._patrons else 1

    @property
    def size(self) -> int:
        """Estimated size on disk in bytes, rounded up."""
        return self._patrons * _BYTES_EACH

    @cached_property
    def key(self) -> str:
        """A hash of everything that determines the contents, including the source code that generates them."""
        parts = [str(self._patrons), str(self._listed)]
        if self._dataset_file is not None:
            parts.append(json.dumps(read(self._dataset_file)))
        folder = resources.files(__package__)
        sources = sorted((item for item in folder.iterdir() if item.is_file()), key=attrgetter("name"))
        parts += [item.read_text(encoding="utf-8") for item in sources]
        parts += schema_statements(indexes=False) + schema_statements(indexes=True)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """A file name that identifies these contents."""
        return f"{self._kind}{self.key}"

    @property
    def _kind(self) -> str:
        return f"sandbox-{self._patrons}-{self._listed}-"

    def remove_outdated(self, directory: Path) -> None:
        """Delete files of the same population that an earlier release made; they can't be used any more."""
        for path in directory.glob(f"{self._kind}*"):
            if not path.name.startswith(self.name):
                path.unlink(missing_ok=True)

    def write(self, connection: sqlite3.Connection, step: int) -> None:
        """Write one step, counted from 0; earlier steps must have been written.

        Raises:
            ConfigurationError: the dataset can't be read, or a row doesn't fit its class.
        """
        if step == 0:
            load(connection, self._dataset_file)
            if self._dataset_file is None and self._patrons >= LARGE:
                text = resources.files(__package__).joinpath("consortium.json").read_text(encoding="utf-8")
                fill(connection, json.loads(text))
        elif step <= len(self._population):
            self._population.write(connection, step - 1)
        else:
            self._population.write_passwords(connection)
            set_sequences(connection, {})
