"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, TextIO, cast

from evergreen_groups.errors import ConfigurationError, DiskError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADVICE = {
    errno.ENOENT: "create the directory or name another {kind}",
    errno.EEXIST: "name another {kind}, or move away what is there",
    errno.ENOTDIR: "name a {kind} in a directory",
    errno.EISDIR: "name a {kind} in it",
    errno.EACCES: "allow this user to write in the directory or name another {kind}",
    errno.EPERM: "allow this user to write in the directory or name another {kind}",
    errno.EROFS: "name a {kind} on a disk that can be written to",
    errno.ENOSPC: "make room on the disk or name a {kind} on another",
    errno.EDQUOT: "make room or name a {kind} elsewhere",
    errno.ENAMETOOLONG: "name it shorter",
}
_UNFINISHED = ".part"
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def write_atomically(path: Path) -> Iterator[TextIO]:
    """Give a UTF-8 stream whose text becomes the file at ``path`` when the block ends.

    The text goes to a temporary file beside it, which only its owner may read from the start on (mode 0600), and
    which takes the place of ``path`` once it is safely on disk. A symbolic link is replaced, not followed. When the
    block raises, the old file stays as it is and the temporary one is removed; that of a process which was killed is
    removed by the next.

    Raises ``ConfigurationError`` when the file can't be written (``DiskError`` for want of room). Line ends are written
    as they come.
    """
    with _replacing(path, binary=False) as stream:
        yield cast("TextIO", stream)


@contextmanager
def write_bytes_atomically(path: Path) -> Iterator[BinaryIO]:
    """The same as :func:`write_atomically`, for a stream of bytes."""
    with _replacing(path, binary=True) as stream:
        yield cast("BinaryIO", stream)


@contextmanager
def _replacing(path: Path, *, binary: bool) -> Iterator[IO[str] | IO[bytes]]:
    try:
        handle, temporary = _beside(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") if binary else os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            # Before the name leads to it: after a power cut an empty file would stand there, whole by all appearances.
            os.fsync(stream.fileno())
            _move(temporary, path)
    except BaseException as error:  # an interrupt as well must leave nothing behind
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.errno in _DISK_ERRORS or error.filename == str(temporary)):
            raise _cannot_write(path, error) from error
        raise


def _beside(path: Path) -> tuple[int, Path]:
    """Create the temporary file (``mkstemp`` gives it mode 0600), locked for as long as it is being written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    # A name has at most 255 bytes, mkstemp's own letters and the ending among them.
    prefix = f".{path.name[:100]}."
    _remove_abandoned(path.parent, prefix)
    while True:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=_UNFINISHED, dir=path.parent)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # somebody took it for abandoned before it was locked


def _remove_abandoned(directory: Path, prefix: str) -> None:
    """Remove temporary files that nobody is writing any more: their process was killed."""
    with suppress(OSError):  # a directory that can't be listed can be written in all the same
        abandoned = [path for path in directory.iterdir() if _is_temporary(path.name, prefix)]
        for path in abandoned:
            with suppress(BlockingIOError), path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _is_temporary(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.endswith(_UNFINISHED)


def _move(temporary: Path, path: Path) -> None:
    """Put the finished file in its place, and the directory's new entry on disk where the system lets us."""
    # On the same disk, so it happens in one step; readers have the old file or the new one.
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Put a directory's entries on disk, where the system lets us."""
    with suppress(OSError):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def writing_in(directory: Path) -> Iterator[None]:
    """Say what to do when the system refuses something in the block, which does nothing but write in ``directory``.

    Raises ``ConfigurationError`` for every ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(directory, error, "directory") from error


def _cannot_write(path: Path, error: OSError, kind: str = "file") -> ConfigurationError:
    advice = _ADVICE.get(error.errno or 0, "name another {kind}")
    values = {"path": path, "reason": error.strerror or error, "kind": kind}
    if error.errno in _DISK_ERRORS:
        return DiskError("cannot write {path}: {reason}", advice=advice, values=values)
    return ConfigurationError("cannot write {path}: {reason}", advice=advice, code="file-not-written", values=values)
