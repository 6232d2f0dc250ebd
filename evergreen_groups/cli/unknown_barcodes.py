"""What a barcode may be that isn't found: said to whoever sits at a terminal, where no log gets it.

The error itself says nothing about the patron, for it may go anywhere. Beside it a person with a card in their hand
reads what was looked for, and whose card it may be, as far as the account sees.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import logs
from evergreen_groups.errors import EvergreenGroupsError, NotFoundError, PlanError
from evergreen_groups.language import describe_error, gettext, ngettext

if TYPE_CHECKING:
    from evergreen_groups.cli.invocation import Invocation
    from evergreen_groups.desk import UnknownBarcode
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
