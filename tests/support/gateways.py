"""Gateways and clients of the sandbox, by account."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.states import state_in

from evergreen_groups.client import Client
from evergreen_groups.errors import PlanError
from evergreen_groups.gateway import Credentials, Gateway

PASSWORD = "sandbox"


def gateway_of(url: str, account: str, **options: object) -> Gateway:
    credentials = Credentials(username=account, password=PASSWORD)
    return Gateway(url, credentials=credentials, **options)  # type: ignore[arg-type]  # handed on as they come


def client_of(gateway: Gateway, directory: Path) -> Client:
    return Client(gateway, account="consortium_staff", state=state_in(directory / "state"))


def why_not_undone(client: Client, entry: int) -> str:
    """Return why an entry of the journal has nothing to undo."""
    with pytest.raises(PlanError) as caught:
        client.moves.plan_undo(entry)
    assert caught.value.code in ("already-undone", "nothing-to-undo")
    return str(caught.value)
