"""Changes as they are looked at afterwards: by whoever may see the patrons, with what became of each step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.journal_step import JournalEntry, Operator, StepState
from evergreen_groups.changes.journaled import JournaledChanges
from evergreen_groups.errors import NotFoundError

if TYPE_CHECKING:
    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

RECENT = timedelta(days=7)
"""How far back somebody's own changes are listed."""

MOST_OF_A_GROUP = 50
"""How many changes of a group's past are listed."""

Visible = Callable[[Collection[int]], Collection[int]]
"""Gives those of some patrons (ids) whom the session may see."""

_UNDECIDED = (StepState.PLANNED, StepState.SENDING)


@dataclass(frozen=True, slots=True)
class Change:
    """A change as far as the caller may see it.

    ``is_under_way`` says that it is being applied now; else a step that is planned was never begun, and what became of
    one that is being sent isn't known yet. ``hidden_step_count`` is how many steps are about patrons whom the caller
    can't see, ``is_own`` whether the caller made it.
    """

    entry: JournalEntry
    is_under_way: bool
    is_own: bool
    hidden_step_count: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: every step of it was done, or had nothing to change."""
        return not self.hidden_step_count and all(step.state.is_as_planned for step in self.entry.steps)


class ChangeReader:
    """Reads changes at one gateway from the journal in ``state``, for ``operator``, whose ``staff`` is known."""

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._state = state
        self._operator = operator

    def change(self, id: str, visible: Visible | None = None) -> Change:
        """A change, with what became of it as far as that can be found out now.

        ``visible``, here and below, gives those of some patrons whom the session may see, for whoever knows; else it
        is one call.

        Raises:
            NotFoundError: there is none, or the caller sees none of its patrons.
        """
        entry = self._looked_up(self.entry(arguments.text("id", id)))
        (seen,) = self._as_seen([entry], visible) or (None,)
        if seen is None:
            raise _no_such_change(id)
        return seen

    def own(self, id: str) -> Change:
        """A change of the caller's own, as it was when it was made: nothing is asked of the ILS.

        Raises:
            NotFoundError: there is none, or it is somebody else's.
        """
        entry = self.entry(arguments.text("id", id))
        if entry.operator.staff != self._operator.staff:
            raise _no_such_change(id)
        entry, is_under_way = self._course_of(entry)
        return Change(entry, is_under_way=is_under_way, is_own=True)

    def wait(self, id: str, timeout: float) -> None:
        """Wait until a change isn't being made any more, ``timeout`` seconds at most.

        Raises:
            NotFoundError: there is none.
        """
        undecided = {step.patron for step in self.entry(id).steps if step.state in _UNDECIDED}
        if undecided:
            JournaledChanges(self._gateway, self._state, self._operator).wait(undecided, timeout)

    def recent(self, visible: Visible | None = None) -> list[Change]:
        """The caller's own changes of the last days, the latest first."""
        journal = self._journal()
        entries = journal.entries_of(self._gateway.url, self._operator.staff or 0, journal.now() - RECENT)
        return self._as_seen(entries, visible)

    def of_group(self, group: int, visible: Visible | None = None) -> list[Change]:
        """What is known of a group's past, the latest first."""
        return self._as_seen(self._journal().entries_about(self._gateway.url, group, MOST_OF_A_GROUP), visible)

    def entry(self, id: str) -> JournalEntry:
        """The journal's entry of this gateway, with all its steps.

        Raises:
            NotFoundError: there is none.
        """
        try:
            entry = self._journal().entry(id)
        except NotFoundError:
            # In the words that are said of one whose patrons are hidden: which it is, is nobody's business.
            raise _no_such_change(id) from None
        if entry.gateway != self._gateway.url:
            raise _no_such_change(id)
        return entry

    def moved_since(self, entry: JournalEntry) -> frozenset[int]:
        """Return the ids of those of an entry's patrons whom later entries move."""
        return self._journal().moved_since(entry)

    def _looked_up(self, entry: JournalEntry) -> JournalEntry:
        """An entry after a look at what became of the steps whose outcome isn't known, where nobody is at them."""
        open_ones = {step.patron for step in entry.steps if step.state is StepState.SENDING}
        if not open_ones:
            return entry
        JournaledChanges(self._gateway, self._state, self._operator).recover(open_ones)
        return self.entry(entry.id)

    def _as_seen(self, entries: Sequence[JournalEntry], visible_of: Visible | None) -> list[Change]:
        """Entries without the steps of patrons whom the caller can't see; those without any step are left out."""
        visible = (visible_of or self._visible)({step.patron for entry in entries for step in entry.steps})
        found = []
        for read in entries:
            if not any(step.patron in visible for step in read.steps):
                continue
            entry, is_under_way = self._course_of(read)
            steps = tuple(step for step in entry.steps if step.patron in visible)
            found.append(
                Change(
                    replace(entry, steps=steps),
                    is_under_way=is_under_way,
                    is_own=entry.operator.staff == self._operator.staff,
                    hidden_step_count=len(entry.steps) - len(steps),
                )
            )
        return found

    def _course_of(self, entry: JournalEntry) -> tuple[JournalEntry, bool]:
        """An entry, and whether it is being applied now; where it isn't, with what has become of it."""
        undecided = {step.patron for step in entry.steps if step.state in _UNDECIDED}
        if not undecided:
            return entry, False
        if JournaledChanges(self._gateway, self._state, self._operator).is_under_way(undecided):
            return entry, True
        # Whoever was at it may have ended after it was read: then that reading is of the middle.
        return self.entry(entry.id), False

    def _visible(self, patrons: Collection[int]) -> set[int]:
        """Those of the patrons (ids) whom the session may see."""
        found = self._gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons))
        return {id for batch in found for (id,) in batch}

    def _journal(self) -> Journal:
        from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

        return Journal(self._state.database)


def _no_such_change(id: str) -> NotFoundError:
    return NotFoundError("there is no change {change}", code="no-such-change", values={"change": id})
