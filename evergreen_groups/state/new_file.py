"""Making the file that everything is kept in: it has its name when it is whole and on disk, or not at all.

One process at a time makes it, under a lock of the directory, which the kernel lets go of however that process ends.
What one that was killed has left is so nobody's any more, and goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

from evergreen_groups.errors import StateError
from evergreen_groups.state.engine import BESIDE, sqlite_engine
from evergreen_groups.state.lock import lock_in_time
from evergreen_groups.state.own_files import hand_over, listed_directory, names_in, sync

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def make_whole(path: Path, fill: Callable[[Engine], None], wait: float) -> None:
    """Put a new SQLite file in place that ``fill`` has filled, unless somebody else is faster.

    ``wait`` is how long (seconds) it waits for whoever is making it. A file that is there is never opened here: closing
    it would give up the locks that SQLite holds on it in other threads.

    Raises:
        StateError: somebody else is still making it.
        OSError: the directory can't be used.
    """
    with listed_directory(path.parent) as directory:
        if not lock_in_time(directory, wait):
            raise StateError(
                "the database {where} is just being made by another process",
                advice="run again when that has ended",
                code="database-being-made",
                values={"where": path},
            )
        if os.path.lexists(path):
            return
        prefix = f".{path.name}-"
        with _nothing_left(directory, prefix):
            handle, temporary = mkstemp(dir=path.parent, prefix=prefix)  # 0600 from the start
            try:
                hand_over(handle, directory)
            finally:
                os.close(handle)
            _fill(Path(temporary), fill, wait)
            # Not linked and unlinked: killed in between, that would leave a file with two names, which is refused.
            Path(temporary).rename(path)
            sync(directory)


@contextmanager
def _nothing_left(directory: int, prefix: str) -> Iterator[None]:
    """Remove unfinished files before and after the block, whoever left them: they are only made under the lock."""
    _remove(directory, prefix)
    try:
        yield
    finally:
        _remove(directory, prefix)


def _remove(directory: int, prefix: str) -> None:
    for name in names_in(directory):
        if name.startswith(prefix):
            with suppress(OSError):  # it costs room, and nothing else
                os.unlink(name, dir_fd=directory)


def _fill(path: Path, fill: Callable[[Engine], None], wait: float) -> None:
    engine = sqlite_engine(path, wait)
    try:
        fill(engine)
        # When it is closed SQLite does this as well, but says nothing where the disk is full: half of it would stay
        # in the file beside it, which keeps the unfinished name.
        with engine.connect() as connection:
            connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        engine.dispose()
    for ending in BESIDE:
        if os.path.lexists(f"{path}{ending}"):
            raise OSError(f"{path.name}{ending} was left")
