"""The database's schema, and the file with the fresh state that all sandboxes start from."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError, DiskError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.sandbox.database.classes import StoredClass, idl_classes

if TYPE_CHECKING:
    from evergreen_groups.sandbox.data import Contents

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
CREATE INDEX IF NOT EXISTS aupw_usr ON aupw (usr);
CREATE INDEX IF NOT EXISTS ausp_usr ON ausp (usr);
CREATE INDEX IF NOT EXISTS ausp_standing_penalty ON ausp (standing_penalty, usr);
CREATE INDEX IF NOT EXISTS mg_usr ON mg (usr);
CREATE INDEX IF NOT EXISTS circ_usr ON circ (usr);
CREATE INDEX IF NOT EXISTS ahr_usr ON ahr (usr);
CREATE INDEX IF NOT EXISTS maa_billing ON maa (billing);
CREATE INDEX IF NOT EXISTS mb_xact ON mb (xact);
CREATE INDEX IF NOT EXISTS mp_xact ON mp (xact);
CREATE INDEX IF NOT EXISTS mbts_owing ON mbts (usr, xact_finish, balance_owed)
  WHERE xact_finish IS NULL AND balance_owed <> 0;
CREATE INDEX IF NOT EXISTS mbts_usr ON mbts (usr, xact_finish, balance_owed);
"""


def _table(idl_class: StoredClass) -> str:
    columns = []
    for item in idl_class.columns:
        key = " PRIMARY KEY" if item.name == idl_class.primary else ""
        columns.append(f'"{item.name}" {_TYPES.get(item.kind, "TEXT")}{key}')
    return f"CREATE TABLE {idl_class.id} ({', '.join(columns)}, _position INTEGER)"


def schema_statements(*, indexes: bool) -> list[str]:
    """Return the SQL for the empty tables, or for the indexes; filling is faster before there are indexes."""
    if indexes:
        return [text for text in _INDEXES.split(";") if text.strip()]
    tables = [_table(idl_class) for idl_class in idl_classes().values() if idl_class.id not in VIEWS]
    others = [text for text in _OTHER_TABLES.split(";") if text.strip()]
    return [*tables, *others, *VIEWS.values()]


Progress = Callable[[int, int], None]
"""Called with the number of finished steps and the number of all steps."""
_KEY, _DONE = "contents", "steps done"
_FOLDER = "sandbox-state-"
_CHUNK = 64 * 1024 * 1024


def make(path: Path, contents: Contents, report: Progress | None = None, *, lasting: bool) -> None:
    """Create the file. After an interruption, the next call continues a ``lasting`` file where it left off.

    Raises:
        DiskError: the disk is full, or another process is creating the file.
        ConfigurationError: the dataset is invalid; the partial file is deleted.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        present = partial.stat().st_size if partial.exists() else 0
        if shutil.disk_usage(partial.parent).free < contents.size - present:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - same message as a real one
        partial.touch(mode=0o600)
        with closing(_open(partial, lasting=lasting)) as connection:
            _fill(connection, contents, report, lasting=lasting)
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


def _open(partial: Path, *, lasting: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(partial, isolation_level=None, timeout=0)
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # A temporary file is discarded after a crash, so it needs no journal and no fsync.
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if lasting else 'OFF'}")
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if lasting else 'OFF'}")
    return connection


def _fill(connection: sqlite3.Connection, contents: Contents, report: Progress | None, *, lasting: bool) -> None:
    key = contents.key if lasting else ""
    connection.execute("BEGIN EXCLUSIVE")
    done = _steps_done(connection, key)
    if done == 0:
        # Tables of an interrupted run with other contents.
        leftover = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table')").fetchall()
        for kind, name in leftover:
            if not name.startswith("sqlite_"):
                connection.execute(f'DROP {kind} "{name}"')
        for statement in schema_statements(indexes=False):
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES (?, ?)", [_KEY, key])
    for step in range(done, contents.steps):
        if report is not None:
            report(step, contents.steps)
        contents.write(connection, step)
        connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", [_DONE, str(step + 1)])
        connection.execute("COMMIT")
        connection.execute("BEGIN")
    connection.execute("COMMIT")
    for statement in schema_statements(indexes=True):
        connection.execute(statement)
    connection.execute("PRAGMA analysis_limit = 10000")
    connection.execute("ANALYZE")


def _steps_done(connection: sqlite3.Connection, key: str) -> int:
    """Return the number of steps an interrupted run completed; 0 if it wrote other contents."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
        return 0
    noted = dict(connection.execute("SELECT key, value FROM about").fetchall())
    return int(noted.get(_DONE, 0)) if noted.get(_KEY) == key else 0


def state_folder(directory: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Create a folder for one sandbox's data, in ``directory`` if sandboxes share the fresh state there.

    Also deletes folders that killed processes left in ``directory``, because a large population takes gigabytes.
    """
    if directory is None:
        return tempfile.TemporaryDirectory(prefix="evergreen-groups-")
    for folder in directory.glob(f"{_FOLDER}*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-", dir=directory)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # runs as another user
        pass
    return True


def clone(fresh: Path, path: Path) -> None:
    """Copy the fresh state to a file that a sandbox writes to; instant where the file system can share blocks.

    Raises:
        OSError: the disk is full.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        with (
            fresh.open("rb") as source,
            open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as target,
        ):
            try:
                while os.copy_file_range(source.fileno(), target.fileno(), _CHUNK):
                    pass
            except (AttributeError, OSError):  # not supported by every operating system and file system
                source.seek(0)
                target.seek(0)
                shutil.copyfileobj(source, target, _CHUNK)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
