"""Entries in the journal, without the run that would make them."""

from collections.abc import Sequence

from evergreen_groups.changes import Journal, Operator, StoredStep


def begun(
    journal: Journal,
    gateway: str,
    operator: Operator,
    action: str,
    steps: Sequence[StoredStep],
    undoes: str | None = None,
) -> list[int]:
    with journal.transactions.writing() as connection:
        entry = journal.begin(connection, gateway, operator, action, steps, undoes)
    return [step.id for step in entry.steps]
