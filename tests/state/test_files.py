"""Files appear complete and private, or not at all. Formats are loaded only on use."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.report_samples import sample_report
from support.state_files import small_files

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.render.report import render
from evergreen_groups.state import private_file, write_atomically


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_private_from_the_start_and_in_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o644)
    with write_atomically(path) as stream:
        [temporary] = [one for one in tmp_path.iterdir() if one != path]
        assert mode(temporary) == 0o600
        stream.write("new Ω\r\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == "new Ω\r\n".encode()
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), ConnectionResetError(errno.ECONNRESET, "x")])
def test_old_file_stays_when_the_block_raises(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")

    def write() -> None:
        with write_atomically(path) as stream:
            stream.write("half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom evergreen_groups.state.files import write_atomically\n"
        "with write_atomically(Path(sys.argv[1])) as stream:\n"
        "    stream.write('half')\n    stream.flush()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    [abandoned] = tmp_path.iterdir()
    others = {tmp_path / name for name in (".backup.notes", ".evergreen-groups.01ab.part2", ".backup.01ab.part")}
    for other in others:
        other.touch(mode=0o600)
    assert mode(abandoned) == 0o600
    with write_atomically(path) as first:
        assert not abandoned.exists()
        with write_atomically(path) as second:
            second.write("second")
        first.write("first, which another writer at the same time does not take for abandoned")
    assert path.read_text().startswith("first, ")
    assert set(tmp_path.iterdir()) == {path, *others}


def refusal(path: Path, text: str = "new") -> str:
    with pytest.raises(ConfigurationError) as caught, write_atomically(path) as stream:
        stream.write(text)
    return str(caught.value)


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "report.csv"
    advice = "create the directory, or choose another path"
    assert refusal(missing) == f"cannot write {missing}: No such file or directory; {advice}"
    assert refusal(tmp_path) == f"cannot write {tmp_path}: Is a directory; choose another path"
    (tmp_path / "file").write_text("")
    message = refusal(tmp_path / "file" / "report.csv")
    assert "Not a directory; choose another path" in message
    assert "File name too long; choose another path" in refusal(tmp_path / ("r" * 300))
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    link = tmp_path / "report.csv"
    link.symlink_to(target)
    with write_atomically(link) as stream:
        stream.write("new")
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_disk_that_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")
    with small_files(1000):
        message = refusal(path, "x" * 100_000)
    assert message == f"cannot write {path}: File too large; free up disk space, or choose another path"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with write_atomically(Path("report.json")) as stream:
        stream.write("{}")
    assert (tmp_path / "report.json").read_text() == "{}"


def test_a_private_file_has_no_name_and_is_gone_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with private_file() as stream:
        stream.write(b"Secret, Name")
        stream.flush()
        found = os.fstat(stream.fileno())
        assert (found.st_nlink, found.st_mode & 0o777, found.st_size) == (0, 0o600, 12)
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match="missing"):
        private_file()


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="unknown format 'xlsx'; known are table, csv, json, html"):
        render(sample_report(), "xlsx", io.StringIO())


def test_importing_the_room_is_cheap() -> None:
    code = (
        "import sys, evergreen_groups.render.report.writers\n"
        "print(sorted({'rich', 'lxml', 'csv', 'json'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
