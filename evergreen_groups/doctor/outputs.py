"""The check of what the reports are written to, as far as the configuration says it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.doctor.finding import Finding, FindingMaker
from evergreen_groups.formats import OUTPUT_FORMATS, TEXT_FORMATS, OutputFormat, format_of_file, output_format
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.doctor.installation import Subject
    from evergreen_groups.settings import ReportSettings


@dataclass(frozen=True, slots=True)
class _Written:
    """A report that is written: ``section`` of the configuration says how; ``attached`` is the format in its mails."""

    report: ReportSettings
    section: str
    attached: str

    @property
    def setting(self) -> str:
        """The setting that says where."""
        return f"{self.section.strip('[]')}.output"

    @property
    def by_library(self) -> bool:
        """Whether it has a file for each library."""
        return self.report.split == "library"

    @property
    def formats(self) -> list[OutputFormat]:
        """The formats that runs will write."""
        by_file = format_of_file(self.report.output) or self.report.format
        names = {*(self.report.formats if self.by_library else (by_file,)), self.attached}
        return [format for format in OUTPUT_FORMATS if format.name in names]


def outputs(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Each report that the configuration asks for can be written where it asks for it."""
    settings = subject.settings
    yield _of(_Written(settings.report, "[report]", settings.mail.attach), line)
    writers = {settings.report.output: "[report]"}
    for named in settings.reports:
        written = _Written(named.report, "[[reports]]", settings.mail.attach)
        line = FindingMaker(f"output.{named.name}", Message("Report {name}", values={"name": named.name}))
        path = named.report.output
        if path is None:
            yield line.ok("it is mailed, and written nowhere")
        elif path in writers:
            yield line.failed(
                "{path} is written by {other} as well",
                "set another output in [[reports]]",
                code="output-shared",
                values={"path": path, "other": writers[path]},
                setting=written.setting,
            )
        else:
            yield _of_unknown_ending(written, line, path) or _of(written, line)
        writers[path] = named.name


def _of(written: _Written, line: FindingMaker) -> Finding:
    if lacking := [format for format in written.formats if not format.installed]:
        return line.failed(
            "{format} is asked for, and the package {package} isn't there",
            "pip install 'evergreen-groups[{extra}]', or choose another format",
            code="format-package-missing",
            values={"format": lacking[0].phrase, "package": lacking[0].package, "extra": lacking[0].name},
        )
    path, by_library = written.report.output, written.by_library
    if path is None:
        return _without_a_file(written, line)
    if path.exists() and path.is_dir() != by_library:
        reason = Message("it is a directory, and one report is to be a file")
        if by_library:
            reason = Message("it is no directory, and a report for each library needs one")
        return line.failed(
            "{path} can't be the output: {reason}",
            "set another output, or another split, in {section}",
            code="output-of-another-kind",
            values={"path": path, "reason": reason, "section": written.section},
            setting=written.setting,
        )
    return _place(written, line, path, [path, path / ".editions"] if by_library and path.exists() else [path.parent])


def _of_unknown_ending(written: _Written, line: FindingMaker, path: Path) -> Finding | None:
    """What is wrong where nobody has said what is to be in a file; no option can say it of a report of [[reports]]."""
    if written.by_library or path.is_dir() or format_of_file(path) or written.report.format != TEXT_FORMATS[0]:
        return None
    return line.failed(
        "{path} has none of the endings that stand for a format",
        "let it end in {endings}, or set format in [[reports]]",
        code="output-ending-unknown",
        values={"path": path, "endings": [f".{format.ending}" for format in OUTPUT_FORMATS if format.ending]},
        setting=written.setting,
    )


def _without_a_file(written: _Written, line: FindingMaker) -> Finding:
    if written.by_library:
        return line.warning(
            "a report for each library needs a directory, and none is set",
            "set output in [report], or name one with --output each time",
            code="no-output-directory",
            setting="report.output",
        )
    if (format := output_format(written.report.format)).binary:
        return line.warning(
            "{format} needs a file, and none is set",
            "set output in [report], or name one with --output each time",
            code="no-output-file",
            values={"format": format.phrase},
            setting="report.output",
        )
    return line.ok("standard output")


def _place(written: _Written, line: FindingMaker, path: Path, places: list[Path]) -> Finding:
    """Whether this user can write in all of ``places``, and nobody can replace what is there."""
    if not places[0].is_dir():
        return line.failed(
            "{place} is not there",
            "make it, or set another output in {section}",
            code="output-directory-missing",
            values={"place": places[0], "section": written.section},
            setting=written.setting,
        )
    for place in filter(Path.is_dir, places):
        mode = place.stat().st_mode
        if not os.access(place, os.W_OK | os.X_OK):
            return line.failed(
                "{place} can't be written to by this user",
                "give it to this user, or set another output",
                code="output-not-writable",
                values={"place": place},
                setting=written.setting,
            )
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return line.warning(
                "everybody can replace files in {place}",
                "{command}",
                code="output-replaceable",
                values={"place": place, "command": f"chmod o-w {place}"},
            )
    return line.ok("{path}", values={"path": path})
