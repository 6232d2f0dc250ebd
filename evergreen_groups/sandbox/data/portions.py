"""How a population is cut into portions, each of which is made from chance of its own and written at once.

What is in one portion doesn't depend on the others, so that whoever was interrupted goes on with the next one, and
the same size gives the same people all the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, cycle, pairwise

PATRONS = 10_000
"""Patrons in each portion at most."""
LISTED = 0.02125
"""Groups that owe 25.00 or more for each patron, as on the real database of 200,300."""
MOST_LISTED = 1 / 25
GIANT_EVERY = 10
"""Of so many portions one has a giant group, the second one first."""
LISTED_FOR_A_GIANT = 2_125
# Numbers that are free for each portion, of which it uses as many as it needs: so ids come in clumps.
_PATRON_NUMBERS = 4 * PATRONS
_OTHER_NUMBERS = 8 * PATRONS
# Some were made where people owe much, others where fines were given up.
_WEIGHTS = (1, 2, 2, 3)
# The listed ones are as large in a small population as in a large one with as many groups listed.
_LISTED_GIANTS = (400, 150, 1_500, 80, 700)
_OTHER_GIANTS = (60, 100, 250, 600, 1_000, 2_000)


@dataclass(frozen=True, slots=True)
class FirstNumbers:
    """The first free numbers: of patrons, cards and groups, of transactions, and of penalties and messages."""

    patron: int
    transaction: int
    penalty: int


@dataclass(frozen=True, slots=True)
class PeoplePortion:
    """``patrons`` people, ``listed`` groups of whom owe 25.00 and more together.

    ``seed`` is what its chance begins with, ``first`` are the numbers that it may use from, and ``widest_gap`` says
    how far apart its clumps of patrons' numbers may be. ``giant`` is the size of its giant group (0: none), and
    ``giant_listed`` says that it is one of those listed.
    """

    seed: str
    patrons: int
    listed: int
    first: FirstNumbers
    widest_gap: int
    giant: int
    giant_listed: bool


def portion_count(patrons: int) -> int:
    """How many portions a population of so many has."""
    return -(-patrons // PATRONS)


def portions(patrons: int, listed: int, first: FirstNumbers) -> Iterator[PeoplePortion]:
    """The portions of a population of ``patrons`` with so many ``listed`` groups, in order.

    Raises:
        ValueError: more groups than one in 25 patrons.
    """
    if not 0 <= listed <= patrons * MOST_LISTED:
        raise ValueError("too many listed groups for so few patrons")
    count = portion_count(patrons)
    chance = random.Random(f"{patrons} {listed}")  # noqa: S311 - the same people each time is what's wanted
    sizes = _shares([1] * count, patrons)
    weights = [size * chance.choice(_WEIGHTS) for size in sizes]
    if listed > patrons * LISTED:  # so many that none may have much more than its share
        weights = sizes
    giants = [number % GIANT_EVERY == 1 for number in range(count)]
    listed_giants = min(sum(giants), max(1, round(listed / LISTED_FOR_A_GIANT))) if listed else 0
    places = _shares([int(giant) for giant in giants], listed_giants)
    listed_sizes = cycle(_LISTED_GIANTS)
    for number, (size, share) in enumerate(zip(sizes, _shares(weights, listed), strict=True)):
        giant = chance.choice(_OTHER_GIANTS) if giants[number] else 0
        if places[number]:
            giant = next(listed_sizes)
        yield PeoplePortion(
            seed=f"{patrons} {listed} {number}",
            patrons=size,
            listed=share,
            first=FirstNumbers(
                first.patron + number * _PATRON_NUMBERS,
                first.transaction + number * _OTHER_NUMBERS,
                first.penalty + number * _OTHER_NUMBERS,
            ),
            widest_gap=chance.choice((0, 20, 500, 3_000)),
            giant=giant,
            giant_listed=bool(places[number]),
        )


def _shares(weights: list[int], whole: int) -> list[int]:
    """A whole number cut up by weights, so that the parts sum up to it."""
    total = sum(weights)
    edges = [0, *(whole * part // total if total else 0 for part in accumulate(weights))]
    return [after - before for before, after in pairwise(edges)]
