"""The examples in docstrings run as they are written."""

import doctest
from importlib import import_module

from support.repository import PACKAGE


def test_examples() -> None:
    """Doctest prints each failure to the output."""
    failed, tried = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text("utf-8"):
            name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
            results = doctest.testmod(import_module(name))
            tried += results.attempted
            failed += [name] if results.failed else []
    assert failed == []
    assert tried >= 5
