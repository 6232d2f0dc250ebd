"""``evergreen-groups show``."""

from __future__ import annotations

import sys

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import Checked, Invocation, explaining_unknown, patron_named
from evergreen_groups.message import Message
from evergreen_groups.settings import values

_NUMBER = Checked(values.whole_number(1, 2**31 - 1))


@click.command("show")
@click.argument("barcode", required=False)
@click.option("--user", type=_NUMBER, help="The patron by id instead of barcode.")
@click.option("--group", type=_NUMBER, help="The group by its number.")
@click.option("--name", help='The patron by name: "Okonkwo, A". Of several, you choose.')
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def show_command(
    session: Invocation, barcode: str | None, user: int | None, group: int | None, name: str | None, output_format: str
) -> int:
    """Show all members of the group of the patron with BARCODE.

    Each one's own fines, items out, overdue and lost, and who is over the limit; under it the sums, and the group
    fines, for information only. Exit status 7: shown, but the account can't see all members, or
    what they have out.
    """
    if sum(given is not None for given in (barcode, user, group, name)) != 1:
        raise click.UsageError(Message("give a barcode, --name, --user or --group: one of them"))
    from evergreen_groups.cli import terminal_width
    from evergreen_groups.render import write_details, write_json

    with session.client() as client, explaining_unknown(session, client.gateway, [barcode or ""]):
        if name is not None:
            user = patron_named(client, name, take_the_only_one=True)
        with session.progress():
            if barcode is not None:
                details = client.groups.of_barcode(barcode)
            elif user is not None:
                details = client.groups.of_user(user)
            else:
                details = client.groups.of_group(group or 0)
    if output_format == "json":
        write_json(details, sys.stdout)
    else:
        write_details(details, sys.stdout, width=terminal_width())
    return exit_status.DONE if details.complete else exit_status.INCOMPLETE
