"""Who sits at a command line, as the operating system has it."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Row


@dataclass(frozen=True, slots=True)
class Seat:
    """A person at a command line. ``user`` is whose rights a program runs with, ``host`` the machine's name.

    ``login_user`` is who logged in where that is somebody else (``sudo`` doesn't change it), ``terminal`` which
    terminal it is (``pts/3``); each is None where there is none, as for what a timer starts.
    """

    user: str
    host: str
    login_user: str | None = None
    terminal: str | None = None


def current_seat() -> Seat:
    """Who has started this program, and where."""
    user, login_user = _user_name(), None
    with suppress(OSError):  # nobody has logged in
        login_user = os.getlogin()
    return Seat(user, socket.gethostname(), login_user if login_user != user else None, _terminal())


def seat_columns(seat: Seat | None) -> dict[str, str | None]:
    """The columns of the journal for whoever sits there; none where nobody does."""
    if seat is None:
        return {}
    return {
        "os_user": seat.user,
        "login_user": seat.login_user,
        "host": seat.host,
        "terminal": seat.terminal,
    }


def seat_in(row: Row[Any]) -> Seat | None:
    """Who sat there, as a row of the journal has it."""
    return None if row.os_user is None else Seat(row.os_user, row.host, row.login_user, row.terminal)


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # one that has a number alone, as in a container
        return f"uid {os.geteuid()}"


def _terminal() -> str | None:
    for stream in (sys.stdin, sys.stderr, sys.stdout):
        # A stream that is closed, or was put in the place of one.
        with suppress(OSError, ValueError, AttributeError):
            if os.isatty(stream.fileno()):
                return os.ttyname(stream.fileno()).removeprefix("/dev/")
    return None
