"""Queries that let the ILS's database compare balances and penalties.

Shape and cost were measured (``audit-005``, ``audit-012``, ``audit-014``, ``audit-015``, ``members-003``,
``members-004``). As in :mod:`evergreen_groups.groups.search`, subqueries become hashed filters, which PostgreSQL
applies before it checks permissions row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evergreen_groups.groups import IdRange, Query, search
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.ils import ResolvedLimit

# Larger than most families, smaller than institutions that share a number.
UNUSUAL_SIZE = 10
"""Groups with this many members or more are unusually large."""
# If one in five patrons matches, an answer has a few thousand.
_WIDTH = 20_000
_MAX_RANGES = 32


def id_ranges(highest: int) -> list[IdRange]:
    """Split all ids up to ``highest`` into at most 32 ranges, open at both ends.

    For each page, the database recomputes everyone in the range. It hashes the result of a subquery only if it expects
    it to fit into 8 MB (``work_mem`` is 4 MB by default), and otherwise searches through it once per patron.

    >>> id_ranges(50_000)
    [IdRange(low=None, high=25000), IdRange(low=25000, high=None)]
    """
    count = max(1, min(_MAX_RANGES, highest // _WIDTH))
    edges = [None, *(highest * part // count for part in range(1, count)), None]
    return [IdRange(low, high) for low, high in pairwise(edges)]


# A penalty with a stop date in the future still blocks (work-list-017, work-list-018). Archived penalties stay in the
# table (pcrud-072).
_IN_FORCE: Query = {"-or": [{"stop_date": None}, {"stop_date": {">": "now"}}]}
_OTHER: Query = {"id": {"<>": {"+d": "id"}}}
_LEAD: Query = {"master_account": "t"}


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """The ``lowest`` and the ``highest`` limit of any patron.

    ``lowest`` is None if no patron has a limit, ``highest`` if some have none. ``scoped`` means that some limits count
    only what is owed at certain libraries, ``uniform`` that all patrons have the same limit.
    """

    lowest: Limit | None
    highest: Limit | None
    scoped: bool = False
    uniform: bool = False

    @classmethod
    def of(cls, limits: Iterable[ResolvedLimit]) -> LimitBounds:
        """Return the bounds of the limits of all patrons."""
        found = set(limits)
        # For the same amount, a limit that blocks on reaching it is stricter than one that blocks on exceeding it.
        amounts = sorted(
            (limit.limit for limit in found if limit.limit.amount is not None),
            key=lambda limit: (limit.amount, limit.comparison is Comparison.EXCEEDS),
        )
        return cls(
            lowest=amounts[0] if amounts else None,
            # A patron without a limit is never over it, so there is no highest limit that excludes patrons from a
            # search.
            highest=amounts[-1] if amounts and all(limit.limit.amount is not None for limit in found) else None,
            scoped=any(limit.scope is not None for limit in found),
        )


@dataclass(frozen=True, slots=True)
class BlockQuery:
    """Conditions on patrons (``au``) ``within`` a range of ids, without deleted patrons.

    If the ``limits`` differ or are scoped, the queries match all patrons in question and others, who must be sorted out
    later. ``certain_penalties`` (ids) block for fines at every home library, ``possible_penalties`` at some. ``homes``
    are the home libraries to search (org unit ids; empty: everywhere).
    """

    limits: LimitBounds
    certain_penalties: Collection[int]
    possible_penalties: Collection[int]
    homes: Collection[int] = ()

    def not_blocked(self, within: IdRange) -> Query | None:
        """Match patrons over the limit without a penalty for fines. None if there is no limit."""
        if self.limits.lowest is None:
            return None
        # The lowest limit matches all patrons over their own, and some others, who are sorted out when limits are
        # applied.
        over = _over(self.limits.lowest, within, without_credits=self.limits.scoped)
        certain = self.certain_penalties
        blocked = [search.listed("not in", _with_penalty(certain, {}))] if certain else []
        return self._patrons(within, search.listed("in", over), *blocked)

    def not_over(self, within: IdRange) -> Query | None:
        """Match patrons within the limit with a penalty for fines not set by staff. None if no penalty blocks."""
        if not self.possible_penalties:
            return None
        blocked = _with_penalty(self.possible_penalties, {"staff": None})
        return self._patrons(within, search.listed("in", blocked), *self._not_over(within))

    def by_staff(self, within: IdRange) -> Query:
        """Match patrons within the limit with a block set by staff."""
        blocks = {
            "select": {"ausp": ["usr"]},
            # The kind of a penalty says what it blocks (csp.block_list). An alert note blocks nothing (audit-017).
            "from": {"ausp": {"csp": {"fkey": "standing_penalty", "field": "id"}}},
            "where": {"+ausp": {"staff": {"<>": None}, **_IN_FORCE}, "+csp": {"block_list": {"<>": None}}},
        }
        return self._patrons(within, search.listed("in", blocks), *self._not_over(within))

    def _patrons(self, within: IdRange, *conditions: Query) -> Query:
        home: list[Query] = [{"home_ou": sorted(self.homes)}] if self.homes else []
        return {"deleted": "f", "-and": [*conditions, *within.conditions("id"), *home]}

    def _not_over(self, within: IdRange) -> list[Query]:
        # If a limit only counts fines of some libraries, patrons who owe more elsewhere may be within it.
        if self.limits.highest is None or self.limits.scoped:
            return []
        return [search.listed("not in", _over(self.limits.highest, within))]


def _with_penalty(penalties: Collection[int], condition: Query) -> Query:
    """Return the ids of patrons with one of these penalties in force that meets the condition."""
    penalty = {"standing_penalty": sorted(penalties), **condition, **_IN_FORCE}
    return {"select": {"ausp": ["usr"]}, "from": "ausp", "where": {"+ausp": penalty}}


def _over(limit: Limit, within: IdRange, *, without_credits: bool = False) -> Query:
    """Return the ids of debtors in a range whose own fines are over a limit.

    ``without_credits`` ignores credits, which may belong to libraries that the limit doesn't count.
    """
    operator = ">" if limit.comparison is Comparison.EXCEEDS else ">="
    total = {"balance_owed": {operator: {"transform": "sum", "value": f"{limit.amount:.2f}"}}}
    counted: Query = {"usr": {"=": {"+d": "id"}}, "xact_finish": None}
    if without_credits:
        # A credit at a library that doesn't count would hide a debt at a library that does.
        counted["balance_owed"] = {">": 0}
    own_fines = {
        "select": {"mbts": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
        "from": "mbts",
        "where": {"+mbts": counted},
        "having": {"+mbts": total},
    }
    debts: Query = {"xact_finish": None, "balance_owed": {"<>": 0}}
    conditions: Query = {"-exists": own_fines}
    if limit.comparison is Comparison.REACHES and not limit.amount:
        # An open transaction of 0.00 reaches a limit of 0.00, too. Without credits, any open transaction will do.
        debts = {"xact_finish": None}
        conditions = {} if without_credits else conditions
    debtor: Query = {"deleted": "f"}
    if within.conditions():
        # Restrict both to the range, although one would do: then the database only reads these patrons' transactions.
        debts, debtor = {**debts, "-and": within.conditions("usr")}, {**debtor, "-and": within.conditions("id")}
    return {
        "select": {"d": ["id"]},
        "from": {"mbts": {"d": {"class": "au", "fkey": "usr", "field": "id"}}},
        "where": {"+mbts": debts, "+d": debtor, **conditions},
    }


class GroupsToJudge(search.GroupQuery):
    """A query for groups by what their members are like."""

    def groups(self, within: search.Groups) -> Query:
        """Return the numbers of groups with a patron ``d`` who meets the conditions of :meth:`_found_by`."""
        patron, conditions = self._found_by(within)
        if self.homes:
            conditions.append(search.has_member({"home_ou": sorted(self.homes)}))
        return {
            "select": {"d": ["usrgroup"]},
            "from": {"aou": {"d": {"class": "au", "fkey": "id", "field": "home_ou"}}},
            "where": {"+d": patron, "-and": conditions},
        }

    def _found_by(self, within: search.Groups) -> tuple[Query, list[Query]]:
        """Return the condition on one patron of the group, and those on the group's other members."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AccidentalGroups(GroupsToJudge):
    """The query for groups that may be accidental. Some turn out not to be.

    A real Evergreen answers it in ``work-list-002``, ``work-list-004`` (for a branch), ``work-list-006`` (for one
    library) and ``work-list-008`` (three members count as large). Groups of ``unusual_size`` or more members are
    unusually large. A lead who expired before ``long_ago`` counts as long expired.
    """

    long_ago: datetime
    unusual_size: int = UNUSUAL_SIZE

    def _found_by(self, within: search.Groups) -> tuple[Query, list[Query]]:
        """Match patrons with other members in their group who make it look accidental."""
        patron: Query = {"deleted": "f"}
        if within.conditions():
            patron["-and"] = within.conditions()
        # Send the time with its UTC offset, because the database's time zone is unknown.
        expired = {"expire_date": {"<": self.long_ago.isoformat(timespec="seconds")}}
        # If leads are rare, PostgreSQL lists the groups that have one. Restrict that to the range, or it scans all
        # patrons.
        lead_in_range = {**_LEAD, "-and": within.conditions()} if within.conditions() else _LEAD
        conditions: list[Query] = [
            search.has_member(_OTHER),
            {
                "-or": [
                    {"-not-exists": search.has_member(lead_in_range)["-exists"]},
                    {"-and": [{"+d": _LEAD}, search.has_member({**_OTHER, **_LEAD})]},
                    {"-and": [{"+d": {**_LEAD, **expired}}]},
                    {"-and": [{"+d": {"juvenile": "f"}}, search.has_member(_STRANGER)]},
                    # Counting for the lead is enough: a large group without a lead matches anyway.
                    {"-and": [{"+d": _LEAD}, has_members({}, ">=", self.unusual_size)]},
                ]
            },
        ]
        return patron, conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsOfAdults(GroupsToJudge):
    """The query for groups that may have too many adults ``today``. Some turn out not to.

    A real Evergreen answers it in ``work-list-001`` (more than one adult), ``work-list-003`` (for a branch),
    ``work-list-005`` (for one library) and ``work-list-007`` (more than two adults).
    """

    rule: AdultRule
    today: date

    def _found_by(self, within: search.Groups) -> tuple[Query, list[Query]]:
        """Match each adult of a group, and count the group's adults."""
        patron: Query = {"deleted": "f", "-and": [*within.conditions(), self._adult()]}
        return patron, [has_members(self._adult(), ">", self.rule.most)]

    def _adult(self) -> Query:
        # Use the end of the year: patrons who come of age this year are checked again with their exact birth date.
        latest = f"{self.today.year - self.rule.from_age}-12-31"
        return {"-or": [{"dob": {"<=": latest}}, {"-and": [{"dob": None}, {"juvenile": "f"}]}]}


def has_members(condition: Query, operator: str, count: int) -> Query:
    """Return the condition that this many members (``operator``: > or >=) of patron ``d``'s group meet a condition."""
    counted: dict[str, Any] = search.has_member(condition)["-exists"]
    return {
        "-exists": {
            **counted,
            "select": {"o": [{"column": "id", "transform": "count", "aggregate": True}]},
            "having": {"+o": {"id": {operator: {"transform": "count", "value": count}}}},
        }
    }


# Everything that str.strip removes, because the database's class of blanks depends on its locale.
_BLANK = "^[\t\n\v\f\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
_STRANGER: Query = {
    "juvenile": "f",
    "home_ou": {"<>": {"+d": "home_ou"}},
    # Two empty family names don't count as the same name.
    "-or": [{"family_name": {"<>": {"+d": "family_name"}}}, {"family_name": {"~": _BLANK}}],
}
