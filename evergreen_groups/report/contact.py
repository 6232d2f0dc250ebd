"""Whom to contact about each group of a report, and how.

Evergreen returns an au or aua only with VIEW_USER at the patron's home library. What it leaves out counts as missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.ils import read_setting, rows_in_force

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import PenaltyKinds, PenaltyRow

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


class PostalAddress(NamedTuple):
    """An address of a patron (``aua``) or an org unit (``aoa``). Parts are empty if they aren't set."""

    street1: str
    street2: str
    city: str
    state: str
    post_code: str
    country: str

    @classmethod
    def of(cls, values: Iterable[object]) -> PostalAddress:
        """Make an address from the values of the fields, as sent."""
        return cls(*(str(value or "").strip() for value in values))

    def lines(self, domestic: str = "") -> tuple[str, ...]:
        """Return the lines, without the country if it is ``domestic``."""
        place = f"{self.city}, {self.state} {self.post_code}" if self.state else f"{self.post_code} {self.city}"
        country = "" if self.country.casefold() == domestic.casefold() else self.country
        return tuple(filter(None, (self.street1, self.street2, place.strip(", "), country)))


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
    postal_address: PostalAddress | None = None
    invalid: tuple[str, ...] = ()
    in_collections: bool = False
    collections_since: datetime | None = None
    withheld: bool = False

    @property
    def address(self) -> str:
        """The postal address on one line."""
        return ", ".join(self.postal_address.lines()) if self.postal_address else ""

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
    id: int
    juvenile: bool
    day_phone: str
    evening_phone: str
    other_phone: str
    email: str
    mailing_address: int | None
    billing_address: int | None
    guardian: str = ""
    guardian_email: str = ""


class ContactBook:
    """How to reach the members of groups, read in four calls for up to 3,000 members.

    ``more`` are fields of ``au`` to read as well. If there are any, ``records`` has all that was read of each visible
    member, by patron id and field.
    """

    def __init__(
        self, gateway: Gateway, groups: Sequence[Group], kinds: PenaltyKinds, more: Collection[str] = ()
    ) -> None:
        members = [member.id for group in groups for member in group.members]
        self.records: dict[int, dict[str, Any]] = {}
        self._people: dict[int, _Person] = {}
        for record in _read_records(gateway, members, more):
            self._people[record["id"]] = _person(record)
            if more:
                self.records[record["id"]] = record
        used = sorted({id for one in self._people.values() for id in (one.mailing_address, one.billing_address) if id})
        self._overrides = read_setting(gateway, _COLLECTIONS_OVERRIDE)
        self._in_collections = {*kinds.ids_of([_IN_COLLECTIONS])}
        self._invalid = {id: _INVALID[name] for id, name in kinds.ids_of(_INVALID).items()}
        wanted = sorted({*self._in_collections, *map(_id_in, self._overrides.values()), *self._invalid} - {0})
        self._addresses: dict[int, PostalAddress]
        self._addresses, rows = gateway.in_parallel(
            lambda: dict(_read_addresses(gateway, used)) if used else {},
            lambda: list(rows_in_force(gateway, members, kinds=wanted, all_visible=True)) if wanted and members else [],
        )
        self._penalties: dict[int, list[PenaltyRow]] = {}
        for row in rows:
            self._penalties.setdefault(row.patron, []).append(row)

    def of_group(self, group: Group) -> Contact:
        """Return the lead, else the adult with contact data who owes the most, else the guardian of a juvenile."""
        return self._with_penalties(self._choose(group), group.members)

    def of_member(self, group: Group, member: Member) -> Contact:
        """Return how to reach an adult of a group."""
        return self._with_penalties(self._contact(group, member), [member])

    def _with_penalties(self, contact: Contact, members: Iterable[Member]) -> Contact:
        found = [row for member in members for row in self._penalties.get(member.id, ())]
        # Elsewhere, the penalty that a library uses in place of the stock one may mean something else.
        collections = [
            row
            for row in found
            if row.kind in self._in_collections or row.kind == _id_in(self._overrides.get(row.org_unit))
        ]
        # Of a juvenile's data, only the address is the guardian's as well.
        ways = [self._invalid[row.kind] for row in found if row.patron == contact.patron and row.kind in self._invalid]
        return replace(
            contact,
            invalid=tuple(way for way in ways if contact.role != GUARDIAN or way == "address"),
            in_collections=bool(collections),
            collections_since=min((row.set_date for row in collections if row.set_date), default=None),
        )

    def _choose(self, group: Group) -> Contact:
        lead = group.lead
        known = [one for one in (lead, *group.members) if one.id in self._people]
        adults = [self._contact(group, one) for one in known if not self._people[one.id].juvenile]
        for contact in adults:
            if any(getattr(contact, way) for way in WAYS):
                return contact
        if adults:
            return adults[0]
        for member in known:
            person = self._people[member.id]
            if person.guardian or person.guardian_email:
                return Contact(
                    member.id,
                    person.guardian,
                    GUARDIAN,
                    member.library,
                    email=person.guardian_email,
                    postal_address=self._address(person),
                )
        return Contact()

    def _contact(self, group: Group, member: Member) -> Contact:
        person = self._people[member.id]
        return Contact(
            patron=member.id,
            name=member.name,
            role=LEAD if member is group.lead and member.group_lead else ADULT,
            library=member.library,
            day_phone=person.day_phone,
            evening_phone=person.evening_phone,
            other_phone=person.other_phone,
            email=person.email,
            postal_address=self._address(person),
        )

    def _address(self, person: _Person) -> PostalAddress | None:
        used = person.mailing_address, person.billing_address
        return next((self._addresses[id] for id in used if id in self._addresses), None)


def _id_in(value: object) -> int:
    """Return the id in a setting's value: a number, also one in quotation marks (settings-001). 0 if there is none."""
    text = str(value or "").strip('"')
    return int(text) if text.isdecimal() else 0


def _read_records(gateway: Gateway, members: Collection[int], more: Collection[str]) -> Iterator[dict[str, Any]]:
    known = gateway.idl("au")["au"].positions
    fields = tuple(name for name in dict.fromkeys((*_Person._fields, *more)) if name in known)
    for row in gateway.pcrud.columns_by_values("au", fields, "id", sorted(members)) if members else ():
        yield dict(zip(fields, row, strict=True))


def _person(record: Mapping[str, Any]) -> _Person:
    as_sent = {"id", "juvenile", "mailing_address", "billing_address"}
    values = {name: record[name] for name in _Person._fields if name in record}
    for name in values.keys() - as_sent:
        values[name] = str(values[name] or "").strip()
    return _Person(**values)


def _read_addresses(gateway: Gateway, ids: Sequence[int]) -> Iterator[tuple[int, PostalAddress]]:
    """Yield the usable addresses with their ids."""
    fields = ("id", *PostalAddress._fields, "valid", "pending")
    for id, *parts, valid, pending in gateway.pcrud.columns_by_values("aua", fields, "id", ids):
        if valid and not pending:
            yield id, PostalAddress.of(parts)
