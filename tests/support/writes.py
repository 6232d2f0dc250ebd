"""The writes to patrons in a sandbox, to compare with the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evergreen_groups.changes import JournalEntry, StepState
from evergreen_groups.sandbox import Sandbox

Write = tuple[int, str, int, int]
"""A patron's id, a field, and its value before and after."""


class RecordOfWrites:
    """All writes to patrons in a sandbox, in order."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        with sandbox._store.transaction() as connection:
            connection.execute(
                "CREATE TABLE written (number INTEGER PRIMARY KEY, usr INTEGER, usrgroup_before INTEGER,"
                " usrgroup INTEGER, lead_before INTEGER, lead INTEGER)"
            )
            connection.execute(
                "CREATE TRIGGER write_down AFTER UPDATE ON au BEGIN"
                " INSERT INTO written (usr, usrgroup_before, usrgroup, lead_before, lead)"
                " VALUES (new.id, old.usrgroup, new.usrgroup, old.master_account, new.master_account); END"
            )

    def writes(self) -> list[Write]:
        """Return each write with its changes; one without effect has no field."""
        rows = self._sandbox._store.read().execute(
            "SELECT usr, usrgroup_before, usrgroup, lead_before, lead FROM written ORDER BY number"
        )
        return [write for row in rows for write in _changed(*row)]


def _changed(patron: int, group_before: int, group: int, lead_before: int, lead: int) -> Iterator[Write]:
    if group == group_before and lead == lead_before:
        yield patron, "", 0, 0
    if group != group_before:
        yield patron, "usrgroup", group_before, group
    if lead != lead_before:
        yield patron, "master_account", lead_before, lead


def done_steps(entries: Sequence[JournalEntry]) -> list[Write]:
    steps = [step for entry in entries for step in entry.steps]
    return [
        (step.patron, step.field, step.before, step.value)
        for step in sorted(steps, key=lambda step: step.id)
        if step.state is StepState.DONE and step.value is not None
    ]


def of_patron(writes: list[Write], patron: int) -> list[Write]:
    return [write for write in writes if write[0] == patron]
