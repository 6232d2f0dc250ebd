"""What a plan is made from: those whom somebody named, and everybody in their groups, as the ILS has them now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.plan_warnings import PlanEvidence, warnings_about, warnings_about_leads
from evergreen_groups.changes.plans import (
    GROUP,
    LEAD,
    Action,
    Draft,
    PlanWarning,
    Step,
    group_changes,
)
from evergreen_groups.errors import PlanError
from evergreen_groups.groups import AdultRule, Relations
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from evergreen_groups.groups import Card, Group, PatronAccount, PatronReference, Surroundings


class PlanBasis:
    """What plans are made from; nothing more is asked of the ILS for them.

    ``adults`` says how many of them may come together before it is warned of.
    """

    def __init__(self, surroundings: Surroundings, adults: AdultRule | None = None) -> None:
        self._surroundings = surroundings
        self._adults = adults or AdultRule()

    @property
    def groups(self) -> Mapping[int, Group]:
        """The groups of all who were named, by number."""
        return self._surroundings.membership.groups

    @property
    def accounts(self) -> Mapping[int, PatronAccount]:
        """The accounts of everybody in them, by patron's id."""
        return self._surroundings.membership.accounts

    @property
    def own_fines(self) -> Mapping[int, Decimal]:
        """What those of them owe who have an open transaction."""
        return self._surroundings.membership.own_fines

    @property
    def cards(self) -> Mapping[PatronReference, Card]:
        """Those who were named and are visible, by how they were."""
        return self._surroundings.cards

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
        members = self._surroundings.membership.members
        relations = Relations((member.patron for member in members.values()), self._surroundings.contacts)
        return PlanEvidence(groups, members, self.accounts, relations, self._adults)


def _positions(given: Sequence[PatronReference], is_meant: Callable[[PatronReference], bool]) -> str:
    return ", ".join(str(position) for position, named in enumerate(given, 1) if is_meant(named))


def _about(text: Message, card: Card, **values: object) -> Message:
    return Message(text, values={**values, "name": card.member.name})
