"""Reading all rows of a class that has few: org units, profiles, kinds of penalties, thresholds.

Much hangs on such a list: an org unit that is missing from it takes its patrons out of a report. Nothing in an answer
tells that it is whole, so the ids are asked for as well, from the other end: what is cut off, or comes from elsewhere,
differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError

if TYPE_CHECKING:
    from evergreen_groups.gateway.pcrud import Pcrud

MOST_ROWS = 20_000
"""The most rows in one answer; org units, profiles, kinds of penalties and thresholds are fewer nearly everywhere."""

_TRIES = 2


def all_columns(
    pcrud: Pcrud, side_by_side: Callable[..., Any], class_id: str, names: Sequence[str]
) -> list[tuple[Any, ...]]:
    """The fields ``names`` of all rows, by ascending ``id``; ``side_by_side`` is the gateway's ``map``.

    Raises:
        DataError: twice the rows weren't those whose ids the ILS gave beside them.
    """
    wanted = ("id", *names)
    for _ in range(_TRIES):  # a row may come or go between the two looks
        rows, ids = side_by_side(
            lambda read: read(), (lambda: _all_rows(pcrud, class_id, wanted), lambda: _all_ids(pcrud, class_id))
        )
        if [row[0] for row in rows] == ids[::-1]:
            return [row[1:] for row in rows]
    raise DataError(
        "the list of {name} rows isn't whole: their ids, asked for beside it, are others",
        advice="try again; look at the proxy, where there is one",
        code="rows-missing",
        values={"name": class_id},
    )


def _all_rows(pcrud: Pcrud, class_id: str, names: Sequence[str]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    # A condition that all rows meet: pcrud refuses an empty one (pcrud-159).
    condition: dict[str, Any] = {"id": {"<>": None}}
    while True:
        page = pcrud.search_columns(class_id, names, condition, order_by="id", limit=MOST_ROWS)
        rows.extend(page)
        if len(page) < MOST_ROWS:
            return rows
        condition = {"id": {">": page[-1][0]}}


def _all_ids(pcrud: Pcrud, class_id: str) -> list[int]:
    ids: list[int] = []
    condition: dict[str, Any] = {"id": {"<>": None}}
    descending = [{"class": class_id, "field": "id", "direction": "desc"}]
    while True:
        page = pcrud.id_list(class_id, condition, order_by=descending, limit=MOST_ROWS)
        ids.extend(page)
        if len(page) < MOST_ROWS:
            return ids
        condition = {"id": {"<": page[-1]}}
