"""The panel shows the same in both staff clients of each release, with the sandbox as that release."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.desk_browser import Desk, desk_browser

PATRON = 1017


@pytest.fixture(scope="module")
def desk_of_the_module(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_browser(tmp_path_factory.mktemp("desk"), release=release) as desk:
        yield desk


@pytest.fixture
def desk(desk_of_the_module: Desk) -> Desk:
    desk_of_the_module.begin()
    return desk_of_the_module


@pytest.mark.long
@pytest.mark.older
@pytest.mark.parametrize("kind", ["Angular", "AngularJS"])
def test_a_family_beside_its_patron(desk: Desk, release: str, kind: str) -> None:
    desk.open(f"{kind} {release}", f"{PATRON}/checkout")
    panel = desk.panel_of(PATRON)
    assert panel["amount"] == "$25.65"
    desk.shows("$3.10")
    assert not desk.shown_stock_row()
    desk.click(".evergreen-groups [aria-expanded]")
    panel = desk.until(lambda: (panel := desk.panel()) and panel["members"] and panel)
    assert [member["owed"] for member in panel["members"]] == ["$14.75", "$9.30", "$3.10", "-$1.50"]
