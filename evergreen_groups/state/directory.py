"""The state directory, where the journal is kept and where runs find out about each other, and the cache's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.own_files import NO_ROOM

REPORT_LOCK = "report.lock"
SYSTEM_DIRECTORY = Path("/var/lib/evergreen-groups")
"""Where the units and the crontab have state kept."""


def find_state_directory(environ: Mapping[str, str]) -> Path:
    """Where state is kept: systemd's ``$STATE_DIRECTORY``, ``$XDG_STATE_HOME`` or ``~/.local/state``.

    For root it is that of the units where there is one: what root asks about a machine is about its nightly run.
    """
    if environ.get("STATE_DIRECTORY"):
        # systemd puts all directories of a unit into one variable.
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    if os.geteuid() == 0 and not environ.get("XDG_STATE_HOME") and SYSTEM_DIRECTORY.is_dir():
        return SYSTEM_DIRECTORY
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local" / "state")
    return Path(base) / "evergreen-groups"


def find_cache_directory(environ: Mapping[str, str]) -> Path | None:
    """Where the gateway's IDL is kept between runs: systemd's directory, or the user's own; None without a home."""
    if environ.get("CACHE_DIRECTORY"):
        return Path(environ["CACHE_DIRECTORY"].split(":")[0])
    home = environ.get("XDG_CACHE_HOME") or (Path(environ["HOME"]) / ".cache" if environ.get("HOME") else None)
    return Path(home) / "evergreen-groups" if home else None


def make_state_directory(path: Path) -> Path:
    """Make a state directory that only its owner can enter.

    Raises:
        ConfigurationError: it can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            "cannot make the state directory {path}: {reason}",
            advice=Message("make room on the disk")
            if error.errno in NO_ROOM
            else Message("let this user make the directory"),
            code="state-directory-not-made",
            values={"path": path, "reason": system_reason(error)},
        ) from error
    return path


def gateway_key(url: str) -> str:
    """A short name for a gateway's address that can be part of a file's name."""
    # The host is for people; the digest keeps two gateways on one host apart.
    host = "".join(letter if letter.isalnum() else "-" for letter in urlsplit(url).hostname or "gateway")
    return f"{host}-{sha256(url.encode()).hexdigest()[:8]}"
