"""Looking up one card: in one call, whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.groups.barcodes import first_spelled, spellings
from evergreen_groups.groups.current_people import read_owners

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record

_FIELDS = ("id", "usr", "barcode", "active")


def find_card(gateway: Gateway, barcode: str, *, with_patron: bool = False) -> Record | None:
    """The card (``ac``) with this barcode, blanks in it ignored, be it active or not.

    None where there is none, or its patron is hidden. ``with_patron`` has the whole record of its ``usr`` in place of
    the id, and of the card all fields.
    """
    wanted = list(spellings(barcode))
    if not wanted:
        return None
    found = gateway.pcrud.search(
        "ac",
        {"barcode": wanted if len(wanted) > 1 else wanted[0]},
        select=None if with_patron else _FIELDS,
        flesh=1 if with_patron else None,
        flesh_fields={"ac": ("usr",)} if with_patron else None,
        limit=len(wanted),
    )
    return first_spelled(barcode, {card.barcode: card for card in found})


def find_owner(gateway: Gateway, barcode: str) -> int | None:
    """Whose card (a patron's id) has this barcode, as :func:`find_card` finds it, or one that no copy knows yet."""
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr)
    if not gateway.reads_copies:
        return None
    owner = read_owners(gateway, [barcode]).get(barcode)
    return None if owner is None else owner[0]
