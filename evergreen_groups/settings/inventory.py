"""Every setting with its value and where that comes from, to be shown; nothing secret is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.policy import LimitRule
from evergreen_groups.settings.declaration import declared_sections
from evergreen_groups.settings.named_reports import SECTION
from evergreen_groups.settings.passwords import origin_of_secret
from evergreen_groups.settings.sections import Settings
from evergreen_groups.settings.toml import default_of, raw_toml
from evergreen_groups.settings.toml_file import Origin

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Setting
    from evergreen_groups.settings.reading import Reading

SECRET = "***"  # noqa: S105 - what stands for one
_PASSWORD_IN_ADDRESS = re.compile(r"(://[^/@:\"]*):[^/@\"]*@")


@dataclass(frozen=True, slots=True)
class KnownValue:
    """A value that counts. ``toml`` is how TOML writes it, ``plain`` how JSON does; both are empty where none is set.

    ``default`` is the setting's own as TOML. ``table`` is the number of a table of ``[[reports]]``, from 1. A secret
    has the setting that names its file as ``key``, and its own name behind it.
    """

    section: str
    name: str
    toml: str
    plain: Any
    origin: Origin
    default: str = ""
    is_secret: bool = False
    table: int | None = None

    @property
    def key(self) -> str:
        """Its name with its section."""
        return f"{self.section}.{self.name}"

    @property
    def is_changed(self) -> bool:
        """Whether it isn't the default."""
        return self.toml != self.default


def known_values(reading: Reading, environ: Mapping[str, str]) -> Iterator[KnownValue]:
    """Every setting's value, in the order of the settings, with the secrets that are there."""
    for section, settings in declared_sections(Settings).items():
        for setting in settings:
            value = reading.values.get(setting.key, setting.default)
            toml = "" if value is None and setting.default is None else _toml(setting, value)
            plain = None if value is None and setting.default is None else _plain(setting, value)
            origin = reading.origin(setting) if setting.key in reading.values else Origin()
            yield KnownValue(section, setting.name, toml, plain, origin, default_of(setting))
            if setting.secret is not None:
                file = value if isinstance(value, Path) else None
                if (place := origin_of_secret(setting, file, environ)) is not None:
                    yield KnownValue(section, setting.secret.name, SECRET, SECRET, place, is_secret=True)
    for number, (table, _origin) in enumerate(reading.tables, 1):
        for name, value in table.items():
            origin = reading.place_in_table(number - 1, name)
            yield KnownValue(SECTION, name, raw_toml(value), _json(value), origin, table=number)


def _toml(setting: Setting, value: Any) -> str:
    if setting.kind.empty == "{}":
        value = dict(value)
    return _hidden(setting.kind.empty if value == () else raw_toml(value))


def _plain(setting: Setting, value: Any) -> Any:
    return _json(dict(value) if setting.kind.empty == "{}" else "none" if value is None else value)


def _json(value: Any) -> Any:
    """A value as JSON has it; amounts are strings, as everywhere."""
    match value:
        case LimitRule():
            rule = {"profile": value.profile, "library": value.library, "comparison": value.comparison}
            known = {name: _json(entry) for name, entry in rule.items() if entry is not None}
            return {**known, "limit": "none" if value.amount is None else str(value.amount)}
        case dict():
            return {key: _json(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_json(entry) for entry in value]
        case bool() | int() | None:
            return value
        case Enum():
            return value.value
        case _:
            return _hidden(str(value))


def _hidden(text: str) -> str:
    """A text without the password that an address may have in it.

    >>> _hidden("redis://me:open-sesame@db.example.org/1")
    'redis://me:***@db.example.org/1'
    """
    return _PASSWORD_IN_ADDRESS.sub(rf"\1:{SECRET}@", text)
