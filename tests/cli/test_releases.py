"""Every command on each release of Evergreen, over the recorded data set: what is read is the same, to the letter."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from functools import cache

import pytest
from support.commands_on_a_release import ACCOUNTS, CHANGES, NOTHING_OF_A_RELEASE, QUICK, Typed, looks
from support.recorded import DATASET
from support.releases import LATEST

from evergreen_groups.cli.application import COMMANDS
from evergreen_groups.sandbox import Sandbox

Printed = Callable[[str, str, tuple[tuple[str, ...], ...]], dict[tuple[str, ...], str]]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """What each command prints on a release, from the fresh data set on."""
    with ExitStack() as stack:
        sandbox_on = cache(lambda release: stack.enter_context(Sandbox(DATASET, release=release)))

        @cache
        def typed(release: str, account: str, commands: tuple[tuple[str, ...], ...]) -> dict[tuple[str, ...], str]:
            sandbox = sandbox_on(release)
            sandbox.reset()
            somebody = Typed(tmp_path_factory.mktemp("typed"), sandbox.url, account)
            return {words: somebody(words) for words in commands}

        yield typed


@pytest.mark.older(latest=False)
def test_a_report_a_family_and_a_move(release: str, printed: Printed) -> None:
    assert printed(release, "cons_staff", QUICK) == printed(LATEST, "cons_staff", QUICK)


@pytest.mark.long
@pytest.mark.older(latest=False)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_what_people_read_is_the_same_in_every_format(release: str, account: str, printed: Printed) -> None:
    commands = tuple(looks(account))
    here, latest = printed(release, account, commands), printed(LATEST, account, commands)
    assert [words for words in commands if here[words] != latest[words]] == []


@pytest.mark.long
@pytest.mark.older(latest=False)
@pytest.mark.parametrize("account", ACCOUNTS)
def test_changes_and_what_comes_of_them_are_the_same(release: str, account: str, printed: Printed) -> None:
    here, latest = printed(release, account, CHANGES), printed(LATEST, account, CHANGES)
    assert [words for words in CHANGES if here[words] != latest[words]] == []


@pytest.mark.long
@pytest.mark.older
def test_the_figures_are_those_of_the_rows(release: str, printed: Printed) -> None:
    """So they aren't alike because all of them are wrong, or empty."""
    content = json.loads(DATASET.read_text("utf-8"))
    owed: defaultdict[int, Decimal] = defaultdict(Decimal)
    for row in content["mous"]:
        owed[row["usr"]] += Decimal(row["balance_owed"])
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for row in content["au"]:
        if row["deleted"] == "f":
            groups[row["usrgroup"]].append(row["id"])
    sums = {group: sum(map(owed.__getitem__, members), Decimal()) for group, members in groups.items()}
    expected = {group: sums[group] for group, members in groups.items() if len(members) > 1 and sums[group] >= 5}
    for account in ("admin", "cons_staff"):
        text = printed(release, account, QUICK)[QUICK[0]]
        document = json.loads(text[text.index("{") : text.rindex("}") + 1])
        assert {one["group"]: Decimal(one["combined_fines"]) for one in document["groups"]} == expected


def test_every_command_is_among_them() -> None:
    assert {words[0] for words in (*looks("cons_staff"), *CHANGES)} | NOTHING_OF_A_RELEASE == set(COMMANDS)


def test_the_commands_do_what_they_are_to(printed: Printed) -> None:
    """A refusal would be the same on each release as well."""
    done = printed(LATEST, "cons_staff", QUICK)
    assert all(text.startswith("exit status 0\n") for text in done.values())
    assert '"state": "done"' in done[QUICK[2]]
