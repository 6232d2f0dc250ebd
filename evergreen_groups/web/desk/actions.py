"""Lookups, plans, changes and their outcomes for the desk's pages, with refusals as sentences for clerks."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

from evergreen_groups.changes import GROUP, PENALTIES, Action, PlanRequest, StepState, recently_changed
from evergreen_groups.desk import LookupKind, explain_unknown
from evergreen_groups.errors import BusyError, EvergreenGroupsError, NotFoundError, PlanError
from evergreen_groups.ils import OrgUnits
from evergreen_groups.language import describe_advice, gettext, minute, ngettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import (
    GroupNames,
    describe_unknown,
    error_sentences,
    isolated,
    printable,
    sentence,
)
from evergreen_groups.render import desk as pages
from evergreen_groups.values import Total
from evergreen_groups.web import ANOTHER_DESK, ProblemError
from evergreen_groups.web.desk.forms import ChangeForm

if TYPE_CHECKING:
    from evergreen_groups.changes import Change, Draft, JournalEntry, ProposedPlan
    from evergreen_groups.client import Client
    from evergreen_groups.desk import GroupDetails, Lookup, Namesake, NearCard
    from evergreen_groups.follow_up import Entry
    from evergreen_groups.groups import Group, PatronRow
    from evergreen_groups.web import Approval, DeskRequest

_NO_NAMES: Mapping[int, str] = MappingProxyType({})
_NO_ENTRIES: Mapping[str, JournalEntry] = MappingProxyType({})


class PatronNames:
    """Reads names of visible patrons by id. ``asked`` are ids already queried; the visible ones are ``known``.

    ``rows`` has what was read about them.
    """

    def __init__(self, client: Client, known: Mapping[int, str] = _NO_NAMES, asked: Collection[int] = ()) -> None:
        self._client = client
        self._asked = {*known, *asked}
        self.known = dict(known)
        self.rows: dict[int, PatronRow] = {}

    def visible(self, ids: Collection[int]) -> set[int]:
        """Return those ids whose patrons are visible, deleted or not. Makes one call for new ids, or none."""
        if new := set(ids) - self._asked:
            read = self._client.patrons.rows(new)
            self.rows |= read
            self.known |= {id: row.name for id, row in read.items()}
            self._asked |= new
        return {id for id in ids if id in self.known}


_NOT_SURE = {
    LookupKind.OLD_CARD: Message("This card is inactive. Is this the patron?"),
    LookupKind.SEVERAL: Message("Several cards end in these digits. Who is it?"),
    LookupKind.NAMES: Message("Who is it?"),
}
# Errors about a barcode for which a lookup has a better answer.
_LOOKED_UP = ("no-active-card", "patron-twice", "patron-deleted")
_DELETED = Message("the patron's record was deleted")
# Errors for a plan that can no longer be applied but can be proposed again.
_OUTDATED = ("plan-outdated", "plan-expired", "no-such-plan")


def propose(client: Client, form: ChangeForm, patron: int) -> ProposedPlan | str:
    """Propose a plan for the group of ``patron``. Return a sentence if it can't be made."""
    try:
        return client.changes.propose(_request(form, patron))
    except (PlanError, NotFoundError) as error:
        if error.code == "patron-deleted":  # its text counts barcodes, which the clerk hasn't typed
            return " ".join(map(sentence, (gettext(_DELETED), describe_advice(error))))
        return error_sentences(error)


def propose_with_card(
    client: Client, form: ChangeForm, card: str, patron: int
) -> tuple[ChangeForm, ProposedPlan | str] | None:
    """Propose a plan with the patron who has an active card with exactly this barcode.

    Returns the form with that patron, and the plan, or a sentence why it can't be made. Returns None if no active card
    matches or the patron has already been named; then look the text up, which also finds names. Usually the card
    matches, which saves the lookup's call.
    """
    joins = form.action == "join"
    # Text without digits is a name, so don't try it as a barcode.
    if not (joins or (form.needs_target and form.patrons)) or not any(letter.isdigit() for letter in card):
        return None
    action = Action.MERGE if form.action == "merge" else Action.MOVE
    joining = PlanRequest(action, (*form.patrons, card), patron, active_cards=True)
    going = PlanRequest(action, form.patrons, card, active_cards=True)
    try:
        made = client.changes.propose(joining if joins else going)
    except (PlanError, NotFoundError) as error:
        return None if error.code in _LOOKED_UP else (form, error_sentences(error))
    return form.with_found(made.draft.named[-2 if joins else -1]), made


def without_members(form: ChangeForm, draft: Draft) -> tuple[ChangeForm, str]:
    """Return the form without patrons who are in the group that they would join, and sentences that say so."""
    if form.action != "join" or not draft.unchanged:
        return form, ""
    joining = {step.member.id for step in draft.steps}
    patrons = tuple(patron for patron in form.patrons if patron in joining)
    members = " ".join(sentence(printable(gettext(text))) for text in draft.unchanged)
    return structs.replace(form, patrons=patrons), members


class Notice(NamedTuple):
    """What a page says about what was typed: a ``message``, the text to correct, and cards like it."""

    message: str = ""
    typed: str = ""
    similar: tuple[NearCard, ...] = ()


NO_NOTICE: Notice = Notice()


def describe_found(lookup: Lookup, text: str) -> Notice:
    """Ask which of the patrons who were found by a ``text`` it is, or say that they only share the family name."""
    if lookup.kind is not LookupKind.NEAR:
        return Notice(gettext(_NOT_SURE[lookup.kind]))
    count = len(lookup.patrons)
    others = Total(count, exact=not lookup.more)
    found = ngettext(
        "No {text}; {others} other", "No {text}; {others} others", count, text=isolated(text), others=others
    )
    return Notice(found, text)


def describe_nothing_to_do(client: Client, target: int, card: str) -> Notice:
    """Say which card, or which patron who was found by name, is in the group that the patrons already belong to."""
    name = isolated(client.patrons.names({target}).get(target, ""))
    if card.isdigit():
        return Notice(gettext("Nothing to do: {name}, card {card}, is in this same group.", name=name, card=card), card)
    return Notice(gettext("Nothing to do: {name} is in this same group.", name=name))


def describe_unfound(client: Client, text: str, *, sees_everybody: bool) -> Notice:
    """Say that no patron was found, with advice about a barcode, and find similar cards. Makes up to three calls."""
    is_name = not any(letter.isdigit() for letter in text)
    not_found = Message("{text} not found. Check the spelling, or scan the card.")
    if not is_name:
        not_found = Message("Card {text} not found. Scan it again, or type the name.")
    sentences = [gettext(not_found, text=isolated(text))]
    if not sees_everybody:
        sentences.append(gettext("The patron may belong to a library whose patrons your login can't see."))
    similar: tuple[NearCard, ...] = ()
    with suppress(EvergreenGroupsError):  # advice is optional
        unknown = None if is_name else explain_unknown(client.gateway.within(_ADVICE_SECONDS), text)
        if unknown is not None:
            why = list(describe_unknown(unknown))
            sentences = [*(sentences if unknown.deleted is None else ()), *why]
            similar = () if why else unknown.near
    return Notice(" ".join(sentences), text, similar)


# The clerk is waiting for the answer itself.
_ADVICE_SECONDS = 3.0


def _request(form: ChangeForm, patron: int) -> PlanRequest:
    match form.action:
        case "join":
            return PlanRequest(Action.MOVE, form.patrons, patron)
        case "move":
            return PlanRequest(Action.MOVE, form.patrons, form.target)
        case "merge":
            return PlanRequest(Action.MERGE, form.patrons, form.target)
        case "undo" | "redo":
            return PlanRequest(Action.UNDO, change=form.change)
        case "remove" | "recalculate":
            return PlanRequest(Action(form.action), form.patrons)
        case _:
            return PlanRequest(Action.LEAD, form.patrons, off=form.action == "no-lead")


def may_move_like(desk: DeskRequest, group: Group) -> bool:
    """Return whether the clerk may move patrons of the own library who have the profile of a member."""
    profiles = {member.patron.profile for member in group.members}
    return any(desk.lacking(desk.caller.library, profile) is None for profile in profiles)


def lacking(desk: DeskRequest, draft: Draft) -> tuple[str, str] | None:
    """Return a permission that the clerk lacks to change the patrons of a plan, and the library's short name.

    The profile matters for changes of the record only.
    """
    for step in draft.steps:
        patron = step.member.patron
        permission = desk.lacking(patron.home_library.id, None if step.field == PENALTIES else patron.profile)
        if permission is not None:
            return permission, patron.home_library.shortname
    return None


def apply(desk: DeskRequest, plan: str, approval: Approval | None, *, needs_approval: bool) -> tuple[str, str]:
    """Apply a plan. Return the change's id, or "" and a sentence why nothing was changed.

    The plan's id is the idempotency key as well, so a double click or a reload gives the same outcome. With
    ``needs_approval`` a plan isn't applied without a supervisor's login.
    """
    try:
        if needs_approval and approval is None and desk.client.changes.find(plan).key is None:
            return "", gettext("Type the supervisor's user name and password.")
        return desk.apply_plan(plan, plan, approval), ""
    except (PlanError, NotFoundError) as error:
        if error.code in _OUTDATED:
            return "", gettext("The group has changed. Nothing was moved: check both groups again.")
        return "", error_sentences(error)
    except BusyError:
        return "", gettext(ANOTHER_DESK)
    except ProblemError as error:
        if error.code.startswith("approval-") or error.status == 429:  # the clerk can correct the form
            return "", error_sentences(error)
        raise


def undo_to_approve(desk: DeskRequest, change: str) -> tuple[ChangeForm, ProposedPlan] | None:
    """Return the undo of an approved change, to be approved as well; None if the clerk may undo it alone."""
    client = desk.client
    made = entry(client, change)
    if made is None or made.operator.approved_by is None:
        return None
    try:
        plan = client.changes.propose(PlanRequest(Action.UNDO, change=change))
    except (PlanError, NotFoundError, BusyError):
        return None  # undoing gives the same error
    if lacking(desk, plan.draft) is None:
        return None
    return ChangeForm("redo" if is_undo(client, made) else "undo", (), approve=True, change=change), plan


def undo(desk: DeskRequest, entry: str, key: str) -> tuple[str, str]:
    """Undo a change. Return the id of the new change, or "" and a sentence why it can't be undone."""
    try:
        return desk.undo_change(entry, key), ""
    except (PlanError, NotFoundError) as error:
        return "", error_sentences(error)
    except BusyError:
        return "", gettext(ANOTHER_DESK)


def entry(client: Client, id: str) -> JournalEntry | None:
    """Return a change's journal entry; None if there is none."""
    try:
        return client.changes.entry(id)
    except NotFoundError:
        return None


def outcome(desk: DeskRequest, made: JournalEntry, details: GroupDetails) -> dict[str, Any] | None:
    """Return the outcome of a change for the page of a group.

    None if the caller may see none of its patrons, or if the outcome is no longer true: the browser's Back leads to the
    page of a change that was undone since. ``details`` must have been read together with the names of the change's
    patrons.
    """
    client, may_change = desk.client, desk.service.settings.desk.changes
    known = {**details.names, **{member.id: member.name for member in details.group.members}}
    names = PatronNames(client, known, asked={step.patron for step in made.steps})
    try:
        change = client.changes.change(made.id, names.visible)
    except NotFoundError:
        return None
    if not client.changes.is_latest(made):
        return None
    joined = {step.after for step in change.entry.steps if step.field == GROUP and step.after is not None}
    refused_at = {step.org_unit for step in change.entry.steps if step.permission is not None}
    return pages.outcome_view(
        change,
        names.known,
        {unit.id: unit.shortname for unit in OrgUnits.read(client.gateway)} if refused_at else {},
        _group_names(client, details.group.number, joined),
        may_undo=may_change and client.changes.may_undo(change),
        may_approve=may_change and change.is_own,
        undoes=is_undo(client, made),
        key=secrets.token_hex(16),
    )


def _group_names(client: Client, this_group: int, numbers: Iterable[int]) -> GroupNames:
    """Read how to name the groups with these numbers. Makes one call if any isn't the page's.

    If it fails, groups have only their numbers: a change that was made must not look failed for want of a name.
    """
    others = set(numbers) - {this_group}
    leads: Mapping[int, str] = {}
    with suppress(EvergreenGroupsError):
        leads = client.patrons.leads(others) if others else {}
    return GroupNames(this_group, leads)


def is_undo(client: Client, made: JournalEntry, known: Mapping[str, JournalEntry] = _NO_ENTRIES) -> bool:
    """Return whether a change undid another, not counting an undo of an undo, which is a redo.

    ``known`` has entries by id that needn't be read.
    """
    depth, undone = 0, made.undoes
    while undone is not None:
        depth += 1
        earlier = known.get(undone) or entry(client, undone)
        undone = earlier.undoes if earlier else None
    return depth % 2 == 1


def history(
    desk: DeskRequest, group: int, members: Collection[int], follow_up: Sequence[Entry]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return the known changes of a group, and the caller's other recent changes, each latest first.

    ``members`` are the ids of the group's visible members. The third list says who saved each entry of the group's
    ``follow_up``.
    """
    client, user, may_change = desk.client, desk.caller.user, desk.service.settings.desk.changes
    names = PatronNames(client)
    changes = client.changes.of_group(group, members, names.visible)
    listed = {change.entry.id for change in changes}
    others = [change for change in client.changes.recent(names.visible) if change.entry.id not in listed]
    authors = [entry.original.staff for entry in follow_up]
    operators = [change.entry.operator for change in changes]
    staff = {one.staff for one in operators} | {one.approved_by for one in operators} | {*authors} - {user}
    names.visible({id for id in staff if id is not None})  # reads them
    undone = _undone_changes([*changes, *others])
    known = {change.entry.id: change.entry for change in [*changes, *others]}
    groups = _group_names(client, group, {number for entry in known.values() for number in pages.groups_of(entry)})
    # A replica may not have the latest changes yet.
    recent = recently_changed(client.gateway, client.state).patrons or ()
    now = {id: row for id, row in names.rows.items() if id not in recent}

    def entry_of(change: Change, by: str = "") -> dict[str, Any]:
        return pages.past_entry(
            change.entry,
            names.known,
            groups,
            by=by,
            hidden=change.hidden_step_count,
            may_undo=may_change
            and not (change.entry.id in undone or _is_reversed(change.entry, now))
            and client.changes.may_undo(change),
            undoes=is_undo(client, change.entry, known),
            undone=_undone(undone.get(change.entry.id), undone, names.known),
        )

    return (
        [entry_of(change, _author(change, names.known)) for change in changes],
        [entry_of(one) for one in others],
        ["" if id is None else gettext("by you") if id == user else _by(names.known.get(id)) for id in authors],
    )


def recalculable(client: Client, patron: int) -> tuple[int, ...]:
    """Return the ids of the members for whom a recalculation could set or lift a block, as far as known."""
    details = client.details.of_user(patron, exact=False)
    return tuple(id for id, forecast in details.forecasts.items() if forecast.may_change)


def _undone_changes(changes: Iterable[Change]) -> dict[str, Change]:
    """Return, by id, the changes that others have undone or may still undo, each with the one that did.

    An undo that was refused in part leaves something to undo.
    """
    ended = (StepState.PLANNED, StepState.NOT_DONE, StepState.FAILED)
    return {
        change.entry.undoes: change
        for change in changes
        if change.entry.undoes is not None
        and (change.is_under_way or not any(step.state in ended for step in change.entry.steps))
    }


def _is_reversed(entry: JournalEntry, now: Mapping[int, PatronRow]) -> bool:
    """Return whether all patrons are as before a change, for example because staff moved them back in Evergreen."""
    return all(
        step.patron in now
        and step.before == (now[step.patron].group if step.field == GROUP else now[step.patron].group_lead)
        for step in entry.steps
        if step.state is StepState.DONE
    )


def _author(change: Change, staff: Mapping[int, str]) -> str:
    """Describe who made a change, with the account's name in Evergreen if it is visible."""
    operator = change.entry.operator
    # Commands record the account's name and have no id.
    name = operator.account if operator.staff is None else staff.get(operator.staff)
    by = gettext("by you") if change.is_own else _by(name)
    if operator.approved_by is None:
        return by
    approved = gettext("approved by {supervisor}", supervisor=_shown(staff.get(operator.approved_by)))
    return f"{by}; {approved}"


def _undone(by: Change | None, undone: Mapping[str, Change], staff: Mapping[int, str]) -> str:
    """Say who has undone a change and when; empty if it stands, as after a redo."""
    if by is None or by.is_under_way or by.entry.id in undone:
        return ""
    return " · ".join((pgettext("a change", "Undone"), _author(by, staff), minute(by.entry.at)))


def _by(name: str | None) -> str:
    return gettext("by {name}", name=_shown(name))


def _shown(name: str | None) -> str:
    return isolated(name) if name else gettext("a colleague (name hidden from your login)")


def plan_page(client: Client, draft: Draft, form: ChangeForm, patron: int) -> dict[str, Any]:
    """Return the values for the page with a plan for the group of ``patron``. Makes calls for patrons of one name."""
    people = [step.member for step in draft.steps]
    people += [member for group in draft.groups for member in (*group.members_before, *group.after)]
    namesakes: Mapping[int, Namesake] = {}
    with suppress(EvergreenGroupsError):  # the plan has their cards as well
        namesakes = client.patrons.namesakes(member.patron for member in people)
    return pages.plan_page(draft, form.action, _number_of(draft, patron), namesakes)


def _number_of(draft: Draft, patron: int) -> int | None:
    """Return the number of the page's own group, which is that of ``patron``, if the plan concerns it."""
    if draft.steps and not draft.groups:  # the members of the page's group change, but stay
        return draft.steps[0].member.patron.group
    groups = (group.before for group in draft.groups if group.before is not None)
    return next((group.number for group in groups if any(member.id == patron for member in group.members)), None)
