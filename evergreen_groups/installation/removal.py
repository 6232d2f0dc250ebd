"""Uninstall: remove the files that this program wrote, unless an administrator has changed them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation.files import FileCondition, condition_of, read_installed
from evergreen_groups.installation.plan import APACHE_DIRECTORY, PARTS, runs_systemd
from evergreen_groups.settings import reading as load
from evergreen_groups.state import SYSTEM_DIRECTORY, write_errors

if TYPE_CHECKING:
    from evergreen_groups.installation.machine import Machine

_CACHE = Path("/var/cache/evergreen-groups")
_PRIVATE = "private"
"""Where systemd puts the state and cache directories of dynamic users. The usual directories are links to them."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """Files to remove, changed files to leave, commands to run before and after, and files and directories to purge."""

    machine: Machine
    files: tuple[Path, ...]
    left: tuple[Path, ...]
    before: tuple[tuple[str, ...], ...]
    after: tuple[tuple[str, ...], ...]
    purged: tuple[Path, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not self.files and not self.purged

    def remove(self) -> Iterator[Path]:
        """Remove files and directories, and yield each path after removing it.

        Raises:
            ConfigurationError: a file can't be removed.
        """
        for path in (*self.files, *self.purged):
            here = self.machine.below_root(path)
            with write_errors(here.parent):
                if here.is_dir() and not here.is_symlink():
                    shutil.rmtree(here)
                else:
                    here.unlink()
            yield here
        for path in self.files:
            for directory in self.machine.below_root(path.parent).glob("*.wants"):
                (directory / path.name).unlink(missing_ok=True)  # the link that enables a unit
        if self.files:
            with suppress(OSError):  # the directory isn't empty, or is a link
                self.machine.below_root(SYSTEM_DIRECTORY).rmdir()


def plan_removal(machine: Machine, names: Iterable[str], *, purges: bool = False) -> RemovalPlan:
    """Plan the removal of these parts. ``purges`` includes the configuration, passwords, state and cache.

    Raises:
        ConfigurationError: Apache's configuration still includes one of the files.
    """
    files, left, units = [], [], []
    for part in (PARTS[name] for name in names):
        for path, _source in part.files:
            condition = condition_of(read_installed(machine.below_root(path)))
            if condition is FileCondition.OURS:
                _refuse_needed(path, machine)
                files.append(path)
                if part.unit == path.name:
                    units.append(part.unit)
            elif condition is FileCondition.CHANGED:
                left.append(path)
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    if units and runs_systemd(machine):
        before = tuple(("systemctl", "disable", "--now", unit) for unit in units)
        after = (("systemctl", "daemon-reload"),)
    purged = tuple(_purged(machine)) if purges else ()
    return RemovalPlan(machine, tuple(files), tuple(left), before, after, purged)


def _refuse_needed(path: Path, machine: Machine) -> None:
    """Refuse to remove a file that an Apache site includes, because Apache wouldn't start without it."""
    if not path.is_relative_to(APACHE_DIRECTORY):
        return
    for site in sorted(machine.below_root(APACHE_DIRECTORY / "sites-enabled").glob("*")):
        try:
            lines = site.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) == 2 and words[0].casefold() == "include" and words[1].strip('"').endswith(path.name):
                raise ConfigurationError(
                    "{site} includes {path}, so Apache wouldn't start without it",
                    advice="remove that line first, and restart Apache",
                    code="installed-file-included",
                    values={"site": site, "path": path},
                )


def _purged(machine: Machine) -> Iterator[Path]:
    """Yield this program's own directories, as far as they exist."""
    for path in (SYSTEM_DIRECTORY, _CACHE):
        for candidate in (path, path.parent / _PRIVATE / path.name):
            below_root = machine.below_root(candidate)
            if below_root.is_symlink() or below_root.is_dir():
                yield candidate
    configuration = load.SYSTEM_FILE.parent
    if machine.below_root(configuration).is_dir():
        yield configuration
