"""Making plans: from patrons and groups to the steps that somebody can agree to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.journal import PENALTIES, JournalEntry, StepState
from evergreen_groups.changes.landing import has_come_twice
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
    MembershipReader,
    Relations,
    decide_where_visible,
    read_members,
    read_named_families,
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
    from evergreen_groups.groups import Card, Group, Member, NamedFamilies, PatronAccount, PatronReference
    from evergreen_groups.ils import OrgUnits, ReferenceData


class Drafter:
    """Drafts at one gateway."""

    def __init__(self, gateway: Gateway, planner: Planner, reference: ReferenceData) -> None:
        self._gateway = gateway
        self._planner = planner
        self._reference = reference

    def draft(
        self, request: PlanRequest, to_undo: Callable[[str], tuple[JournalEntry, datetime, Collection[int]]]
    ) -> tuple[Draft, frozenset[int]]:
        """The draft for a request that says all it needs, and, for a recalculation, whom the rule has over the limit.

        ``to_undo`` gives the change with a number, where it may be taken back, what time it is, and whom later changes
        move (ids).

        Raises:
            PlanError: it can't be done.
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
        decisions = decide_where_visible(self._gateway, limits, [step.member.patron for step in draft.steps], own_fines)
        return draft, frozenset(id for id, decision in decisions.items() if decision.over_limit)


class PlanBasis:
    """What plans are made from; nothing more is asked of the ILS for them.

    ``adults`` says how many of them may come together before it is warned of.
    """

    def __init__(self, families: NamedFamilies, adults: AdultRule | None = None) -> None:
        self._families = families
        self._adults = adults or AdultRule()

    @property
    def groups(self) -> Mapping[int, Group]:
        """The groups of all who were named, by number."""
        return self._families.membership.groups

    @property
    def accounts(self) -> Mapping[int, PatronAccount]:
        """The accounts of everybody in them, by patron's id."""
        return self._families.membership.accounts

    @property
    def own_fines(self) -> Mapping[int, Decimal]:
        """What those of them owe who have an open transaction."""
        return self._families.membership.own_fines

    @property
    def cards(self) -> Mapping[PatronReference, Card]:
        """Those who were named and are visible, by how they were."""
        return self._families.cards

    def find(self, references: Sequence[PatronReference]) -> list[Card]:
        """Those of the named with these barcodes or ids.

        Raises:
            PlanError: one is unknown, hidden from the account, or deleted, or two name the same patron.
        """
        self.expect(references)
        patrons = [self.cards[named].member.id for named in references]
        if len(set(patrons)) < len(patrons):
            raise PlanError(
                "two of the barcodes belong to the same patron", advice="name each patron once", code="patron-twice"
            )
        return [self.cards[named] for named in references]

    def expect(self, references: Sequence[PatronReference]) -> None:
        """Refuse references, in the order given, if one is unknown, hidden, or a deleted patron's.

        Raises:
            PlanError: it says which, by number.
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
        """Return whether the visible patron named this way is deleted; Evergreen would move them (deleted-user-002)."""
        card = self.cards.get(reference)
        return card is not None and card.member.patron.deleted

    def moves(self, found: Iterable[Card], group: int) -> tuple[list[Step], list[str]]:
        """The steps that bring patrons into a group, and who is in it already."""
        steps: list[Step] = []
        unchanged: list[str] = []
        for entry in found:
            if entry.member.patron.group == group:
                unchanged.append(_about(Message("{name} is already in group {group}"), entry, group=group))
            else:
                steps.append(Step(entry.member, GROUP, group, entry.account))
        return steps, unchanged

    def removals(self, found: Sequence[Card], *, lead: bool = False) -> tuple[list[Step], list[str]]:
        """The steps that give patrons groups of their own, and who is alone already."""
        steps: list[Step] = []
        unchanged: list[str] = []
        for entry in found:
            member, number = entry.member, entry.member.patron.group
            if self.groups[number].member_count == 1:
                unchanged.append(_about(Message("{name} is already alone in group {group}"), entry, group=number))
            else:
                steps.append(Step(member, GROUP, None, entry.account))
            # Only where it was asked for: usergroup.new makes a lead by any true value (usergroup-new-006), and never
            # takes the mark off again (usergroup-new-005).
            if lead:
                steps.extend(self.leads(entry, on=True)[0])
        return steps, unchanged

    def merging(self, source: Card, target: Card) -> tuple[list[Step], list[str]]:
        """The steps that bring a whole group into another.

        Raises:
            PlanError: the group has members whom the account can't see, so not everyone could be moved.
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
        # The group is known by this patron alone: moved before the others, the same command would find nothing to do.
        in_order = sorted(group.members, key=lambda member: member.id == source.member.id)
        return [
            Step(member, GROUP, to, self.accounts[member.id], last=member.id == source.member.id) for member in in_order
        ], []

    def leads(self, found: Card, *, on: bool) -> tuple[list[Step], list[str]]:
        """The step that sets or clears the mark of a group lead, and who has it so already."""
        member = found.member
        if member.group_lead == on:
            text = Message("{name} is already a group lead") if on else Message("{name} is not a group lead")
            return [], [_about(text, found)]
        return [Step(member, LEAD, int(on), found.account)], []

    def draft(
        self, action: Action, steps: Sequence[Step], unchanged: Sequence[str] = (), *, cards: Sequence[Card] = ()
    ) -> Draft:
        """Put a plan together: the groups before and after, and the warnings."""
        moves = [step for step in steps if step.field == GROUP]
        concerned = {step.member.patron.group for step in moves} | {step.after for step in moves}
        groups = {number: self.groups[number] for number in concerned if number is not None}
        warnings = [PlanWarning("card-not-active", {"name": card.member.name}) for card in cards if not card.active]
        warnings.extend(warnings_about(steps, self._evidence(groups)))
        warnings.extend(warnings_about_leads(steps, self.groups))
        # The same is said once, whatever number of steps it is true of.
        once = {(warning.code, *warning.values.items()): warning for warning in warnings}
        named = tuple(card.member.id for card in cards)
        return Draft(action, tuple(steps), group_changes(steps, groups), tuple(once.values()), tuple(unchanged), named)

    def _evidence(self, groups: Mapping[int, Group]) -> PlanEvidence:
        members = self._families.membership.members
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
class StepBack:
    """A step that can be taken back: by setting the ``field`` of a patron (an id) to what it was ``before``.

    ``now`` is what it is.
    """

    patron: int
    field: str
    now: int
    before: int


@dataclass(frozen=True, slots=True)
class NoStepBack:
    """A step that can't be: why, as a text with the patron's ``{name}`` in it."""

    patron: int
    text: Message
    values: Mapping[str, object] = field(default_factory=dict)

    def described(self, name: str) -> Message:
        """Why, about a patron of this name."""
        return Message(self.text.text, values={**self.values, "name": name})


def refuse_what_is_final(entry: JournalEntry) -> None:
    """Refuse what can't be taken back as a whole.

    Raises:
        PlanError: the entry is a recalculation of penalties, or part of it isn't kept any more.
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


def refuse_nothing(entry: JournalEntry, found: Sequence[StepBack | NoStepBack], hidden: Sequence[Message]) -> None:
    """Refuse to undo an entry of which nothing can be undone.

    ``hidden`` says whom the account can't see, in one sentence or none.

    Raises:
        PlanError: it says why, by patrons' ids.
    """
    if any(isinstance(step, StepBack) for step in found):
        return
    in_place = [step for step in found if isinstance(step, NoStepBack)]
    texts = {step.text.text for step in in_place}
    if _UNDONE.text in texts and not hidden and texts <= {_UNDONE.text, *(text.text for text in _NOT_DONE.values())}:
        raise PlanError("entry {entry} is already undone", code="already-undone", values={"entry": entry.id})
    named = [step.described(Message("patron {patron}", values={"patron": step.patron})) for step in in_place]
    raise PlanError(
        "nothing to undo in entry {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*named[:_MOST_NAMED], *hidden)},
    )


def steps_back(
    entry: JournalEntry, records: Mapping[int, Record], is_late_copy: Callable[[JournalStep, Record], bool]
) -> Iterator[StepBack | NoStepBack]:
    """Yield what becomes of each step of the patrons whom the account sees, in reverse order.

    ``records`` are theirs, by id, as they are where changes are written. Nothing is said of other patrons, not even
    their ids: the change may be another user's. ``is_late_copy`` says whether a patron who isn't in the group that a
    step made is in the one that a late copy of its request made.
    """
    former = dict(records)
    for step in reversed(entry.steps):
        record = former.get(step.patron)
        if record is None:
            continue
        found = _one_back(step, record, is_late_copy)
        yield found
        if isinstance(found, StepBack):  # what the step before is compared with
            value = found.before if found.field == GROUP else bool(found.before)
            former[step.patron] = record.replace(**{found.field: value})


def _one_back(
    step: JournalStep, record: Record, is_late_copy: Callable[[JournalStep, Record], bool]
) -> StepBack | NoStepBack:
    if step.state is not StepState.DONE:
        return NoStepBack(step.patron, _NOT_DONE[step.state])
    if record.deleted:
        return NoStepBack(step.patron, _DELETED)
    now = int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))
    if now == step.before:
        return NoStepBack(step.patron, _UNDONE)
    # Undone only where Evergreen still has what was put there: a later change is somebody else's.
    if now == step.value or (step.field == GROUP and step.after is None and is_late_copy(step, record)):
        return StepBack(step.patron, step.field, now, step.before)
    if step.field == GROUP:
        return NoStepBack(step.patron, _IN_ANOTHER_GROUP, {"group": now})
    return NoStepBack(step.patron, _LEAD_NOW if now else _NO_LEAD_NOW)


class Planner:
    """Makes plans out of the state that the ILS has now; sends nothing that changes anything.

    A plan takes four calls at most, whatever the number of patrons and groups up to some hundred, six where members are
    hidden (:func:`~evergreen_groups.groups.read_named_families` says where it is more), and what undoing reads of each
    patron.
    """

    def __init__(
        self,
        gateway: Gateway,
        org_units: Callable[[], OrgUnits] | None = None,
        *,
        adults: AdultRule | None = None,
    ) -> None:
        """``org_units`` gives those of the ILS, where a program has read them; else each planner reads them once.

        ``adults`` says how many may come together in a group before it is warned of.
        """
        self._gateway = gateway
        self._adults = adults
        self._reader = MembershipReader(gateway, org_units)

    def basis(
        self,
        references: Iterable[PatronReference],
        groups: Collection[int] = (),
        *,
        with_contacts: bool = True,
        active_cards: bool = False,
    ) -> PlanBasis:
        """Read what plans about these patrons, and these ``groups``, are made from.

        ``with_contacts`` is for plans by which somebody leaves a group; ``active_cards`` wants each barcode to be that
        of an active card.

        Raises:
            PlanError: one isn't.
        """
        families = read_named_families(
            self._gateway, self._reader, references, groups, with_contacts=with_contacts, active_cards=active_cards
        )
        return PlanBasis(families, self._adults)

    def move(self, patrons: Several[PatronReference], to: PatronReference, *, active_cards: bool = False) -> Draft:
        """Plan to move patrons, by barcode or id, into the group of the patron ``to``.

        Raises:
            PlanError: one is unknown, or hidden from the account, or named twice.
            ArgumentError: ``patrons`` is one text.
        """
        patrons = arguments.references("patrons", patrons)
        # A group is only ever named by somebody who is in it: the ILS takes any number for one (patron-update-odd-002,
        # patron-update-odd-010) and makes 0 of "abc" (patron-update-odd-008).
        basis = self.basis([*patrons, to], active_cards=active_cards)
        basis.expect([*patrons, to])
        target = basis.find([to])[0]
        found = basis.find(patrons)
        return basis.draft(Action.MOVE, *basis.moves(found, target.member.patron.group), cards=[*found, target])

    def remove(self, patrons: Several[PatronReference], *, lead: bool = False) -> Draft:
        """Plan to give each patron a new group of their own, as its lead only where ``lead`` says so.

        Raises what :meth:`move` does.
        """
        patrons = arguments.references("patrons", patrons)
        basis = self.basis(patrons)
        found = basis.find(patrons)
        return basis.draft(Action.REMOVE, *basis.removals(found, lead=lead), cards=found)

    def merge(self, source: PatronReference, to: PatronReference, *, active_cards: bool = False) -> Draft:
        """Plan to move everyone in the group of one patron into the group of another."""
        basis = self.basis([source, to], active_cards=active_cards)
        basis.expect([source, to])
        source_card, target = basis.find([source])[0], basis.find([to])[0]
        return basis.draft(Action.MERGE, *basis.merging(source_card, target), cards=[source_card, target])

    def lead(self, patrons: Several[PatronReference], *, off: bool = False) -> Draft:
        """Plan to make patrons group leads, or no longer; raises what :meth:`move` does."""
        patrons = arguments.references("patrons", patrons)
        basis = self.basis(patrons, with_contacts=False)
        found = basis.find(patrons)
        planned = [basis.leads(card, on=not off) for card in found]
        steps = [step for its_steps, _unchanged in planned for step in its_steps]
        return basis.draft(Action.LEAD, steps, [text for _steps, texts in planned for text in texts], cards=found)

    def recalculate(self, patrons: Several[PatronReference]) -> tuple[Draft, Mapping[int, Decimal]]:
        """Plan to have the ILS recalculate patrons' penalties; beside it what those owe who have open transactions."""
        patrons = arguments.references("patrons", patrons)
        basis = self.basis(patrons, with_contacts=False)
        found = basis.find(patrons)
        steps = [Step(card.member, PENALTIES, None, card.account) for card in found]
        return basis.draft(Action.RECALCULATE, steps, cards=found), basis.own_fines

    def undo(self, entry: JournalEntry, now: datetime, moved_since: Collection[int] = ()) -> Draft:
        """Plan to put back those who are still where a journal entry put them, and say who isn't and why.

        ``now`` is the time by the state's clock, ``moved_since`` are the ids of patrons whom later entries move.

        Raises:
            PlanError: the entry is a recalculation of penalties, part of it isn't kept any more, or nothing is left to
                undo.
        """
        refuse_what_is_final(entry)
        # Those whom somebody has moved since are in other groups, which the plan isn't about.
        moves = [step for step in entry.steps if step.field == GROUP]
        groups = {step.before for step in moves} | {step.value for step in moves if step.value is not None}
        patrons = {step.patron for step in entry.steps}
        basis = self.basis(patrons, groups)
        visible = {id: card.member for id, card in basis.cards.items() if isinstance(id, int)}
        records = self._as_written(visible)
        members = {id: _with_state(visible[id], record) for id, record in records.items()}
        found = self._steps_back(entry, records, now, moved_since)
        hidden = _hidden(patrons - records.keys())
        refuse_nothing(entry, found, hidden)
        back = [step for step in found if isinstance(step, StepBack)]
        late = {step.now for step in back if step.field == GROUP} - basis.groups.keys()
        if late:  # a late copy of a request has made them, and a replica doesn't know yet
            basis = self.basis(patrons, groups | late)
        steps = [Step(members[it.patron], it.field, it.before, basis.accounts[it.patron]) for it in back]
        unchanged = [it.described(members[it.patron].name) for it in found if not isinstance(it, StepBack)]
        return basis.draft(Action.UNDO, steps, [*unchanged, *hidden])

    def undo_at_once(
        self, entry: JournalEntry, staff: int, now: datetime, moved_since: Collection[int] = ()
    ) -> StoredPlan:
        """The same, to be applied for a staff user (``staff``, an ``au.id``) without being shown to anybody.

        So nothing is read that is for showing: one call for each patron, and one for each group that they go back to.
        """
        refuse_what_is_final(entry)
        patrons = list(dict.fromkeys(step.patron for step in entry.steps))
        found = zip(patrons, self._gateway.map(partial(read_patron, self._gateway), patrons), strict=True)
        records = {id: record for id, record in found if record is not None}
        back = self._steps_back(entry, records, now, moved_since)
        refuse_nothing(entry, back, _hidden(set(patrons) - records.keys()))
        steps = [
            StoredStep(
                step.patron,
                step.field,
                step.now,
                step.before,
                lead=bool(records[step.patron].master_account),
            )
            for step in back
            if isinstance(step, StepBack)
        ]
        joined = sorted({step.after for step in steps if step.field == GROUP and step.after is not None})
        members = read_members(self._gateway, joined)
        groups = [ExpectedGroup(group, tuple(sorted(members[group]))) for group in joined]
        return StoredPlan.new(staff, Action.UNDO, steps, groups, undoes=entry.id, now=now)

    def _steps_back(
        self, entry: JournalEntry, records: Mapping[int, Record], now: datetime, moved_since: Collection[int]
    ) -> list[StepBack | NoStepBack]:
        def is_late_copy(step: JournalStep, record: Record) -> bool:
            return step.patron not in moved_since and has_come_twice(self._gateway, step, record, now)

        return list(steps_back(entry, records, is_late_copy))

    def _as_written(self, patrons: Collection[int]) -> dict[int, Record]:
        """The records of patrons (ids) who are visible, as they are where changes are written.

        Where plain reads go to a copy of the database, it may not know yet what is to be taken back.

        Raises:
            NotFoundError: the account sees one of them, and doesn't any more.
        """
        found = {}
        for id, record in zip(patrons, self._gateway.map(partial(read_patron, self._gateway), patrons), strict=True):
            if record is None:  # pcrud has just shown them: who is only hidden in passing isn't passed over
                raise not_visible("patron {patron} can't be read", code="patron-not-read", values={"patron": id})
            found[id] = record
        return found


def _hidden(patrons: Collection[int]) -> list[Message]:
    """How many of an entry's patrons the account can't see; never who: the change may be another user's."""
    if not patrons:
        return []
    text = Message(
        "{count} patron can't be seen by the account",
        plural="{count} patrons can't be seen by the account",
        values={"count": len(patrons)},
    )
    return [text]


def _with_state(member: Member, record: Record) -> Member:
    """A member with the group and the mark as lead that a record has."""
    patron = replace(member.patron, group=int(record.usrgroup), group_lead=bool(record.master_account))
    return replace(member, patron=patron)
