"""Aligned columns of text for terminals.

Rich's own table takes about ten seconds for the 15,000 rows of a large consortium's report; :class:`Columns` takes a
tenth of that. Widths are in terminal cells; a wide East Asian character takes two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from evergreen_groups.render.column import Column, Row

PLAIN = Style()
GAP = 2
_HYPHENATED_BELOW = 7
"""Headings are hyphenated within words only in columns narrower than this, unless nothing else helps."""

# Break after hyphens and ordinary spaces only, because amounts may contain no-break spaces.
_PIECES = re.compile(r"[^ -]*-+ *|[^ -]+ *| +")


class Cell(NamedTuple):
    """A text without line breaks or control characters; ``indent`` is in terminal cells."""

    text: str
    style: Style = PLAIN
    indent: int = 0


EMPTY = Cell("")


def aligned(text: str, width: int, *, right: bool = False) -> str:
    """Pad ``text`` to ``width`` terminal cells.

    >>> aligned("Müller", 8), aligned("山田", 6, right=True)
    ('Müller  ', '  山田')
    """
    blanks = " " * (width - cell_len(text))
    return f"{blanks}{text}" if right else f"{text}{blanks}"


def wrapped(text: str, width: int) -> list[str]:
    """Break ``text`` into lines of at most ``width`` terminal cells, after spaces and hyphens if possible."""
    lines = [""]
    for word in _PIECES.findall(text):
        if lines[-1] and cell_len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        first, *others = chop_cells(word, width) if cell_len(word.rstrip()) > width else [word]
        lines[-1] += first
        lines += others
    return [line.rstrip() for line in lines]


def _longest_word(cell: Cell, needed: int) -> tuple[int, bool]:
    """Return the width of a text's longest word (``needed``: of the whole text), and whether it is a single word."""
    if " " not in cell.text and "-" not in cell.text:
        return needed, True
    # Continuation lines are indented by one cell.
    return cell.indent + 1 + max(cell_len(piece.rstrip()) for piece in _PIECES.findall(cell.text)), False


def _heading_lines(text: str, width: int) -> list[str]:
    """Break a heading into lines, hyphenating words that are too long."""
    words = [
        word if cell_len(word) <= width else "- ".join(_in_equal_parts(word, width - 1)) for word in text.split(" ")
    ]
    return wrapped(" ".join(words), width)


def _in_equal_parts(word: str, width: int) -> list[str]:
    count = -(-cell_len(word) // max(width, 1))
    return chop_cells(word, -(-cell_len(word) // count))


class Columns:
    """Columns fitted to their rows and to a terminal of ``width`` cells.

    Lines are longer than that only if all columns are already at their minimum width.
    """

    def __init__(self, columns: Sequence[Column[Any]], rows: Iterable[Sequence[Cell]], width: int) -> None:
        self._headings = [column.title for column in columns]
        self._right = [column.is_number for column in columns]
        headings = [max(map(cell_len, heading.split(" "))) for heading in self._headings]
        self.widths = [0] * len(columns)
        words, barcodes = list(self.widths), list(self.widths)
        for row in rows:
            for index, cell in enumerate(row):
                needed = cell_len(cell.text) + cell.indent
                self.widths[index] = max(self.widths[index], needed)
                if columns[index].least is None:
                    words[index] = barcodes[index] = self.widths[index]
                elif needed > words[index]:
                    longest, is_one_word = _longest_word(cell, needed)
                    words[index] = max(words[index], longest)
                    if is_one_word:
                        barcodes[index] = max(barcodes[index], longest)
        self.widths = list(map(max, self.widths, headings))
        leasts = [column.least or 0 for column in columns]
        parts = [min(one, _HYPHENATED_BELOW) for one in headings]
        # Give up, one after the other until the line fits: spare room, long words of headings, words of names, short
        # words of headings, and finally barcodes, because a barcode in two pieces is hard to copy.
        for first, *others in ((words, headings), (words, parts), (barcodes, parts), (barcodes,)):
            self._narrow(width, list(map(max, first, leasts, *others)))
        self._narrow(width, [barcodes[index] if one.least is None else one.least for index, one in enumerate(columns)])

    @property
    def width(self) -> int:
        return sum(self.widths) + GAP * (len(self.widths) - 1)

    def start(self, index: int) -> int:
        """Return the position of the first cell of the column at ``index``."""
        return sum(self.widths[:index]) + GAP * index

    def heading(self, style: Style) -> Iterator[Segment]:
        """Yield the headings, on as many lines as necessary, aligned at the bottom."""
        blocks = list(map(_heading_lines, self._headings, self.widths))
        height = max(map(len, blocks))
        for number in range(height):
            words = [block[number - height + len(block)] if number >= height - len(block) else "" for block in blocks]
            yield from self._line([Cell(word, style) for word in words])

    def row(self, cells: Sequence[Cell]) -> Iterator[Segment]:
        """Yield a row, on as many lines as its longest text needs."""
        blocks = []
        for cell, width in zip(cells, self.widths, strict=True):
            if cell_len(cell.text) + cell.indent <= width:
                blocks.append([cell])
            else:
                first, *others = wrapped(cell.text, width - cell.indent - 1)
                rest = [cell._replace(text=text, indent=cell.indent + 1) for text in others]
                blocks.append([cell._replace(text=first), *rest])
        for line in zip_longest(*blocks, fillvalue=EMPTY):
            yield from self._line(line)

    def _narrow(self, width: int, lowest: Sequence[int]) -> None:
        """Narrow the widest column that exceeds its ``lowest`` width, one cell at a time, until the line fits."""
        while self.width > width:
            candidates = [index for index, current in enumerate(self.widths) if current > lowest[index]]
            if not candidates:
                return
            self.widths[max(candidates, key=lambda index: self.widths[index])] -= 1

    def _line(self, cells: Iterable[Cell]) -> Iterator[Segment]:
        owed = 0  # spaces held back, so that no line ends in spaces
        for cell, right, width in zip(cells, self._right, self.widths, strict=True):
            blanks = width - cell_len(cell.text) - cell.indent
            before, after = (cell.indent + blanks, 0) if right else (cell.indent, blanks)
            if cell.text:
                if owed + before:
                    yield Segment(" " * (owed + before))
                yield Segment(cell.text, cell.style)
                owed = after + GAP
            else:
                owed += width + GAP
        yield Segment.line()


def text_table(
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    width: int,
    *,
    ruled: bool = False,
    sums: Sequence[str] | None = None,
) -> Iterator[str]:
    """Yield headings and rows as lines of plain text.

    ``ruled`` draws a line below the headings. With ``sums``, these follow below another line.
    """
    written = [(column.writer(short=True), column.value) for column in columns]
    cells = [[Cell(write(value_of(row))) for write, value_of in written] for row in rows]
    below = [] if sums is None else [[*map(Cell, sums)]]
    table = Columns(columns, [*cells, *below], width)
    rule = ["─" * table.width]
    yield from _plain(table.heading(PLAIN))
    yield from rule if ruled else ()
    for row in cells:
        yield from _plain(table.row(row))
    for row in below:
        yield from rule
        yield from _plain(table.row(row))


def _plain(segments: Iterable[Segment]) -> list[str]:
    return "".join(segment.text for segment in segments).splitlines()


def console_for(stream: IO[str], *, color: bool, width: int | None = None) -> Console:
    """Return a console that prints text as is, without markup, emoji codes or highlighting."""
    from rich.console import Console  # slow to import, and only tables need it

    return Console(
        file=stream,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_line(console: Console, *parts: tuple[str, str]) -> None:
    """Print texts, each with its style, as one line of any length."""
    console.print(Text.assemble(*parts, no_wrap=True, overflow="ignore"), crop=False, soft_wrap=True)
