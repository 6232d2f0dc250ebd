"""Walking past rows that the account may not see, on releases where they count against ``limit``.

Before 3.14 the server looks at ``limit`` rows and then leaves out the hidden ones (``3.12/releases-044``: ten were
asked for, four came; later ten, ``3.14/releases-044``), so a page that is short, or empty, says nothing of what is
behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.paging import Stretch, anything, both

if TYPE_CHECKING:
    from evergreen_groups.gateway.gateway import Gateway

_LARGEST_KEY = 2**63 - 1  # a bigint


def more_than(number: int, gateway: Gateway, source: Any, where: Mapping[str, Any], field: str) -> bool:
    """Whether a condition holds for more than this many rows of a class, hidden ones among them.

    ``source`` is a class's id, or with others that it is joined to, as in a query's ``from``; it has the ``field``.
    """
    return holds(gateway, {"-exists": beyond(number, source, where, field)})


def holds(gateway: Gateway, condition: Mapping[str, Any], *, apart: bool = False) -> bool:
    """Whether a condition holds that is made of queries (``-exists`` and ``-not-exists``).

    What is inside a query isn't filtered by permission (``pcrud-141``), and org units are everybody's to see. The row
    that says yes doesn't say to what: ``apart`` asks over a connection of its own, where several such questions follow
    one another.
    """
    where = {"parent_ou": None, **condition}
    return bool(gateway.pcrud.search("aou", where, select=["id"], limit=1, apart=apart))


def beyond(number: int, source: Any, where: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A query for the rows that are left after this many; :func:`more_than` says what the others are."""
    class_id = source if isinstance(source, str) else next(iter(source))
    found = {"select": {class_id: [field]}, "from": source, "where": where}
    return {**found, "limit": 1, "offset": number} if number else found


class HiddenKeys:
    """What is left of a walk along ``key`` behind a page that is short, in ranges so narrow that none can be cut."""

    def __init__(self, gateway: Gateway, source: Any, where: Mapping[str, Any] | None, key: str) -> None:
        """``source`` is a class's id, or with others that it is joined to, as in a query's ``from``."""
        self._gateway = gateway
        self._source = source
        self._where = where
        self._key = key

    def rest_of(self, stretch: Stretch) -> list[Stretch]:
        """The stretch, to be walked in windows; nothing where the page was the last.

        Raises:
            DataError: there are more rows, and the keys aren't whole numbers.
        """
        if not self._gateway.hidden_rows_count() or not self._exists(stretch.condition(self._key)):
            return []
        after, high = stretch.after, stretch.high
        if not all(bound is None or isinstance(bound, int) for bound in (after, high)):
            raise self._not_walkable()
        if after is None:
            if self._exists([{self._key: {"<": 0}}]):  # nobody knows where to begin
                raise self._not_walkable()
            after = -1
        elif stretch.inclusive:
            after -= 1
        return [Stretch(after, self._highest(after) if high is None else high, in_windows=True)]

    def _highest(self, after: int) -> int:
        """A key that none is above, at most twice as far away as the highest there is."""
        step = 1024
        while self._exists([{self._key: {">": after + step}}]):
            step *= 2
            if step > _LARGEST_KEY:
                raise self._not_walkable()
        return after + step

    def _exists(self, conditions: list[dict[str, Any]]) -> bool:
        """Whether there is a row for which the conditions hold, be it hidden."""
        where = both(self._where, conditions or anything(self._key))
        return more_than(0, self._gateway, self._source, where, self._key)

    def _not_walkable(self) -> DataError:
        return DataError(
            "rows that the account may not see can't be skipped when reading in the order of {key}",
            advice="read in the order of the primary key, or name the home libraries that the account sees",
            code="hidden-rows-in-the-way",
            values={"key": self._key},
        )
