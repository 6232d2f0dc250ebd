"""Writes the command's reference, ``docs/cli.md``, from its own ``--help``.

``python -m evergreen_groups.cli.reference > docs/cli.md`` brings it up to date.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from evergreen_groups.cli.application import cli

_WIDTH = 88


def reference() -> str:
    """The whole reference in Markdown: every command's help, in the order of ``--help``."""
    heading = "# Command reference\n\nWritten from `--help` by `python -m evergreen_groups.cli.reference`.\n"
    return heading + "".join(
        f"\n## `{context.command_path}`\n\n```text\n{context.command.get_help(context).rstrip()}\n```\n"
        for context in _contexts(cli, None)
    )


def _contexts(command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    name = command.name if parent else "evergreen-groups"
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        **command.context_settings,
    )
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                yield from _contexts(found, context)


if __name__ == "__main__":
    click.echo(reference(), nl=False)
