"""``evergreen-groups config``: each value with its source, all errors at once, and a valid example."""

import json
from pathlib import Path

import pytest

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.settings import reading as load
from evergreen_groups.settings.toml import example

SECRET = "open-sesame"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C")
    password = tmp_path / "password"
    password.write_text(f"{SECRET}\n")
    password.chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(
        f'[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\npassword_file = "{password}"\n'
        '[report]\norgs = ["BR1"]\ntop = 3\n[redis]\nurl = "redis://me:open-sesame@db.example.org/1"\n'
        f'[[reports]]\nname = "old"\noutput = "{tmp_path}/old.html"\n'
    )
    path.chmod(0o600)
    monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(path))
    return path


class TestShow:
    def test_each_value_with_its_source(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_MIN_TOTAL", "30")
        assert run(["config", "show"]) == exit_status.DONE
        rows = [" ".join(row.split()) for row in capsys.readouterr().out.splitlines()]
        assert rows[0] == f"# {config}"
        for row in (
            'url = "https://ils.example.org" # line 2',
            f"# password = *** # {config.parent}/password",
            "timeout = 60 # default",
            "# workstation = # not set",
            'orgs = ["BR1"] # line 6; default: []',
            "min_total = 30.00 # $EVERGREEN_GROUPS_REPORT_MIN_TOTAL; default: 25.00",
            'url = "redis://me:***@db.example.org/1" # line 9',
            'name = "old" # line 11',
        ):
            assert row in rows
        assert SECRET not in "\n".join(rows)

    def test_it_is_a_configuration_that_says_the_same(
        self, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config.write_text(
            config.read_text().replace("me:open-sesame@", "")
            + '[language.libraries]\nBR3 = "fr-CA"\n[[policy.limits]]\nprofile = "Juvenile"\nlimit = "none"\n'
        )
        run(["config", "show"])
        copy = tmp_path / "copy.toml"
        copy.write_text(capsys.readouterr().out)
        former, again = load.load(config, {}), load.load(copy, {})
        assert (again.report, again.policy, again.language, again.reports, again.gateway) == (
            *(former.report, former.policy, former.language, former.reports, former.gateway),
        )

    def test_what_is_changed_and_what_is_named(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run(["config", "show", "--changed", "report", "gateway.url"])
        rows = [row for row in capsys.readouterr().out.splitlines() if row]
        assert [row.split(" ")[0] for row in rows] == ["#", "[gateway]", "url", "[report]", "orgs", "top"]

    def test_as_json(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run(["config", "show", "--json"])
        document = json.loads(capsys.readouterr().out)
        values = {value["key"]: value for value in document["values"]}
        assert values["report.top"] == {
            **{"key": "report.top", "table": None, "value": 3, "secret": False, "changed": True, "default": None},
            "origin": {"file": str(config), "line": 7, "variable": None},
        }
        assert values["policy.limit"]["value"] == "5.00"
        assert values["gateway.password"]["value"] == "***"
        assert SECRET not in json.dumps(document)

    def test_a_name_that_is_none_is_refused_with_the_nearest(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["config", "show", "report.min_totl"]) == exit_status.USAGE
        assert "did you mean report.min_total?" in capsys.readouterr().err
        assert run(["config", "show", "min_total"]) == exit_status.USAGE
        assert "did you mean report.min_total?" in capsys.readouterr().err

    def test_invalid_values_do_not_hide_the_rest(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config.write_text("[report]\ntop = 3\nmin_total = 0\n")
        assert run(["config", "show", "report"]) == exit_status.CONFIGURATION
        shown = capsys.readouterr()
        assert "# line 2" in shown.out
        assert "the configuration has 1 error: run `evergreen-groups config check`" in shown.err


class TestCheck:
    @pytest.fixture(autouse=True)
    def _wide(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "500")  # however long the test directory's path is
        config.write_text(config.read_text().replace(f"me:{SECRET}@", ""))

    def test_what_is_right(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["config", "check"]) == exit_status.DONE
        assert capsys.readouterr().out == f"{config}: The settings are valid.\n"
        assert run(["--quiet", "config", "check"]) == exit_status.DONE
        assert capsys.readouterr().out == ""

    def test_all_faults_at_once(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config.write_text(
            '[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\npassword_file = "/nowhere/password"\n'
            'ca_bundle = "/nowhere/ca.pem"\n[report]\nmin_totl = 3\noutput = "/nowhere/report.html"\n'
            '[mail]\nhost = "mail.example.org"\n[mail.recipients]\n"*" = ["a@example.org"]\n'
        )
        assert run(["config", "check"]) == exit_status.CONFIGURATION
        shown = capsys.readouterr().out
        found = [line for line in shown.splitlines() if line[0] != " "]
        assert [line.partition(": ")[0] for line in found[:-1]] == [*(f"{config}:{line}" for line in (7, 4, 5, 8, 9))]
        assert "did you mean min_total?" in shown
        assert "set sender in [mail]" in shown
        assert found[-1] == "failed: 5."

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('url = "https://a.example.org"\nurl = "b"\n', ["not valid TOML: a key is there twice (at line 3"]),
            ("url = https://ils.example.org\n", [": not valid TOML", "line 2"]),
            ('[state]\ndatabase = "mysql://x"\n', ["[state] database isn't a valid address"]),
            ('[redis]\nurl = "localhost"\n', ["[redis] url isn't a valid address"]),
            ('[metrics]\ntextfile = "/tmp/x.txt"\n', ['[metrics] textfile: "/tmp/x.txt" isn\'t allowed']),
            (
                '[[policy.limits]]\nprofil = "Juvenile"\nlimit = 2\n',
                ['[policy] limits: "profil" isn\'t allowed → allowed: limit, with profile, library or both'],
            ),
        ],
    )
    def test_one_fault(self, config: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]) -> None:
        config.write_text(f"[gateway]\n{text}")
        assert run(["config", "check"]) == exit_status.CONFIGURATION
        shown = " ".join(capsys.readouterr().out.split())
        assert [word for word in words if word not in shown] == []

    @pytest.mark.parametrize("is_named", [True, False])
    def test_one_that_is_not_there(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_named: bool
    ) -> None:
        config.unlink()
        if not is_named:
            monkeypatch.delenv("EVERGREEN_GROUPS_CONFIG")
        assert run(["config", "check"]) == exit_status.CONFIGURATION
        shown = " ".join(capsys.readouterr().out.split())
        assert (f"no configuration file at {config}" in shown) == is_named
        assert "evergreen-groups init" in shown

    def test_as_json(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config.write_text(f"{config.read_text()}speed = 1\n")
        assert run(["config", "check", "--json"]) == exit_status.CONFIGURATION
        document = json.loads(capsys.readouterr().out)
        assert (document["right"], document["file"]) == (False, str(config))
        [finding] = document["findings"]
        assert (finding["verdict"], finding["code"]) == ("failed", "unknown-setting-of-report")
        assert finding["origin"] == {"file": str(config), "line": 13, "variable": None}

    def test_a_wrong_setting_is_not_missing_as_well(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config.write_text(f'{config.read_text()}[mail]\nsender = "nobody"\nhost = "mail.example.org"\n')
        run(["config", "check"])
        assert "in [mail]" not in capsys.readouterr().out.replace("set recipients in [mail]", "")

    def test_one_that_only_serves_is_right(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config.write_text('[gateway]\nurl = "https://ils.example.org"\n')
        assert run(["config", "check"]) == exit_status.DONE
        assert "warning: " in capsys.readouterr().out


def test_doctor_finds_every_fault_as_well(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("[report]\ntop = 0\nmin_total = 0\n")
    assert run(["--quiet", "doctor"]) == exit_status.UNWELL
    shown = "".join(capsys.readouterr().out.split())  # the table wraps a long path
    assert "config.toml:2:[report]top" in shown
    assert "config.toml:3:[report]min_total" in shown


def test_the_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_XYZ", "1")  # works even when the configuration is invalid
    assert run(["config", "example"]) == exit_status.DONE
    assert capsys.readouterr().out == example()


@pytest.mark.parametrize("command", [("report",), ("show", "1"), ("audit",), ("move", "1", "--to", "2"), ("serve",)])
def test_without_a_configuration_init_is_named_first(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "LANGUAGE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    assert run(command) == exit_status.CONFIGURATION
    assert capsys.readouterr().err.splitlines()[-1] == (
        "evergreen-groups: no configuration found; run `evergreen-groups init`, name a file with --config, or try "
        "--sandbox"
    )


def test_a_variable_with_a_typing_error_is_refused_by_every_command(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_MIN_TOTL", "30")
    for command in (["status"], ["journal"], ["--sandbox", "report"], ["serve"], ["state", "check"]):
        assert run(command) == exit_status.CONFIGURATION
        assert "did you mean $EVERGREEN_GROUPS_REPORT_MIN_TOTAL?" in capsys.readouterr().err
