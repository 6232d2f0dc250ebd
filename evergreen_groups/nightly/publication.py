"""The report as a directory of files: some for each library, and an index page that leads to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from evergreen_groups.formats import output_format, require
from evergreen_groups.language import current_language, use_language
from evergreen_groups.message import Message
from evergreen_groups.nightly.file_names import INDEX, library_file_names
from evergreen_groups.progress import Progress, silent
from evergreen_groups.render.report import WritingOptions, render_parts
from evergreen_groups.report import Report, by_library, libraries
from evergreen_groups.state import LATEST, new_edition

if TYPE_CHECKING:
    from evergreen_groups.formats import OutputFormat
    from evergreen_groups.language import Language
    from evergreen_groups.nightly.readers import Readers
    from evergreen_groups.render.report.page import IndexedLibrary

DEFAULT_FORMATS = ("html", "csv", "json")
_OPEN_AT_ONCE = 200
"""How many files are open at once: a process may mostly have 1,024."""
_COMPRESSED_AT_ONCE = 32
"""How many of those that are compressed: each takes a quarter of a megabyte."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published: the day's directory, the address of the newest index page, and how much there is."""

    directory: Path
    latest_index: Path
    library_count: int
    file_count: int


def publish(
    report: Report,
    directory: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    keep_days: int | None = None,
    progress: Progress = silent,
    readers: Readers | None = None,
    **options: Unpack[WritingOptions],
) -> Publication:
    """Write ``directory/<date>/<SHORTNAME>.<format>`` for every library, ``index.html``, and the link ``latest``.

    Everything appears at once or not at all, and takes the place of what an earlier run of the same day wrote. The
    date is that of the data, in this machine's time zone. Files of dates ``keep_days`` or more days before it are
    removed (None: none are). Files are readable by their owner alone, and so are directories that are made here.
    ``progress`` is called with the number of files. Each library's page leads back to the index. A library's files are
    in the language of its ``readers``, the index in that of all (None: everything in the one that is written now).

    Raises:
        BusyError: another run is writing there.
        ConfigurationError: it can't be written there, or what a format needs isn't installed.
    """
    from evergreen_groups.render.report.page import IndexedLibrary, write_index

    require(formats)
    options["index"] = INDEX
    day = day_of(report)
    parts = by_library(report)
    names = library_file_names(parts)
    entries: list[IndexedLibrary] = []
    writing = Message("writing files")
    for library in libraries(report):
        language = readers.of_library(library.shortname) if readers else current_language()
        files = {format: f"{names[library.shortname]}.{output_format(format).ending}" for format in formats}
        entries.append(IndexedLibrary(library, parts[library.shortname], files, language))
    with new_edition(directory, day, keep_days=keep_days) as edition:
        done, every = 0, len(entries) * len(formats)
        for format in formats:
            for together in _written_together(entries, output_format(format)):
                progress(writing, done, every)
                with ExitStack() as stack, use_language(together[0].language):
                    streams = [stack.enter_context(edition.create(entry.files[format])) for entry in together]
                    written = [(entry.part, stream) for entry, stream in zip(together, streams, strict=True)]
                    render_parts(report, format, written, **options)
                done += len(together)
        progress(writing, every, every)
        with edition.create(INDEX) as stream, use_language(readers.of_all if readers else current_language()):
            write_index(report, entries, stream)
    return Publication(
        directory=directory / day.isoformat(),
        latest_index=directory / LATEST / INDEX,
        library_count=len(entries),
        file_count=len(entries) * len(formats) + 1,
    )


def _written_together(entries: Sequence[IndexedLibrary], format: OutputFormat) -> Iterator[list[IndexedLibrary]]:
    """The libraries whose files are written side by side: in one language, and not more than may be open."""
    by_language: dict[Language | None, list[IndexedLibrary]] = {}
    for entry in entries:
        by_language.setdefault(None if format.for_programs else entry.language, []).append(entry)
    most = _COMPRESSED_AT_ONCE if format.binary else _OPEN_AT_ONCE
    for alike in by_language.values():
        yield from (alike[at : at + most] for at in range(0, len(alike), most))


def day_of(report: Report) -> date:
    """The day of the data in this machine's time zone."""
    return report.generated_at.astimezone().date()
