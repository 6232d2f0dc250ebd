"""The people of one portion of a population: families, people alone, and now and then a giant group."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from evergreen_groups.sandbox.data.portions import PeoplePortion


ALONE = 0.6
FAMILY_SIZES = (2, 3, 4, 5, 6, 7, 8)
FAMILY_WEIGHTS = (34, 24, 22, 11, 5, 2.5, 1.5)
DELETED_ALONE, DELETED_IN_FAMILY = 0.03, 0.01
WITHOUT_LEAD = 0.015
HOME_ELSEWHERE = 0.03
OTHER_NAME = 0.1
ACCIDENTAL = 0.004
JOINED_LATER = 0.15
LONG_EXPIRED = 0.01
HOUSEHOLD_WITH_ADDRESS = 0.7
BORROWED_ELSEWHERE = 0.001
WITH_PHONE, WITH_EMAIL = 0.6, 0.5
_LARGEST_CLUMP = 1_500


@dataclass(frozen=True, slots=True)
class Libraries:
    """Where patrons of a portion live: mostly at those of one system, each with its weight."""

    own: tuple[tuple[int, ...], tuple[float, ...]]
    all: tuple[tuple[int, ...], tuple[float, ...]]

    def home(self, chance: random.Random) -> int:
        """One household's home library."""
        homes, weights = self.own if chance.random() < 0.8 else self.all
        return chance.choices(homes, cum_weights=weights)[0]


class InventedPatron(NamedTuple):
    """Somebody of a population; ``address`` is the id of the row used (None: none), ``street`` what it says if it's
    their own."""

    id: int
    group: int
    home: int
    lead: bool
    child: bool
    deleted: bool
    given_name: str
    family_name: str
    expired: bool
    address: int | None
    street: str | None
    phone: str | None
    email: str | None


class Household(NamedTuple):
    """People who share a group number; ``listed`` says that they owe 25.00 or more together, ``giant`` that they are
    many."""

    members: list[InventedPatron]
    listed: bool
    giant: bool


def households(chance: random.Random, portion: PeoplePortion, libraries: Libraries) -> Iterator[Household]:
    """The households of a portion."""
    sizes = _sizes(chance, portion)
    families = [place for place, size in enumerate(sizes) if 1 < size <= FAMILY_SIZES[-1]]
    listed = set(chance.sample(families, portion.listed - portion.giant_listed))
    numbers = list(_numbers(chance, portion))
    groups, firsts = [], 0
    for size in sizes:
        groups.append(numbers[firsts])
        firsts += size
    _let_some_join_later(chance, sizes, numbers)
    taken, lender = 0, None
    for place, size in enumerate(sizes):
        ids = numbers[taken : taken + size]
        taken += size
        giant = size > FAMILY_SIZES[-1]
        counts = portion.giant_listed if giant else place in listed
        make = _giant_group if giant else _family
        members = make(chance, groups[place], ids, libraries, counts)
        if lender is not None and chance.random() < BORROWED_ELSEWHERE:
            members[0] = members[0]._replace(address=lender)
        lender = next((member.id for member in members if member.street and not member.deleted), lender)
        yield Household(members, counts, giant)


def _sizes(chance: random.Random, portion: PeoplePortion) -> list[int]:
    alone = round((portion.patrons - portion.giant) * ALONE)
    sizes, left = [1] * alone, portion.patrons - portion.giant - alone
    while left > 0:
        size = min(chance.choices(FAMILY_SIZES, FAMILY_WEIGHTS)[0], left)
        sizes.append(size if left - size != 1 else size + 1 if size < FAMILY_SIZES[-1] else size - 1)
        left -= sizes[-1]
    if portion.giant:
        sizes.append(portion.giant)
    chance.shuffle(sizes)
    return sizes


def _numbers(chance: random.Random, portion: PeoplePortion) -> Iterator[int]:
    """The patrons' ids, in clumps: where libraries joined, and where accounts were purged, numbers are missing."""
    number, left = portion.first.patron, portion.patrons
    while left:
        run = min(left, chance.randint(20, _LARGEST_CLUMP))
        yield from range(number, number + run)
        left -= run
        number += run + min(chance.randint(0, portion.widest_gap), 2 * run)


def _let_some_join_later(chance: random.Random, sizes: list[int], numbers: list[int]) -> None:
    """Let the last of some families have another's number, for they came when the others were patrons already."""
    taken = 0
    for size in sizes:
        taken += size
        if 1 < size <= FAMILY_SIZES[-1] and chance.random() < JOINED_LATER:
            other = chance.randrange(len(numbers))
            numbers[taken - 1], numbers[other] = numbers[other], numbers[taken - 1]


def _family(
    chance: random.Random, group: int, ids: list[int], libraries: Libraries, listed: bool
) -> list[InventedPatron]:
    given, family, streets = _names()
    draw = chance.random
    together = len(ids) > 1
    home, name = libraries.home(chance), chance.choice(family)
    accidental = together and draw() < ACCIDENTAL
    has_lead = not together or draw() >= WITHOUT_LEAD
    expired = draw() < LONG_EXPIRED
    pair_of_adults = draw() < 0.6
    street = f"{chance.randrange(1, 240)} {chance.choice(streets)}" if draw() < HOUSEHOLD_WITH_ADDRESS else None
    phone = _phone(ids[0]) if draw() < WITH_PHONE else None
    members = []
    for place, id in enumerate(ids):
        stranger = accidental and place > 0
        elsewhere = together and (stranger or draw() < HOME_ELSEWHERE)
        own_name = chance.choice(family) if stranger or (together and draw() < OTHER_NAME) else name
        first_name = chance.choice(given)
        may_be_deleted = not listed or place > 1
        lives = street is not None and (place == 0 or draw() < 0.6)
        members.append(
            InventedPatron(
                id=id,
                group=group,
                home=libraries.home(chance) if elsewhere else home,
                lead=has_lead and place == 0,
                child=place > pair_of_adults and not stranger,
                deleted=may_be_deleted and draw() < (DELETED_IN_FAMILY if together else DELETED_ALONE),
                given_name=first_name,
                family_name=own_name,
                expired=expired,
                address=ids[0] if lives and not stranger else None,
                street=street if place == 0 else None,
                phone=phone if not stranger and (place < 2) else None,
                email=f"{first_name}.{id}@example.org" if place < 2 and draw() < WITH_EMAIL else None,
            )
        )
    return members


def _giant_group(
    chance: random.Random, group: int, ids: list[int], libraries: Libraries, listed: bool
) -> list[InventedPatron]:
    """An institution's: a school's pupils, say, with one home library and nothing else in common."""
    given, family, streets = _names()
    home, street, deleted = libraries.home(chance), f"1 {chance.choice(streets)}", 0 if listed else DELETED_IN_FAMILY
    return [
        InventedPatron(
            id=id,
            group=group,
            home=home,
            lead=place == 0,
            child=place > 0,
            deleted=place > 0 and chance.random() < deleted,
            given_name=chance.choice(given),
            family_name=chance.choice(family),
            expired=False,
            address=ids[0],
            street=street if place == 0 else None,
            phone=None,
            email=None,
        )
        for place, id in enumerate(ids)
    ]


def _phone(number: int) -> str:
    return f"555-{number // 10_000 % 1_000:03d}-{number % 10_000:04d}"


@cache
def _names() -> tuple[list[str], list[str], list[str]]:
    """Given names, family names, and streets."""
    names = json.loads(resources.files(__package__).joinpath("names.json").read_text(encoding="utf-8"))
    streets = [f"{name} {kind}" for name in ("Mill", "Lake", "School", "Pine", "Church", "North", "Park", "Bridge")
               for kind in ("Street", "Road", "Lane", "Avenue")]  # fmt: skip
    return names["given"], names["family"], streets
