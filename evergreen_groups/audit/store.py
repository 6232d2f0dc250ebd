"""Keep findings out of memory, in order: an audit of a large library may find a hundred thousand.

Findings are stored in a private SQLite database: a temporary file that has no name and that only this user can read. It
disappears with the process, however the process ends.
"""

from __future__ import annotations

import io
import itertools
import pickle
import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any, Self, TypeAlias, cast

from evergreen_groups.audit.findings import (
    Confidence,
    Evidence,
    FindingKind,
    GroupFinding,
    GroupSplit,
    Listed,
    PatronFinding,
    Reason,
)
from evergreen_groups.groups import Group, Member, Patron, PatronRow
from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.message import Message
from evergreen_groups.policy import Decision, Limit
from evergreen_groups.state import database_errors, temporary_directory


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A :class:`GroupFinding` before its fines are read. ``rows`` are all visible members of the group."""

    rows: tuple[PatronRow, ...]
    reasons: tuple[Reason, ...]
    kind: FindingKind
    confidence: Confidence | None = None
    split: GroupSplit | None = None

    @property
    def rank(self) -> int:
        return -self.confidence.points if self.confidence else 0

    @property
    def number(self) -> int:
        return self.rows[0].group

    def of(self, group: Group) -> GroupFinding:
        """Make the finding about the group that was read from the rows."""
        reasons = [
            # Hidden members' ages are unknown, and the judge didn't know whether there are any.
            Reason.counted(reason.code, group.counted(cast("int", reason.values["count"])), most=reason.values["most"])
            if reason.code == "several-adults"
            else reason
            for reason in self.reasons
        ]
        return GroupFinding(group, tuple(reasons), self.kind, self.confidence, self.split)


def pack(finding: object) -> bytes:
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _REDUCERS
    pickler.dump(finding)
    return stream.getvalue()


def unpack(content: bytes) -> Any:
    """Unpickle a finding. Only safe for bytes that this process packed."""
    return pickle.loads(content)  # noqa: S301  # made by pack, in a file that no other user can open


def _make(index: int, *values: Any) -> Any:
    return _MAKERS[index](*values)


def _values_of(kind: type[Any]) -> Callable[[Any], Any]:
    names = [field.name for field in fields(kind) if field.init]
    values = attrgetter(*names)
    return values if len(names) > 1 else lambda record: (values(record),)


def _make_message(text: str, context: str, plural: str, values: Mapping[str, object]) -> Message:
    return Message(text, context=context, plural=plural, values=values)


_KINDS = (
    *(PatronFinding, GroupFinding, GroupDraft, Reason, Evidence, Confidence, GroupSplit),
    *(Group, Member, Patron, OrgUnit, Decision, Limit, Penalty, PenaltyKind),
)
_VALUES: dict[type[Any], Callable[[Any], Any]] = {
    **{kind: _values_of(kind) for kind in _KINDS},
    PatronRow: tuple,
    FindingKind: lambda kind: (kind.value,),
    Decimal: lambda amount: (str(amount),),
    Message: lambda text: (text.text, text.context, text.plural, dict(text.values)),
}
_MAKERS = [_make_message if kind is Message else kind for kind in _VALUES]
# All by the name of one function: for each name in a pickle, Python looks up a module.
# mypy can't infer the type of a lambda that has defaults.
_REDUCERS: dict[type[Any], Callable[[Any], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    kind: lambda record, index=index, values=values: (_make, (index, *values(record)))  # type: ignore[misc]
    for index, (kind, values) in enumerate(_VALUES.items())
}


_KIND_INDEX = {kind: index for index, kind in enumerate(FindingKind)}
# The data needn't survive the process, so turn off the journal and syncing. The cache size is in KiB.
_TABLE = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -4096;
    CREATE TABLE finding (id INTEGER PRIMARY KEY, kind INTEGER, rank INTEGER, number INTEGER, content BLOB);
    CREATE INDEX in_order ON finding (kind, rank, number, id);
"""
_INSERT = "INSERT INTO finding VALUES (?, ?, ?, ?, ?)"
_SELECT = "SELECT content FROM finding WHERE kind = ? ORDER BY rank, number, id LIMIT ? OFFSET ?"


Ranked: TypeAlias = PatronFinding | GroupFinding | GroupDraft
"""A record with a place in an audit's order: by kind, then ``rank``, then ``number``, the lowest first."""


class FindingStore:
    """Takes findings from several threads and returns them in order.

    Closing the store or dropping the last reference deletes its content. Methods raise StateError if the disk is full.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unlisted: dict[FindingKind, int] = {}
        self._ids = itertools.count()
        with _errors():
            # An empty name makes SQLite use a private temporary file: https://sqlite.org/inmemorydb.html.
            self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._close = weakref.finalize(self, self._connection.close)
            self._connection.executescript(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._close()

    def add(self, findings: Iterable[Ranked], extra: Mapping[int, object] | None = None) -> list[int]:
        """Store findings and return their ids. With ``extra``, store pairs of a finding and its number's value."""
        rows = [
            (
                *(next(self._ids), _KIND_INDEX[finding.kind], finding.rank, finding.number),
                pack(finding if extra is None else (finding, extra[finding.number])),
            )
            for finding in findings
        ]
        with self._lock, _errors():
            self._connection.execute("BEGIN")
            self._connection.executemany(_INSERT, rows)
            self._connection.execute("COMMIT")
        return [id for id, *_others in rows]

    def drop(self, ids: Collection[int], numbers: Collection[int]) -> list[int]:
        """Delete the findings, of those with these ids, about one of the numbers. Return the ids of the others."""
        with self._lock, _errors():
            ask = "SELECT id, number FROM finding WHERE id BETWEEN ? AND ?"
            known = dict(self._connection.execute(ask, (min(ids), max(ids)))) if ids else {}
            out = {id for id in ids if known[id] in numbers}
            self._connection.executemany("DELETE FROM finding WHERE id = ?", [(id,) for id in out])
        return [id for id in ids if id not in out]

    def count_unlisted(self, kind: FindingKind, count: int) -> None:
        """Count findings that weren't stored."""
        self._unlisted[kind] = self._unlisted.get(kind, 0) + count

    def counts(self) -> dict[FindingKind, int]:
        """Return the number of findings of each kind, stored or only counted. Leave out kinds without findings."""
        with self._lock, _errors():
            rows = dict(self._connection.execute("SELECT kind, count(*) FROM finding GROUP BY kind"))
        counts = {kind: rows.get(index, 0) + self._unlisted.get(kind, 0) for kind, index in _KIND_INDEX.items()}
        return {kind: count for kind, count in counts.items() if count}

    def of_kind(self, kind: FindingKind, most: int | None = None, first: int = 0) -> Iterator[Any]:
        """Yield up to ``most`` (None: all) findings of a kind in order, from index ``first``. Reads them as needed."""
        with _errors():
            asked = (_KIND_INDEX[kind], -1 if most is None else most, first)
            for (content,) in self._connection.execute(_SELECT, asked):
                yield unpack(content)


class StoredFindings(Sequence[Listed]):
    """The findings of some kinds in a store, in order, up to ``top`` of each (None: all). Rebuilt on each pass."""

    def __init__(self, store: FindingStore, counts: Mapping[FindingKind, int], top: int | None = None) -> None:
        """``counts`` has the number of findings of each kind, listed or not."""
        self._store = store
        self._counts = {kind: count if top is None else min(count, top) for kind, count in counts.items()}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[Listed]:
        for kind, count in self._counts.items():
            yield from self._store.of_kind(kind, count)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        for kind, count in self._counts.items():
            if at < count:
                (finding,) = self._store.of_kind(kind, 1, at)
                return finding
            at -= count
        raise IndexError(index)

    def of_kind(self, kind: FindingKind) -> StoredFindings[Listed]:
        return StoredFindings(self._store, {kind: self._counts[kind]} if kind in self._counts else {})


def _errors() -> AbstractContextManager[None]:
    return database_errors(str(temporary_directory()))
