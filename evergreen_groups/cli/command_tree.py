"""Every command with its declarations, for what is written from them: the reference and the manual pages."""

from __future__ import annotations

from collections.abc import Iterator

import click

from evergreen_groups.cli.application import cli


def contexts(width: int | None = None) -> Iterator[click.Context]:
    """The context of each command, in the order of ``--help``; ``width`` is how many columns a text may take."""
    yield from _contexts(cli, None, width)


def _contexts(command: click.Command, parent: click.Context | None, width: int | None) -> Iterator[click.Context]:
    context = click.Context(
        command,
        info_name=command.name if parent else "evergreen-groups",
        parent=parent,
        terminal_width=width,
        max_content_width=width,
        **command.context_settings,
    )
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _contexts(found, context, width)
