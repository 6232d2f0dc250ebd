"""Writes settings as TOML: the example configuration, the file that ``init`` creates, and the values in use.

``python -m evergreen_groups.settings.toml > config/evergreen-groups.toml`` updates the example.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.policy import LimitRule
from evergreen_groups.settings.declaration import declared_sections, section_help, value_of
from evergreen_groups.settings.passwords import origin_of_secret
from evergreen_groups.settings.reading import Origin
from evergreen_groups.settings.sections import HELP, SECTION, Settings
from evergreen_groups.settings.values import LetterTexts

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Setting
    from evergreen_groups.settings.reading import Reading

_WIDTH = 118
_EXAMPLE_HEAD = """\
# Configuration of evergreen-groups. Copy it to /etc/evergreen-groups/config.toml (or
# ~/.config/evergreen-groups/config.toml) and uncomment what you need. Commented lines show the default or, if they end
# in "# example", an example.
#
# Environment variables override this file: EVERGREEN_GROUPS_SECTION_KEY, for example
# EVERGREEN_GROUPS_REPORT_MIN_TOTAL=40.00. See docs/settings.md for allowed values.
"""
_EXAMPLE_REPORT = """\
#   [[reports]]
#   name = "old-debts"
#   owing_since = 365
#   min_total = 50.00
#   output = "/var/lib/evergreen-groups/old-debts"
#   split = "library"
#   recipients = {"*" = ["director@example.org"]}
#   link = "https://evergreen.example.org/evergreen-groups/reports/named/old-debts/latest/{library}"
"""
_FIRST_HEAD = """\
# Configuration of evergreen-groups, created by "evergreen-groups init". For all other settings, see
# "evergreen-groups config example". Check the installation with "evergreen-groups doctor".
"""


def example(schema: type = Settings) -> str:
    """Return the example configuration: every setting with its help, and its default or an example."""
    helps = section_help(schema)
    parts = [_EXAMPLE_HEAD]
    for name, settings in declared_sections(schema).items():
        parts.append(f"{_comment(helps[name])}\n[{name}]\n" + "\n".join(map(_example_entry, settings)))
    # [[reports]] comes last, because keys after it would belong to its table.
    parts.append(f"{_comment(HELP)}\n{_EXAMPLE_REPORT}")
    return "\n".join(parts)


def initial_configuration(settings: Settings, reports: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return the configuration file that ``init`` writes: settings that it asks about or that differ from the default.

    ``reports`` are the tables of an existing ``[[reports]]``. A section is omitted if its opening question got an empty
    answer.

    >>> from evergreen_groups.settings.sections import GatewaySettings
    >>> first = initial_configuration(Settings(gateway=GatewaySettings(url="https://evergreen.example.org")))
    >>> [line for line in first.splitlines() if line.startswith("url")]
    ['url = "https://evergreen.example.org"']
    """
    parts = [_FIRST_HEAD]
    for name, known in declared_sections(type(settings)).items():
        values = {setting.name: value_of(settings, setting) for setting in known}
        asked = {setting.name: setting.question for setting in known if setting.question is not None}
        written = [
            setting
            for setting in known
            if values[setting.name] != setting.default
            or (setting.name in asked and values[setting.name] not in (None, ()))
        ]
        if written and not any(values[name] is None for name, question in asked.items() if question.opens_section):
            lines = (f"{_comment(s.summary)}.\n{s.name} = {as_toml(_plain(s, values[s.name]))}" for s in written)
            parts.append("\n".join([f"[{name}]", *lines, ""]))
    for table in reports:
        parts.append("\n".join(["[[reports]]", *(f"{_key(key)} = {as_toml(table[key])}" for key in table), ""]))
    return "\n".join(parts)


def as_toml(value: Any) -> str:
    """Return a value in TOML, with tables inline. None becomes "none".

    >>> as_toml((True, Decimal("5.00"), "a")), as_toml({"BR1": ["a@b.example"], "*": []})
    ('[true, 5.00, "a"]', '{BR1 = ["a@b.example"], "*" = []}')
    """
    match value:
        case bool():
            return str(value).lower()
        case int() | Decimal():
            return str(value)
        case list() | tuple():
            return f"[{', '.join(map(as_toml, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {as_toml(entry)}' for key, entry in value.items())}}}"
    text = "none" if value is None else str(value.value if isinstance(value, Enum) else value)
    # JSON strings are valid in TOML, except that TOML also requires DEL to be escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(setting: Setting, value: Any) -> Any:
    """Return a value in the form that TOML has: pairs as a table, and each record as a table."""
    if setting.kind.empty == "{}":
        return dict(value)
    return tuple(map(_table_of, value)) if isinstance(value, tuple) else value


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else as_toml(key)


def _table_of(value: Any) -> Any:
    match value:
        case LetterTexts():
            return {name: text for name, text in asdict(value).items() if text is not None}
        case LimitRule(profile, library, amount, comparison):
            known = {"profile": profile, "library": library, "comparison": comparison}
            limit = "none" if amount is None else amount
            return {**{name: entry for name, entry in known.items() if entry is not None}, "limit": limit}
    return value


def default_of(setting: Setting) -> str:
    """Return a setting's default in TOML, or "" if there is none."""
    if setting.default is None:
        return ""
    return setting.kind.empty if setting.default == () else as_toml(setting.default)


def _example_entry(setting: Setting) -> str:
    shown = default_of(setting) if setting.example is None else as_toml(setting.example)
    mark = "" if setting.example is None or setting.essential else "  # example"
    return f"{_comment(setting.explanation)}\n{'' if setting.essential else '# '}{setting.name} = {shown}{mark}\n"


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(example())


SECRET = "***"  # noqa: S105 - the mask that is displayed in place of a secret
_PASSWORD_IN_URL = re.compile(r"(://[^/@:\"]*):[^/@\"]*@")


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """A value in use, as TOML (``toml``) and as JSON (``plain``); "" and None if it isn't set.

    ``default`` is the setting's default in TOML. ``table`` is the number of a table in ``[[reports]]``, from 1. A
    secret is a separate value in the section of the setting that names its file.
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
        return f"{self.section}.{self.name}"

    @property
    def is_changed(self) -> bool:
        """Whether the value differs from the default."""
        return self.toml != self.default


def effective_values(reading: Reading, environ: Mapping[str, str]) -> Iterator[EffectiveValue]:
    """Yield the values of all settings in order, with the existing secrets masked."""
    for section, settings in declared_sections(Settings).items():
        for setting in settings:
            value: Any = reading.values.get(setting.key, setting.default)
            toml, plain = "", None
            if value is not None or setting.default is not None:
                shown = _plain(setting, value)
                toml = _mask_password(setting.kind.empty if value == () else as_toml(shown))
                plain = _json("none" if value is None else shown)
            origin = reading.origin(setting) if setting.key in reading.values else Origin()
            yield EffectiveValue(section, setting.name, toml, plain, origin, default_of(setting))
            if setting.secret is not None:
                file = value if isinstance(value, Path) else None
                if (place := origin_of_secret(setting, file, environ)) is not None:
                    yield EffectiveValue(section, setting.secret.name, SECRET, SECRET, place, is_secret=True)
    for number, table in enumerate(reading.tables, 1):
        for name, value in table.items():
            origin = reading.position(SECTION, number - 1, name)
            yield EffectiveValue(SECTION, name, as_toml(value), _json(value), origin, table=number)


def _json(value: Any) -> Any:
    """Convert a value for JSON. Amounts are strings, as in all JSON documents here."""
    from msgspec import to_builtins  # imported late: the options need this module, but --help no JSON

    return _mask_password(value) if isinstance(value, str) else to_builtins(value, enc_hook=str)


def _mask_password(text: str) -> str:
    """Mask the password in a URL.

    >>> _mask_password("redis://me:open-sesame@db.example.org/1")
    'redis://me:***@db.example.org/1'
    """
    return _PASSWORD_IN_URL.sub(rf"\1:{SECRET}@", text)
