"""A patron's record as it is where changes are written."""

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
    """A patron's record, None for one whom the account can't see, or who isn't there.

    It comes from the database that is written to: where plain reads go to a copy, pcrud may give what was there some
    seconds ago. The form is pcrud's own, unfleshed (``patrons-031``, ``pcrud-102``); a fleshed record never compares
    alike. Releases before 3.14.11 send a digest of the password along, which is dropped here: sent back, it would
    become the password.

    Raises:
        DataError: what came isn't that patron, or is the answer to something else.
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
    """Refuse a patron whom the session may not see.

    Raises:
        PermissionDeniedError: it says which permission is missing, and where.
    """
    with suppress(RecordNotFoundError):
        gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron)


def patron_in(gateway: Gateway, answer: object, patron: int) -> Record:
    """The record that an answer is to be.

    Raises:
        DataError: it is something else, or somebody else's.
    """
    record = gateway.decode(answer)
    if not isinstance(record, Record) or record.class_id != "au" or record.id != patron:
        raise _not_the_patron()
    return record


def _not_the_patron() -> DataError:
    return DataError("the ILS gave something else than the patron asked for", code="not-the-patron")


def read_card_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    """Whose card has exactly this barcode (a patron's id), and whether it is active; None for an unknown or hidden one.

    For sites where pcrud doesn't know yet of a card that has just been issued.

    Raises:
        DataError: what came isn't a patron with such a card.
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
