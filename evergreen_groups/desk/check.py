"""Check whether a patron, or each member of a group, is over the limit by the rule and blocked in Evergreen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes import RecentlyChanged
from evergreen_groups.desk.summary import Obstacle, RecalculationForecast, read_forecasts, with_recalculated_rows
from evergreen_groups.errors import not_visible
from evergreen_groups.groups import Group, Member, Standing, StandingDifference, family_reader
from evergreen_groups.ils import Limits, Penalty, PenaltyKinds, read_fines_penalties, rows_in_force
from evergreen_groups.message import Message
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from evergreen_groups.errors import NotFoundError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import FamilyReader, PatronReference


_BLOCKED = Message("Blocked in Evergreen: {penalty}.")


@dataclass(frozen=True, slots=True)
class GroupCheck:
    """The result of checking patrons of one group, with their penalties by patron id.

    ``checked`` are the patrons as members of ``group``, each with a decision. ``whole_group`` says that the check
    covers all members. The group's combined fines are informational and don't block anyone. ``forecasts`` say what a
    recalculation could change for members about whom the rule and Evergreen disagree.
    """

    gateway: str
    group: Group
    checked: tuple[Member, ...]
    penalties: Mapping[int, tuple[Penalty, ...]]
    kinds: PenaltyKinds
    whole_group: bool
    forecasts: Mapping[int, RecalculationForecast]

    @property
    def over_limit(self) -> bool | None:
        """Whether any checked patron is over the limit. None if that depends on a hidden member or limit."""
        if any(member.over_limit_if_known for member in self.checked):
            return True
        return False if self.complete else None

    @property
    def complete(self) -> bool:
        """Whether all patrons to be checked are visible, along with their limits."""
        decided = all(member.decision is not None for member in self.checked)
        return decided and not (self.whole_group and self.group.hidden_member_count)

    def differences(self, member: Member) -> Iterator[Message]:
        """Yield a sentence for each difference between the rule and Evergreen's blocks, and the reason if known.

        If a member's limit is hidden, the rule's result is unknown, so report each block.
        """
        standing, forecast = self.standing(member), self.forecasts.get(member.id)
        why = None if forecast is None else forecast.explain(member)
        hidden = forecast is not None and forecast.obstacle is Obstacle.THRESHOLD_HIDDEN
        if standing.difference is StandingDifference.NOT_YET_BLOCKED:
            yield Message("Own fines exceed the limit, but Evergreen hasn't blocked the patron yet.")
        elif standing.difference is not None and not hidden:
            within = Message("Blocked in Evergreen, but own fines are within the limit: {penalty}.")
            yield from (_about(within, penalty) for penalty in standing.blocks_for_fines)
        elif hidden or standing.over_limit is None:
            yield from (_about(_BLOCKED, penalty) for penalty in standing.blocks_for_fines)
        if why is not None:
            yield why
        yield from (_about(_BLOCKED, penalty) for penalty in standing.other_blocks)

    def standing(self, member: Member) -> Standing:
        """Compare a checked member's own fines with the rule, and list the penalties that block them."""
        return Standing.of(member, self.penalties[member.id], self.kinds)


class Checker:
    """Checks patrons with a few calls each time, however large their group is."""

    def __init__(
        self, gateway: Gateway, settings: PolicySettings, recent: Callable[[], RecentlyChanged] = RecentlyChanged
    ) -> None:
        """``recent`` returns patrons whose latest changes a replica may not have yet."""
        self._gateway = gateway
        self._settings = settings
        self._recent = recent

    @cached_property
    def _reader(self) -> FamilyReader:
        return family_reader(self._gateway)

    def of_barcode(self, barcode: str, *, all_members: bool = False) -> GroupCheck:
        """Check the patron with this barcode, or all members of their group.

        Raises NotFoundError, or ConfigurationError if a limit names a profile or library that doesn't exist.
        """
        not_found = not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self._check(arguments.text("barcode", barcode), all_members, not_found)

    def of_user(self, id: int, *, all_members: bool = False) -> GroupCheck:
        """Check the patron with this id, or all members of their group. Raises the errors of :meth:`of_barcode`."""
        not_found = not_visible("no visible patron has this id", code="no-patron-with-id")
        return self._check(arguments.integer("id", id), all_members, not_found)

    def _check(self, reference: PatronReference, all_members: bool, not_found: NotFoundError) -> GroupCheck:
        found = self._reader.named([reference])
        card = found.cards.get(reference)
        # A deleted record is treated as not found.
        if card is None or card.member.patron.deleted:
            raise not_found
        member, org_units = card.member, self._reader.org_units
        group = found.groups[member.patron.group]
        fines_penalties = read_fines_penalties(self._gateway, org_units)
        limits = Limits.read(self._gateway, self._settings, org_units, fines_penalties)
        patrons = [one.patron for one in (group.members if all_members else (member,))]
        checked = tuple(Member.of_patrons(self._gateway, limits, patrons, found.own_fines))
        kinds = PenaltyKinds.read(self._gateway, org_units, fines_penalties)
        ids = [one.id for one in checked]
        rows = with_recalculated_rows(self._gateway, org_units, rows_in_force(self._gateway, ids), ids, self._recent())
        penalties = kinds.by_patron(rows, org_units, ids)
        standings = [(one, Standing.of(one, penalties[one.id], kinds)) for one in checked]

        def ils_limits() -> Limits:
            if (self._settings.limit, self._settings.limits) == ("ils", ()):
                return limits
            return Limits.read(self._gateway, PolicySettings(limit="ils"), org_units, fines_penalties)

        return GroupCheck(
            gateway=self._gateway.url,
            group=group,
            checked=checked,
            penalties={patron: tuple(found) for patron, found in penalties.items()},
            kinds=kinds,
            whole_group=all_members,
            forecasts=read_forecasts(self._gateway, ils_limits, standings, kinds),
        )


def _about(text: Message, penalty: Penalty) -> Message:
    where = {"penalty": penalty.kind.name, "library": penalty.org_unit.shortname}
    known = Message("{penalty} at {library}, set by staff") if penalty.by_staff else Message("{penalty} at {library}")
    return Message(text, values={"penalty": Message(known, values=where)})
