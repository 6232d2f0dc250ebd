"""Shrink a population as long as a finding in it remains."""

from collections.abc import Callable, Iterator
from typing import Any

Content = dict[str, Any]

_CLASSES = ("au", "mbts", "mg", "circ", "ausp", "pgpt", "aous", "aua", "ac", "aou")
_SIMPLEST = {
    "policy": {"limit": "5.00", "comparison": "exceeds", "limits": []},
    "report": {"orgs": [], "top": None, "sort": "total", "choice": {}, "min_members": 1},
    "audit": {"orgs": []},
}
_PLAIN = {"pref_family_name": None, "deleted": "f", "juvenile": "f", "dob": None}


def minimal(content: Content, still_there: Callable[[Content], bool]) -> Content:
    """Remove rows and simplify the question until nothing more can go; tries everything repeatedly."""
    while (smaller := next((one for one in _smaller(content) if _holds(one, still_there)), None)) is not None:
        content = smaller
    return content


def _holds(content: Content, still_there: Callable[[Content], bool]) -> bool:
    try:
        return still_there(content)
    except Exception:  # a row that others refer to is missing, and the reader fails in some way
        return False


def _smaller(content: Content) -> Iterator[Content]:
    """Yield the content with one row less, a plainer patron, or a simpler question, in many ways."""
    yield from _fewer_rows(content)
    for before in _fewer_rows(content.get("_before", {})):
        yield {**content, "_before": before}
    question = content["_question"]
    for section, simplest in _SIMPLEST.items():
        for key, value in simplest.items():
            if question[section].get(key, value) != value:
                yield {**content, "_question": {**question, section: {**question[section], key: value}}}


def _fewer_rows(content: Content) -> Iterator[Content]:
    for name in _CLASSES:
        rows = content.get(name, [])
        for place, row in enumerate(rows):
            yield {**content, name: [*rows[:place], *rows[place + 1 :]]}
            for key, value in _PLAIN.items() if name == "au" else ():
                if row.get(key, value) != value:
                    yield {**content, name: [*rows[:place], {**row, key: value}, *rows[place + 1 :]]}
