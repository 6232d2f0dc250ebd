"""Write files atomically, and open files and directories safely in places where other users may interfere."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO, TextIO, cast
from urllib.parse import urlsplit

from evergreen_groups.errors import ConfigurationError, DiskError
from evergreen_groups.message import Message, system_reason

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error codes for a full disk or an exceeded quota."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH_ONLY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)  # O_PATH needs no read permission


@contextmanager
def open_parent(path: Path) -> Iterator[int]:
    """Open the directory that ``path`` is in, even without permission to list it, and yield its descriptor."""
    descriptor = os.open(path.parent, _PATH_ONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """Open a directory for listing, following symbolic links, and yield its descriptor."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names_in(directory: int) -> list[str]:
    """Return the names in a directory (a descriptor).

    Raises:
        OSError: the directory can't be listed.
    """
    listed = os.open(".", _DIRECTORY, dir_fd=directory)
    try:
        return os.listdir(listed)  # noqa: PTH208 - a descriptor
    finally:
        os.close(listed)


def sync(directory: int) -> None:
    """Sync a directory's entries to disk, if the system allows it."""
    with suppress(OSError):
        listed = os.open(".", _DIRECTORY, dir_fd=directory)
        try:
            os.fsync(listed)
        finally:
            os.close(listed)


@contextmanager
def private_directory(name: str, parent: int) -> Iterator[int]:
    """Open the directory ``name`` in ``parent`` and yield its descriptor. Create it with mode 0700 if necessary.

    Raises:
        OSError: the name belongs to something else, or other users can write to the directory.
    """
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        raise _explain(error) from error
    try:
        found = os.fstat(descriptor)
        _refuse_other_owner(found, parent)
        if found.st_mode & stat.S_IWOTH:
            raise _refusal(Message("everybody can write to it"))
        yield descriptor
    finally:
        os.close(descriptor)


def open_own(name: str, flags: int, parent: int, *, any_owner: bool = False) -> int:
    """Open the file ``name`` in ``parent``. With ``O_CREAT``, create it with mode 0600.

    ``any_owner`` allows a file of another user, for files that are only read.

    Raises:
        OSError: it isn't this user's regular file, or has more than one name.
    """
    try:
        # O_NONBLOCK: opening a pipe that someone put there must not hang.
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=parent)
    except OSError as error:
        raise _explain(error) from error
    try:
        require_own_file(os.fstat(descriptor), parent, any_owner=any_owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def give_to_directory_owner(descriptor: int, parent: int) -> None:
    """Give a new file to the owner of its directory if this process is root.

    The owner of a state directory couldn't use files that belong to root.
    """
    owner = os.fstat(parent)
    if not os.geteuid() and owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def is_own(name: str, parent: int) -> bool:
    """Return whether :func:`open_own` would open the file ``name`` in ``parent``, without opening it."""
    try:
        require_own_file(os.stat(name, dir_fd=parent, follow_symlinks=False), parent)
    except OSError:
        return False
    return True


def require_own_companions(name: str, endings: Iterable[str], parent: int) -> None:
    """Verify that the files next to ``name`` with these suffixes are this user's own. A missing file is fine.

    Raises:
        OSError: names the first file that isn't.
    """
    for ending in endings:
        try:
            require_own_file(os.stat(name + ending, dir_fd=parent, follow_symlinks=False), parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            values = {"file": name + ending, "reason": system_reason(error)}
            raise _refusal(Message("beside it is {file}: {reason}", values=values)) from error


def require_own_file(found: os.stat_result, parent: int, *, any_owner: bool = False) -> None:
    """Raise OSError unless this is a regular file of this user with only one name."""
    if stat.S_ISLNK(found.st_mode):
        raise _refusal(Message("it is a symbolic link"))
    if not stat.S_ISREG(found.st_mode):
        raise _refusal(Message("it is not a regular file"))
    if any_owner:
        return
    _refuse_other_owner(found, parent)
    if found.st_nlink > 1:
        raise _refusal(Message("it has another name as well"))


def _refuse_other_owner(found: os.stat_result, parent: int) -> None:
    """Refuse another user's file. Root may work with files that belong to the owner of the directory."""
    user = os.geteuid()
    if found.st_uid != user and (user or found.st_uid != os.fstat(parent).st_uid):
        raise _refusal(Message("it belongs to another user"))


def _refusal(reason: Message) -> OSError:
    return PermissionError(errno.EPERM, reason)


def _explain(error: OSError) -> OSError:
    """Replace the error for a symbolic link with a readable one."""
    return _refusal(Message("it is a symbolic link")) if error.errno == errno.ELOOP else error


_NO_PERMISSION = (
    Message("allow this user to write in the directory or name another file"),
    Message("allow this user to write in the directory or name another directory"),
)
_ADVICE = {
    errno.ENOENT: (
        Message("create the directory or name another file"),
        Message("create the directory or name another directory"),
    ),
    errno.EEXIST: (
        Message("name another file, or move away what is there"),
        Message("name another directory, or move away what is there"),
    ),
    errno.ENOTDIR: (
        Message("part of the path is no directory: name another file"),
        Message("part of the path is no directory: name another directory"),
    ),
    errno.EISDIR: (Message("name a file in it"), Message("name a directory in it")),
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: (
        Message("name a file on a disk that can be written to"),
        Message("name a directory on a disk that can be written to"),
    ),
    errno.ENOSPC: (
        Message("make room on the disk or name a file on another"),
        Message("make room on the disk or name a directory on another"),
    ),
    errno.EDQUOT: (
        Message("make room or name a file elsewhere"),
        Message("make room or name a directory elsewhere"),
    ),
    errno.ENAMETOOLONG: (Message("name it shorter"), Message("name it shorter")),
}
_DEFAULT_ADVICE = (Message("name another file"), Message("name another directory"))
"""Advice for an error while writing: a pair for a file and for a directory."""
_UNFINISHED = ".part"
_MAX_NAME_BYTES = 255
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def write_atomically(path: Path) -> Iterator[TextIO]:
    """Yield a UTF-8 stream whose text replaces the file at ``path`` when the block ends.

    The text goes to a temporary file in the same directory, with mode 0600 from the start. The temporary file replaces
    ``path`` once it is safely on disk. A symbolic link is replaced, not followed. If the block raises, the old file
    stays and the temporary one is removed. The temporary file of a killed process is removed by the next call. Line
    ends are written unchanged.

    Raises:
        ConfigurationError: the file can't be written.
        DiskError: the disk is full or failing.
    """
    with _replacing(path, binary=False) as stream:
        yield cast("TextIO", stream)


@contextmanager
def write_bytes_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream of bytes that replace the file at ``path``. See :func:`write_atomically`."""
    with _replacing(path, binary=True) as stream:
        yield cast("BinaryIO", stream)


@contextmanager
def _replacing(path: Path, *, binary: bool) -> Iterator[IO[str] | IO[bytes]]:
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(open_parent(path))
            handle, temporary = _create_temporary(path, directory)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            with os.fdopen(handle, "wb") if binary else os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                yield stream
                stream.flush()
                # Sync before renaming, because a power cut could leave an empty file that looks complete.
                os.fsync(stream.fileno())
                # Both names are on the same disk, so the rename is atomic: readers see the old file or the new one.
                os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
                sync(directory)
        except BaseException as error:  # clean up after an interrupt too
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            if isinstance(error, OSError) and (error.errno in _DISK_ERRORS or error.filename == temporary):
                raise _cannot_write(path, error) from error
            raise


def _create_temporary(path: Path, directory: int) -> tuple[int, str]:
    """Create the temporary file (mode 0600) in ``directory``. Keep it locked while it is being written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, Message("not a regular file"))
    # A name has at most 255 bytes, including the random letters and the suffix.
    prefix = f".{path.name[:100]}."
    _remove_abandoned(directory, prefix)
    if len(os.fsencode(path.name)) > _MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    while True:
        name = f"{prefix}{secrets.token_hex(6)}{_UNFINISHED}"
        handle = open_own(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, directory)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process removed it as abandoned before it was locked


def _remove_abandoned(directory: int, prefix: str) -> None:
    """Remove this user's temporary files that no process is writing any more, because it was killed."""
    with suppress(OSError):  # a directory that can't be listed can still be written to
        for name in names_in(directory):
            if not (name.startswith(prefix) and name.endswith(_UNFINISHED) and is_own(name, directory)):
                continue
            with suppress(OSError):
                handle = open_own(name, os.O_RDONLY, directory)
                try:
                    # A writer holds the lock, so a file that can be locked has been abandoned.
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=directory)
                finally:
                    os.close(handle)


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
        raise _cannot_write(directory, error, directory=True) from error


def _cannot_write(path: Path, error: OSError, *, directory: bool = False) -> ConfigurationError:
    advice = _ADVICE.get(error.errno or 0, _DEFAULT_ADVICE)[directory]
    values = {"path": path, "reason": system_reason(error) if error.strerror else error}
    if error.errno in _DISK_ERRORS:
        return DiskError("cannot write {path}: {reason}", advice=advice, values=values)
    return ConfigurationError("cannot write {path}: {reason}", advice=advice, code="file-not-written", values=values)


_OPENED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PREFIX = ".evergreen-groups."
# Matches leftovers for any target: each night's backup has a different name.
_UNFINISHED_NAME = re.compile(f"{re.escape(_PREFIX)}[0-9a-f]{{12}}\\.part")


@contextmanager
def unfinished_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory next to ``target`` with mode 0700, and remove it when the block ends.

    Raises:
        OSError: the directory can't be created.
    """
    with open_parent(target) as parent:
        _remove_unfinished(parent)
        name, lock = _make_unfinished(parent)
        try:
            yield target.parent / name
        finally:
            shutil.rmtree(name, dir_fd=parent, ignore_errors=True)
            os.close(lock)


def _make_unfinished(parent: int) -> tuple[str, int]:
    while True:
        name = f"{_PREFIX}{secrets.token_hex(6)}.part"
        os.mkdir(name, 0o700, dir_fd=parent)
        lock = os.open(name, _OPENED, dir_fd=parent)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return name, lock
        os.close(lock)  # another process removed it as abandoned before it was locked


def _remove_unfinished(parent: int) -> None:
    """Remove what killed processes of this user left behind."""
    with suppress(OSError):  # a directory that can't be listed can still be written to
        for name in filter(_UNFINISHED_NAME.fullmatch, names_in(parent)):
            with suppress(OSError):
                lock = os.open(name, _OPENED, dir_fd=parent)
                try:
                    found = os.fstat(lock)
                    if found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(name, dir_fd=parent)
                finally:
                    os.close(lock)


def temporary_directory() -> Path:
    """Return the directory for temporary files, by the same rules as SQLite (https://sqlite.org/tempfiles.html)."""
    return Path(os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108


def private_file() -> BinaryIO:
    """Open a new unnamed file that only this user can read. It disappears when it is closed or the process ends.

    Raises:
        ConfigurationError: the file can't be created.
    """
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
    """Return the directory for the cached IDL: systemd's, or the user's own. None without a home directory."""
    if environ.get("CACHE_DIRECTORY"):
        return Path(environ["CACHE_DIRECTORY"].split(":")[0])
    home = environ.get("XDG_CACHE_HOME") or (Path(environ["HOME"]) / ".cache" if environ.get("HOME") else None)
    return Path(home) / "evergreen-groups" if home else None


def make_state_directory(path: Path) -> Path:
    """Create a state directory with mode 0700, if necessary.

    Raises:
        ConfigurationError: the directory can't be created.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            "cannot make the state directory {path}: {reason}",
            advice=Message("make room on the disk")
            if error.errno in NO_ROOM
            else Message("let this user make the directory"),
            code="state-directory-not-made",
            values={"path": path, "reason": system_reason(error)},
        ) from error
    return path


def gateway_key(url: str) -> str:
    """Return a short name for a gateway's address, usable in file names."""
    # The host is for readers. The digest tells apart two gateways on one host.
    host = "".join(letter if letter.isalnum() else "-" for letter in urlsplit(url).hostname or "gateway")
    return f"{host}-{sha256(url.encode()).hexdigest()[:8]}"
