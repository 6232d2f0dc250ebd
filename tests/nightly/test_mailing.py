"""The report by mail, from the command to the mailbox: who gets what, and what is in it."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import lxml.html
import pytest
from hypothesis import given, settings
from sqlalchemy import update
from support.command import Command
from support.mail_server import SECRET, Post, free_port, mail_section, server
from support.report_samples import (
    FAMILIES,
    ORG_UNITS,
    blocked_report,
    changed_report,
    empty_report,
    hostile_reports,
    member,
    report_of,
    sample_report,
)

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.groups import Group
from evergreen_groups.mail import Letter, build_message
from evergreen_groups.mail.mailer import Outbox
from evergreen_groups.nightly.mailing import messages
from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import LetterOptions, html_letter, plain_letter, subject_line
from evergreen_groups.report import Changes, Report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import MailSettings
from evergreen_groups.state import State, schema

pytestmark = pytest.mark.long

SAMPLE = sample_report()
RECIPIENTS = {
    "HARBOR": ["harbor@library.example"],
    "NORTH": ["north@library.example", "harbor@library.example"],
    "*": ["director@library.example"],
}


class Mailed:
    """The command with a configuration that sends mails."""

    def __init__(self, directory: Path, url: str, certificates: Path) -> None:
        self._certificates = certificates
        self.command = Command(directory, url)
        self.command.environ |= {"EVERGREEN_GROUPS_MAIL_PASSWORD": SECRET, "STATE_DIRECTORY": str(directory / "state")}

    def configure(self, port: int, more: str = "", others: str = "") -> None:
        """Send to a server on ``port``; ``more`` are lines of ``[mail]``, ``others`` of other sections."""
        self.command.config.write_text(mail_section(port, self._certificates, more, RECIPIENTS) + others)

    def __call__(
        self, *words: str, more: str = "", others: str = "", port: int = 0
    ) -> tuple[Post, dict[str, str], str]:
        """Mail the report. Return the server, the plain text of each recipient's mail, and the command's output."""
        post = Post()
        with server(post, self._certificates, port=port) as port:
            self.configure(port, more, others)
            done = self.command("report", "--mail", *words)
        assert done.returncode == exit_status.DONE, done.stderr
        return post, {to: plain(mail) for to, mail in zip(post.recipients, post.taken, strict=True)}, done.stdout


@pytest.fixture
def mailed(sandbox: Sandbox, mail_certificates: Path, tmp_path: Path) -> Mailed:
    return Mailed(tmp_path, sandbox.url, mail_certificates)


def plain(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_a_letter_tells_over_the_limit_from_blocked_in_evergreen() -> None:
    page = lxml.html.document_fromstring(html_letter(blocked_report(), LetterOptions()))
    for letter in (plain_letter(blocked_report(), LetterOptions()), " ".join(page.xpath("//body//text()"))):
        assert (
            "Members blocked in Evergreen at least 2 "
            "Blocked in Evergreen, own fines within the limit at least 1 "
            "Over the limit, not yet blocked in Evergreen at least 6 "
        ) in " ".join(letter.split())
    for letter in (plain_letter(SAMPLE, LetterOptions()), html_letter(SAMPLE, LetterOptions())):
        assert "blocked in Evergreen" not in letter  # not read


def test_everyone_gets_their_part_and_no_names(mailed: Mailed) -> None:
    link = 'link = "https://reports.example/{library}.html"'
    post, mails, output = mailed("--format", "json", more=link)
    assert post.encrypted == [True] * 3
    assert mails.keys() == {f"{name}@library.example" for name in ("harbor", "north", "director")}
    assert mails["harbor@library.example"] == mails["north@library.example"]
    report = json.loads(output)
    people = [member["name"] for group in report["groups"] for member in group["members"]]
    assert people
    for text in (*mails.values(), *(str(message) for message in post.taken)):
        assert not [name for name in people if name in text]
        assert "20000000" not in text
    assert (
        f"Groups{report['totals']['group_count']:>25}" in mails["director@library.example"]
        or "288.85" in mails["director@library.example"]
    )
    assert "https://reports.example/NORTH.html" in mails["north@library.example"]
    assert "https://reports.example/LAKELAND.html" in mails["director@library.example"]
    north = {
        str(group["group"])
        for group in report["groups"]
        if {member["library"] for member in group["members"]} & {"NORTH", "HARBOR", "PINE"}
    }
    others = {str(group["group"]) for group in report["groups"]} - north
    assert north
    assert others
    listed = mails["north@library.example"].split()
    assert north <= set(listed)
    assert not others & set(listed)


@pytest.mark.parametrize(
    ("split", "output", "address"),
    [
        ("none", "report.html", "https://ils.example/evergreen-groups/reports/latest"),
        ("library", "libraries", "https://ils.example/evergreen-groups/reports/latest/NORTH"),
        ("none", "report.json", None),
    ],
)
def test_the_button_is_there_whenever_the_services_address_is_known(
    mailed: Mailed, tmp_path: Path, split: str, output: str, address: str | None
) -> None:
    others = f'[serve]\norigin = "https://ils.example"\n[report]\nsplit = "{split}"\n'
    _post, mails, _output = mailed("--output", str(tmp_path / output), others=others)
    lines = mails["north@library.example"].splitlines()
    found = [line.split()[-1] for line in lines if "https://" in line]
    assert found == ([address] if address else [])


def test_attached_only_with_names(mailed: Mailed) -> None:
    post, _mails, _output = mailed("--format", "csv", more='names_in_mail = true\nattach = "xlsx"')
    for message in post.taken:
        (attachment,) = message.iter_attachments()
        assert attachment.get_content_type().endswith("spreadsheetml.sheet")
        assert attachment.get_content().startswith(b"PK")
    assert "Name" in plain(post.taken[0])


def test_a_server_that_is_down_keeps_nothing_from_the_report(mailed: Mailed, tmp_path: Path) -> None:
    port, output = free_port(), tmp_path / "report.html"
    mailed.configure(port, "tries = 1")
    done = mailed.command("--quiet", "report", "--mail", "--output", str(output))
    assert done.returncode == exit_status.UNSENT
    assert "queued for the next run" in done.stderr  # cron mails what is said, and knows no exit status
    assert "@library.example" not in done.stderr
    assert output.exists()
    assert mailed.command("status").returncode == exit_status.UNSENT
    post, *_ = mailed("--manual", "--output", str(output), port=port)
    assert len(post.taken) == 6
    assert mailed.command("status").returncode == exit_status.DONE
    assert len({message["Message-ID"] for message in post.taken}) == 6


def test_mails_of_a_restored_backup_are_held_until_staff_decide(
    mailed: Mailed, mail_certificates: Path, tmp_path: Path
) -> None:
    """The lost database has sent these mails after its backup."""
    command, backup, restored = mailed.command, str(tmp_path / "backup"), tmp_path / "restored"
    port, report = free_port(), ("--quiet", "report", "--mail", "--history", "--output", str(tmp_path / "report.html"))

    def document(*words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(command(*words, "--json").stdout)
        return found

    mailed.configure(port, "tries = 1")
    assert command(*report).returncode == exit_status.UNSENT
    command("state", "backup", backup)
    command.environ["STATE_DIRECTORY"] = str(restored)
    told = command("state", "restore", backup)
    assert "3 mails have been held since a restore (" in told.stdout
    assert "run `evergreen-groups state mails send` or `drop`" in told.stdout
    assert command("state", "mails", "send").returncode == exit_status.UNSENT  # the mail server is still down
    with State(restored) as state, state.database.writing() as connection:
        connection.execute(update(schema.mails).values(held_since=datetime.now(UTC)))
    post = Post()
    with server(post, mail_certificates, port=port):
        done = command(*report)
        assert done.returncode == exit_status.DONE
        assert "3 mails of a restored backup are held" in done.stderr
        assert len(post.taken) == 3
        assert document("state", "mails") == {"version": 1, "kind": "state-mails", "queued": 0, "held": 3}
        status = command("status")
        assert (status.returncode, "3 mails have been held" in status.stdout) == (exit_status.UNSENT, True)
        assert document("status")["held_mails"] == 3
        sent = command("state", "mails", "send")
        assert (sent.returncode, sent.stdout) == (exit_status.DONE, "mails sent: 3, queued: 0, given up: 0\n")
    assert len({message["Message-ID"] for message in post.taken}) == 6
    assert command("status").returncode == exit_status.DONE
    command.environ["STATE_DIRECTORY"] = str(tmp_path / "again")
    assert document("state", "restore", backup)["held_mails"] == 3
    assert command("status").returncode == exit_status.UNSENT
    assert command("state", "mails", "drop").stdout == "3 mails deleted.\n"
    assert command("status").returncode == exit_status.DONE
    assert document("state", "mails", "drop")["dropped"] == 0


def test_a_mail_that_was_given_up_is_told_by_the_exit_status(
    mailed: Mailed, mail_certificates: Path, tmp_path: Path
) -> None:
    letter = Letter("Fines", "Nothing", "<p>Nothing</p>")
    addresses = {"sender": "groups@library.example", "recipient": "a@library.example"}
    old = build_message(letter, **addresses, written_at=datetime.now(UTC) - timedelta(days=100), run="r")
    with server(Post(), mail_certificates) as port:
        mailed.configure(port)
        with State(tmp_path / "state") as state:
            Outbox(state.database).add([old])
        done = mailed.command("--quiet", "report", "--mail", "--output", str(tmp_path / "report.html"))
    assert done.returncode == exit_status.UNSENT
    assert "1 mails were given up" in done.stderr
    with State(tmp_path / "state") as state:
        assert len(Outbox(state.database)) == 0


@pytest.mark.parametrize("send_empty", [True, False])
def test_who_has_nothing_listed_gets_a_mail_if_so_configured(send_empty: bool) -> None:
    mail = MailSettings(
        host="localhost",
        sender="g@b.example",
        recipients=(("BR1", ("a@b.example",)), ("BR2", ("c@d.example",))),
        send_empty=send_empty,
    )
    groups = [Group(1, (member(10, "N", "30.00"), member(11, "N", "0.00")))]  # home library BR1
    report = replace(report_of(groups), org_units=ORG_UNITS)
    recipients = [str(message["To"]) for message in messages(report, mail)]
    assert recipients == ["a@b.example", *["c@d.example"] * send_empty]


@pytest.mark.parametrize("words", [["--mail"], ["--split", "library", "--output", "reports", "--format", "xlsx"]])
def test_a_spreadsheet_that_cannot_be_made_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    for name, value in {
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "EVERGREEN_GROUPS_GATEWAY_URL": "http://127.0.0.1:9",
        "EVERGREEN_GROUPS_GATEWAY_USERNAME": "nobody",
        "EVERGREEN_GROUPS_MAIL_NAMES_IN_MAIL": "true",
        "EVERGREEN_GROUPS_MAIL_ATTACH": "xlsx",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)  # as if it weren't installed
    monkeypatch.chdir(tmp_path)  # a failed run leaves a page beside the reports
    assert run(["report", *words]) == exit_status.CONFIGURATION
    assert "xlsxwriter" in capsys.readouterr().err


def test_a_report_of_some_libraries_is_not_sent_to_the_others(mailed: Mailed) -> None:
    _post, mails, _output = mailed("--org", "pine", more='link = "https://ils.example/{library}.html"')
    assert {to: text.splitlines()[0].partition(": ")[2] for to, text in mails.items()} == {
        "director@library.example": "PINE",
        "north@library.example": "PINE",
        "harbor@library.example": "PINE",
    }
    assert all("https://ils.example/PINE.html" in text for text in mails.values())


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ('attach = "html"', "names_in_mail"),
        ('subject = "{names}"', "{date}"),
        ('subject = "two\\nlines"', "one line"),
        ('security = "ssl"', "starttls"),
        ('password_file = "/nowhere/password"', "/nowhere/password"),
    ],
)
def test_bad_settings_are_told_before_anything_is_read(mailed: Mailed, tmp_path: Path, more: str, word: str) -> None:
    mailed.configure(1, more)
    del mailed.command.environ["EVERGREEN_GROUPS_MAIL_PASSWORD"]
    done = mailed.command("report", "--mail", "--output", str(tmp_path / "report.html"))
    assert done.returncode == exit_status.CONFIGURATION
    assert word in done.stderr
    assert not (tmp_path / "report.html").exists()


def with_names(group: Group) -> Group:
    return replace(
        group,
        members=tuple(replace(one, patron=replace(one.patron, name=f"Somebody {one.id}")) for one in group.members),
    )


class TestTheLetter:
    def test_it_has_the_figures_and_the_worst_groups(self) -> None:
        text = plain_letter(SAMPLE, LetterOptions(places=("BR1",)))
        assert "BR1" in text.splitlines()[0]
        assert text.splitlines()[2].startswith("For information only. Only a member's own fines count")
        worst = max(SAMPLE.groups, key=lambda group: group.known_fines)
        assert f"{worst.group_fines:,.2f}" in text
        assert all(len(line) <= 78 for line in text.splitlines())

    @pytest.mark.parametrize(
        ("report", "figures"),
        [
            (SAMPLE, {"Groups": "5", "Group Fines": "unknown", "Members over the limit": "at least 7"}),
            (report_of(FAMILIES[:2]), {"Groups": "2", "Group Fines": "$1,318.35", "Members over the limit": "2"}),
        ],
        ids=["incomplete", "complete"],
    )
    def test_both_forms_say_the_same_figures(self, report: Report, figures: dict[str, str]) -> None:
        options = LetterOptions(links=(("BR1", "https://reports.example/a?b=1&c=2"),))
        page, text = html_letter(report, options), plain_letter(report, options)
        tree = lxml.html.document_fromstring(page)
        [amount] = tree.xpath("//table[@class='groups']//td[text()='$1,289.35']")
        assert amount.get("align") == "right"  # under each other
        shown = [" ".join(one.text_content().split()) for one in tree.xpath("//table[@class='figures']//td")]
        assert shown == [value + label for label, value in figures.items()]
        for label, value in figures.items():
            assert re.search(rf"^{label} +{re.escape(value)}$", text, re.MULTILINE)
        assert 'href="https://reports.example/a?b=1&amp;c=2"' in page

    def test_names_lead_into_the_staff_client_where_they_are_allowed(self) -> None:
        client = StaffClient("eg2", "https://ils.example")
        page = html_letter(SAMPLE, LetterOptions(names=True, client=client))
        worst = max(SAMPLE.groups, key=lambda group: group.known_fines)
        links = {link.text: link.get("href") for link in lxml.html.document_fromstring(page).iter("a")}
        assert links[worst.lead.name] == client.patron_page(worst.lead.id)
        assert links[str(worst.number)] == client.group_page(worst.lead.id)
        assert "ils.example/eg2" not in html_letter(SAMPLE, LetterOptions(client=client))

    def test_it_has_one_button_and_other_libraries_are_links(self) -> None:
        places = tuple((name, f"https://reports.example/{name}") for name in ("BR1", "BR2", "BR3"))
        tree = lxml.html.document_fromstring(html_letter(SAMPLE, LetterOptions(links=places)))
        assert tree.xpath("//td[@bgcolor='#1f5c45']/a/@href") == ["https://reports.example/BR1"]
        assert tree.xpath("//a/@href") == [address for _, address in places]
        assert not lxml.html.document_fromstring(html_letter(SAMPLE, LetterOptions())).xpath("//a")

    def test_whatever_the_plain_form_says_stands_in_the_other(self) -> None:
        for report in (blocked_report(), changed_report(), empty_report()):
            options = LetterOptions(places=("BR1",), links=(("BR1", "https://reports.example/today"),))
            page = " ".join(lxml.html.document_fromstring(html_letter(report, options)).xpath("//body//text()|//@href"))
            for word in plain_letter(report, options).replace("The whole report:", "Open the report:").split():
                assert word.rstrip(":") in page or word in ("--",), word

    def test_it_is_looked_at_without_a_sheet_or_anything_fetched(self) -> None:
        page = html_letter(changed_report(), LetterOptions(names=True))
        tree = lxml.html.document_fromstring(page)
        assert not tree.xpath("//img | //link | //script | //@src")
        assert "url(" not in page
        assert all(
            one.get("style") for one in tree.iter("td", "th", "a", "h1", "h2", "p") if one.get("class") != "around"
        )
        layout = [one for one in tree.iter("table") if one.get("class") != "groups" and not one.xpath("tr/th")]
        assert {one.get("role") for one in layout} == {"presentation"}

    def test_it_says_what_changed_without_names(self) -> None:
        for letter in (plain_letter(changed_report(), LetterOptions()), html_letter(changed_report(), LetterOptions())):
            words = " ".join(letter.split())
            assert re.search(
                r"1 group newly listed, 1 group owes more, 1 group owes less, 2 groups unchanged, "
                r"2 groups no longer listed since 1\d Aug 2026, \d\d:\d\d",
                words,
            )
            assert "owes more: +$85.35" in words
            assert "Hildegard" not in words
        letter = plain_letter(replace(SAMPLE, changes=Changes(None, {})), LetterOptions())
        assert re.search(r"^What changed +nothing to compare with yet$", letter, re.MULTILINE)

    def test_what_changed_comes_first_then_the_groups_then_the_button(self) -> None:
        options = LetterOptions(links=(("BR1", "https://reports.example/today"),))
        for letter, end in ((plain_letter, "Listed"), (html_letter, ">Listed<")):
            text = letter(changed_report(), options)
            parts = ["What changed", "Highest Group Fines", "https://reports.example/today", end]
            places = [text.index(part) for part in parts]
            assert places == sorted(places), letter

    def test_nothing_to_list(self) -> None:
        for letter in (plain_letter, html_letter):
            assert "No groups to list." in letter(empty_report(), LetterOptions())

    def test_the_subject(self) -> None:
        line = subject_line("{date} | {groups} | {members} | {total} | {libraries}", SAMPLE, ("BR1", "BR2"))
        assert line.split(" | ") == ["14 Aug 2026", "5", "19", "unknown", "BR1, BR2"]
        default = MailSettings().subject
        assert subject_line(default, report_of(FAMILIES[:2]), ()) == (
            "Groups with high combined fines, 14 Aug 2026: 2 listed, $1,318.35"
        )

    @settings(max_examples=50, deadline=None)
    @given(report=hostile_reports())
    def test_no_name_without_leave_and_no_markup_ever(self, report: Report) -> None:
        page = html_letter(report, LetterOptions(names=True))
        assert "<script" not in page.lower()
        named = replace(report, groups=tuple(with_names(group) for group in report.groups))
        for letter in (plain_letter(named, LetterOptions()), html_letter(named, LetterOptions())):
            assert "Somebody" not in letter
        if report.groups:
            assert "Somebody" in plain_letter(named, LetterOptions(names=True))
