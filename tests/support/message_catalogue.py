"""The texts that people read, collected from the source, and problems of their translations.

``nox -s messages`` runs it: it writes the template ``evergreen_groups.pot`` and updates each language's catalog.
Errors, findings and problems are collected with their fields (``error_catalog``), everything else by the call that
shows it: ``gettext`` and similar functions, or ``Message`` in a table.
"""

import ast
import io
import re
import string
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_javascript
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract
from support.error_catalog import PACKAGE, REPOSITORY, errors, findings, sources

from evergreen_groups.language.catalogue import DOMAIN
from evergreen_groups.language.compilation import compile_catalogues

DIRECTORY = PACKAGE / "language" / "locale"
"""The translators' files; an installed package has the compiled ones."""
TEMPLATE = DIRECTORY / f"{DOMAIN}.pot"
PLAIN, PLURAL, CONTEXT, CONTEXT_PLURAL = "gettext", "ngettext", "pgettext", "npgettext"
_ARGUMENTS = {PLAIN: 1, PLURAL: 2, CONTEXT: 2, CONTEXT_PLURAL: 3}
_SCRIPT_KEYWORDS = {PLAIN: None, PLURAL: (1, 2), CONTEXT: ((1, "c"), 2), CONTEXT_PLURAL: ((1, "c"), 2, 3)}
_TEMPLATE_OPTIONS = {"trim_blocks": "true", "lstrip_blocks": "true", "trimmed": "true", "silent": "false"}
_FOR_PROGRAMS = ("web/api.py", "web/bodies.py")
"""Modules whose errors only programs get. Their language is English: see ``_begin`` in web/app.py."""
_HEADER = "# Texts of evergreen-groups. How to translate them: docs/translating.md"
_UNWANTED = re.compile(
    r'"(POT-Creation-Date|PO-Revision-Date|Generated-By|Project-Id-Version|Report-Msgid-Bugs-To|Last-Translator'
    r"|Language-Team): "
)
_PERCENT = re.compile(r"%\(([a-z_]+)\)[sd]|%%|%")


class Text(NamedTuple):
    """One text: its place in the repository, its singular and plural form (None: no plural), and its context."""

    place: str
    text: str
    plural: str | None = None
    context: str | None = None


@cache
def collected() -> tuple[Text, ...]:
    """Return all texts, in the order of the files."""
    return (*_of_errors(), *_of_source(), *_of_templates(), *_of_scripts())


def template() -> Catalog:
    made = Catalog(domain=DOMAIN, charset="utf-8", fuzzy=False, header_comment=_HEADER)
    for text in sorted(collected(), key=lambda one: (one.place, one.text)):
        key = (text.text, text.plural) if text.plural else text.text
        percents = bool(re.search(r"%\([a-z_]+\)s", f"{text.text}{text.plural or ''}"))
        made.add(key, locations=[(text.place, 0)], context=text.context, flags=["python-format"] if percents else [])
    return made


def catalogues() -> dict[str, Catalog]:
    found = {}
    for path in sorted(DIRECTORY.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        with path.open("rb") as file:
            found[path.parts[-3]] = read_po(file, locale=path.parts[-3], domain=DOMAIN)
    return found


def written(catalog: Catalog) -> str:
    """Write a catalog to a file, the same for the same texts."""
    buffer = io.BytesIO()
    write_po(buffer, catalog, width=120, sort_by_file=True, include_lineno=False, ignore_obsolete=True)
    lines = buffer.getvalue().decode().splitlines()
    kept = [line for line in lines if not _UNWANTED.match(line)]
    return "\n".join(kept) + "\n"


def problems(name: str, catalog: Catalog, english: Catalog) -> Iterator[str]:
    """Yield a language's problems, a line each."""
    known = {(message.id, message.context) for message in english if message.id}
    for message in catalog:
        if not message.id:
            continue
        if (message.id, message.context) not in known:
            yield f"{name}: not in the source any more: {message.id!r}"
            continue
        forms = list(message.string) if message.pluralizable else [message.string]
        if not all(forms) or len(forms) != (catalog.num_plurals if message.pluralizable else 1):
            yield f"{name}: not translated: {message.id!r}"
        elif message.fuzzy:
            yield f"{name}: doubtful: {message.id!r}"
        else:
            yield from (f"{name}: {wrong} in the translation of {message.id!r}" for wrong in _wrong(message, forms))
    for key in known - {(message.id, message.context) for message in catalog}:
        yield f"{name}: missing: {key[0]!r}"


def _wrong(message: object, forms: list[str]) -> Iterator[str]:
    ids = list(message.id) if message.pluralizable else [message.id]  # type: ignore[attr-defined]
    expected = set().union(*map(names_in, ids))
    # The singular may leave out the number: "one member". Where a greeting would inflect the name, it does without.
    optional = {"count", "name"} if ids[0].startswith("Dear {name}") else {"count"}
    for form in forms:
        missing, more = expected - names_in(form) - optional, names_in(form) - expected
        if missing or more:
            yield f"{', '.join(sorted(missing | more))} in braces or percents"
        if tags(ids[-1]) != tags(form):
            yield "other tags"
        if ids[-1].startswith(" ") != form.startswith(" ") or ids[-1].endswith(" ") != form.endswith(" "):
            yield "other spaces around"


def names_in(text: str) -> set[str]:
    """Return the names of the values in a text, in braces or percent signs."""
    found = {match[1] for match in _PERCENT.finditer(text) if match[1]}
    if found or "%%" in text:
        return found
    try:
        return {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name}
    except ValueError:  # braces that aren't names
        return set()


def tags(text: str) -> list[str]:
    """Return the HTML tags in a text, in alphabetical order."""
    return sorted(re.findall(r"</?[a-z]+", text))


def _of_errors() -> Iterator[Text]:
    for site in [*errors(), *findings()]:
        if site.place.startswith(_FOR_PROGRAMS):
            continue
        place = f"evergreen_groups/{site.place.rpartition(':')[0]}"
        yield from (
            Text(place, text)
            for text in (site.message, site.advice)
            if text and re.search("[a-z]{2}", text) and not re.fullmatch(r"\{[a-z_]+\}", text)
        )


def _of_source() -> Iterator[Text]:
    for path, tree in sources().items():
        place = f"evergreen_groups/{path}"
        for call in ast.walk(tree):
            name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
            if name == "Message" and (text := _literal(call.args[0])):  # type: ignore[attr-defined]
                given = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}  # type: ignore[attr-defined]
                yield Text(place, text, given.get("plural"), given.get("context"))
            elif name in _ARGUMENTS:
                yield from _made(place, name, [_literal(node) for node in call.args])  # type: ignore[attr-defined]


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _made(place: str, function: str, found: object) -> Iterator[Text]:
    """Yield the text of a call, unless an argument is a variable: its text is collected where it comes from."""
    arguments = list(found) if isinstance(found, (list, tuple)) else [found]
    texts = [text for text in arguments[: _ARGUMENTS[function]] if isinstance(text, str)]
    if len(texts) == _ARGUMENTS[function]:
        context = texts.pop(0) if function in (CONTEXT, CONTEXT_PLURAL) else None
        yield Text(place, texts[0], texts[1] if len(texts) > 1 else None, context)


def _of_templates() -> Iterator[Text]:
    for path in sorted(PACKAGE.rglob("templates/**/*")):
        if path.suffix in (".html", ".txt"):
            with path.open("rb") as file:
                for _line, function, texts, _ in babel_extract(file, tuple(_ARGUMENTS), [], _TEMPLATE_OPTIONS):
                    yield from _made(_place(path), function, texts)


def _of_scripts() -> Iterator[Text]:
    for path in sorted(PACKAGE.rglob("*.js")):
        with path.open("rb") as file:
            for _line, function, texts, _comments in extract_javascript(file, _SCRIPT_KEYWORDS, [], {}):
                yield from _made(_place(path), function, texts)


def _place(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def update() -> list[str]:
    """Update the files from the source; returns the names of changed files."""
    english = template()
    files = {TEMPLATE: written(english)}
    for name, catalog in catalogues().items():
        catalog.update(english, no_fuzzy_matching=True)
        files[DIRECTORY / name / "LC_MESSAGES" / f"{DOMAIN}.po"] = written(catalog)
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(files[path], "utf-8")
    compile_catalogues(DIRECTORY)
    return [_place(path) for path in changed]


def main() -> int:
    """Update the files and print problems; 1 if a file changed, or a language is incomplete."""
    changed = update()
    for name in changed:
        print(f"{name} was out of date and is written anew: look at it, and commit it")
    english = template()
    wrong = [line for name, catalog in catalogues().items() for line in problems(name, catalog, english)]
    print("\n".join(wrong) if len(wrong) < 50 else "\n".join([*wrong[:50], f"and {len(wrong) - 50} more"]))
    print(f"{len(english)} texts, {len(catalogues())} languages besides English")
    return int(bool(changed or wrong))


if __name__ == "__main__":
    sys.exit(main())
