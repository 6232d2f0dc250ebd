"""Loading another dataset into a running sandbox."""

import json
from importlib import resources
from typing import Any

import pytest
from support.gateways import gateway_of

from evergreen_groups.errors import ConfigurationError, NoSessionError
from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def content() -> dict[str, Any]:
    """Return the built-in families with a single library as everyone's home."""
    text = resources.files("evergreen_groups.sandbox.data").joinpath("families.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    found["aou"] = [{**found["aou"][0], "id": 11, "shortname": "ALONE"}]
    found["au"] = [{**row, "home_ou": 11} for row in found["au"]]
    found["staff_permissions"]["consortium_staff"]["perms"] = [["STAFF_LOGIN", 11, 0], ["VIEW_USER", 11, 0]]
    return found


def shortnames(gateway: Gateway) -> list[str]:
    return [unit.shortname for unit in gateway.pcrud.search("aou", {"id": {"<>": None}})]


def patrons(gateway: Gateway) -> int:
    return len(gateway.pcrud.search("au", {"home_ou": 11}, select=("id",)))


def test_loading_replaces_all_data_also_for_resets(content: dict[str, Any]) -> None:
    with Sandbox() as sandbox, gateway_of(sandbox.url, "consortium_staff") as gateway:
        assert len(shortnames(gateway)) > 1
        view = gateway.acting_as(gateway.token)
        sandbox.load(content)
        with pytest.raises(NoSessionError):
            shortnames(view)
        assert shortnames(gateway) == ["ALONE"]
        assert patrons(gateway) == len(content["au"])  # permissions follow the new tree
        assert sandbox.accounts["consortium_staff"].password == "sandbox"
        sandbox._store.update("aou", 11, {"shortname": "OTHER"})
        sandbox.reset()
        assert shortnames(gateway) == ["ALONE"]


def test_an_invalid_dataset_changes_nothing(content: dict[str, Any]) -> None:
    content["au"][0]["home_ou"] = "elsewhere"
    with Sandbox() as sandbox:
        with pytest.raises(ConfigurationError):
            sandbox.load(content)
        for _ in range(2):
            with gateway_of(sandbox.url, "consortium_staff") as gateway:
                assert "HARBOR" in shortnames(gateway)
            sandbox.reset()
