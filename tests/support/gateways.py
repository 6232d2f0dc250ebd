"""Gateways and clients for the sandbox, by account."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.change_ids import change_id
from support.recorded import FAMILIES
from support.states import state_in

from evergreen_groups.client import Client
from evergreen_groups.errors import PlanError
from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.sandbox import Sandbox

PASSWORD = "sandbox"


def environ_of(url: str, account: str = "consortium_staff") -> dict[str, str]:
    """Return the environment variables of a program for an account."""
    own = {"GATEWAY_URL": url, "GATEWAY_USERNAME": account, "PASSWORD": PASSWORD}
    return {f"EVERGREEN_GROUPS_{name}": value for name, value in own.items()}


def gateway_of(url: str, account: str, **options: object) -> Gateway:
    credentials = Credentials(username=account, password=PASSWORD)
    return Gateway(url, credentials=credentials, **options)  # type: ignore[arg-type]  # handed on as they come


@contextmanager
def recorded_families(account: str) -> Iterator[Gateway]:
    """Yield a sandbox with the rows behind ``details`` and ``items``, which a real Evergreen answered the same."""
    with Sandbox(dataset=FAMILIES) as sandbox:
        credentials = Credentials(username=account, password=sandbox.accounts[account].password)
        with Gateway(sandbox.url, credentials=credentials) as gateway:
            yield gateway


@contextmanager
def logged_in(url: str, account: str, **options: Any) -> Iterator[Client]:
    """Yield a client that has logged in and made no other call."""
    with gateway_of(url, account) as gateway:
        gateway.login()
        yield Client(gateway, account=account, **options)


def client_of(gateway: Gateway, directory: Path) -> Client:
    return Client(gateway, account="consortium_staff", state=state_in(directory / "state"))


def why_not_undone(client: Client, number: int) -> str:
    """Return why the journal's entry with this number has nothing to undo, with the number in place of its id."""
    id = change_id(client.changes, number)
    with pytest.raises(PlanError) as caught:
        client.undo(id)
    assert caught.value.code in ("already-undone", "nothing-to-undo")
    return str(caught.value).replace(id, str(number))
