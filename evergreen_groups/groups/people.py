"""The people whom somebody has named, and everybody of their groups, with all their cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import columns
from evergreen_groups.groups.contacts import CONTACT_FIELDS
from evergreen_groups.groups.membership import MEMBER_FIELDS

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record

Query = dict[str, Any]

# A barcode stands in the question twice, percent-encoded: with so many characters it stays below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000
# With their cards these are under a megabyte.
_ROWS_AT_ONCE = 1_000
_FIELDS = (*MEMBER_FIELDS, *CONTACT_FIELDS)
_GROUP, _DELETED = map(MEMBER_FIELDS.index, ("usrgroup", "deleted"))


@dataclass(frozen=True, slots=True)
class Person:
    """A patron's ``MEMBER_FIELDS`` and ``CONTACT_FIELDS`` in one row, and their cards."""

    row: tuple[Any, ...]
    cards: Sequence[Record]

    @property
    def id(self) -> int:
        """The patron's id."""
        return int(self.row[0])

    @property
    def group(self) -> int:
        """The number of their group."""
        return int(self.row[_GROUP])

    @property
    def deleted(self) -> bool:
        """Whether they have been deleted."""
        return bool(self.row[_DELETED])

    def in_group(self, number: int) -> Person:
        """The same in the group with this number."""
        return replace(self, row=tuple(number if at == _GROUP else value for at, value in enumerate(self.row)))

    def as_written(self, record: Record) -> Person:
        """The same with what stands in a record."""
        return replace(self, row=next(columns([record], *_FIELDS)))


def read_people(gateway: Gateway, conditions: Sequence[Mapping[str, Any]]) -> dict[int, Person]:
    """Those whom some conditions name, and the members of their groups, by id.

    A condition has one of ``id``, ``barcode`` and ``group``. One call for up to 200 of them.
    """
    found = gateway.map(lambda portion: _people(gateway, portion), _portions(conditions))
    return {person.id: person for person in chain.from_iterable(found)}


def _portions(conditions: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The conditions in as few questions as may be."""
    portion: list[Mapping[str, Any]] = []
    length = 0
    for condition in conditions:
        more = len(quote(str(condition.get("barcode", ""))))
        if portion and (len(portion) == _AT_ONCE or length + more > _CHARACTERS_AT_ONCE):
            yield portion
            portion, length = [], 0
        portion.append(condition)
        length += more
    if portion:
        yield portion


def _people(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[Person]:
    """Those whom some conditions name, and the members of their groups (``desk-010``)."""
    gateway.idl("au", "ac", "mous", "aua")  # in one go, with what is read next
    queries = list(_queries(named))
    everybody = {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}  # a union of one is refused
    # All of their cards, for it may be an old one that somebody was named by. They are small.
    pages = gateway.pcrud.pages(
        "au",
        everybody,
        select=_FIELDS,
        flesh=1,
        flesh_fields={"au": ("cards",)},
        page_size=_ROWS_AT_ONCE,
        concurrency=1,
    )
    return [
        Person(row, _cards_of(record))
        for page in pages
        for record, row in zip(page, columns(page, *_FIELDS), strict=True)
    ]


def _cards_of(record: Record) -> Sequence[Record]:
    cards = record.cards
    # A list even where there is none (oils_sql.c, doFieldmapperSearch).
    if not isinstance(cards, list) or any(card.usr != record.id for card in cards):
        raise DataError(
            "the ILS gave no list of a patron's cards, or another patron's",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="cards-broken",
        )
    return cards


def _queries(named: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    """Queries for ids, of which PostgreSQL takes each by its own index; in an "or" it would look at every patron."""
    ids, barcodes, groups = ([it[kind] for it in named if kind in it] for kind in ("id", "barcode", "group"))
    if ids:
        yield _ids({"id": ids})
        yield _ids({"deleted": "f", "usrgroup": {"in": _ids({"id": ids}, "usrgroup")}})
    if barcodes:
        owners = {"select": {"ac": ["usr"]}, "from": "ac", "where": {"barcode": barcodes}}
        yield _ids({"id": {"in": owners}})
        yield _ids({"deleted": "f", "usrgroup": {"in": _ids({"id": {"in": owners}}, "usrgroup")}})
    if groups:
        yield _ids({"deleted": "f", "usrgroup": groups})


def _ids(where: Query, column: str = "id") -> Query:
    return {"select": {"au": [column]}, "from": "au", "where": where}
