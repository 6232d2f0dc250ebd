"""Keep findings out of memory, in order: an audit of a large library may find a hundred thousand.

Findings are stored in a private SQLite database: a temporary file that has no name and that only this user can read. It
disappears with the process, however the process ends.
"""

from __future__ import annotations

import io
import pickle
import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, overload

from evergreen_groups.audit.findings import (
    Confidence,
    Evidence,
    FindingKind,
    FindingSequence,
    GroupFinding,
    GroupSplit,
    Listed,
    PatronFinding,
    Reason,
)
from evergreen_groups.groups import Group, GroupSearch, Member, Patron, PatronRow, read_barcodes
from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.message import Message
from evergreen_groups.policy import Decision, Limit
from evergreen_groups.state import database_errors, temporary_directory

if TYPE_CHECKING:
    from evergreen_groups.audit.build import SearchContext
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import GroupQuery


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
        """The sort key within its kind, the same as :attr:`GroupFinding.rank`."""
        return -self.confidence.points if self.confidence else 0

    @property
    def number(self) -> int:
        """The group's number."""
        return self.rows[0].group

    def of(self, group: Group) -> GroupFinding:
        """Make the finding about the group that was read from the rows."""
        return GroupFinding(group, tuple(self._reasons(group)), self.kind, self.confidence, self.split)

    def _reasons(self, group: Group) -> Iterator[Reason]:
        for reason in self.reasons:
            if reason.code == "several-adults":
                # Hidden members' ages are unknown, and the judge didn't know whether there are any.
                count, most = reason.values["count"], reason.values["most"]
                yield Reason.counted(reason.code, group.counted(cast("int", count)), most=most)
            else:
                yield reason


@dataclass(frozen=True, slots=True)
class PatronDraft:
    """A finding about a patron whose barcode isn't read yet. ``card`` is the id of the primary card."""

    finding: PatronFinding
    card: int | None

    @property
    def kind(self) -> FindingKind:
        """The finding's kind."""
        return self.finding.kind

    @property
    def rank(self) -> int:
        """The finding's sort key within its kind."""
        return self.finding.rank

    @property
    def number(self) -> int:
        """The patron's id."""
        return self.finding.number


Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def pack(finding: object) -> bytes:
    """Pickle a finding or a draft."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _REDUCERS
    pickler.dump(finding)
    return stream.getvalue()


def unpack(content: bytes) -> Any:
    """Unpickle a finding. Only safe for bytes that this process packed."""
    return pickle.loads(content)  # noqa: S301  # made by pack, in a file that no other user can open


def _reduce_fields(kind: type[Any]) -> Callable[[Any], Reduced]:
    names = [field.name for field in fields(kind) if field.init]
    values = attrgetter(*names)
    if len(names) == 1:
        return lambda record: (kind, (values(record),))
    return lambda record: (kind, values(record))


def _reduce_message(text: Message) -> Reduced:
    return _make_message, (text.text, text.context, text.plural, dict(text.values))


def _make_message(text: str, context: str, plural: str, values: Mapping[str, object]) -> Message:
    return Message(text, context=context, plural=plural, values=values)


_KINDS = (
    *(PatronFinding, PatronDraft, GroupFinding, GroupDraft, Reason, Evidence, Confidence, GroupSplit),
    *(Group, Member, Patron, OrgUnit, Decision, Limit, Penalty, PenaltyKind),
)
_REDUCERS: dict[type[Any], Callable[[Any], Reduced]] = {
    **{kind: _reduce_fields(kind) for kind in _KINDS},
    PatronRow: lambda row: (PatronRow, tuple(row)),
    Message: _reduce_message,
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
_INSERT = "INSERT INTO finding (kind, rank, number, content) VALUES (?, ?, ?, ?)"
_SELECT = "SELECT content FROM finding WHERE kind = ? ORDER BY rank, number, id LIMIT ? OFFSET ?"


class Ranked(Protocol):
    """A record with a place in an audit's order: by kind, then rank, then number, the lowest first."""

    @property
    def kind(self) -> FindingKind:
        """The kind of finding."""

    @property
    def rank(self) -> int:
        """The sort key within the kind."""

    @property
    def number(self) -> int:
        """The sort key within the rank."""


class FindingStore:
    """Takes findings from several threads and returns them in order.

    Closing the store or dropping the last reference deletes its content. Methods raise StateError if the disk is full.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unlisted: dict[FindingKind, int] = {}
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
        """Delete the content."""
        self._close()

    def add(self, findings: Iterable[Ranked]) -> list[int]:
        """Store findings and return their ids."""
        rows = [(_KIND_INDEX[finding.kind], finding.rank, finding.number, pack(finding)) for finding in findings]
        with self._lock, _errors():
            self._connection.execute("BEGIN")
            ids = [self._connection.execute(_INSERT, row).lastrowid or 0 for row in rows]
            self._connection.execute("COMMIT")
        return ids

    def drop(self, ids: Collection[int], numbers: Collection[int]) -> list[int]:
        """Delete those of the findings with these ids that are about one of the numbers.

        Return the ids of the others.
        """
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
        """Yield up to ``most`` (None: all) findings of a kind in order, starting at index ``first``.

        Reads them as needed.
        """
        with _errors():
            asked = (_KIND_INDEX[kind], -1 if most is None else most, first)
            for (content,) in self._connection.execute(_SELECT, asked):
                yield unpack(content)


class StoredFindings(FindingSequence[Listed]):
    """The findings of some kinds in a store, in order, up to ``top`` of each kind (None: all).

    Can be read repeatedly; creates the findings each time.
    """

    def __init__(self, store: FindingStore, counts: Mapping[FindingKind, int], top: int | None = None) -> None:
        """``counts`` has the number of findings of each kind, listed or not."""
        self._store = store
        self._counts = {kind: count if top is None else min(count, top) for kind, count in counts.items()}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[Listed]:
        for kind, count in self._counts.items():
            yield from self._store.of_kind(kind, count)

    @overload
    def __getitem__(self, index: int) -> Listed: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Listed]: ...

    def __getitem__(self, index: int | slice) -> Listed | Sequence[Listed]:
        """Return the finding at an index, or a tuple for a slice."""
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        for kind, count in self._counts.items():
            if at < count:
                (finding,) = self._store.of_kind(kind, 1, at)
                return cast("Listed", finding)
            at -= count
        raise IndexError(index)

    def of_kind(self, kind: FindingKind) -> StoredFindings[Listed]:
        """Return the findings of a kind."""
        return StoredFindings(self._store, {kind: self._counts[kind]} if kind in self._counts else {})


def _errors() -> AbstractContextManager[None]:
    return database_errors(str(temporary_directory()))


# How many findings to complete together.
_BATCH = 500


def list_first(
    context: SearchContext, drafts: FindingStore, complete: Callable[[Sequence[Any]], Iterable[Ranked]]
) -> None:
    """Complete the first ``context.top`` drafts of each kind, add them to the findings, and count the others."""
    for kind, count in drafts.counts().items():
        first = list(drafts.of_kind(kind, context.top))
        lists = [first[at : at + _BATCH] for at in range(0, len(first), _BATCH)]
        for completed in context.gateway.map(complete, lists):
            context.found.add(completed)
        context.found.count_unlisted(kind, count - len(first))


class PatronListing:
    """Takes findings about patrons. If ``context.top`` is set, reads barcodes only for the listed ones.

    A context manager, because the listed findings are known only at the end.
    """

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._drafts = None if context.top is None else FindingStore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        if self._drafts is not None:
            with self._drafts:
                if kind is None:
                    list_first(self._context, self._drafts, self._complete)

    @property
    def with_cards(self) -> bool:
        """Whether findings need the members' barcodes when they are added."""
        return self._drafts is None

    def add(self, findings: Iterable[PatronFinding], rows: Iterable[PatronRow]) -> int:
        """Add findings about the patrons of these rows. Return how many."""
        if self._drafts is None:
            return len(self._context.found.add(findings))
        cards = {row.id: row.card for row in rows}
        return len(self._drafts.add(PatronDraft(finding, cards[finding.number]) for finding in findings))

    def _complete(self, drafts: Sequence[PatronDraft]) -> Iterator[PatronFinding]:
        barcodes = read_barcodes(self._context.gateway, {draft.card for draft in drafts})
        for draft in drafts:
            barcode = None if draft.card is None else barcodes.get(draft.card)
            yield replace(draft.finding, member=draft.finding.member.with_barcode(barcode))


Judge = Callable[[Sequence["PatronRow"], Mapping[int, Sequence[Any]]], "list[GroupDraft]"]
"""Makes drafts of findings about whole groups from all visible members and, by patron id, the requested fields."""

# Three answers are in memory at once, and each has more fields per member than a report's.
_PAGE = 2_000


def list_groups(context: SearchContext, query: GroupQuery, fields: Sequence[str], judge: Judge) -> None:
    """Search the groups that ``query`` matches and add findings for those that ``judge`` drafts.

    If ``context.top`` is set, read cards and fines only for the first groups of each kind and count the others.
    ``fields`` are the fields of each member's record (``au``) that the judge needs.
    """
    records = _RecordCache(context.gateway, tuple(fields))
    search = GroupSearch(context.gateway, query, context.progress, page=_PAGE, extra_fields=fields, take=records.take)
    if context.top is None:
        _run(search, context.found, lambda rows: _build_findings(context, judge(rows, records.pop(rows))))
        return
    with FindingStore() as drafts:
        _run(search, drafts, lambda rows: judge(rows, records.pop(rows)))
        list_first(context, drafts, lambda first: _build_findings(context, first))


def _run(
    search: GroupSearch, store: FindingStore, find: Callable[[Sequence[PatronRow]], Sequence[GroupDraft | GroupFinding]]
) -> None:
    """Store what ``find`` returns. If patrons move during the search, the search drops results and adds new ones."""
    search.run(lambda rows: store.add(find(rows)), store.drop)


def _build_findings(context: SearchContext, drafts: Sequence[GroupDraft]) -> list[GroupFinding]:
    """Read cards, fines and hidden members, and make findings of the drafts."""
    rows = chain.from_iterable(draft.rows for draft in drafts)
    groups = {group.number: group for group in context.reader.build_groups(rows)}
    return [draft.of(groups[draft.number]) for draft in drafts]


class _RecordCache:
    """Holds the extra fields that a search reads, by patron id, until they are used.

    Used values are removed, because there may be a hundred thousand. They are read again if a group is judged again
    after a move.
    """

    def __init__(self, gateway: Gateway, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._gateway = gateway
        self._taken: dict[int, Sequence[Any]] = {}

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Store the values of a patron's fields."""
        self._taken[patron] = values

    def pop(self, rows: Sequence[PatronRow]) -> dict[int, Sequence[Any]]:
        """Remove and return the values of these patrons, by id. Read missing ones."""
        found = {row.id: self._taken.pop(row.id, None) for row in rows}
        missing = sorted(id for id, values in found.items() if values is None)
        read = dict(self._read(missing))
        return {id: read[id] if values is None else values for id, values in found.items()}

    def _read(self, patrons: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        for batch in self._gateway.pcrud.columns_by_values("au", ("id", *self.fields), "id", patrons):
            for id, *values in batch:
                yield id, values
