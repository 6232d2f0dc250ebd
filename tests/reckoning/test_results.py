"""The results of random months equal the payments."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from reckoning.results import differences, of_product, world

from evergreen_groups.follow_up import Results
from evergreen_groups.state import State


def reckoned(seed: int, directory: Path) -> Results:
    """Compare the results of one population, and return them."""
    happened = world(Random(seed))
    with State(directory / str(seed)) as state:
        results = of_product(state, happened)
    assert list(differences(happened, results)) == []
    return results


def test_results_equal_the_payments(tmp_path: Path) -> None:
    found = [reckoned(seed, tmp_path) for seed in range(8)]
    # Not all of them are empty: payments are compared, exact ones and others.
    paid = [one for results in found for period in results.months[""] for one in period.paid]
    assert any(one.others and one.contacted and one.contacted.at_least for one in paid)
    assert {one.contacted.exact for one in paid if one.contacted} == {True, False}


@pytest.mark.long
@pytest.mark.parametrize("hundred", range(20))
def test_results_of_two_thousand_populations(hundred: int, tmp_path: Path) -> None:
    for seed in range(1_000 + hundred * 100, 1_100 + hundred * 100):
        reckoned(seed, tmp_path)
