"""What a mistake in the configuration is answered with, word for word: ``mistakes.txt`` has the mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen_groups.settings import reading

FILE = Path(__file__).with_name("mistakes.txt")
BLOCKS = FILE.read_text("utf-8").split("\n\n")[1:]
MISTAKES = [
    ([line for line in block.splitlines() if not line.startswith("=> ")], block.partition("=> ")[2]) for block in BLOCKS
]


def answers(mistake: list[str], directory: Path) -> list[str]:
    """Return the setting and the text of each error, with ``config.toml`` for the file's path."""
    file = directory / "config.toml"
    file.write_text("\n".join(line for line in mistake if not line.startswith("$")), "utf-8")
    variables = [line[1:].partition("=") for line in mistake if line.startswith("$")]
    environ = {name: value for name, _, value in variables}
    found = reading.read(None if reading.CONFIG_VARIABLE in environ else file, environ).faults
    assert all(str(fault.origin) in str(fault.error) for fault in found)
    texts = [f"{fault.error.setting}: {fault.error}".replace(str(file), file.name) for fault in found]
    return [text.replace("\n", "\\n").replace("\0", "\\0") for text in texts]


@pytest.mark.parametrize(("mistake", "expected"), MISTAKES, ids=[" ".join(mistake) for mistake, _ in MISTAKES])
def test_the_answer_names_the_place_the_problem_and_what_to_do(
    tmp_path: Path, mistake: list[str], expected: str
) -> None:
    assert answers(mistake, tmp_path) == expected.rstrip().split("\n=> ")
