"""Pages as printed by a browser."""

from __future__ import annotations

import re

_COUNT = re.compile(rb"/Type /Pages\s/Count (\d+)")


def sheets_of(document: bytes) -> int:
    """Return the number of sheets in Chromium's PDF, where each page has a page object."""
    return max(map(int, _COUNT.findall(document)))
