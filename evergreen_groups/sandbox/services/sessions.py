"""Login sessions: tokens that expire when they aren't used."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(slots=True)
class SandboxSession:
    """One login; it ends after ``authtime`` seconds without use.

    ``work_org`` is the org unit of the workstation, or the home library without one (``au.ws_ou``). ``user`` is the
    user's row at the time of the login. With ``extension``, use doesn't restart ``authtime``: it only makes sure that
    the session lasts so many more seconds (logins of the type ``persist``).
    """

    user_id: int
    work_org: int
    workstation: int | None
    authtime: int
    expires: datetime
    user: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extension: int | None = None


class Sessions:
    """The open sessions by token; ``cache`` has seeds of logins in progress, and counts of failed attempts."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, SandboxSession] = {}
        self.cache = Cache(clock)

    def open(
        self,
        user_id: int,
        work_org: int,
        workstation: int | None,
        authtime: int,
        *,
        user: Mapping[str, Any] | None = None,
        extension: int | None = None,
    ) -> str:
        """Open a session and return its token."""
        token = secrets.token_hex(16)
        expires = self._clock() + timedelta(seconds=authtime)
        with self._lock:
            self._open[token] = SandboxSession(user_id, work_org, workstation, authtime, expires, user or {}, extension)
        return token

    def find(self, token: object, *, prolong: bool = True) -> SandboxSession | None:
        """Return the session of a token and restart its idle timeout; None if it doesn't exist or has expired."""
        now = self._clock()
        with self._lock:
            session = self._open.get(token) if isinstance(token, str) else None
            if session is None or session.expires <= now:
                return None
            if prolong and session.extension is None:
                session.expires = now + timedelta(seconds=session.authtime)
            elif prolong and session.extension is not None:
                session.expires = max(session.expires, now + timedelta(seconds=session.extension))
            return session

    def remaining(self, session: SandboxSession) -> int:
        """Return the seconds until a session expires."""
        return round((session.expires - self._clock()).total_seconds())

    def close(self, token: object) -> None:
        """End the session of a token, if it exists."""
        with self._lock:
            if isinstance(token, str):
                self._open.pop(token, None)

    def clear(self) -> None:
        """End all sessions."""
        with self._lock:
            self._open.clear()
        self.cache.clear()


class Cache:
    """Values by kind and key, each with an expiry time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], tuple[datetime, Any]] = {}

    def put(self, kind: str, key: str, value: Any, seconds: int) -> None:
        """Store a value for some seconds; it replaces an earlier one."""
        now = self._clock()
        with self._lock:
            self._entries = {name: entry for name, entry in self._entries.items() if entry[0] > now}
            self._entries[kind, key] = (now + timedelta(seconds=seconds), value)

    def get(self, kind: str, key: str) -> Any:
        """Return the value, or None if it is missing or has expired."""
        with self._lock:
            until, value = self._entries.get((kind, key), (None, None))
        return value if until is not None and until > self._clock() else None

    def remove(self, kind: str, key: str) -> None:
        """Remove a value, if present."""
        with self._lock:
            self._entries.pop((kind, key), None)

    def clear(self) -> None:
        """Remove all values."""
        with self._lock:
            self._entries.clear()
