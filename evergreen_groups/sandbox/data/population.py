"""Generate a population of any size in batches; the same size always gives the same people.

Six patrons in ten are alone in their group. The others form families of 2 to 8, plus a few giant groups. In each batch,
most households have their home library in one system.
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
_BLOCKS_FOR_FINES, _STAFF_BLOCK = 1, 25  # ids of PATRON_EXCEEDS_FINES and STAFF_CHR in csp

Values = tuple[object, ...]


@dataclass
class DebtRows:
    """Rows for debts, checkouts and penalties, in order of their ids.

    Ids count up from ``first``. ``staff_blocks`` says whether the dataset has a penalty that staff apply manually.
    """

    first: FirstNumbers
    staff_blocks: bool
    summaries: list[Values] = field(default_factory=list)
    groceries: list[Values] = field(default_factory=list)
    billings: list[Values] = field(default_factory=list)
    circulations: list[Values] = field(default_factory=list)
    penalties: list[Values] = field(default_factory=list)

    def add(self, rng: random.Random, household: Household) -> None:
        """Add the rows of every member of a household."""
        owed = dict(_balances(rng, household))
        for member in household.members:
            balance = owed.get(member.id, 0)
            self._fines(rng, member, balance)
            if rng.random() < WITH_ITEMS_OUT and not member.deleted:
                for _ in range(rng.randint(1, 4)):
                    self._item_out(rng, member)
            self._penalties(rng, member, balance)

    def _fines(self, rng: random.Random, member: SamplePatron, balance: int) -> None:
        if balance > 0:
            part = balance // 10 * 5 if balance >= LIMIT_CENTS and rng.random() < 0.3 else 0
            for owed in (part, balance - part) if part else (balance,):
                self._bill(rng, member, owed, 0, None)
        elif balance < 0:
            self._bill(rng, member, 100, 100 - balance, None)
        elif rng.random() < PAID_UP:
            paid = _owed(rng)
            self._bill(rng, member, paid, paid, _LATELY if rng.random() < 0.7 else None)

    def _bill(self, rng: random.Random, member: SamplePatron, owed: int, paid: int, finish: str | None) -> None:
        id = self.first.transaction + len(self.summaries)
        start = f"2026-{1 + id % 10:02d}-{1 + id % 28:02d}T10:00:00+0000"
        of_item = rng.random() < OF_ITEMS
        if of_item:
            lost, back = rng.random() < LOST, rng.random() < BROUGHT_BACK
            stopped = "LOST" if lost else "CHECKIN" if back else None
            returned = finish or (_LATELY if back and not lost else None)
            self.circulations.append((id, member.id, member.home, start, finish, start, returned, stopped, id))
            kind = rng.choice(_LOST_FEES) if lost else "Overdue materials"
        else:
            self.groceries.append((id, member.home, member.id, finish, start))
            kind = rng.choice(_FEES)
        # A bill for a lost item has two billings: the price and a processing fee.
        with_fee = kind == _LOST_FEES[1] and owed > _FEE_CENTS
        parts = [(owed - _FEE_CENTS, _LOST_FEES[0]), (_FEE_CENTS, kind)] if with_fee else [(owed, kind)]
        for index, (billed, billing_type) in enumerate(parts):
            number = _BILLING_TYPES.get(billing_type, _MISC)
            self.billings.append((2 * id + index, id, billed, billing_type, number, start, start))
        payment = (_LATELY, "cash_payment") if paid else (None, None)
        sums = (owed - paid, id, start, kind, *payment, owed, paid)
        self.summaries.append((*sums, member.id, finish, start, "circulation" if of_item else "grocery"))

    def _item_out(self, rng: random.Random, member: SamplePatron) -> None:
        id = self.first.transaction + len(self.summaries)
        due = f"{rng.choice((2026, 2039))}-10-{1 + id % 28:02d}T23:59:59+0000"
        start = f"2026-09-{1 + id % 28:02d}T10:00:00+0000"
        self.circulations.append((id, member.id, member.home, start, None, due, None, None, id))
        self.summaries.append((0, id, None, None, None, None, 0, 0, member.id, None, start, "circulation"))

    def _penalties(self, rng: random.Random, member: SamplePatron, balance: int) -> None:
        over, draw = balance > LIMIT_CENTS, rng.random()
        if draw < (PENALTY_SET if over else STALE_PENALTY):
            self._penalty(member, _BLOCKS_FOR_FINES, None, None)
        elif not over and draw < STALE_PENALTY + ARCHIVED_PENALTY:
            self._penalty(member, _BLOCKS_FOR_FINES, None, "2026-10-05T03:00:00+0000")
        elif self.staff_blocks and draw > 1 - STAFF_PENALTY:
            self._penalty(member, _STAFF_BLOCK, 1, None)

    def _penalty(self, member: SamplePatron, kind: int, staff: int | None, stopped: str | None) -> None:
        id = self.first.penalty + len(self.penalties)
        set_at = "2026-09-02T03:00:00+0000" if stopped else "2026-11-02T03:00:00+0000"
        self.penalties.append((id, set_at, member.id, staff, kind, 1, stopped))


def _owed(rng: random.Random) -> int:
    """Draw one patron's debt in cents."""
    # Log-normal, like real fines: mostly a few dollars, rarely hundreds for lost books.
    cents = int(rng.lognormvariate(6.25, 1.25))
    return max(10, min(cents, 60_000) // 5 * 5)


def _balances(rng: random.Random, household: Household) -> Iterator[tuple[int, int]]:
    """Yield member ids with their balances in cents; members who owe nothing are left out."""
    live = [member.id for member in household.members if not member.deleted]
    for member in household.members:
        if member.deleted and rng.random() < DELETED_OWING:
            yield member.id, _owed(rng)
    draw = rng.random()
    if household.listed:
        yield from _listed(rng, live, household.giant)
    elif len(household.members) == 1:
        if live and draw < ALONE_OWING:
            yield live[0], _owed(rng)
        elif live and draw < ALONE_OWING + CREDIT:
            yield live[0], -rng.randrange(50, 1_000, 50)
    elif live and draw < FAMILY_OWING:
        yield from _split(rng, min(_owed(rng), LISTED_CENTS - 5), rng.sample(live, min(2, len(live))))
    elif live and draw < FAMILY_OWING + CREDIT:
        yield live[0], -rng.randrange(50, 1_000, 50)


def _listed(rng: random.Random, live: list[int], giant: bool) -> Iterator[tuple[int, int]]:
    if giant:
        debtors = rng.sample(live, max(2, round(len(live) * IN_GIANT_OWING)))
        yield debtors[0], LISTED_CENTS
        yield from ((debtor, _owed(rng)) for debtor in debtors[1:])
        return
    total = LISTED_CENTS + min(int(rng.lognormvariate(8.16, 1.1)), 90_000) // 5 * 5
    debtors = rng.sample(live, min(len(live), rng.choices((1, 2, 3), (5, 3, 2))[0]))
    owed = dict(_split(rng, total, debtors))
    if len(debtors) > 1 and rng.random() < CREDIT_IN_LISTED:
        credit = rng.randrange(50, 1_000, 50)
        owed[debtors[0]] += owed[debtors[1]] + credit
        owed[debtors[1]] = -credit
    yield from owed.items()


def _split(rng: random.Random, total: int, debtors: list[int]) -> Iterator[tuple[int, int]]:
    """Split a total among debtors in multiples of 5 cents; the last one gets the remainder."""
    left = total
    for debtor in debtors[:-1]:
        share = int(left * rng.uniform(0.2, 0.8)) // 5 * 5
        left -= share
        yield debtor, share
    yield debtors[-1], left


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
ADDRESS_OF_OTHERS = 0.001
WITH_PHONE, WITH_EMAIL = 0.6, 0.5
_LARGEST_CLUMP = 1_500


@dataclass(frozen=True, slots=True)
class Libraries:
    """The home libraries of a batch, each list with cumulative weights: ``own`` is one system, ``all`` is every one."""

    own: tuple[tuple[int, ...], tuple[float, ...]]
    all: tuple[tuple[int, ...], tuple[float, ...]]

    def home(self, rng: random.Random) -> int:
        """Draw a household's home library."""
        homes, weights = self.own if rng.random() < 0.8 else self.all
        return rng.choices(homes, cum_weights=weights)[0]


class SamplePatron(NamedTuple):
    """A generated patron: ``address`` is the id of the address row used, ``street`` is set for the row's owner."""

    id: int
    group: int
    home: int
    lead: bool
    child: bool
    deleted: bool
    given_name: str
    family_name: str
    expired: bool = False
    address: int | None = None
    street: str | None = None
    phone: str | None = None
    email: str | None = None


class Household(NamedTuple):
    """Patrons who share a group number; a ``listed`` household owes 25.00 or more in total."""

    members: list[SamplePatron]
    listed: bool
    giant: bool


def households(rng: random.Random, batch: PopulationBatch, libraries: Libraries) -> Iterator[Household]:
    """Yield the households of a batch."""
    sizes = _sizes(rng, batch)
    families = [index for index, size in enumerate(sizes) if 1 < size <= FAMILY_SIZES[-1]]
    listed = set(rng.sample(families, batch.listed - batch.giant_listed))
    numbers = list(_numbers(rng, batch))
    groups, start = [], 0
    for size in sizes:
        groups.append(numbers[start])
        start += size
    # In some families the last member joined late: swap that id with a random one. Group numbers stay.
    end = 0
    for size in sizes:
        end += size
        if 1 < size <= FAMILY_SIZES[-1] and rng.random() < JOINED_LATER:
            other = rng.randrange(len(numbers))
            numbers[end - 1], numbers[other] = numbers[other], numbers[end - 1]
    start, other_address = 0, None
    for index, size in enumerate(sizes):
        ids = numbers[start : start + size]
        start += size
        giant = size > FAMILY_SIZES[-1]
        owes = batch.giant_listed if giant else index in listed
        make = _giant_group if giant else _family
        members = make(rng, groups[index], ids, libraries, owes)
        if other_address is not None and rng.random() < ADDRESS_OF_OTHERS:
            members[0] = members[0]._replace(address=other_address)
        other_address = next((member.id for member in members if member.street and not member.deleted), other_address)
        yield Household(members, owes, giant)


def _sizes(rng: random.Random, batch: PopulationBatch) -> list[int]:
    alone = round((batch.patrons - batch.giant) * ALONE)
    sizes, left = [1] * alone, batch.patrons - batch.giant - alone
    while left > 0:
        size = min(rng.choices(FAMILY_SIZES, FAMILY_WEIGHTS)[0], left)
        sizes.append(size if left - size != 1 else size + 1 if size < FAMILY_SIZES[-1] else size - 1)
        left -= sizes[-1]
    if batch.giant:
        sizes.append(batch.giant)
    rng.shuffle(sizes)
    return sizes


def _numbers(rng: random.Random, batch: PopulationBatch) -> Iterator[int]:
    """Yield patron ids in runs with gaps between them, as when libraries join or accounts are purged."""
    number, left = batch.first.patron, batch.patrons
    while left:
        run = min(left, rng.randint(20, _LARGEST_CLUMP))
        yield from range(number, number + run)
        left -= run
        number += run + min(rng.randint(0, batch.widest_gap), 2 * run)


def _family(rng: random.Random, group: int, ids: list[int], libraries: Libraries, listed: bool) -> list[SamplePatron]:
    given, family, streets = _names()
    draw = rng.random
    together = len(ids) > 1
    home, name = libraries.home(rng), rng.choice(family)
    accidental = together and draw() < ACCIDENTAL
    has_lead = not together or draw() >= WITHOUT_LEAD
    expired = draw() < LONG_EXPIRED
    second_adult = draw() < 0.6
    street = f"{rng.randrange(1, 240)} {rng.choice(streets)}" if draw() < HOUSEHOLD_WITH_ADDRESS else None
    phone = f"555-{ids[0] // 10_000 % 1_000:03d}-{ids[0] % 10_000:04d}" if draw() < WITH_PHONE else None
    members = []
    for index, id in enumerate(ids):
        stranger = accidental and index > 0
        elsewhere = together and (stranger or draw() < HOME_ELSEWHERE)
        own_name = rng.choice(family) if stranger or (together and draw() < OTHER_NAME) else name
        first_name = rng.choice(given)
        may_be_deleted = not listed or index > 1
        has_address = street is not None and (index == 0 or draw() < 0.6)
        members.append(
            SamplePatron(
                id=id,
                group=group,
                home=libraries.home(rng) if elsewhere else home,
                lead=has_lead and index == 0,
                child=index > second_adult and not stranger,
                deleted=may_be_deleted and draw() < (DELETED_IN_FAMILY if together else DELETED_ALONE),
                given_name=first_name,
                family_name=own_name,
                expired=expired,
                address=ids[0] if has_address and not stranger else None,
                street=street if index == 0 else None,
                phone=phone if not stranger and (index < 2) else None,
                email=f"{first_name}.{id}@example.org" if index < 2 and draw() < WITH_EMAIL else None,
            )
        )
    return members


def _giant_group(
    rng: random.Random, group: int, ids: list[int], libraries: Libraries, listed: bool
) -> list[SamplePatron]:
    """Generate an institution's group, for example a school: one home library and one address, but many names."""
    given, family, streets = _names()
    home, street, deleted = libraries.home(rng), f"1 {rng.choice(streets)}", 0 if listed else DELETED_IN_FAMILY
    return [
        SamplePatron(
            id=id,
            group=group,
            home=home,
            lead=index == 0,
            child=index > 0,
            deleted=index > 0 and rng.random() < deleted,
            given_name=rng.choice(given),
            family_name=rng.choice(family),
            address=ids[0],
            street=street if index == 0 else None,
        )
        for index, id in enumerate(ids)
    ]


@cache
def _names() -> tuple[list[str], list[str], list[str]]:
    """Return given names, family names, and streets."""
    names = json.loads(resources.files(__package__).joinpath("names.json").read_text(encoding="utf-8"))
    streets = [f"{name} {kind}" for name in ("Mill", "Lake", "School", "Pine", "Church", "North", "Park", "Bridge")
               for kind in ("Street", "Road", "Lane", "Avenue")]  # fmt: skip
    return names["given"], names["family"], streets


PATRONS = 10_000
"""Maximum patrons per batch."""
LISTED = 0.02125
"""Default number of groups that owe 25.00 or more, per patron; measured on a real database with 200,300 patrons."""
MOST_LISTED = 1 / 25
GIANT_EVERY = 10
"""One in this many batches has a giant group, starting with the second batch."""
LISTED_FOR_A_GIANT = 2_125
# Each batch reserves more ids than it needs, so ids have gaps between batches.
_PATRON_NUMBERS = 4 * PATRONS
_OTHER_NUMBERS = 8 * PATRONS
# Batches differ in how many listed groups they get: some libraries collect more fines than others.
_WEIGHTS = (1, 2, 2, 3)
# Sizes of listed giant groups don't depend on the population's size, so results stay comparable between sizes.
_LISTED_GIANTS = (400, 150, 1_500, 80, 700)
_OTHER_GIANTS = (60, 100, 250, 600, 1_000, 2_000)


@dataclass(frozen=True, slots=True)
class FirstNumbers:
    """The first free ids; patrons, cards and groups share one sequence, and so do penalties and messages."""

    patron: int
    transaction: int
    penalty: int


@dataclass(frozen=True, slots=True)
class PopulationBatch:
    """One step in generating a population.

    Of its ``patrons``, ``listed`` groups owe 25.00 or more. ``first`` are the first ids it may use, ``widest_gap``
    limits the gaps between runs of patron ids, and ``giant`` is the size of its giant group (0: none).
    ``giant_listed`` counts the giant group among the listed ones.
    """

    seed: str
    patrons: int
    listed: int
    first: FirstNumbers
    widest_gap: int
    giant: int
    giant_listed: bool


def batch_count(patrons: int) -> int:
    """Return the number of batches for a population."""
    return -(-patrons // PATRONS)


def batches(patrons: int, listed: int, first: FirstNumbers) -> Iterator[PopulationBatch]:
    """Yield the batches of a population of ``patrons`` with ``listed`` groups that owe 25.00 or more.

    Raises:
        ValueError: more than one listed group for 25 patrons.
    """
    if not 0 <= listed <= patrons * MOST_LISTED:
        raise ValueError("too many listed groups for so few patrons")
    count = batch_count(patrons)
    rng = random.Random(f"{patrons} {listed}")  # noqa: S311 - must be reproducible
    sizes = _shares([1] * count, patrons)
    weights = [size * rng.choice(_WEIGHTS) for size in sizes]
    if listed > patrons * LISTED:  # spread evenly: no batch has room for more than its share
        weights = sizes
    giants = [number % GIANT_EVERY == 1 for number in range(count)]
    listed_giants = min(sum(giants), max(1, round(listed / LISTED_FOR_A_GIANT))) if listed else 0
    giants_listed = _shares([int(giant) for giant in giants], listed_giants)
    listed_sizes = cycle(_LISTED_GIANTS)
    for number, (size, share) in enumerate(zip(sizes, _shares(weights, listed), strict=True)):
        giant = rng.choice(_OTHER_GIANTS) if giants[number] else 0
        if giants_listed[number]:
            giant = next(listed_sizes)
        yield PopulationBatch(
            seed=f"{patrons} {listed} {number}",
            patrons=size,
            listed=share,
            first=FirstNumbers(
                first.patron + number * _PATRON_NUMBERS,
                first.transaction + number * _OTHER_NUMBERS,
                first.penalty + number * _OTHER_NUMBERS,
            ),
            widest_gap=rng.choice((0, 20, 500, 3_000)),
            giant=giant,
            giant_listed=bool(giants_listed[number]),
        )


def _shares(weights: list[int], whole: int) -> list[int]:
    """Split a whole number by weights, without losing anything to rounding."""
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
_SAME_OF_ADDRESSES = {"country": "'USA'", "address_type": "'HOME'", "valid": 1, "within_city_limits": 1, "pending": 0}
_SUMMARY = (
    "balance_owed, id, last_billing_ts, last_billing_type, last_payment_ts, last_payment_type, total_owed, total_paid, "
    "usr, xact_finish, xact_start, xact_type"
)
_CIRCULATION = "id, usr, circ_lib, xact_start, xact_finish, due_date, checkin_time, stop_fines, target_copy"
_SAME_OF_CALL_NUMBERS = {"record": -1, "label": "''", "label_class": 1, "creator": 1, "editor": 1, "deleted": 0}
_SAME_OF_ITEMS = {
    **{"location": 1, "status": 1, "fine_level": 2, "loan_duration": 2, "creator": 1, "editor": 1, "deleted": 0}
}
_SAME_OF_CIRCULATIONS = {"fine_interval": "'1 day'", "duration": "'14 days'", "circ_staff": 1}


class Population:
    """``patrons`` generated people, with ``listed`` groups of two or more who owe 25.00 or more in total.

    Write the dataset's own people before the first batch: batches use the ids that come after them.
    """

    def __init__(self, patrons: int, listed: int) -> None:
        self._patrons = patrons
        self._listed = listed

    def __len__(self) -> int:
        """Return the number of batches."""
        return batch_count(self._patrons)

    def write(self, connection: sqlite3.Connection, number: int) -> None:
        """Write one batch: patrons, cards, addresses, open and paid transactions, and penalties."""
        dataset = _Dataset(connection, self._patrons, self._listed)
        batch = dataset.batches[number]
        rng = random.Random(batch.seed)  # noqa: S311 - must be reproducible
        debts = DebtRows(batch.first, dataset.staff_blocks)
        people: list[SamplePatron] = []
        for household in households(rng, batch, dataset.libraries(rng)):
            people += household.members
            debts.add(rng, household)
        people.sort()
        _insert(connection, "au", _PATRON, (dataset.patron_row(person) for person in people), _SAME_OF_ALL)
        _insert(connection, "ac", "id, usr, barcode", ((x.id, x.id, _barcode(x)) for x in people), {"active": 1})
        addresses = (
            (person.id, person.id, person.street, "Lakeland", "MN", f"55{person.home % 1_000:03d}")
            for person in people
            if person.street
        )
        _insert(connection, "aua", _ADDRESS, addresses, _SAME_OF_ADDRESSES)
        _insert(connection, "mbts", _SUMMARY, debts.summaries)
        billing = "id, xact, amount, billing_type, btype, billing_ts, create_date"
        _insert(connection, "mb", billing, debts.billings, {"voided": 0})
        _insert(connection, "mg", "id, billing_location, usr, xact_finish, xact_start", debts.groceries)
        _insert(connection, "circ", _CIRCULATION, debts.circulations, _SAME_OF_CIRCULATIONS)
        # Each item that is out has a call number of its own, of the library that lent it, and no title.
        rows: list[tuple[Any, ...]] = debts.circulations
        out = [(id, library) for id, _usr, library, *_, returned, _stopped, _copy in rows if not returned]
        _insert(connection, "acn", "id, owning_lib", out, _SAME_OF_CALL_NUMBERS)
        items = ((id, str(id), id, library, 500 + id % 37 * 100 if id % 5 else None) for id, library in out)
        _insert(connection, "acp", "id, barcode, call_number, circ_lib, price", items, _SAME_OF_ITEMS)
        penalty = "id, set_date, usr, staff, standing_penalty, org_unit, stop_date"
        _insert(connection, "ausp", penalty, debts.penalties)

    def write_passwords(self, connection: sqlite3.Connection) -> None:
        """Give all generated people the default password of the dataset."""
        above = _first_numbers(connection).patron - 1
        connection.execute("INSERT INTO default_passwords SELECT ?, password FROM default_passwords LIMIT 1", [above])


class _Dataset:
    """What a population needs from the dataset: home libraries, profiles, and free ids."""

    def __init__(self, connection: sqlite3.Connection, patrons: int, listed: int) -> None:
        self.batches = tuple(batches(patrons, listed, _first_numbers(connection)))
        self.staff_blocks = bool(connection.execute("SELECT 1 FROM csp WHERE id = 25").fetchone())
        self._systems = _homes_by_system(connection)
        profiles = connection.execute(
            "SELECT id, name FROM pgt WHERE application_perm LIKE 'group_application.user.patron%' ORDER BY id"
        ).fetchall()
        first = profiles[0][0] if profiles else 1
        self._adults = next((profile for profile, name in profiles if name in ("Adult", "Patrons")), first)
        # Without a profile for children, they have that of adults.
        self._children = next((id for id, name in profiles if name in ("Child", "Juvenile")), self._adults)

    def libraries(self, rng: random.Random) -> Libraries:
        """Pick a batch's system, weighted by its number of libraries."""
        homes = [home for system in self._systems for home in system]
        own = rng.choices(self._systems, [len(system) for system in self._systems])[0]
        return Libraries(_weighted(own), _weighted(homes))

    def patron_row(self, person: SamplePatron) -> tuple[object, ...]:
        """Return the values of the :data:`_PATRON` columns."""
        year, month, day = 2019 + person.id % 7, 1 + person.id % 12, 1 + person.id % 28
        date = f"{month:02d}-{day:02d}"
        created = f"{year}-{date}T09:00:00+0000"
        return (
            *(person.id, _barcode(person), person.given_name, person.family_name, person.home, person.group, person.id),
            self._children if person.child else self._adults,
            *(person.lead, person.child, person.deleted, created),
            f"{2013 if person.expired else year + 10}-{date}T00:00:00+0000",
            created,
            f"{2012 + person.id % 11}-{date}" if person.child else None,
            *(not person.deleted, person.address, person.address, person.phone, person.email),
        )


def _first_numbers(connection: sqlite3.Connection) -> FirstNumbers:
    """Return the first free ids, recorded in the database on the first call, before batches use any of them."""
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
    """Return the org units that may be home libraries, grouped by system (their ancestor just below the root)."""
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
    """Return org units with cumulative weights: the first libraries are large, the last ones small."""
    return tuple(homes), tuple(accumulate(1 / (1 + index / 3) for index in range(len(homes))))


def _barcode(person: SamplePatron) -> str:
    return f"2{person.id:013d}"


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: str,
    rows: Iterable[tuple[object, ...]],
    same: dict[str, Any] | None = None,
) -> None:
    """Insert rows; ``same`` holds further columns with one SQL expression for all rows."""
    marks = ", ".join("?" * (columns.count(",") + 1))
    names = ", ".join([columns, *(same or {})])
    values = ", ".join([marks, *map(str, (same or {}).values())])
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)
