"""Finding patrons at the command line: by a barcode that isn't quite right, and by name."""

from __future__ import annotations

import pytest
from support.circulators import change_rows
from support.command import Command
from support.terminals import at_a_terminal, on_a_terminal

from evergreen_groups import exit_status
from evergreen_groups.sandbox import Sandbox

MISTYPED, CARD, NAME = "20000000001063", "20000000001036", "Whitfield, Grace"


@pytest.mark.long
def test_a_scanned_barcode_with_blanks(run: Command) -> None:
    shown = run("show", " 2 0000 00000 1036\t")
    assert (shown.returncode, NAME in shown.stdout) == (0, True)


@pytest.mark.long
@pytest.mark.parametrize("command", [["show"], ["check"], ["audit", "--explain"], ["remove", "--dry-run"]])
def test_an_unknown_barcode_without_a_terminal_names_no_patron(run: Command, command: list[str]) -> None:
    done = run(*command, MISTYPED)
    assert done.returncode == exit_status.FAILED
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no visible patron has this barcode" in done.stderr
    assert not any(text in done.stderr for text in (MISTYPED, CARD, "Whitfield"))


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ["show", MISTYPED],
        ["check", MISTYPED],
        ["audit", "--explain", MISTYPED],
        ["remove", MISTYPED],
        ["lead", MISTYPED],
        ["move", "20000000001001", "--to", MISTYPED],
        ["merge", "--from", MISTYPED, "--to", "20000000001001"],
    ],
)
def test_at_a_terminal_it_is_said_what_it_may_be(run: Command, command: list[str]) -> None:
    status, shown = on_a_terminal(run, *command)
    assert status == exit_status.FAILED
    assert "no visible patron has this barcode" in shown
    assert f"Searched for: {MISTYPED}" in shown
    assert CARD in shown
    assert NAME not in shown
    assert shown.index("no visible patron") < shown.index("Searched for")


@pytest.mark.long
def test_at_a_terminal_with_events_or_quietly_no_patron_is_named(run: Command) -> None:
    for options in (["--log-format", "json"], ["-q"]):
        status, shown = on_a_terminal(run, *options, "show", MISTYPED)
        assert status == exit_status.FAILED
        assert "Whitfield" not in shown


@pytest.mark.long
def test_at_a_terminal_a_length_that_no_card_has(run: Command) -> None:
    assert "Barcodes here have 14 characters, this one has 12." in on_a_terminal(run, "show", "2 0000 00000 99")[1]


@pytest.mark.long
def test_a_name_that_one_alone_has_is_shown(run: Command) -> None:
    shown = run("show", "--name", "whitfield, gr")
    assert shown.returncode == 0
    assert NAME in shown.stdout


def test_several_are_listed_without_a_terminal(run: Command) -> None:
    shown = run("show", "--name", "Whitfield")
    assert shown.returncode == exit_status.USAGE
    assert "choosing needs a terminal: use the barcode" in shown.stderr
    assert "Whitfield" not in shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["1", "2", "3"]
    assert all(card in shown.stdout for card in (CARD, "20000000001037", "20000000001038"))


@pytest.mark.long
def test_who_is_to_be_moved_is_never_taken_for_granted(run: Command) -> None:
    moved = run("move", "--name", NAME, "--to", "20000000001001", "--yes")
    assert moved.returncode == exit_status.USAGE
    assert "Whitfield" in moved.stdout
    assert run("journal").stdout.count("move") == 0


@pytest.mark.long
def test_an_unknown_name(run: Command) -> None:
    for words in (["show", "--name", "Nobody"], ["move", CARD, "--to-name", "Nobody"]):
        done = run(*words)
        assert done.returncode == exit_status.FAILED
        assert "no visible patron has this name" in done.stderr
        assert "Nobody" not in done.stderr


@pytest.mark.long
def test_more_than_can_be_listed(run: Command, sandbox: Sandbox) -> None:
    change_rows(sandbox, "UPDATE au SET family_name = 'Same' WHERE id BETWEEN 1001 AND 1030 AND deleted = 0")
    shown = run("show", "--name", "same")
    assert "There are more than 20: type more of the name." in shown.stdout


@pytest.mark.long
def test_a_user_at_a_terminal_chooses(run: Command) -> None:
    status, shown = at_a_terminal(run, "show", "--name", "Whitfield", answer="7\n2\n")
    assert status == 0
    assert shown.count("Number, or Enter for none") == 2
    assert "Group 1009: 3 members" in shown
    status, shown = at_a_terminal(run, "show", "--name", "Whitfield", answer="\n")
    assert status == 0
    assert "Group 1009" not in shown


@pytest.mark.long
def test_a_move_by_name_asks_for_both_and_then_for_the_plan(run: Command) -> None:
    status, shown = at_a_terminal(
        run, "move", "--name", "Whitfield, Ruth", "--to-name", "Okonkwo, Ad", answer="1\n1\ny\n"
    )
    assert status == 0
    assert "Whitfield, Ruth (20000000001038)" in shown
    assert "to group 1001" in shown
    assert "1 of 1 done" in shown
