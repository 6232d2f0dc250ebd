"""Locks between processes on one machine, each on one byte of a file: one file has locks for any number of things.

The kernel releases a lock when the process ends, for whatever reason. A note in the file names the holder in messages.
A run that ends normally removes it, so a note without a lock means that a run was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from evergreen_groups.errors import BusyError, ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.files import NO_ROOM, cannot_write, give_to_directory_owner, write_advice

_NOTE_LIMIT = 4096
_OWN_DIRECTORY = Message("run this as the owner of the state directory")
_LOCAL_DISK = Message("move the state directory to a local disk")
_FLOCK = "hhqqi4x"  # struct flock
_WHOLE = 0
"""The number of the lock that :func:`hold` takes. Leases have numbers of 62 bits."""
_PAUSE = 0.05  # seconds between two attempts to get a lock


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lock or a lease, or that left a note of one, and no longer is ``alive``.

    ``since`` is aware. ``host`` is the machine of the process, None for this one.
    """

    pid: int
    since: datetime
    alive: bool
    host: str | None = None

    @property
    def message(self) -> Message:
        """The process, its machine if that may be another one, and the time since when it holds the lock."""
        values = {"pid": self.pid, "host": self.host, "since": self.since}
        if self.host is None:
            return Message("process {pid}, since {since}", values=values)
        return Message("process {pid} on {host}, since {since}", values=values)

    def was_killed(self, recorded: datetime | None) -> bool:
        """Return whether this process ended without recording its outcome, unlike the run of the time ``recorded``.

        Times are compared only for equality, because the clock may have been set in between.
        """
        return not self.alive and recorded != self.since


@dataclass(frozen=True, slots=True)
class LeaseName:
    """The name of a lease: a lock on work, on this machine or on all that share a database.

    ``file`` is the name of its lock file in the state directory. ``doing`` is the message for a busy lease, about what
    the holder does. With ``parts``, only these are leased, and no note names the holder. ``shared`` names a part that
    others may share, but that no one may hold exclusively in the meantime.
    """

    name: str
    file: str
    doing: str
    parts: frozenset[str] = frozenset()
    shared: str = ""

    def part(self, name: str) -> LeaseName:
        return replace(self, parts=frozenset({name}))

    @property
    def locks(self) -> list[tuple[int, bool]]:
        """The numbers of the lease's locks, and whether each is shared, in the order in which every process takes them.

        The order prevents deadlocks. As the locks taken stay held, a process that wants many gets them in the end.
        """
        own = sorted(self._key(f" {part}") for part in self.parts) or [self._key()]
        shared = [(self._key(f" {self.shared}"), True)] if self.shared else []
        return [*shared, *((key, False) for key in own)]

    def _key(self, part: str = "") -> int:
        # 62 bits, which is what both a file's locks and PostgreSQL's accept.
        return int.from_bytes(sha256(f"evergreen-groups {self.name}{part}".encode()).digest()[:8]) >> 2


@contextmanager
def hold(file: Path, doing: str, timeout: float = 0.0, *, parts: Sequence[tuple[int, bool]] = ()) -> Iterator[Holder]:
    """Hold the lock of a file, or some of its locks: the :attr:`LeaseName.locks` of a lease with parts.

    ``doing`` is the message for a busy lock, about what the other process does. ``timeout`` is how many seconds to wait
    for the lock. Of parts, no note is written.

    Raises:
        BusyError: another process holds the lock. The message says which one and since when, if there is a note.
        ConfigurationError: the file can't be opened, or is on a disk without locks.
    """
    with _lock_file(file) as descriptor:
        if not _try_locks(file, descriptor, parts or [(_WHOLE, False)], timeout):
            raise part_is_busy(doing) if parts else busy(doing, _noted(descriptor))
        holder = Holder(os.getpid(), datetime.now(UTC), alive=True)
        if parts:
            yield holder
            return
        _write_note(descriptor, json.dumps({"pid": holder.pid, "since": holder.since.isoformat()}))
        try:
            yield holder
        finally:
            _write_note(descriptor, "")


def busy(doing: str, holder: Holder | None) -> BusyError:
    """Return the error for a lock that another process holds."""
    described = Message("just started") if holder is None else holder.message
    return BusyError("{doing} ({holder})", values={"doing": doing, "holder": described})


def part_is_busy(doing: str) -> BusyError:
    return BusyError("{doing}", code="others-changing", values={"doing": doing})


def holder_of(file: Path) -> Holder | None:
    """Read who holds a lock, or was killed while holding it, without taking the lock. None if there is no note."""
    try:
        with file.open("rb") as stream:
            return _noted(stream.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        values = {"path": file, "reason": system_reason(error)}
        raise ConfigurationError(
            "cannot read {path}: {reason}", advice=_OWN_DIRECTORY, code="lock-not-read", values=values
        ) from error


def is_held(file: Path, name: LeaseName) -> bool:
    """Return whether any lock of a lease is held in its file. Takes none, so no other process waits for this one."""
    with _lock_file(file) as descriptor:
        return any(_is_locked(descriptor, number, is_shared) for number, is_shared in name.locks)


@contextmanager
def _lock_file(file: Path) -> Iterator[int]:
    """Open a lock file, and create it if necessary."""
    try:
        # Never delete a lock file: a process that waits for a deleted file would get a lock that no one else sees.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_to_directory_owner(descriptor, file.parent)
    except OSError as error:
        advice = write_advice(error) if error.errno in NO_ROOM else _OWN_DIRECTORY
        raise cannot_write(file, system_reason(error), advice, code="lock-not-opened") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_locks(file: Path, descriptor: int, locks: Sequence[tuple[int, bool]], timeout: float) -> bool:
    """Try to take all locks in order until ``timeout`` seconds have passed. The kernel's own wait has no limit."""
    deadline = time.monotonic() + timeout
    try:
        for number, is_shared in locks:
            while not _try_lock(descriptor, number, is_shared):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
    except OSError as error:
        values = {"path": file, "reason": system_reason(error)}
        raise ConfigurationError(
            "cannot lock {path}: {reason}", advice=_LOCAL_DISK, code="lock-impossible", values=values
        ) from error
    return True


def _try_lock(descriptor: int, number: int, is_shared: bool) -> bool:
    """Take a lock that belongs to the open file, so that it also works between threads. Locks of lockf don't."""
    try:
        if hasattr(fcntl, "F_OFD_SETLK"):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _byte_lock(number, is_shared))
        else:  # only Linux has these; lock the whole file
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(descriptor: int, number: int, is_shared: bool) -> bool:
    """Return whether another process holds a lock that this one couldn't take now."""
    if not hasattr(fcntl, "F_OFD_GETLK"):  # no way to test without trying
        return not _try_lock(descriptor, number, is_shared)
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _byte_lock(number, is_shared))
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _byte_lock(number: int, is_shared: bool) -> bytes:
    return struct.pack(_FLOCK, fcntl.F_RDLCK if is_shared else fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)


def _write_note(descriptor: int, note: str) -> None:
    """Replace the note. Ignore errors: a full disk must not prevent locking."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)


def _noted(descriptor: int) -> Holder | None:
    try:
        note = json.loads(os.pread(descriptor, _NOTE_LIMIT, 0))
        since = datetime.fromisoformat(note["since"]).astimezone()
        return Holder(note["pid"], since, alive=_is_locked(descriptor, _WHOLE, is_shared=False))
    except (ValueError, TypeError, KeyError):  # being written, or cut off by a full disk
        return None
