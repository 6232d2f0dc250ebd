"""First-time setup: questions at a terminal, each answer checked, files readable only by their owner."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command import Command, one_line
from support.gateways import PASSWORD
from support.mail_server import SECRET, Post, free_port, server
from support.repository import REPOSITORY
from support.terminals import terminal_of

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.cli.commands.init import _emit
from evergreen_groups.policy import Comparison
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import (
    GatewaySettings,
    MailSettings,
    PolicySettings,
    ReportSettings,
    Settings,
    declared,
    initial_configuration,
    passwords,
    values,
)
from evergreen_groups.settings import reading as load

pytestmark = pytest.mark.long  # too slow together for a plain pytest run

Init = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command with nothing configured."""
    command = Command(tmp_path, None)
    command.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    return command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration to be made."""
    return tmp_path / "config.toml"


@pytest.fixture
def init(sandbox: Sandbox, command: Command, file: Path) -> Init:
    """Makes the configuration without questions, with more options."""
    given = ("--config", str(file), "init", "--yes", "--url", sandbox.url, "--username", "consortium_staff")
    return lambda *options: command(*given, *options)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_all_questions_with_mistakes_on_the_way(sandbox: Sandbox, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "etc" / "config.toml"
    with terminal_of(command, "--config", str(file), "init") as terminal:
        terminal.answer("Address of the Evergreen server", "evergreen")
        terminal.answer("Not accepted: expected an address")
        terminal.answer("Address of the Evergreen server", f"http://127.0.0.1:{free_port()}")
        terminal.answer("Not accepted: no connection to ")
        terminal.answer("Address of the Evergreen server", sandbox.url)
        terminal.answer("User name of the service account", "consortium_staff")
        terminal.answer("Password for consortium_staff", "wrong password")
        terminal.answer("Not accepted: login refused")
        terminal.answer("User name of the service account [consortium_staff]", "")
        terminal.answer("Password for consortium_staff", PASSWORD)
        terminal.answer("Libraries: ")
        terminal.answer("Libraries, separated by commas", "NOWHERE")
        terminal.answer('Not accepted: there is no org unit "NOWHERE"')
        terminal.answer("Libraries, separated by commas", "north, MILL")
        terminal.answer("Minimum combined fines of a group to list [25.00]", "lots")
        terminal.answer("Not accepted: expected an amount")
        terminal.answer("Minimum combined fines of a group to list [25.00]", "30")
        terminal.answer('Limit for a member\'s own fines, "none", or "ils" for Evergreen\'s thresholds [5.00]', "")
        terminal.answer("Evergreen's threshold for fines: $5.01 or more (Users at LAKELAND).")
        terminal.answer('more than $5.00 ("exceeds"), or $5.00 and more ("reaches") [exceeds]', "")
        terminal.answer("Mail server for the report (none)", "")
        terminal.answer("such as en-US, en-GB or fr-CA [en-US]", "")
        assert terminal.end() == exit_status.DONE, terminal.shown
    assert "wrong password" not in terminal.shown
    assert f"\n{PASSWORD}\n" not in terminal.shown
    settings = load.load(file, {})
    assert settings.gateway.url == sandbox.url
    assert settings.report == ReportSettings(min_total=Decimal("30.00"), orgs=("NORTH", "MILL"))
    assert settings.gateway.password_file == tmp_path / "etc" / "password"
    assert settings.gateway.password_file.read_text() == f"{PASSWORD}\n"
    assert [mode(path) for path in (file, file.with_name("password"), file.parent)] == [0o600, 0o600, 0o700]
    assert command("--config", str(file), "report").returncode == exit_status.DONE


def test_the_page_about_the_installation_says_what_is_asked(sandbox: Sandbox, command: Command, file: Path) -> None:
    """Answer in the order of the page, with the amounts that it gives for each question."""
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    asks = page.split("`init` asks")[1].split("`init` writes")[0]
    asked = re.findall(r"^\d\. \*(.+?)\*(?:, such as `(.+?)`)?", asks, re.MULTILINE)
    with terminal_of(command, "--config", str(file), "init") as terminal:
        for question, answer in asked:
            if question.startswith("Address"):
                terminal.answer(question, sandbox.url)
            elif question.startswith("User name"):
                terminal.answer(question, "consortium_staff")
                terminal.answer("Password for consortium_staff", PASSWORD)
            else:
                terminal.answer(question, answer)
        assert terminal.end() == exit_status.DONE, terminal.shown
    settings = load.load(file, {})
    assert (settings.report.min_total, settings.policy.limit) == (Decimal("25.00"), Decimal("5.00"))


def test_without_money_items_are_asked_for(sandbox: Sandbox, command: Command, file: Path) -> None:
    """A report that lists nothing isn't accepted."""
    with terminal_of(command, "--config", str(file), "init") as terminal:
        terminal.answer("Address of the Evergreen server", sandbox.url)
        terminal.answer("User name of the service account", "consortium_staff")
        terminal.answer("Password for consortium_staff", PASSWORD)
        terminal.answer("Libraries, separated by commas", "")
        terminal.answer('answer "none" to list groups by')
        terminal.answer("Minimum combined fines of a group to list [25.00]", "none")
        terminal.answer("Minimum number of overdue items of a group to list [0]", "")
        terminal.answer("Minimum number of lost items of a group to list [0]", "")
        terminal.answer("Not accepted: the report would list nothing")
        terminal.answer("Minimum number of lost items of a group to list [0]", "1")
        terminal.answer("Limit for a member's own fines", "")
        terminal.answer("Over the limit", "")
        terminal.answer("Mail server for the report (none)", "")
        terminal.answer("such as en-US, en-GB or fr-CA [en-US]", "")
        assert terminal.end() == exit_status.DONE, terminal.shown
    report = load.load(file, {}).report
    assert (report.min_total, report.min_overdue, report.min_lost) == (Decimal("0.00"), 0, 1)


def test_with_items_given_money_does_not_count(init: Init, command: Command, file: Path) -> None:
    command.environ |= {passwords.PASSWORD_VARIABLE: PASSWORD}
    done = init("--min-overdue", "3", "--overdue-days", "14")
    assert done.returncode == exit_status.DONE, done.stderr + done.stdout
    report = load.load(file, {}).report
    assert (report.min_total, report.min_overdue, report.overdue_days) == (Decimal("0.00"), 3, 14)


def test_nothing_is_asked_with_yes(init: Init, command: Command, file: Path, mail_certificates: Path) -> None:
    post = Post()
    command.environ |= {passwords.PASSWORD_VARIABLE: PASSWORD, "EVERGREEN_GROUPS_MAIL_PASSWORD": SECRET}
    with server(post, mail_certificates) as port:
        done = init(
            "--org", "NORTH", "--min-total", "40", "--limit", "ils", "--comparison", "reaches",
            "--ca-bundle", str(mail_certificates / "right.pem"),
            "--mail-host", "localhost", "--mail-port", str(port), "--mail-username", "groups",
            "--mail-sender", "groups@library.example", "--mail-recipients",
            "*=a@library.example; NORTH=b@library.example",
        )  # fmt: skip
    assert done.returncode == exit_status.DONE, done.stderr + done.stdout
    settings = load.load(file, {})
    assert settings.policy == PolicySettings("ils", Comparison.REACHES)
    assert settings.report.orgs == ("NORTH",)
    assert settings.mail.recipients == (("*", ("a@library.example",)), ("NORTH", ("b@library.example",)))
    assert file.with_name("mail-password").read_text() == f"{SECRET}\n"
    assert mode(file.with_name("mail-password")) == 0o600
    assert SECRET not in file.read_text() + done.stdout + done.stderr
    assert post.taken == []
    assert "ok       Mail server" in done.stdout


def test_paths_are_good_wherever_runs_are_started(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(PASSWORD)
    (tmp_path / "secret").chmod(0o600)
    options = ("init", "--yes", "--url", sandbox.url, "--username", "consortium_staff")
    assert run(["--config", "given.toml", *options, "--password-file", "secret"]) == exit_status.DONE
    monkeypatch.setenv(passwords.PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setenv(load.CONFIG_VARIABLE, "written.toml")
    assert run(list(options)) == exit_status.DONE
    assert load.load(tmp_path / "given.toml", {}).gateway.password_file == tmp_path / "secret"
    assert load.load(tmp_path / "written.toml", {}).gateway.password_file == tmp_path / "password"
    capsys.readouterr()


def test_a_threshold_above_the_limit_is_a_warning(sandbox: Sandbox, command: Command, init: Init, file: Path) -> None:
    sandbox._store.update("pgpt", 1, {"threshold": "10.00"})
    command.environ[passwords.PASSWORD_VARIABLE] = PASSWORD
    done = init()
    assert done.returncode == exit_status.DONE
    said = "warning: Evergreen blocks at $10.00; limit: more than $5.00. A patron who owes $5.01"
    errors = " ".join(done.stderr.split())
    assert errors.count("Evergreen blocks at $10.00") == errors.count(said) == 1, "a warning, and not ok as well"
    assert "set the threshold of Users at LAKELAND to $5.01" in errors
    assert load.load(file, {}).policy.limit == Decimal("5.00")


def test_five_dollars_and_more_is_over_the_limit_where_the_policy_says_so(
    sandbox: Sandbox, command: Command, file: Path
) -> None:
    """The thresholds are shown before the question. The answer that agrees with them gets no warning."""
    sandbox._store.update("pgpt", 1, {"threshold": "5.00"})
    command.environ[passwords.PASSWORD_VARIABLE] = PASSWORD
    options = ("--url", sandbox.url, "--username", "consortium_staff", "--org", "NORTH", "--min-total", "25")
    with terminal_of(command, "--config", str(file), "init", *options) as terminal:
        terminal.answer("Evergreen's thresholds [5.00]", "")
        terminal.answer("Evergreen's threshold for fines: $5.00 or more (Users at LAKELAND).")
        terminal.answer('"reaches") [exceeds]', "5")
        terminal.answer("Not accepted: expected one of exceeds, reaches")
        terminal.answer('"reaches") [exceeds]', "reaches")
        terminal.answer("ok: Thresholds: Evergreen's thresholds match the rule")
        terminal.answer("Mail server for the report (none)", "")
        terminal.answer("such as en-US, en-GB or fr-CA [en-US]", "")
        assert terminal.end() == exit_status.DONE, terminal.shown
    assert "warning: Evergreen blocks" not in terminal.shown
    assert load.load(file, {}).policy == PolicySettings(comparison=Comparison.REACHES)


@pytest.mark.parametrize("limit", ["none", "ils"])
def test_without_an_amount_there_is_nothing_to_compare_with(
    sandbox: Sandbox, command: Command, file: Path, limit: str
) -> None:
    command.environ[passwords.PASSWORD_VARIABLE] = PASSWORD
    options = ("--url", sandbox.url, "--username", "consortium_staff", "--org", "NORTH", "--min-total", "25")
    with terminal_of(command, "--config", str(file), "init", *options) as terminal:
        terminal.answer("Evergreen's thresholds [5.00]", limit)
        terminal.answer("Mail server for the report (none)", "")
        terminal.answer("such as en-US, en-GB or fr-CA [en-US]", "")
        assert terminal.end() == exit_status.DONE, terminal.shown
    assert "exceeds" not in terminal.shown
    assert load.load(file, {}).policy.comparison is Comparison.EXCEEDS


def test_ctrl_c_on_the_way_writes_nothing(sandbox: Sandbox, command: Command, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with terminal_of(command, "--config", str(tmp_path / "etc" / "config.toml"), "init") as terminal:
        terminal.answer("Address of the Evergreen server", sandbox.url)
        terminal.answer("User name of the service account", "consortium_staff")
        terminal.answer("Password for consortium_staff", PASSWORD)
        terminal.answer("Libraries, separated by commas")
        assert terminal.interrupt() == exit_status.INTERRUPTED
    assert "Traceback" not in terminal.shown
    assert sorted(tmp_path.iterdir()) == before


def test_a_password_of_the_environment_that_does_not_do_is_asked_for(
    sandbox: Sandbox, command: Command, file: Path
) -> None:
    command.environ[passwords.PASSWORD_VARIABLE] = "an older one"
    with terminal_of(command, "--config", str(file), "init", "--url", sandbox.url) as terminal:
        terminal.answer("User name of the service account", "consortium_staff")
        terminal.answer("Not accepted: login refused")
        terminal.answer("User name of the service account", "consortium_staff")
        terminal.answer("Password for consortium_staff", PASSWORD)
        terminal.answer("Libraries, separated by commas")
        assert terminal.interrupt() == exit_status.INTERRUPTED


def test_an_empty_password_ends_it(sandbox: Sandbox, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with terminal_of(command, "--config", str(file), "init") as terminal:
        terminal.answer("Address of the Evergreen server", sandbox.url)
        terminal.answer("User name of the service account", "consortium_staff")
        terminal.answer("Password for consortium_staff", "")
        assert terminal.end() == exit_status.USAGE, terminal.shown
    assert "nothing was written: no password was entered" in terminal.shown
    assert not file.exists()


@pytest.mark.parametrize(
    ("answer", "recipients"),
    [
        ("head@example.org", (("*", ("head@example.org",)),)),
        ("a@b.example, c@d.example", (("*", ("a@b.example", "c@d.example")),)),
        ("BR1=a@b.example; c@d.example", (("BR1", ("a@b.example",)), ("*", ("c@d.example",)))),
    ],
)
def test_recipients_of_the_whole_report_need_no_name(answer: str, recipients: object) -> None:
    assert values.RECIPIENTS(answer) == recipients


def test_lines_are_wrapped_between_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = [
        "There",
        "are",
        *(f"LIBRARY-{number}" for number in range(20)),
        "https://evergreen.example.org/" + "x" * 40,
    ]
    _emit(" ".join(words), indent="  ")
    lines = capsys.readouterr().err.splitlines()
    assert [word for line in lines for word in line.split()] == words
    assert all(len(line) <= 40 and line.startswith("  ") for line in lines[:-1])


def test_every_question_can_be_answered_on_the_command_line() -> None:
    asked = [setting for setting in declared(Settings) if setting.question is not None]
    assert [setting.key for setting in asked if setting.option("init") is None] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--url": "evergreen"}, "--url: expected an address"),
        ({"--url": "http://127.0.0.1:9"}, "no connection to http://127.0.0.1:9: Connection refused; "),
        ({"--username": "nobody"}, "login refused: "),
        ({"--org": "NOWHERE"}, "NOWHERE"),
        ({"--workstation": "NOWHERE-1"}, "isn't registered"),
        ({"--min-total": "-1"}, "--min-total: expected an amount of 0.00 or more"),
        ({"--min-total": "none"}, "the report would list nothing"),
        ({"--limit": "some"}, "--limit: expected"),
        ({"--comparison": "over"}, "--comparison: expected one of exceeds, reaches"),
        ({"--mail-host": "127.0.0.1", "--mail-port": "9", "--mail-sender": "a@b.example",
          "--mail-recipients": "*=a@b.example"}, "no connection to mail server 127.0.0.1:9: "),
        ({"--mail-host": "localhost"}, "--yes needs --mail-sender"),
        ({"--mail-sender": "a@b.example"}, "--mail-sender needs --mail-host"),
        ({"--mail-host": "localhost", "--mail-sender": "a@b.example", "--mail-recipients": "*"},
         "--mail-recipients: expected an e-mail address"),
        ({"--mail-host": "localhost", "--mail-sender": "a@b.example", "--mail-recipients": "HARBUR=a@b.example"},
         "HARBUR"),
        ({"--url": "http://192.0.2.1"}, "use --allow-plain-http"),
        ({"--username": ""}, "--yes needs --username"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_one_line_and_nothing_is_written(
    sandbox: Sandbox,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    words: str,
) -> None:
    for name, value in {**command.environ, passwords.PASSWORD_VARIABLE: PASSWORD}.items():
        monkeypatch.setenv(name, value)
    given = {"--url": sandbox.url, "--username": "consortium_staff", **changes}
    options = [word for pair in given.items() if pair[1] for word in pair]
    assert run(["--config", str(tmp_path / "config.toml"), "init", "--yes", *options]) == exit_status.CONFIGURATION
    said = capsys.readouterr().err
    last = said.splitlines()[-1] + "\n"
    assert one_line(last), said
    assert words in last
    assert not (tmp_path / "config.toml").exists()
    assert not list(tmp_path.glob("*password*"))


def test_no_password(init: Init) -> None:
    done = init()
    assert done.returncode == exit_status.CONFIGURATION
    assert "--password-file" in done.stderr


def test_a_password_file_that_is_there_is_used_and_left_alone(init: Init, file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "secret"
    kept.write_text(PASSWORD)
    kept.chmod(0o600)
    done = init("--password-file", str(kept))
    assert done.returncode == exit_status.DONE, done.stderr + done.stdout
    assert load.load(file, {}).gateway.password_file == kept
    assert kept.read_text() == PASSWORD
    assert not (tmp_path / "password").exists()


class TestWhatIsThere:
    def test_is_not_overwritten_without_being_asked(
        self, sandbox: Sandbox, command: Command, init: Init, file: Path
    ) -> None:
        command.environ[passwords.PASSWORD_VARIABLE] = PASSWORD
        file.write_text("mine")
        done = init()
        assert done.returncode == exit_status.CONFIGURATION
        assert "--force" in done.stderr
        assert file.read_text() == "mine"
        assert init("--force").returncode == exit_status.DONE
        assert load.load(file, {}).gateway.url == sandbox.url

    def test_a_password_file_neither(self, command: Command, init: Init, file: Path, tmp_path: Path) -> None:
        command.environ[passwords.PASSWORD_VARIABLE] = PASSWORD
        (tmp_path / "password").write_text("another's")
        done = init()
        assert done.returncode == exit_status.CONFIGURATION
        assert (tmp_path / "password").read_text() == "another's"
        assert not file.exists()

    def test_is_gone_on_from(self, sandbox: Sandbox, command: Command, file: Path, tmp_path: Path) -> None:
        password = tmp_path / "secret"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        text = (
            f'# ours\n[gateway]\nurl = "{sandbox.url}"\nusername = "consortium_staff"\npassword_file = "{password}"\n'
            '[report]\norgs = ["NORTH"]\nmin_total = 30.00\ntop = 7\n[language.libraries]\nNORTH = "fr-CA"\n'
            '[policy]\ncomparison = "reaches"\n'
            f'[[reports]]\nname = "old"\noutput = "{tmp_path}/old.html"\nrecipients = {{"*" = ["a@library.example"]}}\n'
        )
        file.write_text(text)
        with terminal_of(command, "--config", str(file), "init") as terminal:
            terminal.answer("Overwrite it at the end?", "y")
            terminal.answer(f"Address of the Evergreen server [{sandbox.url}]", "")
            terminal.answer("User name of the service account [consortium_staff]", "")
            terminal.answer("Libraries, separated by commas (- for all) [NORTH]", "-")
            terminal.answer("Minimum combined fines of a group to list [30.00]", "35")
            terminal.answer("Evergreen's thresholds [5.00]", "")
            terminal.answer('$5.00 and more ("reaches") [reaches]', "")
            terminal.answer("Mail server for the report (none)", "localhost")
            terminal.answer("Mail security (starttls, tls, none) [starttls]", "none")
            terminal.answer("Mail server port (default)", str(free_port()))
            terminal.answer("Mail user name (none)", "")
            terminal.answer("Sender address", "groups@library.example")
            terminal.answer("Recipients", "NOWHERE=a@library.example")
            terminal.answer("The web service has it at")
            terminal.answer("Link to the report (none)", "https://ils.example.org/{library}")
            terminal.answer("Not accepted: there is no org unit")
            terminal.answer('SHORTNAME=ADDRESS; *=ADDRESS" [NOWHERE=a@library.example]', "*=a@library.example")
            terminal.answer("Not accepted: no connection to ")
            terminal.answer("Mail server for the report (- for none) [localhost]", "-")
            terminal.answer("such as en-US, en-GB or fr-CA [en-US]", "en")
            terminal.end()
        assert "Password for" not in terminal.shown, "that of the file does"
        assert terminal.shown.count("Link to the report") == 1
        former, settings = load.load(file.with_name("config.toml.former"), {}), load.load(file, {})
        assert (settings.gateway, settings.language, settings.reports[0].recipients) == (
            *(former.gateway, former.language, former.reports[0].recipients),
        )
        assert settings.policy == former.policy
        assert settings.mail == MailSettings(), "a server that can't be reached can be left out"
        assert settings.report == replace(former.report, orgs=(), min_total=Decimal("35.00"))
        assert file.with_name("config.toml.former").read_text() == text

    def test_a_no_leaves_it(self, command: Command, file: Path) -> None:
        file.write_text("mine")
        with terminal_of(command, "--config", str(file), "init") as terminal:
            terminal.answer("Overwrite it", "n")
            assert terminal.end() == exit_status.INTERRUPTED
        assert file.read_text() == "mine"


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.just("\x7f"), min_size=1).filter(
    lambda name: bool(name.strip())
)


@given(username=names, shortname=names, limit=st.sampled_from([Decimal("5.00"), Decimal("0.50"), None, "ils"]))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, username: str, shortname: str, limit: Decimal | None
) -> None:
    written = Settings(
        gateway=GatewaySettings(
            url="https://evergreen.example.org", username=username.strip(), password_file=Path("/a b/c")
        ),
        policy=PolicySettings(limit=limit),
        report=ReportSettings(min_total=Decimal("40.00"), orgs=(shortname.strip(),)),
        mail=MailSettings(
            host="mail.example.org", sender="a@b.example", recipients=((shortname.strip(), ("c@d.example",)),)
        ),
    )
    file = tmp_path_factory.mktemp("written") / "config.toml"
    file.write_text(initial_configuration(written), encoding="utf-8")
    assert replace(load.load(file, {}), source=None) == written
