"""What became of penalties that the ILS was to recalculate, person by person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.audit import PatronFinding
    from evergreen_groups.changes.journal_step import StepState
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far one recalculation went, and whether the block for fines is now as the rule has it.

    ``reason`` says what changed, or why nothing did.
    """

    state: StepState
    resolved: bool = False
    reason: str = ""
    error: EvergreenGroupsError | None = None


@dataclass(frozen=True, slots=True)
class Recalculated:
    """What became of one person. ``reason`` says what changed, or why nothing did.

    ``resolved`` says that the finding doesn't hold any more; ``state`` is how far the call went.
    """

    finding: PatronFinding
    state: StepState
    resolved: bool = False
    reason: str = ""
    error: EvergreenGroupsError | None = None


@dataclass(frozen=True, slots=True)
class Recalculations:
    """What became of all of them. ``stopped`` is the error that ended it early, None where everybody was reached."""

    people: tuple[Recalculated, ...]
    stopped: GatewayError | None = None
