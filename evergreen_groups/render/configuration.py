"""Write the configuration and its faults, as text for people or JSON for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len

from evergreen_groups.doctor import LocatedFinding, Verdict
from evergreen_groups.language import gettext, number
from evergreen_groups.render.columns import aligned, console_for, print_line
from evergreen_groups.render.doctor import VERDICTS
from evergreen_groups.render.json_documents import fields, write_json_document
from evergreen_groups.render.text import printable

if TYPE_CHECKING:
    from evergreen_groups.settings import EffectiveValue, Origin

VALUES_SCHEMA = "evergreen-groups/configuration/1"
CHECK_SCHEMA = "evergreen-groups/configuration-check/1"

_COMMENT_COLUMN = 48
"""Comments start at this column at the latest."""
_INDENT = "    "


def write_values(source: Path | None, values: Iterable[EffectiveValue], stream: TextIO, *, color: bool) -> None:
    """Write values as TOML, with the origin of each as a comment. With ``color``, changed values stand out.

    Settings without a value, and secrets, are commented out. ``source`` is the configuration file, None without one.
    """
    console = console_for(stream, color=color)
    text = gettext("no configuration file") if source is None else str(source)
    print_line(console, (f"# {printable(text)}", ""))
    for (section, table), some in groupby(values, key=lambda value: (value.section, value.table)):
        found = list(some)
        print_line(console)
        print_line(console, (f"[{section}]" if table is None else f"[[{section}]]", ""))
        width = min(max(cell_len(_assignment(value)) for value in found), _COMMENT_COLUMN)
        for value in found:
            style = "bold" if value.is_changed else "dim"
            comment = f"  # {printable(_comment(value, source))}"
            print_line(console, (f"{aligned(printable(_assignment(value)), width)}{comment}", style))


def _assignment(value: EffectiveValue) -> str:
    """Return the value as a line of TOML, commented out if unset or secret."""
    if value.is_secret or not value.toml:
        return f"# {value.name} = {value.toml}".rstrip()
    return f"{value.name} = {value.toml}"


def _comment(value: EffectiveValue, source: Path | None) -> str:
    if value.is_secret:
        return str(value.origin)
    if not str(value.origin):
        return gettext("default") if value.toml else gettext("not set")
    place = str(value.origin)
    if value.origin.path == source and value.origin.line is not None:
        place = gettext("line {line}", line=value.origin.line)
    if value.table is not None or not value.default or not value.is_changed:
        return place
    return gettext("{place}; default: {default}", place=place, default=value.default)


def write_values_json(source: Path | None, values: Iterable[EffectiveValue], stream: TextIO) -> None:
    """Write the values as one JSON object. Secrets are left out."""
    document = {
        "schema": VALUES_SCHEMA,
        "file": None if source is None else str(source),
        "values": [
            {
                "key": value.key,
                "table": value.table,
                "value": value.plain,
                "secret": value.is_secret,
                "changed": value.is_changed,
                "default": value.default or None,
                "origin": _origin_document(value.origin),
            }
            for value in values
        ],
    }
    write_json_document(document, stream)


def write_faults(source: Path | None, found: Sequence[LocatedFinding], stream: TextIO, *, width: int) -> None:
    """Write each fault with its place and, indented below, what to do; then how many there are, if any."""
    for one in found:
        stream.writelines(f"{line}\n" for line in _fault(one, width))
    counts = Counter(one.finding.verdict for one in found)
    if counts:
        named = (gettext("{label}: {value}", label=VERDICTS[one], value=number(count)) for one, count in counts.items())
        stream.write(", ".join(named) + ".\n")
    else:
        text = gettext("The settings are valid.")
        stream.write((gettext("{label}: {value}", label=printable(str(source)), value=text) if source else text) + "\n")


def _fault(one: LocatedFinding, width: int) -> Iterator[str]:
    problem, place = gettext(one.finding.found), str(one.origin)
    if place and not problem.startswith(place):
        problem = gettext("{label}: {value}", label=place, value=problem)
    if one.finding.verdict is Verdict.WARNING:
        problem = gettext("{label}: {value}", label=VERDICTS[Verdict.WARNING], value=problem)
    yield from _wrapped(problem, width, "", _INDENT)
    if one.finding.advice:
        yield from _wrapped(f"→ {gettext(one.finding.advice)}", width, _INDENT, f"{_INDENT}  ")


def _wrapped(text: str, width: int, initial: str, subsequent: str) -> list[str]:
    """Wrap a text without breaking paths and addresses, which stay clickable."""
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=initial,
        subsequent_indent=subsequent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def write_faults_json(source: Path | None, found: Sequence[LocatedFinding], stream: TextIO) -> None:
    document = {
        "schema": CHECK_SCHEMA,
        "file": None if source is None else str(source),
        "right": not any(one.finding.verdict is Verdict.FAILED for one in found),
        "findings": [
            {
                **fields(one.finding, "verdict", "code", "setting"),
                "origin": _origin_document(one.origin),
                **fields(one.finding, "found", "advice"),
            }
            for one in found
        ],
    }
    write_json_document(document, stream)


def _origin_document(origin: Origin) -> dict[str, Any] | None:
    if not str(origin):
        return None
    path = None if origin.path is None else str(origin.path)
    return {"file": path, "line": origin.line, "variable": origin.variable}
