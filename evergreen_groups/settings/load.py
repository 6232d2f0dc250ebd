"""Configuration: a TOML file and environment variables become one frozen :class:`Settings` object.

An environment variable ``EVERGREEN_GROUPS_<SECTION>_<KEY>`` outweighs the file. Unknown keys, unknown variables and bad
values are errors that name the line, the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings.reading import Fault, Reading
from evergreen_groups.settings.sections import Settings
from evergreen_groups.settings.toml_file import Origin, TomlFile
from evergreen_groups.settings.variables import CONFIG_VARIABLE

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
                advice="make one with evergreen-groups init, or name one with --config",
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
        ConfigurationError: a file that can't be read, an unknown key or variable, or a value that isn't allowed.
    """
    return read(explicit, environ, schema).settings


def read(explicit: Path | None, environ: Mapping[str, str], schema: type[Settings] = Settings) -> Reading:
    """Read the same, and say of each value where it stands; all that is wrong is among its faults."""
    faults: list[Fault] = []
    path, file = explicit, None
    try:
        path = find_file(explicit, environ)
        file = TomlFile.read(path) if path else None
    except ConfigurationError as error:
        faults.append(Fault(error, Origin(path)))
    return Reading(path, file, environ, schema, faults)
