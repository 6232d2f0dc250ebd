"""How a setting is declared, once: a field of a section made by :func:`setting`.

Everything else is made from the declarations: reading TOML and environment, the messages, the options of the commands,
the questions of ``init``, the example configuration, and the reference. So whoever adds a setting adds a field to a
section in :mod:`evergreen_groups.settings.sections`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings.values import NotAllowedError

if TYPE_CHECKING:
    from evergreen_groups.settings.values import Kind

_SETTING, _HELP = "setting", "help"
Value = TypeVar("Value")
Default = TypeVar("Default")
Section = TypeVar("Section")
Schema = TypeVar("Schema")


@dataclass(frozen=True, slots=True)
class Option:
    """An option that stands for a setting in some commands.

    ``help`` is the setting's own first sentence with its default unless given; ``{default}`` in it is the default.
    ``kind`` is the setting's own unless given.
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
    """What ``init`` asks.

    ``empty`` says what an answer of nothing stands for, and so that it is one; without it, the default is offered,
    and where there is none, something has to be said. ``opens_section``: without an answer, the section is left out.
    """

    text: str
    empty: str = ""
    opens_section: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """The secret in the file that a setting names.

    ``name`` is what people call it, ``variable`` the environment's variable that may hold it, ``credential`` systemd's;
    ``account`` is the setting of the same section that says whose it is, after which ``init`` asks for it.
    ``shortest`` is how many characters it has at least.
    """

    name: str
    credential: str
    variable: str | None = None
    account: str | None = None
    shortest: int = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as it was declared; ``section`` and ``name`` are where."""

    kind: Kind[Any]
    default: Any
    help: str
    example: object = None
    sample: str = ""
    essential: bool = False
    options: tuple[Option, ...] = ()
    question: Question | None = None
    secret: Secret | None = None
    section: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """Its name with its section, ``report.min_total``."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment's variable that outweighs the file."""
        return f"EVERGREEN_GROUPS_{self.section}_{self.name}".upper()

    @property
    def summary(self) -> str:
        """The first sentence of its help, without the full stop."""
        return self.help.partition(". ")[0].removesuffix(".")

    @property
    def explanation(self) -> str:
        """All of its help, and where else its secret can be."""
        if self.secret is None:
            return self.help
        places = [f"${self.secret.variable}"] if self.secret.variable else []
        places.append(
            f'the systemd credential "{self.secret.credential}" (LoadCredential={self.secret.credential}:/path/to/file)'
        )
        return f"{self.help} In its place: {', or '.join(places)}."

    def option(self, command: str) -> Option | None:
        """Its option in a command; None where it has none."""
        return next((option for option in self.options if command in option.commands), None)

    def read(self, value: object, origin: str) -> Any:
        """Check and convert a value; ``origin`` says where it stands.

        Raises:
            ConfigurationError: it isn't allowed.
        """
        try:
            return self.kind(value)
        except NotAllowedError as problem:
            raise ConfigurationError(
                "{origin}: {value} isn't allowed",
                advice="it takes {allowed}",
                setting=self.key,
                code="setting-not-allowed",
                values={"origin": origin, "value": f"{value!s:.80}", "allowed": problem.allowed},
            ) from None


def setting(  # noqa: PLR0913 - a setting is all that, by name
    kind: Kind[Value],
    default: Default,
    *,
    help: str,
    example: object = None,
    sample: str = "",
    essential: bool = False,
    options: tuple[Option, ...] = (),
    asked: Question | None = None,
    secret: Secret | None = None,
) -> Value | Default:
    """Declare a setting; the field's name is its key.

    ``help`` is sentences, the first of which stands for all in ``--help``. ``example`` is a value to show where the
    default is None, ``sample`` some lines of TOML. ``essential``: every installation sets it, so the example does.
    """
    declared = Setting(kind, default, help, example, sample, essential, options, asked, secret)
    return field(default=default, metadata={_SETTING: declared})


def section(kind: type[Section], help: str) -> Section:
    """Declare a section; the field's name is its name."""
    return field(default_factory=kind, metadata={_HELP: help})


def declared_sections(schema: type) -> Mapping[str, tuple[Setting, ...]]:
    """The sections of the settings in order, with what is declared in each."""
    return {part.name: declared_in(part.name, part.default_factory) for part in _parts(schema)}


def declared_in(section: str, schema: type) -> tuple[Setting, ...]:
    """The settings of one section, whose name is ``section``."""
    return tuple(
        replace(entry.metadata[_SETTING], section=section, name=entry.name)
        for entry in fields(schema)
        if _SETTING in entry.metadata
    )


def declared(schema: type) -> tuple[Setting, ...]:
    """Every setting, in order."""
    return tuple(setting for settings in declared_sections(schema).values() for setting in settings)


def section_help(schema: type) -> Mapping[str, str]:
    """What each section is about."""
    return {part.name: part.metadata[_HELP] for part in _parts(schema)}


def with_values(settings: Schema, values: Mapping[str, object]) -> Schema:
    """The settings with other values for some keys (``report.min_total``)."""
    by_section: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        name, _, entry = key.partition(".")
        by_section.setdefault(name, {})[entry] = value
    changed = {name: replace(getattr(settings, name), **entries) for name, entries in by_section.items()}
    return replace(settings, **changed)  # type: ignore[type-var]  # a dataclass with sections


def value_of(settings: object, wanted: Setting) -> Any:
    """What a setting is."""
    return getattr(getattr(settings, wanted.section), wanted.name)


def _parts(schema: type) -> Iterator[Any]:
    return (part for part in fields(schema) if _HELP in part.metadata)
