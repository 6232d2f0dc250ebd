"""The database's tables: one for each class, and what the IDL has no class for."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

from evergreen_groups.errors import ConfigurationError, DiskError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.sandbox.database.classes import StoredClass, idl_classes

_TYPES = {"integer": "INTEGER", "money": "INTEGER", "bool": "INTEGER"}

_SUMMARY = """
CREATE VIEW {name} AS
  SELECT sum(balance_owed) AS balance_owed, sum(total_owed) AS total_owed, sum(total_paid) AS total_paid, usr,
         max(last_billing_ts) AS last_billing_ts, max(last_payment_ts) AS last_payment_ts, NULL AS _position
    FROM mbts {where} GROUP BY usr
"""

VIEWS = {
    "mous": _SUMMARY.format(name="mous", where="WHERE xact_finish IS NULL"),
    "mus": _SUMMARY.format(name="mus", where=""),
    "mbt": """
CREATE VIEW mbt AS
  SELECT id, usr, xact_finish, xact_start, NULL AS unrecovered, _position FROM mg
  UNION ALL SELECT id, usr, xact_finish, xact_start, unrecovered, _position FROM circ
""",
    "mobts": """
CREATE VIEW mobts AS
  SELECT s.*, coalesce(mg.billing_location, circ.circ_lib) AS billing_location
    FROM mbts s LEFT JOIN mg ON mg.id = s.id LEFT JOIN circ ON circ.id = s.id
   WHERE s.xact_finish IS NULL
""",
}

_OTHER_TABLES = """
CREATE TABLE grants (usr INTEGER, permission TEXT, depth INTEGER, PRIMARY KEY (usr, permission)) WITHOUT ROWID;
CREATE TABLE profile_grants (profile INTEGER, permission TEXT, depth INTEGER, PRIMARY KEY (profile, permission))
  WITHOUT ROWID;
CREATE TABLE permissions (permission TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE work_orgs (usr INTEGER, org_unit INTEGER, PRIMARY KEY (usr, org_unit)) WITHOUT ROWID;
CREATE TABLE passwords (usr INTEGER PRIMARY KEY, password TEXT);
CREATE TABLE default_passwords (above INTEGER, password TEXT);
CREATE TABLE sequences (name TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID;
CREATE TABLE accounts (position INTEGER PRIMARY KEY, name TEXT, login TEXT, password TEXT, type TEXT, note TEXT);
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""

_INDEXES = """
CREATE INDEX IF NOT EXISTS au_usrgroup ON au (usrgroup, deleted, home_ou, master_account, juvenile);
CREATE INDEX IF NOT EXISTS au_home_ou ON au (home_ou);
CREATE INDEX IF NOT EXISTS au_usrname ON au (usrname);
CREATE INDEX IF NOT EXISTS au_family_name ON au (family_name COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS au_pref_family_name ON au (pref_family_name COLLATE NOCASE)
  WHERE pref_family_name IS NOT NULL;
CREATE INDEX IF NOT EXISTS au_card ON au (card);
CREATE INDEX IF NOT EXISTS au_mailing_address ON au (mailing_address) WHERE mailing_address IS NOT NULL;
CREATE INDEX IF NOT EXISTS au_billing_address ON au (billing_address) WHERE billing_address IS NOT NULL;
CREATE INDEX IF NOT EXISTS ac_usr ON ac (usr);
CREATE INDEX IF NOT EXISTS ac_barcode ON ac (barcode);
CREATE INDEX IF NOT EXISTS aua_usr ON aua (usr);
CREATE INDEX IF NOT EXISTS aum_usr ON aum (usr);
CREATE INDEX IF NOT EXISTS aus_usr ON aus (usr);
CREATE INDEX IF NOT EXISTS auact_usr ON auact (usr);
CREATE INDEX IF NOT EXISTS ausp_usr ON ausp (usr);
CREATE INDEX IF NOT EXISTS ausp_standing_penalty ON ausp (standing_penalty, usr);
CREATE INDEX IF NOT EXISTS mg_usr ON mg (usr);
CREATE INDEX IF NOT EXISTS circ_usr ON circ (usr);
CREATE INDEX IF NOT EXISTS maa_billing ON maa (billing);
CREATE INDEX IF NOT EXISTS mb_xact ON mb (xact);
CREATE INDEX IF NOT EXISTS mbts_owing ON mbts (usr, xact_finish, balance_owed)
  WHERE xact_finish IS NULL AND balance_owed <> 0;
CREATE INDEX IF NOT EXISTS mbts_usr ON mbts (usr, xact_finish, balance_owed);
"""


def _table(known: StoredClass) -> str:
    columns = []
    for item in known.columns:
        key = " PRIMARY KEY" if item.name == known.primary else ""
        columns.append(f'"{item.name}" {_TYPES.get(item.kind, "TEXT")}{key}')
    return f"CREATE TABLE {known.id} ({', '.join(columns)}, _position INTEGER)"


def schema_statements(*, indexes: bool) -> list[str]:
    """The SQL that makes the empty tables, or what makes the indexes that aren't there yet once they are filled."""
    if indexes:
        return [text for text in _INDEXES.split(";") if text.strip()]
    tables = [_table(known) for known in idl_classes().values() if known.id not in VIEWS]
    others = [text for text in _OTHER_TABLES.split(";") if text.strip()]
    return [*tables, *others, *VIEWS.values()]


Steps = Callable[[int, int], None]
"""Called with how many steps are done, and how many there are."""
_KEY, _DONE = "contents", "steps done"
_FOLDER = "sandbox-state-"
_CHUNK = 64 * 1024 * 1024


class Filling(Protocol):
    """What writes the fresh state, in ``steps`` that come one after the other.

    ``key`` is another one where something else is written; ``size`` says about how many bytes it takes on disk.
    """

    @property
    def steps(self) -> int:
        """How many there are."""

    @property
    def key(self) -> str:
        """What tells it from others."""

    @property
    def size(self) -> int:
        """Bytes."""

    def write(self, connection: sqlite3.Connection, step: int) -> None:
        """Write one step, from 0 on, inside a transaction."""


def make(path: Path, filling: Filling, report: Steps | None = None, *, lasting: bool) -> None:
    """Make the file. One that is ``lasting`` and whose making is interrupted is gone on with the next time.

    Raises:
        DiskError: there isn't room for it, or somebody else is making it.
        ConfigurationError: what ``filling`` raises; nothing is left then.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        _check_room(partial, filling.size)
        partial.touch(mode=0o600)
        with closing(_open(partial, lasting=lasting)) as connection:
            _fill(connection, filling, report, lasting=lasting)
        partial.replace(path)
    except sqlite3.OperationalError as error:
        raise _not_written(partial, Message(str(error))) from error
    except OSError as error:
        raise _not_written(partial, system_reason(error)) from error
    except ConfigurationError as error:
        if not isinstance(error, DiskError):
            partial.unlink(missing_ok=True)
        raise


def _not_written(path: Path, reason: Message) -> DiskError:
    return DiskError("cannot write {path}: {reason}", values={"path": path, "reason": reason})


def _check_room(partial: Path, size: int) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    if shutil.disk_usage(partial.parent).free < size - there:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _open(partial: Path, *, lasting: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(partial, isolation_level=None, timeout=0)
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # What is lost at once when something goes wrong needs neither journal nor waiting for the disk.
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if lasting else 'OFF'}")
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if lasting else 'OFF'}")
    return connection


def _fill(connection: sqlite3.Connection, filling: Filling, report: Steps | None, *, lasting: bool) -> None:
    key = filling.key if lasting else ""
    connection.execute("BEGIN EXCLUSIVE")
    done = _steps_done(connection, key)
    if done == 0:
        _remove_all(connection)
        for statement in schema_statements(indexes=False):
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES (?, ?)", [_KEY, key])
    for step in range(done, filling.steps):
        if report is not None:
            report(step, filling.steps)
        filling.write(connection, step)
        connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", [_DONE, str(step + 1)])
        connection.execute("COMMIT")
        connection.execute("BEGIN")
    connection.execute("COMMIT")
    for statement in schema_statements(indexes=True):
        connection.execute(statement)
    connection.execute("PRAGMA analysis_limit = 10000")
    connection.execute("ANALYZE")


def _steps_done(connection: sqlite3.Connection, key: str) -> int:
    """How many steps an earlier one has written; 0 where it was to write something else."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
        return 0
    noted = dict(connection.execute("SELECT key, value FROM about").fetchall())
    return int(noted.get(_DONE, 0)) if noted.get(_KEY) == key else 0


def _remove_all(connection: sqlite3.Connection) -> None:
    """Remove what somebody has left who was to write something else."""
    found = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table')").fetchall()
    for kind, name in found:
        if not name.startswith("sqlite_"):
            connection.execute(f'DROP {kind} "{name}"')


def state_folder(beside: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A folder for what one sandbox writes, in the directory ``beside`` where the fresh state is one of many's.

    There the folders of those who were killed are removed: a copy of a large population is large.
    """
    if beside is None:
        return tempfile.TemporaryDirectory(prefix="evergreen-groups-")
    for folder in beside.glob(f"{_FOLDER}*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-", dir=beside)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def clone(fresh: Path, path: Path) -> None:
    """Copy the file for somebody who writes into it; where the file system can share blocks, in no time.

    Raises:
        OSError: there isn't room for it.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("rb") as source, open(new, "wb", opener=_private) as target:
            _copy(source, target)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), _CHUNK):
            pass
    except (AttributeError, OSError):  # not every system has it, and not every file system
        source.seek(0)
        target.seek(0)
        shutil.copyfileobj(source, target, _CHUNK)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
