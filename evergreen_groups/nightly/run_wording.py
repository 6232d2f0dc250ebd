"""What a run of the report says to whoever started it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.language import describe_error, gettext, minute, ngettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

NOT_COMPARED = Message("What changed since the last run isn't known: the history of the runs could not be used.")
AT_TERMINAL = Message(
    "Tonight's report isn't compared with this run, which was started at a terminal; with --history it would be."
)


def already_made(moment: datetime, hours: int) -> str:
    """Say that nothing is to be done so soon after a report."""
    return ngettext(
        "nothing to do: the report was made at {moment}, and {count} hour is to lie between two "
        "([report] hours_between_runs)",
        "nothing to do: the report was made at {moment}, and {count} hours are to lie between two "
        "([report] hours_between_runs)",
        hours,
        moment=minute(moment),
    )


def not_written_either(name: str, error: EvergreenGroupsError) -> str:
    """Say that another report of the run, which may have a name, could not be written."""
    problem = describe_error(error)
    if name:
        return gettext("the report {name} could not be written either: {problem}", name=name, problem=problem)
    return gettext("the report could not be written either: {problem}", problem=problem)


def noted(name: str, note: str) -> str:
    """A note of a report, with its name where it has one."""
    text = gettext(note)
    return gettext("{name}: {note}", name=name, note=text) if name else text
