"""The variables of the environment that are the settings' own, and what isn't one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import LOG_FORMAT_VARIABLE
from evergreen_groups.settings.nearest import nearest

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Setting

PREFIX = "EVERGREEN_GROUPS_"
"""What they all begin with."""
CONFIG_VARIABLE = "EVERGREEN_GROUPS_CONFIG"
"""The one that names the configuration file."""


def known_variables(settings: Iterable[Setting]) -> Iterator[str]:
    """The variables that mean something."""
    yield from (CONFIG_VARIABLE, LOG_FORMAT_VARIABLE)
    for setting in settings:
        yield setting.variable
        if setting.secret is not None and setting.secret.variable is not None:
            yield setting.secret.variable


def unknown_variables(settings: Iterable[Setting], environ: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """The variables that look like ours and mean nothing, each with the one that may be meant.

    One that is empty is as good as not set, as those are that mean something.
    """
    settings = tuple(settings)
    known = {variable.removeprefix(PREFIX): variable for variable in known_variables(settings)}
    for variable, value in sorted(environ.items()):
        name = variable.upper().removeprefix(PREFIX)
        if value and variable.upper().startswith(PREFIX) and variable not in known.values():
            meant = _of_secrets(settings).get(name) or known.get(nearest(name, known) or "")
            yield variable, meant


def unknown_variable(variable: str, meant: str | None) -> ConfigurationError:
    """The error about one of them; its value is in no message."""
    if meant is None:
        return ConfigurationError(
            "${variable}: unknown variable",
            advice="unset it; `evergreen-groups config example` has the settings that there are",
            code="unknown-variable",
            values={"variable": variable},
        )
    return ConfigurationError(
        "${variable}: unknown variable",
        advice="if ${meant} is meant, set that; otherwise unset this one",
        code="unknown-variable",
        values={"variable": variable, "meant": meant},
    )


def _of_secrets(settings: Iterable[Setting]) -> dict[str, str]:
    """What people call the variables of secrets, with what those are called."""
    return {
        f"{setting.section}_{setting.secret.name}".upper(): setting.secret.variable or setting.variable
        for setting in settings
        if setting.secret is not None
    }
