"""Groups that look accidental: most groups come from cloning a patron's record, and some of those never were families.

Their members see each other's fines, so it is a matter of privacy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups.audit.findings import GroupFinding, Reason
from evergreen_groups.audit.queries import AccidentalGroups
from evergreen_groups.groups import GroupReader, MembershipReader, Patron, RangeSearch
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Access

UNUSUAL_SIZE = 10
"""From this many members on, a group is unusually large."""
LONG_EXPIRED = timedelta(days=3 * 365)
"""A lead whose account expired longer ago than this has expired long since."""
_ADULT_YEARS = 18
_TRAITS = ("id", "family_name", "juvenile", "dob", "expire_date")

Address = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Traits:
    """What of a patron tells whether they belong to a group."""

    patron: Patron
    surname: str
    adult: bool
    expire_date: datetime | None


def find_accidental_groups(context: SearchContext) -> list[GroupFinding]:
    """The search for groups that look accidental."""
    search = AccidentalGroupSearch(context.gateway, context.reader, context.access, context.now, context.progress)
    return search.run(context.chosen)


class AccidentalGroupSearch:
    """Finds groups of two and more that look accidental."""

    def __init__(
        self, gateway: Gateway, reader: GroupReader, access: Access, now: datetime, progress: Progress = silent
    ) -> None:
        self._gateway = gateway
        self._reader = reader
        self._access = access
        self._now = now
        self._progress = progress

    def run(self, homes: Collection[int]) -> list[GroupFinding]:
        """All of them with a member at home at ``homes`` (org unit ids, none: everywhere), in no order."""
        query = AccidentalGroups(
            unusual_size=UNUSUAL_SIZE,
            long_ago=self._now - LONG_EXPIRED,
            homes=homes,
            viewable_orgs=() if self._access.everywhere else self._access.viewable,
        )
        return list(RangeSearch(self._gateway, query, self._progress).pushed_down(self._examine))

    def _examine(self, patrons: Sequence[Patron]) -> list[GroupFinding]:
        """Say of whole groups why each looks accidental, and leave out those that don't after all."""
        traits: dict[int, list[_Traits]] = {}
        for person in self._traits(patrons):
            traits.setdefault(person.patron.group, []).append(person)
        with_deleted_lead = self._with_deleted_lead(
            number for number, members in traits.items() if not any(member.patron.group_lead for member in members)
        )
        addresses = self._addresses(traits.values())
        findings = []
        for group in self._reader.complete(patrons):
            members = traits[group.group]
            reasons = list(_about_leads(members, self._now))
            if group.complete:  # a lead or relatives may be among those out of sight
                reasons.extend(_without_lead(members, deleted=group.group in with_deleted_lead))
                reasons.extend(_about_strangers(members, addresses))
            if group.member_count >= UNUSUAL_SIZE:
                reasons.append(Reason("unusually-large", {"count": group.member_count}))
            if reasons and group.member_count > 1:
                findings.append(GroupFinding(group, tuple(reasons)))
        return findings

    def _traits(self, patrons: Sequence[Patron]) -> Iterator[_Traits]:
        by_id = {patron.id: patron for patron in patrons}
        today = self._now.date()
        for batch in self._gateway.pcrud.columns_by_values("au", _TRAITS, "id", by_id):
            for id, surname, juvenile, born, expire_date in batch:
                adult = not juvenile and (born is None or _years(born, today) >= _ADULT_YEARS)
                yield _Traits(by_id[id], str(surname or "").strip().casefold(), adult, expire_date)

    def _with_deleted_lead(self, groups: Iterable[int]) -> set[int]:
        """Those of the groups that have a deleted lead."""
        condition = {"deleted": "t", "master_account": "t"}
        batches = self._gateway.pcrud.columns_by_values(
            "au", ("usrgroup",), "usrgroup", sorted(groups), where=condition
        )
        return {group for batch in batches for (group,) in batch}

    def _addresses(self, groups: Iterable[Sequence[_Traits]]) -> Mapping[int, frozenset[Address]]:
        """The addresses of the adults in groups where they could make a difference."""
        wanted = [member.patron.id for members in groups for one in _strangers(members, {}) for member in members]
        return MembershipReader(self._gateway).addresses(set(wanted)) if wanted else {}


def _years(born: date | datetime, today: date) -> int:
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _without_lead(members: Sequence[_Traits], *, deleted: bool) -> Iterator[Reason]:
    if not any(member.patron.group_lead for member in members):
        yield Reason("lead-deleted" if deleted else "no-lead")


def _about_leads(members: Sequence[_Traits], now: datetime) -> Iterator[Reason]:
    leads = [member for member in members if member.patron.group_lead]
    if len(leads) > 1:
        yield Reason("several-leads", {"count": len(leads)})
    long_ago = now.astimezone(UTC) - LONG_EXPIRED
    expired = [lead for lead in leads if lead.expire_date is not None and lead.expire_date < long_ago]
    for lead in expired:
        yield Reason("lead-expired", {"name": lead.patron.name, "date": lead.expire_date})


def _about_strangers(members: Sequence[_Traits], addresses: Mapping[int, frozenset[Address]]) -> Iterator[Reason]:
    for stranger in _strangers(members, addresses):
        yield Reason("stranger", {"name": stranger.patron.name})


def _strangers(members: Sequence[_Traits], addresses: Mapping[int, frozenset[Address]]) -> list[_Traits]:
    """The adults who have surname, address and home library in common with no other adult of the group."""
    adults = [member for member in members if member.adult]
    traits = {adult.patron.id: _common_traits(adult, addresses) for adult in adults}
    shared = Counter(trait for found in traits.values() for trait in found)
    alone = [adult for adult in adults if all(shared[trait] == 1 for trait in traits[adult.patron.id])]
    return alone if len(adults) > 1 else []


def _common_traits(person: _Traits, addresses: Mapping[int, frozenset[Address]]) -> set[tuple[object, ...]]:
    """What relatives would have in common."""
    known = addresses.get(person.patron.id, frozenset())
    return {("surname", person.surname), ("library", person.patron.home_library), *(("at", *at) for at in known)}
