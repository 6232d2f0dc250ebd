"""The formats that a report and an audit are written in, each declared once, and the ways to split a report.

Everything that depends on a format follows from its line in :data:`OUTPUT_FORMATS`: what ``--format`` and the settings
take, file names, the media type of an attachment, and which function writes it.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from pathlib import Path

_REPORT = "evergreen_groups.render.report"
_AUDIT = "evergreen_groups.render.audit"


class OutputFormat(NamedTuple):
    """One format: its ``name`` among the options, the ``ending`` of its files (no dot), and its ``media_type``.

    ``report`` and ``audit`` are the functions that write one, as ``module:function`` (``audit`` None: an audit isn't
    written in it). They are named and not imported, because writers stand above this file, and because a command that
    writes nothing shouldn't load any. They take what is to be written, a stream (of bytes where ``binary``), and as
    keywords those of the writers' options (``WritingOptions`` in ``render/report``) that are in ``options``.

    ``parts`` is the function that writes parts of a report, such as those for its libraries, side by side to streams of
    bytes (None: each is written alone); it takes the report, its parts with their streams, and the same keywords.

    ``to_file`` says whether it makes sense as a file for each library or an attachment. ``phrase`` is what messages
    call it; ``package`` has to be installed for it, and comes with the extra called as the format is. What is
    ``for_programs`` is in English and has its columns and keys by the same names, whatever the language of its readers.
    """

    name: str
    ending: str
    media_type: str
    report: str
    parts: str | None = None
    audit: str | None = None
    options: tuple[str, ...] = ("details",)
    binary: bool = False
    to_file: bool = True
    phrase: str = Message("a file")
    package: str | None = None
    for_programs: bool = False

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is there."""
        return self.package is None or find_spec(self.package) is not None


OUTPUT_FORMATS = (
    OutputFormat(
        "table",
        ending="table",
        media_type="text/plain",
        report=f"{_REPORT}.table:write_table",
        audit=f"{_AUDIT}.text:write_listing",
        options=("details", "width", "color"),
        to_file=False,
        phrase=Message("a table"),
    ),
    OutputFormat(
        "csv",
        ending="csv",
        media_type="text/csv",
        report=f"{_REPORT}.csv:write_rows",
        parts=f"{_REPORT}.csv:write_parts",
        audit=f"{_AUDIT}.csv:write_rows",
        options=("details", "bom", "dialect"),
        phrase=Message("CSV"),
        for_programs=True,
    ),
    OutputFormat(
        "json",
        ending="json",
        media_type="application/json",
        report=f"{_REPORT}.json:write_document",
        parts=f"{_REPORT}.json:write_parts",
        audit=f"{_AUDIT}.json:write_document",
        phrase=Message("JSON"),
        for_programs=True,
    ),
    OutputFormat(
        "html",
        ending="html",
        media_type="text/html",
        report=f"{_REPORT}.page:write_page",
        parts=f"{_REPORT}.page:write_parts",
        audit=f"{_AUDIT}.page:write_page",
        options=("details", "client", "index"),
        phrase=Message("a page"),
    ),
    OutputFormat(
        "xlsx",
        ending="xlsx",
        media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        report=f"{_REPORT}.workbook:write_workbook",
        parts=f"{_REPORT}.workbook:write_parts",
        options=("details", "client"),
        binary=True,
        phrase=Message("a spreadsheet"),
        package="xlsxwriter",
    ),
    OutputFormat(
        "jsonl",
        ending="jsonl",
        media_type="application/jsonl",
        report=f"{_REPORT}.json:write_lines",
        parts=f"{_REPORT}.json:write_line_parts",
        audit=f"{_AUDIT}.json:write_lines",
        phrase=Message("JSON lines"),
        for_programs=True,
    ),
)
"""Every format there is, in the order in which they are offered."""

PAGE = "html"
"""The format that opens in a browser: it comes first where files are listed."""

REPORT_FORMATS = tuple(format.name for format in OUTPUT_FORMATS)
"""The names of those that a report can be written in."""
TEXT_FORMATS = tuple(format.name for format in OUTPUT_FORMATS if not format.binary)
"""Those of them that are text."""
FILE_FORMATS = tuple(
    sorted((format.name for format in OUTPUT_FORMATS if format.to_file), key=lambda name: name != PAGE)
)
"""Those of them that each library gets a file in, and that go with a mail."""
AUDIT_FORMATS = tuple(format.name for format in OUTPUT_FORMATS if format.audit)
"""The names of those that an audit can be written in."""

_DOCUMENTS = {"doc", "docx", "htm", "md", "ods", "odt", "pdf", "tsv", "txt", "xls", "xml"}

SPLITS = ("none", "library")
CSV_DIALECTS = ("plain", "spreadsheet", "semicolon")
"""For programs; for spreadsheets, with a byte order mark; for those set to languages with decimal commas."""
SORT_ORDERS = ("total", "age", "members", "name", "library")
"""The orders of the groups in a report."""
LOG_FORMATS = ("text", "json")
"""How events are written to standard error."""
LOG_FORMAT_VARIABLE = "EVERGREEN_GROUPS_LOG_FORMAT"
"""The variable of the environment that says how."""


def output_format(name: str) -> OutputFormat:
    """The format of this name.

    Raises:
        ValueError: there is none.
    """
    for format in OUTPUT_FORMATS:
        if format.name == name:
            return format
    raise ValueError(f"unknown format {name!r}; known are {', '.join(REPORT_FORMATS)}")


def format_of_file(path: Path | None, names: Collection[str] = REPORT_FORMATS) -> str | None:
    """The name of the one of these formats that a file's ending asks for; None where it asks for none."""
    ending = path.suffix.lstrip(".").lower() if path else ""
    return next((format.name for format in OUTPUT_FORMATS if format.ending == ending and format.name in names), None)


def is_document(path: Path | None) -> bool:
    """Whether a file's ending is that of a document, of ours or of another program's; a directory has none of these."""
    ending = path.suffix.lstrip(".").lower() if path else ""
    return ending in _DOCUMENTS or any(format.ending == ending for format in OUTPUT_FORMATS)


def format_for(
    path: Path | None, asked_for: str | None, otherwise: str, names: Collection[str] = REPORT_FORMATS
) -> str:
    """The name of the format that is asked for, or that the file's ending asks for; ``otherwise`` where there is none.

    Raises:
        ConfigurationError: the file has another ending, so nobody has said what is to be in it.
    """
    found = asked_for or format_of_file(path, names)
    if found is None and path is not None and otherwise == OUTPUT_FORMATS[0].name:
        raise ConfigurationError(
            "{path} has none of the endings that stand for a format",
            advice="let it end in {endings}, or say which with --format",
            setting="report.format",
            code="ending-unknown",
            values={"path": path, "endings": ", ".join(f".{output_format(name).ending}" for name in names)},
        )
    return found or otherwise


def require(names: Collection[str]) -> None:
    """Check that what these formats need is installed, so that nobody finds out after a long run.

    Raises:
        ConfigurationError: it isn't; the advice says what to install.
    """
    for format in map(output_format, names):
        if not format.installed:
            raise ConfigurationError(
                "{format} needs the package {package}",
                advice="pip install 'evergreen-groups[{extra}]', or choose another format",
                code="format-not-installed",
                values={"format": format.phrase, "package": format.package, "extra": format.name},
            )
