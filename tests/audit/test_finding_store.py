"""Findings in a private file: complete, in order, and deleted together with their reader."""

from __future__ import annotations

import gc
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.audit_samples import sample_audit

from evergreen_groups.audit import FindingKind, GroupFinding, PatronFinding
from evergreen_groups.audit.store import FindingStore, StoredFindings
from evergreen_groups.errors import StateError
from evergreen_groups.message import Message

AUDIT = sample_audit(9)


@dataclass(frozen=True)
class Large:
    """A value large enough to need space on disk."""

    number: int
    kind: FindingKind = FindingKind.ACCIDENTAL
    rank: int = 0
    content: str = "x" * 5_000


@pytest.fixture
def store() -> Iterator[FindingStore]:
    with FindingStore() as store:
        yield store


def temporary_files() -> list[Path]:
    """Return the temporary files that SQLite has open in this process."""
    links = [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return [file for file in links if "/etilqs_" in str(file.readlink())]


def listed(store: FindingStore, top: int | None = None) -> StoredFindings[PatronFinding]:
    return StoredFindings(store, {kind: n for kind, n in store.counts().items() if not kind.about_groups}, top)


def test_findings_come_back_as_they_were_in_the_order_of_an_audit(store: FindingStore) -> None:
    findings: list[PatronFinding | GroupFinding] = [*AUDIT.groups, *AUDIT.patrons]
    store.add(reversed(findings))
    patrons = listed(store)
    assert list(patrons) == list(AUDIT.patrons)
    groups = [found for kind in FindingKind for found in store.of_kind(kind) if kind.about_groups]
    assert groups == sorted(AUDIT.groups, key=lambda one: (list(FindingKind).index(one.kind), one.rank, one.number))
    counts = {kind: AUDIT.count(kind) for kind in FindingKind if not kind.about_thresholds}
    # A new kind of finding, as in docs/architecture.md, needs no sample here.
    assert store.counts() == {kind: count for kind, count in counts.items() if count}


def test_they_are_a_sequence_that_can_be_read_again(store: FindingStore) -> None:
    store.add(AUDIT.patrons)
    patrons: Sequence[PatronFinding] = listed(store)
    assert len(patrons) == len(AUDIT.patrons)
    assert patrons[0] == AUDIT.patrons[0]
    assert patrons[-1] == AUDIT.patrons[-1]
    assert list(patrons[60:70]) == list(AUDIT.patrons[60:70])
    assert AUDIT.patrons[70] in patrons
    with pytest.raises(IndexError):
        patrons[len(AUDIT.patrons)]
    assert list(listed(store).of_kind(FindingKind.FOR_FAMILY)) == AUDIT.of_kind(FindingKind.FOR_FAMILY)
    assert list(listed(store).of_kind(FindingKind.ACCIDENTAL)) == []


def test_the_first_of_each_kind_are_listed_and_all_are_counted(store: FindingStore) -> None:
    store.add(AUDIT.patrons)
    store.count_unlisted(FindingKind.FOR_FAMILY, 90)
    first = listed(store, 2)
    assert list(first) == [one for kind in FindingKind for one in AUDIT.of_kind(kind)[:2]]
    assert store.counts()[FindingKind.FOR_FAMILY] == 99
    assert list(AUDIT.first(2).patrons) == list(first)
    assert AUDIT.first(2).count(FindingKind.NOT_BLOCKED) == 63


def test_what_was_found_before_somebody_was_moved_is_taken_out(store: FindingStore) -> None:
    first = store.add(AUDIT.groups[:4])
    others = store.add(AUDIT.groups[4:])
    numbers = {one.number for one in AUDIT.groups[2:6]}
    assert store.drop(first, numbers) == first[:2]
    assert store.drop([], numbers) == []
    assert store.drop(others, set()) == others
    assert sum(store.counts().values()) == len(AUDIT.groups) - 2


def test_texts_of_the_catalogue_stay_such(store: FindingStore) -> None:
    text = Message("{count} lead", plural="{count} leads", context="x", values={"count": 2})
    store.add([Large(1, content=text)])
    (back,) = store.of_kind(FindingKind.ACCIDENTAL)
    assert (type(back.content), back.content.values, back.content.plural) == (Message, {"count": 2}, text.plural)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a system that shows open files")
def test_the_file_has_no_name_is_its_owners_alone_and_goes_with_the_store() -> None:
    before = set(temporary_files())
    store = FindingStore()
    store.add(map(Large, range(2_000)))
    (file,) = set(temporary_files()) - before
    status = file.stat()
    assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    assert status.st_size > 5_000_000
    del store
    gc.collect()
    assert not file.is_symlink()


def test_no_room_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", "/nonexistent")
    with FindingStore() as store:
        store._connection.execute("PRAGMA max_page_count = 100")
        with pytest.raises(StateError) as caught:
            store.add(map(Large, range(500)))
    assert caught.value.code == "database-unavailable"
    assert "free up disk space" in caught.value.advice
