"""Group Member Details: every member of a group with fines, items out and standing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups import arguments
from evergreen_groups.changes import RecentlyChanged
from evergreen_groups.desk.around import (
    circulation_reader,
    details_viewer,
    read_visible_fines,
    with_penalties_now,
)
from evergreen_groups.desk.prospects import RecalculationProspect, read_prospects
from evergreen_groups.errors import PermissionDeniedError, not_visible
from evergreen_groups.groups import (
    Group,
    GroupViewer,
    HiddenMembers,
    Member,
    PatronAccount,
    Standing,
    StandingTotals,
    VisiblePatrons,
    correct_fines_from_primary,
    decide_where_visible,
    find_hidden_with_ids,
    find_owner,
    make_members,
    read_group_balances,
    visible_family_of,
    visible_group,
)
from evergreen_groups.ils import CirculationCounts, CirculationReader, Penalty, PenaltyKinds

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.policy import Limit
    from evergreen_groups.settings import PolicySettings

Found = TypeVar("Found")

_OwedAndOut = tuple[Mapping[int, Decimal], HiddenMembers | None, Mapping[int, CirculationCounts | None]]


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """A group, and what stands beside its visible members by patron id.

    These are their ``accounts``, their ``circulations``, the ``penalties`` in force and the names of their
    ``profiles``. ``circulations`` has None for a patron of whom the ILS doesn't say (VIEW_CIRCULATIONS is missing), and
    counts that aren't complete for one who may have out more than the account sees.
    Nothing was decided about a member whose limit the account may not see. ``limit`` is the one for everybody, None
    where each has their own. ``kinds`` are those of penalties; ``gateway`` is the address the data came from. ``names``
    are those of visible accounts that have set penalties, and of others who were asked for, by id; ``user`` is whose
    session it is. ``prospects`` says of the visible members about whom the rule and the ILS disagree what a
    recalculation could change.
    """

    gateway: str
    limit: Limit | None
    group: Group
    accounts: Mapping[int, PatronAccount]
    circulations: Mapping[int, CirculationCounts | None]
    penalties: Mapping[int, tuple[Penalty, ...]]
    kinds: PenaltyKinds
    profiles: Mapping[int, str]
    names: Mapping[int, str]
    user: int
    prospects: Mapping[int, RecalculationProspect]

    @property
    def complete(self) -> bool:
        """Whether nothing about the group is hidden: no member, no limit, and nothing that one has out."""
        decided = all(member.decision is not None for member in self.group.members)
        return decided and self.all_circulations.complete

    @property
    def all_circulations(self) -> CirculationCounts:
        """Those of all members together: a lower bound if members, or something that one has out, are hidden."""
        known = [counts for counts in self.circulations.values() if counts is not None]
        together = CirculationCounts.sum_of(known)
        all_known = self.group.complete and len(known) == len(self.group.members)
        return replace(together, complete=together.complete and all_known)

    @property
    def standing_totals(self) -> StandingTotals:
        """How many members are over the limit or blocked."""
        return StandingTotals.of(self.group, [self.standing(member) for member in self.group.members])

    def standing(self, member: Member) -> Standing:
        """A member's own fines against the rule, and the penalties that block them."""
        return Standing.of(member, self.penalties[member.id], self.kinds)


class DetailsReader:
    """Reads groups for showing, in a few calls however many members they have.

    With reference data and session known there are three: the members with their penalties and with who has set them,
    then side by side what each owes and what each has out (of the latter two one for each 3,000 members). Without
    ``exact`` numbers there is one more at the most. Where the first call has said that circulations are hidden from the
    account, it finds out whose. Where members are hidden, it is needed for them: the call for what each has out says as
    well whether it is them. (Where the account sees circulations, but none of anybody else's, nothing can say so there,
    and it is asked apart.) Then none is left to find out whose circulations are hidden. Members of whom some are, or
    may be, have at least as many items out as are visible.

    ``exact`` numbers cost a call that finds out whose circulations are hidden, where some are, and one more for each of
    those, up to six. The ILS's own limits cost one more where they count the fines of some libraries only. They are
    read, and kept, where the rule and the ILS disagree about a member.
    """

    def __init__(
        self,
        gateway: Gateway,
        policy: PolicySettings,
        reference: ReferenceData,
        recent: Callable[[], RecentlyChanged] = RecentlyChanged,
    ) -> None:
        """``recent`` gives whom a program has changed so recently that a copy of the database may not have it."""
        self._gateway = gateway
        self._policy = policy
        self._reference = reference
        self._recent = recent

    def of_barcode(self, barcode: str, *, exact: bool = True) -> GroupDetails:
        """The group of the patron with this barcode, blanks in it ignored, on any card of theirs.

        Raises:
            NotFoundError: no visible patron has it.
            DataError: the group is too large to be a family.
            PermissionDeniedError: the account has no VIEW_USER at its own library, so nobody can be counted.
        """
        owner = find_owner(self._gateway, arguments.text("barcode", barcode))
        found = None if owner is None else self._around(owner)
        if found is not None:
            return self._details(*found, exact=exact)
        raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")

    def of_user(self, id: int, *, beside: Collection[int] = (), exact: bool = True) -> GroupDetails:
        """The group of the patron with this id; raises what :meth:`of_barcode` does.

        ``beside`` are the ids of others whose names are wanted as well, be they members or not; that costs nothing.
        """
        found = self._around(arguments.integer("id", id), beside)
        if found is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        return self._details(*found, exact=exact)

    def of_group(self, number: int, *, exact: bool = True) -> GroupDetails:
        """The group with this number; raises what :meth:`of_barcode` does.

        Raises:
            NotFoundError: nobody is in it.
        """
        arguments.integer("number", number)
        found, counting = self._with_reference(lambda viewer: visible_group(self._gateway, number, viewer))
        return self._details(found, counting, exact=exact)

    def _around(self, id: int, beside: Collection[int] = ()) -> tuple[VisiblePatrons, CirculationReader] | None:
        found, counting = self._with_reference(lambda viewer: visible_family_of(self._gateway, id, viewer), beside)
        return None if found is None else (found, counting)

    def _with_reference(
        self, search: Callable[[GroupViewer], Found], beside: Collection[int] = ()
    ) -> tuple[Found, CirculationReader]:
        """What a search finds, given who looks; beside it what a library counts as out is read where it isn't known."""
        self._gateway.idl("au", "ac", "aou", "ausp", "circ", "csp", "mous", "pgt")  # in one go
        viewer = details_viewer(self._gateway, self._reference, beside, self._recent())
        readers: tuple[Callable[[], Any], ...] = (
            lambda: search(viewer),
            lambda: circulation_reader(self._gateway, self._reference),
        )
        found, counting = self._gateway.map(lambda read: read(), readers)
        return found, counting

    def _details(self, found: VisiblePatrons, counting: CirculationReader, *, exact: bool) -> GroupDetails:
        reference, gateway = self._reference, self._gateway
        org_units = reference.org_units(gateway, found.named_org_units)
        found = with_penalties_now(gateway, org_units, found, self._recent())
        patrons = found.patrons(org_units)
        readers: tuple[Callable[[], Any], ...] = (
            lambda: self._owed_and_out(found, counting, exact=exact),
            lambda: reference.penalty_kinds(gateway, {row.kind for row in found.penalties}),
            lambda: reference.profiles(gateway, {row.profile for row in found.rows}),
            lambda: reference.limits(gateway),
        )
        (own_fines, hidden, circulations), kinds, profiles, limits = gateway.map(lambda read: read(), readers)
        decisions = decide_where_visible(gateway, limits, patrons, own_fines)
        group = Group.by_name(found.group, make_members(patrons, own_fines, decisions), hidden)
        if not group.member_count:
            raise not_visible("nobody is in group {group}", code="group-empty", values={"group": found.group})
        penalties = kinds.by_patron(found.penalties, org_units, found.ids)
        standings = [(member, Standing.of(member, penalties[member.id], kinds)) for member in group.members]
        return GroupDetails(
            gateway=gateway.url,
            limit=self._policy.as_limit() if self._policy.uniform else None,
            group=group,
            accounts=found.accounts,
            circulations=circulations,
            penalties={patron: tuple(theirs) for patron, theirs in penalties.items()},
            kinds=kinds,
            profiles={row.id: profiles.name(row.profile) for row in found.rows},
            names=found.names,
            user=reference.user(gateway),
            prospects=read_prospects(gateway, lambda: reference.ils_limits(gateway), standings, kinds),
        )

    def _owed_and_out(self, found: VisiblePatrons, counting: CirculationReader, *, exact: bool) -> _OwedAndOut:
        """What the visible members owe who do, at least, the hidden members, and what visible ones have out."""
        homes = {row.id: row.home_library for row in found.rows}
        none_hidden = found.no_circulation_hidden
        if found.complete:
            count = counting.count_visible if exact else counting.count
            readers: tuple[Callable[[], Any], ...] = (
                lambda: self._own_fines(found),
                lambda: count(homes, none_hidden=none_hidden),
            )
            own_fines, counted = self._gateway.map(lambda read: read(), readers)
            hidden = None
        else:
            under_condition: dict[int, CirculationCounts | None] = {}

            def count_if(condition: dict[str, Any]) -> bool:
                found_out = counting.count_if(condition, homes, none_hidden=none_hidden)
                under_condition.update(found_out or {})
                return found_out is not None

            own_fines, hidden = self._balances(found, count_if)
            counted = under_condition or counting.count_visible(homes, none_hidden=none_hidden)
        return own_fines, hidden, counting.with_exact_counts(counted) if exact else counted

    def _own_fines(self, found: VisiblePatrons) -> Mapping[int, Decimal]:
        user = self._reference.user(self._gateway)
        return correct_fines_from_primary(
            self._gateway, [found.group], found.ids, lambda: read_visible_fines(self._gateway, user, found.ids)
        )

    def _balances(
        self, found: VisiblePatrons, confirm: Callable[[dict[str, Any]], bool]
    ) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
        """What the visible members owe who do, at least, and the hidden ones."""
        try:
            return read_group_balances(self._gateway, found.group, found.ids, confirm=confirm)
        except PermissionDeniedError:
            # Whose they are may be known where the balances may not.
            return self._own_fines(found), find_hidden_with_ids(
                self._gateway, {found.group: found.ids}, lambda: ()
            ).get(found.group)
