"""A plan as the desk shows it before anything happens: who goes where, who stays behind, and what to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.changes import GROUP, PENALTIES
from evergreen_groups.render import counted, describe_warning, hidden_members

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.changes import Draft, PlannedGroup, Step
    from evergreen_groups.groups import Group, Member

FOLDED_FROM = 12
"""A group of more members than this is shown folded."""


@dataclass(frozen=True, slots=True)
class PlanPage:
    """What the page of a plan shows; ``steps`` and ``groups`` are as the template needs them."""

    title: str
    heading: str
    confirm: str
    steps: tuple[StepView, ...]
    groups: tuple[GroupView, ...]
    warnings: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepView:
    """One change: whose it is, in words, and what there is to know about the patron."""

    member: Member
    text: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberMark:
    """A member of a group that changes: ``mark`` says what becomes of them there, empty where they stay."""

    member: Member
    mark: str


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group before and after a plan."""

    title: str
    members: tuple[MemberMark, ...]
    count_before: str
    count_after: str
    total_before: Decimal
    total_after: Decimal
    note: str

    @property
    def folded(self) -> bool:
        """Whether there are so many members that they are shown on demand alone."""
        return len(self.members) > FOLDED_FROM


def plan_page(draft: Draft, action: str, this_group: int | None) -> PlanPage:
    """Make what the page of a plan shows: ``action`` is a form's word for it, ``this_group`` the page's own number."""
    expected = _EXPECTED.get(action, _EXPECTED_ANYWHERE)
    titles = {group.number: _title(group.before, this_group) for group in draft.groups if group.before}
    return PlanPage(
        title=f"{_CONFIRM[action]}?",  # without names: titles of pages stay in the browser's history
        heading=_heading(draft, action),
        confirm=_CONFIRM[action],
        steps=tuple(_step(step, titles, this_group) for step in draft.steps),
        # A new group has nobody in it but whom the step names.
        groups=tuple(_group(group, titles) for group in draft.groups if group.before is not None),
        warnings=tuple(_sentence(describe_warning(one)) for one in draft.warnings if one.code not in expected),
        unchanged=tuple(_sentence(text) for text in draft.unchanged),
    )


_CONFIRM = {
    "join": "Move",
    "move": "Move",
    "remove": "Remove",
    "merge": "Merge",
    "lead": "Make group lead",
    "no-lead": "No longer group lead",
    "recalculate": "Recalculate",
}
_HEADINGS = {
    "join": "Move {who} to this group?",
    "move": "Move {who} to another group?",
    "remove": "Remove {who} from the group?",
    "merge": "Merge this group into another?",
    "lead": "Make {who} group lead?",
    "no-lead": "Should {who} no longer be group lead?",
    "recalculate": "Recalculate the penalties of {who}?",
}


# What happens to a group that nobody is left in is no warning where it is what was asked for: who was alone comes into
# a family, a family into another.
_EXPECTED_ANYWHERE = frozenset({"last-member-leaves"})
_EXPECTED = {"merge": _EXPECTED_ANYWHERE | {"group-left-empty"}}


def _heading(draft: Draft, action: str) -> str:
    if not draft.steps:
        return "Nothing to do"
    members = {step.member.id: step.member for step in draft.steps}
    who = next(iter(members.values())).name if len(members) == 1 else counted(len(members), "patron")
    return _HEADINGS[action].format(who=who)


def _title(group: Group, this_group: int | None) -> str:
    if group.number == this_group:
        return f"This group ({group.number})"
    if not group.members:
        return f"Group {group.number}"
    return f"The group of {group.lead.name} ({group.number})"


def _step(step: Step, titles: dict[int | None, str], this_group: int | None) -> StepView:
    return StepView(step.member, _change(step, titles, this_group), tuple(_remarks(step)))


def _change(step: Step, titles: dict[int | None, str], this_group: int | None) -> str:
    if step.field == PENALTIES:
        return "Evergreen recalculates the penalties, as it does after a payment"
    if step.field != GROUP:
        return "becomes group lead" if step.after else "is no longer group lead"
    came_from = _uncapitalised(titles.get(step.before, f"group {step.before}"))
    # Only the group is written: the flag of a lead goes along, to where there may be a lead already.
    stays_lead = step.member.group_lead
    if step.after is None:
        lead = "still marked as group lead" if stays_lead else "not as its lead"
        return f"leaves {came_from} for a new group of their own, {lead}"
    into = _uncapitalised(titles.get(step.after, "this group" if step.after == this_group else f"group {step.after}"))
    return f"from {came_from} to {into}{', still marked as group lead' if stays_lead else ''}"


def _remarks(step: Step) -> Iterator[str]:
    if step.member.group_lead:
        yield "group lead"
    if step.account.juvenile:
        yield "juvenile"
    if step.account.barred:
        yield "barred"
    if step.account.expired:
        yield "expired"
    if not step.account.active:
        yield "not active"


def _group(group: PlannedGroup, titles: dict[int | None, str]) -> GroupView:
    before, after = group.members_before, group.after
    ids_before, ids_after = ({member.id for member in members} for members in (before, after))
    changes = [
        *(MemberMark(member, "joins") for member in after if member.id not in ids_before),
        *(MemberMark(member, "leaves") for member in before if member.id not in ids_after),
        *(MemberMark(member, _stays(before, after)) for member in before if member.id in ids_after),
    ]
    hidden = group.hidden_member_count
    return GroupView(
        title=titles.get(group.number, "A new group"),
        members=tuple(changes),
        count_before=counted(len(before) + hidden, "member"),
        count_after=counted(len(after) + hidden, "member"),
        total_before=group.total_before,
        total_after=group.total_after,
        note=hidden_members(group.before) if hidden and group.before else "",
    )


def _stays(before: tuple[Member, ...], after: tuple[Member, ...]) -> str:
    return "stays behind" if len(after) < len(before) else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _uncapitalised(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}"
