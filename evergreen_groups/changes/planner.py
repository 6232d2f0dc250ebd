"""Making plans: from patrons and groups to the steps that somebody can agree to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES, JournalEntry, StepState
from evergreen_groups.changes.patron_record import read_patron
from evergreen_groups.changes.plan_basis import PlanBasis
from evergreen_groups.changes.plans import GROUP, Action, Draft, Step
from evergreen_groups.errors import PlanError, not_visible
from evergreen_groups.groups import MembershipReader, read_surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule, Member, PatronReference
    from evergreen_groups.ils import OrgUnits


class Planner:
    """Makes plans out of the state that the ILS has now; sends nothing that changes anything.

    A plan takes six calls at most, whatever the number of patrons and groups up to some hundred, and what undoing
    reads of each patron.
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
        self, references: Iterable[PatronReference], groups: Collection[int] = (), *, with_contacts: bool = True
    ) -> PlanBasis:
        """Read what plans about these patrons, and these ``groups``, are made from.

        ``with_contacts`` is for plans by which somebody leaves a group.
        """
        surroundings = read_surroundings(self._gateway, self._reader, references, groups, with_contacts=with_contacts)
        return PlanBasis(surroundings, self._adults)

    def move(self, patrons: Sequence[PatronReference], to: PatronReference) -> Draft:
        """Plan to move patrons into the group of the patron ``to``."""
        # A group is only ever named by somebody who is in it: the ILS takes any number for one (patron-update-odd-002,
        # patron-update-odd-010) and makes 0 of "abc" (patron-update-odd-008).
        basis = self.basis([*patrons, to])
        target = basis.find([to])[0]
        found = basis.find(patrons)
        return basis.draft(Action.MOVE, *basis.moves(found, target.member.patron.group), cards=[*found, target])

    def remove(self, patrons: Sequence[PatronReference], *, lead: bool = False) -> Draft:
        """Plan to give each patron a new group of their own, as its lead only where ``lead`` says so."""
        basis = self.basis(patrons)
        found = basis.find(patrons)
        return basis.draft(Action.REMOVE, *basis.removals(found, lead=lead), cards=found)

    def merge(self, source: PatronReference, to: PatronReference) -> Draft:
        """Plan to move everyone in the group of one patron into the group of another."""
        basis = self.basis([source, to])
        source_card, target = basis.find([source])[0], basis.find([to])[0]
        return basis.draft(Action.MERGE, *basis.merging(source_card, target), cards=[source_card, target])

    def lead(self, patrons: Sequence[PatronReference], *, off: bool = False) -> Draft:
        """Plan to make patrons group leads, or no longer."""
        basis = self.basis(patrons, with_contacts=False)
        found = basis.find(patrons)
        planned = [basis.leads(card, on=not off) for card in found]
        steps = [step for its_steps, _unchanged in planned for step in its_steps]
        return basis.draft(Action.LEAD, steps, [text for _steps, texts in planned for text in texts], cards=found)

    def recalculate(self, patrons: Sequence[PatronReference]) -> tuple[Draft, Mapping[int, Decimal]]:
        """Plan to have the ILS recalculate patrons' penalties; beside it what those owe who have open transactions."""
        basis = self.basis(patrons, with_contacts=False)
        found = basis.find(patrons)
        steps = [Step(card.member, PENALTIES, None, card.account) for card in found]
        return basis.draft(Action.RECALCULATE, steps, cards=found), basis.own_fines

    def undo(self, entry: JournalEntry) -> Draft:
        """Plan to put back those who are still where a journal entry put them, and say who isn't and why.

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
        # Those whom somebody has moved since are in other groups, which the plan isn't about.
        moves = [step for step in entry.steps if step.field == GROUP]
        groups = {step.before for step in moves} | {step.value for step in moves if step.value is not None}
        basis = self.basis({step.patron for step in entry.steps}, groups)
        visible = {id: card.member for id, card in basis.cards.items() if isinstance(id, int)}
        members = self._as_written(visible)
        steps, unchanged = [], []
        # The last first, as one goes back.
        for step in reversed(entry.steps):
            member = members.get(step.patron)
            if step.state is not StepState.DONE:
                state = "isn't known to be done" if step.state is StepState.SENDING else f"was {step.state.value}"
                unchanged.append(f"patron {step.patron}: that change {state}")
                continue
            if member is None:
                unchanged.append(f"patron {step.patron} can't be seen by the account any more")
                continue
            # Taken back only where the ILS still has what was put there: a later change is somebody else's.
            now = member.patron.group if step.field == GROUP else int(member.group_lead)
            if now != step.value:
                what = f"in group {now}" if step.field == GROUP else ("a group lead" if now else "no group lead")
                unchanged.append(f"{member.name} has been changed since and is now {what}")
            elif now != step.before:
                steps.append(Step(member, step.field, step.before, basis.accounts[member.id]))
        return basis.draft(Action.UNDO, steps, unchanged)

    def _as_written(self, members: Mapping[int, Member]) -> dict[int, Member]:
        """Members with the group and the mark as lead that they have where changes are written.

        Where plain reads go to a copy of the database, it may not know yet what is to be taken back.

        Raises:
            NotFoundError: the account sees one of them, and doesn't any more.
        """
        found = {}
        for id, record in zip(members, self._gateway.map(partial(read_patron, self._gateway), members), strict=True):
            if record is None:  # pcrud has just shown them: who is only hidden in passing isn't passed over
                raise not_visible("patron {patron} can't be read", code="patron-not-read", values={"patron": id})
            lead = bool(record.master_account)
            patron = replace(members[id].patron, group=int(record.usrgroup), group_lead=lead)
            found[id] = replace(members[id], patron=patron)
        return found
