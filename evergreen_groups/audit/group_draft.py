"""A finding about a group before its cards are read and what it owes: that is asked only of those that are listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from evergreen_groups.audit.findings import GroupFinding, Reason

if TYPE_CHECKING:
    from evergreen_groups.audit.confidence import Confidence
    from evergreen_groups.audit.findings import FindingKind
    from evergreen_groups.audit.group_split import GroupSplit
    from evergreen_groups.groups import Group, PatronRow


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """What a :class:`GroupFinding` is made of; ``rows`` are all visible members of the group."""

    rows: tuple[PatronRow, ...]
    reasons: tuple[Reason, ...]
    kind: FindingKind
    confidence: Confidence | None = None
    split: GroupSplit | None = None

    @property
    def rank(self) -> int:
        """Where it stands among those of its kind, as :attr:`GroupFinding.rank`."""
        return -self.confidence.points if self.confidence else 0

    @property
    def number(self) -> int:
        """The group's number."""
        return self.rows[0].group

    def of(self, group: Group) -> GroupFinding:
        """The finding, with the group that the rows are of."""
        return GroupFinding(group, tuple(self._reasons(group)), self.kind, self.confidence, self.split)

    def _reasons(self, group: Group) -> Iterator[Reason]:
        for reason in self.reasons:
            if (
                reason.code == "several-adults"
            ):  # nobody knows how old hidden members are, nor looked whether there are any
                count, most = reason.values["count"], reason.values["most"]
                yield Reason.counted(reason.code, group.counted(cast("int", count)), most=most)
            else:
                yield reason
