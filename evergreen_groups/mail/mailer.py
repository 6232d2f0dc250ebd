"""Handing mails to the mail server, and keeping those that it doesn't take."""

from __future__ import annotations

import email.message
import logging
import smtplib
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from evergreen_groups.errors import ConfigurationError, MailServerError
from evergreen_groups.mail.server import MailServer
from evergreen_groups.message import Message
from evergreen_groups.settings import MailSettings, mail_password
from evergreen_groups.state import schema, trusted_now

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """A mail that waits: its headers, and all of it as it is sent."""

    headers: email.message.Message[Any, Any]
    content: bytes


class Outbox:
    """The mails that wait. Only one run at a time may send them: that which holds the lease for making the report."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def __len__(self) -> int:
        """How many mails wait.

        Raises:
            StateError: the database can't be used; so do all the others.
        """
        if not self._transactions.is_there:
            return 0
        with self._transactions.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(schema.mails)).scalar_one())

    def numbers(self) -> list[int]:
        """The numbers of the mails that wait, the oldest first."""
        with self._transactions.reading() as connection:
            return list(
                connection.execute(
                    select(schema.mails.c.id).order_by(schema.mails.c.written_at, schema.mails.c.id)
                ).scalars()
            )

    def add(self, messages: Iterable[EmailMessage], within: Connection | None = None) -> None:
        """Keep mails, all of them or none; one with the same Message-ID takes the place of the former.

        ``within`` is the connection of a transaction that also writes other things.
        """
        mails = schema.mails
        with self._transactions.writing() if within is None else nullcontext(within) as connection:
            for message in messages:  # one after the other: each may have a spreadsheet of a dozen megabytes
                row = {
                    "message_id": str(message["Message-ID"]),
                    "written_at": message["Date"].datetime,
                    "content": message.as_bytes(policy=SMTP),
                }
                connection.execute(delete(mails).where(mails.c.message_id == row["message_id"]))
                connection.execute(mails.insert(), row)

    def read(self, number: int) -> WaitingMail | None:
        """A mail that waits; None where it doesn't any more."""
        with self._transactions.reading() as connection:
            content = connection.execute(
                select(schema.mails.c.content).where(schema.mails.c.id == number)
            ).scalar_one_or_none()
        if content is None:
            return None
        head = content[: content.find(_END_OF_HEAD)]
        return WaitingMail(message_from_bytes(head, policy=SMTP), content)

    def forget(self, number: int) -> None:
        """Remove a mail that was sent."""
        with self._transactions.writing() as connection:
            connection.execute(delete(schema.mails).where(schema.mails.c.id == number))

    def drop_older(self, days: int) -> int:
        """Remove mails that have waited for more than ``days``; say how many.

        None is removed on the word of a clock that is far ahead of the last run's.
        """
        with self._transactions.writing() as connection:
            too_old = trusted_now(connection, self._transactions.now()) - timedelta(days=days)
            return connection.execute(delete(schema.mails).where(schema.mails.c.written_at < too_old)).rowcount


log = logging.getLogger("evergreen_groups.mail")

_PAUSES = (2.0, 10.0, 30.0, 60.0)
_TOO_LARGE = (452, 552)  # RFC 1870; raised at once where the server names its limit beforehand


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it went: mails sent, queued for the next time, and given up because they had waited too long.

    ``reason`` says why those that are queued are, without addresses; empty where none are.
    """

    sent: int
    queued: int
    dropped: int = 0
    reason: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether everything was sent."""
        return not self.queued and not self.dropped


@dataclass(slots=True)
class _Attempt:
    """What became of some mails: those to try again with, how many went, and why the rest didn't.

    ``refused`` says it of single mails, ``reason`` of all others.
    """

    again: list[int]
    sent: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    reason: str = ""


class Mailer:
    """Sends mails through the server of the configuration.

    ``pauses`` are the waits between tries, in seconds, for trouble that may pass: no connection, or an answer that
    says "later" (4xx, RFC 5321); a few seconds at first, then more, unless given.

    Raises:
        ConfigurationError: the configuration names no server or no sender.
    """

    def __init__(
        self, settings: MailSettings, password: str | None, outbox: Outbox, *, pauses: Sequence[float] | None = None
    ) -> None:
        if settings.host is None or settings.sender is None:
            missing = "host" if settings.host is None else "sender"
            raise ConfigurationError(
                "no mail can be sent",
                advice="set {name} in section [mail]",
                setting=f"mail.{missing}",
                code="mail-not-set",
                values={"name": missing},
            )
        self._server = MailServer(settings.host, settings, password)
        self._settings = settings
        self._outbox = outbox
        self._pauses = _PAUSES[: settings.tries - 1] if pauses is None else pauses

    @classmethod
    def configured(cls, settings: MailSettings, environ: Mapping[str, str], transactions: Transactions) -> Mailer:
        """The mailer of the configuration.

        Raises:
            ConfigurationError: no server, sender or recipients, or a password that can't be read.
        """
        if not settings.recipients:
            raise ConfigurationError(
                "no mail can be sent",
                advice="set {name} in section [mail]",
                setting="mail.recipients",
                code="mail-not-set",
                values={"name": "recipients"},
            )
        password = mail_password(settings, environ) if settings.username else None
        return cls(settings, password, Outbox(transactions))

    @property
    def waiting(self) -> int:
        """How many mails wait to be sent; raises StateError where the database can't be used."""
        return len(self._outbox)

    def obstacle(self) -> MailServerError | None:
        """Connect, encrypt and log in, and nothing more: why that fails, None where it doesn't."""
        try:
            server = self._server.connection()
        except MailServerError as refusal:
            return refusal
        with suppress(smtplib.SMTPException, OSError):
            server.quit()
        server.close()
        return None

    def keep(self, messages: Iterable[EmailMessage], within: Connection | None = None) -> None:
        """Put mails into the outbox: this run sends them (:meth:`deliver`), or if it is killed the next one.

        ``within`` is the connection of a transaction that also writes other things.

        Raises:
            StateError: the database can't be written.
        """
        self._outbox.add(messages, within)

    def deliver(self) -> Delivery:
        """Send what is in the outbox, the oldest first, each to its one recipient.

        A mail leaves the outbox when the server has taken it. A connection that took some of them doesn't count as a
        try: many servers take a number of mails at a time and hang up. One that is refused by itself is logged by its
        number.

        Raises:
            StateError: the database can't be used; a mail that was being sent may go out again with the next run.
        """
        dropped = self._outbox.drop_older(self._settings.keep_days)
        waiting, sent, reason = self._outbox.numbers(), 0, ""
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
        queued = self._outbox.numbers()
        for number in queued:
            if number in refused:
                log.error("mail %d stays queued: %s", number, refused[number])
        reasons = dict.fromkeys(refused.get(number, reason) for number in queued)
        return Delivery(sent, len(queued), dropped, "; ".join(filter(None, reasons)))

    def _try(self, numbers: Sequence[int]) -> _Attempt:
        """Send mails over one connection; what isn't taken stays in the outbox."""
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
        finally:  # a run at its deadline doesn't wait for a server's good-bye
            server.close()
        return attempt

    def _send(self, server: smtplib.SMTP, number: int) -> None:
        mail = self._outbox.read(number)
        if mail is None:
            return
        try:
            server.sendmail(self._settings.sender or "", [mail.headers["To"].addresses[0].addr_spec], mail.content)
        except smtplib.SMTPRecipientsRefused as error:
            (code, _), *_ = error.recipients.values()
            raise self._server.refused(Message("a recipient"), code) from None
        except smtplib.SMTPResponseException as error:
            with suppress(smtplib.SMTPException, OSError):
                server.rset()
            raise self._server.refused(_what(error), error.smtp_code) from None
        except (UnicodeError, IndexError, AttributeError) as error:
            raise MailServerError(
                "a mail can't be sent ({reason})",
                code="mail-unsendable",
                values={"reason": type(error).__name__},
                final=True,
            ) from None
        self._outbox.forget(number)


def _what(error: smtplib.SMTPResponseException) -> str:
    """What of a mail was refused."""
    if not isinstance(error, smtplib.SMTPSenderRefused):
        return Message("a mail")
    return Message("a mail that is too large") if error.smtp_code in _TOO_LARGE else Message("the sender")
