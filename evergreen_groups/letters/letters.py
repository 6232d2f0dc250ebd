"""The letters to the families of a report, and the people in it who owe something.

Mailing houses and collection services get the people. A letter never asks to pay for other adults, and doesn't
mention them. The list of people has no sums of groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.batches import batched
from evergreen_groups.desk import GroupBills, MemberBills, Statement, is_minor
from evergreen_groups.groups import ACCOUNT_FIELDS, PatronAccount
from evergreen_groups.ils import Bill, CirculationKind, ItemPrices, OrgUnits, PatronItems, rows_in_force
from evergreen_groups.language import full_name
from evergreen_groups.report import GUARDIAN, Contact, ContactReader, PostalAddress, price_of
from evergreen_groups.values import ZERO, Total

if TYPE_CHECKING:
    from datetime import date

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import UnreturnedItems
    from evergreen_groups.report import AgeBand, Report, ReportItems

_NAMES = ("first_given_name", "second_given_name", "family_name", "suffix")
_RECORD_FIELDS = (*ACCOUNT_FIELDS, "deleted", "locale", *_NAMES, *(f"pref_{name}" for name in _NAMES))
"""The fields of an ``au`` that letters need in addition to contacts."""
# Staff set it to keep a patron from being sent to collections (Collections.pm, 950.data.seed-values.sql, rel_3_17).
# Evergreen compares its value with the text true (Storage/Publisher/money.pm).
_EXEMPT = "circ.collections.exempt"
_RETURNABLE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)
_BY_ITEMS = (*_RETURNABLE, CirculationKind.LOST)
"""The items that letters list if the report is by items. Otherwise, lost items only appear as debts."""


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
    """No visible member owes anything, nor in a report by items has a visible overdue or lost item."""
    BELOW_MINIMUM = "below-minimum"
    """The adult owes too little, for the contact with the children."""
    CLOSED = "closed"
    WAITING = "waiting"
    """The family has promised to pay, or will be reminded."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A group (number) without a letter, or a ``member`` who owes something that no letter lists.

    In a report by items, ``unreturned`` is how many of the member's items are overdue or lost.
    """

    group: int
    reason: NoLetter
    member: Member | None = None
    unreturned: int = 0

    @property
    def patron(self) -> int | None:
        """The member's id."""
        return None if self.member is None else self.member.id


class NeedsAddress(NamedTuple):
    """An adult without a valid address, whose letter can go to the group lead's address (``to_lead``: it does).

    The adult is the ``member``, or the guardian of this juvenile.
    """

    member: Member
    guardian: bool
    to_lead: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what a group's members owe is ``covered`` by letters. ``left_out`` are members who owe the rest.

    Credits aren't subtracted, because the credit of one member doesn't pay the debts of another. In a report by items,
    ``items`` are how many of the ``unreturned`` ones letters cover (None: not by items), and members with others are
    left out, too. ``without_address`` are adults for whose letters staff can choose the lead's address.
    """

    group: Group
    covered: Decimal
    left_out: tuple[LeftOut, ...]
    items: int
    unreturned: Total[int] | None
    letter_count: int = 0
    without_address: tuple[NeedsAddress, ...] = ()

    @classmethod
    def of(
        cls, group: Group, covered: Collection[int], reasons: Mapping[int, NoLetter], items: ReportItems | None = None
    ) -> Coverage:
        """Make the record. The ids of members are ``covered`` or have one of the ``reasons`` why they aren't."""
        unreturned = {member.id: _unreturned(items, member) for member in group.members}
        owing = [member for member in group.members if member.own_fines > 0 or unreturned[member.id]]
        left_out = [
            LeftOut(group.number, reasons[member.id], member, unreturned[member.id])
            for member in owing
            if member.id in reasons
        ]
        total = None
        if items is not None:
            of_group = items.of_group(group)
            total = Total(of_group.items.overdue + of_group.items.lost, of_group.items_certain)
        return cls(
            group,
            sum((_debt(member) for member in owing if member.id in covered), ZERO),
            tuple(left_out),
            sum(count for id, count in unreturned.items() if id in covered),
            total,
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
        """Whether the letters cover all that is owed, and all unreturned items if the report is by items."""
        return self.owed == Total(self.covered) and self.unreturned in (None, Total(self.items))


def _unreturned(items: ReportItems | None, member: Member) -> int:
    """Return how many items of a member are overdue or lost, as far as known. 0 unless the report is by items."""
    if items is None:
        return 0
    visible = items.of(member).visible
    return visible.overdue + visible.lost


def _debt(member: Member) -> Decimal:
    return max(member.own_fines, ZERO)


@dataclass(frozen=True, slots=True)
class Letterhead:
    """A library as a letter names it.

    ``country`` is that of its address, or else of the nearest org unit above with one. ``hours`` are the opening hours
    from Monday on (None: closed), empty if Evergreen doesn't have them.
    """

    name: str
    address: PostalAddress | None
    phone: str
    country: str = ""
    hours: tuple[tuple[time, time] | None, ...] = ()


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
    """A letter about the members in ``statement``: the addressee, and if ``to_contact``, the children.

    ``replacement_price`` is that of their overdue items, None unless the report lists groups by items. ``number`` is 2
    for the second letter to the family since it came onto the list.
    """

    addressee: Addressee
    head: Letterhead
    statement: Statement
    replacement_price: Total[Decimal] | None
    to_contact: bool
    number: int

    @property
    def group(self) -> int:
        return self.statement.group.group

    @property
    def complete(self) -> bool:
        """Whether no member is hidden, who might be a child that the letter should list."""
        return self.statement.group.complete or not self.to_contact


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters of a report in its order, the groups that get none, and what the letters to each group cover."""

    letters: tuple[FamilyLetter, ...]
    left_out: tuple[LeftOut, ...]
    coverage: tuple[Coverage, ...]

    @property
    def incomplete_libraries(self) -> list[str]:
        """The names of the libraries of letters that have neither an address nor a phone number in Evergreen."""
        return sorted({one.head.name for one in self.letters if not (one.head.address or one.head.phone)})


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
        rows = gateway.pcrud.columns_by_values("au", fields, "id", members)
        records = {row[0]: dict(zip(fields, row, strict=True)) for row in rows}
        for id, record in records.items():
            contacts.add_person(id, bool(record["juvenile"]), [record[name] for name in contacts.fields])
        wanted = sorted(contacts.penalties(kinds))
        if wanted:
            contacts.add_penalties(rows_in_force(gateway, members, kinds=wanted, all_visible=True))
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
        first, second, family, suffix = parts
        return full_name((first, second), family, suffix, str(record["locale"] or ""))

    def address(self, contact: Contact) -> PostalAddress | None:
        """Return a person's valid address."""
        return None if "address" in contact.invalid else contact.postal_address

    def address_of_lead(self, group: Group) -> PostalAddress | None:
        """Return the valid address of the group lead, if their library's patrons may be written to."""
        lead = group.lead
        withheld = self.homes is not None and lead.library not in self.homes
        if not lead.group_lead or lead.id not in self.accounts or withheld:
            return None
        return self.address(self.contacts.of_member(lead))

    def addressee(self, contact: Contact, address: PostalAddress | None = None) -> Addressee | NoLetter:
        """Return the person to write to, at their own address unless one is given, or why that isn't possible."""
        patron, address = contact.patron, address or self.address(contact)
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
        if address is None:
            return NoLetter.NO_ADDRESS
        name = contact.name if contact.role == GUARDIAN else self.name(patron)
        return Addressee(contact, patron, address, name, str(self.records[patron]["locale"] or ""))


@dataclass(frozen=True, slots=True)
class LetterChoice:
    """Which letters to write: to adults who owe ``min_own`` or more, the contact together with the children.

    Groups (numbers) ``held_back`` get none, for the reason given. Letters to patrons (ids) in ``to_lead`` who have no
    address go to the group lead's. ``sent`` is how many letters each group got before. Bills of the kinds ``notes_for``
    (:meth:`BillKind.matches_name <evergreen_groups.ils.BillKind.matches_name>`) are read with their notes.
    """

    min_own: Decimal
    held_back: Mapping[int, NoLetter] = field(default_factory=dict)
    to_lead: Collection[int] = ()
    sent: Mapping[int, int] = field(default_factory=dict)
    notes_for: Sequence[str] = ()


class _Share(NamedTuple):
    """What a letter to an adult would be about, and to whom it goes, or why to no one."""

    found: Addressee | NoLetter
    about: list[Member]
    to_contact: bool
    owed: Decimal
    unreturned: int
    needs_address: NeedsAddress | None = None

    @property
    def addressee(self) -> Addressee | None:
        """The person who gets the letter, None if there is none."""
        return self.found if isinstance(self.found, Addressee) and (self.owed or self.unreturned) else None


def _shares(book: AddressBook, report: Report, group: Group, choice: LetterChoice) -> list[_Share]:
    """Return the shares of the contact, with the children, and of each other adult."""
    contact = book.contacts.of_group(group)
    first = [
        member
        for member in group.members
        if book.is_minor(member.id) or (contact.role != GUARDIAN and member.id == contact.patron)
    ]
    found = [_share(book, report, group, choice, contact, first, to_contact=True)]
    for member in group.members:
        if member in first:
            continue
        if member.id in book.accounts:
            found.append(_share(book, report, group, choice, book.contacts.of_member(member), [member]))
        else:  # deleted since the report
            unreturned = _unreturned(report.items, member)
            found.append(_Share(NoLetter.INACTIVE, [member], False, _debt(member), unreturned))
    return found


def _share(
    book: AddressBook,
    report: Report,
    group: Group,
    choice: LetterChoice,
    contact: Contact,
    about: list[Member],
    *,
    to_contact: bool = False,
) -> _Share:
    owed = sum(map(_debt, about), ZERO)
    unreturned = sum(_unreturned(report.items, member) for member in about)
    found, needs_address = book.addressee(contact), None
    if unreturned == 0 and 0 < owed < choice.min_own:
        found = NoLetter.BELOW_MINIMUM
    elif found is NoLetter.NO_ADDRESS and (address := book.address_of_lead(group)) and (owed or unreturned):
        to_lead = contact.patron in choice.to_lead
        member = next(one for one in group.members if one.id == contact.patron)
        needs_address = NeedsAddress(member, contact.role == GUARDIAN, to_lead)
        found = book.addressee(contact, address) if to_lead else found
    if isinstance(found, Addressee):
        found = choice.held_back.get(group.number, found)
    return _Share(found, about, to_contact, owed, unreturned, needs_address)


def read_letters(gateway: Gateway, report: Report, choice: LetterChoice) -> Letters:
    """Return the letters to the adults in the groups of a report, which was read with details.

    The contact's is also about the group's minors; a guardian's is only about them. In a report by items, everyone with
    overdue or lost items gets one, whatever they owe. Takes about ten calls for 3,000 members, and ten more for the
    prices of items if the report is by items.
    """
    gateway.idl("au", "aua", "aou", "aoa", "aouhoo", "mobts", "mb", "circ")  # in one request
    book = AddressBook.read(gateway, report)
    chosen = [(group, _shares(book, report, group, choice)) for group in report.groups]
    org_units = OrgUnits(report.org_units)
    to_write = [(one.addressee, one.about) for _group, shares in chosen for one in shares if one.addressee]
    patrons = {member.id: member.patron for group in report.groups for member in group.members}
    homes = {patrons[addressee.patron].home_library.id for addressee, _about in to_write}
    members = [member for _addressee, about in to_write for member in about]
    bills, heads = gateway.in_parallel(
        lambda: _read_bills(gateway, report, org_units, book, members, choice.notes_for),
        lambda: _read_letterheads(gateway, org_units, homes),
    )
    prices = _read_prices(gateway, bills.values()) if report.items is not None else None
    letters: list[FamilyLetter] = []
    left_out: list[LeftOut] = []
    coverage: list[Coverage] = []
    for group, shares in chosen:
        reasons: dict[int, NoLetter] = {}
        written: set[int] = set()
        for share in shares:
            if isinstance(share.found, NoLetter):
                reasons |= {member.id: share.found for member in share.about}
            if (addressee := share.addressee) is None:
                continue
            patron = patrons[addressee.patron]
            about = [bills[member.id] for member in sorted(share.about, key=lambda one: one.id != addressee.patron)]
            theirs = tuple(one for one in about if one.own_fines or one.items.out)
            of_group = GroupBills(report.gateway, report.generated_at, group.number, theirs, group.complete, org_units)
            statement = Statement(of_group, replace(patron, name=book.name(patron.id)), theirs)
            estimate = None if prices is None else _replacement_price(about, prices)
            head = heads[patron.home_library.id]
            number = choice.sent.get(group.number, 0) + 1
            letters.append(FamilyLetter(addressee, head, statement, estimate, share.to_contact, number))
            written |= {member.id for member in share.about}
        if not written:
            held = choice.held_back.get(group.number)
            most = max(shares, key=lambda one: (one.found is held, one.owed, one.unreturned))
            reason = most.found if isinstance(most.found, NoLetter) else NoLetter.NOTHING_OWED
            left_out.append(LeftOut(group.number, reason))
        found = Coverage.of(group, written, reasons, report.items)
        without_address = tuple(one.needs_address for one in shares if one.needs_address)
        letter_count = sum(one.addressee is not None for one in shares)
        coverage.append(replace(found, letter_count=letter_count, without_address=without_address))
    return Letters(tuple(letters), tuple(left_out), tuple(coverage))


def _read_prices(gateway: Gateway, bills: Iterable[MemberBills]) -> dict[int, Decimal]:
    """Return what Evergreen would bill for the members' items, by item id."""
    copies = {item.copy for member in bills for item in member.items.out if item.kind in _RETURNABLE}
    return ItemPrices.begin(gateway).read(copies) if copies else {}


def _replacement_price(members: Iterable[MemberBills], prices: Mapping[int, Decimal]) -> Total[Decimal]:
    items = [member.items for member in members]
    found = price_of((item.copy for theirs in items for item in theirs.out if item.kind in _RETURNABLE), prices)
    return found._replace(exact=found.exact and all(theirs.complete for theirs in items))


def _read_bills(
    gateway: Gateway,
    report: Report,
    org_units: OrgUnits,
    book: AddressBook,
    members: Sequence[Member],
    notes_for: Sequence[str],
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
    silent = [
        bill
        for some in bills.values()
        for bill in some or ()
        if any(bill.kind.matches_name(name) for name in notes_for)
    ]
    noted = {bill.id: bill for bill in Bill.with_notes(gateway, silent)} if silent else {}
    found, listed = {}, _RETURNABLE if report.items is None else _BY_ITEMS
    for member in members:
        theirs = items[member.id].items
        stopped = {item.id: item.stop_fines for item in theirs}
        known = bills.get(member.id, ())
        found[member.id] = MemberBills(
            patron=replace(member.patron, name=book.name(member.id)),
            account=book.accounts[member.id],
            own_fines=member.own_fines,
            bills=None
            if known is None
            else tuple(_with_item_kind(noted.get(bill.id, bill), stopped) for bill in known),
            # The report knows whether the account sees every item that may have to be returned.
            items=PatronItems(
                tuple(item for item in theirs if item.kind in listed),
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
    """Return libraries (ids) with their mailing addresses, or else their billing addresses, in up to three calls."""
    if not libraries:
        return {}
    read = partial(gateway.pcrud.columns_by_values, all_visible=True)  # these classes are public (fm_IDL.xml)
    fields = ("id", "phone", "mailing_address", "billing_address")
    wanted = sorted({id for library in libraries for id in org_units.upwards(library)})
    units = {row[0]: row[1:] for row in read("aou", fields, "id", wanted)}
    used = sorted({id for _phone, *addresses in units.values() for id in addresses if id})
    hours = {id: _opening_hours(times) for id, *times in read("aouhoo", ("id", *_HOURS), "id", sorted(libraries))}
    addresses = {
        id: PostalAddress.of(parts)
        for id, *parts, valid in (read("aoa", ("id", *PostalAddress._fields, "valid"), "id", used) if used else ())
        if valid
    }
    of_unit = {id: addresses.get(mailing) or addresses.get(billing) for id, (_, mailing, billing) in units.items()}
    found = {}
    for id in libraries:
        above = (one for unit in org_units.upwards(id) if (one := of_unit.get(unit)) is not None)
        country = next((one.country for one in above if one.country), "")
        phone = str(units[id][0] or "").strip()
        found[id] = Letterhead(org_units.unit(id).name, of_unit[id], phone, country, hours.get(id, ()))
    return found


_HOURS = tuple(f"dow_{day}_{what}" for day in range(7) for what in ("open", "close"))


def _opening_hours(times: Sequence[str]) -> tuple[tuple[time, time] | None, ...]:
    """Return when a library opens and closes. Evergreen marks a closed day by equal times."""
    each = [time.fromisoformat(text) for text in times]
    return tuple(None if opens == closes else (opens, closes) for opens, closes in batched(each, 2))


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

    In a report by items, a member may owe nothing but have ``unreturned`` items (None: not by items).
    """

    group: int
    member: Member
    minor: bool
    owing_since: datetime | None
    age_band: AgeBand | None
    addressee: Addressee
    unreturned: UnreturnedItems | None


@dataclass(frozen=True, slots=True)
class Debtors:
    """The people of a report who owe something, and those who are left out because no one can be written to.

    ``coverage`` says how much of each group's debts the ``people`` owe.
    """

    people: tuple[Debtor, ...]
    left_out: tuple[LeftOut, ...]
    coverage: tuple[Coverage, ...]


def read_debtors(gateway: Gateway, report: Report, selection: Selection) -> Debtors:
    """Return the people of a report who owe something, or in a report by items, have overdue or lost items.

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
            if owes or (_unreturned(report.items, member) and selection == Selection()):
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
            items = report.items.of(member).visible if report.items else None
            band = details.age_band_since(since)
            people.append(Debtor(group.number, member, minor, since, band, found, items))
    listed = {one.member.id for one in people}
    coverage = tuple(Coverage.of(group, listed, reasons, report.items) for group in report.groups)
    return Debtors(tuple(people), tuple(one for family in coverage for one in family.left_out), coverage)
