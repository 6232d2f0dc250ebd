"""Reads the details of the members of groups, a set at a time: bills, unreturned items, profiles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER_TRANSACTIONS,
    Bill,
    OrgUnits,
    Profiles,
    UnreturnedRead,
    account_of_session,
    add_up,
    held_by,
    kinds_of_items,
    read_bills,
    read_unreturned_items,
)
from evergreen_groups.message import Message
from evergreen_groups.report.details import KindSum, MemberDetails, ReportDetails, SummedBills

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member, PatronRow, PatronState

Bills = Mapping[int, tuple[Bill, ...]]


@dataclass(frozen=True, slots=True)
class DetailRows:
    """What was read of the members of some groups beside what they owe."""

    bills: Bills
    items: UnreturnedRead


class DetailReader:
    """Reads what the account may see of it; ``granted`` is what :func:`highest_granted` gave for both permissions."""

    def __init__(self, gateway: Gateway, org_units: OrgUnits, granted: Mapping[str, Collection[int]]) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._bills_at = self._visible_at(VIEW_USER_TRANSACTIONS, granted)
        self._items_at = self._visible_at(VIEW_CIRCULATIONS, granted)
        self.profiles = Profiles.read(gateway)
        """All that the ILS has."""
        self._members: dict[int, MemberDetails] = {}
        # One record for all of whom the same is known: of most there is nothing to say. And one for all who owe as much
        # for the same.
        self._alike: dict[MemberDetails, MemberDetails] = {}
        self._kinds: dict[tuple[KindSum, ...], tuple[KindSum, ...]] = {}
        self._by_billing_type: set[int] = set()

    def _visible_at(self, permission: str, granted: Mapping[str, Collection[int]]) -> frozenset[int]:
        highest = granted[permission]
        if self._org_units.root.id in highest:
            return frozenset(unit.id for unit in self._org_units)
        user = account_of_session(self._gateway).id
        return held_by(self._gateway, self._org_units, permission, highest, user)

    def read(self, rows: Collection[PatronRow]) -> DetailRows:
        """The bills and unreturned items of these patrons, three calls for up to 3,000 of them."""
        visible = [row.id for row in rows if row.home_library in self._bills_at]
        readers: tuple[Callable[[], Any], ...] = (
            lambda: read_bills(self._gateway, visible) if visible else {},
            lambda: read_unreturned_items(self._gateway, self._org_units, self._items_at, [row.id for row in rows]),
        )
        bills, items = self._gateway.map(lambda read: read(), readers)
        return DetailRows(bills, items)

    def add(self, members: Collection[Member], read: DetailRows, states: dict[int, PatronState]) -> None:
        """Take in the details of these members, whose ``states`` are taken out of there; the latest of a member count.

        Bills that don't add up to the own fines are read once more.
        """
        hidden = {member.id for member in members if member.patron.home_library.id not in self._bills_at}
        own_fines = {member.id: member.own_fines for member in members}
        adding_up = add_up(self._gateway, own_fines, read.bills, hidden)
        for member in members:
            id, profile = member.id, self.profiles.name(member.patron.profile)
            bills = adding_up[id]
            if bills:
                bills = kinds_of_items(bills, read.items.stop_fines, self._items_at)
                if any(one.kind.transaction == "circulation" and one.library not in self._items_at for one in bills):
                    self._by_billing_type.add(id)
            owed = None if bills is None else SummedBills.of(bills, self._kinds)
            theirs = MemberDetails(owed, read.items.items.get(id), states.pop(id), profile)
            self._members[id] = theirs if bills else self._alike.setdefault(theirs, theirs)

    def details(self) -> ReportDetails:
        """The details of all members that were taken in."""
        return ReportDetails(self._members, self.profiles)

    def notes(self, groups: Collection[Group], details: ReportDetails) -> Iterator[Message]:
        """Say of how many members it isn't known what they owe for or have out, and what the account lacks."""
        found = [details.of(member) for group in groups for member in group.members]
        without_bills = sum(one.owed is None for one in found)
        if without_bills:
            reason = self._reason(VIEW_USER_TRANSACTIONS, self._bills_at)
            yield Message(
                "What {count} of {all:,} members owes for isn't known: {reason}.",
                plural="What {count} of {all:,} members owe for isn't known: {reason}.",
                values={"count": without_bills, "all": len(found), "reason": reason},
            )
        by_type = sum(member.id in self._by_billing_type for group in groups for member in group.members)
        if by_type:
            yield Message(
                "For {count} of {all:,} members, bills for items are listed by billing type and not by what happened "
                "to the item: {reason}.",
                values={"count": by_type, "all": len(found), "reason": self._reason(VIEW_CIRCULATIONS, self._items_at)},
            )
        without_items = sum(one.items is None for one in found)
        if without_items:
            reason = self._reason(VIEW_CIRCULATIONS, self._items_at)
            yield Message(
                "How many items {count} of {all:,} members has overdue or lost isn't known: {reason}.",
                plural="How many items {count} of {all:,} members have overdue or lost isn't known: {reason}.",
                values={"count": without_items, "all": len(found), "reason": reason},
            )

    def _reason(self, permission: str, held: Collection[int]) -> Message:
        if not held:
            return Message(
                'the account lacks {permission}; grant it, or have details = "sums"', values={"permission": permission}
            )
        missing = {unit.id for unit in self._org_units} - set(held)
        if not missing:
            return Message("something was paid or billed while the report was made")
        named = self._org_units.tops_of(missing) or [unit for unit in self._org_units if unit.id in missing]
        libraries = ", ".join(unit.shortname for unit in named)
        return Message(
            "the account lacks {permission} at {libraries}",
            values={"permission": permission, "libraries": libraries},
        )
