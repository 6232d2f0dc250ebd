"""Whom to contact about each group of a report, and how.

The group lead (of several, the first who is an adult and can be reached), or else the adult who owes the most. Never a
juvenile: if the group has no adult, a guardian.

Evergreen returns an au or aua only with VIEW_USER at the patron's home library. What it leaves out counts as missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.ils import OrgUnits
from evergreen_groups.language import same_country

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
        return cls(*(str(value or "").strip() for value in values))

    def lines(self, domestic: str = "") -> tuple[str, ...]:
        """Return the lines, without the country if it is ``domestic``."""
        place = f"{self.city}, {self.state} {self.post_code}" if self.state else f"{self.post_code} {self.city}"
        country = "" if domestic and same_country(self.country, domestic) else self.country
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
        return ", ".join(self.postal_address.lines()) if self.postal_address else ""

    @property
    def reachable(self) -> bool:
        return any(getattr(self, way) for way in WAYS)

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

    The rest comes with calls of the caller: select ``fields`` with each patron, and ``penalties`` with theirs, and add
    both. Then :meth:`finish` reads the addresses. Unless ``wanted``, the reader needs and reads nothing.
    """

    def __init__(self, gateway: Gateway, wanted: bool = True) -> None:
        self._gateway = gateway
        known = gateway.idl("au")["au"].positions if wanted else {}
        self.fields = tuple(name for name in _Person._fields[1:] if name in known)  # before 3.16 without guardians
        self._overrides = gateway.begin(lambda: OrgUnits.read_setting(gateway, _COLLECTIONS_OVERRIDE) if wanted else {})
        self._people: dict[int, _Person] = {}
        self._rows: dict[int, list[PenaltyRow]] = {}
        self._addresses: dict[int, PostalAddress] = {}
        self._stock: Collection[int] = ()
        self._invalid: dict[int, str] = {}

    def penalties(self, kinds: PenaltyKinds) -> frozenset[int]:
        """Return the ids of the kinds of penalties that are needed."""
        if not self.fields:
            return frozenset()
        others = frozenset(map(_id_in, self._overrides.result().values())) - {0}
        return others | kinds.ids_of([_IN_COLLECTIONS, *_INVALID]).keys()

    def add_person(self, patron: int, juvenile: bool, values: Sequence[Any]) -> None:
        named = dict(zip(self.fields, values, strict=True))
        for name in named.keys() - {"mailing_address", "billing_address"}:
            named[name] = str(named[name] or "").strip()
        self._people[patron] = _Person(juvenile, **named)

    def add_penalties(self, rows: Iterable[PenaltyRow]) -> None:
        """Add penalties in force."""
        for row in rows:
            self._rows.setdefault(row.patron, []).append(row)

    def finish(self, groups: Sequence[Group], kinds: PenaltyKinds, *, everybody: bool = False) -> None:
        """Read the addresses on which the contacts of ``groups`` depend, or those of all visible members."""
        needed = self._addresses_of_all if everybody else self._addresses_needed
        used = sorted({id for group in groups for id in needed(group)})
        self._addresses = dict(_read_addresses(self._gateway, used)) if used else {}
        self._stock = kinds.ids_of([_IN_COLLECTIONS])
        self._invalid = {id: _INVALID[name] for id, name in kinds.ids_of(_INVALID).items()}

    def of_group(self, group: Group) -> Contact:
        """Return a lead, or the adult with contact data (or without) who owes the most, or a juvenile's guardian."""
        known = [member for member in _in_order(group) if member.id in self._people]
        adults = [self._contact(member) for member in known if not self._people[member.id].juvenile]
        reachable = (contact for contact in adults if contact.reachable)
        guardians = (contact for member in known if (contact := self._guardian(member)) is not None)
        contact = next(reachable, None) or next(iter(adults), None) or next(guardians, Contact())
        return self._with_penalties(contact, group.members)

    def of_member(self, member: Member) -> Contact:
        """Return how to reach an adult of a group, after :meth:`finish` with ``everybody``."""
        return self._with_penalties(self._contact(member), [member])

    def _contact(self, member: Member) -> Contact:
        person = self._people[member.id]
        return Contact(
            patron=member.id,
            name=member.name,
            role=LEAD if member.group_lead else ADULT,
            library=member.library,
            day_phone=person.day_phone,
            evening_phone=person.evening_phone,
            other_phone=person.other_phone,
            email=person.email,
            postal_address=self._address(person),
        )

    def _guardian(self, member: Member) -> Contact | None:
        person = self._people[member.id]
        if not (person.guardian or person.guardian_email):
            return None
        return Contact(
            member.id,
            person.guardian,
            GUARDIAN,
            member.library,
            email=person.guardian_email,
            postal_address=self._address(person),
        )

    def _address(self, person: _Person) -> PostalAddress | None:
        used = person.mailing_address, person.billing_address
        return next((self._addresses[id] for id in used if id in self._addresses), None)

    def _addresses_needed(self, group: Group) -> Iterator[int]:
        """Yield the ids of the addresses on which the choice depends.

        Those are the addresses of adults up to the first with another way, and without an adult, all juveniles'.
        """
        known = [person for member in _in_order(group) if (person := self._people.get(member.id)) is not None]
        for person in [one for one in known if not one.juvenile] or known:
            yield from filter(None, (person.mailing_address, person.billing_address))
            is_reachable = person.day_phone or person.evening_phone or person.other_phone or person.email
            if is_reachable and not person.juvenile:
                return

    def _addresses_of_all(self, group: Group) -> Iterator[int]:
        for member in group.members:
            if (person := self._people.get(member.id)) is not None:
                yield from filter(None, (person.mailing_address, person.billing_address))

    def _with_penalties(self, contact: Contact, members: Iterable[Member]) -> Contact:
        found = [row for member in members for row in self._rows.get(member.id, ())]
        overrides = self._overrides.result()
        # Elsewhere, the penalty that a library uses in place of the stock one may mean something else.
        collections = [
            row for row in found if row.kind in self._stock or row.kind == _id_in(overrides.get(row.org_unit))
        ]
        # Of a juvenile's data, only the address is the guardian's as well.
        ways = [self._invalid[row.kind] for row in found if row.patron == contact.patron and row.kind in self._invalid]
        return replace(
            contact,
            invalid=tuple(way for way in ways if contact.role != GUARDIAN or way == "address"),
            in_collections=bool(collections),
            collections_since=min((row.set_date for row in collections if row.set_date), default=None),
        )


def read_phones_and_email(gateway: Gateway, patron: int) -> Contact:
    """Return how to reach a group's contact (id) without a letter, in one call. Of a juvenile, the guardian's e-mail.

    Evergreen empties a number or address that staff mark as invalid.
    """
    fields = ["day_phone", "evening_phone", "other_phone", "email"]
    if "guardian_email" in gateway.idl("au")["au"].positions:  # from 3.16
        fields.append("guardian_email")
    for _id, juvenile, *values in gateway.pcrud.columns_by_values("au", ("id", "juvenile", *fields), "id", [patron]):
        day, evening, other, email, *guardian_email = (str(value or "").strip() for value in values)
        if juvenile:
            return Contact(patron, role=GUARDIAN, email="".join(guardian_email))
        return Contact(patron, day_phone=day, evening_phone=evening, other_phone=other, email=email)
    return Contact(patron)


def _id_in(value: object) -> int:
    """Return the id in a setting's value: a number, also one in quotation marks (settings-001). 0 if there is none."""
    text = str(value or "").strip('"')
    return int(text) if text.isdecimal() else 0


def _read_addresses(gateway: Gateway, ids: Sequence[int]) -> Iterator[tuple[int, PostalAddress]]:
    fields = ("id", *PostalAddress._fields, "valid", "pending")
    for id, *parts, valid, pending in gateway.pcrud.columns_by_values("aua", fields, "id", ids):
        if valid and not pending:
            yield id, PostalAddress.of(parts)


def _in_order(group: Group) -> list[Member]:
    """Return the members in the order in which they are considered: the leads by id, then those who owe the most."""

    def rank(member: Member) -> tuple[object, ...]:
        return not member.group_lead, 0 if member.group_lead else -member.own_fines, member.id

    return sorted(group.members, key=rank)


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
