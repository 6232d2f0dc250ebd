"""Letters as a document to print, and a mail-merge file of the people who owe; who gets none, as text and JSON."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from evergreen_groups.language import current_language, first_available, gettext, use_language
from evergreen_groups.letters import Debtors, NoLetter
from evergreen_groups.message import Message
from evergreen_groups.render.desk import HOW_TO_PAY, statement_page
from evergreen_groups.render.pages import write_template
from evergreen_groups.render.text import csv_cell
from evergreen_groups.report import GUARDIAN, WAYS, PostalAddress
from evergreen_groups.settings import StatementSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from evergreen_groups.language import Language
    from evergreen_groups.letters import Debtor, FamilyLetter, LeftOut, Letters
    from evergreen_groups.settings import LetterSettings

    LanguageOf = Callable[[str], Language]

_TEXTS = {
    "opening": Message("Dear {name},\nThis letter lists what is owed to the library."),
    "payment": HOW_TO_PAY,
    "closing": Message("Please contact us if you have questions.\nSincerely,\n{library}"),
}
REASONS = {
    NoLetter.NO_CONTACT: Message("no adult, and no parent or guardian"),
    NoLetter.INACTIVE: Message("the account is inactive or deleted"),
    NoLetter.WITHHELD: Message("the contact belongs to another library"),
    NoLetter.MINOR: Message("the contact is a child"),
    NoLetter.IN_COLLECTIONS: Message("in collections"),
    NoLetter.EXEMPT: Message("exempt from collections"),
    NoLetter.NO_ADDRESS: Message("no valid address"),
    NoLetter.NOTHING_OWED: Message("the contact and the children owe nothing"),
}
"""Why a family gets no letter."""

_PAPER = {"din": "letters_din.css", "us10": "letters_us10.css"}
_LONGEST_LINE = 38
"""Address lines with more characters are set smaller."""


@dataclass(frozen=True, slots=True)
class LettersBar:
    """What the service shows above letters and doesn't print, in the current language.

    ``file`` is the address of the mail-merge file. The form sends ``fields`` to the address ``action``, to mark
    ``count`` letters as sent. ``refusals`` say why the reader may not mark others.
    """

    file: str
    action: str
    fields: Sequence[tuple[str, str]]
    count: int
    refusals: Sequence[str]


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
    ``bar``, the document also says who gets no letter.
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
    left_out = describe_left_out(letters.left_out)
    write_template(
        "letters.html", stream, letters=in_its_language(), paper=paper, count=count, bar=bar, left_out=left_out
    )


def _sheet(letter: FamilyLetter, settings: LetterSettings, libraries: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of a letter."""
    head, addressee = letter.head, letter.addressee
    # Not the statement's patron, who may be marked a juvenile and an adult by date of birth.
    name = addressee.name or gettext("Parent or guardian of {name}", name=letter.statement.members[0].patron.name)
    lines = [name, *addressee.address.lines(domestic=head.address.country if head.address else "")]
    if settings.envelope == "us10" and addressee.address.street1 and addressee.address.street2:
        # As USPS asks, so that four lines are enough.
        lines[1:3] = [f"{lines[1]} {lines[2]}"]

    def text(part: str) -> str:
        own = settings.text(part, libraries, current_language().tag)
        return (gettext(_TEXTS[part]) if own is None else own).replace("{name}", name).replace("{library}", head.name)

    # The statement has the amounts, so a letter can't say more than a statement would.
    texts = StatementSettings(library=head.name, text=text("opening"), how_to_pay=text("payment"))
    return {
        "sheet": statement_page(letter.statement, texts),
        "address": lines,
        "small": max(map(len, lines)) > _LONGEST_LINE,
        "sender_lines": head.address.lines(head.address.country) if head.address else (),
        "phone": head.phone,
        "return_address": settings.envelope == "din",
        "closing": tuple(line.strip() for line in text("closing").splitlines() if line.strip()),
        "to_guardian": addressee.contact.role == GUARDIAN,
    }


def letters_document(made: Letters | Debtors) -> dict[str, Any]:
    """Return who is written to, by ids, and who isn't and why, as a JSON object, version 1."""
    if isinstance(made, Debtors):
        written = [
            {"group": one.group, "patron": one.member.id, "contact": one.addressee.patron} for one in made.people
        ]
    else:
        written = [{"group": one.group, "contact": one.addressee.patron} for one in made.letters]
    return {
        "version": 1,
        "kind": "letters" if not isinstance(made, Debtors) else "people-who-owe",
        "written": written,
        "left_out": [
            {"group": one.group, **({"patron": one.patron} if one.patron else {}), "reason": one.reason.value}
            for one in made.left_out
        ],
    }


def describe_left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """Yield a line for each reason, with the numbers of the groups (of a mail-merge file: of the people)."""
    of_people = any(one.patron for one in left_out)
    text = Message("People left out: {reason} ({groups})") if of_people else Message("No letter: {reason} ({groups})")
    groups: dict[NoLetter, dict[int, None]] = defaultdict(dict)
    for one in left_out:
        groups[one.reason][one.group] = None
    for reason, numbers in groups.items():
        yield gettext(
            text,
            reason=gettext(REASONS[reason]),
            groups=", ".join(gettext("group {group}", group=number) for number in numbers),
        )


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


def write_debtors(debtors: Debtors, stream: TextIO) -> None:
    """Write a row for each person (RFC 4180). Texts that a spreadsheet would take for formulas get an apostrophe."""
    rows = csv.writer(stream)
    rows.writerow(_COLUMNS)
    rows.writerows([csv_cell(value_of(one)) for value_of in _COLUMNS.values()] for one in debtors.people)
