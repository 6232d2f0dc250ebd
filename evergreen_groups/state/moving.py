"""Move records to a new address of the gateway, for example from http to https.

Each record names the gateway by its address, so that an Evergreen for tests can't be taken for the real one. After the
address has changed, what was recorded under the old one would be out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import Table, and_, delete, func, select, update

from evergreen_groups.errors import StateError
from evergreen_groups.state.schema import (
    changes,
    events,
    follow_up_entries,
    follow_ups,
    groups_to_keep,
    payments,
    plans,
    run_groups,
    runs,
    series,
    stays,
    steps,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Transactions

_OF_PEOPLE = (changes, groups_to_keep, follow_ups)
"""What people have done or decided at an address. Under the new one, it may belong to another Evergreen."""
_FEW = 5


@dataclass(frozen=True, slots=True)
class Records:
    """What is recorded under an address, with a few of the patrons' ids to recognize the Evergreen by."""

    changes: int
    open_steps: int
    entries: int
    events: int
    nights: int
    groups_to_keep: int
    patrons: tuple[int, ...]

    @property
    def are_none(self) -> bool:
        return not (self.changes or self.entries or self.events or self.nights or self.groups_to_keep)


def records_at(connection: Connection, gateway: str) -> Records:
    """Return what is recorded under the address of a gateway."""

    def count(table: Table, *joined: Table, where: object = None) -> int:
        rows = table
        for other in joined:
            rows = rows.join(other)  # type: ignore[assignment]
        of_gateway = (joined[-1] if joined else table).c.gateway == gateway
        wanted = of_gateway if where is None else and_(of_gateway, where)  # type: ignore[arg-type]
        return int(connection.execute(select(func.count()).select_from(rows).where(wanted)).scalar_one())

    concerned = select(steps.c.patron).where(steps.c.gateway == gateway)
    contacts = select(follow_ups.c.contact).where(follow_ups.c.gateway == gateway, follow_ups.c.contact != 0)
    patrons = connection.execute(concerned.union(contacts).order_by("patron").limit(_FEW)).scalars()
    return Records(
        changes=count(changes),
        open_steps=count(steps, where=steps.c.state == "sending"),
        entries=count(follow_up_entries, follow_ups),
        events=count(events),
        nights=count(runs, series),
        groups_to_keep=count(groups_to_keep),
        patrons=tuple(islice(patrons, _FEW)),
    )


def move_address(transactions: Transactions, old: str, new: str) -> Records:
    """Move all records from an address to another, in one transaction; returns what was moved.

    Open changes move too, and the next read resolves them. What a report alone has recorded under the new address is
    merged: its nights continue those of the old one.

    Raises:
        StateError: there is nothing to move, or people have already changed groups or saved entries under the new
            address: the two may be different Evergreens. Nothing is moved.
    """
    with transactions.writing() as connection:
        moved = records_at(connection, old)
        if moved.are_none:
            raise StateError(
                "nothing is recorded under {address}",
                advice="name an address that `evergreen-groups doctor` shows",
                code="no-records-at-address",
                values={"address": old},
            )
        if any(
            connection.execute(select(table).where(table.c.gateway == new).limit(1)).first() for table in _OF_PEOPLE
        ):
            raise StateError(
                "changes or follow-ups were already made under {address}, which may be another Evergreen",
                advice="keep the two apart: use a separate [state] directory or database for each Evergreen",
                code="address-in-use",
                values={"address": new},
            )
        # The new address's own plans can't be applied any more, but each would take a moved plan's place.
        connection.execute(delete(plans).where(plans.c.gateway == new))
        for table in (stays, payments):  # the next run continues the moved ones
            connection.execute(delete(table).where(table.c.gateway == new))
        _drop_repeated_events(connection, old, new)
        _join_series(connection, old, new)
        for table in (changes, steps, plans, groups_to_keep, series, follow_ups, events, stays, payments):
            connection.execute(update(table).where(table.c.gateway == old).values(gateway=new))
        return moved


def _drop_repeated_events(connection: Connection, old: str, new: str) -> None:
    """Drop the old outcomes of events that were handled under both addresses: an event has one."""
    again = events.alias()
    same = [again.c[name] == events.c[name] for name in ("event", "hook", "patron")]
    repeated = select(again.c.id).where(again.c.gateway == new, again.c.done, *same).exists()
    connection.execute(delete(events).where(events.c.gateway == old, events.c.done, repeated))


def _join_series(connection: Connection, old: str, new: str) -> None:
    """Let the runs of a series under the new address continue those with the same settings under the old one."""
    former, later = series.alias(), series.alias()
    pairs = select(former.c.id, later.c.id).where(
        former.c.gateway == old, later.c.gateway == new, former.c.settings == later.c.settings
    )
    for before, after in connection.execute(pairs).all():
        # Only the last run of a series has its groups.
        earlier = select(runs.c.id).where(runs.c.series == before)
        connection.execute(delete(run_groups).where(run_groups.c.run.in_(earlier)))
        connection.execute(update(runs).where(runs.c.series == before).values(series=after))
        connection.execute(delete(series).where(series.c.id == before))
