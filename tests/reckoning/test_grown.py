"""Juveniles who came of age in random consortia, with calendars, hidden members and obscured birth dates."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reckoning.auditing import came_of_age, grown
from reckoning.library import Content, Library
from reckoning.populations import population
from reckoning.product import REFUSALS, Product, audit_criteria, over_random_consortia

from evergreen_groups.audit import FindingKind
from evergreen_groups.render.audit import explanation


def check(product: Product, content: Content) -> int:
    """Compare the findings about one population; return how many there are."""
    content = grown(content)
    client, library = product.client(content), Library(content)
    try:
        audited = client.audit(audit_criteria(client, content))
    except REFUSALS:
        return 0
    chosen = library.named(library.question["audit"]["orgs"]) or set(library.orgs)
    homes = chosen & library.visible_orgs
    expected = [
        (one["member"]["id"], one["group"], one["reason"])
        for patron in sorted(library.patrons.values(), key=lambda one: (-Decimal(library.owes(one["id"])), one["id"]))
        if patron["home_ou"] in homes
        for one in came_of_age(library, patron)
    ]
    said = audited.of_kind(FindingKind.CAME_OF_AGE)
    assert [(one.member.id, one.member.patron.group, explanation(one)) for one in said] == expected
    return len(expected)


def test_some_are_found(asked: Product) -> None:
    assert sum(check(asked, population(Random(seed))) for seed in range(30)) > 10


@pytest.mark.long
@over_random_consortia(200)
@given(seed=st.integers(1, 2**32))
def test_exactly_those_are_found(seed: int, asked: Product) -> None:
    check(asked, population(Random(seed)))
