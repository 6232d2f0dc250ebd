"""What tests of recalculations share."""

from __future__ import annotations

from support.fault_proxy import Call

from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.sandbox import Sandbox

METHOD = "open-ils.actor.user.penalties.update_at_home"
QUICK = RetryPolicy(tries=3, first_delay=0.001, longest_delay=0.01)


def penalties(sandbox: Sandbox, patron: int) -> list[tuple[int, object]]:
    return [(row["standing_penalty"], row["staff"]) for row in sandbox._store.rows("ausp", {"usr": patron})]


def recalculates(call: Call) -> bool:
    """Whether a call has a patron's penalties recalculated, and doesn't just find out whether there is the method."""
    return call.method == METHOD and not call.asks_what_there_is
