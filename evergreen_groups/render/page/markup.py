"""HTML built of elements. Whatever isn't markup itself is escaped, so no text can become an element or attribute."""

from __future__ import annotations

from html import escape


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
