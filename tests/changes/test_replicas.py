"""Sites whose plain reads come from a copy that is behind: what is planned and said there is as it is now."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateways import client_of, gateway_of

from evergreen_groups.changes import Draft
from evergreen_groups.client import Client
from evergreen_groups.sandbox import Sandbox

PATRON, CARD = 1052, "20000000001052"
HOME, OTHER, OTHERS_CARD = 1015, 1002, "20000000001007"
HOMES_CARD = "20000000001051"


@pytest.fixture
def copied() -> Iterator[Sandbox]:
    """A site whose copy never catches up by itself."""
    with Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox:
        yield sandbox


@pytest.fixture
def mover(copied: Sandbox, tmp_path: Path) -> Iterator[Client]:
    with gateway_of(copied.url, "consortium_staff") as gateway:
        yield client_of(gateway, tmp_path)


def members(draft: Draft, group: int) -> set[int]:
    """Who is in a group before the plan."""
    (found,) = (planned for planned in draft.groups if planned.number == group)
    return {member.id for member in found.before.members}


def test_a_plan_starts_from_where_everybody_is_now(mover: Client) -> None:
    assert mover.moves.plan_move([CARD], to=OTHERS_CARD).apply().done
    again = mover.moves.plan_move([CARD], to=OTHERS_CARD)
    assert again.draft.steps == ()
    assert "already in group 1002" in again.draft.unchanged[0]
    back = mover.moves.plan_move([CARD], to=HOMES_CARD)
    assert [(step.before, step.after) for step in back.draft.steps] == [(OTHER, HOME)]
    assert PATRON in members(back.draft, OTHER)
    assert PATRON not in members(back.draft, HOME)
    assert back.apply().done
