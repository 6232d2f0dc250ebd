"""Findings out of memory, in their order: an audit of a large library may have a hundred thousand of them.

They lie in a private database of SQLite's: a file among the system's temporary ones that only this user can read and
that has no name, so it is gone with the process, however that ends.
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
    """What a :class:`GroupFinding` is made of; ``rows`` are all visible members of the group."""

    rows: tuple[PatronRow, ...]
    reasons: tuple[Reason, ...]
    kind: FindingKind
    confidence: Confidence | None = None
    split: GroupSplit | None = None

    @property
    def rank(self) -> int:
        """Where it stands among those of its kind, as :attr:`GroupFinding.rank`."""
        return -self.confidence.points if self.confidence else 0

    @property
    def number(self) -> int:
        """The group's number."""
        return self.rows[0].group

    def of(self, group: Group) -> GroupFinding:
        """The finding, with the group that the rows are of."""
        return GroupFinding(group, tuple(self._reasons(group)), self.kind, self.confidence, self.split)

    def _reasons(self, group: Group) -> Iterator[Reason]:
        for reason in self.reasons:
            if (
                reason.code == "several-adults"
            ):  # nobody knows how old hidden members are, nor looked whether there are any
                count, most = reason.values["count"], reason.values["most"]
                yield Reason.counted(reason.code, group.counted(cast("int", count)), most=most)
            else:
                yield reason


@dataclass(frozen=True, slots=True)
class PatronDraft:
    """A finding about a patron whose barcode wasn't read; ``card`` is the id of the card that it stands on."""

    finding: PatronFinding
    card: int | None

    @property
    def kind(self) -> FindingKind:
        """Its kind."""
        return self.finding.kind

    @property
    def rank(self) -> int:
        """Where it stands among those of its kind."""
        return self.finding.rank

    @property
    def number(self) -> int:
        """The patron's id."""
        return self.finding.number


Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def pack(finding: object) -> bytes:
    """A finding, or a draft of one, as bytes."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _REDUCED
    pickler.dump(finding)
    return stream.getvalue()


def unpack(content: bytes) -> Any:
    """The finding that was packed; only for what this process has packed itself."""
    return pickle.loads(content)  # noqa: S301  # what pack has made, in a file that nobody else can open


def _by_fields(kind: type[Any]) -> Callable[[Any], Reduced]:
    names = [field.name for field in fields(kind) if field.init]
    values = attrgetter(*names)
    if len(names) == 1:
        return lambda one: (kind, (values(one),))
    return lambda one: (kind, values(one))


def _message(text: Message) -> Reduced:
    return _made, (text.text, text.context, text.plural, dict(text.values))


def _made(text: str, context: str, plural: str, values: Mapping[str, object]) -> Message:
    return Message(text, context=context, plural=plural, values=values)


_KINDS = (
    *(PatronFinding, PatronDraft, GroupFinding, GroupDraft, Reason, Evidence, Confidence, GroupSplit),
    *(Group, Member, Patron, OrgUnit, Decision, Limit, Penalty, PenaltyKind),
)
_REDUCED: dict[type[Any], Callable[[Any], Reduced]] = {
    **{kind: _by_fields(kind) for kind in _KINDS},
    PatronRow: lambda row: (PatronRow, tuple(row)),
    Message: _message,
}


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
    return database_errors(str(temporary_directory()))


# Findings for which the rest is read together.
_AT_ONCE = 500


def list_first(
    context: SearchContext, drafts: FindingStore, complete: Callable[[Sequence[Any]], Iterable[Ranked]]
) -> None:
    """Add the first of each kind to what is found, as many as are listed, made ``complete``, and count the others."""
    for kind, count in drafts.counts().items():
        first = list(drafts.of_kind(kind, context.top))
        lists = [first[at : at + _AT_ONCE] for at in range(0, len(first), _AT_ONCE)]
        for completed in context.gateway.map(complete, lists):
            context.found.add(completed)
        context.found.count_unlisted(kind, count - len(first))


class PatronListing:
    """Takes findings about patrons; where not all will be listed, barcodes are read of the first of each kind alone.

    It is a context: what is listed is known at its end.
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
        """Whether findings need the barcodes of their members."""
        return self._drafts is None

    def add(self, findings: Iterable[PatronFinding], rows: Iterable[PatronRow]) -> int:
        """Take findings about the patrons of these rows; gives how many they are."""
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
"""Says of whole groups, given all visible members and the fields that were asked for (by patron's id), what is wrong
with them."""

# Three answers are in memory at once, with more of each member than a report has.
_PAGE = 2_000


def list_groups(context: SearchContext, query: GroupQuery, fields: Sequence[str], judge: Judge) -> None:
    """Search for the groups that ``query`` is about, and add those to what is found that ``judge`` has drafts of.

    Where not all of a kind will be listed, cards and fines are read of the surest alone, and the others are counted.
    ``fields`` of each member's record (``au``) are read along with the search, for the judge.
    """
    records = _Records(context.gateway, tuple(fields))
    search = GroupSearch(context.gateway, query, context.progress, page=_PAGE, beside=records)
    if context.top is None:
        _run(search, context.found, lambda rows: _finished(context, judge(rows, records.of(rows))))
        return
    with FindingStore() as drafts:
        _run(search, drafts, lambda rows: judge(rows, records.of(rows)))
        list_first(context, drafts, lambda some: _finished(context, some))


def _run(
    search: GroupSearch, store: FindingStore, find: Callable[[Sequence[PatronRow]], Sequence[GroupDraft | GroupFinding]]
) -> None:
    """Put what is found in groups into a store; what was found before somebody was moved is taken out again."""
    search.run(lambda rows: store.add(find(rows)), store.without)


def _finished(context: SearchContext, drafts: Sequence[GroupDraft]) -> list[GroupFinding]:
    """The findings that drafts are of, with cards, fines and hidden members read."""
    rows = chain.from_iterable(draft.rows for draft in drafts)
    groups = {group.number: group for group in context.reader.complete(rows)}
    return [draft.of(groups[draft.number]) for draft in drafts]


class _Records:
    """What a search reads of members' records beside their rows, by id, until somebody asks for it.

    It is let go of then, for there may be a hundred thousand of them; whoever asks again, because somebody was moved
    meanwhile, has it read again.
    """

    def __init__(self, gateway: Gateway, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._gateway = gateway
        self._taken: dict[int, Sequence[Any]] = {}

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Take what the fields hold of a patron (id)."""
        self._taken[patron] = values

    def of(self, rows: Sequence[PatronRow]) -> dict[int, Sequence[Any]]:
        """What they hold of these patrons, by id."""
        found = {row.id: self._taken.pop(row.id, None) for row in rows}
        missing = sorted(id for id, values in found.items() if values is None)
        read = dict(self._read(missing))
        return {id: read[id] if values is None else values for id, values in found.items()}

    def _read(self, patrons: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
        for batch in self._gateway.pcrud.columns_by_values("au", ("id", *self.fields), "id", patrons):
            for id, *values in batch:
                yield id, values
