"""Where links into the staff client lead."""

from __future__ import annotations

import pytest

from evergreen_groups.render import StaffClient
from evergreen_groups.settings import ServeSettings, Settings
from evergreen_groups.settings.sections import ClientSettings, DeskSettings

GATEWAY = "https://ils.example:443/osrf-gateway-v1"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (Settings(), "https://ils.example"),
        (Settings(serve=ServeSettings(origin="https://staff.example")), "https://staff.example"),
        (
            Settings(
                client=ClientSettings(url="https://desk.example"), serve=ServeSettings(origin="https://s.example")
            ),
            "https://desk.example",
        ),
    ],
)
def test_where_it_is(settings: Settings, where: str) -> None:
    client = StaffClient.of(settings, GATEWAY)
    assert client.patron_page(7) == f"{where}/eg/staff/circ/patron/7/checkout"
    assert client.group_page(7) == f"{where}/evergreen-groups/patrons/7/group?client=eg"


def test_the_angular_one() -> None:
    client = StaffClient.of(Settings(client=ClientSettings(kind="angular")), GATEWAY)
    assert client.patron_page(7) == "https://ils.example/eg2/staff/circ/patron/7/checkout"
    assert client.login_page("/staff/circ/patron/7/group").endswith(
        "/eg2/staff/login?routeTo=%2Fstaff%2Fcirc%2Fpatron%2F7%2Fgroup"
    )
    assert client.login_page("/evergreen-groups/reports/latest").endswith("/eg2/staff/login")


@pytest.mark.parametrize(
    "settings", [Settings(client=ClientSettings(groups="tab")), Settings(desk=DeskSettings(page=False))]
)
def test_a_group_is_in_the_clients_own_tab_where_the_page_is_not_served(settings: Settings) -> None:
    assert StaffClient.of(settings, GATEWAY).group_page(7) == "https://ils.example/eg/staff/circ/patron/7/group"
