"""The parts of reading many rows: key ranges, page sizes, batches."""

from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.gateway.rows import Page, PageSize, batches, encoded_length, key_ranges


@given(st.integers(-1000, 1000), st.integers(0, 1000), st.integers(1, 9))
def test_stretches_cover_all_keys_once(low, length, parts):
    cut = key_ranges(low, low + length, parts)
    assert 1 <= len(cut) <= parts
    keys = [key for part in cut for key in range(part.after + 1, part.high + 1)]
    assert keys == list(range(low, low + length + 1))
    sizes = [part.high - part.after for part in cut]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(2, 10_000_000)), max_size=30), st.integers(1, 3000))
def test_page_sizes_stay_in_bounds(answers, first):
    size = PageSize(first)
    for rows, length in answers:
        before = size.rows
        size.learn(Page([None] * rows, length))
        assert 10 <= size.rows <= max(first, 5000) or size.rows == first
        if rows:
            assert size.rows * length / rows <= 1024**2 or size.rows == 10
            assert size.rows <= max(before, 4 * rows, 10)


@given(st.lists(st.integers() | st.text(max_size=30)), st.integers(1, 500), st.integers(1, 9))
def test_portions_keep_order_and_size(values, room, largest):
    cut = list(batches(iter(values), room, lambda _count: largest))
    assert [value for batch in cut for value in batch] == values
    for batch in cut:
        assert 1 <= len(batch) <= largest
        assert len(batch) == 1 or sum(encoded_length(value) + 1 for value in batch) <= room
