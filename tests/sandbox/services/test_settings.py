"""Library settings, org units, profiles and permissions in the sandbox."""

from __future__ import annotations

from support.sandbox_caller import Caller, actor, opened

from evergreen_groups.sandbox import Sandbox


def test_settings_are_inherited(caller: Caller) -> None:
    assert actor(caller, None, "ou_setting.ancestor_default", 23, "circ.obscure_dob") == {"org": 1, "value": False}
    assert actor(caller, None, "ou_setting.ancestor_default", 23, "no.such.setting") is None
    assert actor(caller, None, "ou_setting.ancestor_default", 999, "circ.obscure_dob") is None
    batch = actor(caller, None, "ou_setting.ancestor_default.batch", 12, ["circ.obscure_dob", "no.such.setting"])
    assert batch == {"circ.obscure_dob": {"org": 1, "value": False}, "no.such.setting": None}


def test_a_setting_at_every_org_unit(caller: Caller, sandbox: Sandbox) -> None:
    sandbox._store.insert("aous", {"name": "circ.grace", "org_unit": 2, "value": "101"})
    found = actor(caller, None, "settings.value_for_all_orgs.atomic", None, "circ.grace")
    values = {entry["org_unit"]: entry["summary"]["value"] for entry in found}
    assert values == {1: None, 2: 101, 3: None, 11: 101, 12: 101, 21: None, 22: None, 23: None}
    assert found[0]["summary"] == {
        "name": "circ.grace",
        "value": None,
        "has_org_setting": "t",
        "has_user_setting": None,
        "has_workstation_setting": None,
    }
    refused = actor(caller, None, "settings.value_for_all_orgs.atomic", "no-token", "circ.grace")
    assert [event["textcode"] for event in refused] == ["NO_SESSION"]


def test_parts_of_the_tree_have_text_values(caller: Caller) -> None:
    valley = actor(caller, None, "org_tree.descendants.retrieve", 3)
    assert (opened(valley)["id"], opened(valley)["opac_visible"]) == ("3", "1")
    assert actor(caller, None, "org_tree.descendants.retrieve", 23, 1) == valley
    path = actor(caller, None, "org_unit.full_path.retrieve", caller.token("admin"), 21)
    assert [opened(org)["shortname"] for org in path] == ["LAKELAND", "VALLEY", "MILL", "BUS"]
    assert actor(caller, None, "org_unit.retrieve_by_shortname", "mill")["__p"][3] == 21
    assert actor(caller, None, "org_unit.retrieve", None, 999)["textcode"] == "ACTOR_ORG_UNIT_NOT_FOUND"


def test_missing_permissions(caller: Caller) -> None:
    token = caller.token("harbor_desk")
    wanted = ["VIEW_USER", "UPDATE_USER", "STAFF_LOGIN", "NO_SUCH_PERMISSION"]
    assert actor(caller, None, "user.perm.check", token, 4, 11, wanted) == ["UPDATE_USER", "NO_SUCH_PERMISSION"]
    assert actor(caller, None, "user.perm.check", token, 4, 12, ["VIEW_USER"]) == ["VIEW_USER"]
    pairs = actor(caller, None, "user.perm.check.multi_org", token, 4, [1, 11, 12], ["VIEW_USER"])
    assert pairs == [[1, "VIEW_USER"], [12, "VIEW_USER"]]
    denied = actor(caller, None, "user.perm.check", token, 2, 11, wanted)
    assert (denied["ilsperm"], denied["ilspermloc"]) == ("VIEW_PERMISSION", 11)
    assert actor(caller, None, "user.perm.check", "badtoken", 4, 11, wanted)["ilsevent"] == "1001"


def test_where_a_permission_holds(caller: Caller) -> None:
    token = caller.token("north_manager")
    assert actor(caller, None, "user.has_work_perm_at", token, "VIEW_USER") == [2]
    batch = actor(caller, None, "user.has_work_perm_at.batch", token, ["VIEW_USER", "STAFF_LOGIN", "VOID_BILLING"])
    assert batch == {"VIEW_USER": [2], "STAFF_LOGIN": [1], "VOID_BILLING": []}
    assert actor(caller, None, "user.perm.highest_org.batch", token, 3, ["VIEW_USER", "VOID_BILLING"]) == [2, -1]
    assert actor(caller, None, "user.perm.highest_org", token, 3, "VIEW_USER") == "2"
    assert actor(caller, None, "session.home_lib", token) == "NORTH"
