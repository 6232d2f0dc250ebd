"""Groups that look accidental: most groups come from cloning a patron's record, and some of those never were families.

Their members see each other's fines, so it is a matter of privacy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen_groups.audit.confidence import Confidence, Evidence
from evergreen_groups.audit.findings import FindingKind, GroupFinding, Reason
from evergreen_groups.audit.group_split import suggested_split
from evergreen_groups.audit.queries import AccidentalGroups
from evergreen_groups.groups import (
    ADDRESS,
    EMAIL,
    PHONE,
    SURNAME,
    TIES,
    Group,
    GroupSearch,
    Member,
    PatronAccount,
    PatronRow,
    Relations,
    age_of,
    find_hidden_of_few,
    read_accounts,
    read_contact_records,
    read_contacts,
)

if TYPE_CHECKING:
    from evergreen_groups.audit.context import SearchContext

# Beyond most families, below the institutions that share a number.
UNUSUAL_SIZE = 10
"""From this many members on, a group is unusually large."""
LONG_EXPIRED = timedelta(days=3 * 365)
"""A lead whose account expired longer ago than this has expired long since."""
_ADULT_YEARS = 18


def find_accidental_groups(context: SearchContext) -> list[GroupFinding]:
    """The search for groups that look accidental or are for review, without those that are to be kept as they are."""
    return AccidentalGroupSearch(context).run()


class AccidentalGroupSearch:
    """Finds groups of two and more that look accidental, and those for review: odd, but together they belong."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._gateway = context.gateway

    def run(self) -> list[GroupFinding]:
        """All of them with a member of the home libraries asked for, in no order."""
        access = self._context.access
        query = AccidentalGroups(
            unusual_size=UNUSUAL_SIZE,
            long_ago=self._context.now - LONG_EXPIRED,
            homes=self._context.chosen,
            visible_orgs=() if access.everywhere else access.visible_orgs,
        )
        return GroupSearch(self._gateway, query, self._context.progress).run(self._examine)

    def _examine(self, rows: Sequence[PatronRow]) -> list[GroupFinding]:
        """Say of whole groups why each looks accidental, and leave out those that don't after all."""
        accounts = read_accounts(self._gateway, {row.id: row for row in rows})
        groups = self._context.reader.complete(rows)
        with_deleted_lead = self._with_deleted_lead(group.number for group in groups if not group.lead.group_lead)
        looked_at = []
        for group in groups:
            reasons = list(_about_leads(group.members, accounts, self._context.now))
            if group.complete and not group.lead.group_lead:  # a lead may be among the hidden members
                reasons.append(Reason("lead-deleted" if group.number in with_deleted_lead else "no-lead"))
            if group.member_count >= UNUSUAL_SIZE:
                reasons.append(Reason("unusually-large", {"count": group.member_count}))
            adults = _adults(group, accounts, self._context.now.date()) if group.complete else []  # relatives too
            if group.member_count > 1 and (reasons or _by_record([group]).strangers(adults)):
                looked_at.append((group, reasons, adults))
        relations = self._relations([group for group, _reasons, _adults in looked_at])
        return [found for one in looked_at for found in self._listed(*one, relations)]

    def _listed(
        self, group: Group, reasons: list[Reason], adults: Sequence[int], relations: Relations
    ) -> Iterator[GroupFinding]:
        """The finding about a group, unless nothing is odd about it after all or it is to be kept as it is."""
        names = {member.id: member.name for member in group.members}
        strangers = [Reason("stranger", {"name": names[id]}) for id in relations.strangers(adults)]
        reasons = [*reasons, *strangers]
        if reasons and not self._stays_as_it_is(group):
            confidence = Confidence.by(_evidence(group, reasons, relations, self._context.institutions))
            split = suggested_split(group, relations)
            # What members have in common may outweigh everything: a family without a lead is no accident.
            kind = FindingKind.ACCIDENTAL if confidence.points else FindingKind.FOR_REVIEW
            yield GroupFinding(group, tuple(reasons), kind, confidence=confidence, split=split)

    def _stays_as_it_is(self, group: Group) -> bool:
        """Whether somebody has decided that a group is to be kept as it is, and its members are still the same."""
        if self._context.to_keep.get(group.number) != self._members(group):
            return False
        self._context.left_out.add(group.number)
        return True

    def _members(self, group: Group) -> Set[int]:
        """The ids of all members; who the hidden ones are is asked of the few groups alone that are to be kept."""
        visible = {member.id for member in group.members}
        if group.complete or group.number not in self._context.to_keep:
            return visible
        hidden = find_hidden_of_few(self._gateway, {group.number: visible}, lambda: ())
        return visible.union(*(its.ids or () for its in hidden.values()))

    def _with_deleted_lead(self, groups: Iterable[int]) -> set[int]:
        """Those of the groups that have a deleted lead (``work-list-009``)."""
        condition = {"deleted": "t", "master_account": "t"}
        batches = self._gateway.pcrud.columns_by_values(
            "au", ("usrgroup",), "usrgroup", sorted(groups), where=condition
        )
        return {group for batch in batches for (group,) in batch}

    def _relations(self, groups: Iterable[Group]) -> Relations:
        """What the members of groups have in common."""
        patrons = [member.patron for group in groups for member in group.members]
        records = read_contact_records(self._gateway, sorted(patron.id for patron in patrons))
        return Relations(patrons, read_contacts(self._gateway, records))


def _adults(group: Group, accounts: Mapping[int, PatronAccount], today: date) -> list[int]:
    """The ids of the adults of a group; who is not marked as juvenile and has no birth date counts as one.

    Whoever is marked as a juvenile doesn't, whatever the birth date: of a child nobody says that it is a stranger.
    """
    return sorted(member.id for member in group.members if _is_adult(accounts[member.id], today))


def _is_adult(account: PatronAccount, today: date) -> bool:
    born = account.birth_date
    return not account.juvenile and (born is None or age_of(born, today) >= _ADULT_YEARS)


def _by_record(groups: Iterable[Group]) -> Relations:
    """What members have in common by surname and library alone, for which nothing more has to be read."""
    return Relations((member.patron for group in groups for member in group.members), {})


def _about_leads(members: Iterable[Member], accounts: Mapping[int, PatronAccount], now: datetime) -> Iterator[Reason]:
    leads = sorted((member for member in members if member.group_lead), key=lambda member: member.id)
    if len(leads) > 1:
        yield Reason("several-leads", {"count": len(leads)})
    long_ago = now.astimezone(UTC) - LONG_EXPIRED
    for lead in leads:
        expire_date = accounts[lead.id].expire_date
        if expire_date is not None and expire_date < long_ago:
            yield Reason("lead-expired", {"name": lead.name, "date": expire_date.date()})


def _evidence(
    group: Group, reasons: Iterable[Reason], relations: Relations, institutions: Mapping[int, str]
) -> Iterator[Evidence]:
    """What speaks for and against it that a group is accidental, each kind once."""
    found = list(reasons)
    strangers = sum(reason.code == "stranger" for reason in found)
    once = {reason.code: reason for reason in found if reason.code != "stranger"}
    yield from (Evidence(reason.code, reason.values) for reason in once.values())
    of_institution = [member.patron.profile for member in group.members if member.patron.profile in institutions]
    if of_institution:
        yield Evidence("institution", {"profile": institutions[of_institution[0]], "count": group.member_count})
    if strangers:
        yield Evidence("strangers", {"count": strangers})
    ids = [member.id for member in group.members]
    if cloned := relations.cloned(ids):
        yield Evidence("cloned", {"count": len(cloned)})
    if not group.complete:  # hidden members may be the relatives
        return
    if not relations.any_share(ids, *TIES):
        yield Evidence("nothing-shared")
    for code, kinds in _SHARED_BY_ALL.items():
        if relations.all_share(ids, *kinds):
            yield Evidence(code)


_SHARED_BY_ALL = {
    "surname-shared": (SURNAME,),
    "address-shared": (ADDRESS,),
    "phone-or-email-shared": (PHONE, EMAIL),
}
