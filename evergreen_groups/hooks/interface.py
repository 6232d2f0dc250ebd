"""The functions for other programs, for example an ILS or its staff client. This is the package's stable interface.

Example::

    client = Client(gateway, account="groups_report")
    summary = patron_summary(client, 1001)
    print(summary.member.own_fines, summary.group.combined_fines)
    print(block_decision(client, 1001).explanation)
    print(json.dumps(as_json(summary)))

All functions use the client's session, so the session's permissions decide which patrons are visible. :func:`as_json`
converts their results to versioned JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.changes import Change, Draft, PlanRequest, ProposedPlan
from evergreen_groups.desk import (
    Event,
    EventOutcome,
    GroupBills,
    GroupDetails,
    GroupSummary,
    PatronDecision,
    PatronSummary,
    Titles,
)
from evergreen_groups.groups import Group
from evergreen_groups.hooks import documents

if TYPE_CHECKING:
    from evergreen_groups.client import Client

# The types that the functions below take or return.
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
    return client.groups.of_user(patron_id)


def group_bills(client: Client, patron_id: int, titles: Titles = Titles.NONE) -> GroupBills:
    """Return the bills and items of the visible members of a patron's group.

    ``titles`` selects the members whose titles are included. Reading titles is logged. Raises what
    :func:`patron_summary` raises.
    """
    return client.bills.of_user(patron_id, titles=titles)


def group_summary(client: Client, group: int) -> GroupSummary:
    """Return a group by number (``au.usrgroup``). Raises what :func:`patron_summary` raises."""
    return client.summaries.of_group(group)


def block_decision(client: Client, patron_id: int) -> PatronDecision:
    """Decide whether a patron (by ``au.id``) is over the limit by their own fines.

    Reads nothing about other members of the group. The result includes the patron's own fines and the limit, both in
    the library's currency. Raises what :func:`patron_summary` raises.
    """
    return client.summaries.decision(patron_id)


def block_decision_by_barcode(client: Client, barcode: str) -> PatronDecision:
    """Like :func:`block_decision`, by the barcode of any of the patron's cards. Ignores blanks in the barcode."""
    return client.summaries.decision_by_barcode(barcode)


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
    return client.plans.propose(request)


def apply_plan(client: Client, plan: str, key: str) -> Change:
    """Apply a plan (by id) at most once. Repeated calls with the same idempotency ``key`` return the same change.

    Raises:
        NotFoundError: the caller has no plan with this id.
        PlanError: the plan is out of date or expired, or was applied under another key.
        BusyError: another run is changing the same patrons or groups.
        GatewayError: Evergreen can't be reached. Nothing was sent.
    """
    id = client.plans.apply(plan, key)
    return client.plans.history.own(id)


def undo_change(client: Client, change: str, key: str) -> Change:
    """Undo a change (by id) for all members who haven't been changed again since. ``key`` is an idempotency key.

    Raises:
        NotFoundError: the change doesn't exist, or the caller may see none of its patrons.
        PlanError: another person made the change, nothing is left to undo, or the key belongs to another change.
        BusyError: another run is changing the same patrons or groups.
        GatewayError: Evergreen can't be reached. Nothing was sent.
    """
    id = client.plans.undo(change, key)
    return client.plans.history.own(id)


def change(client: Client, id: str) -> Change:
    """Return a change (by id) with its outcome.

    Raises:
        NotFoundError: the change doesn't exist, or the caller may see none of its patrons.
    """
    arguments.text("id", id)  # before the history asks who the caller is
    return client.plans.history.change(id)


def own_change(client: Client, id: str) -> Change:
    """Return one of the caller's own changes from the journal, without asking Evergreen.

    Raises:
        NotFoundError: the change doesn't exist, or was made by someone else.
    """
    arguments.text("id", id)
    return client.plans.history.own(id)


def recent_changes(client: Client) -> list[Change]:
    """Return the caller's own changes of the last days, newest first."""
    return client.plans.history.recent()


def as_json(value: Document) -> dict[str, Any]:
    """Return the versioned JSON form, as described by the schemas in ``evergreen_groups/hooks/schemas``.

    Amounts are strings with two decimal places (``"12.40"``). Timestamps are in ISO 8601 with their offset from UTC.

    Raises:
        ArgumentError: the value has no JSON form.
    """
    return documents.document(value)
