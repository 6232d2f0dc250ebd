"""Group Member Details: every member of a group with fines, items out and standing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.errors import not_visible
from evergreen_groups.groups import Group, MembershipReader, PatronAccount, decided
from evergreen_groups.ils import CirculationCounter, CirculationCounts
from evergreen_groups.limits import Limits
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.policy import Limit
    from evergreen_groups.settings import PolicySettings


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """A group, and what stands beside its visible members by patron id: their accounts and their circulations.

    ``circulations`` has None for a patron of whom the ILS doesn't say (VIEW_CIRCULATIONS is missing). ``limit`` is the
    one for everybody, None where each has their own. ``gateway`` is the address the data came from.
    """

    gateway: str
    limit: Limit | None
    group: Group
    accounts: Mapping[int, PatronAccount]
    circulations: Mapping[int, CirculationCounts | None]

    @property
    def complete(self) -> bool:
        """Whether nothing about the group is hidden: neither a member nor what one has out."""
        return self.group.complete and self.all_circulations is not None

    @property
    def all_circulations(self) -> CirculationCounts | None:
        """Those of all visible members together, None where those of one aren't known."""
        known = [counts for counts in self.circulations.values() if counts is not None]
        return CirculationCounts.sum_of(known) if len(known) == len(self.group.members) else None


class DetailsReader:
    """Reads groups for showing: a few calls a group, and one a member for the items."""

    def __init__(self, gateway: Gateway, policy: PolicySettings, progress: Progress = silent) -> None:
        self._gateway = gateway
        self._policy = policy
        self._progress = progress
        self._reader = MembershipReader(gateway)

    def of_barcode(self, barcode: str) -> GroupDetails:
        """The group of the patron with this barcode.

        Raises:
            NotFoundError: no visible patron has it.
        """
        found = self._reader.by_barcodes([barcode])
        if barcode not in found:
            raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self.of_group(found[barcode].member.patron.group)

    def of_user(self, id: int) -> GroupDetails:
        """The group of the patron with this id.

        Raises:
            NotFoundError: there is no such visible patron.
        """
        found = self._reader.by_ids([id]).members
        if id not in found:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        return self.of_group(found[id].patron.group)

    def of_group(self, number: int) -> GroupDetails:
        """The group with this number.

        Raises:
            NotFoundError: nobody is in it.
        """
        found = self._reader.by_groups([number])
        group = found.groups[number]
        if not group.member_count:
            raise not_visible("nobody is in group {group}", code="group-empty", values={"group": number})
        limits = Limits.read(self._gateway, self._policy, self._reader.org_units)
        group = decided(self._gateway, limits, group, found.own_fines)
        circulations: dict[int, CirculationCounts | None] = {}
        for patron, counts in CirculationCounter(self._gateway).count([member.id for member in group.members]):
            circulations[patron] = counts
            self._progress("counting items", len(circulations), len(group.members))
        return GroupDetails(
            gateway=self._gateway.url,
            limit=self._policy.as_limit() if self._policy.uniform else None,
            group=group,
            accounts=found.accounts,
            circulations=circulations,
        )
