"""Find patrons whose blocks don't match their own fines, set by set."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from operator import call
from typing import TYPE_CHECKING, TypeAlias

from evergreen_groups.audit.findings import FindingKind, PatronFinding, Reason, ThresholdFinding
from evergreen_groups.audit.queries import BlockQuery
from evergreen_groups.audit.search import PatronListing
from evergreen_groups.batches import batched
from evergreen_groups.gateway import columns
from evergreen_groups.groups import PATRON_FIELDS, IdRange, Member, PatronRow, Query, Standing
from evergreen_groups.ils import rows_in_force
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.audit.search import SearchContext
    from evergreen_groups.ils import Penalty, PenaltyKind, ResolvedLimit, Threshold
    from evergreen_groups.policy import Decision

# Three answers are in memory at once.
_PAGE = 4_000
_BATCH = 2_000

Judge: TypeAlias = "Callable[[Collection[Member], Mapping[int, list[Penalty]]], Iterator[PatronFinding]]"
"""Yields findings about members, given their penalties."""
MakeQuery: TypeAlias = "Callable[[IdRange], Query | None]"
"""Makes a condition on patrons with ids in a range. Returns None if there is nothing to search for."""


def find_blocks(context: SearchContext) -> None:
    """Search for all kinds of findings that compare blocks with own fines."""
    context.progress(Message("reading penalties"), len(context.penalty_kinds))
    with PatronListing(context) as found:
        BlockSearch(context, found).run()


class BlockSearch:
    """Finds patrons whose blocks contradict the rule, and reasons why a recalculation changes nothing."""

    def __init__(self, context: SearchContext, found: PatronListing) -> None:
        self._context = context
        self._found = found
        self._gateway = context.gateway
        self._kinds = context.penalty_kinds
        self._reader = context.reader
        self._deciding_reader = context.reader.with_limits(context.limits)
        self._lock = threading.Lock()
        self._by_threshold: Counter[tuple[FindingKind, str, Threshold | None, PenaltyKind, Limit]] = Counter()

    def run(self) -> None:
        """Find patrons in no particular order. Check them again with balances read after the ILS matched them."""
        found = 0
        for count in self._gateway.map(call, self._jobs()):
            found += count
            self._context.progress(Message("reading patrons"), found)
        self._context.found_thresholds.extend(self._threshold_findings())

    def _jobs(self) -> Iterator[Callable[[], int]]:
        query = BlockQuery(
            self._context.bounds,
            self._kinds.blocking_for_fines_everywhere,
            self._kinds.blocking_for_fines_anywhere,
            self._context.homes,
        )
        # Query whole sets: 1.5 s for 3,414 people over 10.00 without a penalty and 0.34 s for stale penalties, among
        # 200,243 patrons. One call per patron would take hours.
        for make_query, judge in (
            (query.not_blocked, self._not_blocked),
            (query.not_over, self._not_over),
            (query.by_staff, self._by_staff),
        ):
            for rows in batched(self._rows(make_query), _BATCH):
                yield partial(self._judge, judge, rows)

    def _judge(self, judge: Judge, rows: Sequence[PatronRow]) -> int:
        members = self._deciding_reader.members(rows, cards=self._found.with_cards)
        penalties = self._kinds.by_patron(rows_in_force(self._gateway, members), self._context.org_units, members)
        return self._found.add(judge(list(members.values()), penalties), rows)

    def _rows(self, make_query: MakeQuery) -> Iterator[PatronRow]:
        ranges = self._context.id_ranges
        while ranges:
            rest: list[IdRange] = []
            for rows in self._gateway.map(partial(self._page, make_query, rest), ranges):
                yield from rows
            ranges = rest

    def _page(self, make_query: MakeQuery, rest: list[IdRange], within: IdRange) -> list[PatronRow]:
        """Return the first page of a range. If the page is full, add what follows it to ``rest``."""
        where = make_query(within)
        if where is None:
            return []
        # The query names the visible libraries unless all are visible, so no row is hidden.
        # An empty answer is believed, so it must not be another request's.
        page = self._gateway.pcrud.search(
            "au", where, select=PATRON_FIELDS, order_by="id", limit=_PAGE, own_connection=True
        )
        rows = list(map(PatronRow._make, columns(page, *PATRON_FIELDS)))
        if len(rows) == _PAGE:
            rest.append(IdRange(rows[-1].id, within.high))
        return rows

    def _not_blocked(
        self, members: Collection[Member], penalties: Mapping[int, list[Penalty]]
    ) -> Iterator[PatronFinding]:
        # Decide again with the balances just read: the patron may have paid since the query.
        found = [
            member
            for member in members
            if member.over_limit and not Standing.of(member, penalties[member.id], self._kinds).blocked_for_fines
        ]
        visible, decisions = self._decide_by_thresholds(found)
        for member in found:
            if code := self._why_not_blocked(member, visible.get(member.id), decisions.get(member.id)):
                self._count(FindingKind.THRESHOLD_HIGHER, code, member)
                continue
            over_by = member.decided.over_by
            reason = Reason("over-limit", {"over_by": over_by}) if over_by else Reason("limit-reached")
            yield self._finding(FindingKind.NOT_BLOCKED, member, reason)

    def _why_not_blocked(self, member: Member, limit: ResolvedLimit | None, decision: Decision | None) -> str:
        """Return a code for why a recalculation wouldn't block a member over the limit. Empty if it may."""
        if not self._kinds.sets_block_for_fines_at(member.patron.home_library.id):
            return "penalty-blocks-nothing"
        if limit is None or limit.limit.amount is None:
            return "" if limit is None else "no-threshold"
        if decision is None or decision.over_limit:
            return ""
        return "threshold-higher" if member.own_fines < limit.limit.amount else "counts-fewer-bills"

    def _not_over(self, members: Collection[Member], penalties: Mapping[int, list[Penalty]]) -> Iterator[PatronFinding]:
        blocks = {
            member.id: tuple(
                penalty
                for penalty in Standing.of(member, penalties[member.id], self._kinds).blocks_for_fines
                if not penalty.by_staff
            )
            for member in members
        }
        found = [member for member in members if blocks[member.id] and not member.over_limit]
        visible, decisions = self._decide_by_thresholds(found)
        for member in found:
            decision, own_blocks = decisions.get(member.id), blocks[member.id]
            # Exactly at the limit is where a comparison with > or >= makes the difference.
            at_limit = member.limit.amount is not None and member.decided.counted_fines == member.limit.amount
            if decision is not None and decision.over_limit:
                code = "threshold-at-limit" if at_limit else "threshold-lower"
                self._count(FindingKind.THRESHOLD_LOWER, code, member)
            elif member.id in visible and (code := self._why_left_alone(member, own_blocks)):
                yield self._finding(FindingKind.LEFT_ALONE, member, Reason(code), own_blocks)
            else:
                reason = Reason("exactly-at-limit" if at_limit else "not-over-limit")
                yield self._finding(FindingKind.NOT_OVER, member, reason, own_blocks)

    def _why_left_alone(self, member: Member, blocks: Iterable[Penalty]) -> str:
        """Return a code for why a recalculation, which only affects the threshold's org unit, wouldn't lift a block."""
        threshold = self._threshold(member)
        if threshold is None:
            return "block-without-threshold"
        return "block-elsewhere" if any(block.org_unit.id != threshold.org_unit for block in blocks) else ""

    def _decide_by_thresholds(
        self, members: Collection[Member]
    ) -> tuple[dict[int, ResolvedLimit], dict[int, Decision]]:
        """Return the ILS's limits and its decisions by patron id, as far as the account can see both."""
        visible, decisions = Member.decide_by_thresholds(self._gateway, self._context.ils_limits, members)
        hidden = {member.patron.home_library.id for member in members if member.id not in visible}
        self._context.hidden_thresholds_at.update(hidden)
        return visible, decisions

    def _threshold(self, member: Member) -> Threshold | None:
        return self._context.thresholds.find(member.patron.profile, member.patron.home_library.id)

    def _count(self, kind: FindingKind, code: str, member: Member) -> None:
        threshold = None if code == "penalty-blocks-nothing" else self._threshold(member)
        penalty = self._kinds.set_for_fines_at(member.patron.home_library.id)
        with self._lock:
            self._by_threshold[kind, code, threshold, penalty, member.limit] += 1

    def _threshold_findings(self) -> list[ThresholdFinding]:
        """Make a finding for each threshold, sorted by kind, then by the number of patrons."""
        found = []
        for (kind, code, threshold, penalty, limit), count in self._by_threshold.items():
            profile = library = None
            if threshold is not None:
                profile = self._context.profiles.name(threshold.profile)
                library = self._context.org_units.shortname(threshold.org_unit)
            amount = None if threshold is None else threshold.amount
            values = {"threshold": amount, "profile": profile, "library": library, "penalty": penalty.name}
            reason = Reason(code, values)
            found.append(ThresholdFinding(kind, reason, amount, profile, library, penalty.name, limit, count))
        order = list(FindingKind)
        return sorted(
            found, key=lambda one: (order.index(one.kind), -one.patron_count, one.library or "", one.profile or "")
        )

    def _by_staff(self, members: Collection[Member], penalties: Mapping[int, list[Penalty]]) -> Iterator[PatronFinding]:
        groups = self._reader.read_groups({member.patron.group for member in members})
        for member in members:
            blocks = tuple(penalty for penalty in penalties[member.id] if penalty.kind.blocks and penalty.by_staff)
            # Check again with the penalties and balances read after the query.
            if not blocks or member.over_limit:
                continue
            of_fines = self._kinds.for_fines_at(member.patron.home_library.id)
            for_fines = tuple(block for block in blocks if block.kind.id in of_fines)
            group = groups.get(member.patron.group)
            together = group.group_fines if group and for_fines else None
            if not for_fines:
                kind, reason = FindingKind.BY_STAFF, Reason("block-not-for-fines")
            elif together is None:
                kind, reason = FindingKind.BY_STAFF, Reason("group-not-known")
            elif _over_individual_limit(together, member.limit) and together > member.own_fines:
                kind, reason, blocks = FindingKind.FOR_FAMILY, Reason("group-over-limit"), for_fines
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


def _over_individual_limit(together: Decimal, limit: Limit) -> bool:
    """Return whether an amount owed by a group would be over one person's limit. This never decides about a patron."""
    if limit.amount is None:
        return False
    return together > limit.amount if limit.comparison is Comparison.EXCEEDS else together >= limit.amount
