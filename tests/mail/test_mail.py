"""The report by mail, against a real SMTP server in this process, with TLS."""

from __future__ import annotations

import io
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import waiting
from support.mail_server import SECRET, Post, context_of, free_port, server

from evergreen_groups.errors import ConfigurationError, DeadlineError
from evergreen_groups.ils import OrgUnit, OrgUnits
from evergreen_groups.mail import Attachment, Letter, Mailer, build_message
from evergreen_groups.mail.mailer import Delivery, Outbox
from evergreen_groups.nightly.deadline import Deadline
from evergreen_groups.nightly.mailing import addresses_by_libraries
from evergreen_groups.settings import MailSettings
from evergreen_groups.settings.values import HOST as host_name  # noqa: N811 - called like a function
from evergreen_groups.settings.values import MAIL_ADDRESS as mail_address  # noqa: N811
from evergreen_groups.settings.values import RECIPIENTS, NotAllowedError
from evergreen_groups.state import State, prune
from evergreen_groups.state.backup import back_up, restore
from evergreen_groups.state.database import Database

SENDER = "groups@library.example"
MOMENT = datetime(2026, 8, 1, 3, 15, tzinfo=UTC)


def settings_for(port: int, mail_certificates: Path, **changes: object) -> MailSettings:
    values = {"host": "localhost", "port": port, "ca_bundle": mail_certificates / "right.pem", "username": "groups"}
    return MailSettings(**{**values, "sender": SENDER, "timeout": 5, **changes})  # type: ignore[arg-type]


def mail_for(recipient: str, run: str = "tonight", moment: datetime = MOMENT) -> EmailMessage:
    letter = Letter("Fines", "Nothing to see", "<p>Nothing to see</p>")
    return build_message(letter, sender=SENDER, recipient=recipient, written_at=moment, run=run)


def answer_up_to_the_mail_itself(listener: socket.socket) -> None:
    """A mail server that falls silent when it is to take a mail, until the client has gone; then its time is up."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"220 here\r\n")
        for line in lines:
            if line.lower().startswith(b"data"):
                waiting.expire_deadline()
            elif not line.lower().startswith(b"quit"):
                connection.sendall(b"250 ok\r\n")


def delivered(mailer: Mailer, messages: Iterable[EmailMessage]) -> Delivery:
    mailer.outbox.add(messages)
    return mailer.deliver()


Send = Callable[..., Delivery]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with State(tmp_path / "state") as state:
        yield Outbox(state.database)


@pytest.fixture
def recent() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def send(mail_certificates: Path, outbox: Outbox, recent: datetime) -> Send:
    """Send a mail to each name through a server with certificates or none, and options of its own."""

    def send(
        post: Post,
        *names: str,
        name: str | None = "right",
        options: Mapping[str, object] | None = None,
        password: str = SECRET,
        pauses: Sequence[float] = (3600,),
        **changes: object,
    ) -> Delivery:
        mails = [mail_for(f"{name}@library.example", moment=recent) for name in names]
        certificates = None if name is None else mail_certificates
        with server(post, certificates, name=name or "", **(options or {})) as port:
            mailer = Mailer(settings_for(port, mail_certificates, **changes), password, outbox, pauses=pauses)
            result = delivered(mailer, mails)
        return replace(result, reason=result.reason.replace(f"localhost:{port}", "THE SERVER"))

    return send


class TestTheServer:
    def test_starttls_and_login(self, send: Send, outbox: Outbox) -> None:
        post = Post()
        result = send(post, "a", "b")
        assert (result.sent, result.queued, result.reason) == (2, 0, "")
        assert sorted(post.recipients) == ["a@library.example", "b@library.example"]
        assert post.encrypted == [True, True]
        assert len(outbox) == 0

    def test_a_long_mail_with_points_arrives_as_it_is(
        self, mail_certificates: Path, outbox: Outbox, recent: datetime
    ) -> None:
        text = ".\r\n..\r\n.point\r\n" + "a line\r\n" * 60_000 + "."
        letter = Letter("Fines", text, "<p>Text</p>", Attachment("a", "x/y", io.BytesIO(bytes(range(256)) * 2_000)))
        mail = build_message(letter, sender=SENDER, recipient="a@library.example", written_at=recent, run="r")
        post = Post()
        with server(post, mail_certificates) as port:
            mailer = Mailer(settings_for(port, mail_certificates), SECRET, outbox)
            assert delivered(mailer, [mail]).sent == 1
        assert bytes(post.taken[0]) == message_from_bytes(bytes(mail), policy=SMTP).as_bytes()

    def test_tls_from_the_start(self, mail_certificates: Path, send: Send) -> None:
        post = Post()
        tls = context_of(mail_certificates, "right")
        options = {"ssl_context": tls, "tls_context": None, "require_starttls": False, "auth_required": False}
        assert send(post, "a", options={**options, "auth_require_tls": False}, security="tls").sent == 1
        assert post.encrypted == [True]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"name": "wrong"}, "certificate"),
            ({"ca_bundle": None}, "certificate"),
            ({"username": "groups", "password": "wrong"}, "refused the login (535)"),
            ({"security": "none", "username": None}, "refused"),
            ({"name": None}, "STARTTLS"),
        ],
    )
    def test_what_a_second_try_would_not_mend(self, send: Send, changes: dict[str, object], words: str) -> None:
        post = Post()
        result = send(post, "a", **changes)
        assert (result.sent, result.queued) == (0, 1)
        assert words in result.reason
        assert SECRET not in result.reason
        assert "a@library.example" not in result.reason
        assert post.taken == []

    def test_down_and_up_again(
        self, mail_certificates: Path, outbox: Outbox, recent: datetime, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "evergreen_groups")
        port = free_port()
        mailer = Mailer(settings_for(port, mail_certificates), SECRET, outbox, pauses=(0,))
        first = mail_for("a@library.example", "first night", recent - timedelta(days=1))
        result = delivered(mailer, [first])
        assert (result.sent, result.queued) == (0, 1)
        assert f"localhost:{port}" in result.reason
        assert "localhost" in caplog.text
        assert "a@library.example" not in caplog.text
        assert SECRET not in caplog.text
        post = Post()
        with server(post, mail_certificates, port=port):
            result = delivered(mailer, [mail_for("a@library.example", "second night", recent)])
        assert (result.sent, result.queued) == (2, 0)
        assert post.taken[0]["Message-ID"] == first["Message-ID"]

    @pytest.mark.parametrize("later", [1, 2])
    def test_later_is_tried_again_at_once_and_no_is_not(
        self, send: Send, outbox: Outbox, caplog: pytest.LogCaptureFixture, later: int
    ) -> None:
        """Why the one that stays queued was refused is logged, whatever the server said of the other."""
        post = Post()
        caplog.set_level(logging.ERROR, "evergreen_groups")
        post.refuse = {"gone@library.example": "550 No such mailbox for gone@library.example"}
        post.answers = ["451 Later"] * later
        result = send(post, "gone", "here", pauses=(0, 0))
        assert post.recipients == ["here@library.example"]
        assert (result.sent, result.queued) == (1, 1)
        assert result.reason == "mail server THE SERVER refused a recipient (550)"
        (left,) = outbox.numbers()
        assert [re.sub(r"localhost:\d+", "THE SERVER", message) for message in caplog.messages] == [
            f"mail {left} stays queued: {result.reason}"
        ]

    @pytest.mark.parametrize(
        ("options", "answers", "what"),
        [
            ({}, ["554 Spam"], "a mail (554)"),
            ({"data_size_limit": 300}, [], "a mail that is too large (552)"),
            ({}, ["553 Who are you?"], "the sender (553)"),
        ],
    )
    def test_what_is_refused_is_named(
        self, send: Send, options: dict[str, object], answers: list[str], what: str
    ) -> None:
        post = Post()
        post.refuse_sender, post.answers = ("553 No" if "sender" in what else None), answers
        assert send(post, "a", options=options).reason == f"mail server THE SERVER refused {what}"

    def test_a_server_that_logs_in_in_other_ways(self, mail_certificates: Path, outbox: Outbox) -> None:
        with server(Post(), mail_certificates, auth_exclude_mechanism=["LOGIN", "PLAIN"]) as port:
            obstacle = Mailer(settings_for(port, mail_certificates), SECRET, outbox).obstacle()
        assert str(obstacle) == f"mail server localhost:{port} doesn't support this login; check username in [mail]"

    def test_a_server_that_hangs_up_after_some_mails_gets_the_rest(self, send: Send) -> None:
        post = Post()
        post.hang_up_after = 1
        result = send(post, *"abc", pauses=())
        assert (result.sent, result.queued, result.reason) == (3, 0, "")
        assert sorted(set(post.recipients)) == [f"{name}@library.example" for name in "abc"]

    def test_a_run_at_its_deadline_does_not_wait_for_a_server_that_has_stopped_to_answer(
        self, tmp_path: Path, outbox: Outbox, recent: datetime
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            silent = threading.Thread(target=answer_up_to_the_mail_itself, args=(listener,))
            silent.start()
            settings = MailSettings(
                host="127.0.0.1", port=listener.getsockname()[1], security="none", sender=SENDER, timeout=60
            )
            mailer = Mailer(settings, None, outbox)
            began = time.monotonic()
            with pytest.raises(DeadlineError), Deadline(120):
                delivered(mailer, [mail_for("a@library.example", moment=recent)])
            assert time.monotonic() - began < 60
            silent.join()
        assert len(outbox) == 1


class TestTheOutbox:
    """On each engine."""

    @pytest.fixture
    def outbox(self, state: State) -> Outbox:
        return Outbox(state.database)

    def test_the_same_mail_is_kept_once(self, outbox: Outbox) -> None:
        outbox.add([mail_for("a@library.example"), mail_for("c@library.example")])
        outbox.add([mail_for("a@library.example"), mail_for("b@library.example")])
        assert len(outbox) == 3

    def test_the_oldest_comes_first(self, outbox: Outbox, recent: datetime) -> None:
        outbox.add([mail_for("a@library.example", "today", recent)])
        outbox.add([mail_for("a@library.example", "yesterday", recent - timedelta(days=1))])
        found = [message_from_bytes(outbox.read(number) or b"", policy=SMTP) for number in outbox.numbers()]
        days = [(recent - timedelta(days=1)).day, recent.day]
        assert [mail["Date"].datetime.day for mail in found] == days

    def test_old_mails_are_given_up(self, mail_certificates: Path, outbox: Outbox, recent: datetime) -> None:
        outbox.add([mail_for("a@library.example", "long ago", recent - timedelta(days=15))])
        outbox.add([mail_for("a@library.example", "lately", recent - timedelta(days=13))])
        post = Post()
        with server(post, mail_certificates) as port:
            result = delivered(Mailer(settings_for(port, mail_certificates), SECRET, outbox), [])
        assert (result.sent, result.queued, result.dropped) == (1, 0, 1)

    def test_mails_of_a_restored_backup_wait_for_a_decision(
        self,
        state: State,
        outbox: Outbox,
        mail_certificates: Path,
        tmp_path: Path,
        recent: datetime,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A month of nightly runs sends its own mails only; then staff send what the restore held."""
        with State(tmp_path / "lost") as lost:
            Outbox(lost.database).add([mail_for(f"{name}@library.example", "lost", recent) for name in "ab"])
            back_up(lost.database, tmp_path / "backup")
        restore(state.database, tmp_path / "backup")
        post = Post()
        with server(post, mail_certificates) as port:
            mailer = Mailer(settings_for(port, mail_certificates), SECRET, outbox, pauses=())
            for night in range(30):
                moment = recent + timedelta(days=night)
                monkeypatch.setattr(Database, "now", lambda _, moment=moment: moment)
                mail = mail_for("a@library.example", f"night {night}", moment)
                assert delivered(mailer, [mail]) == Delivery(sent=1, queued=0)
                prune(state.database, {"history": 400, "journal": 730, "events": 90, "follow-ups": 400}, moment)
            assert (len(post.taken), outbox.held().count, len(outbox)) == (30, 2, 0)
            outbox.release_held()
            assert mailer.deliver() == Delivery(sent=2, queued=0)
            assert mailer.deliver() == Delivery(sent=0, queued=0)
        assert post.recipients[30:] == ["a@library.example", "b@library.example"]
        assert len({message["Message-ID"] for message in post.taken}) == 32

    def test_a_clock_that_is_decades_ahead_gives_no_mail_up(
        self, state: State, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outbox.add([mail_for("a@library.example")])
        prune(state.database, {"history": 400, "journal": 730, "events": 90, "follow-ups": 400}, MOMENT)
        monkeypatch.setattr(Database, "now", lambda _: datetime(2099, 1, 1, tzinfo=UTC))
        assert outbox.drop_older(14) == 0
        assert len(outbox) == 1

    def test_it_comes_back_as_it_was(self, outbox: Outbox) -> None:
        attachment = Attachment("report.html", "text/html", io.BytesIO("<p>Größe</p>".encode()))
        letter = Letter("Gebühren für Größe", "Ein Text\n" * 3, "<p>Größe</p>", attachment)
        outbox.add([build_message(letter, sender=SENDER, recipient="a@library.example", written_at=MOMENT, run="r")])
        (number,) = outbox.numbers()
        message = message_from_bytes(outbox.read(number) or b"", policy=SMTP)
        assert isinstance(message, EmailMessage)
        assert message["Message-ID"]
        assert message["Subject"] == "Gebühren für Größe"
        assert message["To"].addresses[0].addr_spec == "a@library.example"
        (found,) = message.iter_attachments()
        assert found.get_filename() == "report.html"
        assert found.get_content() == "<p>Größe</p>"
        assert message["Auto-Submitted"] == "auto-generated"


class TestTheMessage:
    @pytest.mark.parametrize(("content_type", "size"), [("text/csv", 57), ("application/pdf", 300_001), ("x/y", 0)])
    def test_what_is_attached_is_written_from_its_file_as_python_would_write_it(
        self, content_type: str, size: int
    ) -> None:
        content = bytes(number % 251 for number in range(size))
        letter = Letter("Fines", "Größe\n.\n..", "<p>Größe</p>", language="de")
        file = Attachment("report", content_type, io.BytesIO(content))
        made = {"sender": SENDER, "recipient": "a@x.example", "written_at": MOMENT, "run": "r"}
        ours = build_message(replace(letter, attachment=file), **made)  # type: ignore[arg-type]
        its = build_message(letter, **made)  # type: ignore[arg-type]
        del its["Content-Language"]
        main, _, sub = content_type.partition("/")
        parameters = {"charset": "utf-8"} if main == "text" else {}
        its.add_attachment(content, maintype=main, subtype=sub, filename="report", params=parameters)
        its["Content-Language"] = "de"
        boundaries = re.compile(rb"={15}\d+==")
        assert boundaries.sub(b"", bytes(ours)) == boundaries.sub(b"", bytes(its))
        assert bytes(ours).count(b"\n") == bytes(ours).count(b"\r\n")

    def test_a_mail_for_two_has_its_attachment_once_and_closes_it(self) -> None:
        file = io.BytesIO(b"content")
        letter = Letter("Fines", "Text", "<p>Text</p>", Attachment("a.csv", "text/csv", file))
        mails = [
            build_message(letter, sender=SENDER, recipient=address, written_at=MOMENT, run="r")
            for address in ("a@x.example", "b@x.example")
        ]
        del letter
        assert {next(message_from_bytes(bytes(mail), policy=SMTP).iter_attachments()).get_content() for mail in mails}
        assert not file.closed
        mails.clear()
        assert file.closed

    def test_the_id_is_that_of_the_run_and_the_address(self) -> None:
        ids = {
            mail_for(address, run)["Message-ID"]
            for address, run in (("a@x.example", "1"), ("a@x.example", "1"), ("b@x.example", "1"), ("a@x.example", "2"))
        }
        assert len(ids) == 3
        assert all(str(id).endswith("@library.example>") for id in ids)
        assert not any("a@x" in str(id) for id in ids)

    @given(st.text("ab1.-_'`{=?!+\u00fc", max_size=8), st.text("ab1.-_\u00fc", max_size=8))
    def test_every_address_that_a_setting_takes_can_be_written_to(self, local_part: str, domain: str) -> None:
        address = f"{local_part}@{domain}"
        try:
            mail_address(address)
        except NotAllowedError:
            return
        written = mail_for(address).as_bytes(policy=SMTP)
        assert [one.addr_spec for one in message_from_bytes(written, policy=SMTP)["To"].addresses] == [address]

    @pytest.mark.parametrize(
        "address", [".a@x.example", "a.@x.example", "a..b@x.example", "a@x..example", "a@-x.example"]
    )
    def test_an_address_with_a_dot_too_many_is_no_setting(self, address: str) -> None:
        with pytest.raises(NotAllowedError, match=r"circulation@example\.org"):
            mail_address(address)


UNITS = OrgUnits(
    OrgUnit(id, shortname, shortname, parent)
    for id, (shortname, parent) in enumerate(
        (("CONS", None), ("SYS", 1), ("SYS2", 1), ("BR1", 2), ("BR2", 2), ("BR3", 3)), 1
    )
)


class TestRecipients:
    @pytest.mark.parametrize(
        ("recipients", "parts"),
        [
            ("BR1=a@x.ex,b@x.ex; sys=b@x.ex; BR3=a@x.ex", {("BR1", "BR3"): ("a@x.ex",), ("SYS",): ("b@x.ex",)}),
            ("BR1=a@x.ex; *=a@x.ex,b@x.ex", {(): ("a@x.ex", "b@x.ex")}),
            ("BR1=Desk@x.ex; BR3=desk@X.ex,desk@x.ex", {("BR1", "BR3"): ("Desk@x.ex",)}),
        ],
    )
    def test_each_address_gets_one_mail(self, recipients: str, parts: object) -> None:
        assert addresses_by_libraries(RECIPIENTS(recipients), UNITS) == parts

    def test_of_a_library_that_the_report_leaves_out_nobody_is_told(self) -> None:
        recipients = [(name, (f"{name[0]}{name[-1]}@x.example",)) for name in ("BR1", "BR2", "BR3", "SYS", "*")]
        assert addresses_by_libraries(recipients, UNITS, ("br1", "BR2")) == {
            ("BR1",): ("B1@x.example",),
            ("BR2",): ("B2@x.example",),
            ("BR1", "BR2"): ("SS@x.example",),
            (): ("**@x.example",),
        }
        assert addresses_by_libraries(recipients, UNITS, ("SYS",)) == addresses_by_libraries(
            recipients[:2] + recipients[3:], UNITS
        )

    def test_an_unknown_library(self) -> None:
        with pytest.raises(ConfigurationError, match="BR9"):
            addresses_by_libraries([("BR9", ("a@x.example",))], UNITS)


class TestTheSettings:
    def test_no_server(self, outbox: Outbox) -> None:
        with pytest.raises(ConfigurationError, match=r"host.*\[mail\]"):
            Mailer(MailSettings(sender=SENDER), None, outbox)

    def test_no_password_over_an_open_line(self) -> None:
        with pytest.raises(ConfigurationError, match="unencrypted"):
            MailSettings(security="none", username="groups", host="mail.example.org")
        MailSettings(security="none", username="groups", host="localhost")

    @pytest.mark.parametrize(("username", "password"), [("grüße", SECRET), ("groups", "geheim für alle")])
    def test_a_login_that_smtp_has_no_letters_for(self, outbox: Outbox, username: str, password: str) -> None:
        with pytest.raises(ConfigurationError, match="ASCII") as caught:
            Mailer(MailSettings(host="localhost", sender=SENDER, username=username), password, outbox)
        assert password not in str(caught.value)

    @pytest.mark.parametrize("host", ["x" * 64 + ".example", "mail..example", "mail.", "-mail", "mail server"])
    def test_a_host_that_cannot_be(self, host: str) -> None:
        with pytest.raises(NotAllowedError):
            host_name(host)

    @pytest.mark.parametrize(("content", "words"), [("nothing", "it holds no certificate"), (None, "No such file")])
    def test_a_bundle_without_certificates(
        self, tmp_path: Path, outbox: Outbox, content: str | None, words: str
    ) -> None:
        bundle = tmp_path / "ca.pem"
        if content is not None:
            bundle.write_text(content)
        with pytest.raises(ConfigurationError, match=words):
            Mailer(MailSettings(host="localhost", sender=SENDER, ca_bundle=bundle), None, outbox)
