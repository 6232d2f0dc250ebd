"""The audit's questions, put so that the ILS's database compares balances and penalties itself.

Shape and cost were measured (``audit-005``, ``audit-012``, ``audit-014``, ``audit-015``, ``members-003``,
``members-004``): as in :mod:`evergreen_groups.groups.queries`, lists are hashed filters that come before permission is
asked for row by row.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from evergreen_groups.groups import Groups, Query, candidates, has_member
from evergreen_groups.policy import Comparison, Limit

# An answer has some thousand patrons where one in five of them is meant.
_WIDTH = 20_000
_MAX_RANGES = 32


class IdRange(NamedTuple):
    """Ids over ``low`` and up to ``high``; None leaves that end open."""

    low: int | None
    high: int | None

    def conditions(self, field: str) -> list[Query]:
        """The range as conditions on a field that holds such an id."""
        ends = ((">", self.low), ("<=", self.high))
        return [{field: {operator: end}} for operator, end in ends if end is not None]


ALL_IDS = IdRange(None, None)


def id_ranges(highest: int) -> list[IdRange]:
    """Cut all ids, of which the highest is known, into ranges: 32 at the most, open at both ends.

    >>> id_ranges(50_000)
    [IdRange(low=None, high=25000), IdRange(low=25000, high=None)]
    """
    count = max(1, min(_MAX_RANGES, highest // _WIDTH))
    edges = [None, *(highest * part // count for part in range(1, count)), None]
    return [IdRange(low, high) for low, high in pairwise(edges)]


# A penalty with a stop date in the future still blocks (work-list-017, work-list-018); archived ones stay in the
# table (pcrud-072).
_IN_FORCE: Query = {"-or": [{"stop_date": None}, {"stop_date": {">": "now"}}]}
_OTHER: Query = {"id": {"<>": {"+d": "id"}}}
_LEAD: Query = {"master_account": "t"}


@dataclass(frozen=True, slots=True)
class BlockQuery:
    """Questions about patrons ``within`` a range of ids, as conditions on ``au``; deleted patrons are left out.

    Of the limits that patrons have, ``lowest`` is the lowest amount (None: nobody has one) and ``highest`` the highest
    (None: somebody has none). Where they differ, or where ``scoped`` says that some count only what is owed at some
    libraries, the answers hold patrons who turn out not to be meant, and everybody who is.
    ``certain_penalties`` are the ids of the penalties that block for fines whatever the home library,
    ``possible_penalties`` those that do at some; ``homes`` (org unit ids, none:
    everywhere) are the home libraries of the patrons asked for.
    """

    lowest: Limit | None
    highest: Limit | None
    certain_penalties: Collection[int]
    possible_penalties: Collection[int]
    homes: Collection[int] = ()
    scoped: bool = False

    def not_blocked(self, within: IdRange = ALL_IDS) -> Query | None:
        """Over the limit, without a penalty for fines; None where there is no limit to be over."""
        if self.lowest is None:
            return None
        # The lowest limit finds everybody who is over their own, and some who aren't: those go when it is decided.
        over = _over(self.lowest, within, without_credits=self.scoped)
        certain = self.certain_penalties
        blocked = [_listed("not in", _with_penalty(certain, {}))] if certain else []
        return self._patrons(within, _listed("in", over), *blocked)

    def not_over(self, within: IdRange = ALL_IDS) -> Query | None:
        """With a penalty for fines that staff didn't set, and not over the limit; None where no penalty blocks."""
        if not self.possible_penalties:
            return None
        blocked = _with_penalty(self.possible_penalties, {"staff": None})
        return self._patrons(within, _listed("in", blocked), *self._not_over(within))

    def by_staff(self, within: IdRange = ALL_IDS) -> Query:
        """With a block that staff set, and not over the limit."""
        blocks = {
            "select": {"ausp": ["usr"]},
            # What a penalty blocks stands in its kind (csp.block_list); an alert note blocks nothing (audit-017).
            "from": {"ausp": {"csp": {"fkey": "standing_penalty", "field": "id"}}},
            "where": {"+ausp": {"staff": {"<>": None}, **_IN_FORCE}, "+csp": {"block_list": {"<>": None}}},
        }
        return self._patrons(within, _listed("in", blocks), *self._not_over(within))

    def _patrons(self, within: IdRange, *conditions: Query) -> Query:
        home: list[Query] = [{"home_ou": sorted(self.homes)}] if self.homes else []
        return {"deleted": "f", "-and": [*conditions, *within.conditions("id"), *home]}

    def _not_over(self, within: IdRange) -> list[Query]:
        # Where a limit counts fines of some libraries only, those who owe more elsewhere may still be within it.
        if self.highest is None or self.scoped:
            return []
        return [_listed("not in", _over(self.highest, within))]


def _with_penalty(penalties: Collection[int], condition: Query) -> Query:
    """The ids of patrons with one of these penalties in force for whose row a condition holds."""
    penalty = {"standing_penalty": sorted(penalties), **condition, **_IN_FORCE}
    return {"select": {"ausp": ["usr"]}, "from": "ausp", "where": {"+ausp": penalty}}


def _over(limit: Limit, within: IdRange, *, without_credits: bool = False) -> Query:
    """The ids of the debtors in a range whose own fines are over a limit.

    Credits count, unless they may belong to libraries other than those that the limit is about.
    """
    operator = ">" if limit.comparison is Comparison.EXCEEDS else ">="
    total = {"balance_owed": {operator: {"transform": "sum", "value": f"{limit.amount:.2f}"}}}
    counted: Query = {"usr": {"=": {"+d": "id"}}, "xact_finish": None}
    if without_credits:
        # A credit at a library that doesn't count would hide a debt at one that does.
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
        # Open transactions on which nothing is owed reach a limit of nought as well, and without credits any will do.
        debts = {"xact_finish": None}
        conditions = {} if without_credits else conditions
    debtor: Query = {"deleted": "f"}
    if within != ALL_IDS:
        # Of both, though they are the same: the database goes through the transactions of these patrons alone.
        debts, debtor = {**debts, "-and": within.conditions("usr")}, {**debtor, "-and": within.conditions("id")}
    return {
        "select": {"d": ["id"]},
        "from": {"mbts": {"d": {"class": "au", "fkey": "usr", "field": "id"}}},
        "where": {"+mbts": debts, "+d": debtor, **conditions},
    }


def _listed(operator: str, query: Query, field: str = "id") -> Query:
    # The alternative that is never true keeps PostgreSQL from making a join of it: see groups/queries.py.
    return {"-or": [{field: {operator: query}}, {"id": {"<": 0}}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsToJudge:
    """Groups that a query finds by what their members are.

    ``homes`` keeps the groups with a member of these home libraries; ``visible_orgs`` are the home libraries whose
    patrons the account sees (both: ids, none: everywhere).
    """

    homes: Collection[int] = ()
    visible_orgs: Collection[int] = ()

    def members(self, within: Groups) -> Query:
        """The condition on patrons (``au``): the members of such groups, deleted ones left out."""
        conditions = [*within.conditions(), _listed("in", self._groups(within), "usrgroup")]
        if self.visible_orgs:
            conditions.append({"home_ou": sorted(self.visible_orgs)})
        return {"deleted": "f", "-and": conditions}

    def candidates(self, within: Groups) -> Query:
        """The condition on patrons: members of all groups in the range that have a member at ``homes``."""
        return candidates(within, self.homes, self.visible_orgs)

    def _groups(self, within: Groups) -> Query:
        """The groups' numbers, by those of their patrons ``d`` of whom :meth:`_found_by` says so."""
        patron, conditions = self._found_by(within)
        if self.homes:
            conditions.append(has_member({"home_ou": sorted(self.homes)}))
        return {
            "select": {"d": ["usrgroup"]},
            "from": {"aou": {"d": {"class": "au", "fkey": "id", "field": "home_ou"}}},
            "where": {"+d": patron, "-and": conditions},
        }

    def _found_by(self, within: Groups) -> tuple[Query, list[Query]]:
        """What holds for such a patron alone, and what of the others in the group."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AccidentalGroups(GroupsToJudge):
    """Groups that may be accidental, as a query; some of those it finds turn out not to be.

    A real Evergreen answers it in ``work-list-002``, ``work-list-004`` (as a branch sees them), ``work-list-006`` (of a
    library) and ``work-list-008`` (three members are many).

    ``unusual_size`` is the number of members from which on a group is unusually large; a lead that expired before
    ``long_ago`` has expired long since.
    """

    unusual_size: int
    long_ago: datetime

    def _found_by(self, within: Groups) -> tuple[Query, list[Query]]:
        """Patrons who aren't alone in their group and by whom it looks accidental."""
        patron: Query = {"deleted": "f"}
        if within.conditions():
            patron["-and"] = within.conditions()
        # With its offset: the database compares instants, and its own time zone is anybody's guess.
        expired = {"expire_date": {"<": self.long_ago.isoformat(timespec="seconds")}}
        # Where leads are rare, PostgreSQL lists the groups that have one, and goes through all patrons for that if it
        # isn't told that those of the range will do.
        lead_in_range = {**_LEAD, "-and": within.conditions()} if within.conditions() else _LEAD
        conditions: list[Query] = [
            has_member(_OTHER),
            {
                "-or": [
                    {"-not-exists": has_member(lead_in_range)["-exists"]},
                    {"-and": [{"+d": _LEAD}, has_member({**_OTHER, **_LEAD})]},
                    {"-and": [{"+d": {**_LEAD, **expired}}]},
                    {"-and": [{"+d": {"juvenile": "f"}}, has_member(_STRANGER)]},
                    # Of a large group the lead is enough to count for: without one, it is found anyway.
                    {"-and": [{"+d": _LEAD}, self._large()]},
                ]
            },
        ]
        return patron, conditions

    def _large(self) -> Query:
        return has_members({}, ">=", self.unusual_size)


def has_members(condition: Query, operator: str, count: int) -> Query:
    """That so many members (``>``, ``>=``) of the group of patron ``d`` meet a condition; see :func:`has_member`."""
    counted: dict[str, Any] = has_member(condition)["-exists"]
    return {
        "-exists": {
            **counted,
            "select": {"o": [{"column": "id", "transform": "count", "aggregate": True}]},
            "having": {"+o": {"id": {operator: {"transform": "count", "value": count}}}},
        }
    }


# All that str.strip removes: the database's own class of blanks depends on its locale.
_BLANK = "^[\t\n\v\f\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
_STRANGER: Query = {
    "juvenile": "f",
    "home_ou": {"<>": {"+d": "home_ou"}},
    # Two members without a family name don't have one in common.
    "-or": [{"family_name": {"<>": {"+d": "family_name"}}}, {"family_name": {"~": _BLANK}}],
}
