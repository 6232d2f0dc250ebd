"""What an ILS and its desk call: the stable interface of this package::

    client = Client(gateway, account="groups_report")
    summary = patron_summary(client, 1001)
    print(summary.member.own_fines, summary.group.combined_fines)
    print(block_decision(client, 1001).explanation)
    print(json.dumps(as_json(summary)))

Each function reads with the client's own session, so the ILS's permissions decide what is seen. :func:`as_json` gives
the versioned form of what they return.
"""

from __future__ import annotations

from collections.abc import Callable
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
from evergreen_groups.hooks import documents as bills_document
from evergreen_groups.hooks import documents as change_documents
from evergreen_groups.hooks import documents as details_document

if TYPE_CHECKING:
    from evergreen_groups.client import Client

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
    "apply_plan",
    "as_json",
    "block_decision",
    "block_decision_by_barcode",
    "change",
    "group_bills",
    "group_details",
    "group_summary",
    "handle_event",
    "own_change",
    "patron_summary",
    "propose_plan",
    "recent_changes",
    "undo_change",
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
"""What has a JSON form."""


def patron_summary(client: Client, patron_id: int) -> PatronSummary:
    """The own fines of the patron with this id (``au.id``), and the group's with all its members, for information only.

    Money is ``Decimal`` with two places, in the library's currency.

    Raises:
        ArgumentError: the id is no whole number.
        NotFoundError: there is no such patron, or the account may not see them.
        GatewayError: the ILS can't be reached or refuses.
        DataError: its answers contradict each other.
    """
    return client.summaries.of_patron(patron_id)


def group_details(client: Client, patron_id: int) -> GroupDetails:
    """The group of a patron with all that a desk sees of its members; raises what :func:`patron_summary` does."""
    return client.groups.of_user(patron_id)


def group_bills(client: Client, patron_id: int, titles: Titles = Titles.NONE) -> GroupBills:
    """What the visible members of a patron's group owe for, and have out; raises what :func:`patron_summary` does.

    With ``titles``, of whom these tell what is read: that somebody looked is in the log.
    """
    return client.bills.of_user(patron_id, titles=titles)


def group_summary(client: Client, group: int) -> GroupSummary:
    """A group by its number (``au.usrgroup``); raises what :func:`patron_summary` does."""
    return client.summaries.of_group(group)


def block_decision(client: Client, patron_id: int) -> PatronDecision:
    """Whether the patron with this id (``au.id``) is over the limit, by their own fines alone.

    Nothing is read about anybody else of the group, and the answer has what they owe and the limit, both in the
    library's currency. Raises what :func:`patron_summary` does.
    """
    return client.summaries.decision(patron_id)


def block_decision_by_barcode(client: Client, barcode: str) -> PatronDecision:
    """The same for the patron with a barcode, of any of their cards; blanks in it are ignored."""
    return client.summaries.decision_by_barcode(barcode)


def handle_event(client: Client, event: Event, *, recalculate: bool = False) -> EventOutcome:
    """Work on an event of the ILS: decide anew about its patron and write that into the audit trail.

    With ``recalculate`` the ILS is asked to recalculate the patron's penalties, which is in the journal as well; who
    has a block that staff set is left out. An event that was worked on before changes nothing and gives the
    former outcome. To keep to a deadline, give a client whose gateway has one (:meth:`Gateway.within`).

    Raises:
        NotFoundError: there is no such patron, or the account may not see them.
        BusyError: another run was changing something all the time.
        GatewayError: the ILS can't be reached or refuses.
        DataError: its answers contradict each other, or the trail can't be written.

    After an error the event may be sent again; the trail has it as failed.
    """
    return client.events.handle(event, recalculate=recalculate)


def propose_plan(client: Client, request: PlanRequest) -> ProposedPlan:
    """Plan to move, remove or merge patrons, make them leads, or take a change back; nothing is changed by that.

    Look at ``draft`` first; ``stored.id`` is what :func:`apply_plan` takes, within an hour.

    Raises:
        PlanError: the request is unclear, or can't be done; for an undo, nothing is left to undo.
        NotFoundError: there is no such change to undo.
        GatewayError: the ILS can't be reached or refuses.
    """
    return client.plans.propose(request)


def apply_plan(client: Client, plan: str, key: str) -> Change:
    """Apply a plan once, under an idempotency key of the caller's: with the same key, the answer is the same.

    Raises:
        NotFoundError: the caller has no such plan.
        PlanError: it no longer fits, is too old, or was applied under another key.
        BusyError: somebody else is changing the same patrons or groups.
        GatewayError: the ILS can't be reached; nothing has been sent.
    """
    id = client.plans.apply(plan, key)
    return client.plans.history.own(id)


def undo_change(client: Client, change: str, key: str) -> Change:
    """Take a change (its id) back under an idempotency key: those who are still where it put them go back.

    Raises:
        NotFoundError: there is no such change, or the caller may see nobody whom it is about.
        PlanError: it is somebody else's, is already undone, has nothing to undo, or the key stands for another change.
        BusyError: somebody else is changing the same patrons or groups.
        GatewayError: the ILS can't be reached; nothing has been sent.
    """
    id = client.plans.undo(change, key)
    return client.plans.history.own(id)


def change(client: Client, id: str) -> Change:
    """A change, with what became of it.

    Raises:
        NotFoundError: there is none, or the caller may see nobody whom it is about.
    """
    arguments.text("id", id)
    return client.plans.history.change(id)


def own_change(client: Client, id: str) -> Change:
    """A change of the caller's own, as far as it is known here: nothing is asked of the ILS.

    Raises:
        NotFoundError: there is none, or it is somebody else's.
    """
    arguments.text("id", id)
    return client.plans.history.own(id)


def recent_changes(client: Client) -> list[Change]:
    """The caller's own changes of the last days, the latest first."""
    return client.plans.history.recent()


def as_json(value: Document) -> dict[str, Any]:
    """The versioned JSON form, as the schemas in ``evergreen_groups/hooks/schemas`` describe it.

    Amounts of money are texts with two places (``"12.40"``), moments are in ISO 8601 with their offset from UTC.

    Raises:
        ArgumentError: there is no such form of the value.
    """
    if isinstance(value, list):
        return change_documents.changes(value)
    form = next((form for kind, form in _FORMS.items() if isinstance(value, kind)), None)
    if form is None:
        raise arguments.wrong("value", value, "what one of these functions has returned")
    return form(value)


_FORMS: dict[type, Callable[..., dict[str, Any]]] = {
    PatronSummary: documents.patron_summary,
    Group: documents.group_summary,
    GroupSummary: documents.group_summary,
    GroupDetails: details_document.group_details,
    GroupBills: bills_document.group_bills,
    PatronDecision: documents.block,
    EventOutcome: documents.event_outcome,
    ProposedPlan: change_documents.plan,
    Draft: change_documents.draft,
    Change: change_documents.change,
}
