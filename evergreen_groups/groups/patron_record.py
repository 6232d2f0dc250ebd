"""Read single patron records from the primary database."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, PermissionDeniedError, RecordNotFoundError
from evergreen_groups.gateway import TOKEN, Record

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
_BY_BARCODE = "open-ils.actor.user.fleshed.retrieve_by_barcode.authoritative"


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


def read_card_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    """Find the owner (patron id) of the card with exactly this barcode, and whether it is active.

    Return None if the card is unknown or hidden. Needed where pcrud reads from a replica that lacks newly issued cards.

    Raises:
        DataError: the answer isn't a patron with this card.
    """
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
