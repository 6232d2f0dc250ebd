"""Look up the changes in the journal of one gateway, reduced to what the caller may see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.journal import Journal, JournalEntry, JournalStep, Operator, StepState
from evergreen_groups.changes.outcome_check import recover_left_open
from evergreen_groups.errors import BusyError, NotFoundError

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.state import State

RECENT = timedelta(days=7)
"""How far back the list of a user's own changes goes."""

MAX_GROUP_CHANGES = 50
"""How many changes the history of a group lists."""

Visible = Callable[[Collection[int]], Collection[int]]
"""A function from patron ids to the subset that the session may see."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change, reduced to what the caller may see.

    ``is_under_way`` means that the change is being applied now. In a change that isn't, a planned step never started,
    and a step in state ``SENDING`` has an unknown outcome. ``hidden_step_count`` counts the steps for patrons whom the
    caller can't see. ``is_own`` says whether the caller made the change.
    """

    __repr__ = arguments.brief

    entry: JournalEntry
    is_under_way: bool
    is_own: bool
    hidden_step_count: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: every step is done or had nothing to change."""
        return not self.hidden_step_count and all(step.state.is_as_planned for step in self.entry.steps)


def visible_patrons(gateway: Gateway, patrons: Collection[int]) -> set[int]:
    """Return the patrons (ids) whom the session may see."""
    return {id for (id,) in gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons))}


def _no_such_change(id: str) -> NotFoundError:
    return NotFoundError("there is no change {change}", code="no-such-change", values={"change": id})


@dataclass
class ChangeReader:
    """Reads changes for the ``operator``, and resolves the open steps of those that it reads."""

    gateway: Gateway
    state: State
    operator: Operator
    reference: ReferenceData
    _: KW_ONLY
    may_undo_others: Callable[[], bool] = lambda: False

    @property
    def _journal(self) -> Journal:
        return Journal(self.state.database)

    @cached_property
    def _known_operator(self) -> Operator:
        """The operator with the id of their staff account, which a program may not have given."""
        if self.operator.staff is not None:
            return self.operator
        return replace(self.operator, staff=self.reference.user(self.gateway))

    def recover(self) -> list[JournalStep]:
        """Resolve steps that earlier runs left open, by reading only, and return the resolved steps.

        Steps that may still reach Evergreen, or whose patrons are hidden, stay open. See :meth:`open_steps`.
        """
        return recover_left_open(self.gateway, self.state)

    def open_steps(self) -> list[JournalStep]:
        """Return steps with an unknown outcome: they may still reach Evergreen, or the patron was hidden so far."""
        return self._journal.open_steps(self.gateway.url)

    def entries(self) -> list[JournalEntry]:
        """Return this gateway's journal entries, latest first."""
        return self._journal.entries(self.gateway.url)

    def entry(self, id: str) -> JournalEntry:
        """Return a journal entry of this gateway with all its steps."""
        # Same error as for a change with hidden patrons, so a caller can't find out which change ids exist.
        with suppress(NotFoundError):
            entry = self._journal.entry(id)
            if entry.gateway == self.gateway.url:
                return entry
        raise _no_such_change(id)

    def change(self, id: str, visible: Visible | None = None) -> Change:
        """Return a change, after resolving open steps where possible.

        ``visible``, here and below, maps patron ids to those the session may see. Pass it if they are known already;
        the default makes one call. Raises NotFoundError if the id is unknown, or the caller can see none of its
        patrons.
        """
        entry = self.entry(arguments.text("id", id))
        open_ones = {step.patron for step in entry.steps if step.state is StepState.SENDING}
        if open_ones:
            recover_left_open(self.gateway, self.state, open_ones)
            entry = self.entry(id)
        for seen in self._visible_changes([entry], visible):
            return seen
        raise _no_such_change(id)

    def own(self, id: str) -> Change:
        """Return one of the caller's own changes as the journal has it, without any call to Evergreen."""
        entry = self.entry(arguments.text("id", id))
        if not self._is_own(entry):
            raise _no_such_change(id)
        return self._change(entry)

    def recent(self, visible: Visible | None = None) -> list[Change]:
        """Return the caller's own changes of the last days, latest first."""
        since = self._journal.now() - RECENT
        entries = self._journal.entries_of(self.gateway.url, self._known_operator.staff or 0, since)
        return self._visible_changes(entries, visible)

    def of_group(self, group: int, members: Collection[int] = (), visible: Visible | None = None) -> list[Change]:
        """Return the latest changes to a group and its ``members`` (ids), latest first."""
        entries = self._journal.entries_about(self.gateway.url, group, members, MAX_GROUP_CHANGES)
        return self._visible_changes(entries, visible)

    def is_latest(self, entry: JournalEntry) -> bool:
        """Return whether no later change has changed, or may have changed, the same fields of the same patrons."""
        return self._journal.changed_since(entry).isdisjoint((step.patron, step.field) for step in entry.steps)

    def may_undo(self, change: Change) -> bool:
        """Return whether the operator may undo a change now. Asks Evergreen if another user made the change."""
        return not change.is_under_way and (change.is_own or self.may_undo_others())

    def wait(self, id: str, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until a change is no longer being applied."""
        undecided = self.entry(id).undecided
        if undecided:
            with suppress(BusyError), self.state.change_lease(self.gateway.url, undecided, timeout=timeout):
                pass

    def _is_own(self, entry: JournalEntry) -> bool:
        return entry.operator.staff == self._known_operator.staff

    def _visible_changes(self, entries: Sequence[JournalEntry], visible_of: Visible | None) -> list[Change]:
        """Return the entries as changes, without hidden patrons' steps and without entries that have no other steps."""
        patrons = {step.patron for entry in entries for step in entry.steps}
        visible = visible_patrons(self.gateway, patrons) if visible_of is None else visible_of(patrons)
        shown = [entry for entry in entries if any(step.patron in visible for step in entry.steps)]
        return [self._change(entry, visible) for entry in shown]

    def _change(self, entry: JournalEntry, visible: Collection[int] | None = None) -> Change:
        """Return an entry as a change, with all steps or only those of ``visible`` patrons (ids)."""
        undecided = entry.undecided
        is_under_way = bool(undecided) and self.state.is_being_changed(self.gateway.url, undecided)
        if undecided and not is_under_way:
            # The run may have ended after the entry was read. Read again to get all outcomes.
            entry = self.entry(entry.id)
        steps = tuple(step for step in entry.steps if visible is None or step.patron in visible)
        hidden = len(entry.steps) - len(steps)
        return Change(replace(entry, steps=steps), is_under_way, self._is_own(entry), hidden)
