"""An installation whose gateway can be made to fail."""

from pathlib import Path

import pytest
from support.fault_proxy import FaultProxy
from support.installation import Installation


@pytest.fixture
def installation(proxy: FaultProxy, tmp_path: Path) -> Installation:
    return Installation(tmp_path, proxy.url)
