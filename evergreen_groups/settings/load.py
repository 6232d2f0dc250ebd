"""Configuration: a TOML file and environment variables become one frozen :class:`Settings` object.

An environment variable ``EVERGREEN_GROUPS_<SECTION>_<KEY>`` outweighs the file. Unknown keys and bad values are
errors that name the key, the value and what is allowed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import FILE_FORMATS, REPORT_FORMATS, SPLITS
from evergreen_groups.settings import values
from evergreen_groups.settings.sections import (
    EventsSettings,
    GatewaySettings,
    HistorySettings,
    MailSettings,
    PolicySettings,
    ReportSettings,
    ServeSettings,
    Settings,
)
from evergreen_groups.settings.values import NotAllowedError

CONFIG_VARIABLE = "EVERGREEN_GROUPS_CONFIG"
SYSTEM_FILE = Path("/etc/evergreen-groups/config.toml")
"""Where the configuration of the whole machine is."""

_SECTIONS: dict[str, Any] = {
    "gateway": GatewaySettings,
    "policy": PolicySettings,
    "report": ReportSettings,
    "history": HistorySettings,
    "mail": MailSettings,
    "serve": ServeSettings,
    "events": EventsSettings,
}

_SECRETS = ("password", "secret")

_CONVERTERS: dict[str, dict[str, Callable[[object], object]]] = {
    "gateway": {
        "url": values.url,
        "username": values.text,
        "password_file": values.path,
        "workstation": values.text,
        "locale": values.locale,
        "timeout": values.whole_number(1, 600),
        "concurrency": values.whole_number(1, 16),
        "ca_bundle": values.path,
        "allow_plain_http": values.boolean,
    },
    "policy": {
        "limit": values.limit_or_ils,
        "comparison": values.comparison,
        "limits": values.limit_rules,
    },
    "report": {
        "min_total": values.amount_above_zero,
        "min_members": values.whole_number(1, 1_000_000),
        "orgs": values.texts,
        "format": values.one_of(*REPORT_FORMATS),
        "output": values.path,
        "split": values.one_of(*SPLITS),
        "formats": values.file_formats,
        "keep_days": values.whole_number(1, 100_000),
        "deadline": values.whole_number(1, 86_400),
        "healthcheck_url": values.url,
    },
    "history": {"keep_days": values.whole_number(1, 100_000)},
    "mail": {
        "host": values.host,
        "port": values.whole_number(1, 65_535),
        "security": values.one_of("starttls", "tls", "none"),
        "ca_bundle": values.path,
        "username": values.text,
        "password_file": values.path,
        "sender": values.mail_address,
        "recipients": values.recipients,
        "subject": values.template("date", "groups", "members", "total", "libraries"),
        "names_in_mail": values.boolean,
        "attach": values.one_of("none", *FILE_FORMATS),
        "link": values.template("date", "library"),
        "send_empty": values.boolean,
        "timeout": values.whole_number(1, 600),
        "tries": values.whole_number(1, 5),
        "spool": values.path,
        "keep_days": values.whole_number(1, 365),
    },
    "serve": {
        "host": values.text,
        "port": values.whole_number(0, 65535),
        "threads": values.whole_number(2, 64),
        "origin": values.origin,
        "timeout": values.whole_number(1, 60),
        "rate_limit": values.whole_number(1, 1_000_000),
        "trusted_proxies": values.networks,
        "report": values.path,
    },
    "events": {
        "secret_file": values.path,
        "allow": values.networks,
        "recalculate": values.boolean,
        "deadline": values.whole_number(1, 120),
    },
}


def find_file(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Say which configuration file counts: the one named, the environment's, the user's own, the system's.

    Raises:
        ConfigurationError: a file that was named explicitly isn't there.
    """
    named = explicit or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(f"no configuration file at {named}: create it, or name another with --config")
        return named
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")
    candidates = (home / "evergreen-groups" / "config.toml", SYSTEM_FILE)
    return next((path for path in candidates if path.is_file()), None)


def load(explicit: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from the file that counts and the environment.

    Raises:
        ConfigurationError: a file that can't be read, an unknown key, or a value that isn't allowed.
    """
    path = find_file(explicit, environ)
    document = _read(path) if path else {}
    for name, content in document.items():
        if name not in _SECTIONS or not isinstance(content, dict):
            raise ConfigurationError(f"{path}: unknown section [{name}]; allowed are [{'], ['.join(_SECTIONS)}]")
    sections = {name: _section(name, kind, document.get(name, {}), path, environ) for name, kind in _SECTIONS.items()}
    return Settings(**sections, source=path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}; let this user read it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


def _section(name: str, kind: Any, content: dict[str, Any], path: Path | None, environ: Mapping[str, str]) -> Any:
    known = _CONVERTERS[name]
    for key in content:
        if key in _SECRETS:
            raise ConfigurationError(f"{path}: [{name}] {key}: a {key} belongs in its own file: {key}_file")
        if key not in known:
            raise ConfigurationError(f"{path}: [{name}] {key}: unknown key; allowed are {', '.join(known)}")
    values = {}
    for key, convert in known.items():
        variable = f"EVERGREEN_GROUPS_{name.upper()}_{key.upper()}"
        if environ.get(variable):
            origin, value = f"${variable}", environ[variable]
        elif key in content:
            origin, value = f"{path}: [{name}] {key}", content[key]
        else:
            continue
        try:
            values[key] = convert(value)
        except NotAllowedError as problem:
            raise ConfigurationError(f"{origin}: {value!s:.80} isn't allowed; it takes {problem}") from None
    return kind(**values)
