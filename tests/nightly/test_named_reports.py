"""Several reports in one night: from one reading, each with its own choice, files, mails and history."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from support.command import Command, one_line
from support.fault_proxy import FaultProxy
from support.mail_server import SECRET, Post, mail_section, server
from support.state_files import count_runs, last_run

from evergreen_groups import exit_status
from evergreen_groups.client import Client
from evergreen_groups.report import Choice, Criteria
from evergreen_groups.report.build import combined_criteria, read_reports
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ReportSettings
from evergreen_groups.settings.declaration import declared_in
from evergreen_groups.settings.sections import shared_settings
from evergreen_groups.values import ZERO

WANTED = (
    Criteria(),
    Criteria(min_total=Decimal("40.00")),
    Criteria(min_total=Decimal("10.00"), orgs=("valley",), sort="name"),
    Criteria(choice=Choice(over_limit=False), top=1),
    Criteria(min_total=ZERO, min_overdue=1),
    Criteria(min_lost=1, choice=Choice(owing_since=30)),
    Criteria(min_total=ZERO, min_overdue=1, overdue_days=1000, min_lost=1, top=2),
)


def document(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def configured(command: Command, directory: Path, more: str = "", **others: str) -> dict[str, Path]:
    """Have the report, with more lines of its section, and others written as JSON; give the files by name."""
    files = {name: directory / f"{name}.json" for name in ("main", *others)}
    text = f'[report]\noutput = "{files["main"]}"\n{more}\n'
    for name, lines in others.items():
        text += f'[[reports]]\nname = "{name}"\noutput = "{files[name]}"\n{lines}\n'
    command.config.write_text(text)
    return files


def test_each_is_what_a_reading_of_its_own_gives(client: Client) -> None:
    together = read_reports(client.gateway, WANTED)
    for criteria, report in zip(WANTED, together, strict=True):
        [alone] = read_reports(client.gateway, [criteria])
        assert report.groups == alone.groups
        assert report.totals == alone.totals
        assert report.left_out == alone.left_out
        assert (report.items is None) == (alone.items is None)
        assert {name.casefold() for name in report.criteria.orgs} == {name.casefold() for name in criteria.orgs}
    assert len({tuple(group.number for group in report.groups) for report in together}) == len(WANTED)


def test_they_take_the_calls_of_one(client: Client, proxy: FaultProxy, tmp_path: Path) -> None:
    command = Command(tmp_path, proxy.url)
    command.environ["STATE_DIRECTORY"] = str(tmp_path / "state")
    wide = ("report", "--min-total", "10", "--output")
    assert command(*wide, str(tmp_path / "wide.json")).returncode == 0
    proxy.seen.clear()
    # The first night has no families yet whose payments it reads.
    assert command(*wide, str(tmp_path / "second.json")).returncode == 0
    alone = len(proxy.seen)
    files = configured(command, tmp_path, small="min_total = 10")
    proxy.seen.clear()
    assert command("report").returncode == 0
    assert len(proxy.seen) == alone
    assert document(files["small"])["groups"] == document(tmp_path / "wide.json")["groups"]


def test_each_chooses_and_orders_by_whatever_the_report_does(command: Command, tmp_path: Path) -> None:
    of_the_run = {"details", "deadline", "hours_between_runs", "healthcheck_url"}
    assert {setting.name for setting in shared_settings()} == {
        setting.name for setting in declared_in("report", ReportSettings)
    } - of_the_run
    files = configured(command, tmp_path, 'top = 3\nsort = "name"', first="top = 1", ordered='sort = "total"')
    assert command("report").returncode == exit_status.DONE
    found = {name: document(file) for name, file in files.items()}
    groups = {name: [group["group"] for group in one["groups"]] for name, one in found.items()}
    assert (len(groups["main"]), len(groups["ordered"])) == (3, 3)
    assert sorted(groups["main"]) == sorted(groups["ordered"])
    assert groups["first"] == groups["ordered"][:1]
    assert command("report", "--top", "2").returncode == exit_status.DONE
    assert len(document(files["main"])["groups"]) == 2
    assert len(document(files["first"])["groups"]) == 1


def test_the_widest() -> None:
    found = combined_criteria(WANTED)
    assert (found.min_overdue, found.overdue_days, found.min_lost) == (1, 0, 1)
    assert (found.min_total, found.orgs, found.choice, found.top) == (Decimal("10.00"), (), Choice(), None)
    assert combined_criteria([Criteria(orgs=("BR1",)), Criteria(orgs=("BR2", "BR1"))]).orgs == ("BR1", "BR2")


def test_each_is_compared_with_itself(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    configured(command, tmp_path, same="")
    assert command("report").returncode == exit_status.DONE
    assert count_runs(tmp_path / "state") == 2
    files = configured(command, tmp_path, same="", high="min_total = 40")
    assert command("report").returncode == exit_status.DONE
    found = {name: document(path)["changes"] for name, path in files.items()}
    assert found["main"]["since"]
    assert found["same"]["since"]
    assert found["high"]["since"] is None, "a new one has nothing to be compared with"
    status = last_run(tmp_path / "state")
    assert status is not None
    assert status.groups == len(document(files["main"])["groups"]), "each group counts once"


def test_one_that_cannot_be_written_keeps_no_other_back(command: Command, tmp_path: Path) -> None:
    files = configured(command, tmp_path, lost="", last="")
    text = command.config.read_text()
    command.config.write_text(text.replace(str(files["lost"]), str(tmp_path / "no" / "such" / "lost.json")))
    done = command("report")
    assert done.returncode == exit_status.CONFIGURATION
    assert one_line(done.stderr)
    assert document(files["main"])["groups"]
    assert document(files["last"])["groups"]
    assert count_runs(tmp_path / "state") == 2, "of what was written"


def test_who_only_looks_gets_one(command: Command, tmp_path: Path) -> None:
    command.config.write_text(f'[[reports]]\nname = "other"\noutput = "{tmp_path / "other.json"}"\n')
    assert command("report", "--no-history").returncode == exit_status.DONE
    assert not (tmp_path / "other.json").exists()


def test_each_goes_to_its_own_recipients(command: Command, tmp_path: Path, mail_certificates: Path) -> None:
    post = Post()
    with server(post, mail_certificates) as port:
        command.config.write_text(
            f"""
[report]
output = "{tmp_path / "main.json"}"
{mail_section(port, mail_certificates)}
[[reports]]
name = "high"
min_total = 40
recipients = {{"*" = ["director@library.example", "fines@library.example"]}}
"""
        )
        command.environ["EVERGREEN_GROUPS_MAIL_PASSWORD"] = SECRET
        done = command("report", "--mail")
    assert done.returncode == exit_status.DONE, done.stderr
    found = sorted((str(one["To"]), str(one["Subject"]).startswith("high: ")) for one in post.taken)
    assert found == [
        ("director@library.example", False),
        ("director@library.example", True),
        ("fines@library.example", True),
    ]
    assert len({one["Message-ID"] for one in post.taken}) == 3
