"""When a read is tried again, and how long to wait before."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a read is tried."""

    tries: int = 4
    first_delay: float = 0.5
    longest_delay: float = 8.0
    total_seconds: float = 180.0
