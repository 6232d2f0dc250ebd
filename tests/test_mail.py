"""The report by mail, against a real SMTP server in this process, with TLS."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from aiosmtpd import smtp
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session

from evergreen_groups.config import MailSettings
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.mail import Attachment, Letter, Mailer, Spool, addressed, build_message
from evergreen_groups.models import OrgUnit
from evergreen_groups.org_units import OrgUnits

SENDER, SECRET = "groups@library.example", "very secret"
MOMENT = datetime(2026, 8, 1, 3, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself, and one for another host."""
    openssl = shutil.which("openssl")
    assert openssl, "these tests need the openssl command"
    folder = tmp_path_factory.mktemp("certificates")
    for name, host in (("right", "localhost"), ("wrong", "other.example")):
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={host}",
             "-addext", f"subjectAltName=DNS:{host}"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    return folder


def context_of(certificates: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


class Post:
    """What a mail server took. ``refuse`` gives the answer for a recipient, ``answers`` those for the next mails."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.encrypted: list[bool] = []
        self.refuse: dict[str, str] = {}
        self.answers: list[str] = []
        self.hang_up_after: int | None = None

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
    """A mail server with STARTTLS (without ``certificates``: without) that wants a login; its port."""
    tls = context_of(certificates, name) if certificates else None
    options = {"tls_context": tls, "require_starttls": bool(tls), "auth_required": bool(tls), **options}
    controller = Controller(post, "localhost", port or free_port(), authenticator=allow, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def settings_for(port: int, certificates: Path, **changes: object) -> MailSettings:
    values = {
        "host": "localhost",
        "port": port,
        "ca_bundle": certificates / "right.pem",
        "username": "groups",
        "sender": SENDER,
        "timeout": 5,
        **changes,
    }
    return MailSettings(**values)  # type: ignore[arg-type]  # handed on as they come


def mail_for(recipient: str, run: str = "tonight", moment: datetime = MOMENT) -> EmailMessage:
    letter = Letter("Fines", "Nothing to see", "<p>Nothing to see</p>")
    return build_message(letter, sender=SENDER, recipient=recipient, written_at=moment, run=run)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "state" / "mail")


@pytest.fixture
def recent() -> datetime:
    return datetime.now(UTC)


class TestTheServer:
    def test_starttls_and_login(self, certificates: Path, spool: Spool, recent: datetime) -> None:
        post = Post()
        with server(post, certificates) as port:
            mailer = Mailer(settings_for(port, certificates), SECRET, spool)
            result = mailer.deliver(
                [mail_for("a@library.example", moment=recent), mail_for("b@library.example", moment=recent)]
            )
        assert (result.sent, result.kept, result.reason) == (2, 0, "")
        assert sorted(post.recipients) == ["a@library.example", "b@library.example"]
        assert post.encrypted == [True, True]
        assert list(spool) == []

    def test_tls_from_the_start(self, certificates: Path, spool: Spool, recent: datetime) -> None:
        post = Post()
        tls = context_of(certificates, "right")
        options = {"ssl_context": tls, "tls_context": None, "require_starttls": False, "auth_required": False}
        options["auth_require_tls"] = False
        with server(post, certificates, **options) as port:
            settings = settings_for(port, certificates, security="tls")
            assert Mailer(settings, SECRET, spool).deliver([mail_for("a@library.example", moment=recent)]).sent == 1
        assert post.encrypted == [True]

    @pytest.mark.parametrize(
        ("changes", "name", "words"),
        [
            ({}, "wrong", "certificate"),
            ({"ca_bundle": None}, "right", "certificate"),
            ({"username": "groups", "password": "wrong"}, "right", "refused the login (535)"),
            ({"security": "none", "username": None}, "right", "refused"),
        ],
    )
    def test_what_a_second_try_would_not_mend(
        self, certificates: Path, spool: Spool, recent: datetime, changes: dict[str, object], name: str, words: str
    ) -> None:
        post, changes = Post(), dict(changes)
        password = str(changes.pop("password", SECRET))
        with server(post, certificates, name=name) as port:
            mailer = Mailer(settings_for(port, certificates, **changes), password, spool, pauses=(3600,))
            result = mailer.deliver([mail_for("a@library.example", moment=recent)])
        assert (result.sent, result.kept) == (0, 1)
        assert words in result.reason
        assert SECRET not in result.reason
        assert "a@library.example" not in result.reason
        assert post.taken == []

    def test_a_server_without_starttls(self, certificates: Path, spool: Spool, recent: datetime) -> None:
        post = Post()
        with server(post, None) as port:
            mailer = Mailer(settings_for(port, certificates), SECRET, spool, pauses=(3600,))
            result = mailer.deliver([mail_for("a@library.example", moment=recent)])
        assert result.kept == 1
        assert "STARTTLS" in result.reason
        assert post.taken == []

    def test_down_and_up_again(self, certificates: Path, spool: Spool, recent: datetime) -> None:
        port = free_port()
        mailer = Mailer(settings_for(port, certificates), SECRET, spool, pauses=(0,))
        first = mail_for("a@library.example", "first night", recent - timedelta(days=1))
        result = mailer.deliver([first])
        assert (result.sent, result.kept) == (0, 1)
        assert f"localhost:{port}" in result.reason
        (kept,) = spool
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        post = Post()
        with server(post, certificates, port=port):
            result = mailer.deliver([mail_for("a@library.example", "second night", recent)])
        assert (result.sent, result.kept) == (2, 0)
        assert post.taken[0]["Message-ID"] == first["Message-ID"]

    def test_later_is_tried_again_at_once_and_no_is_not(
        self, certificates: Path, spool: Spool, recent: datetime
    ) -> None:
        post = Post()
        post.refuse = {"gone@library.example": "550 No such mailbox for gone@library.example"}
        post.answers = ["451 Later"]
        mails = [mail_for(name, moment=recent) for name in ("gone@library.example", "here@library.example")]
        with server(post, certificates) as port:
            result = Mailer(settings_for(port, certificates), SECRET, spool, pauses=(0, 0)).deliver(mails)
        assert post.recipients == ["here@library.example"]
        assert (result.sent, result.kept) == (1, 1)
        assert "550" in result.reason or "451" in result.reason
        assert "gone" not in result.reason

    def test_a_connection_lost_on_the_way(self, certificates: Path, spool: Spool, recent: datetime) -> None:
        post = Post()
        post.hang_up_after = 1
        names = [f"{name}@library.example" for name in "abc"]
        with server(post, certificates) as port:
            mailer = Mailer(settings_for(port, certificates), SECRET, spool, pauses=(0,))
            result = mailer.deliver([mail_for(name, moment=recent) for name in names])
        assert (result.sent, result.kept) == (3, 0)
        assert sorted(set(post.recipients)) == names

    def test_nothing_in_the_logs(
        self, certificates: Path, spool: Spool, recent: datetime, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "evergreen_groups")
        Mailer(settings_for(free_port(), certificates), SECRET, spool, pauses=(0,)).deliver(
            [mail_for("a@library.example", moment=recent)]
        )
        assert "localhost" in caplog.text
        assert "a@library.example" not in caplog.text
        assert SECRET not in caplog.text


class TestTheSpool:
    def test_the_same_mail_is_kept_once(self, spool: Spool) -> None:
        spool.add(mail_for("a@library.example"))
        spool.add(mail_for("a@library.example"))
        spool.add(mail_for("b@library.example"))
        assert len(list(spool)) == 2

    def test_old_mails_are_given_up(self, certificates: Path, spool: Spool, recent: datetime) -> None:
        spool.add(mail_for("a@library.example", "long ago", recent - timedelta(days=15)))
        spool.add(mail_for("a@library.example", "lately", recent - timedelta(days=13)))
        post = Post()
        with server(post, certificates) as port:
            result = Mailer(settings_for(port, certificates), SECRET, spool).deliver([])
        assert (result.sent, result.kept, result.dropped) == (1, 0, 1)

    def test_what_a_killed_run_left_is_cleaned_up(self, spool: Spool) -> None:
        spool.add(mail_for("a@library.example"))
        (kept,) = spool
        leftover = kept.parent / "tmpabc.part"
        leftover.write_bytes(b"half a mail")
        assert spool.drop_older(3650) == 0
        assert not leftover.exists()
        assert list(spool) == [kept]

    def test_a_spool_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="file"):
            Spool(tmp_path / "file" / "mail").add(mail_for("a@library.example"))

    def test_it_comes_back_as_it_was(self, spool: Spool) -> None:
        attachment = Attachment("report.html", "text/html", "<p>Größe</p>".encode())
        letter = Letter("Gebühren für Größe", "Ein Text\n" * 3, "<p>Größe</p>", attachment)
        spool.add(build_message(letter, sender=SENDER, recipient="a@library.example", written_at=MOMENT, run="r"))
        (file,) = spool
        message = spool.read(file)
        assert message["Subject"] == "Gebühren für Größe"
        assert message["To"].addresses[0].addr_spec == "a@library.example"
        (found,) = message.iter_attachments()
        assert found.get_filename() == "report.html"
        assert found.get_content() == "<p>Größe</p>"
        assert message["Auto-Submitted"] == "auto-generated"


class TestTheMessage:
    def test_the_id_is_that_of_the_run_and_the_address(self) -> None:
        ids = {
            mail_for(address, run)["Message-ID"]
            for address, run in (("a@x.example", "1"), ("a@x.example", "1"), ("b@x.example", "1"), ("a@x.example", "2"))
        }
        assert len(ids) == 3
        assert all(str(id).endswith("@library.example>") for id in ids)
        assert not any("a@x" in str(id) for id in ids)


UNITS = OrgUnits(
    OrgUnit(id, shortname, shortname, parent)
    for id, shortname, parent in (
        (1, "CONS", None),
        (2, "SYS", 1),
        (3, "SYS2", 1),
        (4, "BR1", 2),
        (5, "BR2", 2),
        (6, "BR3", 3),
    )
)


class TestRecipients:
    def test_nobody_gets_two_and_a_system_is_all_below_it(self) -> None:
        parts = addressed(
            [("BR1", ("a@x.example", "b@x.example")), ("sys", ("b@x.example",)), ("BR3", ("a@x.example",))], UNITS
        )
        assert parts == {("BR1", "BR3"): ("a@x.example",), ("SYS",): ("b@x.example",)}

    def test_everything_is_everything(self) -> None:
        parts = addressed([("BR1", ("a@x.example",)), ("*", ("a@x.example", "b@x.example"))], UNITS)
        assert parts == {(): ("a@x.example", "b@x.example")}

    def test_an_unknown_library(self) -> None:
        with pytest.raises(ConfigurationError, match="BR9"):
            addressed([("BR9", ("a@x.example",))], UNITS)


class TestTheSettings:
    def test_no_server(self, spool: Spool) -> None:
        with pytest.raises(ConfigurationError, match=r"host.*\[mail\]"):
            Mailer(MailSettings(sender=SENDER), None, spool)

    def test_a_report_is_attached_only_with_names(self) -> None:
        with pytest.raises(ConfigurationError, match="names_in_mail"):
            MailSettings(attach="html")

    def test_no_password_over_an_open_line(self) -> None:
        with pytest.raises(ConfigurationError, match="unencrypted"):
            MailSettings(security="none", username="groups", host="mail.example.org")
        MailSettings(security="none", username="groups", host="localhost")
