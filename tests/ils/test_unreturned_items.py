"""Overdue and lost items of many patrons, from a real Evergreen and the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.gateways import gateway_of, recorded_families
from support.recorded import gateway_of as recorded_gateway_of
from support.recorded import idl_of, payload

from evergreen_groups.ils import OrgUnits, UnreturnedItems, read_unreturned_items
from evergreen_groups.ils.circulations import CirculationKind, kind_of
from evergreen_groups.sandbox import Sandbox

FAMILY = (1015, 1016, 1017, 1018)
HARBOR = 11


def test_what_is_asked_for_holds_what_is_overdue() -> None:
    """The overdue circulations in family-003 are the ones that family-004 finds by due date."""
    places = idl_of()["circ"].positions
    now = datetime(2026, 11, 20, tzinfo=UTC)
    kinds = {}
    for values in (row["__p"] for row in payload("family-003")[0]):
        due = datetime.strptime(values[places["due_date"]], "%Y-%m-%dT%H:%M:%S%z")
        stopped = values[places["stop_fines"]]
        kinds[values[places["id"]]] = kind_of(stopped, due, "1 day", finished=False, now=now)
    found = {row["__p"][places["id"]] for row in payload("family-004")[0]}
    assert {id for id, kind in kinds.items() if kind is CirculationKind.OVERDUE} == found
    assert [id for id, kind in kinds.items() if kind is CirculationKind.LOST] == [50055]


@pytest.fixture(scope="module")
def recorded_units() -> OrgUnits:
    with recorded_gateway_of("contacts-021", "contacts-022") as gateway:
        return OrgUnits.read(gateway)


def test_as_a_real_evergreen_tells_them(recorded_units: OrgUnits) -> None:
    """A lost item counts even before its due date; paid, claimed and returning items don't count."""
    every = [unit.id for unit in recorded_units]
    with recorded_families("context_staff") as gateway:
        read = read_unreturned_items(gateway, recorded_units, every, range(301, 317))
    found = read.items
    assert read.stop_fines == {703: "LOST", 705: "LONGOVERDUE", 706: "CLAIMSRETURNED", 711: "LOST", 712: "LOST"}
    overdue, lost = UnreturnedItems(1, 0), UnreturnedItems(0, 1)
    expected = dict.fromkeys((301, 303, 304, 306, 314, 315), overdue) | dict.fromkeys((302, 311), lost)
    assert found == dict.fromkeys(range(301, 317), UnreturnedItems()) | expected


def test_hidden_ones_as_a_real_evergreen_tells_of_them(recorded_units: OrgUnits) -> None:
    """303 has an item at a branch whose circulations are hidden; 306 has one too, but is hidden altogether."""
    with recorded_families("context_branch") as gateway:
        found = read_unreturned_items(gateway, recorded_units, [4, 8], range(301, 317)).items
    assert [id for id, items in found.items() if items is None] == [303]
    assert found[301] == UnreturnedItems(1, 0)


@pytest.mark.parametrize("visible", [True, False])
def test_an_item_at_a_library_that_is_hidden(sandbox: Sandbox, visible: bool) -> None:
    """Only a patron with an overdue item there has unknown counts; an item that isn't due yet changes nothing."""
    for row in sandbox._store.rows("circ", {"usr": [1017, 1018]}):
        sandbox._store.update("circ", row["id"], {"circ_lib": 21})
    hidden = {} if visible else {"circ_lib": 21}
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        every = {unit.id for unit in org_units}
        found = read_unreturned_items(gateway, org_units, every - set(hidden.values()), FAMILY).items
        assert read_unreturned_items(gateway, org_units, (), FAMILY).items == dict.fromkeys(FAMILY)
        assert read_unreturned_items(gateway, org_units, every, ()).items == {}
    nobody_knows = None if not visible else UnreturnedItems(1, 0)
    assert found == {
        1015: UnreturnedItems(),
        1016: UnreturnedItems(1, 1),
        1017: nobody_knows,
        1018: UnreturnedItems(),
    }
