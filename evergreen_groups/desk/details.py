"""Group Member Details: each member's fines, items out, and penalties."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups import arguments
from evergreen_groups.changes import RecentlyChanged
from evergreen_groups.desk.summary import DeskReader, RecalculationForecast, read_forecasts
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
    find_hidden,
    find_owner,
    read_group_balances,
)
from evergreen_groups.ils import CirculationCounts, CirculationReader, Penalty, PenaltyKinds

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.policy import Limit
    from evergreen_groups.settings import PolicySettings

Found = TypeVar("Found")

_FinesAndItems = tuple[Mapping[int, Decimal], HiddenMembers | None, Mapping[int, CirculationCounts | None]]


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """A group with details of its visible members, by patron id.

    ``circulations`` has None for a member if Evergreen doesn't give the counts (VIEW_CIRCULATIONS is missing), and
    incomplete counts for a member who may have more items out than the account sees. Members with a hidden limit have
    no decision. ``limit`` is the common limit, None if limits differ. ``kinds`` are the kinds of penalties. ``names``
    has the names of visible accounts that set penalties, and of other accounts the caller asked for, by id. ``gateway``
    is the address of the gateway, ``user`` the session's account. ``forecasts`` say what a recalculation could change
    for members about whom the rule and Evergreen disagree.
    """

    __repr__ = arguments.brief

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
    forecasts: Mapping[int, RecalculationForecast]

    @property
    def complete(self) -> bool:
        """Whether nothing about the group is hidden: no member, no limit, and no item out."""
        decided = all(member.decision is not None for member in self.group.members)
        return decided and self.all_circulations.complete

    @property
    def all_circulations(self) -> CirculationCounts:
        """The members' combined counts. A lower bound if members or items out are hidden."""
        visible = self.visible_circulations
        return replace(visible, complete=visible.complete and self.group.complete)

    @property
    def visible_circulations(self) -> CirculationCounts:
        """The visible members' combined counts. A lower bound if items out are hidden."""
        known = [counts for counts in self.circulations.values() if counts is not None]
        together = sum(known, CirculationCounts())
        return replace(together, complete=together.complete and len(known) == len(self.group.members))

    @property
    def standing_totals(self) -> StandingTotals:
        """The numbers of members who are over the limit or blocked."""
        return StandingTotals.of(self.group, [self.standing(member) for member in self.group.members])

    def standing(self, member: Member) -> Standing:
        """Compare a member's own fines with the rule, and list the penalties that block them."""
        return Standing.of(member, self.penalties[member.id], self.kinds)


class DetailsReader(DeskReader):
    """Reads groups for display, with a number of calls that doesn't depend on the number of members.

    With cached reference data and session it takes three calls: the members with their penalties and the accounts that
    set them, then in parallel the members' fines and their items out (one call each per 3,000 members).

    Without ``exact`` numbers it takes at most one more call: to find out whose circulations are hidden or, if there are
    hidden members, about these. The call for items out then also checks the hidden members. (An account that sees only
    its own circulations needs a separate call.) Counts of members who may have hidden circulations are lower bounds.

    With ``exact`` numbers, one call finds out whose circulations are hidden, if any are, and one more for each of these
    members, up to six, gets the counts. Evergreen's own limits take another call if they count only the fines of some
    libraries. They are read, and cached, when the rule and Evergreen disagree about a member.
    """

    def __init__(
        self,
        gateway: Gateway,
        policy: PolicySettings,
        reference: ReferenceData,
        recent: Callable[[], RecentlyChanged] = RecentlyChanged,
    ) -> None:
        """``recent`` returns patrons whose latest changes a replica may not have yet."""
        super().__init__(gateway, reference, recent)
        self._policy = policy

    def of_barcode(self, barcode: str, *, exact: bool = True) -> GroupDetails:
        """Read the group of the patron with this barcode, on any of their cards. Blanks are ignored.

        Raises NotFoundError, DataError if the group is too large to be a family, or PermissionDeniedError if hidden
        members can't be counted, because the account lacks VIEW_USER at its own library.
        """
        owner = find_owner(self._gateway, arguments.text("barcode", barcode))
        details = None if owner is None else self._family_of(owner[0], (), exact)
        if details is None:
            raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return details

    def of_user(self, id: int, *, names_of: Collection[int] = (), exact: bool = True) -> GroupDetails:
        """Read the group of the patron with this id. Raises the errors of :meth:`of_barcode`.

        ``names_of`` are ids of other patrons whose names to read too, members or not, at no extra cost.
        """
        details = self._family_of(arguments.integer("id", id), names_of, exact)
        if details is None:
            raise not_visible("no visible patron has this id", code="no-patron-with-id")
        return details

    def of_group(self, number: int, *, exact: bool = True) -> GroupDetails:
        """Read the group with this number. Raises the errors of :meth:`of_barcode`."""
        arguments.integer("number", number)
        found, counting = self._with_reference(lambda viewer: self._families.of_group(number, viewer))
        return self._details(found, counting, exact=exact)

    def _family_of(self, id: int, names_of: Collection[int], exact: bool) -> GroupDetails | None:
        found, counting = self._with_reference(lambda viewer: self._families.of_patron(id, viewer), names_of)
        return None if found is None else self._details(found, counting, exact=exact)

    def _with_reference(
        self, search: Callable[[GroupViewer], Found], names_of: Collection[int] = ()
    ) -> tuple[Found, CirculationReader]:
        """Run a search with a viewer, and in parallel read the libraries' rules for counting items out."""
        self._gateway.idl("au", "ac", "aou", "ausp", "circ", "csp", "mous", "pgt")  # in one request
        viewer = self._details_viewer(names_of, self._recent())
        found, counting = self._gateway.in_parallel(lambda: search(viewer), self._circulation_reader)
        return found, counting

    def _details(self, found: VisiblePatrons, counting: CirculationReader, *, exact: bool) -> GroupDetails:
        reference, gateway = self._reference, self._gateway
        org_units = reference.org_units(gateway, found.named_org_units)
        found = self._with_primary_penalties(org_units, found, self._recent())
        patrons = found.patrons(org_units)
        (own_fines, hidden, circulations), kinds, profiles, limits = self._gateway.in_parallel(
            lambda: self._fines_and_items(found, counting, exact=exact),
            lambda: reference.penalty_kinds(gateway, {row.kind for row in found.penalties}),
            lambda: reference.profiles(gateway, {row.profile for row in found.rows}),
            lambda: reference.limits(gateway),
        )
        group = Group.by_name(found.group, Member.of_patrons(gateway, limits, patrons, own_fines), hidden)
        if not group.member_count:
            raise not_visible("group {group} has no visible member", code="group-empty", values={"group": found.group})
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
            forecasts=read_forecasts(gateway, lambda: reference.ils_limits(gateway), standings, kinds),
        )

    def _fines_and_items(self, found: VisiblePatrons, counting: CirculationReader, *, exact: bool) -> _FinesAndItems:
        """Return the fines of visible members who owe any, the hidden members, and the visible members' items out."""
        homes = {row.id: row.home_library for row in found.rows}
        none_hidden = found.no_circulation
        if found.complete:
            own_fines, counted = self._gateway.in_parallel(
                lambda: self._own_fines(found),
                lambda: counting.count(homes, none_hidden=none_hidden, find_hidden=not exact),
            )
            hidden = None
        else:
            under_condition: dict[int, CirculationCounts | None] = {}

            def count_if(condition: dict[str, Any]) -> bool:
                counts = counting.count_if(condition, homes, none_hidden=none_hidden)
                under_condition.update(counts or {})
                return counts is not None

            own_fines, hidden = self._balances(found, count_if)
            counted = under_condition or counting.count(homes, none_hidden=none_hidden, find_hidden=False)
        return own_fines, hidden, counting.with_exact_counts(counted) if exact else counted

    def _own_fines(self, found: VisiblePatrons) -> Mapping[int, Decimal]:
        return self._families.fines([found.group], found.ids, lambda: self._visible_fines(found.ids))

    def _balances(
        self, found: VisiblePatrons, confirm: Callable[[dict[str, Any]], bool]
    ) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
        """Return the fines of visible members who owe any, and the hidden members."""
        try:
            return read_group_balances(self._gateway, found.group, found.ids, confirm=confirm)
        except PermissionDeniedError:
            # The account may not read balances, but may still be able to identify hidden members.
            hidden = find_hidden(self._gateway, {found.group: found.ids}, lambda: ())
            return self._own_fines(found), hidden.get(found.group)
