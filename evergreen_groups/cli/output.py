"""Where output goes and in which format."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

from evergreen_groups.formats import FORMATS


def format_of(output: Path | None, formats: Collection[str] = FORMATS) -> str | None:
    """The one of ``formats`` that a file's ending asks for."""
    ending = output.suffix.lstrip(".").lower() if output else ""
    return ending if ending in formats else None


def standard_output(output_format: str) -> TextIO:
    """Standard output: in the terminal's own encoding for people, UTF-8 with untouched line ends for programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if output_format == "table":
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="")
    return sys.stdout
