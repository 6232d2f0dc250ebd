"""Bills and items out of the members of a group. Read only when a clerk expands them, never for the member list."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.desk.summary import DeskReader
from evergreen_groups.errors import not_visible
from evergreen_groups.groups import AdultRule
from evergreen_groups.ils import (
    VIEW_USER,
    Bill,
    CirculationCounts,
    CirculationKind,
    ItemOut,
    PatronHolds,
    PatronItems,
    Waiver,
    permissions,
)
from evergreen_groups.language import name_key
from evergreen_groups.settings import StatementSettings
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.groups import Patron, PatronAccount, VisiblePatrons
    from evergreen_groups.ils import OrgUnit, OrgUnits, ReadyHold

log = logging.getLogger("evergreen_groups.desk")


class Titles(Enum):
    """The patrons whose item titles are shown."""

    NONE = "none"
    JUVENILES = "juveniles"
    ALL = "all"

    def shown_for(self, account: PatronAccount) -> bool:
        """Return whether to show a patron's titles. Evergreen's own flag says who is a juvenile."""
        return self is Titles.ALL or (self is Titles.JUVENILES and account.juvenile)


_NOT_ASKED = PatronHolds((), complete=False)


@dataclass(frozen=True, slots=True)
class MemberBills:
    """A visible member with their bills and items out.

    ``bills`` are the open bills, oldest first. They are None if they are hidden or don't add up to ``own_fines``.
    ``titles`` maps items' ids (``acp.id``) to titles, None if titles aren't shown. ``holds`` are incomplete, and
    ``waivers`` empty, unless they were asked for.
    """

    patron: Patron
    account: PatronAccount
    own_fines: Decimal
    bills: tuple[Bill, ...] | None
    items: PatronItems
    titles: Mapping[int, str] | None
    holds: PatronHolds = _NOT_ASKED
    waivers: tuple[Waiver, ...] = ()

    def item_of(self, bill: Bill) -> ItemOut | None:
        """Return the item that a bill is for, or None if there is no item or it is hidden."""
        return next((item for item in self.items.items if item.id == bill.id), None)


@dataclass(frozen=True, slots=True)
class GroupBills:
    """Bills and items out of members of a group, read at the time ``at`` (aware).

    ``members`` are those requested, in the group's display order. ``complete`` says that the group has no hidden
    members. ``gateway`` is the address of the gateway.
    """

    __repr__ = arguments.brief

    gateway: str
    at: datetime
    group: int
    members: tuple[MemberBills, ...]
    complete: bool
    org_units: OrgUnits

    def member(self, id: int) -> MemberBills:
        """Return the member with this id. Raises NotFoundError if they aren't among those that were read."""
        for member in self.members:
            if member.patron.id == id:
                return member
        raise not_visible("no visible patron has this id", code="no-such-member")

    def library(self, id: int | None) -> str:
        """Return a library's short name; empty for None or an unknown id."""
        return self.org_units.unit(id).shortname if id is not None and id in self.org_units else ""


class BillsReader(DeskReader):
    """Reads bills and items of a group's members, as far as the session may see them, with as few calls as possible.

    With cached reference data it takes five calls: the members, then in parallel their fines, bills and items, then
    the billings. Without VIEW_CIRCULATIONS everywhere, one more call finds out about hidden circulations. A slip takes
    one more, or two without VIEW_HOLD everywhere. Titles take three more, waivers one.
    """

    def of_user(
        self,
        id: int,
        *,
        member: int | None = None,
        titles: Titles = Titles.NONE,
        slip: bool = False,
        waivers: bool = False,
    ) -> GroupBills:
        """Read a patron's group: all visible members, or only the one with the id ``member``.

        With ``slip``, also read renewals and the holds that are ready for pickup. With titles, log the session's user
        and the group number, but no title. Raises NotFoundError without such a visible patron or member, or DataError
        if the group is too large to be a family.
        """
        arguments.integer("id", id)
        arguments.integer_or_none("member", member)
        arguments.instance("titles", titles, Titles)
        found = self._families.of_patron(id, self._member_viewer(self._recent()))
        if found is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        if member is not None and member not in found.ids:
            raise not_visible("no visible patron has this id", code="no-such-member")
        wanted = found.ids if member is None else {member}
        return self._read(found, wanted, titles, slip=slip, waivers=waivers)

    def slip(self, id: int, *, titles: Titles = Titles.NONE, adults: bool = False) -> FamilyItems:
        """Read what a patron and the children of the group have out and can pick up.

        ``adults`` includes the other adults. Logs and raises what :meth:`of_user` does.
        """
        settings = StatementSettings(adults=arguments.boolean("adults", adults))
        return FamilyItems(make_statement(self.of_user(id, titles=titles, slip=True), id, settings))

    def items_counted(self, member: MemberBills) -> CirculationCounts | None:
        """Count all items that a member has out, visible or not. None if Evergreen doesn't say. Makes one call."""
        return self._circulation_reader().count_one(member.patron.id, member.patron.home_library.id)

    def _read(
        self, found: VisiblePatrons, wanted: Collection[int], titles: Titles, *, slip: bool, waivers: bool
    ) -> GroupBills:
        gateway, reference = self._gateway, self._reference
        # Load all classes in one request.
        more = (*(("acp", "acn", "rmsr") if titles is not Titles.NONE else ()), *(("ahr",) if slip else ()))
        gateway.idl("circ", "mobts", "mb", "mous", *more)
        org_units = reference.org_units(gateway, found.named_org_units)
        patrons = [patron for patron in found.patrons(org_units) if patron.id in wanted]
        ids = {patron.id for patron in patrons}
        rights = reference.rights(gateway)
        bills_at, items_at = rights.at(permissions.VIEW_USER_TRANSACTIONS), rights.at(permissions.VIEW_CIRCULATIONS)
        holds_at = rights.at(permissions.VIEW_HOLD) if slip else ()
        hidden = {patron.id for patron in patrons if patron.home_library.id not in bills_at}
        # Since 3.15 an account sees its own record without VIEW_USER, but not its own waivers.
        seen = rights.at(VIEW_USER) if waivers else ()
        fines, bills, items, ready, waived = self._gateway.in_parallel(
            lambda: self._visible_fines(ids),
            lambda: Bill.read(gateway, ids - hidden) if ids - hidden else {},
            lambda: PatronItems.read(gateway, org_units, items_at, ids, renewals=slip),
            lambda: PatronHolds.read(gateway, org_units, holds_at, ids),
            lambda: Waiver.read(gateway, {patron.id for patron in patrons if patron.home_library.id in seen}),
        )
        own_fines = {id: fines.get(id, ZERO) for id in ids}
        known = Bill.verify(gateway, own_fines, bills, hidden)
        all_copies = {
            id: {item.copy for item in items[id].items} | {hold.copy for hold in ready[id].ready if hold.copy}
            for id in ids
            if titles.shown_for(found.accounts[id])
        }
        shown = self._titles(found, {*chain(*all_copies.values())})

        members = []
        for patron in patrons:
            account, its_bills, its_items = found.accounts[patron.id], known[patron.id], items[patron.id]
            its_titles = None
            if patron.id in all_copies:
                its_titles = {copy: shown[copy] for copy in all_copies[patron.id] if copy in shown}
            if its_bills is not None:
                its_bills = Bill.with_item_kinds(its_bills, its_items.stop_fines, items_at)
            shares = own_fines[patron.id], its_bills, its_items, its_titles, ready[patron.id], waived.get(patron.id, ())
            members.append(MemberBills(patron, account, *shares))
        return GroupBills(
            gateway=gateway.url,
            at=datetime.now(UTC),
            group=found.group,
            members=tuple(
                sorted(members, key=lambda it: (not it.patron.group_lead, name_key(it.patron.name), it.patron.id))
            ),
            complete=found.complete,
            org_units=org_units,
        )

    def _titles(self, found: VisiblePatrons, copies: Collection[int]) -> dict[int, str]:
        if not copies:
            return {}
        # Log before reading, so that the access is on record even if the answer is lost.
        log.info("titles: user %d views those of group %d", self._reference.user(self._gateway), found.group)
        return ItemOut.read_titles(self._gateway, copies)


_RULE = AdultRule(from_age=18)
"""From this age on, a member's bills appear only on their own statement, whatever age the audit setting uses."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The content of a statement for ``patron``.

    ``members`` are the members whose bills may appear. They always include ``patron``.
    """

    group: GroupBills
    patron: Patron
    members: tuple[MemberBills, ...]

    @property
    def library(self) -> OrgUnit:
        """The library that issues the statement."""
        return self.patron.home_library

    @property
    def owed(self) -> Decimal:
        """What the members have to pay together. The credit of one doesn't pay the debts of another."""
        return sum((max(member.own_fines, ZERO) for member in self.members), ZERO)

    @property
    def credit(self) -> Decimal:
        """The credits that members have, unless they owe something themselves, as a positive amount."""
        return sum((max(-member.own_fines, ZERO) for member in self.members), ZERO)


def make_statement(group: GroupBills, patron: int, settings: StatementSettings) -> Statement:
    """Select what appears on the statement for a patron (id), as the library's settings allow.

    Leave out other adults, unless the settings allow them. Their fines aren't part of any sum, so the statement
    doesn't reveal whether there are any.
    """
    today = group.at.astimezone().date()
    members = tuple(
        member
        for member in group.members
        if settings.adults or member.patron.id == patron or is_minor(member.account, today)
    )
    return Statement(group, next(member.patron for member in members if member.patron.id == patron), members)


@dataclass(frozen=True, slots=True)
class FamilyItems:
    """What the members on a ``statement`` have out, and the holds that they can pick up."""

    __repr__ = arguments.brief

    statement: Statement

    @property
    def items(self) -> tuple[tuple[MemberBills, ItemOut], ...]:
        """The items out, each with who has it: overdue ones first, then by due date."""
        items = [(member, item) for member in self.statement.members for item in member.items.out]
        return tuple(sorted(items, key=lambda pair: (pair[1].kind not in _OVERDUE, *_order(pair[1].due))))

    @property
    def holds(self) -> tuple[tuple[MemberBills, ReadyHold], ...]:
        """The holds that are ready for pickup, each with whose it is, by the day until which they wait."""
        holds = [(member, hold) for member in self.statement.members for hold in member.holds.ready]
        return tuple(sorted(holds, key=lambda pair: _order(pair[1].until)))

    @property
    def all_items(self) -> bool:
        """Whether no item is hidden."""
        return all(member.items.complete for member in self.statement.members)

    @property
    def all_holds(self) -> bool:
        """Whether no hold is hidden."""
        return all(member.holds.complete for member in self.statement.members)

    @property
    def complete(self) -> bool:
        """Whether no member of the group is hidden, nor any item or hold of those included."""
        return self.statement.group.complete and self.all_items and self.all_holds


_OVERDUE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)


def _order(time: datetime | None) -> tuple[bool, float]:
    """Return a sort key that puts unknown times last."""
    return time is None, time.timestamp() if time else 0.0


def is_minor(account: PatronAccount, today: date) -> bool:
    """Return whether a patron is a minor, by date of birth, or by Evergreen's juvenile flag if there is none."""
    return not _RULE.is_adult(account, today)
