"""The tables of ``[[reports]]``: reports that are made in one night from one reading.

In a table stand the settings of :class:`~evergreen_groups.settings.sections.NamedReport` and those of ``[report]`` that
say what is listed and how it is written; what a table doesn't say is as in ``[report]``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings.declaration import Setting, declared_in
from evergreen_groups.settings.sections import NamedReport, ReportSettings

SECTION = "reports"
HELP = (
    "More reports of the same night, each a table, made from one reading with [report] in runs that are kept in the "
    "history. Each has a history of its own. Besides the keys below, a table takes those of [report] that say what is "
    "listed and how it is written; where it doesn't say one, that is as in [report], but for the output."
)
_OF_THE_RUN = {"details", "deadline", "hours_between_runs", "healthcheck_url"}
"""What of ``[report]`` is the whole run's."""


def own_settings() -> tuple[Setting, ...]:
    """What a table has beside the settings of a report."""
    return declared_in(SECTION, NamedReport)


def shared_settings() -> tuple[Setting, ...]:
    """The settings of a report that a table may have of its own."""
    return tuple(setting for setting in declared_in("report", ReportSettings) if setting.name not in _OF_THE_RUN)


def read_named_reports(value: object, path: Path | None, report: ReportSettings) -> tuple[NamedReport, ...]:
    """Read the tables; ``report`` is what ``[report]`` says.

    Raises:
        ConfigurationError: an unknown key, a value that isn't allowed, a name that is missing or there twice, or a
            report that goes nowhere.
    """
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigurationError(
            "{path}: reports: these are tables",
            advice="begin each with [[reports]]",
            setting=SECTION,
            code="reports-not-tables",
            values={"path": path},
        )
    found: dict[str, NamedReport] = {}
    for number, table in enumerate(value, 1):
        one = _read(number, table, path, replace(report, output=None))
        if one.name.casefold() in found:
            raise ConfigurationError(
                "{path}: [[reports]] {number}: there is another report called {name}",
                advice="give it another name",
                setting=f"{SECTION}.name",
                code="report-named-twice",
                values={"path": path, "number": number, "name": one.name},
            )
        found[one.name.casefold()] = one
    return tuple(found.values())


def _read(number: int, table: dict[str, Any], path: Path | None, report: ReportSettings) -> NamedReport:
    own = {setting.name: setting for setting in own_settings()}
    shared = {setting.name: setting for setting in shared_settings()}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in own and key not in shared:
            raise ConfigurationError(
                "{path}: [[reports]] {number}: {key}: unknown key",
                advice="allowed are {allowed}",
                setting=SECTION,
                code="unknown-setting-of-report",
                values={"path": path, "number": number, "key": key, "allowed": ", ".join([*own, *shared])},
            )
        setting = own.get(key) or shared[key]
        values[key] = setting.read(value, f"{path}: [[reports]] {number} {key}")
    listed = replace(report, **{key: value for key, value in values.items() if key in shared})
    one = NamedReport(report=listed, **{key: value for key, value in values.items() if key in own})
    if not one.name or (listed.output is None and not one.recipients):
        raise ConfigurationError(
            "{path}: [[reports]] {number}: it has no name, or goes nowhere",
            advice="give it a name, and an output or recipients",
            setting=SECTION,
            code="report-goes-nowhere",
            values={"path": path, "number": number},
        )
    return one
