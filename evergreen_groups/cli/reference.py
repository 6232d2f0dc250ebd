"""Generate the command reference, ``docs/cli.md``, from the commands' ``--help``.

To update it, run ``python -m evergreen_groups.cli.reference > docs/cli.md``.
"""

from __future__ import annotations

import click

from evergreen_groups.cli.manual import contexts

_WIDTH = 88


def reference() -> str:
    """Return the reference in Markdown: the help of all commands, in the order of ``--help``."""
    heading = "# Command reference\n\nWritten from `--help` by `python -m evergreen_groups.cli.reference`.\n"
    return heading + "".join(
        f"\n## `{context.command_path}`\n\n```text\n{context.command.get_help(context).rstrip()}\n```\n"
        for context in contexts(_WIDTH)
    )


if __name__ == "__main__":
    click.echo(reference(), nl=False)
