"""What several test files share: a sandbox with the built-in families, and gateways to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evergreen_groups.client import Client
from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.sandbox import Sandbox

PASSWORD = "sandbox"


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    """The sandbox in its fresh state."""
    running_sandbox.reset()
    return running_sandbox


@pytest.fixture
def admin(sandbox: Sandbox) -> Iterator[Gateway]:
    """A gateway as the superuser, to look at the state."""
    with gateway_of(sandbox.url, "admin") as gateway:
        yield gateway


@pytest.fixture
def client(sandbox: Sandbox, tmp_path: Path) -> Iterator[Client]:
    """The jobs, as an account that sees and changes patrons of every library."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield client_of(gateway, tmp_path)


def gateway_of(url: str, account: str, **options: object) -> Gateway:
    credentials = Credentials(username=account, password=PASSWORD)
    return Gateway(url, credentials=credentials, **options)  # type: ignore[arg-type]  # handed on as they come


def client_of(gateway: Gateway, directory: Path) -> Client:
    return Client(gateway, account="consortium_staff", state_directory=directory / "state")
