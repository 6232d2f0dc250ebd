"""The package uses other libraries through their public interfaces: the rest changes with any of their releases."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import evergreen_groups

PACKAGE = Path(evergreen_groups.__file__).parent
OF_NAMED_TUPLES = {"_make", "_replace", "_fields", "_asdict", "_field_defaults"}
"""Private by name only: https://docs.python.org/3/library/collections.html#collections.somenamedtuple._make"""

SELF = {"self", "cls"}
EXCEPTIONS = {
    ("follow_up/store.py", "_mapping"): "SQLAlchemy documents Row._mapping; the underscore keeps it apart from columns",
    ("gateway/idl.py", "_Element"): "the type of lxml's elements has no other name",
    ("nightly/deadline.py", "_exit"): "Python documents os._exit",
    ("sandbox/http/server.py", "_Element"): "as in gateway/idl.py",
    ("sandbox/http/wire.py", "_Element"): "as in gateway/idl.py",
    ("web/server.py", "channel_class"): "no setting of waitress closes a connection after a request with two lengths",
}
"""What can't be done otherwise, by file and name, with the reason."""

INSIDES = {"channel_class", "active_channels", "total_outbufs_len", "expirations"}
"""What waitress's channels and the storages of limits use for themselves, although the names have no underscore."""


MADE_BY_PYTHON = {"_abc_impl", "_is_protocol", *OF_NAMED_TUPLES}
"""What every abstract class, protocol or named tuple has, its own."""


def is_private(name: str) -> bool:
    """Return whether a name is private. Python's own names, such as ``__enter__`` and ``_value_``, aren't."""
    return name.startswith("_") and not name.endswith("_")


def parsed() -> dict[str, ast.Module]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text("utf-8")) for path in files}


def own_names(trees: dict[str, ast.Module]) -> set[str]:
    """Return the private attributes that the package's own classes define."""
    found = set(OF_NAMED_TUPLES)
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            found |= {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
            found |= {
                target.id
                for one in node.body
                if isinstance(one, ast.Assign | ast.AnnAssign)
                for target in (one.targets if isinstance(one, ast.Assign) else [one.target])
                if isinstance(target, ast.Name)
            }
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in SELF:
            found.add(node.attr)
    return found


def imported_from_elsewhere(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import that isn't from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def test_no_private_attribute_of_another_library_is_used() -> None:
    trees = parsed()
    own = own_names(trees)
    found = set()
    for file, tree in trees.items():
        for module, name in imported_from_elsewhere(tree):
            private = [part for part in (*module.split("."), name) if is_private(part)]
            if private and not module.startswith(("evergreen_groups", "_typeshed")):
                found.add((file, private[0]))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                is_foreign = is_private(node.attr) and node.attr not in own
                is_swapped = node.attr == "__class__" and isinstance(node.ctx, ast.Store)
                if is_foreign or is_swapped or node.attr in INSIDES:
                    found.add((file, node.attr))
    assert found == EXCEPTIONS.keys()


def own_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(evergreen_groups.__path__, "evergreen_groups."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
            members = vars(sys.modules[module.name]).values()
            yield from (one for one in members if inspect.isclass(one) and one.__module__ == module.name)


def test_no_private_method_of_another_library_is_overridden() -> None:
    found = set()
    for own in own_classes():
        foreign = [base for base in own.__mro__ if base.__module__.split(".")[0] != "evergreen_groups"]
        inherited = {name for base in foreign for name in vars(base)} - MADE_BY_PYTHON
        found |= {(own, name) for name in vars(own) if is_private(name) and name in inherited}
    assert not found
