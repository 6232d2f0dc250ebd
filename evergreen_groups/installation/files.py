"""Render the files in ``config/`` with this machine's paths, address and credentials, and recognize them later."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.configured import listen_address
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation.machine import (
    Machine,
    configuration_for_unit,
    files_for_backup,
    files_for_report,
    files_for_service,
    refuse_unusual,
)
from evergreen_groups.state import write_atomically, write_errors

if TYPE_CHECKING:
    from evergreen_groups.installation.machine import HandedFile
    from evergreen_groups.settings import Settings

_PACKAGE = Path(__file__).resolve().parent.parent
_DIRECTORIES = (_PACKAGE / "data", _PACKAGE.parent / "config")
"""Where the files are in an installed package, and in a checkout."""


def data_text(name: str) -> str:
    """Return the text of a file in ``config/``, by its path there."""
    found = next((directory / name for directory in _DIRECTORIES if (directory / name).is_file()), None)
    if found is None:
        raise ConfigurationError(
            "{name} is missing from the installed package",
            advice="reinstall the package",
            code="data-file-missing",
            values={"name": name},
        )
    return found.read_text(encoding="utf-8")


_DEFAULT = Machine()
"""The machine whose paths and address the files in ``config/`` contain."""
_SPLIT = "--split library --output {directory}/reports"
_CREDENTIAL = re.compile(r"(# )?(LoadCredential=|Environment=EVERGREEN_GROUPS_)")
_ACCOUNT = re.compile(r"[\w.@+-]+", re.ASCII)


def render_file(name: str, machine: Machine) -> str:
    """Return a file of ``config/``, by its path there, with this machine's paths, address and credentials.

    The files work as they are on a machine with the default paths, and administrators and packages copy them. So the
    defaults are replaced, rather than placeholders of a template.
    """
    text = data_text(name)
    for default, own in (
        (_DEFAULT.program, machine.program),
        (_DEFAULT.panel_script, machine.panel_script),
        (_DEFAULT.config_file, machine.config_file),
        (service_address(None), _own_address(name, machine.settings)),
    ):
        text = text.replace(str(default), str(own))
    return text if machine.settings is None else _with_settings(name, text, machine, machine.settings)


def _own_address(name: str, settings: Settings | None) -> str:
    """Return the service's address for this file: the socket's unit listens there, others connect."""
    if name == "systemd/evergreen-groups.socket" and settings is not None:
        return listen_address(settings.serve)
    return service_address(settings)


def _with_settings(name: str, text: str, machine: Machine, settings: Settings) -> str:
    match name:
        case "systemd/evergreen-groups-report.service":
            default = _SPLIT.format(directory="%S/evergreen-groups")
            arguments = f"report --scheduled {report_arguments(settings, '%S/evergreen-groups')}".rstrip()
            text = text.replace(f"report --scheduled {default}\n", f"{arguments}\n")
            text = _with_credentials(text, [configuration_for_unit(machine), *files_for_report(machine, settings)])
            elsewhere = [f"ReadWritePaths={path}" for path in directories_elsewhere(machine)]
            return text.replace("\nUMask=0077\n", "\n".join(["", "UMask=0077", *elsewhere, ""]), 1)
        case "systemd/evergreen-groups-backup.service":
            return _with_credentials(text, [configuration_for_unit(machine), *files_for_backup(machine, settings)])
        case "systemd/evergreen-groups.service":
            return _with_credentials(text, [configuration_for_unit(machine), *files_for_service(machine, settings)])
        case "cron.d/evergreen-groups":
            default = _SPLIT.format(directory=machine.state_directory)
            arguments = report_arguments(settings, str(machine.state_directory))
            text = text.replace(f"report --scheduled {default};", f"report --scheduled {arguments}".rstrip() + ";")
            # Variables for files that the configuration doesn't name.
            variables = [handed for handed in files_for_report(machine, settings) if not handed.is_set]
            if machine.config_file != _DEFAULT.config_file:
                variables.insert(0, configuration_for_unit(machine))
            state = f"STATE_DIRECTORY={machine.state_directory}\n"
            return text.replace(state, state + "".join(f"{one.variable}={one.file}\n" for one in variables), 1)
        case "evergreen/action-trigger.sql" if settings.events.secret_file:
            default = str(_DEFAULT.config_file.with_name("events-secret"))
            return text.replace(default, str(settings.events.secret_file))
        case "evergreen/permissions.sql":
            account = settings.gateway.username
            needed = {
                "details": settings.report.details == "full",
                "ils_limits": settings.policy.limit == "ils",
                "recalculate": settings.events.recalculate,
            }
            for variable, is_needed in needed.items():
                text = re.sub(rf"(\\else \\set {variable}) [01] ", rf"\1 {int(is_needed)} ", text)
            if account and _ACCOUNT.fullmatch(account):
                text = text.replace("\\set account ''", f"\\set account '{account}'")
    return text


def report_arguments(settings: Settings, state_directory: str) -> str:
    """Return the command-line arguments of the scheduled report.

    It writes to the configured output, by default one page per library, and sends mails if they are configured.
    """
    arguments = [] if settings.report.output else [_SPLIT.format(directory=state_directory)]
    recipients = settings.mail.recipients or any(report.recipients for report in settings.reports)
    if settings.mail.host and recipients:
        arguments.append("--mail")
    return " ".join(arguments)


def directories_elsewhere(machine: Machine) -> list[Path]:
    """Return the report directories outside of the state directory."""
    if machine.settings is None:
        return []
    outputs = [(report.report.output, report.report.split) for report in machine.settings.reports]
    outputs.append((machine.settings.report.output, machine.settings.report.split))
    written = [path if split == "library" else path.parent for path, split in outputs if path]
    elsewhere = sorted({path for path in written if not path.is_relative_to(machine.state_directory)})
    for path in elsewhere:
        refuse_unusual(path)
        if not machine.below_root(path).is_dir():
            raise ConfigurationError(
                "{path} doesn't exist, so the units wouldn't start",
                advice="create it, or change {setting}",
                setting="report.output",
                code="output-directory-missing",
                values={"path": machine.below_root(path), "setting": "output"},
            )
    return elsewhere


def service_address(settings: Settings | None) -> str:
    """Return the host and port at which this machine reaches the web service."""
    if settings is None:
        return "127.0.0.1:8211"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.serve.host, settings.serve.host)  # noqa: S104 - compared
    return f"[{host}]:{settings.serve.port}" if ":" in host else f"{host}:{settings.serve.port}"


def _with_credentials(text: str, files: Iterable[HandedFile]) -> str:
    """Replace the unit's credentials, including those commented out, by the credentials for ``files``."""
    lines, is_replaced = [], False
    for line in text.splitlines():
        if not _CREDENTIAL.match(line):
            lines.append(line)
        elif not is_replaced:
            is_replaced = True
            lines += [new for handed in files for new in handed.lines]
    return "\n".join([*lines, ""])


_FIRST_LINE = '# By "evergreen-groups install", which leaves it alone once it is changed: {digest}\n'
_PATTERN = re.compile(_FIRST_LINE.format(digest="([0-9a-f]{32})"))
_READABLE = 0o644


def with_digest(text: str) -> str:
    """Return the text below a first line with its digest, by which later changes are detected."""
    return _FIRST_LINE.format(digest=_digest(text)) + text


def without_digest(text: str) -> str:
    return _PATTERN.sub("", text, count=1) if _PATTERN.match(text) else text


def is_ours(text: str) -> bool:
    """Return whether this program wrote a file with this text, and no one changed it since."""
    found = _PATTERN.match(text)
    return found is not None and found[1] == _digest(text[found.end() :])


def read_installed(path: Path) -> str | None:
    if not os.path.lexists(path):
        return None
    if path.is_symlink() or not path.is_file():
        return ""  # counts as changed: this program writes only regular files
    return path.read_text(encoding="utf-8", errors="replace")


def write_installed(path: Path, text: str) -> None:
    """Write a world-readable file atomically, and create its directory if necessary."""
    with write_errors(path.parent):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with write_atomically(path) as stream:
        stream.write(with_digest(text))
        os.fchmod(stream.fileno(), _READABLE)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
