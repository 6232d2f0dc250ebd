"""Locks between processes on one machine, with a note in the lock file that names the holder.

The kernel's lock on the file is what counts. The kernel releases the lock when the process ends, for whatever reason.
The note is for messages. A run that ends normally removes it, so a note without a lock means that a run was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from evergreen_groups.errors import BusyError, ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.files import NO_ROOM, give_to_directory_owner, write_advice

_NOTE_LIMIT = 4096
_OWN_DIRECTORY = Message("run this as the owner of the state directory")
_FLOCK = "hhqqi4x"  # struct flock
_PAUSE = 0.05  # seconds between two attempts to get a lock


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a lock or a lease, or that left a note of one. ``since`` is aware.

    ``alive`` tells whether this very process still runs, not another one with the same number. ``host`` is the machine
    where it runs, None for this one.
    """

    pid: int
    since: datetime
    alive: bool
    host: str | None = None

    def __str__(self) -> str:
        return str(self.message)

    @property
    def message(self) -> Message:
        """The process, its machine if that may be another one, and the time since when it holds the lock."""
        values = {"pid": self.pid, "host": self.host, "since": self.since}
        if self.host is None:
            return Message("process {pid}, since {since}", values=values)
        return Message("process {pid} on {host}, since {since}", values=values)

    def was_killed(self, recorded: datetime | None) -> bool:
        """Return whether this process ended without recording its outcome.

        ``recorded`` is when the last recorded run started, None without any. Compare times only for equality, because
        the clock may have been set in between.
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
    def keys(self) -> list[int]:
        """The lease's lock numbers in the order in which every process takes them."""
        return sorted(self._key(f" {part}") for part in self.parts) or [self._key()]

    @property
    def shared_keys(self) -> list[int]:
        """The number of the shared lock, taken before the others; empty if there is none."""
        return [self._key(f" {self.shared}")] if self.shared else []

    def _key(self, part: str = "") -> int:
        # 62 bits, which is what both a file's locks and PostgreSQL's accept.
        return int.from_bytes(sha256(f"evergreen-groups {self.name}{part}".encode()).digest()[:8]) >> 2


@contextmanager
def hold(
    file: Path,
    doing: str,
    timeout: float = 0.0,
    *,
    parts: Collection[int] = (),
    shared: Collection[int] = (),
) -> Iterator[Holder]:
    """Hold the lock of a file. ``doing`` is the message for a busy lock, about what the other process does.

    ``timeout`` is how many seconds to wait for the lock. With ``parts``, numbers below 2**62, lock only these bytes of
    the file, and leave no note. So one file has locks for any number of things. ``shared`` parts get a shared lock.

    Raises:
        BusyError: another process holds the lock. The message says which one and since when.
        ConfigurationError: the file can't be opened, or is on a disk without locks.
    """
    with _lock_file(file) as descriptor:
        try:
            got = try_lock(descriptor, timeout, parts, shared)
        except OSError as error:
            raise ConfigurationError(
                "cannot lock {path}: {reason}",
                advice="move the state directory to a local disk",
                code="lock-impossible",
                values={"path": file, "reason": system_reason(error)},
            ) from error
        if not got:
            raise busy(doing, _noted(descriptor), parts)
        holder = Holder(os.getpid(), datetime.now(UTC), alive=True)
        if parts:
            yield holder
            return
        note = {"pid": holder.pid, "since": holder.since.isoformat(), "start_tick": _start_tick(holder.pid)}
        _write_note(descriptor, json.dumps(note))
        try:
            yield holder
        finally:
            _write_note(descriptor, "")


def busy(doing: str, holder: Holder | None, parts: Collection[object]) -> BusyError:
    """Return the error for a lock that another process holds. Holders of ``parts`` leave no note of themselves."""
    if parts:
        return BusyError("{doing}", code="others-changing", values={"doing": doing})
    if holder is None:
        described = Message("just started")
    elif holder.alive:
        described = holder.message
    else:
        described = Message("a child of {holder}, which has ended", values={"holder": holder.message})
    return BusyError("{doing} ({holder})", values={"doing": doing, "holder": described})


def holder_of(file: Path) -> Holder | None:
    """Read who holds a lock, or was killed while holding it, without taking the lock. None if there is no note."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _noted(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            "cannot read {path}: {reason}",
            advice=_OWN_DIRECTORY,
            code="lock-not-read",
            values={"path": file, "reason": system_reason(error)},
        ) from error


def is_held(file: Path, parts: Collection[int], shared: Collection[int] = ()) -> bool:
    """Return whether any of these parts of a lock file is locked, the ``shared`` ones exclusively.

    Takes no lock, so no other process has to wait for this one.
    """
    with _lock_file(file) as descriptor:
        return any(_is_locked(descriptor, part, kind) for part, kind in _in_order(parts, shared))


@contextmanager
def _lock_file(file: Path) -> Iterator[int]:
    """Open a lock file, and create it if necessary."""
    try:
        # Never delete a lock file: a process that waits for a deleted file would get a lock that no one else sees.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_to_directory_owner(descriptor, file.parent)
    except OSError as error:
        raise ConfigurationError(
            "cannot write {path}: {reason}",
            advice=write_advice(error) if error.errno in NO_ROOM else _OWN_DIRECTORY,
            code="lock-not-opened",
            values={"path": file, "reason": system_reason(error)},
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, timeout: float, parts: Collection[int] = (), shared: Collection[int] = ()) -> bool:
    """Try to lock an open file until ``timeout`` seconds have passed. The kernel's own wait has no limit.

    Take the parts in a fixed order, and hold each while waiting for the next. This prevents deadlocks, and ensures
    that a process that wants many parts gets them even while others come and go.
    """
    deadline = time.monotonic() + timeout
    for part, kind in _in_order(parts, shared):
        while True:
            try:
                _lock(descriptor, part, kind)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
            else:
                break
    return True


def _in_order(parts: Collection[int], shared: Collection[int]) -> list[tuple[int | None, int]]:
    """Return the parts with their kinds of lock, in order. A part of None is the whole file."""
    ours: list[tuple[int | None, int]] = [(part, fcntl.F_WRLCK) for part in sorted(set(parts))]
    return [*((part, fcntl.F_RDLCK) for part in sorted(set(shared))), *ours] or [(None, fcntl.F_WRLCK)]


def _lock(descriptor: int, part: int | None, kind: int) -> None:
    """Take a lock that belongs to the open file, so that it also works between threads. Locks of lockf don't."""
    if part is None or not hasattr(fcntl, "F_OFD_SETLK"):  # only Linux has these for parts; lock the whole file
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, part, 1, 0))


def _is_locked(descriptor: int, part: int | None, kind: int) -> bool:
    if not hasattr(fcntl, "F_OFD_GETLK"):  # no way to test without trying
        return not try_lock(descriptor, 0.0)
    asked = struct.pack(_FLOCK, kind, os.SEEK_SET, part, 1, 0)
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _write_note(descriptor: int, note: str) -> None:
    """Replace the note. Ignore errors: a full disk must not prevent locking."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)


def _noted(descriptor: int) -> Holder | None:
    try:
        note = json.loads(os.pread(descriptor, _NOTE_LIMIT, 0))
        pid, since = note["pid"], datetime.fromisoformat(note["since"]).astimezone()
        if not isinstance(pid, int):
            return None
        # The number alone proves nothing: after a reboot any process may have it.
        tick = _start_tick(pid)
        return Holder(pid, since, alive=tick is not None and tick == note.get("start_tick"))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _start_tick(pid: int) -> int | None:
    """Return the start of a process in kernel clock ticks since boot, None if it doesn't run or /proc is missing.

    A process with the same number and another start is a different one.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])  # field 22
    except (OSError, ValueError, IndexError):
        return None
