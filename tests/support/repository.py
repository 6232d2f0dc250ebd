"""The repository's root directory, and what is built of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


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
