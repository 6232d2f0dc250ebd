"""The machine to install on: its paths and settings, and the files that units must be able to read."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings import Settings, declared, value_of
from evergreen_groups.settings import reading as load
from evergreen_groups.state import SYSTEM_DIRECTORY

SERVICE_USER = "evergreen-groups"
_PACKAGE = Path(__file__).resolve().parent.parent
_PLAIN_PATH = re.compile(r"/[\w./+@=,-]+", re.ASCII)
"""Paths that need no quoting in units, crontabs, Apache's configuration and shells."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The paths and settings of a machine. The defaults are the paths in the files in ``config/``.

    ``settings`` are those of ``config_file``, or None if the file doesn't exist. ``root`` is a directory to use
    in place of ``/`` when reading and writing files, as for building images. The contents of files don't include it.
    """

    program: Path = Path("/opt/evergreen-groups/bin/evergreen-groups")
    panel_script: Path = Path("/opt/evergreen-groups/panel.js")
    config_file: Path = load.SYSTEM_FILE
    settings: Settings | None = None
    state_directory: Path = SYSTEM_DIRECTORY
    root: Path = Path("/")

    def below_root(self, path: Path) -> Path:
        return self.root / path.relative_to(path.anchor)


def this_machine(
    config_file: Path | None, environ: Mapping[str, str], *, root: Path = Path("/"), program: Path | None = None
) -> Machine:
    """Return this machine's paths and settings.

    ``config_file`` and ``program`` override the paths found.

    Raises:
        ConfigurationError: the configuration can't be read, or a path has characters that the files can't contain.
    """
    below = root / load.SYSTEM_FILE.relative_to("/")
    if root == Path("/") or config_file is not None or environ.get(load.CONFIG_VARIABLE):
        found = load.find_file(config_file, environ)
    else:
        found = below if below.is_file() else None
    settings = load.load(found, {}) if found else None  # no environment: units don't get the installing user's
    configuration = load.SYSTEM_FILE if found is None else found.absolute()
    if root != Path("/") and configuration.is_relative_to(root.absolute()):
        configuration = Path("/") / configuration.relative_to(root.absolute())
    machine = Machine(
        program=program or own_program(sys.argv[0]),
        panel_script=_PACKAGE / "web" / "static" / "panel.js",
        config_file=configuration,
        settings=settings,
        root=root.absolute(),
    )
    for path in (machine.program, machine.config_file, machine.panel_script):
        refuse_unusual(path)
    return machine


def refuse_unusual(path: Path) -> None:
    """Refuse a path that would need quoting in units, crontabs or Apache's configuration."""
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise ConfigurationError(
            "{path} can't be used in units and Apache's configuration",
            advice="use an absolute path of letters, digits and . _ + @ = , -",
            code="path-unusual",
            values={"path": path},
        )


def own_program(started_as: str) -> Path:
    """Return the path of the ``evergreen-groups`` command that is running, if possible one that all users can execute.

    Symbolic links to the command (created by pipx, or in ``/usr/bin``) are preferred to their targets, because links
    stay in place when the program is upgraded.
    """
    script = Path(sysconfig.get_path("scripts"), "evergreen-groups")
    commands = [path.absolute() for path in (Path(started_as), script) if path.name == script.name and path.is_file()]
    if not commands and (found := shutil.which("evergreen-groups")):
        commands = [Path(found)]
    candidates = [candidate for path in commands for candidate in (path, path.resolve())]
    usable = (path for path in candidates if closed_to_others(path) is None)
    return next(usable, candidates[0] if candidates else script)


def refuse_private_program(machine: Machine) -> None:
    """Refuse to install a program that the service's user can't run, for example in root's home directory."""
    for part in (machine.program, machine.program.resolve(), Path(sys.executable).resolve(), _PACKAGE):
        closed = closed_to_others(part)
        if closed is None and part.is_relative_to("/home"):
            closed = Path("/home")  # the units have ProtectHome
        if closed is not None:
            raise ConfigurationError(
                "the service's user can't read {part}, because {closed} is private",
                advice="install the program in a public directory such as /opt/evergreen-groups, not in a home "
                "directory",
                code="program-private",
                values={"part": part, "closed": closed},
            )


def closed_to_others(path: Path) -> Path | None:
    """Return the first part of a path that other users can't enter or read, or None if they can read the whole path."""
    try:
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & 0o001:
                return parent
        return None if path.stat().st_mode & 0o004 else path
    except OSError:
        return path


def uncarried_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the environment variables with settings that the units won't get."""
    return sorted(name for name in environ if name.startswith("EVERGREEN_GROUPS_") and name != load.CONFIG_VARIABLE)


_SERVICE_SECTIONS = frozenset({"events", "redis", "serve", "metrics"})
_REPORT_SECTIONS = frozenset({"mail"})
_CERTIFICATES = "ca_bundle"


@dataclass(frozen=True, slots=True)
class HandedFile:
    """A file that a unit passes to its user as a systemd credential.

    ``variable`` is the environment variable that tells the program its path. ``is_set`` says whether the configuration
    names the file.
    """

    credential: str
    file: Path
    variable: str
    is_set: bool = True

    @property
    def lines(self) -> tuple[str, str]:
        return (f"LoadCredential={self.credential}:{self.file}", f"Environment={self.variable}=%d/{self.credential}")


def files_for_report(machine: Machine, settings: Settings) -> list[HandedFile]:
    """Return the files that the nightly report reads: certificates and the passwords of account, mail and database."""
    left_out = _SERVICE_SECTIONS if settings.mail.host else _SERVICE_SECTIONS | _REPORT_SECTIONS
    found = list(_files(machine, settings, left_out))
    if not any(handed.credential == "password" for handed in found):
        raise ConfigurationError(
            "the account's password isn't in a file",
            advice="write it to {file} as the only line, and run chmod 600",
            setting="gateway.password_file",
            code="unit-without-password",
            values={"file": machine.config_file.with_name("password")},
        )
    return found


def files_for_service(machine: Machine, settings: Settings) -> list[HandedFile]:
    """Return the files that the web service reads. Only a service with events needs the account's password."""
    found = list(_files(machine, settings, _REPORT_SECTIONS))
    takes_events = any(handed.credential == "events_secret" for handed in found)
    return [handed for handed in found if takes_events or handed.credential != "password"]


def files_for_backup(machine: Machine, settings: Settings) -> list[HandedFile]:
    """Return the files that the daily backup reads: the password of the database."""
    return list(_files(machine, settings, _SERVICE_SECTIONS | _REPORT_SECTIONS | {"gateway"}))


def configuration_for_unit(machine: Machine) -> HandedFile:
    return HandedFile("config.toml", machine.config_file, "EVERGREEN_GROUPS_CONFIG")


def _files(machine: Machine, settings: Settings, left_out: Collection[str]) -> Iterator[HandedFile]:
    """Yield the files of secrets, and those of certificates that not every user can read, outside some sections.

    A secret's file that the configuration doesn't name is the one with the default name next to the configuration, if
    it exists and the section's account or server is configured.
    """
    users = {"gateway": "username", "mail": "username", "state": "database", "redis": "url"}
    for setting in declared(Settings):
        if setting.section in left_out:
            continue
        file: Path | None = value_of(settings, setting)
        is_set = file is not None
        if setting.secret is not None:
            credential = setting.secret.credential
            user = users.get(setting.section)
            default = machine.config_file.with_name(Path(str(setting.example)).name)
            is_needed = user is None or getattr(getattr(settings, setting.section), user) is not None
            if file is None and is_needed and machine.below_root(default).is_file():
                file = default
        elif setting.name == _CERTIFICATES and file and closed_to_others(machine.below_root(file)) is not None:
            credential = f"{setting.section}_{setting.name}"
        else:
            continue
        if file is None:
            continue
        refuse_unusual(file)
        if not machine.below_root(file).is_file():
            raise ConfigurationError(
                "{path} doesn't exist, so the units wouldn't start",
                advice="create it, or change {setting}",
                setting=setting.key,
                code="unit-file-missing",
                values={"path": machine.below_root(file), "setting": f"[{setting.section}] {setting.name}"},
            )
        yield HandedFile(credential, file, setting.variable, is_set)
