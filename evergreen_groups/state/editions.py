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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
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


class Edition:
    """A directory that is being filled."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, name: str) -> BinaryIO:
        """Create a file that only its owner may read."""
        return open(self._directory / name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600))

    def sync_files(self) -> None:
        """Sync all files to disk, before any link points to the edition."""
        for path in self._directory.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        sync_directory(self._directory)


@contextmanager
def new_edition(directory: Path, day: date, *, keep_days: int | None = None) -> Iterator[Edition]:
    """Yield an empty directory that becomes ``directory/<day>`` and ``directory/latest`` when the block ends.

    Both links keep their targets until then, and also if the block raises or the process is killed. An edition of the
    same day is replaced. With ``keep_days``, remove dates older than that many days with their editions, unless the
    clock is years ahead of the last run. New directories have mode 0700.

    Raises:
        BusyError: another process is writing an edition there.
        ConfigurationError: the directory can't be written, or something other than a link has the name of a link.
    """
    store = directory / _STORE
    with write_errors(directory):
        directory.mkdir(mode=0o700, exist_ok=True)
        if store.is_symlink():
            raise _in_the_way(store)
        make_state_directory(store)
        if store.stat().st_uid not in (os.geteuid(), directory.stat().st_uid):  # root itself may write anywhere
            raise _in_the_way(store)
        busy = Message("another run is writing to {directory}", values={"directory": directory})
        with hold(store / _LOCK, busy):
            for link in (directory / LATEST, directory / day.isoformat()):
                if os.path.lexists(link) and not link.is_symlink():
                    raise _in_the_way(link)
            _remove_unused(directory)
            try:
                # A unique name for each run, so that a second run on the same day doesn't write into an edition being
                # read.
                name = f"{day}.{secrets.token_hex(4)}"
                (store / name).mkdir(mode=0o700)
                edition = Edition(store / name)
                yield edition
                edition.sync_files()
                sync_directory(store)
                _replace_link(directory, day.isoformat(), f"{_STORE}/{name}")
            except BaseException:  # clean up after an interrupt too
                with suppress(OSError):
                    _remove_unused(directory)
                raise
            # After the date's link, because this link leads through it.
            _replace_link(directory, LATEST, day.isoformat())
            if keep_days is not None:
                _remove_old_links(directory, day, keep_days)
            _remove_unused(directory)


def _in_the_way(path: Path) -> ConfigurationError:
    return ConfigurationError(
        "{path} already exists",
        advice="move {path} away, or choose another path",
        code="link-in-the-way",
        values={"path": path},
    )


def _replace_link(directory: Path, link: str, target: str) -> None:
    """Point a link to ``target`` in one step."""
    # Replace the link instead of deleting it first, so that readers always find one.
    new = directory / _STORE / _NEW_LINK
    new.symlink_to(target)
    new.replace(directory / link)
    sync_directory(directory)


def _remove_old_links(directory: Path, day: date, keep_days: int) -> None:
    """Remove the links of dates at least ``keep_days`` before ``day``, and nothing else in the directory.

    Keep dates from before a gap of years, and log dates in the future: both mean that a clock was wrong. If the clock
    is decades ahead for one night, everything looks too old.
    """
    days = [date.fromisoformat(link) for link, _edition in _date_links(directory)]
    since = day
    for one in sorted((one for one in days if one <= day), reverse=True):
        if since - one > _MAX_GAP:
            log.error(
                "not deleting anything in %s before %s: there is a gap of years until %s; check the clock",
                directory,
                since,
                one,
            )
            break
        since = one
    for one in days:
        if since <= one <= day - timedelta(days=keep_days):
            (directory / one.isoformat()).unlink()
        elif one > day + timedelta(days=1):
            log.error("%s is dated in the future because a clock was wrong; delete it", directory / one.isoformat())


def _remove_unused(directory: Path) -> None:
    """Remove editions without a date's link, and a new link that wasn't put in place."""
    in_use = {edition for _link, edition in _date_links(directory)}
    for path in (directory / _STORE).iterdir():
        if path.name == _NEW_LINK:
            path.unlink()
        elif _EDITION.fullmatch(path.name) and path.name not in in_use:
            shutil.rmtree(path)


def _date_links(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each date's link that points into the store, with the name of its edition."""
    for link in directory.iterdir():
        try:
            if date.fromisoformat(link.name).isoformat() != link.name:
                continue
            target = link.readlink()
        except (ValueError, OSError):  # not a date, or not a link
            continue
        if target.parent == Path(_STORE):
            yield link.name, target.name
