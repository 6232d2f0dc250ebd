"""Pages, summaries and events right after a change, at a site whose plain reads come from a lagging replica."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.debts import owe
from support.desk_caller import caller_of
from support.desk_page import DeskClerk, agreed, card, scanned, selected
from support.fault_proxy import FaultProxy
from support.web_caller import SECRET, client_of, events_settings, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER

pytestmark = pytest.mark.long  # too slow for a plain pytest run

NGUYEN, LAN, WHITFIELD, THOMAS = 1017, 1018, 1036, 1037
ELM = 22


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A site whose replica never catches up by itself."""
    with Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox:
        yield sandbox


@pytest.fixture
def desk_settings(proxy: FaultProxy, tmp_path: Path) -> Settings:
    return settings_of(proxy.url, events=events_settings(tmp_path, recalculate=True))


def summary(app: Flask, sandbox: Sandbox, patron: int) -> dict[str, Any]:
    return caller_of(app, sandbox).send("GET", f"patrons/{patron}/summary").body


def test_the_page_after_a_move_shows_where_everybody_is(clerk: DeskClerk, app: Flask, sandbox: Sandbox) -> None:
    done = agreed(scanned(clerk.open(NGUYEN), card(WHITFIELD)))
    assert done.outcome.startswith("Done: Whitfield, Grace is now in this group")
    assert "Whitfield, Grace" in done.members
    assert "Whitfield, Grace" not in clerk.open(THOMAS).members
    assert clerk.open(WHITFIELD).members.keys() == done.members.keys()
    members = [member["id"] for member in summary(app, sandbox, NGUYEN)["members"]]
    assert WHITFIELD in members
    again = scanned(clerk.open(NGUYEN), card(WHITFIELD))
    assert "already in this group (1004)" in again.text
    undone = done.send("/undo")
    assert "Whitfield, Grace" not in undone.members
    assert "Whitfield, Grace" in clerk.open(THOMAS).members


def test_a_new_lead_is_one_in_the_list(clerk: DeskClerk) -> None:
    before = clerk.open(NGUYEN).members
    done = agreed(selected(clerk.open(NGUYEN), "lead", LAN))
    assert done.outcome.startswith("Done")
    changed = [name for name, row in done.members.items() if ("ead" in row) is not ("ead" in before[name])]
    assert len(changed) == 1


def test_what_is_owed_is_what_is_owed_now(clerk: DeskClerk, app: Flask, sandbox: Sandbox) -> None:
    owe(sandbox, WHITFIELD, (ELM, "3.21"))
    assert "$3.21" in clerk.open(WHITFIELD).members["Whitfield, Grace"]
    assert summary(app, sandbox, WHITFIELD)["own_fines"] == "3.21"


def test_an_event_is_about_what_is_so_now(app: Flask, sandbox: Sandbox, clerk: DeskClerk) -> None:
    """The event arrives before the replica has the row. The decision and the pages use the primary's data."""
    sandbox._store.insert("pgpt", {"org_unit": 1, "grp": 1, "penalty": 1, "threshold": "5.00"})
    sandbox.catch_up()
    owe(sandbox, WHITFIELD, (ELM, "77.00"))
    body = {"event": 41, "hook": "penalty.PATRON_EXCEEDS_FINES", "patron": WHITFIELD}
    answer = client_of(app).post(f"{PREFIX}/events", json=body, headers={SECRET_HEADER: SECRET}).get_json()
    assert (answer["over_limit"], answer["recalculated"]) == (True, True)
    row = clerk.open(WHITFIELD).members["Whitfield, Grace"]
    assert "not yet blocked" not in row.casefold()
    assert summary(app, sandbox, WHITFIELD)["over_limit"] is True
