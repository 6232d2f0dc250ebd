"""Make plans: turn patrons and groups, or a change to undo, into steps with warnings that a user can review."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from evergreen_groups.changes import plans
from evergreen_groups.changes.journal import GROUP, LEAD, PENALTIES, JournalEntry, JournalStep, StepState
from evergreen_groups.changes.outcome_check import has_late_duplicate, value_of
from evergreen_groups.changes.plans import Action, Draft, PlannedGroup, PlanWarning, Step, about_patron
from evergreen_groups.errors import PlanError, not_visible
from evergreen_groups.groups import AdultRule, Member, contacts, family_reader, read_patron
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.plans import PlanRequest
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.groups import Card, Families, Group, PatronReference
    from evergreen_groups.ils import ReferenceData

_ALREADY_THERE = {
    Action.MOVE: Message("{name} is already in this group ({group})"),
    Action.MERGE: Message("the other patron is in this same group ({group}): use a card from another group"),
}

_TARGET = Message("the target (`to`)")
_NOT_CONFIRMED = Message("{name}: not confirmed yet")
_NOT_CHANGED = Message("{name}: nothing was changed")
_UNDONE = Message("{name}: already undone")
_HIDDEN = Message(
    "{count} change to patrons your login can't see", plural="{count} changes to patrons your login can't see"
)


@dataclass(frozen=True)
class PlanBasis:
    """The data for planning, read once. Planning itself makes no further calls."""

    families: Families  # with the groups of the named patrons, and the cards of the visible ones by barcode or id
    adults: AdultRule

    def expect(self, patrons: Sequence[PatronReference], target: PatronReference | None = None) -> None:
        """Refuse the references if any patron is unknown, hidden, or deleted."""
        if given := _given(patrons, target, lambda reference: reference not in self.families.cards):
            raise PlanError(
                "no visible patron has this barcode: {given}",
                advice="check the number, and that the account has VIEW_USER at the home library",
                code="barcodes-unknown",
                values={"given": given},
            )
        if given := _given(patrons, target, self.is_deleted):
            raise PlanError(
                "this patron was deleted: {given}",
                advice="if that was a mistake, ask your Evergreen administrator to restore the record",
                code="patron-deleted",
                values={"given": given},
            )

    def is_deleted(self, reference: PatronReference) -> bool:
        """Return whether a visible patron is deleted. Evergreen would move them all the same (deleted-user-002)."""
        card = self.families.cards.get(reference)
        return card is not None and card.member.patron.deleted

    def steps(
        self, action: Action, card: Card, target: Card | None = None, *, lead: bool = False
    ) -> tuple[list[Step], list[str]]:
        """Return the steps for one named patron, and texts about what is already as requested.

        ``lead`` is for a removal whether the patron becomes a lead, and for a change of the flag its new value.
        """
        member, group = card.member, self.families.groups[card.member.patron.group]
        about = {"name": member.name, "group": group.number}
        if target is not None:
            to = target.member.patron.group
            if group.number == to:
                return [], [_ALREADY_THERE[action].with_values(about)]
            if action is Action.MERGE:
                return self._merge_steps(group, member, to), []
            return [Step.of(member, GROUP, to, card.account)], []
        steps: list[Step] = []
        unchanged: list[str] = []
        if action is Action.REMOVE and group.member_count == 1:
            unchanged.append(Message("{name} is already alone in this group ({group})", values=about))
        elif action is Action.REMOVE:
            steps.append(Step.of(member, GROUP, None, card.account))
        # Set the flag in a separate step: usergroup.new makes a lead for any true value (usergroup-new-006), and never
        # clears the flag (usergroup-new-005).
        if member.group_lead != lead and (lead or action is Action.LEAD):
            steps.append(Step.of(member, LEAD, int(lead), card.account))
        elif action is Action.LEAD:
            text = Message("{name} is already group lead") if lead else Message("{name} isn't group lead")
            unchanged.append(text.with_values(about))
        return steps, unchanged

    def _merge_steps(self, group: Group, named: Member, to: int) -> list[Step]:
        """Return the steps that move a whole group into another."""
        if not group.complete:
            raise PlanError(
                "nothing was moved: group {group} has hidden members, who would be left behind",
                advice="move the members you see instead of merging the groups, or ask someone who can see all of them",
                code="merging-hidden-members",
                values={"group": group.number},
            )
        # Move the named patron last. If the run stops early, the same command then still finds the old group.
        in_order = sorted(group.members, key=lambda member: member.id == named.id)
        accounts = self.families.accounts
        return [Step.of(member, GROUP, to, accounts[member.id], last=member.id == named.id) for member in in_order]

    def draft(
        self, action: Action, steps: Sequence[Step], unchanged: Sequence[str] = (), *, cards: Sequence[Card] = ()
    ) -> Draft:
        """Assemble a plan: the groups before and after, and the warnings."""
        moves = [step for step in steps if step.field == GROUP]
        changes = self._changed_groups(moves)
        warnings = [PlanWarning("card-not-active", {"name": card.member.name}) for card in cards if not card.active]
        warnings.extend(_warnings_about_accounts(steps))
        warnings.extend(self._warnings_about_groups(moves, changes))
        warnings.extend(self._warnings_about_leads(steps, has_former=action is Action.LEAD))
        # Report each warning once, even if several steps cause it.
        once = {(warning.code, *warning.values.items()): warning for warning in warnings}
        named = tuple(card.member.id for card in cards)
        return Draft(action, tuple(steps), changes, tuple(once.values()), tuple(unchanged), named)

    def _changed_groups(self, moves: Sequence[Step]) -> tuple[PlannedGroup, ...]:
        """Return each group that loses or gains members, those with losses first, followed by each new group."""
        leaving, left = {step.patron_id for step in moves}, {step.before for step in moves}
        joined = {step.after for step in moves if step.after is not None}
        found = []
        for number in (*sorted(left), *sorted(joined - left)):
            # A group may both lose and gain members in one plan.
            arriving = (step.member for step in moves if step.after == number)
            before = self.families.groups[number]
            staying = (member for member in before.members if member.id not in leaving)
            found.append(PlannedGroup(before, (*staying, *arriving)))
        return (*found, *(PlannedGroup(None, (step.member,)) for step in moves if step.after is None))

    def _warnings_about_groups(self, moves: Sequence[Step], changes: Sequence[PlannedGroup]) -> Iterator[PlanWarning]:
        """Yield the warnings about ``moves``, which cause these ``changes`` of groups."""
        groups, members, leaving = self.families.groups, self.families.members, {step.patron_id for step in moves}
        relations = contacts.Relations((member.patron for member in members.values()), self.families.contacts)
        for number in sorted({step.after for step in moves if step.after is not None}):
            arriving = [step for step in moves if step.after == number]
            there = {member.id for member in groups[number].members} - leaving
            # As in the audit: the home library alone makes no relatives, and a relative may be among those who arrive.
            families = relations.families([*there, *(step.patron_id for step in arriving)]) if there else ()
            strangers = {id for family in families if there.isdisjoint(family) for id in family}
            if names := tuple(step.member.name for step in arriving if step.patron_id in strangers):
                yield PlanWarning("stranger-to-group", {"names": names, "group": number, "count": len(names)})
        yield from self._warnings_about_addresses(moves, relations)
        changed = [(group.before, group.after) for group in changes if group.before is not None]
        for group, members_after in changed if self.adults.applies else ():
            before, after = (
                self.adults.count((member.id for member in there), self.families.accounts)
                for there in (group.members, members_after)
            )
            # Warn only if the plan adds adults, not about a group that already had too many.
            if before < after > self.adults.most:
                values = {"group": group.number, "most": self.adults.most}
                yield PlanWarning.counted("several-adults", group.counted(after), values)
        for number in sorted({step.before for step in moves}):
            yield from _warnings_about_those_left(groups[number], leaving)
        for group in sorted((group for group, _after in changed), key=attrgetter("number")):
            if not group.complete:
                yield PlanWarning("hidden-members", {"group": group.number, "count": group.hidden_member_count})

    def _warnings_about_addresses(self, moves: Sequence[Step], relations: contacts.Relations) -> Iterator[PlanWarning]:
        """Yield a warning for each borrowed address whose borrower and owner end up in different groups."""
        members = self.families.members
        after: dict[int, object] = {member.id: member.patron.group for member in members.values()}
        # A patron with a new group shares it with no other member.
        after.update((step.patron_id, step.after or ("new", step.patron_id)) for step in moves)
        leaving = {step.patron_id for step in moves}
        for step in moves:
            name, contacts = step.member.name, relations.contacts(step.patron_id)
            owners = [members.get(lender) for lender in sorted(contacts.lenders)]
            for owner in owners:
                if owner is not None and after[owner.id] != after[step.patron_id]:
                    yield PlanWarning("borrowed-address", {"name": name, "owner": owner.name})
            if None in owners or contacts.hidden_lender:
                yield PlanWarning("borrowed-address-of-another", {"name": name})
            for member in self.families.groups[step.before].members:
                if member.id not in leaving and step.patron_id in relations.contacts(member.id).lenders:
                    yield PlanWarning("lent-address", {"name": name, "borrower": member.name})

    def _warnings_about_leads(self, steps: Sequence[Step], *, has_former: bool) -> Iterator[PlanWarning]:
        """Yield a warning for each group that gains a lead and then has several. Evergreen allows any number.

        ``has_former`` adds one for each group whose last lead is no longer one.
        """
        moves = {step.patron_id: step for step in steps if step.field == GROUP}
        flags = {step.patron_id: bool(step.after) for step in steps if step.field == LEAD}
        for number, group in sorted(self.families.groups.items()):
            members = [member for member in group.members if member.id not in moves]
            members += [step.member for step in moves.values() if step.after == number]
            leads = [member for member in members if flags.get(member.id, member.group_lead)]
            if len(leads) > 1 and any(flags.get(member.id) or member.id in moves for member in leads):
                names = tuple(member.name for member in leads)
                yield PlanWarning.counted("several-leads", group.counted(len(leads)), {"names": names, "group": number})
            if has_former and group.complete and not leads and any(member.group_lead for member in group.members):
                yield PlanWarning("left-without-lead", {"group": number})


def _given(
    patrons: Sequence[PatronReference],
    target: PatronReference | None,
    is_wrong: Callable[[PatronReference], bool],
) -> Message | None:
    """Say which of the patrons, by their places, or else that the target is wrong. None if none is."""
    if wrong := [str(number) for number, patron in enumerate(patrons, 1) if is_wrong(patron)]:
        values = {"numbers": ", ".join(wrong), "count": len(patrons)}
        return Message("number {numbers} of {count} given", values=values)
    return _TARGET if target is not None and is_wrong(target) else None


def _warnings_about_accounts(steps: Sequence[Step]) -> Iterator[PlanWarning]:
    for step in steps:
        account, name = step.account, {"name": step.member.name}
        if account.barred:
            yield PlanWarning("account-barred", name)
        if not account.active:
            yield PlanWarning("account-not-active", name)
        if account.expired:
            yield PlanWarning("account-expired", name)


def _warnings_about_those_left(group: Group, leaving: set[int]) -> Iterator[PlanWarning]:
    """Yield warnings about a group that is left without a lead, without members, or with a single member."""
    if not group.complete:  # a hidden member would stay, and may be lead
        return
    stays = [member for member in group.members if member.id not in leaving]
    if not stays:
        code = "group-left-empty" if len(group.members) > 1 else "last-member-leaves"
        yield PlanWarning(code, {"group": group.number})
    if len(stays) == 1 and len(group.members) > 1:
        yield PlanWarning("left-alone", {"name": stays[0].name})
    has_lead, keeps_one = (any(member.group_lead for member in those) for those in (group.members, stays))
    if stays and has_lead and not keeps_one:
        yield PlanWarning("left-without-lead", {"group": group.number})


@dataclass
class Planner:
    """Makes plans from Evergreen's current state. Only reads. ``reference`` has the limits for recalculations.

    A plan takes at most four calls for up to some hundred patrons and groups, or six with hidden members. See
    :meth:`~evergreen_groups.groups.FamilyReader.named` for the exceptions.
    """

    gateway: Gateway
    reference: ReferenceData
    adults: AdultRule | None = None  # how many adults a group may have before a plan warns

    def plan(self, request: PlanRequest) -> Draft:
        """Plan a valid request, except an undo, which takes the journal's entry.

        Raises PlanError if a patron is unknown, hidden, deleted, or named twice, or if a merge would leave hidden
        members behind.
        """
        action = request.action
        # The target is a member, never a group number: Evergreen accepts any number as a group (patron-update-odd-002,
        # patron-update-odd-010) and turns "abc" into 0 (patron-update-odd-008).
        targets = [] if request.target is None else [request.target]
        named = [*request.patrons, *targets]
        with_contacts = action in (Action.MOVE, Action.REMOVE, Action.MERGE)
        basis = self.basis(named, with_contacts=with_contacts, active_cards=request.active_cards)
        basis.expect(request.patrons, request.target)
        found, joined = ([basis.families.cards[it] for it in references] for references in (request.patrons, targets))
        if len({card.member.id for card in found}) < len(found):
            raise PlanError(
                "two barcodes belong to the same patron", advice="name each patron once", code="patron-twice"
            )
        steps: list[Step] = []
        unchanged: list[str] = []
        if action is Action.RECALCULATE:
            patrons = [card.member.patron for card in found]
            limits = self.reference.limits(self.gateway)
            members = Member.of_patrons(self.gateway, limits, patrons, basis.families.own_fines)
            due = {member.id for member in members if member.over_limit_if_known}
            steps = [Step.of(card.member, PENALTIES, None, card.account, due=card.member.id in due) for card in found]
        else:
            lead = not request.off if action is Action.LEAD else request.lead
            for card in found:
                its_steps, its_unchanged = basis.steps(action, card, *joined, lead=lead)
                steps += its_steps
                unchanged += its_unchanged
        return basis.draft(action, steps, unchanged, cards=[*found, *joined])

    def basis(self, references: Iterable[PatronReference], groups: Collection[int] = (), **parts: bool) -> PlanBasis:
        """Read the data for plans about these patrons and ``groups``. ``parts`` are those of ``FamilyReader.named``.

        Plans that move anyone out of a group need ``with_contacts``.
        """
        reader = family_reader(self.gateway, lambda: self.reference.org_units(self.gateway))
        return PlanBasis(reader.named(references, groups, **parts), self.adults or AdultRule())


def plan_undo(planner: Planner, journal: Journal, entry: JournalEntry, *, shown: bool = True) -> Draft:
    """Plan to undo a journal entry. A plan that isn't ``shown`` lacks fines and some warnings, which saves two calls.

    Raises NotFoundError if a patron has just become hidden, and PlanError if the entry is a recalculation, some of its
    steps have been deleted, or nothing is left to undo.
    """
    if entry.missing_step_count:
        count = len(entry.steps) + entry.missing_step_count
        raise PlanError(
            "change {entry} can't be undone completely: {missing} of its {count} steps were deleted",
            advice="revert the rest manually; `journal {entry}` shows it",
            code="entry-partly-forgotten",
            values={"entry": entry.id, "missing": entry.missing_step_count, "count": count},
        )
    if any(step.field == PENALTIES for step in entry.steps):
        raise PlanError("refreshing penalties can't be undone", code="recalculation-final")
    gateway, now, changed_since = planner.gateway, journal.now(), journal.changed_since(entry)
    # Read only the groups that the entry names. Patrons who have moved since are in groups that don't matter here.
    moves = [step for step in entry.steps if step.field == GROUP]
    groups = {step.before for step in moves} | {step.value for step in moves if step.value is not None}
    patrons = {step.patron for step in entry.steps}
    basis = planner.basis(patrons, groups, with_fines=shown, with_contacts=shown)
    visible = sorted(id for id in basis.families.cards if isinstance(id, int))
    # Read the patrons' records from the primary: a replica may not have the change that is to be undone. The same goes
    # for the groups and flags of the members, which come from pcrud.
    records, members = {}, {}
    for id, record in zip(visible, gateway.map(partial(read_patron, gateway), visible), strict=True):
        if record is None:  # fail instead of skipping them
            raise not_visible("patron {patron} is no longer visible", code="patron-not-read", values={"patron": id})
        member, group, lead = basis.families.cards[id].member, int(record.usrgroup), bool(record.master_account)
        records[id] = record
        members[id] = replace(member, patron=replace(member.patron, group=group, group_lead=lead))
    reversible: list[JournalStep] = []
    others: list[tuple[int, Message]] = []
    for step in reversed(entry.steps):
        if step.patron not in records:
            continue
        is_moved = (step.patron, GROUP) in changed_since
        obstacle = _obstacle(gateway, step, records[step.patron], now, is_moved=is_moved)
        if obstacle is None:
            reversible.append(step)
            # The earlier steps apply to the record after this undo.
            value = step.before if step.field == GROUP else bool(step.before)
            records[step.patron] = records[step.patron].replace(**{step.field: value})
        else:
            others.append((step.patron, obstacle))
    # Don't name hidden patrons, because the change may be another user's.
    count = sum(step.patron not in records for step in entry.steps)
    hidden = [_HIDDEN.with_values({"count": count})] if count else []
    if not reversible:
        raise _nothing_to_undo(entry, [reason for _patron, reason in others], hidden)
    late = {members[step.patron].patron.group for step in reversible if step.field == GROUP}
    if not late <= basis.families.groups.keys():  # groups that a late duplicate made, which a replica didn't have yet
        basis = planner.basis(patrons, groups | late, with_fines=shown, with_contacts=shown)
    accounts = basis.families.accounts
    steps = [Step.of(members[it.patron], it.field, it.before, accounts[it.patron]) for it in reversible]
    unchanged = [it.with_values({**it.values, "name": members[patron].name}) for patron, it in others]
    return replace(basis.draft(Action.UNDO, steps, [*unchanged, *hidden]), undoes=entry.id)


def _obstacle(gateway: Gateway, step: JournalStep, record: Record, at: datetime, *, is_moved: bool) -> Message | None:
    """Return why a step can't be undone, or None if Evergreen still has the step's value.

    ``is_moved`` says that a later entry moves the patron. If none does, a late duplicate of the step's request may have
    moved them from the group that the step made to a second new one.
    """
    if step.state is not StepState.DONE:
        return about_patron(_NOT_CONFIRMED if step.state is StepState.SENDING else _NOT_CHANGED, step.patron)
    if record.deleted:
        return about_patron(plans.DELETED, step.patron)
    now = value_of(record, step.field) or 0
    if now == step.before:
        return about_patron(_UNDONE, step.patron)
    may_be_late = step.field == GROUP and step.after is None and not is_moved
    if now == step.value or (may_be_late and has_late_duplicate(gateway, step, record, at)):
        return None
    return plans.has_now(step.patron, step.field, now)


def _nothing_to_undo(entry: JournalEntry, found: Sequence[Message], hidden: Sequence[Message]) -> PlanError:
    texts = {reason.text for reason in found}
    if _UNDONE.text in texts and not hidden and texts <= {one.text for one in (_UNDONE, _NOT_CHANGED, _NOT_CONFIRMED)}:
        return PlanError("change {entry} is already undone", code="already-undone", values={"entry": entry.id})
    return PlanError(
        "nothing to undo in change {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*found[: plans.MOST_NAMED], *hidden)},
    )
