"""Several servers with the same timer: one makes the report, and each recipient gets one mail."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from support.command import Command, clock_ahead
from support.fault_proxy import FaultProxy
from support.killable import KILLED, Killable, Run, World
from support.mail_server import Post, server
from support.postgresql import own_cluster, shared_cluster
from support.state_files import write_last_run

from evergreen_groups import exit_status
from evergreen_groups.mail.mailer import Outbox
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import RunOutcome, RunStatus, State

pytestmark = pytest.mark.long  # too slow together for a plain pytest run

RECIPIENTS = ["desk@library.example", "director@library.example"]


@pytest.fixture
def database() -> Iterator[str]:
    cluster = shared_cluster()
    with cluster.database() as name:
        yield cluster.url(name)


def command_on(machine: Path, sandbox: Sandbox, database: str, port: int, hours: int) -> Command:
    """Return the command for a separate machine: it has its own state directory and the shared database."""
    machine.mkdir()
    command = Command(machine, sandbox.url)
    command.environ["STATE_DIRECTORY"] = str(machine / "state")
    command.config.write_text(
        f"""
[report]
hours_between_runs = {hours}
[state]
database = "{database}"
[mail]
host = "localhost"
port = {port}
security = "none"
tries = 1
sender = "groups@library.example"
[mail.recipients]
HARBOR = ["{RECIPIENTS[0]}"]
"*" = ["{RECIPIENTS[1]}"]
"""
    )
    return command


def started(command: Command) -> subprocess.Popen[str]:
    words = command.arguments("-q", "report", "--mail", "--output", str(command.config.parent / "report.json"))
    return subprocess.Popen(words, env=command.environ, stderr=subprocess.PIPE, text=True)


def test_started_together_they_make_one_report_and_send_one_mail_to_each(
    sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    post = Post()
    with server(post, None) as port:
        machines = [command_on(tmp_path / name, sandbox, database, port, 12) for name in ("one", "two", "three")]
        runs = [started(machine) for machine in machines]
        ended = [run.communicate(timeout=300) and run.returncode for run in runs]
        assert ended == [exit_status.DONE] * 3
        late = [machine("-q", "report", "--mail", "--output", str(tmp_path / "late.json")) for machine in machines]
    assert [run.returncode for run in late] == [exit_status.DONE] * 3
    assert not (tmp_path / "late.json").exists()
    assert sorted(post.recipients) == RECIPIENTS
    assert len([machine for machine in machines if (machine.config.parent / "report.json").exists()]) == 1
    statuses = {machine("status").stdout for machine in machines}
    assert len(statuses) == 1
    assert "Last run: done" in statuses.pop()
    assert "1  report runs" in machines[0]("state", "check").stdout


def test_one_that_is_killed_is_replaced_by_one_that_waited(sandbox: Sandbox, database: str, tmp_path: Path) -> None:
    post = Post()
    with server(post, None) as port:
        first, second = (command_on(tmp_path / name, sandbox, database, port, 12) for name in ("one", "two"))
        with State(tmp_path / "state", database) as state, ExitStack() as stack:
            stack.enter_context(state.report_lease())
            run = started(second)
            while not waiting(state):
                assert run.poll() is None
            stack.close()  # it ended without making a report
            run.communicate(timeout=300)
    assert run.returncode == exit_status.DONE
    assert sorted(post.recipients) == RECIPIENTS
    assert first("-q", "report", "--output", str(tmp_path / "late.json")).returncode == exit_status.DONE
    assert not (tmp_path / "late.json").exists()


def test_another_one_is_waited_for_as_long_as_the_command_line_says(
    sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    command = command_on(tmp_path / "one", sandbox, database, 1, 12)
    with State(tmp_path / "state", database) as state, state.report_lease():
        words = command.arguments("-q", "report", "--deadline", "1", "--output", str(tmp_path / "report.json"))
        run = subprocess.run(words, env=command.environ, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert run.returncode == exit_status.BUSY
    assert "another run is making the report" in run.stderr


def test_a_server_stopped_midway_does_not_cost_the_report(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> None:
    post = Post()
    with ExitStack() as stack:
        cluster = stack.enter_context(own_cluster())
        port = stack.enter_context(server(post, None))
        url = cluster.url(stack.enter_context(cluster.database()))
        command = command_on(tmp_path / "one", sandbox, url, port, 0)
        command.environ["EVERGREEN_GROUPS_GATEWAY_URL"] = proxy.url
        output = tmp_path / "report.json"
        words = ("-q", "report", "--mail", "--output", str(output))
        assert command(*words).returncode == exit_status.DONE
        output.unlink()
        proxy.before_answer = lambda call: cluster.stop("immediate") if "pcrud" in call.method else None
        done = command(*words)
        assert done.returncode == exit_status.FAILED
        assert output.exists()
        assert "PostgreSQL" in done.stderr
        assert all(line.startswith("evergreen-groups: ") for line in done.stderr.splitlines())
        assert len(post.taken) == 2, "nothing is mailed that nobody could know of"
        proxy.before_answer = lambda call: None
        cluster.run_server()
        assert command(*words).returncode == exit_status.DONE
        assert len(post.taken) == 4
        assert "2  report runs" in command("state", "check").stdout
        assert re.search(r"MB\): report runs: 2 since", " ".join(command("doctor").stdout.split()))


def test_killed_at_any_step_one_of_two_servers_with_wrong_clocks_leaves_one_report(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    cluster, post = shared_cluster(), Post()
    words = ("-q", "report", "--mail", "--output")
    with ExitStack() as stack:
        port = stack.enter_context(server(post, None))
        killable = stack.enter_context(Killable(Command(tmp_path, None).environ | clock_ahead(0)))

        def night(number: int, kill_at: int | None) -> tuple[Run, Run]:
            """Run on two servers, and kill the first run."""
            with cluster.database() as name:
                url = cluster.url(name)
                clocks = (600, -600) if number % 2 else (-600, 600)
                runs = []
                for clock, kill in zip(clocks, (kill_at, None), strict=True):
                    command = command_on(tmp_path / f"{number} {clock}", sandbox, url, port, 12)
                    environ = command.environ | clock_ahead(clock)
                    output = str(command.config.parent / "report.json")
                    runs.append(killable(*words, output, environ=environ, world=World(kill_at=kill)))
                assert "1  report runs" in command("state", "check").stdout
                with State(tmp_path / "state", url) as state:
                    assert len(Outbox(state.database)) == 0
            return runs[0], runs[1]

        whole, idle = night(0, None)
        assert (whole.status, idle.status) == (exit_status.DONE, exit_status.DONE)
        for number, step in enumerate(range(1, whole.steps + 1, 4), 1):
            post.taken.clear()
            post.recipients.clear()
            killed, other = night(number, step)
            assert killed.status in (KILLED, exit_status.DONE), killed
            assert other.status == exit_status.DONE, other
            # A mail accepted just before the process was killed is sent again, with the same id.
            mails = {(message["To"], message["Message-ID"]) for message in post.taken}
            assert sorted(to for to, _id in mails) == RECIPIENTS, step


def waiting(state: State) -> bool:
    """Return whether another process is connected to the database, waiting for the lease."""
    with state.database.reading() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return int(connection.execute(text(query)).scalar_one()) > 2


def test_where_one_is_enough_the_next_one_sends_it_without_making_another(
    sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    one = command_on(tmp_path / "one", sandbox, database, 1, 12)
    assert one("-q", "report", "--mail", "--output", str(tmp_path / "r.json")).returncode == exit_status.UNSENT
    assert one("-q", "report", "--mail", "--output", str(tmp_path / "r.json")).returncode == exit_status.UNSENT
    assert one("status").returncode == exit_status.UNSENT
    post = Post()
    with server(post, None) as port:
        two = command_on(tmp_path / "two", sandbox, database, port, 12)
        assert two("-q", "report", "--mail", "--output", str(tmp_path / "late.json")).returncode == exit_status.DONE
    assert sorted(post.recipients) == sorted(RECIPIENTS)
    assert not (tmp_path / "late.json").exists()
    assert one("status").returncode == exit_status.DONE


@pytest.mark.parametrize(
    ("outcome", "hours_ago", "is_made"),
    [
        (RunOutcome.DONE, 11.9, False),
        (RunOutcome.PARTIAL, 1, False),
        (RunOutcome.FAILED, 1, True),
        (RunOutcome.DONE, 12.1, True),
        (RunOutcome.DONE, -1, False),  # the clock was set back
        (RunOutcome.DONE, -13, True),  # the clock was far ahead, which must not keep the next nights from their reports
    ],
)
def test_another_is_made_where_the_last_failed_or_is_long_ago(
    sandbox: Sandbox, tmp_path: Path, outcome: RunOutcome, hours_ago: float, is_made: bool
) -> None:
    command = Command(tmp_path, sandbox.url)
    command.environ |= {
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "EVERGREEN_GROUPS_REPORT_HOURS_BETWEEN_RUNS": "12",
    }
    then = datetime.now(UTC) - timedelta(hours=hours_ago)
    write_last_run(tmp_path / "state", RunStatus(outcome, then, then, 4 if outcome is RunOutcome.FAILED else 0))
    done = command("report", "--output", str(tmp_path / "report.json"))
    assert done.returncode == exit_status.DONE
    assert (tmp_path / "report.json").exists() == is_made
    assert ("nothing to do: the report was made at" in done.stderr) != is_made
