"""Classes that are read whole: no row is missing, however many there are."""

from __future__ import annotations

import pytest
from support.gateways import gateway_of

from evergreen_groups.ils import OrgUnits, Profiles
from evergreen_groups.sandbox import Sandbox


@pytest.mark.parametrize("most", [1, 3, 8, 1000])
@pytest.mark.parametrize("class_id", ["aou", "pgt", "csp", "pgpt"])
def test_more_rows_than_one_answer_has(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, class_id: str, most: int
) -> None:
    monkeypatch.setattr("evergreen_groups.gateway.pcrud.MOST_ROWS", most)
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        found = [id for (id,) in gateway.pcrud.all_columns(class_id, ("id",))]
        assert len(list(OrgUnits.read(gateway))) == len(sandbox._store.rows("aou"))
        assert len(list(Profiles.read(gateway))) == len(sandbox._store.rows("pgt"))
    assert found == sorted(row["id"] for row in sandbox._store.rows(class_id))
    assert found
