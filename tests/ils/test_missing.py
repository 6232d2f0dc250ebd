"""What the ILS refers to and doesn't list: an error, and never a smaller scope, a laxer limit or a mere note."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.fault_proxy import FaultProxy, alter_payloads
from support.gateways import gateway_of

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.ils import (
    Access,
    OrgUnit,
    OrgUnits,
    PenaltyKind,
    PenaltyKinds,
    Profiles,
    read_fines_of,
    read_fines_penalties,
    rows_in_force,
)
from evergreen_groups.sandbox import Sandbox

CONSORTIUM, SYSTEM, BRANCH = OrgUnit(1, "CONS", "", None), OrgUnit(2, "SYS", "", 1), OrgUnit(4, "BR", "", 2)


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(EvergreenGroupsError) as caught:
        act()
    return str(caught.value.code)


def test_an_org_unit_whose_parent_is_missing() -> None:
    assert code_of(lambda: OrgUnits([CONSORTIUM, BRANCH])) == "org-unit-missing"


def test_an_org_unit_that_is_somebodys_home() -> None:
    tree = OrgUnits([CONSORTIUM, SYSTEM])
    for look in (tree.unit, tree.shortname, tree.upwards, tree.full_path):
        assert code_of(lambda look=look: look(4)) == "org-unit-missing"  # type: ignore[misc]


def test_an_org_unit_where_the_account_works(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        assert code_of(lambda: Access.read(gateway, OrgUnits([CONSORTIUM, SYSTEM]), [4])) == "org-unit-missing"


def test_a_profile() -> None:
    assert code_of(lambda: Profiles([(1, "Users", None), (13, "Child", 2)])) == "profile-missing"
    profiles = Profiles([(1, "Users", None)])
    assert code_of(lambda: profiles.upwards(2)) == code_of(lambda: profiles.name(2)) == "profile-missing"


def test_a_kind_of_penalty(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        kinds = PenaltyKinds([PenaltyKind(2, "PATRON_EXCEEDS_OVERDUE_COUNT", ("CIRC",))], {})
        org_units = OrgUnits.read(gateway)
        rows = list(rows_in_force(gateway, [1026]))
        assert code_of(lambda: kinds.by_patron(rows, org_units, [1026])) == "penalty-kind-missing"


@pytest.mark.parametrize("class_id", ["aou", "pgt", "csp", "pgpt"])
@pytest.mark.parametrize("service", ["search", "id_list"])
def test_a_list_that_lost_its_end(sandbox: Sandbox, proxy: FaultProxy, class_id: str, service: str) -> None:
    method = f"open-ils.pcrud.{service}.{class_id}.atomic"
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        whole = gateway.pcrud.all_columns(class_id, ("id",))
        alter_payloads(proxy, method, lambda rows: rows[:-1], times=1)
        assert gateway.pcrud.all_columns(class_id, ("id",)) == whole  # asked once more
        alter_payloads(proxy, method, lambda rows: rows[:-1], times=2)
        assert code_of(lambda: gateway.pcrud.all_columns(class_id, ("id",))) == "rows-missing"


def test_an_org_unit_without_a_value_of_a_setting(sandbox: Sandbox, proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        assert read_fines_penalties(gateway, org_units)
        alter_payloads(proxy, "open-ils.actor.settings.value_for_all_orgs.atomic", lambda rows: rows[:-1], times=1)
        assert code_of(lambda: read_fines_penalties(gateway, org_units)) == "ils-setting-unusable"


@pytest.mark.parametrize("summary", [["4.50", "4.50", "0.00", 7], [None, "4.50", "0.00", 1015], [{}, "4", "0", 1015]])
def test_fines_of_somebody_else_or_of_no_amount(sandbox: Sandbox, proxy: FaultProxy, summary: list[object]) -> None:
    answer = {"__c": "mous", "__p": summary}
    proxy.answer = lambda call: answer if call.method == "open-ils.actor.user.fines.summary" else None
    with gateway_of(proxy.url, "consortium_staff") as gateway, pytest.raises(EvergreenGroupsError):
        read_fines_of(gateway, 1015)


def test_a_time_zone_that_does_not_exist_counts_for_nothing(sandbox: Sandbox) -> None:
    sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": 2, "value": '"Atlantis/Harbor"'})
    sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": 3, "value": '"Europe/Prague"'})
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        found = {org_unit: str(zone) for org_unit, zone in OrgUnits.read_timezones(gateway).items()}
    assert found == dict.fromkeys((3, 21, 22, 23), "Europe/Prague")
