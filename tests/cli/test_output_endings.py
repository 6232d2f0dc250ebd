"""A file's extension sets its format; the error for an unknown extension lists the known ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import one_line

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run

CONFIGURED = "[report]\noutput = '{directory}/reports'\nsplit = 'library'\nformat = 'html'\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("[gateway]\nurl = 'http://127.0.0.1:9'\nusername = 'x'\n" + CONFIGURED.format(directory=tmp_path))
    for name, value in {"CONFIG": str(path), "PASSWORD": "x"}.items():
        monkeypatch.setenv(f"EVERGREEN_GROUPS_{name}", value)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C")
    return path


@pytest.mark.parametrize(
    ("words", "name", "endings"),
    [
        (["report"], "today.pdf", ".table, .csv, .json, .html, .xlsx, .jsonl"),
        (["report", "--no-history"], "today.doc", ".table, .csv, .json, .html, .xlsx, .jsonl"),
        (["audit"], "today", ".table, .csv, .json, .html, .jsonl"),
        (["audit", "--explain", "1"], "today.pdf", ".table, .json"),
    ],
)
def test_an_unknown_one(
    config: Path, tmp_path: Path, words: list[str], name: str, endings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Regardless of the format and split configured for another file.
    assert run([*words, "--output", str(tmp_path / name)]) == exit_status.CONFIGURATION
    said = capsys.readouterr().err
    assert one_line(said)
    assert f"{name}; use one of {endings}" in said
    assert "or set --format" in said
    assert not (tmp_path / name).exists()


def test_a_backup_is_no_document(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["state", "backup", str(tmp_path / "kept.json")]) == exit_status.USAGE
    assert "use the extension .sqlite3" in capsys.readouterr().err
