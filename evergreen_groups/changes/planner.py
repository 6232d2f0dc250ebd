"""Making plans: from barcodes and groups to the steps that somebody can agree to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES, JournalEntry, StepState
from evergreen_groups.changes.patron_record import read_patron
from evergreen_groups.changes.plans import (
    GROUP,
    LEAD,
    Action,
    Draft,
    PlanWarning,
    Step,
    group_changes,
    warnings_about,
)
from evergreen_groups.errors import PlanError
from evergreen_groups.groups import FoundPatron, MembershipReader

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Person


class Planner:
    """Makes plans out of the state that the ILS has now; sends nothing that changes anything."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader = MembershipReader(gateway)

    def find(self, barcodes: Sequence[str]) -> list[FoundPatron]:
        """Look up patrons by card.

        Raises:
            PlanError: a barcode is unknown, or its patron hidden from the account, or two name the same patron.
        """
        found = self.cards(barcodes)
        missing = [position for position, barcode in enumerate(barcodes, 1) if barcode not in found]
        if missing:
            numbers = ", ".join(f"number {position}" for position in missing)
            raise PlanError(
                "no patron in sight has this barcode: {numbers} of {count} given",
                advice="check the digits, and that the account has VIEW_USER at the patron's home library",
                code="barcodes-unknown",
                values={"numbers": numbers, "count": len(barcodes)},
            )
        people = [found[barcode].person.id for barcode in barcodes]
        if len(set(people)) < len(people):
            raise PlanError(
                "two of the barcodes belong to the same patron", advice="name each patron once", code="patron-twice"
            )
        return [found[barcode] for barcode in barcodes]

    def cards(self, barcodes: Sequence[str]) -> dict[str, FoundPatron]:
        """Look up patrons by card; barcodes that nobody in sight has are left out."""
        return self._reader.by_barcodes(barcodes)

    def move(self, barcodes: Sequence[str], to: str) -> Draft:
        """Plan to move patrons into the group of the patron with barcode ``to``."""
        target = self.find([to])[0]
        found = self.find(barcodes)
        return self.draft(Action.MOVE, *self.moves(found, target.person.group), cards=[*found, target])

    def moves(self, found: Iterable[FoundPatron], group: int) -> tuple[list[Step], list[str]]:
        """The steps that bring patrons into a group, and who is in it already."""
        steps, unchanged = [], []
        for entry in found:
            if entry.person.group == group:
                unchanged.append(f"{entry.person.name} is already in group {group}")
            else:
                steps.append(Step(entry.person, GROUP, group))
        return steps, unchanged

    def remove(self, barcodes: Sequence[str], *, lead: bool = False) -> Draft:
        """Plan to give each patron a new group of their own, as its lead only where ``lead`` says so."""
        found = self.find(barcodes)
        return self.draft(Action.REMOVE, *self.removals(found, lead=lead), cards=found)

    def removals(self, found: Sequence[FoundPatron], *, lead: bool = False) -> tuple[list[Step], list[str]]:
        """The steps that give patrons groups of their own, and who is alone already."""
        groups = self._reader.groups({entry.person.group for entry in found})
        steps, unchanged = [], []
        for entry in found:
            person = entry.person
            if groups[person.group].size == 1:
                unchanged.append(f"{person.name} is already alone in group {person.group}")
            else:
                steps.append(Step(person, GROUP, None))
            if lead and not person.group_lead:
                steps.append(Step(person, LEAD, 1))
        return steps, unchanged

    def merge(self, source: str, to: str) -> Draft:
        """Plan to move everyone in the group of one patron into the group of another."""
        source_card, target = self.find([source])[0], self.find([to])[0]
        steps, unchanged = self.merging(source_card, target)
        return self.draft(Action.MERGE, steps, unchanged, cards=[source_card, target])

    def merging(self, source: FoundPatron, target: FoundPatron) -> tuple[list[Step], list[str]]:
        """The steps that bring a whole group into another.

        Raises:
            PlanError: the group has members whom the account can't see, so not everyone could be moved.
        """
        number = source.person.group
        if number == target.person.group:
            return [], [f"they are already in the same group, {number}"]
        group = self._reader.groups([number])[number]
        if group.hidden_ids:
            raise PlanError(
                "group {group} has members that the account can't see ({count}); merging would leave them behind",
                advice="move the others by barcode, or use an account that sees them",
                code="merging-hidden-members",
                values={"group": number, "count": len(group.hidden_ids)},
            )
        return [Step(member, GROUP, target.person.group) for member in group.members], []

    def lead(self, barcode: str, *, off: bool = False) -> Draft:
        """Plan to make a patron group lead, or no longer."""
        found = self.find([barcode])
        return self.draft(Action.LEAD, *self.leads(found[0], on=not off), cards=found)

    def leads(self, found: FoundPatron, *, on: bool) -> tuple[list[Step], list[str]]:
        """The step that sets or clears the mark of a group lead, and who has it so already."""
        person = found.person
        if person.group_lead == on:
            return [], [f"{person.name} is {'already' if on else 'not'} a group lead"]
        return [Step(person, LEAD, int(on))], []

    def undo(self, entry: JournalEntry) -> Draft:
        """Plan to put back those who are still where a journal entry put them, and say who isn't and why.

        Raises:
            PlanError: the entry is a recalculation of penalties.
        """
        if any(step.field == PENALTIES for step in entry.steps):
            raise PlanError(
                "a recalculation can't be taken back: the ILS decides which penalties there are",
                code="recalculation-final",
            )
        people = self._as_written(self._reader.by_ids({step.patron for step in entry.steps}))
        steps, unchanged = [], []
        for step in reversed(entry.steps):
            person = people.get(step.patron)
            if step.state is not StepState.DONE:
                state = "isn't known to be done" if step.state is StepState.SENDING else f"was {step.state.value}"
                unchanged.append(f"patron {step.patron}: that change {state}")
                continue
            if person is None:
                unchanged.append(f"patron {step.patron} can't be seen by the account any more")
                continue
            now = person.group if step.field == GROUP else int(person.group_lead)
            if now != step.value:
                what = f"in group {now}" if step.field == GROUP else ("a group lead" if now else "no group lead")
                unchanged.append(f"{person.name} has been changed since and is now {what}")
            elif now != step.before:
                steps.append(Step(person, step.field, step.before))
        return self.draft(Action.UNDO, steps, unchanged)

    def _as_written(self, people: Mapping[int, Person]) -> dict[int, Person]:
        """Patrons with the group and the mark as lead that they have where changes are written.

        Where plain reads go to a copy of the database, it may not know yet what is to be taken back.
        """
        found = {}
        for id, record in zip(people, self._gateway.map(partial(read_patron, self._gateway), people), strict=True):
            if record is not None:
                lead = bool(record.master_account)
                found[id] = replace(people[id], group=int(record.usrgroup), group_lead=lead)
        return found

    def draft(
        self, action: Action, steps: Sequence[Step], unchanged: Sequence[str] = (), *, cards: Iterable[FoundPatron] = ()
    ) -> Draft:
        """Put a plan together: the groups before and after, and the warnings."""
        moves = [step for step in steps if step.field == GROUP]
        numbers = {step.person.group for step in moves} | {step.after for step in moves if step.after is not None}
        groups = self._reader.groups(numbers)
        people = {step.person.id for step in moves} | {m.id for group in groups.values() for m in group.members}
        addresses = self._reader.addresses(people) if any(step.after is not None for step in moves) else {}
        warnings = [
            PlanWarning("card-not-active", {"name": card.person.name}) for card in cards if not card.card_active
        ]
        warnings.extend(warnings_about(steps, groups, addresses))
        # The same is said once, whatever number of steps it is true of.
        once = {(warning.code, *warning.values.items()): warning for warning in warnings}
        return Draft(action, tuple(steps), group_changes(steps, groups), tuple(once.values()), tuple(unchanged))
