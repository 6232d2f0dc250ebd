"""The tables of ``[[reports]]``: reports that are made in one night from one reading.

In a table stand the settings of :class:`~evergreen_groups.settings.sections.NamedReport` and those of ``[report]`` that
say what is listed and how it is written; what a table doesn't say is as in ``[report]``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings.declaration import Setting, declared_in
from evergreen_groups.settings.nearest import nearest
from evergreen_groups.settings.sections import NamedReport, ReportSettings

if TYPE_CHECKING:
    from evergreen_groups.settings.toml_file import Origin, TomlFile

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


class NamedReports:
    """The reports of a file's tables, ``found``, and what is wrong with them; ``report`` is what ``[report]`` says."""

    def __init__(self, file: TomlFile, report: ReportSettings) -> None:
        self.faults: list[tuple[ConfigurationError, Origin]] = []
        self._file = file
        self._report = replace(report, output=None)
        found: dict[str, NamedReport] = {}
        for number, table in enumerate(self._tables()):
            one = self._read(number, table)
            if one is None:
                continue
            if one.name.casefold() in found:
                origin = file.origin(SECTION, number, "name")
                error = ConfigurationError(
                    "{path}: [[reports]] {number}: there is another report called {name}",
                    advice="give it another name",
                    setting=f"{SECTION}.name",
                    code="report-named-twice",
                    values={"path": str(origin), "number": number + 1, "name": one.name},
                )
                self.faults.append((error, origin))
            found[one.name.casefold()] = one
        self.found = tuple(found.values())

    def _tables(self) -> list[dict[str, Any]]:
        tables = self._file.content.get(SECTION, [])
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            return tables
        origin = self._file.origin(SECTION)
        error = ConfigurationError(
            "{path}: reports: these are tables",
            advice="begin each with [[reports]]",
            setting=SECTION,
            code="reports-not-tables",
            values={"path": str(origin)},
        )
        self.faults.append((error, origin))
        return []

    def _read(self, number: int, table: dict[str, Any]) -> NamedReport | None:
        """The report of a table (numbered from 0); None where something in it is wrong."""
        own = {setting.name: setting for setting in own_settings()}
        shared = {setting.name: setting for setting in shared_settings()}
        values: dict[str, Any] = {}
        before = len(self.faults)
        for key, value in table.items():
            origin = self._file.origin(SECTION, number, key)
            setting = own.get(key) or shared.get(key)
            try:
                if setting is None:
                    raise _unknown_key(origin, number + 1, key, [*own, *shared])
                values[key] = setting.read(value, f"{origin}: [[reports]] {number + 1} {key}")
            except ConfigurationError as problem:
                self.faults.append((problem, origin))
        if len(self.faults) > before:
            return None
        listed = replace(self._report, **{key: value for key, value in values.items() if key in shared})
        one = NamedReport(report=listed, **{key: value for key, value in values.items() if key in own})
        if one.name and (listed.output is not None or one.recipients):
            return one
        origin = self._file.origin(SECTION, number)
        error = ConfigurationError(
            "{path}: [[reports]] {number}: it has no name, or goes nowhere",
            advice="give it a name, and an output or recipients",
            setting=SECTION,
            code="report-goes-nowhere",
            values={"path": str(origin), "number": number + 1},
        )
        self.faults.append((error, origin))
        return None


def _unknown_key(origin: Origin, number: int, key: str, known: list[str]) -> ConfigurationError:
    where = {"path": str(origin), "number": number, "key": key, "allowed": ", ".join(known)}
    meant = nearest(key, known)
    if meant is None:
        return ConfigurationError(
            "{path}: [[reports]] {number}: {key}: unknown key",
            advice="allowed are {allowed}",
            setting=SECTION,
            code="unknown-setting-of-report",
            values=where,
        )
    return ConfigurationError(
        "{path}: [[reports]] {number}: {key}: unknown key",
        advice="is {meant} meant? Allowed are {allowed}",
        setting=SECTION,
        code="unknown-setting-of-report",
        values={**where, "meant": meant},
    )
