"""The JSON forms of the results of the hooks, as described by the schemas in ``schemas/``.

Within a version, keys may be added but never changed or removed, so readers must ignore unknown keys. Amounts are
strings with two decimal places. A total is null unless it is exact; ``NAME_at_least`` next to a count is its lower
bound.

Version 2 distinguishes patrons over the limit (``over_limit``, null if the account may not see the limit) from patrons
blocked in Evergreen (``blocked_in_evergreen``).
"""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.changes import GROUP, PENALTIES, Change, Draft, ProposedPlan
from evergreen_groups.desk import (
    EventOutcome,
    GroupBills,
    GroupDetails,
    GroupSummary,
    MemberBills,
    PatronDecision,
    PatronSummary,
    RecalculationForecast,
)
from evergreen_groups.groups import Group, Member, Standing, StandingTotals
from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import (
    describe_warning,
    forecast_document,
    item_totals_document,
    penalty_document,
    standing_document,
    standing_totals_document,
)

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.changes import JournalStep, PlannedGroup, Step
    from evergreen_groups.ils import Bill, ItemOut

NOTE = "Group fines are for information only: nobody is blocked for what others owe."
SUMMARY_VERSION = 2
DETAILS_VERSION = 2
BILLS_VERSION = 2
CHANGE_VERSION = 1

_FIELDS = {GROUP: "group", PENALTIES: "penalties"}
_LEAD = "lead"


@singledispatch
def document(value: object) -> dict[str, Any]:
    """Return the JSON form of a value, by its type.

    Raises:
        ArgumentError: the value has no JSON form.
    """
    raise arguments.wrong("value", value, "what one of these functions has returned")


@document.register
def _patron_summary(summary: PatronSummary) -> dict[str, Any]:
    member = summary.member
    return {
        "version": SUMMARY_VERSION,
        "kind": "patron-summary",
        "patron": member.id,
        "barcode": member.barcode,
        "show": summary.show,
        "own_fines": plain_amount(member.own_fines),
        "limit": _limit_amount(member),
        **_rule_and_penalties(member, summary.standing, summary.group.forecasts.get(member.id)),
        **_summary_group(summary.group),
    }


@document.register
def _group_summary(group: Group) -> dict[str, Any]:
    return {"version": SUMMARY_VERSION, "kind": "group-summary", **_summary_group(group)}


@document.register
def _block(decision: PatronDecision) -> dict[str, Any]:
    standing = decision.standing
    return {
        "version": SUMMARY_VERSION,
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


@document.register
def _event_outcome(outcome: EventOutcome) -> dict[str, Any]:
    return {
        "version": SUMMARY_VERSION,
        "kind": "event-outcome",
        "event": outcome.event,
        "patron": outcome.patron,
        "over_limit": outcome.over_limit,
        "recalculated": outcome.recalculated,
        "replayed": outcome.replayed,
    }


def _group_head(number: int) -> dict[str, Any]:
    return {"group": number, "for_information_only": True, "note": NOTE}


def _summary_group(group: Group) -> dict[str, Any]:
    standings = group.standings if isinstance(group, GroupSummary) else {}
    forecasts = group.forecasts if isinstance(group, GroupSummary) else {}
    totals = group.standing_totals if isinstance(group, GroupSummary) else StandingTotals.of(group, ())
    return {
        **_group_head(group.number),
        "group_fines": plain_amount_or_none(group.combined_fines),
        "lead": group.lead.id if group.lead.group_lead else None,
        "hidden_members": {"count": group.hidden_member_count, "fines": plain_amount_or_none(group.hidden_fines)},
        **standing_totals_document(totals),
        "members": [_member(member, standings.get(member.id), forecasts.get(member.id)) for member in group.members],
    }


def _names(member: Member) -> dict[str, Any]:
    return {"id": member.id, "name": member.name, "barcode": member.barcode, "library": member.library}


def _member(member: Member, standing: Standing | None, forecast: RecalculationForecast | None) -> dict[str, Any]:
    """Return the form of a group's member. ``standing`` None means that no penalties were read."""
    return {
        **_names(member),
        "own_fines": plain_amount(member.own_fines),
        "limit": _limit_amount(member),
        **_rule_and_penalties(member, standing, forecast),
        "group_lead": member.group_lead,
    }


def _rule_and_penalties(
    member: Member, standing: Standing | None, forecast: RecalculationForecast | None
) -> dict[str, Any]:
    if standing is not None:
        return {**standing_document(standing), **forecast_document(forecast)}
    # Penalties that weren't read are null. An empty list would mean that there are none.
    unknown = {"blocked_in_evergreen": None, "other_blocks": None, "difference": None}
    return {"over_limit": member.over_limit_if_known, **unknown, **forecast_document(None)}


def _limit_amount(member: Member) -> str | None:
    """Return the amount of a member's limit, or None if there is no limit or the account may not see it."""
    limit = member.limit_if_known
    return None if limit is None else plain_amount_or_none(limit.amount)


@document.register
def _group_details(details: GroupDetails) -> dict[str, Any]:
    group = details.group
    return {
        "version": DETAILS_VERSION,
        "kind": "group-details",
        **_group_head(group.number),
        "group_fines": plain_amount_or_none(group.combined_fines),
        "member_count": group.member_count,
        "lead": group.lead.id if group.members and group.lead.group_lead else None,
        "hidden_members": {"count": group.hidden_member_count, "fines": plain_amount_or_none(group.hidden_fines)},
        **standing_totals_document(details.standing_totals),
        **item_totals_document("items", details.all_circulations),
        "members": [_member_details(details, member) for member in group.members],
    }


def _member_details(details: GroupDetails, member: Member) -> dict[str, Any]:
    account, counts, items = details.accounts[member.id], details.circulations[member.id], None
    if counts is not None and counts.complete:  # the form has no place for lower bounds
        items = {"out": counts.out, "overdue": counts.overdue, "lost": counts.lost}
    return {
        **_names(member),
        "profile": details.profiles[member.id],
        "own_fines": plain_amount(member.own_fines),
        "limit": _limit_amount(member),
        **standing_document(details.standing(member)),
        **forecast_document(details.forecasts.get(member.id)),
        "items": items,
        "group_lead": member.group_lead,
        "juvenile": account.juvenile,
        "active": account.active,
        "barred": account.barred,
        "expired": account.expired,
        "expires": account.expire_date.isoformat(timespec="seconds") if account.expire_date else None,
        "deleted": member.patron.deleted,
    }


@document.register
def _group_bills(group: GroupBills) -> dict[str, Any]:
    return {
        "version": BILLS_VERSION,
        "kind": "group-bills",
        **_group_head(group.group),
        "at": _timestamp(group.at),
        "complete": group.complete,
        "members": [_member_bills(group, member) for member in group.members],
    }


def _member_bills(group: GroupBills, member: MemberBills) -> dict[str, Any]:
    return {
        "id": member.patron.id,
        "own_fines": plain_amount(member.own_fines),
        "bills": None if member.bills is None else [_bill(group, member, bill) for bill in member.bills],
        "items": [_item(group, member, item) for item in member.items.out],
        "all_items": member.items.complete,
    }


def _bill(group: GroupBills, member: MemberBills, bill: Bill) -> dict[str, Any]:
    item = member.item_of(bill)
    return {
        "id": bill.id,
        "transaction": bill.kind.transaction,
        "billing_type": bill.kind.billing_type or None,
        "for": bill.kind.text,
        "since": _timestamp(bill.since),
        "library": group.library(bill.library) or None,
        "billed": plain_amount(bill.billed),
        "paid": plain_amount(bill.paid),
        "owed": plain_amount(bill.balance),
        "billings": [
            {"billing_type": billed.billing_type or None, "amount": plain_amount(billed.amount)}
            for billed in bill.billings
        ],
        "last_payment": _timestamp(bill.last_payment) if bill.last_payment else None,
        "title": None if item is None else _title(member, item),
    }


def _item(group: GroupBills, member: MemberBills, item: ItemOut) -> dict[str, Any]:
    return {
        "id": item.id,
        "state": item.kind.value if item.kind else None,
        "due": _timestamp(item.due) if item.due else None,
        "days_overdue": item.days_overdue(group.at),
        "library": group.library(item.library) or None,
        "title": _title(member, item),
    }


def _title(member: MemberBills, item: ItemOut) -> str | None:
    return None if member.titles is None else member.titles.get(item.copy)


def _timestamp(value: datetime) -> str:
    return value.isoformat(timespec="seconds")


@document.register
def _plan(proposed: ProposedPlan) -> dict[str, Any]:
    stored = proposed.stored
    return {**_draft(proposed.draft), "id": stored.id, "expires": _timestamp(stored.expires)}


@document.register
def _draft(draft: Draft) -> dict[str, Any]:
    return {
        "version": CHANGE_VERSION,
        "kind": "plan",
        "id": None,
        "action": draft.action.value,
        "expires": None,
        "steps": [_planned(step) for step in draft.steps],
        "groups": [_group(group) for group in draft.groups],
        "warnings": [
            {"code": warning.code, "text": describe_warning(warning), "values": dict(warning.values)}
            for warning in draft.warnings
        ],
        "unchanged": list(draft.unchanged),
        "for_information_only": True,
        "note": NOTE,
    }


@document.register
def _change(seen: Change) -> dict[str, Any]:
    entry = seen.entry
    return {
        "version": CHANGE_VERSION,
        "kind": "change",
        "id": entry.id,
        "action": entry.action,
        "at": _timestamp(entry.at),
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


@document.register(list)
def _changes(found: list[Change]) -> dict[str, Any]:
    return {"version": CHANGE_VERSION, "kind": "changes", "changes": [_change(seen) for seen in found]}


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
        **_names(member),
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
