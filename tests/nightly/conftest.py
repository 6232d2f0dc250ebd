"""The command with a state directory of its own."""

from pathlib import Path

import pytest
from support.command import Command

from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def command(tmp_path: Path, sandbox: Sandbox) -> Command:
    made = Command(tmp_path, sandbox.url)
    made.environ["STATE_DIRECTORY"] = str(tmp_path / "state")
    return made
