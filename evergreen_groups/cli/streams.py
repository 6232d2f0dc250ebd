"""Standard input, output and error as they come, closed ones among them."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def prepare_standard_streams() -> None:
    """Make something of streams that are closed (``>&-``), and let none fail for a letter that it doesn't know.

    The first file that is opened would get the number of a closed stream, and what is written to the stream would get
    into it. A closed standard input is empty; what is written to a closed standard output is an error; nothing is
    written to a closed standard error.
    """
    modes = (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)  # one that can only be read makes an error of what is written
    for number, mode in enumerate(modes):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def give_up_standard_output() -> None:
    """Let what is still to be written to standard output get lost, at exit as well."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
