"""Random months of families, nights, contacts and payments, and what the results must say of them.

This reckons from what happened, night by night and payment by payment. The product knows only what its nightly runs
recorded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from random import Random

from support.follow_ups import GATEWAY
from support.report_samples import member, report_of

from evergreen_groups.follow_up import (
    Entry,
    How,
    Length,
    PaymentsRead,
    PeriodResults,
    Results,
    Stays,
    What,
    reckon,
    record_payments,
    record_stays,
)
from evergreen_groups.groups import Group
from evergreen_groups.ils import Booking
from evergreen_groups.report import Run
from evergreen_groups.report.history import compare
from evergreen_groups.state import State

START = datetime(2026, 2, 1, 3, tzinfo=UTC)
LEAST, DAYS = 5, (30, 60, 90)


@dataclass
class Payment:
    person: int
    at: datetime
    amount: Decimal
    voided_at: datetime | None = None


@dataclass
class World:
    """What happened: for each night with a run, the members of each listed family. Persons of ``unseen`` are hidden."""

    nights: dict[int, dict[int, list[int]]]
    contacts: list[tuple[int, datetime]]
    payments: list[Payment]
    unseen: frozenset[int]
    libraries: dict[int, str]
    end: datetime
    no_answer: frozenset[int] = field(default=frozenset())
    """The nights on which payments couldn't be read."""

    @cached_property
    def spells(self) -> list[Spell]:
        return spells(self)


def world(random: Random) -> World:
    """Return random months with missing nights, families that come, go and return, and members who move."""
    families = random.choice((random.randint(1, 6), random.randint(20, 40), random.randint(20, 40)))
    people = {
        number: [number * 10 + place for place in range(random.randint(1, 4))] for number in range(1, families + 1)
    }
    length, often = random.randint(40, 150), random.choice((0.6, 0.15))
    on_list = {number: random.random() < 0.7 for number in people}
    nights: dict[int, dict[int, list[int]]] = {}
    for night in range(length):
        for number in people:
            if random.random() < 0.01:
                on_list[number] = not on_list[number]
        if random.random() < 0.01 and families > 1:  # a member moves, but never the last or the first one
            giver, taker = random.sample(sorted(people), 2)
            if len(people[giver]) > 1:
                people[taker].append(people[giver].pop())
        if night == length - 1 or random.random() < often:
            nights[night] = {number: list(ids) for number, ids in people.items() if on_list[number]}
    contacts, until = [], random.choice((30, length - 1))
    for _ in range(random.choice((0, families // 2, families // 2, 3 * families))):
        number, at = random.randint(1, families), START + timedelta(random.uniform(0, until))
        if number in listed_at(nights, at):
            contacts.append((number, at))
    payments = []
    for _ in range(random.randint(2 * families, 8 * families)):
        at = START + timedelta(random.uniform(-20, length - 2))
        voided = at + timedelta(random.uniform(0, 5)) if random.random() < 0.1 else None
        amount = Decimal(random.randint(1, 9000)) / 100
        payer = random.choice(people[random.randint(1, families)])
        payments.append(Payment(payer, at, amount, voided))
    hidden = frozenset(id for ids in people.values() for id in ids[1:] if random.random() < 0.03)
    libraries = {number: random.choice(("BR1", "BR2")) for number in people}
    lost = frozenset(night for night in nights if random.random() < 0.05)
    return World(nights, contacts, payments, hidden, libraries, START + timedelta(length), lost)


def listed_at(nights: dict[int, dict[int, list[int]]], at: datetime) -> dict[int, list[int]]:
    """Return the families that the last run before a time listed."""
    before = [night for night in nights if START + timedelta(night) <= at]
    return nights[max(before)] if before else {}


def of_product(state: State, happened: World) -> Results:
    """Record the nights as the program does, and return its results."""
    last = None
    for night, listed in sorted(happened.nights.items()):
        at = START + timedelta(night)
        groups = []
        for number, ids in listed.items():
            seen = [id for id in ids if id not in happened.unseen]
            members = tuple(member(id, "", "30.00", library=happened.libraries[number]) for id in seen)
            groups.append(Group(number, members, len(ids) - len(seen)))
        report = replace(report_of(groups), generated_at=at)
        run = Run.of(report)
        report = replace(report, changes=compare(last, run))
        last = run
        read = None if night in happened.no_answer else _read(state, happened, at)
        with state.database.writing() as connection:
            record_stays(connection, GATEWAY, report, run, read)
            if read is not None:
                record_payments(connection, GATEWAY, read)
    stays = Stays(state.database, GATEWAY)
    entries = [_entry(happened, place, number, at) for place, (number, at) in enumerate(happened.contacts, 1)]
    return reckon("", stays.of_report(""), entries, stays.payments(), lambda _: UTC, happened.end)


def _read(state: State, happened: World, at: datetime) -> PaymentsRead:
    persons, since = Stays(state.database, GATEWAY).watched(at), at - timedelta(100)
    paid = defaultdict[int, list[Booking]](list)
    for one in happened.payments:
        is_valid = one.voided_at is None or one.voided_at > at
        if one.person in persons and since <= one.at <= at and is_valid:
            paid[one.person].append(Booking(one.at, one.amount))
    return PaymentsRead(since, at, persons, paid)


def _entry(happened: World, place: int, number: int, at: datetime) -> Entry:
    ids = tuple(id for id in listed_at(happened.nights, at)[number] if id not in happened.unseen)
    fields = {"what": What.CONTACTED, "how": How.PHONE, "day": at.date(), "remind_on": None, "note": ""}
    owed = Decimal("30.00")
    return Entry(f"{place}-abcdef", place, at, at.date(), number, ids[0], **fields, group_fines=owed, persons=ids)  # type: ignore[arg-type]


# --- The reckoning ---


@dataclass
class Spell:
    """The nights of a family on the list without interruption. ``persons`` have the time since when they are in it."""

    number: int
    first: datetime
    last: datetime
    gone: datetime | None
    persons: dict[int, datetime]
    is_whole: bool


def spells(happened: World) -> list[Spell]:
    found: list[Spell] = []
    current: dict[int, Spell] = {}
    for night, listed in sorted(happened.nights.items()):
        at = START + timedelta(night)
        for number in [one for one in current if one not in listed]:
            current.pop(number).gone = at
        for number, ids in listed.items():
            if number not in current:
                current[number] = Spell(number, at, at, None, {}, True)
                found.append(current[number])
            spell = current[number]
            spell.last = at
            for id in set(ids) - happened.unseen:
                spell.persons.setdefault(id, at)
            spell.is_whole = spell.is_whole and happened.unseen.isdisjoint(ids)
    return found


def differences(happened: World, results: Results) -> Iterator[str]:
    """Yield where the results don't say what happened."""
    every = happened.spells
    for length in Length:
        for library, periods in results.of(length).items():
            mine = [one for one in every if library in ("", happened.libraries[one.number])]
            for period in periods:
                yield from _period_differences(happened, mine, period)


def _contacts(happened: World, spell: Spell) -> list[datetime]:
    times = (at for number, at in happened.contacts if number == spell.number)
    return sorted(at for at in times if spell.first <= at and (spell.gone is None or at < spell.gone))


def _period_differences(happened: World, mine: list[Spell], period: PeriodResults) -> Iterator[str]:
    start = datetime.combine(period.start, datetime.min.time(), UTC)
    end = datetime.combine(period.end, datetime.min.time(), UTC)
    told = {
        id: [at for one in mine if id in one.persons for at in _contacts(happened, one)]
        for one in mine
        for id in one.persons
    }
    contacted, others = [], []
    for spell in mine:
        if in_period := [at for at in _contacts(happened, spell) if start <= at < end]:
            contacted.append((spell, in_period[0]))
        zero = max(spell.first, start)
        near = [at for id in spell.persons for at in told[id] if abs(at - zero) <= timedelta(90)]
        if spell.first < end and spell.last >= start and not near:
            others.append((spell, zero))
    where = f"{period.library or 'all'} from {period.start}"
    if (period.contacted, period.others) != (len(contacted), len(others)):
        yield f"{where}: {(period.contacted, period.others)} families instead of {(len(contacted), len(others))}"
    left = sum(one.gone is not None and start <= one.gone < end for one in mine)
    if sum(period.left.values()) != left:
        yield f"{where}: {sum(period.left.values())} left instead of {left}"
    for paid, days in zip(period.paid, DAYS, strict=True):
        is_over = period.end + timedelta(days) <= happened.end.date()
        expected = [paid_by(happened, some, days) if is_over else None for some in (contacted, others)]
        if min(len(contacted), len(others)) < LEAST:
            expected[1] = None
        for said, right in zip((paid.contacted, paid.others), expected, strict=True):
            if (said is None) != (right is None) or (said and right and tuple(said) != right):
                yield f"{where}: paid within {days} days {said} instead of {right}"


def paid_by(happened: World, families: list[tuple[Spell, datetime]], days: int) -> tuple[Decimal, bool]:
    """Return what families paid, and whether everything is known, given the nights on which payments were read."""
    total, window = Decimal("0.00"), timedelta(days)
    for one in happened.payments:
        windows = [at for spell, at in families if one.person in spell.persons and at <= one.at < at + window]
        if windows and is_known(happened, one):
            total += one.amount
    return total, all(spell.is_whole and last_read(happened, spell) >= at + window for spell, at in families)


def reads(happened: World, spell: Spell) -> list[datetime]:
    """Return when the payments of a family were read: on nights after its first, for 100 days after its last."""
    nights = (START + timedelta(night) for night in sorted(happened.nights) if night not in happened.no_answer)
    return [at for at in nights if spell.first < at <= spell.last + timedelta(100)]


def last_read(happened: World, spell: Spell) -> datetime:
    return max(reads(happened, spell), default=datetime.min.replace(tzinfo=UTC))


def is_known(happened: World, payment: Payment) -> bool:
    """Return whether the last reading that could see a payment, for any family of the person, saw it."""
    mine = [spell for spell in happened.spells if payment.person in spell.persons]
    nights = {at for spell in mine for at in reads(happened, spell) if at > spell.persons[payment.person]}
    seeing = [at for at in nights if payment.at <= at <= payment.at + timedelta(100)]
    return bool(seeing) and (payment.voided_at is None or payment.voided_at > max(seeing))
