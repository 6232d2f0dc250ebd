"""Directories that appear whole or not at all: a day's edition of many files, and a link to the latest.

A directory with files in it can't be replaced by another in one step, but a link can. So each edition is a directory of
its own under ``.editions``, ``DIR/<date>`` is a link to one, and ``DIR/latest`` is a link to a date::

    DIR/latest      -> 2026-08-14
    DIR/2026-08-14  -> .editions/2026-08-14.k3x9q_2a
    DIR/.editions/2026-08-14.k3x9q_2a/...

An edition that no date leads to is a leftover: of a run that was killed, of a second run on one day, or of a date whose
link was taken away. The next run removes it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO, TypeVar

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message
from evergreen_groups.state.files import listed_directory, names_in, own_directory, sync, writing_in
from evergreen_groups.state.lock import hold

log = logging.getLogger("evergreen_groups.state")

Moment = TypeVar("Moment", bound=date)  # a datetime is one

LONGEST_PAUSE = timedelta(days=3 * 365)
"""Where more than this lies between two runs, a clock was or is wrong rather than nobody has run anything."""


def believed_since(
    times: Iterable[Moment], now: Moment, what: str, *, longest_pause: timedelta = LONGEST_PAUSE
) -> Moment:
    """The earliest of ``times`` that hangs together with ``now``: nothing before it may be thrown away for its age.

    A clock that is decades ahead for one night would make everything look too old. So a gap of more than
    ``longest_pause`` ends what is believed, and is logged as an error, with ``what`` the times are of. Times after
    ``now`` are passed over.

    >>> believed_since([date(2026, 8, 13), date(2026, 8, 14)], date(2099, 1, 1), "of the reports")
    datetime.date(2099, 1, 1)
    >>> believed_since([date(2026, 8, 13), date(2026, 8, 14)], date(2026, 8, 15), "of the reports")
    datetime.date(2026, 8, 13)
    """
    since = now
    for time in sorted((time for time in times if time <= now), reverse=True):
        if since - time > longest_pause:
            log.error(
                "nothing %s before %s is removed for its age: years lie between that and %s; was a clock wrong?",
                what,
                f"{since:%Y-%m-%d}",
                f"{time:%Y-%m-%d}",
            )
            break
        since = time
    return since


LATEST = "latest"
_STORE = ".editions"
_LOCK = "lock"
_NEW_LINK = "link"


class Edition:
    """A directory that is being filled. It is an open one: whatever happens to its name meanwhile, files land in it."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def create(self, name: str) -> BinaryIO:
        """Create a file that only its owner may read.

        Raises:
            FileExistsError: there is one by that name.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(name, flags, 0o600, dir_fd=self._descriptor), "wb")

    def to_disk(self) -> None:
        """Have everything on disk before anything leads to it."""
        for name in names_in(self._descriptor):
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._descriptor)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync(self._descriptor)


@contextmanager
def new_edition(directory: Path, day: date, *, keep_days: int | None = None) -> Iterator[Edition]:
    """Give an empty directory that becomes ``directory/<day>`` and ``directory/latest`` when the block ends.

    Until then both lead where they led before, and when the block raises, or the process is killed, they still do.
    What was there for the same day is replaced. With ``keep_days`` the links older than that many days are removed,
    with their editions, but none on the word of a clock that is years ahead of the last run. Directories that are made
    here can be entered by their owner alone.

    Raises:
        BusyError: another process is writing an edition there.
        ConfigurationError: it can't be written there, or something else stands where the links or editions would.
    """
    with writing_in(directory):
        directory.mkdir(mode=0o700, exist_ok=True)
        with (
            listed_directory(directory) as top,
            own_directory(_STORE, top) as store,
            hold(
                directory / _STORE / _LOCK,
                Message("another run is writing to {directory}", values={"directory": directory}),
                directory=store,
            ),
        ):
            yield from _filled(directory, top, store, day, keep_days)


def _filled(directory: Path, top: int, store: int, day: date, keep_days: int | None) -> Iterator[Edition]:
    for name in (LATEST, day.isoformat()):
        _refuse_what_is_in_the_way(directory / name, top)
    _sweep(top, store)
    try:
        # A name of its own for each run, for a second one on the same day must not write into what is being read.
        name = f"{day}.{secrets.token_hex(4)}"
        with own_directory(name, store) as descriptor:
            edition = Edition(name, descriptor)
            yield edition
            edition.to_disk()
        sync(store)
        _point(store, top, day.isoformat(), f"{_STORE}/{name}")
    except BaseException:  # an interrupt as well must leave nothing behind
        with suppress(OSError):
            _sweep(top, store)
        raise
    # After the date's own link, which it leads through.
    _point(store, top, LATEST, day.isoformat())
    if keep_days is not None:
        _take_away_links(directory, top, day, keep_days)
    _sweep(top, store)


def _refuse_what_is_in_the_way(link: Path, top: int) -> None:
    try:
        found = os.stat(link.name, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISLNK(found.st_mode):
        raise ConfigurationError(
            "{path} is in the way: a link is to be there",
            advice="move {path} elsewhere or name another directory",
            code="link-in-the-way",
            values={"path": link},
        )


def _point(store: int, top: int, link: str, target: str) -> None:
    """Let a link lead to ``target`` in one step."""
    # A link can't be changed, but replaced: readers never find none.
    os.symlink(target, _NEW_LINK, dir_fd=store)
    os.replace(_NEW_LINK, link, src_dir_fd=store, dst_dir_fd=top)
    sync(top)


def _take_away_links(directory: Path, top: int, day: date, keep_days: int) -> None:
    """Remove the links of dates ``keep_days`` or more before ``day``; whatever else is in the directory is left alone.

    Nothing that is older than a gap of years is removed, and dates to come are reported: a clock was wrong then.
    """
    days = [date.fromisoformat(link) for link, _edition in _dated(top)]
    since = believed_since(days, day, f"of {directory}")
    for one in days:
        if since <= one <= day - timedelta(days=keep_days):
            os.unlink(one.isoformat(), dir_fd=top)
        elif one > day + timedelta(days=1):
            log.error("%s is of a day to come: a clock was wrong; remove it", directory / one.isoformat())


def _sweep(top: int, store: int) -> None:
    """Remove every edition that no date leads to, and a link that was never put in its place."""
    in_use = {edition for _link, edition in _dated(top)} | {_LOCK}
    for name in names_in(store):
        if name in in_use:
            continue
        if stat.S_ISDIR(os.stat(name, dir_fd=store, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=store)
        else:
            os.unlink(name, dir_fd=store)


def _dated(top: int) -> Iterator[tuple[str, str]]:
    """The links of this module's making that have a date for their name, with the name of the edition."""
    for name in names_in(top):
        try:
            if date.fromisoformat(name).isoformat() != name:
                continue
            target = Path(os.readlink(name, dir_fd=top))
        except (ValueError, OSError):  # another name, or not a link
            continue
        if target.parent == Path(_STORE):
            yield name, target.name
