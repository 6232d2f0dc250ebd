"""A client's connection, which gets a thread only when the headers of a request have come whole.

Cheroot gives a thread to whoever connects and keeps it there for as long as a byte comes now and then, so that some
hundred clients who send slowly, or nothing at all, would keep everybody else out. Here they wait where connections
that are idle do, without a thread.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from enum import Enum
from typing import Any

from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest

LARGEST_HEADERS = 32 * 1024
"""Bytes."""

_WHOLE = re.compile(rb"[\r\n]*[^\r\n].*?\n\r?\n", re.DOTALL)  # blank lines before a request are passed over


class Arrival(Enum):
    """How much of the next request there is."""

    PART = "not all of its headers"
    WHOLE = "all of its headers, or more than they may be"
    NEVER = "the client has hung up before they were whole"


class _HeaderReader(HeaderReader):
    """Stricter than cheroot's own.

    Leaves out headers such as ``X_Forwarded_For``, which are a proxy's ``X-Forwarded-For`` to WSGI.
    """

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = super().__call__(rfile, hdict)
        if not headers.get(b"Content-Length", b"0").isdigit():
            raise ValueError("Malformed Content-Length Header.")  # answered with 400
        return headers

    def _allow_header(self, key_name: bytes) -> bool:
        return b"_" not in key_name


class _Request(HTTPRequest):
    header_reader = _HeaderReader()

    def read_request_headers(self) -> bool:
        """Read them; a request with a body is the last of its connection.

        Otherwise cheroot reads a body that the app has no use for, however slowly it comes, before it answers.
        """
        understood: bool = super().read_request_headers()  # type: ignore[no-untyped-call]  # as cheroot has it
        if self.chunked_read or self.inheaders.get(b"Content-Length", b"0").strip(b"0"):
            self.close_connection = True
        return understood


class Connection(HTTPConnection):
    """Knows how much of its next request has come."""

    RequestHandlerClass = _Request
    began: float | None = None
    """When the first of the headers that are waited for came, in seconds since 1970; None before that."""
    _came = 0
    _hung_up = False

    def look(self) -> Arrival:
        """Look at what has come, without waiting and without taking it.

        After ``PART`` the connection counts as readable only when more has come.
        """
        if self._hung_up:  # what came before that can still be read, and would pass for a new arrival
            return Arrival.NEVER
        try:
            self.socket.settimeout(0)
            came = self.socket.recv(LARGEST_HEADERS + 1, socket.MSG_PEEK)
        except BlockingIOError:
            return Arrival.PART
        except OSError:
            return Arrival.NEVER
        finally:
            self.socket.settimeout(self.server.timeout)
        if len(came) > LARGEST_HEADERS or _WHOLE.match(came):
            self._expect(1)
            self._came, self.began = 0, None
            return Arrival.WHOLE
        if len(came) <= self._came:
            return Arrival.NEVER
        self._came, self.began = len(came), self.began or time.time()
        self._expect(self._came + 1)
        return Arrival.PART

    def _expect(self, count: int) -> None:
        """Count as readable from so many bytes on, or when the client has hung up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def hang_up(self) -> None:
        """End it; it counts as readable then."""
        self._hung_up = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def communicate(self) -> bool:
        """Answer one request; whether the connection may be used again.

        A second request that was sent before the answer to the first isn't taken: half of one would hold the thread.
        """
        usable: bool = super().communicate() and not self.rfile.has_data()  # type: ignore[no-untyped-call]  # likewise
        if not usable:
            self._pass_over_the_rest()
        return usable

    def _pass_over_the_rest(self) -> None:
        """Take what has come of a body that nobody read: closing with it unread would take back the answer."""
        with suppress(OSError):
            self.socket.settimeout(0)
            self.socket.recv(LARGEST_HEADERS)
