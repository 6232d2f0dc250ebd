"""The state directory: where the journal is kept and where runs find out about each other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.lock import Holder, hold

REPORT_LOCK = "report.lock"


def directory(environ: Mapping[str, str]) -> Path:
    """Where state is kept: systemd's ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local" / "state")
    return Path(base) / "evergreen-groups"


def made(path: Path) -> Path:
    """Make a state directory that only its owner can enter.

    Raises:
        ConfigurationError: it can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the state directory {path}: {error.strerror}") from error
    return path


def key_of(url: str) -> str:
    """A short name for a gateway's address that can be part of a file's name."""
    host = "".join(letter if letter.isalnum() else "-" for letter in urlsplit(url).hostname or "gateway")
    return f"{host}-{sha256(url.encode()).hexdigest()[:8]}"


def lock(path: Path, url: str) -> AbstractContextManager[Holder]:
    """Hold the lock for changes at one gateway.

    Raises:
        BusyError: another process holds it; the message says which and since when.
    """
    return hold(made(path) / f"{key_of(url)}.lock", "is changing groups at this gateway")


def report_lock(path: Path) -> AbstractContextManager[Holder]:
    """Hold the lock for making the report: one run at a time for each state directory.

    Raises:
        BusyError: another process holds it; the message says which and since when.
    """
    return hold(made(path) / REPORT_LOCK, "is making the report")
