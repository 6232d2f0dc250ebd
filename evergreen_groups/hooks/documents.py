"""The JSON forms of what the hooks give, version 1; ``schemas/`` beside this module describes each.

Within a version keys may be added, never changed or removed, so readers pass over keys they don't know. Amounts are
strings with two places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.money import plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.desk import PatronDecision, PatronSummary
    from evergreen_groups.events import EventOutcome
    from evergreen_groups.groups import Group, Member

VERSION = 1
NOTE = "Group fines are for information only: nobody is blocked for what others owe."


def patron_summary(summary: PatronSummary) -> dict[str, Any]:
    """A patron and their group."""
    member = summary.member
    return {
        "version": VERSION,
        "kind": "patron-summary",
        "patron": member.id,
        "barcode": member.barcode,
        "show": summary.show,
        "own_fines": plain_amount(member.own_fines),
        "blocked": member.over_limit_if_known,
        "limit": _limit(member),
        **_group(summary.group),
    }


def group_summary(group: Group) -> dict[str, Any]:
    """A group."""
    return {"version": VERSION, "kind": "group-summary", **_group(group)}


def block(decision: PatronDecision) -> dict[str, Any]:
    """A decision about one patron."""
    return {
        "version": VERSION,
        "kind": "block",
        "patron": decision.patron,
        "blocked": decision.over_limit,
        "own_fines": plain_amount(decision.own_balance),
        "limit": plain_amount_or_none(decision.limit.amount),
        "comparison": decision.limit.comparison.value,
        "explanation": decision.explanation,
    }


def event_outcome(outcome: EventOutcome) -> dict[str, Any]:
    """What came of an event."""
    return {
        "version": VERSION,
        "kind": "event-outcome",
        "event": outcome.event,
        "patron": outcome.patron,
        "blocked": outcome.blocked,
        "recalculated": outcome.recalculated,
        "replayed": outcome.replayed,
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "group": group.number,
        "for_information_only": True,
        "note": NOTE,
        "group_fines": plain_amount(group.combined_fines),
        "lead": group.lead.id if group.lead.group_lead else None,
        "hidden_members": {"count": group.hidden_member_count, "fines": plain_amount_or_none(group.hidden_fines)},
        "members": [_member(member) for member in group.members],
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "barcode": member.barcode,
        "library": member.library,
        "own_fines": plain_amount(member.own_fines),
        "limit": _limit(member),
        "blocked": member.over_limit_if_known,
        "group_lead": member.group_lead,
    }


def _limit(member: Member) -> str | None:
    return None if member.decision is None else plain_amount_or_none(member.limit.amount)
