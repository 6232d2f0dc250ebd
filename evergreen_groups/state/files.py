"""Write files atomically, and open files and directories safely in places where other users may interfere."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, TextIO, cast
from urllib.parse import urlsplit

from evergreen_groups.errors import ConfigurationError, DiskError
from evergreen_groups.message import Message, system_reason

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error codes for a full disk or an exceeded quota."""
_DISK_ERRORS = NO_ROOM | {errno.EIO, errno.EROFS}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH_ONLY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


@contextmanager
def open_directory(path: str | Path, within: int | None = None, *, list_it: bool = False) -> Iterator[int]:
    """Open a directory, following symbolic links, and yield its descriptor.

    ``within`` is the descriptor that a relative path starts from. Permission to list the directory is needed only to
    ``list_it``.
    """
    descriptor = os.open(path, _DIRECTORY if list_it else _PATH_ONLY, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names_in(directory: int) -> list[str]:
    """Return the names in a directory (a descriptor)."""
    with open_directory(".", directory, list_it=True) as listed:
        return os.listdir(listed)  # noqa: PTH208 - a descriptor


def sync(directory: int) -> None:
    """Sync a directory's entries to disk, if the system allows it."""
    with suppress(OSError), open_directory(".", directory, list_it=True) as listed:
        os.fsync(listed)


@contextmanager
def private_directory(name: str, parent: int) -> Iterator[int]:
    """Open the directory ``name`` in ``parent`` and yield its descriptor. Create it with mode 0700 if necessary."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    descriptor = _open(name, _DIRECTORY, parent)
    try:
        found = os.fstat(descriptor)
        _refuse_other_owner(found, parent)
        if found.st_mode & stat.S_IWOTH:
            raise _refusal(Message("other users can write to it"))
        yield descriptor
    finally:
        os.close(descriptor)


def open_own(name: str, flags: int, parent: int) -> int:
    """Open the file ``name`` in ``parent``. With ``O_CREAT``, create it with mode 0600.

    Raise OSError unless it is this user's regular file with one name.
    """
    # O_NONBLOCK: opening a pipe that someone put there must not hang.
    descriptor = _open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC, parent)
    try:
        _require_own_file(os.fstat(descriptor), parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(name: str, flags: int, parent: int) -> int:
    """Open a name that may not be a symbolic link."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _refusal(Message("a symbolic link")) from error


def give_to_directory_owner(descriptor: int, parent: int | Path) -> None:
    """Give a new file to the owner of its directory if this process is root.

    The owner of a state directory couldn't use files that belong to root.
    """
    owner = os.stat(parent)  # noqa: PTH116 - may be a descriptor
    if not os.geteuid() and owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _require_own_file(found: os.stat_result, parent: int) -> None:
    """Raise OSError unless this is a regular file of this user with only one name."""
    if stat.S_ISLNK(found.st_mode):
        raise _refusal(Message("a symbolic link"))
    if not stat.S_ISREG(found.st_mode):
        raise _refusal(Message("not a regular file"))
    _refuse_other_owner(found, parent)
    if found.st_nlink > 1:
        raise _refusal(Message("more than one hard link"))


def _refuse_other_owner(found: os.stat_result, parent: int) -> None:
    """Refuse another user's file. Root may work with files that belong to the owner of the directory."""
    user = os.geteuid()
    if found.st_uid != user and (user or found.st_uid != os.fstat(parent).st_uid):
        raise _refusal(Message("another user owns it"))


def _refusal(reason: Message) -> OSError:
    return PermissionError(errno.EPERM, reason)


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
def unfinished_file(path: Path, *, new: bool = False) -> Iterator[tuple[int, Path]]:
    """Yield a file (mode 0600) next to ``path``, as descriptor and path. It becomes ``path`` when the block ends.

    By then it is safely on disk. If the block raises, the old file stays. A symbolic link is replaced, not followed.
    With ``new``, nothing is replaced. The unfinished file of a killed process is removed by the next call for any
    file in the same directory. Raises OSError, such as FileExistsError for one that was to be ``new``.
    """
    with open_directory(path.parent) as directory:
        _refuse_target(path, new=new)
        _remove_abandoned(directory)
        descriptor, name = _create_unfinished(directory)
        try:
            yield descriptor, path.parent / name
            # Sync before renaming, because a power cut could leave an empty file that looks complete.
            os.fsync(descriptor)
            # Both names are on the same disk, so this is atomic: readers see the old file or the new one.
            if new:
                os.link(name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                os.replace(name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            sync(directory)
        finally:  # also after an interrupt
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            os.close(descriptor)


def _refuse_target(path: Path, *, new: bool) -> None:
    if new and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, Message("not a regular file"))


def _create_unfinished(directory: int) -> tuple[int, str]:
    """Create the file, and lock it for as long as it is open."""
    while True:
        name = f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}"
        descriptor = open_own(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, directory)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)  # another process removed it as abandoned before it was locked


def _remove_abandoned(directory: int) -> None:
    """Remove this user's unfinished files that no process is writing any more, because it was killed."""
    with suppress(OSError):  # a directory that can't be listed can still be written to
        for name in names_in(directory):
            if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
                continue
            with suppress(OSError):
                # Look before opening, because opening some devices has effects.
                _require_own_file(os.stat(name, dir_fd=directory, follow_symlinks=False), directory)
                descriptor = open_own(name, os.O_RDONLY, directory)
                try:
                    # A writer holds the lock, so a file that can be locked has been abandoned.
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=directory)
                finally:
                    os.close(descriptor)


@contextmanager
def write_atomically(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 stream whose text replaces the file at ``path`` when the block ends.

    Line ends are written unchanged. See :func:`unfinished_file`.

    Raises:
        ConfigurationError: the file can't be written.
        DiskError: the disk is full or failing.
    """
    with write_bytes_atomically(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        yield text
        text.detach()  # flushes


@contextmanager
def write_bytes_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream of bytes that replace the file at ``path``. See :func:`write_atomically`."""
    in_block = False
    try:
        with unfinished_file(path) as (descriptor, _), os.fdopen(descriptor, "wb", closefd=False) as stream:
            in_block = True
            yield stream
            in_block = False
    except OSError as error:
        if in_block and error.errno not in _DISK_ERRORS:  # not about the file
            raise
        raise _cannot_write(path, error) from error


@contextmanager
def write_errors(directory: Path) -> Iterator[None]:
    """Convert every OSError of a block that only writes in ``directory``, and add advice.

    Raises:
        ConfigurationError: the system refused to write.
        DiskError: the disk is full or failing.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(directory, error) from error


def _cannot_write(path: Path, error: OSError) -> ConfigurationError:
    advice = write_advice(error)
    values = {"path": path, "reason": system_reason(error) if error.strerror else error}
    if error.errno in _DISK_ERRORS:
        return DiskError("cannot write {path}: {reason}", advice=advice, values=values)
    return ConfigurationError("cannot write {path}: {reason}", advice=advice, code="file-not-written", values=values)


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
        raise ConfigurationError(
            "cannot write {path}: {reason}",
            advice=write_advice(error),
            code="state-directory-not-made",
            values={"path": path, "reason": system_reason(error)},
        ) from error
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or os.geteuid() not in (0, found.st_uid):
        raise ConfigurationError(
            "other users can write to {path}",
            advice="make it private (`chmod 700 {path}`), or choose another path",
            code="state-directory-open",
            values={"path": path},
        )
    return path


def gateway_key(url: str) -> str:
    """Return a short name for a gateway's address, usable in file names."""
    # The host is for readers. The digest tells apart two gateways on one host.
    host = "".join(letter if letter.isalnum() else "-" for letter in urlsplit(url).hostname or "gateway")
    return f"{host}-{sha256(url.encode()).hexdigest()[:8]}"
