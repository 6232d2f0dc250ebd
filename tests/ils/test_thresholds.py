"""Thresholds: who may see them, and which one counts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, UnexpectedAnswerError
from evergreen_groups.ils import (
    OrgUnit,
    OrgUnits,
    Profiles,
    read_fines_penalties,
)
from evergreen_groups.ils.limits import Threshold, Thresholds
from evergreen_groups.sandbox import Sandbox

OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
FOR_ALL = "value_for_all_orgs"
RANGED = "open-ils.actor.grp_penalty_threshold.ranged.retrieve.atomic"
HARBOR, ADULT = 11, 11


@pytest.mark.parametrize(
    "answer",
    [[{}], ["a text"], [None], [{"org_unit": "x", "summary": {"value": 1}}], [{"org_unit": 1, "summary": None}]],
)
def test_settings_of_another_shape_are_an_error(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if FOR_ALL in call.method else None
    with gateway_of(proxy.url, "consortium_staff") as gateway, pytest.raises(DataError) as told:
        read_fines_penalties(gateway, OrgUnits.read(gateway))
    assert told.value.code == "ils-setting-unusable"
    assert told.value.problem == f"Evergreen's answer can't be read: not the values of {OVERRIDE}"


@pytest.mark.parametrize(("value", "penalty"), [(None, 1), ('"101"', 101), (101, 101)])
def test_what_the_setting_names(proxy: FaultProxy, value: object, penalty: int) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        answer = [{"org_unit": unit.id, "summary": {"value": value}} for unit in org_units]
        proxy.answer = lambda call: answer if FOR_ALL in call.method else None
        assert set(read_fines_penalties(gateway, org_units).values()) == {penalty}


def test_a_setting_that_names_no_penalty_is_told_with_its_name(sandbox: Sandbox) -> None:
    sandbox._store.insert("aous", {"name": OVERRIDE, "org_unit": 2, "value": '"fines"'})
    with gateway_of(sandbox.url, "consortium_staff") as gateway, pytest.raises(DataError) as told:
        read_fines_penalties(gateway, OrgUnits.read(gateway))
    assert (told.value.code, told.value.values) == ("ils-setting-without-penalty", {"name": OVERRIDE})
    assert told.value.advice == "correct the setting in Evergreen"


@pytest.mark.parametrize(("held", "asked"), [([1], 0), ([], 1), ([HARBOR], 1)])
def test_who_may_see_all_thresholds_is_asked_first(proxy: FaultProxy, held: object, asked: int) -> None:
    """Without the permission everywhere, ask about each home library once."""
    permission = {"VIEW_GROUP_PENALTY_THRESHOLD": held}
    proxy.answer = lambda call: permission if "has_work_perm_at" in call.method else None
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        reader = Thresholds.read(gateway, org_units, Profiles.read(gateway), {})
        assert reader.complete is (asked == 0)
        for _ in range(2):
            found = reader.find(ADULT, HARBOR)
            assert found is not None
            assert (found.org_unit, str(found.amount)) == (1, "5.01")
    assert proxy.seen.count(RANGED) == asked


@pytest.mark.parametrize("held", ["1", {"1": 1}, 1, "", {}, 0, False, None])
def test_an_answer_about_permissions_that_is_no_list_is_an_error(proxy: FaultProxy, held: object) -> None:
    permission = {"VIEW_GROUP_PENALTY_THRESHOLD": held}
    proxy.answer = lambda call: permission if "has_work_perm_at" in call.method else None
    with gateway_of(proxy.url, "consortium_staff") as gateway, pytest.raises(UnexpectedAnswerError):
        Thresholds.read(gateway, OrgUnits.read(gateway), Profiles.read(gateway), {})


@pytest.mark.parametrize("answer", [["x"], [None], [{"amount": 5}], "x", {}, "", 0, False])
def test_thresholds_of_another_shape_are_an_error(proxy: FaultProxy, answer: object) -> None:
    """If these passed for an empty list, no patron would be over the limit."""
    proxy.answer = lambda call: answer if call.method == RANGED else None
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        reader = Thresholds.read(gateway, OrgUnits.read(gateway), Profiles.read(gateway), {})
        with pytest.raises((UnexpectedAnswerError, DataError)):
            reader.find(ADULT, HARBOR)


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ([(11, 2, 1)], (11, 2)),
        ([(11, 1, 1), (11, 2, 1)], (11, 2)),
        ([(11, 1, 1), (1, 2, 1)], (11, 1)),  # all profiles at one org unit before its parent
        ([(1, 1, 1)], (1, 1)),
        ([(11, 2, 101)], None),  # for another penalty
        ([(12, 2, 1), (11, 3, 1)], None),  # for a neighbor, and for a child profile
    ],
)
def test_the_nearest_threshold_counts(places: list[tuple[int, int, int]], found: tuple[int, int] | None) -> None:
    units = OrgUnits(OrgUnit(id, f"ORG{id}", "", parent) for id, parent in ((1, None), (11, 1), (12, 1)))
    profiles = Profiles([(1, "Everyone", None), (2, "Adult", 1), (3, "Teacher", 2)])
    rows = [Threshold(*place, Decimal("5.00")) for place in places]
    nearest = Thresholds(rows, {}, units, profiles).find(2, 11)
    assert (None if nearest is None else (nearest.org_unit, nearest.profile)) == found
