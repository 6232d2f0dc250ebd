"""Reads the configuration: each value with its position, and all errors."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import LOG_FORMAT_VARIABLE
from evergreen_groups.message import Message, system_reason
from evergreen_groups.settings.declaration import declared, declared_sections, with_values
from evergreen_groups.settings.sections import SECTION, NamedReport, Settings, own_settings, shared_settings
from evergreen_groups.settings.values import closest_name

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Setting
    from evergreen_groups.settings.sections import ReportSettings

PREFIX = "EVERGREEN_GROUPS_"
"""Prefix of all environment variables."""
CONFIG_VARIABLE = "EVERGREEN_GROUPS_CONFIG"
"""The variable with the path of the configuration file."""


KeyPath = tuple[str | int, ...]
"""A path within a TOML document: names of tables and keys, and indexes (from 0) in arrays of tables."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: a line of a file, an environment variable, or neither (the default)."""

    path: Path | None = None
    line: int | None = None
    variable: str | None = None

    def __str__(self) -> str:
        """Return the position in the form that compilers and editors use.

        >>> str(Origin(Path("config.toml"), 12)), str(Origin(variable="LANG"))
        ('config.toml:12', '$LANG')
        """
        if self.variable is not None:
            return f"${self.variable}"
        return f"{self.path}:{self.line}" if self.line is not None else str(self.path or "")


@dataclass(frozen=True)
class TomlFile:
    """A parsed file. ``content`` has its amounts as ``Decimal``."""

    path: Path
    text: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> TomlFile:
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, tomllib.loads(text, parse_float=Decimal))
        except OSError as error:
            raise ConfigurationError(
                "cannot read {path}: {reason}",
                advice="check that it exists and that this user may read it",
                code="configuration-unreadable",
                values={"path": path, "reason": system_reason(error)},
            ) from error
        # ValueError: bad syntax, or a number with thousands of digits. RecursionError: deep nesting.
        except (ValueError, RecursionError) as error:
            reason = str(error).replace("Cannot overwrite a value", "a key is there twice")
            if isinstance(error, RecursionError):
                reason = Message("nested too deeply")
            raise ConfigurationError(
                "{path}: not valid TOML: {reason}",
                code="configuration-invalid",
                values={"path": path, "reason": reason},
            ) from error

    def origin(self, *keys: str | int) -> Origin:
        """Return the position of a key, or of the innermost existing table that the key belongs to."""
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return Origin(self.path, self._lines.get(keys))

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return lines_of(self.text)


def lines_of(text: str) -> dict[KeyPath, int]:
    """Map the paths of a document's tables and keys to the lines (from 1) where they begin.

    >>> lines_of('a = 1\\n\\n[b]\\nc = [\\n 2]\\n[[d]]\\ne.f = 3\\n[[d]]')
    {('a',): 1, ('b',): 3, ('b', 'c'): 4, ('d',): 6, ('d', 0): 6, ('d', 0, 'e'): 7, ('d', 0, 'e', 'f'): 7, ('d', 1): 8}
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for line, statement, parsed in _statements(text):
        if not statement.startswith("["):
            for keys in _key_paths(parsed):
                found.setdefault((*table, *keys), line)
            continue
        table = ()
        for key in max(_key_paths(parsed), key=len):
            found.setdefault(table := (*table, key), line)
            if table in counts:  # a subtable of the last table in an array
                table = (*table, counts[table])
        if statement.startswith("[["):
            array = table[:-1] if isinstance(table[-1], int) else table
            counts[array] = counts.get(array, -1) + 1
            found[table := (*array, counts[array])] = line
    return found


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the statements of a document, each with its first line's number and parsed separately."""
    first, statement = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            first = number
        statement += f"{line}\n"
        try:
            parsed = tomllib.loads(statement)
        except (ValueError, RecursionError):  # the statement continues on the next line
            continue
        if parsed:
            yield first, statement.lstrip(), parsed
        statement = ""


def _key_paths(parsed: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in parsed.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *keys) for keys in _key_paths(value))


_NOWHERE = Origin()
_IS_MEANT = Message("did you mean {meant}?")
_ALLOWED = Message("allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in the configuration with its position. The error's text names the position too."""

    error: ConfigurationError
    origin: Origin


def _unknown_variables(settings: Sequence[Setting], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield a fault for each variable with our prefix that doesn't exist, with the one that was probably meant.

    Empty variables are ignored, because they count as unset. A variable's value is in no message; it may be a password.
    """
    secrets = [(setting, setting.secret) for setting in settings if setting.secret is not None]
    known = {CONFIG_VARIABLE, LOG_FORMAT_VARIABLE, *(setting.variable for setting in settings)}
    known |= {secret.variable for _setting, secret in secrets if secret.variable is not None}
    by_name = {variable.removeprefix(PREFIX): variable for variable in sorted(known)}
    # Names that people try for the variables of secrets.
    tried = {f"{one.section}_{secret.name}".upper(): secret.variable or one.variable for one, secret in secrets}
    for variable, value in sorted(environ.items()):
        name = variable.upper().removeprefix(PREFIX)
        if not value or not variable.upper().startswith(PREFIX) or variable in known:
            continue
        meant = tried.get(name) or by_name.get(closest_name(name, by_name) or "")
        advice = Message("unset it; `evergreen-groups config example` lists all settings")
        if meant is not None:
            advice = Message("did you mean ${meant}?")
        error = ConfigurationError(
            "${variable}: unknown variable",
            advice=advice,
            code="unknown-variable",
            values={"variable": variable, "meant": meant},
        )
        yield Fault(error, Origin(variable=variable))


class Reading:
    """The configuration from a file and the environment.

    ``source`` is the path of the file. ``file`` is its content, or None if there is no file or it can't be parsed; the
    ``faults`` then say why.
    """

    def __init__(
        self,
        source: Path | None,
        file: TomlFile | None,
        environ: Mapping[str, str],
        schema: type[Settings],
        faults: Sequence[Fault] = (),
    ) -> None:
        self.source = source
        self._file = file
        self._environ = environ
        self._schema = schema
        self._faults = list(faults)
        self.values: dict[str, object] = {}
        """The valid values by key (``report.min_total``)."""
        content = dict(file.content) if file else {}
        self._tables = content.pop(SECTION, [])
        sections = declared_sections(schema)
        for name, table in content.items():
            if name not in sections or not isinstance(table, dict):
                self._refuse_section(name, [*sections, SECTION], is_value=not isinstance(table, dict))
        for name, settings in sections.items():
            self._read_section(name, settings)
        self._faults += _unknown_variables(declared(schema), environ)

    @property
    def settings(self) -> Settings:
        """The settings."""
        if self.faults:
            raise self.faults[0].error
        return self.valid_settings

    @property
    def faults(self) -> Sequence[Fault]:
        """All errors: those in the file by line, then the others."""
        _ = self.valid_settings  # adds the errors about combinations of values
        return sorted(self._faults, key=lambda fault: fault.origin.line or 1_000_000)

    @property
    def is_unreadable(self) -> bool:
        """Whether the file can't be parsed, or was named explicitly and doesn't exist."""
        return self.source is not None and self._file is None

    def origin(self, setting: Setting) -> Origin:
        """Return where a setting's value comes from."""
        if self._environ.get(setting.variable):
            return Origin(variable=setting.variable)
        if setting.name not in self._section(setting.section):
            return _NOWHERE
        return self.position(setting.section, setting.name)

    def origin_of_key(self, key: str | None) -> Origin:
        """Return where to correct a key (``report.min_total``): where it is set, or else its section."""
        setting = next((setting for setting in declared(self._schema) if setting.key == key), None)
        if setting is not None and (found := self.origin(setting)) != _NOWHERE:
            return found
        return self.position((key or "").partition(".")[0])

    @property
    def tables(self) -> Sequence[Mapping[str, Any]]:
        """The tables of ``[[reports]]`` as written."""
        return [table for table in self._tables if isinstance(table, dict)] if isinstance(self._tables, list) else ()

    @cached_property
    def valid_settings(self) -> Settings:
        """The settings without invalid values. A section whose values contradict each other has its defaults."""
        settings = self._schema(source=self.source)
        sections = declared_sections(self._schema)
        for known in sections.values():
            values = {setting.key: self.values[setting.key] for setting in known if setting.key in self.values}
            try:
                settings = with_values(settings, values)
            except ConfigurationError as error:
                # Settings that contradict each other: the error needs a position.
                place = self.origin_of_key(error.setting)
                located = ConfigurationError(
                    "{path}: {problem}",
                    advice=error.advice,
                    setting=error.setting,
                    code=error.code,
                    values={**error.values, "path": str(place), "problem": Message(error.message, values=error.values)},
                )
                self._faults.append(Fault(located, place))
        return replace(settings, reports=self._named_reports(settings.report))

    def _section(self, name: str) -> Mapping[str, Any]:
        table = self._file.content.get(name) if self._file else None
        return table if isinstance(table, dict) else {}

    def position(self, *keys: str | int) -> Origin:
        """Return the position in the file of a key, or of a table of ``[[reports]]`` (numbered from 0)."""
        return self._file.origin(*keys) if self._file else Origin(self.source)

    def _read_section(self, name: str, known: tuple[Setting, ...]) -> None:
        content = self._section(name)
        for key in content:
            if key not in {setting.name for setting in known}:
                origin = self.position(name, key)
                self._faults.append(Fault(self._unknown_key(name, known, key, origin), origin))
        for setting in known:
            # An empty variable counts as unset.
            if not self._environ.get(setting.variable) and setting.name not in content:
                continue
            origin = self.origin(setting)
            value = self._environ.get(setting.variable) or content[setting.name]
            where = str(origin) if origin.variable else f"{origin}: [{name}] {setting.name}"
            if isinstance(value, dict):
                # In TOML, a key of the section that follows one of its tables belongs to that table.
                misplaced = {one.name for one in known}.intersection(value)
                for key in misplaced:
                    place = self.position(name, setting.name, key)
                    self._faults.append(Fault(self._unknown_key(setting.key, (), key, place), place))
                value = {key: entry for key, entry in value.items() if key not in misplaced}
            try:
                self.values[setting.key] = setting.read(value, where)
            except ConfigurationError as error:
                self._faults.append(Fault(error, origin))

    def _refuse_section(self, name: str, known: Sequence[str], *, is_value: bool) -> None:
        """Suggest a section with a similar name; for a plain value, suggest the setting that it may belong to."""
        origin = self.position(name)
        similar = None if is_value else closest_name(name, known)
        meant = f"[{similar}]" if similar else ""
        for setting in declared(self._schema) if is_value else ():
            if name in (setting.name, setting.section):
                meant = f"[{setting.section}] {setting.name}"
                break
        allowed = ", ".join(f"[{section}]" for section in known)
        error = ConfigurationError(
            "{path}: unknown section [{section}]",
            advice=_IS_MEANT if meant else _ALLOWED,
            code="unknown-section",
            values={"path": str(origin), "section": name, "allowed": allowed, "meant": meant},
        )
        self._faults.append(Fault(error, origin))

    def _unknown_key(self, name: str, known: tuple[Setting, ...], key: str, origin: Origin) -> ConfigurationError:
        names = [setting.name for setting in known]
        where = {"path": str(origin), "section": name, "table": f"[{name}]", "key": key, "allowed": ", ".join(names)}
        file = next((setting for setting in known if setting.secret is not None and setting.secret.name == key), None)
        if file is not None:
            return ConfigurationError(
                "{path}: [{section}] {key}: passwords and secrets aren't allowed here",
                advice="put it in a file that only this user can read, and set {file} to its path",
                setting=file.key,
                code="secret-in-configuration",
                values={**where, "file": file.name},
            )
        meant = closest_name(key, names)
        elsewhere = [setting.section for setting in declared(self._schema) if setting.name == key]
        if meant is None and elsewhere:
            return ConfigurationError(
                "{path}: {table} {key}: unknown key",
                advice=_IS_MEANT,
                setting=f"{name}.{key}",
                code="setting-of-another-section",
                # Of several sections with this key, the one that the table belongs to, or else the first.
                values={**where, "meant": f"[{max(elsewhere, key=name.startswith)}] {key}"},
            )
        return ConfigurationError(
            "{path}: {table} {key}: unknown key",
            advice=_IS_MEANT if meant else _ALLOWED,
            setting=f"{name}.{key}",
            code="unknown-setting",
            values={**where, "meant": meant},
        )

    def _named_reports(self, report: ReportSettings) -> tuple[NamedReport, ...]:
        """Read the tables of ``[[reports]]``. ``report`` has the defaults. Tables with faults are left out."""
        if not isinstance(self._tables, list) or not all(isinstance(table, dict) for table in self._tables):
            origin = self.position(SECTION)
            error = ConfigurationError(
                "{path}: reports must be [[reports]] tables",
                setting=SECTION,
                code="reports-not-tables",
                values={"path": str(origin)},
            )
            self._faults.append(Fault(error, origin))
            return ()
        found: dict[str, NamedReport] = {}
        for number, table in enumerate(self._tables):
            one = self._named_report(number, table, replace(report, output=None))
            if one is None:
                continue
            if one.name.casefold() in found:
                origin = self.position(SECTION, number, "name")
                error = ConfigurationError(
                    "{path}: [[reports]] {number}: another report has the name {name}",
                    setting=f"{SECTION}.name",
                    code="report-named-twice",
                    values={"path": str(origin), "number": number + 1, "name": one.name},
                )
                self._faults.append(Fault(error, origin))
            found[one.name.casefold()] = one
        return tuple(found.values())

    def _named_report(self, number: int, table: Mapping[str, Any], report: ReportSettings) -> NamedReport | None:
        """Read the report of a table (numbered from 0). Return None if it has an error."""
        own = {setting.name: setting for setting in own_settings()}
        shared = {setting.name: setting for setting in shared_settings()}
        values: dict[str, Any] = {}
        for key, value in table.items():
            origin = self.position(SECTION, number, key)
            try:
                setting = own.get(key) or shared.get(key)
                if setting is None:
                    raise _unknown_report_key(origin, number + 1, key, [*own, *shared])
                values[key] = setting.read(value, f"{origin}: [[reports]] {number + 1} {key}")
            except ConfigurationError as problem:
                self._faults.append(Fault(problem, origin))
        if len(values) < len(table):
            return None
        listed = replace(report, **{key: value for key, value in values.items() if key in shared})
        one = NamedReport(report=listed, **{key: value for key, value in values.items() if key in own})
        if one.name and (listed.output is not None or one.recipients):
            return one
        origin = self.position(SECTION, number)
        error = ConfigurationError(
            "{path}: [[reports]] {number} needs a name, and an output or recipients",
            setting=SECTION,
            code="report-goes-nowhere",
            values={"path": str(origin), "number": number + 1},
        )
        self._faults.append(Fault(error, origin))
        return None


def _unknown_report_key(origin: Origin, number: int, key: str, known: Sequence[str]) -> ConfigurationError:
    meant = closest_name(key, known)
    table = f"[[{SECTION}]] {number}"
    return ConfigurationError(
        "{path}: {table} {key}: unknown key",
        advice=_IS_MEANT if meant else _ALLOWED,
        setting=SECTION,
        code="unknown-setting-of-report",
        values={"path": str(origin), "table": table, "key": key, "allowed": ", ".join(known), "meant": meant},
    )


SYSTEM_FILE = Path("/etc/evergreen-groups/config.toml")
"""The machine-wide configuration file."""


def find_file(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to use: the given one, the environment's, the user's, or the system's.

    Raises:
        ConfigurationError: a file that was named explicitly doesn't exist.
    """
    named = explicit or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(
                "no configuration file at {path}",
                advice="make one with evergreen-groups init, or name one with --config",
                code="no-configuration-file",
                values={"path": named},
            )
        return named
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")
    candidates = (home / "evergreen-groups" / "config.toml", SYSTEM_FILE)
    return next((path for path in candidates if path.is_file()), None)


def load(explicit: Path | None, environ: Mapping[str, str], schema: type[Settings] = Settings) -> Settings:
    """Read the settings from the configuration file and the environment."""
    return read(explicit, environ, schema).settings


def read(explicit: Path | None, environ: Mapping[str, str], schema: type[Settings] = Settings) -> Reading:
    """Read the configuration with positions. Errors are collected instead of raised."""
    faults: list[Fault] = []
    path, file = explicit, None
    try:
        path = find_file(explicit, environ)
        file = TomlFile.read(path) if path else None
    except ConfigurationError as error:
        faults.append(Fault(error, Origin(path)))
    return Reading(path, file, environ, schema, faults)
