"""How a run with faults ended, and what may be wrong with that."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from faults.world import Ran

from evergreen_groups import exit_status

ERRORS = frozenset(exit_status.MEANINGS) - {
    exit_status.DONE,
    exit_status.USAGE,
    exit_status.CONFIGURATION,
    exit_status.BLOCKED,
    exit_status.STALE,
    exit_status.UNWELL,
    exit_status.BUSY,
    exit_status.INTERRUPTED,
    exit_status.TERMINATED,
}
"""The exit statuses that a run with faults may end with, where it doesn't end as it should without."""

SLOW = 20.0
"""Seconds after which a run is taken for one that hangs: less than its gateway waits for an answer."""


class Ending(Enum):
    """What a run comes to."""

    RIGHT = "right"
    ERROR = "an error, as it should be"
    WRONG_NUMBER = "wrong number"
    WRITE = "double or foreign write"
    UNTRUE = "untrue journal"
    TRACEBACK = "traceback"
    BAD_ERROR = "an error not as documented"
    NOT_REPEATED = "not tried again"
    SLOW = "hangs"

    @property
    def is_well(self) -> bool:
        """Whether it's one of those that may be."""
        return self in (Ending.RIGHT, Ending.ERROR)


@dataclass
class Judgement:
    """What was found about one run; the worst counts."""

    found: list[tuple[Ending, str]] = field(default_factory=list)

    def add(self, ending: Ending, detail: str = "") -> None:
        """Note something."""
        self.found.append((ending, detail))

    @property
    def ending(self) -> Ending:
        """The worst."""
        order = list(Ending)
        bad = [ending for ending, _ in self.found if not ending.is_well]
        if bad:
            return min(bad, key=order.index)
        return Ending.ERROR if any(ending is Ending.ERROR for ending, _ in self.found) else Ending.RIGHT

    @property
    def detail(self) -> str:
        """What there is to say about what isn't well."""
        return "\n".join(f"{ending.value}: {detail}" for ending, detail in self.found if not ending.is_well)


def judge_form(ran: Ran, judgement: Judgement, *, endings: frozenset[int], talks: bool = False) -> None:
    """Whether a command ended in a form that is documented: no traceback, one line for an error, in time.

    ``endings`` are the exit statuses that are none of an error. A command that ``talks`` shows on standard error what
    it is about to do.
    """
    if ran.escaped:
        judgement.add(Ending.TRACEBACK, ran.escaped[-1500:])
        return
    if "Traceback (most recent call last)" in ran.errors + ran.output:
        judgement.add(Ending.TRACEBACK, ran.errors[-1500:])
    if ran.seconds > SLOW:
        judgement.add(Ending.SLOW, f"{ran.seconds:.1f} s")
    lines = ran.errors.splitlines()
    strange = [line for line in lines if not line.startswith(("evergreen-groups: ", "WARNING ", "ERROR "))]
    if strange and not talks:
        judgement.add(Ending.BAD_ERROR, f"on standard error: {strange[:3]}")
    if ran.status in endings:
        return
    if ran.status not in ERRORS:
        judgement.add(Ending.BAD_ERROR, f"exit status {ran.status}: {ran.errors[-300:]}")
    elif not ran.errors.strip() and not ran.output.strip():
        judgement.add(Ending.BAD_ERROR, f"exit status {ran.status} without a word")
    else:
        judgement.add(Ending.ERROR, ran.errors)
