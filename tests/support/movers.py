"""Programs that change groups at random, one change after another, until they are killed.

As a program, this module loads the package once and forks a mover for each line of orders; tests use :class:`Movers`. A
mover is a process with its own connections, as if it ran on another server.
"""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.change_ids import UNKNOWN, number_of
from support.forking import ForkingProgram, fork_and_kill
from support.loaded_program import load_package

PATRONS = (1001, 1002, 1003, 1007, 1008, 1009, 1010, 1051, 1052, 1053)
"""The patrons who are moved; all of them are in groups with others."""


class Movers(ForkingProgram):
    """The program that forks. ``directory`` is where movers record what must not happen."""

    def __init__(self, url: str, database: str, directory: Path) -> None:
        super().__init__("support.movers", os.environ)
        self._errors = directory / "errors"
        self._order = {"url": url, "database": database, "directory": str(directory), "errors": str(self._errors)}

    def start(self, seed: int, later: float) -> int:
        """Start a mover whose clock is ``later`` seconds ahead; returns its process id."""
        return int(self.ask({**self._order, "seed": seed, "later": later}))

    @property
    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8") if self._errors.exists() else ""


def _barcode(patron: int) -> str:
    return f"2000000000{patron}"


def _plan_at_random(client: Any, chance: random.Random) -> Any:
    """Plan a random change: a move, a removal, a new lead, or an undo."""
    chosen: Sequence[int] = chance.sample(PATRONS, 3)
    patron, other, third = map(_barcode, chosen)
    kind = chance.choice(("move", "move", "move several", "remove", "lead", "undo"))
    if kind == "move":
        return client.move([patron], to=other)
    if kind == "move several":
        return client.move([patron, third], to=other)
    if kind == "remove":
        return client.remove([patron])
    if kind == "lead":
        return client.set_lead(patron, lead=chance.random() >= 0.5)
    ids = {number_of(entry.id): entry.id for entry in client.changes.entries()}
    return client.undo(ids.get(chance.randint(1, 40), UNKNOWN))


def _move_for_ever(order: dict[str, Any]) -> None:
    from support.gateways import gateway_of

    from evergreen_groups.client import Client
    from evergreen_groups.errors import BusyError, DataError, NotFoundError, PlanError
    from evergreen_groups.state import State
    from evergreen_groups.state.database import Database

    Database.now = lambda _: datetime.now(UTC) + timedelta(seconds=order["later"])  # type: ignore[method-assign]
    chance = random.Random(order["seed"])
    with (
        State(Path(order["directory"]), order["database"]) as state,
        gateway_of(order["url"], "consortium_staff") as gateway,
    ):
        client = Client(gateway, account="consortium_staff", state=state)
        while True:
            try:
                plan = _plan_at_random(client, chance)
            except (DataError, NotFoundError, PlanError):  # the other mover has moved a patron in the meantime
                continue
            with suppress(BusyError):
                plan.apply()


def _work(order: dict[str, Any]) -> None:
    try:
        _move_for_ever(order)
    except BaseException:
        with Path(order["errors"]).open("a", encoding="utf-8") as stream:
            traceback.print_exc(file=stream)


if __name__ == "__main__":
    load_package()
    fork_and_kill(_work)
