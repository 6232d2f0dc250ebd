"""A plan as it is stored until somebody agrees to it: ids of patrons, numbers of groups, and nothing else of them."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES
from evergreen_groups.changes.plans import GROUP, Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.changes.plans import Draft

LIFE = timedelta(hours=1)
"""How long a plan can be agreed to."""


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One step: see :class:`Step`. ``lead`` is whether the patron led the group when the plan was made; of a
    recalculation ``due`` is whether the rule has them over the limit."""

    patron_id: int
    field: str
    before: int
    after: int | None
    last: bool = False
    lead: bool = False
    due: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedGroup:
    """Who was in a group when the plan was made: the ids of all members, whether the account sees them or not."""

    number: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan of a staff user's (``staff``, an ``au.id``).

    ``groups`` are those whose members must be the same when it is applied. ``change`` is the journal's entry by which
    it was applied, under the caller's ``key``; both are None before that.
    """

    id: str
    staff: int
    action: Action
    at: datetime
    expires: datetime
    steps: tuple[StoredStep, ...]
    groups: tuple[ExpectedGroup, ...] = ()
    undoes: str | None = None
    key: str | None = None
    change: str | None = None

    @classmethod
    def of(cls, draft: Draft, staff: int, undoes: str | None, due: frozenset[int], now: datetime) -> StoredPlan:
        """A new one; ``due`` are the ids of those whom the rule has over the limit, for a recalculation."""
        steps = [
            StoredStep(
                step.patron_id,
                step.field,
                step.before,
                step.after,
                step.last,
                step.member.group_lead,
                step.patron_id in due,
            )
            for step in draft.steps
        ]
        return cls.new(staff, draft.action, steps, expected_groups(draft), undoes=undoes, now=now)

    @classmethod
    def new(
        cls,
        staff: int,
        action: Action,
        steps: Sequence[StoredStep],
        groups: Sequence[ExpectedGroup],
        *,
        undoes: str | None,
        now: datetime,
    ) -> StoredPlan:
        """A new one of these steps."""
        return cls(secrets.token_urlsafe(18), staff, action, now, now + LIFE, tuple(steps), tuple(groups), undoes)

    @property
    def patrons(self) -> frozenset[int]:
        """The ids of those whom it changes."""
        return frozenset(step.patron_id for step in self.steps)

    @property
    def members(self) -> frozenset[int]:
        """The ids of those who must be in its groups."""
        return frozenset(id for group in self.groups for id in group.members)

    @property
    def is_recalculation(self) -> bool:
        """Whether it has the ILS recalculate penalties, and changes nothing itself."""
        return any(step.field == PENALTIES for step in self.steps)

    @property
    def content(self) -> str:
        """What is stored of it in one column, as JSON."""
        return json.dumps(
            {
                "steps": [asdict(step) for step in self.steps],
                "groups": [asdict(group) for group in self.groups],
                "undoes": self.undoes,
            }
        )


def expected_groups(draft: Draft) -> tuple[ExpectedGroup, ...]:
    """The groups that somebody joins, and that a merge empties: whoever has come there meanwhile would be left behind.

    Those that are only left may change: who else goes there changes nothing for those who were chosen.
    """
    joined = {step.after for step in draft.steps if step.field == GROUP}
    return tuple(
        ExpectedGroup(before.number, tuple(sorted(before.ids)))
        for before in (group.before for group in draft.groups)
        if before is not None and (draft.action is Action.MERGE or before.number in joined)
    )


@dataclass(frozen=True, slots=True)
class ProposedPlan:
    """A plan to be shown: ``stored`` can be agreed to, ``draft`` says what it means."""

    stored: StoredPlan
    draft: Draft
