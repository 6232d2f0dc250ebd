"""What a run of the report says to whoever started it: texts of the catalogue, in English for programs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

NOT_COMPARED = Message("What changed since the last run isn't known: the history of the runs could not be used.")
AT_TERMINAL = Message(
    "Tonight's report isn't compared with this run, which was started at a terminal; with --history it would be."
)


def already_made(moment: datetime, hours: int) -> Message:
    """Say that nothing is to be done so soon after a report."""
    return Message(
        "nothing to do: the report was made at {moment}, and {count} hour is to lie between two "
        "([report] hours_between_runs)",
        plural="nothing to do: the report was made at {moment}, and {count} hours are to lie between two "
        "([report] hours_between_runs)",
        values={"moment": moment, "count": hours},
    )


def not_written_either(name: str, error: EvergreenGroupsError) -> Message:
    """Say that another report of the run, which may have a name, could not be written."""
    values = {"name": name, "problem": error}
    if name:
        return Message("the report {name} could not be written either: {problem}", values=values)
    return Message("the report could not be written either: {problem}", values=values)


def not_stored(error: EvergreenGroupsError) -> Message:
    """Say that how the run went could not be written down."""
    return Message("the status of this run could not be stored: {problem}", values={"problem": error})


def noted(name: str, note: str) -> str:
    """A note of a report, with its name where it has one."""
    return Message("{name}: {note}", values={"name": name, "note": note}) if name else note
