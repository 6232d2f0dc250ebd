"""A patron's summary for the desk: own fines, the group's combined fines, who is over the limit, and who is blocked.

Where the rule and Evergreen disagree about a member, :class:`RecalculationForecast` says whether a recalculation of
penalties would help. :class:`DeskReader` has what all of the desk's readers share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, TypeVar, cast

from evergreen_groups import arguments
from evergreen_groups.changes import PenaltyReader, RecentlyChanged
from evergreen_groups.errors import DataError, PermissionDeniedError, not_visible
from evergreen_groups.gateway import Record
from evergreen_groups.groups import (
    FamilyReader,
    Group,
    GroupViewer,
    HiddenMembers,
    Member,
    Standing,
    StandingDifference,
    StandingTotals,
    VisiblePatrons,
    families,
    family_reader,
    find_owner,
    read_group_balances,
    read_patron,
)
from evergreen_groups.ils import (
    VIEW_USER,
    CirculationReader,
    PatronItems,
    decide_all,
    late_circulations,
    permissions,
    read_fines_of,
    read_own_fines,
    rows_in_force,
)
from evergreen_groups.message import Message
from evergreen_groups.policy import Decision

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Limits, OrgUnits, PenaltyKinds, PenaltyRow, ReferenceData, ResolvedLimit
    from evergreen_groups.policy import Limit


class Obstacle(Enum):
    """Why a recalculation would change nothing. The values appear in JSON documents."""

    BELOW_THRESHOLD = "below-threshold"
    """Over the limit, but below Evergreen's threshold."""
    REACHES_THRESHOLD = "reaches-threshold"
    """Within the limit, but Evergreen's threshold is reached."""
    THRESHOLD_HIDDEN = "threshold-hidden"
    """Blocked within the limit, and Evergreen's threshold, which probably is the reason, is hidden."""
    NO_THRESHOLD = "no-threshold"
    """Without a threshold, Evergreen neither sets nor lifts blocks for fines."""
    BLOCKS_NOTHING = "blocks-nothing"
    """The penalty that Evergreen sets for fines at the member's home library is a note."""
    SET_BY_STAFF = "set-by-staff"
    """Staff set a block. Recalculating might remove it, so it isn't offered."""


@dataclass(frozen=True, slots=True)
class RecalculationForecast:
    """What a recalculation could change for one member: nothing if there is an ``obstacle``.

    ``limit`` is Evergreen's own threshold for the member, None if the account can't see it. ``decision`` compares the
    threshold with the fines that Evergreen counts, None if the account can't see either of them.
    """

    obstacle: Obstacle | None
    limit: Limit | None
    decision: Decision | None

    @property
    def may_change(self) -> bool:
        """Whether a recalculation could set or lift a block, as far as the account can tell."""
        return self.obstacle is None

    @property
    def code(self) -> str:
        """The code for JSON documents: an obstacle, ``may-help`` or ``not-known``."""
        if self.obstacle is not None:
            return self.obstacle.value
        return "may-help" if self.decision is not None else "not-known"

    def explain(self, member: Member) -> Message | None:
        """Explain why a recalculation would change nothing, or that the account can't tell. None if it may help."""
        if self.obstacle in _EXPLANATIONS:
            return _EXPLANATIONS[self.obstacle]
        if self.limit is None or self.decision is None:
            return _HIDDEN
        if self.obstacle is None:
            return None
        values = {"threshold": self.limit.amount, "owed": self.decision.counted_fines}
        if self.decision.counted_fines == member.own_fines:
            return Message("Evergreen blocks at {threshold}.", values=values)
        return Message("Evergreen blocks at {threshold} and counts {owed} here.", values=values)


_EXPLANATIONS: Mapping[Obstacle | None, Message] = {
    Obstacle.SET_BY_STAFF: Message("Staff set this block. Remove it in the patron's Notes."),
    Obstacle.THRESHOLD_HIDDEN: Message("Evergreen's threshold is hidden from your login."),
    Obstacle.BLOCKS_NOTHING: Message("Evergreen's penalty for fines blocks nothing at this library."),
    Obstacle.NO_THRESHOLD: Message("Evergreen has no threshold for this profile and library."),
}
_HIDDEN = Message(
    "Some bills or Evergreen's threshold are hidden from your login, so recalculating may change nothing."
)


def read_forecasts(
    gateway: Gateway, ils_limits: Callable[[], Limits], people: Iterable[tuple[Member, Standing]], kinds: PenaltyKinds
) -> dict[int, RecalculationForecast]:
    """Return the forecasts of members about whom the rule and Evergreen disagree, by id.

    Call ``ils_limits`` for Evergreen's thresholds only if there are any. Read fines only if a threshold counts the
    fines of some libraries only.
    """
    differing = [(member, standing) for member, standing in people if standing.difference is not None]
    if not differing:
        return {}
    seen: Mapping[int, ResolvedLimit] = {}
    decisions: Mapping[int, Decision] = {}
    with suppress(PermissionDeniedError, DataError):  # treat what can't be read as unknown
        seen, decisions = Member.decide_by_thresholds(gateway, ils_limits(), [member for member, _ in differing])
    found = {}
    for member, standing in differing:
        limit, decision = seen[member.id].limit if member.id in seen else None, decisions.get(member.id)
        found[member.id] = RecalculationForecast(_obstacle(member, standing, kinds, limit, decision), limit, decision)
    return found


def _obstacle(
    member: Member, standing: Standing, kinds: PenaltyKinds, limit: Limit | None, decision: Decision | None
) -> Obstacle | None:
    not_yet_blocked = standing.difference is StandingDifference.NOT_YET_BLOCKED
    # The order matters: report the reason that holds whatever the threshold is.
    if any(penalty.by_staff for penalty in standing.blocks_for_fines):
        return Obstacle.SET_BY_STAFF
    if not_yet_blocked and not kinds.sets_block_for_fines_at(member.patron.home_library.id):
        return Obstacle.BLOCKS_NOTHING
    if limit is None:
        return None if not_yet_blocked else Obstacle.THRESHOLD_HIDDEN
    if limit.amount is None:
        return Obstacle.NO_THRESHOLD
    if decision is None or decision.over_limit is not_yet_blocked:
        return None
    return Obstacle.BELOW_THRESHOLD if not_yet_blocked else Obstacle.REACHES_THRESHOLD


def with_recalculated_rows(
    gateway: Gateway, org_units: OrgUnits, rows: Iterable[PenaltyRow], patrons: Collection[int], recent: RecentlyChanged
) -> list[PenaltyRow]:
    """Return the penalties of ``patrons`` (ids), replacing those of recently recalculated patrons by the primary's."""
    theirs = frozenset(patrons)
    if recent.recalculated is not None:
        theirs &= recent.recalculated
    if not theirs:
        return list(rows)
    reader = PenaltyReader(gateway, org_units)
    read = [penalties for penalties in gateway.map(reader.read, sorted(theirs)) if penalties is not None]
    others = (row for row in rows if row.patron not in theirs)
    return [*others, *(row for penalties in read for row in penalties.in_force)]


class DeskReader:
    """Reads patrons at one gateway, as far as its session may see them."""

    def __init__(
        self, gateway: Gateway, reference: ReferenceData, recent: Callable[[], RecentlyChanged] = RecentlyChanged
    ) -> None:
        """``recent`` returns patrons whose latest changes a replica may not have yet."""
        self._gateway = gateway
        self._reference = reference
        self._recent = recent

    @property
    def _families(self) -> FamilyReader:
        return family_reader(self._gateway)

    def _member_viewer(self, recent: RecentlyChanged) -> GroupViewer:
        """Return a viewer that asks for the members only, with the session's account and permissions."""
        gateway, reference = self._gateway, self._reference
        patrons_at = reference.rights(gateway).at(VIEW_USER)
        everywhere = reference.org_units(gateway).root.id in patrons_at
        account = reference.account(gateway)
        return GroupViewer(account.user, patrons_at, everywhere, group=account.group, changed=recent.patrons)

    def _details_viewer(self, names_of: Collection[int], recent: RecentlyChanged) -> GroupViewer:
        """Return a viewer that asks for all that a desk shows of a group, and for the names of ``names_of`` (ids)."""
        plain = self._member_viewer(recent)
        counted_at = self._reference.rights(self._gateway).at(permissions.VIEW_CIRCULATIONS)
        hidden_at = frozenset(unit.id for unit in self._reference.org_units(self._gateway)) - counted_at
        hidden = {"checkin_time": None, "circ_lib": sorted(hidden_at)} if hidden_at else {}
        return replace(
            plain,
            circulations=hidden,
            circulations_of=counted_at,
            with_staff=True,
            extra_patrons=frozenset(names_of),
        )

    def _with_primary_penalties(
        self, org_units: OrgUnits, found: VisiblePatrons, recent: RecentlyChanged
    ) -> VisiblePatrons:
        """Return a group with the recently recalculated members' penalties from the primary database."""
        if recent.recalculated == frozenset():
            return found
        rows = with_recalculated_rows(self._gateway, org_units, found.penalties, found.ids, recent)
        return replace(found, penalties=tuple(rows))

    def _visible_fines(self, patrons: Collection[int]) -> dict[int, Decimal]:
        """Return visible patrons' own fines by id, without those who owe nothing."""
        fines, user = read_own_fines(self._gateway, patrons), self._reference.user(self._gateway)
        # Since 3.15 an account sees its own record without VIEW_USER, but not its own balance in pcrud (pcrud-056).
        if user in patrons and user not in fines:
            owed = read_fines_of(self._gateway, user)
            return fines if owed is None else {**fines, user: owed}
        return fines

    def _circulation_reader(self) -> CirculationReader:
        """Return a reader that counts items out as the session may see them, by the home library's rules."""
        gateway, reference = self._gateway, self._reference
        return CirculationReader(
            gateway,
            reference.org_units(gateway),
            reference.circulation_tally(gateway),
            reference.rights(gateway).at(permissions.VIEW_CIRCULATIONS),
            reference.user(gateway),
        )


_DECIDING = ("id", "profile", "home_ou", "deleted")

Found = TypeVar("Found")


@dataclass(frozen=True)
class GroupSummary(Group):
    """A group with its visible members' standings by patron id.

    ``forecasts`` say what a recalculation could change for members about whom the rule and Evergreen disagree. If the
    group has several members and none of them owes anything, ``late_items`` has each one's overdue and lost items.
    """

    __repr__ = arguments.brief

    standings: Mapping[int, Standing] = field(default_factory=dict)
    forecasts: Mapping[int, RecalculationForecast] = field(default_factory=dict)
    late_items: Mapping[int, PatronItems] | None = None

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
    call per 3,000 members). If no one owes anything, but an item is overdue or lost, which the first call finds out,
    another call reads these items (two if some may be hidden). If there may be hidden members, one more call looks for
    them, and if there are any, another verifies them against the group. The first summary also reads the IDL, the
    session's permissions, and in
    parallel the kinds of penalties. :class:`ReferenceData` documents the cost of limits that differ by patron. If
    Evergreen's own limits count only the fines of some libraries, each summary takes one more call. Evergreen's
    thresholds are read, and cached, when the rule and Evergreen disagree about a member.
    """

    def of_patron(self, id: int) -> PatronSummary:
        """Read the patron with this id and their group.

        Raises NotFoundError, DataError if the group is too large to be a family, or PermissionDeniedError if hidden
        members can't be counted, because the account lacks VIEW_USER at its own library.
        """
        arguments.integer("id", id)
        recent = self._recent()
        found = self._with_reference(recent, lambda viewer: self._families.of_patron(id, viewer))
        if found is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        group = self._summary(found, recent)
        return PatronSummary(next(member for member in group.members if member.id == id), group)

    def of_barcode(self, barcode: str) -> PatronSummary:
        """Like :meth:`of_patron`, by the barcode of any of their cards. Blanks are ignored."""
        owner = find_owner(self._gateway, arguments.text("barcode", barcode))
        if owner is None:
            raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self.of_patron(owner[0])

    def of_group(self, number: int) -> GroupSummary:
        """Read the group with this number. Raises the errors of :meth:`of_patron`."""
        arguments.integer("number", number)
        recent = self._recent()
        found = self._with_reference(recent, lambda viewer: self._families.of_group(number, viewer))
        if not found.rows:
            raise not_visible("group {group} has no visible member", code="group-hidden", values={"group": number})
        return self._summary(found, recent)

    def decision(self, id: int, *, with_penalties: bool = True) -> PatronDecision:
        """Decide whether the patron with this id is over the limit, without reading about other patrons.

        Without the penalties, it takes one call less and doesn't tell whether the patron is blocked.
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
        card = families.find_card(self._gateway, barcode, with_patron=True)
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
            decision.over_limit, decision.counted_fines, decision.limit, patron=patron.id, standing=standing
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
        self._gateway.idl("au", "ac", "aou", "ausp", "circ", "csp", "mous")  # in one request
        viewer = self._member_viewer(recent)
        if self._items_visible_at:
            late = late_circulations(datetime.now(UTC))
            viewer = replace(viewer, circulations=late, circulations_of=viewer.patrons_at)
        if self._reference.has_penalty_kinds(self._gateway):
            return search(viewer)  # looking up a cached value in another thread costs a fifth of a summary
        found, _kinds = self._gateway.in_parallel(
            lambda: search(viewer), lambda: self._reference.penalty_kinds(self._gateway)
        )
        return cast("Found", found)

    def _summary(self, found: VisiblePatrons, recent: RecentlyChanged) -> GroupSummary:
        org_units = self._reference.org_units(self._gateway, found.named_org_units)
        found = self._with_primary_penalties(org_units, found, recent)
        kinds = self._reference.penalty_kinds(self._gateway, {row.kind for row in found.penalties})
        patrons = found.patrons(org_units)
        balances, hidden = self._balances(found)
        limits = self._reference.limits(self._gateway)
        members = Member.of_patrons(self._gateway, limits, patrons, balances)
        group = Group.by_name(found.group, members, hidden)
        penalties = kinds.by_patron(found.penalties, org_units, found.ids)
        people = [(member, Standing.of(member, penalties[member.id], kinds)) for member in members]
        forecasts = read_forecasts(self._gateway, lambda: self._reference.ils_limits(self._gateway), people, kinds)
        return GroupSummary(
            group.number,
            group.members,
            group.hidden_member_count,
            group.hidden_fines,
            group.hidden_ids,
            standings={member.id: standing for member, standing in people},
            forecasts=forecasts,
            late_items=self._late_items(found, group, org_units),
        )

    @property
    def _items_visible_at(self) -> frozenset[int]:
        return self._reference.rights(self._gateway).at(permissions.VIEW_CIRCULATIONS)

    def _late_items(self, found: VisiblePatrons, group: Group, org_units: OrgUnits) -> dict[int, PatronItems] | None:
        """Return the members' overdue and lost items by patron id. None for one member alone, or if anyone owes."""
        if group.member_count == 1 or not group.owes_nothing:
            return None
        if found.no_circulation:
            return dict.fromkeys(found.ids, PatronItems((), complete=True))
        return PatronItems.read(self._gateway, org_units, self._items_visible_at, found.ids, late_only=True)

    def _balances(self, found: VisiblePatrons) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
        """Return the fines of members who owe any, by id, and the hidden members."""
        gateway, ids = self._gateway, found.ids
        if not found.complete:
            return read_group_balances(gateway, found.group, ids)
        return self._families.fines([found.group], ids, lambda: read_own_fines(gateway, ids)), None
