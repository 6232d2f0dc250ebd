"""Who belongs together and who owes what: groups put together from rows of patrons, balances and cards."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups.barcodes import all_spellings, first_spelled
from evergreen_groups.groups.hidden import find_hidden, find_hidden_of_few, read_balances
from evergreen_groups.groups.models import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Group,
    Member,
    Patron,
    PatronAccount,
    PatronRow,
    make_patrons,
    read_barcodes,
)
from evergreen_groups.ils import (
    LimitFinder,
    OneLimit,
    OrgUnits,
    ResolvedLimit,
    decide_all,
    decide_where_known,
    read_fines_of,
    read_own_fines,
)
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.hidden import HiddenMembers
    from evergreen_groups.ils import Access
    from evergreen_groups.policy import Decision


def put_fines_right(
    gateway: Gateway, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
) -> Mapping[int, Decimal]:
    """What ``patrons`` (ids) of some groups owe where that is written; ``read`` gives what pcrud says.

    Where plain reads come from copies of the database, one call beside that, and one for each patron of whom the two
    say different things. Else, and where the session may not know, it is what was read.
    """
    if not groups or not gateway.reads_replicas:
        return read()
    readers: tuple[Callable[[], Any], ...] = (read, lambda: _balances(gateway, groups))
    fines, now = gateway.map(lambda read: read(), readers)
    found = {**fines}
    doubtful = [] if now is None else sorted(id for id in patrons if fines.get(id) != now.get(id))
    owed_now = gateway.map(lambda id: _owed_by(gateway, id, fines.get(id)), doubtful)
    for id, owed in zip(doubtful, owed_now, strict=True):
        found.pop(id, None)
        if owed is not None:
            found[id] = owed
    return found


def _balances(gateway: Gateway, groups: Sequence[int]) -> Mapping[int, Decimal] | None:
    try:
        return read_balances(gateway, *groups, current=True)
    except PermissionDeniedError:
        return None


def _owed_by(gateway: Gateway, id: int, read: Decimal | None) -> Decimal | None:
    # An answer about one says whose it is, which a list of groups' balances doesn't.
    try:
        return read_fines_of(gateway, id, current=True)
    except PermissionDeniedError:
        return read


Value = TypeVar("Value")

# Of own fines and barcodes together some 10 MB; what is beyond that is read twice.
_MOST = 50_000


class ReadBefore(Generic[Value]):
    """Values by id, each until it is asked for: up to 50,000."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def keep(self, values: Mapping[int, Value]) -> None:
        """Keep values that were read."""
        self._values.update(islice(values.items(), max(0, _MOST - len(self._values))))

    def of(self, ids: Collection[int], read: Callable[[Collection[int]], dict[int, Value]]) -> dict[int, Value]:
        """Those with these ids: what is kept, which is let go of, and of the others what ``read`` gives."""
        # Several threads may ask for one patron who was moved meanwhile: each value goes to one of them.
        known = {id: value for id in ids if (value := self._values.pop(id, None)) is not None}
        return {**known, **read([id for id in ids if id not in known])} if known else read(ids)


class GroupReader:
    """Completes rows of patrons to groups: own fines, cards, and the members that are hidden from the account.

    By ``limits`` it decides about each member; without, nothing is decided about them. ``progress`` is of what hidden
    members owe, which may be a call for each group.
    """

    def __init__(
        self,
        gateway: Gateway,
        org_units: OrgUnits,
        access: Access,
        limits: LimitFinder | None = None,
        progress: Progress = silent,
    ) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._access = access
        self._limits = limits
        self._progress = progress
        self._balances_read = _BalancesRead(progress)
        self._known_fines: ReadBefore[Decimal] = ReadBefore()
        self._known_barcodes: ReadBefore[str] = ReadBefore()
        # One record for all who owe the same: a report has members by the 100,000.
        self._amounts: dict[Decimal, Decimal] = {}
        self._decisions: dict[Decimal, Decision] = {}

    def deciding_by(self, limits: LimitFinder) -> GroupReader:
        """A reader like this one that decides about members by these limits, and shares with it what was read."""
        reader = copy.copy(self)  # of one progress: portions of a report are read side by side
        reader._limits = limits
        return reader

    def complete(self, rows: Iterable[PatronRow]) -> list[Group]:
        """Make groups of ``rows``, which are all visible members of each of their groups.

        Reads balances and cards in lists of up to 3,000; for an account that can't see every patron, it compares the
        members with those that the ILS has (:func:`find_hidden`).
        """
        by_group: dict[int, list[Member]] = {}
        for member in self._members(rows):
            by_group.setdefault(member.patron.group, []).append(member)
        hidden: dict[int, HiddenMembers] = {}
        # Whoever sees everybody sees every member; a large report saves twenty calls and more.
        if not self._access.everywhere:
            visible = {group: {member.id for member in members} for group, members in by_group.items()}
            own_fines = {member.id: member.own_fines for members in by_group.values() for member in members}
            hidden = find_hidden(self._gateway, visible, self._org_unit_ids, self._balances_read, own_fines=own_fines)
        return [Group.by_fines(number, members, hidden.get(number)) for number, members in by_group.items()]

    def _org_unit_ids(self) -> list[int]:
        return [unit.id for unit in self._org_units]

    def members(self, rows: Iterable[PatronRow], *, cards: bool = True, again: bool = False) -> dict[int, Member]:
        """The patrons by id, with own fines and, unless ``cards`` says no, barcodes, whatever their groups.

        ``again`` says that many of them will be read once more as members of groups about whom nothing is decided:
        with the same own fines and barcodes then, which aren't asked for a second time.
        """
        return {member.patron.id: member for member in self._members(rows, cards=cards, again=again)}

    def _members(self, rows: Iterable[PatronRow], *, cards: bool = True, again: bool = False) -> list[Member]:
        by_id = {row.id: row for row in rows}
        # By lists of ids, side by side: fleshed cards would be a query for each row.
        readers: tuple[Callable[[], dict[int, Any]], ...] = (
            lambda: self._own_fines(by_id),
            lambda: self._barcodes(by_id.values()) if cards else {},
        )
        own_fines, barcodes = self._gateway.map(lambda read: read(), readers)
        own_fines = {id: self._amounts.setdefault(amount, amount) for id, amount in own_fines.items()}
        if again:
            self._known_fines.keep({id: own_fines.get(id, NOTHING) for id in by_id})
            self._known_barcodes.keep(barcodes)
        patrons = make_patrons(by_id.values(), barcodes, self._org_units)
        decisions: dict[int, Decision] = {}
        if self._limits is not None:
            decisions = decide_about(self._gateway, self._limits, patrons, own_fines, self._decisions)
        return make_members(patrons, own_fines, decisions)

    def _own_fines(self, patrons: Collection[int]) -> dict[int, Decimal]:
        # Most people have no open transaction, or owe nothing on it: leaving the latter out makes answers smaller.
        if self._limits is None:
            return self._known_fines.of(patrons, lambda some: read_own_fines(self._gateway, some, debtors_only=True))
        return read_own_fines(self._gateway, patrons, debtors_only=not self._limits.need_transactions)

    def _barcodes(self, rows: Iterable[PatronRow]) -> dict[int, str]:
        cards = [row.card for row in rows if row.card is not None]
        return self._known_barcodes.of(cards, lambda some: read_barcodes(self._gateway, some))

    def of_numbers(self, numbers: Iterable[int]) -> dict[int, Group]:
        """The groups with these numbers, by number, as far as a member of them is visible."""
        rows = self._gateway.pcrud.columns_by_values(
            "au", PATRON_FIELDS, "usrgroup", sorted(set(numbers)), where={"deleted": "f"}
        )
        return {group.number: group for group in self.complete(map(PatronRow._make, chain.from_iterable(rows)))}


class _BalancesRead:
    """Of how many groups the balances of hidden members have been read: portions of a report are read side by side."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._done = self._total = 0

    def __call__(self, read: int, more: int) -> None:
        """Take note of balances that were read, and of more that have to be."""
        with self._lock:
            self._done += read
            self._total += more
            self._progress(Message("asking what hidden members owe"), self._done, self._total)


def make_members(
    patrons: Iterable[Patron], own_fines: Mapping[int, Decimal], decisions: Mapping[int, Decision]
) -> list[Member]:
    """Put together what is known of each patron; who has no own fines owes nothing, and decisions may be missing."""
    return [Member(patron, own_fines.get(patron.id, NOTHING), decisions.get(patron.id)) for patron in patrons]


def decide_about(
    gateway: Gateway,
    limits: LimitFinder,
    patrons: Collection[Patron],
    own_fines: Mapping[int, Decimal],
    known: dict[Decimal, Decision] | None = None,
) -> dict[int, Decision]:
    """The decision about each patron, by id; nothing is read where there is one limit for everybody.

    Where there is, the decisions about amounts are taken from those that are ``known``, and put there.

    Raises:
        DataError: somebody's transactions have to be looked at, and the account may not.
        PermissionDeniedError: the ILS's thresholds count, and the account may not see them.
    """
    if isinstance(limits, OneLimit):
        resolved_for_all = limits.limit_for(0, 0)
        nothing = resolved_for_all.decide(None)  # most owe nothing: one decision will do for all of them
        decided = {} if known is None else known
        for amount in own_fines.values():
            if amount not in decided:
                decided[amount] = resolved_for_all.decide(amount)
        return {patron.id: decided[own_fines[patron.id]] if patron.id in own_fines else nothing for patron in patrons}
    resolved = {patron.id: limits.limit_for(patron.profile, patron.home_library.id) for patron in patrons}
    return decide_all(gateway, resolved, own_fines)


def decide_where_visible(
    gateway: Gateway, limits: LimitFinder, patrons: Collection[Patron], own_fines: Mapping[int, Decimal]
) -> dict[int, Decision]:
    """The decision about each patron, by id, without those whose limit the account may not see.

    Raises:
        DataError: somebody's transactions have to be looked at, and the account may not.
    """
    if isinstance(limits, OneLimit):
        return decide_about(gateway, limits, patrons, own_fines)
    found = {patron.id: limits.visible_limit_for(patron.profile, patron.home_library.id) for patron in patrons}
    return decide_all(gateway, {id: limit for id, limit in found.items() if limit is not None}, own_fines)


def decide_by_thresholds(
    gateway: Gateway, thresholds: LimitFinder, members: Collection[Member]
) -> tuple[dict[int, ResolvedLimit], dict[int, Decision]]:
    """Return Evergreen's own limit of each member and the decision by it, both by id.

    Leave out members whose threshold the account can't see. The decision is missing as well where the account can't see
    the transactions that the threshold counts. Read nothing unless a threshold counts only some libraries, or is 0.00.
    """
    found = {
        member.id: limit
        for member in members
        if (limit := thresholds.visible_limit_for(member.patron.profile, member.patron.home_library.id)) is not None
    }
    own_fines = {member.id: member.own_fines for member in members if member.own_fines}
    # A threshold of 0.00 is reached by an open transaction without a balance, and not without any transaction.
    amounts = {id: one.limit.amount for id, one in found.items() if id not in own_fines}
    at_nothing = [id for id, amount in amounts.items() if amount is not None and amount <= 0]
    if at_nothing:
        own_fines |= read_own_fines(gateway, at_nothing)
    return found, decide_where_known(gateway, found, own_fines)


def decided(gateway: Gateway, limits: LimitFinder, group: Group, own_fines: Mapping[int, Decimal]) -> Group:
    """The group with a decision about each visible member whose limit the account may see.

    ``own_fines`` are those of everybody who has an open transaction. Raises what :func:`decide_where_visible` does.
    """
    patrons: Sequence[Patron] = [member.patron for member in group.members]
    decisions = decide_where_visible(gateway, limits, patrons, own_fines)
    members = tuple(make_members(patrons, own_fines, decisions))
    return Group(group.number, members, group.hidden_member_count, group.hidden_fines)


MEMBER_FIELDS = (*PATRON_FIELDS, "deleted", *ACCOUNT_FIELDS)
"""The fields of ``au`` that :meth:`MembershipReader.completed` takes, in their order."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Patrons with their accounts, by id, and where groups were asked for these, by number; nothing is decided yet.

    ``own_fines`` has those of the patrons who have an open transaction, be it that they owe 0.00 on it.
    """

    members: Mapping[int, Member]
    accounts: Mapping[int, PatronAccount]
    groups: Mapping[int, Group]
    own_fines: Mapping[int, Decimal]


@dataclass(frozen=True, slots=True)
class Card:
    """A library card that was looked up by its barcode; ``active`` says whether that very card is."""

    barcode: str
    active: bool
    member: Member
    account: PatronAccount


class MembershipReader:
    """Reads patrons and groups, always a list at a time. ``org_units`` gives the ILS's, or they are read once."""

    def __init__(self, gateway: Gateway, org_units: Callable[[], OrgUnits] | None = None) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._known_org_units: OrgUnits | None = None

    @property
    def org_units(self) -> OrgUnits:
        """All org units of the ILS."""
        if self._known_org_units is None:
            self._known_org_units = self._org_units() if self._org_units else OrgUnits.read(self._gateway)
        return self._known_org_units

    def by_barcodes(self, barcodes: Iterable[str]) -> dict[str, Card]:
        """Look patrons up by card; blanks in a barcode are ignored (:func:`spellings`), capitals aren't.

        The answer goes by the barcodes as they were given (``patrons-011``); unknown ones are left out.
        """
        given = list(barcodes)
        # Each barcode once: a value that is named in two lists brings its rows twice.
        cards = {
            record.barcode: record
            for batch in self._gateway.pcrud.by_values("ac", "barcode", all_spellings(given), unique=True)
            for record in batch
        }
        found = self.by_ids({card.usr for card in cards.values()})
        known = ((barcode, first_spelled(barcode, cards)) for barcode in given)
        return {
            barcode: Card(card.barcode, bool(card.active), found.members[card.usr], found.accounts[card.usr])
            for barcode, card in known
            if card is not None and card.usr in found.members
        }

    def by_ids(self, ids: Collection[int]) -> Membership:
        """Read patrons by id, deleted ones too; those that the account can't see are left out."""
        found = self._gateway.pcrud.columns_by_values("au", MEMBER_FIELDS, "id", sorted(ids))
        return self.completed(chain.from_iterable(found))

    def by_groups(self, numbers: Collection[int]) -> Membership:
        """Read whole groups: the visible members, what they owe, and what is hidden.

        Raises:
            PermissionDeniedError: the account may see no patrons at its own library.
        """
        wanted = sorted(set(numbers))
        found = self._gateway.pcrud.columns_by_values(
            # Deleted patrons keep their group's number and come unless they are excluded (pcrud-009), by "f": JSON's
            # false matches nothing (pcrud-011).
            "au",
            MEMBER_FIELDS,
            "usrgroup",
            wanted,
            where={"deleted": "f"},
        )
        read = self.completed(chain.from_iterable(found))
        by_group: dict[int, list[Member]] = {number: [] for number in wanted}
        for member in read.members.values():
            by_group[member.patron.group].append(member)
        # Asked whatever the account may see: moving people is where a member that nobody sees does harm.
        visible = {number: {member.id for member in found} for number, found in by_group.items()}
        hidden = find_hidden_of_few(self._gateway, visible, lambda: [unit.id for unit in self.org_units])
        groups = {number: Group.by_name(number, found, hidden.get(number)) for number, found in by_group.items()}
        return replace(read, groups=groups)

    def completed(
        self,
        records: Iterable[tuple[Any, ...]],
        barcodes: Mapping[int, str] | None = None,
        groups: Sequence[int] = (),
    ) -> Membership:
        """Patrons with what they owe, their cards and home libraries, of the ``MEMBER_FIELDS`` of their records.

        What stands behind these fields in a record is left alone. ``barcodes`` are those of their cards, by the cards'
        ids, where they are known; else they are read beside what patrons owe. One call each. ``groups`` are the numbers
        of those that all of the patrons are in, where these are known: then what they owe is put right
        (:func:`put_fines_right`).
        """
        now = datetime.now(UTC)
        width = len(PATRON_FIELDS)
        rows: list[tuple[PatronRow, bool]] = []
        accounts: dict[int, PatronAccount] = {}
        for record in records:
            row = PatronRow._make(record[:width])
            rows.append((row, bool(record[width])))
            accounts[row.id] = PatronAccount.of(record[width + 1 : len(MEMBER_FIELDS)], now)
        readers: tuple[Callable[[], Any], ...] = (
            lambda: put_fines_right(self._gateway, groups, accounts, lambda: read_own_fines(self._gateway, accounts)),
            lambda: barcodes if barcodes is not None else read_barcodes(self._gateway, (row.card for row, _ in rows)),
            lambda: self.org_units if rows else None,
        )
        own_fines, known_barcodes, org_units = self._gateway.map(lambda read: read(), readers)
        patrons = [
            row.patron(known_barcodes.get(row.card), org_units.unit(row.home_library), deleted=deleted)
            for row, deleted in rows
        ]
        members = {member.id: member for member in make_members(patrons, own_fines, {})}
        return Membership(members, accounts, {}, own_fines)
