"""``evergreen-groups sandbox``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups.cli import Checked
from evergreen_groups.language import gettext
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.sandbox import Sandbox


def how_to_connect(sandbox: Sandbox) -> str:
    """What whoever starts a sandbox needs to know: address, logins, a few barcodes, and the configuration."""
    width = max(len(account.login) for account in sandbox.accounts.values())
    lines = [
        gettext("Sandbox at {address} (it keeps state until it ends)", address=sandbox.url),
        "",
        gettext("Logins, with their passwords:"),
    ]
    for account in sandbox.accounts.values():
        note = account.note or ""
        if account.kind != "staff":
            note = gettext("{note} ({kind}, by barcode)", note=note, kind=account.kind)
        lines.append(f"  {account.login:{width}}  {account.password}  {note.lstrip()}".rstrip())
    barcodes = ", ".join(sandbox.barcodes)
    lines += ["", gettext("Barcodes to try: {barcodes}", barcodes=barcodes), "", gettext("Configuration:")]
    username, password = sandbox.report_account
    lines += ["  [gateway]", f'  url = "{sandbox.url}"', f'  username = "{username}"']
    lines += [gettext("and in the environment:"), f"  EVERGREEN_GROUPS_PASSWORD={password}"]
    return "\n".join(lines)


@click.command("sandbox")
@click.option(
    "--port",
    type=Checked(values.whole_number(0, 65535), "port"),
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
    type=Checked(values.whole_number(0, 2_000_000)),
    default=0,
    help="Make a large population of this many patrons, the same one each time.",
)
@click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the data in this SQLite file; otherwise it is gone at the end.",
)
def sandbox_command(port: int, dataset: Path | None, patrons: int, database: Path | None) -> None:
    """Serve a sandbox: a gateway that behaves like Evergreen's, with sample data, on this machine only.

    It keeps state, sessions and permissions, so everything this command does can be tried on it. Stop it with Ctrl-C.
    """
    from evergreen_groups.sandbox import Sandbox

    with Sandbox(dataset=dataset, patrons=patrons, database=database, port=port) as sandbox:
        click.echo(how_to_connect(sandbox))
        sandbox.wait()
