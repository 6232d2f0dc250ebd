"""A gateway that sees all patrons."""

from collections.abc import Iterator

import pytest
from support.gateways import gateway_of

from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def staff(sandbox: Sandbox) -> Iterator[Gateway]:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield gateway
