"""The command ``evergreen-groups``: words in, words out. No rule lives here."""

from __future__ import annotations

from evergreen_groups.cli.main import main

__all__ = ["main"]
