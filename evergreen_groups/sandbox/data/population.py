"""A large population, the same for the same size, written portion by portion.

Six patrons of ten are alone in their group, the others live in families of 2 to 8; a few groups are giants. Where
there are many, each portion's people live mostly at the libraries of one system.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from itertools import accumulate, cycle, pairwise
from typing import Any, NamedTuple

LISTED_CENTS = 2_500
LIMIT_CENTS = 500
ALONE_OWING, FAMILY_OWING, DELETED_OWING = 0.25, 0.3, 0.05
CREDIT, CREDIT_IN_LISTED = 0.004, 0.01
PAID_UP = 0.05
IN_GIANT_OWING = 0.03
PENALTY_SET, STALE_PENALTY, ARCHIVED_PENALTY, STAFF_PENALTY = 0.97, 0.0009, 0.01, 0.0005
OF_ITEMS = 0.67
LOST, BROUGHT_BACK = 0.15, 0.55
WITH_ITEMS_OUT = 0.12
_FEES = ("Misc", "Photocopies", "Replacement Card")
_LOST_FEES = ("Lost Materials", "Lost Materials Processing Fee")
_FEE_CENTS = 500
_BILLING_TYPES = {"Overdue materials": 1, "Lost Materials": 3, "Lost Materials Processing Fee": 4}
_MISC = 101
_LATELY = "2026-11-01T12:00:00+0000"
_BLOCKS_FOR_FINES, _STAFF_BLOCK = 1, 25

Values = tuple[object, ...]


@dataclass
class DebtRows:
    """The rows of what people owe, have out and are blocked by, in the order of their ids.

    Transactions' and penalties' numbers go on from ``first``; ``staff_blocks`` says that there is a kind of penalty
    that staff set.
    """

    first: FirstNumbers
    staff_blocks: bool
    summaries: list[Values] = field(default_factory=list)
    groceries: list[Values] = field(default_factory=list)
    billings: list[Values] = field(default_factory=list)
    circulations: list[Values] = field(default_factory=list)
    penalties: list[Values] = field(default_factory=list)

    def add(self, chance: random.Random, household: Household) -> None:
        """Add those of a household."""
        owed = dict(_balances(chance, household))
        for member in household.members:
            balance = owed.get(member.id, 0)
            self._fines(chance, member, balance)
            if chance.random() < WITH_ITEMS_OUT and not member.deleted:
                for _ in range(chance.randint(1, 4)):
                    self._item_out(chance, member)
            self._penalties(chance, member, balance)

    def _fines(self, chance: random.Random, member: InventedPatron, balance: int) -> None:
        if balance > 0:
            part = balance // 10 * 5 if balance >= LIMIT_CENTS and chance.random() < 0.3 else 0
            for owed in (part, balance - part) if part else (balance,):
                self._bill(chance, member, owed, 0, None)
        elif balance < 0:
            self._bill(chance, member, 100, 100 - balance, None)
        elif chance.random() < PAID_UP:
            paid = _owed(chance)
            self._bill(chance, member, paid, paid, _LATELY if chance.random() < 0.7 else None)

    def _bill(self, chance: random.Random, member: InventedPatron, owed: int, paid: int, finish: str | None) -> None:
        id = self.first.transaction + len(self.summaries)
        start = f"2026-{1 + id % 10:02d}-{1 + id % 28:02d}T10:00:00+0000"
        of_item = chance.random() < OF_ITEMS
        if of_item:
            lost, back = chance.random() < LOST, chance.random() < BROUGHT_BACK
            stopped = "LOST" if lost else "CHECKIN" if back else None
            returned = finish or (_LATELY if back and not lost else None)
            self.circulations.append((id, member.id, member.home, start, finish, start, returned, stopped, id))
            kind = chance.choice(_LOST_FEES) if lost else "Overdue materials"
        else:
            self.groceries.append((id, member.home, member.id, finish, start))
            kind = chance.choice(_FEES)
        for place, (billed, billing_type) in enumerate(_billed(owed, kind)):
            number = _BILLING_TYPES.get(billing_type, _MISC)
            self.billings.append((2 * id + place, id, billed, billing_type, number, start, start))
        payment = (_LATELY, "cash_payment") if paid else (None, None)
        sums = (owed - paid, id, start, kind, *payment, owed, paid)
        self.summaries.append((*sums, member.id, finish, start, "circulation" if of_item else "grocery"))

    def _item_out(self, chance: random.Random, member: InventedPatron) -> None:
        id = self.first.transaction + len(self.summaries)
        due = f"{chance.choice((2026, 2039))}-10-{1 + id % 28:02d}T23:59:59+0000"
        start = f"2026-09-{1 + id % 28:02d}T10:00:00+0000"
        self.circulations.append((id, member.id, member.home, start, None, due, None, None, id))
        self.summaries.append((0, id, None, None, None, None, 0, 0, member.id, None, start, "circulation"))

    def _penalties(self, chance: random.Random, member: InventedPatron, balance: int) -> None:
        over, draw = balance > LIMIT_CENTS, chance.random()
        if draw < (PENALTY_SET if over else STALE_PENALTY):
            self._penalty(member, _BLOCKS_FOR_FINES, None, None)
        elif not over and draw < STALE_PENALTY + ARCHIVED_PENALTY:
            self._penalty(member, _BLOCKS_FOR_FINES, None, "2026-10-05T03:00:00+0000")
        elif self.staff_blocks and draw > 1 - STAFF_PENALTY:
            self._penalty(member, _STAFF_BLOCK, 1, None)

    def _penalty(self, member: InventedPatron, kind: int, staff: int | None, stopped: str | None) -> None:
        id = self.first.penalty + len(self.penalties)
        set_at = "2026-09-02T03:00:00+0000" if stopped else "2026-11-02T03:00:00+0000"
        self.penalties.append((id, set_at, member.id, staff, kind, 1, stopped))


def _billed(owed: int, last: str) -> Iterator[tuple[int, str]]:
    """What makes up a bill, in cents, each with its billing type, given the last one."""
    if last == _LOST_FEES[1] and owed > _FEE_CENTS:
        yield owed - _FEE_CENTS, _LOST_FEES[0]
        owed = _FEE_CENTS
    yield owed, last


def _owed(chance: random.Random) -> int:
    """What somebody owes, in cents: mostly a few dollars, seldom hundreds, as overdue fines and lost books make it."""
    cents = int(chance.lognormvariate(6.25, 1.25))
    return max(10, min(cents, 60_000) // 5 * 5)


def _balances(chance: random.Random, household: Household) -> Iterator[tuple[int, int]]:
    """Who owes what, in cents."""
    live = [member.id for member in household.members if not member.deleted]
    for member in household.members:
        if member.deleted and chance.random() < DELETED_OWING:
            yield member.id, _owed(chance)
    draw = chance.random()
    if household.listed:
        yield from _listed(chance, live, household.giant)
    elif len(household.members) == 1:
        if live and draw < ALONE_OWING:
            yield live[0], _owed(chance)
        elif live and draw < ALONE_OWING + CREDIT:
            yield live[0], -chance.randrange(50, 1_000, 50)
    elif live and draw < FAMILY_OWING:
        yield from _shared_out(chance, min(_owed(chance), LISTED_CENTS - 5), chance.sample(live, min(2, len(live))))
    elif live and draw < FAMILY_OWING + CREDIT:
        yield live[0], -chance.randrange(50, 1_000, 50)


def _listed(chance: random.Random, live: list[int], giant: bool) -> Iterator[tuple[int, int]]:
    if giant:
        debtors = chance.sample(live, max(2, round(len(live) * IN_GIANT_OWING)))
        yield debtors[0], LISTED_CENTS
        yield from ((debtor, _owed(chance)) for debtor in debtors[1:])
        return
    total = LISTED_CENTS + min(int(chance.lognormvariate(8.16, 1.1)), 90_000) // 5 * 5
    debtors = chance.sample(live, min(len(live), chance.choices((1, 2, 3), (5, 3, 2))[0]))
    owed = dict(_shared_out(chance, total, debtors))
    if len(debtors) > 1 and chance.random() < CREDIT_IN_LISTED:
        credit = chance.randrange(50, 1_000, 50)
        owed[debtors[0]] += owed[debtors[1]] + credit
        owed[debtors[1]] = -credit
    yield from owed.items()


def _shared_out(chance: random.Random, total: int, debtors: list[int]) -> Iterator[tuple[int, int]]:
    """A sum cut up among debtors, each of whom owes at least something where there is enough."""
    left = total
    for place, debtor in enumerate(debtors):
        last = place == len(debtors) - 1
        share = left if last else int(left * chance.uniform(0.2, 0.8)) // 5 * 5
        left -= share
        yield debtor, share


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


_NOTED = "population"
_PATRON = (
    "id, usrname, first_given_name, family_name, home_ou, usrgroup, card, profile, master_account, juvenile, deleted, "
    "create_date, expire_date, last_update_time, dob, active, mailing_address, billing_address, day_phone, email"
)
_SAME_OF_ALL = {
    "barred": 0,
    "super_user": 0,
    "claims_returned_count": 0,
    "claims_never_checked_out_count": 0,
    "credit_forward_balance": 0,
    "ident_type": 3,
    "net_access_level": 1,
    "standing": 1,
    "last_xact_id": "'seed'",
}
_ADDRESS = "id, usr, street1, city, state, post_code"
_SAME_OF_ADDRESSES = {
    "country": "'USA'",
    "address_type": "'HOME'",
    "valid": 1,
    "within_city_limits": 1,
    "pending": 0,
}
_SUMMARY = (
    "balance_owed, id, last_billing_ts, last_billing_type, last_payment_ts, last_payment_type, total_owed, total_paid, "
    "usr, xact_finish, xact_start, xact_type"
)
_CIRCULATION = "id, usr, circ_lib, xact_start, xact_finish, due_date, checkin_time, stop_fines, target_copy"
_SAME_OF_CIRCULATIONS = {"fine_interval": "'1 day'", "duration": "'14 days'", "circ_staff": 1}


class Population:
    """So many ``patrons``, with so many groups of two and more who owe 25.00 and more together (``listed``).

    The dataset's own people have to be there when the first portion is written.
    """

    def __init__(self, patrons: int, listed: int) -> None:
        self._patrons = patrons
        self._listed = listed

    def __len__(self) -> int:
        """How many portions there are."""
        return portion_count(self._patrons)

    def write(self, connection: sqlite3.Connection, number: int) -> None:
        """Write one portion: patrons, cards, addresses, open and paid transactions, and penalties."""
        place = _Dataset(connection, self._patrons, self._listed)
        portion = place.portions[number]
        chance = random.Random(portion.seed)  # noqa: S311 - the same people each time is what's wanted
        debts = DebtRows(portion.first, place.staff_blocks)
        people: list[InventedPatron] = []
        for household in households(chance, portion, place.libraries(chance)):
            people += household.members
            debts.add(chance, household)
        people.sort()
        _insert(connection, "au", _PATRON, (place.patron_row(person) for person in people), _SAME_OF_ALL)
        _insert(connection, "ac", "id, usr, barcode", ((x.id, x.id, _barcode(x)) for x in people), {"active": 1})
        addresses = (_address_row(person) for person in people if person.street)
        _insert(connection, "aua", _ADDRESS, addresses, _SAME_OF_ADDRESSES)
        _insert(connection, "mbts", _SUMMARY, debts.summaries)
        billing = "id, xact, amount, billing_type, btype, billing_ts, create_date"
        _insert(connection, "mb", billing, debts.billings, {"voided": 0})
        _insert(connection, "mg", "id, billing_location, usr, xact_finish, xact_start", debts.groceries)
        _insert(connection, "circ", _CIRCULATION, debts.circulations, _SAME_OF_CIRCULATIONS)
        penalty = "id, set_date, usr, staff, standing_penalty, org_unit, stop_date"
        _insert(connection, "ausp", penalty, debts.penalties)

    def write_passwords(self, connection: sqlite3.Connection) -> None:
        """Give everybody the password that the dataset's own people have."""
        above = _first_numbers(connection).patron - 1
        connection.execute("INSERT INTO default_passwords SELECT ?, password FROM default_passwords LIMIT 1", [above])


class _Dataset:
    """What the dataset gives to a population: libraries, profiles, and which numbers are free."""

    def __init__(self, connection: sqlite3.Connection, patrons: int, listed: int) -> None:
        self.portions = tuple(portions(patrons, listed, _first_numbers(connection)))
        self.staff_blocks = bool(connection.execute("SELECT 1 FROM csp WHERE id = 25").fetchone())
        self._systems = _homes_by_system(connection)
        self._adults, self._children = _profiles(connection)

    def libraries(self, chance: random.Random) -> Libraries:
        """Those of a portion."""
        homes = [home for system in self._systems for home in system]
        own = chance.choices(self._systems, [len(system) for system in self._systems])[0]
        return Libraries(_weighted(own), _weighted(homes))

    def patron_row(self, person: InventedPatron) -> tuple[object, ...]:
        """A patron as a row; what is the same of all is left out."""
        made, expires, born = _dates(person)
        return (
            person.id,
            _barcode(person),
            person.given_name,
            person.family_name,
            person.home,
            person.group,
            person.id,
            self._children if person.child else self._adults,
            person.lead,
            person.child,
            person.deleted,
            made,
            expires,
            made,
            born,
            not person.deleted,
            person.address,
            person.address,
            person.phone,
            person.email,
        )


def _first_numbers(connection: sqlite3.Connection) -> FirstNumbers:
    """The first free numbers, which are noted: once something is written they would be others."""
    noted = connection.execute("SELECT value FROM about WHERE key = ?", [_NOTED]).fetchone()
    if noted:
        return FirstNumbers(**json.loads(noted[0]))

    def after(least: int, *columns: str) -> int:
        tables = ((column, column.split(".")[0]) for column in columns)
        found = (connection.execute(f"SELECT max({column}) FROM {table}").fetchone() for column, table in tables)
        return max(least, *(int(highest or 0) + 1 for (highest,) in found))

    first = FirstNumbers(
        patron=after(100_001, "au.id", "au.usrgroup", "ac.id", "aua.id"),
        transaction=after(1_000_001, "mbts.id"),
        penalty=after(1, "ausp.id", "aum.id"),
    )
    connection.execute("INSERT INTO about VALUES (?, ?)", [_NOTED, json.dumps(asdict(first))])
    return first


def _homes_by_system(connection: sqlite3.Connection) -> list[list[int]]:
    """The org units that patrons may have as home, by what stands below the root: by system."""
    parents = dict(connection.execute("SELECT id, parent_ou FROM aou").fetchall())
    homes = connection.execute(
        "SELECT aou.id FROM aou JOIN aout ON aout.id = aou.ou_type WHERE aout.can_have_users ORDER BY aou.id"
    )
    found: dict[int, list[int]] = {}
    for (home,) in homes:
        path = [home]
        while parents.get(path[-1]) is not None:
            path.append(parents[path[-1]])
        found.setdefault(path[-2] if len(path) > 1 else home, []).append(home)
    return list(found.values())


def _weighted(homes: list[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Org units with the sums of their weights: the first ones are large, the last ones small."""
    return tuple(homes), tuple(accumulate(1 / (1 + place / 3) for place in range(len(homes))))


def _profiles(connection: sqlite3.Connection) -> tuple[int, int]:
    """The profiles for adults and for children: the patrons' own, the second one a juvenile's where there is one."""
    found = connection.execute(
        "SELECT id, name FROM pgt WHERE application_perm LIKE 'group_application.user.patron%' ORDER BY id"
    ).fetchall()
    adults = next((profile for profile, name in found if name in ("Adult", "Patrons")), found[0][0] if found else 1)
    return adults, next((profile for profile, name in found if name in ("Child", "Juvenile")), adults)


def _barcode(person: InventedPatron) -> str:
    return f"2{person.id:013d}"


def _dates(person: InventedPatron) -> tuple[str, str, str | None]:
    """When somebody's record was made and expires, and when they were born, as far as that is known."""
    year, month, day = 2019 + person.id % 7, 1 + person.id % 12, 1 + person.id % 28
    date = f"{month:02d}-{day:02d}"
    expires = 2013 if person.expired else year + 10
    born = f"{2012 + person.id % 11}-{date}" if person.child else None
    return f"{year}-{date}T09:00:00+0000", f"{expires}-{date}T00:00:00+0000", born


def _address_row(person: InventedPatron) -> tuple[object, ...]:
    return person.id, person.id, person.street, "Lakeland", "MN", f"55{person.home % 1_000:03d}"


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: str,
    rows: Iterable[tuple[object, ...]],
    same: dict[str, Any] | None = None,
) -> None:
    """Insert rows; ``same`` are the columns that are the same of all, as SQL."""
    marks = ", ".join("?" * (columns.count(",") + 1))
    names = ", ".join([columns, *(same or {})])
    values = ", ".join([marks, *map(str, (same or {}).values())])
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)
