"""Write files atomically, and open files and directories safely in places where other users may interfere."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import BinaryIO, TextIO, cast
from urllib.parse import urlsplit

from evergreen_groups.errors import ConfigurationError, DiskError
from evergreen_groups.message import Message, system_reason

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error codes for a full disk or an exceeded quota."""
_DISK_ERRORS = NO_ROOM | {errno.EIO, errno.EROFS}


def sync_directory(path: Path) -> None:
    """Sync a directory's entries to disk, if the system allows it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def give_to_directory_owner(descriptor: int, directory: Path) -> None:
    """Give a new file to the owner of its directory if this process is root. The owner couldn't use root's files."""
    owner = directory.stat()
    if not os.geteuid() and owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


CHOOSE_ANOTHER = Message("choose another path")
_NO_PERMISSION = Message("give this user write access to the directory, or choose another path")
_DISK_FULL = Message("free up disk space, or choose another path")
_ADVICE = {
    errno.ENOENT: Message("create the directory, or choose another path"),
    errno.EEXIST: Message("move {path} away, or choose another path"),
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    **dict.fromkeys(NO_ROOM, _DISK_FULL),
}


def write_advice(error: OSError) -> Message:
    """Return the advice for an error while writing to the value ``path``."""
    return _ADVICE.get(error.errno or 0, CHOOSE_ANOTHER)


# One prefix for all targets: each night's backup has another name, and must find what the last one left.
_PREFIX, _SUFFIX = ".evergreen-groups.", ".part"


@contextmanager
def atomic_write(path: Path, *, new: bool = False) -> Iterator[BinaryIO]:
    """Yield an unfinished file (mode 0600) next to ``path``, which becomes ``path``, safe on disk, when the block ends.

    If the block raises, the old file stays. A symbolic link is replaced, not followed. What a killed process leaves is
    removed by the next call for any file in the directory. Raises OSError: FileExistsError for one to be ``new``.
    """
    if new and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, Message("not a regular file"))
    remove_abandoned(path.parent)
    with _unfinished_file(path.parent) as stream:
        unfinished = Path(stream.name)
        try:
            yield stream
            stream.flush()
            # Sync before renaming, because a power cut could leave an empty file that looks complete.
            os.fsync(stream.fileno())
            # Both names are on the same disk, so this is atomic: readers see the old file or the new one.
            if new:
                path.hardlink_to(unfinished)
            else:
                unfinished.replace(path)
            sync_directory(path.parent)
        finally:  # also after an interrupt
            unfinished.unlink(missing_ok=True)


def _unfinished_file(directory: Path) -> BinaryIO:
    """Create a file, and lock it for as long as it is open."""
    while True:
        file = NamedTemporaryFile("wb", prefix=_PREFIX, suffix=_SUFFIX, dir=directory, delete=False)  # noqa: SIM115
        with suppress(OSError):  # a disk without locks
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return cast("BinaryIO", file)
        file.close()  # another process removed it as abandoned before it was locked


def remove_abandoned(directory: Path) -> None:
    """Remove this user's unfinished files that no process is writing any more, because it was killed."""
    for path in directory.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if found.st_nlink > 1:
                # The process was killed when the complete file had both names. Don't open it, because closing it would
                # release the locks that SQLite holds on it in other threads.
                if any(other != path and os.path.samestat(found, other.lstat()) for other in directory.iterdir()):
                    path.unlink()
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                # A writer holds the lock, so a file that can be locked has been abandoned.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def write_atomically(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 stream whose text replaces the file at ``path``. See :func:`write_bytes_atomically`."""
    with write_bytes_atomically(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        yield text
        text.detach()  # flushes


@contextmanager
def write_bytes_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream of bytes that replace the file at ``path`` when the block ends. See :func:`atomic_write`.

    Raises ConfigurationError, or DiskError if the disk is full or failing.
    """
    in_block = False
    try:
        with atomic_write(path) as stream:
            in_block = True
            yield stream
            in_block = False
    except OSError as error:
        if in_block and error.errno not in _DISK_ERRORS:  # not about the file
            raise
        raise _not_written(path, error) from error


@contextmanager
def write_errors(directory: Path) -> Iterator[None]:
    """Convert every OSError of a block that only writes in ``directory`` to ConfigurationError or DiskError."""
    try:
        yield
    except OSError as error:
        raise _not_written(directory, error) from error


def _not_written(path: Path, error: OSError) -> ConfigurationError:
    reason, advice = system_reason(error) if error.strerror else error, write_advice(error)
    if error.errno in _DISK_ERRORS:
        return DiskError("cannot write {path}: {reason}", advice=advice, values={"path": path, "reason": reason})
    return cannot_write(path, reason, advice, code="file-not-written")


def cannot_write(path: Path, reason: object, advice: Message, *, code: str) -> ConfigurationError:
    values = {"path": path, "reason": reason}
    return ConfigurationError("cannot write {path}: {reason}", advice=advice, code=code, values=values)


def temporary_directory() -> Path:
    """Return the directory for temporary files, by the same rules as SQLite (https://sqlite.org/tempfiles.html)."""
    return Path(os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108


def private_file() -> BinaryIO:
    """Open a new unnamed file that only this user can read. It disappears when it is closed or the process ends."""
    directory = temporary_directory()
    with write_errors(directory):
        return cast("BinaryIO", TemporaryFile(dir=directory))


REPORT_LOCK = "report.lock"
SYSTEM_DIRECTORY = Path("/var/lib/evergreen-groups")
"""The state directory of the systemd units and the crontab."""


def find_state_directory(environ: Mapping[str, str]) -> Path:
    """Return the state directory: systemd's ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME``, or ``~/.local/state``.

    For root, it is the units' directory if there is one, because root usually asks about the nightly run.
    """
    if environ.get("STATE_DIRECTORY"):
        # systemd separates the directories of a unit by colons.
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    if os.geteuid() == 0 and not environ.get("XDG_STATE_HOME") and SYSTEM_DIRECTORY.is_dir():
        return SYSTEM_DIRECTORY
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local" / "state")
    return Path(base) / "evergreen-groups"


def find_cache_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the cache directory: systemd's, or the user's own. None without a home directory."""
    if environ.get("CACHE_DIRECTORY"):
        return Path(environ["CACHE_DIRECTORY"].split(":")[0])
    home = environ.get("XDG_CACHE_HOME") or (Path(environ["HOME"]) / ".cache" if environ.get("HOME") else None)
    return Path(home) / "evergreen-groups" if home else None


def make_state_directory(path: Path) -> Path:
    """Create a state directory with mode 0700, if necessary.

    Refuse a directory that other users can write to, so that files in it need no checks of their own.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise cannot_write(path, system_reason(error), write_advice(error), code="state-directory-not-made") from error
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or os.geteuid() not in (0, found.st_uid):
        advice = Message("make it private (`chmod 700 {path}`), or choose another path")
        raise cannot_write(path, Message("other users can write to it"), advice, code="state-directory-not-made")
    return path


def make_own_directory(path: Path) -> Path:
    """Create a directory in the state directory with mode 0700, if necessary, and give it to that directory's owner."""
    make_state_directory(path.parent)
    if not path.exists():
        make_state_directory(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            give_to_directory_owner(descriptor, path.parent)
        finally:
            os.close(descriptor)
    return path


def gateway_key(url: str) -> str:
    """Return a short name for a gateway's address, usable in file names."""
    # The host is for readers. The digest tells apart two gateways on one host.
    host = "".join(letter if letter.isalnum() else "-" for letter in urlsplit(url).hostname or "gateway")
    return f"{host}-{sha256(url.encode()).hexdigest()[:8]}"
