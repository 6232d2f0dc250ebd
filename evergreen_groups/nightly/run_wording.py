"""What a run of the report says to whoever started it: texts of the catalogue, in English for programs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.errors import EvergreenGroupsError
    from evergreen_groups.mail import Delivery
    from evergreen_groups.nightly.made_report import MadeReport
    from evergreen_groups.nightly.output import WrittenReport

NOT_COMPARED = Message("What changed since the last run isn't known: the history of the runs could not be used.")
AT_TERMINAL = Message(
    "Tonight's report isn't compared with this run, which was started at a terminal; with --history it would be."
)


def nothing_listed(before: int) -> Message:
    """Note that a report lists nothing although the previous one listed so many groups."""
    return Message(
        "No groups are listed, but the previous report listed {count} group. If you don't expect this, run the report "
        "again.",
        plural="No groups are listed, but the previous report listed {count} groups. If you don't expect this, run "
        "the report again.",
        values={"count": before},
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


def summary(made: Sequence[MadeReport], delivery: Delivery | None) -> Message | None:
    """Say in one line what was written where, and what was mailed; None where nothing was."""
    parts = [_written(one.written, one.report.totals.group_count) for one in made if one.written is not None]
    if delivery is not None:
        count = {"count": delivery.sent}
        parts.append(Message("{count} mail sent", plural="{count} mails sent", values=count))
        if delivery.queued:
            count = {"count": delivery.queued}
            parts.append(Message("{count} mail queued", plural="{count} mails queued", values=count))
        if delivery.dropped:
            count = {"count": delivery.dropped}
            parts.append(Message("{count} mail given up", plural="{count} mails given up", values=count))
    return Message("{parts}", values={"parts": tuple(parts)}) if parts else None


def _written(written: WrittenReport, group_count: int) -> Message:
    groups = Message("{count} group", plural="{count} groups", values={"count": group_count})
    values: dict[str, object] = {"path": written.path, "groups": groups}
    if written.library_count is None:
        return Message("written: {path} ({groups})", values=values)
    count = {"count": written.library_count}
    values["libraries"] = Message("{count} library", plural="{count} libraries", values=count)
    count = {"count": written.file_count}
    values["files"] = Message("{count} file", plural="{count} files", values=count)
    return Message("written: {path} ({files}, {libraries}, {groups})", values=values)
