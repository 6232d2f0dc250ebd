"""Circulations: how many items patrons have out, as the library counts them."""

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
# A program doesn't wait for three hundred calls, nor has the ILS the children to spare.
_MOST_ONE_BY_ONE = 6
"""Of how many patrons, whose circulations aren't all visible, the ILS is asked: of more it isn't known."""

# The patrons' ids stand in a question that is asked under a condition three times, in the condition itself up to twice,
# and libraries once: so many of either are 30 kB of a request that may have 32.
_MOST_UNDER_CONDITION = 400
_MOST_LIBRARIES = 800
# Of these fields that makes half a megabyte.
_MOST_ROWS_UNDER_CONDITION = 2_000

_FIELDS = ("usr", "stop_fines", "due_date", "fine_interval", "xact_finish")


@dataclass(frozen=True, slots=True)
class CirculationCounts:
    """How many items a patron has: ``out`` in all as the library counts them, of them ``overdue`` and ``lost``.

    Without ``complete`` there are at least so many: the account may not see all of them.
    """

    out: int
    overdue: int
    lost: int
    complete: bool = True

    @property
    def totals(self) -> tuple[Total[int], Total[int], Total[int]]:
        """``out``, ``overdue`` and ``lost``, each as a total."""
        return Total(self.out, self.complete), Total(self.overdue, self.complete), Total(self.lost, self.complete)

    @classmethod
    def sum_of(cls, counts: Iterable[CirculationCounts]) -> CirculationCounts:
        """All of these together."""
        found = list(counts)
        return cls(
            sum(it.out for it in found),
            sum(it.overdue for it in found),
            sum(it.lost for it in found),
            all(it.complete for it in found),
        )


@dataclass(frozen=True, slots=True)
class CirculationTally:
    """Which circulations a library counts as out, besides those that are due or overdue."""

    claims_returned: bool = True
    lost: bool = False

    @classmethod
    def read(cls, gateway: Gateway, library: int) -> CirculationTally:
        """Read two settings of a library (its id), which is where the account works; one call."""
        result = gateway.call("open-ils.actor", _SETTINGS, library, [_NO_CLAIMS, _LOST], TOKEN)
        settings = result.mapping()

        def is_set(name: str) -> bool:
            # Null where nobody has set it at or above the library (settings-015).
            return settings[name] is not None and bool(settings[name]["value"])

        with result.understood(Message("the values of settings")):
            return cls(claims_returned=not is_set(_NO_CLAIMS), lost=is_set(_LOST))

    def counts(self, numbers: Mapping[CirculationKind, int]) -> CirculationCounts:
        """What a patron has out, of the number of each kind, as the staff client adds up (``patron.service.ts``)."""
        kind = CirculationKind
        overdue = numbers[kind.OVERDUE] + numbers[kind.LONG_OVERDUE]
        out = numbers[kind.OUT] + overdue
        out += numbers[kind.CLAIMS_RETURNED] if self.claims_returned else 0
        out += numbers[kind.LOST] if self.lost else 0
        return CirculationCounts(out, overdue, numbers[kind.LOST])


Query = dict[str, Any]

Patrons = Mapping[int, int]
"""Patrons' ids, each with that of the home library."""

Counted = dict[int, CirculationCounts | None]
"""What patrons have out, by their ids; None: the ILS doesn't say."""


class CirculationReader:
    """Counts what patrons have out, a set at a time, as far as the account may see it.

    pcrud shows a circulation where the account has VIEW_CIRCULATIONS at the library of the circulation, and leaves out
    the others without a word; ``checked_out.count`` tells all of a patron's where it has it at the patron's home
    library. So who has something out that pcrud hides is found out beside the rows, and asked about one by one where
    exact numbers are wanted.
    """

    def __init__(
        self, gateway: Gateway, org_units: OrgUnits, tally: CirculationTally, visible_at: Collection[int], user: int
    ) -> None:
        """``visible_at`` are the org units (ids) with VIEW_CIRCULATIONS, ``user`` is whose session it is."""
        self._gateway = gateway
        self._tally = tally
        self._visible_at = visible_at
        self._hidden_at = sorted({unit.id for unit in org_units} - set(visible_at))
        self._user = user

    def count(self, patrons: Patrons, *, none_hidden: bool = False) -> Counted:
        """Count for each patron; None where the ILS doesn't say, and at least what is visible where there is more.

        One call where VIEW_CIRCULATIONS is held everywhere, or ``none_hidden`` says that pcrud hides nothing that they
        have out; otherwise two side by side.
        """
        countable = self._countable(patrons)
        if not countable:
            return dict.fromkeys(patrons)
        whose = self._with_hidden if self._may_hide(none_hidden=none_hidden) else _nobody
        readers: tuple[Callable[..., Any], ...] = (self._by_rows, whose)
        by_rows, hidden = self._gateway.map(lambda read: read(countable), readers)
        return {id: _marked(by_rows.get(id), complete=id not in hidden) for id in patrons}

    def count_visible(self, patrons: Patrons, *, none_hidden: bool = False) -> Counted:
        """The same in one call; where pcrud may hide something, there are at least so many for everybody."""
        countable = self._countable(patrons)
        by_rows = self._by_rows(countable) if countable else {}
        complete = not self._may_hide(none_hidden=none_hidden)
        return {id: _marked(by_rows.get(id), complete=complete) for id in patrons}

    def count_under(self, condition: Query, patrons: Patrons, *, none_hidden: bool = False) -> Counted | None:
        """What :meth:`count_visible` does, in the same call as a condition made of queries; None unless that holds.

        That it holds is told by a row beside those of the patrons: any one visible circulation of somebody else
        (``desk-004``; without it the condition doesn't hold, ``desk-005``). So None says too that there is none to tell
        it, or that there is no room for the question.
        """
        countable = self._countable(patrons)
        asked = frozenset(countable)
        if not countable or len(countable) > _MOST_UNDER_CONDITION:
            return None
        if self._hidden_at and not 0 < len(self._visible_at) <= _MOST_LIBRARIES:
            return None
        question = self._under(condition, countable)
        try:
            rows = self._gateway.pcrud.search("circ", question, select=_FIELDS, limit=_MOST_ROWS_UNDER_CONDITION)
        except RequestTooLargeError:  # hidden members stand in the condition as well, and ids may have ten digits
            return None
        found = list(columns(rows, *_FIELDS))
        theirs = [row for row in found if row[0] in asked]
        others = [row for row in found if row[0] not in asked]
        if len(others) > 1:
            raise unrequested_rows()
        if not others:
            # Its row may have come under the id of a patron, too: nothing of this answer is used.
            return None
        by_rows = self._counted(countable, theirs)
        complete = not self._may_hide(none_hidden=none_hidden)
        return {id: _marked(by_rows.get(id), complete=complete) for id in patrons}

    def complete(self, counted: Counted) -> Counted:
        """Counts with exact numbers in place of those that are at least so many.

        One call finds out whose there are that pcrud hides, and one for each of those how many; of more than six of
        them only the first are known.
        """
        unsure = [id for id, counts in counted.items() if counts is not None and not counts.complete]
        hidden = sorted(self._with_hidden(unsure)) if unsure else []
        apart = hidden[:_MOST_ONE_BY_ONE]
        exact = dict(zip(apart, self._gateway.map(self._of_patron, apart), strict=True))
        known = {id: _marked(counts, complete=True) for id, counts in counted.items()}
        return {**known, **dict.fromkeys(hidden), **exact}

    def of_one(self, patron: int, home: int) -> CirculationCounts | None:
        """All that one patron has out, be it visible or not; ``home`` is the id of the home library. One call."""
        return self._of_patron(patron) if self._countable({patron: home}) else None

    def _countable(self, patrons: Patrons) -> list[int]:
        # Of oneself the ILS always tells (Actor.pm, checked_out).
        return [id for id, home in patrons.items() if home in self._visible_at or id == self._user]

    def _may_hide(self, *, none_hidden: bool) -> bool:
        return bool(self._hidden_at) and not none_hidden

    def _under(self, condition: Query, patrons: Sequence[int]) -> Query:
        """The question for what these patrons have out, and for somebody else's row where the condition holds."""
        theirs = {"usr": list(patrons), "checkin_time": None}
        somebody: Query = {"usr": {"not in": list(patrons)}}
        if self._hidden_at:
            somebody["circ_lib"] = sorted(self._visible_at)
        signal: Query = {
            "id": {"in": {**_ids(somebody), "limit": 1}},
            # Before 3.14 hidden rows count against the limit, so that a short answer may lack some (3.12/releases-044).
            "-and": [{"-not-exists": rows_beyond(_MOST_ROWS_UNDER_CONDITION - 2, "circ", theirs, "id")}, condition],
        }
        # Each by its own index; in an "or" the database would look at every circulation.
        return {"id": {"in": {"union": [_ids(theirs), _ids(signal)]}}}

    def _by_rows(self, patrons: Collection[int]) -> dict[int, CirculationCounts]:
        # pcrud shows nobody's then, one's own neither.
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
        """Those of the patrons who have something out that pcrud hides."""
        return patrons_with_circulations_at(self._gateway, patrons, self._hidden_at)

    def _of_patron(self, patron: int) -> CirculationCounts | None:
        # The ILS answers with nothing when VIEW_CIRCULATIONS is missing (patrons-083).
        # Nor does it say whose counts these are.
        result = self._gateway.call("open-ils.actor", _COUNT, TOKEN, patron, expect="optional", own_connection=True)
        if result.value is None:
            return None
        answer = result.mapping()
        with result.understood(Message("counts of circulations")):
            return self._tally.counts({kind: _count(answer[kind.value]) for kind in CirculationKind})


def _nobody(_patrons: Collection[int]) -> set[int]:
    return set()


def _marked(counts: CirculationCounts | None, *, complete: bool) -> CirculationCounts | None:
    return None if counts is None else replace(counts, complete=complete)


def _ids(where: Query) -> Query:
    return {"select": {"circ": ["id"]}, "from": "circ", "where": where}


def _count(value: object) -> int:
    """A count; raises ValueError for anything else, nothing at all among it: that isn't the same as none."""
    number = whole_number(value)
    if number is None or number < 0:
        raise ValueError("not a count")
    return number
