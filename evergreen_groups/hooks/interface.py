"""The functions for other programs, for example an ILS or its staff client. This is the package's stable interface.

Example::

    with eg.connect("https://evergreen.example.org", username="selfcheck", password="…") as client:
        summary = eg.hooks.patron_summary(client, 1001)
        print(summary.member.own_fines, summary.group.group_fines)
        print(eg.hooks.block_decision(client, 1001).explanation)
        print(json.dumps(eg.hooks.as_json(summary)))

All functions use the client's session, so the session's permissions decide which patrons are visible. :func:`as_json`
converts their results to versioned JSON, as described by the schemas in ``schemas/``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Literal, TextIO

from msgspec import to_builtins

from evergreen_groups import arguments
from evergreen_groups.changes import GROUP, PENALTIES, Change, Draft, PlanRequest, ProposedPlan
from evergreen_groups.desk import (
    Event,
    EventOutcome,
    FamilyItems,
    GroupBills,
    GroupDetails,
    GroupSummary,
    MemberBills,
    PatronDecision,
    PatronSummary,
    RecalculationForecast,
    Titles,
)
from evergreen_groups.formats import Tabular
from evergreen_groups.groups import Group, Member, Standing, StandingTotals
from evergreen_groups.ils import UnreturnedItems
from evergreen_groups.render import (
    describe_warning,
    documents,
    forecast_document,
    item_totals_document,
    penalty_document,
    plain_text,
    standing_document,
    standing_totals_document,
)
from evergreen_groups.values import plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from decimal import Decimal

    from msgspec import Struct

    from evergreen_groups.changes import JournalStep, PlannedGroup
    from evergreen_groups.client import Client
    from evergreen_groups.ils import Bill, ItemOut, PatronItems, Penalty

# The types that the functions below take or return, for the face.
__all__ = [
    "Change",
    "Event",
    "EventOutcome",
    "Group",
    "GroupBills",
    "GroupDetails",
    "GroupSummary",
    "PatronDecision",
    "PatronSummary",
    "PlanRequest",
    "ProposedPlan",
    "Titles",
]

Document = (
    PatronSummary
    | GroupDetails
    | GroupBills
    | FamilyItems
    | Group
    | PatronDecision
    | EventOutcome
    | ProposedPlan
    | Draft
    | Change
    | list[Change]
)
"""The types that :func:`as_json` accepts."""


def patron_summary(client: Client, patron_id: int) -> PatronSummary:
    """Return a patron (by ``au.id``) with their own fines, and their group with all visible members.

    The group's combined fines are for information only. Amounts are ``Decimal`` with two decimal places, in the
    library's currency.

    Raises:
        ArgumentError: the id isn't an ``int``.
        NotFoundError: the patron doesn't exist, or the account may not see them.
        GatewayError: Evergreen can't be reached or refuses.
        DataError: Evergreen's answers contradict each other.
    """
    return client.summaries.of_patron(patron_id)


def group_details(client: Client, patron_id: int) -> GroupDetails:
    """Return a patron's group with the details that the desk shows. Raises what :func:`patron_summary` raises."""
    return client.details.of_user(patron_id)


def group_bills(client: Client, patron_id: int, titles: Titles = Titles.NONE) -> GroupBills:
    """Return the bills and items of the visible members of a patron's group.

    ``titles`` selects the members whose titles are included. Reading titles is logged. Raises what
    :func:`patron_summary` raises.
    """
    return client.bills.of_user(patron_id, titles=titles)


def group_summary(client: Client, group: int) -> GroupSummary:
    """Return a group by number (``au.usrgroup``). Raises what :func:`patron_summary` raises."""
    return client.group(number=group)


def block_decision(client: Client, patron_id: int) -> PatronDecision:
    """Decide whether the own fines of a patron (by ``au.id``) exceed the limit.

    Reads nothing about other members of the group. The result includes the patron's own fines and the limit, both in
    the library's currency. Raises what :func:`patron_summary` raises.
    """
    return client.check(arguments.integer("patron_id", patron_id))


def block_decision_by_barcode(client: Client, barcode: str) -> PatronDecision:
    """Like :func:`block_decision`, by the barcode of any of the patron's cards. Ignores blanks in the barcode."""
    return client.check(arguments.text("barcode", barcode))


def handle_event(client: Client, event: Event, *, recalculate: bool = False) -> EventOutcome:
    """Handle an event from Evergreen: decide about its patron again, and write the decision to the audit trail.

    With ``recalculate``, Evergreen also recalculates the patron's penalties, which is recorded in the journal. Patrons
    with a block set by staff are skipped. An event that was handled before changes nothing and returns its previous
    outcome. For a deadline, pass a client whose gateway has one (:meth:`Gateway.within`).

    After an error, the event is recorded as failed and may be sent again.

    Raises:
        NotFoundError: the patron doesn't exist, or the account may not see them.
        BusyError: another run kept changing the same records.
        GatewayError: Evergreen can't be reached or refuses.
        DataError: Evergreen's answers contradict each other, or the trail can't be written.
    """
    return client.events.handle(event, recalculate=recalculate)


def propose_plan(client: Client, request: PlanRequest) -> ProposedPlan:
    """Plan to move, remove or merge patrons, make them leads, or undo a change. Nothing is changed yet.

    Check the result's ``draft``, then pass ``stored.id`` to :func:`apply_plan` within an hour.

    Raises:
        PlanError: the request is unclear or impossible, or there is nothing to undo.
        NotFoundError: the change to undo doesn't exist.
        GatewayError: Evergreen can't be reached or refuses.
    """
    return client.changes.propose(request)


def apply_plan(client: Client, plan: str, key: str) -> Change:
    """Apply a plan (by id) at most once. Repeated calls with the same idempotency ``key`` return the same change.

    Raises:
        NotFoundError: the caller has no plan with this id.
        PlanError: the plan is out of date or expired, or was applied under another key.
        BusyError: another run is changing the same patrons or groups.
        GatewayError: Evergreen can't be reached. Nothing was sent.
    """
    return client.changes.own(client.changes.apply(plan, key))


def undo_change(client: Client, change: str, key: str) -> Change:
    """Undo a change (by id) for all members who haven't been changed again since. ``key`` is an idempotency key.

    Raises:
        NotFoundError: the change doesn't exist, or the caller may see none of its patrons.
        PlanError: another person made the change, nothing is left to undo, or the key belongs to another change.
        BusyError: another run is changing the same patrons or groups.
        GatewayError: Evergreen can't be reached. Nothing was sent.
    """
    return client.changes.own(client.changes.undo(change, key))


def change(client: Client, id: str) -> Change:
    """Return a change (by id) with its outcome.

    Raises:
        NotFoundError: the change doesn't exist, or the caller may see none of its patrons.
    """
    arguments.text("id", id)  # before the history asks who the caller is
    return client.changes.change(id)


def own_change(client: Client, id: str) -> Change:
    """Return one of the caller's own changes from the journal, without asking Evergreen.

    Raises:
        NotFoundError: the change doesn't exist, or was made by someone else.
    """
    arguments.text("id", id)
    return client.changes.own(id)


def recent_changes(client: Client) -> list[Change]:
    """Return the caller's own changes of the last days, newest first."""
    return client.changes.recent()


def as_json(value: Document) -> dict[str, Any]:
    """Return the versioned JSON form, as described by the schemas in ``evergreen_groups/hooks/schemas``.

    Amounts are strings with two decimal places (``"12.40"``). Timestamps are in ISO 8601 with their offset from UTC.

    Raises:
        ArgumentError: the value has no JSON form.
    """
    made: dict[str, Any] = to_builtins(_document(value), enc_hook=plain_text)
    return made


def write_json(group: Group, stream: TextIO) -> None:
    """Write a group's :func:`as_json` as text."""
    stream.write(json.dumps(as_json(group), indent=2, ensure_ascii=False) + "\n")


NOTE = "Group fines are for information only: nobody is blocked for what others owe."

_FIELDS: dict[str, Literal["group", "lead", "penalties"]] = {GROUP: "group", PENALTIES: "penalties"}


@singledispatch
def _document(value: object) -> Struct:
    expected = "what one of these functions has returned"
    if isinstance(value, Tabular):
        expected += f"; {type(value).__name__} has to_json() and rows()"
    raise arguments.wrong("value", value, expected)


@_document.register
def _patron_summary(summary: PatronSummary) -> documents.PatronSummary:
    member = summary.member
    return documents.PatronSummary(
        version=2,
        kind="patron-summary",
        patron=member.id,
        barcode=member.barcode,
        show=summary.show,
        **_fines(member),
        **_rule_and_penalties(member, summary.standing, summary.group.forecasts.get(member.id)),
        **_summary_group(summary.group),
    )


@_document.register
def _group_summary(group: Group) -> documents.GroupSummary:
    return documents.GroupSummary(version=2, kind="group-summary", **_summary_group(group))


@_document.register
def _block(decision: PatronDecision) -> documents.Block:
    standing = decision.standing
    return documents.Block(
        version=2,
        kind="block",
        patron=decision.patron,
        over_limit=decision.over_limit,
        blocked_in_evergreen=None if standing is None else standing.blocked_for_fines,
        other_blocks=None if standing is None else [_penalty(block) for block in standing.other_blocks],
        own_fines=plain_amount(decision.counted_fines),
        limit=plain_amount_or_none(decision.limit.amount),
        comparison=decision.limit.comparison.value,
        explanation=decision.explanation,
    )


def _penalty(penalty: Penalty) -> documents.StandingPenalty:
    return documents.StandingPenalty(**penalty_document(penalty))


@_document.register
def _event_outcome(outcome: EventOutcome) -> documents.EventOutcome:
    return documents.EventOutcome(version=2, kind="event-outcome", **asdict(outcome))


def _group_head(number: int) -> dict[str, Any]:
    return {"group": number, "for_information_only": True, "note": NOTE}


def _group_totals(group: Group, **more: Any) -> dict[str, Any]:
    lead = group.lead if group.members else None
    return {
        **_group_head(group.number),
        "group_fines": plain_amount_or_none(group.group_fines),
        **more,
        "lead": lead.id if lead and lead.group_lead else None,
        "hidden_members": documents.HiddenMembers(group.hidden_member_count, plain_amount_or_none(group.hidden_fines)),
    }


def _summary_group(group: Group) -> dict[str, Any]:
    standings = group.standings if isinstance(group, GroupSummary) else {}
    forecasts = group.forecasts if isinstance(group, GroupSummary) else {}
    totals = group.standing_totals if isinstance(group, GroupSummary) else StandingTotals.of(group, ())
    late = group.late_items if isinstance(group, GroupSummary) else None
    return {
        **_group_totals(group),
        **standing_totals_document(totals),
        **_late_items(None if late is None else late.values(), complete=group.complete),
        "members": [
            _member(
                member, standings.get(member.id), forecasts.get(member.id), None if late is None else [late[member.id]]
            )
            for member in group.members
        ],
    }


def _late_items(items: Collection[PatronItems] | None, *, complete: bool = True) -> dict[str, Any]:
    """Return how many items are overdue and lost, null unless exact, and lower bounds. None: not counted."""
    if items is None:
        return {"late_items": None, "late_items_at_least": None}
    found = sum((theirs.visible_unreturned for theirs in items), UnreturnedItems())
    written = documents.LateItems(found.overdue, found.lost)
    complete = complete and all(theirs.complete for theirs in items)
    return {"late_items": written if complete else None, "late_items_at_least": written}


def _names(member: Member) -> dict[str, Any]:
    return {"id": member.id, "name": member.name, "barcode": member.barcode, "library": member.library}


def _fines(member: Member) -> dict[str, Any]:
    """Return the own fines and the limit: None if there is no limit or the account may not see it."""
    limit = None if member.decision is None else member.decision.limit
    amount = None if limit is None else plain_amount_or_none(limit.amount)
    return {"own_fines": plain_amount(member.own_fines), "limit": amount}


def _member(
    member: Member,
    standing: Standing | None,
    forecast: RecalculationForecast | None,
    late: Collection[PatronItems] | None,
) -> documents.Member:
    """Return the form of a group's member. ``standing`` None means that no penalties were read."""
    return documents.Member(
        **_names(member),
        **_fines(member),
        **_rule_and_penalties(member, standing, forecast),
        **_late_items(late),
        group_lead=member.group_lead,
        juvenile=member.juvenile,
    )


def _rule_and_penalties(
    member: Member, standing: Standing | None, forecast: RecalculationForecast | None
) -> dict[str, Any]:
    if standing is not None:
        return {**standing_document(standing, labels=True), **forecast_document(forecast)}
    # Penalties that weren't read are null. An empty list would mean that there are none.
    unknown = {"blocked_in_evergreen": None, "other_blocks": None, "difference": None}
    return {"over_limit": member.over_limit_if_known, **unknown, **forecast_document(None)}


@_document.register
def _group_details(details: GroupDetails) -> documents.GroupDetails:
    group = details.group
    return documents.GroupDetails(
        version=2,
        kind="group-details",
        **_group_totals(group, member_count=group.member_count),
        **standing_totals_document(details.standing_totals),
        **item_totals_document("items", details.all_circulations),
        members=[_member_details(details, member) for member in group.members],
    )


def _member_details(details: GroupDetails, member: Member) -> documents.DetailedMember:
    account, counts, items = details.accounts[member.id], details.circulations[member.id], None
    if counts is not None and counts.complete:  # the form has no place for lower bounds
        items = documents.ItemCounts(counts.out, counts.overdue, counts.lost)
    return documents.DetailedMember(
        **_names(member),
        profile=details.profiles[member.id],
        **_fines(member),
        **standing_document(details.standing(member)),
        **forecast_document(details.forecasts.get(member.id)),
        items=items,
        group_lead=member.group_lead,
        juvenile=account.juvenile,
        active=account.active,
        barred=account.barred,
        expired=account.expired,
        expires=account.expire_date.isoformat(timespec="seconds") if account.expire_date else None,
        deleted=member.patron.deleted,
    )


@_document.register
def _group_bills(group: GroupBills) -> documents.GroupBills:
    return documents.GroupBills(
        version=2,
        kind="group-bills",
        **_group_head(group.group),
        at=_timestamp(group.at),
        complete=group.complete,
        members=[
            documents.MemberBills(
                id=member.patron.id,
                own_fines=plain_amount(member.own_fines),
                bills=None if member.bills is None else [_bill(group, member, bill) for bill in member.bills],
                items=[documents.ItemOut(**_item(group, member, item)) for item in member.items.out],
                all_items=member.items.complete,
            )
            for member in group.members
        ],
    )


@_document.register
def _family_items(family: FamilyItems) -> documents.FamilyItems:
    statement, group = family.statement, family.statement.group
    return documents.FamilyItems(
        version=1,
        kind="family-items",
        **_group_head(group.group),
        at=_timestamp(group.at),
        patron=statement.patron.id,
        members=[
            documents.FamilyMember(
                id=member.patron.id, name=member.patron.name, own_fines=plain_amount(member.own_fines)
            )
            for member in statement.members
        ],
        owed=plain_amount(statement.owed),
        items=[
            documents.FamilyItem(**_item(group, member, item), patron=item.patron, renewals=item.renewals)
            for member, item in family.items
        ],
        all_items=family.all_items,
        holds=[
            documents.ReadyHold(
                id=hold.id,
                patron=hold.patron,
                library=group.library(hold.library) or None,
                until=_timestamp(hold.until) if hold.until else None,
                title=_title(member, hold.copy),
            )
            for member, hold in family.holds
        ],
        all_holds=family.all_holds,
    )


def _bill(group: GroupBills, member: MemberBills, bill: Bill) -> documents.OpenBill:
    item = member.item_of(bill)
    return documents.OpenBill(
        id=bill.id,
        transaction=bill.kind.transaction,
        billing_type=bill.kind.billing_type or None,
        for_=bill.kind.text,
        since=_timestamp(bill.since),
        library=group.library(bill.library) or None,
        billed=plain_amount(bill.billed),
        paid=plain_amount(bill.paid),
        owed=plain_amount(bill.balance),
        billings=[
            documents.Billing(billed.billing_type or None, plain_amount(billed.amount)) for billed in bill.billings
        ],
        last_payment=_timestamp(bill.last_payment) if bill.last_payment else None,
        title=None if item is None else _title(member, item.copy),
    )


def _item(group: GroupBills, member: MemberBills, item: ItemOut) -> dict[str, Any]:
    return {
        "id": item.id,
        "state": item.kind.value if item.kind else None,
        "due": _timestamp(item.due) if item.due else None,
        "days_overdue": item.days_overdue(group.at),
        "library": group.library(item.library) or None,
        "title": _title(member, item.copy),
    }


def _title(member: MemberBills, copy: int | None) -> str | None:
    return None if member.titles is None or copy is None else member.titles.get(copy)


def _timestamp(value: datetime) -> str:
    return value.isoformat(timespec="seconds")


@_document.register
def _plan(proposed: ProposedPlan) -> documents.Plan:
    made, stored = _draft(proposed.draft), proposed.stored
    made.id, made.expires = stored.id, _timestamp(stored.expires)
    return made


@_document.register
def _draft(draft: Draft) -> documents.Plan:
    return documents.Plan(
        version=1,
        kind="plan",
        id=None,
        action=draft.action.value,
        expires=None,
        steps=[
            documents.PlannedStep(
                patron=_patron(step.member),
                field=_FIELDS.get(step.field, "lead"),
                before=None if step.field == PENALTIES else step.before,
                after=step.after,
            )
            for step in draft.steps
        ],
        groups=[_group(group) for group in draft.groups],
        warnings=[
            documents.PlanWarning(warning.code, describe_warning(warning), dict(warning.values))
            for warning in draft.warnings
        ],
        unchanged=list(draft.unchanged),
        for_information_only=True,
        note=NOTE,
    )


@_document.register
def _change(seen: Change) -> documents.Change:
    entry = seen.entry
    return documents.Change(
        version=1,
        kind="change",
        id=entry.id,
        action=entry.action,
        at=_timestamp(entry.at),
        staff=entry.operator.staff,
        workstation=entry.operator.workstation,
        approved_by=entry.operator.approved_by,
        undoes=entry.undoes,
        own=seen.is_own,
        under_way=seen.is_under_way,
        done=seen.is_done,
        hidden_step_count=seen.hidden_step_count,
        steps=[_step(step) for step in entry.steps],
    )


@_document.register(list)
def _changes(found: list[Change]) -> documents.ChangeList:
    return documents.ChangeList(version=1, kind="changes", changes=[_change(seen) for seen in found])


def _patron(member: Member) -> documents.PlannedPatron:
    return documents.PlannedPatron(
        **_names(member), own_fines=plain_amount(member.own_fines), group_lead=member.group_lead
    )


def _group(group: PlannedGroup) -> documents.PlannedGroup:
    hidden = group.hidden_member_count

    def with_members(members: Sequence[Member], total: Decimal | None) -> documents.PlannedSide:
        return documents.PlannedSide(
            member_count=len(members) + hidden,
            group_fines=plain_amount_or_none(total),
            members=[_patron(member) for member in members],
        )

    return documents.PlannedGroup(
        group=group.number,
        hidden_member_count=hidden,
        before=with_members(group.members_before, group.total_before),
        after=with_members(group.after, group.total_after),
    )


def _step(step: JournalStep) -> documents.ChangeStep:
    return documents.ChangeStep(
        patron=step.patron,
        field=_FIELDS.get(step.field, "lead"),
        before=step.before,
        after=step.after,
        state=step.state.value,
        value=step.value,
        reason=str(step.reason),
        code=step.reason.code or None,
        values=dict(step.reason.values),
        permission=step.permission,
        org_unit=step.org_unit,
    )
