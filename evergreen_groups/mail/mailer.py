"""Send mails to the mail server, and queue those it doesn't accept."""

from __future__ import annotations

import logging
import smtplib
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update

from evergreen_groups.errors import ConfigurationError, MailServerError
from evergreen_groups.mail.server import MailServer
from evergreen_groups.message import Message
from evergreen_groups.settings import MailSettings, passwords
from evergreen_groups.state import schema, trusted_now

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions

_END_OF_HEADERS = b"\r\n\r\n"
_TO_SEND = schema.mails.c.held_since.is_(None)


@dataclass(frozen=True, slots=True)
class HeldMails:
    """How many mails of a restored backup wait for a decision, and since when. ``since`` is None if there are none."""

    count: int
    since: datetime | None

    @property
    def message(self) -> Message:
        """A sentence that says what to do."""
        return Message(
            "{count} mail has been held since a restore ({moment}): run `evergreen-groups state mails send` or `drop`.",
            plural="{count} mails have been held since a restore ({moment}): run `evergreen-groups state mails send` "
            "or `drop`.",
            values={"count": self.count, "moment": self.since},
        )


class Outbox:
    """The queue of mails, stored in the database.

    Only the run that holds the lease for making the report may send them, so that no mail is sent twice. Mails of a
    restored backup are held, and neither sent nor dropped, until staff decide. Methods raise StateError if the
    database can't be used.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def __len__(self) -> int:
        """Return the number of mails to send."""
        if not self._transactions.is_there:
            return 0
        with self._transactions.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(schema.mails).where(_TO_SEND)).scalar_one())

    def numbers(self) -> list[int]:
        """Return the numbers (database ids) of the mails to send, oldest first."""
        with self._transactions.reading() as connection:
            to_send = select(schema.mails.c.id).where(_TO_SEND)
            return list(connection.scalars(to_send.order_by(schema.mails.c.written_at, schema.mails.c.id)))

    def held(self) -> HeldMails:
        """Return how many mails are held."""
        if not self._transactions.is_there:
            return HeldMails(0, None)
        with self._transactions.reading() as connection:
            since = schema.mails.c.held_since
            count, first = connection.execute(select(func.count(since), func.min(since))).one()
            return HeldMails(count, first)

    def release_held(self) -> None:
        """Let the next delivery send the held mails. From now on they expire like mails that were just written."""
        with self._transactions.writing() as connection:
            values = {"held_since": None, "written_at": self._transactions.now()}
            connection.execute(update(schema.mails).where(~_TO_SEND).values(values))

    def drop_held(self) -> int:
        """Remove the held mails, and return how many."""
        with self._transactions.writing() as connection:
            return connection.execute(delete(schema.mails).where(~_TO_SEND)).rowcount

    def add(self, messages: Iterable[EmailMessage], within: Connection | None = None) -> None:
        """Add all mails or none. A mail replaces a queued one with the same Message-ID.

        ``within`` is a connection with an open transaction, if the caller also writes other things.
        """
        mails = schema.mails
        with self._transactions.writing() if within is None else nullcontext(within) as connection:
            for message in messages:  # insert one at a time, because each may have a spreadsheet of a dozen megabytes
                row = {
                    "message_id": str(message["Message-ID"]),
                    "written_at": message["Date"].datetime,
                    "content": message.as_bytes(policy=SMTP),
                }
                connection.execute(delete(mails).where(mails.c.message_id == row["message_id"]))
                connection.execute(mails.insert(), row)

    def read(self, number: int) -> bytes | None:
        """Return a queued mail in the form to send, or None if it is no longer queued."""
        with self._transactions.reading() as connection:
            return connection.scalars(select(schema.mails.c.content).where(schema.mails.c.id == number)).one_or_none()

    def remove(self, number: int) -> None:
        with self._transactions.writing() as connection:
            connection.execute(delete(schema.mails).where(schema.mails.c.id == number))

    def drop_older(self, days: int) -> int:
        """Remove mails queued for more than ``days``, and return how many.

        The clock is checked against the previous run's: if it is far ahead, it is probably wrong, and nothing is
        removed.
        """
        with self._transactions.writing() as connection:
            too_old = trusted_now(connection, self._transactions.now()) - timedelta(days=days)
            expired = delete(schema.mails).where(_TO_SEND, schema.mails.c.written_at < too_old)
            return connection.execute(expired).rowcount


log = logging.getLogger("evergreen_groups.mail")

_PAUSES = (2.0, 10.0, 30.0, 60.0)
_TOO_LARGE = (452, 552)  # RFC 1870; smtplib raises it before sending if the server announced its limit


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result: how many mails were sent, are queued for the next run, and were dropped because they were too old.

    ``reason`` says why mails are queued, without their addresses. It is empty if there are none.
    """

    sent: int
    queued: int
    dropped: int = 0
    reason: str = ""

    @property
    def is_complete(self) -> bool:
        return not self.queued and not self.dropped


@dataclass(slots=True)
class _Attempt:
    """The result of one connection to the mail server."""

    again: list[int]
    """The mails to retry."""
    sent: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    """The mails that the server refused individually, and why."""
    reason: str = ""
    """Why all other mails weren't sent."""


class Mailer:
    """Sends mails through the configured server.

    ``pauses`` are the seconds to wait before each retry after a temporary failure: no connection, or a 4xx reply
    (RFC 5321). By default they grow from a few seconds to a minute.
    """

    def __init__(
        self, settings: MailSettings, password: str | None, outbox: Outbox, *, pauses: Sequence[float] | None = None
    ) -> None:
        if settings.host is None or settings.sender is None:
            raise _not_set("host" if settings.host is None else "sender")
        self._server = MailServer(settings.host, settings, password)
        self._settings = settings
        self.outbox = outbox
        """Mails to send. This run sends them (:meth:`deliver`), or the next one if this run is killed."""
        self._pauses = _PAUSES[: settings.tries - 1] if pauses is None else pauses

    @classmethod
    def configured(cls, settings: MailSettings, environ: Mapping[str, str], transactions: Transactions) -> Mailer:
        """Create the mailer that the configuration describes."""
        if not settings.recipients:
            raise _not_set("recipients")
        password = passwords.password(settings, environ) if settings.username else None
        return cls(settings, password, Outbox(transactions))

    def obstacle(self) -> MailServerError | None:
        """Connect, encrypt and log in without sending anything. Return the error, or None."""
        try:
            server = self._server.connection()
        except MailServerError as refusal:
            return refusal
        with suppress(smtplib.SMTPException, OSError):
            server.quit()
        server.close()
        return None

    def deliver(self) -> Delivery:
        """Send the mails in the outbox, oldest first. Each has one recipient.

        A mail leaves the outbox once the server has accepted it. Connections that sent any mail don't count as tries,
        because many servers hang up after a number of mails. Mails that are refused individually are logged by number.

        Raises:
            StateError: the database can't be used. The next run may repeat the mail that was just being sent.
        """
        dropped = self.outbox.drop_older(self._settings.keep_days)
        waiting, sent, reason = self.outbox.numbers(), 0, ""
        refused: dict[int, str] = {}
        pauses = iter(self._pauses)
        while waiting:
            attempt = self._try(waiting)
            waiting, sent, reason = attempt.again, sent + attempt.sent, attempt.reason or reason
            refused |= attempt.refused
            if not waiting or attempt.sent:
                continue
            pause = next(pauses, None)
            if pause is None:
                break
            log.info("%s; trying again in %s s", attempt.reason or refused[waiting[0]], pause)
            time.sleep(pause)
        queued = self.outbox.numbers()
        for number in queued:
            if number in refused:
                log.error("mail %d stays queued: %s", number, refused[number])
        reasons = dict.fromkeys(refused.get(number, reason) for number in queued)  # unique, in order
        return Delivery(sent, len(queued), dropped, "; ".join(filter(None, reasons)))

    def _try(self, numbers: Sequence[int]) -> _Attempt:
        """Send mails over one connection. Mails that aren't accepted stay in the outbox."""
        try:
            server = self._server.connection()
        except MailServerError as refusal:
            return _Attempt([] if refusal.final else list(numbers), reason=str(refusal))
        attempt = _Attempt([])
        try:
            for position, number in enumerate(numbers):
                try:
                    self._send(server, number)
                    attempt.sent += 1
                except MailServerError as refusal:
                    attempt.refused[number] = str(refusal)
                    attempt.again += [] if refusal.final else [number]
                except (smtplib.SMTPServerDisconnected, OSError) as error:
                    attempt.reason = str(self._server.lost(error))
                    attempt.again += numbers[position:]
                    break
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
        finally:  # also when the run's deadline interrupts quit()
            server.close()
        return attempt

    def _send(self, server: smtplib.SMTP, number: int) -> None:
        content = self.outbox.read(number)
        if content is None:
            return
        try:
            headers = message_from_bytes(content[: content.find(_END_OF_HEADERS)], policy=SMTP)
            server.sendmail(self._settings.sender or "", [headers["To"].addresses[0].addr_spec], content)
        except smtplib.SMTPRecipientsRefused as error:
            (code, _), *_ = error.recipients.values()
            raise self._server.refused("a recipient", code) from None
        except smtplib.SMTPResponseException as error:
            with suppress(smtplib.SMTPException, OSError):
                server.rset()
            part = "a mail"
            if isinstance(error, smtplib.SMTPSenderRefused):
                too_large = error.smtp_code in _TOO_LARGE
                part = "a mail that is too large" if too_large else "the sender"
            raise self._server.refused(part, error.smtp_code) from None
        except (UnicodeError, IndexError, AttributeError) as error:
            raise MailServerError(
                "a mail can't be sent ({reason})",
                code="mail-unsendable",
                values={"reason": type(error).__name__},
                final=True,
            ) from None
        self.outbox.remove(number)


def _not_set(name: str) -> ConfigurationError:
    return ConfigurationError(
        "mail isn't configured",
        advice="set {name} in [mail]",
        setting=f"mail.{name}",
        code="mail-not-set",
        values={"name": name},
    )
