"""What the ILS knows, as a real Evergreen told it, by the id of each exchange."""

from decimal import Decimal

import pytest
from support.recorded import gateway_of, idl_of, payload

from evergreen_groups.ils import (
    VIEW_USER,
    OrgUnits,
    Profiles,
    Thresholds,
    permissions,
    read_fines_of,
    read_own_fines,
    rows_in_force,
)

ANSWERS = "pcrud-140", "pcrud-141"


@pytest.fixture(scope="module")
def org_units() -> OrgUnits:
    with gateway_of("pcrud-084", alike=False) as gateway:
        return OrgUnits.read(gateway)


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    with gateway_of("pcrud-082", alike=False) as gateway:
        return Profiles.read(gateway)


def test_org_units(org_units):
    assert org_units.root.shortname == "CONS"
    assert [org_units.shortname(org) for org in org_units.upwards(8)] == ["SL1", "BR1", "SYS1", "CONS"]


def test_profiles(profiles):
    assert [profiles.name(profile) for profile in profiles.upwards(24)] == ["Juvenile", "Patrons", "Users"]


@pytest.mark.parametrize(
    ("exchange_id", "patron", "owed"),
    [
        ("patrons-070", 5001, Decimal("4.50")),
        ("patrons-063", 5015, Decimal("0.30")),
        ("patrons-056", 5004, None),  # a null, so that the payload is empty
    ],
)
def test_fines_of_oneself(exchange_id, patron, owed):
    with gateway_of(exchange_id) as gateway:
        assert read_fines_of(gateway, patron) == owed


def test_own_fines_that_a_patron_does_not_see():
    with gateway_of("pcrud-056", alike=False) as gateway:
        assert read_own_fines(gateway, [5001]) == {}


def test_archived_penalties_are_not_in_force():
    with gateway_of("pcrud-072", alike=False) as gateway:
        rows = list(rows_in_force(gateway, [5001, 5009, 5038, 5039, 5040]))
    assert [row.id for row in rows] == [8011, 8012, 8013, 8015, 8104]
    assert [row.id for row in rows if row.staff is None] == [8104]


def test_where_somebody_works_with_a_permission():
    with gateway_of("auth-058", alike=False) as gateway:
        assert permissions.highest_granted(gateway, [VIEW_USER])[VIEW_USER] == [4]


def test_pcrud_shows_the_patrons_of_where_the_permission_is_held_and_no_others(org_units):
    """One question, put by an account that sees everybody and by the one whose permissions are looked up."""
    with gateway_of("auth-058", "auth-004", "releases-054", alike=False) as gateway:
        held = permissions.orgs_by_permission(gateway, org_units, ["VIEW_USER"])["VIEW_USER"]
    assert held == {4, 8}
    places = [idl_of()["au"].field(name).position for name in ("id", "home_ou")]
    everybody, shown = ({tuple(row["__p"][place] for place in places) for row in payload(id)[0]} for id in ANSWERS)
    assert shown == {(id, home) for id, home in everybody if home in held}
    assert 0 < len(shown) < len(everybody)


def test_thresholds_above_a_branch_that_pcrud_hides(org_units, profiles):
    """To the same account: pcrud-080 is the search that finds none of them."""
    with gateway_of("settings-023", alike=False) as gateway:
        reader = Thresholds((), {}, org_units, profiles, gateway)
        assert reader.find(2, 4).amount == Decimal("5.00")
        assert reader.find(24, 4).amount == Decimal("5.00")


def test_a_time_zone_counts_for_what_is_below():
    with gateway_of("desk-006") as gateway:
        found = {org_unit: str(zone) for org_unit, zone in OrgUnits.read_timezones(gateway).items()}
    western = dict.fromkeys((3, 6, 7, 9), "America/Vancouver")
    assert found == {**dict.fromkeys((1, 2, 4, 5, 8, 10, 11), "America/Toronto"), **western}
