"""Taking back what was installed: what is as it was written goes, what was changed since stays."""

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
"""Where systemd has the directories of users that exist only while they are needed; links lead there."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """Files that go, files that stay because they were changed, commands before and after, and what is purged."""

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
        """Remove files and directories, and give each path once it is gone.

        Raises:
            ConfigurationError: one can't be removed.
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
                (directory / path.name).unlink(missing_ok=True)  # the link of a unit that was enabled
        if self.files:
            with suppress(OSError):  # something is kept in it, or it is a link
                self.machine.below_root(SYSTEM_DIRECTORY).rmdir()


def plan_removal(machine: Machine, names: Iterable[str], *, purges: bool = False) -> RemovalPlan:
    """Find out what there is of these parts; ``purges`` takes configuration, passwords, state and cache as well.

    Raises:
        ConfigurationError: something still needs a file, or a directory that is to be purged is another one.
    """
    files, left, units = [], [], []
    for part in (PARTS[name] for name in names):
        for path, _render in part.files:
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
    """Apache doesn't start where a file that it includes isn't there."""
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
    """The directories that are this program's alone."""
    for path in (SYSTEM_DIRECTORY, _CACHE):
        for there in (path, path.parent / _PRIVATE / path.name):
            here = machine.below_root(there)
            if here.is_symlink() or here.is_dir():
                yield there
    configuration = load.SYSTEM_FILE.parent
    if machine.below_root(configuration).is_dir():
        yield configuration
