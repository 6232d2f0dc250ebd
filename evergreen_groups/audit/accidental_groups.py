"""Find groups that look accidental, and those with more adults than the library wants in one.

Most groups come from cloning a patron's record, and some of those never were families. Their members see each other's
fines, so this is a privacy problem.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from evergreen_groups.audit.findings import Confidence, Evidence, FindingKind, Reason, suggested_split
from evergreen_groups.audit.queries import UNUSUAL_SIZE, AccidentalGroups, GroupsOfAdults
from evergreen_groups.audit.search import list_groups
from evergreen_groups.audit.store import GroupDraft
from evergreen_groups.groups import (
    ACCOUNT_FIELDS,
    AdultRule,
    PatronAccount,
    PatronRow,
    contacts,
    find_hidden,
)
from evergreen_groups.state import schema
from evergreen_groups.values import Total

if TYPE_CHECKING:
    from sqlalchemy import Delete

    from evergreen_groups.audit.search import SearchContext
    from evergreen_groups.state import Transactions

LONG_EXPIRED = timedelta(days=3 * 365)
"""A lead whose account expired longer ago counts as long expired."""


def find_accidental_groups(context: SearchContext) -> None:
    """Search for groups that look accidental or are for review. Leave out groups that staff decided to keep."""
    query = AccidentalGroups(
        homes=context.chosen, visible_orgs=context.visible_orgs, long_ago=context.now - LONG_EXPIRED
    )
    list_groups(context, query, (*ACCOUNT_FIELDS, *contacts.CONTACT_FIELDS), AccidentalGroupJudge(context).judge)


def find_groups_of_adults(context: SearchContext) -> None:
    """Search for groups with too many adults. Does nothing if the rule is off."""
    rule = context.adults
    if not rule.applies:
        return
    today, visible = context.now.date(), context.visible_orgs
    query = GroupsOfAdults(rule=rule, today=today, homes=context.chosen, visible_orgs=visible)

    def judge(groups: Mapping[int, Sequence[PatronRow]], records: Mapping[int, Sequence[Any]]) -> Iterator[GroupDraft]:
        accounts = {id: PatronAccount.of(values, context.now) for id, values in records.items()}
        for members in groups.values():
            # Hidden members' ages are unknown, so this counts visible adults. A GroupDraft makes it a lower bound.
            count = rule.count((row.id for row in members), accounts)
            if count > rule.most:
                reason = Reason("several-adults", {"count": count, "most": rule.most})
                yield GroupDraft(tuple(members), (reason,), FindingKind.SEVERAL_ADULTS)

    list_groups(context, query, ACCOUNT_FIELDS, judge)


@dataclass(frozen=True, slots=True)
class _Family:
    """The visible members of a group, and the ids of the hidden ones."""

    rows: tuple[PatronRow, ...]
    hidden: frozenset[int] = frozenset()

    @property
    def number(self) -> int:
        return self.rows[0].group

    @property
    def ids(self) -> list[int]:
        return [row.id for row in self.rows]

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.hidden)

    @property
    def complete(self) -> bool:
        return not self.hidden

    @property
    def is_without_lead(self) -> bool:
        """Whether the group certainly has no lead. A hidden member may be one."""
        return self.complete and not any(row.group_lead for row in self.rows)

    def adults(self, accounts: Mapping[int, PatronAccount], today: date) -> list[int]:
        """Return the ids of the adults. A patron flagged as a juvenile never is one: don't call a child a stranger."""
        rule = AdultRule()
        return [id for id in sorted(self.ids) if not accounts[id].juvenile and rule.is_adult(accounts[id], today)]


class AccidentalGroupJudge:
    """Judges groups of two or more: accidental, or for review if they are odd but belong together."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._gateway = context.gateway

    def judge(
        self, groups: Mapping[int, Sequence[PatronRow]], records: Mapping[int, Sequence[Any]]
    ) -> list[GroupDraft]:
        """Return drafts for whole groups. ``records`` has each member's account and contact fields."""
        now, width = self._context.now, len(ACCOUNT_FIELDS)
        accounts = {id: PatronAccount.of(values[:width], now) for id, values in records.items()}
        families = [family for family in self._families(groups) if family.count > 1]
        with_deleted_lead = self._with_deleted_lead(family.number for family in families if family.is_without_lead)
        looked_at = []
        for family in families:
            reasons = list(_about_leads(family, accounts, now))
            if family.is_without_lead:
                reasons.append(Reason("lead-deleted" if family.number in with_deleted_lead else "no-lead"))
            if family.count >= UNUSUAL_SIZE:
                reasons.append(Reason("unusually-large", {"count": family.count}))
            # Hidden members may be the relatives of a stranger.
            adults = family.adults(accounts, now.date()) if family.complete else []
            # Surname and library are in the rows. Read contacts only for groups that look odd by these.
            if reasons or contacts.Relations(family.rows, {}).strangers(adults):
                looked_at.append((family, reasons, adults))
        members = [row for family, _reasons, _adults in looked_at for row in family.rows]
        known = contacts.read_contacts(self._gateway, {row.id: records[row.id][width:] for row in members})
        drafts = []
        for family, reasons, adults in looked_at:
            if (draft := self._draft(family, reasons, adults, contacts.Relations(family.rows, known))) is not None:
                drafts.append((family, draft))
        to_keep = self._to_keep([family for family, _draft in drafts])
        return [draft for family, draft in drafts if family.number not in to_keep]

    def _draft(
        self, family: _Family, reasons: Sequence[Reason], adults: Sequence[int], relations: contacts.Relations
    ) -> GroupDraft | None:
        """Make the draft for a group, without cards and fines. Return None if there are no reasons."""
        names = {row.id: row.name for row in family.rows}
        reasons = [*reasons, *(Reason("stranger", {"name": names[id]}) for id in relations.strangers(adults))]
        if not reasons:
            return None
        confidence = Confidence.from_evidence(_evidence(family, reasons, relations, self._context.institutions))
        lead = min(family.rows, key=lambda row: (not row.group_lead, row.id)).id
        # Common traits may outweigh all evidence: a family without a lead is no accident.
        kind = FindingKind.ACCIDENTAL if confidence.points else FindingKind.FOR_REVIEW
        split = suggested_split(family.ids, lead, relations) if family.complete else None
        return GroupDraft(family.rows, tuple(reasons), kind, confidence, split)

    def _families(self, groups: Mapping[int, Sequence[PatronRow]]) -> list[_Family]:
        if self._context.access.everywhere:  # no member is hidden
            return [_Family(tuple(members)) for members in groups.values()]
        visible = {group: {row.id for row in members} for group, members in groups.items()}
        units = [unit.id for unit in self._context.org_units]
        # Reading their fines would take further calls.
        hidden = find_hidden(self._gateway, visible, lambda: units, with_fines=False)
        return [
            _Family(tuple(members), hidden[group].ids if group in hidden else frozenset())
            for group, members in groups.items()
        ]

    def _to_keep(self, found: Sequence[_Family]) -> set[int]:
        """Return the numbers of groups that staff decided to keep and whose members are still the same."""
        context = self._context
        members = {
            family.number: family.hidden.union(family.ids) for family in found if family.number in context.to_keep
        }
        # A changed membership calls for another look.
        same = {number for number, ids in members.items() if context.to_keep[number] == ids}
        context.left_out_groups.update(same)
        context.changed_groups.update(members.keys() - same)
        return same

    def _with_deleted_lead(self, groups: Iterable[int]) -> set[int]:
        """Return the groups that have a deleted lead (``work-list-009``)."""
        condition = {"deleted": "t", "master_account": "t"}
        rows = self._gateway.pcrud.columns_by_values("au", ("usrgroup",), "usrgroup", sorted(groups), where=condition)
        return {group for (group,) in rows}


def _about_leads(family: _Family, accounts: Mapping[int, PatronAccount], now: datetime) -> Iterator[Reason]:
    leads = sorted((row for row in family.rows if row.group_lead), key=lambda row: row.id)
    if len(leads) > 1:
        yield Reason.counted("several-leads", Total(len(leads), family.complete))
    long_ago = now.astimezone(UTC) - LONG_EXPIRED
    for lead in leads:
        expire_date = accounts[lead.id].expire_date
        if expire_date is not None and expire_date < long_ago:
            yield Reason("lead-expired", {"name": lead.name, "date": expire_date.date()})


def _evidence(
    family: _Family, reasons: Iterable[Reason], relations: contacts.Relations, institutions: Mapping[int, str]
) -> Iterator[Evidence]:
    """Yield evidence for and against an accidental group, each kind once."""
    found = list(reasons)
    strangers = sum(reason.code == "stranger" for reason in found)
    once = {reason.code: reason for reason in found if reason.code != "stranger"}
    yield from (Evidence(reason.code, reason.values) for reason in once.values())
    of_institution = [row.profile for row in family.rows if row.profile in institutions]
    if of_institution:
        yield Evidence("institution", {"profile": institutions[of_institution[0]], "count": family.count})
    if strangers:
        yield Evidence("strangers", {"count": strangers})
    ids = family.ids
    if cloned := relations.cloned(ids):
        yield Evidence("cloned", {"count" if family.complete else "at_least": len(cloned)})
    if not family.complete:  # hidden members may be the relatives
        return
    in_common = relations.in_common(ids).values()
    # The home library alone doesn't make relatives.
    if not any(kinds.intersection(contacts.TIES) for kinds in in_common):
        yield Evidence("nothing-shared")
        return
    for code, kinds in _SHARED_BY_ALL.items():
        if all(kinds & shared for shared in in_common):
            yield Evidence(code)


_SHARED_BY_ALL = {
    "surname-shared": {contacts.SURNAME},
    "address-shared": {contacts.ADDRESS},
    "phone-or-email-shared": {contacts.PHONE, contacts.EMAIL},
}


_TABLE = schema.groups_to_keep


class GroupsToKeep:
    """Groups at one gateway (address) to keep as they are, by number, with the ids of their members at the time."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def read(self) -> dict[int, frozenset[int]]:
        """Read all groups to keep."""
        if not self._transactions.is_there:
            return {}
        question = select(_TABLE.c.number, _TABLE.c.members).where(_TABLE.c.gateway == self._gateway)
        with self._transactions.reading() as connection:
            return {int(row.number): frozenset(json.loads(row.members)) for row in connection.execute(question)}

    def add(self, groups: Mapping[int, Collection[int]]) -> None:
        """Keep groups with these members (ids, including hidden ones)."""
        now = self._transactions.now()
        with self._transactions.writing() as connection:
            for number, members in groups.items():
                connection.execute(self._delete(number))
                ids = json.dumps(sorted(members))
                connection.execute(insert(_TABLE).values(gateway=self._gateway, number=number, at=now, members=ids))

    def remove(self, numbers: Collection[int]) -> int:
        """List groups again. Return how many of them were being kept."""
        if not numbers or not self._transactions.is_there:
            return 0
        with self._transactions.writing() as connection:
            return sum(connection.execute(self._delete(number)).rowcount for number in numbers)

    def _delete(self, number: int) -> Delete:
        return delete(_TABLE).where(_TABLE.c.gateway == self._gateway, _TABLE.c.number == number)
