"""Backup, restore, export and retention, on each engine and between engines."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, Integer, Table
from support.states import ENGINES, state_on

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.state import State, schema
from evergreen_groups.state.backup import back_up, export, restore
from evergreen_groups.state.retention import Forgotten, forget

pytestmark = pytest.mark.long  # too slow for a plain pytest run

NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)
STEP = {"gateway": "g", "field": "usrgroup", "before": 1, "touched_at": NOON}


def fill(state: State) -> None:
    """Fill every table. Include an undo and gaps in the numbering."""
    change = {"suffix": "k7q4tz", "gateway": "g", "account": "a", "at": NOON}
    plan = {"gateway": "g", "staff": 1, "at": NOON, "expires": NOON, "action": "move"}
    group = {
        "run": 4, "combined_fines": Decimal("30.10"), "certain": True, "member_count": 2, "library": "BR1",
        "libraries": '["BR1"]', "contact": 5, "contact_library": "BR1", "in_collections": False, "listed": True,
    }  # fmt: skip
    place = {"gateway": "g", "number": 1, "member_count": 2, "library": "BR1", "listed_at": NOON}
    entry = {
        "at": NOON, "saved_on": NOON.date(), "number": 1, "what": "promised", "how": "phone", "day": NOON.date(),
        "remind_on": None, "note": "soon", "combined_fines": Decimal("30.10"), "reopened": False, "workstation": 7,
        "org_unit": 4, "corrects": None, "deleted": False, "idempotency_key": "k", "request": "r",
    }  # fmt: skip
    stay = {
        "gateway": "g", "report": "", "member_count": 2, "library": "BR1", "libraries": '["BR1"]', "complete": True,
        "first_at": NOON, "last_at": NOON, "left_at": None, "reason": None, "paid_until": NOON,
    }  # fmt: skip
    event = {"gateway": "g", "at": NOON, "hook": "h", "done": True, "recalculated": False, "reason": ""}
    rows: dict[Table, list[dict[str, object]]] = {
        schema.changes: [
            {**change, "id": 3, "action": "move", "undoes": None, "step_count": 2},
            {**change, "id": 7, "action": "undo", "undoes": 3, "step_count": 1},
        ],
        schema.steps: [
            {**STEP, "change": 3, "patron": 5, "state": "done", "value": 9},
            {**STEP, "change": 3, "patron": 55, "state": "done", "value": 9},
            {**STEP, "change": 7, "patron": 5, "state": "failed", "value": None},
        ],
        schema.plans: [
            {**plan, "id": "x", "idempotency_key": "k", "change": 3, "content": '{"steps": [{"patron_id": 55}]}'},
            {**plan, "id": "y", "idempotency_key": None, "change": None, "content": '{"groups": [[6, [7, 5]]]}'},
        ],
        schema.groups_to_keep: [
            {"gateway": "g", "number": number, "at": NOON, "members": members}
            for number, members in ((10, "[5, 15]"), (11, "[6, 15]"))
        ],
        schema.series: [{"id": 2, "gateway": "g", "settings": "{}"}],
        schema.runs: [{"id": 4, "series": 2, "at": NOON, "hidden_libraries": '["BR1"]'}],
        schema.run_totals: [
            {"run": 4, "org_unit": "B", "group_count": 1, "member_count": 2, "combined_fines": Decimal("30.10")}
        ],
        schema.run_groups: [
            {**group, "number": 1, "members": "[5, 6]"},
            {**group, "number": 2, "members": "[55, 15]"},
        ],
        schema.follow_ups: [
            {**place, "id": 1, "contact": 5, "persons": "[5, 6]", "members": "[5, 6]"},
            {**place, "id": 2, "contact": 55, "persons": "[55, 15]", "members": "[55, 15]"},
        ],
        schema.follow_up_entries: [
            {**entry, "id": 8, "follow_up": 1, "contact": 6, "staff": 9},
            {**entry, "id": 9, "follow_up": 1, "contact": 6, "staff": 5, "corrects": 8},
            {**entry, "id": 10, "follow_up": 2, "contact": 55, "staff": 5},
            {**entry, "id": 11, "follow_up": 1, "contact": 5, "staff": 9},
        ],
        schema.stays: [
            {**stay, "number": 1, "members": "[5, 6]", "former_members": "[55]"},
            {**stay, "number": 2, "members": "[55, 15]", "former_members": "[]", "left_at": NOON, "reason": "paid"},
        ],
        schema.payments: [{"gateway": "g", "patron": 6, "at": NOON, "amount": Decimal("5.00")}],
        schema.events: [{**event, "event": 1, "patron": 5}, {**event, "event": 2, "patron": 6}],
        schema.mails: [{"message_id": "<1@x>", "written_at": NOON, "content": b"\x00mail\xff"}],
        schema.run_status: [{"job": "report", "outcome": "done", "started": NOON, "finished": NOON, "exit_code": 0}],
        schema.retention: [{"name": "clock", "believed_at": NOON}],
    }
    with state.database.writing() as connection:
        for table, some in rows.items():
            connection.execute(table.insert(), some)


ROWS = 28


def exported(state: State) -> list[str]:
    stream = io.StringIO()
    export(state.database, stream)
    return stream.getvalue().splitlines()


def all_but_held(state: State) -> list[dict[str, object]]:
    """Return all rows, without when mails were held: a restore holds them."""
    return [{**json.loads(line), "held_since": None} for line in exported(state)]


@pytest.fixture(params=ENGINES)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """Another, empty state, on each engine."""
    with state_on(request.param, tmp_path / "other") as state:
        yield state


def test_a_backup_is_restored_whole(state: State, other: State, tmp_path: Path) -> None:
    fill(state)
    assert back_up(state.database, tmp_path / "backup") == ROWS
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    before = (tmp_path / "backup").read_bytes()
    assert restore(other.database, tmp_path / "backup") == ROWS
    assert all_but_held(other) == all_but_held(state)
    assert (tmp_path / "backup").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"backup", "state", "other"}
    with other.database.writing() as connection:  # numbering continues after the highest number
        values = {"suffix": "k7q4tz", "gateway": "g", "account": "a", "at": NOON, "action": "move", "step_count": 1}
        key = connection.execute(schema.changes.insert().values(**values)).inserted_primary_key
    assert key is not None
    assert key[0] == 8


def test_the_file_itself_is_a_backup(tmp_path: Path, other: State) -> None:
    """The file can be copied as is, open or not. This is how to migrate to a server."""
    with State(tmp_path / "file") as state:
        fill(state)
        assert state.database.path is not None
        assert restore(other.database, state.database.path) == ROWS
        assert all_but_held(other) == all_but_held(state)


def test_nothing_is_restored_over_something(state: State, tmp_path: Path) -> None:
    fill(state)
    back_up(state.database, tmp_path / "backup")
    with pytest.raises(StateError, match=r"the database .* isn't empty"):
        restore(state.database, tmp_path / "backup")
    assert len(exported(state)) == ROWS + 1


def test_files_that_are_no_backup(state: State, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere doesn't exist"):
        restore(state.database, tmp_path / "nowhere")
    (tmp_path / "text").write_text("no backup at all, " * 100, encoding="utf-8")
    (tmp_path / "empty").touch()  # as left by a copy to a full disk
    with closing(sqlite3.connect(tmp_path / "another's")) as database:
        database.execute("CREATE TABLE something (id INTEGER)")
    for name in ("text", "empty", "another's"):
        with pytest.raises(StateError, match=f"{name} isn't a backup"):
            restore(state.database, tmp_path / name)
    fill(state)
    back_up(state.database, tmp_path / "backup")
    content = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(content[:-8192] + b"?" * 8192)
    with State(tmp_path / "new") as new:
        with pytest.raises(StateError, match=r"damaged|malformed|can't be used"):
            restore(new.database, tmp_path / "backup")
        assert len(exported(new)) == 1


def test_a_backup_that_is_there_stays(state: State, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="already exists; choose another path"):
        back_up(state.database, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="cannot write"):
        back_up(state.database, tmp_path / "nowhere" / "backup")
    assert (tmp_path / "backup").read_text("utf-8") == "precious"


def test_a_backup_while_others_write_is_of_one_moment(state: State, tmp_path: Path) -> None:
    """Rows are written in pairs, so a consistent backup has an even number of them."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            rows = [{"message_id": f"<{number}-{half}>", "written_at": NOON, "content": b""} for half in (1, 2)]
            with state.database.writing() as connection:
                connection.execute(schema.mails.insert(), rows)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            back_up(state.database, tmp_path / f"backup-{number}")
    finally:
        stop.set()
        thread.join()
    for number in range(3):
        with State(tmp_path / f"new-{number}") as new:
            assert restore(new.database, tmp_path / f"backup-{number}") % 2 == 0


def test_export_has_a_line_for_each_row(state: State) -> None:
    fill(state)
    first, *lines = map(json.loads, exported(state))
    assert first == {"version": 1}
    assert len(lines) == ROWS
    (totals,) = [line for line in lines if line["table"] == "run_totals"]
    assert totals["combined_fines"] == "30.10"
    (run,) = [line for line in lines if line["table"] == "runs"]
    assert run["at"] == "2026-08-14T12:00:00+00:00"
    (mail,) = [line for line in lines if line["table"] == "mails"]
    assert mail["content"] == "AG1haWz/"
    assert {line["day"] for line in lines if line["table"] == "follow_up_entries"} == {"2026-08-14"}


def test_nobody_to_read_an_export_is_not_the_databases_fault(state: State) -> None:
    fill(state)

    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        export(state.database, Closed())
    assert len(exported(state)) == ROWS + 1


def test_what_is_kept_of_one_patron_is_removed(state: State) -> None:
    fill(state)
    assert forget(state.database, 5) == Forgotten(steps=2, events=1, groups=1, entries=1)
    lines = [json.loads(line) for line in exported(state)[1:]]
    assert [line["id"] for line in lines if line["table"] == "changes"] == [3], "the undo was of nobody else"
    assert [line["id"] for line in lines if line["table"] == "plans"] == ["x"], "as a member of a group as well"
    assert {line["patron"] for line in lines if line["table"] in ("steps", "events")} == {6, 55}
    assert [line["members"] for line in lines if line["table"] == "run_groups"] == ["[6]", "[55, 15]"]
    assert [line["number"] for line in lines if line["table"] == "groups_to_keep"] == [11]
    entries = [line for line in lines if line["table"] == "follow_up_entries"]
    assert [(entry["id"], entry["staff"], entry["workstation"], entry["idempotency_key"]) for entry in entries] == [
        (8, 9, 7, "k"),
        (9, None, None, ""),
        (10, None, None, ""),
    ]
    follow_ups = [line for line in lines if line["table"] == "follow_ups"]
    assert [(line["contact"], line["members"]) for line in follow_ups] == [(0, "[6]"), (55, "[55, 15]")]
    assert [line["contact"] for line in lines if line["table"] == "run_groups"] == [0, 0]
    assert forget(state.database, 5) == Forgotten(0, 0, 0, 0)


NOT_A_PERSON = {
    "changes": {"id", "suffix", "gateway", "at", "action", "undoes", "step_count", "workstation", "os_user"}
    | {"login_user", "host", "terminal"},
    "steps": {"id", "change", "gateway", "field", "before", "after", "state", "value", "reason", "touched_at"}
    | {
        "sent_at",
        "sent_until",
        "last_xact_id",
        "other_fields",
        "permission",
        "org_unit",
        "reason_code",
        "reason_values",
    },
    "plans": {"id", "gateway", "at", "expires", "action", "idempotency_key", "change"},
    "groups_to_keep": {"gateway", "number", "at"},
    "series": {"id", "gateway", "settings"},
    "runs": {"id", "suffix", "series", "at", "hidden_libraries"},
    "run_totals": {"run", "org_unit", "group_count", "member_count", "combined_fines"},
    "run_groups": {"run", "number", "combined_fines", "certain", "member_count", "library", "libraries"}
    | {
        "contact_library",
        "in_collections",
        "listed",
        "over_limit_count",
        "over_limit_certain",
        "age_band",
        "unreturned",
    },
    "group_nights": {"run", "number", "combined_fines", "certain", "formerly"},
    "follow_ups": {"id", "gateway", "number", "member_count", "library", "listed_at"},
    "follow_up_entries": {"id", "suffix", "follow_up", "at", "saved_on", "number", "what", "how", "day", "remind_on"}
    | {"pay_by", "cancels", "note", "detail", "unreturned", "amount", "outcome", "paid", "forgiven"}
    | {"combined_fines", "reopened", "workstation", "org_unit", "corrects", "deleted", "idempotency_key", "request"},
    "stays": {"id", "gateway", "report", "number", "member_count", "library", "libraries", "complete", "first_at"}
    | {"last_at", "left_at", "reason", "paid_until"},
    "payments": {"id", "gateway", "at", "amount"},
    "events": {"id", "gateway", "at", "event", "hook", "done", "blocked", "recalculated", "reason"},
    "mails": {"id", "message_id", "written_at", "content", "held_since"},
    "run_status": {column.name for column in schema.run_status.c},
    "leases": {column.name for column in schema.leases.c},
    "retention": {column.name for column in schema.retention.c},
}
"""The columns that never have a person's id. Those of groups, libraries and workstations are others."""
PERSON = 2_123_456_789
WITH_A_PERSON = [
    column
    for table in schema.metadata.sorted_tables
    for column in table.c
    if column.name not in NOT_A_PERSON.get(table.name, ())
]


@pytest.mark.parametrize("column", WITH_A_PERSON, ids=str)
def test_no_column_keeps_the_id_of_a_person(column: Column[object], tmp_path: Path) -> None:
    """A new column is taken for a person's until ``NOT_A_PERSON`` says otherwise."""
    name = {"account": f"user {PERSON}", "content": json.dumps({"steps": [{"patron_id": PERSON}]})}
    value = PERSON if isinstance(column.type, Integer | BigInteger) else name.get(column.name, f"[7, {PERSON}]")
    values = {column: value} if column.name != "account" else {column: value, schema.changes.c.staff: PERSON}
    with State(tmp_path / "state") as state:
        fill(state)
        with state.database.writing() as connection:
            changed = connection.execute(column.table.update().values(values))
        assert changed.rowcount
        forget(state.database, PERSON)
        assert not [line for line in exported(state) if str(PERSON) in line]


def test_what_a_forgotten_clerk_changed_stays(state: State) -> None:
    fill(state)
    clerk = {"account": "user 77", "staff": 77, "workstation": 7}
    with state.database.writing() as connection:
        connection.execute(schema.changes.update().where(schema.changes.c.id == 3).values(**clerk, approved_by=78))
        connection.execute(schema.changes.update().where(schema.changes.c.id == 7).values(staff=78, account="user 78"))
    forget(state.database, 78)
    forget(state.database, 77)
    changes = [line for line in map(json.loads, exported(state)[1:]) if line["table"] == "changes"]
    assert [
        (line["id"], line["staff"], line["workstation"], line["account"], line["approved_by"]) for line in changes
    ] == [
        (3, None, None, "", None),
        (7, None, None, "", None),
    ]
    assert len(exported(state)) == ROWS + 1


def test_nothing_is_removed_while_a_change_is_open(state: State) -> None:
    fill(state)
    with state.database.writing() as connection:
        connection.execute(schema.steps.insert().values(**STEP, change=3, patron=6, state="sending"))
    before = exported(state)
    with pytest.raises(StateError, match="we don't know yet whether a change of this patron went through") as caught:
        forget(state.database, 6)
    assert "6" not in str(caught.value)
    assert exported(state) == before
