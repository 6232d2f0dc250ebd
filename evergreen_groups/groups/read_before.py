"""What was read of patrons, for those who come to be looked at once more in the same run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Generic, TypeVar

Value = TypeVar("Value")

# Of own fines and barcodes together some 10 MB; what is beyond that is read twice.
_MOST = 50_000


class ReadBefore(Generic[Value]):
    """Values by id, each until it is asked for: up to 50,000."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def keep(self, values: Mapping[int, Value]) -> None:
        """Keep values that were read."""
        self._values.update(islice(values.items(), max(0, _MOST - len(self._values))))

    def of(self, ids: Collection[int], read: Callable[[Collection[int]], dict[int, Value]]) -> dict[int, Value]:
        """Those with these ids: what is kept, which is let go of, and of the others what ``read`` gives."""
        # Several threads may ask for one patron who was moved meanwhile: each value goes to one of them.
        known = {id: value for id in ids if (value := self._values.pop(id, None)) is not None}
        return {**known, **read([id for id in ids if id not in known])} if known else read(ids)
