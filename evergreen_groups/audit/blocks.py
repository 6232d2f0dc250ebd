"""Finding the people whose blocks and own fines don't fit together, set by set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.audit.findings import AppliedLimit, FindingKind, PersonFinding, Reason
from evergreen_groups.audit.queries import BlockQuery
from evergreen_groups.gateway import Gateway, columns
from evergreen_groups.groups import FIELDS, GroupFines, GroupReader, Member, Patron, Query, patrons_of, read_profiles
from evergreen_groups.ils import Block, OrgUnits, Penalties, PenaltyRow, rows_in_force
from evergreen_groups.limits import Decided, Limits, OwnDebt, decide_all
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext
    from evergreen_groups.audit.limit_bounds import LimitBounds

_PAGE = 4_000


class _JudgedPatron(NamedTuple):
    """A patron with what was decided about them and the penalties in force."""

    patron: Patron
    member: Member
    decided: Decided
    rows: Sequence[PenaltyRow]


def find_blocks(context: SearchContext) -> list[PersonFinding]:
    """The search for the kinds that compare blocks with own fines."""
    context.progress("reading penalties", len(context.penalties.names))
    search = BlockSearch(
        context.gateway, context.org_units, context.reader, context.penalties, context.limits, context.bounds
    )
    found = search.run(context.homes)
    context.progress("reading people", len(found))
    return found


class BlockSearch:
    """Finds people of the first four kinds: over the limit and not blocked, and blocked and not over the limit."""

    def __init__(
        self,
        gateway: Gateway,
        org_units: OrgUnits,
        reader: GroupReader,
        penalties: Penalties,
        limits: Limits,
        bounds: LimitBounds,
    ) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._reader = reader
        self._penalties = penalties
        self._limits = limits
        self._bounds = bounds

    def run(self, homes: Collection[int]) -> list[PersonFinding]:
        """All findings about patrons at home at ``homes`` (org unit ids, none: everywhere), in no order.

        What the ILS answers is looked at once more with the balances read afterwards, which may have changed.
        """
        bounds = self._bounds
        query = BlockQuery(bounds.lowest, bounds.highest, self._penalties.for_fines, homes, bounds.scoped)
        questions = [query.not_blocked(), query.not_over(), query.by_hand()]
        not_blocked, not_over, by_hand = self._gateway.map(self._patrons, questions)
        people = self._people({patron.id: patron for patron in (*not_blocked, *not_over, *by_hand)})
        groups = self._reader.of_numbers({patron.group for patron in by_hand}) if by_hand else {}
        return [
            *self._not_blocked(people[patron.id] for patron in not_blocked),
            *self._not_over(people[patron.id] for patron in not_over),
            *self._by_hand((people[patron.id] for patron in by_hand), groups),
        ]

    def _people(self, patrons: Mapping[int, Patron]) -> dict[int, _JudgedPatron]:
        """Read what is needed of these patrons, and decide about each."""
        members = self._reader.members(patrons.values())
        profiles = {} if self._bounds.uniform else read_profiles(self._gateway, patrons)
        debtors = [
            OwnDebt(id, profiles.get(id, 0), patron.home_library, members[id].own_fines)
            for id, patron in patrons.items()
        ]
        decided = decide_all(self._gateway, self._limits, debtors)
        rows: dict[int, list[PenaltyRow]] = {}
        for row in rows_in_force(self._gateway, patrons):
            rows.setdefault(row.patron, []).append(row)
        return {
            id: _JudgedPatron(
                patron,
                replace(members[id], over_limit=decided[id].decision.blocked, limit=decided[id].decision.limit),
                decided[id],
                rows.get(id, ()),
            )
            for id, patron in patrons.items()
        }

    def _patrons(self, where: Query | None) -> list[Patron]:
        if where is None:
            return []
        pages = self._gateway.pcrud.pages("au", where, select=FIELDS, page_size=_PAGE, concurrency=1)
        return [patron for page in pages for patron in patrons_of(columns(page, *FIELDS))]

    def _not_blocked(self, people: Iterable[_JudgedPatron]) -> Iterator[PersonFinding]:
        for person in people:
            blocked = any(row.penalty in self._penalties.for_fines for row in person.rows)
            if person.member.over_limit and not blocked:
                over_by = person.decided.decision.over_by
                reason = Reason("over-limit", {"over_by": over_by}) if over_by else Reason("limit-reached")
                yield PersonFinding(
                    FindingKind.NOT_BLOCKED, person.member, person.patron.group, reason, limit=self._limit(person)
                )

    def _not_over(self, people: Iterable[_JudgedPatron]) -> Iterator[PersonFinding]:
        for person in people:
            blocks = self._blocks(
                row for row in person.rows if row.penalty in self._penalties.for_fines and row.staff is None
            )
            if blocks and not person.member.over_limit:
                decision = person.decided.decision
                at_limit = decision.limit.amount is not None and decision.own_balance == decision.limit.amount
                reason = Reason("exactly-at-limit" if at_limit else "not-over-limit")
                yield PersonFinding(
                    FindingKind.NOT_OVER,
                    person.member,
                    person.patron.group,
                    reason,
                    blocks,
                    limit=self._limit(person),
                )

    def _by_hand(self, people: Iterable[_JudgedPatron], groups: Mapping[int, GroupFines]) -> Iterator[PersonFinding]:
        for person in people:
            blocks = self._blocks(
                row for row in person.rows if row.penalty in self._penalties.blocking and row.staff is not None
            )
            if not blocks or person.member.over_limit:
                continue
            member, number = person.member, person.patron.group
            group = groups.get(number)
            together = group.combined_fines if group else member.own_fines
            known = group is not None and group.hidden_fines is not None
            if _more_than_one_may_owe(together, person.decided.limit.limit) and together > member.own_fines:
                kind, reason = FindingKind.FOR_FAMILY, Reason("group-over-limit")
            elif known:
                kind, reason = FindingKind.BY_HAND, Reason("group-within-limit")
            else:
                kind, reason = FindingKind.BY_HAND, Reason("group-not-known")
            shown = together if known or kind is FindingKind.FOR_FAMILY else None
            yield PersonFinding(kind, member, number, reason, blocks, shown, self._limit(person))

    def _limit(self, person: _JudgedPatron) -> AppliedLimit | None:
        """Where the limit comes from, and what it counts, where that isn't the same for everybody."""
        if self._bounds.uniform:
            return None
        decision = person.decided.decision
        return AppliedLimit(decision.limit.amount, person.decided.limit.origin, decision.own_balance)

    def _blocks(self, rows: Iterable[PenaltyRow]) -> tuple[Block, ...]:
        return tuple(self._penalties.block(row, self._org_units) for row in sorted(rows))


def _more_than_one_may_owe(together: Decimal, limit: Limit) -> bool:
    """Whether a group owes an amount that would be over one person's limit; that decides about nobody."""
    if limit.amount is None:
        return False
    return together > limit.amount if limit.comparison is Comparison.EXCEEDS else together >= limit.amount
