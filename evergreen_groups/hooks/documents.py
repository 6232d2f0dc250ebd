"""The JSON forms of what the hooks give, version 2; ``schemas/`` beside this module describes each.

Within a version keys may be added, never changed or removed, so readers pass over keys they don't know. Amounts are
strings with two places. A total is null unless it is exact; beside a count, ``NAME_at_least`` is its lower bound.

Version 2 tells whoever is over the limit (``over_limit``, null where the account may not see the limit) from whoever is
blocked in Evergreen (``blocked_in_evergreen``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.desk import GroupSummary
from evergreen_groups.groups import StandingTotals
from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import (
    penalty_document,
    prospect_document,
    standing_document,
    standing_totals_document,
)

if TYPE_CHECKING:
    from evergreen_groups.desk import PatronDecision, PatronSummary, RecalculationProspect
    from evergreen_groups.events import EventOutcome
    from evergreen_groups.groups import Group, Member, Standing

VERSION = 2
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
        "limit": limit_amount(member),
        **_truths(member, summary.standing, summary.group.prospects.get(member.id)),
        **_group(summary.group),
    }


def group_summary(group: Group) -> dict[str, Any]:
    """A group."""
    return {"version": VERSION, "kind": "group-summary", **_group(group)}


def block(decision: PatronDecision) -> dict[str, Any]:
    """A decision about one patron, and whether Evergreen blocks that patron."""
    standing = decision.standing
    return {
        "version": VERSION,
        "kind": "block",
        "patron": decision.patron,
        "over_limit": decision.over_limit,
        "blocked_in_evergreen": None if standing is None else standing.blocked_for_fines,
        "other_blocks": None if standing is None else [penalty_document(block) for block in standing.other_blocks],
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
        "over_limit": outcome.over_limit,
        "recalculated": outcome.recalculated,
        "replayed": outcome.replayed,
    }


def _group(group: Group) -> dict[str, Any]:
    standings = group.standings if isinstance(group, GroupSummary) else {}
    prospects = group.prospects if isinstance(group, GroupSummary) else {}
    totals = group.standing_totals if isinstance(group, GroupSummary) else StandingTotals.of(group, ())
    return {
        "group": group.number,
        "for_information_only": True,
        "note": NOTE,
        "group_fines": plain_amount_or_none(group.combined_fines),
        "lead": group.lead.id if group.lead.group_lead else None,
        "hidden_members": {"count": group.hidden_member_count, "fines": plain_amount_or_none(group.hidden_fines)},
        **standing_totals_document(totals),
        "members": [
            member_document(member, standings.get(member.id), prospects.get(member.id)) for member in group.members
        ],
    }


def member_document(
    member: Member, standing: Standing | None, prospect: RecalculationProspect | None = None
) -> dict[str, Any]:
    """A member of a group; ``standing`` None where no penalties were read."""
    return {
        "id": member.id,
        "name": member.name,
        "barcode": member.barcode,
        "library": member.library,
        "own_fines": plain_amount(member.own_fines),
        "limit": limit_amount(member),
        **_truths(member, standing, prospect),
        "group_lead": member.group_lead,
    }


def _truths(member: Member, standing: Standing | None, prospect: RecalculationProspect | None) -> dict[str, Any]:
    if standing is not None:
        return {**standing_document(standing), **prospect_document(prospect)}
    # Where no penalties were read, none are told of, which isn't the same as that there are none.
    unknown = {"blocked_in_evergreen": None, "other_blocks": None, "difference": None}
    return {"over_limit": member.over_limit_if_known, **unknown, **prospect_document(None)}


def limit_amount(member: Member) -> str | None:
    """The amount of a member's limit; None for no limit, and for one that the account may not see."""
    limit = member.limit_if_known
    return None if limit is None else plain_amount_or_none(limit.amount)
