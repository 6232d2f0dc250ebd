"""Explain why one patron is blocked for fines, or why not.

Takes a dozen calls, whatever the size of the ILS. They are those of ``explanation-001`` to ``explanation-015``, and for
a branch, which reads thresholds and permissions differently, of ``explanation-021`` to ``explanation-038``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.errors import PermissionDeniedError, not_visible
from evergreen_groups.groups import FamilyReader, Member, Standing, find_owner
from evergreen_groups.ils import (
    PATRON_EXCEEDS_FINES,
    VIEW_USER,
    Bill,
    Limits,
    PenaltyKinds,
    Profiles,
    Thresholds,
    permissions,
    read_fines_penalties,
    read_fines_within,
    read_own_fines,
    rows_in_force,
)

if TYPE_CHECKING:
    from evergreen_groups.errors import NotFoundError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Bill, OrgUnit, Penalty, PenaltyKind, Threshold
    from evergreen_groups.settings import PolicySettings


@dataclass(frozen=True, slots=True)
class ThresholdPlace:
    """A place where the ILS looks for a threshold, and the amount it finds there (None: no threshold)."""

    org_unit: OrgUnit
    profile: str
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class CheckedBill:
    """An open bill, its org unit (None if the ILS names none), and whether the threshold counts it."""

    bill: Bill
    library: OrgUnit | None
    counts: bool


class PenaltyFate(Enum):
    """What happens to a penalty for fines when the ILS recalculates at the home library."""

    STAYS = "stays"
    """The fines reach the threshold."""
    REMOVED = "removed"
    """The penalty is at the threshold's org unit, but the fines don't reach the threshold.

    Removed even if set by staff.
    """
    UNTOUCHED = "untouched"
    """The penalty is at another org unit than the threshold, or there is no threshold."""


@dataclass(frozen=True, slots=True)
class BlockExplanation:
    """Why a patron is or isn't blocked for fines in the ILS, as seen from the home library.

    ``member`` has the rule's decision, if the account may see the limit. ``penalty`` is what the ILS sets for fines
    there; ``penalty_is_custom`` means that it isn't the stock penalty.

    ``looked_at`` lists where the ILS looks for a threshold, ending with the place where it finds one. None if the
    account may not see thresholds. ``scope`` lists the org units whose bills count, none without a threshold. ``bills``
    are the open bills, None if the account may not see them. ``counted`` is the sum of the bills that count, None
    without a threshold or bills. ``any_open`` means that there is an open transaction that counts, even with a balance
    of 0.00.

    ``fates`` says what a recalculation does to each penalty for fines, by penalty id. Empty if unknown.
    """

    generated_at: datetime
    gateway: str
    member: Member
    profile: str
    penalty: PenaltyKind
    penalty_is_custom: bool
    looked_at: tuple[ThresholdPlace, ...] | None
    scope: tuple[OrgUnit, ...]
    scope_is_everywhere: bool
    bills: tuple[CheckedBill, ...] | None
    counted: Decimal | None
    any_open: bool
    standing: Standing
    penalties_for_fines: tuple[Penalty, ...]
    fates: Mapping[int, PenaltyFate]

    @property
    def threshold(self) -> ThresholdPlace | None:
        """The threshold that counts, None if there is none or it isn't visible."""
        last = self.looked_at[-1] if self.looked_at else None
        return None if last is None or last.amount is None else last

    @property
    def complete(self) -> bool:
        """Whether the account may see everything that the answer depends on."""
        visible = self.looked_at is not None and (self.bills is not None or self.threshold is None)
        return visible and self.member.decision is not None

    @property
    def reaches_threshold(self) -> bool | None:
        """Whether the ILS sets the penalty when it recalculates. None if unknown."""
        if self.looked_at is None:
            return None
        threshold = self.threshold
        if threshold is None or threshold.amount is None:
            return False
        if self.counted is None:
            return None
        # Without open transactions the sum is NULL, which reaches no threshold, not even 0.00.
        return self.any_open and self.counted >= threshold.amount

    @property
    def would_block(self) -> bool | None:
        """Whether a recalculation leaves the patron blocked for fines. None if unknown."""
        reached = self.reaches_threshold
        if reached is None:
            return None
        stays = any(self.fates[one.id] is not PenaltyFate.REMOVED for one in self.standing.blocks_for_fines)
        # The ILS may set a penalty that blocks nothing, such as a note.
        return (reached and bool(self.penalty.blocks)) or stays

    @property
    def to_be_set(self) -> bool:
        """Whether a recalculation would add the penalty."""
        return bool(self.reaches_threshold) and PenaltyFate.STAYS not in self.fates.values()


_VIEW_BILLS = "VIEW_USER_TRANSACTIONS"


class BlockExplainer:
    """Explains the blocks of patrons. ``settings`` contains the rule."""

    def __init__(self, gateway: Gateway, settings: PolicySettings) -> None:
        self._gateway = gateway
        self._settings = settings
        self._reader = FamilyReader(gateway)

    def of_barcode(self, barcode: str) -> BlockExplanation:
        """Explain the blocks of the patron with this barcode.

        Raises:
            NotFoundError: no visible patron has the barcode.
            ConfigurationError: a limit names an unknown profile or library.
            DataError: the ILS refers to something unknown, or shows only some of the patron's transactions.
        """
        owner = find_owner(self._gateway, arguments.text("barcode", barcode))
        error = not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self._explain(owner[0] if owner else None, error)

    def of_user(self, id: int) -> BlockExplanation:
        """Explain the blocks of the patron with this id. Raises the same errors as :meth:`of_barcode`."""
        error = not_visible("no visible patron has this id", code="no-patron-with-id")
        return self._explain(arguments.integer("id", id), error)

    def _explain(self, id: int | None, error: NotFoundError) -> BlockExplanation:
        member = None if id is None else self._reader.by_ids([id]).members.get(id)
        if member is None or member.patron.deleted:
            raise error
        generated_at = datetime.now(UTC).astimezone()
        gateway, org_units, home = self._gateway, self._reader.org_units, member.patron.home_library.id
        # Check permissions instead of relying on the data: hidden bills may add up to the 0.00 of a patron without any,
        # and an account sees its own record, but not its bills, without VIEW_USER (pcrud-056).
        held = permissions.orgs_by_permission(gateway, org_units, [VIEW_USER, _VIEW_BILLS])
        if home not in held[VIEW_USER]:
            raise error
        profiles = Profiles.read(gateway)
        penalties = read_fines_penalties(gateway, org_units)
        kinds = PenaltyKinds.read(gateway, org_units, penalties)
        # Read the fines again to learn whether a patron who owes 0.00 has an open transaction.
        limits = Limits.read(gateway, self._settings, org_units, penalties)
        own_fines = read_own_fines(gateway, [member.id])
        (member,) = Member.of_patrons(gateway, limits, [member.patron], own_fines)
        looked_at, threshold = self._look_up_threshold(member, profiles, penalties)
        scope = org_units.full_path(threshold.org_unit) if threshold is not None else set()
        bills = self._read_bills(member, scope, bills_are_visible=home in held[_VIEW_BILLS])
        counted = None
        any_open = False
        if threshold is not None and bills is not None:
            counting = [checked.bill for checked in bills if checked.counts]
            counted, any_open = Bill.balance_of(counting), bool(counting)
            if not any_open and threshold.amount <= 0:
                # Bills have a balance. A threshold of 0.00 is also reached by an open transaction without a balance.
                any_open = read_fines_within(gateway, {member.id: frozenset(scope)}, {})[member.id] is not None
        standing = kinds.by_patron(rows_in_force(gateway, [member.id]), org_units, [member.id])[member.id]
        explanation = BlockExplanation(
            generated_at=generated_at,
            gateway=gateway.url,
            member=member,
            profile=profiles.name(member.patron.profile),
            penalty=kinds.set_for_fines_at(home),
            penalty_is_custom=penalties[home] != PATRON_EXCEEDS_FINES,
            looked_at=looked_at,
            scope=tuple(unit for unit in org_units if unit.id in scope),
            scope_is_everywhere=len(scope) == len(org_units),
            bills=bills,
            counted=counted,
            any_open=any_open,
            standing=Standing.of(member, standing, kinds),
            penalties_for_fines=tuple(penalty for penalty in standing if penalty.kind.id in kinds.for_fines_at(home)),
            fates={},
        )
        return replace(explanation, fates=_fates(explanation, threshold))

    def _look_up_threshold(
        self, member: Member, profiles: Profiles, penalties: Mapping[int, int]
    ) -> tuple[tuple[ThresholdPlace, ...] | None, Threshold | None]:
        """Return the places where the ILS looks for a threshold, and the threshold. None if they aren't visible."""
        patron, org_units = member.patron, self._reader.org_units
        reader = Thresholds.read(self._gateway, org_units, profiles, penalties)
        try:
            looks = list(reader.search(patron.profile, patron.home_library.id))
        except PermissionDeniedError:
            return None, None
        looked_at = tuple(
            ThresholdPlace(org_units.unit(org_unit), profiles.name(profile), None if found is None else found.amount)
            for (org_unit, profile), found in looks
        )
        return looked_at, looks[-1][1]

    def _read_bills(
        self, member: Member, scope: Collection[int], *, bills_are_visible: bool
    ) -> tuple[CheckedBill, ...] | None:
        # Invisible bills come back empty, so name the patron as hidden.
        hidden = () if bills_are_visible else (member.id,)
        read = Bill.verify(self._gateway, {member.id: member.own_fines}, hidden=hidden)[member.id]
        if read is None:
            return None
        unit = self._reader.org_units.unit
        return tuple(
            CheckedBill(bill, None if bill.library is None else unit(bill.library), bill.library in scope)
            for bill in read
        )


def _fates(explanation: BlockExplanation, threshold: Threshold | None) -> dict[int, PenaltyFate]:
    """Return what a recalculation does to each penalty for fines."""
    reached = explanation.reaches_threshold
    fates: dict[int, PenaltyFate] = {}
    for penalty in explanation.penalties_for_fines if reached is not None else ():
        # A recalculation only affects the threshold's org unit. Stale rows elsewhere stay (penalties-update-010,
        # penalties-update-017).
        if threshold is None or penalty.org_unit.id != threshold.org_unit:
            fates[penalty.id] = PenaltyFate.UNTOUCHED
        # The ILS keeps one penalty of the kind and removes duplicates.
        elif reached and penalty.kind.id == explanation.penalty.id and PenaltyFate.STAYS not in fates.values():
            fates[penalty.id] = PenaltyFate.STAYS
        else:
            fates[penalty.id] = PenaltyFate.REMOVED
    return fates
