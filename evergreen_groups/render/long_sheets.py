"""Sheets of a spreadsheet with more rows than should be in memory: made once, and written into several workbooks.

xlsxwriter makes each workbook whole but for the rows of its long sheets, which are put into their places as they are
made, compressed at once. It would keep every cell until the end, or in temporary files, and takes four times as long.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any, BinaryIO, Generic, TypeVar
from xml.sax.saxutils import escape, quoteattr

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.render.spreadsheet import (
    MARKS,
    MOST_LINKS,
    MOST_ROWS,
    Formats,
    Mark,
    SpreadsheetColumn,
    Value,
    cell_text,
    lay_out,
    width_of,
    widths_of,
)

Row = TypeVar("Row")

_ROW = "\0"
"""Stands for a row's number, which is another in each workbook; no text of a cell has it."""
_MEASURED = 2_000
"""So many rows say how wide columns of texts are; numbers are all looked at, for one that is too wide isn't shown."""
_LEVEL = 3
"""Of compression: the highest makes files smaller by a fifth, and takes four times as long."""
_AT_ONCE = 200
"""So many rows are put into a file at once."""
_REMEMBERED = 4096
"""So many cells of a column are remembered, for most columns have the same few again and again."""
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
class LongSheet(Generic[Row]):
    """A sheet of long lists: its name, its columns, of which ``frozen`` stay visible, and how wide they are.

    ``linked`` is the place of the column whose texts lead somewhere (None: none does).
    """

    name: str
    columns: Sequence[SpreadsheetColumn[Row]]
    frozen: int
    widths: Sequence[int]
    linked: int | None = None

    @classmethod
    def measured(
        cls,
        name: str,
        columns: Sequence[SpreadsheetColumn[Row]],
        rows: Iterable[Row],
        every: Callable[[], Iterable[Row]],
        *,
        frozen: int,
        linked: int | None = None,
    ) -> LongSheet[Row]:
        """A sheet whose columns are as wide as texts in the first of the ``rows``, and as the numbers in ``every`` one.

        The latter are looked through for each column of numbers, and need nothing else.
        """
        widths = widths_of(columns, islice(rows, _MEASURED))
        for place, column in enumerate(columns):
            if column.kind not in ("text", "day"):
                widths[place] = max(widths[place], width_of(column, map(column.value, every())))
        return cls(name, columns, frozen, widths, linked)

    def add_to(self, workbook: Any, formats: Formats, count: int) -> None:
        """Add the sheet to a workbook, with room for ``count`` rows, and a cell for each format in the first of them.

        Raises:
            ConfigurationError: there are more rows than a sheet can have.
        """
        if count >= MOST_ROWS:
            raise ConfigurationError(
                "a spreadsheet holds {most:,} rows and the report has more",
                advice="choose CSV, or list fewer groups",
                code="spreadsheet-too-long",
                values={"most": MOST_ROWS},
            )
        sheet = workbook.add_worksheet(self.name)
        lay_out(sheet, self.columns, self.widths, count, formats, frozen=self.frozen)
        used = [formats.of(column.kind, mark) for column in self.columns for mark in MARKS]
        for place, form in enumerate(used):
            sheet.write_blank(1, place, None, form)


class RowWriter(Generic[Row]):
    """Makes the rows of a sheet; ``styles`` are the numbers of the formats of its columns, each in every mark."""

    def __init__(self, sheet: LongSheet[Row], styles: Sequence[int]) -> None:
        numbers = iter(styles)
        self._cells = [
            _cell_of(column, {mark: _Cells(place, next(numbers)) for mark in MARKS})
            for place, column in enumerate(sheet.columns)
        ]

    def row(self, row: Row) -> bytes:
        """The cells of a row, which has no number yet."""
        return f'<row r="{_ROW}">{"".join([cell(row) for cell in self._cells])}</row>'.encode()


class _Cells(dict[Value, str]):
    """The cells of a column in one format, by their values."""

    def __init__(self, place: int, style: int) -> None:
        super().__init__()
        self._opening = f'<c r="{_letters(place)}{_ROW}" s="{style}"'

    def __missing__(self, value: Value) -> str:
        if value is None:
            cell = f"{self._opening}/>"
        elif isinstance(value, str):
            cell = f'{self._opening} t="inlineStr">{_inline(value)}</c>'
        else:
            cell = f"{self._opening}><v>{_number(value)}</v></c>"
        if len(self) >= _REMEMBERED:
            self.clear()
        self[value] = cell
        return cell


def _cell_of(column: SpreadsheetColumn[Row], cells: Mapping[Mark, _Cells]) -> Callable[[Row], str]:
    """What makes a column's cell of a row."""
    value_of, mark_of = column.value, column.mark
    if mark_of is None:
        unmarked = cells[""]
        return lambda row: unmarked[value_of(row)]
    return lambda row: cells[mark_of(row)][value_of(row)]


class FilledWorkbook:
    """A workbook in a stream of bytes, into whose long sheets rows are put, one sheet after the other."""

    def __init__(self, stream: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self._entry: Any = None
        self._row = 1
        self._waiting: list[bytes] = []
        self._sheets: list[tuple[str, str, str]] = []
        self._styles: list[list[int]] = []

    def take(self, whole: bytes, long: Sequence[LongSheet[Any]]) -> None:
        """Take a workbook to which long sheets were added behind its first one, and that is whole but for their rows.

        Raises:
            ValueError: it has no such sheets.
        """
        with zipfile.ZipFile(io.BytesIO(whole)) as made:
            places = [f"xl/worksheets/sheet{number}.xml" for number in range(2, 2 + len(long))]
            for name in made.namelist():
                content = made.read(name)
                if name in places:
                    self._sheets.append((name, *self._taken_apart(content.decode())))
                else:
                    self._archive.writestr(_entry_of(name), content)

    def _taken_apart(self, content: str) -> tuple[str, str]:
        samples = _SAMPLES.search(content)
        if samples is None:
            raise ValueError("a long sheet has a row of samples")
        self._styles.append([int(number) for number in _STYLE.findall(samples[0])])
        head = _DIMENSION.sub("", content[: samples.start()])  # it's optional, and would be that of the samples
        return head, content[samples.end() :]

    def styles(self, place: int) -> list[int]:
        """The numbers of the formats of a long sheet."""
        return self._styles[place]

    def begin(self, place: int) -> None:
        """Begin with the rows of a long sheet."""
        name, head, _tail = self._sheets[place]
        self._entry = self._archive.open(_entry_of(name), "w")
        self._entry.write(head.encode())
        self._row = 1

    def add(self, rows: Iterable[bytes]) -> None:
        """Put rows below those that are there."""
        for row in rows:
            self._row += 1
            self._waiting.append(row.replace(b"\0", b"%d" % self._row))
        if len(self._waiting) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._entry.write(b"".join(self._waiting))
        self._waiting.clear()

    def end(self, place: int, links: Iterable[str], linked: int | None) -> None:
        """End a long sheet, whose texts in the column ``linked`` lead to these addresses, row by row."""
        self._flush()
        name, _head, tail = self._sheets[place]
        before, margins, after = tail.partition("<pageMargins")
        self._entry.write(before.encode())
        count = 0 if linked is None else min(self._row - 1, MOST_LINKS)
        if linked is not None and count:
            self._entry.write(b"<hyperlinks>")
            for some in _in_batches(_references(linked, count)):
                self._entry.write(some)
            self._entry.write(b"</hyperlinks>")
        self._entry.write(f"{margins}{after}".encode())
        self._entry.close()
        if count:
            beside = name.replace("worksheets/", "worksheets/_rels/") + ".rels"
            with self._archive.open(_entry_of(beside), "w") as entry:
                entry.write(_RELATIONSHIPS.encode())
                for some in _in_batches(_relationships(islice(links, count))):
                    entry.write(some)
                entry.write(b"</Relationships>")

    def close(self) -> None:
        """Have it whole."""
        self._archive.close()

    def abandon(self) -> None:
        """Leave it unfinished, without a word more into its stream."""
        self._archive.fp = io.BytesIO()
        with suppress(Exception):
            if self._entry is not None:
                self._entry.close()
            self._archive.close()


def _entry_of(name: str) -> zipfile.ZipInfo:
    """With the oldest date there is: the same report gives the same file."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry._compresslevel = _LEVEL  # type: ignore[attr-defined]  # a parameter from 3.13 on
    return entry


def _in_batches(texts: Iterator[str]) -> Iterator[bytes]:
    while some := list(islice(texts, _AT_ONCE)):
        yield "".join(some).encode()


def _references(column: int, count: int) -> Iterator[str]:
    letters = _letters(column)
    for number in range(1, count + 1):
        yield f'<hyperlink ref="{letters}{number + 1}" r:id="rId{number}"/>'


def _relationships(targets: Iterable[str]) -> Iterator[str]:
    for number, target in enumerate(targets, 1):
        yield f'<Relationship Id="rId{number}" Type="{_LINK}" Target={quoteattr(target)} TargetMode="External"/>'


def _letters(place: int) -> str:
    """What a column is called.

    >>> _letters(0), _letters(25), _letters(26)
    ('A', 'Z', 'AA')
    """
    found = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        found = chr(ord("A") + rest) + found
    return found


def _inline(text: str) -> str:
    text = escape(cell_text(text))
    if "_x" in text:
        text = _ESCAPE.sub(r"_x005F\1", text)  # programs take such a thing for a character
    space = ' xml:space="preserve"' if text != text.strip() else ""
    return f"<is><t{space}>{text}</t></is>"


def _number(value: Value) -> str:
    if isinstance(value, date):
        return str((value - _EPOCH).days)
    return str(value)
