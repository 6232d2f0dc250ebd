"""What a browser prints a page on."""

from __future__ import annotations

import re

_COUNT = re.compile(rb"/Type /Pages\s/Count (\d+)")


def sheets_of(document: bytes) -> int:
    """How many sheets a PDF of Chromium has: the pages of all, and of parts, are counted in it."""
    return max(map(int, _COUNT.findall(document)))
