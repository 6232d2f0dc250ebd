"""Commands on each release of Evergreen, over the recorded data set: what they print is the same, to the letter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from support.change_ids import listed_id_or_unknown
from support.command import Command
from support.recorded import DATASET
from support.releases import LATEST

from evergreen_groups.sandbox import Sandbox

Words = tuple[str, ...]
Printed = Callable[[str, str, tuple[Words, ...]], dict[Words, str]]

WITHIN, AT_LIMIT, OVER, LOST = PATRONS = ("20000000005001", "20000000005005", "20000000005011", "20000000005041")
REPORT = ("report", "--manual", "--no-history", "--min-total", "5", "--json")
QUICK = (REPORT, ("show", LOST, "--json"), ("move", OVER, "--to", WITHIN, "--yes", "--json"))
LOOKS = (
    REPORT,
    *((*REPORT, *choice) for choice in (("--kind", "lost materials"), ("--blocked",), ("--with-items-out",))),
    (*REPORT[:-1], "--format", "csv"),
    *((name, patron, "--json") for name in ("show", "check") for patron in PATRONS),
    *(("audit", "--explain", patron, "--json") for patron in PATRONS),
    ("audit",),
    ("audit", "--org", "BR1", "--limit", "none", "--json"),
)
CHANGES = (
    ("move", OVER, "--to", WITHIN, "--yes", "--json"),
    ("move", OVER, "--to", WITHIN, "--yes"),  # is already in the group
    ("remove", AT_LIMIT, "--yes", "--json"),
    ("lead", AT_LIMIT, "--yes"),
    ("merge", "--from", LOST, "--to", AT_LIMIT, "--yes", "--json"),
    ("audit", "--fix", "--yes"),
    ("undo", "#2", "--yes", "--json"),
    ("undo", "#1", "--yes"),
    *LOOKS,
)
"""Changes of each kind in order, and the final state."""


def output(command: Command, url: str, words: Words) -> str:
    """Return a command's exit status and output, without what differs each time."""
    done = command(*(listed_id_or_unknown(command, int(word[1:])) if word[0] == "#" else word for word in words))
    text = f"exit status {done.returncode}\n{done.stdout}{done.stderr}".replace(url, "GATEWAY")
    text = re.sub(r"(?<=\d-)[0-9a-z]{6}\b", "SUFFIX", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:?00|Z)|\d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d", "TIME", text)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """What each command prints on a release, from the fresh data set on."""
    with ExitStack() as stack:
        sandbox_on = cache(lambda release: stack.enter_context(Sandbox(DATASET, release=release)))

        @cache
        def run(release: str, account: str, commands: tuple[Words, ...]) -> dict[Words, str]:
            sandbox = sandbox_on(release)
            sandbox.reset()
            command = Command(Path(tmp_path_factory.mktemp("typed")), sandbox.url, account)
            command.environ["EVERGREEN_GROUPS_PASSWORD"] = "demo123"
            return {words: output(command, sandbox.url, words) for words in commands}

        yield run


@pytest.mark.older(latest=False)
@pytest.mark.parametrize(
    ("account", "commands"),
    [
        ("cons_staff", QUICK),
        *(pytest.param(name, CHANGES, marks=pytest.mark.long) for name in ("admin", "cons_staff", "br1_staff")),
    ],
)
def test_what_people_read_is_the_same(
    release: str, account: str, commands: tuple[Words, ...], printed: Printed
) -> None:
    here, latest = printed(release, account, commands), printed(LATEST, account, commands)
    assert [words for words in commands if here[words] != latest[words]] == []


def test_the_commands_do_what_they_are_to(printed: Printed) -> None:
    """A refusal would be the same on each release as well."""
    done = printed(LATEST, "cons_staff", QUICK)
    assert all(text.startswith("exit status 0\n") for text in done.values())
    assert '"state": "done"' in done[QUICK[2]]
