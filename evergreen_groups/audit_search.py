"""Finding the people whose blocks and own fines don't fit together, set by set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from evergreen_groups.audit_query import BlockQuery
from evergreen_groups.findings import Block, Kind, PersonFinding
from evergreen_groups.gateway import Gateway, columns
from evergreen_groups.group_query import Query
from evergreen_groups.groups import GroupReader
from evergreen_groups.models import NOTHING, GroupFines, Member
from evergreen_groups.org_units import OrgUnits
from evergreen_groups.patrons import FIELDS, Patron, patrons_of
from evergreen_groups.penalties import Penalties, PenaltyRow, rows_in_force
from evergreen_groups.policy import Limit, decide

_PAGE = 4_000


class BlockSearch:
    """Finds people of the first four kinds: over the limit and not blocked, and blocked and not over the limit."""

    def __init__(
        self, gateway: Gateway, org_units: OrgUnits, reader: GroupReader, penalties: Penalties, limit: Limit
    ) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._reader = reader
        self._penalties = penalties
        self._limit = limit

    def run(self, homes: Collection[int]) -> list[PersonFinding]:
        """All findings about patrons at home at ``homes`` (org unit ids, none: everywhere), by kind, most owed first.

        What the ILS answers is looked at once more with the balances read afterwards, which may have changed.
        """
        query = BlockQuery(self._limit, self._penalties.for_fines, homes)
        questions = [query.not_blocked(), query.not_over(), query.by_hand()]
        not_blocked, not_over, by_hand = self._gateway.map(self._patrons, questions)
        patrons = {patron.id: patron for patron in (*not_blocked, *not_over, *by_hand)}
        members = self._reader.members(patrons.values())
        rows: dict[int, list[PenaltyRow]] = {}
        for row in rows_in_force(self._gateway, patrons):
            rows.setdefault(row.patron, []).append(row)
        groups = self._reader.of_numbers({patron.group for patron in by_hand}) if by_hand else {}
        found = [
            *self._not_blocked(not_blocked, members, rows),
            *self._not_over(not_over, members, rows),
            *self._by_hand(by_hand, members, rows, groups),
        ]
        order = list(Kind)
        found.sort(key=lambda it: (order.index(it.kind), -it.member.own_fines, it.member.id))
        return found

    def _patrons(self, where: Query | None) -> list[Patron]:
        if where is None:
            return []
        pages = self._gateway.pcrud.pages("au", where, select=FIELDS, page_size=_PAGE, concurrency=1)
        return [patron for page in pages for patron in patrons_of(columns(page, *FIELDS))]

    def _not_blocked(
        self, patrons: Iterable[Patron], members: Mapping[int, Member], rows: Mapping[int, list[PenaltyRow]]
    ) -> Iterator[PersonFinding]:
        for patron in patrons:
            member = members[patron.id]
            blocked = any(row.penalty in self._penalties.for_fines for row in rows.get(patron.id, ()))
            if member.over_limit and not blocked:
                over_by = decide(member.own_fines, self._limit).over_by
                how = f"over the limit by {over_by:,.2f}" if over_by else "at the limit"
                yield PersonFinding(
                    Kind.NOT_BLOCKED, member, patron.group, f"Own fines are {how}, and the ILS has no block for fines."
                )

    def _not_over(
        self, patrons: Iterable[Patron], members: Mapping[int, Member], rows: Mapping[int, list[PenaltyRow]]
    ) -> Iterator[PersonFinding]:
        for patron in patrons:
            member = members[patron.id]
            blocks = self._blocks(
                row for row in rows.get(patron.id, ()) if row.penalty in self._penalties.for_fines and row.staff is None
            )
            if blocks and not member.over_limit:
                at_limit = self._limit.amount is not None and member.own_fines == self._limit.amount
                why = (
                    "Own fines are exactly at the limit: the ILS blocks there already."
                    if at_limit
                    else "Own fines are not over the limit: the block is stale, or the ILS has a lower threshold."
                )
                yield PersonFinding(Kind.NOT_OVER, member, patron.group, why, blocks)

    def _by_hand(
        self,
        patrons: Iterable[Patron],
        members: Mapping[int, Member],
        rows: Mapping[int, list[PenaltyRow]],
        groups: Mapping[int, GroupFines],
    ) -> Iterator[PersonFinding]:
        for patron in patrons:
            member = members[patron.id]
            blocks = self._blocks(
                row
                for row in rows.get(patron.id, ())
                if row.penalty in self._penalties.blocking and row.staff is not None
            )
            if not blocks or member.over_limit:
                continue
            group = groups.get(patron.group)
            together = group.combined_fines if group else member.own_fines
            known = group is not None and group.hidden_fines is not None
            if decide(together, self._limit).blocked and together - member.own_fines > NOTHING:
                reason = "Own fines are within the limit, the group's are over it: probably blocked for the family's."
                yield PersonFinding(Kind.FOR_FAMILY, member, patron.group, reason, blocks, together)
            else:
                reason = "Own fines and the group's are within the limit: blocked for another reason, perhaps."
                if not known:
                    reason = "Own fines are within the limit; what the group owes isn't known whole."
                yield PersonFinding(Kind.BY_HAND, member, patron.group, reason, blocks, together if known else None)

    def _blocks(self, rows: Iterable[PenaltyRow]) -> tuple[Block, ...]:
        return tuple(self._penalties.block(row, self._org_units) for row in sorted(rows))
