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
from evergreen_groups.errors import PlanError, not_visible
from evergreen_groups.groups import Card, MembershipReader

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Member


class Planner:
    """Makes plans out of the state that the ILS has now; sends nothing that changes anything."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader = MembershipReader(gateway)

    def find(self, barcodes: Sequence[str]) -> list[Card]:
        """Look up patrons by card.

        Raises:
            PlanError: a barcode is unknown, or its patron hidden from the account, or two name the same patron.
        """
        found = self.cards(barcodes)
        missing = [position for position, barcode in enumerate(barcodes, 1) if barcode not in found]
        if missing:
            numbers = ", ".join(f"number {position}" for position in missing)
            raise PlanError(
                "no visible patron has this barcode: {numbers} of {count} given",
                advice="check the digits, and that the account has VIEW_USER at the patron's home library",
                code="barcodes-unknown",
                values={"numbers": numbers, "count": len(barcodes)},
            )
        patrons = [found[barcode].member.id for barcode in barcodes]
        if len(set(patrons)) < len(patrons):
            raise PlanError(
                "two of the barcodes belong to the same patron", advice="name each patron once", code="patron-twice"
            )
        return [found[barcode] for barcode in barcodes]

    def cards(self, barcodes: Sequence[str]) -> dict[str, Card]:
        """Look up patrons by card; barcodes of no visible patron are left out."""
        return self._reader.by_barcodes(barcodes)

    def move(self, barcodes: Sequence[str], to: str) -> Draft:
        """Plan to move patrons into the group of the patron with barcode ``to``."""
        # A group is only ever named by somebody who is in it: the ILS takes any number for one (patron-update-odd-002,
        # patron-update-odd-010) and makes 0 of "abc" (patron-update-odd-008).
        target = self.find([to])[0]
        found = self.find(barcodes)
        return self.draft(Action.MOVE, *self.moves(found, target.member.patron.group), cards=[*found, target])

    def moves(self, found: Iterable[Card], group: int) -> tuple[list[Step], list[str]]:
        """The steps that bring patrons into a group, and who is in it already."""
        steps, unchanged = [], []
        for entry in found:
            if entry.member.patron.group == group:
                unchanged.append(f"{entry.member.name} is already in group {group}")
            else:
                steps.append(Step(entry.member, GROUP, group, entry.account))
        return steps, unchanged

    def remove(self, barcodes: Sequence[str], *, lead: bool = False) -> Draft:
        """Plan to give each patron a new group of their own, as its lead only where ``lead`` says so."""
        found = self.find(barcodes)
        return self.draft(Action.REMOVE, *self.removals(found, lead=lead), cards=found)

    def removals(self, found: Sequence[Card], *, lead: bool = False) -> tuple[list[Step], list[str]]:
        """The steps that give patrons groups of their own, and who is alone already."""
        groups = self._reader.by_groups({entry.member.patron.group for entry in found}).groups
        steps, unchanged = [], []
        for entry in found:
            member, number = entry.member, entry.member.patron.group
            if groups[number].member_count == 1:
                unchanged.append(f"{member.name} is already alone in group {number}")
            else:
                steps.append(Step(member, GROUP, None, entry.account))
            # Only where it was asked for: usergroup.new makes a lead by any true value (usergroup-new-006), and never
            # takes the mark off again (usergroup-new-005).
            if lead and not member.group_lead:
                steps.append(Step(member, LEAD, 1, entry.account))
        return steps, unchanged

    def merge(self, source: str, to: str) -> Draft:
        """Plan to move everyone in the group of one patron into the group of another."""
        source_card, target = self.find([source])[0], self.find([to])[0]
        steps, unchanged = self.merging(source_card, target)
        return self.draft(Action.MERGE, steps, unchanged, cards=[source_card, target])

    def merging(self, source: Card, target: Card) -> tuple[list[Step], list[str]]:
        """The steps that bring a whole group into another.

        Raises:
            PlanError: the group has members whom the account can't see, so not everyone could be moved.
        """
        number = source.member.patron.group
        if number == target.member.patron.group:
            return [], [f"they are already in the same group, {number}"]
        read = self._reader.by_groups([number])
        group = read.groups[number]
        if not group.complete:
            raise PlanError(
                "group {group} has members that the account can't see ({count}); merging would leave them behind",
                advice="move the others by barcode, or use an account that sees them",
                code="merging-hidden-members",
                values={"group": number, "count": group.hidden_member_count},
            )
        to = target.member.patron.group
        others = [member for member in group.members if member.id != source.member.id]
        steps = [Step(member, GROUP, to, read.accounts[member.id]) for member in others]
        # The group is known by this patron alone: moved before the others, the same command would find nothing to do.
        named = [member for member in group.members if member.id == source.member.id]
        return [*steps, *(Step(member, GROUP, to, read.accounts[member.id], last=True) for member in named)], []

    def lead(self, barcode: str, *, off: bool = False) -> Draft:
        """Plan to make a patron group lead, or no longer."""
        found = self.find([barcode])
        return self.draft(Action.LEAD, *self.leads(found[0], on=not off), cards=found)

    def leads(self, found: Card, *, on: bool) -> tuple[list[Step], list[str]]:
        """The step that sets or clears the mark of a group lead, and who has it so already."""
        member = found.member
        if member.group_lead == on:
            return [], [f"{member.name} is {'already' if on else 'not'} a group lead"]
        return [Step(member, LEAD, int(on), found.account)], []

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
        read = self._reader.by_ids({step.patron for step in entry.steps})
        members = self._as_written(read.members)
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
                steps.append(Step(member, step.field, step.before, read.accounts[member.id]))
        return self.draft(Action.UNDO, steps, unchanged)

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

    def draft(
        self, action: Action, steps: Sequence[Step], unchanged: Sequence[str] = (), *, cards: Iterable[Card] = ()
    ) -> Draft:
        """Put a plan together: the groups before and after, and the warnings."""
        moves = [step for step in steps if step.field == GROUP]
        left = {step.member.patron.group for step in moves}
        joined = {step.after for step in moves if step.after is not None}
        groups = self._reader.by_groups(left | joined).groups
        patrons = {step.member.id for step in moves} | {m.id for group in groups.values() for m in group.members}
        # Nobody is a stranger in a group of their own.
        addresses = self._reader.addresses(patrons) if any(step.after is not None for step in moves) else {}
        warnings = [PlanWarning("card-not-active", {"name": card.member.name}) for card in cards if not card.active]
        warnings.extend(warnings_about(steps, groups, addresses))
        # The same is said once, whatever number of steps it is true of.
        once = {(warning.code, *warning.values.items()): warning for warning in warnings}
        return Draft(action, tuple(steps), group_changes(steps, groups), tuple(once.values()), tuple(unchanged))
