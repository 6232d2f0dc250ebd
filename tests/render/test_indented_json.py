"""JSON for people's eyes: laid out as Python's own encoder does it, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.render import NEW_LINE, indented

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def values(deeper: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(deeper, max_size=4)
    return several | several.map(tuple) | st.dictionaries(st.text(max_size=8), deeper, max_size=4)


@given(st.recursive(LEAVES, values))
def test_is_what_python_writes(value: Any) -> None:
    assert indented(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_a_line_begins_with_what_is_asked_for() -> None:
    value = {"names": ["a\nb", {}], "none": []}
    whole = json.dumps(value, indent=2, ensure_ascii=False)
    assert indented(value, NEW_LINE + "    ") == whole.replace("\n", "\n    ")


def test_what_json_has_no_form_for_is_an_error() -> None:
    with pytest.raises(TypeError):
        indented({"a": [object()]})
