"""The check of what the report is written to, as far as the configuration says it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.formats import OUTPUT_FORMATS, OutputFormat, format_of_file, output_format
from evergreen_groups.mail import Mailer
from evergreen_groups.state import RunOutcome, run_status

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject
    from evergreen_groups.settings import Settings


def output(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The report that the configuration asks for can be written where it asks for it."""
    settings = subject.settings
    if lacking := [format for format in _formats(settings) if not format.installed]:
        yield line.failed(
            "{format} is asked for, and the package {package} isn't there",
            "pip install 'evergreen-groups[{extra}]', or choose another format",
            code="format-package-missing",
            values={"format": lacking[0].phrase, "package": lacking[0].package, "extra": lacking[0].name},
        )
        return
    path, by_library = settings.report.output, settings.report.split == "library"
    if path is None:
        yield _without_a_file(line, settings, by_library=by_library)
    elif path.exists() and path.is_dir() != by_library:
        what = "a directory" if path.is_dir() else "no directory"
        wanted = "a report for each library needs one" if by_library else "one report is to be a file"
        yield line.failed(
            "{path} is {what}, and {wanted}",
            "set another output, or another split, in [report]",
            code="output-of-another-kind",
            values={"path": path, "what": what, "wanted": wanted},
            setting="report.output",
        )
    else:
        yield _place(line, path, [path, path / ".editions"] if by_library and path.exists() else [path.parent])


def _formats(settings: Settings) -> list[OutputFormat]:
    """The formats that runs will write."""
    by_file = format_of_file(settings.report.output) or settings.report.format
    names = {*(settings.report.formats if settings.report.split == "library" else (by_file,)), settings.mail.attach}
    return [format for format in OUTPUT_FORMATS if format.name in names]


def _without_a_file(line: FindingMaker, settings: Settings, *, by_library: bool) -> Finding:
    if by_library:
        return line.warning(
            "a report for each library needs a directory, and none is set",
            "set output in [report], or name one with --output each time",
            code="no-output-directory",
            setting="report.output",
        )
    if (format := output_format(settings.report.format)).binary:
        return line.warning(
            "{format} needs a file, and none is set",
            "set output in [report], or name one with --output each time",
            code="no-output-file",
            values={"format": format.phrase},
            setting="report.output",
        )
    return line.ok("standard output")


def _place(line: FindingMaker, path: Path, places: list[Path]) -> Finding:
    """Whether this user can write in all of ``places``, and nobody can replace what is there."""
    if not places[0].is_dir():
        return line.failed(
            "{place} is not there",
            "make it, or set another output in [report]",
            code="output-directory-missing",
            values={"place": places[0]},
            setting="report.output",
        )
    for place in filter(Path.is_dir, places):
        mode = place.stat().st_mode
        if not os.access(place, os.W_OK | os.X_OK):
            return line.failed(
                "{place} can't be written to by this user",
                "give it to this user, or set another output",
                code="output-not-writable",
                values={"place": place},
                setting="report.output",
            )
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return line.warning(
                "everybody can replace files in {place}",
                "chmod o-w {place}",
                code="output-replaceable",
                values={"place": place},
            )
    return line.ok("{path}", values={"path": path})


def mail(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The server can be reached, encrypts as it should and takes the login; no mail is sent."""
    settings = subject.settings.mail
    if settings.host is None:
        yield line.ok("none set: the report is not mailed")
        return
    mailer = Mailer.configured(settings, subject.environ, subject.state.database)
    obstacle = mailer.obstacle()
    if obstacle is not None:
        yield line.of_error(obstacle)
    elif waiting := mailer.waiting:
        yield line.warning(
            "{host} takes mails, but {count} of earlier runs are waiting",
            "the next run of report --mail sends them; its log says why they weren't sent",
            code="mails-waiting",
            values={"host": settings.host, "count": waiting},
        )
    elif settings.username:
        yield line.ok("{host} can be reached and takes the login", values={"host": settings.host})
    else:
        yield line.ok("{host} can be reached", values={"host": settings.host})


_TWO_NIGHTS = timedelta(hours=50)


def last_run(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """The report is made every night, and the last one ended well."""
    holder = subject.state.reporter()
    last = run_status.read(subject.state.database)
    if run_status.was_killed(last, holder):
        yield line.warning(
            "a run was killed ({holder})",
            "look into the system's log; the next run goes on as usual",
            code="run-killed",
            values={"holder": holder},
        )
        return
    if last is None:
        yield line.ok("none yet")
        return
    values = {"finished": last.finished, "status": last.exit_code}
    if last.outcome is RunOutcome.FAILED:
        yield line.warning(
            "the one of {finished:%Y-%m-%d %H:%M} failed (exit status {status}, {error})",
            "see what failed here, then run evergreen-groups report",
            code="run-failed",
            values={**values, "error": last.error or "no error named"},
        )
    elif last.outcome is RunOutcome.PARTIAL:
        yield line.warning(
            "the one of {finished:%Y-%m-%d %H:%M} was not complete (exit status {status})",
            "evergreen-groups --help says what that status means",
            code="run-incomplete",
            values=values,
        )
    elif datetime.now(UTC) - last.finished > _TWO_NIGHTS:
        yield line.warning(
            "the last one was that of {finished:%Y-%m-%d %H:%M}",
            "look at the timer or the crontab",
            code="run-overdue",
            values=values,
        )
    else:
        yield line.ok(
            "{finished:%Y-%m-%d %H:%M}, groups: {groups:,}, in {seconds:g} s",
            values={**values, "groups": last.groups or 0, "seconds": last.seconds},
        )
