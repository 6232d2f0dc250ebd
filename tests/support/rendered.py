"""Reports as they are written in each format, and texts in them that don't come from the catalog.

The test language has no Latin letters.
"""

import io
import re
from collections.abc import Iterable
from typing import Any

import lxml.html
import openpyxl

from evergreen_groups.render.report import render, render_bytes
from evergreen_groups.report import Report

_WORD = re.compile(r"[A-Za-z][A-Za-zÀ-ž'’-]*")
_READ = ("title", "placeholder", "aria-label", "alt", "data-label", "content")
_ALWAYS = {"evergreen-groups", "Evergreen"}


def written(report: Report, format: str, **options: Any) -> str:
    stream = io.StringIO(newline="")
    render(report, format, stream, **options)
    return stream.getvalue()


def written_bytes(report: Report, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    render_bytes(report, format, stream, **options)
    return stream.getvalue()


def workbook(report: Report, **options: Any) -> Any:
    return openpyxl.load_workbook(io.BytesIO(written_bytes(report, "xlsx", **options)))


def latin_words(text: str, data: Iterable[str] = ()) -> list[str]:
    """Return the words in Latin letters, except those of addresses and of the ``data``."""
    known = {word for one in data for word in _WORD.findall(one)} | _ALWAYS
    return [word for word in _WORD.findall(re.sub(r"https?://\S+", " ", text)) if word not in known]


def texts_of_page(html: str) -> str:
    """Return a page's texts: of its elements but commands, and of attributes that are shown or spoken."""
    tree = lxml.html.document_fromstring(html.encode(), parser=lxml.html.HTMLParser(encoding="utf-8"))
    spoken = [value for one in tree.iter() for name, value in one.attrib.items() if name in _READ and one.tag != "meta"]
    for one in tree.xpath("//script | //style | //code"):
        one.drop_tree()
    return "\n".join([*tree.itertext(), *spoken])
