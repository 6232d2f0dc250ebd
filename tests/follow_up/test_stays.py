"""How long families stay on a report's list, and why they leave. On each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from support.follow_ups import GATEWAY
from support.report_samples import member, report_of

from evergreen_groups.follow_up import Left, PaymentsRead, Stay, Stays, record_payments, record_stays
from evergreen_groups.groups import Group
from evergreen_groups.ils import Booking
from evergreen_groups.report import Changes, Report, Run
from evergreen_groups.report.history import compare
from evergreen_groups.report.models import GroupNow
from evergreen_groups.state import State, forget, prune, schema

FIRST = datetime(2026, 8, 1, 3, tzinfo=UTC)
A, B, C, D, E = 71, 72, 73, 74, 75
NONE: Mapping[int, Sequence[Booking]] = {}


class Nights:
    """Runs of a report that list groups with these members, and what is known of payments."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.last: Run | None = None

    def run(
        self,
        night: int,
        groups: Mapping[int, Sequence[int]],
        *,
        hidden: Sequence[str] = (),
        now: Mapping[int, GroupNow] | None = None,
        read: PaymentsRead | None = None,
        incomplete: bool = False,
    ) -> None:
        """Record a night. ``now`` is what the groups that left owe, by their former number."""
        found = [
            Group(number, tuple(member(id, "Secret, Name", "30.00") for id in ids), int(incomplete))
            for number, ids in groups.items()
        ]
        report = replace(report_of(found), generated_at=at(night), hidden_libraries=frozenset(hidden))
        run = Run.of(report)
        changes = compare(self.last, run)
        present = [replace(one, present=(now or {}).get(one.group)) for one in changes.cleared]
        self._record(replace(report, changes=replace(changes, cleared=tuple(present))), run, read)
        self.last = run

    def _record(self, report: Report, run: Run, read: PaymentsRead | None) -> None:
        assert isinstance(report.changes, Changes)
        with self.state.database.writing() as connection:
            record_stays(connection, GATEWAY, report, run, read)
            if read is not None:
                record_payments(connection, GATEWAY, read)

    @property
    def stays(self) -> list[Stay]:
        return Stays(self.state.database, GATEWAY).of_report("")

    @property
    def payments(self) -> dict[int, list[Booking]]:
        return Stays(self.state.database, GATEWAY).payments()


def at(night: int) -> datetime:
    return FIRST + timedelta(night)


def owes(amount: str | None, number: int = 7, members: int = 2, **more: bool) -> GroupNow:
    return GroupNow(number, "", members, None if amount is None else Decimal(amount), frozenset({"BR1"}), **more)


def reading(night: int, paid: Mapping[int, Sequence[Booking]] = NONE, patrons: Sequence[int] = (A, B)) -> PaymentsRead:
    return PaymentsRead(at(night) - timedelta(100), at(night), frozenset(patrons), paid)


@pytest.fixture
def nights(state: State) -> Nights:
    return Nights(state)


def test_a_stay_goes_on_over_a_missing_night_and_a_return_is_another(nights: Nights) -> None:
    nights.run(0, {7: [A, B]})
    nights.run(1, {7: [A, B]})
    nights.run(5, {7: [A, B]})
    [stay] = nights.stays
    assert (stay.first_at, stay.last_at, stay.left_at, stay.reason) == (at(0), at(5), None, None)
    assert (stay.library, stay.persons, stay.complete) == ("BR1", {A, B}, True)
    nights.run(6, {}, now={7: owes("20.00")})
    nights.run(9, {7: [A, B]})
    first, second = nights.stays
    assert (first.last_at, first.left_at, first.reason) == (at(5), at(6), Left.BELOW_MINIMUM)
    assert (second.first_at, second.left_at) == (at(9), None)
    assert [first.covers(at(night)) for night in (-1, 0, 5, 6)] == [False, True, True, False]


def test_it_follows_a_family_that_is_renumbered_and_of_merged_ones_the_one_that_keeps_its_number(
    nights: Nights,
) -> None:
    nights.run(0, {7: [A, B], 8: [C, D]})
    nights.run(1, {9: [A, B], 8: [C, D]})
    first, second = nights.stays
    assert (first.number, first.first_at, second.number) == (9, at(0), 8)
    nights.run(2, {8: [A, B, C, D]})
    first, second = nights.stays
    assert (first.reason, first.left_at, first.persons) == (Left.MOVED, at(2), {A, B})
    assert (second.left_at, second.persons) == (None, {A, B, C, D})
    # Those who leave stay persons of the stay: what they paid in that time does not change.
    nights.run(3, {8: [C, D], 10: [A, E]})
    first, second, third = nights.stays
    assert (second.persons, third.persons, third.first_at) == ({A, B, C, D}, {A, E}, at(3))


@pytest.mark.parametrize(
    ("now", "paid", "reason"),
    [
        (owes("0.00"), {A: [Booking(at(0) + timedelta(hours=5), Decimal("30.00"))]}, Left.PAID),
        (owes("-2.00"), {B: [Booking(at(0) + timedelta(hours=5), Decimal("1.00"))]}, Left.PAID),
        # Paid before the last night already, so something else ended it: bills were forgiven, or items returned.
        (owes("0.00"), {A: [Booking(at(-3), Decimal("30.00"))]}, Left.BELOW_MINIMUM),
        (owes("0.00"), {}, Left.BELOW_MINIMUM),
        (owes("24.99"), {A: [Booking(at(0) + timedelta(hours=5), Decimal("5.01"))]}, Left.BELOW_MINIMUM),
        (owes("0.00", number=8), {}, Left.MOVED),
        (owes("20.00", members=1), {}, Left.MOVED),
        (owes("90.00", is_listed=True), {}, Left.MOVED),
        (owes(None), {}, Left.UNKNOWN),
        (None, {}, Left.UNKNOWN),
    ],
)
def test_why_it_left(nights: Nights, now: GroupNow | None, paid: Mapping[int, Sequence[Booking]], reason: Left) -> None:
    nights.run(0, {7: [A, B]})
    nights.run(1, {}, now={} if now is None else {7: now}, read=reading(1, paid))
    [stay] = nights.stays
    assert stay.reason is reason


def test_without_payments_it_is_never_guessed_that_they_paid(nights: Nights) -> None:
    nights.run(0, {7: [A, B]})
    nights.run(1, {}, now={7: owes("0.00")})
    nights.run(2, {8: [C, D]})
    nights.run(3, {}, now={8: owes("0.00", number=8)}, read=reading(3, patrons=[C]))  # D's can't be seen
    assert [stay.reason for stay in nights.stays] == [Left.UNKNOWN, Left.UNKNOWN]


def test_a_family_whose_libraries_are_hidden_has_not_left(nights: Nights) -> None:
    nights.run(0, {7: [A, B]})
    nights.run(1, {}, hidden=["BR1"])
    nights.run(2, {7: [A, B]})
    [stay] = nights.stays
    assert (stay.first_at, stay.last_at, stay.left_at) == (at(0), at(2), None)


def test_hidden_members_on_any_night_leave_payments_unknown(nights: Nights) -> None:
    nights.run(0, {7: [A, B]}, incomplete=True)
    nights.run(1, {7: [A, B]}, read=reading(1))
    [stay] = nights.stays
    assert not stay.complete
    assert not stay.payments_known(at(0))


def test_payments_are_stored_once_and_a_voided_one_is_gone(nights: Nights) -> None:
    one, other = Booking(at(1), Decimal("3.00")), Booking(at(2), Decimal("4.50"))
    nights.run(1, {7: [A, B]}, read=reading(1, {A: [one]}))
    nights.run(2, {7: [A, B]}, read=reading(2, {A: [one], B: [other]}))
    assert nights.payments == {A: [one], B: [other]}
    nights.run(3, {7: [A, B]}, read=reading(3, {B: [other]}))
    assert nights.payments == {B: [other]}
    # A night without an answer changes nothing, and what happened earlier than it reads stays.
    nights.run(4, {7: [A, B]})
    nights.run(103, {7: [A, B]}, read=reading(103))
    assert nights.payments == {B: [other]}


def test_until_when_payments_are_known(nights: Nights) -> None:
    nights.run(0, {7: [A, B]}, read=reading(0))
    nights.run(1, {7: [A, B]})
    assert [stay.paid_until for stay in nights.stays] == [at(0)]
    nights.run(2, {7: [A, B]}, read=reading(2, patrons=[A]))
    assert [stay.paid_until for stay in nights.stays] == [at(0)]
    nights.run(3, {7: [A, B]}, read=reading(3))
    assert [stay.paid_until for stay in nights.stays] == [at(3)]
    # After more than 100 days without an answer, something is missing for good.
    nights.run(110, {7: [A, B]}, read=reading(110))
    assert [stay.paid_until for stay in nights.stays] == [at(3)]


def test_only_recent_families_are_watched(nights: Nights) -> None:
    nights.run(0, {7: [A, B], 8: [C]})
    nights.run(1, {8: [C]}, now={7: owes("1.00")})
    stays = Stays(nights.state.database, GATEWAY)
    assert stays.watched(at(100)) == {A, B, C}
    assert stays.watched(at(101)) == {C}


def test_a_forgotten_patron_is_in_no_stay_and_has_no_payments(nights: Nights) -> None:
    nights.run(0, {7: [A, B]}, read=reading(0))
    nights.run(1, {7: [B, C]}, read=reading(1, {A: [Booking(at(0), Decimal("3.00"))]}))
    forget(nights.state.database, A)
    forget(nights.state.database, C)
    [stay] = nights.stays
    assert (stay.persons, nights.payments) == ({B}, {})


def test_both_are_deleted_with_the_history(nights: Nights) -> None:
    nights.run(0, {7: [A, B]}, read=reading(0, {A: [Booking(at(0), Decimal("3.00"))]}))
    days = {"history": 30, "journal": 9000, "events": 9000, "follow-ups": 9000}
    for week in range(1, 6):
        prune(nights.state.database, days, at(7 * week))
    with nights.state.database.reading() as connection:
        assert connection.execute(select(schema.stays.c.id)).all() == []
        assert connection.execute(select(schema.payments.c.id)).all() == []
