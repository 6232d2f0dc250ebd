"""The package's sources, parsed once for all tests of a process."""

import ast
from functools import cache
from pathlib import Path

from support.repository import REPOSITORY

PACKAGE = REPOSITORY / "evergreen_groups"


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package() -> dict[Path, ast.Module]:
    return {path: syntax_tree(path) for path in sorted(PACKAGE.rglob("*.py"))}
