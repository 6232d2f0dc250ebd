"""How patrons are reached, written alike for comparing, and whose address rows their records use.

Cloning a patron in the staff client makes the new record point at the address rows of the one it was made from
(``family-006`` has the two fields, ``family-005`` the rows). Such an address is borrowed: a change of it in one record
is a change in the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from evergreen_groups.gateway import columns

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

Value = TypeVar("Value")

CONTACT_FIELDS = (
    "mailing_address",
    "billing_address",
    "day_phone",
    "evening_phone",
    "other_phone",
    "email",
    "create_date",
)
"""The fields of an ``au`` that :class:`Contacts` are made of, in the order of :func:`read_contacts`."""
_ROW_FIELDS = ("id", "usr", "street1", "post_code")
# A patron's id and two of address rows: below the gateway's 32 kB with so many of them.
_AT_ONCE = 800
_NONE: frozenset[Any] = frozenset()
_NO_DIGITS = re.compile(r"\D+")
_SHORTEST_PHONE = 5
"""Fewer digits than these are an extension, or a remark such as "none"."""


@dataclass(frozen=True, slots=True)
class Contacts:
    """How one patron is reached.

    ``addresses`` are street and post code of the patron's own address rows and of those that the record uses.
    ``lenders`` are the ids of other patrons whose rows it uses; ``hidden_lender`` says that it uses one more, which
    the account can't see. ``created`` is when the record was made.
    """

    addresses: frozenset[tuple[str, str]] = frozenset()
    phones: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    created: datetime | None = None
    lenders: frozenset[int] = frozenset()
    hidden_lender: bool = False

    @property
    def borrows(self) -> bool:
        """Whether the record uses an address row of another patron's."""
        return bool(self.lenders) or self.hidden_lender


@dataclass(frozen=True, slots=True)
class _AddressRow:
    id: int
    owner: int
    address: tuple[str, str]


def read_contacts(gateway: Gateway, records: Mapping[int, Sequence[Any]]) -> dict[int, Contacts]:
    """The contacts of patrons by id; ``records`` has the ``CONTACT_FIELDS`` of each.

    One call for up to 800 patrons, none for nobody, and for more of them one for up to 2,000, and as many again for
    rows of others that they use.
    """
    wanted = sorted(records)
    found = _rows(gateway, wanted, records) if len(wanted) <= _AT_ONCE else _rows_of_many(gateway, wanted, records)
    rows = {row.id: row for row in found}
    of_owner: dict[int, list[_AddressRow]] = {}
    for row in rows.values():
        of_owner.setdefault(row.owner, []).append(row)
    return {id: _contacts(id, record, rows, of_owner.get(id, ())) for id, record in records.items()}


def _rows(gateway: Gateway, patrons: Sequence[int], records: Mapping[int, Sequence[Any]]) -> list[_AddressRow]:
    """The address rows that belong to some patrons, and those that their records use.

    Both at once (``contacts-002``). Rows of patrons who are hidden from the account are missing without a word
    (``family-021``, ``contacts-009``).
    """
    if not patrons:
        return []
    wanted: dict[str, Any] = {"usr": list(patrons)}
    if used := sorted({row for id in patrons for row in _used(records[id])}):
        # Each alternative by an index of its own (actor_usr_addr_usr_idx, and the key).
        wanted = {"-or": [wanted, {"id": used}]}
    pages = gateway.pcrud.pages("aua", wanted, select=_ROW_FIELDS, concurrency=1)
    return [_address_row(*values) for page in pages for values in columns(page, *_ROW_FIELDS)]


def _rows_of_many(
    gateway: Gateway, patrons: Sequence[int], records: Mapping[int, Sequence[Any]]
) -> Iterator[_AddressRow]:
    """The same of many: their own rows first, for most use no others."""
    known = set()
    for batch in gateway.pcrud.columns_by_values("aua", _ROW_FIELDS, "usr", patrons):
        for values in batch:
            known.add(values[0])
            yield _address_row(*values)
    others = {row for id in patrons for row in _used(records[id])} - known
    for batch in gateway.pcrud.columns_by_values("aua", _ROW_FIELDS, "id", sorted(others)):
        yield from (_address_row(*values) for values in batch)


def _address_row(id: int, owner: int, street: object, post_code: object) -> _AddressRow:
    return _AddressRow(id, owner, (_alike(street), _alike(post_code)))


def _used(record: Sequence[Any]) -> list[int]:
    """The ids of the address rows that a record uses."""
    return [row for row in record[:2] if row is not None]


def _contacts(id: int, record: Sequence[Any], rows: Mapping[int, _AddressRow], own: Sequence[_AddressRow]) -> Contacts:
    used = [rows.get(row) for row in _used(record)]
    _mailing, _billing, *phones, email, created = record
    return Contacts(
        # Without a street it is no address to have in common.
        addresses=_set(row.address for row in (*own, *used) if row is not None and row.address[0]),
        phones=_set(filter(None, map(_phone, phones))),
        emails=_set(filter(None, [_email(email)])),
        created=created,
        lenders=_set(row.owner for row in used if row is not None and row.owner != id),
        # Whoever sees a patron sees the patron's own rows, so one that is missing belongs to somebody else.
        hidden_lender=None in used,
    )


def _set(values: Iterable[Value]) -> frozenset[Value]:
    """A set of values; most have none, and an audit has contacts by the ten thousand: they share the empty one."""
    return frozenset(values) or _NONE


def _alike(part: object) -> str:
    """The same house is written with other blanks and capitals from one card to the next."""
    return "".join(str(part or "").split()).casefold()


def _phone(text: object) -> str | None:
    """The digits of a phone number; None where there are too few, or all are the same (000-0000)."""
    if not text:
        return None
    digits = _NO_DIGITS.sub("", str(text))
    return digits if len(digits) >= _SHORTEST_PHONE and len(set(digits)) > 1 else None


def _email(text: object) -> str | None:
    found = str(text or "").strip().casefold()
    return found if "@" in found else None


SURNAME, ADDRESS, PHONE, EMAIL, LIBRARY = "surname", "address", "phone", "email", "library"
TIES = (SURNAME, ADDRESS, PHONE, EMAIL)
"""What makes relatives of patrons who have it in common."""
SHAREABLE = (*TIES, LIBRARY)
"""All that patrons can have in common."""
ONE_DAY = timedelta(days=1)
"""Records that were made within this time were made together."""
_NO_RELATION = Contacts()

Trait = tuple[str, object]


class Related(Protocol):
    """What is known of a patron without contacts: a :class:`Patron`, or the row that one is made of."""

    @property
    def id(self) -> int:
        """The patron's id."""

    @property
    def family_name(self) -> str | None:
        """The legal family name."""

    @property
    def home_library(self) -> Hashable:
        """The home library, or its id, of all alike."""


class Relations:
    """What some patrons have in common with one another; of whom no contacts are given, surname and library count."""

    def __init__(self, patrons: Iterable[Related], contacts: Mapping[int, Contacts]) -> None:
        self._contacts = contacts
        self._traits = {patron.id: self._traits_of(patron) for patron in patrons}

    def contacts(self, patron: int) -> Contacts:
        """How a patron is reached, as far as that is known."""
        return self._contacts.get(patron, _NO_RELATION)

    def shared(self, patron: int, others: Iterable[int]) -> frozenset[str]:
        """What of ``SHAREABLE`` a patron has in common with one or several of the others."""
        mine = self._traits[patron]
        return frozenset(kind for other in others if other != patron for kind, _value in mine & self._traits[other])

    def in_common(self, patrons: Collection[int]) -> dict[int, set[str]]:
        """What of ``SHAREABLE`` each of some patrons has in common with another of them, by id."""
        counts = Counter(trait for id in patrons for trait in self._traits[id])
        return {id: {trait[0] for trait in self._traits[id] if counts[trait] > 1} for id in patrons}

    def strangers(self, patrons: Collection[int]) -> list[int]:
        """Those of some patrons who have nothing in common with another of them; nobody, where there is one alone."""
        return [id for id, kinds in self.in_common(patrons).items() if not kinds] if len(patrons) > 1 else []

    def families(self, patrons: Collection[int]) -> list[tuple[int, ...]]:
        """Some patrons, put together by what makes relatives of them: the largest family first, then by lowest id.

        Who shares with somebody who shares with a third belongs with both.
        """
        family = {id: [id] for id in sorted(patrons)}
        first: dict[Trait, int] = {}
        for id in sorted(patrons):
            for trait in self._traits[id]:
                if trait[0] not in TIES:
                    continue
                one, other = family[first.setdefault(trait, id)], family[id]
                if one is not other:
                    smaller, larger = sorted((one, other), key=len)
                    larger.extend(smaller)
                    family.update(dict.fromkeys(smaller, larger))
        found = {tuple(sorted(members)) for members in family.values()}
        return sorted(found, key=lambda members: (-len(members), members))

    def cloned(self, patrons: Collection[int]) -> list[int]:
        """Those whose record uses an address row of another of them that was made within a day of it.

        Only those count who have neither surname, phone nor e-mail in common with that one: a family's records are
        made by cloning as well.
        """
        among = set(patrons)
        return [
            id
            for id in sorted(among)
            if any(self._is_clone(id, lender) for lender in self.contacts(id).lenders if lender in among)
        ]

    def _is_clone(self, patron: int, lender: int) -> bool:
        one, other = self.contacts(patron).created, self.contacts(lender).created
        together = one is not None and other is not None and abs(one - other) <= ONE_DAY
        return together and not self.shared(patron, [lender]) & {SURNAME, PHONE, EMAIL}

    def _traits_of(self, patron: Related) -> frozenset[Trait]:
        known = self.contacts(patron.id)
        traits: list[Trait] = [(LIBRARY, patron.home_library)]
        if surname := (patron.family_name or "").strip().casefold():
            traits.append((SURNAME, surname))
        traits.extend((ADDRESS, at) for at in known.addresses)
        traits.extend((PHONE, number) for number in known.phones)
        traits.extend((EMAIL, address) for address in known.emails)
        return frozenset(traits)
