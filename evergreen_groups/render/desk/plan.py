"""A plan as the desk shows it for confirmation: who moves where, who stays behind, and what to check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.changes import GROUP, PENALTIES
from evergreen_groups.language import gettext, ngettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import isolated, printable, sentence
from evergreen_groups.render.plans import describe_warning
from evergreen_groups.render.wording import hidden_members

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.changes import Draft, PlannedGroup, Step
    from evergreen_groups.groups import Group, Member

MOST_UNFOLDED = 12
"""A group with more members than this is shown folded."""


@dataclass(frozen=True, slots=True)
class PlanPage:
    """The values for the template of a plan."""

    title: str
    heading: str
    confirm: str
    steps: tuple[StepView, ...]
    groups: tuple[GroupView, ...]
    warnings: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepView:
    """One change of a plan, with remarks about the patron's account."""

    member: Member
    text: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberMark:
    """A member of an affected group. ``mark`` says whether they join, leave or stay behind; empty if the group doesn't
    shrink.
    """

    member: Member
    mark: str
    joins: bool = False


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group before and after a plan."""

    title: str
    members: tuple[MemberMark, ...]
    count_before: int
    count_after: int
    total_before: Decimal | None
    total_after: Decimal | None
    note: str

    @property
    def folded(self) -> bool:
        """Whether the members are hidden until asked for, because there are many."""
        return len(self.members) > MOST_UNFOLDED


def plan_page(draft: Draft, action: str, this_group: int | None) -> PlanPage:
    """Return the values for the page of a plan. ``action`` is the form's name for the change, ``this_group`` the page's
    group.
    """
    expected = _EXPECTED.get(action, _EXPECTED_ANYWHERE)
    warnings = tuple(sentence(describe_warning(one)) for one in draft.warnings if one.code not in expected)
    known = {group.number: group.before for group in draft.groups if group.before}
    return PlanPage(
        title=gettext(_TITLES[action]),  # without names, because page titles stay in the browser's history
        heading=_heading(draft, action),
        confirm=gettext(_CONFIRM_IN_SPITE[action] if warnings else _CONFIRM[action]),
        steps=tuple(
            StepView(step.member, _change(step, known, this_group), tuple(_remarks(step))) for step in draft.steps
        ),
        # A new group holds only the patron named in the step, so there is nothing more to show.
        groups=tuple(_group(group, this_group) for group in draft.groups if group.before is not None),
        warnings=warnings,
        unchanged=tuple(sentence(printable(gettext(text))) for text in draft.unchanged),
    )


_CONFIRM = {
    "join": Message("Move", context="a button"),
    "move": Message("Move", context="a button"),
    "remove": Message("Remove", context="a button"),
    "merge": Message("Merge", context="a button"),
    "lead": Message("Make group lead", context="a button"),
    "no-lead": Message("No longer group lead", context="a button"),
    "recalculate": Message("Recalculate", context="a button"),
}
_CONFIRM_IN_SPITE = {
    "join": Message("Move in spite of this"),
    "move": Message("Move in spite of this"),
    "remove": Message("Remove in spite of this"),
    "merge": Message("Merge in spite of this"),
    "lead": Message("Make group lead in spite of this"),
    "no-lead": Message("No longer group lead in spite of this"),
    "recalculate": Message("Recalculate in spite of this"),
}
_TITLES = {
    "join": Message("Move?"),
    "move": Message("Move?"),
    "remove": Message("Remove?"),
    "merge": Message("Merge?"),
    "lead": Message("Make group lead?"),
    "no-lead": Message("No longer group lead?"),
    "recalculate": Message("Recalculate?"),
}
_HEADINGS = {
    "join": Message("Move {who} to this group?"),
    "move": Message("Move {who} to another group?"),
    "remove": Message("Remove {who} from the group?"),
    "merge": Message("Merge this group into another?"),
    "lead": Message("Make {who} group lead?"),
    "no-lead": Message("Should {who} no longer be group lead?"),
    "recalculate": Message("Recalculate the penalties of {who}?"),
}


# Emptying a group is no reason to warn where that is the point: a single patron joins a family, or two families merge.
_EXPECTED_ANYWHERE = frozenset({"last-member-leaves"})
_EXPECTED = {"merge": _EXPECTED_ANYWHERE | {"group-left-empty"}}


def _heading(draft: Draft, action: str) -> str:
    if not draft.steps:
        return gettext("Nothing to do")
    members = {step.member.id: step.member for step in draft.steps}
    if len(members) == 1 or action == "merge":
        return gettext(_HEADINGS[action], who=isolated(next(iter(members.values())).name))
    return _heading_for(len(members), action)


def _heading_for(count: int, action: str) -> str:
    match action:
        case "join":
            return ngettext("Move {count} patron to this group?", "Move {count} patrons to this group?", count)
        case "move":
            return ngettext("Move {count} patron to another group?", "Move {count} patrons to another group?", count)
        case "remove":
            return ngettext("Remove {count} patron from the group?", "Remove {count} patrons from the group?", count)
        case "lead":
            return ngettext("Make {count} patron group lead?", "Make {count} patrons group lead?", count)
        case "no-lead":
            return ngettext(
                "Should {count} patron no longer be group lead?",
                "Should {count} patrons no longer be group lead?",
                count,
            )
        case _:
            return ngettext(
                "Recalculate the penalties of {count} patron?", "Recalculate the penalties of {count} patrons?", count
            )


def _title(group: Group, this_group: int | None) -> str:
    """Return a group's name for a heading."""
    if group.number == this_group:
        return gettext("This group ({group})", group=group.number)
    if not group.members:
        return gettext("Group {group}", group=group.number)
    return gettext("The group of {name} ({group})", name=isolated(group.lead.name), group=group.number)


def _within(number: int, known: Group | None, this_group: int | None) -> str:
    """Return a group's name for use within a sentence."""
    if known is None:
        return gettext("this group") if number == this_group else gettext("group {group}", group=number)
    if number == this_group:
        return gettext("this group ({group})", group=number)
    if not known.members:
        return gettext("group {group}", group=number)
    return gettext("the group of {name} ({group})", name=isolated(known.lead.name), group=number)


def _change(step: Step, known: Mapping[int | None, Group], this_group: int | None) -> str:
    if step.field == PENALTIES:
        return gettext("Evergreen recalculates the penalties, as it does after a payment")
    if step.field != GROUP:
        return gettext("becomes group lead") if step.after else gettext("is no longer group lead")
    before = step.member.patron.group
    group = _within(before, known.get(before), this_group)
    # A move writes the group only. A lead keeps the flag, even if the new group already has a lead.
    stays_lead = step.member.group_lead
    if step.after is None and stays_lead:
        text = Message("group before: {group}; after: a new group of their own, still marked as group lead")
        return gettext(text, group=group)
    if step.after is None:
        return gettext("group before: {group}; after: a new group of their own, not as its lead", group=group)
    into = _within(step.after, known.get(step.after), this_group)
    if stays_lead:
        return gettext("group before: {before}; after: {after}; still marked as group lead", before=group, after=into)
    return gettext("group before: {before}; after: {after}", before=group, after=into)


def _remarks(step: Step) -> Iterator[str]:
    if step.member.group_lead:
        yield pgettext("a member who leads the group", "group lead")
    if step.account.juvenile:
        yield pgettext("remark about a member", "juvenile")
    if step.account.barred:
        yield pgettext("remark about a member", "barred")
    if step.account.expired:
        yield pgettext("remark about a member", "expired")
    if not step.account.active:
        yield pgettext("remark about a member", "not active")


def _group(group: PlannedGroup, this_group: int | None) -> GroupView:
    before, after = group.members_before, group.after
    ids_before, ids_after = ({member.id for member in members} for members in (before, after))
    joins, leaves = pgettext("a group", "joins"), pgettext("a group", "leaves")
    stays = pgettext("a group", "stays behind") if len(after) < len(before) else ""
    changes = [
        *(MemberMark(member, joins, joins=True) for member in after if member.id not in ids_before),
        *(MemberMark(member, leaves) for member in before if member.id not in ids_after),
        *(MemberMark(member, stays) for member in before if member.id in ids_after),
    ]
    hidden = group.hidden_member_count
    return GroupView(
        title=_title(group.before, this_group) if group.before else gettext("A new group"),
        members=tuple(changes),
        count_before=len(before) + hidden,
        count_after=len(after) + hidden,
        total_before=group.total_before,
        total_after=group.total_after,
        note=hidden_members(group.before) if hidden and group.before else "",
    )
