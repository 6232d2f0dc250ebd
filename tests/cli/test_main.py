"""The command: exit statuses, one line an error, files with patron data, and changes that are asked about."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from support.change_ids import UNKNOWN, listed_id
from support.circulators import take_away
from support.command import Command, one_line
from support.fault_proxy import Fault, FaultProxy
from support.gateways import PASSWORD
from support.journals import begun
from support.web_caller import API, bearer, session, settings_of
from support.web_caller import client_of as web_client_of

from evergreen_groups import exit_status
from evergreen_groups.changes import Journal, Operator, StoredStep
from evergreen_groups.cli import Invocation
from evergreen_groups.cli.commands.sandbox import how_to_connect
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, find_state_directory
from evergreen_groups.web import close, create_app


def test_the_sandbox_option_runs_the_report_with_nothing_configured(tmp_path: Path) -> None:
    done = Command(tmp_path, None)("--sandbox", "report")
    assert done.returncode == 0
    assert "for information only" in done.stdout
    assert "Okonkwo, Adaeze" in done.stdout
    assert done.stderr == ""
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if line.isascii())


def test_the_sandbox_leaves_an_installation_alone(tmp_path: Path) -> None:
    nightly = tmp_path / "report.csv"
    nightly.write_text("last night's")
    configuration = tmp_path / "config.toml"
    configuration.write_text(
        f"""
        [policy]
        limit = 50
        limits = [{{profile = "Juvenile", limit = 2}}]
        [report]
        orgs = ["BR1"]
        output = "{nightly}"
        healthcheck_url = "http://127.0.0.1:9/never-called"
        [mail]
        host = "127.0.0.1"
        sender = "groups@library.example"
        recipients = {{"*" = ["director@library.example"]}}
        [serve]
        report = "{nightly}"
        """
    )
    command = Command(tmp_path, None)
    words = ("--sandbox", "--config", str(configuration), "report")
    done = command(*words)
    assert (done.returncode, done.stderr) == (exit_status.DONE, "")
    assert "own fines count toward the $50.00 limit" in done.stdout
    assert nightly.read_text() == "last night's"
    for option, says in (("--mail", "--mail"), ("--scheduled", "can't be combined with --scheduled")):
        refused = command(*words, option)
        assert refused.returncode == exit_status.USAGE
        assert says in refused.stderr
    serve = Invocation(configuration, use_sandbox=True, quiet=False).settings.serve
    assert serve.report is None


@pytest.mark.parametrize("output_format", ["csv", "json", "html", "xlsx"])
def test_a_report_in_a_file_is_readable_by_its_owner_alone(run: Command, tmp_path: Path, output_format: str) -> None:
    target = tmp_path / f"tonight.{output_format}"
    done = run("report", "--output", str(target))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    content = target.read_bytes()
    assert content.startswith(b"PK") if output_format == "xlsx" else b"Okonkwo" in content
    assert list(tmp_path.glob("*.tmp")) == []


def test_standard_output_is_utf_8_for_programs_whatever_the_locale(run: Command) -> None:
    run.environ |= {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(run.arguments("report", "--format", "json"), env=run.environ, capture_output=True, check=True)
    names = {group["lead"]["name"] for group in json.loads(done.stdout.decode("utf-8"))["groups"]}
    assert "林, 美玲" in names
    table = subprocess.run(run.arguments("report"), env=run.environ, capture_output=True, check=True)
    assert b"Okonkwo" in table.stdout


def test_the_command_line_outweighs_the_configuration(run: Command, tmp_path: Path) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text("[report]\nmin_total = 80.00\nmin_members = 1\n[policy]\nlimit = 1.00\n")
    arguments = ("--config", str(configuration), "report", "--format", "json")
    configured = json.loads(run(*arguments).stdout)
    assert configured["criteria"]["min_total"] == "80.00"
    assert configured["criteria"]["limit"]["amount"] == "1.00"
    given = json.loads(run(*arguments, "--min-total", "60", "--limit", "none", "--org", "harbor").stdout)
    assert [group["group"] for group in given["groups"]] == [1010]
    assert given["criteria"]["limit"]["amount"] is None


def test_items_on_the_command_line_are_not_joined_by_a_configured_amount(run: Command, tmp_path: Path) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text("[report]\nmin_total = 80.00\nmin_lost = 2\nowing_since = 60\n")
    arguments = ("--config", str(configuration), "report", "--format", "json", "--min-overdue", "2")
    found = json.loads(run(*arguments).stdout)
    assert [group["group"] for group in found["groups"]] == [1004, 1011]
    assert (found["criteria"]["min_total"], found["criteria"]["min_lost"], found["criteria"]["choice"]) == (
        "0.00",
        0,
        {},
    )
    refused = run(*arguments, "--owing-since", "9")
    assert refused.returncode == exit_status.CONFIGURATION
    assert one_line(refused.stderr)
    assert "owing_since has no effect" in refused.stderr


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("report", "--min-total", "x"), exit_status.USAGE, "expected an amount of 0.00 or more"),
        (("report", "--top", "0"), exit_status.USAGE, "a whole number from 1"),
        (("report", "--format", "pdf"), exit_status.USAGE, "'pdf' is not one of"),
        (("show",), exit_status.USAGE, "give one of: BARCODE, --name, --user, --group"),
        (("nonsense",), exit_status.USAGE, "No such command"),
        (("--config", "/nonexistent.toml", "report"), exit_status.CONFIGURATION, "no configuration file at"),
        (("report", "--org", "NOWHERE"), exit_status.CONFIGURATION, 'no org unit "NOWHERE"'),
        (("report", "--output", "/nonexistent/r.csv"), exit_status.CONFIGURATION, "cannot write /nonexistent/r.csv"),
        (("show", "20000000009999"), exit_status.FAILED, "no visible patron has this barcode"),
        (("move", "\udc80", "--to", "20000000001007"), exit_status.FAILED, "no visible patron has this barcode"),
        (("undo", UNKNOWN, "--yes"), exit_status.FAILED, f"there is no change {UNKNOWN}"),
        (("batch", "/nonexistent.csv"), exit_status.CONFIGURATION, "cannot be read"),
        (("state", "backup", "kept.json"), exit_status.USAGE, "use the extension .sqlite3"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(run: Command, words: tuple[str, ...], status: int, says: str) -> None:
    done = run(*words)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "20000000009999" not in done.stderr
    assert status == exit_status.USAGE or one_line(done.stderr)


@pytest.mark.parametrize(
    ("words", "name", "endings"),
    [
        (["report"], "today.pdf", ".table, .csv, .json, .html, .xlsx, .jsonl"),
        (["report", "--no-history"], "today.doc", ".table, .csv, .json, .html, .xlsx, .jsonl"),
        (["audit"], "today", ".table, .csv, .json, .html, .jsonl"),
        (["audit", "--explain", "1"], "today.pdf", ".table, .json"),
    ],
)
def test_an_unknown_ending(run: Command, tmp_path: Path, words: list[str], name: str, endings: str) -> None:
    # Regardless of the format and split configured for another file.
    run.config.write_text(f'[report]\noutput = "{tmp_path}/reports"\nsplit = "library"\nformat = "html"\n')
    done = run(*words, "--output", str(tmp_path / name))
    assert (done.returncode, one_line(done.stderr)) == (exit_status.CONFIGURATION, True)
    assert f"{name}; use one of {endings}, or set --format" in done.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("variable", "value", "status", "says"),
    [
        pytest.param("GATEWAY_URL", "http://127.0.0.1:9", exit_status.UNREACHABLE, "", marks=pytest.mark.long),
        ("PASSWORD", "not the password", exit_status.LOGIN, "check user name and password"),
        ("GATEWAY_URL", "http://evergreen.example.org", exit_status.CONFIGURATION, "allow_plain_http"),
    ],
    ids=["no gateway", "a wrong password", "a password in clear"],
)
def test_what_keeps_it_from_the_gateway(run: Command, variable: str, value: str, status: int, says: str) -> None:
    run.environ[f"EVERGREEN_GROUPS_{variable}"] = value
    done = run("report")
    assert done.returncode == status
    assert one_line(done.stderr)
    assert says in done.stderr
    assert "not the password" not in done.stderr


def test_an_account_that_cannot_see_everybody_gets_its_own_status(sandbox: Sandbox, tmp_path: Path) -> None:
    run = Command(tmp_path, sandbox.url, "north_manager")
    done = run("report", "--format", "json")
    assert done.returncode == exit_status.INCOMPLETE
    assert "account lacks VIEW_USER at VALLEY" in done.stderr.splitlines()[0]
    assert json.loads(done.stdout)["totals"]["incomplete_group_count"] == 1
    quiet = run("--quiet", "report", "--format", "json")
    assert (quiet.returncode, quiet.stderr) == (exit_status.INCOMPLETE, "")


def test_no_log_has_a_name_a_barcode_or_a_secret(run: Command) -> None:
    done = run("-vv", "report")
    assert "open-ils.pcrud.search.au.atomic" in done.stderr
    for secret in ("Okonkwo", "2000000000", PASSWORD + "'", 'sandbox"'):
        assert secret not in done.stderr
    assert not re.search(r"\b[0-9a-f]{32}\b", done.stderr)


def test_a_setting_that_is_not_utf_8_is_shown_as_json(run: Command) -> None:
    run.environ["EVERGREEN_GROUPS_STATE_DATABASE"] = "\udc80"
    shown = json.loads(run("config", "show", "state.database", "--json").stdout)
    assert [value["value"] for value in shown["values"]] == ["\udc80"]


def in_a_process(run: Command, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that starts with this environment."""
    return subprocess.run(
        run.arguments(*words), env=run.environ | environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("timezone", ["/dev/null", ":/dev/null", "/"])
def test_a_time_zone_that_is_no_time_zones_file_stops_nothing(run: Command, timezone: str) -> None:
    done = in_a_process(run, "report", "--no-history", TZ=timezone)
    assert (done.returncode, done.stderr) == (exit_status.DONE, "")
    assert "combined fines" in done.stdout


def test_an_interruption_during_the_imports_is_told_in_a_line(run: Command, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = in_a_process(run, "--version", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (exit_status.INTERRUPTED, "evergreen-groups: interrupted\n")


def test_output_to_a_closed_pipe(run: Command) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            run.arguments("report"), env=run.environ, stdout=gone, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == exit_status.FAILED
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_show(run: Command) -> None:
    done = run("show", "20000000001013")
    assert done.returncode == 0
    assert "Group 1003: 3 members" in done.stdout
    assert "for information only: $33.50" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    by_user = json.loads(run("show", "--user", "1013", "--format", "json").stdout)
    by_group = json.loads(run("show", "--group", "1003", "--format", "json").stdout)
    assert by_user == by_group
    over = {member["id"]: member["over_limit"] for member in by_group["members"]}
    assert over == {1012: False, 1013: True, 1014: False}


def test_a_slip_fits_receipt_paper(run: Command) -> None:
    run.environ |= {"COLUMNS": "42", "EVERGREEN_GROUPS_STATEMENT_TITLES": "all"}
    done = run("slip", "20000000001015")
    assert done.returncode == 0
    for line in (
        "  Overdue: due 20 Sept 2026",
        "    The owl who read at night",
        "  Held until 20 Jan 2039",
        "Owed: $17.85",
    ):
        assert line in done.stdout.splitlines()
    assert "Đức" not in done.stdout
    assert all(len(line) <= 42 for line in done.stdout.splitlines())
    as_json = json.loads(run("slip", "--user", "1015", "--json").stdout)
    assert (as_json["kind"], as_json["items"][0]["title"]) == ("family-items", "The owl who read at night")
    assert run("slip").returncode == exit_status.USAGE


def test_a_slip_says_by_its_status_that_something_is_hidden(sandbox: Sandbox, tmp_path: Path) -> None:
    take_away(sandbox, "VIEW_HOLD")
    done = Command(tmp_path, sandbox.url, "consortium_staff")("slip", "20000000001015")
    assert done.returncode == exit_status.INCOMPLETE
    assert "  Holds are not listed here. Ask at the desk." in done.stdout.splitlines()


def test_show_says_by_its_status_that_something_is_hidden(sandbox: Sandbox, tmp_path: Path) -> None:
    run = Command(tmp_path, sandbox.url, "north_manager")
    hidden = run("show", "--user", "1026", "--format", "json")
    assert (hidden.returncode, json.loads(hidden.stdout)["hidden_member_count"]) == (exit_status.INCOMPLETE, 1)
    assert run("show", "--user", "1032").returncode == exit_status.DONE
    assert "Exit status 7" in " ".join(run("show", "--help").stdout.split())


def test_show_says_by_its_status_that_what_is_out_is_not_known(sandbox: Sandbox, tmp_path: Path) -> None:
    take_away(sandbox, "VIEW_CIRCULATIONS")
    done = Command(tmp_path, sandbox.url)("show", "20000000001013", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["totals"]) == (exit_status.INCOMPLETE, None)


def group_of(run: Command, user: int) -> int:
    return int(json.loads(run("show", "--user", str(user), "--format", "json").stdout)["group"])


def test_a_move_is_shown_and_asked_about(run: Command) -> None:
    words = ("move", "20000000001052", "--to", "20000000001007")
    dry = run(*words, "--dry-run")
    assert "from group 1015 to group 1002" in dry.stdout
    assert "Group 1002: 5 → 6 members, fines $25.00 → $25.35" in dry.stdout
    refused = run(*words, answer="n\n")
    assert "Nothing was changed." in refused.stdout
    assert group_of(run, 1052) == 1015
    agreed = run(*words, answer="y\n")
    assert "1 of 1 done" in agreed.stdout
    assert agreed.returncode == 0
    assert group_of(run, 1052) == 1002


def test_the_journal_lists_the_last_changes(run: Command) -> None:
    with State(find_state_directory(run.environ)) as state:
        journal = Journal(state.database)
        for _ in range(51):
            begun(journal, "https://ils.example.org", Operator("me"), "move", [StoredStep(1, "usrgroup", 2, 3)])
    listed = run("journal")
    assert len(listed.stdout.splitlines()) == 50
    assert "There are older changes: --all lists them." in listed.stderr
    assert len(json.loads(run("journal", "--json").stdout)["changes"]) == 50
    for option in (["--all"], ["--since", f"{datetime.now().astimezone():%Y-%m-%d}"]):
        every = run("journal", *option)
        assert len(every.stdout.splitlines()) == 51
        assert "older" not in every.stderr
    assert len(run("journal", "--since", "2999-01-01").stdout.splitlines()) == 1


def test_remove_lead_merge_journal_and_undo(run: Command) -> None:
    assert run("remove", "20000000001052", "--yes").returncode == 0
    assert run("lead", "20000000001053", "--yes").returncode == 0
    assert run("merge", "--from", "20000000001051", "--to", "20000000001039", "--yes").returncode == 0
    assert group_of(run, 1053) == 1010
    listed = run("journal").stdout.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in listed] == [
        "Merge groups",
        "Change group lead",
        "Remove from the group",
    ]
    assert "patron 1052: from group 1015 to group 1100 (done)" in run("journal", listed_id(run, 1)).stdout
    assert run("undo", listed_id(run, 3), "--yes").returncode == 0
    assert run("undo", listed_id(run, 1), "--yes").returncode == 0
    assert group_of(run, 1052) == group_of(run, 1053) == 1015
    assert "Merge groups" in run("journal").stdout


def test_a_missing_permission_has_its_own_status(sandbox: Sandbox, tmp_path: Path) -> None:
    run = Command(tmp_path, sandbox.url, "harbor_desk")
    done = run("move", "20000000001052", "--to", "20000000001001", "--yes")
    assert done.returncode == exit_status.PERMISSION
    assert "0 of 1 done" in done.stdout
    assert "the account lacks" in done.stdout


BATCH = """action,barcode,target
move,20000000001052,20000000001007
remove,20000000001028,
lead,20000000001053,on
merge,20000000001043,20000000001001
"""


@pytest.fixture
def batch(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "changes.csv"
        path.write_text(text, encoding="utf-8-sig")
        return str(path)

    return write


def test_a_batch_twice_changes_nothing_the_second_time(run: Command, batch: Callable[[str], str]) -> None:
    path = batch(BATCH)
    first = run("batch", path, "--yes")
    assert first.returncode == 0, first.stderr
    assert "5 of 5 done" in first.stdout
    assert group_of(run, 1043) == group_of(run, 1044) == 1001
    second = run("batch", path, "--yes")
    assert second.returncode == 0
    assert "Changes from a file: 0 changes" in second.stdout
    assert len(run("journal").stdout.splitlines()) == 1


def test_every_bad_line_of_a_batch_is_named_and_nothing_is_sent(run: Command, batch: Callable[[str], str]) -> None:
    done = run("batch", batch(BATCH + "jump,1,2\nmove,,3\nmove,4,\n"), "--yes")
    assert done.returncode == exit_status.FAILED
    for words in ("line 6: the action must be", "line 7: the barcode is missing", "line 8: move needs the barcode"):
        assert f"\n  {words}" in done.stderr
    assert done.stderr.startswith("evergreen-groups: nothing was changed: 3 lines of ")
    unknown = run("batch", batch(BATCH + "move,20000000009998,20000000009999\n"), "--yes")
    assert "line 6: no visible patron has this barcode" in unknown.stderr
    assert "line 6: target: no visible patron has this barcode" in unknown.stderr
    impossible = run("batch", batch(BATCH + "move,2000000000\0,20000000001001\n"), "--yes")
    assert "line 6: no visible patron has this barcode" in impossible.stderr
    contradictory = "remove,20000000001052,\nmove,20000000001001,20000000001052\n"
    said = run("batch", batch(BATCH + contradictory), "--yes").stderr
    assert "line 6: line 2 already changes this patron" in said
    assert "line 7: line 2 moves the target" in said
    assert group_of(run, 1052) == 1015


def test_how_to_connect_to_a_sandbox(sandbox: Sandbox) -> None:
    text = how_to_connect(sandbox)
    assert sandbox.url in text
    assert all(account.login in text and account.password in text for account in sandbox.accounts.values())
    assert all(barcode in text for barcode in sandbox.barcodes)


LOST = {1003, 1008}


def listed(run: Command, *options: str) -> list[int]:
    answer = run("-q", "report", "--no-history", "--format", "json", *options)
    assert answer.returncode == 0, answer.stderr
    return [group["group"] for group in json.loads(answer.stdout)["groups"]]


def test_by_options(run: Command) -> None:
    assert set(listed(run, "--kind", "lost materials")) == LOST
    assert set(listed(run, "--within-limit", "--with-juvenile")) == {1001, 1002, 1005}
    assert listed(run, "--with-items-out", "--over-limit") == [1004]
    assert set(listed(run, "--profile", "Child", "--kind", "Lost materials", "--owing-since", "1")) == LOST
    assert listed(run, "--sort", "age") != listed(run)


def test_by_configuration_and_options_over_it(run: Command) -> None:
    run.config.write_text('[report]\nkinds = ["lost materials"]\nover_limit = "somebody"\nsort = "name"\n')
    assert set(listed(run)) == LOST
    assert listed(run, "--within-limit") == []
    assert listed(run, "--kind", "damage") == []


def test_details(run: Command) -> None:
    for options, has_kinds, has_members in (
        ((), True, True),
        (("--details",), True, True),
        (("--details", "full"), True, True),
        (("--details", "sums"), False, True),
        (("--no-members",), True, False),
    ):
        answer = run("-q", "report", "--no-history", "--top", "1", "--format", "json", *options)
        (group,) = json.loads(answer.stdout)["groups"]
        assert ("kinds" in group, "members" in group) == (has_kinds, has_members), options
    run.config.write_text('[report]\ndetails = "sums"\n')
    answer = run("report", "--no-history", "--kind", "lost materials")
    assert answer.returncode == 3
    assert 'details = "full"' in answer.stderr
    assert set(listed(run, "--details", "full", "--kind", "lost materials")) == LOST


CARD = "20000000001052"
NEW_GROUP, RETRIEVE = "open-ils.actor.usergroup.new", "open-ils.actor.user.retrieve.authoritative"


@pytest.fixture
def change(proxy: FaultProxy, tmp_path: Path) -> Command:
    return Command(tmp_path, proxy.url)


def test_a_removal_that_may_still_come_in_is_told_in_one_line(change: Command, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == NEW_GROUP else Fault.NONE
    done = change("remove", CARD, "--yes")
    assert done.returncode == 1
    (told,) = [line for line in done.stdout.splitlines() if "not confirmed yet" in line]
    assert "the result will be known by" in told
    assert "0 of 1 done" in done.stdout
    again = change("remove", CARD, "--yes")
    assert again.returncode == 1
    assert "1 earlier change is still open" in again.stderr
    assert "an earlier change to this patron isn't confirmed yet; try again after" in again.stdout
    assert proxy.seen.count(NEW_GROUP) == 1


def test_a_removal_that_came_in_late_is_found_by_the_next_run(change: Command, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == NEW_GROUP else Fault.NONE
    proxy.before_answer = lambda call: proxy.let_go() if call.method == RETRIEVE else None  # read, and then it comes in
    assert change("remove", CARD, "--yes").returncode == 1
    last = change("remove", CARD, "--yes")
    assert last.returncode == 0
    assert "1 unfinished change of an earlier run was checked" in last.stderr
    assert "already alone in this group (1100)" in last.stdout
    assert proxy.seen.count(NEW_GROUP) == 1
    journal = change("journal", listed_id(change, 1)).stdout
    assert "consortium_staff: Remove from the group, 1 of 1 done, by " in journal
    assert f" on {socket.gethostname()}\n" in journal
    assert change("undo", listed_id(change, 1), "--yes").returncode == 0


VERSION = "opensrf.open-ils.system.ils_version"
WRITES = {"open-ils.actor.patron.update", "open-ils.actor.usergroup.new"}


@pytest.fixture
def old(proxy: FaultProxy) -> FaultProxy:
    """A fully working server that reports release 3.10.5."""
    proxy.answer = lambda call: "3-10-5" if call.method == VERSION else None
    return proxy


@pytest.mark.parametrize(
    "words",
    [
        ("report", "--output", "report.html"),
        pytest.param(("audit",), marks=pytest.mark.long),
        pytest.param(("show", CARD), marks=pytest.mark.long),
        pytest.param(("check", CARD), marks=pytest.mark.long),
        pytest.param(("audit", "--explain", CARD), marks=pytest.mark.long),
        ("move", CARD, "--to", "20000000001007", "--yes"),
    ],
)
def test_an_old_release_is_refused(old: FaultProxy, tmp_path: Path, words: tuple[str, ...]) -> None:
    page = tmp_path / "report.html"
    done = Command(tmp_path, old.url)(*(str(page) if word == page.name else word for word in words))
    assert (done.returncode, done.stdout) == (exit_status.FAILED, "")
    assert one_line(done.stderr)
    assert "this is Evergreen 3.10.5, which is too old; upgrade it to 3.11 or later" in done.stderr
    assert not page.exists()
    assert not WRITES & set(old.seen)


def test_the_service_refuses_one(
    old: FaultProxy, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings_of(old.url), {"HOME": str(tmp_path)})
    try:
        headers = bearer(session(sandbox.url, username="consortium_staff"))
        answer = web_client_of(app).get(f"{API}/patrons/1001/summary", headers=headers)
    finally:
        close(app)
    assert (answer.status_code, answer.get_json()["code"]) == (502, "ils-refused")
    assert "which is too old" in caplog.text


def test_a_signal_ends_a_wait_that_began_just_after_it_arrived() -> None:
    """As if it had arrived before the wait: ``interrupt_main`` notes a signal, and interrupts no system call."""
    program = """
import _thread, signal, socket, threading
from evergreen_groups.cli import application

def wait(arguments):
    threading.Timer(0.2, _thread.interrupt_main, [signal.SIGTERM]).start()
    here, there = socket.socketpair()
    here.recv(1)

application.run = wait
application.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert ended.returncode == exit_status.TERMINATED
