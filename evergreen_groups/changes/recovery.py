"""Finding out what became of changes that were being sent when their run ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import PENALTIES, Journal, JournalStep, StepState
from evergreen_groups.errors import EventError, GatewayError, PermissionDeniedError
from evergreen_groups.ils import count_set_by_ils

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record


def settle(gateway: Gateway, journal: Journal) -> list[JournalStep]:
    """Look up what an interrupted run left open at a gateway, write it into the journal, and give those steps."""
    open_steps = journal.open_steps(gateway.url)
    for step in open_steps:
        if step.field == PENALTIES:
            now: int | None = count_set_by_ils(gateway, step.patron)
        else:
            now = value_of(gateway.pcrud.retrieve("au", step.patron), step.field)
        if now == step.before:
            journal.note(step.id, StepState.NOT_DONE, reason="interrupted before it was carried out")
        elif now is not None and step.after in (None, now):
            journal.note(step.id, StepState.DONE, value=now, reason="found done after an interruption")
        else:
            journal.note(step.id, StepState.FAILED, reason="interrupted, and changed by somebody else since")
    journal.none_is_open(gateway.url)
    return open_steps


def value_of(record: Record | None, field_name: str) -> int | None:
    """The number in a field that a step changes, None for a patron out of sight."""
    if record is None:
        return None
    value = record[field_name]
    return None if value is None else int(value)


def refusal(gateway: Gateway, error: GatewayError) -> str:
    """Why the ILS refused something, in a few words; a missing permission with the library that it is missing at."""
    if isinstance(error, PermissionDeniedError):
        return f"the account lacks {error.permission}{_library(gateway, error.org_unit)}"
    return error.textcode if isinstance(error, EventError) else "the method failed on the server"


def _library(gateway: Gateway, org_unit: int | None) -> str:
    if org_unit is None:
        return ""
    try:
        record = gateway.pcrud.retrieve("aou", org_unit)
    except GatewayError:
        record = None
    return f" at {record.shortname}" if record else f" at org unit {org_unit}"
