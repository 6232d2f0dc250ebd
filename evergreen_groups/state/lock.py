"""A lock between processes, with a note of who holds it.

The kernel's lock on the file decides, and the kernel lets go of it when the process ends, however it ends. The note in
the file is for people, and is taken out again by a run that ends in order: a note that is left shows one that was
killed.
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
from evergreen_groups.state.files import NO_ROOM, directory_of, hand_over, open_own

_NOTE_LIMIT = 4096
_OWN_DIRECTORY = Message("the state directory must belong to the user who runs this")
_FLOCK = "hhqqi4x"  # struct flock
_PAUSE = 0.05  # seconds between two looks at a lock that somebody holds


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, or that left its note in it. ``since`` is aware.

    ``start_tick`` is when the process began, in the kernel's clock ticks since the machine started (field 22 of
    ``/proc/PID/stat``); None where there is no such file. A process with the same number and another one is a stranger.
    """

    pid: int
    since: datetime
    start_tick: int | None

    @classmethod
    def this_process(cls) -> Holder:
        """The process that asks, now."""
        return cls(os.getpid(), datetime.now(UTC), _start_tick(os.getpid()))

    @property
    def host(self) -> str:
        """The name of the machine it runs on, which is this one."""
        return socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether that very process is still there, not another one that got its number."""
        tick = _start_tick(self.pid)
        # The number alone proves nothing: after a restart of the machine it may be anybody's.
        return tick is not None and tick == self.start_tick

    def __str__(self) -> str:
        return str(self.message)

    @property
    def message(self) -> Message:
        """Which it is, and since when."""
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
    """Hold the lock of this file; ``doing`` is what another holder does, for the message.

    ``timeout`` is how many seconds to wait for whoever holds it. ``directory`` is a descriptor of the directory that
    it is in, where that has been opened already. ``parts``, numbers below 2**62, are held alone where they are given,
    and nobody is noted: so one file has locks for any number of things. Those ``shared`` are held beside others who
    share them.

    Raises:
        BusyError: another process holds it; the message says which and since when.
        ConfigurationError: the file can't be opened, isn't this user's own, or lies on a disk without locks.
    """
    descriptor = _descriptor(file, directory)
    try:
        try:
            if not lock_in_time(descriptor, timeout, parts, shared):
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
    """Who holds a lock, or was killed while holding it; None where nobody is noted. Takes no lock itself.

    Raises:
        ConfigurationError: the file can't be read.
    """
    try:
        with directory_of(file) as parent:
            descriptor = open_own(file.name, os.O_RDONLY, parent, anybodys=True)
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
    """Whether somebody holds one of these parts of a file's lock, those ``shared`` for themselves alone.

    Takes none itself, so nobody is kept waiting by it.

    Raises:
        ConfigurationError: the file can't be opened.
    """
    descriptor = _descriptor(file)
    try:
        return any(_is_locked(descriptor, part, kind) for part, kind in _in_order(parts, shared))
    finally:
        os.close(descriptor)


def _descriptor(file: Path, directory: int | None = None) -> int:
    """Open the file of a lock, in its directory where that has been opened already.

    Raises:
        ConfigurationError: it can't be opened, or isn't this user's own.
    """
    try:
        # The file is never deleted: whoever waits at a deleted one would hold a lock that nobody else sees.
        with nullcontext(directory) if directory is not None else directory_of(file) as parent:
            return _opened(file.name, parent)
    except OSError as error:
        raise ConfigurationError(
            "cannot open {path}: {reason}",
            advice=Message("make room on the disk") if error.errno in NO_ROOM else _OWN_DIRECTORY,
            code="lock-not-opened",
            values={"path": file, "reason": system_reason(error)},
        ) from error


def _is_locked(descriptor: int, part: int | None, kind: int) -> bool:
    """Whether somebody holds what a lock of a kind would have to wait for."""
    if not hasattr(fcntl, "F_OFD_GETLK"):  # no way to look without trying
        try:
            _lock(descriptor, part, kind)
        except BlockingIOError:
            return True
        return False
    asked = struct.pack(_FLOCK, kind, os.SEEK_SET, part, 1, 0)
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _opened(name: str, parent: int) -> int:
    """The file, made where it isn't there."""
    with suppress(FileExistsError):
        made = open_own(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, parent)
        hand_over(made, parent)
        return made
    return open_own(name, os.O_RDWR | os.O_CREAT, parent)


def lock_in_time(descriptor: int, timeout: float, parts: Collection[int] = (), shared: Collection[int] = ()) -> bool:
    """Try to lock an open file until ``timeout`` is at its end; the kernel's own waiting knows no limit.

    Parts are taken in one order by everybody, each held while the next is waited for: so nobody waits in a circle, and
    who wants many gets them even where others come and go.
    """
    deadline = time.monotonic() + timeout
    return all(_lock_one_in_time(descriptor, deadline, part, kind) for part, kind in _in_order(parts, shared))


def _in_order(parts: Collection[int], shared: Collection[int]) -> list[tuple[int | None, int]]:
    """Parts with the kinds of their locks; None is the whole file."""
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
    """Take a lock of the open file (not of the process, as lockf's), so that two threads exclude each other as well."""
    if part is None or not hasattr(fcntl, "F_OFD_SETLK"):  # Linux has locks of that kind for parts; elsewhere it's all
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        one_byte = struct.pack(_FLOCK, kind, os.SEEK_SET, part, 1, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, one_byte)


def _note(descriptor: int, holder: Holder | None) -> None:
    """Write who holds the lock, or nobody. A full disk keeps nobody from holding it."""
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
