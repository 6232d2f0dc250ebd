"""Plan an installation or its removal: files to write or remove and commands to run, before anything is changed."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evergreen_groups.configured import gateway_account
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.installation.files import (
    is_ours,
    read_installed,
    render_file,
    without_digest,
    write_installed,
)
from evergreen_groups.installation.machine import SERVICE_USER, Machine, closed_to_others, files_for_report
from evergreen_groups.settings import reading as load
from evergreen_groups.state import SYSTEM_DIRECTORY, make_state_directory, write_errors

_UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, slots=True)
class InstalledPart:
    """A part that can be installed: its name, its files, and the systemd units to start, if any.

    ``files`` has each file's path on the machine with its path in ``config/``.
    """

    name: str
    files: tuple[tuple[Path, str], ...]
    units: tuple[str, ...] = ()
    needs_account: bool = True


def _unit_files(*names: str) -> tuple[tuple[Path, str], ...]:
    return tuple((_UNITS / name, f"systemd/{name}") for name in names)


_APACHE_FILE = (Path("/etc/apache2/evergreen-groups.conf"), "apache/evergreen-groups.conf")
_CRON_FILE = (Path("/etc/cron.d/evergreen-groups"), "cron.d/evergreen-groups")
_TIMER = "evergreen-groups-report.timer"
_SERVICE_UNITS = ("evergreen-groups.socket", "evergreen-groups.service")

PARTS = {
    part.name: part
    for part in (
        InstalledPart("nightly", _unit_files("evergreen-groups-report.service", _TIMER), (_TIMER,)),
        InstalledPart("serve", _unit_files(*_SERVICE_UNITS), _SERVICE_UNITS, needs_account=False),
        InstalledPart("apache", (_APACHE_FILE,), needs_account=False),
        InstalledPart("cron", (_CRON_FILE,)),
    )
}
"""The parts that ``install`` writes, by name."""

RENDERED: dict[str, tuple[tuple[str, str], ...]] = {
    **{name: tuple((str(path), source) for path, source in part.files) for name, part in PARTS.items()},
    "balancer": (("evergreen-groups-balancer.conf", "apache/evergreen-groups-balancer.conf"),),
    "permissions": (("permissions.sql", "evergreen/permissions.sql"),),
    "events": (("action-trigger.sql", "evergreen/action-trigger.sql"),),
    "wsgi": (("wsgi.py", "wsgi.py"),),
    "alerts": (("evergreen-groups.yml", "prometheus/evergreen-groups.yml"),),
    "dashboard": (("evergreen-groups.json", "grafana/evergreen-groups.json"),),
}
"""The parts that ``install --show`` prints, by name: each file's path or name, and its path in ``config/``."""

_NOT_IN_ALL = {"dashboard"}
"""Left out of ``--show all``, because JSON has no comments for the line with the path."""


def render_files(name: str, machine: Machine) -> str:
    """Return the files of a part, or of all parts (``all``). Comments with their paths precede several files."""
    everything = [file for part, files in RENDERED.items() if part not in _NOT_IN_ALL for file in files]
    files = everything if name == "all" else RENDERED[name]
    if len(files) == 1:
        return render_file(files[0][1], machine)
    return "\n".join(
        f"{'--' if path.endswith('.sql') else '#'} ---- {path} ----\n{render_file(source, machine)}"
        for path, source in files
    )


REPORT_SCHEDULERS = ("nightly", "cron")
"""Alternatives: both together would make each report twice."""
APACHE_MODULES = ("proxy", "proxy_http", "substitute", "filter", "headers")
APACHE_DIRECTORY = Path("/etc/apache2")
_CRONS = ("cron", "crond", "fcron")
_BOOTED = Path("/run/systemd/system")


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to install. ``current`` is its present text (None: no file)."""

    path: Path
    text: str
    current: str | None

    @property
    def is_wanted(self) -> bool:
        return not self.is_up_to_date and not self.is_left

    @property
    def is_up_to_date(self) -> bool:
        """Whether the file has the planned text already, with or without the line that :func:`with_digest` adds."""
        return self.current is not None and without_digest(self.current) == self.text

    @property
    def is_left(self) -> bool:
        """Whether an administrator has changed or created the file, so that it must not be overwritten."""
        return self.current is not None and not self.is_up_to_date and not is_ours(self.current)


@dataclass(frozen=True, slots=True)
class InstallationPlan:
    """Files to write and commands to run afterwards. ``directory`` is the state directory if it must be created."""

    machine: Machine
    files: tuple[PlannedFile, ...]
    commands: tuple[tuple[str, ...], ...]
    directory: Path | None

    @property
    def wanted(self) -> list[PlannedFile]:
        return [file for file in self.files if file.is_wanted]

    @property
    def left(self) -> list[PlannedFile]:
        """The files that aren't overwritten because an administrator changed them."""
        return [file for file in self.files if file.is_left]

    def write(self) -> Iterator[Path]:
        """Write the files, and yield each path after writing it."""
        if self.directory is not None:
            make_state_directory(self.machine.below_root(self.directory))
        for file in self.wanted:
            path = self.machine.below_root(file.path)
            write_installed(path, file.text)
            yield path


def plan_installation(machine: Machine, names: Iterable[str], *, starts: bool = True) -> InstallationPlan:
    """Plan the installation of these parts. ``starts`` False leaves out the commands.

    Raises:
        ConfigurationError: a part needs a setting that is missing, the machine isn't suitable for it, or a file can't
            be read.
    """
    parts = [PARTS[name] for name in names]
    for part in parts:
        _refuse_unsuitable(part, machine)
    files = tuple(
        PlannedFile(path, render_file(source, machine), _current_text(machine.below_root(path)))
        for part in parts
        for path, source in part.files
    )
    acts_here = starts and machine.root == Path("/")
    commands = tuple(command for part in parts for command in _commands(part, machine)) if acts_here else ()
    keeps_state = any(part.name != "apache" for part in parts)
    is_new = keeps_state and not machine.below_root(machine.state_directory).exists()
    return InstallationPlan(machine, files, tuple(dict.fromkeys(commands)), machine.state_directory if is_new else None)


def runs_systemd(machine: Machine) -> bool:
    """Return whether systemd manages this machine. False for any other ``root``."""
    return machine.root == Path("/") and _BOOTED.is_dir()


def has_cron() -> bool:
    return any(shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") for name in _CRONS)


def _current_text(path: Path) -> str | None:
    try:
        return read_installed(path)
    except OSError as error:
        raise ConfigurationError(
            "cannot read {path}: {reason}",
            advice="check that it exists and that this user may read it",
            code="installed-file-unreadable",
            values={"path": path, "reason": error.strerror},
        ) from error


def _refuse_unsuitable(part: InstalledPart, machine: Machine) -> None:
    if machine.settings is not None:
        if part.needs_account or machine.settings.gateway.url is None:
            gateway_account(machine.settings)  # raises if either is missing
    elif machine.root == Path("/"):  # an image may get its configuration later
        raise ConfigurationError(
            "no configuration found", advice="run `evergreen-groups init`", code="install-without-configuration"
        )
    if part.name == "apache" and not machine.below_root(APACHE_DIRECTORY).is_dir():
        raise ConfigurationError(
            "{directory} doesn't exist on this machine",
            advice="on the machine with Evergreen's Apache, save what `evergreen-groups install --show apache` prints",
            code="no-apache",
            values={"directory": APACHE_DIRECTORY},
        )
    if part.name in REPORT_SCHEDULERS:
        (other,) = (PARTS[name] for name in REPORT_SCHEDULERS if name != part.name)
        for path, _source in other.files:
            if machine.below_root(path).exists():
                raise ConfigurationError(
                    "{path} already runs the report",
                    advice="to switch, run `evergreen-groups uninstall {part}` first",
                    code="report-installed-otherwise",
                    values={"path": path, "part": other.name},
                )


def _commands(part: InstalledPart, machine: Machine) -> Iterator[tuple[str, ...]]:
    if part.units and runs_systemd(machine):
        yield ("systemctl", "daemon-reload")
        yield ("systemctl", "enable", *part.units)
        yield ("systemctl", "restart", *part.units)  # "enable --now" wouldn't apply a changed unit to a running service
    elif part.name == "apache" and shutil.which("a2enmod"):
        yield ("a2enmod", "--quiet", *APACHE_MODULES)
    elif part.name == "cron":
        yield from _cron_commands(machine)


def _cron_commands(machine: Machine) -> Iterator[tuple[str, ...]]:
    """Yield commands that create the crontab's user and let it read the configuration and the files named there."""
    home = str(machine.state_directory)
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        yield ("useradd", "--system", "--home-dir", home, "--shell", "/usr/sbin/nologin", SERVICE_USER)
    yield ("install", "-d", "-o", SERVICE_USER, "-g", SERVICE_USER, "-m", "700", home)
    if Path(home).exists():  # it may have files of root, or of a unit's user
        yield ("chown", "-R", "-H", f"{SERVICE_USER}:{SERVICE_USER}", home)  # -H: it may be systemd's link to private/
    if machine.settings is None:
        return
    read = [machine.config_file, *(handed.file for handed in files_for_report(machine, machine.settings))]
    closed = sorted({str(path) for path in read if closed_to_others(path) is not None})
    directory = machine.config_file.parent
    # Grant access by group rather than to all users: these files hold passwords.
    if not directory.stat().st_mode & 0o001:
        yield ("chgrp", SERVICE_USER, str(directory))
        yield ("chmod", "g+rx", str(directory))
    if closed:
        yield ("chgrp", SERVICE_USER, *closed)
        yield ("chmod", "g+r", *closed)


_MAX_REASON = 300


def run_command(command: Sequence[str]) -> None:
    """Run a command and wait for it."""
    try:
        done = subprocess.run(  # noqa: S603 - only this program's own commands, at the administrator's request
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        output = (done.stderr or done.stdout).strip()[-_MAX_REASON:]
        reason = "" if done.returncode == 0 else output or str(done.returncode)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise EvergreenGroupsError(
            "{command} failed: {reason}",
            advice="the files are written; solve the problem, then run this command again",
            code="command-failed",
            values={"command": shlex.join(command), "reason": reason},
        )


_PRIVATE = "private"
"""Where systemd puts the state directories of dynamic users. The usual directory is a link to it."""


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """Files to remove, changed files to leave, commands to run before and after, and files and directories to purge."""

    machine: Machine
    files: tuple[Path, ...]
    left: tuple[Path, ...]
    before: tuple[tuple[str, ...], ...]
    after: tuple[tuple[str, ...], ...]
    purged: tuple[Path, ...] = ()

    def remove(self) -> Iterator[Path]:
        """Remove files and directories, and yield each path after removing it."""
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
    """Plan the removal of these parts. ``purges`` includes the configuration, passwords and state.

    Raises:
        ConfigurationError: Apache's configuration still includes one of the files.
    """
    files, left, units = [], [], []
    for part in (PARTS[name] for name in names):
        for path, _source in part.files:
            text = read_installed(machine.below_root(path))
            if text is None:
                continue
            if not is_ours(text):
                left.append(path)
                continue
            _refuse_needed(path, machine)
            files.append(path)
            if path.name in part.units:
                units.append(path.name)
    stops = bool(units) and runs_systemd(machine)
    before = (("systemctl", "disable", "--now", *units),) if stops else ()
    after = (("systemctl", "daemon-reload"),) if stops else ()
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
    for candidate in (SYSTEM_DIRECTORY, SYSTEM_DIRECTORY.parent / _PRIVATE / SYSTEM_DIRECTORY.name):
        below_root = machine.below_root(candidate)
        if below_root.is_symlink() or below_root.is_dir():
            yield candidate
    configuration = load.SYSTEM_FILE.parent
    if machine.below_root(configuration).is_dir():
        yield configuration
