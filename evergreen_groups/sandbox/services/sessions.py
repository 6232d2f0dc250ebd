"""Login sessions: tokens that run out when they aren't used."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(slots=True)
class SandboxSession:
    """One login. ``authtime`` is the idle time in seconds after which it ends.

    ``work_org`` is the workstation's org unit, the home library where there is no workstation (``au.ws_ou``). ``user``
    is the user's row as it was at the login. A session with ``extension`` seconds lasts for its authtime and is
    only prolonged by those when it is used near its end (logins of the type ``persist``).
    """

    user_id: int
    work_org: int
    workstation: int | None
    authtime: int
    expires: datetime
    user: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extension: int | None = None


class Sessions:
    """The open sessions by token; ``cache`` keeps what a login needs between two calls, and failed attempts."""

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
        """Begin a session and return its token."""
        token = secrets.token_hex(16)
        expires = self._clock() + timedelta(seconds=authtime)
        with self._lock:
            self._open[token] = SandboxSession(user_id, work_org, workstation, authtime, expires, user or {}, extension)
        return token

    def find(self, token: object, *, prolong: bool = True) -> SandboxSession | None:
        """The session of a token, its idle time begun anew; None where there is none or it has run out."""
        moment = self._clock()
        with self._lock:
            session = self._open.get(token) if isinstance(token, str) else None
            if session is None or session.expires <= moment:
                return None
            if prolong and session.extension is None:
                session.expires = moment + timedelta(seconds=session.authtime)
            elif prolong and session.extension is not None:
                session.expires = max(session.expires, moment + timedelta(seconds=session.extension))
            return session

    def remaining(self, session: SandboxSession) -> int:
        """How many seconds a session has left if it isn't used."""
        return round((session.expires - self._clock()).total_seconds())

    def close(self, token: object) -> None:
        """End a session, if there is one."""
        with self._lock:
            if isinstance(token, str):
                self._open.pop(token, None)

    def clear(self) -> None:
        """End all sessions."""
        with self._lock:
            self._open.clear()
        self.cache.clear()


class Cache:
    """Values by key, each for so many seconds."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], tuple[datetime, Any]] = {}

    def put(self, kind: str, key: str, value: Any, seconds: int) -> None:
        """Keep a value; the same key's earlier one is replaced."""
        moment = self._clock()
        with self._lock:
            self._entries = {name: entry for name, entry in self._entries.items() if entry[0] > moment}
            self._entries[kind, key] = (moment + timedelta(seconds=seconds), value)

    def get(self, kind: str, key: str) -> Any:
        """The value, or None where there is none or its time is over."""
        with self._lock:
            until, value = self._entries.get((kind, key), (None, None))
        return value if until is not None and until > self._clock() else None

    def pop(self, kind: str, key: str) -> Any:
        """The value, which is forgotten."""
        value = self.get(kind, key)
        with self._lock:
            self._entries.pop((kind, key), None)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
