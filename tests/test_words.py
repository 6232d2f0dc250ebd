"""The terms of librarians and programmers, in names, messages, help texts, templates and pages, and plain prose.

Terms that would need an explanation are listed here, with replacements. Published names (in JSON and CSV, and of tables
on disk) stay.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from babel.messages.pofile import read_po
from support.message_catalogue import TEMPLATE
from support.pages import GENERATED, PAGES
from support.repository import REPOSITORY, package, tracked

READ = (".py", ".pyi", ".html", ".txt", ".js", ".css", ".json", ".md", ".toml", ".conf", ".service", ".sql")
PLACES = ("evergreen_groups/", "docs/", "config/", "contrib/", "README.md", "CONTRIBUTING.md", "SECURITY.md")
"""Without the changelog, where readers look for former names."""

TERMS = {
    r"(in|out of|out_of|into)[ _]sight": "visible, hidden",
    r"unseen|viewable": "visible, hidden",
    r"patien(ce|t)": "timeout, deadline",
    r"settl(e[sd]?|ing)": "recover, resolve, closed",
    r"carr(y|ied|ies|ying)[ _]out": "apply, make, send",
    r"by[ _-]hand": "by staff, manually",
    r"made-up": "sample data, invented",
    r"at home (at|in|there|here|below|or)": "home library",
    r"nobody[ _]over": "no member over the limit",
    r"nobody is over": "no member over the limit",
    r"the worst|worst (first|groups|ones)": "highest combined fines",
    r"data of\b(?! the run)": "data as of",
}
"""Terms to avoid everywhere, and their replacements."""

NAMES = {
    r"tells?|told|says?|said": "warn, report, format, describe, emit",
    r"words(?=_)|(?<=_)words": "describe, format",
    r"kept": "cached, queued, stored",
    r"turns?": "attempt, slot",
    r"worst": "highest",
}
"""Words that say too little in a name, though plain in a sentence."""

RARE = re.compile(
    r"\b(?:whoever|somebody|nobody|otherwise|beside|meanwhile|anew|such|stands|of its own)\b", re.IGNORECASE
)
"""Words that plain American prose seldom needs. Many of them make a text read as if translated."""
MAX_RARE = 12
"""How many of these words 10,000 words of documentation or comments may have."""
MAX_RARE_IN_TEXTS = 8
"""How many 10,000 words of the product's own texts may have, which translators translate."""


def test_terms() -> None:
    pattern = r"(?<![A-Za-z])(?:{})(?![A-Za-z])"
    found = [
        f"the replacement {instead!r} has a term to avoid"
        for term, instead in TERMS.items()
        if re.search(pattern.format(term), instead, re.IGNORECASE)
    ]
    for name in tracked():
        if not name.startswith(PLACES) or not name.endswith(READ):
            continue
        content = (REPOSITORY / name).read_text(encoding="utf-8")
        # A sentence may continue on the next line of a string, a comment or a page.
        flat = re.sub(r'"?\s*\n[\s#*/]*(f?")?', " ", content)
        for term, instead in TERMS.items():
            found += [
                f"{name}: {match[0]!r} (say: {instead})"
                for match in re.finditer(pattern.format(term), flat, re.IGNORECASE)
            ]
    assert not found, "\n".join(found)


def test_names() -> None:
    found = []
    for file, tree in package().items():
        for name in names(tree):
            found += [
                f"{file.relative_to(REPOSITORY)}: {name} (say: {instead})"
                for term, instead in NAMES.items()
                if re.search(rf"(?i)(?:^|_)(?:{term})(?=_|$)", name)
            ]
    assert not found, "\n".join(found)


def names(tree: ast.Module) -> Iterator[str]:
    """Yield every name that a module defines: functions, classes, parameters, attributes and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


# Also strings in several lines, of which those that a statement begins with are docstrings.
DOCSTRING_OR_COMMENT = re.compile(r'(?ms)(?P<first>^ *)?[rfb]*"""(?P<text>.*?)"""|(?:^| )#(?P<comment>[^\n]*)')


def of_code(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each module with its docstrings and comments as one line, so that a phrase may span lines."""
    for file in sorted((REPOSITORY / folder).rglob("*.py")):
        found = DOCSTRING_OR_COMMENT.finditer(file.read_text("utf-8"))
        prose = [match["comment"] or match["text"] for match in found if match["comment"] or match["first"] is not None]
        yield str(file.relative_to(REPOSITORY)), " ".join(" ".join(prose).split())


def of_pages() -> Iterator[tuple[str, str]]:
    """Yield each page without code; the pages made from the source are left out."""
    for page in PAGES:
        if page.stem not in GENERATED:
            yield page.name, re.sub(r"(?ms)^ *```.*?^ *```$|`[^`\n]*`|\bsuch as\b", "", page.read_text("utf-8"))


def of_texts() -> Iterator[tuple[str, str]]:
    """Yield the product's own texts: those in the template for translators."""
    with TEMPLATE.open("rb") as file:
        catalogue = read_po(file)
    for message in catalogue:
        for text in message.id if isinstance(message.id, tuple) else (message.id,):
            yield text, re.sub(r"\bsuch as\b", "", text)


@pytest.mark.parametrize(
    ("read", "most"),
    [
        (partial(of_code, "evergreen_groups"), MAX_RARE),
        (partial(of_code, "tests"), MAX_RARE),
        (of_pages, MAX_RARE),
        (of_texts, MAX_RARE_IN_TEXTS),
    ],
    ids=["package", "tests", "pages", "texts"],
)
def test_prose_is_plain(read: Callable[[], Iterator[tuple[str, str]]], most: int) -> None:
    """What people read is plain American English."""
    words, found = 0, Counter[str]()
    for place, text in read():
        words += len(re.findall(r"[A-Za-z']+", text))
        found.update(f"{place}: {word}" for word in RARE.findall(text))
    listed = "".join(f"\n{name}, {count} times" for name, count in found.most_common(30))
    assert found.total() * 10_000 <= most * words, f"{found.total()} rare words of {words}, most of them:{listed}"
