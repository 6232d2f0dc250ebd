"""Writes a report, for its readers, to its target: a directory with a file per library, a file, or standard output."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from email.message import EmailMessage
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.formats import PAGE, output_format
from evergreen_groups.ils import OrgUnits
from evergreen_groups.language import ENGLISH, current_language, describe_advice, describe_problem, use_language
from evergreen_groups.message import Message, Progress, silent
from evergreen_groups.render.report import WritingOptions, render, render_bytes, write_file
from evergreen_groups.report import Report, libraries
from evergreen_groups.state import LATEST, new_edition

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.language import Language
    from evergreen_groups.nightly.jobs import ReportJob, Target
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report import IndexedLibrary
    from evergreen_groups.report import History
    from evergreen_groups.settings import LanguageSettings
    from evergreen_groups.state import RunStatus


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers' languages. A library's language is that of the nearest org unit at or above it in ``settings``.

    ``timezones`` are those of org units by id (empty: this machine's), ``org_units`` all of Evergreen's.
    """

    settings: LanguageSettings
    org_units: Collection[OrgUnit] = ()
    timezones: Mapping[int, tzinfo] = field(default_factory=dict)

    @property
    def of_all(self) -> Language:
        """The language for text about all libraries: the default, with the root's time zone."""
        roots = [unit for unit in self.org_units if unit.parent is None]
        return self.settings.language(timezone=self.timezones.get(roots[0].id) if roots else None)

    def of_library(self, shortname: str) -> Language:
        """Return the language for text about one library, or about a system with all its branches."""
        known = {name.casefold(): path for name, path in OrgUnits.shortnames_upwards(self.org_units).items()}
        path = [name.casefold() for name in known.get(shortname.casefold(), (shortname,))]
        tags = {name.casefold(): tag for name, tag in self.settings.libraries}
        tag = next((tags[name] for name in path if name in tags), None)
        zones = [self.timezones.get(unit.id) for unit in self.org_units if unit.shortname.casefold() == path[0]]
        return self.settings.language(tag, zones[0] if zones else self.of_all.timezone)

    def of_libraries(self, shortnames: Collection[str]) -> Language:
        """Return the common language and time zone of several libraries, or the defaults where they differ."""
        languages = [self.of_library(name) for name in shortnames]
        tags, zones = {one.tag for one in languages}, {one.timezone for one in languages}
        tag = tags.pop() if len(tags) == 1 else None
        return self.settings.language(tag, zones.pop() if len(zones) == 1 else self.of_all.timezone)


def timezones_for(gateway: Gateway, jobs: Iterable[ReportJob], settings: LanguageSettings) -> dict[int, tzinfo]:
    """Read the time zones of org units (by id) if people read times in the reports and no time zone is configured.

    Makes at most one call for all reports of a run. Raises the same errors as
    :meth:`OrgUnits.read_timezones`.
    """
    wanted = settings.timezone is None and any(job.mail or job.target.has_files_for_people for job in jobs)
    return OrgUnits.read_timezones(gateway) if wanted else {}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A report rendered for standard output."""

    format: str
    text: str


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What was written: one file (``library_count`` None), or ``file_count`` files for some libraries."""

    path: Path
    file_count: int = 1
    library_count: int | None = None


@dataclass(slots=True)
class PreparedReport:
    """A report that was read, with its job, readers and former runs.

    ``follow_ups`` are those of the groups that have entries, by group number; ``mailed`` are what mails may say of
    them. ``output`` is what was written, or what
    is to be written to standard output.
    """

    job: ReportJob
    report: Report
    history: History
    readers: Readers
    client: StaffClient
    follow_ups: Mapping[int, FollowUpState] = field(default_factory=dict)
    mailed: Mapping[int, FollowUpState] = field(default_factory=dict)
    letters: list[EmailMessage] = field(default_factory=list)
    output: Rendered | WrittenReport | None = None


def write(one: PreparedReport, width: int, progress: Progress) -> Rendered | WrittenReport:
    """Write a report to its target atomically. For standard output, return the text instead.

    ``progress`` counts the files of a directory. Files are in the language of their readers, standard output in the
    current language. Pages and workbooks show follow-ups.
    """
    report, target, readers = one.report, one.job.target, one.readers
    [name, *_] = target.formats
    options: WritingOptions = {
        "details": target.details,
        "width": width,
        "bom": target.bom,
        "dialect": target.dialect,
        "client": one.client,
        "follow_ups": one.follow_ups,
    }
    if target.path is None:
        options["color"] = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        stream = io.StringIO(newline="")
        render(report, name, stream, **options)
        return Rendered(name, stream.getvalue())
    if target.split:
        path, days = target.path, target.keep_days
        return publish(report, path, target.formats, keep_days=days, progress=progress, readers=readers, **options)
    with use_language(readers.of_libraries(report.criteria.orgs)):
        write_file(report, name, target.path, **options)
    return WrittenReport(target.path)


INDEX = "index.html"
"""The page that links to all libraries' pages."""

_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 60
# Device names on Windows, where the files may be copied.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def library_file_names(shortnames: Collection[str]) -> dict[str, str]:
    """Map each short name to a unique name that is safe at the start of a file name.

    Most are unchanged. Unusual characters become underscores, and a hash of the short name is appended to changed names
    and to names that differ only in case, which some file systems don't distinguish.
    """
    alike = Counter(shortname.casefold() for shortname in shortnames)
    return {shortname: _file_name(shortname, unique=alike[shortname.casefold()] == 1) for shortname in shortnames}


def _file_name(shortname: str, *, unique: bool) -> str:
    safe = _NOT_IN_FILE_NAMES.sub("_", shortname)[:_LONGEST_NAME].lstrip(".-")
    reserved = safe.casefold() == Path(INDEX).stem or _DEVICES.fullmatch(safe)
    if unique and safe == shortname and safe and not reserved:
        return safe
    return f"{safe or '_'}-{sha256(shortname.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


DEFAULT_FORMATS = ("html", "csv", "json")


def publish(
    report: Report,
    directory: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    keep_days: int | None = None,
    progress: Progress = silent,
    readers: Readers | None = None,
    **options: Unpack[WritingOptions],
) -> WrittenReport:
    """Write ``directory/<date>/<SHORTNAME>.<format>`` for every library, ``index.html``, and the link ``latest``.

    All files appear at once or not at all, and replace those from an earlier run on the same day. The date is the
    report's, in this machine's time zone. Files that are ``keep_days`` or more days older are removed (None: none).
    Files and new directories are readable only by their owner.

    ``progress`` counts the files. A library's files are in the language of its ``readers``, the index in the default
    language (None: everything in the current one). Each library's page links back to the index.

    Raises:
        BusyError: another run is writing there.
        ConfigurationError: the directory can't be written.
    """
    from evergreen_groups.render.report import IndexedLibrary, write_index

    options["index"] = INDEX
    day = report_date(report)
    parts = libraries.by_library(report)
    names = library_file_names(parts)
    entries: list[IndexedLibrary] = []
    writing = Message("writing files")
    for library in libraries.reported_libraries(report):
        language = readers.of_library(library.shortname) if readers else current_language()
        files = {format: f"{names[library.shortname]}.{output_format(format).ending}" for format in formats}
        entries.append(IndexedLibrary(library, parts[library.shortname], files, language))
    with new_edition(directory, day, keep_days=keep_days) as create:
        every = len(entries) * len(formats)
        for done, (entry, format) in enumerate(product(entries, formats)):
            progress(writing, done, every)
            with create(entry.files[format]) as stream, use_language(entry.language):
                render_bytes(entry.part, format, stream, **options)
        progress(writing, every, every)
        with create(INDEX) as stream, use_language(readers.of_all if readers else current_language()):
            write_index(report, entries, stream)
    return WrittenReport(directory, len(entries) * len(formats) + 1, len(entries))


def report_date(report: Report) -> date:
    """Return the date of the report's data in this machine's time zone."""
    return report.generated_at.astimezone().date()


NAME = "failed.html"
"""Name of the failure page in a directory. Next to ``report.html`` it is called ``report.failed.html``."""

log = logging.getLogger("evergreen_groups.report_run")


def failure_page_path(target: Target) -> Path | None:
    """Return the path of the failure page; None for targets that aren't pages."""
    if target.path is None:
        return None
    if target.split:
        return target.path / NAME
    return target.path.with_suffix(f".{NAME}") if target.formats == (PAGE,) else None


def write_failure_page(
    target: Target, status: RunStatus, error: BaseException | None, language: Language = ENGLISH
) -> None:
    """Write a page in ``language`` that says that the run failed, and why.

    If this fails too, it is only logged.
    """
    page = failure_page_path(target)
    if page is None or target.path is None:
        return
    from evergreen_groups.render import failed_run_page
    from evergreen_groups.state import write_bytes_atomically

    known = error if isinstance(error, EvergreenGroupsError) else None  # the text of other errors may name patrons
    last = f"{LATEST}/{INDEX}" if target.split else target.path.name
    with use_language(language):
        text = failed_run_page(
            status,
            last=last if (page.parent / last).exists() else "",
            reason=describe_problem(known) if known else "",
            advice=describe_advice(known) if known else "",
        )
    try:
        page.parent.mkdir(mode=0o700, exist_ok=True)
        with write_bytes_atomically(page) as stream:
            stream.write(text.encode())
    except (EvergreenGroupsError, OSError) as problem:
        log.info("the page that says so could not be left at %s: %s", page, type(problem).__name__)


def remove_failure_page(target: Target) -> None:
    page = failure_page_path(target)
    if page is not None:
        try:
            page.unlink(missing_ok=True)
        except OSError as problem:
            log.warning("%s could not be removed: %s", page, problem.strerror)
