"""Login sessions: tokens that run out when they aren't used."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(slots=True)
class Session:
    """One login. ``authtime`` is the idle time in seconds after which it ends.

    ``work_org`` is the workstation's org unit, the home library where there is no workstation (``au.ws_ou``).
    """

    user_id: int
    work_org: int
    workstation: int | None
    authtime: int
    expires: datetime


class Sessions:
    """The open sessions by token."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    def open(self, user_id: int, work_org: int, workstation: int | None, authtime: int) -> str:
        """Begin a session and return its token."""
        token = secrets.token_hex(16)
        expires = self._clock() + timedelta(seconds=authtime)
        with self._lock:
            self._open[token] = Session(user_id, work_org, workstation, authtime, expires)
        return token

    def find(self, token: object) -> Session | None:
        """The session of a token, its idle time begun anew; None where there is none or it has run out."""
        moment = self._clock()
        with self._lock:
            session = self._open.get(token) if isinstance(token, str) else None
            if session is None or session.expires <= moment:
                return None
            session.expires = moment + timedelta(seconds=session.authtime)
            return session

    def close(self, token: object) -> None:
        """End a session, if there is one."""
        with self._lock:
            if isinstance(token, str):
                self._open.pop(token, None)

    def clear(self) -> None:
        """End all sessions."""
        with self._lock:
            self._open.clear()
