"""Option values, checked by the same converters as the configuration's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from evergreen_groups.formats import AUDIT_FORMATS
from evergreen_groups.settings import NotAllowedError

Command = TypeVar("Command", bound=Callable[..., Any])


class Checked(click.ParamType[object]):
    """A parameter type made from a converter of :mod:`evergreen_groups.settings.values`."""

    def __init__(self, name: str, convert: Callable[[object], object]) -> None:
        self.name = name
        self._convert = convert

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Check and convert, or say what is allowed."""
        try:
            return self._convert(value)
        except NotAllowedError as problem:
            self.fail(f"{value!r} isn't allowed; it takes {problem}", param, ctx)


def output_options(command: Command) -> Command:
    """The two options of a command that writes an audit: ``--format`` and ``--output``."""
    output_format = click.option(
        "--format", "output_format", type=click.Choice(AUDIT_FORMATS), help="Output format (table)."
    )
    output = click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write to this file, readable by its owner alone, instead of standard output. Its ending chooses the "
        "format where --format doesn't.",
    )
    return output_format(output(command))
