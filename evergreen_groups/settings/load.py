"""Configuration: a TOML file and environment variables become one frozen :class:`Settings` object.

An environment variable ``EVERGREEN_GROUPS_<SECTION>_<KEY>`` outweighs the file. Unknown keys and bad values are
errors that name the key, the value and what is allowed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.settings import named_reports
from evergreen_groups.settings.declaration import declared_sections, with_values
from evergreen_groups.settings.sections import Settings

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Setting

CONFIG_VARIABLE = "EVERGREEN_GROUPS_CONFIG"
SYSTEM_FILE = Path("/etc/evergreen-groups/config.toml")
"""Where the configuration of the whole machine is."""


def find_file(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Say which configuration file counts: the one named, the environment's, the user's own, the system's.

    Raises:
        ConfigurationError: a file that was named explicitly isn't there.
    """
    named = explicit or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(
                "no configuration file at {path}",
                advice="create the file, or name another file with --config",
                code="no-configuration-file",
                values={"path": named},
            )
        return named
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")
    candidates = (home / "evergreen-groups" / "config.toml", SYSTEM_FILE)
    return next((path for path in candidates if path.is_file()), None)


def load(explicit: Path | None, environ: Mapping[str, str], schema: type[Settings] = Settings) -> Settings:
    """Read the settings from the file that counts and the environment.

    Raises:
        ConfigurationError: a file that can't be read, an unknown key, or a value that isn't allowed.
    """
    path = find_file(explicit, environ)
    document = _read(path) if path else {}
    tables = document.pop(named_reports.SECTION, [])
    sections = declared_sections(schema)
    for name, content in document.items():
        if name not in sections or not isinstance(content, dict):
            raise ConfigurationError(
                "{path}: unknown section [{section}]",
                advice="allowed are {allowed}",
                code="unknown-section",
                values={"path": path, "section": name, "allowed": ", ".join(f"[{known}]" for known in sections)},
            )
    found: dict[str, object] = {}
    for name, known in sections.items():
        found |= _section(name, known, document.get(name, {}), path, environ)
    settings = with_values(schema(source=path), found)
    reports = named_reports.read_named_reports(tables, path, settings.report)
    return replace(settings, reports=reports) if reports else settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigurationError(
            "{path}: cannot be read: {reason}",
            advice="let this user read it",
            code="configuration-unreadable",
            values={"path": path, "reason": system_reason(error)},
        ) from error
    except (ValueError, RecursionError) as error:  # of bad syntax, of a number of thousands of digits, of deep nesting
        reason = error if isinstance(error, ValueError) else Message("nested too deeply")
        raise ConfigurationError(
            "{path}: not valid TOML: {reason}", code="configuration-invalid", values={"path": path, "reason": reason}
        ) from error


def _section(
    name: str, known: tuple[Setting, ...], content: dict[str, Any], path: Path | None, environ: Mapping[str, str]
) -> dict[str, object]:
    """What is set in a section, by key (``report.min_total``)."""
    _refuse_unknown(name, known, content, path)
    found = {}
    for setting in known:
        if environ.get(setting.variable):
            found[setting.key] = setting.read(environ[setting.variable], f"${setting.variable}")
        elif setting.name in content:
            found[setting.key] = setting.read(content[setting.name], f"{path}: [{name}] {setting.name}")
    return found


def _refuse_unknown(name: str, known: tuple[Setting, ...], content: dict[str, Any], path: Path | None) -> None:
    names = [setting.name for setting in known]
    files = {setting.secret.name: setting for setting in known if setting.secret is not None}
    for key in content:
        where = {"path": path, "section": name, "key": key}
        if key in files:
            raise ConfigurationError(
                "{path}: [{section}] {key}: a password or secret belongs in a file of its own",
                advice="name that file with {file}",
                setting=files[key].key,
                code="secret-in-configuration",
                values={**where, "file": files[key].name},
            )
        if key not in names:
            raise ConfigurationError(
                "{path}: [{section}] {key}: unknown key",
                advice="allowed are {allowed}",
                setting=f"{name}.{key}",
                code="unknown-setting",
                values={**where, "allowed": ", ".join(names)},
            )
