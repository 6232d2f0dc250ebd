"""The files of ``config/`` with this machine's paths, address and credentials in the place of the usual ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation.machine import (
    Machine,
    configuration_for_unit,
    files_for_report,
    files_for_service,
    refuse_unusual,
)
from evergreen_groups.state import write_atomically, write_errors

if TYPE_CHECKING:
    from evergreen_groups.installation.machine import HandedFile
    from evergreen_groups.settings import Settings

_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "data", _PACKAGE.parent / "config")
"""Where they are in an installed package, and in a checkout."""


def data_file(name: str) -> Path:
    """Where a file is, by its name in ``config/`` (``systemd/evergreen-groups.service``).

    Raises:
        ConfigurationError: the package was installed without it.
    """
    found = next((place / name for place in _PLACES if (place / name).is_file()), None)
    if found is None:
        raise ConfigurationError(
            "{name} didn't come with this installation of the program",
            advice="install it anew, from a whole wheel or checkout",
            code="data-file-missing",
            values={"name": name},
        )
    return found


def data_text(name: str) -> str:
    """What is in such a file; raises what :func:`data_file` does.

    >>> data_text("systemd/evergreen-groups-report.timer").splitlines()[-1]
    'WantedBy=timers.target'
    """
    return data_file(name).read_text(encoding="utf-8")


_USUAL = Machine()
_SPLIT = "--split library --output {directory}/reports"
_CREDENTIAL = re.compile(r"(# )?(LoadCredential=|Environment=EVERGREEN_GROUPS_(?!CONFIG=%t))")
_ACCOUNT = re.compile(r"[\w.@+-]+", re.ASCII)


def report_service(machine: Machine) -> str:
    """The unit that makes the report once; raises what the credentials do."""
    text = _with_paths(data_text("systemd/evergreen-groups-report.service"), machine)
    if machine.settings is None:
        return text
    settings = machine.settings
    usual = _SPLIT.format(directory="%S/evergreen-groups")
    arguments = f"report --scheduled {report_arguments(settings, '%S/evergreen-groups')}".rstrip()
    text = text.replace(f"report --scheduled {usual}\n", f"{arguments}\n")
    text = _with_credentials(text, [configuration_for_unit(machine), *files_for_report(machine, settings)])
    elsewhere = [f"ReadWritePaths={path}" for path in directories_elsewhere(machine)]
    return text.replace("\nUMask=0077\n", "\n".join(["", "UMask=0077", *elsewhere, ""]), 1)


def report_timer(_machine: Machine) -> str:
    """When the report is made."""
    return data_text("systemd/evergreen-groups-report.timer")


def service(machine: Machine) -> str:
    """The web service's unit; raises what the credentials do.

    Its configuration is no credential but a copy, so that it can be read anew while the service runs.
    """
    text = _with_paths(data_text("systemd/evergreen-groups.service"), machine)
    if machine.settings is None:
        return text
    return _with_credentials(text, files_for_service(machine, machine.settings))


def crontab(machine: Machine) -> str:
    """The line for cron, with variables for what the configuration doesn't name; raises what the credentials do."""
    text = _with_paths(data_text("cron.d/evergreen-groups"), machine)
    if machine.settings is None:
        return text
    usual = _SPLIT.format(directory=machine.state_directory)
    arguments = report_arguments(machine.settings, str(machine.state_directory))
    text = text.replace(f"report --scheduled {usual};", f"report --scheduled {arguments}".rstrip() + ";")
    named = [handed for handed in files_for_report(machine, machine.settings) if not handed.is_set]
    if machine.config_file != _USUAL.config_file:
        named.insert(0, configuration_for_unit(machine))
    state = f"STATE_DIRECTORY={machine.state_directory}\n"
    return text.replace(state, state + "".join(f"{handed.variable}={handed.file}\n" for handed in named), 1)


def apache(machine: Machine) -> str:
    """What Apache's virtual host includes."""
    return _with_address(_with_paths(data_text("apache/evergreen-groups.conf"), machine), machine)


def balancer(machine: Machine) -> str:
    """The same for several instances of the service."""
    return _with_address(data_text("apache/evergreen-groups-balancer.conf"), machine)


def wsgi(machine: Machine) -> str:
    """The web service for mod_wsgi."""
    return _with_paths(data_text("wsgi.py"), machine)


def dashboard(_machine: Machine) -> str:
    """The dashboard for Grafana, which asks for the Prometheus to use when it is imported."""
    return data_text("grafana/evergreen-groups.json")


def events_sql(machine: Machine) -> str:
    """What makes the event definitions in the ILS's database."""
    text = _with_address(_with_paths(data_text("evergreen/action-trigger.sql"), machine), machine)
    secret = machine.settings.events.secret_file if machine.settings else None
    return text.replace(str(_USUAL.config_file.with_name("events-secret")), str(secret)) if secret else text


def permissions_sql(machine: Machine) -> str:
    """What gives the service account its rights: those that the configuration needs."""
    text = data_text("evergreen/permissions.sql")
    if machine.settings is None:
        return text
    settings = machine.settings
    account = settings.gateway.username
    needed = {
        "details": settings.report.details == "full",
        "ils_limits": settings.policy.limit == "ils",
        "recalculate": settings.events.recalculate,
    }
    for name, is_needed in needed.items():
        text = re.sub(rf"(\\else \\set {name}) [01] ", rf"\1 {int(is_needed)} ", text)
    if account and _ACCOUNT.fullmatch(account):
        text = text.replace("\\set account ''", f"\\set account '{account}'")
    return text


def report_arguments(settings: Settings, state_directory: str) -> str:
    """What the report is started with: its configured output, else a page for each library; mail, where it is set."""
    arguments = [] if settings.report.output else [_SPLIT.format(directory=state_directory)]
    recipients = settings.mail.recipients or any(report.recipients for report in settings.reports)
    if settings.mail.host and recipients:
        arguments.append("--mail")
    return " ".join(arguments)


def directories_elsewhere(machine: Machine) -> list[Path]:
    """Directories outside of the state's into which reports are written.

    Raises:
        ConfigurationError: one isn't there, so that the unit wouldn't start.
    """
    if machine.settings is None:
        return []
    outputs = [(named.report.output, named.report.split) for named in machine.settings.reports]
    outputs.append((machine.settings.report.output, machine.settings.report.split))
    written = [path if split == "library" else path.parent for path, split in outputs if path]
    elsewhere = sorted({path for path in written if not path.is_relative_to(machine.state_directory)})
    for path in elsewhere:
        refuse_unusual(path)
        if not machine.below_root(path).is_dir():
            raise ConfigurationError(
                "{path}, where reports are to be written, isn't there, and so no unit would start",
                advice="make the directory, or name one below {state}",
                setting="report.output",
                code="output-directory-missing",
                values={"path": path, "state": machine.state_directory},
            )
    return elsewhere


def service_address(settings: Settings | None) -> str:
    """Where requests to the service go from this machine."""
    if settings is None:
        return "127.0.0.1:8211"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.serve.host, settings.serve.host)  # noqa: S104 - compared
    return f"[{host}]:{settings.serve.port}" if ":" in host else f"{host}:{settings.serve.port}"


def _with_paths(text: str, machine: Machine) -> str:
    for usual, own in (
        (_USUAL.program, machine.program),
        (_USUAL.panel_script, machine.panel_script),
        (_USUAL.config_file, machine.config_file),
    ):
        text = text.replace(str(usual), str(own))
    return text


def _with_address(text: str, machine: Machine) -> str:
    return text.replace("127.0.0.1:8211", service_address(machine.settings))


def _with_credentials(text: str, files: Iterable[HandedFile]) -> str:
    """The unit with these credentials in the place of those that stand there, commented out or not."""
    lines, is_placed = [], False
    for line in text.splitlines():
        if not _CREDENTIAL.match(line):
            lines.append(line)
        elif not is_placed:
            is_placed = True
            lines += [name for handed in files for name in handed.lines]
    return "\n".join([*lines, ""])


_FIRST_LINE = '# By "evergreen-groups install", which leaves it alone once it is changed: {digest}\n'
_PATTERN = re.compile(_FIRST_LINE.format(digest="([0-9a-f]{32})"))
_READABLE = 0o644


class FileCondition(Enum):
    """What is there in the place of a file that is to be written."""

    ABSENT = "absent"
    OURS = "ours"
    """As it was written."""
    CHANGED = "changed"
    """By somebody, or never written by this program."""


def marked(text: str) -> str:
    """A text with the line before it by which it is known again.

    >>> condition_of(marked("a = 1\\n")), condition_of("a = 1\\n")
    (<FileCondition.OURS: 'ours'>, <FileCondition.CHANGED: 'changed'>)
    """
    return _FIRST_LINE.format(digest=_digest(text)) + text


def unmarked(text: str) -> str:
    """The text without that line."""
    return _PATTERN.sub("", text, count=1) if _PATTERN.match(text) else text


def condition_of(text: str | None) -> FileCondition:
    """Whether a text, None for no file, is as it was written."""
    if text is None:
        return FileCondition.ABSENT
    found = _PATTERN.match(text)
    if found is None or found[1] != _digest(text[found.end() :]):
        return FileCondition.CHANGED
    return FileCondition.OURS


def read_installed(path: Path) -> str | None:
    """What is in a file, None where there is none; a link, or what isn't text, is nothing that this program wrote.

    Raises:
        OSError: it can't be read.
    """
    if not os.path.lexists(path):
        return None
    if path.is_symlink() or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def write_installed(path: Path, text: str) -> None:
    """Write a file that everybody may read, whole or not at all, and its directory where there is none.

    Raises:
        ConfigurationError: it can't be written.
    """
    with write_errors(path.parent):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with write_atomically(path) as stream:
        stream.write(marked(text))
        os.fchmod(stream.fileno(), _READABLE)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
