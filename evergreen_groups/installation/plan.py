"""Plan an installation or its removal: files to write or remove and commands to run, before anything is changed."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from evergreen_groups.installation.instances import (
    APACHE_DIRECTORY,
    BALANCER,
    BALANCER_MODULES,
    UNITS,
    all_further_files,
    further_files,
    installed_instances,
    render_balancer,
)
from evergreen_groups.installation.machine import SERVICE_USER, Machine, closed_to_others, files_for_report
from evergreen_groups.settings import reading as load
from evergreen_groups.state import SYSTEM_DIRECTORY, make_state_directory, write_errors


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
    return tuple((UNITS / name, f"systemd/{name}") for name in names)


_APACHE_FILE = (Path("/etc/apache2/evergreen-groups.conf"), "apache/evergreen-groups.conf")
_CRON_FILE = (Path("/etc/cron.d/evergreen-groups"), "cron.d/evergreen-groups")
_TIMER = "evergreen-groups-report.timer"
_BACKUP_TIMER = "evergreen-groups-backup.timer"
_SERVICE_UNITS = ("evergreen-groups.socket", "evergreen-groups.service")

PARTS = {
    part.name: part
    for part in (
        InstalledPart("nightly", _unit_files("evergreen-groups-report.service", _TIMER), (_TIMER,)),
        InstalledPart("serve", _unit_files(*_SERVICE_UNITS), _SERVICE_UNITS, needs_account=False),
        InstalledPart(
            "backup",
            _unit_files("evergreen-groups-backup.service", _BACKUP_TIMER),
            (_BACKUP_TIMER,),
            needs_account=False,
        ),
        InstalledPart("apache", (_APACHE_FILE,), needs_account=False),
        InstalledPart("cron", (_CRON_FILE,)),
    )
}
"""The parts that ``install`` writes, by name."""

RENDERED: dict[str, tuple[tuple[str, str], ...]] = {
    **{name: tuple((str(path), source) for path, source in part.files) for name, part in PARTS.items()},
    "balancer": ((str(BALANCER), "apache/evergreen-groups-balancer.conf"),),
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
    if name == "balancer":
        return render_balancer(machine, max(2, installed_instances(machine)))
    if len(files) == 1:
        return render_file(files[0][1], machine)
    return "\n".join(
        f"{'--' if path.endswith('.sql') else '#'} ---- {path} ----\n{render_file(source, machine)}"
        for path, source in files
    )


REPORT_SCHEDULERS = ("nightly", "cron")
"""Alternatives: both together would make each report twice."""
APACHE_MODULES = ("proxy", "proxy_http", "substitute", "filter", "headers")
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
    """Files to write and commands to run afterwards. ``directory`` is the state directory if it must be created.

    ``surplus`` removes instances of the service that are no longer wanted. It comes first.
    """

    machine: Machine
    files: tuple[PlannedFile, ...]
    commands: tuple[tuple[str, ...], ...]
    directory: Path | None
    surplus: RemovalPlan

    @property
    def wanted(self) -> list[PlannedFile]:
        return [file for file in self.files if file.is_wanted]

    @property
    def changes_anything(self) -> bool:
        return bool(self.wanted or self.surplus.files)

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


def plan_installation(
    machine: Machine, names: Iterable[str], *, starts: bool = True, instances: int | None = None
) -> InstallationPlan:
    """Plan the installation of these parts. ``starts`` False leaves out the commands.

    ``instances`` is how many processes of the web service to run (None: as many as are installed).

    Raises:
        ConfigurationError: a part needs a setting that is missing, the machine isn't suitable for it, or a file can't
            be read.
    """
    parts = [PARTS[name] for name in names]
    for part in parts:
        _refuse_unsuitable(part, machine)
    texts = [(path, render_file(source, machine)) for part in parts for path, source in part.files]
    further: list[tuple[Path, str]] = []
    surplus: list[Path] = []
    if any(part.name == "serve" for part in parts):
        further = further_files(machine, installed_instances(machine) if instances is None else instances)
        surplus = [path for path in all_further_files(machine) if path not in dict(further)]
    files = tuple(PlannedFile(path, text, _current_text(machine.below_root(path))) for path, text in [*texts, *further])
    acts_here = starts and machine.root == Path("/")
    more = [path.name for path, _text in further]
    commands = tuple(command for part in parts for command in _commands(part, machine, more)) if acts_here else ()
    keeps_state = any(part.name != "apache" for part in parts)
    is_new = keeps_state and not machine.below_root(machine.state_directory).exists()
    directory = machine.state_directory if is_new else None
    to_remove = _removal(machine, surplus, stops=acts_here)
    return InstallationPlan(machine, files, tuple(dict.fromkeys(commands)), directory, to_remove)


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


def _commands(part: InstalledPart, machine: Machine, further: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the commands that start a part. ``further`` are the names of the files of the service's other instances."""
    further = further if part.name == "serve" else ()
    if BALANCER.name in further and shutil.which("a2enmod"):
        yield ("a2enmod", "--quiet", *BALANCER_MODULES)
    if part.units and runs_systemd(machine):
        units = (*part.units, *(name for name in further if name != BALANCER.name))
        yield ("systemctl", "daemon-reload")
        yield ("systemctl", "enable", *units)
        yield ("systemctl", "restart", *units)  # "enable --now" wouldn't apply a changed unit to a running service
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
    parts = [PARTS[name] for name in names]
    paths = [path for part in parts for path, _source in part.files]
    if any(part.name == "serve" for part in parts):
        paths += all_further_files(machine)
    plan = _removal(machine, paths)
    for path in plan.files:
        _refuse_needed(path, machine)
    return replace(plan, purged=tuple(_purged(machine))) if purges else plan


def _removal(machine: Machine, paths: Iterable[Path], *, stops: bool = True) -> RemovalPlan:
    """Plan the removal of these files. ``stops`` False leaves out the commands."""
    files: list[Path] = []
    left: list[Path] = []
    for path in paths:
        text = read_installed(machine.below_root(path))
        if text is not None:
            (files if is_ours(text) else left).append(path)
    started = {unit for part in PARTS.values() for unit in part.units}
    units = [path.name for path in files if path.name in started or "@" in path.name]
    stops = stops and bool(units) and runs_systemd(machine)
    before = (("systemctl", "disable", "--now", *units),) if stops else ()
    after = (("systemctl", "daemon-reload"),) if stops else ()
    return RemovalPlan(machine, tuple(files), tuple(left), before, after)


def _refuse_needed(path: Path, machine: Machine) -> None:
    """Refuse to remove a file that an Apache site includes, because Apache wouldn't start without it."""
    if not path.is_relative_to(APACHE_DIRECTORY) or path == BALANCER:  # evergreen-groups.conf does without it
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
