"""Why one patron is blocked for fines or not, step by step as the ILS goes about it, beside what the rule says.

Source: the SQL function ``actor.calculate_system_penalties`` (Evergreen's ``100.circ_matrix.sql``), and what is done
about its answer (``OpenILS/Utils/Penalty.pm``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.groups import Member, Standing
    from evergreen_groups.ils import Bill, OrgUnit, Penalty, PenaltyKind


@dataclass(frozen=True, slots=True)
class LookedAt:
    """One place where the ILS looks for a threshold, and the amount that it finds there, None for nothing."""

    org_unit: OrgUnit
    profile: str
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class BillLooked:
    """One open bill, the org unit that billed (None where the ILS names none), and whether the threshold counts it."""

    bill: Bill
    library: OrgUnit | None
    counts: bool


class PenaltyFate(Enum):
    """What becomes of a standing penalty for fines when the ILS recalculates at the home library."""

    STAYS = "stays"
    """The threshold asks for it."""
    REMOVED = "removed"
    """It stands where the threshold does, which doesn't ask for it: removed, even where staff set it."""
    UNTOUCHED = "untouched"
    """It stands at another org unit than the threshold, or there is no threshold: nothing is done about it."""


@dataclass(frozen=True, slots=True)
class BlockExplanation:
    """Why a patron is blocked for fines in the ILS or not, seen from the home library.

    ``member`` is the patron, with the rule's decision where the account may see the limit. ``penalty`` is what the ILS
    sets for fines there, the stock one unless ``penalty_is_custom``. ``looked_at`` are the places where it looks for a
    threshold, the one where it finds it last, None where the account may not see them. ``bills`` are the open bills,
    None where the account may not see them; ``scope`` are the org units whose bills count, empty without a threshold,
    ``counted`` is what they sum up to (None: there is no threshold, or the bills aren't visible), and ``any_open`` says
    whether there is an open transaction among them, be it that nothing is owed on it. ``fates`` has what becomes of
    each standing penalty for fines in a recalculation, by its id; nothing where that isn't known.
    """

    generated_at: datetime
    gateway: str
    member: Member
    profile: str
    penalty: PenaltyKind
    penalty_is_custom: bool
    looked_at: tuple[LookedAt, ...] | None
    scope: tuple[OrgUnit, ...]
    scope_is_everywhere: bool
    bills: tuple[BillLooked, ...] | None
    counted: Decimal | None
    any_open: bool
    standing: Standing
    penalties_for_fines: tuple[Penalty, ...]
    fates: Mapping[int, PenaltyFate]

    @property
    def threshold(self) -> LookedAt | None:
        """The threshold that counts, None where there is none or it isn't visible."""
        last = self.looked_at[-1] if self.looked_at else None
        return last if last is not None and last.amount is not None else None

    @property
    def complete(self) -> bool:
        """Whether the account may see all that the answer needs."""
        visible = self.looked_at is not None and (self.bills is not None or self.threshold is None)
        return visible and self.member.decision is not None

    @property
    def reaches_threshold(self) -> bool | None:
        """Whether the ILS sets the penalty when it recalculates; None where that isn't known."""
        if self.looked_at is None:
            return None
        threshold = self.threshold
        if threshold is None or threshold.amount is None:
            return False
        if self.counted is None:
            return None
        # A sum over no transaction is no amount: it reaches no threshold, not even one of 0.00.
        return self.any_open and self.counted >= threshold.amount

    @property
    def would_block(self) -> bool | None:
        """Whether a recalculation leaves the patron blocked for fines; None where that isn't known."""
        reached = self.reaches_threshold
        if reached is None:
            return None
        stay = [one for one in self.standing.blocks_for_fines if self.fates[one.id] is not PenaltyFate.REMOVED]
        return (reached and bool(self.penalty.blocks)) or bool(stay)

    @property
    def to_be_set(self) -> bool:
        """Whether a recalculation would set the penalty, because it isn't there yet."""
        return bool(self.reaches_threshold) and PenaltyFate.STAYS not in self.fates.values()
