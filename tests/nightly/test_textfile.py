"""The figures of a night for node_exporter: written after each run, also one that failed, and readable by all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.command import Command

from evergreen_groups import exit_status
from evergreen_groups.metrics import FAMILIES
from evergreen_groups.sandbox import Sandbox


class Night:
    """Runs of the report that write the file."""

    def __init__(self, directory: Path, url: str) -> None:
        self.file = directory / "evergreen-groups.prom"
        self.command = Command(directory, url)
        self.command.environ |= {
            "STATE_DIRECTORY": str(directory / "state"),
            "EVERGREEN_GROUPS_METRICS_TEXTFILE": str(self.file),
        }

    def __call__(self, *words: str, status: int = exit_status.DONE) -> dict[str, float]:
        done = self.command("--quiet", "report", *words)
        assert done.returncode == status, done.stderr
        return self.read()

    def read(self) -> dict[str, float]:
        """The values by names without their beginning, and by the values of labels but the report's."""
        return {
            " ".join(
                [sample.name.removeprefix("evergreen_groups_"), *filter(None, sample.labels.values())]
            ): sample.value
            for metric in text_string_to_metric_families(self.file.read_text())
            for sample in metric.samples
        }


@pytest.fixture
def night(tmp_path: Path, sandbox: Sandbox) -> Night:
    return Night(tmp_path, sandbox.url)


@pytest.mark.long
def test_a_night_that_went_well_and_one_that_failed(night: Night) -> None:
    well = night()
    assert stat.S_IMODE(night.file.stat().st_mode) == 0o644
    assert (well["last_run_outcome done"], well["last_run_outcome failed"], well["last_run_exit_status"]) == (1, 0, 0)
    assert well["last_report_timestamp_seconds"] == well["last_run_timestamp_seconds"]
    assert well["report_groups *"] > 0
    assert well["report_group_fines *"] > 25
    assert well["database_up"] == 1
    names = {name.partition(" ")[0] for name in well}
    assert names == {family.name.removeprefix("evergreen_groups_") for family in FAMILIES if family.nightly}
    night.command.environ["EVERGREEN_GROUPS_GATEWAY_URL"] = "http://127.0.0.1:1"
    failed = night(status=exit_status.UNREACHABLE)
    assert (failed["last_run_outcome failed"], failed["last_run_exit_status"]) == (1, exit_status.UNREACHABLE)
    assert failed["last_run_timestamp_seconds"] > well["last_run_timestamp_seconds"]
    assert well["report_timestamp_seconds"] <= failed["last_report_timestamp_seconds"]
    assert failed["last_report_timestamp_seconds"] <= well["last_run_timestamp_seconds"]
    assert failed["report_group_fines *"] == well["report_group_fines *"]


@pytest.mark.long
def test_without_a_database_the_last_success_stays(night: Night, tmp_path: Path) -> None:
    well = night()
    (tmp_path / "state" / "state.sqlite3").write_text("no database")
    without = night(status=exit_status.FAILED)
    assert without["database_up"] == 0
    assert without["last_run_outcome failed"] == 1
    assert without["last_report_timestamp_seconds"] == well["last_report_timestamp_seconds"]
    assert "report_groups *" not in without


@pytest.mark.long
def test_a_look_and_the_sandbox_write_nothing(night: Night) -> None:
    assert night.command("--quiet", "report", "--no-history").returncode == exit_status.DONE
    assert night.command("--quiet", "--sandbox", "report").returncode == exit_status.DONE
    assert not night.file.exists()


@pytest.mark.long
def test_an_unwritable_file_does_not_cost_the_report(night: Night, tmp_path: Path) -> None:
    night.command.environ["EVERGREEN_GROUPS_METRICS_TEXTFILE"] = str(tmp_path / "nowhere" / "x.prom")
    done = night.command("report")
    assert done.returncode == exit_status.DONE
    assert "the metrics are not written: cannot write" in done.stderr
