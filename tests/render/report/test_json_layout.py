"""The report's JSON is laid out as Python's own encoder does it, byte for byte."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.render.report.json import text

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()


def values(deeper: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(deeper, max_size=4)
    return several | several.map(tuple) | st.dictionaries(st.text(max_size=8), deeper, max_size=4)


@given(st.dictionaries(st.text(max_size=8), st.recursive(LEAVES, values)))
def test_is_what_python_writes(value: dict[str, Any]) -> None:
    assert text(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_half_of_a_pair_is_written_as_one_that_cannot_be_read() -> None:
    assert text({"name": "a\ud800b", "none": []}) == '{\n  "name": "a\ufffdb",\n  "none": []\n}'
