"""Find patrons by name, and explain unknown barcodes.

Names never select a patron automatically for a change: a user at a terminal chooses from a list. Scripts get the list
and must use a barcode.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import logs
from evergreen_groups.cli.output import after_question, terminal_width
from evergreen_groups.cli.usage import usage_error
from evergreen_groups.errors import EvergreenGroupsError, NotFoundError, PlanError
from evergreen_groups.language import describe_error, gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.cli.invocation import Invocation
    from evergreen_groups.client import Client
    from evergreen_groups.gateway import Gateway

_CODES = ("no-patron-with-barcode", "barcodes-unknown", "patron-deleted")
_MOST_EXPLAINED = 3
# The error has been shown, and the user is waiting, so don't look for suggestions any longer than this.
_SECONDS = 10.0


@contextmanager
def explain_unknown_barcodes(session: Invocation, gateway: Gateway, barcodes: Iterable[str]) -> Iterator[None]:
    """At a terminal, add suggestions to errors about unknown barcodes. The exit status stays the same."""
    try:
        yield
    except (NotFoundError, PlanError) as error:
        if error.code not in _CODES or session.quiet or not _person_reads_errors():
            raise
        logs.emit(describe_error(error), error=True, code=error.code)
        for line in _suggestions(gateway, barcodes):
            click.echo(line, err=True)
        raise click.exceptions.Exit(exit_status.for_error(error)) from None


def _person_reads_errors() -> bool:
    """Whether standard error is read by a person rather than collected as a log."""
    return sys.stderr.isatty() and not logs.as_json()


def _suggestions(gateway: Gateway, barcodes: Iterable[str]) -> Iterator[str]:
    from evergreen_groups.desk import explain_unknown
    from evergreen_groups.render import describe_unknown, printable, similar_cards

    in_time = gateway.within(_SECONDS)
    explained = 0
    for barcode in dict.fromkeys(barcodes):
        try:
            unknown = explain_unknown(in_time, barcode)
        except EvergreenGroupsError:  # the original error has been shown; suggestions are optional
            return
        if unknown is not None:
            explained += 1
            if unknown.barcode:
                yield gettext("Searched for: {barcode}", barcode=printable(unknown.barcode))
                yield from (f"  {line}" for line in (*describe_unknown(unknown), *similar_cards(unknown)))
            else:
                yield gettext("The barcode is empty.")
        if explained == _MOST_EXPLAINED:
            return


def choose_patron(client: Client, name: str, *, accept_single_match: bool = False) -> int:
    """List the patrons with this name (``"Okonkwo, A"``), let the user choose one, and return the patron's id.

    With ``accept_single_match``, a single match is used without asking. Don't set it for changes.
    """
    from evergreen_groups.render import write_found_patrons

    found = client.patrons.named(name)
    if not found.patrons:
        raise NotFoundError(
            "no visible patron has this name",
            advice='enter the beginning of the family name or of both names ("Okonkwo, A"); the account needs '
            "VIEW_USER at the home library",
            code="no-patron-with-name",
        )
    if accept_single_match and len(found.patrons) == 1:
        return found.patrons[0].patron.id
    asks = _person_reads_errors() and sys.stdin.isatty()
    stream = sys.stderr if asks else sys.stdout
    write_found_patrons(found, stream, width=terminal_width())
    stream.flush()
    if not asks:
        raise usage_error(Message("choosing needs a terminal: use the barcode"))
    question = gettext("Number, or Enter for none")
    while True:
        answer = click.prompt(
            question, default="", show_default=False, prompt_suffix=after_question(), err=True
        ).strip()
        if not answer:
            raise click.exceptions.Exit(exit_status.DONE)
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= len(found.patrons):
            return found.patrons[int(answer) - 1].patron.id
