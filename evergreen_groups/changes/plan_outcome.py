"""What became of a plan that was applied, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from evergreen_groups.changes.journal_step import FieldChange, StepState
from evergreen_groups.changes.step_reason import NO_REASON, StepReason

if TYPE_CHECKING:
    from evergreen_groups.changes.landing import SentChange
    from evergreen_groups.changes.plans import Step
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError


@dataclass(frozen=True, slots=True)
class SideEffect:
    """A field that changed although it shouldn't have, with its values before and after, as they came."""

    field: str
    before: object
    after: object


class PlannedStep(FieldChange, Protocol):
    """A step of a plan, be it with all that is known of the patron or as it was written down: see :class:`Step`."""

    @property
    def last(self) -> bool: ...


StepT = TypeVar("StepT", bound=PlannedStep)


@dataclass(frozen=True, slots=True)
class StepOutcome(Generic[StepT]):
    """What became of one step. ``value`` is what the field has now where the step was done, or had nothing to change.

    A step that is ``SENDING`` may still come in; ``sent`` is its request then. ``error`` is what ended it, where
    something did.
    """

    step: StepT
    state: StepState
    value: int | None = None
    reason: StepReason = NO_REASON
    side_effects: tuple[SideEffect, ...] = ()
    error: EvergreenGroupsError | None = None
    sent: SentChange | None = None


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What became of a plan.

    ``stopped`` is the error that ended it early, None where every step was dealt with. What wasn't reached is
    ``PLANNED``; the same plan can be made and applied again, and only does what is left.
    ``entry`` is the id that it has in the journal; None where there was nothing to do.
    """

    steps: tuple[StepOutcome[Step], ...]
    stopped: GatewayError | None = None
    entry: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, and nothing else was changed: each step was done, or unchanged."""
        return all(step.state.is_as_planned and not step.side_effects for step in self.steps)
