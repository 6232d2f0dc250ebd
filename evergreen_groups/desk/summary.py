"""What a desk wants to see beside a patron: the own fines, the group's together, and who is really blocked."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from decimal import Decimal

from evergreen_groups.errors import not_in_sight
from evergreen_groups.gateway import Gateway, Record
from evergreen_groups.groups import GroupRow, GroupRows, read_balances, read_member_ids, rows_around, rows_of, total_of
from evergreen_groups.ils import read_fines_of_oneself, read_own_fines
from evergreen_groups.limits import OwnDebt, ReferenceData, decide_all
from evergreen_groups.money import NOTHING
from evergreen_groups.policy import Decision

_DECIDING = ("id", "profile", "home_ou")


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
    what those owe together.
    """

    group: int
    members: tuple[SummaryMember, ...]
    hidden_count: int = 0
    hidden_fines: Decimal = NOTHING

    @property
    def group_fines(self) -> Decimal:
        """What all members owe together, those out of sight and credits counted."""
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
    """Reads summaries and decisions at one gateway, as far as its session may see.

    A summary takes two calls, whatever the size of the group: its members, and what each of them owes (of the latter
    one for each 2,000). A third finds out about members out of sight where there may be any. Before the first one there
    are the IDL and where the account sees patrons. Limits that differ from patron to patron cost what
    :class:`ReferenceData` says; where the ILS's own count the fines of some libraries only, each summary takes one call
    more.
    """

    def __init__(self, gateway: Gateway, reference: ReferenceData) -> None:
        self._gateway = gateway
        self._reference = reference

    def of_patron(self, id: int) -> PatronSummary:
        """The patron with this id and their group.

        Raises:
            NotFoundError: no patron in sight has this id; deleted ones aren't in sight.
            PermissionDeniedError: the account has no VIEW_USER at its own library, so nobody can be counted.
            DataError: the group is too large to be a family.
        """
        found = rows_around(self._gateway, id, self._reference.granted(self._gateway))
        if found is None:
            raise not_in_sight("no patron in sight has this id", code="no-patron-with-id")
        group = self._summary(found)
        return PatronSummary(next(member for member in group.members if member.id == id), group)

    def of_group(self, number: int) -> GroupSummary:
        """The group with this number; raises what :meth:`of_patron` does.

        Raises:
            NotFoundError: no member of it is in sight.
        """
        found = rows_of(self._gateway, number, self._reference.granted(self._gateway))
        if not found.rows:
            raise not_in_sight("no member of group {group} is in sight", code="group-hidden", values={"group": number})
        return self._summary(found)

    def decision(self, id: int) -> BlockDecision:
        """Whether the patron with this id is blocked by their own fines; nothing is read about anybody else.

        Raises:
            NotFoundError: no patron in sight has this id.
        """
        self._gateway.idl("au", "mous")  # in one go
        found = self._gateway.pcrud.search("au", {"id": id, "deleted": "f"}, select=_DECIDING, limit=1)
        if not found:
            raise not_in_sight("no patron in sight has this id", code="no-patron-with-id")
        return self._decided(found[0])

    def decision_by_barcode(self, barcode: str) -> BlockDecision:
        """The same for the patron with this barcode, exactly as written, on any card of theirs."""
        self._gateway.idl("ac", "au", "mous")
        cards = self._gateway.pcrud.search("ac", {"barcode": barcode}, flesh=1, flesh_fields={"ac": ["usr"]}, limit=1)
        patron = cards[0].usr if cards else None
        if not isinstance(patron, Record) or patron.deleted:
            raise not_in_sight("no patron in sight has this barcode", code="no-patron-with-barcode")
        return self._decided(patron)

    def is_deleted(self, id: int) -> bool:
        """Whether a patron in sight has this id and is deleted."""
        return bool(self._gateway.pcrud.search("au", {"id": id, "deleted": "t"}, select=("id",), limit=1))

    def _decided(self, patron: Record) -> BlockDecision:
        debtor = OwnDebt(patron.id, patron.profile, patron.home_ou, self._own_fines(patron.id))
        limits = self._reference.limits(self._gateway)
        decision = decide_all(self._gateway, limits, [debtor])[patron.id].decision
        return BlockDecision(decision.blocked, decision.own_balance, decision.limit, patron=patron.id)

    def _own_fines(self, id: int) -> Decimal:
        owed = read_own_fines(self._gateway, [id]).get(id)
        if owed is None and self._reference.user(self._gateway) == id:
            owed = read_fines_of_oneself(self._gateway, id)
        return NOTHING if owed is None else owed

    def _summary(self, found: GroupRows) -> GroupSummary:
        balances, hidden = self._balances(found)
        owed = {row.id: balances.get(row.id, NOTHING) for row in found.rows}
        debtors = [OwnDebt(row.id, row.profile, row.home_library, owed[row.id]) for row in found.rows]
        decided = decide_all(self._gateway, self._reference.limits(self._gateway), debtors)
        members = [_member(row, owed[row.id], decided[row.id].decision) for row in found.rows]
        members.sort(key=lambda member: (not member.group_lead, member.name.casefold(), member.id))
        return GroupSummary(found.group, tuple(members), len(hidden), total_of(balances, hidden))

    def _balances(self, found: GroupRows) -> tuple[Mapping[int, Decimal], Set[int]]:
        """What everybody owes who does, by id, and the ids of members out of sight.

        ``usergroup.members.balance_owed`` tells of everybody, but takes the ILS a query a member, which is ten times as
        long as reading the balances of those in sight.
        """
        seen = {row.id for row in found.rows}
        if found.complete:
            return read_own_fines(self._gateway, seen), frozenset()
        balances = read_balances(self._gateway, found.group)
        return balances, (balances.keys() | read_member_ids(self._gateway, [found.group])) - seen


def _member(row: GroupRow, own_fines: Decimal, decision: Decision) -> SummaryMember:
    return SummaryMember(row.id, row.name, row.barcode, row.library, own_fines, decision, row.group_lead)
