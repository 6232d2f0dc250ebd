"""The ids of changes, which are partly random, by the numbers used in tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.command import Command

UNKNOWN = "77-k7q4tz"
"""An id that no change has."""


def change_id(journal: Any, number: int) -> str:
    """Return the id of the change with this number, from a journal or anything else with ``entries``."""
    (id,) = (entry.id for entry in journal.entries() if number_of(entry.id) == number)
    return id


def listed_id(run: Command, number: int, *options: str) -> str:
    """Return the id of a change from the output of the command ``journal``."""
    (id,) = re.findall(rf"^ *({number}-[0-9a-z]{{6}})", run(*options, "journal").stdout, re.MULTILINE)
    return str(id)


def number_of(id: str | None) -> int | None:
    return None if id is None else int(id.partition("-")[0])
