"""A large population, the same for the same size, written portion by portion.

Six patrons of ten are alone in their group, the others live in families of 2 to 8; a few groups are giants. Where
there are many, each portion's people live mostly at the libraries of one system.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from itertools import accumulate
from typing import Any

from evergreen_groups.sandbox.data.debts import DebtRows
from evergreen_groups.sandbox.data.households import InventedPatron, Libraries, households
from evergreen_groups.sandbox.data.portions import FirstNumbers, portion_count, portions

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
