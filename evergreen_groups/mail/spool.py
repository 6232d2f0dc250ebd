"""Mails that wait to be sent: one file for each, readable by its owner alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256
from pathlib import Path

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.state import (
    believed_since,
    directory_of,
    is_own,
    listed_directory,
    make_state_directory,
    names_in,
    open_own,
    write_bytes_atomically,
)

_ENDING = ".eml"
_UNFINISHED = ".part"
_LONGEST_WAIT = timedelta(days=3650)  # a mail may be the only one, so years alone say little of the clock
_STAMP = "%Y%m%dT%H%M%SZ"


class Spool:
    """A directory of mails. Only one run at a time may work on it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __iter__(self) -> Iterator[Path]:
        """The files of the mails that wait, the oldest first."""
        if not self._directory.is_dir():
            return iter(())
        return iter(sorted(file for file in self._directory.glob(f"*{_ENDING}") if not file.is_dir()))

    def refuse_what_cannot_be_written(self) -> None:
        """See whether mails can be stored; nothing is made.

        Raises:
            ConfigurationError: this user can't write there.
        """
        directory = self._directory.absolute()
        place = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise ConfigurationError(
                "mails that wait can't be stored in {directory}, because {place} can't be written to",
                advice="give it to this user, or set spool in [mail]",
                setting="mail.spool",
                code="spool-not-writable",
                values={"directory": directory, "place": place},
            )

    def add(self, message: EmailMessage) -> None:
        """Keep a mail; one with the same Message-ID takes the place of the former. It is whole on disk or not there.

        Raises:
            ConfigurationError: it can't be written.
        """
        moment = message["Date"].datetime.astimezone(UTC)
        digest = sha256(str(message["Message-ID"]).encode()).hexdigest()[:16]
        target = make_state_directory(self._directory) / f"{moment:{_STAMP}}-{digest}{_ENDING}"
        with write_bytes_atomically(target) as stream:
            stream.write(message.as_bytes(policy=SMTP))

    @staticmethod
    def read(file: Path) -> EmailMessage:
        """Read a mail that waits."""
        with directory_of(file) as parent, os.fdopen(open_own(file.name, os.O_RDONLY, parent), "rb") as stream:
            message = message_from_bytes(stream.read(), policy=SMTP)
        assert isinstance(message, EmailMessage)  # noqa: S101 - what this policy makes
        return message

    def forget(self, file: Path) -> None:
        """Remove a mail that was sent."""
        file.unlink(missing_ok=True)

    def drop_older(self, days: int) -> int:
        """Remove mails that have waited for more than ``days``, and what killed runs left; say how many mails.

        None is removed on the word of a clock that is years ahead of the last one.
        """
        now = datetime.now(UTC)
        own = self._own(lambda name: name.endswith(_ENDING) and not name.startswith("."))
        written = {file: moment for file in own if (moment := _written(file)) is not None}
        since = believed_since(written.values(), now, "of the mails that wait", longest_pause=_LONGEST_WAIT)
        stale = [file for file, moment in written.items() if since <= moment < now - timedelta(days=days)]
        for file in [*stale, *self._own(lambda name: name.startswith(".") and name.endswith(_UNFINISHED))]:
            file.unlink(missing_ok=True)
        return len(stale)

    def _own(self, wanted: Callable[[str], bool]) -> list[Path]:
        """The files of this user's with a name that is wanted; none where there is no such directory."""
        try:
            with listed_directory(self._directory) as opened:
                names = [name for name in names_in(opened) if wanted(name) and is_own(name, opened)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self._directory / name for name in names]


def _written(file: Path) -> datetime | None:
    """When a mail was written, from the name of its file; None where somebody else has put it there."""
    try:
        return datetime.strptime(file.name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
