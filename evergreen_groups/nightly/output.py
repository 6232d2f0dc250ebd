"""Writes a report to its target: a directory with a file for each library, one file, or standard output."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.language import current_language, use_language
from evergreen_groups.progress import Progress, silent
from evergreen_groups.render.report import WritingOptions, render, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from evergreen_groups.nightly.options import Target
    from evergreen_groups.nightly.readers import Readers
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report


@dataclass(frozen=True, slots=True)
class Rendered:
    """A report in the words of a format, for standard output."""

    format: str
    text: str


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What was written: a file, or a directory of ``file_count`` files for some libraries (None: it is one file)."""

    path: Path
    file_count: int = 1
    library_count: int | None = None


def write(
    report: Report,
    target: Target,
    width: int,
    progress: Progress = silent,
    client: StaffClient | None = None,
    readers: Readers | None = None,
) -> Rendered | WrittenReport:
    """Write the report to its target, whole or not at all; for standard output give what is to be printed.

    ``progress`` is called for the files of a directory. Names lead into the staff ``client``. Files are in the language
    of their ``readers``; standard output, and all where there are none, in the one that is written now.

    Raises:
        ConfigurationError: it can't be written there.
    """
    [name, *_] = target.formats
    options: WritingOptions = {
        "details": target.details,
        "width": width,
        "bom": target.bom,
        "dialect": target.dialect,
        "client": client,
    }
    if target.path is None:
        return _rendered(report, name, options)
    if target.split:
        from evergreen_groups.nightly.publication import publish

        published = publish(
            report,
            target.path,
            target.formats,
            keep_days=target.keep_days,
            progress=progress,
            readers=readers,
            **options,
        )
        return WrittenReport(target.path, published.file_count, published.library_count)
    with use_language(readers.of_libraries(report.criteria.orgs) if readers else current_language()):
        write_file(report, name, target.path, **options)
    return WrittenReport(target.path)


def _rendered(report: Report, name: str, options: WritingOptions) -> Rendered:
    options["color"] = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    stream = io.StringIO(newline="")
    render(report, name, stream, **options)
    return Rendered(name, stream.getvalue())
