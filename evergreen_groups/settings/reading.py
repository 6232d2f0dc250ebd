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
from evergreen_groups.settings.sections import (
    SECTION,
    NamedReport,
    Settings,
    own_settings,
    replacing,
    require_conditions,
    shared_settings,
)
from evergreen_groups.settings.values import NotAllowedError, closest_name

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
    document, first = "", 1
    # Each statement is parsed with everything before it: that takes time only where an error or `config show` asks.
    for number, line in enumerate(text.split("\n"), 1):
        if first == number and line.lstrip()[:1] in ("", "#"):  # between statements
            first += 1
            continue
        document += f"{line}\n"
        try:
            parsed = tomllib.loads(document)
        except (ValueError, RecursionError):  # the statement continues on the next line
            continue
        for keys in _key_paths(parsed):
            found.setdefault(keys, first)
        first = number + 1
    return found


def _key_paths(table: Mapping[str, Any], place: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in table.items():
        yield (*place, key)
        entries = value if isinstance(value, list) else []
        for number, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield (*place, key, number)
                yield from _key_paths(entry, (*place, key, number))
        if isinstance(value, dict):
            yield from _key_paths(value, (*place, key))


_IS_MEANT = Message("did you mean {meant}?")
_ALLOWED = Message("allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in the configuration with its position. The error's text names the position too."""

    error: ConfigurationError
    origin: Origin


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
        self._declared = declared(schema)
        self._faults = list(faults)
        self.values: dict[str, object] = {}
        """The valid values by key (``report.min_total``)."""
        sections = declared_sections(schema)
        for name, table in self._content.items():
            if name != SECTION and not (name in sections and isinstance(table, dict)):
                self._refuse_section(name, [*sections, SECTION], is_value=not isinstance(table, dict))
        settings = schema(source=source)
        for name, known in sections.items():
            read = self._read_table((name,), f"[{name}]", self._section(name), known, environ)
            values = {f"{name}.{key}": value for key, value in read.items()}
            self.values |= values
            if name == "report":
                read = replacing(read)
            try:
                settings = with_values(settings, {f"{name}.{key}": value for key, value in read.items()})
                if name == "report":
                    require_conditions(settings.report, settings.report)
            except ConfigurationError as error:
                self._refuse_combination(error)
        self.valid_settings = replace(settings, reports=self._named_reports(settings.report))
        """The settings without invalid values. A section whose values contradict each other has its defaults."""
        self._refuse_unknown_variables()
        self.faults = sorted(self._faults, key=lambda fault: fault.origin.line or 1_000_000)
        """All errors: those in the file by line, then the others."""

    @property
    def settings(self) -> Settings:
        """The settings."""
        if self.faults:
            raise self.faults[0].error
        return self.valid_settings

    @property
    def is_unreadable(self) -> bool:
        """Whether the file can't be parsed, or was named explicitly and doesn't exist."""
        return self.source is not None and self._file is None

    @property
    def tables(self) -> Sequence[Mapping[str, Any]]:
        """The tables of ``[[reports]]`` as written."""
        tables = self._content.get(SECTION)
        return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []

    def position(self, *keys: str | int) -> Origin:
        """Return the position in the file of a key, or of a table of ``[[reports]]`` (numbered from 0)."""
        return self._file.origin(*keys) if self._file else Origin(self.source)

    def origin(self, setting: Setting) -> Origin:
        """Return where a setting's value comes from."""
        if self._environ.get(setting.variable):
            return Origin(variable=setting.variable)
        is_set = setting.name in self._section(setting.section)
        return self.position(setting.section, setting.name) if is_set else Origin()

    def origin_of_key(self, key: str | None) -> Origin:
        """Return where to correct a key (``report.min_total``): where it is set, or else its section."""
        origins = (self.origin(setting) for setting in self._declared if setting.key == key)
        found = next(origins, Origin())
        return self.position((key or "").partition(".")[0]) if found == Origin() else found

    @property
    def _content(self) -> Mapping[str, Any]:
        return self._file.content if self._file else {}

    def _section(self, name: str) -> Mapping[str, Any]:
        table = self._content.get(name)
        return table if isinstance(table, dict) else {}

    def _read_table(
        self, place: KeyPath, label: str, table: Mapping[str, Any], known: Sequence[Setting], environ: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return a table's valid values by name, those from the environment first. ``label`` names it in errors."""
        names = [setting.name for setting in known]
        for key in table:
            if key not in names:
                self._refuse_key((*place, key), label, known)
        values = {}
        for setting in known:
            # An empty variable counts as unset.
            variable = environ.get(setting.variable)
            value = variable or table.get(setting.name)
            if value is None:
                continue
            if isinstance(value, dict):
                # In TOML, a key of the section that follows one of its tables belongs to that table.
                for key in [key for key in value if key in names]:
                    self._refuse_key((*place, setting.name, key), f"[{setting.key}]", (), f"{label} {key}")
                value = {key: entry for key, entry in value.items() if key not in names}
            try:
                values[setting.name] = setting.kind(value)
            except NotAllowedError as problem:
                origin = Origin(variable=setting.variable) if variable else self.position(*place, setting.name)
                where = str(origin) if variable else f"{origin}: {label} {setting.name}"
                self._faults.append(Fault(_not_allowed(setting, value, where, problem), origin))
        return values

    def _refuse_key(self, place: KeyPath, label: str, known: Sequence[Setting], meant: str = "") -> None:
        """Refuse an unknown key, and suggest a similar one, the same key of another section, or all that are known."""
        origin, key = self.position(*place), str(place[-1])
        names = [setting.name for setting in known]
        where = {"path": str(origin), "table": label, "key": key}
        file = next((setting for setting in known if setting.secret and setting.secret.name == key), None)
        if file is not None:
            error = ConfigurationError(
                "{path}: {table} {key}: passwords and secrets aren't allowed here",
                advice="put it in a file that only this user can read, and set {file} to its path",
                setting=file.key,
                code="secret-in-configuration",
                values={**where, "file": file.name},
            )
        else:
            others = (f"[{setting.section}] {key}" for setting in self._declared if setting.name == key)
            meant = meant or closest_name(key, names) or next(others, "")
            error = ConfigurationError(
                "{path}: {table} {key}: unknown key",
                advice=_IS_MEANT if meant else _ALLOWED,
                setting=".".join(name for name in place if isinstance(name, str)),
                code="unknown-setting",
                values={**where, "allowed": ", ".join(names), "meant": meant},
            )
        self._faults.append(Fault(error, origin))

    def _refuse_section(self, name: str, known: Sequence[str], *, is_value: bool) -> None:
        """Suggest a section with a similar name; for a plain value, suggest the setting that it may belong to."""
        origin = self.position(name)
        settings = (one for one in self._declared if is_value and name in (one.name, one.section))
        similar = None if is_value else closest_name(name, known)
        meant = f"[{similar}]" if similar else next((f"[{one.section}] {one.name}" for one in settings), "")
        allowed = ", ".join(f"[{section}]" for section in known)
        error = ConfigurationError(
            "{path}: unknown section [{section}]",
            advice=_IS_MEANT if meant else _ALLOWED,
            code="unknown-section",
            values={"path": str(origin), "section": name, "allowed": allowed, "meant": meant},
        )
        self._faults.append(Fault(error, origin))

    def _refuse_combination(self, error: ConfigurationError, origin: Origin | None = None) -> None:
        """Add the position to an error about settings that contradict each other."""
        origin = origin or self.origin_of_key(error.setting)
        located = ConfigurationError(
            "{path}: {problem}",
            advice=error.advice,
            setting=error.setting,
            code=error.code,
            values={**error.values, "path": str(origin), "problem": Message(error.message, values=error.values)},
        )
        self._faults.append(Fault(located, origin))

    def _refuse_unknown_variables(self) -> None:
        """Refuse each variable with our prefix that doesn't exist, and suggest the one that was probably meant.

        Empty variables are ignored, because they count as unset. A variable's value is in no message; it may be a
        password.
        """
        secrets = [(setting, setting.secret) for setting in self._declared if setting.secret is not None]
        known = {CONFIG_VARIABLE, LOG_FORMAT_VARIABLE, *(setting.variable for setting in self._declared)}
        known |= {secret.variable for _setting, secret in secrets if secret.variable is not None}
        names = {variable.removeprefix(PREFIX): variable for variable in sorted(known)}
        # The value itself instead of its file is a frequent mistake.
        of_secrets = {
            f"{one.section}_{secret.name}".upper(): secret.variable or one.variable for one, secret in secrets
        }
        for variable, value in sorted(self._environ.items()):
            name = variable.upper().removeprefix(PREFIX)
            if not value or not variable.upper().startswith(PREFIX) or variable in known:
                continue
            meant = of_secrets.get(name) or names.get(closest_name(name, names) or "")
            unset = Message("unset it; `evergreen-groups config example` lists all settings")
            error = ConfigurationError(
                "${variable}: unknown variable",
                advice=unset if meant is None else Message("did you mean ${meant}?"),
                code="unknown-variable",
                values={"variable": variable, "meant": meant},
            )
            self._faults.append(Fault(error, Origin(variable=variable)))

    def _named_reports(self, report: ReportSettings) -> tuple[NamedReport, ...]:
        """Read the tables of ``[[reports]]``. ``report`` has the defaults. Tables with faults are left out."""
        written = self._content.get(SECTION, [])
        if self.tables != written:
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
        shared = shared_settings()
        for number, table in enumerate(self.tables):
            read = self._read_table(
                (SECTION, number), f"[[reports]] {number + 1}", table, (*own_settings(), *shared), {}
            )
            if len(read) < len(table):
                continue
            of_report = {setting.name: read.pop(setting.name) for setting in shared if setting.name in read}
            one = NamedReport(report=replace(report, **{"output": None, **replacing(of_report)}), **read)
            try:
                require_conditions(one.report, one.report)
            except ConfigurationError as contradiction:
                self._refuse_combination(contradiction, self.position(SECTION, number))
                continue
            if not one.name or (one.report.output is None and not one.recipients):
                origin = self.position(SECTION, number)
                error = ConfigurationError(
                    "{path}: [[reports]] {number} needs a name, and an output or recipients",
                    setting=SECTION,
                    code="report-goes-nowhere",
                    values={"path": str(origin), "number": number + 1},
                )
                self._faults.append(Fault(error, origin))
            elif one.name.casefold() in found:
                origin = self.position(SECTION, number, "name")
                error = ConfigurationError(
                    "{path}: [[reports]] {number}: another report has the name {name}",
                    setting=f"{SECTION}.name",
                    code="report-named-twice",
                    values={"path": str(origin), "number": number + 1, "name": one.name},
                )
                self._faults.append(Fault(error, origin))
            else:
                found[one.name.casefold()] = one
        return tuple(found.values())


def _not_allowed(setting: Setting, value: object, where: str, problem: NotAllowedError) -> ConfigurationError:
    part = problem.part or value
    shown = f"{part!s:.80}"
    return ConfigurationError(
        "{origin}: {value} isn't allowed",
        advice="allowed: {allowed}",
        setting=setting.key,
        code="setting-not-allowed",
        values={
            "origin": where,
            "value": f'"{shown}"' if isinstance(part, str) else shown,
            "allowed": problem.allowed,
        },
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
