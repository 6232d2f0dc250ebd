"""Who belongs together and who owes what: groups put together from members, balances and cards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

from evergreen_groups.access import Access
from evergreen_groups.gateway import Gateway
from evergreen_groups.hidden_members import Hidden, find_hidden
from evergreen_groups.models import NOTHING, GroupFines, Member
from evergreen_groups.org_units import OrgUnits
from evergreen_groups.patrons import FIELDS, Patron, patrons_of
from evergreen_groups.policy import Limit, decide


class GroupReader:
    """Completes patrons to groups: own fines, cards, and the members that are hidden from the account."""

    def __init__(self, gateway: Gateway, org_units: OrgUnits, access: Access, limit: Limit) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._access = access
        self._limit = limit
        self._nothing_is_over = decide(NOTHING, limit).blocked

    def complete(self, patrons: Iterable[Patron]) -> list[GroupFines]:
        """Make groups of ``patrons``, which are all members in sight of each of their groups.

        Reads balances and cards in lists of up to 2,000; for an account that can't see every patron, it compares the
        members with those that the ILS counts.
        """
        by_id = {patron.id: patron for patron in patrons}
        readers: tuple[Callable[[], dict[int, Any]], ...] = (
            lambda: self._balances(by_id),
            lambda: self._barcodes([patron.card for patron in by_id.values() if patron.card is not None]),
        )
        balances, barcodes = self._gateway.map(lambda read: read(), readers)
        by_group: dict[int, list[Patron]] = {}
        for patron in by_id.values():
            by_group.setdefault(patron.group, []).append(patron)
        hidden: dict[int, Hidden] = {}
        if not self._access.everywhere:
            seen = {group: {patron.id for patron in members} for group, members in by_group.items()}
            hidden = find_hidden(self._gateway, seen)
        return [
            self._group(group, members, balances, barcodes, hidden.get(group)) for group, members in by_group.items()
        ]

    def members(self, patrons: Iterable[Patron]) -> dict[int, Member]:
        """The patrons by id, with own fines and cards, whatever their groups."""
        found = list(patrons)
        balances = self._balances([patron.id for patron in found])
        barcodes = self._barcodes([patron.card for patron in found if patron.card is not None])
        return {patron.id: self._member(patron, balances, barcodes) for patron in found}

    def of_numbers(self, numbers: Iterable[int]) -> dict[int, GroupFines]:
        """The groups with these numbers, by number, as far as the account sees a member of them."""
        rows = self._gateway.pcrud.columns_by_values(
            "au", FIELDS, "usrgroup", sorted(set(numbers)), where={"deleted": "f"}
        )
        return {group.group: group for group in self.complete(patrons_of(chain.from_iterable(rows)))}

    def _group(
        self,
        group: int,
        patrons: Sequence[Patron],
        balances: Mapping[int, Decimal],
        barcodes: Mapping[int, str],
        hidden: Hidden | None,
    ) -> GroupFines:
        members = (self._member(patron, balances, barcodes) for patron in patrons)
        ordered = tuple(sorted(members, key=lambda member: (-member.own_fines, member.id)))
        if hidden is None:
            return GroupFines(group, ordered)
        return GroupFines(group, ordered, len(hidden.ids), hidden.fines)

    def _member(self, patron: Patron, balances: Mapping[int, Decimal], barcodes: Mapping[int, str]) -> Member:
        own_fines = balances.get(patron.id, NOTHING)
        return Member(
            id=patron.id,
            name=patron.name,
            barcode=barcodes.get(patron.card) if patron.card is not None else None,
            library=self._org_units.shortname(patron.home_library),
            own_fines=own_fines,
            over_limit=decide(own_fines, self._limit).blocked if own_fines else self._nothing_is_over,
            group_lead=patron.group_lead,
        )

    def _balances(self, ids: Collection[int]) -> dict[int, Decimal]:
        """What each of these patrons owes; those who owe nothing are left out."""
        owes = {"balance_owed": {"<>": 0}}
        found = self._gateway.pcrud.columns_by_values("mous", ("usr", "balance_owed"), "usr", ids, where=owes)
        return dict(chain.from_iterable(found))

    def _barcodes(self, cards: Collection[int]) -> dict[int, str]:
        return dict(chain.from_iterable(self._gateway.pcrud.columns_by_values("ac", ("id", "barcode"), "id", cards)))
