"""The output formats of reports and audits, each declared once, the other choices for output, and rows for programs.

:data:`OUTPUT_FORMATS` determines the values of ``--format`` and the settings, file extensions, the media types of
attachments, and the functions that write each format.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, NamedTuple

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import ENGLISH, use_language
from evergreen_groups.message import own_pip

_REPORT = "evergreen_groups.render.report"
_AUDIT = "evergreen_groups.render.audit"
_HOOKS = "evergreen_groups.hooks"


class OutputFormat(NamedTuple):
    """An output format.

    The writers are named as strings, ``module:function``. They can't be imported here because the renderers import this
    module, and commands that write nothing shouldn't load them.
    """

    name: str
    """The value of ``--format``."""
    ending: str
    """The extension of its files, without the dot."""
    media_type: str
    report: str
    """The function that writes a report. It takes the report, a stream, and ``options`` as keywords."""
    audit: str | None = None
    """The function that writes an audit to a text stream. None: audits can't be written in this format."""
    options: tuple[str, ...] = ("details",)
    """The fields of ``WritingOptions`` (in ``render/report``) that the functions take."""
    binary: bool = False
    """Whether the format isn't text. The stream is then one of bytes."""
    to_file: bool = True
    """Whether the format makes sense for mail attachments and for one file per library."""
    package: str | None = None
    """A package that must be installed."""
    for_programs: bool = False
    """Whether programs read it. Its text, columns and keys are then English, whatever the reader's language."""

    @property
    def installed(self) -> bool:
        """Whether the required package is installed."""
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
    ),
    OutputFormat(
        "csv",
        ending="csv",
        media_type="text/csv",
        report=f"{_REPORT}.csv:write_csv",
        audit=f"{_AUDIT}.data:write_rows",
        options=("details", "bom", "dialect"),
        for_programs=True,
    ),
    OutputFormat(
        "json",
        ending="json",
        media_type="application/json",
        report=f"{_REPORT}.json:write_document",
        audit=f"{_AUDIT}.data:write_document",
        for_programs=True,
    ),
    OutputFormat(
        "html",
        ending="html",
        media_type="text/html",
        report=f"{_REPORT}.page:write_page",
        audit=f"{_AUDIT}.page:write_page",
        options=("details", "client", "index", "follow_ups"),
    ),
    OutputFormat(
        "xlsx",
        ending="xlsx",
        media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        report=f"{_REPORT}.workbook:write_workbook",
        options=("details", "client", "follow_ups"),
        binary=True,
        package="xlsxwriter",
    ),
    OutputFormat(
        "jsonl",
        ending="jsonl",
        media_type="application/jsonl",
        report=f"{_REPORT}.json:write_lines",
        audit=f"{_AUDIT}.data:write_lines",
        for_programs=True,
    ),
)
"""All formats, in the order of ``--help``."""

PAGE = "html"
"""The format for browsers. It comes first in lists of files."""

REPORT_FORMATS = tuple(format.name for format in OUTPUT_FORMATS)
"""The formats of reports, by name."""
TEXT_FORMATS = tuple(format.name for format in OUTPUT_FORMATS if not format.binary)
"""The text formats of reports, by name."""
FILE_FORMATS = tuple(
    sorted((format.name for format in OUTPUT_FORMATS if format.to_file), key=lambda name: name != PAGE)
)
"""The formats for attachments and for one file per library, by name."""
AUDIT_FORMATS = tuple(format.name for format in OUTPUT_FORMATS if format.audit)
"""The formats of audits, by name."""

_DOCUMENTS = {"doc", "docx", "htm", "md", "ods", "odt", "pdf", "tsv", "txt", "xls", "xml"}

SPLITS = ("none", "library")
CSV_DIALECTS = ("plain", "spreadsheet", "semicolon")
"""For programs; for spreadsheets, with a byte order mark; for spreadsheets in locales with decimal commas."""
SORT_ORDERS = ("total", "age", "members", "name", "library")
"""The sort orders of groups in a report."""
LOG_FORMATS = ("text", "json")
"""The formats of log events on standard error."""
LOG_FORMAT_VARIABLE = "EVERGREEN_GROUPS_LOG_FORMAT"
"""The environment variable that selects one of :data:`LOG_FORMATS`."""


def output_format(name: str) -> OutputFormat:
    """Return the format with this name. Raise ValueError if it is unknown."""
    for format in OUTPUT_FORMATS:
        if format.name == name:
            return format
    raise ValueError(f"unknown format {name!r}; known are {', '.join(REPORT_FORMATS)}")


def format_of_file(path: Path | None, names: Collection[str] = REPORT_FORMATS) -> str | None:
    """Return the name of the format that the file's extension stands for, or None. Considers only ``names``."""
    ending = path.suffix.lstrip(".").lower() if path else ""
    return next((format.name for format in OUTPUT_FORMATS if format.ending == ending and format.name in names), None)


def is_document(path: Path | None) -> bool:
    """Return whether the path looks like a document, ours or another program's, rather than a directory."""
    ending = path.suffix.lstrip(".").lower() if path else ""
    return ending in _DOCUMENTS or any(format.ending == ending for format in OUTPUT_FORMATS)


def format_for(path: Path | None, asked_for: str | None, default: str, names: Collection[str] = REPORT_FORMATS) -> str:
    """Return the name of the requested format. Without one, use the file's extension, then ``default``.

    Raises:
        ConfigurationError: the extension is unknown and the default is a table, which is meant for the terminal.
    """
    found = asked_for or format_of_file(path, names)
    if found is None and path is not None and default == OUTPUT_FORMATS[0].name:
        raise ConfigurationError(
            "unknown file extension: {path}",
            advice="use one of {endings}, or set {setting}",
            setting="report.format",
            code="ending-unknown",
            values={
                "path": path,
                "endings": ", ".join(f".{output_format(name).ending}" for name in names),
                "setting": "--format",
            },
        )
    return found or default


def require(names: Collection[str]) -> None:
    """Check that the packages these formats need are installed. Call it first, so that a long run doesn't fail late.

    Raises:
        ConfigurationError: a package is missing. The advice names it.
    """
    for format in map(output_format, names):
        if not format.installed:
            raise ConfigurationError(
                "{package} isn't installed",
                advice="{pip} install {package}",
                code="format-not-installed",
                values={"package": format.package, "pip": own_pip()},
            )


class Forms(NamedTuple):
    """The functions that yield rows, and that write CSV and JSON to a stream."""

    rows: str
    csv: str
    json: str


OF_REPORT = Forms(f"{_REPORT}.csv:report_rows", f"{_REPORT}.csv:write_csv", f"{_REPORT}.json:write_document")
OF_AUDIT = Forms(f"{_AUDIT}.data:rows", f"{_AUDIT}.data:write_rows", f"{_AUDIT}.data:write_document")
OF_GROUP = Forms(
    f"{_REPORT}.csv:group_rows", f"{_REPORT}.csv:write_group", "evergreen_groups.hooks.interface:write_json"
)


class Tabular:
    """Base class of the records with these forms. Columns, keys and texts are in English."""

    __slots__ = ()
    _forms: ClassVar[Forms]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each member; of an audit, also for each finding about a patron or a threshold.

        The keys are the columns of :meth:`to_csv`. Amounts are ``Decimal``, and what isn't known is None:
        ``pandas.DataFrame(report.rows())`` works.
        """
        with use_language(ENGLISH):
            return list(resolve_name(self._forms.rows)(self))

    def to_csv(self) -> str:
        """Return the rows as CSV; of a report, also those of cleared groups. Write it with ``newline=""``."""
        return self._written(self._forms.csv)

    def to_json(self) -> str:
        """Return the document that the command writes; of a group, the one of the hooks."""
        return self._written(self._forms.json)

    def _written(self, function: str) -> str:
        stream = StringIO(newline="")
        with use_language(ENGLISH):
            resolve_name(function)(self, stream)
        return stream.getvalue()
