"""Circulation counts: how many items patrons have out, overdue and lost, by the library's rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import RequestTooLargeError
from evergreen_groups.gateway import TOKEN, Gateway, columns, rows_beyond, unrequested_rows, whole_number
from evergreen_groups.ils.items import CirculationKind, kind_of, patrons_with_circulations_at
from evergreen_groups.message import Message
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnits

_COUNT = "open-ils.actor.user.checked_out.count"
_SETTINGS = "open-ils.actor.ou_setting.ancestor_default.batch"
_NO_CLAIMS = "circ.do_not_tally_claims_returned"
_LOST = "circ.tally_lost"
# With hundreds of calls the program would take too long, and the ILS would run out of children for others.
_MOST_ONE_BY_ONE = 6
"""The maximum number of patrons with hidden circulations whose exact counts are requested, one call each."""

# A query under a condition has the patrons' ids three times, the condition itself has them up to twice, and the
# libraries' ids occur once. These numbers make 30 kB of the 32 kB that a request may have.
_MOST_UNDER_CONDITION = 400
_MOST_LIBRARIES = 800
_MOST_ROWS_UNDER_CONDITION = 2_000  # about 500 kB with these fields

_FIELDS = ("usr", "stop_fines", "due_date", "fine_interval", "xact_finish")


@dataclass(frozen=True, slots=True)
class CirculationCounts:
    """How many items a patron has ``out`` by the library's rules, and how many are ``overdue`` and ``lost``.

    If ``complete`` is false, the counts are lower bounds: the account can't see all circulations.
    """

    out: int
    overdue: int
    lost: int
    complete: bool = True

    @property
    def totals(self) -> tuple[Total[int], Total[int], Total[int]]:
        """``out``, ``overdue`` and ``lost`` as totals."""
        return Total(self.out, self.complete), Total(self.overdue, self.complete), Total(self.lost, self.complete)

    @classmethod
    def sum_of(cls, counts: Iterable[CirculationCounts]) -> CirculationCounts:
        """Add up counts. The sum is complete only if all counts are."""
        found = list(counts)
        return cls(
            sum(count.out for count in found),
            sum(count.overdue for count in found),
            sum(count.lost for count in found),
            all(count.complete for count in found),
        )


@dataclass(frozen=True, slots=True)
class CirculationTally:
    """The library's rules: whether items claimed returned and lost items count as out."""

    claims_returned: bool = True
    lost: bool = False

    @classmethod
    def read(cls, gateway: Gateway, library: int) -> CirculationTally:
        """Read the settings of a library (its id), which must be where the account works. One call."""
        result = gateway.call("open-ils.actor", _SETTINGS, library, [_NO_CLAIMS, _LOST], TOKEN)
        settings = result.mapping()

        def is_set(name: str) -> bool:
            # Null if the setting has no value at the library or above (settings-015).
            return settings[name] is not None and bool(settings[name]["value"])

        with result.understood(Message("the values of settings")):
            return cls(claims_returned=not is_set(_NO_CLAIMS), lost=is_set(_LOST))

    def counts(self, numbers: Mapping[CirculationKind, int]) -> CirculationCounts:
        """Combine the numbers by kind in the same way as the staff client (``patron.service.ts``)."""
        kind = CirculationKind
        overdue = numbers[kind.OVERDUE] + numbers[kind.LONG_OVERDUE]
        out = numbers[kind.OUT] + overdue
        out += numbers[kind.CLAIMS_RETURNED] if self.claims_returned else 0
        out += numbers[kind.LOST] if self.lost else 0
        return CirculationCounts(out, overdue, numbers[kind.LOST])


Query = dict[str, Any]

Patrons = Mapping[int, int]
"""Patron ids with the ids of their home libraries."""

Counted = dict[int, CirculationCounts | None]
"""Counts by patron id. None: the account may not ask for this patron's counts."""


class CirculationReader:
    """Counts the circulations of sets of patrons, as far as the account may see them.

    Two sources complement each other. pcrud returns rows for many patrons at once, but silently omits circulations at
    libraries where the account lacks VIEW_CIRCULATIONS. ``checked_out.count`` counts all circulations of one patron, if
    the account has VIEW_CIRCULATIONS at the patron's home library. So the reader counts pcrud's rows, finds out which
    patrons have hidden circulations, and requests exact counts only for them, if the caller wants exact counts.
    """

    def __init__(
        self, gateway: Gateway, org_units: OrgUnits, tally: CirculationTally, visible_at: Collection[int], user: int
    ) -> None:
        """``visible_at`` are the ids of the org units with VIEW_CIRCULATIONS, ``user`` is the session's user id."""
        self._gateway = gateway
        self._tally = tally
        self._visible_at = visible_at
        self._hidden_at = sorted({unit.id for unit in org_units} - set(visible_at))
        self._user = user

    def count(self, patrons: Patrons, *, none_hidden: bool = False) -> Counted:
        """Count each patron's circulations. Patrons with hidden ones get lower bounds.

        One call if the account has VIEW_CIRCULATIONS everywhere, or if the caller knows that pcrud hides none of these
        patrons' circulations (``none_hidden``). Two parallel calls in other cases.
        """
        countable = self._countable(patrons)
        if not countable:
            return dict.fromkeys(patrons)
        if self._may_hide(none_hidden=none_hidden):
            readers: tuple[Callable[..., Any], ...] = (self._count_rows, self._with_hidden)
            by_rows, hidden = self._gateway.map(lambda read: read(countable), readers)
        else:
            by_rows, hidden = self._count_rows(countable), set()
        return {id: _with_completeness(by_rows.get(id), complete=id not in hidden) for id in patrons}

    def count_visible(self, patrons: Patrons, *, none_hidden: bool = False) -> Counted:
        """Count in one call. If pcrud may hide circulations, all counts are lower bounds."""
        countable = self._countable(patrons)
        by_rows = self._count_rows(countable) if countable else {}
        complete = not self._may_hide(none_hidden=none_hidden)
        return {id: _with_completeness(by_rows.get(id), complete=complete) for id in patrons}

    def count_if(self, condition: Query, patrons: Patrons, *, none_hidden: bool = False) -> Counted | None:
        """Check a condition made of subqueries and :meth:`count_visible` in one call. Return None unless it holds.

        The query also selects one visible circulation of another patron if the condition holds, as a signal
        (``desk-004``; without the row the condition is false, ``desk-005``). So the result is also None if there is no
        other circulation that could be the signal, or if the query would be too large.
        """
        countable = self._countable(patrons)
        asked = frozenset(countable)
        if not countable or len(countable) > _MOST_UNDER_CONDITION:
            return None
        if self._hidden_at and not 0 < len(self._visible_at) <= _MOST_LIBRARIES:
            return None
        query = self._conditional_query(condition, countable)
        try:
            rows = self._gateway.pcrud.search("circ", query, select=_FIELDS, limit=_MOST_ROWS_UNDER_CONDITION)
        except RequestTooLargeError:  # the condition may contain hidden members, too, and ids may have ten digits
            return None
        found = list(columns(rows, *_FIELDS))
        theirs = [row for row in found if row[0] in asked]
        others = [row for row in found if row[0] not in asked]
        if len(others) > 1:
            raise unrequested_rows()
        if not others:
            # The condition doesn't hold, or the signal's row came with a wrong id: don't trust the other rows either.
            return None
        by_rows = self._counted(countable, theirs)
        complete = not self._may_hide(none_hidden=none_hidden)
        return {id: _with_completeness(by_rows.get(id), complete=complete) for id in patrons}

    def with_exact_counts(self, counted: Counted) -> Counted:
        """Replace lower bounds by exact counts.

        One call finds the patrons with hidden circulations, and one call each counts those of the first six. The counts
        of further patrons become None.
        """
        unsure = [id for id, counts in counted.items() if counts is not None and not counts.complete]
        hidden = sorted(self._with_hidden(unsure)) if unsure else []
        requested = hidden[:_MOST_ONE_BY_ONE]
        exact = dict(zip(requested, self._gateway.map(self._count_exactly, requested), strict=True))
        known = {id: _with_completeness(counts, complete=True) for id, counts in counted.items()}
        return {**known, **dict.fromkeys(hidden), **exact}

    def count_one(self, patron: int, home: int) -> CirculationCounts | None:
        """Count all circulations of one patron, hidden ones included. ``home`` is the home library's id. One call."""
        return self._count_exactly(patron) if self._countable({patron: home}) else None

    def _countable(self, patrons: Patrons) -> list[int]:
        # The ILS always lets users see their own counts (Actor.pm, checked_out).
        return [id for id, home in patrons.items() if home in self._visible_at or id == self._user]

    def _may_hide(self, *, none_hidden: bool) -> bool:
        return bool(self._hidden_at) and not none_hidden

    def _conditional_query(self, condition: Query, patrons: Sequence[int]) -> Query:
        """Build the query for the patrons' circulations and, if the condition holds, one row of another patron."""
        theirs = {"usr": list(patrons), "checkin_time": None}
        others: Query = {"usr": {"not in": list(patrons)}}
        if self._hidden_at:
            others["circ_lib"] = sorted(self._visible_at)
        signal: Query = {
            "id": {"in": {**_ids(others), "limit": 1}},
            # Before 3.14, hidden rows count toward the limit, so an answer below the limit may still be cut off
            # (3.12/releases-044). Send no signal then.
            "-and": [{"-not-exists": rows_beyond(_MOST_ROWS_UNDER_CONDITION - 2, "circ", theirs, "id")}, condition],
        }
        # A union lets the database use an index for each part. With "or" it would scan all circulations.
        return {"id": {"in": {"union": [_ids(theirs), _ids(signal)]}}}

    def _count_rows(self, patrons: Collection[int]) -> dict[int, CirculationCounts]:
        # Without VIEW_CIRCULATIONS anywhere, pcrud shows no circulations, not even the user's own.
        ids = sorted(patrons) if self._visible_at else []
        pages = self._gateway.pcrud.columns_by_values("circ", _FIELDS, "usr", ids, where={"checkin_time": None})
        return self._counted(patrons, chain.from_iterable(pages))

    def _counted(self, patrons: Collection[int], rows: Iterable[tuple[Any, ...]]) -> dict[int, CirculationCounts]:
        now = datetime.now(UTC)
        numbers: dict[int, Counter[CirculationKind]] = {id: Counter() for id in patrons}
        for usr, stop_fines, due_date, fine_interval, xact_finish in rows:
            kind = kind_of(stop_fines, due_date, fine_interval, finished=xact_finish is not None, now=now)
            if kind is not None:
                numbers[usr][kind] += 1
        return {id: self._tally.counts(counted) for id, counted in numbers.items()}

    def _with_hidden(self, patrons: Collection[int]) -> set[int]:
        """Return the patrons with circulations that pcrud hides."""
        return patrons_with_circulations_at(self._gateway, patrons, self._hidden_at)

    def _count_exactly(self, patron: int) -> CirculationCounts | None:
        # Without VIEW_CIRCULATIONS the answer is empty (patrons-083). The answer doesn't name the patron, so a mixed-up
        # answer would go unnoticed on a shared connection.
        result = self._gateway.call("open-ils.actor", _COUNT, TOKEN, patron, expect="optional", own_connection=True)
        if result.value is None:
            return None
        answer = result.mapping()
        with result.understood(Message("counts of circulations")):
            return self._tally.counts({kind: _count(answer[kind.value]) for kind in CirculationKind})


def _with_completeness(counts: CirculationCounts | None, *, complete: bool) -> CirculationCounts | None:
    return None if counts is None else replace(counts, complete=complete)


def _ids(where: Query) -> Query:
    return {"select": {"circ": ["id"]}, "from": "circ", "where": where}


def _count(value: object) -> int:
    """Return a count. Raise ValueError for anything else, including null, which doesn't mean 0."""
    number = whole_number(value)
    if number is None or number < 0:
        raise ValueError("not a count")
    return number
