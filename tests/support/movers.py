"""Programs that change groups at random, one change after another, until they are killed.

Started as a program it loads the package once, and forks a mover for each line of orders; :class:`Movers` is what tests
use. A mover is a process of its own with its own connections, as on a server of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATRONS = (1001, 1002, 1003, 1007, 1008, 1009, 1010, 1051, 1052, 1053)
"""Those who are moved; all of them are in groups with others."""


class Movers:
    """The program that forks. ``directory`` is where movers write down what must not happen."""

    def __init__(self, url: str, database: str, directory: Path) -> None:
        self._errors = directory / "errors"
        self._order = {"url": url, "database": database, "directory": str(directory), "errors": str(self._errors)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, seed: int, later: float) -> int:
        """Start one, whose clock is ``later`` seconds ahead; gives its process's number."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({**self._order, "seed": seed, "later": later}), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    @property
    def errors(self) -> str:
        """What movers wrote down."""
        return self._errors.read_text(encoding="utf-8") if self._errors.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def _barcode(patron: int) -> str:
    return f"2000000000{patron}"


def _change_at_random(moves: Any, chance: random.Random) -> None:
    """One change: a move, a removal, a mark as lead, or an undo of something."""
    chosen: Sequence[int] = chance.sample(PATRONS, 3)
    patron, other, third = map(_barcode, chosen)
    kind = chance.choice(("move", "move", "move several", "remove", "lead", "undo"))
    if kind == "move":
        plan = moves.plan_move([patron], to=other)
    elif kind == "move several":
        plan = moves.plan_move([patron, third], to=other)
    elif kind == "remove":
        plan = moves.plan_remove([patron])
    elif kind == "lead":
        plan = moves.plan_lead(patron, off=chance.random() < 0.5)
    else:
        plan = moves.plan_undo(chance.randint(1, 40))
    plan.apply()


def _move_for_ever(order: dict[str, Any]) -> None:
    from support.gateways import gateway_of

    from evergreen_groups.changes import clock
    from evergreen_groups.client import Client
    from evergreen_groups.errors import BusyError, NotFoundError, PlanError
    from evergreen_groups.state import State

    clock.now = lambda: datetime.now(UTC) + timedelta(seconds=order["later"])
    chance = random.Random(order["seed"])
    with (
        State(Path(order["directory"]), order["database"]) as state,
        gateway_of(order["url"], "consortium_staff") as gateway,
    ):
        moves = Client(gateway, account="consortium_staff", state=state).moves
        while True:
            with suppress(BusyError, NotFoundError, PlanError):
                _change_at_random(moves, chance)


def _fork(order: dict[str, Any]) -> int:
    process = os.fork()
    if process == 0:
        try:
            _move_for_ever(order)
        except BaseException:
            with Path(order["errors"]).open("a", encoding="utf-8") as stream:
                traceback.print_exc(file=stream)
        finally:
            os._exit(1)
    return process


def main() -> None:
    """Fork for each order that comes as a line of JSON, and answer with the number of the process."""
    import evergreen_groups.changes.journal
    import evergreen_groups.client
    import evergreen_groups.gateway
    import evergreen_groups.state.database  # noqa: F401 - loaded once for all of them

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets those that were killed
    for line in sys.stdin:
        print(_fork(json.loads(line)), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
