"""The commands that change groups, over a network that loses things: what they tell, and the exit status."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.change_ids import listed_id
from support.command import Command
from support.fault_proxy import Fault, FaultProxy

CARD = "20000000001052"
NEW_GROUP, RETRIEVE = "open-ils.actor.usergroup.new", "open-ils.actor.user.retrieve.authoritative"


@pytest.fixture
def run(proxy: FaultProxy, tmp_path: Path) -> Command:
    return Command(tmp_path, proxy.url)


def test_a_removal_that_may_still_come_in_is_told_in_one_line(run: Command, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == NEW_GROUP else Fault.NONE
    done = run("remove", CARD, "--yes")
    assert done.returncode == 1
    (told,) = [line for line in done.stdout.splitlines() if "not confirmed yet" in line]
    assert "the result will be known by" in told
    assert "0 of 1 done" in done.stdout
    again = run("remove", CARD, "--yes")
    assert again.returncode == 1
    assert "1 earlier change is still open" in again.stderr
    assert "an earlier change to this patron isn't confirmed yet; try again after" in again.stdout
    assert proxy.seen.count(NEW_GROUP) == 1


def test_a_removal_that_came_in_late_is_found_by_the_next_run(run: Command, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == NEW_GROUP else Fault.NONE
    proxy.before_answer = lambda call: proxy.let_go() if call.method == RETRIEVE else None  # read, and then it comes in
    assert run("remove", CARD, "--yes").returncode == 1
    last = run("remove", CARD, "--yes")
    assert last.returncode == 0
    assert "1 unfinished change of an earlier run was checked" in last.stderr
    assert "already alone in this group (1100)" in last.stdout
    assert proxy.seen.count(NEW_GROUP) == 1
    journal = run("journal", listed_id(run, 1)).stdout
    assert "consortium_staff: Remove from the group, 1 of 1 done, by " in journal
    assert f" on {socket.gethostname()}\n" in journal
    assert run("undo", listed_id(run, 1), "--yes").returncode == 0
