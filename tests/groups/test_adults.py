"""Who counts as an adult."""

from __future__ import annotations

from datetime import date

import pytest

from evergreen_groups.groups import AdultRule, PatronAccount
from evergreen_groups.odd_dates import age_of


def account(born: date | None, *, juvenile: bool) -> PatronAccount:
    return PatronAccount(True, False, juvenile, False, None, born)


@pytest.mark.parametrize(
    ("born", "juvenile", "is_adult"),
    [
        (None, False, True),
        (None, True, False),
        (date(2008, 11, 26), True, True),  # the mark isn't taken off by itself
        (date(2008, 11, 27), False, False),
        (date(1970, 1, 1), False, True),
    ],
)
def test_a_birth_date_decides_and_without_one_the_mark(born: date | None, juvenile: bool, is_adult: bool) -> None:
    assert AdultRule(18, 1).is_adult(account(born, juvenile=juvenile), date(2026, 11, 26)) is is_adult


def test_who_was_born_on_a_leap_day_is_older_on_the_first_of_march() -> None:
    born = date(2008, 2, 29)
    assert [age_of(born, day) for day in (date(2026, 2, 28), date(2026, 3, 1))] == [17, 18]


def test_any_number_will_do_unless_somebody_has_said_otherwise() -> None:
    assert not AdultRule().applies
    assert AdultRule(most=1).applies
