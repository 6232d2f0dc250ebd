"""Letters as a document to print, and a mail-merge file of the people who owe."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from evergreen_groups.language import (
    current_language,
    day,
    first_available,
    gettext,
    local,
    use_language,
    weekly_hours,
)
from evergreen_groups.message import Message
from evergreen_groups.render.desk import HOW_TO_PAY, statement_page
from evergreen_groups.render.letters.coverage import FollowUpStates, describe_amounts, describe_libraries, family_lines
from evergreen_groups.render.pages import write_template
from evergreen_groups.render.text import csv_cell
from evergreen_groups.report import GUARDIAN, WAYS, PostalAddress
from evergreen_groups.settings import StatementSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import TextIO

    from evergreen_groups.language import Language
    from evergreen_groups.letters import Debtor, Debtors, FamilyLetter, Letters
    from evergreen_groups.settings import LetterSettings

    LanguageOf = Callable[[str], Language]

_OPENINGS = {
    "fines": Message("Dear {name},\nThis letter lists what is owed to the library."),
    "overdue": Message("Dear {name},\nThis letter lists items that are overdue."),
    "lost": Message("Dear {name},\nThis letter lists items that are overdue or lost."),
}
_OPENINGS_TO_GUARDIANS = {
    "fines": Message("Dear parent or guardian,\nThis letter lists what is owed to the library."),
    "overdue": Message("Dear parent or guardian,\nThis letter lists items that are overdue."),
    "lost": Message("Dear parent or guardian,\nThis letter lists items that are overdue or lost."),
}
"""To guardians whose name isn't known."""
_CLOSING = Message("Please contact us if you have questions.\nSincerely,\n{library}")
_REPLACEMENT_PRICE = Message(
    "Estimated replacement price of the overdue items: {price}. It isn't part of any amount owed."
)
_PAY_BY = Message("Please pay by {day}.")
_HOURS = Message("Opening hours: {hours}")
_PAPER = {"din": "letters_din.css", "us10": "letters_us10.css"}
_LONGEST_LINE = 38
"""Address lines with more characters are set smaller."""


@dataclass(frozen=True, slots=True)
class LettersBar:
    """What the service shows above letters and doesn't print, in the current language.

    ``file`` is the address of the mail-merge file. The form sends ``fields`` to the address ``action``, to mark
    ``count`` families' letters as sent. ``refusals`` say why the reader may not mark others. ``follow_ups`` are those
    of the groups. Another form, which sends ``choices`` to the address ``again``, makes the letters again, also those
    to closed or waiting groups that the reader wants to write to ``anyway``.
    """

    file: str
    action: str
    fields: Sequence[tuple[str, str]]
    count: int
    refusals: Sequence[str]
    follow_ups: FollowUpStates
    again: str
    choices: Sequence[tuple[str, str]]
    anyway: Collection[int]


def write_letters(
    letters: Letters,
    stream: TextIO,
    settings: LetterSettings,
    language_of: LanguageOf,
    upwards: Callable[[str], Sequence[str]],
    bar: LettersBar | None = None,
) -> None:
    """Write the letters as one HTML document, each in the addressee's language, or else the library's.

    ``language_of`` returns the language of a library (short name), ``upwards`` its short name and those above. With a
    ``bar``, the document also says what the letters cover, and who gets none.
    """
    language_of = cache(language_of)

    def in_its_language() -> Iterator[dict[str, Any]]:
        for letter in letters.letters:
            library = letter.statement.library.shortname
            language = language_of(library)
            tag = first_available([letter.addressee.locale]) or language.tag
            # The template writes the letter before it asks for the next one.
            with use_language(replace(language, tag=tag)):
                yield _sheet(letter, settings, upwards(library))

    paper, count = _PAPER[settings.envelope], len(letters.letters)
    families = [] if bar is None else [*family_lines(letters, bar.follow_ups, bar.anyway)]
    write_template(
        "letters.html",
        stream,
        letters=in_its_language(),
        paper=paper,
        count=count,
        bar=bar,
        covered=describe_amounts(letters),
        warnings=[*describe_libraries(letters)] if bar else (),
        families=families,
        with_options=any(family.options for family in families),
    )


def _sheet(letter: FamilyLetter, settings: LetterSettings, libraries: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of a letter."""
    head, addressee = letter.head, letter.addressee
    # Not the statement's patron, who may be marked a juvenile and an adult by date of birth.
    name = addressee.name or gettext("Parent or guardian of {name}", name=letter.statement.members[0].patron.name)
    # The code of most currencies begins with that of a country; EU is none.
    domestic = head.country or current_language().currency[:2]
    lines = [name, *addressee.address.lines(domestic)]
    if settings.envelope == "us10" and addressee.address.street1 and addressee.address.street2:
        # As USPS asks, so that four lines are enough.
        lines[1:3] = [f"{lines[1]} {lines[2]}"]

    statement, estimate = letter.statement, letter.replacement_price
    owes_money = any(member.own_fines for member in statement.members)
    has_lost = any(member.items.visible_unreturned.lost for member in statement.members)
    openings = _OPENINGS if addressee.name else _OPENINGS_TO_GUARDIANS

    def text(part: str, stock: Message) -> str:
        own = settings.text(part, libraries, current_language().tag, letter.number)
        return (gettext(stock) if own is None else own).replace("{name}", name).replace("{library}", head.name)

    opening = text("opening", openings["fines" if owes_money else "lost" if has_lost else "overdue"])
    # The statement has the amounts, so a letter can't say more than a statement would.
    how_to_pay = text("payment", HOW_TO_PAY) if owes_money else ""
    pay_by = local(statement.group.at).date() + timedelta(settings.pay_within)
    hours = weekly_hours(head.hours)
    texts = StatementSettings(library=head.name, text=opening, how_to_pay=how_to_pay)
    return {
        "sheet": statement_page(statement, texts),
        "owes_money": owes_money,
        "estimate": gettext(_REPLACEMENT_PRICE, price=estimate) if estimate and estimate.at_least else "",
        "address": lines,
        "small": max(map(len, lines)) > _LONGEST_LINE,
        "sender_lines": head.address.lines(head.address.country) if head.address else (),
        "phone": head.phone,
        "return_address": settings.envelope == "din",
        "pay_by": gettext(_PAY_BY, day=day(pay_by)) if owes_money and settings.pay_within else "",
        "hours": gettext(_HOURS, hours=hours) if hours else "",
        "closing": tuple(line.strip() for line in text("closing", _CLOSING).splitlines() if line.strip()),
        "included": gettext(_included(letter, owes_money)) if letter.complete else "",
    }


def _included(letter: FamilyLetter, owes_money: bool) -> Message:
    if letter.addressee.contact.role == GUARDIAN:
        of_money = Message("Only the fines of children in your care are included.")
        return of_money if owes_money else Message("Only the items of children in your care are included.")
    if not letter.to_contact:
        of_money = Message("Only your own fines are included.")
        return of_money if owes_money else Message("Only your own items are included.")
    of_money = Message("Only your own fines and those of any children in your family are included.")
    of_items = Message("Only your own items and those of any children in your family are included.")
    return of_money if owes_money else of_items


_COLUMNS: dict[str, Callable[[Debtor], Any]] = {
    "group": lambda one: one.group,
    "library": lambda one: one.member.library,
    "patron": lambda one: one.member.id,
    "barcode": lambda one: one.member.barcode,
    "patron_name": lambda one: one.member.name,
    "minor": lambda one: one.minor,
    "own_fines": lambda one: one.member.own_fines,
    "owing_since": lambda one: one.owing_since and one.owing_since.date(),
    "age_band": lambda one: one.age_band and one.age_band.text,
    "contact": lambda one: one.addressee.patron,
    "contact_role": lambda one: one.addressee.contact.role,
    "contact_name": lambda one: one.addressee.name,
    **{name: attrgetter(f"addressee.address.{name}") for name in PostalAddress._fields},
    **{name: attrgetter(f"addressee.contact.{name}") for name in WAYS if name != "address"},
    "locale": lambda one: one.addressee.locale,
}
"""A stable interface (docs/letters.md): new columns come after all others."""
_OF_ITEMS: dict[str, Callable[[Debtor], Any]] = {
    "items_overdue": lambda one: one.unreturned and one.unreturned.overdue,
    "items_lost": lambda one: one.unreturned and one.unreturned.lost,
}


def write_debtors(debtors: Debtors, stream: TextIO) -> None:
    """Write a row for each person (RFC 4180). Texts that a spreadsheet would take for formulas get an apostrophe."""
    by_items = any(family.unreturned is not None for family in debtors.coverage)
    columns = {**_COLUMNS, **_OF_ITEMS} if by_items else _COLUMNS
    rows = csv.writer(stream)
    rows.writerow(columns)
    rows.writerows([csv_cell(value_of(one)) for value_of in columns.values()] for one in debtors.people)
