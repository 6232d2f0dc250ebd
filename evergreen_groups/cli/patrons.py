"""Patrons by name: who it might be is listed, and somebody at a terminal chooses.

Nobody is taken for anybody: a script, or whoever pipes the output, gets the list and has to name a barcode.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import logs
from evergreen_groups.cli.options import usage_error
from evergreen_groups.cli.output import terminal_width
from evergreen_groups.errors import EvergreenGroupsError, NotFoundError, PlanError
from evergreen_groups.language import describe_error, gettext, ngettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.cli.invocation import Invocation
    from evergreen_groups.client import Client
    from evergreen_groups.desk import Lookup, UnknownBarcode
    from evergreen_groups.gateway import Gateway

_CODES = ("no-patron-with-barcode", "barcodes-unknown", "patron-deleted")
_MOST_EXPLAINED = 3
# Somebody waits, and has the error itself already.
_SECONDS = 10.0


@contextmanager
def explaining_unknown(session: Invocation, gateway: Gateway, barcodes: Iterable[str]) -> Iterator[None]:
    """At a terminal, say more about those of the barcodes that nobody is found by; the error's exit status stays.

    Raises:
        click.exceptions.Exit: that was done.
    """
    try:
        yield
    except (NotFoundError, PlanError) as error:
        if error.code not in _CODES or session.quiet or not at_a_terminal():
            raise
        logs.emit(describe_error(error), error=True, code=error.code)
        for line in _lines(gateway, barcodes):
            click.echo(line, err=True)
        raise click.exceptions.Exit(exit_status.for_error(error)) from None


def at_a_terminal() -> bool:
    """Whether somebody reads what is written to standard error, and not a log."""
    return sys.stderr.isatty() and not logs.as_json()


def _lines(gateway: Gateway, barcodes: Iterable[str]) -> Iterator[str]:
    from evergreen_groups.desk import explain_unknown

    in_time = gateway.within(_SECONDS)
    explained = 0
    for barcode in dict.fromkeys(barcodes):
        try:
            unknown = explain_unknown(in_time, barcode)
        except EvergreenGroupsError:  # the error stands there already; what it may be was an extra
            return
        if unknown is not None:
            explained += 1
            yield from _about(unknown)
        if explained == _MOST_EXPLAINED:
            return


def _about(unknown: UnknownBarcode) -> Iterator[str]:
    from evergreen_groups.render import printable

    if not unknown.barcode:
        yield gettext("The barcode is empty.")
        return
    barcode, length = printable(unknown.barcode), len(unknown.barcode)
    yield gettext("Looked for: {barcode}", barcode=barcode)
    if unknown.length is not None:
        yield "  " + ngettext(
            "It has {count} character; the cards here have {length}.",
            "It has {count} characters; the cards here have {length}.",
            length,
            length=unknown.length,
        )
    if unknown.check_digit_fails:
        yield "  " + gettext("Its check digit doesn't fit: one of the digits is wrong.")
    if unknown.deleted is not None:
        yield "  " + gettext("It is a card of {name}, whose record is deleted.", name=printable(unknown.deleted))
    if unknown.near:
        yield "  " + gettext("Nearly the same:")
    for card in unknown.near:
        named = {"barcode": printable(card.barcode), "name": printable(card.name)}
        text = gettext("{barcode}  {name}", **named)
        yield "    " + (text if card.active else gettext("{barcode}  {name} (an old card)", **named))


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
