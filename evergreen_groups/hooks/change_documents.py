"""The JSON forms of plans and changes, version 1; ``schemas/`` beside this module describes each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.changes import GROUP, PENALTIES
from evergreen_groups.hooks.documents import NOTE
from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import describe_warning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evergreen_groups.changes import Change, Draft, JournalStep, PlannedGroup, PlanWarning, ProposedPlan, Step
    from evergreen_groups.groups import Member

VERSION = 1

_FIELDS = {GROUP: "group", PENALTIES: "penalties"}
_LEAD = "lead"


def plan(proposed: ProposedPlan) -> dict[str, Any]:
    """A plan that can be agreed to."""
    stored = proposed.stored
    return {**draft(proposed.draft), "id": stored.id, "expires": stored.expires.isoformat(timespec="seconds")}


def draft(draft: Draft) -> dict[str, Any]:
    """The same of a plan that isn't stored: it has no id by which it could be agreed to."""
    return {
        "version": VERSION,
        "kind": "plan",
        "id": None,
        "action": draft.action.value,
        "expires": None,
        "steps": [_planned(step) for step in draft.steps],
        "groups": [_group(group) for group in draft.groups],
        "warnings": [_warning(warning) for warning in draft.warnings],
        "unchanged": list(draft.unchanged),
        "for_information_only": True,
        "note": NOTE,
    }


def change(seen: Change) -> dict[str, Any]:
    """A change that was made, or is being made, as far as the caller may see it."""
    entry = seen.entry
    return {
        "version": VERSION,
        "kind": "change",
        "id": entry.id,
        "action": entry.action,
        "at": entry.at.isoformat(timespec="seconds"),
        "staff": entry.operator.staff,
        "workstation": entry.operator.workstation,
        "approved_by": entry.operator.approved_by,
        "undoes": entry.undoes,
        "own": seen.is_own,
        "under_way": seen.is_under_way,
        "done": seen.is_done,
        "hidden_step_count": seen.hidden_step_count,
        "steps": [_step(step) for step in entry.steps],
    }


def changes(found: Iterable[Change]) -> dict[str, Any]:
    """Several, in the order given."""
    return {"version": VERSION, "kind": "changes", "changes": [change(seen) for seen in found]}


def _planned(step: Step) -> dict[str, Any]:
    is_counted = step.field != PENALTIES
    return {
        "patron": _patron(step.member),
        "field": _FIELDS.get(step.field, _LEAD),
        "before": step.before if is_counted else None,
        "after": step.after,
    }


def _patron(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "barcode": member.barcode,
        "library": member.library,
        "own_fines": plain_amount(member.own_fines),
        "group_lead": member.group_lead,
    }


def _group(group: PlannedGroup) -> dict[str, Any]:
    hidden = group.hidden_member_count
    return {
        "group": group.number,
        "hidden_member_count": hidden,
        "before": {
            "member_count": len(group.members_before) + hidden,
            "group_fines": plain_amount_or_none(group.total_before),
            "members": [_patron(member) for member in group.members_before],
        },
        "after": {
            "member_count": len(group.after) + hidden,
            "group_fines": plain_amount_or_none(group.total_after),
            "members": [_patron(member) for member in group.after],
        },
    }


def _warning(warning: PlanWarning) -> dict[str, Any]:
    return {"code": warning.code, "text": describe_warning(warning), "values": dict(warning.values)}


def _step(step: JournalStep) -> dict[str, Any]:
    return {
        "patron": step.patron,
        "field": _FIELDS.get(step.field, _LEAD),
        "before": step.before,
        "after": step.after,
        "state": step.state.value,
        "value": step.value,
        "reason": str(step.reason),
        "code": step.reason.code or None,
        "values": dict(step.reason.values),
        "permission": step.refusal.permission if step.refusal else None,
        "org_unit": step.refusal.org_unit if step.refusal else None,
    }
