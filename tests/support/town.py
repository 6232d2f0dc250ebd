"""A sandbox's town whose families change from night to night, and the report expected of each night.

The expectation follows from the actions, not from what the report or its comparison sees: this module knows who moved
where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from evergreen_groups.sandbox import Sandbox

LISTED_FROM = Decimal("10.00")
_STARTED = "2026-10-01T10:00:00+0000"
_HOME = 11


@dataclass
class Expected:
    """The expected changes of a night: former fines by number (None: new), and those of cleared groups."""

    before: dict[int, Decimal | None] = field(default_factory=dict)
    cleared: dict[int, Decimal] = field(default_factory=dict)


class Town:
    """Families who run up fines, pay, move in together, separate, and take in others; ``chance`` decides."""

    def __init__(self, sandbox: Sandbox, chance: Random) -> None:
        self._store = sandbox._store
        self._chance = chance
        self.listed: dict[int, Decimal] = {}
        """The former fines of each group listed in the last recorded run."""
        self.current_numbers: dict[int, int | None] = {}
        """The current numbers of those groups, None if the members have separated."""

    @property
    def groups(self) -> dict[int, list[int]]:
        """Return the members of each group, by id."""
        found: dict[int, list[int]] = {}
        rows = self._store.read().execute("SELECT usrgroup, id FROM au WHERE NOT deleted AND id > 1000 ORDER BY id")
        for group, patron in rows:  # staff have lower ids
            found.setdefault(group, []).append(patron)
        return found

    @property
    def fines(self) -> dict[int, Decimal]:
        """Return what each group owes."""
        owed: dict[int, Decimal] = {}
        for transaction in self._store.rows("mbts", {"xact_finish": None}):
            owed[transaction["usr"]] = owed.get(transaction["usr"], Decimal(0)) + Decimal(transaction["balance_owed"])
        return {
            group: sum((owed.get(patron, Decimal(0)) for patron in members), Decimal("0.00"))
            for group, members in self.groups.items()
        }

    def expected(self) -> Expected:
        """Return what a run should report now."""
        listed = self._listed_now()
        found = Expected(before=dict.fromkeys(listed))
        for group, fines in self.listed.items():
            current = self.current_numbers[group]
            if current in listed:
                found.before[current] = (found.before[current] or Decimal(0)) + fines
            else:
                found.cleared[group] = fines
        return found

    def recorded(self) -> None:
        """Take note that a run has been recorded."""
        self.listed = self._listed_now()
        self.current_numbers = {group: group for group in self.listed}

    def _listed_now(self) -> dict[int, Decimal]:
        groups, fines = self.groups, self.fines
        return {group: fines[group] for group in groups if fines[group] >= LISTED_FROM and len(groups[group]) > 1}

    def a_day_of_fines(self) -> None:
        """Bill some families; some pay a part, and two families pay everything."""
        groups, fines = self.groups, self.fines
        patrons = [patron for members in groups.values() for patron in members]
        for patron in self._chance.sample(patrons, 25):
            self._bill(patron, Decimal(self._chance.randint(-400, 1500)) / 100)
        for group in self._chance.sample(sorted(group for group in fines if fines[group] > 5), 2):
            for patron in groups[group]:
                self._pay_everything(patron)

    def a_day_of_moves(self) -> None:
        """Make one move of each kind, each with families that no other move changes that day."""
        groups = self.groups
        families = sorted(group for group in groups if len(groups[group]) > 1)
        self._chance.shuffle(families)
        families.sort(key=lambda group: group not in self.listed)  # preferably those that the report lists
        large = [group for group in families if len(groups[group]) > 3]
        quiet = [group for group in families if group not in self.listed]
        alone = self._chance.choice(sorted(group for group in groups if len(groups[group]) == 1))
        splitting, losing = large[:2]
        stranger = next(group for group in quiet if group not in large[:2])
        renumbered, taken_over, merged, into, parting, taking_in = [
            group for group in families if group not in (splitting, losing, stranger)
        ][:6]
        self._move_all(renumbered, self._new_number())
        self._move_all(taken_over, self._new_number())
        self._move_all(stranger, taken_over)
        self._move_all(merged, into)
        self._move(groups[alone], taking_in)
        self._move(groups[losing][:1], self._new_number())
        self._move(groups[splitting][: len(groups[splitting]) // 2], self._new_number())
        for patron in groups[parting]:
            self._move([patron], self._new_number())
        if parting in self.current_numbers:
            self.current_numbers[parting] = None

    def _move_all(self, group: int, number: int) -> None:
        self._move(self.groups[group], number)
        self.current_numbers.update({old: number for old, now in self.current_numbers.items() if now == group})

    def _move(self, patrons: list[int], number: int) -> None:
        with self._store.transaction():
            for patron in patrons:
                self._store.update("au", patron, {"usrgroup": number})

    def _new_number(self) -> int:
        return self._store.next_value("actor.usr_usrgroup_seq")

    def _bill(self, patron: int, amount: Decimal) -> None:
        values = {"usr": patron, "billing_location": _HOME, "xact_start": _STARTED}
        with self._store.transaction():
            transaction = self._store.insert("mg", values)
            sums = {"total_owed": str(amount), "total_paid": "0.00", "balance_owed": str(amount)}
            summary = {"id": transaction, "usr": patron, "xact_type": "grocery", "xact_start": _STARTED, **sums}
            self._store.insert("mbts", summary)

    def _pay_everything(self, patron: int) -> None:
        with self._store.transaction():
            for transaction in self._store.rows("mbts", {"usr": patron, "xact_finish": None}):
                paid = {"balance_owed": "0.00", "total_paid": transaction["total_owed"], "xact_finish": _STARTED}
                self._store.update("mbts", transaction["id"], paid)
