"""A person, a group and a step each have few records, as ``docs/architecture.md`` lists them."""

from __future__ import annotations

import ast
import re

import pytest
from support.repository import PACKAGE, REPOSITORY, syntax_tree

PACKAGES = ("ils", "groups", "audit", "report", "changes", "desk", "follow_up", "letters")
OF_A_PERSON = {"family_name", "juvenile", "phones", "day_phone"}
PATRON, CHANGE = {"patron", "patron_id"}, {"before", "after", "field"}
NUMBER, MEMBERS = {"number", "group"}, {"members", "rows"}
MOST = 6


def fields_by_class() -> dict[str, dict[str, str]]:
    """Return names and types of the fields of each public dataclass and named tuple of the packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((PACKAGE / package).rglob("*.py")):
            for node in ast.walk(syntax_tree(path)):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    made = [ast.unparse(one) for one in (*node.decorator_list, *node.bases)]
                    if any(one.startswith("dataclass") or one == "NamedTuple" for one in made):
                        fields = (one for one in node.body if isinstance(one, ast.AnnAssign))
                        found[node.name] = {ast.unparse(one.target): ast.unparse(one.annotation) for one in fields}
    return found


def shapes() -> dict[str, set[str]]:
    """Return the records with facts of their own about a person, a group or a step.

    A record that holds another one of the noun, such as a statement with its group's bills, is no further shape.
    """
    fields = fields_by_class()
    found = {
        "person": {name for name, own in fields.items() if own.keys() & OF_A_PERSON},
        "group": {name for name, own in fields.items() if own.keys() & NUMBER and own.keys() & MEMBERS},
        "step": {name for name, own in fields.items() if own.keys() & PATRON and own.keys() >= CHANGE},
    }

    def holds(name: str, noun: str) -> bool:
        others = found[noun] - {name}
        return any(others & set(re.findall(r"\w+", type_)) for type_ in fields[name].values())

    return {noun: {name for name in names if not holds(name, noun)} for noun, names in found.items()}


@pytest.mark.parametrize("noun", ["person", "group", "step"])
def test_the_records_of_a_noun_are_few_and_documented(noun: str) -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
    line = re.search(rf"^\| {noun} \| (.*) \|$", text, re.MULTILINE)
    assert line is not None
    assert set(re.findall(r"`(\w+)`", line[1])) == shapes()[noun]
    assert len(shapes()[noun]) <= MOST
