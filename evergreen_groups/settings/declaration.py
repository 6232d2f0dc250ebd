"""Declares a setting once, as a field of a section, with :func:`setting`.

Everything else derives from the declarations: parsing of TOML and environment variables, error messages, command-line
options, the questions of ``init``, the example configuration, and the reference. To add a setting, add a field to a
section in :mod:`evergreen_groups.settings.sections`; nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

if TYPE_CHECKING:
    from evergreen_groups.settings.values import Kind

Section = TypeVar("Section")
Schema = TypeVar("Schema")


@dataclass(frozen=True, slots=True)
class Option:
    """A command-line option that overrides a setting in some commands.

    ``help`` defaults to the first sentence of the setting's help. ``kind`` defaults to the setting's own.
    """

    flag: str
    commands: tuple[str, ...]
    help: str = ""
    kind: Kind[Any] | None = None

    @property
    def name(self) -> str:
        """The name of the command's parameter."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True, slots=True)
class Question:
    """A question that ``init`` asks about a setting.

    ``empty`` describes what an empty answer means. Without it, the setting's default is offered, and if there is none
    an answer is required. With ``opens_section``, an empty answer leaves out the whole section. It isn't asked if the
    setting ``unless`` (a key) is set.
    """

    text: str
    empty: str = ""
    opens_section: bool = False
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Secret:
    """The secret in the file that a setting names.

    ``name`` is the secret's name in messages, ``variable`` the environment variable that may contain it, ``credential``
    the name of the systemd credential. ``account`` is the setting of the same section with the account's name; ``init``
    asks for the secret after it. ``shortest`` is the minimum length in characters.
    """

    name: str
    credential: str
    variable: str | None = None
    account: str | None = None
    shortest: int = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """A declared setting. ``section`` and ``name`` are its position in the settings."""

    section: str
    name: str
    kind: Kind[Any]
    default: Any
    help: str
    example: object = None
    essential: bool = False
    options: tuple[Option, ...] = ()
    question: Question | None = None
    secret: Secret | None = None

    @property
    def key(self) -> str:
        """The name with the section, ``report.min_total``."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that overrides the file."""
        return f"EVERGREEN_GROUPS_{self.section}_{self.name}".upper()

    @property
    def summary(self) -> str:
        """The first sentence of the help, without the period."""
        return self.help.partition(". ")[0].removesuffix(".")

    @property
    def explanation(self) -> str:
        """The whole help, and the other places where a secret may be."""
        if self.secret is None:
            return self.help
        places = [f"${self.secret.variable}"] if self.secret.variable else []
        places.append(
            f'the systemd credential "{self.secret.credential}" (LoadCredential={self.secret.credential}:/path/to/file)'
        )
        return f"{self.help} Or use {' or '.join(places)} instead."

    def option(self, command: str) -> Option | None:
        """Return the setting's option in a command, or None."""
        return next((option for option in self.options if command in option.commands), None)


def setting(default: Any = None, *, help: str, options: tuple[Option, ...] | Option = (), **more: Any) -> Any:
    """Declare a setting: ``timeout: Annotated[int, kind] = setting(60, help=...)``.

    The field's name is the key, and ``more`` are further fields of :class:`Setting`. The first sentence of ``help`` is
    the text for ``--help``. The example configuration shows ``example`` in place of the default. An ``essential``
    setting is needed by every installation, so it isn't commented out there.
    """
    several = (options,) if isinstance(options, Option) else options
    return field(default=default, metadata={"help": help, "options": several, **more})


def section(kind: type[Section], help: str) -> Section:
    """Declare a section. The field's name is the section's name."""
    return field(default_factory=kind, metadata={"help": help})


def declared_sections(schema: type) -> Mapping[str, tuple[Setting, ...]]:
    return {part.name: declared_in(part.name, part.default_factory) for part in fields(schema) if part.metadata}


def declared_in(section: str, schema: Any) -> tuple[Setting, ...]:
    """Return the settings that a dataclass declares for the section named ``section``."""
    return tuple(
        Setting(section, entry.name, get_args(entry.type)[1], entry.default, **entry.metadata)
        for entry in fields(schema)
        if entry.metadata
    )


def declared(schema: type) -> tuple[Setting, ...]:
    return tuple(setting for settings in declared_sections(schema).values() for setting in settings)


def section_help(schema: type) -> Mapping[str, str]:
    return {part.name: part.metadata["help"] for part in fields(schema) if part.metadata}


def with_values(settings: Schema, values: Mapping[str, object]) -> Schema:
    """Return a copy of the settings with other values for some keys (``report.min_total``)."""
    by_section: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        name, _, entry = key.partition(".")
        by_section.setdefault(name, {})[entry] = value
    changed = {name: replace(getattr(settings, name), **entries) for name, entries in by_section.items()}
    return replace(settings, **changed)  # type: ignore[type-var]  # a dataclass with sections


def value_of(settings: object, wanted: Setting) -> Any:
    return getattr(getattr(settings, wanted.section), wanted.name)
