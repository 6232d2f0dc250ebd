"""Standard output, for people and for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import TextIO


def standard_output(output_format: str) -> TextIO:
    """Standard output: in the terminal's own encoding for people, UTF-8 with untouched line ends for programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if output_format == "table":
            sys.stdout.reconfigure(errors="replace")
        else:
            # A path that isn't UTF-8 has half surrogate pairs, of which this makes the escapes that JSON has for them.
            errors = "backslashreplace" if output_format in ("json", "jsonl") else "strict"
            sys.stdout.reconfigure(encoding="utf-8", errors=errors, newline="")
    return sys.stdout


def write_json(document: Mapping[str, object]) -> None:
    """Write one JSON object to standard output, indented, for programs and for people who look into it."""
    stream = standard_output("json")
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")
    stream.flush()
