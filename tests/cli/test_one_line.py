"""Whatever is wrong with a machine, its files or its command line: one line that says what to do, no traceback."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.command import Command, one_line
from support.fault_proxy import fault_proxy
from support.gateway_server import Server, http, raw

from evergreen_groups import exit_status
from evergreen_groups.cli import application
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state.database import FILE_NAME

pytestmark = pytest.mark.long

DIGITS = "9" * 5000
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, "http://127.0.0.1:9")


def configured(command: Command, text: str) -> None:
    command.config.write_text(text, encoding="utf-8")
    for name in [name for name in command.environ if name.startswith("EVERGREEN_GROUPS_GATEWAY")]:
        del command.environ[name]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[report]\nmin_total = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (f"[report]\nmin_members = {DIGITS}", "not valid TOML"),
        ('[report]\noutput = "~no-such-user/x.csv"', "~no-such-user has no home directory"),
        ('[report]\noutput = "a\\u0000b.csv"', "isn't allowed; allowed: a path such as"),
        ("[report]\nmin_total = 1e999999999", "isn't allowed"),
        ('[gateway]\nurl = "http://["', "isn't allowed"),
        ('[gateway]\nurl = "https://."\nusername = "x"', "the gateway's address is invalid: can't be parsed"),
    ],
)
def test_a_configuration(command: Command, text: str, says: str) -> None:
    configured(command, text)
    done = command("report")
    assert done.returncode == exit_status.CONFIGURATION
    assert one_line(done.stderr)
    assert says in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("undo", "1"),
        ("undo", "9223372036854775808-k7q4tz"),
        ("journal", "9223372036854775808"),
        ("undo", DIGITS),
        ("report", "--min-total", DIGITS),
        ("report", "--top", DIGITS),
        ("report", "--min-total", "1e999999999"),
        ("status", "--max-age", DIGITS),
    ],
)
def test_a_number(command: Command, words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.returncode == exit_status.USAGE
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ['{"au": [1]}', '{"au": [], "ac": 3}', '{"au": [{"id": 1e400}]}', "[" * 5000])
def test_a_dataset(command: Command, tmp_path: Path, content: str) -> None:
    dataset = tmp_path / "families.json"
    dataset.write_text(content)
    done = command("sandbox", "--port", "0", "--dataset", str(dataset))
    assert done.returncode == exit_status.CONFIGURATION
    assert one_line(done.stderr)
    assert str(dataset) in done.stderr


@pytest.mark.parametrize("note", ['{"pid": Infinity, "since": "2026-08-14T00:00:00+00:00"}', '{"pid": "../1"}', "["])
def test_a_damaged_note_in_a_lock(command: Command, tmp_path: Path, note: str) -> None:
    (tmp_path / "report.lock").write_text(note)
    done = command("status", "--state-directory", str(tmp_path))
    assert (done.returncode, done.stderr) == (exit_status.STALE, "")


def test_a_redirect_to_nowhere(tmp_path: Path) -> None:
    moved = raw(http("", status=302, headers={"Location": "http://["}))
    with Server(otherwise=moved) as server:
        done = Command(tmp_path, server.url)("report")
    assert done.returncode == exit_status.UNREACHABLE
    assert one_line(done.stderr)
    assert f"the web server at {server.url} redirects to an invalid address; " in done.stderr


@pytest.mark.parametrize("words", [(), ("-v",), ("--log-format", "json")])
def test_what_a_server_says_is_obeyed_by_no_terminal(tmp_path: Path, words: tuple[str, ...]) -> None:
    said = "\x1b]0;title\x07\x1b[2Jred\u202e\u2066\x9b31m\x00 end\nevergreen-groups: all is well"
    refusal = {"ilsevent": "1", "textcode": f"BAD{said}", "desc": said}
    with Sandbox() as sandbox, fault_proxy(sandbox.url) as proxy:
        proxy.answer = lambda call: refusal if call.method == "open-ils.auth.login" else None
        done = Command(tmp_path, proxy.url)(*words, "check", "20000000001007")
    assert done.returncode == exit_status.LOGIN
    assert "title" in done.stderr
    assert "end evergreen-groups: all is well" in done.stderr
    assert all(letter.isprintable() or letter == "\n" for letter in done.stderr)


class TestStandardStreams:
    @pytest.fixture
    def shell(self, command: Command) -> Run:
        def run(words: str, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
            line = " ".join(command.arguments()) + f" --sandbox {words}"
            return subprocess.run(
                ["/bin/sh", "-c", line],
                env={**command.environ, **(more or {})},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

        return run

    @pytest.mark.parametrize("words", ["show 20000000001007", "report --no-history", "audit --format json"])
    def test_a_closed_standard_output_is_told(self, shell: Run, words: str) -> None:
        done = shell(f"{words} >&-")
        assert done.returncode == exit_status.FAILED
        assert one_line(done.stderr)

    def test_and_nothing_that_should_go_there_gets_into_a_file(self, shell: Run, tmp_path: Path) -> None:
        done = shell(f"report --no-history --output {tmp_path}/report.json >&-")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads((tmp_path / "report.json").read_text())["groups"]

    def test_a_closed_standard_error(self, shell: Run) -> None:
        assert shell("show 20000000001007 2>&-").returncode == 0
        assert shell("show nobody 2>&-").returncode == exit_status.FAILED

    def test_a_closed_standard_input(self, shell: Run) -> None:
        done = shell("move 20000000001052 --to 20000000001007 <&-")
        assert done.returncode == exit_status.USAGE
        assert one_line(done.stderr)

    def test_a_full_disk_behind_standard_output(self, shell: Run) -> None:
        done = shell("show 20000000001007 >/dev/full")
        assert (done.returncode, one_line(done.stderr)) == (exit_status.FAILED, True)
        assert "No space left on device" in done.stderr

    @pytest.mark.parametrize("words", ["show 20000000001007", "report --no-history", "check 20000000001007", "doctor"])
    def test_letters_that_it_does_not_know(self, shell: Run, words: str) -> None:
        done = shell(words, {"PYTHONIOENCODING": "ascii"})
        assert "Traceback" not in done.stderr
        assert done.stdout


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("changes", "at", "'yesterday'"), ("steps", "patron", "'somebody'"), ("steps", "state", "'lost'")],
)
def test_what_was_never_written_in_the_journal(
    run: Command, tmp_path: Path, table: str, column: str, value: str
) -> None:
    assert run("move", "20000000001052", "--to", "20000000001007", "--yes").returncode == 0
    (path,) = tmp_path.rglob(FILE_NAME)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(f"UPDATE {table} SET {column} = {value}")
    done = run("journal")
    assert (done.returncode, one_line(done.stderr)) == (exit_status.FAILED, True)
    assert "is damaged; restore a backup" in done.stderr


class TestTheUnforeseen:
    NAME = "Ada Lovelace 20000000001007"

    @pytest.fixture(autouse=True)
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        def fail(*_anything: object, **_more: object) -> None:
            raise ZeroDivisionError(self.NAME)

        monkeypatch.setattr("evergreen_groups.configured.configured_state", fail)
        yield
        logging.basicConfig(level=logging.WARNING, force=True)
        logging.getLogger("evergreen_groups").setLevel(logging.NOTSET)

    def test_one_line_with_a_number_and_the_log_has_the_place_and_not_the_words(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert application.run(["status"]) == exit_status.FAILED
        assert one_line(capsys.readouterr().err)
        assert application.run(["-v", "status"]) == exit_status.FAILED
        said = capsys.readouterr().err
        first, second = said.splitlines()
        number = first.partition("unexpected error (report ")[2].partition(")")[0]
        assert len(number) == 8
        assert f"report {number}: ZeroDivisionError at " in second
        assert "evergreen_groups.cli.commands.status:" in second
        assert self.NAME not in said

    def test_too_little_memory_is_no_bug(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_anything: object, **_more: object) -> None:
            raise MemoryError

        monkeypatch.setattr("evergreen_groups.configured.configured_state", fail)
        assert application.run(["status"]) == exit_status.FAILED
        said = capsys.readouterr().err
        assert one_line(said)
        assert "not enough memory" in said

    def test_as_events(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert application.run(["--log-format", "json", "status"]) == exit_status.FAILED
        said = capsys.readouterr().err
        first, second = map(json.loads, said.splitlines())
        assert first["code"] == "unforeseen"
        assert "ZeroDivisionError at " in second["message"]
        assert self.NAME not in said
