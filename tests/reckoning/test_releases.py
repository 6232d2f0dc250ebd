"""Whatever a consortium is like, the product's answers and changes don't depend on Evergreen's release.

The exception is in docs/releases.md: an account that may see no one at its own home library sees itself from 3.15 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reckoning.populations import population
from reckoning.product import Product, product
from reckoning.releases import ACCOUNTS, ASKER, answers, asked_by
from support.releases import LATEST, differences_of

ProductOn = Callable[[str], Product]

over_made_up_consortia = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a seed can't be shrunk
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def product_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductOn]:
    with ExitStack() as stack:
        yield cache(lambda release: stack.enter_context(product(tmp_path_factory.mktemp("product"), release)))


@pytest.mark.long
@pytest.mark.older(latest=False)
@over_made_up_consortia
@given(seed=st.integers(1, 2**32), account=st.sampled_from(ACCOUNTS))
def test_nothing_depends_on_the_release(seed: int, account: str, release: str, product_on: ProductOn) -> None:
    content = asked_by(population(Random(seed)), account)
    here, latest = (answers(product_on(one), content, Random(seed)) for one in (release, LATEST))
    assert [name for name in latest if here[name] != latest[name]] == []


@pytest.mark.long
@pytest.mark.older
def test_the_account_sees_itself_depending_on_the_release(release: str, product_on: ProductOn) -> None:
    content = asked_by(population(Random(1)), "sees one library")
    asker = next(row for row in content["au"] if row["id"] == ASKER)
    asker["home_ou"] = next(row["id"] for row in content["aou"] if row["id"] != asker["home_ou"])
    seen = product_on(release).client(content).gateway.pcrud.id_list("au", {"id": ASKER}, limit=2)
    assert bool(seen) is ("oneself-hidden" not in differences_of(release))
