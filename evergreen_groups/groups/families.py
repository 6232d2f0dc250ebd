"""Look up patrons, cards, and named people with their families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.batches import batched_by_size
from evergreen_groups.errors import DataError, PermissionDeniedError, RecordNotFoundError, unreadable
from evergreen_groups.gateway import TOKEN, Record
from evergreen_groups.groups.barcodes import first_match, spellings
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts
from evergreen_groups.groups.models import ACCOUNT_FIELDS, PATRON_FIELDS, Group, Member, PatronAccount, Query

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
_BY_BARCODE = "open-ils.actor.user.fleshed.retrieve_by_barcode.authoritative"
_CARD_FIELDS = ("id", "usr", "barcode", "active")


def read_patron(gateway: Gateway, patron: int) -> Record | None:
    """Return a patron's record from the primary database, None if the patron is unknown or hidden.

    pcrud may read from a replica that lags a few seconds behind. The record has pcrud's unfleshed form
    (``patrons-031``, ``pcrud-102``), because a fleshed record never compares equal. Releases before 3.14.11 send a
    digest of the password along. Drop it: sent back, the digest would become the password.
    """
    try:
        answer = gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    record = patron_in(gateway, answer, patron)
    if any(isinstance(value, dict | list) for value in record.to_wire()["__p"]):
        raise unreadable("patron-in-another-form", "the patron isn't fleshed as requested")
    return record.replace(passwd=None)


def require_visible(gateway: Gateway, patron: int) -> None:
    """Raise PermissionDeniedError if the session may not see the patron. Unknown patrons are fine."""
    with suppress(RecordNotFoundError):
        gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron)


def patron_in(gateway: Gateway, answer: object, patron: int) -> Record:
    """Decode an answer that must be this patron's record."""
    record = gateway.decode(answer)
    if not isinstance(record, Record) or record.class_id != "au" or record.id != patron:
        raise _not_the_patron()
    return record


def _not_the_patron() -> DataError:
    return unreadable("not-the-patron", "not the requested patron")


def not_replicated_yet() -> DataError:
    """Make the error for a patron whom the primary database has and the replica doesn't have yet."""
    return DataError(
        "the database replica doesn't have this patron yet", advice="try again in a few seconds", code="not-copied-yet"
    )


def find_card(gateway: Gateway, barcode: str, *, with_patron: bool = False) -> Record | None:
    """Find the card (``ac``) with this barcode, active or not, ignoring blanks. ``with_patron`` adds the whole ``usr``.

    Return None if the card is unknown or its patron is hidden.
    """
    wanted = list(spellings(barcode))
    if not wanted:
        return None
    where = {"barcode": wanted if len(wanted) > 1 else wanted[0]}
    form: dict[str, Any] = {"flesh": 1, "flesh_fields": {"ac": ("usr",)}} if with_patron else {"select": _CARD_FIELDS}
    found = gateway.pcrud.search("ac", where, limit=len(wanted), **form)
    return first_match(barcode, {card.barcode: card for card in found})


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Return the owners (patron ids) of cards, and whether the cards are active, as the primary database has them.

    Takes one call per spelling of a barcode. Leave out unknown cards and those of hidden patrons.
    """
    found: dict[str, tuple[int, bool]] = {}
    for barcode, spelling in ((given, spelling) for given in barcodes for spelling in spellings(given)):
        if barcode in found:
            continue
        try:
            answer = gateway.call("open-ils.actor", _BY_BARCODE, TOKEN, spelling).value
        except (RecordNotFoundError, PermissionDeniedError):
            continue
        patron = gateway.decode(answer)
        cards = patron.cards if isinstance(patron, Record) and patron.class_id == "au" else None
        with_barcode = [card for card in cards if card.barcode == spelling] if isinstance(cards, list) else []
        if not with_barcode:
            raise _not_the_patron()
        found[barcode] = int(patron.id), bool(with_barcode[0].active)
    return found


PatronReference = str | int
"""A barcode, in which blanks are ignored, or a patron id."""

MEMBER_FIELDS = (*PATRON_FIELDS, "deleted", *ACCOUNT_FIELDS)
FIELDS = (*MEMBER_FIELDS, *CONTACT_FIELDS)
"""The fields of an ``au`` that :func:`read_people` reads: those of a member first, then those of contacts."""

# A barcode occurs twice in the query, percent-encoded. This many characters stay below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000
# A page with cards stays below a megabyte.
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Card:
    """A library card found by barcode or owner. ``active`` is the state of this card, not of the patron."""

    barcode: str
    active: bool
    member: Member
    account: PatronAccount


@dataclass(frozen=True, slots=True)
class Families:
    """Patrons and their accounts by id, and their groups by number. Nothing is decided yet.

    ``own_fines`` has the patrons with an open transaction, even with a balance of 0.00. ``groups``, ``cards`` (by the
    names that were asked for) and ``contacts`` (by id) are empty unless requested.
    """

    members: Mapping[int, Member]
    accounts: Mapping[int, PatronAccount]
    own_fines: Mapping[int, Decimal]
    groups: Mapping[int, Group] = field(default_factory=dict)
    cards: Mapping[PatronReference, Card] = field(default_factory=dict)
    contacts: Mapping[int, Contacts] = field(default_factory=dict)

    def card(self, patron: int, barcode: str | None = None, *, active: bool = True) -> Card:
        """Make the card of a patron, by default the primary card, if any."""
        member = self.members[patron]
        return Card(barcode or member.barcode or "", active, member, self.accounts[patron])


def read_people(
    gateway: Gateway, ids: Iterable[int] = (), barcodes: Iterable[str] = (), groups: Iterable[int] = ()
) -> dict[int, Record]:
    """Read patrons by id or barcode, the members of their groups, and of ``groups``. Up to 200 of them take one call.

    The records have the ``FIELDS`` and all cards, because a barcode may be on an old one (``desk-010``).
    """
    named = [*(("id", id) for id in ids), *(("barcode", code) for code in barcodes), *(("group", it) for it in groups)]
    batches = batched_by_size(named, _CHARACTERS_AT_ONCE, lambda one: len(quote(str(one[1]))), lambda _count: _AT_ONCE)
    found = gateway.map(partial(_matching, gateway), batches)
    return {person.id: person for person in chain.from_iterable(found)}


def _matching(gateway: Gateway, named: Sequence[tuple[str, Any]]) -> list[Record]:
    gateway.idl("au", "ac", "mous", "aua")  # load them in one request, together with those needed next
    ids, barcodes, groups = ([value for kind, value in named if kind == it] for it in ("id", "barcode", "group"))
    # PostgreSQL uses an index for each query of the union, but would scan all patrons for an "or".
    queries: list[Query] = []
    owners = {"select": {"ac": ["usr"]}, "from": "ac", "where": {"barcode": barcodes}}
    for given, patrons in ((ids, ids), (barcodes, {"in": owners})):
        if given:
            queries.append(ids_of({"id": patrons}))
            queries.append(ids_of({"deleted": "f", "usrgroup": {"in": ids_of({"id": patrons}, "usrgroup")}}))
    if groups:
        queries.append(ids_of({"deleted": "f", "usrgroup": groups}))
    flesh_fields = {"au": ("cards",)}
    pages = gateway.pcrud.pages(
        "au", any_of(queries), select=FIELDS, flesh=1, flesh_fields=flesh_fields, page_size=_ROWS_AT_ONCE, concurrency=1
    )
    people = list(chain.from_iterable(pages))
    # The ILS sends an empty list for no cards (oils_sql.c, doFieldmapperSearch).
    if any(not isinstance(one.cards, list) or any(card.usr != one.id for card in one.cards) for one in people):
        raise unreadable(
            "cards-broken",
            "not a list of the patron's cards",
            advice="check any proxy in between: it may have mixed up answers",
        )
    return people


def ids_of(where: Query, column: str = "id") -> Query:
    return {"select": {"au": [column]}, "from": "au", "where": where}


def any_of(queries: Sequence[Query]) -> Query:
    # The ILS refuses a union of a single query.
    return {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}
