"""Patrons by name: who it might be is listed, and somebody at a terminal chooses.

Nobody is taken for anybody: a script, or whoever pipes the output, gets the list and has to name a barcode.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli.terminal import terminal_width
from evergreen_groups.cli.unknown_barcodes import at_a_terminal
from evergreen_groups.cli.usage_errors import usage_error
from evergreen_groups.errors import NotFoundError
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.client import Client
    from evergreen_groups.desk import Lookup


def patron_named(client: Client, name: str, *, take_the_only_one: bool = False) -> int:
    """The id of the patron whom somebody at the terminal chooses of those with this name: ``"Okonkwo, A"``.

    With ``take_the_only_one`` a single one isn't asked about, which is for what changes nothing.

    Raises:
        NotFoundError: no visible patron is called that.
        click.UsageError: there is nobody to choose; they have been listed on standard output.
        click.exceptions.Exit: nobody was chosen.
    """
    found = client.patrons.named(name)
    if not found.patrons:
        raise NotFoundError(
            "no visible patron has a name that begins like this",
            advice='give the beginning of the family name, or of both as in "Okonkwo, A"; the account needs VIEW_USER '
            "at the home library",
            code="no-patron-with-name",
        )
    if take_the_only_one and len(found.patrons) == 1:
        return found.patrons[0].patron.id
    if not (at_a_terminal() and sys.stdin.isatty()):
        _list(found, error=False)
        raise usage_error(Message("without a terminal nobody can choose: use the barcode of whom you mean"))
    _list(found, error=True)
    return found.patrons[_chosen(len(found.patrons)) - 1].patron.id


def _list(found: Lookup, *, error: bool) -> None:
    from evergreen_groups.render import write_found_patrons

    stream = sys.stderr if error else sys.stdout
    write_found_patrons(found, stream, width=terminal_width())
    stream.flush()


def _chosen(most: int) -> int:
    """Ask for a number of the list, until it is one."""
    question = gettext("Which one? Number, or Enter for none of them")
    while True:
        answer = click.prompt(question, default="", show_default=False, err=True).strip()
        if not answer:
            click.echo(gettext("Nobody was chosen."), err=True)
            raise click.exceptions.Exit(exit_status.DONE)
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= most:
            return int(answer)
        click.echo(gettext("Error: invalid input"), err=True)
