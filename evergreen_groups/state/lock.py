"""A lock between processes, with a note in the lock file that names the holder.

The kernel's lock on the file is what counts. The kernel releases the lock when the process ends, for whatever reason.
The note is for messages. A run that ends normally removes it, so a note without a lock means that a run was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evergreen_groups.errors import BusyError, ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.files import NO_ROOM, give_to_directory_owner, open_own, open_parent

_NOTE_LIMIT = 4096
_OWN_DIRECTORY = Message("the state directory must belong to the user who runs this")
_FLOCK = "hhqqi4x"  # struct flock
_PAUSE = 0.05  # seconds between two attempts to get a lock


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, or that left a note in its file. ``since`` is aware.

    ``start_tick`` is the start of the process, in kernel clock ticks since boot (field 22 of ``/proc/PID/stat``), or
    None if that file is missing. A process with the same number and another start is a different one.
    """

    pid: int
    since: datetime
    start_tick: int | None

    @classmethod
    def this_process(cls) -> Holder:
        """Describe the current process as a holder since now."""
        return cls(os.getpid(), datetime.now(UTC), _start_tick(os.getpid()))

    @property
    def host(self) -> str:
        """The name of this machine, where the process runs."""
        return socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether this very process still runs, not another one with the same number."""
        tick = _start_tick(self.pid)
        # The number alone proves nothing: after a reboot any process may have it.
        return tick is not None and tick == self.start_tick

    def __str__(self) -> str:
        return str(self.message)

    @property
    def message(self) -> Message:
        """The process number and the time since when it holds the lock."""
        return Message("process {pid}, since {since}", values={"pid": self.pid, "since": self.since})


@contextmanager
def hold(
    file: Path,
    doing: str,
    timeout: float = 0.0,
    *,
    directory: int | None = None,
    parts: Collection[int] = (),
    shared: Collection[int] = (),
) -> Iterator[Holder]:
    """Hold the lock of a file. ``doing`` is the message for a busy lock, about what the other process does.

    ``timeout`` is how many seconds to wait for the lock. ``directory`` is a descriptor of the file's directory, if the
    caller has opened it. With ``parts``, numbers below 2**62, lock only these bytes of the file, and leave no note.
    So one file has locks for any number of things. ``shared`` parts get a shared lock.

    Raises:
        BusyError: another process holds the lock. The message says which one and since when.
        ConfigurationError: the file can't be opened, isn't this user's own, or is on a disk without locks.
    """
    descriptor = _descriptor(file, directory)
    try:
        try:
            if not try_lock(descriptor, timeout, parts, shared):
                if parts:
                    raise BusyError("{doing}", code="others-changing", values={"doing": doing})
                raise BusyError(
                    "{doing} ({holder})",
                    values={"doing": doing, "holder": _described(_noted(descriptor))},
                )
        except OSError as error:
            raise ConfigurationError(
                "cannot lock {path}: {reason}",
                advice="put the state directory on a local disk",
                code="lock-impossible",
                values={"path": file, "reason": system_reason(error)},
            ) from error
        holder = Holder.this_process()
        if parts:
            yield holder
            return
        _note(descriptor, holder)
        try:
            yield holder
        finally:
            _note(descriptor, None)
    finally:
        os.close(descriptor)


def holder_of(file: Path) -> Holder | None:
    """Read who holds a lock, or was killed while holding it, without taking the lock. None if there is no note.

    Raises:
        ConfigurationError: the file can't be read.
    """
    try:
        with open_parent(file) as parent:
            descriptor = open_own(file.name, os.O_RDONLY, parent, any_owner=True)
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

    Raises:
        ConfigurationError: the file can't be opened.
    """
    descriptor = _descriptor(file)
    try:
        return any(_is_locked(descriptor, part, kind) for part, kind in _in_order(parts, shared))
    finally:
        os.close(descriptor)


def _descriptor(file: Path, directory: int | None = None) -> int:
    """Open a lock file, in its directory if the caller has opened that.

    Raises:
        ConfigurationError: the file can't be opened, or isn't this user's own.
    """
    try:
        # Never delete a lock file: a process that waits for a deleted file would get a lock that no one else sees.
        with nullcontext(directory) if directory is not None else open_parent(file) as parent:
            return _open_or_create(file.name, parent)
    except OSError as error:
        raise ConfigurationError(
            "cannot open {path}: {reason}",
            advice=Message("make room on the disk") if error.errno in NO_ROOM else _OWN_DIRECTORY,
            code="lock-not-opened",
            values={"path": file, "reason": system_reason(error)},
        ) from error


def _is_locked(descriptor: int, part: int | None, kind: int) -> bool:
    """Return whether a lock of this kind would have to wait."""
    if not hasattr(fcntl, "F_OFD_GETLK"):  # no way to test without trying
        try:
            _lock(descriptor, part, kind)
        except BlockingIOError:
            return True
        return False
    asked = struct.pack(_FLOCK, kind, os.SEEK_SET, part, 1, 0)
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _open_or_create(name: str, parent: int) -> int:
    """Open the file, and create it if necessary."""
    with suppress(FileExistsError):
        made = open_own(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, parent)
        give_to_directory_owner(made, parent)
        return made
    return open_own(name, os.O_RDWR | os.O_CREAT, parent)


def try_lock(descriptor: int, timeout: float, parts: Collection[int] = (), shared: Collection[int] = ()) -> bool:
    """Try to lock an open file until ``timeout`` seconds have passed. The kernel's own wait has no limit.

    Take the parts in a fixed order, and hold each while waiting for the next. This prevents deadlocks, and ensures
    that a process that wants many parts gets them even while others come and go.
    """
    deadline = time.monotonic() + timeout
    return all(_lock_one_in_time(descriptor, deadline, part, kind) for part, kind in _in_order(parts, shared))


def _in_order(parts: Collection[int], shared: Collection[int]) -> list[tuple[int | None, int]]:
    """Return the parts with their kinds of lock, in order. A part of None is the whole file."""
    ours: list[tuple[int | None, int]] = [(part, fcntl.F_WRLCK) for part in sorted(set(parts))]
    return [*((part, fcntl.F_RDLCK) for part in sorted(set(shared))), *ours] or [(None, fcntl.F_WRLCK)]


def _lock_one_in_time(descriptor: int, deadline: float, part: int | None, kind: int) -> bool:
    while True:
        try:
            _lock(descriptor, part, kind)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def _lock(descriptor: int, part: int | None, kind: int) -> None:
    """Take a lock that belongs to the open file, so that it also works between threads. Locks of lockf don't."""
    if part is None or not hasattr(fcntl, "F_OFD_SETLK"):  # only Linux has these for parts; lock the whole file
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        one_byte = struct.pack(_FLOCK, kind, os.SEEK_SET, part, 1, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, one_byte)


def _note(descriptor: int, holder: Holder | None) -> None:
    """Write a note with the holder, or clear it. Ignore errors: a full disk must not prevent locking."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        if holder is not None:
            note = {"pid": holder.pid, "since": holder.since.isoformat(), "start_tick": holder.start_tick}
            os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _noted(descriptor: int) -> Holder | None:
    try:
        note = json.loads(os.pread(descriptor, _NOTE_LIMIT, 0))
        since = datetime.fromisoformat(note["since"]).astimezone()
        if not isinstance(note["pid"], int):
            return None
        return Holder(note["pid"], since, note.get("start_tick"))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _described(holder: Holder | None) -> Message:
    if holder is None:
        return Message("it has just begun")
    if holder.alive:
        return holder.message
    text = Message("{holder}; that one has ended, but something it started has not")
    return Message(text, values={"holder": holder.message})


def _start_tick(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
