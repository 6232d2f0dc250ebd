"""Finding the people whose blocks and own fines don't fit together, set by set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.audit.findings import FindingKind, PersonFinding
from evergreen_groups.audit.queries import BlockQuery
from evergreen_groups.gateway import Gateway, columns
from evergreen_groups.groups import FIELDS, GroupFines, GroupReader, Member, Patron, Query, patrons_of, read_profiles
from evergreen_groups.ils import Block, OrgUnits, Penalties, PenaltyRow, rows_in_force
from evergreen_groups.limits import Decided, Limits, OwnDebt, decide_all
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.audit.limit_bounds import LimitBounds

_PAGE = 4_000


class _JudgedPatron(NamedTuple):
    """A patron with what was decided about them and the penalties in force."""

    patron: Patron
    member: Member
    decided: Decided
    rows: Sequence[PenaltyRow]


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
        """All findings about patrons at home at ``homes`` (org unit ids, none: everywhere), by kind, most owed first.

        What the ILS answers is looked at once more with the balances read afterwards, which may have changed.
        """
        bounds = self._bounds
        query = BlockQuery(bounds.lowest, bounds.highest, self._penalties.for_fines, homes, bounds.scoped)
        questions = [query.not_blocked(), query.not_over(), query.by_hand()]
        # Set by set: 1.5 s for 3,414 people over 10.00 without the penalty, 0.34 s for the stale ones, of 200,243
        # patrons. One call for each patron would be hours.
        not_blocked, not_over, by_hand = self._gateway.map(self._patrons, questions)
        people = self._people({patron.id: patron for patron in (*not_blocked, *not_over, *by_hand)})
        groups = self._reader.of_numbers({patron.group for patron in by_hand}) if by_hand else {}
        found = [
            *self._not_blocked(people[patron.id] for patron in not_blocked),
            *self._not_over(people[patron.id] for patron in not_over),
            *self._by_hand((people[patron.id] for patron in by_hand), groups),
        ]
        order = list(FindingKind)
        found.sort(key=lambda it: (order.index(it.kind), -it.member.own_fines, it.member.id))
        return found

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
        # One stretch: cut into several, the database would work out the same sets for each.
        pages = self._gateway.pcrud.pages("au", where, select=FIELDS, page_size=_PAGE, concurrency=1)
        return [patron for page in pages for patron in patrons_of(columns(page, *FIELDS))]

    def _not_blocked(self, people: Iterable[_JudgedPatron]) -> Iterator[PersonFinding]:
        for person in people:
            # Decided again by what was read afterwards: between the two somebody may have paid.
            blocked = any(row.penalty in self._penalties.for_fines for row in person.rows)
            if person.member.over_limit and not blocked:
                over_by = person.decided.decision.over_by
                how = f"over the limit by {over_by:,.2f}" if over_by else "at the limit"
                reason = f"Own fines are {how}, and the ILS has no block for fines.{self._limit_words(person)}"
                yield PersonFinding(FindingKind.NOT_BLOCKED, person.member, person.patron.group, reason)

    def _not_over(self, people: Iterable[_JudgedPatron]) -> Iterator[PersonFinding]:
        for person in people:
            # A penalty with a member of staff behind it was set manually; that is another kind of
            # finding, for people to look at. A recalculation would remove it all the same (penalties-update-012).
            blocks = self._blocks(
                row for row in person.rows if row.penalty in self._penalties.for_fines and row.staff is None
            )
            if blocks and not person.member.over_limit:
                decision = person.decided.decision
                # The ILS blocks from its threshold on (penalties-update-015), the rule only above it: at exactly the
                # limit both are right by their own.
                at_limit = decision.limit.amount is not None and decision.own_balance == decision.limit.amount
                why = (
                    "Own fines are exactly at the limit: the ILS blocks there already."
                    if at_limit
                    else "Own fines are not over the limit: the block is stale, or the ILS has a lower threshold."
                )
                reason = f"{why}{self._limit_words(person)}"
                yield PersonFinding(FindingKind.NOT_OVER, person.member, person.patron.group, reason, blocks)

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
                kind = FindingKind.FOR_FAMILY
                reason = "Own fines are within the limit, the group's are over it: probably blocked for the family's."
            elif known:
                kind = FindingKind.BY_HAND
                reason = "Own fines and the group's are within the limit: blocked for another reason, perhaps."
            else:
                kind = FindingKind.BY_HAND
                reason = "Own fines are within the limit; what the group owes isn't known whole."
            shown = together if known or kind is FindingKind.FOR_FAMILY else None
            yield PersonFinding(kind, member, number, f"{reason}{self._limit_words(person)}", blocks, shown)

    def _limit_words(self, person: _JudgedPatron) -> str:
        """Where the limit comes from, and what it counts, where that isn't the same for everybody."""
        if self._bounds.uniform:
            return ""
        decision = person.decided.decision
        amount = "none" if decision.limit.amount is None else f"{decision.limit.amount:,.2f}"
        counted = "" if decision.own_balance == person.member.own_fines else f"; it counts {decision.own_balance:,.2f}"
        return f" Limit {amount} ({person.decided.limit.origin}){counted}."

    def _blocks(self, rows: Iterable[PenaltyRow]) -> tuple[Block, ...]:
        return tuple(self._penalties.block(row, self._org_units) for row in sorted(rows))


def _more_than_one_may_owe(together: Decimal, limit: Limit) -> bool:
    """Whether a group owes an amount that would be over one person's limit; that decides about nobody."""
    if limit.amount is None:
        return False
    return together > limit.amount if limit.comparison is Comparison.EXCEEDS else together >= limit.amount
