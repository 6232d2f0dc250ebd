"""``sandbox``: a large population is made once and goes on where it was interrupted; plain reads may be behind."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.command import Command, one_line
from support.gateways import client_of, gateway_of
from support.waiting import wait_until

from evergreen_groups import exit_status
from evergreen_groups.cli import application
from evergreen_groups.cli.commands import sandbox
from evergreen_groups.state import hold

MANY = ("sandbox", "--port", "0", "--patrons", "100000")
SOME_BYTES = 4_000_000


@pytest.fixture
def run(tmp_path: Path) -> Command:
    return Command(tmp_path, None)


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
