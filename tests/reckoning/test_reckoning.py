"""The product compared with a second computation from the same data, for random consortia.

``tests/bench/reckoning.py`` does the same for thousands of them, and shows a single population by its seed.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reckoning import (
    auditing,
    changes,
    contacts,
    desk,
    family,
    late_items,
    late_prices,
    library,
    mailing,
    populations,
    reckoning,
    two_nights,
)
from reckoning.populations import population
from reckoning.product import JOBS, Product, content_of, over_random_consortia
from support.gateways import gateway_of

from evergreen_groups.sandbox import Sandbox

INDEPENDENT = (
    library,
    reckoning,
    family,
    auditing,
    contacts,
    desk,
    changes,
    late_items,
    late_prices,
    mailing,
    two_nights,
    populations,
)
"""The modules that compute, and generate what is computed from."""


def test_the_reckoning_does_not_import_the_product() -> None:
    """The computation would repeat the product's mistakes, and no test would notice."""
    for module in INDEPENDENT:
        imported = set()
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or ".").split(".")[0])
        foreign = imported - {*sys.stdlib_module_names, "reckoning"} | {"importlib", "subprocess"} & imported
        assert foreign == set(), module.__name__


@pytest.mark.long
@over_random_consortia(200)
@given(seed=st.integers(1, 2**32))
@example(seed=177)  # a bill and its refund at different libraries, of which a threshold may count one only
@example(seed=4340)  # a group that the report has lost, next to one with the number 0
def test_the_products_documents_match(seed: int, asked: Product) -> None:
    content = population(Random(seed))
    found = [f"{job}: {text}" for job in JOBS for text in asked.differences(content, job)]
    assert not found, "\n".join(found)


@pytest.mark.long
def test_a_large_population(tmp_path: Path) -> None:
    with Sandbox(patrons=20_000) as sandbox, gateway_of(sandbox.url, "consortium_staff") as gateway:
        content = content_of(sandbox, "consortium_staff", patrons=100)
        subject = Product(sandbox, gateway, tmp_path)
        subject.use(content, gateway)
        for job in ("report", "explanation"):
            assert subject.differences(content, job) == []
        before = gateway.statistics.calls
        assert subject.differences(content, "audit") == []
        assert gateway.statistics.calls - before <= 104  # ids of patrons are searched in two ranges
