"""The tasks, the hooks and the checks of a submission name the same things, and commands in the pages are commands."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from support.pages import PAGES, blocks, commands
from support.repository import REPOSITORY

from evergreen_groups.cli.application import COMMANDS, cli

NO_CHECK = {"format", "benches", "debian", "links", "mutants", "screenshots", "pictures", "release", "site", "tests"}
"""What neither ``.ci/run`` nor ``night`` runs. The tests run as ``newcomer``, and ``docs`` builds the site."""


def sessions() -> set[str]:
    """Return the names of the tasks."""
    found = set()
    for node in ast.parse((REPOSITORY / "noxfile.py").read_text("utf-8")).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if ast.unparse(decorator).startswith("nox.session"):
                named = re.findall(r"name='(\w+)'", ast.unparse(decorator))
                found.update(named or [node.name])
    return found


def named_in(*path: str) -> set[str]:
    """Return the tasks that a file names after ``nox -s`` or its options."""
    text = REPOSITORY.joinpath(*path).read_text("utf-8")
    runs = re.findall(r"nox\"?(?: --\S+(?: \"\S+\")?)* -s ((?:[a-z]+ ?)+)", text)
    return {name for run in runs for name in run.split()}


def night() -> set[str]:
    """Return the sessions that ``nox -s night`` runs."""
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
    """Yield each ``evergreen-groups`` in a shell block of a page: the block's place, and the words after it."""
    for page in PAGES:
        for block in blocks(page):
            for command in (part for line in commands(block) for part in re.split(r"&&?|[|<>]", line)):
                words = shlex.split(command.replace("$id", "1-k7q4tz"), comments=True)
                if words and Path(words[0]).name == "evergreen-groups":
                    yield block.place, words[1:]


def test_the_commands_of_pages_are_accepted() -> None:
    """Nothing is run: their names, options and arguments are there."""
    wrong = []
    for place, words in typed():
        if words == ["--version"]:
            continue
        number = next((number for number, word in enumerate(words) if word in COMMANDS), 0)
        try:
            with cli.make_context("evergreen-groups", words[: number + 1]) as context:
                command = cli.get_command(context, words[number])
                assert command is not None, "there is no such command"
                with command.make_context(words[number], words[number + 1 :], parent=context):
                    pass
        except (click.ClickException, AssertionError) as error:
            wrong.append(f"{place}: {' '.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)
