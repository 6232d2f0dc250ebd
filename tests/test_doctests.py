"""The examples in docstrings run as they are written."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import evergreen_groups


def test_examples() -> None:
    """Doctest prints each failure to the output."""
    failed, tried = [], 0
    for module in walk_packages(evergreen_groups.__path__, "evergreen_groups."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:  # Alembic runs those
            results = doctest.testmod(import_module(module.name))
            tried += results.attempted
            failed += [module.name] if results.failed else []
    assert failed == []
    assert tried >= 5
