"""What the pages have done: lookups, plans, changes and what became of them, with refusals in a clerk's words."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from evergreen_groups.changes import Action, PlanRequest, StepState
from evergreen_groups.desk import LookupKind
from evergreen_groups.errors import BusyError, NotFoundError, PlanError
from evergreen_groups.language import describe_problem, gettext
from evergreen_groups.message import Message
from evergreen_groups.render import desk as pages
from evergreen_groups.render import error_sentences, isolated, sentence
from evergreen_groups.web import Agreement, ProblemError, apply_plan, undo_change

if TYPE_CHECKING:
    from evergreen_groups.changes import Change, Draft, JournalEntry, ProposedPlan
    from evergreen_groups.client import Client
    from evergreen_groups.desk import FoundPatron, GroupDetails
    from evergreen_groups.web import Approval, DeskRequest, Service
    from evergreen_groups.web.desk.forms import ChangeForm

_NOBODY: Mapping[int, str] = MappingProxyType({})


class PatronNames:
    """Names by id of those who are visible; of those ``asked`` for before, all that are visible are ``known``."""

    def __init__(self, client: Client, known: Mapping[int, str] = _NOBODY, asked: Collection[int] = ()) -> None:
        self._client = client
        self._asked = {*known, *asked}
        self.known = dict(known)

    def read(self, ids: Collection[int]) -> None:
        """Ask for those who haven't been asked for, deleted ones too; one call, or none."""
        new = set(ids) - self._asked
        if new:
            self.known |= self._client.patrons.names(new)
            self._asked |= new

    def visible(self, ids: Collection[int]) -> set[int]:
        """Those of the ids whose patrons are visible; costs what :meth:`read` does."""
        self.read(ids)
        return {id for id in ids if id in self.known}


_NOT_FOUND = {
    LookupKind.NOBODY: Message("No visible patron has this card or name."),
    LookupKind.OLD_CARD: Message(
        "This card is not active any more. It belonged to this patron; nothing has been moved."
    ),
    LookupKind.SEVERAL: Message("Several patrons have a barcode that ends like this. Who is it?"),
    LookupKind.NAMES: Message("Who is it?"),
}
# What may be wrong with a barcode: looking it up says more.
_LOOKED_UP = ("no-active-card", "patron-twice")
# A plan that can't be applied any more, and may be made anew.
_OUTDATED = ("plan-outdated", "plan-expired", "no-such-plan")


@dataclass(frozen=True, slots=True)
class CardLookup:
    """What came of a card: ``taken`` is the patron's id where it is clear whose it is, else who was ``found``.

    ``plain`` says that nothing is odd about that: a name was looked up.
    """

    taken: int | None
    message: str
    found: tuple[FoundPatron, ...] = ()
    more: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class PlanByCard:
    """A plan that somebody's card has completed, or a sentence where it can't be made; the ``form`` says it by ids."""

    made: ProposedPlan | str
    form: ChangeForm


def look_up(client: Client, text: str) -> CardLookup:
    """Look up who is meant by what was scanned or typed."""
    lookup = client.patrons.find(text)
    if lookup.kind is LookupKind.CARD:
        return CardLookup(lookup.patron, "")
    return CardLookup(
        None, gettext(_NOT_FOUND[lookup.kind]), lookup.patrons, lookup.more, plain=lookup.kind is LookupKind.NAMES
    )


def with_found(form: ChangeForm, patron: int) -> ChangeForm:
    """The form with somebody who was found: among those who join, or as one of the group to go to."""
    return form.with_patron(patron) if form.action == "join" else replace(form, target=patron)


def propose(client: Client, form: ChangeForm, patron: int) -> ProposedPlan | str:
    """Make a plan of what is wanted in the group of ``patron``; a sentence where it can't be made."""
    try:
        return client.plans.propose(_request(form, patron))
    except (PlanError, NotFoundError) as error:
        return _described(error)


def propose_with_card(client: Client, form: ChangeForm, card: str, patron: int) -> PlanByCard | None:
    """Make a plan with whoever has an active card of exactly this barcode, in the place of the one who is looked for.

    None where a card names nobody, or somebody who has been named before: it has to be looked up then, by which names
    are found as well. Where it does, which is mostly so, that saves the call.
    """
    joins = form.action == "join"
    # Of a name it isn't worth trying.
    if not (joins or (form.needs_target and form.patrons)) or not any(letter.isdigit() for letter in card):
        return None
    action = Action.MERGE if form.action == "merge" else Action.MOVE
    joining = PlanRequest(action, (*form.patrons, card), patron, active_cards=True)
    going = PlanRequest(action, form.patrons, card, active_cards=True)
    try:
        made = client.plans.propose(joining if joins else going)
    except (PlanError, NotFoundError) as error:
        return None if error.code in _LOOKED_UP else PlanByCard(_described(error), form)
    return PlanByCard(made, with_found(form, made.draft.named[-2 if joins else -1]))


def _request(form: ChangeForm, patron: int) -> PlanRequest:
    match form.action:
        case "join":
            return PlanRequest(Action.MOVE, form.patrons, patron)
        case "move":
            return PlanRequest(Action.MOVE, form.patrons, form.target)
        case "merge":
            return PlanRequest(Action.MERGE, form.patrons, form.target)
        case "remove":
            return PlanRequest(Action.REMOVE, form.patrons)
        case "recalculate":
            return PlanRequest(Action.RECALCULATE, form.patrons)
        case _:
            return PlanRequest(Action.LEAD, form.patrons, off=form.action == "no-lead")


def agreement(plan: str, approval: Approval | None) -> Agreement:
    """The plan to apply. It is its own key: applied once more, by a double click or a reload, it gives what it gave."""
    return Agreement(plan, plan, approval)


def apply(running: Service, desk: DeskRequest, agreed: Agreement, *, needs_approval: bool) -> tuple[str, str]:
    """Apply a plan; gives the id of the change, or "" and a sentence that says why nothing was changed.

    ``needs_approval`` says that a supervisor is to approve it: without a login it isn't applied by the clerk's own.
    """
    try:
        if needs_approval and agreed.approval is None and desk.client.plans.find(agreed.plan).key is None:
            return "", gettext("Type the supervisor's user name and password.")
        return apply_plan(running, desk, agreed), ""
    except (PlanError, NotFoundError) as error:
        if error.code in _OUTDATED:
            text = Message("Something has changed since this was shown. Nothing has been moved; this is how it is now.")
            return "", gettext(text)
        return "", _described(error)
    except BusyError:
        text = Message(
            "Another desk is changing the same patrons or group just now. Nothing has been moved; try once more."
        )
        return "", gettext(text)
    except ProblemError as error:
        if error.code.startswith("approval-") or error.status == 429:  # the form is still there to be filled in
            return "", sentence(describe_problem(error))
        raise


def undo(running: Service, desk: DeskRequest, entry: str, key: str) -> tuple[str, str]:
    """Take a change back; gives the id of the change that does it, or "" and a sentence that says why it can't be."""
    try:
        return undo_change(running, desk, entry, key), ""
    except (PlanError, NotFoundError) as error:
        if error.code == "already-undone":
            return "", gettext("This change is already undone.")
        return "", _described(error)
    except BusyError:
        text = Message(
            "Another desk is changing the same patrons or group just now. Nothing has been undone; try once more."
        )
        return "", gettext(text)


def entry(client: Client, id: str) -> JournalEntry | None:
    """What the journal has of a change, None where there is none."""
    try:
        return client.plans.history.entry(id)
    except NotFoundError:
        return None


def outcome(client: Client, made: JournalEntry, details: GroupDetails, *, may_change: bool) -> pages.OutcomeView | None:
    """What became of a change, told in the group whose ``details`` were read beside the names of those whom it is
    about; None where the caller may see none of them."""
    known = {**details.names, **{member.id: member.name for member in details.group.members}}
    names = PatronNames(client, known, asked=patrons_of([made]))
    try:
        change = client.plans.history.change(made.id, names.visible)
    except NotFoundError:
        return None
    refused_at = {step.refusal.org_unit for step in change.entry.steps if step.refusal is not None}
    return pages.outcome_view(
        change,
        names.known,
        _libraries(client) if refused_at else {},
        this_group=details.group.number,
        may_undo=may_change and client.plans.may_undo(change),
        may_approve=may_change and change.is_own,
        key=secrets.token_hex(16),
    )


def recent(client: Client, *, may_change: bool) -> list[pages.PastEntry]:
    """The caller's own changes of the last days, the latest first."""
    names = PatronNames(client)
    changes = client.plans.history.recent(names.visible)
    return _past_entries(client, changes, names, lambda _change: "", may_change)


def past(client: Client, group: int, *, may_change: bool) -> list[pages.PastEntry]:
    """What is known of a group's past, the latest first."""
    names = PatronNames(client)
    changes = client.plans.history.of_group(group, names.visible)
    names.read({id for change in changes for id in _staff_of(change.entry)})
    return _past_entries(client, changes, names, lambda change: _by(change, names.known), may_change)


def _past_entries(
    client: Client, changes: Sequence[Change], names: PatronNames, by: Callable[[Change], str], may_change: bool
) -> list[pages.PastEntry]:
    taken_back = _taken_back(changes)
    return [
        pages.past_entry(
            change.entry,
            names.known,
            by=by(change),
            hidden=change.hidden_step_count,
            may_undo=may_change and change.entry.id not in taken_back and client.plans.may_undo(change),
            key=secrets.token_hex(16),
        )
        for change in changes
    ]


def group_of(client: Client, patron: int) -> int:
    """The number of the group that a patron is in.

    Raises:
        NotFoundError: they aren't visible.
    """
    return client.patrons.group_of(patron)


def recalculable(client: Client, patron: int) -> tuple[int, ...]:
    """The members of a patron's group for whom a recalculation could set or lift a block, as far as is known."""
    details = client.groups.of_user(patron, exact=False)
    return tuple(id for id, forecast in details.forecasts.items() if forecast.may_change)


def _taken_back(changes: Iterable[Change]) -> set[str | None]:
    """The ids of those that others have taken back, or may have yet; one that was refused leaves something."""
    ended = (StepState.PLANNED, StepState.NOT_DONE, StepState.FAILED)
    return {
        change.entry.undoes
        for change in changes
        if change.is_under_way or not any(step.state in ended for step in change.entry.steps)
    }


def _by(change: Change, staff: Mapping[int, str]) -> str:
    """Who made a change, by the name that the account has in the ILS where that is visible."""
    operator = change.entry.operator
    # Commands are made in the name of an account, and have no id.
    name = operator.account if operator.staff is None else staff.get(operator.staff)
    if change.is_own:
        by = gettext("by you")
    elif name:
        by = gettext("by {name}", name=isolated(name))
    else:
        by = gettext("by a staff user whose record your login can't see")
    if operator.approved_by is None:
        return by
    supervisor = staff.get(operator.approved_by)
    if supervisor:
        approved = gettext("approved by {supervisor}", supervisor=isolated(supervisor))
    else:
        approved = gettext("approved by a staff user whose record your login can't see")
    return f"{by}; {approved}"


def _staff_of(entry: JournalEntry) -> Iterable[int]:
    return (id for id in (entry.operator.staff, entry.operator.approved_by) if id is not None)


def patrons_of(entries: Iterable[JournalEntry]) -> set[int]:
    """The ids of those whom changes are about."""
    return {step.patron for entry in entries for step in entry.steps}


def _libraries(client: Client) -> dict[int, str]:
    from evergreen_groups.ils import OrgUnits

    return {unit.id: unit.shortname for unit in OrgUnits.read(client.gateway)}


def _described(error: PlanError | NotFoundError) -> str:
    if error.code == "barcodes-unknown":
        return gettext(_NOT_FOUND[LookupKind.NOBODY])
    return error_sentences(error)


def number_of(draft: Draft, form: ChangeForm) -> int | None:
    """The number of the page's own group, where a plan is about it."""
    if form.action == "join":
        return next((step.after for step in draft.steps if step.after is not None), None)
    return next((step.member.patron.group for step in draft.steps), None)
