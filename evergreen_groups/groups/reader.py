"""Who belongs together and who owes what: groups put together from members, balances and cards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.groups.hidden_members import Hidden, find_hidden
from evergreen_groups.groups.models import GroupFines, Member
from evergreen_groups.groups.patrons import FIELDS, Patron, patrons_of
from evergreen_groups.limits import LimitFinder, OneLimit, OwnDebt, decide_all
from evergreen_groups.money import NOTHING
from evergreen_groups.policy import Limit, decide

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Access, OrgUnits

Ruling = Callable[[int, Decimal], tuple[bool, Limit]]
"""Says of a patron, by id, who owes so much, whether that is over the limit, and which limit it is."""


class GroupReader:
    """Completes patrons to groups: own fines, cards, and the members that are hidden from the account."""

    def __init__(self, gateway: Gateway, org_units: OrgUnits, access: Access, limits: LimitFinder) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._access = access
        self._limits = limits

    def complete(self, patrons: Iterable[Patron]) -> list[GroupFines]:
        """Make groups of ``patrons``, which are all members in sight of each of their groups.

        Reads balances and cards in lists of up to 2,000; for an account that can't see every patron, it compares the
        members with those that the ILS counts.
        """
        by_id = {patron.id: patron for patron in patrons}
        # By lists of ids, side by side: fleshed cards would be a query for each row.
        readers: tuple[Callable[[], dict[int, Any]], ...] = (
            lambda: self._balances(by_id),
            lambda: self._barcodes([patron.card for patron in by_id.values() if patron.card is not None]),
        )
        balances, barcodes = self._gateway.map(lambda read: read(), readers)
        ruling = self._ruling(by_id, balances)
        by_group: dict[int, list[Member]] = {}
        for patron in by_id.values():
            by_group.setdefault(patron.group, []).append(self._member(patron, balances, barcodes, ruling))
        hidden: dict[int, Hidden] = {}
        # Whoever sees everybody sees every member; a large report saves twenty calls and more.
        if not self._access.everywhere:
            seen = {group: {member.id for member in members} for group, members in by_group.items()}
            hidden = find_hidden(self._gateway, seen)
        return [_group(group, members, hidden.get(group)) for group, members in by_group.items()]

    def members(self, patrons: Iterable[Patron]) -> dict[int, Member]:
        """The patrons by id, with own fines and cards, whatever their groups."""
        by_id = {patron.id: patron for patron in patrons}
        balances = self._balances(by_id)
        barcodes = self._barcodes([patron.card for patron in by_id.values() if patron.card is not None])
        ruling = self._ruling(by_id, balances)
        return {id: self._member(patron, balances, barcodes, ruling) for id, patron in by_id.items()}

    def of_numbers(self, numbers: Iterable[int]) -> dict[int, GroupFines]:
        """The groups with these numbers, by number, as far as the account sees a member of them."""
        rows = self._gateway.pcrud.columns_by_values(
            "au", FIELDS, "usrgroup", sorted(set(numbers)), where={"deleted": "f"}
        )
        return {group.group: group for group in self.complete(patrons_of(chain.from_iterable(rows)))}

    def _member(
        self, patron: Patron, balances: Mapping[int, Decimal], barcodes: Mapping[int, str], ruling: Ruling
    ) -> Member:
        own_fines = balances.get(patron.id, NOTHING)
        over_limit, limit = ruling(patron.id, own_fines)
        return Member(
            id=patron.id,
            name=patron.name,
            barcode=barcodes.get(patron.card) if patron.card is not None else None,
            library=self._org_units.shortname(patron.home_library),
            own_fines=own_fines,
            over_limit=over_limit,
            group_lead=patron.group_lead,
            limit=limit,
        )

    def _ruling(self, patrons: Mapping[int, Patron], balances: Mapping[int, Decimal]) -> Ruling:
        """How to decide about these patrons: nothing is read where there is one limit for everybody."""
        if isinstance(self._limits, OneLimit):
            limit = self._limits.limit
            nothing = decide(NOTHING, limit).blocked
            return lambda _id, own_fines: (decide(own_fines, limit).blocked if own_fines else nothing, limit)
        profiles = read_profiles(self._gateway, patrons)
        debtors = [
            OwnDebt(id, profiles.get(id, 0), patron.home_library, balances.get(id, NOTHING))
            for id, patron in patrons.items()
        ]
        decided = decide_all(self._gateway, self._limits, debtors)
        return lambda id, _own_fines: (decided[id].decision.blocked, decided[id].decision.limit)

    def _balances(self, ids: Collection[int]) -> dict[int, Decimal]:
        """What each of these patrons owes; those who owe nothing are left out."""
        # Paid-up transactions that are still open are rows of nought (groups-008). Credits stay in: they count
        # (pcrud-049).
        owes = {"balance_owed": {"<>": 0}}
        found = self._gateway.pcrud.columns_by_values("mous", ("usr", "balance_owed"), "usr", ids, where=owes)
        return dict(chain.from_iterable(found))

    def _barcodes(self, cards: Collection[int]) -> dict[int, str]:
        return dict(chain.from_iterable(self._gateway.pcrud.columns_by_values("ac", ("id", "barcode"), "id", cards)))


def _group(group: int, members: Iterable[Member], hidden: Hidden | None) -> GroupFines:
    ordered = tuple(sorted(members, key=lambda member: (-member.own_fines, member.id)))
    if hidden is None:
        return GroupFines(group, ordered)
    return GroupFines(group, ordered, len(hidden.ids), hidden.fines)


def read_profiles(gateway: Gateway, patrons: Collection[int]) -> dict[int, int]:
    """The ids of these patrons' permission profiles, by patron's id."""
    return dict(chain.from_iterable(gateway.pcrud.columns_by_values("au", ("id", "profile"), "id", sorted(patrons))))
