"""What a search reads of patrons' records beside the rows that patrons are made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from evergreen_groups.groups.patrons import STATE_FIELDS, PatronState


class FieldsBeside(Protocol):
    """Takes it, patron by patron."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an ``au`` to read."""

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Take what they hold of a patron (id), decoded, in their order; called from several threads."""


class States:
    """Takes the state of each patron's account."""

    fields = STATE_FIELDS

    def __init__(self, states: dict[int, PatronState]) -> None:
        self._states = states
        self._now = datetime.now(UTC)

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Keep a patron's state, by id."""
        self._states[patron] = PatronState.of(values, self._now)
