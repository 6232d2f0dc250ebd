"""Making plans: from patrons and groups to the steps that somebody can agree to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.journal_step import PENALTIES
from evergreen_groups.changes.landing import has_come_twice
from evergreen_groups.changes.plan_basis import PlanBasis
from evergreen_groups.changes.plans import GROUP, Action, Draft, Step
from evergreen_groups.changes.steps_back import (
    NoStepBack,
    StepBack,
    refuse_nothing,
    refuse_what_is_final,
    steps_back,
)
from evergreen_groups.changes.stored_plan import ExpectedGroup, StoredPlan, StoredStep
from evergreen_groups.errors import not_visible
from evergreen_groups.groups import MembershipReader, read_members, read_patron, read_surroundings
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from evergreen_groups.arguments import Several
    from evergreen_groups.changes.journal_step import JournalEntry, JournalStep
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.groups import AdultRule, Member, PatronReference
    from evergreen_groups.ils import OrgUnits


class Planner:
    """Makes plans out of the state that the ILS has now; sends nothing that changes anything.

    A plan takes four calls at most, whatever the number of patrons and groups up to some hundred, six where members are
    hidden (:func:`~evergreen_groups.groups.read_surroundings` says where it is more), and what undoing reads of each
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
        surroundings = read_surroundings(
            self._gateway, self._reader, references, groups, with_contacts=with_contacts, active_cards=active_cards
        )
        return PlanBasis(surroundings, self._adults)

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
