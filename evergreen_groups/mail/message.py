"""One mail, ready to be sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail; ``content_type`` such as ``text/html``."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail says: the subject, the same text plain and as HTML, what is attached, and its language (a tag)."""

    subject: str
    text: str
    html: str
    attachment: Attachment | None = None
    language: str = ""


def build_message(letter: Letter, *, sender: str, recipient: str, written_at: datetime, run: str) -> EmailMessage:
    """Put a letter into an envelope for one address.

    ``run`` names the run that the letter is about. The same run and address give the same Message-ID, so that a mail
    that was sent twice after a crash is known for one.
    """
    message = EmailMessage(policy=SMTP)
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
        main, _, sub = letter.attachment.content_type.partition("/")
        parameters = {"charset": "utf-8"} if main == "text" else {}
        message.add_attachment(
            letter.attachment.content, maintype=main, subtype=sub, filename=letter.attachment.name, params=parameters
        )
    if letter.language:  # RFC 3282; at the end, for what makes parts takes such headers into the first of them
        message["Content-Language"] = letter.language
    return message
