"""Editions: directories of many files that appear complete or not at all, one per day, with a link to the latest.

A directory with files can't be replaced in one step, but a symbolic link can. So each edition is a separate directory
under ``.editions``, ``DIR/<date>`` is a link to an edition, and ``DIR/latest`` is a link to a date::

    DIR/latest      -> 2026-08-14
    DIR/2026-08-14  -> .editions/2026-08-14.k3x9q_2a
    DIR/.editions/2026-08-14.k3x9q_2a/...

The next run removes each edition without a date's link: from a run that was killed, from an earlier run on the same
day, or of a date whose link was deleted.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message
from evergreen_groups.state.files import make_state_directory, sync_directory, write_errors
from evergreen_groups.state.lock import hold

log = logging.getLogger("evergreen_groups.state")

_MAX_GAP = timedelta(days=3 * 365)
"""A longer gap between two runs means that a clock was or is wrong, not that no report ran for years."""
LATEST = "latest"
_STORE = ".editions"
_LOCK = "lock"
_NEW_LINK = "link"
_EDITION = re.compile(r"\d{4}-\d\d-\d\d\.[0-9a-f]{8}")


@contextmanager
def new_edition(directory: Path, day: date, *, keep_days: int | None = None) -> Iterator[Callable[[str], BinaryIO]]:
    """Yield a function that creates files, by name, which only their owner may read.

    Their directory becomes ``directory/<day>`` and ``directory/latest`` when the block ends. Both links keep their
    targets until then, and also if the block raises or the process is killed. An edition of the same day is replaced.
    With ``keep_days``, remove dates older than that many days with their editions, unless the clock is years ahead of
    the last run. New directories have mode 0700.

    Raises:
        BusyError: another process is writing an edition there.
        ConfigurationError: the directory can't be written, or something other than a link has the name of a link.
    """

    def create(name: str) -> BinaryIO:
        return open(edition / name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600))

    store = directory / _STORE
    # A unique name for each run: a second run on the same day leaves an edition alone that is being read.
    edition = store / f"{day}.{secrets.token_hex(4)}"
    with write_errors(directory):
        directory.mkdir(mode=0o700, exist_ok=True)
        make_state_directory(store)
        # Root itself may write anywhere.
        if store.is_symlink() or store.stat().st_uid not in (os.geteuid(), directory.stat().st_uid):
            raise _in_the_way(store)
        with hold(store / _LOCK, Message("another run is writing to {directory}", values={"directory": directory})):
            for link in (directory / LATEST, directory / day.isoformat()):
                if os.path.lexists(link) and not link.is_symlink():
                    raise _in_the_way(link)
            _remove_unused(directory)
            try:
                edition.mkdir(mode=0o700)
                yield create
                _sync(edition)
                _replace_link(directory, day.isoformat(), f"{_STORE}/{edition.name}")
                # After the date's link, because this link leads through it.
                _replace_link(directory, LATEST, day.isoformat())
                if keep_days is not None:
                    _remove_old_links(directory, day, keep_days)
            finally:  # after an interrupt too
                with suppress(OSError):
                    _remove_unused(directory)


def _in_the_way(path: Path) -> ConfigurationError:
    return ConfigurationError(
        "{path} already exists",
        advice="move {path} away, or choose another path",
        code="link-in-the-way",
        values={"path": path},
    )


def _sync(edition: Path) -> None:
    """Sync all files to disk, before any link points to the edition."""
    for path in edition.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_directory(edition)
    sync_directory(edition.parent)


def _replace_link(directory: Path, link: str, target: str) -> None:
    """Point a link to ``target`` in one step, so that readers always find it."""
    new = directory / _STORE / _NEW_LINK
    new.symlink_to(target)
    new.replace(directory / link)
    sync_directory(directory)


def _remove_old_links(directory: Path, day: date, keep_days: int) -> None:
    """Remove the links of dates at least ``keep_days`` before ``day``, and nothing else in the directory.

    Keep dates from before a gap of years, and log dates in the future: both mean that a clock was wrong. If the clock
    is decades ahead for one night, everything looks too old.
    """
    days = sorted(_dated_editions(directory))
    first = date.min
    for earlier, later in pairwise(one for one in days if one <= day):
        if later - earlier > _MAX_GAP:
            gap = "not deleting anything in %s before %s: there is a gap of years until %s; check the clock"
            log.error(gap, directory, later, earlier)
            first = later
    for one in days:
        if first <= one <= day - timedelta(days=keep_days):
            (directory / one.isoformat()).unlink()
        elif one > day + timedelta(days=1):
            log.error("%s is dated in the future because a clock was wrong; delete it", directory / one.isoformat())


def _remove_unused(directory: Path) -> None:
    """Remove editions without a date's link, and a new link that wasn't put in place."""
    in_use = _dated_editions(directory).values()
    for path in (directory / _STORE).iterdir():
        if path.name == _NEW_LINK:
            path.unlink()
        elif _EDITION.fullmatch(path.name) and path.name not in in_use:
            shutil.rmtree(path)


def _dated_editions(directory: Path) -> dict[date, str]:
    """Return the name of the edition that each date's link leads to."""
    found = {}
    for link in directory.iterdir():
        with suppress(ValueError, OSError):  # not a date, or not a link
            day, target = date.fromisoformat(link.name), link.readlink()
            if link.name == day.isoformat() and target.parent == Path(_STORE):
                found[day] = target.name
    return found
