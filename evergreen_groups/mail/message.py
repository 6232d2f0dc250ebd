"""One mail, ready to be sent."""

from __future__ import annotations

import io
import weakref
from base64 import encodebytes
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from functools import partial
from hashlib import sha256
from typing import Any, BinaryIO

_PLACE = b"here comes what is attached, from its own file"
_MARK = encodebytes(_PLACE).replace(b"\n", b"\r\n")
_PIECE = 57 * 4096  # bytes; 57 of them make a line


class Attachment:
    """A file that goes with a mail; ``content_type`` such as ``text/html``.

    ``content`` is open for reading at any place, and is closed when nobody has the attachment any more.
    """

    def __init__(self, name: str, content_type: str, content: BinaryIO) -> None:
        self.name = name
        self.content_type = content_type
        self._content = content
        weakref.finalize(self, content.close)

    def write_encoded(self, stream: BinaryIO) -> None:
        """Write the content as lines in Base64, a piece at a time."""
        self._content.seek(0)
        for piece in iter(partial(self._content.read, _PIECE), b""):
            stream.write(encodebytes(piece).replace(b"\n", b"\r\n"))


class Mail(EmailMessage):
    """A mail whose attachment, where it has one, stays in its file until the mail is written.

    A report for several addresses has it once, and a spreadsheet of a large library has a dozen megabytes.
    """

    _attachment: Attachment | None = None

    def attach_file(self, attachment: Attachment) -> None:
        """Put a file behind all else."""
        main, _, sub = attachment.content_type.partition("/")
        parameters = {"charset": "utf-8"} if main == "text" else {}
        self.add_attachment(_PLACE, maintype=main, subtype=sub, filename=attachment.name, params=parameters)
        self._attachment = attachment

    def write(self, stream: BinaryIO) -> None:
        """Write it as RFC 5322 has it, with line ends for SMTP."""
        written = super().as_bytes(policy=SMTP)
        if self._attachment is None:
            stream.write(written)
            return
        before, _mark, behind = written.rpartition(_MARK)  # the last one: whatever stands in the text before it
        stream.write(before)
        self._attachment.write_encoded(stream)
        stream.write(behind)

    def as_bytes(self, unixfrom: bool = False, policy: Policy[Any] | None = None) -> bytes:  # noqa: ARG002
        """The same as bytes."""
        stream = io.BytesIO()
        self.write(stream)
        return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says: the subject, the same text plain and as HTML, what is attached, and its language (a tag)."""

    subject: str
    text: str
    html: str
    attachment: Attachment | None = None
    language: str = ""


def build_message(letter: Letter, *, sender: str, recipient: str, written_at: datetime, run: str) -> Mail:
    """Put a letter into an envelope for one address.

    ``run`` names the run that the letter is about. The same run and address give the same Message-ID, so that a mail
    that was sent twice after a crash is known for one.
    """
    message = Mail(policy=SMTP)
    message["From"] = Address(addr_spec=sender)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(written_at)
    digest = sha256(f"{run}\n{recipient}".encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{written_at:%Y%m%d}.{digest}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps absence notes from answering
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    if letter.attachment is not None:
        message.attach_file(letter.attachment)
    if letter.language:  # RFC 3282; at the end, for what makes parts takes such headers into the first of them
        message["Content-Language"] = letter.language
    return message
