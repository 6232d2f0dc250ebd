"""Shrink a population as long as a finding in it remains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

Content = dict[str, Any]

_CLASSES = ("au", "mbts", "mg", "circ", "ausp", "pgpt", "aous", "aua", "ac")


def minimal(content: Content, still_there: Callable[[Content], bool]) -> Content:
    """Remove rows and simplify the question until nothing more can go; tries everything repeatedly."""
    smallest, shrunk = content, True
    while shrunk:
        shrunk = False
        for smaller in _smaller(smallest):
            if _holds(smaller, still_there):
                smallest, shrunk = smaller, True
                break
    return smallest


def _holds(content: Content, still_there: Callable[[Content], bool]) -> bool:
    try:
        return still_there(content)
    except Exception:  # a row that others refer to is missing, and the reader fails in some way
        return False


def _smaller(content: Content) -> Iterator[Content]:
    """Yield the content with one thing less, in many ways."""
    yield from _fewer_rows(content, present=True)
    yield from _fewer_rows(content, present=False)
    yield from _simpler_question(content)
    for org in {unit["id"] for unit in content["aou"]} - _used(content):
        yield {**content, "aou": [unit for unit in content["aou"] if unit["id"] != org]}


def _fewer_rows(content: Content, *, present: bool) -> Iterator[Content]:
    """Yield the content without one row, now or in the run before, or with a simpler patron."""
    place = content if present else content.get("_before", {})
    for name in _CLASSES:
        for index in range(len(place.get(name, ()))):
            yield _changed(content, present, lambda rows, name=name, index=index: rows[name].pop(index))
    for index, person in enumerate(place.get("au", ())):
        for key, value in (("pref_family_name", None), ("deleted", "f"), ("juvenile", "f"), ("dob", None)):
            if person.get(key, value) != value:
                yield _changed(content, present, lambda rows, index=index, key=key: rows["au"][index].pop(key))


def _simpler_question(content: Content) -> Iterator[Content]:
    question = content["_question"]
    for index in range(len(question["policy"]["limits"])):
        yield _changed(content, True, lambda rows, index=index: rows["_question"]["policy"]["limits"].pop(index))
    for section, key, value in (
        ("policy", "limit", "5.00"),
        ("policy", "comparison", "exceeds"),
        ("report", "orgs", []),
        ("report", "top", None),
        ("report", "sort", "total"),
        ("report", "choice", {}),
        ("report", "min_members", 1),
        ("audit", "orgs", []),
    ):
        if question[section].get(key, value) != value:
            yield {**content, "_question": {**question, section: {**question[section], key: value}}}


def _changed(content: Content, present: bool, change: Callable[[Content], Any]) -> Content:
    kept = {"_defaults": content["_defaults"]}
    made = copy.deepcopy({name: rows for name, rows in content.items() if name not in kept})
    change(made if present else made["_before"])
    return {**made, **kept}


def _used(content: Content) -> set[int]:
    """Return the org units that anything refers to."""
    fields = {"au": "home_ou", "mg": "billing_location", "circ": "circ_lib", "ausp": "org_unit", "pgpt": "org_unit"}
    fields.update(aous="org_unit", aou="parent_ou")
    found = {row[field] for name, field in fields.items() for row in content.get(name, ())}
    found.update(row["home_ou"] for row in content.get("_before", {}).get("au", ()))
    for place in (content, content.get("_before", {})):
        for account in place.get("staff_permissions", {}).values():
            found.update(work for _name, work, _depth in account["perms"])
    names = [*content["_question"]["report"]["orgs"], *content["_question"]["audit"]["orgs"]]
    names += [rule.get("library") for rule in content["_question"]["policy"]["limits"]]
    return found | {unit["id"] for unit in content["aou"] if unit["shortname"] in names}
