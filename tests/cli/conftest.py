"""The command with the sandbox's gateway, in a separate process."""

from pathlib import Path

import pytest
from support.command import Command

from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Command:
    return Command(tmp_path, sandbox.url)
