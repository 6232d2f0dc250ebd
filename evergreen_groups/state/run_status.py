"""How the last run of the report ended: a small file in the state directory, for people and for monitoring."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.state.directory import REPORT_LOCK, make_state_directory
from evergreen_groups.state.files import write_atomically
from evergreen_groups.state.lock import Holder, holder_of
from evergreen_groups.state.own_files import directory_of, open_own

FILE_NAME = "status.json"
_VERSION = 1


class RunOutcome(Enum):
    """How a run ended."""

    DONE = "done"
    PARTIAL = "partial"
    """The report was made, but something is missing in it or could not be sent; the exit status says what."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How one run ended. ``started`` and ``finished`` are aware; nothing in it is about a patron.

    ``exit_code`` is the command's exit status, ``error`` the name of the class of what ended a failed run.
    ``groups`` and ``members`` are how many were listed, None where it didn't come to that.
    """

    outcome: RunOutcome
    started: datetime
    finished: datetime
    exit_code: int
    error: str | None = None
    groups: int | None = None
    members: int | None = None

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return round((self.finished - self.started).total_seconds(), 1)

    def document(self) -> dict[str, Any]:
        """The values for JSON."""
        return {
            "version": _VERSION,
            "outcome": self.outcome.value,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat(),
            "seconds": self.seconds,
            "groups": self.groups,
            "members": self.members,
            "exit_code": self.exit_code,
            "error": self.error,
        }


def write(directory: Path, status: RunStatus) -> None:
    """Put the status in the place of the last run's, whole or not at all.

    Raises:
        ConfigurationError: the file can't be written.
    """
    with write_atomically(make_state_directory(directory) / FILE_NAME) as stream:
        json.dump(status.document(), stream, indent=2)
        stream.write("\n")


def read(directory: Path) -> RunStatus | None:
    """How the last run ended; None where none has yet.

    Raises:
        ConfigurationError: the file can't be read.
        StateError: it isn't such a file.
    """
    path = directory / FILE_NAME
    try:
        with (
            directory_of(path) as parent,
            os.fdopen(open_own(path.name, os.O_RDONLY, parent, anybodys=True), encoding="utf-8") as stream,
        ):
            content = json.load(stream, parse_constant=_refuse)
        return RunStatus(
            outcome=RunOutcome(content["outcome"]),
            started=datetime.fromisoformat(content["started"]).astimezone(),
            finished=datetime.fromisoformat(content["finished"]).astimezone(),
            exit_code=_number(content["exit_code"]),
            error=None if content["error"] is None else str(content["error"]),
            groups=None if content["groups"] is None else _number(content["groups"]),
            members=None if content["members"] is None else _number(content["members"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            "cannot read {path}: {reason}",
            advice="the state directory must belong to the user who runs this",
            code="status-not-read",
            values={"path": path, "reason": error.strerror},
        ) from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise StateError(
            "{path} is damaged",
            advice="the next run writes it anew",
            code="status-damaged",
            values={"path": path},
        ) from error


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def under_way(directory: Path) -> Holder | None:
    """The run that is being made now, or that was killed (its process is not ``alive`` any more)."""
    return holder_of(directory / REPORT_LOCK)


def was_killed(last: RunStatus | None, holder: Holder | None) -> bool:
    """Whether the run that left its note in the lock has ended without telling how, as ``last`` did.

    Times are not compared but for being the same: the clock may have been set meanwhile.
    """
    if holder is None or holder.alive:
        return False
    return last is None or last.started != holder.since
