"""The examples in docstrings run as they are written."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import evergreen_groups

MODULES = [
    module.name
    for module in walk_packages(evergreen_groups.__path__, "evergreen_groups.")
    if not module.name.endswith("__main__") and ".migrations." not in module.name  # those are run by Alembic
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    results = doctest.testmod(import_module(name))
    assert results.failed == 0


def test_there_are_examples() -> None:
    found = [test for name in MODULES for test in doctest.DocTestFinder().find(import_module(name)) if test.examples]
    assert len(found) >= 5
