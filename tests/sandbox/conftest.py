"""A caller of the shared sandbox."""

import pytest
from support.sandbox_caller import Caller

from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def caller(sandbox: Sandbox) -> Caller:
    return Caller(sandbox.url)
