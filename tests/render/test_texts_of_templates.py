"""All text that people read in a template is in the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.repository import REPOSITORY

TEMPLATES = REPOSITORY / "evergreen_groups/render/templates"
DESK = sorted((TEMPLATES / "desk").glob("*.html"))
_NOT_SHOWN = re.compile(
    r"{#.*?#}|{%-?\s*trans\b.*?{%-?\s*endtrans\s*-?%}|{%.*?%}|{{.*?}}|<!DOCTYPE[^>]*>|<meta[^>]*>|<kbd>[A-Z]</kbd>"
    # Data attributes for the script.
    r'| data-(?:group|change|patrons|groups)="[^"]*"'
    # The program's name, which isn't translated.
    r"|evergreen-groups",
    re.DOTALL,
)
_READ_ATTRIBUTES = re.compile(r'\b(aria-label|title|placeholder|alt|data-label|data-text)="([^"]*)"')
_STRINGS_SHOWN = re.compile(r"""(?:badge\([^,()]+,\s*|else\s+|^\s*)"([A-Za-z][^"]* [^"]*|[A-Z][^"]*)\"""")


def left_over(template: str) -> list[str]:
    """Return a template's words that would stay English in every language."""
    text = _NOT_SHOWN.sub("", re.sub(r"{{.*?}}", "", template, flags=re.DOTALL))
    attributes = [value for _name, value in _READ_ATTRIBUTES.findall(text)]
    between = re.sub(r"<[^>]*>", "\n", text)
    return [word for part in [*attributes, between] for word in re.findall(r"[A-Za-z]{2,}", part)]


@pytest.mark.parametrize("path", DESK, ids=lambda path: path.name)
def test_every_text_is_in_the_catalogue(path: Path) -> None:
    template = path.read_text("utf-8")
    assert left_over(template) == []
    expressions = re.findall(r"{{(.*?)}}", template, re.DOTALL)
    assert [found for one in expressions for found in _STRINGS_SHOWN.findall(one)] == []


def test_the_search_finds_texts_outside_it() -> None:
    assert left_over('<p title="Not so">{% trans %}So{% endtrans %} and</p>{{ gettext("this") }}') == [
        *("Not", "so"),
        "and",
    ]
