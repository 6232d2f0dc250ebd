"""Sessions with a mail server, by :mod:`smtplib`, which sends a mail in pieces."""

from __future__ import annotations

import io
import smtplib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PIECE = 1 << 18


class MailSession(smtplib.SMTP):
    """One that begins unencrypted.

    Its own class would have a mail four times in memory at once while it is sent, and one may have a dozen megabytes.
    """

    def data(self, msg: ReadableBuffer | str) -> tuple[int, bytes]:
        """Send a mail whose lines end as SMTP wants it, and give the server's answer.

        Raises:
            SMTPDataError: the server doesn't want it.
        """
        self.putcmd("data")
        code, reply = self.getreply()
        if code != 354:
            raise smtplib.SMTPDataError(code, reply)
        mail = msg.encode("ascii") if isinstance(msg, str) else bytes(msg)
        for piece in _pieces(mail):
            self.send(piece)
        self.send(b".\r\n" if mail.endswith(b"\r\n") else b"\r\n.\r\n")
        return self.getreply()


class EncryptedMailSession(MailSession, smtplib.SMTP_SSL):
    """One that is encrypted from the start."""


def _pieces(mail: bytes) -> Iterator[bytes]:
    """A mail in pieces of whole lines, with a point more where a line begins with one (RFC 5321)."""
    lines = io.BytesIO(mail)
    for some in iter(partial(lines.readlines, _PIECE), []):
        yield b"".join(b"." + line if line.startswith(b".") else line for line in some)
