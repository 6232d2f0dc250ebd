"""Removing what is kept of one patron."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, select, update

from evergreen_groups.errors import StateError
from evergreen_groups.state.schema import changes, events, groups_to_keep, plans, run_groups, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Transactions


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed: steps of changes, events, and the patron's id from groups of the last reports."""

    steps: int
    events: int
    groups: int


def forget(transactions: Transactions, patron: int) -> Forgotten:
    """Remove what is kept of the patron with the id ``patron``; a change of nobody else goes as a whole.

    Raises:
        StateError: a change of the patron is open, so that it isn't known yet what the ILS made of it; nothing is
            removed then.
    """
    with transactions.writing() as connection:
        mine = steps.c.patron == patron
        if connection.execute(select(steps.c.id).where(mine, steps.c.state == "sending")).first():
            raise StateError(
                "a change of this patron is open: it isn't known yet what became of it",
                advice="let the next change or report find out, then ask again",
                code="forget-open",
            )
        concerned = list(connection.execute(select(steps.c.change).where(mine).distinct()).scalars())
        gone = connection.execute(delete(steps).where(mine)).rowcount
        # Steps of others are left: of a change that has none any more nothing is left to say.
        is_empty = ~exists().where(steps.c.change == changes.c.id)
        connection.execute(delete(changes).where(changes.c.id.in_(concerned), is_empty))
        of_events = connection.execute(delete(events).where(events.c.patron == patron)).rowcount
        _remove_plans(connection, patron)
        _remove_groups_to_keep(connection, patron)
        return Forgotten(gone, of_events, _leave_out(connection, patron))


def _remove_plans(connection: Connection, patron: int) -> None:
    """Remove the plans that name the patron, be it as a member of a group."""
    found = connection.execute(select(plans.c.id, plans.c.content).where(plans.c.content.contains(str(patron)))).all()
    named = [row.id for row in found if patron in set(_numbers(json.loads(row.content)))]
    connection.execute(delete(plans).where(plans.c.id.in_(named)))


def _remove_groups_to_keep(connection: Connection, patron: int) -> None:
    """Remove what was decided about groups with the patron: without the id it could never be true of them again."""
    stored = groups_to_keep.c
    found = connection.execute(select(groups_to_keep).where(stored.members.contains(str(patron)))).all()
    for row in found:
        if patron in json.loads(row.members):
            mine = (stored.gateway == row.gateway, stored.number == row.number)
            connection.execute(delete(groups_to_keep).where(*mine))


def _numbers(value: object) -> Iterator[int]:
    """All whole numbers in a JSON value. A group of the same number is taken for the patron: too much goes then."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def _leave_out(connection: Connection, patron: int) -> int:
    """Take the id out of the lists of members that the next report is compared with."""
    key = (run_groups.c.run, run_groups.c.number)
    found = connection.execute(
        select(*key, run_groups.c.members).where(run_groups.c.members.contains(str(patron)))
    ).all()
    count = 0
    for row in found:
        members = json.loads(row.members)
        if patron not in members:  # another number that has it as a part
            continue
        left = json.dumps([member for member in members if member != patron])
        connection.execute(update(run_groups).where(key[0] == row.run, key[1] == row.number).values(members=left))
        count += 1
    return count
