"""What the gateway client hands out to programs."""

from __future__ import annotations

import pytest

from evergreen_groups import gateway


@pytest.mark.parametrize("name", ["Class", "Field", "Idl", "Link", "Pcrud", "Record", "Result", "Statistics"])
def test_what_its_methods_give_can_be_named(name: str) -> None:
    """A program that says its types needs them, whether it makes such objects itself or not."""
    assert getattr(gateway, name).__name__ == name
    assert name in gateway.__all__
