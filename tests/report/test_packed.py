"""What is packed comes out as it went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.report.blocks import NumberIndex, PackedBlocks
from evergreen_groups.report.listings import Listing, PackedListings

NUMBERS = st.integers(0, 2**40)
NAMES = st.sampled_from(["BR1", "BR2", "BR3"])
AMOUNTS = st.decimals(-100, 100_000, places=2)
LISTINGS = st.lists(
    st.builds(
        Listing,
        group=NUMBERS,
        combined_fines=AMOUNTS,
        certain=st.booleans(),
        member_count=st.integers(1, 5),
        members=st.frozensets(NUMBERS, max_size=4),
        library=NAMES,
        libraries=st.frozensets(NAMES),
    ),
    unique_by=lambda listing: listing.group,
)
KIND = PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC",))
PLACE = OrgUnit(4, "BR1", "Branch 1", 2)
MOMENT = datetime(2026, 8, 1, tzinfo=UTC)


@settings(deadline=None)
@given(LISTINGS, st.slices(6), NUMBERS)
def test_listings(listings: list[Listing], some: slice, number: int) -> None:
    packed = PackedListings(listings)
    assert list(packed) == listings
    assert [packed[place] for place in range(len(packed))] == listings
    assert list(packed[some]) == listings[some]
    assert packed == PackedListings(iter(listings))
    assert [packed.of_group(listing.group) for listing in listings] == listings
    assert packed.has_group(number) == (number in {listing.group for listing in listings})


@given(st.lists(NUMBERS, unique=True), NUMBERS)
def test_number_index(numbers: list[int], another: int) -> None:
    index = NumberIndex(numbers)
    assert [index.position(number) for number in numbers] == list(range(len(numbers)))
    assert (index.position(another) is None) == (another not in numbers)


@given(st.dictionaries(NUMBERS, st.lists(st.tuples(NUMBERS, st.none() | NUMBERS, st.booleans()), min_size=1)), NUMBERS)
def test_blocks(found: dict[int, list[tuple[int, int | None, bool]]], another: int) -> None:
    expected = {
        patron: tuple(
            Penalty(id, patron, KIND, PLACE, staff, MOMENT + timedelta(seconds=id % 10**6) if dated else None)
            for id, staff, dated in theirs
        )
        for patron, theirs in found.items()
    }
    packed = PackedBlocks(chain.from_iterable(expected.values()))
    assert dict(packed) == expected
    assert len(packed) == len(expected)
    assert (another in packed) == (another in expected)
    assert packed.get(another) == expected.get(another)


def test_amounts_keep_their_digits() -> None:
    [listing] = PackedListings([Listing(1, Decimal("30.00"), True, 1, frozenset({1}), "BR1", frozenset({"BR1"}))])
    assert str(listing.combined_fines) == "30.00"
