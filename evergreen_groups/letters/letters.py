"""The letters to the families of a report, and the people in it who owe something.

Mailing houses and collection services get the people. A letter never asks to pay for other adults, and doesn't
mention them. The list of people has no sums of groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from evergreen_groups.desk import GroupBills, MemberBills, Statement, is_minor
from evergreen_groups.groups import ACCOUNT_FIELDS, PatronAccount
from evergreen_groups.ils import Bill, CirculationKind, ItemPrices, OrgUnits, PatronItems, rows_in_force
from evergreen_groups.report import GUARDIAN, Contact, ContactReader, PostalAddress, price_of
from evergreen_groups.values import ZERO, Total

if TYPE_CHECKING:
    from datetime import date

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.report import AgeBand, Report, ReportItems

_NAMES = ("first_given_name", "second_given_name", "family_name", "suffix")
_RECORD_FIELDS = (*ACCOUNT_FIELDS, "deleted", "locale", *_NAMES, *(f"pref_{name}" for name in _NAMES))
"""The fields of an ``au`` that letters need in addition to contacts."""
# Staff set it to keep a patron from being sent to collections (Collections.pm, 950.data.seed-values.sql, rel_3_17).
# Evergreen compares its value with the text true (Storage/Publisher/money.pm).
_EXEMPT = "circ.collections.exempt"
_RETURNABLE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)


class NoLetter(Enum):
    """Why a family gets no letter, or why a member's debts are in none. The values are used in JSON."""

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
    """Neither the person to contact nor the minors of the group owe anything. Other adults may.

    In a report by items, none of them has a visible overdue item either.
    """
    OTHER_ADULT = "other-adult"
    """Letters are about the person to contact and the minors of the group."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A group (number) without a letter, or a ``member`` who owes something that no letter lists.

    In a report by items, ``overdue`` are the member's overdue items.
    """

    group: int
    reason: NoLetter
    member: Member | None = None
    overdue: int = 0

    @property
    def patron(self) -> int | None:
        """The member's id."""
        return None if self.member is None else self.member.id


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what a group's members owe is ``covered`` by letters. ``left_out`` are members who owe the rest.

    Credits aren't subtracted, because the credit of one member doesn't pay the debts of another. In a report by items,
    ``items`` are the ``overdue`` items that letters cover (None: not by items), and members with others are left out,
    too.
    """

    group: Group
    covered: Decimal
    left_out: tuple[LeftOut, ...]
    items: int = 0
    overdue: Total[int] | None = None

    @classmethod
    def of(
        cls, group: Group, covered: Collection[int], reasons: Mapping[int, NoLetter], items: ReportItems | None = None
    ) -> Coverage:
        """Make the record. The ids of members are ``covered`` or have one of the ``reasons`` why they aren't."""
        overdue = {member.id: items.overdue_of(member) if items else 0 for member in group.members}
        owing = [member for member in group.members if member.own_fines > 0 or overdue[member.id]]
        left_out = [
            LeftOut(group.number, reasons[member.id], member, overdue[member.id])
            for member in owing
            if member.id in reasons
        ]
        return cls(
            group,
            sum((_debt(member) for member in owing if member.id in covered), ZERO),
            tuple(left_out),
            sum(count for id, count in overdue.items() if id in covered),
            items.of_group(group).overdue if items else None,
        )

    @property
    def owed(self) -> Total[Decimal]:
        """What the members owe. A lower bound if the debts and credits of hidden members can't be told apart."""
        group = self.group
        hidden = group.hidden_fines or ZERO
        known = group.complete or (group.hidden_member_count == 1 and group.hidden_fines is not None)
        return Total(sum(map(_debt, group.members), max(hidden, ZERO)), known)

    @property
    def everything(self) -> bool:
        """Whether the letters cover all that is owed, and all overdue items if the report is by items."""
        return self.owed == Total(self.covered) and self.overdue in (None, Total(self.items))


def _debt(member: Member) -> Decimal:
    return max(member.own_fines, ZERO)


@dataclass(frozen=True, slots=True)
class Letterhead:
    """A library as a letter names it."""

    name: str
    address: PostalAddress | None
    phone: str


@dataclass(frozen=True, slots=True)
class Addressee:
    """A person to write to: a member (id ``patron``), or the guardian of one.

    ``name`` has the given name first; it is empty for a guardian whose name isn't known. ``locale`` is the member's in
    Evergreen (``fr-CA``), empty if none is set.
    """

    contact: Contact
    patron: int
    address: PostalAddress
    name: str
    locale: str


@dataclass(frozen=True, slots=True)
class FamilyLetter:
    """A letter about the members in ``statement``.

    ``replacement_price`` is that of their overdue items, None unless the report lists groups by items.
    """

    addressee: Addressee
    head: Letterhead
    statement: Statement
    replacement_price: Total[Decimal] | None = None

    @property
    def group(self) -> int:
        return self.statement.group.group

    @property
    def complete(self) -> bool:
        """Whether no member is hidden, who might be a child that the letter should list."""
        return self.statement.group.complete


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters of a report in its order, the groups that get none, and what the letters to each group cover."""

    letters: tuple[FamilyLetter, ...]
    left_out: tuple[LeftOut, ...]
    coverage: tuple[Coverage, ...]


@dataclass(frozen=True, slots=True)
class AddressBook:
    """Whom to write to about the members of a report, and who is a minor.

    ``records`` are the ``_RECORD_FIELDS`` of visible members by patron id, and ``accounts`` are without patrons deleted
    since the report. ``homes`` are the short names of the libraries whose patrons may be written to (None: all).
    """

    contacts: ContactReader
    records: Mapping[int, Mapping[str, Any]]
    accounts: Mapping[int, PatronAccount]
    homes: frozenset[str] | None
    today: date

    @classmethod
    def read(cls, gateway: Gateway, report: Report) -> AddressBook:
        """Read what is needed of a report's members, in four calls for up to 3,000 of them."""
        if report.blocks is None:
            raise ValueError("letters are made from a report with its blocks")
        contacts, kinds = ContactReader(gateway), report.blocks.kinds
        members = sorted(member.id for group in report.groups for member in group.members)
        fields = tuple(dict.fromkeys(("id", "juvenile", *contacts.fields, *_RECORD_FIELDS)))
        rows = gateway.pcrud.columns_by_values("au", fields, "id", members) if members else ()
        records = {row[0]: dict(zip(fields, row, strict=True)) for row in rows}
        for id, record in records.items():
            contacts.add_person(id, bool(record["juvenile"]), [record[name] for name in contacts.fields])
        wanted = sorted(contacts.penalties(kinds))
        if wanted and members:
            contacts.add_penalties(members, rows_in_force(gateway, members, kinds=wanted, all_visible=True))
        contacts.finish(report.groups, kinds, everybody=True)
        accounts = {
            id: PatronAccount.of((record[name] for name in ACCOUNT_FIELDS), report.generated_at)
            for id, record in records.items()
            if not record["deleted"]
        }
        units, orgs = OrgUnits(report.org_units), report.criteria.orgs
        homes = frozenset(map(units.shortname, units.named(orgs))) if orgs else None
        return cls(contacts, records, accounts, homes, report.generated_at.astimezone().date())

    def is_minor(self, patron: int) -> bool:
        return patron in self.accounts and is_minor(self.accounts[patron], self.today)

    def name(self, patron: int) -> str:
        """Return a patron's name as on an envelope, preferred parts before legal ones."""
        record = self.records[patron]
        parts = (str(record[f"pref_{name}"] or "").strip() or str(record[name] or "").strip() for name in _NAMES)
        return " ".join(filter(None, parts))

    def addressee(self, contact: Contact) -> Addressee | NoLetter:
        """Return the person to write to, or why that isn't possible."""
        patron, address = contact.patron, contact.postal_address
        if patron is None:
            return NoLetter.NO_CONTACT
        account = self.accounts.get(patron)
        obstacles = {
            NoLetter.WITHHELD: self.homes is not None and contact.library not in self.homes,
            NoLetter.INACTIVE: account is None or not account.active,
            NoLetter.MINOR: contact.role != GUARDIAN and self.is_minor(patron),
            NoLetter.IN_COLLECTIONS: contact.in_collections,
        }
        for reason, holds in obstacles.items():
            if holds:
                return reason
        if address is None or "address" in contact.invalid:
            return NoLetter.NO_ADDRESS
        name = contact.name if contact.role == GUARDIAN else self.name(patron)
        return Addressee(contact, patron, address, name, str(self.records[patron]["locale"] or ""))


def read_letters(gateway: Gateway, report: Report) -> Letters:
    """Return the letters to the groups of a report, which was read with details.

    Each is about the addressee (unless that is a guardian) and the group's minors. Takes about ten calls for 3,000
    members, and ten more for the prices of items if the report is by items.
    """
    book = AddressBook.read(gateway, report)
    by_items = report.items is not None
    chosen: list[tuple[Group, Addressee | NoLetter, list[Member]]] = []
    for group in report.groups:
        contact = book.contacts.of_group(group)
        found = book.addressee(contact)
        about = [
            member
            for member in group.members
            if book.is_minor(member.id) or (contact.role != GUARDIAN and member.id == contact.patron)
        ]
        if isinstance(found, Addressee) and not by_items and not any(map(_debt, about)):
            found = NoLetter.NOTHING_OWED
        chosen.append((group, found, about))
    org_units = OrgUnits(report.org_units)
    to_write = [(found, about) for _group, found, about in chosen if isinstance(found, Addressee)]
    patrons = {member.id: member.patron for group in report.groups for member in group.members}
    homes = {patrons[found.patron].home_library.id for found, _about in to_write}
    members = [member for _found, about in to_write for member in about]
    bills, heads = gateway.in_parallel(
        lambda: _read_bills(gateway, report, org_units, book, members),
        lambda: _read_letterheads(gateway, org_units, homes),
    )
    prices = _read_prices(gateway, bills.values()) if by_items else None
    letters: list[FamilyLetter] = []
    left_out: list[LeftOut] = []
    coverage: list[Coverage] = []
    for group, found, about in chosen:
        listed = {member.id for member in about}
        reasons = {
            member.id: NoLetter.OTHER_ADULT if member.id in book.accounts else NoLetter.INACTIVE
            for member in group.members
            if member.id not in listed
        }
        if isinstance(found, Addressee) and not any(_debt(member) or bills[member.id].items.out for member in about):
            found = NoLetter.NOTHING_OWED  # noqa: PLW2901
        if isinstance(found, Addressee):
            patron = patrons[found.patron]
            about.sort(key=lambda member: member.id != patron.id)
            theirs = tuple(
                bills[member.id] for member in about if bills[member.id].own_fines or bills[member.id].items.out
            )
            of_group = GroupBills(report.gateway, report.generated_at, group.number, theirs, group.complete, org_units)
            statement = Statement(of_group, replace(patron, name=book.name(patron.id)), theirs)
            estimate = None if prices is None else _replacement_price([bills[member.id] for member in about], prices)
            letters.append(FamilyLetter(found, heads[patron.home_library.id], statement, estimate))
        else:
            left_out.append(LeftOut(group.number, found))
            reasons |= dict.fromkeys(listed, found)
        coverage.append(Coverage.of(group, listed - reasons.keys(), reasons, report.items))
    return Letters(tuple(letters), tuple(left_out), tuple(coverage))


def _read_prices(gateway: Gateway, bills: Iterable[MemberBills]) -> dict[int, Decimal]:
    """Return what Evergreen would bill for the members' items, by item id."""
    copies = {item.copy for member in bills for item in member.items.out}
    return ItemPrices.begin(gateway).read(copies) if copies else {}


def _replacement_price(members: Iterable[MemberBills], prices: Mapping[int, Decimal]) -> Total[Decimal]:
    items = [member.items for member in members]
    found = price_of((item.copy for theirs in items for item in theirs.out), prices)
    return found._replace(exact=found.exact and all(theirs.complete for theirs in items))


def _read_bills(
    gateway: Gateway, report: Report, org_units: OrgUnits, book: AddressBook, members: Sequence[Member]
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
        lambda: Bill.verify(gateway, debts),
        lambda: PatronItems.read(gateway, org_units, everywhere, [member.id for member in members]),
    )
    found = {}
    for member in members:
        theirs = items[member.id].items
        stopped = {item.id: item.stop_fines for item in theirs}
        known = bills.get(member.id, ())
        found[member.id] = MemberBills(
            patron=replace(member.patron, name=book.name(member.id)),
            account=book.accounts[member.id],
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
    (found,) = Bill.with_item_kinds((bill,), stopped, [bill.library or 0] if bill.id in stopped else ())
    return found


def _read_letterheads(gateway: Gateway, org_units: OrgUnits, libraries: Collection[int]) -> dict[int, Letterhead]:
    """Return libraries (ids) with their mailing addresses, or else their billing addresses."""
    if not libraries:
        return {}
    read = partial(gateway.pcrud.columns_by_values, all_visible=True)  # both classes are public (fm_IDL.xml)
    fields = ("id", "phone", "mailing_address", "billing_address")
    units = {row[0]: row[1:] for row in read("aou", fields, "id", sorted(libraries))}
    used = sorted({id for _phone, *addresses in units.values() for id in addresses if id})
    addresses = {
        id: PostalAddress.of(parts)
        for id, *parts, valid in (read("aoa", ("id", *PostalAddress._fields, "valid"), "id", used) if used else ())
        if valid
    }
    return {
        id: Letterhead(
            org_units.unit(id).name, addresses.get(mailing) or addresses.get(billing), str(phone or "").strip()
        )
        for id, (phone, mailing, billing) in units.items()
    }


@dataclass(frozen=True, slots=True)
class Selection:
    """Which people to list: those who owe ``min_own`` or more themselves, for ``owing_since`` days or longer.

    With ``collections``, people whom Evergreen exempts from collections are left out. Without any of these, a report by
    items has people who owe nothing but have overdue items.
    """

    min_own: Decimal = ZERO
    owing_since: int | None = None
    collections: bool = False


@dataclass(frozen=True, slots=True)
class Debtor:
    """A member who owes something, and whom to write to: themselves, or for a minor the person to contact.

    In a report by items, a member may owe nothing but have ``overdue`` items (None: not by items).
    """

    group: int
    member: Member
    minor: bool
    owing_since: datetime | None
    age_band: AgeBand | None
    addressee: Addressee
    overdue: int | None = None


@dataclass(frozen=True, slots=True)
class Debtors:
    """The people of a report who owe something, and those who are left out because no one can be written to.

    ``coverage`` says how much of each group's debts the ``people`` owe.
    """

    people: tuple[Debtor, ...]
    left_out: tuple[LeftOut, ...]
    coverage: tuple[Coverage, ...]


def read_debtors(gateway: Gateway, report: Report, selection: Selection) -> Debtors:
    """Return the people of a report who owe something, or in a report by items, have overdue items.

    The report was read with details.
    """
    details = report.details
    if details is None:
        raise ValueError("people are listed from a report with its details")
    book = AddressBook.read(gateway, report)
    before = None if selection.owing_since is None else report.generated_at - timedelta(selection.owing_since)
    wanted = []
    for group in report.groups:
        for member in group.members:
            since = details.of(member).owing_since
            is_old = before is None or (since is not None and since <= before)
            owes = member.own_fines > 0 and member.own_fines >= selection.min_own and is_old
            overdue = report.items.overdue_of(member) if report.items else 0
            if owes or (overdue and selection == Selection()):
                wanted.append((group, member, since))
    exempt = set[int]()
    if selection.collections and wanted:
        ids = sorted(member.id for _group, member, _since in wanted)
        rows = gateway.pcrud.columns_by_values("aus", ("usr", "value"), "usr", ids, where={"name": _EXEMPT})
        exempt = {patron for patron, value in rows if value == "true"}
    people: list[Debtor] = []
    reasons: dict[int, NoLetter] = {}
    for group, member, since in wanted:
        minor = book.is_minor(member.id)
        is_own = member.id in book.accounts and not minor
        contact = book.contacts.of_member(member) if is_own else book.contacts.of_group(group)
        found = NoLetter.EXEMPT if member.id in exempt else book.addressee(contact)
        if member.id not in book.accounts:
            found = NoLetter.INACTIVE
        if isinstance(found, NoLetter):
            reasons[member.id] = found
        else:
            overdue_items = report.items.overdue_of(member) if report.items else None
            band = details.age_band_since(since)
            people.append(Debtor(group.number, member, minor, since, band, found, overdue_items))
    listed = {one.member.id for one in people}
    coverage = tuple(Coverage.of(group, listed, reasons, report.items) for group in report.groups)
    return Debtors(tuple(people), tuple(one for family in coverage for one in family.left_out), coverage)
