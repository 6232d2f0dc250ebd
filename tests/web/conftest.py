"""A session that sees all patrons."""

import pytest
from support.web_caller import bearer, session

from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def staff(sandbox: Sandbox) -> dict[str, str]:
    """The headers of a session that may see all patrons."""
    return bearer(session(sandbox.url, username="consortium_staff"))
