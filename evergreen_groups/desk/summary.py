"""A patron's summary for the desk: own fines, the group's combined fines, who is over the limit, and who is blocked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar, cast

from evergreen_groups import arguments
from evergreen_groups.desk.forecast import RecalculationForecast, read_forecasts
from evergreen_groups.desk.readers import DeskReader, with_recalculated_rows
from evergreen_groups.errors import PermissionDeniedError, not_visible
from evergreen_groups.gateway import Record
from evergreen_groups.groups import (
    Group,
    GroupViewer,
    HiddenMembers,
    Member,
    Standing,
    StandingTotals,
    VisiblePatrons,
    correct_fines_from_primary,
    decided_members,
    find_card,
    find_owner,
    read_group_balances,
    read_patron,
    visible_family_of,
    visible_group,
)
from evergreen_groups.ils import (
    VIEW_USER,
    decide_all,
    read_fines_of,
    read_own_fines,
    rows_in_force,
)
from evergreen_groups.policy import Decision

if TYPE_CHECKING:
    from evergreen_groups.changes import RecentlyChanged

_DECIDING = ("id", "profile", "home_ou", "deleted")

Found = TypeVar("Found")


@dataclass(frozen=True)
class GroupSummary(Group):
    """A group with its visible members' standings by patron id.

    ``forecasts`` say what a recalculation could change for members about whom the rule and Evergreen disagree.
    """

    __repr__ = arguments.brief

    standings: Mapping[int, Standing] = field(default_factory=dict)
    forecasts: Mapping[int, RecalculationForecast] = field(default_factory=dict)

    @property
    def standing_totals(self) -> StandingTotals:
        """The numbers of members who are over the limit or blocked."""
        return StandingTotals.of(self, [self.standings[member.id] for member in self.members])


@dataclass(frozen=True, slots=True)
class PatronSummary:
    """A patron and their group.

    Whether a patron is over the limit depends only on their own fines. Members with a hidden limit have no decision.
    """

    __repr__ = arguments.brief

    member: Member
    group: GroupSummary

    @property
    def standing(self) -> Standing:
        """The patron's own fines compared with the rule, and the penalties that block them."""
        return self.group.standings[self.member.id]

    @property
    def show(self) -> bool:
        """Whether there is a group to show, with more than one member."""
        return self.group.member_count > 1


@dataclass(frozen=True, slots=True)
class PatronDecision(Decision):
    """The rule's decision about one ``patron`` (id), for programs.

    ``standing`` compares it with Evergreen's penalties. It is None if they weren't read or are hidden.
    """

    __repr__ = arguments.brief

    patron: int
    standing: Standing | None


class SummaryReader(DeskReader):
    """Reads summaries and decisions at one gateway, as far as its session may see.

    A summary takes two calls, whatever the size of the group: the members with their penalties, and their fines (one
    call per 3,000 members). If there may be hidden members, a third call looks for them, and if there are any, a
    fourth verifies them against the group. The first summary also reads the IDL, the session's permissions, and in
    parallel the kinds of penalties. :class:`ReferenceData` documents the cost of limits that differ by patron. If
    Evergreen's own limits count only the fines of some libraries, each summary takes one more call. Evergreen's
    thresholds are read, and cached, when the rule and Evergreen disagree about a member.
    """

    def of_patron(self, id: int) -> PatronSummary:
        """Read the patron with this id and their group.

        Raises:
            NotFoundError: no visible patron has this id, or the patron is deleted.
            PermissionDeniedError: the account lacks VIEW_USER at its own library, so hidden members can't be counted.
            DataError: the group is too large to be a family.
        """
        arguments.integer("id", id)
        recent = self._recent()
        found = self._with_reference(recent, lambda viewer: visible_family_of(self._gateway, id, viewer))
        if found is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        group = self._summary(found, recent)
        return PatronSummary(next(member for member in group.members if member.id == id), group)

    def of_barcode(self, barcode: str) -> PatronSummary:
        """Read the patron with this barcode, on any of their cards, and their group. Blanks are ignored.

        Raises the errors of :meth:`of_patron`.
        """
        owner = find_owner(self._gateway, arguments.text("barcode", barcode))
        if owner is None:
            raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self.of_patron(owner[0])

    def of_group(self, number: int) -> GroupSummary:
        """Read the group with this number. Raises the errors of :meth:`of_patron`.

        Raises:
            NotFoundError: the group has no visible member.
        """
        arguments.integer("number", number)
        recent = self._recent()
        found = self._with_reference(recent, lambda viewer: visible_group(self._gateway, number, viewer))
        if not found.rows:
            raise not_visible("no member of group {group} is visible", code="group-hidden", values={"group": number})
        return self._summary(found, recent)

    def decision(self, id: int, *, with_penalties: bool = True) -> PatronDecision:
        """Decide whether the patron with this id is over the limit, without reading about other patrons.

        Without the penalties, it takes one call less and doesn't tell whether the patron is blocked.

        Raises:
            NotFoundError: no visible patron has this id.
        """
        arguments.integer("id", id)
        self._gateway.idl("au", "mous")  # in one request
        patron = self._read_record(id)
        if patron is None or patron.deleted:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        return self._decide(patron, with_penalties=with_penalties)

    def decision_by_barcode(self, barcode: str) -> PatronDecision:
        """Decide about the patron with this barcode, on any of their cards. Blanks are ignored."""
        arguments.text("barcode", barcode)
        self._gateway.idl("ac", "au", "mous")
        # Flesh the patron here: for a single row this costs Evergreen one more query, but saves a call.
        card = find_card(self._gateway, barcode, with_patron=True)
        patron = None if card is None else card.usr
        if self._gateway.reads_replicas:
            owner = (patron.id, True) if isinstance(patron, Record) else find_owner(self._gateway, barcode)
            patron = None if owner is None else self._read_record(owner[0])
        if not isinstance(patron, Record) or patron.deleted:
            raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self._decide(patron, with_penalties=True)

    def is_deleted(self, id: int) -> bool:
        """Return whether this is the id of a visible, deleted patron."""
        patron = self._read_record(id)
        return patron is not None and bool(patron.deleted)

    def _read_record(self, id: int) -> Record | None:
        """Read a patron's record, deleted or not, from the primary if plain reads come from a replica."""
        if self._gateway.reads_replicas and (record := read_patron(self._gateway, id)) is not None:
            return record
        found = self._gateway.pcrud.search("au", {"id": id}, select=_DECIDING, limit=1)
        return found[0] if found else None

    def _decide(self, patron: Record, *, with_penalties: bool) -> PatronDecision:
        limit = self._reference.limits(self._gateway).limit_for(patron.profile, patron.home_ou)
        owed = self._own_fines(patron.id)
        own_fines = {} if owed is None else {patron.id: owed}
        decision = decide_all(self._gateway, {patron.id: limit}, own_fines)[patron.id]
        standing = self._read_standing(patron, over_limit=decision.over_limit) if with_penalties else None
        return PatronDecision(
            decision.over_limit, decision.own_balance, decision.limit, patron=patron.id, standing=standing
        )

    def _read_standing(self, patron: Record, *, over_limit: bool) -> Standing | None:
        """Compare a patron's penalties with the rule's decision. None if the penalties are hidden."""
        gateway, reference, ids = self._gateway, self._reference, [patron.id]
        try:
            read = list(rows_in_force(gateway, ids))
            # An account without VIEW_USER sees its own record, but not its own penalties.
            is_own = not read and reference.user(gateway) == patron.id
            if is_own and patron.home_ou not in reference.rights(gateway).at(VIEW_USER):
                return None
            org_units = reference.org_units(gateway, {row.org_unit for row in read})
            rows = with_recalculated_rows(gateway, org_units, read, ids, self._recent())
            kinds = reference.penalty_kinds(gateway, {row.kind for row in rows})
        except PermissionDeniedError:
            return None
        penalties = kinds.by_patron(rows, org_units, ids)[patron.id]
        return Standing.of_penalties(over_limit, patron.home_ou, penalties, kinds)

    def _own_fines(self, id: int) -> Decimal | None:
        """Return a patron's own fines, None without an open transaction."""
        if self._gateway.reads_replicas:
            with suppress(PermissionDeniedError):
                return read_fines_of(self._gateway, id, primary=True)
        owed = read_own_fines(self._gateway, [id]).get(id)
        # An account without VIEW_USER doesn't see its own balance in pcrud (pcrud-056), but gets it here (patrons-070).
        if owed is None and self._reference.user(self._gateway) == id:
            owed = read_fines_of(self._gateway, id)
        return owed

    def _with_reference(self, recent: RecentlyChanged, search: Callable[[GroupViewer], Found]) -> Found:
        """Run a search with a viewer, and in parallel read the kinds of penalties."""
        self._gateway.idl("au", "ac", "aou", "ausp", "csp", "mous")  # in one request
        viewer = self._member_viewer(recent)
        if self._reference.has_penalty_kinds(self._gateway):
            return search(viewer)  # looking up a cached value in another thread costs a fifth of a summary
        found, _kinds = self._gateway.in_parallel(
            lambda: search(viewer), lambda: self._reference.penalty_kinds(self._gateway)
        )
        return cast(Found, found)

    def _summary(self, found: VisiblePatrons, recent: RecentlyChanged) -> GroupSummary:
        org_units = self._reference.org_units(self._gateway, found.named_org_units)
        found = self._with_primary_penalties(org_units, found, recent)
        kinds = self._reference.penalty_kinds(self._gateway, {row.kind for row in found.penalties})
        patrons = found.patrons(org_units)
        balances, hidden = self._balances(found)
        limits = self._reference.limits(self._gateway)
        members = decided_members(self._gateway, limits, patrons, balances)
        group = Group.by_name(found.group, members, hidden)
        penalties = kinds.by_patron(found.penalties, org_units, found.ids)
        standings = {member.id: Standing.of(member, penalties[member.id], kinds) for member in members}
        people = [(member, standings[member.id]) for member in members]
        forecasts = read_forecasts(self._gateway, lambda: self._reference.ils_limits(self._gateway), people, kinds)
        return GroupSummary(
            group.number,
            group.members,
            group.hidden_member_count,
            group.hidden_fines,
            group.hidden_ids,
            standings=standings,
            forecasts=forecasts,
        )

    def _balances(self, found: VisiblePatrons) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
        """Return the fines of members who owe any, by id, and the hidden members."""
        gateway, ids = self._gateway, found.ids
        if not found.complete:
            return read_group_balances(gateway, found.group, ids)
        return correct_fines_from_primary(gateway, [found.group], ids, lambda: read_own_fines(gateway, ids)), None
