"""One of several processes that serve together, as the one that started it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.connection import Connection

    from prometheus_client.core import Metric


@dataclass(eq=False)
class ServingProcess:
    """One of them; over ``counting`` it asks, over ``orders`` it is told what to do.

    ``began`` is when it was started, ``seen`` when it last heard of the gateway (both in seconds of the monotonic
    clock), and ``figures`` are those that it gave last.
    """

    pid: int
    counting: Connection[Any, Any]
    orders: Connection[Any, Any]
    began: float
    is_ready: bool = False
    takes_settings: bool = False
    asked_for_figures: bool = False
    figures: list[Metric] = field(default_factory=list)
    seen: float = 0.0


def connections_to(processes: Iterable[ServingProcess]) -> list[Connection[Any, Any]]:
    """All that lead to these."""
    return [connection for process in processes for connection in (process.counting, process.orders)]
