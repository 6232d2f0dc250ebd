"""What can be installed, each with its files, and what is shown besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evergreen_groups.installation import rendering
from evergreen_groups.installation.machine import Machine

Rendering = Callable[[Machine], str]
_UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, slots=True)
class InstalledPart:
    """Something that is installed as a whole: its name, its files, and the unit that starts it, if one does."""

    name: str
    files: tuple[tuple[Path, Rendering], ...]
    unit: str | None = None
    needs_account: bool = True


PARTS = {
    part.name: part
    for part in (
        InstalledPart(
            "nightly",
            (
                (_UNITS / "evergreen-groups-report.service", rendering.report_service),
                (_UNITS / "evergreen-groups-report.timer", rendering.report_timer),
            ),
            unit="evergreen-groups-report.timer",
        ),
        InstalledPart(
            "serve",
            ((_UNITS / "evergreen-groups.service", rendering.service),),
            unit="evergreen-groups.service",
            needs_account=False,
        ),
        InstalledPart("apache", ((Path("/etc/apache2/evergreen-groups.conf"), rendering.apache),), needs_account=False),
        InstalledPart("cron", ((Path("/etc/cron.d/evergreen-groups"), rendering.crontab),)),
    )
}
"""What ``install`` writes."""

SHOWN: dict[str, tuple[tuple[str, Rendering], ...]] = {
    **{name: tuple((str(path), render) for path, render in part.files) for name, part in PARTS.items()},
    "balancer": (("evergreen-groups-balancer.conf", rendering.balancer),),
    "permissions": (("permissions.sql", rendering.permissions_sql),),
    "events": (("action-trigger.sql", rendering.events_sql),),
    "wsgi": (("wsgi.py", rendering.wsgi),),
    "dashboard": (("evergreen-groups.json", rendering.dashboard),),
}
"""What ``install --show`` shows: the path or name of each file, and how it is made."""

_ALONE = {"dashboard"}
"""Shown for themselves alone: JSON has no comments to say which file it is."""


def shown(name: str, machine: Machine) -> str:
    """The files of a part, filled in; with ``all`` those of all. Where there are several, each has its path above it.

    Raises:
        ConfigurationError: what the configuration names isn't there.
    """
    everything = [file for part, files in SHOWN.items() if part not in _ALONE for file in files]
    files = everything if name == "all" else SHOWN[name]
    if len(files) == 1:
        return files[0][1](machine)
    return "\n".join(f"{_comment(path)} ---- {path} ----\n{render(machine)}" for path, render in files)


def _comment(path: str) -> str:
    return "--" if path.endswith(".sql") else "#"
