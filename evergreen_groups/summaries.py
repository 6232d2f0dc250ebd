"""What a desk wants to see beside a patron: the own fines, the group's together, and who is really blocked."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from evergreen_groups.config import PolicySettings
from evergreen_groups.decisions import decide_all
from evergreen_groups.gateway import Gateway
from evergreen_groups.limits import Limits
from evergreen_groups.membership import Membership, MembershipReader, Person, not_in_sight
from evergreen_groups.models import NOTHING
from evergreen_groups.org_units import OrgUnits
from evergreen_groups.policy import Decision


@dataclass(frozen=True, slots=True)
class SummaryMember:
    """One member in sight. ``own_fines`` are those of everywhere; ``decision`` is about those that the limit counts.

    ``library`` is the home library's short name; ``barcode`` that of the primary card.
    """

    id: int
    name: str
    barcode: str | None
    library: str
    own_fines: Decimal
    decision: Decision
    group_lead: bool


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A group: what its members owe, each and together, which is for information only.

    ``members`` are those in sight, the lead first; ``hidden_count`` says how many more there are, and ``hidden_fines``
    what those owe together (None: the ILS doesn't tell).
    """

    group: int
    members: tuple[SummaryMember, ...]
    hidden_count: int = 0
    hidden_fines: Decimal | None = NOTHING

    @property
    def group_fines(self) -> Decimal | None:
        """What all members owe together, credits counted; None where what hidden members owe isn't known."""
        if self.hidden_fines is None:
            return None
        return sum((member.own_fines for member in self.members), self.hidden_fines)

    @property
    def lead(self) -> int | None:
        """The id of the group lead, the lowest where there are several, None for a group without one in sight."""
        return min((member.id for member in self.members if member.group_lead), default=None)

    @property
    def size(self) -> int:
        """How many belong to the group, hidden ones counted."""
        return len(self.members) + self.hidden_count


@dataclass(frozen=True, slots=True)
class PatronSummary:
    """A patron and the group they are in. Whether they are blocked depends on ``patron.decision`` alone."""

    patron: SummaryMember
    group: GroupSummary

    @property
    def show(self) -> bool:
        """Whether there is anything to show: not for a group of one."""
        return self.group.size > 1


@dataclass(frozen=True, slots=True)
class BlockDecision(Decision):
    """The rule's decision about the patron with this id."""

    patron: int


class SummaryReader:
    """Reads summaries and decisions at one gateway, as far as its account may see."""

    def __init__(self, gateway: Gateway, policy: PolicySettings) -> None:
        self._gateway = gateway
        self._policy = policy
        self._reader = MembershipReader(gateway)

    def of_patron(self, id: int) -> PatronSummary:
        """The patron with this id and their group.

        Raises:
            NotFoundError: no patron in sight has this id; deleted ones aren't in sight.
        """
        group = self._group(self._patron(id).group)
        patron = next((member for member in group.members if member.id == id), None)
        if patron is None:
            raise not_in_sight("no patron in sight has this id")
        return PatronSummary(patron, group)

    def of_group(self, number: int) -> GroupSummary:
        """The group with this number.

        Raises:
            NotFoundError: no member of it is in sight.
        """
        group = self._group(number)
        if not group.members:
            raise not_in_sight(f"no member of group {number} is in sight")
        return group

    def decision(self, id: int) -> BlockDecision:
        """Whether the patron with this id is blocked by their own fines.

        Raises:
            NotFoundError: no patron in sight has this id.
        """
        return self._decided(self._patron(id))

    def decision_by_barcode(self, barcode: str) -> BlockDecision:
        """The same for the patron with this barcode, on any card of theirs."""
        found = self._reader.by_barcodes([barcode])
        if barcode not in found or found[barcode].person.deleted:
            raise not_in_sight("no patron in sight has this barcode")
        return self._decided(found[barcode].person)

    def _patron(self, id: int) -> Person:
        person = self._reader.by_ids([id]).get(id)
        if person is None or person.deleted:
            raise not_in_sight("no patron in sight has this id")
        return person

    def _decided(self, person: Person) -> BlockDecision:
        limits = Limits.read(self._gateway, self._policy, OrgUnits.read(self._gateway))
        decision = decide_all(self._gateway, limits, [person])[person.id].decision
        return BlockDecision(decision.blocked, decision.own_balance, decision.limit, patron=person.id)

    def _group(self, number: int) -> GroupSummary:
        return self._summary(self._reader.groups([number])[number])

    def _summary(self, membership: Membership) -> GroupSummary:
        org_units = OrgUnits.read(self._gateway)
        limits = Limits.read(self._gateway, self._policy, org_units)
        decided = decide_all(self._gateway, limits, membership.members)
        members = tuple(
            SummaryMember(
                id=person.id,
                name=person.name,
                barcode=person.barcode,
                library=org_units.shortname(person.home_library),
                own_fines=person.own_fines,
                decision=decided[person.id].decision,
                group_lead=person.group_lead,
            )
            for person in membership.members
        )
        return GroupSummary(membership.group, members, len(membership.hidden_ids), membership.hidden_fines)
