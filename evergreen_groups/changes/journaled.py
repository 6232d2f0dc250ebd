"""A run of changes at one gateway: under its lock, through its journal, one step after another."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from evergreen_groups.changes.recovery import STOPPING, recover, sent_change
from evergreen_groups.changes.step_reason import NO_REASON, StepReason
from evergreen_groups.errors import BusyError
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.journal_step import FieldChange, JournalStep, Operator, Refusal, Sending, StepState
    from evergreen_groups.changes.landing import SentChange
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State, Transactions

_CHANGING = Message("changing")


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step as it is written down before anything is sent: see :class:`JournalStep`."""

    patron_id: int
    field: str
    before: int
    after: int | None


class StepResult(Protocol):
    """What became of a step; ``error`` is what ended it, where something did."""

    @property
    def error(self) -> EvergreenGroupsError | None: ...


Result = TypeVar("Result", bound=StepResult)


class JournaledStep:
    """A step that stands in the journal, for whoever applies it."""

    def __init__(self, journal: Journal, id: int) -> None:
        self._journal = journal
        self._id = id

    def now(self) -> datetime:
        """As :meth:`Transactions.now`."""
        return self._journal.now()

    def record_sending(self, sending: Sending) -> None:
        """Write down that a request goes out now."""
        self._journal.record_sending(self._id, sending)

    def record(
        self,
        state: StepState,
        *,
        value: int | None = None,
        reason: StepReason = NO_REASON,
        refusal: Refusal | None = None,
    ) -> None:
        """Write down how far it is; that is on disk when this returns."""
        self._journal.record(self._id, state, value=value, reason=reason, refusal=refusal)


class JournaledChanges:
    """The changes that are sent to one gateway, with the journal in ``state``; ``operator`` is who has them made."""

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._state = state
        self._operator = operator

    def recover(self, patrons: Collection[int] | None = None) -> list[JournalStep]:
        """Find out what became of steps that were being sent when an earlier run ended; gives those steps.

        Of these patrons (ids), or of everybody. Those whom somebody is changing now are left to that run.
        """
        open_steps = _journal(self._state.database).open_steps(self._gateway.url, patrons)
        ended: list[JournalStep] = []
        for patron in sorted({step.patron for step in open_steps}):
            with suppress(BusyError), self._opened([patron], (), 0.0) as journal:
                ended += recover(self._gateway, journal, [patron])
        return ended

    def is_under_way(self, patrons: Collection[int]) -> bool:
        """Whether somebody is changing one of these patrons (ids) now."""
        return self._state.is_changing(self._gateway.url, patrons)

    def wait(self, patrons: Collection[int], timeout: float) -> None:
        """Wait until nobody is changing these patrons (ids) any more, ``timeout`` seconds at most."""
        with suppress(BusyError), self._opened(patrons, (), timeout):
            pass

    def open_changes(self, journal: Journal, patrons: Collection[int]) -> list[SentChange]:
        """The requests for these patrons that may still come in, or whose outcome nobody could look up yet."""
        return [sent_change(journal, step) for step in journal.open_steps(self._gateway.url, patrons)]

    @contextmanager
    def begin(self, patrons: Collection[int], groups: Collection[int] = (), timeout: float = 0.0) -> Iterator[Journal]:
        """Hold the lease for these patrons and groups, ``timeout`` seconds at most waited for, with nothing that could
        be looked up left open before.

        Raises:
            BusyError: another run is changing one of them.
            TransportError: what an interrupted run left open can't be looked up.
        """
        with self._opened(patrons, groups, timeout) as journal:
            recover(self._gateway, journal, set(patrons))
            yield journal

    def apply(
        self,
        journal: Journal,
        action: str,
        steps: Sequence[FieldChange],
        apply_step: Callable[[int, JournaledStep], Result],
        *,
        undoes: str | None = None,
        also: Callable[[Connection, str], None] | None = None,
        doing: str = _CHANGING,
        progress: Progress = silent,
    ) -> tuple[list[Result], GatewayError | None]:
        """Write the steps down, apply one after another, and give what became of them and the error that ended it.

        ``apply_step`` gets a step's position among ``steps``, and records its outcome itself. What comes after the
        error isn't begun, and isn't among the results. ``also`` is as for :meth:`Journal.begin`.
        """
        ids = journal.begin(self._gateway.url, self._operator, action, steps, undoes, also)
        results: list[Result] = []
        for position, step_id in enumerate(ids):
            results.append(apply_step(position, JournaledStep(journal, step_id)))
            progress(doing, len(results), len(ids))
            error = results[-1].error
            if isinstance(error, STOPPING):
                return results, error
        return results, None

    @contextmanager
    def _opened(self, patrons: Collection[int], groups: Collection[int], timeout: float) -> Iterator[Journal]:
        with self._state.changing(self._gateway.url, patrons, groups, timeout) as lease:
            yield _journal(lease)


def _journal(transactions: Transactions) -> Journal:
    from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

    return Journal(transactions)
