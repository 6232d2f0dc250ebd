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

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.state.files import sync_directory, writing_in
from evergreen_groups.state.lock import hold

if TYPE_CHECKING:
    from collections.abc import Iterator

LATEST = "latest"
_STORE = ".editions"
_LOCK = "lock"
_NEW_LINK = "link"


@contextmanager
def new_edition(directory: Path, day: date, *, keep_days: int | None = None) -> Iterator[Path]:
    """Give an empty directory that becomes ``directory/<day>`` and ``directory/latest`` when the block ends.

    Until then both lead where they led before, and when the block raises, or the process is killed, they still do.
    What was there for the same day is replaced. With ``keep_days`` the links older than that many days are removed,
    with their editions. Directories that are made here can be entered by their owner alone.

    Raises:
        BusyError: another process is writing an edition there.
        ConfigurationError: it can't be written there, or something else stands where the links would.
    """
    store = directory / _STORE
    with writing_in(directory):
        for made in (directory, store):
            made.mkdir(mode=0o700, exist_ok=True)
    with hold(store / _LOCK, f"is writing to {directory}"), writing_in(directory):
        _refuse_what_is_in_the_way(directory / LATEST, directory / day.isoformat())
        _sweep(directory)
        try:
            # A name of its own for each run, for a second one on the same day must not write into what is being read.
            edition = Path(tempfile.mkdtemp(prefix=f"{day}.", dir=store))
            yield edition
            _to_disk(edition)
            _point(store, directory / day.isoformat(), f"{_STORE}/{edition.name}")
        except BaseException:  # an interrupt as well must leave nothing behind
            with suppress(OSError):
                _sweep(directory)
            raise
        # After the date's own link, which it leads through.
        _point(store, directory / LATEST, day.isoformat())
        if keep_days is not None:
            _take_away_links(directory, day - timedelta(days=keep_days))
        _sweep(directory)


def create(path: Path) -> BinaryIO:
    """Create a file that only its owner may read.

    Raises:
        FileExistsError: there is one by that name.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _refuse_what_is_in_the_way(*links: Path) -> None:
    for link in links:
        if link.exists() and not link.is_symlink():
            raise ConfigurationError(
                "{path} is in the way: a link is to be there",
                advice="move it elsewhere or name another directory",
                code="link-in-the-way",
                values={"path": link},
            )


def _to_disk(edition: Path) -> None:
    """Have everything of an edition on disk before anything leads to it."""
    for path in edition.iterdir():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_directory(edition)
    sync_directory(edition.parent)


def _point(store: Path, link: Path, target: str) -> None:
    """Let a link lead to ``target`` in one step."""
    new = store / _NEW_LINK
    # A link can't be changed, but replaced: readers never find none.
    new.symlink_to(target)
    new.replace(link)
    sync_directory(link.parent)


def _take_away_links(directory: Path, before: date) -> None:
    """Remove the links of dates up to ``before``; whatever else lies in the directory is left alone."""
    for link, _edition in list(_dated(directory)):
        if date.fromisoformat(link.name) <= before:
            link.unlink()


def _sweep(directory: Path) -> None:
    """Remove every edition that no date leads to, and a link that was never put in its place."""
    store = directory / _STORE
    in_use = {edition for _link, edition in _dated(directory)} | {_LOCK}
    for path in store.iterdir():
        if path.name in in_use:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _dated(directory: Path) -> Iterator[tuple[Path, str]]:
    """The links of this module's making that have a date for their name, with the name of the edition."""
    for link in directory.iterdir():
        try:
            date.fromisoformat(link.name)
            target = link.readlink()
        except (ValueError, OSError):  # another name, or not a link
            continue
        if target.parent == Path(_STORE):
            yield link, target.name
