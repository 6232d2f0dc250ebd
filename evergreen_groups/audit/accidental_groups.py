"""Groups that look accidental: most groups come from cloning a patron's record, and some of those never were families.

Their members see each other's fines, so it is a matter of privacy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups.audit.findings import GroupFinding
from evergreen_groups.audit.queries import AccidentalGroups
from evergreen_groups.groups import GroupReader, MembershipReader, Patron, RangeSearch
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Access

# Beyond most families, below the institutions that share a number.
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
        """All of them with a member at home at ``homes`` (org unit ids, none: everywhere), by group number."""
        query = AccidentalGroups(
            unusual_size=UNUSUAL_SIZE,
            long_ago=self._now - LONG_EXPIRED,
            homes=homes,
            viewable_orgs=() if self._access.everywhere else self._access.viewable,
        )
        found = RangeSearch(self._gateway, query, self._progress).pushed_down(self._examine)
        return sorted(found, key=lambda finding: finding.group.group)

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
                reasons.append(f"It is unusually large: {group.member_count} members.")
            if reasons and group.member_count > 1:
                findings.append(GroupFinding(group, tuple(reasons)))
        return findings

    def _traits(self, patrons: Sequence[Patron]) -> Iterator[_Traits]:
        by_id = {patron.id: patron for patron in patrons}
        today = self._now.date()
        for batch in self._gateway.pcrud.columns_by_values("au", _TRAITS, "id", by_id):
            for id, surname, juvenile, born, expire_date in batch:
                # The mark of a juvenile isn't taken off at eighteen unless a job does it, and many records have no
                # date of birth.
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


def _without_lead(members: Sequence[_Traits], *, deleted: bool) -> Iterator[str]:
    if not any(member.patron.group_lead for member in members):
        yield "Its lead is deleted." if deleted else "It has no lead."


def _about_leads(members: Sequence[_Traits], now: datetime) -> Iterator[str]:
    leads = [member for member in members if member.patron.group_lead]
    if len(leads) > 1:
        yield f"It has {len(leads)} leads."
    long_ago = now.astimezone(UTC) - LONG_EXPIRED
    expired = [lead for lead in leads if lead.expire_date is not None and lead.expire_date < long_ago]
    for lead in expired:
        yield f"The account of its lead {lead.patron.name} expired on {lead.expire_date:%Y-%m-%d}."


def _about_strangers(members: Sequence[_Traits], addresses: Mapping[int, frozenset[Address]]) -> Iterator[str]:
    for stranger in _strangers(members, addresses):
        yield f"{stranger.patron.name} shares neither surname nor address nor home library with another adult."


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
