"""Sheets of a spreadsheet, written by xlsxwriter row by row."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from rich.cells import cell_len

from evergreen_groups.batches import batched
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import current_language, day, gettext, local, money_form
from evergreen_groups.message import own_pip
from evergreen_groups.render.column import Column, ColumnKind, Mark, Value, known
from evergreen_groups.render.text import printable

MOST_ROWS = 1_048_576
"""The file format's limit of rows on a sheet."""
MOST_LINKS = 65_000
"""The file format allows 65,530 links on a sheet. Later rows get none."""
_ROWS_AT_ONCE = 2_000
_LONGEST_TEXT = 32_767
_LONGEST_SHEET_NAME = 31
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
_HEADING = {"bold": True, "text_wrap": True, "valign": "bottom", "bottom": 2, "bg_color": "#E4EFE9"}


Reader = Callable[[Iterable[Any]], list[Value]]


def _reader_of(column: Column[Any]) -> Reader:
    """Return a function that returns what the cells of rows hold: numbers and real dates where the kind has them."""
    part_of, value_of = column.part_of, column.value
    converters: dict[str, Callable[[Any], Value]] = {
        "flag": column.writer(),
        "day": lambda moment: None if moment is None else local(moment).date(),
        **dict.fromkeys(("money", "change", "number"), known),
    }
    if column.shown is None and column.kind in converters:
        convert = converters[column.kind]
        return lambda rows: [None if (one := part_of(row)) is None else convert(value_of(one)) for row in rows]
    read = column.shown or value_of
    return lambda rows: [None if (one := part_of(row)) is None else read(one) for row in rows]


def _marks(column: Column[Any], rows: Sequence[Any]) -> Iterable[Mark]:
    part_of, mark_of = column.part_of, column.mark
    if mark_of is None:
        return repeat("", len(rows))
    return ["" if (one := part_of(row)) is None else mark_of(one) for row in rows]


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


def sheet_name(text: str) -> str:
    """Return a valid name: at most 31 characters, and none that have a meaning in formulas."""
    return re.sub(r"[\[\]:*?/\\']", " ", text)[:_LONGEST_SHEET_NAME].strip()


@contextmanager
def new_workbook(stream: BinaryIO, title: str, comments: str, at: datetime) -> Iterator[tuple[Any, Formats]]:
    """Yield a workbook to fill, with its formats, and write it to ``stream`` in the end.

    It is made in a temporary directory that only this user can read. ``title`` is printed above each page.

    Raises:
        ConfigurationError: xlsxwriter isn't installed.
    """
    try:
        import xlsxwriter  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError:
        raise ConfigurationError(
            "the package {package} isn't installed",
            advice="{pip} install {package}",
            code="xlsxwriter-not-installed",
            values={"pip": own_pip(), "package": "xlsxwriter"},
        ) from None
    texts = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
    with TemporaryDirectory(prefix="evergreen-groups-") as directory:
        made = Path(directory, "report.xlsx")
        workbook = xlsxwriter.Workbook(made, {"constant_memory": True, "tmpdir": directory, **texts})
        created = at.astimezone(UTC).replace(tzinfo=None)
        workbook.set_properties({"title": title, "comments": comments, "created": created})
        yield workbook, Formats(workbook, f"{title}, {day(at)}")
        try:
            workbook.close()
        except xlsxwriter.exceptions.FileCreateError as error:
            raise error.args[0] from None  # such as a full disk
        with made.open("rb") as whole:
            shutil.copyfileobj(whole, stream)


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


def refuse_too_long(count: int) -> None:
    """Raise ConfigurationError if there are more rows than fit on a sheet."""
    if count >= MOST_ROWS:
        raise ConfigurationError(
            "the report has more rows than a spreadsheet can hold ({most:,})",
            advice="choose CSV, or list fewer groups",
            code="spreadsheet-too-long",
            values={"most": MOST_ROWS},
        )


def fill(
    sheet: Any,
    columns: Sequence[Column[Any]],
    rows: Callable[[], Iterable[Any]],
    formats: Formats,
    *,
    frozen: int,
    numbers: Callable[[], Iterable[Any]] | None = None,
    links: Iterable[str] = (),
) -> None:
    """Write heading and rows. The heading and the first ``frozen`` columns stay visible.

    ``numbers`` returns the rows to measure the widest numbers of, which may lack other values; by default ``rows``.
    The texts in the second column link to ``links``, row by row.
    """
    readers = [_reader_of(column) for column in columns]
    widths, count = _measure(columns, readers, rows(), (numbers or rows)())
    _lay_out(sheet, columns, widths, count, formats, frozen=frozen)
    addresses = chain(islice(links, MOST_LINKS), repeat(None))
    used = [{mark: formats.of(column.kind, mark) for mark in _MARKS} for column in columns]
    number = 0
    for some in batched(rows(), _ROWS_AT_ONCE):
        values = zip(*(read(some) for read in readers), strict=True)
        marks = zip(*(_marks(column, some) for column in columns), strict=True)
        for cells, mark_of_cells, address in zip(values, marks, addresses, strict=False):
            number += 1
            for index, (value, mark) in enumerate(zip(cells, mark_of_cells, strict=True)):
                form = used[index][mark]
                if index == 1 and address is not None:
                    sheet.write_url(number, index, address, form, cell_text(str(value)))
                else:
                    write_cell(sheet, number, index, value, form)


def _lay_out(
    sheet: Any, columns: Sequence[Column[Any]], widths: Sequence[int], last: int, formats: Formats, *, frozen: int
) -> None:
    """Write the heading, and set up everything except the rows; ``last`` is the index of the last row."""
    for index, column in enumerate(columns):
        sheet.write_string(0, index, column.title, formats.heading(column.kind))
    for index, width in enumerate(widths):
        sheet.set_column(index, index, width)
    sheet.freeze_panes(1, frozen)
    sheet.autofilter(0, 0, last, len(columns) - 1)
    sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{last + 1}"})  # barcodes are text on purpose
    _for_print(sheet, formats.paper_title)
    if sum(widths) > _MOST_ON_ONE_PAGE:
        sheet.fit_to_pages(2, 0)
        sheet.repeat_columns(0, frozen - 1)


def _measure(
    columns: Sequence[Column[Any]], readers: Sequence[Reader], rows: Iterable[Any], every: Iterable[Any]
) -> tuple[list[int], int]:
    """Measure text and days in the first of ``rows``, and numbers in ``every`` row. Return the widths and the count."""
    measured = list(islice(rows, _ROWS_AT_ONCE))
    widths = [_width_of(column, read(measured)) for column, read in zip(columns, readers, strict=True)]
    numbers = [index for index, column in enumerate(columns) if column.kind not in ("text", "flag", "day")]
    count = 0
    # A number that is too wide isn't shown at all.
    for some in batched(every, _ROWS_AT_ONCE):
        count += len(some)
        for index in numbers:
            widths[index] = max(widths[index], _width_of(columns[index], readers[index](some)))
    return widths, count


def _width_of(column: Column[Any], values: Sequence[Value]) -> int:
    """Return a column's width in characters, from its heading and these values."""
    heading = max(cell_len(word) for word in column.title.split())
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
