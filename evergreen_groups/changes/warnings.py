"""Warnings to review before applying a plan, about the patrons and about the groups that they leave and join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.changes.plans import GROUP, LEAD, PlanWarning, Step, group_changes

if TYPE_CHECKING:
    from evergreen_groups.groups import AdultRule, Group, Member, PatronAccount, Relations


@dataclass(frozen=True, slots=True)
class PlanEvidence:
    """The data for warnings, in addition to the steps: the groups that patrons leave and join, and their members.

    ``members`` and ``accounts`` are keyed by patron id. ``relations`` say what members have in common and whose address
    rows they use, if the planner has read that.
    """

    groups: Mapping[int, Group]
    members: Mapping[int, Member]
    accounts: Mapping[int, PatronAccount]
    relations: Relations
    adults: AdultRule


def warnings_about(steps: Sequence[Step], known: PlanEvidence) -> Iterator[PlanWarning]:
    """Yield the warnings about a plan's steps, except those about leads."""
    moves = [step for step in steps if step.field == GROUP]
    leaving = {step.member.id for step in moves}
    for step in steps:
        yield from _about_account(step)
    for step in moves:
        if step.after is not None:
            others = [member.id for member in known.groups[step.after].members if member.id != step.member.id]
            if others and not known.relations.shared(step.member.id, others):
                yield PlanWarning("stranger-to-group", {"name": step.member.name, "group": step.after})
    yield from _about_addresses(moves, known)
    yield from _about_adults(moves, known)
    for number in sorted({step.member.patron.group for step in moves}):
        yield from _about_those_left(known.groups[number], leaving)
    for number in sorted(known.groups):
        if not known.groups[number].complete:
            yield PlanWarning("hidden-members", {"group": number, "count": known.groups[number].hidden_member_count})


def warnings_about_leads(steps: Sequence[Step], groups: Mapping[int, Group]) -> Iterator[PlanWarning]:
    """Yield a warning for each group that gains a lead and then has several. Evergreen allows any number.

    ``groups`` must have every group that a patron of the plan is in or joins.
    """
    destinations = {step.member.id: step.after for step in steps if step.field == GROUP}
    flags = {step.member.id: bool(step.after) for step in steps if step.field == LEAD}
    planned = {step.member.id: step.member for step in steps}
    for number, group in sorted(groups.items()):
        members = {member.id: member for member in group.members}
        members |= {id: planned[id] for id, destination in destinations.items() if destination == number}
        leads = [
            member
            for id, member in members.items()
            if destinations.get(id, number) == number and flags.get(id, member.group_lead)
        ]
        new = any(flags.get(member.id) or member.id in destinations for member in leads)
        if new and len(leads) > 1:
            names = tuple(member.name for member in leads)
            values = {"names": names, "group": number}
            yield PlanWarning.counted("several-leads", group.counted(len(leads)), values)


def _about_account(step: Step) -> Iterator[PlanWarning]:
    patron, account = step.member.patron, step.account
    for holds, code in (
        (account.barred, "account-barred"),
        (not account.active, "account-not-active"),
        (account.expired, "account-expired"),
    ):
        if holds:
            yield PlanWarning(code, {"name": patron.name})


def _about_addresses(moves: Sequence[Step], known: PlanEvidence) -> Iterator[PlanWarning]:
    """Yield a warning for each borrowed address whose borrower and owner end up in different groups."""
    after: dict[int, object] = {member.id: member.patron.group for member in known.members.values()}
    # A patron with a new group shares it with no other member.
    after.update((step.member.id, step.after or ("new", step.member.id)) for step in moves)
    leaving = {step.member.id for step in moves}
    for step in moves:
        name, contacts = step.member.name, known.relations.contacts(step.member.id)
        owners = [known.members.get(lender) for lender in sorted(contacts.lenders)]
        for owner in owners:
            if owner is not None and after[owner.id] != after[step.member.id]:
                yield PlanWarning("borrowed-address", {"name": name, "owner": owner.name})
        if None in owners or contacts.hidden_lender:
            yield PlanWarning("borrowed-address-of-another", {"name": name})
        for member in known.groups[step.member.patron.group].members:
            stays = member.id not in leaving
            if stays and step.member.id in known.relations.contacts(member.id).lenders:
                yield PlanWarning("lent-address", {"name": name, "borrower": member.name})


def _about_adults(moves: Sequence[Step], known: PlanEvidence) -> Iterator[PlanWarning]:
    """Yield a warning for each group that gains adults and then has too many, not counting hidden members."""
    if not known.adults.applies:
        return
    for group in group_changes(moves, known.groups):
        before, after = (
            known.adults.count((member.id for member in members), known.accounts)
            for members in (group.members_before, group.after)
        )
        # Warn only if the plan adds adults, not about a group that already had too many.
        if group.number is not None and before < after > known.adults.most:
            values = {"group": group.number, "most": known.adults.most}
            yield PlanWarning.counted("several-adults", group.counted_after(after), values)


def _about_those_left(group: Group, leaving: set[int]) -> Iterator[PlanWarning]:
    """Yield warnings about a group that is left without a lead, without members, or with a single member."""
    stays = [member for member in group.members if member.id not in leaving]
    # A hidden member would stay, so only a complete group can end up empty.
    if not stays and group.complete and len(group.members) > 1:
        yield PlanWarning("group-left-empty", {"group": group.number})
    elif not stays and group.complete:
        yield PlanWarning("last-member-leaves", {"group": group.number})
    if len(stays) == 1 and group.complete and len(group.members) > 1:
        yield PlanWarning("left-alone", {"name": stays[0].name, "group": group.number})
    leads = [member for member in group.members if member.group_lead]
    if stays and leads and not any(member.group_lead for member in stays):
        names = tuple(member.name for member in leads)
        yield PlanWarning(
            "left-without-lead",
            {"names": names, "group": group.number, "count": len(stays) + group.hidden_member_count},
        )
