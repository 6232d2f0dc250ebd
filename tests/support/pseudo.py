"""What of a text doesn't come from the catalogue, seen by the language of the tests, which has no Latin letters."""

from __future__ import annotations

import re
from collections.abc import Iterable

import lxml.html

_WORD = re.compile(r"[A-Za-z][A-Za-zÀ-ž'’-]*")
_READ = ("title", "placeholder", "aria-label", "alt", "data-label", "content")
_ALWAYS = {"evergreen-groups", "Evergreen"}


def latin_words(text: str, data: Iterable[str] = ()) -> list[str]:
    """The words in Latin letters, but for those of the ``data`` that are shown."""
    known = {word for one in data for word in _WORD.findall(one)} | _ALWAYS
    return [word for word in _WORD.findall(text) if word not in known]


def texts_of_page(html: str) -> str:
    """What people read of a page: the text of its elements, and of the attributes that are shown or spoken."""
    tree = lxml.html.document_fromstring(html.encode(), parser=lxml.html.HTMLParser(encoding="utf-8"))
    spoken = [value for one in tree.iter() for name, value in one.attrib.items() if name in _READ and one.tag != "meta"]
    for one in tree.xpath("//script | //style"):
        one.drop_tree()
    return "\n".join([*tree.itertext(), *spoken])
