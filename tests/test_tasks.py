"""The tasks, the hooks and the checks of a submission name the same things, and commands in the pages are commands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pages import PAGES, blocks, commands
from support.repository import REPOSITORY

from evergreen_groups.cli.application import COMMANDS, cli

NO_CHECK = {"format", "benches", "debian", "links", "mutants", "screenshots", "pictures", "release", "site", "tests"}
"""What neither ``.ci/run`` nor ``night`` runs. The tests run as ``newcomer``, and ``docs`` builds the site."""


def sessions() -> set[str]:
    """The names of the tasks."""
    found = set()
    for node in ast.parse((REPOSITORY / "noxfile.py").read_text("utf-8")).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if ast.unparse(decorator).startswith("nox.session"):
                named = re.findall(r"name='(\w+)'", ast.unparse(decorator))
                found.update(named or [node.name])
    return found


def named_in(*path: str) -> set[str]:
    """The tasks that a file names after ``nox -s`` or its options."""
    text = REPOSITORY.joinpath(*path).read_text("utf-8")
    runs = re.findall(r"nox\"?(?: --\S+(?: \"\S+\")?)* -s ((?:[a-z]+ ?)+)", text)
    return {name for run in runs for name in run.split()}


def night() -> set[str]:
    """The sessions that ``nox -s night`` runs."""
    found = re.search(r"^NIGHT = (\(.*\))$", (REPOSITORY / "noxfile.py").read_text("utf-8"), re.MULTILINE)
    assert found
    return set(ast.literal_eval(found[1]))


def test_each_check_runs_before_a_change_lands_or_at_night() -> None:
    assert named_in(".ci", "run") | night() | {"night"} == sessions() - NO_CHECK
    assert not named_in(".ci", "run") & night()


def test_the_hooks_check_what_a_submission_is_checked_for() -> None:
    hooks = named_in(".pre-commit-config.yaml")
    assert hooks - {"tests"} == named_in(".ci", "run") & {"lint", "types", "docs"}
    assert "tests" in hooks


def test_every_task_is_explained() -> None:
    assert named_in("CONTRIBUTING.md") == sessions()


def typed() -> Iterator[tuple[str, list[str]]]:
    """Each ``evergreen-groups`` in a shell block of a page: the page, and the words after it."""
    for page in PAGES:
        for line in (line for block in blocks(page) for line in commands(block)):
            for command in re.split(r"&&?|[|<>]", line):
                words = shlex.split(command.replace("$id", "1-k7q4tz"), comments=True)
                if words and Path(words[0]).name == "evergreen-groups":
                    yield page.name, words[1:]


@pytest.mark.parametrize(("page", "words"), [pytest.param(*one, id=" ".join(one[1])) for one in typed()])
def test_a_command_of_a_page_is_taken(page: str, words: list[str]) -> None:
    """Nothing is run: its name, options and arguments are there."""
    if words == ["--version"]:
        return
    place = next(place for place, word in enumerate(words) if word in COMMANDS)
    with cli.make_context("evergreen-groups", words[: place + 1]) as context:
        command = cli.get_command(context, words[place])
        assert command is not None
        with command.make_context(words[place], words[place + 1 :], parent=context):
            pass
