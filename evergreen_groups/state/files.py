"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast

from evergreen_groups.errors import ConfigurationError, DiskError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.own_files import directory_of, is_own, names_in, open_own, sync

_MAY_NOT = (
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
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
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
_ANOTHER = (Message("name another file"), Message("name another directory"))
"""What to do when the system refuses to write a file, and a directory."""
_UNFINISHED = ".part"
_LONGEST_NAME = 255
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
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(directory_of(path))
            handle, temporary = _beside(path, directory)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            with os.fdopen(handle, "wb") if binary else os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                yield stream
                stream.flush()
                # Before the name leads to it: after a power cut an empty file would stand there and look whole.
                os.fsync(stream.fileno())
                _move(temporary, path.name, directory)
        except BaseException as error:  # an interrupt as well must leave nothing behind
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            if isinstance(error, OSError) and (error.errno in _DISK_ERRORS or error.filename == temporary):
                raise _cannot_write(path, error) from error
            raise


def _beside(path: Path, directory: int) -> tuple[int, str]:
    """Create the temporary file (mode 0600) in ``directory``, locked for as long as it is being written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, Message("not a regular file"))
    # A name has at most 255 bytes, the random letters and the ending among them.
    prefix = f".{path.name[:100]}."
    _remove_abandoned(directory, prefix)
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    while True:
        name = f"{prefix}{secrets.token_hex(6)}{_UNFINISHED}"
        handle = open_own(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, directory)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # somebody took it for abandoned before it was locked


def _remove_abandoned(directory: int, prefix: str) -> None:
    """Remove temporary files of this user's that nobody is writing any more: their process was killed."""
    with suppress(OSError):  # a directory that can't be listed can be written in all the same
        for name in names_in(directory):
            if not _is_temporary(name, prefix) or not is_own(name, directory):
                continue
            with suppress(OSError):
                handle = open_own(name, os.O_RDONLY, directory)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=directory)
                finally:
                    os.close(handle)


def _is_temporary(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.endswith(_UNFINISHED)


def _move(temporary: str, name: str, directory: int) -> None:
    """Put the finished file in its place, and the directory's new entry on disk where the system lets us."""
    # On the same disk, so it happens in one step; readers have the old file or the new one.
    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    sync(directory)


@contextmanager
def writing_in(directory: Path) -> Iterator[None]:
    """Say what to do when the system refuses something in the block, which does nothing but write in ``directory``.

    Raises ``ConfigurationError`` for every ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(directory, error, directory=True) from error


def _cannot_write(path: Path, error: OSError, *, directory: bool = False) -> ConfigurationError:
    advice = _ADVICE.get(error.errno or 0, _ANOTHER)[directory]
    values = {"path": path, "reason": system_reason(error) if error.strerror else error}
    if error.errno in _DISK_ERRORS:
        return DiskError("cannot write {path}: {reason}", advice=advice, values=values)
    return ConfigurationError("cannot write {path}: {reason}", advice=advice, code="file-not-written", values=values)
