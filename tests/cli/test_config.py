"""``evergreen-groups config``: each value with its source, all errors at once, and a valid example."""

import json
from collections.abc import Callable
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


Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Run the command, and return what it has written to standard output and error."""

    def told(*words: str, status: int = exit_status.DONE) -> str:
        assert run(words) == status
        return "".join(capsys.readouterr())

    return told


class TestShow:
    def test_each_value_with_its_source(self, config: Path, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
        monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_MIN_TOTAL", "30")
        rows = [" ".join(row.split()) for row in told("config", "show").splitlines()]
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

    def test_it_is_a_configuration_that_says_the_same(self, config: Path, tmp_path: Path, told: Told) -> None:
        config.write_text(
            config.read_text().replace("me:open-sesame@", "")
            + '[language.libraries]\nBR3 = "fr-CA"\n[[policy.limits]]\nprofile = "Juvenile"\nlimit = "none"\n'
        )
        copy = tmp_path / "copy.toml"
        copy.write_text(told("config", "show"))
        former, again = load.load(config, {}), load.load(copy, {})
        assert (again.report, again.policy, again.language, again.reports, again.gateway) == (
            *(former.report, former.policy, former.language, former.reports, former.gateway),
        )

    def test_what_is_changed_and_what_is_named(self, config: Path, told: Told) -> None:
        rows = [row for row in told("config", "show", "--changed", "report", "gateway.url").splitlines() if row]
        assert [row.split(" ")[0] for row in rows] == ["#", "[gateway]", "url", "[report]", "orgs", "top"]

    def test_as_json(self, config: Path, told: Told) -> None:
        document = json.loads(told("config", "show", "--json"))
        values = {value["key"]: value for value in document["values"]}
        assert values["report.top"] == {
            **{"key": "report.top", "table": None, "value": 3, "secret": False, "changed": True, "default": None},
            "origin": {"file": str(config), "line": 7, "variable": None},
        }
        assert values["policy.limit"]["value"] == "5.00"
        assert values["gateway.password"]["value"] == "***"
        assert SECRET not in json.dumps(document)

    def test_a_name_that_is_none_is_refused_with_the_nearest(self, config: Path, told: Told) -> None:
        assert "did you mean report.min_total?" in told("config", "show", "report.min_totl", status=exit_status.USAGE)
        assert "did you mean report.min_total?" in told("config", "show", "min_total", status=exit_status.USAGE)

    def test_invalid_values_do_not_hide_the_rest(self, config: Path, told: Told) -> None:
        config.write_text("[report]\ntop = 3\nmin_total = 0\n")
        shown = told("config", "show", "report", status=exit_status.CONFIGURATION)
        assert "# line 2" in shown
        assert "the configuration has 1 error: run `evergreen-groups config check`" in shown


class TestCheck:
    @pytest.fixture(autouse=True)
    def _wide(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "500")  # however long the test directory's path is
        config.write_text(config.read_text().replace(f"me:{SECRET}@", ""))

    def test_what_is_right(self, config: Path, told: Told) -> None:
        assert told("config", "check") == f"{config}: The settings are valid.\n"
        assert told("--quiet", "config", "check") == ""

    def test_all_faults_at_once(self, config: Path, told: Told) -> None:
        config.write_text(
            '[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\npassword_file = "/nowhere/password"\n'
            'ca_bundle = "/nowhere/ca.pem"\n[report]\nmin_totl = 3\noutput = "/nowhere/report.html"\n'
            '[mail]\nhost = "mail.example.org"\n[mail.recipients]\n"*" = ["a@example.org"]\n'
        )
        shown = told("config", "check", status=exit_status.CONFIGURATION)
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
    def test_one_fault(self, config: Path, told: Told, text: str, words: list[str]) -> None:
        config.write_text(f"[gateway]\n{text}")
        shown = " ".join(told("config", "check", status=exit_status.CONFIGURATION).split())
        assert [word for word in words if word not in shown] == []

    @pytest.mark.parametrize("is_named", [True, False])
    def test_one_that_is_not_there(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, told: Told, is_named: bool
    ) -> None:
        config.unlink()
        if not is_named:
            monkeypatch.delenv("EVERGREEN_GROUPS_CONFIG")
        shown = " ".join(told("config", "check", status=exit_status.CONFIGURATION).split())
        assert (f"no configuration file at {config}" in shown) == is_named
        assert "evergreen-groups init" in shown

    def test_as_json(self, config: Path, told: Told) -> None:
        config.write_text(f"{config.read_text()}speed = 1\n")
        document = json.loads(told("config", "check", "--json", status=exit_status.CONFIGURATION))
        assert (document["right"], document["file"]) == (False, str(config))
        [finding] = document["findings"]
        assert (finding["verdict"], finding["code"]) == ("failed", "unknown-setting")
        assert finding["origin"] == {"file": str(config), "line": 13, "variable": None}

    def test_a_wrong_setting_is_not_missing_as_well(self, config: Path, told: Told) -> None:
        config.write_text(f'{config.read_text()}[mail]\nsender = "nobody"\nhost = "mail.example.org"\n')
        shown = told("config", "check", status=exit_status.CONFIGURATION)
        assert "in [mail]" not in shown.replace("set recipients in [mail]", "")

    def test_a_kind_of_bill_that_looks_misspelled(self, config: Path, told: Told) -> None:
        """It may be a billing type, which only Evergreen knows."""
        config.write_text(f'{config.read_text()}kinds = ["lost material", "Tote bag", "damage"]\n')
        shown = " ".join(told("config", "check").split())
        assert f'{config}:10: "lost material" may be misspelled → did you mean lost materials?' in shown
        assert shown.endswith("warning: 1.")

    def test_one_that_only_serves_is_right(self, config: Path, told: Told) -> None:
        config.write_text('[gateway]\nurl = "https://ils.example.org"\n')
        assert "warning: " in told("config", "check")


def test_doctor_finds_every_fault_as_well(config: Path, told: Told) -> None:
    config.write_text("[report]\ntop = 0\nmin_total = -1\n")
    shown = "".join(told("--quiet", "doctor", status=exit_status.UNWELL).split())  # the table wraps a long path
    assert "config.toml:2:[report]top" in shown
    assert "config.toml:3:[report]min_total" in shown


def test_the_example(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_XYZ", "1")  # works even when the configuration is invalid
    assert told("config", "example") == example()


@pytest.mark.parametrize("command", [("report",), ("show", "1"), ("audit",), ("move", "1", "--to", "2"), ("serve",)])
def test_without_a_configuration_init_is_named_first(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "LANGUAGE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    assert told(*command, status=exit_status.CONFIGURATION).splitlines()[-1] == (
        "evergreen-groups: no configuration found; run `evergreen-groups init`, name a file with --config, or try "
        "--sandbox"
    )


def test_a_variable_with_a_typing_error_is_refused_by_every_command(
    config: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_MIN_TOTL", "30")
    for command in (["status"], ["journal"], ["--sandbox", "report"], ["serve"], ["state", "check"]):
        said = told(*command, status=exit_status.CONFIGURATION)
        assert "did you mean $EVERGREEN_GROUPS_REPORT_MIN_TOTAL?" in said
