"""Values of the wire that aren't what their field holds."""

from __future__ import annotations

import pytest

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.datatypes import _decode_money


@pytest.mark.parametrize("value", [True, False, "NaN", {}, [], "five"])
def test_what_is_no_amount_of_money(value: object) -> None:
    with pytest.raises(DataError):
        _decode_money(value, "mous", "balance_owed")
