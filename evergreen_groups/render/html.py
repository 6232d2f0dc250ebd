"""What every page has: its head with the policy that holds it to itself, sections, notes, and its end."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from html import escape
from importlib import resources

from evergreen_groups import __version__
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.wording import CONFIDENTIAL, local_time


def asset(name: str) -> str:
    """A file beside this module, as text."""
    return resources.files("evergreen_groups.render.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def beginning(title: str, generated_at: datetime, style: str, script: str | None = None) -> Markup:
    """Everything before the body's first element; the title has the day of the data added."""
    head = _head(f"{title}, {local_time(generated_at)[:10]}", style, script)
    return Markup(f"<!DOCTYPE html>\n{opening('html', lang='en')}{head}\n<body>\n")


def ending(script: str | None = None) -> Markup:
    """Everything after ``main``."""
    footer = element("footer", element("p", f"{CONFIDENTIAL} Written by evergreen-groups {__version__}."))
    # Not escaped: inside this element HTML knows no escapes, and the text is this package's own.
    scripts = f"<script>{script}</script>\n" if script else ""
    return Markup(f"{footer}\n{scripts}</body>\n</html>\n")


def _head(title: str, style: str, script: str | None) -> Markup:
    """The head of a page that asks nobody for anything; only this style, and this script if any, may be used."""
    scripts = f"script-src {_hash(script)}; " if script else ""
    policy = f"default-src 'none'; style-src {_hash(style)}; {scripts}base-uri 'none'; form-action 'none'"
    return element(
        "head",
        opening("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        opening("meta", name="viewport", content="width=device-width, initial-scale=1"),
        opening("meta", name="robots", content="noindex, nofollow"),
        opening("meta", name="referrer", content="no-referrer"),
        opening("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Markup(f"<style>{style}</style>"),
    )


def section(id: str, heading: str, *children: str) -> Markup:
    """A section with a heading that names it."""
    return element("section", element("h2", heading, id=id), *children, "\n", aria_labelledby=id)


def notes_section(notes: tuple[str, ...]) -> Markup:
    """What the reader must know, where there is anything."""
    if not notes:
        return Markup()
    items = [element("li", printable(note)) for note in notes]
    return element(
        "section",
        element("h2", "Please note", id="notes"),
        element("ul", *items),
        class_="notes",
        aria_labelledby="notes",
    )


class Markup(str):
    """Text that is HTML already; :func:`element` and :func:`joined` alone make it of anything that comes from data."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Escape a text."""
    return Markup(escape(value, quote=True))


def joined(*children: str) -> Markup:
    """Put markup and texts, which are escaped, one after the other."""
    return Markup("".join([child if type(child) is Markup else escape(child, quote=True) for child in children]))


def element(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element with its children; texts among them and attribute values are escaped.

    Names of attributes end in an underscore where Python has the word for itself (``class_``), and other underscores
    stand for hyphens (``aria_label``).

    >>> element("td", "<b>", class_="amount")
    '<td class="amount">&lt;b&gt;</td>'
    """
    return Markup(f"{opening(name, **attributes)}{joined(*children)}</{name}>")


def opening(name: str, /, **attributes: str) -> Markup:
    """The start tag of an element that is written piece by piece, or the whole of one that has no end tag."""
    if not attributes:
        return Markup(f"<{name}>")
    written = [f' {key.strip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()]
    return Markup(f"<{name}{''.join(written)}>")
