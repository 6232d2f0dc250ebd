"""Every command in the reader's language: in the pseudo-language only names and ids are left in Latin letters."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.change_ids import UNKNOWN, listed_id
from support.command import Command
from support.gateways import PASSWORD

from evergreen_groups.sandbox import Sandbox

PSEUDO_TERMINAL = {"LC_ALL": "ar_XB.UTF-8"}
FAMILY, OTHER = "20000000001001", "20000000001007"
DATA = re.compile(
    r"http://\S+|`[^`]*`|/[\w/.-]+|evergreen-groups|state\.sqlite3"  # addresses, files, what the program is called
    r"|\b(HARBOR|MILL|PINE|ELM)\b|[\w'-]+(?: [\w'-]+)*, [A-ZÅ][\w'-]+(?: [A-ZÅ][\w'-]+)*"  # libraries and people
    r"|consortium_staff|\bPATRON_EXCEEDS_FINES\b|\burl\b|\bUTC\b|\b\d+-[0-9a-z]{6}\b"
)
WORD = re.compile(r"[A-Za-z]{2,}")


def latin_words(text: str) -> list[str]:
    """What is left in Latin letters when names and addresses are taken away."""
    return [line for line in text.splitlines() if WORD.search(DATA.sub("", line))]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


@pytest.fixture
def command(tmp_path: Path, sandbox: Sandbox) -> Command:
    made = Command(tmp_path, sandbox.url)
    # Wide enough for names to stand on one line, where they are known.
    made.environ |= {**PSEUDO_TERMINAL, "STATE_DIRECTORY": str(tmp_path / "state"), "COLUMNS": "120"}
    return made


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("show", FAMILY), 0),
        (("show", "--user", "99999999"), 1),
        (("show", "123"), 1),
        (("check", FAMILY, "--all-members"), 0),
        (("move", "123", "--to", OTHER), 1),
        (("lead", FAMILY, "--dry-run"), 0),
        (("undo", UNKNOWN), 1),
        (("batch", "/no/such/file.csv"), 3),
        (("status",), 12),
        (("state", "check"), 0),
        (("state", "restore", "/no/such/file"), 3),
        (("--config", "/no/such/file", "status"), 3),
    ],
)
def test_no_english_is_left(command: Command, words: tuple[str, ...], status: int) -> None:
    result = command(*words)
    assert result.returncode == status, result.stderr
    assert result.stdout + result.stderr
    assert latin_words(result.stdout + result.stderr) == []


def test_what_is_asked_and_what_became_of_it(command: Command) -> None:
    made = command("lead", FAMILY, "--off", answer="y\n")
    assert made.returncode == 0, made.stderr
    shown = command("journal")
    step = command("journal", listed_id(command, 1))
    again = command("lead", FAMILY, "--yes")
    forgotten = command("state", "forget", "1001")
    kept = command("state", "check")
    for result in (made, shown, step, again, forgotten, kept):
        assert result.stdout
        # Who sat where has the names that the machine has.
        said = re.sub(rf"\b({re.escape(getpass.getuser())}|{re.escape(socket.gethostname())})\b", "", result.stdout)
        assert latin_words(said + result.stderr) == []


def test_an_answer_in_the_readers_language_or_in_english(command: Command) -> None:
    for answer in ("ן\n", "yes\n"):  # y, in the letters of the pseudo-language
        done = command("lead", FAMILY, "--off", answer=answer)
        assert command("lead", FAMILY, "--yes").returncode == done.returncode == 0
    no = command("lead", FAMILY, "--off", answer="?\n\n")
    assert no.returncode == 0
    assert latin_words(no.stderr) == []


def test_the_language_of_the_settings_counts_where_the_terminal_names_none(command: Command) -> None:
    del command.environ["LC_ALL"]
    for name in ("LC_MESSAGES", "LANG", "LANGUAGE"):
        command.environ.pop(name, None)
    assert "Group 1001: 6 members" in command("show", FAMILY).stdout
    command.config.write_text('[language]\ndefault = "ar-XB"\ncurrency = "CAD"\n')
    assert latin_words(command("show", FAMILY).stdout.replace("CA$", "$")) == []
    command.environ["LANG"] = "fr_CA.UTF-8"
    assert "28,10\xa0$" in command("show", FAMILY).stdout


def test_events_for_programs_stay_english(command: Command) -> None:
    for words, status, code in (
        (("show", "123"), 1, "no-patron-with-barcode"),
        (("show",), 2, None),
        (("undo", UNKNOWN), 1, "no-such-entry"),
        (("--config", "/nowhere.toml", "report"), 3, "no-configuration-file"),
    ):
        result = command("--log-format", "json", *words)
        (event,) = map(json.loads, result.stderr.splitlines())
        assert (result.returncode, event["level"], event.get("code")) == (status, "error", code)
        assert WORD.search(event["message"])
        assert not re.search("[\u0590-\u05ff]", event["message"])


def test_documents_stay_english(command: Command) -> None:
    def documents() -> list[str]:
        return [command(name, FAMILY, "--format", "json").stdout for name in ("show", "check")]

    in_pseudo = documents()
    command.environ["LC_ALL"] = "C.UTF-8"
    assert in_pseudo == documents()


def test_init_asks_in_the_readers_language(tmp_path: Path, sandbox: Sandbox) -> None:
    command = Command(tmp_path, None)
    command.environ |= {**PSEUDO_TERMINAL, "EVERGREEN_GROUPS_PASSWORD": PASSWORD}
    target = tmp_path / "new.toml"
    answers = f"{sandbox.url}\nconsortium_staff\n\n\n\n\n"
    result = command("--config", str(target), "init", answer=answers)
    # What comes after each answer is doctor's to say.
    for word in ("Address", "User name", "Password", "Limit", "Libraries", "List groups", "Mail server", "There are"):
        assert word not in result.stderr
    assert "אדדרעסס" in result.stderr


@pytest.mark.parametrize("locale", ["fr_CA", "es", "cs", "ar_XB"])
def test_tables_fit_eighty_columns(command: Command, locale: str) -> None:
    command.environ |= {"LC_ALL": f"{locale}.UTF-8", "COLUMNS": "80"}
    lines = command("show", "20000000001019").stdout.splitlines()
    assert any("林" in line for line in lines)
    assert max(map(cell_len, lines)) <= 80
    rule = next(line for line in lines if line.startswith("─"))
    rows = [line for line in lines if "2000000000" in line]
    amounts = {cell_len(line[: line.index("$") + 1]) for line in rows if "$" in line}
    assert len(amounts) == 1, "amounts stand under each other"
    assert cell_len(rule) <= 80
