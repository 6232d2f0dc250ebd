"""Type checkers understand the programs of the pages, for a user who has nothing but the wheel."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from support.pages import blocks
from support.repository import REPOSITORY, build

pytestmark = pytest.mark.long

WRONG = """
import evergreen_groups as eg

with eg.connect("https://evergreen.example.org", username="me", password="…") as client:
    client.move("20000000001037", to="20000000001001")
    client.report(min_total=25.0)
    reveal_type(client.group(1001).group_fines)
    reveal_type(client.undo("1-k7q4tz").apply().undo().entry)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment in which the wheel was unpacked."""
    place = tmp_path_factory.mktemp("user")
    wheel = build(REPOSITORY, place)
    venv.create(place / "venv", symlinks=True)
    (packages,) = (place / "venv" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return place / "venv" / "bin" / "python"


def mypy(python: Path, place: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        os.devnull,
        "--python-executable",
        str(python),
    ]
    programs = sorted(path.name for path in place.glob("*.py"))
    return subprocess.run([*command, *programs], cwd=place, capture_output=True, text=True, check=False)


def test_the_programs_of_the_pages(python: Path, tmp_path: Path) -> None:
    for page in ("python.md", "gateway.md"):
        programs = [block for block in blocks(REPOSITORY / "docs" / page) if block.language == "python"]
        for number, block in enumerate(programs, 1):
            (tmp_path / f"{page.removesuffix('.md')}_{number}.py").write_text(block.text, "utf-8")
    checked = mypy(python, tmp_path)
    assert checked.stdout.strip() == "Success: no issues found in 10 source files", checked.stdout


def test_mistakes_are_found(python: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, "utf-8")
    found = mypy(python, tmp_path).stdout
    for line in (5, 6):
        assert f"wrong.py:{line}: error: Argument" in found, found
    assert 'Revealed type is "decimal.Decimal | None"' in found, found
    assert 'Revealed type is "str | None"' in found, found
