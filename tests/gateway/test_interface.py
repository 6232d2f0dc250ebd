"""The names that the gateway package exports."""

from __future__ import annotations

import pytest

from evergreen_groups import gateway


@pytest.mark.parametrize("name", ["Class", "Field", "Idl", "Link", "Pcrud", "Record", "Result", "Statistics"])
def test_what_its_methods_give_can_be_named(name: str) -> None:
    """Typed programs need these types even if they don't create the objects."""
    assert getattr(gateway, name).__name__ == name
    assert name in gateway.__all__
