"""Reading the rows that belong to a list of values, in answers that are whole whatever the account may not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.gateway.paging import Page, PageSize, Stretch

# A page this much larger than usual is still far from what gets stuck, and what matches several values seldom fills it.
AMPLE = 4


def by_keys(ask: Callable[[list[int | str], int], Page], portion: list[int | str], size: PageSize) -> Iterator[Page]:
    """Yield the rows with these primary keys: no more than there are keys, so hidden ones leave none out."""
    while portion:
        count = size.fitting
        page = ask(portion[:count], len(portion[:count]))
        portion = portion[count:]
        if page.rows:
            yield page


def in_halves(
    ask: Callable[[list[int | str], int], Page],
    portion: list[int | str],
    size: PageSize,
    cut_off: Callable[[list[int | str], int], bool],
    read_one: Callable[[int | str], Iterator[Page]],
) -> Iterator[Page]:
    """Yield the rows with these values, the list cut in halves until the answer to each is whole.

    ``cut_off`` tells whether an answer with fewer rows than ``limit`` may still lack some.
    """
    limit = max(AMPLE * size.rows, len(portion) + 1)
    page = ask(portion, limit)
    if len(page.rows) < limit and not cut_off(portion, limit):
        if page.rows:
            yield page
    elif len(portion) > 1:
        middle = len(portion) // 2
        yield from in_halves(ask, portion[:middle], size, cut_off, read_one)
        yield from in_halves(ask, portion[middle:], size, cut_off, read_one)
    else:
        yield from read_one(portion[0])


def nothing_left(_stretch: Stretch) -> list[Stretch]:
    """A short page was the last."""
    return []
