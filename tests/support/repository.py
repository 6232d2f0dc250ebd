"""The repository's root directory, and what is built of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def build(
    source: Path, target: Path, kind: str = "wheel", environ: Mapping[str, str] | None = None, umask: int = -1
) -> Path:
    """Build a wheel or a source archive (``sdist``) into a directory, and return the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    environ = {**os.environ, **(environ or {})}
    subprocess.run(command, cwd=source, env=environ, umask=umask, capture_output=True, check=True)
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built
