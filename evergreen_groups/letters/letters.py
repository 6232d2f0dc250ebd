"""The letters to the families of a report. A letter asks nobody to pay for other adults, and doesn't mention them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from evergreen_groups.desk import GroupBills, MemberBills, Statement, is_minor
from evergreen_groups.groups import ACCOUNT_FIELDS, PatronAccount
from evergreen_groups.ils import (
    CirculationKind,
    OrgUnits,
    PatronItems,
    read_items,
    verify_bills,
    with_item_kinds,
)
from evergreen_groups.money import ZERO
from evergreen_groups.report import GUARDIAN, Contact, ContactBook, PostalAddress

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Member, Patron
    from evergreen_groups.ils import Bill
    from evergreen_groups.report import Report

_NAMES = ("first_given_name", "second_given_name", "family_name", "suffix")
RECORD_FIELDS = (*ACCOUNT_FIELDS, "deleted", "locale", *_NAMES, *(f"pref_{name}" for name in _NAMES))
"""The fields of an ``au`` that letters need in addition to contacts."""
_RETURNABLE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)


class NoLetter(Enum):
    """Why somebody gets no letter. The values are used in JSON."""

    NO_CONTACT = "no-contact"
    """No adult is visible, and no guardian is named."""
    INACTIVE = "inactive"
    WITHHELD = "withheld"
    """The home library isn't one of those for which the letters are made."""
    MINOR = "minor"
    """The person to contact is a minor by date of birth, although the record doesn't say juvenile."""
    IN_COLLECTIONS = "in-collections"
    EXEMPT = "exempt-from-collections"
    NO_ADDRESS = "no-address"
    NOTHING_OWED = "nothing-owed"
    """Neither the person to contact nor the minors of the group owe anything. Other adults may."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A group without a letter. ``patron`` is an id, for lists of people only."""

    group: int
    reason: NoLetter
    patron: int | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """A library as a letter names it."""

    name: str
    address: PostalAddress | None
    phone: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter about the members in ``statement``.

    ``name`` is the addressee's, given name first; empty for a guardian whose name isn't known. ``locale`` is the
    addressee's in Evergreen (``fr-CA``), empty if none is set.
    """

    contact: Contact
    name: str
    locale: str
    sender: Sender
    statement: Statement

    @property
    def group(self) -> int:
        """The group's number."""
        return self.statement.group.group


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters of a report in its order, and the groups that get none."""

    letters: tuple[Letter, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Addressees:
    """What tells whom to write to about the groups of a report, and who is a minor.

    ``homes`` are the short names of the home libraries of people who may be written to (None: all).
    """

    book: ContactBook
    homes: frozenset[str] | None
    today: date
    now: datetime

    @classmethod
    def read(cls, gateway: Gateway, report: Report) -> Addressees:
        """Read the contact data of a report's members, in four calls for up to 3,000 of them."""
        if report.blocks is None:
            raise ValueError("letters are made from a report with its blocks")
        book = ContactBook(gateway, report.groups, report.blocks.kinds, RECORD_FIELDS)
        units, orgs = OrgUnits(report.org_units), report.criteria.orgs
        homes = frozenset(map(units.shortname, units.named(orgs))) if orgs else None
        return cls(book, homes, report.generated_at.astimezone().date(), report.generated_at)

    def account(self, patron: int) -> PatronAccount | None:
        """Return the account of a patron (id), None if it isn't visible or was deleted since."""
        record = self.book.records.get(patron)
        if record is None or record["deleted"]:
            return None
        return PatronAccount.of((record[name] for name in ACCOUNT_FIELDS), self.now)

    def is_minor(self, patron: int) -> bool:
        """Return whether a patron (id) is known to be a minor."""
        account = self.account(patron)
        return account is not None and is_minor(account, self.today)

    def name(self, patron: int) -> str:
        """Return a patron's name as on an envelope, preferred parts before legal ones."""
        record = self.book.records[patron]
        parts = (str(record[f"pref_{name}"] or "").strip() or str(record[name] or "").strip() for name in _NAMES)
        return " ".join(filter(None, parts))

    def locale(self, patron: int) -> str:
        """Return a patron's locale, empty if none is set."""
        return str(self.book.records[patron]["locale"] or "")

    def obstacle(self, contact: Contact) -> NoLetter | None:
        """Return why nothing can be sent to somebody, None if it can."""
        if contact.patron is None:
            return NoLetter.NO_CONTACT
        if self.homes is not None and contact.library not in self.homes:
            return NoLetter.WITHHELD
        account = self.account(contact.patron)
        if account is None or not account.active:
            return NoLetter.INACTIVE
        if contact.role != GUARDIAN and self.is_minor(contact.patron):
            return NoLetter.MINOR
        if contact.in_collections:
            return NoLetter.IN_COLLECTIONS
        return None if contact.postal_address and "address" not in contact.invalid else NoLetter.NO_ADDRESS


def read_letters(gateway: Gateway, report: Report) -> Letters:
    """Return the letters to the groups of a report, which was read with details.

    Each is about the addressee (unless that is a guardian) and the group's minors. Takes about ten calls for 3,000
    members.
    """
    addressees = Addressees.read(gateway, report)
    left_out: list[LeftOut] = []
    chosen: list[tuple[Contact, Patron, list[Member]]] = []
    for group in report.groups:
        contact = addressees.book.of_group(group)
        about = [
            member
            for member in group.members
            if addressees.is_minor(member.id) or (contact.role != GUARDIAN and member.id == contact.patron)
        ]
        reason = addressees.obstacle(contact)
        if reason is None and sum((member.own_fines for member in about), ZERO) <= 0:
            reason = NoLetter.NOTHING_OWED
        if reason is not None:
            left_out.append(LeftOut(group.number, reason))
        else:
            chosen.append((contact, next(one.patron for one in group.members if one.id == contact.patron), about))
    members = [member for _contact, _patron, about in chosen for member in about]
    org_units = OrgUnits(report.org_units)
    homes = {patron.home_library.id for _contact, patron, _about in chosen}
    bills, senders = gateway.in_parallel(
        lambda: _read_bills(gateway, report, org_units, addressees, members),
        lambda: _read_senders(gateway, org_units, homes),
    )
    letters = []
    for contact, patron, about in chosen:
        theirs = tuple(bills[member.id] for member in about if bills[member.id].own_fines or bills[member.id].items.out)
        # Whether the group has hidden members is nothing to tell the family.
        of_group = GroupBills(report.gateway, report.generated_at, patron.group, theirs, True, org_units)
        name = addressees.name(patron.id)
        letters.append(
            Letter(
                contact=contact,
                name=contact.name if contact.role == GUARDIAN else name,
                locale=addressees.locale(patron.id),
                sender=senders[patron.home_library.id],
                statement=Statement(of_group, replace(patron, name=name), theirs),
            )
        )
    return Letters(tuple(letters), tuple(left_out))


def _read_bills(
    gateway: Gateway, report: Report, org_units: OrgUnits, addressees: Addressees, members: Sequence[Member]
) -> Mapping[int, MemberBills]:
    """Return the bills and the returnable items of members, by patron id."""
    if not members:
        return {}
    details = report.details
    if details is None:
        raise ValueError("letters are made from a report with its details")
    everywhere = {unit.id for unit in org_units}
    debts = {member.id: member.own_fines for member in members if member.own_fines}
    bills, items = gateway.in_parallel(
        lambda: verify_bills(gateway, debts),
        lambda: read_items(gateway, org_units, everywhere, [member.id for member in members]),
    )
    found = {}
    for member in members:
        theirs = items[member.id].items
        stopped = {item.id: item.stop_fines for item in theirs}
        account = addressees.account(member.id)
        assert account is not None
        known = bills.get(member.id, ())
        found[member.id] = MemberBills(
            patron=replace(member.patron, name=addressees.name(member.id)),
            account=account,
            own_fines=member.own_fines,
            bills=None if known is None else tuple(_with_item_kind(bill, stopped) for bill in known),
            # The report knows whether the account sees every item that may have to be returned.
            items=PatronItems(
                tuple(item for item in theirs if item.kind in _RETURNABLE),
                complete=details.of(member).items is not None,
            ),
            titles=None,
        )
    return found


def _with_item_kind(bill: Bill, stopped: Mapping[int, str | None]) -> Bill:
    """Name what happened to the item, if its circulation is visible."""
    (found,) = with_item_kinds((bill,), stopped, {bill.library} if bill.id in stopped else ())
    return found


def _read_senders(gateway: Gateway, org_units: OrgUnits, libraries: Collection[int]) -> dict[int, Sender]:
    """Return libraries (ids) with their mailing addresses, or else their billing addresses."""
    if not libraries:
        return {}
    read = gateway.pcrud.columns_by_values
    fields = ("id", "phone", "mailing_address", "billing_address")
    units: dict[int, tuple[Any, ...]] = {id: rest for id, *rest in read("aou", fields, "id", sorted(libraries))}
    used = sorted({id for _phone, *addresses in units.values() for id in addresses if id})
    addresses = {
        id: PostalAddress.of(parts)
        for id, *parts, valid in (read("aoa", ("id", *PostalAddress._fields, "valid"), "id", used) if used else ())
        if valid
    }
    return {
        id: Sender(
            org_units.unit(id).name, addresses.get(mailing) or addresses.get(billing), str(phone or "").strip()
        )
        for id, (phone, mailing, billing) in units.items()
    }
