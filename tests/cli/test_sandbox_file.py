"""``--sandbox=FILE``, which the next command finds as this one has left it, and ``sandbox`` with a large population."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.change_ids import listed_id
from support.command import Command, one_line
from support.gateways import client_of, gateway_of
from support.waiting import wait_until

from evergreen_groups import exit_status
from evergreen_groups.cli import application, invocation
from evergreen_groups.cli.application import cli
from evergreen_groups.cli.commands import sandbox
from evergreen_groups.cli.usage import rewrite_sandbox_option
from evergreen_groups.state import hold

MOVE = ("move", "20000000001014", "--to", "20000000001001", "--yes")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "try.sandbox"


@pytest.fixture
def run(tmp_path: Path) -> Command:
    return Command(tmp_path, None)


@pytest.mark.long
def test_each_command_finds_what_the_former_has_left(run: Command, file: Path) -> None:
    there = f"--sandbox={file}"
    assert run(there, "journal").stdout == "No changes yet.\n"
    assert run(there, *MOVE).returncode == exit_status.DONE
    assert "Lucía" in run(there, "show", "20000000001001").stdout
    assert "Move to another group, 1 of 1 done" in run("journal", there).stdout
    assert run("undo", listed_id(run, 1, there), "--yes", there).returncode == exit_status.DONE
    assert "Lucía" not in run(there, "show", "20000000001001").stdout
    assert len(run(there, "journal").stdout.splitlines()) == 2
    kept = [path for path in file.parent.rglob("*") if path.name != "command.toml"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_dir()} == {0o700}
    file.unlink()
    assert run(there, "journal").stdout == "No changes yet.\n", "without its file it starts over"


@pytest.mark.long
def test_it_writes_the_configured_report_unless_another_gateway_has(run: Command, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    run.config.write_text(f'[report]\noutput = "{output}"\n')
    assert run(f"--sandbox={file}", "report", "--history").returncode == exit_status.DONE
    written = output.read_text("utf-8")
    assert "van der Meer" in written
    for words in (("report", "--history"), ("serve", "--port", "0")):
        done = run(f"--sandbox={tmp_path / 'other.sandbox'}", *words)
        assert done.returncode == exit_status.CONFIGURATION
        assert f"{output} has a report of another gateway" in done.stderr
    assert output.read_text("utf-8") == written
    assert run(f"--sandbox={file}", "report", "--history").returncode == exit_status.DONE
    output.unlink()
    assert run("--sandbox", "report").returncode == exit_status.DONE
    assert not output.exists(), "a temporary sandbox writes no configured report"


@pytest.mark.long
def test_without_a_file_nothing_is_left(run: Command, tmp_path: Path) -> None:
    assert run("--sandbox", *MOVE).returncode == exit_status.DONE
    assert run("--sandbox", "doctor").returncode == exit_status.DONE
    assert run("--sandbox", "journal").stdout == "No changes yet.\n"
    assert run("--sandbox", "status").returncode == exit_status.STALE
    assert [path.name for path in tmp_path.rglob("*")] == ["command.toml"]


@pytest.mark.long
def test_two_commands_at_once_come_one_after_the_other(run: Command, file: Path) -> None:
    barcodes = ("20000000001014", "20000000001015", "20000000001016")
    words = [("move", barcode, "--to", "20000000001001", "--yes") for barcode in barcodes]
    running = [
        subprocess.Popen(
            run.arguments(f"--sandbox={file}", *line),
            env=run.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in words
    ]
    ended = [(process.communicate()[1], process.returncode) for process in running]
    # On a machine that has much else to do, one may have to wait longer than it does: it says so.
    done = [line for line, (_, status) in zip(words, ended, strict=True) if status == exit_status.DONE]
    assert {status for _, status in ended} <= {exit_status.DONE, exit_status.BUSY}
    assert len(run(f"--sandbox={file}", "journal").stdout.splitlines()) == len(done) > 0


@pytest.mark.long
def test_who_waits_too_long_is_told_for_whom(
    run: Command, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"--sandbox={file}", "journal").returncode == exit_status.DONE
    monkeypatch.setattr(invocation, "_WAIT", 0.0)
    monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(run.config))
    with hold(file.with_name("try.sandbox.state") / "sandbox.lock", "testing"):
        assert application.run([f"--sandbox={file}", "journal"]) == exit_status.BUSY
    said = capsys.readouterr().err
    assert one_line(said)
    assert f"another command is using the sandbox {file} (process " in said


@pytest.mark.long
def test_a_file_that_is_something_else_is_left_alone(run: Command, file: Path) -> None:
    file.write_text("[gateway]\n")
    done = run(f"--sandbox={file}", "show", "20000000001001")
    assert done.returncode == exit_status.CONFIGURATION
    assert one_line(done.stderr)
    assert file.read_text() == "[gateway]\n"


def test_a_command_is_never_taken_for_the_file() -> None:
    context = cli.make_context("evergreen-groups", ["--sandbox", "report"])
    assert (context.params["use_sandbox"], context.params["sandbox_file"]) == (True, None)


def test_what_comes_after_two_hyphens_is_no_option() -> None:
    assert rewrite_sandbox_option(["--sandbox=a", "show", "--", "--sandbox=b"]) == [
        "--sandbox-file=a", "show", "--", "--sandbox=b",
    ]  # fmt: skip


def test_a_directory_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:

    assert application.run([f"--sandbox={tmp_path}", "journal"]) == exit_status.USAGE
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith("evergreen-groups: Invalid value for '--sandbox=FILE': ")


MANY = ("sandbox", "--port", "0", "--patrons", "100000")
SOME_BYTES = 4_000_000


@contextmanager
def running(run: Command, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command as it runs; it is killed at the end where it hasn't ended."""
    with subprocess.Popen(
        run.arguments(*words), env=run.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def serve(run: Command, *words: str) -> str:
    """Start a sandbox, interrupt it as soon as it says how to connect, and give its first line."""
    with running(run, *words) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == exit_status.INTERRUPTED
    return first


@pytest.mark.long
def test_what_was_killed_goes_on_and_what_was_made_is_used_again(run: Command, tmp_path: Path) -> None:
    cache = tmp_path / ".cache" / "evergreen-groups"
    with running(run, *MANY) as process:
        wait_until(lambda: [path for path in cache.glob("*.partial") if path.stat().st_size > SOME_BYTES])
        process.kill()
    assert list(cache.glob("*.db")) == []
    (partial,) = cache.glob("*.partial")
    made_before = partial.stat().st_ino
    assert "http://127.0.0.1:" in serve(run, *MANY)
    (file,) = cache.glob("*.db")
    made = file.stat()
    assert (made.st_ino, made.st_mode & 0o777) == (made_before, 0o600)
    assert "http://127.0.0.1:" in serve(run, *MANY)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert [path for path in cache.iterdir() if path.suffix not in (".db", ".lock")] == []


@pytest.mark.long
def test_who_names_a_file_has_it_there(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "many.sandbox"
    words = ("sandbox", "--port", "0", "--patrons", "2000", "--db", str(file))
    assert "http://127.0.0.1:" in serve(run, *words)
    made = file.stat()
    assert "http://127.0.0.1:" in serve(run, *words)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert not (tmp_path / ".cache").exists()


def test_two_do_not_make_one_at_once(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(sandbox, "_WAIT", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(run.config))
    (tmp_path / "evergreen-groups").mkdir(mode=0o700)
    with hold(tmp_path / "evergreen-groups" / "sandbox.lock", "testing"):
        assert application.run(list(MANY)) == exit_status.BUSY


def test_who_has_no_room_is_told_in_one_line(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(run.config))
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 10_000})())
    assert application.run(["sandbox", "--patrons", "2000", "--db", str(tmp_path / "many.sandbox")]) != exit_status.DONE
    said = capsys.readouterr().err
    assert one_line(said)
    assert "No space left on device" in said


def test_plain_reads_of_a_replica_are_behind(run: Command, tmp_path: Path) -> None:
    with running(run, "sandbox", "--port", "0", "--replica", "86400") as process:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert address
        with gateway_of(address[0], "consortium_staff") as gateway:
            client = client_of(gateway, tmp_path)
            assert client.move(["20000000001052"], to="20000000001007").apply().done
            assert [record.usrgroup for record in gateway.pcrud.search("au", {"id": 1052})] == [1015]
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == exit_status.INTERRUPTED
