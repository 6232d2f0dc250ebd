"""The check of how the last run of the report ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from evergreen_groups import run_status
from evergreen_groups.diagnosis.finding import Finding, Line
from evergreen_groups.diagnosis.subject import Subject
from evergreen_groups.run_status import Outcome

_TWO_NIGHTS = timedelta(hours=50)


def last_run(subject: Subject, line: Line) -> Iterator[Finding]:
    """The report is made every night, and the last one ended well."""
    holder = run_status.under_way(subject.state_directory)
    last = run_status.read(subject.state_directory)
    if run_status.was_killed(last, holder):
        yield line.warning(f"a run was killed ({holder})", "look into the system's log; the next run goes on as usual")
        return
    if last is None:
        yield line.ok("none yet")
        return
    ended = f"{last.finished:%Y-%m-%d %H:%M}"
    if last.outcome is Outcome.FAILED:
        yield line.warning(
            f"the one of {ended} failed (exit status {last.exit_code}, {last.error or 'no error named'})",
            "see what failed here, then run evergreen-groups report",
        )
    elif last.outcome is Outcome.PARTIAL:
        yield line.warning(
            f"the one of {ended} was not complete (exit status {last.exit_code})",
            "evergreen-groups --help says what that status means",
        )
    elif datetime.now(UTC) - last.finished > _TWO_NIGHTS:
        yield line.warning(f"the last one was that of {ended}", "look at the timer or the crontab")
    else:
        yield line.ok(f"{ended}, {last.groups or 0:,} groups in {last.seconds:g} s")
