"""The machine that is installed on: where the program, its configuration and its state are."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings import CONFIG_VARIABLE, Settings, declared, secret_of, value_of
from evergreen_groups.settings import reading as load
from evergreen_groups.state import SYSTEM_DIRECTORY

if TYPE_CHECKING:
    from evergreen_groups.settings import Setting

SERVICE_USER = "evergreen-groups"
_PACKAGE = Path(__file__).resolve().parent.parent
_PLAIN_PATH = re.compile(r"/[\w./+@=,-]+", re.ASCII)
"""Paths that mean themselves in a unit, a crontab, Apache's configuration and a shell."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where things are. The defaults are the places that the files in ``config/`` name.

    ``settings`` are those of ``config_file``, None where there is none. ``root`` is the directory that stands for
    ``/`` while files are looked for and written; paths in the files are without it.
    """

    program: Path = Path("/opt/evergreen-groups/bin/evergreen-groups")
    panel_script: Path = Path("/opt/evergreen-groups/panel.js")
    config_file: Path = load.SYSTEM_FILE
    settings: Settings | None = None
    state_directory: Path = SYSTEM_DIRECTORY
    root: Path = Path("/")

    def below_root(self, path: Path) -> Path:
        """Where a path of this machine is while ``root`` stands for ``/``."""
        return self.root / path.relative_to(path.anchor)


def this_machine(
    config_file: Path | None, environ: Mapping[str, str], *, root: Path = Path("/"), program: Path | None = None
) -> Machine:
    """The machine as it is, with the configuration that counts: of its file alone, for no unit gets root's environment.

    ``config_file`` and ``program`` are taken as they are where they are given.

    Raises:
        ConfigurationError: the configuration can't be read, or a path can't be written into the files.
    """
    found = _configuration(config_file, environ, root)
    settings = load.load(found, {}) if found else None
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
    """Refuse a path that would mean something else where it is written down.

    Raises:
        ConfigurationError: it isn't made of letters, digits and a few signs, or isn't absolute.
    """
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise ConfigurationError(
            "{path} can't be written into units and other configuration",
            advice="use an absolute path of letters, digits and . _ + @ = , -",
            code="path-unusual",
            values={"path": path},
        )


def own_program(started_as: str) -> Path:
    """The command of this very installation: as it was started, else beside its Python, and for everybody if it can be.

    A link that was made for the command (by pipx, or in ``/usr/bin``) is taken before what it leads to, for it stays
    where it is when the program is replaced.
    """
    beside = Path(sysconfig.get_path("scripts"), "evergreen-groups")
    named = [path.absolute() for path in (Path(started_as), beside) if _is_command(path)]
    if not named and (found := shutil.which("evergreen-groups")):
        named = [Path(found)]
    candidates = [candidate for path in named for candidate in (path, path.resolve())]
    usable = (path for path in candidates if closed_to_others(path) is None)
    return next(usable, candidates[0] if candidates else beside)


def _is_command(path: Path) -> bool:
    return path.name == "evergreen-groups" and path.is_file()


def refuse_private_program(machine: Machine) -> None:
    """Refuse to install a program that the service's user can't start, such as one in root's home directory.

    Raises:
        ConfigurationError: a part of it can't be reached by others, or is in a home directory, which units don't see.
    """
    for part in (machine.program, machine.program.resolve(), Path(sys.executable).resolve(), _PACKAGE):
        closed = closed_to_others(part)
        if closed is None and part.is_relative_to("/home"):
            closed = Path("/home")
        if closed is not None:
            raise ConfigurationError(
                "{part} can't be used by the service's user, who may not enter {closed}",
                advice="install the program where everybody may read it, such as /opt/evergreen-groups, and not in a "
                "home directory",
                code="program-private",
                values={"part": part, "closed": closed},
            )


def closed_to_others(path: Path) -> Path | None:
    """The first part of a path that others than its owner can't pass, or read; None where they can.

    >>> closed_to_others(Path("/etc/passwd")) is None
    True
    """
    try:
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & 0o001:
                return parent
        return None if path.stat().st_mode & 0o004 else path
    except OSError:
        return path


def _configuration(config_file: Path | None, environ: Mapping[str, str], root: Path) -> Path | None:
    if root == Path("/") or config_file is not None or environ.get(CONFIG_VARIABLE):
        return load.find_file(config_file, environ)
    below = root / load.SYSTEM_FILE.relative_to("/")
    return below if below.is_file() else None


def uncarried_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that set something for whoever runs this, and nothing for the units."""
    return sorted(name for name in environ if name.startswith("EVERGREEN_GROUPS_") and name != CONFIG_VARIABLE)


def is_root() -> bool:
    """Whether this is root."""
    return os.geteuid() == 0


_FOR_THE_SERVICE_ALONE = frozenset({"events", "redis", "serve", "metrics"})
_FOR_THE_REPORT_ALONE = frozenset({"mail"})
_CERTIFICATES = "ca_bundle"


@dataclass(frozen=True, slots=True)
class HandedFile:
    """A file that a unit's user gets to read: the credential's name, the file, and the variable that names it there.

    ``is_set`` says whether the configuration names the very file.
    """

    credential: str
    file: Path
    variable: str
    is_set: bool = True

    @property
    def lines(self) -> tuple[str, str]:
        """What a unit needs for it."""
        return (
            f"LoadCredential={self.credential}:{self.file}",
            f"Environment={self.variable}=%d/{self.credential}",
        )


def files_for_report(machine: Machine, settings: Settings) -> list[HandedFile]:
    """What the nightly report reads: certificates, the password, and that of mail and database where they have one.

    Raises:
        ConfigurationError: there is no password, or a file that is set isn't there.
    """
    left_out = _FOR_THE_SERVICE_ALONE if settings.mail.host else _FOR_THE_SERVICE_ALONE | _FOR_THE_REPORT_ALONE
    found = list(_files(machine, settings, left_out))
    if not any(handed.credential == "password" for handed in found):
        raise ConfigurationError(
            "there is no file with the account's password",
            advice="write it into {file}, alone on one line, with chmod 600",
            setting="gateway.password_file",
            code="unit-without-password",
            values={"file": machine.config_file.with_name("password")},
        )
    return found


def files_for_service(machine: Machine, settings: Settings) -> list[HandedFile]:
    """What the web service reads: with a secret for events that, and the password with which their work is done.

    Raises:
        ConfigurationError: a file that is set isn't there.
    """
    found = list(_files(machine, settings, _FOR_THE_REPORT_ALONE))
    takes_events = any(handed.credential == "events_secret" for handed in found)
    return [handed for handed in found if takes_events or handed.credential != "password"]


def configuration_for_unit(machine: Machine) -> HandedFile:
    """The configuration itself."""
    return HandedFile("config.toml", machine.config_file, "EVERGREEN_GROUPS_CONFIG")


def _files(machine: Machine, settings: Settings, left_out: Collection[str]) -> Iterator[HandedFile]:
    for setting in declared(Settings):
        if setting.section in left_out:
            continue
        chosen = value_of(settings, setting)
        if setting.secret is not None:
            yield from _secret_file(machine, setting, chosen, is_needed=_is_needed(setting, settings))
        elif setting.name == _CERTIFICATES and chosen and closed_to_others(machine.below_root(chosen)) is not None:
            yield _handed(machine, setting, f"{setting.section}_{setting.name}", chosen)


def _is_needed(setting: Setting, settings: Settings) -> bool:
    """Whether something else in the section says that there is a secret: an account, a server."""
    opens = {"gateway": "username", "mail": "username", "state": "database", "redis": "url"}.get(setting.section)
    return opens is None or getattr(getattr(settings, setting.section), opens) is not None


def _secret_file(machine: Machine, setting: Setting, chosen: Path | None, *, is_needed: bool) -> Iterator[HandedFile]:
    """The file that is set, else one of the usual name beside the configuration, if that is there."""
    credential = secret_of(setting).credential
    if chosen is not None:
        yield _handed(machine, setting, credential, chosen)
        return
    if not is_needed:
        return
    usual = machine.config_file.with_name(Path(str(setting.example)).name)
    if machine.below_root(usual).is_file():
        yield _handed(machine, setting, credential, usual, is_set=False)


def _handed(machine: Machine, setting: Setting, credential: str, file: Path, *, is_set: bool = True) -> HandedFile:
    refuse_unusual(file)
    if not machine.below_root(file).is_file():
        raise ConfigurationError(
            "{file}, which {setting} names, isn't there, and so no unit would start",
            advice="make the file, or take the setting out",
            setting=setting.key,
            code="unit-file-missing",
            values={"file": file, "setting": f"[{setting.section}] {setting.name}"},
        )
    return HandedFile(credential, file, setting.variable, is_set)
