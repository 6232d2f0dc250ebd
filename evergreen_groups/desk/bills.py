"""What the members of a group owe for, and what they have out: read when somebody unfolds it, never for the list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.changes import RecentlyChanged
from evergreen_groups.desk.around import circulation_reader, plain_viewer, read_visible_fines
from evergreen_groups.errors import not_visible
from evergreen_groups.groups import AdultRule, visible_family_of
from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER_TRANSACTIONS,
    Bill,
    CirculationCounts,
    ItemOut,
    OrgUnits,
    PatronItems,
    read_bills,
    read_items,
    read_titles,
    verify_bills,
    with_item_kinds,
)
from evergreen_groups.language import name_key
from evergreen_groups.money import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Patron, PatronAccount, VisiblePatrons
    from evergreen_groups.ils import OrgUnit, ReferenceData
    from evergreen_groups.settings import StatementSettings

log = logging.getLogger("evergreen_groups.desk")


class Titles(Enum):
    """Whose items are shown with their titles."""

    NONE = "none"
    JUVENILES = "juveniles"
    ALL = "all"

    def shown_for(self, account: PatronAccount) -> bool:
        """Whether titles of what a patron has out are shown; a juvenile is who the ILS's own flag says is one."""
        return self is Titles.ALL or (self is Titles.JUVENILES and account.juvenile)


@dataclass(frozen=True, slots=True)
class MemberBills:
    """A visible member with what they owe for and have out.

    ``bills`` are the open ones, oldest first, None where they aren't known: they aren't visible, or don't add up to
    ``own_fines``. ``titles`` are those of items by the items' ids (``acp.id``), None where they aren't shown.
    """

    patron: Patron
    account: PatronAccount
    own_fines: Decimal
    bills: tuple[Bill, ...] | None
    items: PatronItems
    titles: Mapping[int, str] | None

    def item_of(self, bill: Bill) -> ItemOut | None:
        """The item that a bill is for, None where it is for none, or for one that isn't visible."""
        return next((item for item in self.items.items if item.id == bill.id), None)


@dataclass(frozen=True, slots=True)
class GroupBills:
    """What members of a group owe for and have out, as read ``at`` that moment (aware).

    ``members`` are those who were asked for, in the group's own order. ``complete`` says that nobody else belongs to
    the group but its visible members. ``gateway`` is the address the data came from.
    """

    gateway: str
    at: datetime
    group: int
    members: tuple[MemberBills, ...]
    complete: bool
    org_units: OrgUnits

    def member(self, id: int) -> MemberBills:
        """The member with this id.

        Raises:
            NotFoundError: they aren't among the members that were read.
        """
        for member in self.members:
            if member.patron.id == id:
                return member
        raise not_visible("no visible member of this group has this id", code="no-such-member")

    def library(self, id: int | None) -> str:
        """The short name of a library by its id; empty where there is none, or none is known by it."""
        return self.org_units.unit(id).shortname if id is not None and id in self.org_units else ""


class BillsReader:
    """Reads bills and items of the members of a group, as the session may see them, in as few calls as there can be.

    With reference data known there are five: the members, then side by side what they owe, their bills and their items,
    then what was billed. One more finds out about circulations that the session can't see, unless it has
    VIEW_CIRCULATIONS everywhere. Titles take three more.
    """

    def __init__(
        self, gateway: Gateway, reference: ReferenceData, recent: Callable[[], RecentlyChanged] = RecentlyChanged
    ) -> None:
        """``recent`` gives whom a program has changed so recently that a copy of the database may not have it."""
        self._gateway = gateway
        self._reference = reference
        self._recent = recent

    def of_user(self, id: int, *, member: int | None = None, titles: Titles = Titles.NONE) -> GroupBills:
        """The group of a patron: all its visible members, or one alone where their id is given.

        With titles, that somebody looked at them is logged: whose session it was and the group, but no title.

        Raises:
            NotFoundError: no visible patron has this id, or the group no such visible member.
            DataError: the group is too large to be a family.
        """
        arguments.integer("id", id)
        arguments.integer_or_none("member", member)
        arguments.instance("titles", titles, Titles)
        found = visible_family_of(self._gateway, id, plain_viewer(self._gateway, self._reference, self._recent()))
        if found is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        if member is not None and member not in found.ids:
            raise not_visible("no visible member of this group has this id", code="no-such-member")
        return self._read(found, found.ids if member is None else {member}, titles)

    def items_counted(self, member: MemberBills) -> CirculationCounts | None:
        """How many items a member has out in all, be they visible or not; None where the ILS doesn't say. One call."""
        counting = circulation_reader(self._gateway, self._reference)
        return counting.count_one(member.patron.id, member.patron.home_library.id)

    def _read(self, found: VisiblePatrons, wanted: Collection[int], titles: Titles) -> GroupBills:
        gateway, reference = self._gateway, self._reference
        gateway.idl("circ", "mobts", "mb", "mous", *(("acp", "acn", "rmsr") if titles is not Titles.NONE else ()))
        org_units = reference.org_units(gateway, found.named_org_units)
        patrons = [patron for patron in found.patrons(org_units) if patron.id in wanted]
        ids = {patron.id for patron in patrons}
        rights = reference.rights(gateway)
        bills_at, items_at = rights.at(VIEW_USER_TRANSACTIONS), rights.at(VIEW_CIRCULATIONS)
        hidden = {patron.id for patron in patrons if patron.home_library.id not in bills_at}
        readers: tuple[Callable[[], Any], ...] = (
            lambda: read_visible_fines(gateway, reference.user(gateway), ids),
            lambda: read_bills(gateway, ids - hidden) if ids - hidden else {},
            lambda: read_items(gateway, org_units, items_at, ids),
        )
        fines, bills, items = gateway.map(lambda read: read(), readers)
        own_fines = {patron.id: fines.get(patron.id, ZERO) for patron in patrons}
        known = verify_bills(gateway, own_fines, bills, hidden)
        stop_fines = {item.id: item.stop_fines for theirs in items.values() for item in theirs.items}
        shown = self._titles(found, items.values(), titles)

        def titles_of(patron: Patron) -> dict[int, str] | None:
            if not titles.shown_for(found.accounts[patron.id]):
                return None
            return {item.copy: shown[item.copy] for item in items[patron.id].items if item.copy in shown}

        def bills_of(patron: Patron) -> tuple[Bill, ...] | None:
            theirs = known[patron.id]
            return None if theirs is None else with_item_kinds(theirs, stop_fines, items_at)

        members = (
            MemberBills(
                patron=patron,
                account=found.accounts[patron.id],
                own_fines=own_fines[patron.id],
                bills=bills_of(patron),
                items=items[patron.id],
                titles=titles_of(patron),
            )
            for patron in patrons
        )
        return GroupBills(
            gateway=gateway.url,
            at=datetime.now(UTC),
            group=found.group,
            members=tuple(sorted(members, key=_as_listed)),
            complete=found.complete,
            org_units=org_units,
        )

    def _titles(self, found: VisiblePatrons, items: Iterable[PatronItems], titles: Titles) -> dict[int, str]:
        copies = {
            item.copy for theirs in items for item in theirs.items if titles.shown_for(found.accounts[item.patron])
        }
        if not copies:
            return {}
        # Before they are read: what was looked at is known even where no answer comes.
        log.info("titles: user %d looks at those of group %d", self._reference.user(self._gateway), found.group)
        return read_titles(self._gateway, copies)


def _as_listed(member: MemberBills) -> tuple[bool, str, int]:
    """As the group's list has its members: the lead first, the others by name."""
    return not member.patron.group_lead, name_key(member.patron.name), member.patron.id


_RULE = AdultRule(from_age=18)
"""From that age on somebody's affairs are on their own sheet alone, whatever the library's audit takes for an adult."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement says.

    ``members`` are those whose affairs may be on it; ``patron`` is the one it is for, and always among them.
    """

    group: GroupBills
    patron: Patron
    members: tuple[MemberBills, ...]

    @property
    def library(self) -> OrgUnit:
        """The library whose sheet it is."""
        return self.patron.home_library

    @property
    def owed(self) -> Decimal:
        """What the members on it owe together, credits counted; nobody else's fines are in it."""
        return sum((member.own_fines for member in self.members), ZERO)


def make_statement(group: GroupBills, patron: int, settings: StatementSettings) -> Statement:
    """Choose what is on the statement for the patron with an id, as the library allows it.

    Adults beside that patron are left out as if they weren't there, unless the settings let them in: what they owe is
    in no sum, and the sheet reads alike whether there are any or not.
    """
    today = group.at.astimezone().date()
    members = tuple(_allowed(group, patron, settings, today))
    return Statement(group, next(member.patron for member in members if member.patron.id == patron), members)


def _allowed(group: GroupBills, patron: int, settings: StatementSettings, today: date) -> Iterator[MemberBills]:
    for member in group.members:
        if settings.adults or member.patron.id == patron or is_minor(member.account, today):
            yield member


def is_minor(account: PatronAccount, today: date) -> bool:
    """Whether somebody is under age: by the date of birth, or by the ILS's flag for juveniles where there is none."""
    return not _RULE.is_adult(account, today)
