"""A finding about a patron before the barcode is read: that is asked only of those that are listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.audit.findings import FindingKind, PatronFinding


@dataclass(frozen=True, slots=True)
class PatronDraft:
    """A finding about a patron whose barcode wasn't read; ``card`` is the id of the card that it stands on."""

    finding: PatronFinding
    card: int | None

    @property
    def kind(self) -> FindingKind:
        """Its kind."""
        return self.finding.kind

    @property
    def rank(self) -> int:
        """Where it stands among those of its kind."""
        return self.finding.rank

    @property
    def number(self) -> int:
        """The patron's id."""
        return self.finding.number
