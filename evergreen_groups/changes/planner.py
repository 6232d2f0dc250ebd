"""Make plans: turn patrons and groups into steps that a user can review and approve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.journal import PENALTIES, JournalEntry, StepState
from evergreen_groups.changes.outcome_check import has_late_duplicate
from evergreen_groups.changes.plans import (
    GROUP,
    LEAD,
    Action,
    Draft,
    ExpectedGroup,
    PlanWarning,
    Step,
    StoredPlan,
    StoredStep,
    group_changes,
)
from evergreen_groups.changes.warnings import PlanEvidence, warnings_about, warnings_about_leads
from evergreen_groups.errors import PlanError, not_visible
from evergreen_groups.groups import (
    AdultRule,
    FamilyReader,
    Relations,
    decided_members,
    read_members,
    read_patron,
)
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime
    from decimal import Decimal

    from evergreen_groups.arguments import Several
    from evergreen_groups.changes.journal import JournalStep
    from evergreen_groups.changes.plans import PlanRequest
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.groups import Card, Families, Group, Member, PatronAccount, PatronReference
    from evergreen_groups.ils import OrgUnits, ReferenceData


class Drafter:
    """Turns plan requests into drafts at one gateway."""

    def __init__(self, gateway: Gateway, planner: Planner, reference: ReferenceData) -> None:
        self._gateway = gateway
        self._planner = planner
        self._reference = reference

    def draft(
        self, request: PlanRequest, to_undo: Callable[[str], tuple[JournalEntry, datetime, Collection[int]]]
    ) -> tuple[Draft, frozenset[int]]:
        """Return the draft for a valid request, and, for a recalculation, the ids of patrons over the limit.

        ``to_undo`` maps the id of a change that may be undone to the change, the current time, and the ids of patrons
        whom later changes move.

        Raises:
            PlanError: the request can't be planned.
        """
        match request.action:
            case Action.MOVE if request.target is not None:
                return self._planner.move(
                    request.patrons, request.target, active_cards=request.active_cards
                ), frozenset()
            case Action.MERGE if request.target is not None:
                draft = self._planner.merge(request.patrons[0], request.target, active_cards=request.active_cards)
                return draft, frozenset()
            case Action.REMOVE:
                return self._planner.remove(request.patrons, lead=request.lead), frozenset()
            case Action.LEAD:
                return self._planner.lead(request.patrons, off=request.off), frozenset()
            case Action.RECALCULATE:
                return self._recalculation(request)
            case _:
                return self._planner.undo(*to_undo(request.change or "")), frozenset()

    def _recalculation(self, request: PlanRequest) -> tuple[Draft, frozenset[int]]:
        draft, own_fines = self._planner.recalculate(request.patrons)
        limits = self._reference.limits(self._gateway)
        members = decided_members(self._gateway, limits, [step.member.patron for step in draft.steps], own_fines)
        return draft, frozenset(member.id for member in members if member.over_limit_if_known)


class PlanBasis:
    """The data for planning, read once. Planning itself makes no further calls.

    ``adults`` sets how many adults a group may have before a plan warns.
    """

    def __init__(self, families: Families, adults: AdultRule | None = None) -> None:
        self._families = families
        self._adults = adults or AdultRule()

    @property
    def groups(self) -> Mapping[int, Group]:
        """The groups of the named patrons, by number."""
        return self._families.groups

    @property
    def accounts(self) -> Mapping[int, PatronAccount]:
        """The accounts of all visible members of these groups, by patron id."""
        return self._families.accounts

    @property
    def own_fines(self) -> Mapping[int, Decimal]:
        """The own fines of members with open transactions, by patron id."""
        return self._families.own_fines

    @property
    def cards(self) -> Mapping[PatronReference, Card]:
        """The named patrons who are visible, by the reference (barcode or id) that names them."""
        return self._families.cards

    def find(self, references: Sequence[PatronReference]) -> list[Card]:
        """Return the patrons with these barcodes or ids.

        Raises:
            PlanError: a patron is unknown, hidden, or deleted, or two references name the same patron.
        """
        self.expect(references)
        patrons = [self.cards[named].member.id for named in references]
        if len(set(patrons)) < len(patrons):
            raise PlanError(
                "two of the barcodes belong to the same patron", advice="name each patron once", code="patron-twice"
            )
        return [self.cards[named] for named in references]

    def expect(self, references: Sequence[PatronReference]) -> None:
        """Refuse the references if any patron is unknown, hidden, or deleted.

        Raises:
            PlanError: names the references by their positions, so ``references`` must be in the user's order.
        """
        if unknown := _positions(references, lambda named: named not in self.cards):
            raise PlanError(
                "no visible patron has this barcode: number {numbers} of {count} given",
                advice="check the digits, and that the account has VIEW_USER at the patron's home library",
                code="barcodes-unknown",
                values={"numbers": unknown, "count": len(references)},
            )
        if deleted := _positions(references, self.is_deleted):
            raise PlanError(
                "a deleted patron can't be changed or joined: number {numbers} of {count} given",
                advice="restore the record in the staff client first if it shouldn't be deleted",
                code="patron-deleted",
                values={"numbers": deleted, "count": len(references)},
            )

    def is_deleted(self, reference: PatronReference) -> bool:
        """Return whether a visible patron is deleted. Evergreen would move them all the same (deleted-user-002)."""
        card = self.cards.get(reference)
        return card is not None and card.member.patron.deleted

    def moves(self, found: Iterable[Card], group: int) -> tuple[list[Step], list[str]]:
        """Return the steps that move patrons into a group, and a text for each patron who is already a member."""
        steps: list[Step] = []
        unchanged: list[str] = []
        for entry in found:
            if entry.member.patron.group == group:
                unchanged.append(_about(Message("{name} is already in group {group}"), entry, group=group))
            else:
                steps.append(Step(entry.member, GROUP, group, entry.account))
        return steps, unchanged

    def removal_steps(self, found: Sequence[Card], *, lead: bool = False) -> tuple[list[Step], list[str]]:
        """Return the steps that give patrons new groups, and a text for each patron who is already alone."""
        steps: list[Step] = []
        unchanged: list[str] = []
        for entry in found:
            member, number = entry.member, entry.member.patron.group
            if self.groups[number].member_count == 1:
                unchanged.append(_about(Message("{name} is already alone in group {group}"), entry, group=number))
            else:
                steps.append(Step(member, GROUP, None, entry.account))
            # Set the flag in a separate step: usergroup.new makes a lead for any true value (usergroup-new-006), and
            # never clears the flag (usergroup-new-005).
            if lead:
                steps.extend(self.leads(entry, on=True)[0])
        return steps, unchanged

    def merge_steps(self, source: Card, target: Card) -> tuple[list[Step], list[str]]:
        """Return the steps that move a whole group into another, or a text if both are the same group.

        Raises:
            PlanError: the group has hidden members, so not everyone could be moved.
        """
        number, to = source.member.patron.group, target.member.patron.group
        if number == to:
            return [], [Message("they are already in the same group, {group}", values={"group": number})]
        group = self.groups[number]
        if not group.complete:
            raise PlanError(
                "members of group {group} that the account can't see: {count:,}; merging would leave them behind",
                advice="move the others by barcode, or use an account that sees them",
                code="merging-hidden-members",
                values={"group": number, "count": group.hidden_member_count},
            )
        # Move the named patron last. If the run stops early, the same command then still finds the old group.
        in_order = sorted(group.members, key=lambda member: member.id == source.member.id)
        return [
            Step(member, GROUP, to, self.accounts[member.id], last=member.id == source.member.id) for member in in_order
        ], []

    def leads(self, found: Card, *, on: bool) -> tuple[list[Step], list[str]]:
        """Return the step that sets or clears the lead flag, or a text if the flag already has the value."""
        member = found.member
        if member.group_lead == on:
            text = Message("{name} is already a group lead") if on else Message("{name} is not a group lead")
            return [], [_about(text, found)]
        return [Step(member, LEAD, int(on), found.account)], []

    def draft(
        self, action: Action, steps: Sequence[Step], unchanged: Sequence[str] = (), *, cards: Sequence[Card] = ()
    ) -> Draft:
        """Assemble a plan: the groups before and after, and the warnings."""
        moves = [step for step in steps if step.field == GROUP]
        concerned = {step.member.patron.group for step in moves} | {step.after for step in moves}
        groups = {number: self.groups[number] for number in concerned if number is not None}
        warnings = [PlanWarning("card-not-active", {"name": card.member.name}) for card in cards if not card.active]
        warnings.extend(warnings_about(steps, self._evidence(groups)))
        warnings.extend(warnings_about_leads(steps, self.groups))
        # Report each warning once, even if several steps cause it.
        once = {(warning.code, *warning.values.items()): warning for warning in warnings}
        named = tuple(card.member.id for card in cards)
        return Draft(action, tuple(steps), group_changes(steps, groups), tuple(once.values()), tuple(unchanged), named)

    def _evidence(self, groups: Mapping[int, Group]) -> PlanEvidence:
        members = self._families.members
        relations = Relations((member.patron for member in members.values()), self._families.contacts)
        return PlanEvidence(groups, members, self.accounts, relations, self._adults)


def _positions(given: Sequence[PatronReference], is_meant: Callable[[PatronReference], bool]) -> str:
    return ", ".join(str(position) for position, named in enumerate(given, 1) if is_meant(named))


def _about(text: Message, card: Card, **values: object) -> Message:
    return Message(text, values={**values, "name": card.member.name})


_NOT_DONE = {
    StepState.PLANNED: Message("{name}: that change was only planned"),
    StepState.SENDING: Message("{name}: that change isn't known to be done"),
    StepState.UNCHANGED: Message("{name}: there was nothing to change"),
    StepState.NOT_DONE: Message("{name}: that change was not done"),
    StepState.FAILED: Message("{name}: that change failed"),
}
_UNDONE = Message("{name}: that change is already undone")
_DELETED = Message("{name} has been deleted since")
_IN_ANOTHER_GROUP = Message("{name} has been changed since and is now in group {group}")
_LEAD_NOW = Message("{name} has been changed since and is now a group lead")
_NO_LEAD_NOW = Message("{name} has been changed since and is now no group lead")
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Reversal:
    """A step that can be undone by resetting a field of a patron (id) from ``now`` to ``before``."""

    patron: int
    field: str
    now: int
    before: int


@dataclass(frozen=True, slots=True)
class Irreversible:
    """A step that can't be undone. ``text`` says why and contains a placeholder for the patron's ``{name}``."""

    patron: int
    text: Message
    values: Mapping[str, object] = field(default_factory=dict)

    def described(self, name: str) -> Message:
        """Return the reason with the patron's name filled in."""
        return Message(self.text.text, values={**self.values, "name": name})


def refuse_irreversible(entry: JournalEntry) -> None:
    """Refuse to undo an entry that can't be undone as a whole.

    Raises:
        PlanError: the entry is a recalculation of penalties, or some of its steps have been deleted.
    """
    if entry.missing_step_count:
        raise PlanError(
            "entry {entry} can't be taken back as a whole: {missing} of its {count} changes aren't kept any more",
            advice="change back manually what is to be as it was; `journal {entry}` shows the rest",
            code="entry-partly-forgotten",
            values={
                "entry": entry.id,
                "missing": entry.missing_step_count,
                "count": len(entry.steps) + entry.missing_step_count,
            },
        )
    if any(step.field == PENALTIES for step in entry.steps):
        raise PlanError(
            "a recalculation can't be taken back: the ILS decides which penalties there are",
            code="recalculation-final",
        )


def refuse_without_reversals(
    entry: JournalEntry, found: Sequence[Reversal | Irreversible], hidden: Sequence[Message]
) -> None:
    """Refuse to undo an entry if none of its steps can be undone.

    ``hidden`` holds at most one text, about the patrons whom the account can't see.

    Raises:
        PlanError: nothing can be undone. The error gives the reasons, with patrons' ids.
    """
    if any(isinstance(step, Reversal) for step in found):
        return
    in_place = [step for step in found if isinstance(step, Irreversible)]
    texts = {step.text.text for step in in_place}
    if _UNDONE.text in texts and not hidden and texts <= {_UNDONE.text, *(text.text for text in _NOT_DONE.values())}:
        raise PlanError("entry {entry} is already undone", code="already-undone", values={"entry": entry.id})
    named = [step.described(Message("patron {patron}", values={"patron": step.patron})) for step in in_place]
    raise PlanError(
        "nothing to undo in entry {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*named[:_MOST_NAMED], *hidden)},
    )


def reversals(
    entry: JournalEntry, records: Mapping[int, Record], is_late_duplicate: Callable[[JournalStep, Record], bool]
) -> Iterator[Reversal | Irreversible]:
    """Yield how to undo each step of the visible patrons, or why not, in reverse order.

    ``records`` are the visible patrons' records from the primary, by id. Steps of hidden patrons yield nothing, not
    even an id, because the change may be another user's. ``is_late_duplicate`` returns whether a late duplicate of a
    step's request has moved its patron from the group that the step made to a second new one.
    """
    former = dict(records)
    for step in reversed(entry.steps):
        record = former.get(step.patron)
        if record is None:
            continue
        found = _reversal(step, record, is_late_duplicate)
        yield found
        if isinstance(found, Reversal):  # the earlier steps apply to the record after this undo
            value = found.before if found.field == GROUP else bool(found.before)
            former[step.patron] = record.replace(**{found.field: value})


def _reversal(
    step: JournalStep, record: Record, is_late_duplicate: Callable[[JournalStep, Record], bool]
) -> Reversal | Irreversible:
    if step.state is not StepState.DONE:
        return Irreversible(step.patron, _NOT_DONE[step.state])
    if record.deleted:
        return Irreversible(step.patron, _DELETED)
    now = int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))
    if now == step.before:
        return Irreversible(step.patron, _UNDONE)
    # Undo only if Evergreen still has the step's value. Any other value is a later change by another user.
    if now == step.value or (step.field == GROUP and step.after is None and is_late_duplicate(step, record)):
        return Reversal(step.patron, step.field, now, step.before)
    if step.field == GROUP:
        return Irreversible(step.patron, _IN_ANOTHER_GROUP, {"group": now})
    return Irreversible(step.patron, _LEAD_NOW if now else _NO_LEAD_NOW)


class Planner:
    """Makes plans from Evergreen's current state. Only reads.

    A plan takes at most four calls for up to some hundred patrons and groups, or six with hidden members. See
    :meth:`~evergreen_groups.groups.FamilyReader.named` for the exceptions. An undo also reads each patron's record.
    """

    def __init__(
        self,
        gateway: Gateway,
        org_units: Callable[[], OrgUnits] | None = None,
        *,
        adults: AdultRule | None = None,
    ) -> None:
        """``org_units`` returns Evergreen's org units, if the program has them. The default is to read them once.

        ``adults`` sets how many adults a group may have before a plan warns.
        """
        self._gateway = gateway
        self._adults = adults
        self._reader = FamilyReader(gateway, org_units)

    def basis(
        self,
        references: Iterable[PatronReference],
        groups: Collection[int] = (),
        *,
        with_contacts: bool = True,
        active_cards: bool = False,
    ) -> PlanBasis:
        """Read the data for plans about these patrons and ``groups``.

        Set ``with_contacts`` for plans that move anyone out of a group. ``active_cards`` requires that each barcode is
        on an active card.

        Raises:
            PlanError: a barcode is on an inactive card.
        """
        families = self._reader.named(references, groups, with_contacts=with_contacts, active_cards=active_cards)
        return PlanBasis(families, self._adults)

    def move(self, patrons: Several[PatronReference], to: PatronReference, *, active_cards: bool = False) -> Draft:
        """Plan to move patrons, named by barcode or id, into the group of the patron ``to``.

        Raises:
            PlanError: a patron is unknown, hidden, or named twice.
            ArgumentError: ``patrons`` is a single string.
        """
        patrons = arguments.references("patrons", patrons)
        # The target is a member, never a group number: Evergreen accepts any number as a group (patron-update-odd-002,
        # patron-update-odd-010) and turns "abc" into 0 (patron-update-odd-008).
        basis = self.basis([*patrons, to], active_cards=active_cards)
        basis.expect([*patrons, to])
        target = basis.find([to])[0]
        found = basis.find(patrons)
        return basis.draft(Action.MOVE, *basis.moves(found, target.member.patron.group), cards=[*found, target])

    def remove(self, patrons: Several[PatronReference], *, lead: bool = False) -> Draft:
        """Plan to give each patron a new group of their own, as its lead only if ``lead`` is true.

        Raises the errors of :meth:`move`.
        """
        patrons = arguments.references("patrons", patrons)
        basis = self.basis(patrons)
        found = basis.find(patrons)
        return basis.draft(Action.REMOVE, *basis.removal_steps(found, lead=lead), cards=found)

    def merge(self, source: PatronReference, to: PatronReference, *, active_cards: bool = False) -> Draft:
        """Plan to move everyone in the group of the patron ``source`` into the group of the patron ``to``."""
        basis = self.basis([source, to], active_cards=active_cards)
        basis.expect([source, to])
        source_card, target = basis.find([source])[0], basis.find([to])[0]
        return basis.draft(Action.MERGE, *basis.merge_steps(source_card, target), cards=[source_card, target])

    def lead(self, patrons: Several[PatronReference], *, off: bool = False) -> Draft:
        """Plan to make patrons group leads, or with ``off`` no longer leads. Raises the errors of :meth:`move`."""
        patrons = arguments.references("patrons", patrons)
        basis = self.basis(patrons, with_contacts=False)
        found = basis.find(patrons)
        planned = [basis.leads(card, on=not off) for card in found]
        steps = [step for its_steps, _unchanged in planned for step in its_steps]
        return basis.draft(Action.LEAD, steps, [text for _steps, texts in planned for text in texts], cards=found)

    def recalculate(self, patrons: Several[PatronReference]) -> tuple[Draft, Mapping[int, Decimal]]:
        """Plan a recalculation of patrons' penalties. Also return the own fines of patrons with open transactions."""
        patrons = arguments.references("patrons", patrons)
        basis = self.basis(patrons, with_contacts=False)
        found = basis.find(patrons)
        steps = [Step(card.member, PENALTIES, None, card.account) for card in found]
        return basis.draft(Action.RECALCULATE, steps, cards=found), basis.own_fines

    def undo(self, entry: JournalEntry, now: datetime, moved_since: Collection[int] = ()) -> Draft:
        """Plan to undo a journal entry: move back patrons who are still where it put them, and explain the others.

        ``now`` is the time by the state database's clock. ``moved_since`` has the ids of patrons whom later entries
        move.

        Raises:
            PlanError: the entry is a recalculation of penalties, some of its steps have been deleted, or nothing is
                left to undo.
        """
        refuse_irreversible(entry)
        # Read only the groups that the entry names. Patrons who have moved since are in groups that don't matter here.
        moves = [step for step in entry.steps if step.field == GROUP]
        groups = {step.before for step in moves} | {step.value for step in moves if step.value is not None}
        patrons = {step.patron for step in entry.steps}
        basis = self.basis(patrons, groups)
        visible = {id: card.member for id, card in basis.cards.items() if isinstance(id, int)}
        records = self._primary_records(visible)
        # The visible members come from pcrud, which may read from a replica. Use the primary's groups and flags.
        members = {id: _with_state(visible[id], record) for id, record in records.items()}
        found = self._reversals(entry, records, now, moved_since)
        hidden = _hidden(patrons - records.keys())
        refuse_without_reversals(entry, found, hidden)
        reversals = [step for step in found if isinstance(step, Reversal)]
        late = {step.now for step in reversals if step.field == GROUP} - basis.groups.keys()
        if late:  # groups that a late duplicate made, which a replica didn't have yet
            basis = self.basis(patrons, groups | late)
        steps = [Step(members[it.patron], it.field, it.before, basis.accounts[it.patron]) for it in reversals]
        unchanged = [it.described(members[it.patron].name) for it in found if not isinstance(it, Reversal)]
        return basis.draft(Action.UNDO, steps, [*unchanged, *hidden])

    def undo_without_preview(
        self, entry: JournalEntry, staff: int, now: datetime, moved_since: Collection[int] = ()
    ) -> StoredPlan:
        """Plan the undo of a journal entry for a staff user (``au.id``), to be applied without a preview.

        Skip what only a preview needs: make one call per patron, and one per group that a patron returns to.
        """
        refuse_irreversible(entry)
        patrons = list(dict.fromkeys(step.patron for step in entry.steps))
        found = zip(patrons, self._gateway.map(partial(read_patron, self._gateway), patrons), strict=True)
        records = {id: record for id, record in found if record is not None}
        found_steps = self._reversals(entry, records, now, moved_since)
        refuse_without_reversals(entry, found_steps, _hidden(set(patrons) - records.keys()))
        steps = [
            StoredStep(
                step.patron,
                step.field,
                step.now,
                step.before,
                lead=bool(records[step.patron].master_account),
            )
            for step in found_steps
            if isinstance(step, Reversal)
        ]
        joined = sorted({step.after for step in steps if step.field == GROUP and step.after is not None})
        members = read_members(self._gateway, joined)
        groups = [ExpectedGroup(group, tuple(sorted(members[group]))) for group in joined]
        return StoredPlan.new(staff, Action.UNDO, steps, groups, undoes=entry.id, now=now)

    def _reversals(
        self, entry: JournalEntry, records: Mapping[int, Record], now: datetime, moved_since: Collection[int]
    ) -> list[Reversal | Irreversible]:
        def is_late_duplicate(step: JournalStep, record: Record) -> bool:
            return step.patron not in moved_since and has_late_duplicate(self._gateway, step, record, now)

        return list(reversals(entry, records, is_late_duplicate))

    def _primary_records(self, patrons: Collection[int]) -> dict[int, Record]:
        """Read the records of visible patrons (ids) from the primary.

        A replica may not have the change that is to be undone.

        Raises:
            NotFoundError: a patron has just become hidden.
        """
        found = {}
        for id, record in zip(patrons, self._gateway.map(partial(read_patron, self._gateway), patrons), strict=True):
            if record is None:  # pcrud has just returned this patron, so fail instead of skipping them
                raise not_visible("patron {patron} can't be read", code="patron-not-read", values={"patron": id})
            found[id] = record
        return found


def _hidden(patrons: Collection[int]) -> list[Message]:
    """Return a text with the number of hidden patrons. Don't name them: the change may be another user's."""
    if not patrons:
        return []
    text = Message(
        "{count} patron can't be seen by the account",
        plural="{count} patrons can't be seen by the account",
        values={"count": len(patrons)},
    )
    return [text]


def _with_state(member: Member, record: Record) -> Member:
    """Return a member with the group and the lead flag of a fresh record."""
    patron = replace(member.patron, group=int(record.usrgroup), group_lead=bool(record.master_account))
    return replace(member, patron=patron)
