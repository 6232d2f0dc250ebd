"""What an audit finds: patrons whose blocks and own fines don't fit together, and groups that look accidental."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.policy import Limit

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import Penalty


class FindingKind(Enum):
    """What is wrong, or may be."""

    NOT_BLOCKED = "over-limit-not-blocked"
    """Own fines over the limit, and no block for fines in the ILS."""
    NOT_OVER = "blocked-not-over-limit"
    """A block for fines that the ILS set itself, and own fines not over the limit."""
    FOR_FAMILY = "blocked-for-family"
    """Blocked by hand, own fines within the limit, the group's over it."""
    BY_HAND = "blocked-by-hand"
    """Blocked by hand, and neither own fines nor the group's are over the limit: for review only."""
    ACCIDENTAL = "accidental-group"
    """A group that may not belong together."""


RECALCULABLE = (FindingKind.NOT_BLOCKED, FindingKind.NOT_OVER)
"""The kinds that a recalculation by the ILS may settle."""


@dataclass(frozen=True, slots=True)
class PatronFinding:
    """One patron whose blocks and own fines don't fit together.

    ``blocks`` are the penalties that the finding is about; ``group_fines`` is what the patron's group owes together,
    None where it doesn't matter or isn't known. ``reason`` is a sentence.
    """

    kind: FindingKind
    member: Member
    reason: str
    blocks: tuple[Penalty, ...] = ()
    group_fines: Decimal | None = None


@dataclass(frozen=True, slots=True)
class GroupFinding:
    """A group that looks accidental. ``reasons`` are sentences."""

    group: Group
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditCriteria:
    """What an audit goes over: patrons at home at ``orgs`` (short names; none: everywhere) or below, and their groups.

    ``limit`` is the limit of everybody's own fines, None where the policy has different ones for different patrons.
    """

    orgs: tuple[str, ...] = ()
    limit: Limit | None = field(default_factory=Limit)


@dataclass(frozen=True, slots=True)
class Audit:
    """What stands in the ILS and doesn't fit the rule.

    ``generated_at`` is when reading began (aware); ``notes`` are sentences about what is missing; ``complete`` says
    that the account sees every patron.
    """

    generated_at: datetime
    gateway: str
    criteria: AuditCriteria
    patrons: tuple[PatronFinding, ...]
    groups: tuple[GroupFinding, ...]
    notes: tuple[str, ...] = ()
    complete: bool = True

    def of_kind(self, kind: FindingKind) -> list[PatronFinding]:
        """The findings of one kind, in their order."""
        return [finding for finding in self.patrons if finding.kind is kind]

    def count(self, kind: FindingKind) -> int:
        """How many findings of a kind there are."""
        return len(self.groups) if kind is FindingKind.ACCIDENTAL else len(self.of_kind(kind))
