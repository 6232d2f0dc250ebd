"""A new address of the gateway: everything recorded under the old one is moved, or nothing."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Table, func, select
from support.change_ids import listed_id
from support.command import Command, one_line

from evergreen_groups import exit_status
from evergreen_groups.errors import StateError
from evergreen_groups.state import State, move_address, schema

OLD, NEW, OTHER = "http://eg.example.org", "https://eg.example.org", "https://test.example.org"
NOW = datetime(2026, 12, 6, 12, tzinfo=UTC)


def put(into: State, table: Table, **values: Any) -> int:
    with into.database.writing() as connection:
        made = connection.execute(table.insert().values(values).returning(*table.primary_key.columns)).one()
    return int(made[0]) if isinstance(made[0], int) else 0


def put_change(state: State, gateway: str, patron: int, step_state: str = "done") -> int:
    change = put(state, schema.changes, gateway=gateway, account="1", at=NOW, action="move", step_count=1)
    step = {"gateway": gateway, "patron": patron, "field": "usrgroup", "before": 1, "after": 2, "touched_at": NOW}
    put(state, schema.steps, change=change, state=step_state, **step)
    return change


def put_entry(state: State, gateway: str, contact: int) -> None:
    place = {"number": 7, "members": "[]", "member_count": 2, "library": "BR1", "listed_at": NOW}
    follow_up = put(state, schema.follow_ups, gateway=gateway, contact=contact, persons=f"[{contact}]", **place)
    entry = {
        "at": NOW,
        "saved_on": date(2026, 12, 6),
        "number": 7,
        "contact": contact,
        "what": "note",
        "note": "called",
    }
    entry |= {"day": date(2026, 12, 6), "combined_fines": Decimal("30.00"), "reopened": False, "deleted": False}
    put(state, schema.follow_up_entries, follow_up=follow_up, idempotency_key="k", request="r", **entry)


def put_night(state: State, series: int, number: int) -> int:
    run = put(state, schema.runs, series=series, at=NOW, hidden_libraries="[]")
    group = {"combined_fines": Decimal("30.00"), "certain": True, "member_count": 2, "members": "[]", "libraries": "[]"}
    group |= {"library": "BR1", "contact": 1, "contact_library": "BR1", "in_collections": False, "listed": True}
    put(state, schema.run_groups, run=run, number=number, **group)
    return run


def put_stay(state: State, gateway: str) -> None:
    group = {"number": 7, "members": "[1, 2]", "member_count": 2, "library": "BR1", "libraries": "[]"}
    stay = {"report": "", "former_members": "[]", "complete": True, "first_at": NOW, "last_at": NOW}
    put(state, schema.stays, gateway=gateway, **group, **stay)
    put(state, schema.payments, gateway=gateway, patron=1, at=NOW, amount=Decimal("2.00"))


def put_event(state: State, gateway: str, event: int) -> None:
    found = {"at": NOW, "hook": "checkout", "patron": 5, "done": True, "recalculated": False, "reason": ""}
    put(state, schema.events, gateway=gateway, event=event, **found)


def count(state: State, table: Table, gateway: str) -> int:
    with state.database.reading() as connection:
        return int(
            connection.execute(select(func.count()).select_from(table).where(table.c.gateway == gateway)).scalar_one()
        )


BY_GATEWAY = [table for table in schema.metadata.sorted_tables if "gateway" in table.c]


def test_everything_moves_open_changes_too(state: State) -> None:
    """A table that is added later is moved as well, or this fails."""
    put_change(state, OLD, 1001)
    put_change(state, OLD, 1002, "sending")
    put_change(state, OTHER, 1003)
    put_entry(state, OLD, 1004)
    put_event(state, OLD, 1)
    put(state, schema.groups_to_keep, gateway=OLD, number=3, at=NOW, members="[1]")
    put(state, schema.plans, id="p", gateway=OLD, staff=1, at=NOW, expires=NOW, action="move", content="{}")
    put(state, schema.plans, id="q", gateway=NEW, staff=1, at=NOW, expires=NOW, action="move", content="{}")
    put_night(state, put(state, schema.series, gateway=OLD, settings="{}"), 7)
    put_stay(state, OLD)
    before = {table.name: count(state, table, OLD) for table in BY_GATEWAY}
    assert min(before.values()) >= 1, "each table has a row"
    moved = move_address(state.database, OLD, NEW)
    assert (moved.changes, moved.open_steps, moved.entries, moved.events, moved.nights, moved.groups_to_keep) == (
        *(2, 1, 1, 1, 1, 1),
    )
    assert moved.patrons == (1001, 1002, 1004)
    assert {table.name: count(state, table, NEW) for table in BY_GATEWAY} == before
    assert {count(state, table, OLD) for table in BY_GATEWAY} == {0}
    assert count(state, schema.changes, OTHER) == 1
    with pytest.raises(StateError, match="nothing is recorded under"):
        move_address(state.database, OLD, NEW)


def test_nights_under_both_addresses_become_one_series(state: State) -> None:
    former = put(state, schema.series, gateway=OLD, settings="{}")
    later = put(state, schema.series, gateway=NEW, settings="{}")
    elsewhere = put(state, schema.series, gateway=NEW, settings='{"name": "items"}')
    nights = [
        put_night(state, series, number) for series, number in ((former, 1), (former, 2), (later, 3), (elsewhere, 4))
    ]
    put_event(state, OLD, 1)
    put_event(state, NEW, 1)
    put_event(state, OLD, 2)
    move_address(state.database, OLD, NEW)
    with state.database.reading() as connection:
        found = connection.execute(select(schema.runs.c.id, schema.runs.c.series).order_by(schema.runs.c.id)).all()
        assert list(map(tuple, found)) == [*zip(nights, (later, later, later, elsewhere), strict=True)]
        listed = select(schema.run_groups.c.run).order_by(schema.run_groups.c.run)
        assert list(connection.execute(listed).scalars()) == nights[2:], "only a series' last night has groups"
        assert list(connection.execute(select(schema.series.c.id).order_by("id")).scalars()) == [later, elsewhere]
    assert count(state, schema.events, NEW) == 2, "an event has one outcome"


@pytest.mark.parametrize("table", ["change", "entry", "kept"])
def test_it_refuses_what_people_did_under_both(state: State, table: str) -> None:
    put_change(state, OLD, 1001)
    if table == "change":
        put_change(state, NEW, 1001)
    elif table == "entry":
        put_entry(state, NEW, 1004)
    else:
        put(state, schema.groups_to_keep, gateway=NEW, number=3, at=NOW, members="[1]")
    with pytest.raises(StateError, match="may be another Evergreen") as refused:
        move_address(state.database, OLD, NEW)
    assert refused.value.code == "address-in-use"
    assert count(state, schema.changes, OLD) == 1


def test_undo_after_a_new_address(command: Command) -> None:
    """The same sandbox, first under its number and then under its name."""
    old = command.environ["EVERGREEN_GROUPS_GATEWAY_URL"]
    new = old.replace("127.0.0.1", "localhost")
    assert old != new
    assert command("-q", "report").returncode == exit_status.DONE
    assert command("-q", "remove", "20000000001052", "--yes").returncode == exit_status.DONE
    change = listed_id(command, 1)
    command.environ["EVERGREEN_GROUPS_GATEWAY_URL"] = new
    assert command("-q", "report").returncode == exit_status.DONE
    refused = command("undo", change, "--yes")
    assert refused.returncode != exit_status.DONE
    assert one_line(refused.stderr)
    assert "`evergreen-groups state move-address OLD NEW`" in refused.stderr
    assert "state move-address OLD NEW" in " ".join(command("doctor").stdout.split())
    shown = command("state", "move-address", old, f"{new}/")
    assert shown.stdout == (
        f"{old}: changes: 1, of which steps open: 0; follow-up entries: 0; events: 0; nights of reports: 1; groups to "
        "keep: 0.\nSome of the patrons' ids: 1052.\nTo move them, add --yes.\n"
    )
    assert command("undo", change, "--yes").returncode != exit_status.DONE, "only shown"
    moved = json.loads(command("state", "move-address", old, new, "--yes", "--json").stdout)
    assert (moved["moved"], moved["records"]["changes"], moved["patrons"]) == (True, 1, [1052])
    assert command("-q", "undo", change, "--yes").returncode == exit_status.DONE
    again = command("state", "move-address", old, new, "--yes")
    assert again.returncode == exit_status.FAILED
    assert one_line(again.stderr)
