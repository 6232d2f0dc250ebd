"""Sheets of a spreadsheet, and a fast writer for long ones.

xlsxwriter makes a workbook whose long sheets hold only a sample cell for each format. :class:`StreamedWorkbook` copies
that workbook and writes the rows itself, as XML, between the head and the tail of each long sheet.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO, Literal
from xml.sax.saxutils import escape, quoteattr

from rich.cells import cell_len

from evergreen_groups.batches import batched
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import current_language, day, gettext, money_form
from evergreen_groups.render.text import printable

Row = tuple[Any, ...]
"""What a row is about, in parts. A part may be None, which leaves its cells empty."""
Value = str | int | Decimal | date | None
ColumnKind = Literal["text", "flag", "money", "change", "number", "id", "day"]
Mark = Literal["", "blocked", "notable"]

MOST_ROWS = 1_048_576
"""The file format's limit of rows on a sheet."""
MOST_LINKS = 65_000
"""The file format allows 65,530 links on a sheet. Later rows get none."""
_LONGEST_TEXT = 32_767
_LONGEST_HEADER = 120
"""The file format allows 255 characters, and an escaped ampersand takes two."""
_LEAST_WIDTH, _MOST_WIDTH = 9, 42
_MOST_ON_ONE_PAGE = 200
"""The number of characters that are legible across a printed page. Wider sheets use two, each with the names."""
_SIGN_WIDTH = 2
_NUMBERS = (int, Decimal)
_DIRECTION_MARKS = {0x200E: None, 0x200F: None}  # LRM and RLM, which spreadsheets don't need
_KINDS: dict[ColumnKind, dict[str, object]] = {
    "text": {"align": "left", "indent": 1},
    "flag": {"align": "left", "indent": 1},
    "number": {"num_format": "#,##0"},
    "id": {"num_format": "0", "align": "left", "indent": 1},
}
_DAY_PARTS = {"y": "yyyy", "yy": "yy", "M": "m", "MM": "mm", "MMM": "mmm", "MMMM": "mmmm", "d": "d", "dd": "dd"}
_MARKS: dict[Mark, dict[str, object]] = {
    "": {},
    "blocked": {"bold": True, "font_color": "#A8291C", "bg_color": "#FBE3E0"},
    "notable": {"bold": True, "font_color": "#6F4A00", "bg_color": "#FDF0CF"},
}
MARKS: tuple[Mark, ...] = tuple(_MARKS)
"""The ways to highlight a cell; empty for none."""
_HEADING = {"bold": True, "text_wrap": True, "valign": "bottom", "bottom": 2, "bg_color": "#E4EFE9"}


@dataclass(frozen=True)
class SpreadsheetColumn:
    """A column: heading, kind of values, and functions that return the value and highlighting for a ``part`` of a row.

    A "flag" is yes or no, a "change" is money with a sign, an "id" a number that isn't calculated with, and a "day" a
    real date. ``mark`` returns "blocked" (red), "notable" or ""; None means that no cell is highlighted.
    """

    heading: str
    kind: ColumnKind
    part: int
    value: Callable[[Any], Value]
    mark: Callable[[Any], Mark] | None = None

    def values(self, rows: Iterable[Row]) -> list[Value]:
        part, value_of = self.part, self.value
        return [None if (one := row[part]) is None else value_of(one) for row in rows]

    def marks(self, rows: Iterable[Row]) -> list[Mark]:
        part, mark_of = self.part, self.mark
        return ["" if mark_of is None or (one := row[part]) is None else mark_of(one) for row in rows]


class Formats:
    """The cell formats of a workbook, each created once. ``paper_title`` is printed on top of each page."""

    def __init__(self, workbook: Any, paper_title: str = "") -> None:
        self._workbook = workbook
        self.paper_title = paper_title
        self._made: dict[tuple[str, str], Any] = {}
        money = money_format()
        self._kinds: dict[ColumnKind, dict[str, object]] = {
            **_KINDS,
            "money": {"num_format": f"{money};-{money}"},
            "change": {"num_format": f"+{money};-{money};{money}"},
            "day": {"num_format": day_format(), "align": "left", "indent": 1},
        }
        self.title = workbook.add_format({"bold": True, "font_size": 16})
        self.label = workbook.add_format({"bold": True, "valign": "top"})

    def of(self, kind: ColumnKind, mark: Mark = "") -> Any:
        """Return the format for values of a kind, with or without highlighting."""
        return self._format(kind, mark, {**self._kinds[kind], **_MARKS[mark], "valign": "top"})

    def heading(self, kind: ColumnKind) -> Any:
        side = {"align": "left", "indent": 1} if kind in ("text", "flag", "id", "day") else {"align": "right"}
        return self._format(kind, "heading", {**side, **_HEADING})

    def fact(self, kind: ColumnKind) -> Any:
        """Return the format for a single value next to its label."""
        wrap = {"text_wrap": True} if kind == "text" else {}
        return self._format(kind, "fact", {**self._kinds[kind], **wrap, "align": "left", "indent": 0, "valign": "top"})

    def _format(self, kind: str, use: str, properties: dict[str, object]) -> Any:
        if (kind, use) not in self._made:
            self._made[kind, use] = self._workbook.add_format(properties)
        return self._made[kind, use]


def money_format() -> str:
    """Return the number format for money: the currency sign where the language puts it, separators by the program.

    >>> money_format()
    '"$"#,##0.00'
    """
    form = money_form()
    before, after = (f'"{text.translate(_DIRECTION_MARKS)}"' if text else "" for text in form.around[0])
    return f"{before}#,##0.{'0' * form.places}".rstrip(".") + after


def day_format() -> str:
    """Return the number format for dates, in the language's order. The program's language names the months.

    >>> day_format()
    'd\\\\ mmm\\\\ yyyy'
    """
    # From CLDR, for example "d. M. y" in Czech, or "d בMMM y" in Hebrew.
    pattern = current_language().date_locale.date_formats["medium"].pattern.translate(_DIRECTION_MARKS)
    parts = re.findall(r"y+|M+|d+|'[^']*'|.", pattern)
    return "".join(_DAY_PARTS.get(part) or f"\\{part}" for part in parts if part != "'")


def cell_text(text: str) -> str:
    """Return a text that a cell can hold: printable, on one line, and not too long."""
    text = printable(text)[:_LONGEST_TEXT]
    # xlsxwriter takes this for rich text of its own and writes it unescaped.
    return f"{text[: _LONGEST_TEXT - 1]} " if text.startswith("<r>") and text.endswith("</r>") else text


def write_cell(sheet: Any, row: int, column: int, value: Value, form: Any) -> None:
    """Write a value by its type: text always stays text, and days are real dates that sort correctly."""
    if value is None or value == "":
        sheet.write_blank(row, column, None, form)
    elif isinstance(value, str):
        sheet.write_string(row, column, cell_text(value), form)
    elif isinstance(value, date):
        sheet.write_datetime(row, column, value, form)
    else:
        sheet.write_number(row, column, float(value) if isinstance(value, Decimal) else value, form)


def fill(
    sheet: Any, columns: Sequence[SpreadsheetColumn], rows: Sequence[Row], formats: Formats, *, frozen: int
) -> None:
    """Write heading and rows. The heading and the first ``frozen`` columns stay visible."""
    widths = [width_of(column, rows) for column in columns]
    lay_out(sheet, columns, widths, len(rows), formats, frozen=frozen)
    for index, column in enumerate(columns):
        for number, (value, mark) in enumerate(zip(column.values(rows), column.marks(rows), strict=True), 1):
            write_cell(sheet, number, index, value, formats.of(column.kind, mark))


def lay_out(
    sheet: Any, columns: Sequence[SpreadsheetColumn], widths: Sequence[int], last: int, formats: Formats, *, frozen: int
) -> None:
    """Write the heading, and set up everything except the rows; ``last`` is the index of the last row."""
    for index, column in enumerate(columns):
        sheet.write_string(0, index, column.heading, formats.heading(column.kind))
    for index, width in enumerate(widths):
        sheet.set_column(index, index, width)
    sheet.freeze_panes(1, frozen)
    sheet.autofilter(0, 0, last, len(columns) - 1)
    sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{last + 1}"})  # barcodes are text on purpose
    _for_print(sheet, formats.paper_title)
    if sum(widths) > _MOST_ON_ONE_PAGE:
        sheet.fit_to_pages(2, 0)
        sheet.repeat_columns(0, frozen - 1)


def width_of(column: SpreadsheetColumn, rows: Sequence[Row]) -> int:
    """Return a column's width in characters, from its heading and its values in these rows."""
    heading = max(cell_len(word) for word in column.heading.split())
    values = column.values(rows)
    numbers = [value for value in values if isinstance(value, _NUMBERS)]
    # The lowest and the highest number are the widest. Equal texts and days are measured once.
    measured: set[Value] = {min(numbers), max(numbers)} if numbers else set()
    if len(numbers) < len(values):
        measured.update(value for value in values if not isinstance(value, _NUMBERS))
    widest = max((_width(value, column.kind) for value in measured), default=0)
    # Leave room for the indent, and for the filter button on top of the heading.
    return min(max(heading + 3, widest + 3, _LEAST_WIDTH), _MOST_WIDTH)


def _width(value: Value, kind: ColumnKind) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return cell_len(cell_text(value))
    if isinstance(value, date):
        return cell_len(day(value))
    return len(f"+{value:,.2f}") + _SIGN_WIDTH if kind in ("money", "change") else len(f"{value:,}")


def set_direction(sheet: Any) -> None:
    """Put the first column on the side where reading begins."""
    if current_language().direction == "rtl":
        sheet.right_to_left()


def _for_print(sheet: Any, title: str) -> None:
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    if title:
        sheet.set_header(f"&L{cell_text(title)[:_LONGEST_HEADER].replace('&', '&&')}")
    # The printing program replaces &A by the sheet's name, &P and &N by the page numbers.
    sheet.set_footer(f"&L&A&R{gettext('Page {page} of {pages}', page='&P', pages='&N')}")
    set_direction(sheet)


_MEASURED_ROWS = 2_000
"""Measure this many rows for text columns. Numbers are all measured, because one that is too wide isn't shown."""
_COMPRESSION_LEVEL = 1
"""Compression level. The third saves another twentieth, but takes half as long again."""
_BATCH_SIZE = 200
"""Write this many links at once."""
_CACHE_SIZE = 4096
"""Cache this many cells of a column; most columns repeat few values."""
_EPOCH = date(1899, 12, 30)
_SAMPLES = re.compile(r'<row r="2"[ >].*?</row>')
_STYLE = re.compile(r' s="(\d+)"')
_DIMENSION = re.compile(r'<dimension ref="[^"]*"/>')
_ESCAPE = re.compile("(_x[0-9A-Fa-f]{4}_)")
_LINK = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/hyperlink"
_RELATIONSHIPS = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
)


@dataclass(frozen=True)
class LongSheet:
    """A sheet for a long list, with the ``widths`` of its columns in characters.

    For each item of the list, ``rows_of`` returns its rows, and ``count_of`` their number. ``links_of`` returns their
    links, which the texts in the second column get (None: no links).
    """

    name: str
    columns: Sequence[SpreadsheetColumn]
    widths: Sequence[int]
    rows_of: Callable[[Any], Sequence[Row]]
    count_of: Callable[[Any], int]
    links_of: Callable[[Any], Sequence[str]] | None = None

    def add_to(self, workbook: Any, formats: Formats, count: int) -> None:
        """Add the sheet with room for ``count`` rows, and sample cells of all formats in the first of them.

        Raises:
            ConfigurationError: there are more rows than fit on a sheet.
        """
        if count >= MOST_ROWS:
            raise ConfigurationError(
                "the report has more rows than a spreadsheet can hold ({most:,})",
                advice="choose CSV, or list fewer groups",
                code="spreadsheet-too-long",
                values={"most": MOST_ROWS},
            )
        sheet = workbook.add_worksheet(self.name)
        lay_out(sheet, self.columns, self.widths, count, formats, frozen=2)
        used = [formats.of(column.kind, mark) for column in self.columns for mark in MARKS]
        for index, form in enumerate(used):
            sheet.write_blank(1, index, None, form)


def fitted_widths(columns: Sequence[SpreadsheetColumn], rows: Iterable[Row], every: Iterator[Row]) -> list[int]:
    """Measure text and days in the first of ``rows``, and numbers in ``every`` row (which may lack the others)."""
    measured = list(islice(rows, _MEASURED_ROWS))
    widths = [width_of(column, measured) for column in columns]
    numbers = [pair for pair in enumerate(columns) if pair[1].kind not in ("text", "flag", "day")]
    for some in batched(every, _MEASURED_ROWS):
        for index, column in numbers:
            widths[index] = max(widths[index], width_of(column, some))
    return widths


class RowWriter:
    """Makes the rows of a sheet as XML, with the format numbers (``styles``) of all marks of each of its columns.

    Rows and cells don't say where they are, because each follows the one before.
    """

    def __init__(self, sheet: LongSheet, styles: Sequence[int]) -> None:
        numbers = iter(styles)
        self._columns = [(column, {mark: _CellCache(next(numbers)) for mark in MARKS}) for column in sheet.columns]

    def made(self, rows: Sequence[Row]) -> Iterator[bytes]:
        """Yield the rows as XML."""
        for cells in zip(*(self._cells(column, caches, rows) for column, caches in self._columns), strict=True):
            yield f"<row>{''.join(cells)}</row>".encode()

    @staticmethod
    def _cells(column: SpreadsheetColumn, caches: Mapping[Mark, _CellCache], rows: Sequence[Row]) -> list[str]:
        values = column.values(rows)
        if column.mark is None:
            unmarked = caches[""]
            return [unmarked[value] for value in values]
        return [caches[mark][value] for mark, value in zip(column.marks(rows), values, strict=True)]


class _CellCache(dict[Value, str]):
    """Cache of a column's cells in one format, by value."""

    def __init__(self, style: int) -> None:
        super().__init__()
        self._opening = f'<c s="{style}"'

    def __missing__(self, value: Value) -> str:
        if value is None or value == "":
            cell = f"{self._opening}/>"
        elif isinstance(value, str):
            text = escape(cell_text(value))
            if "_x" in text:
                text = _ESCAPE.sub(r"_x005F\1", text)  # programs would decode _xHHHH_ as one character
            space = ' xml:space="preserve"' if text != text.strip() else ""
            cell = f'{self._opening} t="inlineStr"><is><t{space}>{text}</t></is></c>'
        else:
            number = (value - _EPOCH).days if isinstance(value, date) else value
            cell = f"{self._opening}><v>{number}</v></c>"
        if len(self) >= _CACHE_SIZE:
            self.clear()
        self[value] = cell
        return cell


class StreamedWorkbook:
    """A workbook written to a binary stream, with the rows of its long sheets added one sheet at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL)
        self._entry: Any = None
        self._row = 1
        self._sheets: list[tuple[str, str, str]] = []
        self.styles: list[list[int]] = []
        """The format numbers of each long sheet's sample cells."""

    def copy_from(self, whole: bytes, long: Sequence[LongSheet]) -> None:
        """Copy a workbook whose second and following sheets are ``long``, without their rows.

        Raises:
            ValueError: a long sheet has no sample cells.
        """
        with zipfile.ZipFile(io.BytesIO(whole)) as made:
            names = [f"xl/worksheets/sheet{number}.xml" for number in range(2, 2 + len(long))]
            for name in made.namelist():
                content = made.read(name)
                if name in names:
                    self._sheets.append((name, *self._split_at_samples(content.decode())))
                else:
                    self._archive.writestr(_archive_entry(name), content)

    def _split_at_samples(self, content: str) -> tuple[str, str]:
        samples = _SAMPLES.search(content)
        if samples is None:
            raise ValueError("a long sheet has a row of samples")
        self.styles.append([int(number) for number in _STYLE.findall(samples[0])])
        head = _DIMENSION.sub("", content[: samples.start()])  # optional, and covers only the samples
        return head, content[samples.end() :]

    def begin(self, index: int) -> None:
        name, head, _tail = self._sheets[index]
        self._entry = self._archive.open(_archive_entry(name), "w")
        self._entry.write(head.encode())
        self._row = 1

    def add(self, rows: Sequence[bytes]) -> None:
        self._row += len(rows)
        self._entry.write(b"".join(rows))

    def _write(self, pieces: Iterable[bytes]) -> None:
        left = iter(pieces)
        while some := b"".join(islice(left, _BATCH_SIZE)):
            self._entry.write(some)

    def end(self, index: int, links: Iterable[str] | None) -> None:
        """Finish a long sheet. Texts in the second column link to these addresses, row by row (None: no links)."""
        name, _head, tail = self._sheets[index]
        before, margins, after = tail.partition("<pageMargins")
        self._entry.write(before.encode())
        count = 0 if links is None else min(self._row - 1, MOST_LINKS)
        if count:
            self._entry.write(b"<hyperlinks>")
            self._write(b'<hyperlink ref="B%d" r:id="rId%d"/>' % (row + 1, row) for row in range(1, count + 1))
            self._entry.write(b"</hyperlinks>")
        self._entry.write(f"{margins}{after}".encode())
        self._entry.close()
        if links is None or not count:
            return
        relationships = name.replace("worksheets/", "worksheets/_rels/") + ".rels"
        self._entry = self._archive.open(_archive_entry(relationships), "w")
        self._entry.write(_RELATIONSHIPS.encode())
        self._write(
            f'<Relationship Id="rId{number}" Type="{_LINK}" Target={quoteattr(target)} TargetMode="External"/>'.encode()
            for number, target in enumerate(islice(links, count), 1)
        )
        self._entry.write(b"</Relationships>")
        self._entry.close()

    def close(self) -> None:
        self._archive.close()

    def abandon(self) -> None:
        """Leave the workbook unfinished, and write nothing more to the stream."""
        self._archive.fp = io.BytesIO()  # closing writes the directory, which now ends up here
        with suppress(Exception):
            if self._entry is not None:
                self._entry.close()
            self._archive.close()


def _archive_entry(name: str) -> zipfile.ZipInfo:
    """Return an archive entry with a fixed date, so that the same report produces the same file."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry._compresslevel = _COMPRESSION_LEVEL  # type: ignore[attr-defined]  # a parameter from 3.13 on
    return entry
