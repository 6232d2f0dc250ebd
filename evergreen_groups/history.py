"""The history of a report: what each run found, so that the next one can say what changed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from evergreen_groups.changes import Changes
from evergreen_groups.models import Report

FILE_NAME = "history.sqlite3"
KEEP_DAYS = 400
WAIT = 10.0


class History:
    """The runs of a report at the gateway with the address ``url``, kept in ``directory``.

    Runs older than ``keep_days`` are forgotten. ``wait`` is how long (seconds) it waits for another process that is
    using the file. Nothing is opened or made before :meth:`compare` or :meth:`record` is called.
    """

    def __init__(self, directory: Path, url: str, *, keep_days: int = KEEP_DAYS, wait: float = WAIT) -> None:
        self._path = directory / FILE_NAME
        self._url = url
        self._keep_days = keep_days
        self._wait = wait

    def compare(self, report: Report) -> Changes:
        """Hold ``report`` against the run before it with the same settings; nothing is written.

        Raises:
            HistoryError: the file is damaged, can't be read, or another process holds it for too long.
        """
        raise NotImplementedError

    def record(self, report: Report) -> None:
        """Keep what ``report`` found, wholly or not at all, and forget what is too old.

        Raises:
            HistoryError: the file is damaged, can't be written, or another process holds it for too long.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file, if it was opened."""

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def recorded_runs(directory: Path) -> int | None:
    """Examine the history in ``directory``: how many runs are in it, None where there is none yet.

    Raises:
        HistoryError: the file is damaged, can't be read, or another process holds it for too long.
    """
    raise NotImplementedError
