"""What a run of the report takes from whoever starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.nightly.output import Rendered
    from evergreen_groups.progress import Progress
    from evergreen_groups.settings import Settings
    from evergreen_groups.state import State


class ReportEnvironment(Protocol):
    """The settings, the places, and the lines for people; the command line's invocation is one."""

    @property
    def settings(self) -> Settings:
        """The settings, read when they are first needed."""

    @property
    def quiet(self) -> bool:
        """Whether nobody wants to know more than errors."""

    def gateway(self) -> AbstractContextManager[Gateway]:
        """A gateway that is logged out and closed at the end."""

    def state(self) -> AbstractContextManager[State]:
        """Where the history, the outbox and the status are."""

    def progress(self, doing: str) -> AbstractContextManager[Progress]:
        """Shows how far the run is; ``doing`` stands there until it reports more."""

    def width(self) -> int:
        """How many columns a table may take."""

    def write(self, rendered: Rendered) -> None:
        """Write a report to standard output."""

    def emit(self, message: str, *, error: bool = False) -> None:
        """Write a line for people on standard error."""

    def summarise(self, message: str) -> None:
        """Write a line about what was written and sent, for whoever sits at a terminal."""

    def line(self, message: str, *, error: bool = False) -> str:
        """The line that :meth:`emit` writes, without writing it."""
