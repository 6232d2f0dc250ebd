"""Mails that wait to be sent: one file for each, readable by its owner alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.state import make_state_directory, write_bytes_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ENDING = ".eml"
_UNFINISHED = ".part"


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
        target = make_state_directory(self._directory) / f"{moment:%Y%m%dT%H%M%SZ}-{digest}{_ENDING}"
        with write_bytes_atomically(target) as stream:
            stream.write(message.as_bytes(policy=SMTP))

    @staticmethod
    def read(file: Path) -> EmailMessage:
        """Read a mail that waits."""
        message = message_from_bytes(file.read_bytes(), policy=SMTP)
        assert isinstance(message, EmailMessage)  # noqa: S101 - what this policy makes
        return message

    def forget(self, file: Path) -> None:
        """Remove a mail that was sent."""
        file.unlink(missing_ok=True)

    def drop_older(self, days: int) -> int:
        """Remove mails that have waited for more than ``days``, and what killed runs left; say how many mails."""
        oldest = f"{datetime.now(UTC) - timedelta(days=days):%Y%m%dT%H%M%SZ}"
        stale = [file for file in self if file.name < oldest]
        for file in [*stale, *self._directory.glob(f".*{_UNFINISHED}")]:
            file.unlink(missing_ok=True)
        return len(stale)
