"""What the people of a population owe and have out, and which penalties stand in their records.

A quarter of those who are alone owe something, most of them little, a few a lot; of the households a portion's share
owes 25.00 and more together, others less. Two fines of three are of items, overdue ones and lost ones; an eighth of
the people have items out. Nearly everybody over 5.00 is blocked, and a few are who aren't.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.sandbox.data.households import Household, InventedPatron
    from evergreen_groups.sandbox.data.portions import FirstNumbers


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
