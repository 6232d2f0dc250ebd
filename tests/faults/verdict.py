"""How a run with faults ended, and what may be wrong."""

from dataclasses import dataclass, field
from enum import Enum

from faults.world import CommandResult

from evergreen_groups import exit_status

ERRORS = frozenset(
    {
        *(exit_status.FAILED, exit_status.UNREACHABLE, exit_status.LOGIN, exit_status.PERMISSION),
        *(exit_status.INCOMPLETE, exit_status.UNSENT, exit_status.DEADLINE, exit_status.UNTRUSTED),
    }
)
"""Exit statuses allowed for a run with faults that doesn't succeed."""

SLOW = 20.0
"""Seconds after which a run counts as hanging: less than the timeout of its gateway."""


class Ending(Enum):
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
        return self in (Ending.RIGHT, Ending.ERROR)


@dataclass
class Judgement:
    """All findings about one run; the worst counts."""

    found: list[tuple[Ending, str]] = field(default_factory=list)

    def add(self, ending: Ending, detail: str = "") -> None:
        self.found.append((ending, detail))

    @property
    def ending(self) -> Ending:
        order = list(Ending)
        bad = [ending for ending, _ in self.found if not ending.is_well]
        if bad:
            return min(bad, key=order.index)
        return Ending.ERROR if any(ending is Ending.ERROR for ending, _ in self.found) else Ending.RIGHT

    @property
    def detail(self) -> str:
        """The details of the findings that aren't allowed."""
        return "\n".join(f"{ending.value}: {detail}" for ending, detail in self.found if not ending.is_well)


def judge_form(ran: CommandResult, judgement: Judgement, *, endings: frozenset[int], talks: bool = False) -> None:
    """Check that a command ended in a documented way: no traceback, one line for an error, in time.

    ``endings`` are the exit statuses that aren't errors. A command that ``talks`` prints on standard error what it is
    about to do.
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
