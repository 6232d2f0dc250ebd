"""Programs with a wrong system clock, by libfaketime (Debian's package ``faketime``)."""

from pathlib import Path


def clock_ahead(seconds: int) -> dict[str, str]:
    """Return the environment of a program whose clock is ahead by so many seconds, or behind.

    The program's forks inherit the library, and each can set ``FAKETIME`` for itself.
    """
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_NO_CACHE": "1",  # FAKETIME is reread each time, so a fork has its own clock at once
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # it slows down threads that wait for each other
    }


def _library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise RuntimeError("wrong clocks need libfaketime: apt install faketime")
    return found[0]
