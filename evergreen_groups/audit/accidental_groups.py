"""Groups that look accidental: most groups come from cloning a patron's record, and some of those never were families.

Their members see each other's fines, so it is a matter of privacy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups.audit.findings import GroupFinding, Reason
from evergreen_groups.audit.queries import AccidentalGroups
from evergreen_groups.groups import (
    Group,
    GroupReader,
    GroupSearch,
    Member,
    MembershipReader,
    Patron,
    PatronAccount,
    PatronRow,
    read_accounts,
)
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Access

# Beyond most families, below the institutions that share a number.
UNUSUAL_SIZE = 10
"""From this many members on, a group is unusually large."""
LONG_EXPIRED = timedelta(days=3 * 365)
"""A lead whose account expired longer ago than this has expired long since."""
_ADULT_YEARS = 18

Address = tuple[str, str]


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
        """All of them with a member of the home libraries ``homes`` (ids, none: everywhere), in no order."""
        query = AccidentalGroups(
            unusual_size=UNUSUAL_SIZE,
            long_ago=self._now - LONG_EXPIRED,
            homes=homes,
            visible_orgs=() if self._access.everywhere else self._access.visible_orgs,
        )
        return GroupSearch(self._gateway, query, self._progress).run(self._examine)

    def _examine(self, rows: Sequence[PatronRow]) -> list[GroupFinding]:
        """Say of whole groups why each looks accidental, and leave out those that don't after all."""
        accounts = read_accounts(self._gateway, {row.id: row for row in rows})
        groups = self._reader.complete(rows)
        with_deleted_lead = self._with_deleted_lead(group.number for group in groups if not group.lead.group_lead)
        adults = {group.number: self._adults(group, accounts) for group in groups}
        addresses = self._addresses(adults.values())
        findings = []
        for group in groups:
            reasons = list(_about_leads(group.members, accounts, self._now))
            if group.complete:  # a lead or relatives may be among the hidden members
                reasons.extend(_without_lead(group, deleted=group.number in with_deleted_lead))
                reasons.extend(_about_strangers(adults[group.number], addresses))
            if group.member_count >= UNUSUAL_SIZE:
                reasons.append(Reason("unusually-large", {"count": group.member_count}))
            if reasons and group.member_count > 1:
                findings.append(GroupFinding(group, tuple(reasons)))
        return findings

    def _adults(self, group: Group, accounts: Mapping[int, PatronAccount]) -> list[Patron]:
        """The adults of a group, by id; who is not marked as juvenile and has no birth date counts as one."""
        today = self._now.date()
        return sorted(
            (member.patron for member in group.members if _is_adult(accounts[member.id], today)),
            key=lambda patron: patron.id,
        )

    def _with_deleted_lead(self, groups: Iterable[int]) -> set[int]:
        """Those of the groups that have a deleted lead."""
        condition = {"deleted": "t", "master_account": "t"}
        batches = self._gateway.pcrud.columns_by_values(
            "au", ("usrgroup",), "usrgroup", sorted(groups), where=condition
        )
        return {group for batch in batches for (group,) in batch}

    def _addresses(self, groups: Iterable[Sequence[Patron]]) -> Mapping[int, frozenset[Address]]:
        """The addresses of the adults of groups where they could make a difference."""
        wanted = {adult.id for adults in groups if _strangers(adults, {}) for adult in adults}
        return MembershipReader(self._gateway).addresses(wanted) if wanted else {}


def _is_adult(account: PatronAccount, today: date) -> bool:
    born = account.birth_date
    # The mark of a juvenile isn't taken off at eighteen unless a job does it, and many records have no date of birth.
    return not account.juvenile and (born is None or _years(born, today) >= _ADULT_YEARS)


def _years(born: date, today: date) -> int:
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _without_lead(group: Group, *, deleted: bool) -> Iterator[Reason]:
    if not group.lead.group_lead:
        yield Reason("lead-deleted" if deleted else "no-lead")


def _about_leads(members: Iterable[Member], accounts: Mapping[int, PatronAccount], now: datetime) -> Iterator[Reason]:
    leads = sorted((member for member in members if member.group_lead), key=lambda member: member.id)
    if len(leads) > 1:
        yield Reason("several-leads", {"count": len(leads)})
    long_ago = now.astimezone(UTC) - LONG_EXPIRED
    for lead in leads:
        expire_date = accounts[lead.id].expire_date
        if expire_date is not None and expire_date < long_ago:
            yield Reason("lead-expired", {"name": lead.name, "date": expire_date})


def _about_strangers(adults: Sequence[Patron], addresses: Mapping[int, frozenset[Address]]) -> Iterator[Reason]:
    for stranger in _strangers(adults, addresses):
        yield Reason("stranger", {"name": stranger.name})


def _strangers(adults: Sequence[Patron], addresses: Mapping[int, frozenset[Address]]) -> list[Patron]:
    """The adults who have surname, address and home library in common with no other adult of the group."""
    traits = {adult.id: _common_traits(adult, addresses) for adult in adults}
    shared = Counter(trait for found in traits.values() for trait in found)
    alone = [adult for adult in adults if all(shared[trait] == 1 for trait in traits[adult.id])]
    return alone if len(adults) > 1 else []


def _common_traits(patron: Patron, addresses: Mapping[int, frozenset[Address]]) -> set[tuple[object, ...]]:
    """What relatives would have in common."""
    known = addresses.get(patron.id, frozenset())
    surname = patron.family_name.strip().casefold()
    return {("surname", surname), ("library", patron.home_library.id), *(("at", *at) for at in known)}
