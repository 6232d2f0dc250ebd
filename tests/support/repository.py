"""The repository's root directory, its sources, and what is built of it."""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "evergreen_groups"


def tracked() -> list[str]:
    """Return the existing files of the repository, new ones included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if (REPOSITORY / name).is_file()]


def build(
    source: Path, target: Path, kind: str = "wheel", environ: Mapping[str, str] | None = None, umask: int = -1
) -> Path:
    """Build a wheel or a source archive (``sdist``) into a directory, and return the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    environ = {**os.environ, **(environ or {})}
    subprocess.run(command, cwd=source, env=environ, umask=umask, capture_output=True, check=True)
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@cache
def syntax_tree(path: Path) -> ast.Module:
    """Parse a file of the package, once for all tests of a process."""
    return ast.parse(path.read_text(encoding="utf-8"))


def package() -> dict[Path, ast.Module]:
    return {path: syntax_tree(path) for path in sorted(PACKAGE.rglob("*.py"))}
