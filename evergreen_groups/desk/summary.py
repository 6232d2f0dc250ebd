"""What a desk wants to see beside a patron: own fines, the group's together, who is over the limit, who is blocked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar, cast

from evergreen_groups import arguments
from evergreen_groups.changes import RecentlyChanged
from evergreen_groups.desk.around import plain_viewer, rows_put_right, with_penalties_now
from evergreen_groups.desk.prospects import RecalculationProspect, read_prospects
from evergreen_groups.errors import NotFoundError, PermissionDeniedError, not_visible
from evergreen_groups.gateway import Gateway, Record
from evergreen_groups.groups import (
    Group,
    GroupViewer,
    HiddenMembers,
    Member,
    Standing,
    StandingTotals,
    VisiblePatrons,
    correct_fines_from_primary,
    decide_where_visible,
    find_card,
    find_owner,
    make_members,
    read_group_balances,
    read_patron,
    visible_family_of,
    visible_group,
)
from evergreen_groups.ils import (
    VIEW_USER,
    ReferenceData,
    decide_all,
    read_fines_of,
    read_own_fines,
    rows_in_force,
)
from evergreen_groups.policy import Decision

_DECIDING = ("id", "profile", "home_ou", "deleted")

Found = TypeVar("Found")


@dataclass(frozen=True)
class GroupSummary(Group):
    """A group with the standings of its visible members, by patron id.

    ``prospects`` says of the members about whom the rule and the ILS disagree what a recalculation could change.
    """

    standings: Mapping[int, Standing] = field(default_factory=dict)
    prospects: Mapping[int, RecalculationProspect] = field(default_factory=dict)

    @property
    def standing_totals(self) -> StandingTotals:
        """How many members are over the limit or blocked."""
        return StandingTotals.of(self, [self.standings[member.id] for member in self.members])


@dataclass(frozen=True, slots=True)
class PatronSummary:
    """A patron and the group they are in.

    Whether they are over the limit depends on their own fines alone. Nothing was decided about whom the account may not
    see the limit of.
    """

    member: Member
    group: GroupSummary

    @property
    def standing(self) -> Standing:
        """The patron's own fines against the rule, and the penalties that block them."""
        return self.group.standings[self.member.id]

    @property
    def show(self) -> bool:
        """Whether there is anything to show: not for a group of one."""
        return self.group.member_count > 1


@dataclass(frozen=True, slots=True)
class PatronDecision(Decision):
    """The rule's decision about the patron with the id ``patron``, for programs that ask about one.

    ``standing`` compares it with the penalties in the ILS, None if they weren't read or the account can't see them.
    """

    patron: int
    standing: Standing | None


class SummaryReader:
    """Reads summaries and decisions at one gateway, as far as its session may see.

    A summary takes two calls, whatever the size of the group: its members with their penalties, and what each of them
    owes (of the latter one for each 3,000). A third finds out about hidden members where there may be any, and where
    there are, a fourth holds them against the group. Before the first one there are the IDL and what the session sees;
    kinds of penalties are read beside it. Limits that differ from patron to patron cost what
    :class:`ReferenceData` says; where the ILS's own count the fines of some libraries only, each summary takes one call
    more. The ILS's own thresholds are read, and kept, where the rule and the ILS disagree about a member.
    """

    def __init__(
        self, gateway: Gateway, reference: ReferenceData, recent: Callable[[], RecentlyChanged] = RecentlyChanged
    ) -> None:
        """``recent`` gives whom a program has changed so recently that a copy of the database may not have it."""
        self._gateway = gateway
        self._reference = reference
        self._recent = recent

    def of_patron(self, id: int) -> PatronSummary:
        """The patron with this id and their group.

        Raises:
            NotFoundError: no visible patron has this id; deleted ones aren't visible.
            PermissionDeniedError: the account has no VIEW_USER at its own library, so nobody can be counted.
            DataError: the group is too large to be a family.
        """
        arguments.integer("id", id)
        recent = self._recent()
        found = self._with_reference(recent, lambda viewer: visible_family_of(self._gateway, id, viewer))
        if found is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        group = self._summary(found, recent)
        return PatronSummary(next(member for member in group.members if member.id == id), group)

    def of_group(self, number: int) -> GroupSummary:
        """The group with this number; raises what :meth:`of_patron` does.

        Raises:
            NotFoundError: no member of it is visible.
        """
        arguments.integer("number", number)
        recent = self._recent()
        found = self._with_reference(recent, lambda viewer: visible_group(self._gateway, number, viewer))
        if not found.rows:
            raise not_visible("no member of group {group} is visible", code="group-hidden", values={"group": number})
        return self._summary(found, recent)

    def decision(self, id: int, *, with_penalties: bool = True) -> PatronDecision:
        """Whether the patron with this id is over the limit, and blocked; nothing is read about anybody else.

        One call less without the penalties.

        Raises:
            NotFoundError: no visible patron has this id.
        """
        arguments.integer("id", id)
        self._gateway.idl("au", "mous")  # in one go
        patron = self._record(id)
        if patron is None or patron.deleted:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        return self._decided(patron, with_penalties=with_penalties)

    def decision_by_barcode(self, barcode: str) -> PatronDecision:
        """The same for the patron with this barcode, blanks in it ignored, on any card of theirs."""
        arguments.text("barcode", barcode)
        self._gateway.idl("ac", "au", "mous")
        # Fleshed here: for a single row that is one query more for the ILS and one call less for the desk.
        card = find_card(self._gateway, barcode, with_patron=True)
        patron = None if card is None else card.usr
        if self._gateway.reads_replicas:
            id = patron.id if isinstance(patron, Record) else find_owner(self._gateway, barcode)
            patron = None if id is None else self._record(id)
        if not isinstance(patron, Record) or patron.deleted:
            raise _no_such_barcode()
        return self._decided(patron, with_penalties=True)

    def is_deleted(self, id: int) -> bool:
        """Whether a visible patron has this id and is deleted."""
        patron = self._record(id)
        return patron is not None and bool(patron.deleted)

    def _record(self, id: int) -> Record | None:
        """A patron's record, deleted ones too: where it is written, if plain reads may be old."""
        if self._gateway.reads_replicas and (record := read_patron(self._gateway, id)) is not None:
            return record
        found = self._gateway.pcrud.search("au", {"id": id}, select=_DECIDING, limit=1)
        return found[0] if found else None

    def _decided(self, patron: Record, *, with_penalties: bool) -> PatronDecision:
        limit = self._reference.limits(self._gateway).limit_for(patron.profile, patron.home_ou)
        owed = self._own_fines(patron.id)
        own_fines = {} if owed is None else {patron.id: owed}
        decision = decide_all(self._gateway, {patron.id: limit}, own_fines)[patron.id]
        standing = self._standing(patron, over_limit=decision.over_limit) if with_penalties else None
        return PatronDecision(
            decision.over_limit, decision.own_balance, decision.limit, patron=patron.id, standing=standing
        )

    def _standing(self, patron: Record, *, over_limit: bool) -> Standing | None:
        """A patron's penalties beside the rule's decision, None where the account can't see them."""
        gateway, reference, ids = self._gateway, self._reference, [patron.id]
        try:
            read = list(rows_in_force(gateway, ids))
            # Who looks at their own record without VIEW_USER doesn't see their own penalties.
            is_own = not read and reference.user(gateway) == patron.id
            if is_own and patron.home_ou not in reference.rights(gateway).at(VIEW_USER):
                return None
            org_units = reference.org_units(gateway, {row.org_unit for row in read})
            rows = rows_put_right(gateway, org_units, read, ids, self._recent())
            kinds = reference.penalty_kinds(gateway, {row.kind for row in rows})
        except PermissionDeniedError:
            return None
        penalties = kinds.by_patron(rows, org_units, ids)[patron.id]
        return Standing.of_penalties(over_limit, patron.home_ou, penalties, kinds)

    def _own_fines(self, id: int) -> Decimal | None:
        """What somebody owes, None without an open transaction."""
        if self._gateway.reads_replicas:
            with suppress(PermissionDeniedError):
                return read_fines_of(self._gateway, id, primary=True)
        owed = read_own_fines(self._gateway, [id]).get(id)
        # Whoever has no VIEW_USER doesn't see the own balance in pcrud (pcrud-056), but gets it here (patrons-070).
        if owed is None and self._reference.user(self._gateway) == id:
            owed = read_fines_of(self._gateway, id)
        return owed

    def _with_reference(self, recent: RecentlyChanged, search: Callable[[GroupViewer], Found]) -> Found:
        """What a search finds, given who looks; beside it what all summaries need is read."""
        self._gateway.idl("au", "ac", "aou", "ausp", "csp", "mous")  # in one go
        viewer = plain_viewer(self._gateway, self._reference, recent)
        readers: tuple[Callable[[], Any], ...] = (
            lambda: search(viewer),
            lambda: self._reference.penalty_kinds(self._gateway),
        )
        found, _kinds = self._gateway.map(lambda read: read(), readers)
        return cast(Found, found)

    def _summary(self, found: VisiblePatrons, recent: RecentlyChanged) -> GroupSummary:
        org_units = self._reference.org_units(self._gateway, found.named_org_units)
        found = with_penalties_now(self._gateway, org_units, found, recent)
        kinds = self._reference.penalty_kinds(self._gateway, {row.kind for row in found.penalties})
        patrons = found.patrons(org_units)
        balances, hidden = self._balances(found)
        limits = self._reference.limits(self._gateway)
        decisions = decide_where_visible(self._gateway, limits, patrons, balances)
        members = make_members(patrons, balances, decisions)
        group = Group.by_name(found.group, members, hidden)
        penalties = kinds.by_patron(found.penalties, org_units, found.ids)
        standings = {member.id: Standing.of(member, penalties[member.id], kinds) for member in members}
        people = [(member, standings[member.id]) for member in members]
        prospects = read_prospects(self._gateway, lambda: self._reference.ils_limits(self._gateway), people, kinds)
        return GroupSummary(
            group.number,
            group.members,
            group.hidden_member_count,
            group.hidden_fines,
            group.hidden_ids,
            standings=standings,
            prospects=prospects,
        )

    def _balances(self, found: VisiblePatrons) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
        """What everybody owes who does, by id, and the hidden members."""
        if found.complete:
            fines = correct_fines_from_primary(
                self._gateway, [found.group], found.ids, lambda: read_own_fines(self._gateway, found.ids)
            )
            return fines, None
        return read_group_balances(self._gateway, found.group, found.ids)


def _no_such_barcode() -> NotFoundError:
    return not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
