"""Helpers for tests of recalculations."""

from support.fault_proxy import Call

from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.sandbox import Sandbox

METHOD = "open-ils.actor.user.penalties.update_at_home"
QUICK = RetryPolicy(tries=3, first_delay=0.001, longest_delay=0.01)


def penalties(sandbox: Sandbox, patron: int) -> list[tuple[int, object]]:
    return [(row["standing_penalty"], row["staff"]) for row in sandbox._store.rows("ausp", {"usr": patron})]


def recalculates(call: Call) -> bool:
    """Return whether a call recalculates a patron's penalties, rather than checking that the method exists."""
    return call.method == METHOD and not call.asks_what_there_is
