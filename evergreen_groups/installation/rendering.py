"""The files of ``config/`` with this machine's paths, address and credentials in the place of the usual ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation.credentials import (
    configuration_for_unit,
    files_for_report,
    files_for_service,
)
from evergreen_groups.installation.data import data_text
from evergreen_groups.installation.machine import Machine, refuse_unusual

if TYPE_CHECKING:
    from evergreen_groups.installation.credentials import HandedFile
    from evergreen_groups.settings import Settings

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
