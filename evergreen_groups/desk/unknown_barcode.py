"""What a barcode may be that no visible patron has: for whoever has it in their hand, and for nobody else.

Everything is read with the account's own eyes, so whoever is hidden from it stays so. What is found names patrons: it
goes to a person who looks for one, never into a log, an error or a document for programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.groups import (
    PATRON_FIELDS,
    PatronRow,
    check_digit_fails,
    near_barcodes,
    usual_length,
    without_blanks,
)

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record

MOST_NEAR = 5
"""How many cards are named: where more are near, barcodes follow one another, and none is likelier than the next."""

# For an account of one library of many, the ILS looks at those of all others too, at up to 2 ms each.
_LOOKED_AT = 25


@dataclass(frozen=True, slots=True)
class NearCard:
    """A card that differs by a single mistake. ``barcode`` is the card's, ``name`` its patron's."""

    barcode: str
    name: str
    active: bool


@dataclass(frozen=True, slots=True)
class UnknownBarcode:
    """What is known about a ``barcode``, as it was looked for.

    ``length`` is how many characters the library's cards have, where nearly all have as many and this one hasn't.
    ``check_digit_fails`` says that its last digit doesn't fit, where those of other cards do. ``deleted`` is the name
    of the patron whose card it is, where that record is deleted. ``near`` are cards that it may be, the likeliest
    first.
    """

    barcode: str
    length: int | None = None
    check_digit_fails: bool = False
    deleted: str | None = None
    near: tuple[NearCard, ...] = ()


def explain_unknown(gateway: Gateway, barcode: str) -> UnknownBarcode | None:
    """Find out what a barcode may be; None where somebody visible has it after all. Three calls.

    Raises:
        GatewayError: the ILS can't be reached or refuses.
    """
    text = without_blanks(barcode)
    if not text:
        return UnknownBarcode("")
    likely = {spelling: rank for rank, spelling in enumerate((text, *near_barcodes(text)))}
    found = [
        card
        for page in gateway.pcrud.by_values("ac", "barcode", likely, select=_CARD, unique=True)
        for card in page
        if card.barcode in likely
    ]
    patrons = _patrons(gateway, {card.usr for card in found})
    cards = sorted((card for card in found if card.usr in patrons), key=lambda card: likely[card.barcode])
    deleted = None
    if cards and cards[0].barcode == text:
        row, is_deleted = patrons[cards.pop(0).usr]
        if not is_deleted:
            return None
        deleted = row.name
    near = [_near(card, patrons[card.usr][0]) for card in cards if not patrons[card.usr][1]]
    others = _some_barcodes(gateway)
    length = usual_length(others)
    return UnknownBarcode(
        text,
        length=None if length == len(text) else length,
        check_digit_fails=check_digit_fails(text, others),
        deleted=deleted,
        near=tuple(near[:MOST_NEAR]),
    )


def _patrons(gateway: Gateway, ids: set[int]) -> dict[int, tuple[PatronRow, bool]]:
    """The visible ones of some patrons, each with whether the record is deleted."""
    read = gateway.pcrud.columns_by_values("au", (*PATRON_FIELDS, "deleted"), "id", sorted(ids))
    rows = ((PatronRow._make(values[:-1]), bool(values[-1])) for values in chain.from_iterable(read))
    return {row.id: (row, deleted) for row, deleted in rows}


def _near(card: Record, patron: PatronRow) -> NearCard:
    return NearCard(card.barcode, patron.name, bool(card.active))


def _some_barcodes(gateway: Gateway) -> list[str]:
    """The barcodes of the latest cards that the account sees."""
    order = [{"class": "ac", "field": "id", "direction": "desc"}]
    cards = gateway.pcrud.search(
        "ac", {"active": "t"}, select=("id", "usr", "barcode"), order_by=order, limit=_LOOKED_AT
    )
    return [card.barcode for card in cards]


_CARD = ("id", "usr", "barcode", "active")
