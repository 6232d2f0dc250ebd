"""Connections to the configured mail server: encryption, login, and its errors."""

from __future__ import annotations

import smtplib
import socket
import ssl
from typing import TYPE_CHECKING

from evergreen_groups.certificates import verifying_context
from evergreen_groups.errors import ConfigurationError, MailServerError
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.settings import MailSettings

_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class MailServer:
    """The mail server at ``host``. ``password`` belongs to the account in the settings."""

    def __init__(self, host: str, settings: MailSettings, password: str | None) -> None:
        if settings.username and not f"{settings.username}{password or ''}".isascii():
            raise ConfigurationError(
                "the mail user name and password must be ASCII",
                advice="change them on the mail server",
                setting="mail.username",
                code="mail-login-not-ascii",
            )
        self._host = host
        self._port = settings.port or _PORTS[settings.security]
        self._settings = settings
        self._password = password
        try:
            self._tls = verifying_context(settings.ca_bundle)
        except OSError as error:
            no_certificate = isinstance(error, ssl.SSLError)
            why = Message("it holds no certificate") if no_certificate else system_reason(error)
            raise ConfigurationError(
                "ca_bundle {path} can't be used: {reason}",
                setting="mail.ca_bundle",
                code="mail-ca-bundle-unusable",
                values={"path": settings.ca_bundle, "reason": why},
            ) from None

    def connection(self) -> smtplib.SMTP:
        """Connect, encrypt and log in."""
        try:
            server = self._connect()
        except ssl.SSLCertVerificationError as error:
            raise MailServerError(
                "the certificate of mail server {server} isn't trusted: {reason}",
                advice="check {name} in [mail]",
                setting="mail.ca_bundle",
                code="mail-certificate-not-accepted",
                values={"server": self._at, "reason": error.verify_message, "name": "ca_bundle"},
                final=True,
            ) from None
        except smtplib.SMTPResponseException as error:
            raise self.refused("the connection", error.smtp_code) from None
        except (smtplib.SMTPException, OSError) as error:
            raise self.lost(error) from None
        try:
            self._login(server)
        except BaseException:
            server.close()
            raise
        return server

    def _connect(self) -> smtplib.SMTP:
        security, seconds = self._settings.security, self._settings.timeout
        name = socket.gethostname()  # without a name, smtplib queries name servers, which can be slow
        if security == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, name, timeout=seconds, context=self._tls)
        server = smtplib.SMTP(self._host, self._port, name, timeout=seconds)
        if security == "none":
            return server
        try:
            server.starttls(context=self._tls)
        except smtplib.SMTPNotSupportedError:
            server.close()
            raise MailServerError(
                "mail server {server} offers no STARTTLS",
                advice="check {name} in [mail]",
                setting="mail.security",
                code="mail-without-starttls",
                values={"server": self._at, "name": "security"},
                final=True,
            ) from None
        except BaseException:
            server.close()
            raise
        return server

    def _login(self, server: smtplib.SMTP) -> None:
        if self._settings.username is None:
            return
        try:
            server.login(self._settings.username, self._password or "")
        except smtplib.SMTPNotSupportedError:
            raise MailServerError(
                "mail server {server} doesn't support this login",
                advice="check {name} in [mail]",
                setting="mail.username",
                code="mail-without-login",
                values={"server": self._at, "name": "username"},
                final=True,
            ) from None
        except smtplib.SMTPResponseException as error:
            raise self.refused("the login", error.smtp_code) from None
        except smtplib.SMTPServerDisconnected as error:
            raise self.lost(error) from None
        except smtplib.SMTPException:
            raise MailServerError(
                "mail server {server} doesn't support this login",
                advice="check {name} in [mail]",
                setting="mail.username",
                code="mail-login-unknown",
                values={"server": self._at, "name": "username"},
                final=True,
            ) from None
        except OSError as error:
            raise self.lost(error) from None

    @property
    def _at(self) -> str:
        return f"{self._host}:{self._port}"

    def refused(self, what: str, reply: int) -> MailServerError:
        """Build the error for ``what`` the server refused. It omits the server's text, which may contain addresses."""
        return MailServerError(
            "mail server {server} refused {what} ({reply})",
            code="mail-refused",
            values={"server": self._at, "what": what, "reply": reply},
            final=not 400 <= reply < 500,
        )

    def lost(self, error: Exception) -> MailServerError:
        """Build the error for a connection that failed or broke off."""
        words = system_reason(error) if isinstance(error, OSError) else type(error).__name__
        return MailServerError(
            "no connection to mail server {server}: {reason}",
            code="mail-server-lost",
            values={"server": self._at, "reason": words},
            final=False,
        )
