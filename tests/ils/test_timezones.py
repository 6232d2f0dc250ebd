"""The time zones of libraries: one call, and what isn't the name of one counts for nothing."""

from __future__ import annotations

import pytest
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of as gateway_at
from support.recorded import gateway_of

from evergreen_groups.errors import DataError
from evergreen_groups.ils import OrgUnits
from evergreen_groups.sandbox import Sandbox


def test_a_time_zone_counts_for_what_is_below() -> None:
    with gateway_of("desk-006") as gateway:
        found = {org_unit: str(zone) for org_unit, zone in OrgUnits.read_timezones(gateway).items()}
    western = dict.fromkeys((3, 6, 7, 9), "America/Vancouver")
    assert found == {**dict.fromkeys((1, 2, 4, 5, 8, 10, 11), "America/Toronto"), **western}


def test_what_is_no_time_zone_counts_for_nothing(sandbox: Sandbox) -> None:
    with gateway_at(sandbox.url, "consortium_staff") as gateway:
        assert OrgUnits.read_timezones(gateway) == {}
        sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": 2, "value": '"Atlantis/Harbor"'})
        sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": 3, "value": '"Europe/Prague"'})
        assert {org_unit: str(zone) for org_unit, zone in OrgUnits.read_timezones(gateway).items()} == dict.fromkeys(
            (3, 21, 22, 23), "Europe/Prague"
        )


@pytest.mark.parametrize("answer", [[{}], [None], [{"org_unit": 1, "summary": None}]])
def test_settings_of_another_shape_are_an_error(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if "value_for_all_orgs" in call.method else None
    with gateway_at(proxy.url, "consortium_staff") as gateway, pytest.raises(DataError) as told:
        OrgUnits.read_timezones(gateway)
    assert (told.value.code, told.value.values["detail"]) == ("ils-setting-unusable", "not the values of lib.timezone")
