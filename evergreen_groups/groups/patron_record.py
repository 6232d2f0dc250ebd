"""Find the owners of cards, and read single patron records from the primary database."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, PermissionDeniedError, RecordNotFoundError
from evergreen_groups.gateway import TOKEN, Record
from evergreen_groups.groups.barcodes import first_match, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
_BY_BARCODE = "open-ils.actor.user.fleshed.retrieve_by_barcode.authoritative"
_CARD_FIELDS = ("id", "usr", "barcode", "active")


def read_patron(gateway: Gateway, patron: int) -> Record | None:
    """Return a patron's record from the primary database, None if the patron is unknown or hidden.

    pcrud may read from a replica that lags a few seconds behind. The record has pcrud's unfleshed form
    (``patrons-031``, ``pcrud-102``), because a fleshed record never compares equal. Releases before 3.14.11 send a
    digest of the password along. Drop it: sent back, the digest would become the password.

    Raises:
        DataError: the answer isn't this patron's record.
    """
    try:
        answer = gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    record = patron_in(gateway, answer, patron)
    if any(isinstance(value, dict | list) for value in record.to_wire()["__p"]):
        raise DataError("the ILS gave the patron in another form than was asked for", code="patron-in-another-form")
    return record.replace(passwd=None)


def require_visible(gateway: Gateway, patron: int) -> None:
    """Raise an error if the session may not see the patron. Unknown patrons are fine.

    Raises:
        PermissionDeniedError: with the missing permission and the library.
    """
    with suppress(RecordNotFoundError):
        gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron)


def patron_in(gateway: Gateway, answer: object, patron: int) -> Record:
    """Decode an answer that must be this patron's record.

    Raises:
        DataError: the answer is something else, or another patron.
    """
    record = gateway.decode(answer)
    if not isinstance(record, Record) or record.class_id != "au" or record.id != patron:
        raise _not_the_patron()
    return record


def _not_the_patron() -> DataError:
    return DataError("the ILS gave something else than the patron asked for", code="not-the-patron")


def not_replicated_yet() -> DataError:
    """Make the error for a patron whom the primary database has and the replica doesn't have yet."""
    return DataError(
        "the copy of the ILS's database that is read doesn't have this patron yet",
        advice="try again in a few seconds",
        code="not-copied-yet",
    )


def find_card(gateway: Gateway, barcode: str, *, with_patron: bool = False) -> Record | None:
    """Find the card (``ac``) with this barcode, active or not, ignoring blanks.

    Return None if the card is unknown or its patron is hidden. ``with_patron`` fleshes the card's ``usr`` with the
    whole patron record and selects all fields of the card.
    """
    wanted = list(spellings(barcode))
    if not wanted:
        return None
    found = gateway.pcrud.search(
        "ac",
        {"barcode": wanted if len(wanted) > 1 else wanted[0]},
        select=None if with_patron else _CARD_FIELDS,
        flesh=1 if with_patron else None,
        flesh_fields={"ac": ("usr",)} if with_patron else None,
        limit=len(wanted),
    )
    return first_match(barcode, {card.barcode: card for card in found})


def find_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    """Return the owner (patron id) of the card with this barcode, and whether the card is active.

    Return None if the card is unknown or hidden. Also find new cards that aren't on the replica yet.
    """
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr), bool(card.active)
    return read_owners(gateway, [barcode]).get(barcode) if gateway.reads_replicas else None


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Find the owner (patron id) of each card on the primary database, and whether the card is active.

    Unknown and hidden cards are left out. Takes one call per spelling of a barcode.

    Raises:
        DataError: an answer isn't a patron with this card.
    """
    found = {}
    for barcode in barcodes:
        owners = (_read_owner(gateway, spelling) for spelling in spellings(barcode))
        owner = next((owner for owner in owners if owner is not None), None)
        if owner is not None:
            found[barcode] = owner
    return found


def _read_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    try:
        answer = gateway.call("open-ils.actor", _BY_BARCODE, TOKEN, barcode).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    patron = gateway.decode(answer)
    cards = patron.cards if isinstance(patron, Record) and patron.class_id == "au" else None
    if isinstance(cards, list):
        for card in cards:
            if card.barcode == barcode:
                return int(patron.id), bool(card.active)
    raise _not_the_patron()
