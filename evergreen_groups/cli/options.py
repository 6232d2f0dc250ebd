"""Option values, checked by the same converters as the configuration's."""

from __future__ import annotations

from collections.abc import Callable

import click

from evergreen_groups.converters import NotAllowedError


class Checked(click.ParamType[object]):
    """A parameter type made from a converter of :mod:`evergreen_groups.converters`."""

    def __init__(self, name: str, convert: Callable[[object], object]) -> None:
        self.name = name
        self._convert = convert

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Check and convert, or say what is allowed."""
        try:
            return self._convert(value)
        except NotAllowedError as problem:
            self.fail(f"{value!r} isn't allowed; it takes {problem}", param, ctx)
