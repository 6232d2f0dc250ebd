"""Circulations: how many items patrons have out, as the library counts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evergreen_groups.gateway import TOKEN, Gateway, whole_number
from evergreen_groups.ils.accounts import account_of_session, library_of

_COUNT = "open-ils.actor.user.checked_out.count"
_SETTINGS = "open-ils.actor.ou_setting.ancestor_default.batch"
_NO_CLAIMS = "circ.do_not_tally_claims_returned"
_LOST = "circ.tally_lost"


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


class CirculationCounter:
    """Counts what patrons have out as the staff client does (``patron.service.ts``): a call for each patron.

    Which circulations are counted is two of the library's settings, read when the counter is made.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        library = library_of(account_of_session(gateway))
        result = gateway.call("open-ils.actor", _SETTINGS, library, [_NO_CLAIMS, _LOST], TOKEN)
        settings = result.mapping()

        def is_set(name: str) -> bool:
            # Null where nobody has set it at or above the library (settings-015).
            return settings[name] is not None and bool(settings[name]["value"])

        self._out = ["out", "overdue", "long_overdue"]
        with result.understood("the values of settings"):
            self._out += [] if is_set(_NO_CLAIMS) else ["claims_returned"]
            self._out += ["lost"] if is_set(_LOST) else []

    def count(self, patrons: Sequence[int]) -> Iterator[tuple[int, CirculationCounts | None]]:
        """Count for each patron (by id); None where the ILS doesn't say (VIEW_CIRCULATIONS is missing there)."""
        # A call each, for it takes one patron; a family is small, and three calls are under way at once.
        return zip(patrons, self._gateway.map(self._of_patron, patrons), strict=True)

    def _of_patron(self, patron: int) -> CirculationCounts | None:
        # The ILS answers with nothing when VIEW_CIRCULATIONS is missing (patrons-083).
        # Nor does it say whose counts these are.
        result = self._gateway.call("open-ils.actor", _COUNT, TOKEN, patron, expect="optional", apart=True)
        if result.value is None:
            return None
        with result.understood("counts of circulations"):
            return self._counted(result.mapping())

    def _counted(self, answer: Mapping[str, object]) -> CirculationCounts:
        number = {kind: _count(answer[kind]) for kind in (*self._out, "overdue", "long_overdue", "lost")}
        overdue = number["overdue"] + number["long_overdue"]
        return CirculationCounts(sum(number[kind] for kind in self._out), overdue, number["lost"])


def _count(value: object) -> int:
    """A count; raises ValueError for anything else, nothing at all among it: that isn't the same as none."""
    number = whole_number(value)
    if number is None or number < 0:
        raise ValueError("not a count")
    return number
