"""Values as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from support.report_samples import hostile_texts

from evergreen_groups.render import printable
from evergreen_groups.render.wording import describe_criteria, report_title
from evergreen_groups.report import Choice, Criteria
from evergreen_groups.values import ZERO, plain_amount, plain_amount_or_none


@pytest.mark.parametrize(
    ("value", "programs"), [("1234567.5", "1234567.50"), ("-3.25", "-3.25"), ("-0.00", "0.00"), ("0", "0.00")]
)
def test_amounts(value: str, programs: str) -> None:
    assert plain_amount(Decimal(value)) == plain_amount_or_none(Decimal(value)) == programs
    assert plain_amount_or_none(None) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("O'Malley, Síle", "O'Malley, Síle"),
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("\x1b[31m\x9b2J\x00\x7f", "\ufffd[31m\ufffd2J\ufffd\ufffd"),
        ("\u202egnp.exe\u2066", "gnp.exe"),
        ("\u200fa\u200e(1)\u061c", "a(1)"),
        ("half \ud83d", "half \ufffd"),
        ("שלום 田中 e\u0301", "שלום 田中 e\u0301"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(hostile_texts)
def test_printable_once_is_enough(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    printable(text).encode("utf-8")


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        (Criteria(), "Groups of 2 or more members who together owe $25.00 or more; highest Group Fines first"),
        (
            Criteria(orgs=("BR1",), sort="name"),
            "Groups of 2 or more members who together owe $25.00 or more, with a member at BR1 or below; by name",
        ),
        (
            Criteria(min_total=Decimal("1000.00"), orgs=("A", "B", "C"), top=1500, sort="members"),
            "Groups of 2 or more members who together owe $1,000.00 or more, with a member at "
            "A, B or C or below; at most 1,500; most members first",
        ),
        (
            Criteria(choice=Choice(60, ("lost materials", "damage"), True, True, False, True, ("Child",)), sort="age"),
            "Groups of 2 or more members who together owe $25.00 or more, owing for 60 days or more, owing for lost "
            "materials or damage, with items overdue, with a juvenile member, with a member of profile Child or "
            "below, with no member over the limit, with a member blocked in Evergreen; longest owing first",
        ),
        (
            Criteria(min_total=ZERO, min_overdue=3, overdue_days=14),
            "Groups of 2 or more members who together have 3 or more items overdue for 14 days or more; most items "
            "overdue first",
        ),
        (
            Criteria(min_total=ZERO, min_lost=1),
            "Groups of 2 or more members who together have 1 or more items lost; most items lost first",
        ),
        (
            Criteria(min_overdue=3, min_lost=1, choice=Choice(60, with_juvenile=True)),
            "Groups of 2 or more members who together owe $25.00 or more, owing for 60 days or more, have 3 or more "
            "items overdue or have 1 or more items lost, with a juvenile member; highest Group Fines first",
        ),
    ],
)
def test_criteria_in_a_sentence(criteria: Criteria, words: str) -> None:
    assert describe_criteria(criteria) == words


@pytest.mark.parametrize(
    ("criteria", "title"),
    [
        (Criteria(), "Groups with high combined fines"),
        (Criteria(min_total=ZERO, min_overdue=3), "Groups with 3 or more items overdue"),
        (Criteria(min_total=ZERO, min_lost=1, orgs=("BR1",)), "Groups with 1 or more items lost: BR1"),
        (Criteria(min_total=ZERO, min_overdue=1, min_lost=1), "Groups with items overdue or lost"),
        (Criteria(min_overdue=1), "Groups with high combined fines, or items overdue or lost"),
    ],
)
def test_the_title_says_what_lists_groups(criteria: Criteria, title: str) -> None:
    assert report_title(criteria) == title
