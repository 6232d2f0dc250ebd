"""The bench against the floor, a minimal client: independent, with equal answers; any difference stops the bench."""

import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from bench import table
from bench.floor import RANGES, Bare, Reading, log_in, positions_of, start
from bench.table import Account, Site
from support.repository import REPOSITORY

from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox

BENCH = REPOSITORY / "tests" / "bench"


@pytest.mark.parametrize("account", ["admin", "harbor_desk"])
def test_the_floor_says_what_ours_says(account: str) -> None:
    with Sandbox() as sandbox:
        password = sandbox.accounts[account].password
        bare = Bare(sandbox.url, positions_of(sandbox.url, None))
        log_in(bare, account, password)
        with ThreadPoolExecutor(3) as pool:
            found = Reading(bare, pool, Namespace(min_total="25.00", details=True, ranges=RANGES))
            found.read(start(bare, pool))
            hidden_fines = found.hidden_fines()
        with Gateway(sandbox.url, credentials=Credentials(username=account, password=password)) as gateway:
            report = build_report(gateway, Criteria())
    assert len(found.members) == report.totals.group_count > 0
    assert sum(map(len, found.members.values())) + found.hidden_count == report.totals.member_count
    assert sum(found.fines.values(), Decimal(0)) + hidden_fines == report.totals.group_fines


def test_a_difference_of_a_cent_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = dict.fromkeys(("seconds", "cpu_seconds", "calls", "bytes", "peak_mb", "groups", "members"), 1)

    def figures(program: str, *_rest: object) -> dict[str, object]:
        return {**said, "visible_fines": "30.00" if program == "floor.py" else "30.01", "hidden_fines": "0.00"}

    monkeypatch.setattr(table, "figures", figures)
    account = Account("admin", "secret", sees_all=True)
    with pytest.raises(SystemExit, match="differ"):
        table.report(Site("http://127.0.0.1:1", (account,), tmp_path), account, 1, what="report")


@pytest.mark.long
def test_the_table_of_the_sandbox_is_printed() -> None:
    command = [sys.executable, "-m", "tests.bench", "--patrons", "0", "--pairs", "1"]
    only = ["--only", "report", "limited", "startup"]
    done = subprocess.run([*command, *only], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [cells[1] for cells in lines[2:]].count("harbor_desk") == 2
    assert len(lines) == 2 + 2 * 3 + 3
    assert len({len(cells) for cells in lines}) == 1
