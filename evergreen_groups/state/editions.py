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
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message
from evergreen_groups.state.files import names_in, open_directory, private_directory, sync, write_errors
from evergreen_groups.state.lock import hold

log = logging.getLogger("evergreen_groups.state")

_MAX_GAP = timedelta(days=3 * 365)
"""A longer gap between two runs means that a clock was or is wrong, not that no report ran for years."""


LATEST = "latest"
_STORE = ".editions"
_LOCK = "lock"
_NEW_LINK = "link"


class Edition:
    """A directory that is being filled. It is held open, so a rename doesn't affect where files go."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def create(self, name: str) -> BinaryIO:
        """Create a file that only its owner may read."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(name, flags, 0o600, dir_fd=self._descriptor), "wb")

    def sync_files(self) -> None:
        """Sync all files to disk, before any link points to the edition."""
        for name in names_in(self._descriptor):
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._descriptor)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync(self._descriptor)


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
    with write_errors(directory), ExitStack() as stack:
        directory.mkdir(mode=0o700, exist_ok=True)
        top = stack.enter_context(open_directory(directory))
        store = stack.enter_context(private_directory(_STORE, top))
        busy = Message("another run is writing to {directory}", values={"directory": directory})
        stack.enter_context(hold(directory / _STORE / _LOCK, busy, directory=store))
        for link in (LATEST, day.isoformat()):
            with suppress(FileNotFoundError):
                if not stat.S_ISLNK(os.stat(link, dir_fd=top, follow_symlinks=False).st_mode):
                    raise ConfigurationError(
                        "{path} already exists",
                        advice="move {path} away, or choose another path",
                        code="link-in-the-way",
                        values={"path": directory / link},
                    )
        _remove_unused(top, store)
        try:
            # A unique name for each run, so that a second run on the same day doesn't write into an edition being read.
            name = f"{day}.{secrets.token_hex(4)}"
            with private_directory(name, store) as descriptor:
                edition = Edition(descriptor)
                yield edition
                edition.sync_files()
            sync(store)
            _replace_link(store, top, day.isoformat(), f"{_STORE}/{name}")
        except BaseException:  # clean up after an interrupt too
            with suppress(OSError):
                _remove_unused(top, store)
            raise
        # After the date's link, because this link leads through it.
        _replace_link(store, top, LATEST, day.isoformat())
        if keep_days is not None:
            _remove_old_links(directory, top, day, keep_days)
        _remove_unused(top, store)


def _replace_link(store: int, top: int, link: str, target: str) -> None:
    """Point a link to ``target`` in one step."""
    # Replace the link instead of deleting it first, so that readers always find one.
    os.symlink(target, _NEW_LINK, dir_fd=store)
    os.replace(_NEW_LINK, link, src_dir_fd=store, dst_dir_fd=top)
    sync(top)


def _remove_old_links(directory: Path, top: int, day: date, keep_days: int) -> None:
    """Remove the links of dates at least ``keep_days`` before ``day``, and nothing else in the directory.

    Keep dates from before a gap of years, and log dates in the future: both mean that a clock was wrong. If the clock
    is decades ahead for one night, everything looks too old.
    """
    days = [date.fromisoformat(link) for link, _edition in _date_links(top)]
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
            os.unlink(one.isoformat(), dir_fd=top)
        elif one > day + timedelta(days=1):
            log.error("%s is dated in the future because a clock was wrong; delete it", directory / one.isoformat())


def _remove_unused(top: int, store: int) -> None:
    """Remove editions without a date's link, and a new link that wasn't put in place."""
    in_use = {edition for _link, edition in _date_links(top)} | {_LOCK}
    for name in names_in(store):
        if name in in_use:
            continue
        if stat.S_ISDIR(os.stat(name, dir_fd=store, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=store)
        else:
            os.unlink(name, dir_fd=store)


def _date_links(top: int) -> Iterator[tuple[str, str]]:
    """Yield the name of each date's link that points into the store, with the name of its edition."""
    for name in names_in(top):
        try:
            if date.fromisoformat(name).isoformat() != name:
                continue
            target = Path(os.readlink(name, dir_fd=top))
        except (ValueError, OSError):  # not a date, or not a link
            continue
        if target.parent == Path(_STORE):
            yield name, target.name
