"""Who belongs together and who owes what: groups put together from rows of patrons, balances and cards."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.groups.hidden_in_sets import find_hidden
from evergreen_groups.groups.models import Group, Member
from evergreen_groups.groups.patrons import PATRON_FIELDS, Patron, PatronRow, make_patrons, read_barcodes
from evergreen_groups.groups.read_before import ReadBefore
from evergreen_groups.ils import read_own_fines
from evergreen_groups.limits import LimitFinder, OneLimit, ResolvedLimit, decide_all, decide_where_known
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.hidden_members import HiddenMembers
    from evergreen_groups.ils import Access, OrgUnits
    from evergreen_groups.policy import Decision


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
