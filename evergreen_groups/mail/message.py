"""Build mails whose attachments stay in their files."""

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

_PLACEHOLDER = b"here comes what is attached, from its own file"
_ENCODED_PLACEHOLDER = encodebytes(_PLACEHOLDER).replace(b"\n", b"\r\n")
_CHUNK = 57 * 4096  # bytes; a multiple of 57, which is a line of Base64


class Attachment:
    """A file to attach. ``content_type`` is a media type such as ``text/html``.

    ``content`` must be seekable. It is closed when the attachment is garbage-collected, because several mails share it.
    """

    def __init__(self, name: str, content_type: str, content: BinaryIO) -> None:
        self.name = name
        self.content_type = content_type
        self._content = content
        weakref.finalize(self, content.close)

    def write_encoded(self, stream: BinaryIO) -> None:
        self._content.seek(0)
        for chunk in iter(partial(self._content.read, _CHUNK), b""):
            stream.write(encodebytes(chunk).replace(b"\n", b"\r\n"))


class Mail(EmailMessage):
    """A mail whose attachment, if any, stays in its file until the mail is stored.

    A large library's spreadsheet has a dozen megabytes. The mails to all recipients share one file.
    """

    _attachment: Attachment | None = None

    def attach_file(self, attachment: Attachment) -> None:
        """Attach a file as the last part. The message itself holds only a placeholder."""
        main, _, sub = attachment.content_type.partition("/")
        parameters = {"charset": "utf-8"} if main == "text" else {}
        self.add_attachment(_PLACEHOLDER, maintype=main, subtype=sub, filename=attachment.name, params=parameters)
        self._attachment = attachment

    def as_bytes(self, unixfrom: bool = False, policy: Policy[Any] | None = None) -> bytes:  # noqa: ARG002
        """Return the mail in the format of RFC 5322 with CRLF line ends, as SMTP needs it."""
        written = super().as_bytes(policy=SMTP)
        if self._attachment is None:
            return written
        # rpartition, because the attachment is the last part, and the text could contain the placeholder, too.
        before, _placeholder, after = written.rpartition(_ENCODED_PLACEHOLDER)
        stream = io.BytesIO()
        stream.write(before)
        self._attachment.write_encoded(stream)
        stream.write(after)
        return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Letter:
    """The content of a mail: subject, the same text as plain text and HTML, an attachment, and a language tag."""

    subject: str
    text: str
    html: str
    attachment: Attachment | None = None
    language: str = ""


def build_message(letter: Letter, *, sender: str, recipient: str, written_at: datetime, run: str) -> Mail:
    """Build the mail of a letter to one address.

    ``run`` identifies the run that the letter reports on. The Message-ID depends on the run and the address, so that
    mail clients recognize a mail that was sent twice after a crash.
    """
    message = Mail(policy=SMTP)
    message["From"] = Address(addr_spec=sender)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(written_at)
    digest = sha256(f"{run}\n{recipient}".encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{written_at:%Y%m%d}.{digest}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    if letter.attachment is not None:
        message.attach_file(letter.attachment)
    if letter.language:  # RFC 3282; last, because building a multipart moves Content-* headers to the first part
        message["Content-Language"] = letter.language
    return message
