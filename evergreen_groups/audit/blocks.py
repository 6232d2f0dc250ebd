"""Finding the patrons whose blocks and own fines don't fit together, set by set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from evergreen_groups.audit.findings import FindingKind, PatronFinding, Reason
from evergreen_groups.audit.id_ranges import ALL_IDS, IdRange, id_ranges
from evergreen_groups.audit.listing import PatronListing
from evergreen_groups.audit.queries import BlockQuery
from evergreen_groups.gateway import columns
from evergreen_groups.groups import PATRON_FIELDS, Member, PatronRow, Query
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext
    from evergreen_groups.ils import Penalty

# Three answers are in memory at once.
_PAGE = 4_000
_PORTION = 2_000

Judge: TypeAlias = "Callable[[Collection[Member], Mapping[int, list[Penalty]]], Iterator[PatronFinding]]"
"""Says of members and their penalties what is wrong with them."""
Question: TypeAlias = "Callable[[IdRange], Query | None]"
"""A condition on patrons with ids in a range; None where there is nothing to ask."""


def find_blocks(context: SearchContext) -> None:
    """The search for the kinds that compare blocks with own fines."""
    context.progress(Message("reading penalties"), len(context.penalty_kinds))
    with PatronListing(context) as found:
        BlockSearch(context, found).run()


class BlockSearch:
    """Finds patrons of the first four kinds: over the limit and not blocked, and blocked and not over the limit."""

    def __init__(self, context: SearchContext, found: PatronListing) -> None:
        self._context = context
        self._found = found
        self._gateway = context.gateway
        self._kinds = context.penalty_kinds
        self._reader = context.reader
        self._deciding_reader = context.reader.deciding_by(context.limits)

    def run(self) -> None:
        """Find all of them with a home library that is looked at, in no order.

        What the ILS answers is looked at once more with the balances read afterwards, which may have changed.
        """
        found = 0
        for count in self._gateway.map(lambda job: job(), self._jobs()):
            found += count
            self._context.progress(Message("reading people"), found)

    def _jobs(self) -> Iterator[Callable[[], int]]:
        """What is to be made of each list of patrons that the questions are answered with, as they come."""
        bounds = self._context.bounds
        query = BlockQuery(
            bounds.lowest,
            bounds.highest,
            self._kinds.blocking_for_fines_everywhere,
            self._kinds.blocking_for_fines_anywhere,
            self._context.homes,
            bounds.scoped,
        )
        # Set by set: 1.5 s for 3,414 people over 10.00 without the penalty, 0.34 s for the stale ones, of 200,243
        # patrons. One call for each patron would be hours.
        # Range by range where they may be many: the database works out for each page who of all that are asked about is
        # over the limit.
        for question, ranges, judge in (
            (query.not_blocked, id_ranges(self._highest_id()), self._not_blocked),
            (query.not_over, [ALL_IDS], self._not_over),
            (query.by_staff, [ALL_IDS], self._by_staff),
        ):
            for rows in self._portions(question, ranges):
                yield partial(self._judged, judge, rows)

    def _highest_id(self) -> int:
        """The highest id of a patron who is looked at, 0 where there is none."""
        homes = {"home_ou": sorted(self._context.homes)} if self._context.homes else {}
        order = [{"class": "au", "field": "id", "direction": "desc"}]
        where = {"deleted": "f", "id": {">": 0}, **homes}
        found = self._gateway.pcrud.search("au", where, select=("id",), order_by=order, limit=1)
        return found[0].id if found else 0

    def _judged(self, judge: Judge, rows: Sequence[PatronRow]) -> int:
        """Add what one of the judgements finds among patrons; gives how many that are."""
        # Where all is listed, most of these patrons come once more as members of a group.
        all_listed = self._context.top is None
        members = self._deciding_reader.members(rows, cards=self._found.with_cards, again=all_listed)
        penalties = self._kinds.in_force(self._gateway, self._context.org_units, members)
        return self._found.add(judge(list(members.values()), penalties), rows)

    def _portions(self, question: Question, ranges: Sequence[IdRange]) -> Iterator[list[PatronRow]]:
        """The patrons about whom a question is, so many at a time."""
        waiting: list[PatronRow] = []
        while ranges:
            behind: list[IdRange] = []
            for rows in self._gateway.map(partial(self._page, question, behind), ranges):
                waiting += rows
                while len(waiting) >= _PORTION:
                    yield waiting[:_PORTION]
                    del waiting[:_PORTION]
            ranges = behind
        if waiting:
            yield waiting

    def _page(self, question: Question, behind: list[IdRange], within: IdRange) -> list[PatronRow]:
        """The first page of those in a range; what comes behind a full one is put ``behind``."""
        where = question(within)
        if where is None:
            return []
        # The libraries that the account sees are named where they aren't all, so no row is hidden.
        page = self._gateway.pcrud.search(
            "au",
            where,
            select=PATRON_FIELDS,
            order_by="id",
            limit=_PAGE,
            apart=True,  # nobody found is believed
        )
        rows = list(map(PatronRow._make, columns(page, *PATRON_FIELDS)))
        if len(rows) == _PAGE:
            behind.append(IdRange(rows[-1].id, within.high))
        return rows

    def _not_blocked(
        self, members: Collection[Member], penalties: Mapping[int, list[Penalty]]
    ) -> Iterator[PatronFinding]:
        for member in members:
            # Decided again by what was read afterwards: between the two somebody may have paid.
            blocked = any(self._blocks_for_fines(member, penalty) for penalty in penalties[member.id])
            if member.over_limit and not blocked:
                over_by = member.decided.over_by
                reason = Reason("over-limit", {"over_by": over_by}) if over_by else Reason("limit-reached")
                yield self._finding(FindingKind.NOT_BLOCKED, member, reason)

    def _not_over(self, members: Collection[Member], penalties: Mapping[int, list[Penalty]]) -> Iterator[PatronFinding]:
        for member in members:
            blocks = tuple(
                penalty
                for penalty in penalties[member.id]
                if self._blocks_for_fines(member, penalty) and not penalty.by_staff
            )
            if blocks and not member.over_limit:
                at_limit = member.limit.amount is not None and member.decided.own_balance == member.limit.amount
                reason = Reason("exactly-at-limit" if at_limit else "not-over-limit")
                yield self._finding(FindingKind.NOT_OVER, member, reason, blocks)

    def _blocks_for_fines(self, member: Member, penalty: Penalty) -> bool:
        return self._kinds.blocks_for_fines(penalty.kind, member.patron.home_library.id)

    def _by_staff(self, members: Collection[Member], penalties: Mapping[int, list[Penalty]]) -> Iterator[PatronFinding]:
        groups = self._reader.of_numbers({member.patron.group for member in members})
        for member in members:
            blocks = tuple(penalty for penalty in penalties[member.id] if penalty.kind.blocks and penalty.by_staff)
            if not blocks or member.over_limit:
                continue
            group = groups.get(member.patron.group)
            together = group.combined_fines if group else None
            if together is None:
                kind, reason = FindingKind.BY_STAFF, Reason("group-not-known")
            elif _more_than_one_may_owe(together, member.limit) and together > member.own_fines:
                kind, reason = FindingKind.FOR_FAMILY, Reason("group-over-limit")
            else:
                kind, reason = FindingKind.BY_STAFF, Reason("group-within-limit")
            yield self._finding(kind, member, reason, blocks, together)

    def _finding(
        self,
        kind: FindingKind,
        member: Member,
        reason: Reason,
        blocks: tuple[Penalty, ...] = (),
        group_fines: Decimal | None = None,
    ) -> PatronFinding:
        return PatronFinding(kind, member, reason, blocks, group_fines, limits_differ=not self._context.bounds.uniform)


def _more_than_one_may_owe(together: Decimal, limit: Limit) -> bool:
    """Whether a group owes an amount that would be over one person's limit; that decides about nobody."""
    if limit.amount is None:
        return False
    return together > limit.amount if limit.comparison is Comparison.EXCEEDS else together >= limit.amount
