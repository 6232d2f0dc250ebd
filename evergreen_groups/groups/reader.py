"""Build a report's groups from rows of patrons, balances and cards, and decide who is over the limit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from evergreen_groups.groups.hidden import find_hidden
from evergreen_groups.groups.models import (
    PATRON_FIELDS,
    Group,
    HiddenMembers,
    Member,
    PatronRow,
    decide_patrons,
    make_members,
    make_patrons,
)
from evergreen_groups.ils import (
    Limits,
    OrgUnits,
    read_own_fines,
)
from evergreen_groups.message import Message, Progress, silent
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Access
    from evergreen_groups.policy import Decision


Value = TypeVar("Value")

# Some 10 MB for fines and barcodes together. Values beyond that are read twice.
_MAX_CACHED = 50_000


class ReadOnceCache(Generic[Value]):
    """Holds up to 50,000 values by id. Taking a value removes it."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def put(self, values: Mapping[int, Value]) -> None:
        """Store as many values as there is room for."""
        self._values.update(islice(values.items(), max(0, _MAX_CACHED - len(self._values))))

    def take(self, ids: Collection[int], read: Callable[[Collection[int]], dict[int, Value]]) -> dict[int, Value]:
        """Remove and return the values of these ids. Call ``read`` for missing ones."""
        # Two threads may ask for a patron who was moved between reads. Only one of them gets the value.
        known = {id: value for id in ids if (value := self._values.pop(id, None)) is not None}
        return {**known, **read([id for id in ids if id not in known])} if known else read(ids)


class GroupReader:
    """Turns rows of patrons into groups with own fines, cards and hidden members.

    ``limits`` decide who is over the limit; without them, nothing is decided. ``progress`` reports on the balances of
    hidden members, which may take a call for each group.
    """

    def __init__(
        self,
        gateway: Gateway,
        org_units: OrgUnits,
        access: Access,
        limits: Limits | None = None,
        progress: Progress = silent,
    ) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._access = access
        self._limits = limits
        self._balance_progress = _BalanceProgress(progress)
        self._known_fines: ReadOnceCache[Decimal] = ReadOnceCache()
        self._known_barcodes: ReadOnceCache[str] = ReadOnceCache()
        # Share equal amounts and decisions: a report has 100,000 members.
        self._amounts: dict[Decimal, Decimal] = {}
        self._decisions: dict[Decimal, Decision] = {}

    def with_limits(self, limits: Limits) -> GroupReader:
        """Return a reader that decides by these limits and shares this reader's caches."""
        reader = copy.copy(self)  # a shallow copy, because batches read concurrently share the progress
        reader._limits = limits
        return reader

    def build_groups(self, rows: Iterable[PatronRow]) -> list[Group]:
        """Build groups from ``rows``, which must be all visible members of each group, with hidden members."""
        by_group: dict[int, list[Member]] = {}
        for member in self._members(rows):
            by_group.setdefault(member.patron.group, []).append(member)
        hidden: dict[int, HiddenMembers] = {}
        # No member is hidden from an account that sees all patrons. For a large report, this saves twenty calls or
        # more.
        if not self._access.everywhere:
            visible = {group: {member.id for member in members} for group, members in by_group.items()}
            hidden = find_hidden(
                self._gateway,
                visible,
                lambda: [unit.id for unit in self._org_units],
                progress=self._balance_progress,
            )
        return [Group.by_fines(number, members, hidden.get(number)) for number, members in by_group.items()]

    def members(self, rows: Iterable[PatronRow], *, cards: bool, again: bool = False) -> dict[int, Member]:
        """Return the patrons by id, with own fines and, if ``cards``, barcodes, whatever their groups.

        Pass ``again=True`` if many of them will be read once more as members of groups, without decisions. Their own
        fines and barcodes are then cached for that.
        """
        return {member.patron.id: member for member in self._members(rows, cards=cards, again=again)}

    def _members(self, rows: Iterable[PatronRow], *, cards: bool = True, again: bool = False) -> list[Member]:
        by_id = {row.id: row for row in rows}
        # Read lists concurrently. Fleshed cards would take the ILS a query per row.
        own_fines, barcodes = self._gateway.in_parallel(
            lambda: self._own_fines(by_id), lambda: self._barcodes(by_id.values()) if cards else {}
        )
        # Reuse equal Decimals (see __init__).
        own_fines = {id: self._amounts.setdefault(amount, amount) for id, amount in own_fines.items()}
        if again:
            self._known_fines.put({id: own_fines.get(id, ZERO) for id in by_id})
            self._known_barcodes.put(barcodes)
        patrons = make_patrons(by_id.values(), barcodes, self._org_units)
        decisions: dict[int, Decision] = {}
        if self._limits is not None:
            decisions = decide_patrons(self._gateway, self._limits, patrons, own_fines, self._decisions)
        return make_members(patrons, own_fines, decisions)

    def _own_fines(self, patrons: Collection[int]) -> dict[int, Decimal]:
        # Leave out open transactions of 0.00, which makes answers smaller, unless a limit counts them.
        if self._limits is None:
            return self._known_fines.take(patrons, lambda some: read_own_fines(self._gateway, some, debtors_only=True))
        return read_own_fines(self._gateway, patrons, debtors_only=not self._limits.need_transactions)

    def _barcodes(self, rows: Iterable[PatronRow]) -> dict[int, str]:
        cards = [row.card for row in rows if row.card is not None]
        return self._known_barcodes.take(cards, lambda some: Member.read_barcodes(self._gateway, some))

    def read_groups(self, numbers: Iterable[int]) -> dict[int, Group]:
        """Read the groups with these numbers, by number. Leave out groups without a visible member."""
        # Deleted patrons keep their group's number (pcrud-009). Send "f", because JSON's false matches nothing.
        rows = self._gateway.pcrud.columns_by_values(
            "au", PATRON_FIELDS, "usrgroup", sorted(set(numbers)), where={"deleted": "f"}
        )
        return {group.number: group for group in self.build_groups(map(PatronRow._make, rows))}


class _BalanceProgress:
    """Counts groups whose balances were read. Batches of a report are read concurrently."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._done = self._total = 0

    def __call__(self, read: int, more: int) -> None:
        with self._lock:
            self._done += read
            self._total += more
            self._progress(Message("reading fines of hidden members"), self._done, self._total)
