"""Looking up one card: in one call, whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.groups.barcodes import first_spelled, spellings

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
