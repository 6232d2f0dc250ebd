"""The state directory, where the journal is kept and where runs find out about each other, and the cache's."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from evergreen_groups.errors import BusyError, ConfigurationError

_PAUSE = 0.05  # seconds between two looks at a lock that somebody holds


def directory(environ: Mapping[str, str]) -> Path:
    """Where state is kept: systemd's ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local" / "state")
    return Path(base) / "evergreen-groups"


def cache_directory(environ: Mapping[str, str]) -> Path | None:
    """Where the gateway's IDL is kept between runs: systemd's directory, or the user's own; None without a home."""
    if environ.get("CACHE_DIRECTORY"):
        return Path(environ["CACHE_DIRECTORY"].split(":")[0])
    home = environ.get("XDG_CACHE_HOME") or (Path(environ["HOME"]) / ".cache" if environ.get("HOME") else None)
    return Path(home) / "evergreen-groups" if home else None


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


@contextmanager
def lock(path: Path, url: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock for changes at one gateway; the kernel lets go of it when the process ends, however it ends.

    ``patience`` is how many seconds to wait for whoever holds it.

    Raises:
        BusyError: another run holds it; the message says which process and since when.
    """
    file = made(path) / f"{key_of(url)}.lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as stream:
        if not _locked(descriptor, patience):
            raise BusyError(f"another run is changing groups at this gateway ({_holder(stream.read())})")
        stream.truncate(0)
        json.dump({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}, stream)
        stream.flush()
        yield


def _locked(descriptor: int, patience: float) -> bool:
    """Try to lock until ``patience`` is at its end; the kernel's own waiting knows no limit."""
    ends = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']}, since {holder['since']}"
    except (ValueError, TypeError, KeyError):
        return "it has just begun"
