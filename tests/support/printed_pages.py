"""Pages as printed by a browser."""

import re
import subprocess
from typing import NamedTuple

import lxml.html

_COUNT = re.compile(rb"/Type /Pages\s/Count (\d+)")


def sheets_of(document: bytes) -> int:
    """Return the number of sheets in Chromium's PDF, where each page has a page object."""
    return max(map(int, _COUNT.findall(document)))


class Word(NamedTuple):
    """A word on a sheet (from 0): its text, and its edges in points from the sheet's top left."""

    sheet: int
    text: str
    left: float
    top: float
    right: float
    bottom: float


def words_of(document: bytes) -> list[Word]:
    """Return the words of a PDF as poppler finds them."""
    done = subprocess.run(["pdftotext", "-bbox", "-", "-"], input=document, capture_output=True, check=True)
    sheets = lxml.html.document_fromstring(done.stdout).xpath("//page")
    return [
        Word(number, str(word.text), *(float(word.get(edge)) for edge in ("xmin", "ymin", "xmax", "ymax")))
        for number, sheet in enumerate(sheets)
        for word in sheet.xpath(".//word")
    ]
