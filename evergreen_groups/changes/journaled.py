"""A run of changes at one gateway: under its lock, through its journal, one step after another."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from evergreen_groups.changes.recovery import STOPPING, recover, sent_change
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.journal_step import JournalStep, Sending, StepState
    from evergreen_groups.changes.landing import SentChange
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State, Transactions


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step as it is written down before anything is sent: see :class:`JournalStep`."""

    patron: int
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

    def record_sending(self, sending: Sending) -> None:
        """Write down that a request goes out now."""
        self._journal.record_sending(self._id, sending)

    def record(self, state: StepState, *, value: int | None = None, reason: str = "") -> None:
        """Write down how far it is; that is on disk when this returns."""
        self._journal.record(self._id, state, value=value, reason=reason)


class JournaledChanges:
    """The changes that are sent to one gateway, with the journal in ``state``.

    ``account`` is the name of the ILS account that acts; it is written into the journal.
    """

    def __init__(self, gateway: Gateway, state: State, account: str) -> None:
        self._gateway = gateway
        self._state = state
        self._account = account

    def recover(self) -> list[JournalStep]:
        """Find out what became of steps that were being sent when an earlier run ended; gives those steps."""
        with self._opened(0.0) as journal:
            return recover(self._gateway, journal)

    def open_changes(self, journal: Journal) -> list[SentChange]:
        """The requests that may still come in, or are about patrons whom nobody has looked at yet."""
        return [sent_change(journal, step) for step in journal.open_steps(self._gateway.url)]

    @contextmanager
    def begin(self, timeout: float = 0.0) -> Iterator[Journal]:
        """Hold the gateway's lock for a run, ``timeout`` seconds at most waited for, with nothing left open before.

        Raises:
            BusyError: another run is changing something at the same gateway.
            TransportError: what an interrupted run left open can't be looked up.
        """
        with self._opened(timeout) as journal:
            recover(self._gateway, journal)
            yield journal

    def apply(
        self,
        journal: Journal,
        action: str,
        steps: Sequence[NewStep],
        apply_step: Callable[[int, JournaledStep], Result],
        *,
        undoes: int | None = None,
        doing: str = "changing",
        progress: Progress = silent,
    ) -> tuple[list[Result], GatewayError | None]:
        """Write the steps down, apply one after another, and give what became of them and the error that ended it.

        ``apply_step`` gets a step's position among ``steps``, and records its outcome itself. What comes after the
        error isn't begun, and isn't among the results.
        """
        rows = [(step.patron, step.field, step.before, step.after) for step in steps]
        ids = journal.begin(self._gateway.url, self._account, action, rows, undoes)
        results: list[Result] = []
        for position, step_id in enumerate(ids):
            results.append(apply_step(position, JournaledStep(journal, step_id)))
            progress(doing, len(results), len(ids))
            error = results[-1].error
            if isinstance(error, STOPPING):
                return results, error
        return results, None

    @contextmanager
    def _opened(self, timeout: float) -> Iterator[Journal]:
        with self._state.changing(self._gateway.url, timeout) as lease:
            yield _journal(lease)


def _journal(transactions: Transactions) -> Journal:
    from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

    return Journal(transactions)
