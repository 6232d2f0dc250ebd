"""Handing mails to the mail server, and keeping those that it doesn't take."""

from __future__ import annotations

import logging
import smtplib
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError, MailServerError
from evergreen_groups.mail.mail_server import MailServer
from evergreen_groups.mail.outbox import Outbox
from evergreen_groups.message import Message
from evergreen_groups.settings import MailSettings, mail_password

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions

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
