"""Checks of this machine: the configuration, the password, the state directory, and who can read them."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups import connect
from evergreen_groups.errors import HistoryError
from evergreen_groups.report import history
from evergreen_groups.settings import passwords
from evergreen_groups.state import refuse_another_users_database

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject

_OTHERS = stat.S_IRWXO
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PORTION = 64 * 1024
_BUSY_SECONDS = 2
_PRIMARY_CODE = 0xFF
"""The part of an SQLite error's code that names its kind; the rest says more of it."""
_A_COPY = "put a copy in its place, or move it away to begin anew"


def configuration(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """It is there, can be read, holds nothing unknown, and names the gateway and the account."""
    settings = subject.settings
    if settings.gateway.url is None and settings.source is None:
        yield line.failed(
            "none in ~/.config/evergreen-groups or /etc/evergreen-groups, nor in $EVERGREEN_GROUPS_CONFIG",
            "make one with evergreen-groups init, or name one with --config",
            code="no-configuration",
        )
        return
    connect.named(settings)
    if settings.source:
        yield line.ok("{path}", values={"path": settings.source})
    else:
        yield line.ok("no file; the settings come from the environment")


def configuration_file(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Nobody else may change where the password is sent."""
    source = subject.settings.source
    if source is None:
        return
    mode = source.stat().st_mode
    owner = _stranger(source)
    if owner:
        yield line.failed(
            "{path} belongs to {owner}, who could have the password sent elsewhere",
            "chown root {path}; chmod 600 {path}",
            code="configuration-of-another-user",
            values={"path": source, "owner": owner},
        )
    elif mode & stat.S_IWOTH:
        yield line.failed(
            "{path} can be changed by everybody, who could have the password sent elsewhere",
            "chmod 600 {path}",
            code="configuration-open-to-everybody",
            values={"path": source},
        )
    elif mode & stat.S_IWGRP:
        yield line.warning(
            "{path} can be changed by its group ({mode})",
            "chmod g-w {path}",
            code="configuration-open-to-group",
            values={"path": source, "mode": _octal(mode)},
        )
    else:
        yield line.ok("{mode}, changed by its owner alone", values={"mode": _octal(mode)})


def password(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """It can be had, and from a file that is for this account's eyes."""
    text = passwords.password(subject.settings.gateway, subject.environ)
    file = subject.settings.gateway.password_file
    if subject.environ.get(passwords.PASSWORD_VARIABLE):
        place = f"from ${passwords.PASSWORD_VARIABLE}" + (f", which comes before {file}" if file else "")
        file = None
    else:
        place = f"from {file or 'the systemd credential'}"
    trouble = _shared(file) if file else None
    if text != text.strip():
        yield line.warning(
            "{place}; it begins or ends with a blank",
            "remove the blank if it isn't meant",
            code="password-with-blank",
            values={"place": place},
        )
    elif trouble:
        yield line.warning(
            "{place}; {trouble}",
            "let this user alone have it, with chmod 600 {path}",
            code="password-file-shared",
            values={"place": place, "trouble": trouble, "path": file},
            setting="gateway.password_file",
        )
    else:
        yield line.ok("{place}", values={"place": place})


def events_secret(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """What the ILS sends along with events can be had, and from a file that is for this account's eyes."""
    file = subject.settings.events.secret_file
    if passwords.events_secret(subject.settings.events, subject.environ) is None:
        yield line.ok("no secret set: the web service takes no events")
        return
    place = f"from {file or 'the systemd credential'}"
    trouble = _shared(file) if file else None
    if trouble:
        yield line.warning(
            "{place}; {trouble}",
            "let this user alone have it, with chmod 600 {path}",
            code="secret-file-shared",
            values={"place": place, "trouble": trouble, "path": file},
            setting="events.secret_file",
        )
    else:
        yield line.ok("{place}", values={"place": place})


def _shared(path: Path) -> str | None:
    """Who else can change a file that not everybody can, None where nobody can."""
    mode = path.stat().st_mode
    if owner := _stranger(path):
        return f"it belongs to {owner}"
    return f"its group can change it ({_octal(mode)})" if mode & stat.S_IWGRP else None


def state_directory(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """History and journal have a place that only this account can enter, with room left."""
    path = subject.state_directory
    if path.exists() and not path.is_dir():
        yield line.failed(
            "{path} is no directory",
            "move it away, or set $STATE_DIRECTORY",
            code="state-not-a-directory",
            values={"path": path},
        )
        return
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=place) as made:
            Path(made, "trial").write_bytes(b"\0" * _PORTION)
    except OSError as error:
        yield line.failed(
            "{place} can't be written to: {reason}",
            "let this user have {path}, and make room",
            code="state-not-writable",
            values={"place": place, "reason": error.strerror, "path": path},
        )
        return
    if place != path:
        yield line.ok("{path}: the first run makes it", values={"path": path})
        return
    mode = path.stat().st_mode
    values = {"path": path, "mode": _octal(mode)}
    if mode & _GROUP_AND_OTHERS:
        yield line.warning(
            "{path} can be entered by others ({mode})", "chmod 700 {path}", code="state-open", values=values
        )
    else:
        yield line.ok("{path} ({mode}), writable", values=values)


def databases(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """History and journal are whole, and for this account alone."""
    found = sorted(subject.state_directory.glob("*.sqlite3"))
    if not found:
        yield line.ok("none yet: the first run makes them")
        return
    troubles = [trouble for path in found if (trouble := _trouble(path, line)) is not None]
    yield from troubles
    if not troubles:
        yield line.ok("{names}: whole", values={"names": ", ".join(path.name for path in found)})


def _trouble(path: Path, line: FindingMaker) -> Finding | None:
    """What is wrong with an SQLite file, None where nothing is. It isn't opened unless it is this account's own."""
    try:
        mode = refuse_another_users_database(path).st_mode
    except OSError as error:
        return _not_opened(path, error.strerror, line)
    if mode & _OTHERS:
        return line.failed(
            "{path} can be read by everybody ({mode})",
            "chmod 600 {path}",
            code="database-open",
            values={"path": path, "mode": _octal(mode)},
        )
    return _damage(path, line)


def _not_opened(path: Path, reason: object, line: FindingMaker) -> Finding:
    return line.failed(
        "{path} can't be opened: {reason}",
        "give it to this user, or move it away to begin anew",
        code="database-not-opened",
        values={"path": path, "reason": reason},
    )


def _damage(path: Path, line: FindingMaker) -> Finding | None:
    """What SQLite finds wrong in a file."""
    try:
        # Not "ro": that would leave SQLite's two files beside it behind.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)) as database:
            ((verdict,),) = database.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return line.warning(
                "{path} is in use by another run",
                "look again when that has ended",
                code="database-busy",
                values={"path": path},
            )
        return _not_opened(path, error, line)
    except sqlite3.DatabaseError as error:
        return line.failed(
            "{path} is damaged: {reason}", _A_COPY, code="database-damaged", values={"path": path, "reason": error}
        )
    if verdict != "ok":
        return line.failed("{path} is damaged", _A_COPY, code="database-not-whole", values={"path": path})
    return _history(path, line) if path.name == history.FILE_NAME else None


def _history(path: Path, line: FindingMaker) -> Finding | None:
    """What keeps a run from using the history, whole as it is; one that is empty is begun by the next run."""
    if not path.stat().st_size:
        return None
    try:
        history.recorded_runs(path.parent, wait=_BUSY_SECONDS)
    except HistoryError as error:
        return line.of_error(error)
    return None


def _stranger(path: Path) -> str | None:
    """The owner of a file, where that is neither root nor whoever runs this; root may look for another user."""
    owner, reader = path.stat().st_uid, os.geteuid()
    return f"another user (uid {owner})" if reader and owner not in (0, reader) else None


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
