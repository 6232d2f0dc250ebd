"""Findings out of memory, in their order: an audit of a large library may have a hundred thousand of them.

They lie in a private database of SQLite's: a file among the system's temporary ones that only this user can read and
that has no name, so it is gone with the process, however that ends.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, Self, cast, overload

from evergreen_groups.audit.findings import FindingKind, FindingSequence, Listed
from evergreen_groups.audit.packing import pack, unpack
from evergreen_groups.state import errors_named, temporary_directory

_PLACES = {kind: place for place, kind in enumerate(FindingKind)}
# Journal and waiting for the disk are for what has to outlive the process. The cache is in kibibytes.
_TABLE = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -4096;
    CREATE TABLE finding (id INTEGER PRIMARY KEY, kind INTEGER, rank INTEGER, number INTEGER, content BLOB);
    CREATE INDEX in_order ON finding (kind, rank, number, id);
"""
_INSERT = "INSERT INTO finding (kind, rank, number, content) VALUES (?, ?, ?, ?)"
_SELECT = "SELECT content FROM finding WHERE kind = ? ORDER BY rank, number, id LIMIT ? OFFSET ?"


class Ranked(Protocol):
    """What has a place in the order of an audit: by kind, then by rank, then by number, the lowest first."""

    @property
    def kind(self) -> FindingKind:
        """Its kind."""

    @property
    def rank(self) -> int:
        """Its place among those of its kind."""

    @property
    def number(self) -> int:
        """Its place among those of its rank."""


class FindingStore:
    """Takes findings as they come, from several threads, and gives them in their order.

    Closing it, or letting go of it, deletes what is in it. Its methods raise StateError where there is no room.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unlisted: dict[FindingKind, int] = {}
        with _errors():
            # No name is that of a private database in a temporary file: https://sqlite.org/inmemorydb.html.
            self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._close = weakref.finalize(self, self._connection.close)
            self._connection.executescript(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what is in it. Raises nothing."""
        self._close()

    def add(self, findings: Iterable[Ranked]) -> list[int]:
        """Take some, and give the id that each has here."""
        rows = [(_PLACES[one.kind], one.rank, one.number, pack(one)) for one in findings]
        with self._lock, _errors():
            self._connection.execute("BEGIN")
            ids = [self._connection.execute(_INSERT, row).lastrowid or 0 for row in rows]
            self._connection.execute("COMMIT")
        return ids

    def without(self, ids: Collection[int], numbers: Collection[int]) -> list[int]:
        """Take out those with these ids that are about one of these numbers; gives the ids of the others."""
        with self._lock, _errors():
            ask = "SELECT id, number FROM finding WHERE id BETWEEN ? AND ?"
            known = dict(self._connection.execute(ask, (min(ids), max(ids)))) if ids else {}
            out = {id for id in ids if known[id] in numbers}
            self._connection.executemany("DELETE FROM finding WHERE id = ?", [(id,) for id in out])
        return [id for id in ids if id not in out]

    def count_unlisted(self, kind: FindingKind, count: int) -> None:
        """Count more of a kind than it was given."""
        self._unlisted[kind] = self._unlisted.get(kind, 0) + count

    def counts(self) -> dict[FindingKind, int]:
        """How many there are of each kind of which there are any, with those that were only counted."""
        with self._lock, _errors():
            rows = dict(self._connection.execute("SELECT kind, count(*) FROM finding GROUP BY kind"))
        counts = {kind: rows.get(place, 0) + self._unlisted.get(kind, 0) for kind, place in _PLACES.items()}
        return {kind: count for kind, count in counts.items() if count}

    def of_kind(self, kind: FindingKind, most: int | None = None, first: int = 0) -> Iterator[Any]:
        """Those of a kind in their order, from place ``first`` on, ``most`` of them (None: all); read as needed."""
        with _errors():
            asked = (_PLACES[kind], -1 if most is None else most, first)
            for (content,) in self._connection.execute(_SELECT, asked):
                yield unpack(content)


class StoredFindings(FindingSequence[Listed]):
    """The findings of some kinds that a store has, in their order, up to ``top`` of each kind (None: all).

    They may be read as often as one likes; each time they are made anew.
    """

    def __init__(self, store: FindingStore, counts: Mapping[FindingKind, int], top: int | None = None) -> None:
        """``counts`` says how many of each of the kinds the store has, listed or not."""
        self._store = store
        self._counts = {kind: count if top is None else min(count, top) for kind, count in counts.items()}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[Listed]:
        for kind, count in self._counts.items():
            yield from self._store.of_kind(kind, count)

    @overload
    def __getitem__(self, place: int) -> Listed: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Listed]: ...

    def __getitem__(self, place: int | slice) -> Listed | Sequence[Listed]:
        """The finding at a place, or a tuple of those of a slice."""
        if isinstance(place, slice):
            return tuple(self[at] for at in range(*place.indices(len(self))))
        at = range(len(self))[place]
        for kind, count in self._counts.items():
            if at < count:
                (finding,) = self._store.of_kind(kind, 1, at)
                return cast("Listed", finding)
            at -= count
        raise IndexError(place)

    def of_kind(self, kind: FindingKind) -> StoredFindings[Listed]:
        """Those of a kind."""
        return StoredFindings(self._store, {kind: self._counts[kind]} if kind in self._counts else {})


def _errors() -> AbstractContextManager[None]:
    return errors_named(str(temporary_directory()))
