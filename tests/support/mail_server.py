"""A real mail server in this process, with TLS and a login."""

import json
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from aiosmtpd import smtp
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session

SECRET = "very secret"


def make_certificates(folder: Path) -> Path:
    """Make an authority with one certificate for this machine, and one for another host."""
    openssl = shutil.which("openssl")
    assert openssl, "these tests need the openssl command"

    def make(name: str, *options: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        command = [openssl, "req", "-x509", *key, "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}"]
        subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True)

    # Without keyUsage, like most private ones; Python requires it by default from 3.13 on.
    make("ca")
    by_ca = ("-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key")
    make("right", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", *by_ca)
    make("wrong", "-addext", "subjectAltName=DNS:other.example", *by_ca)
    return folder


def context_of(certificates: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


class Post:
    """The mails a server accepted.

    ``refuse`` gives the response for a recipient, ``refuse_sender`` for the sender, and ``answers`` for the next mails.
    """

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.encrypted: list[bool] = []
        self.refuse: dict[str, str] = {}
        self.refuse_sender: str | None = None
        self.answers: list[str] = []
        self.hang_up_after: int | None = None

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: smtp.SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse_sender is not None:
            return self.refuse_sender
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: smtp.SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: smtp.SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.hang_up_after is not None and len(self.taken) >= self.hang_up_after:
            self.hang_up_after = None
            assert server.transport is not None
            server.transport.abort()
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=SMTP)
        assert isinstance(message, EmailMessage)
        self.taken.append(message)
        self.recipients += envelope.rcpt_tos
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 OK"


def allow(server: smtp.SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    password = getattr(data, "password", b"")
    return AuthResult(success=password == SECRET.encode(), handled=False)


@contextmanager
def server(
    post: Post, certificates: Path | None, *, port: int = 0, name: str = "right", **options: object
) -> Iterator[int]:
    """Yield the port of a mail server with a login, and with STARTTLS if there are ``certificates``."""
    tls = context_of(certificates, name) if certificates else None
    options = {"tls_context": tls, "require_starttls": bool(tls), "auth_required": bool(tls), **options}
    options.setdefault("ready_timeout", 60)  # seconds; the default of five may be too short on a busy machine
    controller = Controller(post, "localhost", port or free_port(), authenticator=allow, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def mail_section(
    port: int, certificates: Path, more: str = "", recipients: Mapping[str, list[str]] | None = None
) -> str:
    """Return the section of a configuration that sends to the server on ``port``; ``more`` are lines of it."""
    everybody = {"*": ["director@library.example"]} if recipients is None else recipients
    return f"""
[mail]
host = "localhost"
port = {port}
ca_bundle = "{certificates / "right.pem"}"
username = "groups"
sender = "groups@library.example"
recipients = {{{", ".join(f"{json.dumps(name)} = {json.dumps(those)}" for name, those in everybody.items())}}}
{more}
"""


def free_port() -> int:
    """Return a free port that stays free.

    Not one that the system assigns to listeners and connections: parallel tests take hundreds of those.
    """
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_of_those = int(given_out.read_text().split()[0]) if given_out.exists() else 32_768
    chance = random.SystemRandom()  # other processes may have the same seed
    while True:
        port = chance.randrange(min(10_000, first_of_those // 2), first_of_those)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
