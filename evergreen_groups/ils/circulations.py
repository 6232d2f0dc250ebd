"""Circulations: how many items patrons have out, as the library counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.gateway import TOKEN, Gateway, whole_number
from evergreen_groups.ils.circulation_kinds import CirculationKind, kind_of

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnits

_COUNT = "open-ils.actor.user.checked_out.count"
_SETTINGS = "open-ils.actor.ou_setting.ancestor_default.batch"
_NO_CLAIMS = "circ.do_not_tally_claims_returned"
_LOST = "circ.tally_lost"
# A desk doesn't wait for three hundred calls, nor has the ILS the children to spare.
_MOST_ONE_BY_ONE = 6
"""Of how many patrons, whose circulations aren't all visible, the ILS is asked: of more it isn't known."""

_FIELDS = ("usr", "stop_fines", "due_date", "fine_interval", "xact_finish")


@dataclass(frozen=True, slots=True)
class CirculationCounts:
    """How many items a patron has: ``out`` in all as the library counts them, of them ``overdue`` and ``lost``."""

    out: int
    overdue: int
    lost: int

    @classmethod
    def sum_of(cls, counts: Iterable[CirculationCounts]) -> CirculationCounts:
        """All of these together."""
        found = list(counts)
        return cls(sum(it.out for it in found), sum(it.overdue for it in found), sum(it.lost for it in found))


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

        with result.understood("the values of settings"):
            return cls(claims_returned=not is_set(_NO_CLAIMS), lost=is_set(_LOST))

    def counts(self, numbers: Mapping[CirculationKind, int]) -> CirculationCounts:
        """What a patron has out, of the number of each kind, as the staff client adds up (``patron.service.ts``)."""
        kind = CirculationKind
        overdue = numbers[kind.OVERDUE] + numbers[kind.LONG_OVERDUE]
        out = numbers[kind.OUT] + overdue
        out += numbers[kind.CLAIMS_RETURNED] if self.claims_returned else 0
        out += numbers[kind.LOST] if self.lost else 0
        return CirculationCounts(out, overdue, numbers[kind.LOST])


class CirculationReader:
    """Counts what patrons have out, a set at a time, as far as the account may see it.

    pcrud shows a circulation where the account has VIEW_CIRCULATIONS at the library of the circulation, and leaves out
    the others without a word; ``checked_out.count`` tells all of a patron's where it has it at the patron's home
    library. So who has something out that pcrud hides is found out beside the rows, and asked about one by one.
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

    def count(self, patrons: Mapping[int, int], *, none_hidden: bool = False) -> dict[int, CirculationCounts | None]:
        """Count for each patron (id, with the id of the home library); None where the ILS doesn't say.

        One call where VIEW_CIRCULATIONS is held everywhere, or ``none_hidden`` says that pcrud hides nothing that they
        have out; otherwise two side by side, and one for each patron with a circulation that pcrud hides. Of more
        than six of those, only the first are known.
        """
        # Of oneself the ILS always tells (Actor.pm, checked_out).
        countable = [id for id, home in patrons.items() if home in self._visible_at or id == self._user]
        if not countable:
            return dict.fromkeys(patrons)
        with_hidden = (lambda _patrons: set[int]()) if none_hidden else self._with_hidden
        readers: tuple[Callable[..., Any], ...] = (self._by_rows, with_hidden)
        by_rows, hidden = self._gateway.map(lambda read: read(countable), readers)
        apart = sorted(hidden)[:_MOST_ONE_BY_ONE]
        one_by_one = dict(zip(apart, self._gateway.map(self._of_patron, apart), strict=True))
        known = {**by_rows, **dict.fromkeys(hidden), **one_by_one}
        return {id: known.get(id) for id in patrons}

    def _by_rows(self, patrons: Collection[int]) -> dict[int, CirculationCounts]:
        now = datetime.now(UTC)
        numbers: dict[int, Counter[CirculationKind]] = {id: Counter() for id in patrons}
        pages = self._gateway.pcrud.columns_by_values(
            "circ", _FIELDS, "usr", sorted(patrons), where={"checkin_time": None}
        )
        for usr, stop_fines, due_date, fine_interval, xact_finish in chain.from_iterable(pages):
            kind = kind_of(stop_fines, due_date, fine_interval, finished=xact_finish is not None, now=now)
            if kind is not None:
                numbers[usr][kind] += 1
        return {id: self._tally.counts(counted) for id, counted in numbers.items()}

    def _with_hidden(self, patrons: Collection[int]) -> set[int]:
        """Those of the patrons who have something out that pcrud hides."""
        if not self._hidden_at:
            return set()
        # Inside a query nothing is hidden (pcrud-141).
        hidden = {"usr": {"=": {"+au": "id"}}, "checkin_time": None, "circ_lib": self._hidden_at}
        exists = {"-exists": {"select": {"circ": ["id"]}, "from": "circ", "where": hidden}}
        pages = self._gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons), where=exists)
        return {id for page in pages for (id,) in page}

    def _of_patron(self, patron: int) -> CirculationCounts | None:
        # The ILS answers with nothing when VIEW_CIRCULATIONS is missing (patrons-083).
        # Nor does it say whose counts these are.
        result = self._gateway.call("open-ils.actor", _COUNT, TOKEN, patron, expect="optional", apart=True)
        if result.value is None:
            return None
        answer = result.mapping()
        with result.understood("counts of circulations"):
            return self._tally.counts({kind: _count(answer[kind.value]) for kind in CirculationKind})


def _count(value: object) -> int:
    """A count; raises ValueError for anything else, nothing at all among it: that isn't the same as none."""
    number = whole_number(value)
    if number is None or number < 0:
        raise ValueError("not a count")
    return number
