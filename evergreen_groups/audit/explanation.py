"""Reads all that tells why one patron is blocked for fines or not: a dozen calls, whatever the size of the ILS.

The calls are those of ``explanation-001`` to ``explanation-015``, and for a branch, which reads thresholds and what it
may see otherwise, of ``explanation-021`` to ``explanation-038``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.errors import not_visible
from evergreen_groups.groups import Group, Member, MembershipReader, Standing, decided
from evergreen_groups.ils import (
    PATRON_EXCEEDS_FINES,
    VIEW_USER,
    Limits,
    PenaltyKinds,
    Profiles,
    ThresholdReader,
    balance_of,
    orgs_by_permission,
    read_fines_penalties,
    read_fines_within,
    read_own_fines,
    read_verified_bills,
)

if TYPE_CHECKING:
    from evergreen_groups.errors import NotFoundError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Bill, OrgUnit, Penalty, PenaltyKind, Threshold
    from evergreen_groups.settings import PolicySettings


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


_VIEW_BILLS = "VIEW_USER_TRANSACTIONS"


@dataclass(frozen=True, slots=True)
class _Counted:
    """The open bills of a patron (None: not visible), and what those that the threshold counts sum up to.

    ``total`` is None without a threshold; ``any_open`` says whether there is an open transaction that counts.
    """

    bills: tuple[BillLooked, ...] | None
    total: Decimal | None
    any_open: bool


class BlockExplainer:
    """Explains the blocks of patrons, one at a time; ``settings`` has the rule."""

    def __init__(self, gateway: Gateway, settings: PolicySettings) -> None:
        self._gateway = gateway
        self._settings = settings
        self._reader = MembershipReader(gateway)

    def of_barcode(self, barcode: str) -> BlockExplanation:
        """Explain the blocks of the patron with this barcode.

        Raises:
            NotFoundError: no visible patron has it.
            ConfigurationError: a limit names a profile or library that isn't there.
            DataError: the ILS names something that it doesn't list, or shows only some of the patron's transactions.
        """
        found = self._reader.by_barcodes([arguments.text("barcode", barcode)])
        member = found[barcode].member if barcode in found else None
        return self._explain(member, not_visible("no visible patron has this barcode", code="no-patron-with-barcode"))

    def of_user(self, id: int) -> BlockExplanation:
        """Explain the blocks of the patron with this id; raises what :meth:`of_barcode` does."""
        member = self._reader.by_ids([arguments.integer("id", id)]).members.get(id)
        return self._explain(member, not_visible("no visible patron has this id", code="no-patron-with-id"))

    def _explain(self, member: Member | None, nobody: NotFoundError) -> BlockExplanation:
        if member is None or member.patron.deleted:
            raise nobody
        generated_at = datetime.now(UTC).astimezone()
        gateway, org_units, home = self._gateway, self._reader.org_units, member.patron.home_library.id
        # Asked, because hidden bills may add up to the 0.00 of somebody without any, and because the account sees its
        # own record without VIEW_USER, though not what it owes (pcrud-056).
        held = orgs_by_permission(gateway, org_units, [VIEW_USER, _VIEW_BILLS])
        if home not in held[VIEW_USER]:
            raise nobody
        profiles = Profiles.read(gateway)
        penalties = read_fines_penalties(gateway, org_units)
        kinds = PenaltyKinds.read(gateway, org_units, penalties)
        member = self._decided(member, penalties)
        looked_at, threshold = self._look(member, profiles, penalties)
        scope = org_units.full_path(threshold.org_unit) if threshold is not None else set()
        counted = self._count(member, scope, threshold, bills_are_visible=home in held[_VIEW_BILLS])
        standing = kinds.in_force(gateway, org_units, [member.id])[member.id]
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
            bills=counted.bills,
            counted=counted.total,
            any_open=counted.any_open,
            standing=Standing.of(member, standing, kinds),
            penalties_for_fines=tuple(one for one in standing if kinds.is_for_fines(one.kind, home)),
            fates={},
        )
        return _with_fates(explanation, threshold)

    def _look(
        self, member: Member, profiles: Profiles, penalties: Mapping[int, int]
    ) -> tuple[tuple[LookedAt, ...] | None, Threshold | None]:
        """Where the ILS looks for a threshold, and the one that it finds; None where the account may not see them."""
        patron, org_units = member.patron, self._reader.org_units
        reader = ThresholdReader(self._gateway, org_units, profiles, penalties)
        if not reader.are_visible(patron.home_library.id):
            return None, None
        looks = list(reader.lookups(patron.profile, patron.home_library.id))
        looked_at = [
            LookedAt(
                org_units.unit(look.org_unit),
                profiles.name(look.profile),
                None if look.found is None else look.found.amount,
            )
            for look in looks
        ]
        return tuple(looked_at), looks[-1].found

    def _count(
        self, member: Member, scope: Collection[int], threshold: Threshold | None, *, bills_are_visible: bool
    ) -> _Counted:
        org_units = self._reader.org_units
        hidden = () if bills_are_visible else (member.id,)
        read = read_verified_bills(self._gateway, {member.id: member.own_fines}, hidden)[member.id]
        if read is None:
            return _Counted(None, None, any_open=False)
        bills = tuple(
            BillLooked(bill, None if bill.library is None else org_units.unit(bill.library), bill.library in scope)
            for bill in read
        )
        if threshold is None:
            return _Counted(bills, None, any_open=False)
        counted = [one.bill for one in bills if one.counts]
        any_open = bool(counted)
        if not counted and threshold.amount <= 0:
            # Bills are those with a balance. A threshold of nought is reached by an open transaction without one, too.
            any_open = read_fines_within(self._gateway, {member.id: frozenset(scope)}, {})[member.id] is not None
        return _Counted(bills, balance_of(counted), any_open=any_open)

    def _decided(self, member: Member, penalties: Mapping[int, int]) -> Member:
        """The patron with the rule's decision, without one where the account may not see the limit."""
        gateway = self._gateway
        limits = Limits.read(gateway, self._settings, self._reader.org_units, penalties)
        # Once more, to know of somebody who owes 0.00 whether there is an open transaction.
        own_fines = read_own_fines(gateway, [member.id])
        return decided(gateway, limits, Group(member.patron.group, (member,)), own_fines).members[0]


def _with_fates(explanation: BlockExplanation, threshold: Threshold | None) -> BlockExplanation:
    """What a recalculation does to each penalty for fines: it has a say only where the threshold stands."""
    reached = explanation.reaches_threshold
    if reached is None:
        return explanation
    fates: dict[int, PenaltyFate] = {}
    for penalty in explanation.penalties_for_fines:
        fates[penalty.id] = _fate(penalty, explanation, threshold, reached=reached, taken=fates.values())
    return replace(explanation, fates=fates)


def _fate(
    penalty: Penalty,
    explanation: BlockExplanation,
    threshold: Threshold | None,
    *,
    reached: bool,
    taken: Collection[PenaltyFate],
) -> PenaltyFate:
    # At that one org unit: a stale row elsewhere stays (penalties-update-010, penalties-update-017).
    if threshold is None or penalty.org_unit.id != threshold.org_unit:
        return PenaltyFate.UNTOUCHED
    wanted = reached and penalty.kind.id == explanation.penalty.id and PenaltyFate.STAYS not in taken
    return PenaltyFate.STAYS if wanted else PenaltyFate.REMOVED
