"""A place for files in the making: a directory of their own, beside the name that one of them gets when it is whole.

SQLite keeps other files beside the one that it writes, under names that follow from its own. The directory is locked
for as long as somebody works in it, so that one whose process was killed can be told, and goes the next time.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from evergreen_groups.state.own_files import directory_of, names_in

if TYPE_CHECKING:
    from pathlib import Path

_OPENED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BEGINNING = ".evergreen-groups."
# Whatever the file's name was to be: each night's backup has another one.
_OURS = re.compile(f"{re.escape(_BEGINNING)}[0-9a-f]{{12}}\\.part")


@contextmanager
def unfinished_directory(target: Path) -> Iterator[Path]:
    """A new directory beside ``target``, for its owner alone, which is gone when the block ends.

    Raises:
        OSError: none can be made there.
    """
    with directory_of(target) as parent:
        _remove_abandoned(parent)
        name, lock = _made(parent)
        try:
            yield target.parent / name
        finally:
            shutil.rmtree(name, dir_fd=parent, ignore_errors=True)
            os.close(lock)


def _made(parent: int) -> tuple[str, int]:
    while True:
        name = f"{_BEGINNING}{secrets.token_hex(6)}.part"
        os.mkdir(name, 0o700, dir_fd=parent)
        lock = os.open(name, _OPENED, dir_fd=parent)
        with suppress(OSError):  # a disk without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return name, lock
        os.close(lock)  # somebody took it for abandoned before it was locked


def _remove_abandoned(parent: int) -> None:
    """Remove what killed processes of this user left."""
    with suppress(OSError):  # a directory that can't be listed can be written in all the same
        for name in filter(_OURS.fullmatch, names_in(parent)):
            with suppress(OSError):
                lock = os.open(name, _OPENED, dir_fd=parent)
                try:
                    found = os.fstat(lock)
                    if found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(name, dir_fd=parent)
                finally:
                    os.close(lock)
