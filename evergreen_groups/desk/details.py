"""Group Member Details: every member of a group with fines, items out and standing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.errors import not_in_sight
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.groups import Membership, MembershipReader, Person
from evergreen_groups.ils import OrgUnits
from evergreen_groups.limits import Decided, Limits, decide_all
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.policy import Limit
    from evergreen_groups.settings import PolicySettings

_COUNT = "open-ils.actor.user.checked_out.count"
_SETTINGS = "open-ils.actor.ou_setting.ancestor_default.batch"
_NO_CLAIMS = "circ.do_not_tally_claims_returned"
_LOST = "circ.tally_lost"


@dataclass(frozen=True, slots=True)
class Items:
    """How many items a patron has: ``out`` in all as the library counts them, of them ``overdue`` and ``lost``."""

    out: int
    overdue: int
    lost: int


@dataclass(frozen=True, slots=True)
class MemberDetails:
    """One member. ``items`` is None where the ILS doesn't tell the account (VIEW_CIRCULATIONS is missing)."""

    id: int
    name: str
    barcode: str | None
    library: str
    own_fines: Decimal
    limit: Limit
    blocked: bool
    items: Items | None
    active: bool
    barred: bool
    expired: bool
    birth_date: date | None
    group_lead: bool


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """A group with all its members in sight. ``limit`` is the one for everybody, None where each has their own.

    ``group_fines`` is what they owe together, for information only; hidden members are in it as far as the ILS tells
    what they owe (``hidden_fines``, None where it doesn't).
    """

    group: int
    gateway: str
    limit: Limit | None
    members: tuple[MemberDetails, ...]
    hidden_count: int
    hidden_fines: Decimal | None
    group_fines: Decimal

    @property
    def items(self) -> Items | None:
        """The items of all members in sight together, None where those of one aren't known."""
        known = [member.items for member in self.members if member.items is not None]
        if len(known) < len(self.members):
            return None
        return Items(sum(i.out for i in known), sum(i.overdue for i in known), sum(i.lost for i in known))


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
            NotFoundError: no patron in sight has it.
        """
        found = self._reader.by_barcodes([barcode])
        if barcode not in found:
            raise not_in_sight("no patron in sight has this barcode", code="no-patron-with-barcode")
        return self.of_group(found[barcode].person.group)

    def of_user(self, id: int) -> GroupDetails:
        """The group of the patron with this id.

        Raises:
            NotFoundError: there is no such patron in sight.
        """
        found = self._reader.by_ids([id])
        if id not in found:
            raise not_in_sight("no patron in sight has this id", code="no-patron-with-id")
        return self.of_group(found[id].group)

    def of_group(self, number: int) -> GroupDetails:
        """The group with this number.

        Raises:
            NotFoundError: nobody is in it.
        """
        group = self._reader.groups([number])[number]
        if not group.size:
            raise not_in_sight("nobody is in group {group}", code="group-empty", values={"group": number})
        org_units = OrgUnits.read(self._gateway)
        limits = Limits.read(self._gateway, self._policy, org_units)
        decided = decide_all(self._gateway, limits, group.members)
        counting = self._counting()
        members = []
        for member, items in zip(group.members, self._items(group, counting), strict=True):
            members.append(_member(member, decided[member.id], items, org_units))
            self._progress("counting items", len(members), len(group.members))
        return GroupDetails(
            group=number,
            gateway=self._gateway.url,
            limit=self._policy.as_limit() if self._policy.uniform else None,
            members=tuple(members),
            hidden_count=len(group.hidden_ids),
            hidden_fines=group.hidden_fines,
            group_fines=group.total,
        )

    def _items(self, group: Membership, counting: Callable[[Mapping[str, object]], Items]) -> list[Items | None]:
        def count(member: Person) -> Items | None:
            # The ILS answers with nothing when VIEW_CIRCULATIONS is missing (patrons-083).
            answer = self._gateway.call("open-ils.actor", _COUNT, TOKEN, member.id, expect="optional").value
            return None if answer is None else counting(answer)

        return list(self._gateway.map(count, group.members))

    def _counting(self) -> Callable[[Mapping[str, object]], Items]:
        """How the library counts items out, as the staff client does (``patron.service.ts``)."""
        session = self._gateway.decode(
            self._gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN).value
        )
        library = int(session.ws_ou or session.home_ou)
        settings = self._gateway.call("open-ils.actor", _SETTINGS, library, [_NO_CLAIMS, _LOST], TOKEN).value

        def is_set(name: str) -> bool:
            return bool((settings.get(name) or {}).get("value"))

        kinds = ["out", "overdue", "long_overdue"]
        kinds += [] if is_set(_NO_CLAIMS) else ["claims_returned"]
        kinds += ["lost"] if is_set(_LOST) else []

        def items(answer: Mapping[str, object]) -> Items:
            number = {kind: int(str(answer.get(kind) or 0)) for kind in (*kinds, "lost")}
            overdue = number["overdue"] + number["long_overdue"]
            return Items(sum(number[kind] for kind in kinds), overdue, number["lost"])

        return items


def _member(person: Person, decided: Decided, items: Items | None, org_units: OrgUnits) -> MemberDetails:
    return MemberDetails(
        id=person.id,
        name=person.name,
        barcode=person.barcode,
        library=org_units.shortname(person.home_library),
        own_fines=person.own_fines,
        limit=decided.limit.limit,
        blocked=decided.decision.blocked,
        items=items,
        active=person.active,
        barred=person.barred,
        expired=person.expired,
        birth_date=person.birth_date,
        group_lead=person.group_lead,
    )
