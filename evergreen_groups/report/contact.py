"""Whom to contact about each group of a report, and how.

The group lead, or the adult who owes the most if the lead is a juvenile or can't be reached. Never a juvenile: if the
group has no adult, a guardian.

Evergreen returns an au or aua only with VIEW_USER at the patron's home library. What it leaves out counts as missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.ils import read_setting

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import PenaltyKinds, PenaltyRow
    from evergreen_groups.report.details import ReportDetails

LEAD, ADULT, GUARDIAN = "lead", "adult", "guardian"
"""Why a person is the one to contact."""
WAYS = ("day_phone", "evening_phone", "other_phone", "email", "address")
"""The fields of a :class:`Contact` that say how to reach the person."""

# Evergreen's stock penalties (Open-ILS/src/sql/Pg/950.data.seed-values.sql, rel_3_17). When staff mark a phone number
# or an address as invalid, Evergreen empties the field and sets one of these (OpenILS/Utils/BadContact.pm).
_INVALID = {
    "INVALID_PATRON_ADDRESS": "address",
    "INVALID_PATRON_EMAIL_ADDRESS": "email",
    "INVALID_PATRON_DAY_PHONE": "day_phone",
    "INVALID_PATRON_EVENING_PHONE": "evening_phone",
    "INVALID_PATRON_OTHER_PHONE": "other_phone",
}
_IN_COLLECTIONS = "PATRON_IN_COLLECTIONS"
# put_into_collections sets the penalty that this setting names where the patron is in collections (Collections.pm).
_COLLECTIONS_OVERRIDE = "circ.custom_penalty_override.PATRON_IN_COLLECTIONS"
_ADDRESS_FIELDS = ("id", "street1", "street2", "city", "state", "post_code", "country", "valid", "pending")


@dataclass(frozen=True, slots=True)
class Contact:
    """The person to contact about a group, and how. Texts are empty for what isn't known.

    ``patron`` is the id of the member, or of the juvenile whose guardian this is; None if there is nobody to contact.
    ``role`` is one of ``LEAD``, ``ADULT`` and ``GUARDIAN``. ``library`` is the home library's short name. ``withheld``
    means that only those who see that library's patrons may see how to reach the person. ``invalid`` names the
    ``WAYS`` that are marked invalid. ``in_collections`` means that a member is, since ``collections_since`` if known.
    """

    patron: int | None = None
    name: str = ""
    role: str = ""
    library: str = ""
    day_phone: str = ""
    evening_phone: str = ""
    other_phone: str = ""
    email: str = ""
    address: str = ""
    invalid: tuple[str, ...] = ()
    in_collections: bool = False
    collections_since: datetime | None = None
    withheld: bool = False

    def for_libraries(self, libraries: Collection[str]) -> Contact:
        """Return what readers of these libraries may see."""
        if not self.library or self.library in libraries:
            return self
        # A member's name is in the report anyway.
        name = "" if self.role == GUARDIAN else self.name
        return Contact(
            self.patron,
            name,
            self.role,
            self.library,
            in_collections=self.in_collections,
            collections_since=self.collections_since,
            withheld=True,
        )


class _Person(NamedTuple):
    juvenile: bool
    day_phone: str
    evening_phone: str
    other_phone: str
    email: str
    mailing_address: int | None
    billing_address: int | None
    guardian: str = ""
    guardian_email: str = ""


class ContactReader:
    """Finds the contacts of groups, in two calls for up to 1,500 groups whose leads have a phone number or an e-mail.

    The rest comes with the report's own calls: select ``fields`` with each patron, and ``penalties`` with the blocks,
    and add both. Unless ``wanted``, the reader needs nothing and finds None.
    """

    def __init__(self, gateway: Gateway, wanted: bool) -> None:
        self._gateway = gateway
        known = gateway.idl("au")["au"].positions if wanted else {}
        self.fields = tuple(name for name in _Person._fields[1:] if name in known)  # before 3.16 without guardians
        self._overrides = gateway.begin(lambda: read_setting(gateway, _COLLECTIONS_OVERRIDE) if wanted else {})
        self._people: dict[int, _Person] = {}
        self._rows: dict[int, list[PenaltyRow]] = {}

    def penalties(self, kinds: PenaltyKinds) -> frozenset[int]:
        """Return the ids of the kinds of penalties that are needed."""
        if not self.fields:
            return frozenset()
        others = frozenset(map(_id_in, self._overrides.result().values())) - {0}
        return others | kinds.ids_of([_IN_COLLECTIONS, *_INVALID]).keys()

    def add_person(self, patron: int, juvenile: bool, values: Sequence[Any]) -> None:
        """Add what the record of a patron says in ``fields``."""
        named = dict(zip(self.fields, values, strict=True))
        for name in named.keys() - {"mailing_address", "billing_address"}:
            named[name] = str(named[name] or "").strip()
        self._people[patron] = _Person(juvenile, **named)

    def add_penalties(self, patrons: Iterable[int], rows: Iterable[PenaltyRow]) -> None:
        """Add the penalties in force of these patrons, instead of what was read of them before."""
        for patron in patrons:
            self._rows.pop(patron, None)
        for row in rows:
            self._rows.setdefault(row.patron, []).append(row)

    def read(self, groups: Sequence[Group], kinds: PenaltyKinds) -> dict[int, Contact] | None:
        """Return the contact of each group by number."""
        if not self.fields:
            return None
        people, overrides = self._people, self._overrides.result()
        used = sorted({id for group in groups for id in _addresses_needed(group, people)})
        addresses = dict(_read_addresses(self._gateway, used)) if used else {}
        stock = kinds.ids_of([_IN_COLLECTIONS])
        invalid = {id: _INVALID[name] for id, name in kinds.ids_of(_INVALID).items()}

        def contact_of(group: Group) -> Contact:
            contact = _choose(group, people, addresses)
            found = [row for member in group.members for row in self._rows.get(member.id, ())]
            # Elsewhere, the penalty that a library uses in place of the stock one may mean something else.
            collections = [row for row in found if row.kind in stock or row.kind == _id_in(overrides.get(row.org_unit))]
            return replace(
                contact,
                invalid=tuple(way for row in found if row.patron == contact.patron and (way := invalid.get(row.kind)))
                if contact.role != GUARDIAN
                else (),
                in_collections=bool(collections),
                collections_since=min((row.set_date for row in collections if row.set_date), default=None),
            )

        return {group.number: contact_of(group) for group in groups}


def _id_in(value: object) -> int:
    """Return the id in a setting's value: a number, also one in quotation marks (settings-001). 0 if there is none."""
    text = str(value or "").strip('"')
    return int(text) if text.isdecimal() else 0


def _addresses_needed(group: Group, people: Mapping[int, _Person]) -> Iterator[int]:
    """Yield the ids of the addresses on which the choice depends: those of adults up to the first with another way."""
    for member in _in_order(group):
        person = people.get(member.id)
        if person is None or person.juvenile:
            continue
        yield from filter(None, (person.mailing_address, person.billing_address))
        if person.day_phone or person.evening_phone or person.other_phone or person.email:
            return


def _read_addresses(gateway: Gateway, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield the usable addresses, each on one line, with their ids."""
    for row in gateway.pcrud.columns_by_values("aua", _ADDRESS_FIELDS, "id", ids):
        id, *parts, valid, pending = row
        if valid and not pending:
            street1, street2, city, state, code, country = (str(part or "").strip() for part in parts)
            yield id, ", ".join(filter(None, (street1, street2, city, f"{state} {code}".strip(), country)))


def _in_order(group: Group) -> list[Member]:
    """Return the members in the order in which they are considered: the lead, then those who owe the most."""
    first = group.lead  # the oldest record if the group has no lead
    lead = first if first.group_lead else None
    return sorted(group.members, key=lambda member: (member is not lead, -member.own_fines, member.id))


def contact_person(group: Group, contact: Contact | None, details: ReportDetails | None) -> Member:
    """Return the member whose home library decides who may save entries, and with whom a follow-up goes after a split.

    It is the ``contact``, or the juvenile whose guardian that is. Without contact data, the same rule applies as far as
    the report knows: only ``details`` tell juveniles from adults, and nothing tells who can be reached.
    """
    members = _in_order(group)
    known = None if contact is None else contact.patron
    for member in members:
        if member.id == known:
            return member
    of_members = {} if details is None else details.members
    adults = (one for one in members if (of := of_members.get(one.id)) is None or not of.state.juvenile)
    return next(adults, members[0])


def _choose(group: Group, people: Mapping[int, _Person], addresses: Mapping[int, str]) -> Contact:
    """Return the lead, else the adult with contact data who owes the most, else the guardian of a juvenile.

    If no adult has contact data, the first adult stays the contact.
    """
    juveniles: list[tuple[Member, _Person]] = []
    adults: list[Contact] = []
    for member in _in_order(group):
        person = people.get(member.id)
        if person is None:
            continue
        if person.juvenile:
            juveniles.append((member, person))
            continue
        contact = Contact(
            patron=member.id,
            name=member.name,
            role=LEAD if member is group.lead and member.group_lead else ADULT,
            library=member.library,
            day_phone=person.day_phone,
            evening_phone=person.evening_phone,
            other_phone=person.other_phone,
            email=person.email,
            address=addresses.get(person.mailing_address or 0) or addresses.get(person.billing_address or 0, ""),
        )
        if any(getattr(contact, way) for way in WAYS):
            return contact
        adults.append(contact)
    for member, person in juveniles if not adults else ():
        if person.guardian or person.guardian_email:
            name = person.guardian
            return Contact(member.id, name, GUARDIAN, member.library, email=person.guardian_email)
    return adults[0] if adults else Contact()
