"""What a call gave."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The value of a call and the beginning of the answer it came in."""

    value: Any
    raw: str
    size: int = 0
