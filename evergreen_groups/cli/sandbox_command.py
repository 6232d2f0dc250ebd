"""``evergreen-groups sandbox``."""

from __future__ import annotations

from pathlib import Path

import click

from evergreen_groups import converters
from evergreen_groups.cli.options import Checked


@click.command("sandbox", short_help="Serve an embedded stand-in for an Evergreen gateway.")
@click.option(
    "--port",
    type=Checked("port", converters.whole_number(0, 65535)),
    default=8210,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Families from this JSON file instead of the built-in ones.",
)
@click.option(
    "--patrons",
    type=Checked("number", converters.whole_number(0, 2_000_000)),
    default=0,
    help="Make a large population of this many patrons, the same one each time.",
)
@click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the data in this SQLite file; otherwise it is gone at the end.",
)
def command(port: int, dataset: Path | None, patrons: int, database: Path | None) -> None:
    """Serve a sandbox: a gateway that behaves like Evergreen's, with made-up families, on this machine only.

    It keeps state, sessions and permissions, so everything this command does can be tried on it. Stop it with Ctrl-C.
    """
    from evergreen_groups.sandbox import Sandbox

    with Sandbox(dataset=dataset, patrons=patrons, database=database, port=port) as sandbox:
        click.echo(sandbox.how_to_connect())
        sandbox.wait()
