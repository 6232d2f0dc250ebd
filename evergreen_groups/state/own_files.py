"""Opening files in directories that others may be able to write to.

Whoever can write in a directory can put a link, a pipe or a file of their own under any name that is about to be used
there. What is opened here is a regular file of this user's that has no other name, and is opened in a directory that
was opened before, so that nobody exchanges that meanwhile. What is refused is an ``OSError`` that says why.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evergreen_groups.message import Message, system_reason

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where the disk, or a user's part of it, is full."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_REACHED = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)  # O_PATH: it needn't be readable


@contextmanager
def directory_of(path: Path) -> Iterator[int]:
    """A descriptor of the directory that ``path`` is in, whether or not it can be listed."""
    descriptor = os.open(path.parent, _REACHED)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def listed_directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory that can be listed; links that lead to it are followed, as whoever named it wants."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names_in(directory: int) -> list[str]:
    """The names in a directory.

    Raises:
        OSError: it can't be listed.
    """
    listed = os.open(".", _DIRECTORY, dir_fd=directory)
    try:
        return os.listdir(listed)  # noqa: PTH208 - a descriptor
    finally:
        os.close(listed)


def sync(directory: int) -> None:
    """Put a directory's entries on disk, where the system lets us."""
    with suppress(OSError):
        listed = os.open(".", _DIRECTORY, dir_fd=directory)
        try:
            os.fsync(listed)
        finally:
            os.close(listed)


@contextmanager
def own_directory(name: str, parent: int) -> Iterator[int]:
    """A descriptor of the directory ``name`` in ``parent``; it is made, for its owner alone, where it isn't there.

    Raises:
        OSError: something else has that name, or others could write in it.
    """
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        raise _described(error) from error
    try:
        found = os.fstat(descriptor)
        _refuse_strangers(found, parent)
        if found.st_mode & stat.S_IWOTH:
            raise _refusal(Message("everybody can write to it"))
        yield descriptor
    finally:
        os.close(descriptor)


def open_own(name: str, flags: int, parent: int, *, anybodys: bool = False) -> int:
    """Open the file ``name`` in ``parent``; with ``O_CREAT`` it is made readable by its owner alone.

    ``anybodys``: it may belong to another user (where it is read only, by root for one).

    Raises:
        OSError: it isn't a regular file of this user's with one name.
    """
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=parent)
    except OSError as error:
        raise _described(error) from error
    try:
        refuse_what_is_not_own(os.fstat(descriptor), parent, anybodys=anybodys)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hand_over(descriptor: int, parent: int) -> None:
    """Give a file that was just made to the owner of its directory.

    Root may work in somebody's directory, and what it leaves there is that somebody's: they couldn't use it otherwise.
    """
    owner = os.fstat(parent)
    if not os.geteuid() and owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def is_own(name: str, parent: int) -> bool:
    """Whether the file ``name`` in ``parent`` is one that :func:`open_own` would open; nothing is opened."""
    try:
        refuse_what_is_not_own(os.stat(name, dir_fd=parent, follow_symlinks=False), parent)
    except OSError:
        return False
    return True


def refuse_beside(name: str, endings: Iterable[str], parent: int) -> None:
    """Raise an ``OSError`` that names the first of the files beside ``name`` that isn't such a file.

    One that isn't there is well.
    """
    for ending in endings:
        try:
            refuse_what_is_not_own(os.stat(name + ending, dir_fd=parent, follow_symlinks=False), parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            values = {"file": name + ending, "reason": system_reason(error)}
            raise _refusal(Message("beside it is {file}: {reason}", values=values)) from error


def refuse_what_is_not_own(found: os.stat_result, parent: int, *, anybodys: bool = False) -> None:
    """Raise an ``OSError`` unless it is a regular file of this user's with one name."""
    if stat.S_ISLNK(found.st_mode):
        raise _refusal(Message("it is a symbolic link"))
    if not stat.S_ISREG(found.st_mode):
        raise _refusal(Message("it is not a regular file"))
    if anybodys:
        return
    _refuse_strangers(found, parent)
    if found.st_nlink > 1:
        raise _refusal(Message("it has another name as well"))


def _refuse_strangers(found: os.stat_result, parent: int) -> None:
    """Root may work in somebody's directory, with files of that somebody."""
    user = os.geteuid()
    if found.st_uid != user and (user or found.st_uid != os.fstat(parent).st_uid):
        raise _refusal(Message("it belongs to another user"))


def _refusal(reason: Message) -> OSError:
    return PermissionError(errno.EPERM, reason)


def _described(error: OSError) -> OSError:
    """The refusal to follow a link, in words."""
    return _refusal(Message("it is a symbolic link")) if error.errno == errno.ELOOP else error
