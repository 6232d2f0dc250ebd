"""A sheet of a spreadsheet: columns of real numbers and of texts, under a heading that stays visible and filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

from rich.cells import cell_len

from evergreen_groups.language import currency_sign, current_language, day, gettext
from evergreen_groups.render.safe_text import printable

Row = TypeVar("Row")
Value = str | int | Decimal | date | None
ColumnKind = Literal["text", "money", "change", "number", "id", "day"]
Mark = Literal["", "blocked", "notable"]

MOST_ROWS = 1_048_576
"""How many rows a sheet may have, by the file format."""
MOST_LINKS = 65_000
"""How many links a sheet may have is 65,530; beyond, names are there without."""
_LONGEST_TEXT = 32_767
_LONGEST_HEADER = 120
"""How long a title may be on paper: the file format has 255 characters, of which an ampersand takes two."""
_LEAST_WIDTH, _MOST_WIDTH = 9, 42
_MOST_ON_ONE_PAGE = 200
"""As wide as what can be read on one page beside another (characters); wider sheets take two, each with the names."""
_SIGN_WIDTH = 2
_UNWRITTEN = {0x200E: None, 0x200F: None}  # marks for the direction of text, which a program has by its cells
_KINDS: dict[ColumnKind, dict[str, object]] = {
    "text": {"align": "left", "indent": 1},
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
"""The ways in which a cell stands out, or doesn't."""
_HEADING = {"bold": True, "text_wrap": True, "valign": "bottom", "bottom": 2, "bg_color": "#E4EFE9"}


@dataclass(frozen=True)
class SpreadsheetColumn(Generic[Row]):
    """A column: its heading, what kind of values it has, and how to get the value of a row.

    A "change" is money with its sign, an "id" a number that nobody counts with,
    a "day" a date, by which programs sort. ``mark`` says how a cell stands out:
    as a block, in red, as notable, or not at all; where it is None, none of the column does.
    """

    heading: str
    kind: ColumnKind
    value: Callable[[Row], Value]
    mark: Callable[[Row], Mark] | None = None


class Formats:
    """The cell formats of a workbook, each made once; its ``paper_title`` stands on each sheet of paper."""

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
        """The format for values of a kind, with a mark or without."""
        return self._format(kind, mark, {**self._kinds[kind], **_MARKS[mark], "valign": "top"})

    def heading(self, kind: ColumnKind) -> Any:
        """The format for the heading of a column of that kind."""
        side = {"align": "left", "indent": 1} if kind in ("text", "id", "day") else {"align": "right"}
        return self._format(kind, "heading", {**side, **_HEADING})

    def fact(self, kind: ColumnKind) -> Any:
        """The format for a value that stands beside its label, and not under others of its kind."""
        wrap = {"text_wrap": True} if kind == "text" else {}
        return self._format(kind, "fact", {**self._kinds[kind], **wrap, "align": "left", "indent": 0, "valign": "top"})

    def _format(self, kind: str, use: str, properties: dict[str, object]) -> Any:
        if (kind, use) not in self._made:
            self._made[kind, use] = self._workbook.add_format(properties)
        return self._made[kind, use]


def money_format() -> str:
    """The format of amounts: the currency's sign where the language has it, and separators as each reader's program.

    >>> money_format()
    '"$"#,##0.00'
    """
    # CLDR's own, such as "#,##0.00 ¤" in French; after a semicolon comes that of amounts below nought.
    pattern = current_language().locale.currency_formats["standard"].pattern.partition(";")[0]
    before, after = re.split("[#0][#0.,]*", pattern.translate(_UNWRITTEN), maxsplit=1)
    return f"{_quoted(before)}#,##0.00{_quoted(after)}"


def day_format() -> str:
    """The format of days, with the parts in the language's own order; the program writes the month's name in its own.

    >>> day_format()
    'd\\\\ mmm\\\\ yyyy'
    """
    # CLDR's own, such as "d. M. y" in Czech, or "d בMMM y" in Hebrew.
    pattern = current_language().date_locale.date_formats["medium"].pattern.translate(_UNWRITTEN)
    parts = re.findall(r"y+|M+|d+|'[^']*'|.", pattern)
    return "".join(_DAY_PARTS.get(part) or f"\\{part}" for part in parts if part != "'")


def _quoted(text: str) -> str:
    sign = currency_sign().replace('"', "")
    return f'"{text.replace("¤", sign)}"' if text else ""


def cell_text(text: str) -> str:
    """A text as a cell can hold it: on one line, printable, and not too long."""
    text = printable(text)[:_LONGEST_TEXT]
    # The library takes such a text for markup of its own and writes it unescaped.
    return f"{text[: _LONGEST_TEXT - 1]} " if text.startswith("<r>") and text.endswith("</r>") else text


def write_cell(sheet: Any, row: int, column: int, value: Value, form: Any) -> None:
    """Write a value for what it is: a text stays a text, whatever it looks like, and days can be put in order."""
    if value is None:
        sheet.write_blank(row, column, None, form)
    elif isinstance(value, str):
        sheet.write_string(row, column, cell_text(value), form)
    elif isinstance(value, date):
        sheet.write_datetime(row, column, value, form)
    else:
        sheet.write_number(row, column, float(value) if isinstance(value, Decimal) else value, form)


def fill(
    sheet: Any, columns: Sequence[SpreadsheetColumn[Row]], rows: Sequence[Row], formats: Formats, *, frozen: int
) -> None:
    """Write heading and rows; the heading and the first ``frozen`` columns stay visible."""
    lay_out(sheet, columns, widths_of(columns, rows), len(rows), formats, frozen=frozen)
    for number, row in enumerate(rows, 1):
        for place, column in enumerate(columns):
            mark = column.mark(row) if column.mark else ""
            write_cell(sheet, number, place, column.value(row), formats.of(column.kind, mark))


def lay_out(
    sheet: Any,
    columns: Sequence[SpreadsheetColumn[Row]],
    widths: Sequence[int],
    last: int,
    formats: Formats,
    *,
    frozen: int,
) -> None:
    """Write the heading, and set out everything but the rows, of which ``last`` is the number of the last one."""
    for place, column in enumerate(columns):
        sheet.write_string(0, place, column.heading, formats.heading(column.kind))
    for place, width in enumerate(widths):
        sheet.set_column(place, place, width)
    sheet.freeze_panes(1, frozen)
    sheet.autofilter(0, 0, last, len(columns) - 1)
    sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{last + 1}"})  # barcodes are texts on purpose
    _for_print(sheet, formats.paper_title)
    if sum(widths) > _MOST_ON_ONE_PAGE:
        sheet.fit_to_pages(2, 0)
        sheet.repeat_columns(0, frozen - 1)


def widths_of(columns: Sequence[SpreadsheetColumn[Row]], rows: Iterable[Row]) -> list[int]:
    """How wide each column is (characters), by its heading and its values."""
    every = list(rows)
    return [width_of(column, map(column.value, every)) for column in columns]


def width_of(column: SpreadsheetColumn[Any], values: Iterable[Value]) -> int:
    """How wide a column is (characters), by its heading and these values; each value is looked at once."""
    heading = max(cell_len(word) for word in column.heading.split())
    widest = max((_width(value, column.kind) for value in set(values)), default=0)
    # Room for the indent, and for the button of the filter, which lies over the heading.
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
    """Have the first column stand where the language begins to be read."""
    if current_language().direction == "rtl":
        sheet.right_to_left()


def _for_print(sheet: Any, title: str) -> None:
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    if title:
        sheet.set_header(f"&L{cell_text(title)[:_LONGEST_HEADER].replace('&', '&&')}")
    # The names of a sheet and of its pages are put in by whoever prints.
    sheet.set_footer(f"&L&A&R{gettext('Page {page} of {pages}', page='&P', pages='&N')}")
    set_direction(sheet)
