"""Read contact data, normalize it for comparison, and find out what patrons have in common.

When staff clone a patron, the new record refers to the original patron's address rows (``family-006`` has the two
fields, ``family-005`` the rows). The address is then borrowed: editing the address of either patron changes both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups.batches import batched
from evergreen_groups.gateway import columns

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.models import Patron, PatronRow

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
"""The fields of an ``au`` that :func:`read_contacts` takes, in order."""
_ROW_FIELDS = ("id", "usr", "street1", "post_code")
# A patron's id and two address row ids for each of so many patrons stay below the gateway's 32 kB.
_AT_ONCE = 800
_EMPTY: frozenset[Any] = frozenset()
_NO_DIGITS = re.compile(r"\D+")
_SHORTEST_PHONE = 5
"""Fewer digits are an extension, or a remark such as "none"."""


@dataclass(frozen=True, slots=True)
class Contacts:
    """How to reach one patron.

    ``addresses`` are pairs of street and post code, from the patron's own address rows and those that the record uses.
    ``lenders`` are the ids of other patrons whose rows the record uses; ``hidden_lender`` means that the account can't
    see one of these rows. ``created`` is when the record was made.
    """

    addresses: frozenset[tuple[str, str]] = frozenset()
    phones: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    created: datetime | None = None
    lenders: frozenset[int] = frozenset()
    hidden_lender: bool = False


# An address row: its owner's patron id, and the normalized street and post code.
_AddressRow = tuple[int, tuple[str, str]]


def read_contacts(gateway: Gateway, records: Mapping[int, Sequence[Any]]) -> dict[int, Contacts]:
    """Read the contacts of patrons, by id. ``records`` has the ``CONTACT_FIELDS`` of each patron.

    Takes one call for up to 800 patrons: the rows that belong to the patrons together with those that their records use
    (``contacts-002``). The ILS silently drops rows of hidden patrons (``family-021``, ``contacts-009``).
    """
    rows: dict[int, _AddressRow] = {}
    for found in gateway.map(lambda patrons: _rows(gateway, patrons, records), batched(sorted(records), _AT_ONCE)):
        rows.update((id, (owner, (_normalize(street), _normalize(code)))) for id, owner, street, code in found)
    by_owner: dict[int, list[_AddressRow]] = {}
    for row in rows.values():
        by_owner.setdefault(row[0], []).append(row)
    return {id: _contacts(id, record, rows, by_owner.get(id, ())) for id, record in records.items()}


def _rows(gateway: Gateway, patrons: Sequence[int], records: Mapping[int, Sequence[Any]]) -> list[tuple[Any, ...]]:
    wanted: dict[str, Any] = {"usr": list(patrons)}
    if used := sorted({row for id in patrons for row in _used(records[id])}):
        # PostgreSQL uses an index for each alternative (actor_usr_addr_usr_idx and the primary key).
        wanted = {"-or": [wanted, {"id": used}]}
    pages = gateway.pcrud.pages("aua", wanted, select=_ROW_FIELDS, concurrency=1)
    return [row for page in pages for row in columns(page, *_ROW_FIELDS)]


def _used(record: Sequence[Any]) -> list[int]:
    return [row for row in record[:2] if row is not None]


def _contacts(id: int, record: Sequence[Any], rows: Mapping[int, _AddressRow], own: Sequence[_AddressRow]) -> Contacts:
    used = [rows.get(row) for row in _used(record)]
    _mailing, _billing, *phones, email, created = record
    return Contacts(
        # An address without a street is too vague to compare.
        addresses=_shared_set(row[1] for row in (*own, *used) if row is not None and row[1][0]),
        phones=_shared_set(filter(None, map(_phone, phones))),
        emails=_shared_set(it for it in [str(email or "").strip().casefold()] if "@" in it),
        created=created,
        lenders=_shared_set(row[0] for row in used if row is not None and row[0] != id),
        # Accounts that see a patron also see the patron's own rows, so a missing row belongs to another patron.
        hidden_lender=None in used,
    )


def _shared_set(values: Iterable[Value]) -> frozenset[Value]:
    """Return a frozenset. Share the empty one, because an audit holds tens of thousands of contacts."""
    return frozenset(values) or _EMPTY


def _normalize(part: object) -> str:
    """Drop blanks and case, which vary from card to card for the same house."""
    return "".join(str(part or "").split()).casefold()


def _phone(text: object) -> str | None:
    """Return the digits of a phone number, None if there are too few or all are the same (000-0000)."""
    if not text:
        return None
    digits = _NO_DIGITS.sub("", str(text))
    # Repeated digits such as 000-0000 are placeholders.
    return digits if len(digits) >= _SHORTEST_PHONE and len(set(digits)) > 1 else None


SURNAME, ADDRESS, PHONE, EMAIL, LIBRARY = "surname", "address", "phone", "email", "library"
TIES = (SURNAME, ADDRESS, PHONE, EMAIL)
"""Common values that suggest patrons are related."""
SHAREABLE = (*TIES, LIBRARY)
"""All values that patrons can have in common."""
ONE_DAY = timedelta(days=1)
"""Records created within this time count as created together."""
_NO_CONTACTS = Contacts()

Trait = tuple[str, object]


class Relations:
    """What patrons have in common. Patrons without ``contacts`` are compared by surname and library only."""

    def __init__(self, patrons: Iterable[Patron | PatronRow], contacts: Mapping[int, Contacts]) -> None:
        self._contacts = contacts
        self._traits = {patron.id: self._traits_of(patron) for patron in patrons}

    def contacts(self, patron: int) -> Contacts:
        return self._contacts.get(patron, _NO_CONTACTS)

    def shared(self, patron: int, others: Iterable[int]) -> frozenset[str]:
        """Return the ``SHAREABLE`` values that a patron has in common with any of the others."""
        mine = self._traits[patron]
        return frozenset(kind for other in others if other != patron for kind, _value in mine & self._traits[other])

    def in_common(self, patrons: Collection[int]) -> dict[int, set[str]]:
        """Return what each patron (by id) has in common with any other of these patrons, from ``SHAREABLE``."""
        counts = Counter(trait for id in patrons for trait in self._traits[id])
        return {id: {trait[0] for trait in self._traits[id] if counts[trait] > 1} for id in patrons}

    def strangers(self, patrons: Collection[int]) -> list[int]:
        """Return the patrons who have nothing in common with any other. A single patron is not a stranger."""
        return [id for id, kinds in self.in_common(patrons).items() if not kinds] if len(patrons) > 1 else []

    def families(self, patrons: Collection[int]) -> list[tuple[int, ...]]:
        """Group patrons by chains of ``TIES``: the largest family first, then by lowest id."""
        family = {id: [id] for id in sorted(patrons)}
        first: dict[Trait, int] = {}
        for id in sorted(patrons):
            for trait in self._traits[id]:
                if trait[0] not in TIES:
                    continue
                one, other = family[first.setdefault(trait, id)], family[id]
                # Merge the smaller family into the larger one (union-find without ranks).
                if one is not other:
                    smaller, larger = sorted((one, other), key=len)
                    larger.extend(smaller)
                    family.update(dict.fromkeys(smaller, larger))
        found = {tuple(sorted(members)) for members in family.values()}
        return sorted(found, key=lambda members: (-len(members), members))

    def cloned(self, patrons: Collection[int]) -> list[int]:
        """Return the patrons who look cloned from another one of these patrons.

        Their records use an address row of that patron and were created within a day. Patrons who also share a surname,
        phone or email address don't count, because staff clone records of real families, too.
        """
        among = set(patrons)

        def is_clone(patron: int, lender: int) -> bool:
            one, other = self.contacts(patron).created, self.contacts(lender).created
            together = one is not None and other is not None and abs(one - other) <= ONE_DAY
            return together and not self.shared(patron, [lender]) & {SURNAME, PHONE, EMAIL}

        return [id for id in sorted(among) if any(is_clone(id, lender) for lender in self.contacts(id).lenders & among)]

    def _traits_of(self, patron: Patron | PatronRow) -> frozenset[Trait]:
        known = self.contacts(patron.id)
        traits: list[Trait] = [(LIBRARY, patron.home_library)]
        if surname := (patron.family_name or "").strip().casefold():
            traits.append((SURNAME, surname))
        traits.extend((ADDRESS, at) for at in known.addresses)
        traits.extend((PHONE, number) for number in known.phones)
        traits.extend((EMAIL, address) for address in known.emails)
        return frozenset(traits)
