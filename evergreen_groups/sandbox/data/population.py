"""A large population, the same for the same size: families and people alone, what they owe, and their blocks.

Of the patrons 40 % are alone in their group, the others live in families of 2 to 7; a quarter owe something, most of
them little, a few a lot. Two fines of three are of items, overdue ones and lost ones; an eighth have items out.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources

ALONE = 0.4
FAMILY_SIZES = (2, 3, 4, 5, 6, 7)
FAMILY_WEIGHTS = (32, 24, 23, 12, 6, 3)
OWING = 0.25
PAID_UP = 0.05
CREDIT = 0.004
DELETED = 0.01
STALE_PENALTY = 0.0009
PENALTY_SET = 0.9
LIMIT_CENTS = 500
OF_ITEMS = 0.67
LOST, BROUGHT_BACK = 0.15, 0.55
WITH_ITEMS_OUT = 0.12

_PATRON = (
    "id, usrname, first_given_name, family_name, home_ou, usrgroup, card, profile, master_account, juvenile, deleted, "
    "create_date, expire_date, active, barred, super_user, claims_returned_count, claims_never_checked_out_count, "
    "credit_forward_balance, ident_type, net_access_level, standing, last_xact_id, last_update_time"
)
_SUMMARY = (
    "balance_owed, id, last_billing_ts, last_billing_type, last_payment_ts, last_payment_type, total_owed, total_paid, "
    "usr, xact_finish, xact_start, xact_type"
)


@dataclass(frozen=True)
class _Ids:
    """The first free numbers of each sequence."""

    patron: int
    group: int
    transaction: int
    penalty: int


@dataclass(frozen=True)
class _Patron:
    id: int
    group: int
    home: int
    lead: bool
    child: bool
    deleted: bool
    given_name: str
    family_name: str


def add(connection: sqlite3.Connection, patrons: int) -> None:
    """Add that many patrons, with cards, open and paid transactions, and penalties, to the dataset's own people."""
    chance = random.Random(patrons)  # noqa: S311 - the same people each time is what's wanted
    ids = _first_ids(connection)
    homes = [
        row[0]
        for row in connection.execute(
            "SELECT aou.id FROM aou JOIN aout ON aout.id = aou.ou_type WHERE aout.can_have_users ORDER BY aou.id"
        )
    ]
    adults, children = _profiles(connection)
    people = list(_people(chance, patrons, ids, homes))
    _insert(connection, "au", _PATRON, (_patron_row(person, adults, children) for person in people))
    _insert(connection, "ac", "id, usr, barcode, active", (_card_row(person) for person in people))
    _add_transactions(connection, chance, people, ids)
    _add_items(connection, random.Random(patrons + 1), people)  # noqa: S311 - likewise; another one, for other things
    connection.execute(
        "INSERT INTO default_passwords SELECT ?, password FROM default_passwords LIMIT 1", [ids.patron - 1]
    )


def _first_ids(connection: sqlite3.Connection) -> _Ids:
    def after(statement: str, least: int) -> int:
        highest = connection.execute(statement).fetchone()[0] or 0
        return int(max(highest + 1, least))

    return _Ids(
        patron=after("SELECT max(max(id), (SELECT max(id) FROM ac)) FROM au", 100_001),
        group=after("SELECT max(usrgroup) FROM au", 100_001),
        transaction=after("SELECT max(id) FROM mbts", 1_000_001),
        penalty=after("SELECT max(coalesce((SELECT max(id) FROM ausp), 0), coalesce((SELECT max(id) FROM aum), 0))", 1),
    )


def _profiles(connection: sqlite3.Connection) -> tuple[int, int]:
    """The profiles for adults and for children: the patrons' own, the second one a juvenile's where there is one."""
    found = connection.execute(
        "SELECT id, name FROM pgt WHERE application_perm LIKE 'group_application.user.patron%' ORDER BY id"
    ).fetchall()
    adults = next((profile for profile, name in found if name in ("Adult", "Patrons")), found[0][0] if found else 1)
    return adults, next((profile for profile, name in found if name in ("Child", "Juvenile")), adults)


def _people(chance: random.Random, patrons: int, ids: _Ids, homes: list[int]) -> Iterator[_Patron]:
    names = json.loads(resources.files(__package__).joinpath("names.json").read_text(encoding="utf-8"))
    weights = [1 / (1 + place / 3) for place in range(len(homes))]
    sizes = _group_sizes(chance, patrons)
    identity, group = ids.patron, ids.group
    for size in sizes:
        family_home = chance.choices(homes, weights)[0]
        family_name = chance.choice(names["family"])
        leads = 1 if chance.random() < 0.93 else 0
        for place in range(size):
            elsewhere = size > 1 and chance.random() < 0.03
            yield _Patron(
                id=identity,
                group=group,
                home=chance.choice(homes) if elsewhere else family_home,
                lead=place < leads,
                child=place >= 2,
                deleted=chance.random() < DELETED,
                given_name=chance.choice(names["given"]),
                family_name=family_name if chance.random() < 0.9 else chance.choice(names["family"]),
            )
            identity += 1
        group += 1


def _group_sizes(chance: random.Random, patrons: int) -> list[int]:
    alone = round(patrons * ALONE)
    sizes, left = [1] * alone, patrons - alone
    while left > 0:
        size = min(chance.choices(FAMILY_SIZES, FAMILY_WEIGHTS)[0], left)
        sizes.append(size if left - size != 1 else size + 1 if size < FAMILY_SIZES[-1] else size - 1)
        left -= sizes[-1]
    chance.shuffle(sizes)
    return sizes


def _barcode(person: _Patron) -> str:
    return f"2{person.id:013d}"


def _patron_row(person: _Patron, adults: int, children: int) -> tuple[object, ...]:
    year, month, day = 2019 + person.id % 7, 1 + person.id % 12, 1 + person.id % 28
    names = (person.id, _barcode(person), person.given_name, person.family_name, person.home, person.group, person.id)
    flags = (children if person.child else adults, person.lead, person.child, person.deleted)
    times = (f"{year}-{month:02d}-{day:02d}T09:00:00+0000", f"{year + 10}-{month:02d}-{day:02d}T00:00:00+0000")
    return (*names, *flags, *times, not person.deleted, 0, 0, 0, 0, 0, 3, 1, 1, "seed", times[0])


def _card_row(person: _Patron) -> tuple[object, ...]:
    return person.id, person.id, _barcode(person), 1


def _owed(chance: random.Random) -> int:
    """What somebody owes, in cents: mostly a few dollars, seldom hundreds, as overdue fines and lost books make it."""
    cents = int(chance.lognormvariate(6.25, 1.25))
    return max(10, min(cents, 60_000) // 5 * 5)


def _add_transactions(connection: sqlite3.Connection, chance: random.Random, people: list[_Patron], ids: _Ids) -> None:
    summaries: list[tuple[object, ...]] = []
    transactions: list[tuple[object, ...]] = []
    penalties: list[tuple[object, ...]] = []

    def bill(person: _Patron, owed: int, paid: int, *, closed: bool) -> None:
        identity = ids.transaction + len(summaries)
        start = f"2026-{1 + identity % 10:02d}-{1 + identity % 28:02d}T10:00:00+0000"
        finish = "2026-11-01T12:00:00+0000" if closed else None
        payment = ("2026-11-01T12:00:00+0000", "cash_payment") if paid else (None, None)
        transactions.append((identity, person.home, person.id, finish, start))
        summaries.append(
            (
                owed - paid,
                identity,
                start,
                "Overdue materials",
                *payment,
                owed,
                paid,
                person.id,
                finish,
                start,
                "grocery",
            )
        )

    for person in people:
        balance = 0
        draw = chance.random()
        if draw < OWING:
            balance = _owed(chance)
            part = balance // 10 * 5 if balance >= 500 and chance.random() < 0.3 else 0
            for owed in (part, balance - part) if part else (balance,):
                bill(person, owed, 0, closed=False)
        elif draw < OWING + CREDIT:
            bill(person, 100, 100 + chance.randrange(50, 1000, 50), closed=False)
        elif draw < OWING + CREDIT + PAID_UP:
            paid = _owed(chance)
            bill(person, paid, paid, closed=chance.random() < 0.7)
        over = balance > LIMIT_CENTS
        if chance.random() < (PENALTY_SET if over else STALE_PENALTY):
            penalties.append((ids.penalty + len(penalties), "2026-11-02T03:00:00+0000", person.id, 1, 1))
    _insert(connection, "mbts", _SUMMARY, summaries)
    _insert(connection, "mg", "id, billing_location, usr, xact_finish, xact_start", transactions)
    _insert(connection, "ausp", "id, set_date, usr, standing_penalty, org_unit", penalties)


_CIRCULATION = (
    "id, usr, circ_lib, xact_start, xact_finish, due_date, checkin_time, stop_fines, fine_interval, duration, "
    "target_copy, circ_staff"
)


def _add_items(connection: sqlite3.Connection, chance: random.Random, people: list[_Patron]) -> None:
    """Make two of three fines those of items, and let some patrons have items out; nobody owes more or less for it."""
    circulations: list[tuple[object, ...]] = []
    kinds: list[tuple[str, str, int]] = []
    fines = "SELECT mg.id, mg.usr, billing_location, mg.xact_start, mg.xact_finish FROM mg WHERE usr >= ? ORDER BY id"
    for id, user, place, start, finish in connection.execute(fines, [people[0].id]).fetchall():
        if chance.random() >= OF_ITEMS:
            kinds.append(("grocery", chance.choice(("Misc", "Photocopies", "Replacement Card")), id))
            continue
        lost, back = chance.random() < LOST, chance.random() < BROUGHT_BACK
        stopped = "LOST" if lost else "CHECKIN" if back else None
        returned = finish or ("2026-11-01T12:00:00+0000" if back and not lost else None)
        circulations.append((id, user, place, start, finish, start, returned, stopped, "1 day", "14 days", id, 1))
        billing_types = ("Lost Materials", "Lost Materials Processing Fee") if lost else ("Overdue materials",)
        kinds.append(("circulation", chance.choice(billing_types), id))
    connection.executemany("DELETE FROM mg WHERE id = ?", [(row[0],) for row in circulations])
    connection.executemany("UPDATE mbts SET xact_type = ?, last_billing_type = ? WHERE id = ?", kinds)
    highest = int(connection.execute("SELECT max(id) FROM mbts").fetchone()[0])
    summaries: list[tuple[object, ...]] = []
    for person in people:
        if chance.random() < WITH_ITEMS_OUT:
            for _ in range(chance.randint(1, 4)):
                highest += 1
                due = f"{chance.choice((2026, 2039))}-10-{1 + highest % 28:02d}T23:59:59+0000"
                start = f"2026-09-{1 + highest % 28:02d}T10:00:00+0000"
                times = (start, None, due, None, None)
                circulations.append((highest, person.id, person.home, *times, "1 day", "14 days", highest, 1))
                summaries.append((0, highest, None, None, None, None, 0, 0, person.id, None, start, "circulation"))
    _insert(connection, "circ", _CIRCULATION, circulations)
    _insert(connection, "mbts", _SUMMARY, summaries)


def _insert(connection: sqlite3.Connection, table: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
    marks = ", ".join("?" * (columns.count(",") + 1))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
