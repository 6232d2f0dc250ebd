"""``evergreen-groups sandbox``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evergreen_groups import cli
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.sandbox import Sandbox

_STORED_FROM = 100_000
_WAIT = 10.0
"""Seconds to wait for another command that is making a population."""


def how_to_connect(sandbox: Sandbox) -> str:
    """Describe how to use a sandbox: address, logins, some barcodes, and the configuration."""
    width = max(len(account.login) for account in sandbox.accounts.values())
    lines = [gettext("Sandbox at {address}", address=sandbox.url), "", gettext("Logins and passwords:")]
    for account in sandbox.accounts.values():
        note = account.note or ""
        if account.kind != "staff":
            note = f"{note} ({account.kind}, by barcode)"
        lines.append(f"  {account.login:{width}}  {account.password}  {note.lstrip()}".rstrip())
    barcodes = ", ".join(sandbox.barcodes)
    lines += ["", gettext("Barcodes to try: {barcodes}", barcodes=barcodes), "", gettext("Configuration")]
    username, password = sandbox.report_account
    lines += ["  [gateway]", f'  url = "{sandbox.url}"', f'  username = "{username}"']
    lines += [gettext("Environment variable:"), f"  EVERGREEN_GROUPS_PASSWORD={password}"]
    return "\n".join(lines)


@click.command("sandbox")
@click.option(
    "--port",
    type=cli.CheckedType(values.whole_number(0, 65535), "port"),
    default=8210,
    show_default=True,
    help="Port on 127.0.0.1; 0: any free port.",
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Use the families in this JSON file instead of the built-in ones.",
)
@click.option(
    "--patrons",
    type=cli.CheckedType(values.whole_number(0, 5_000_000)),
    default=0,
    help="Generate this many patrons, always the same ones. From 100,000, they are cached for the next sandbox.",
)
@click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the data in this SQLite file. By default it is lost at the end.",
)
@click.option(
    "--replica",
    type=cli.CheckedType(values.whole_number(0, 86_400), "seconds"),
    help="Answer plain reads from a replica that is this many seconds behind.",
)
@click.option(
    "--release",
    metavar="RELEASE",
    help="Behave like this release of Evergreen: 3.11 to 3.17, or a point release such as 3.14.10.  [default: 3.17]",
)
@click.option(
    "--bus",
    type=click.Choice(["redis", "xmpp"]),
    help="Answer calls to missing services as OpenSRF does with this message bus. By default, the release's usual bus.",
)
@click.option(
    "--gateway",
    type=click.Choice(["apache", "rust"]),
    default="apache",
    show_default=True,
    help="Behave like Apache's gateway, or like the one written in Rust.",
)
@click.pass_obj
def sandbox_command(
    session: cli.Invocation, /, *, patrons: int, database: Path | None, replica: int | None, **options: Any
) -> None:
    """Run a sandbox: a gateway that behaves like Evergreen's, with sample data, on this machine only.

    It has state, sessions and permissions, so you can try every command with it. Stop it with Ctrl-C.
    """
    from evergreen_groups.sandbox import Sandbox

    doing = Message("writing …")
    with _prepared(patrons, database) as prepared, session.progress(doing) as progress:
        sandbox = Sandbox(
            patrons=patrons,
            database=database,
            prepared=prepared,
            report=partial(progress, doing),
            differences=() if replica is None else ("replica",),
            replica_delay=float(replica or 0),
            **options,
        )
    with sandbox:
        click.echo(how_to_connect(sandbox))
        sandbox.wait()


@contextmanager
def _prepared(patrons: int, database: Path | None) -> Iterator[Path | None]:
    """Hold the directory that caches large populations; None if this one isn't cached.

    While held, no other command makes a population there.
    """
    from evergreen_groups.state import find_cache_directory, hold, make_state_directory

    directory = find_cache_directory(os.environ)
    if database is not None or directory is None or patrons < _STORED_FROM:
        yield None
        return
    make_state_directory(directory)
    busy = Message("another command is using the sandbox {file}", values={"file": directory})
    with hold(directory / "sandbox.lock", busy, _WAIT):
        yield directory
