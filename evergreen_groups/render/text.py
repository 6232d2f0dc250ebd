"""Text in columns for a terminal: widths fitted to the screen, long texts wrapped in their column.

Rich's own table needs about ten seconds for the 15,000 rows of a large consortium's report; this does what the report
needs of it in a tenth of that. Widths are in terminal cells, of which a wide East Asian character takes two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import bidirectional

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style

from evergreen_groups.language import current_language, describe_advice, describe_problem, gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

PLAIN = Style()
GAP = 2
_PART_OF_HEADING = 7
"""Down to this width, a column's heading isn't parted within its words; then it is where nothing else helps."""

# Only blanks part words: in an amount of money there may be spaces that don't.
_PIECES = re.compile(r"[^ -]*-+ *|[^ -]+ *| +")


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column: its heading, and whether it is set to the right.

    ``least`` is the width down to which it may be narrowed, its texts being wrapped; None: its texts are never
    wrapped, as with amounts.
    """

    heading: str
    right: bool = False
    least: int | None = None


class Cell(NamedTuple):
    """A text without line breaks or control characters; ``indent`` is in terminal cells."""

    text: str
    style: Style = PLAIN
    indent: int = 0


EMPTY = Cell("")


def aligned(text: str, width: int, *, right: bool = False) -> str:
    """``text`` with blanks up to ``width`` terminal cells, behind it or before it.

    >>> aligned("Müller", 8), aligned("山田", 6, right=True)
    ('Müller  ', '  山田')
    """
    blanks = " " * (width - cell_len(text))
    return f"{blanks}{text}" if right else f"{text}{blanks}"


def wrapped(text: str, width: int) -> list[str]:
    """Break ``text`` into lines of at most ``width`` terminal cells, after blanks and hyphens where it can be."""
    lines = [""]
    for word in _PIECES.findall(text):
        if lines[-1] and cell_len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        first, *others = chop_cells(word, width) if cell_len(word.rstrip()) > width else [word]
        lines[-1] += first
        lines += others
    return [line.rstrip() for line in lines]


def _longest_word(cell: Cell, needed: int) -> tuple[int, bool]:
    """How wide a column has to be for a text's longest word, and whether it is the only one.

    ``needed`` is what the text takes in one line.
    """
    if " " not in cell.text and "-" not in cell.text:
        return needed, True
    # The lines that follow the first begin one cell later.
    return cell.indent + 1 + max(cell_len(piece.rstrip()) for piece in _PIECES.findall(cell.text)), False


def _heading_lines(text: str, width: int) -> list[str]:
    """A heading in lines; a word that is too long for one is parted by a hyphen."""
    words = [
        word if cell_len(word) <= width else "- ".join(_in_equal_parts(word, width - 1)) for word in text.split(" ")
    ]
    return wrapped(" ".join(words), width)


def _in_equal_parts(word: str, width: int) -> list[str]:
    count = -(-cell_len(word) // max(width, 1))
    return chop_cells(word, -(-cell_len(word) // count))


class Columns:
    """Columns that have been fitted to rows and a screen ``width``.

    Only where all columns are at their least width and the screen is narrower still are lines longer than it.
    """

    def __init__(self, columns: Sequence[TextColumn], rows: Iterable[Sequence[Cell]], width: int) -> None:
        self._columns = columns
        headings = [max(cell_len(word) for word in column.heading.split(" ")) for column in columns]
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
        parts = [min(one, _PART_OF_HEADING) for one in headings]
        # What gives way, one after the other, until the line fits: blanks; long words of headings; words of names, but
        # no barcode, which nobody could copy in two parts; short words of headings; and barcodes as well.
        for first, *others in ((words, headings), (words, parts), (barcodes, parts), (barcodes,)):
            self._narrow(width, list(map(max, first, leasts, *others)))
        self._narrow(width, [barcodes[index] if one.least is None else one.least for index, one in enumerate(columns)])

    @property
    def width(self) -> int:
        """The width of a whole line."""
        return sum(self.widths) + GAP * (len(self.widths) - 1)

    def start(self, index: int) -> int:
        """Where the column at ``index`` begins."""
        return sum(self.widths[:index]) + GAP * index

    def heading(self, style: Style) -> Iterator[Segment]:
        """The headings, over as many lines as they need, all of them ending on one line."""
        blocks = [_heading_lines(column.heading, width) for column, width in self._paired()]
        height = max(map(len, blocks))
        for number in range(height):
            words = [block[number - height + len(block)] if number >= height - len(block) else "" for block in blocks]
            yield from self._line([Cell(word, style) for word in words])

    def row(self, cells: Sequence[Cell]) -> Iterator[Segment]:
        """A row, over as many lines as its longest text needs."""
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

    def _paired(self) -> Iterator[tuple[TextColumn, int]]:
        return zip(self._columns, self.widths, strict=True)

    def _narrow(self, width: int, lowest: Sequence[int]) -> None:
        """Take from the widest column that is wider than its ``lowest``, one cell at a time, until the line fits."""
        while self.width > width:
            candidates = [index for index, current in enumerate(self.widths) if current > lowest[index]]
            if not candidates:
                return
            self.widths[max(candidates, key=lambda index: self.widths[index])] -= 1

    def _line(self, cells: Iterable[Cell]) -> Iterator[Segment]:
        owed = 0  # blanks not written yet, so that no line ends in them
        for cell, (column, width) in zip(cells, self._paired(), strict=True):
            blanks = width - cell_len(cell.text) - cell.indent
            before, after = (cell.indent + blanks, 0) if column.right else (cell.indent, blanks)
            if cell.text:
                if owed + before:
                    yield Segment(" " * (owed + before))
                yield Segment(cell.text, cell.style)
                owed = after + GAP
            else:
                owed += width + GAP
        yield Segment.line()


# The last four are the wide forms that East Asian keyboards give. LibreOffice takes a cell with blanks before the sign
# for text, but other programs trim cells, and a reader doesn't see what stands there.
_INVISIBLE = "\\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_FORMULA = re.compile(f"'*(?:[\t\r\n]|[{_INVISIBLE}]*[=+\\-@\uff1d\uff0b\uff0d\uff20])")

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def harmless(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would calculate."""
    if text.isascii() and text[:1].isalnum():  # as nearly all of thousands of cells
        return text
    text = _HALF_A_PAIR.sub("\ufffd", text)
    return f"'{text}" if _FORMULA.match(text) else text


# Invisible characters that reorder the text around them: embeddings, overrides and isolates, and the marks, which make
# signs and numbers beside them read from the other side.
_DIRECTION_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_BREAKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")

# Terminals obey the control characters; half a surrogate pair can't be encoded, and HTML has neither.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Make ``text`` safe to show on one line: no line breaks, control characters or reordering of what follows."""
    if text.isascii() and text.isprintable():
        return text
    text = _BREAKS.sub(" ", _DIRECTION_CONTROLS.sub("", text))
    return _UNPRINTABLE.sub("\ufffd", text)


# The classes of letters that are written from the right (UAX 9), and of those from the left.
_LETTERS_AGAINST = {"ltr": ("R", "AL"), "rtl": ("L",)}
_ISOLATE, _END = "\u2068", "\u2069"


def isolated(text: str) -> str:
    """A name, say, for the middle of a sentence: printable, and its direction of writing is its own.

    Where all of its letters are written as the sentence is, that needs no marks.
    """
    text = printable(text)
    direction = current_language().direction
    if direction == "ltr" and text.isascii():
        return text
    against = _LETTERS_AGAINST[direction]
    return f"{_ISOLATE}{text}{_END}" if any(bidirectional(letter) in against for letter in text) else text


# Its own text of the catalogue, since not every script ends a sentence with a dot.
_SENTENCE = Message("{text}.")


def sentence(text: str) -> str:
    """A sentence with its first letter and its dot, of one that has neither.

    >>> sentence("they are already in the same group, 7")
    'They are already in the same group, 7.'
    """
    if not text or text.endswith((".", "?", "!")):
        return _begun(text)
    return gettext(_SENTENCE, text=_begun(text))


def error_sentences(error: EvergreenGroupsError) -> str:
    """What went wrong, and what there is to do about it."""
    return " ".join(sentence(part) for part in (describe_problem(error), describe_advice(error)) if part)


def _begun(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
