"""Configuration from file and environment, with errors that name the key, the value and the allowed values."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.policy import Comparison, LimitRule
from evergreen_groups.settings import GatewaySettings, Settings, declared, passwords
from evergreen_groups.settings import reading as load
from evergreen_groups.settings.reading import lines_of
from evergreen_groups.settings.sections import EventsSettings


def written(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_amounts_in_toml_are_exact(tmp_path: Path) -> None:
    path = written(tmp_path, "[policy]\nlimit = 5.10\n[report]\nmin_total = 1000\n")
    settings = load.load(path, {})
    assert settings.policy.limit == Decimal("5.10")
    assert str(settings.report.min_total) == "1000.00"


def test_limits_by_profile_and_library(tmp_path: Path) -> None:
    text = """
[policy]
limit = "ils"
[[policy.limits]]
profile = "Juvenile"
library = "BR1"
limit = 2.50
comparison = "reaches"
[[policy.limits]]
library = "BR2"
limit = "none"
"""
    policy = load.load(written(tmp_path, text), {}).policy
    assert policy.limit == "ils"
    assert policy.limits == (
        LimitRule("Juvenile", "BR1", Decimal("2.50"), Comparison.REACHES),
        LimitRule(None, "BR2", None),
    )
    with pytest.raises(ConfigurationError, match="one limit for all patrons"):
        policy.as_limit()


@pytest.mark.parametrize(
    ("main", "named", "found"),
    [
        ("", "", ("25.00", 0, 0, 0)),
        ("min_overdue = 3", "", ("0.00", 3, 0, 0)),
        ("min_overdue = 3\nmin_total = 40", "", ("40.00", 3, 0, 0)),
        ("min_overdue = 3\noverdue_days = 9\nmin_total = 40", "min_lost = 1", ("0.00", 0, 1, 0)),
        ("min_overdue = 3", "min_total = 10", ("10.00", 0, 0, 0)),
        ("owing_since = 60", "min_overdue = 2", ("0.00", 2, 0, 0)),
        ("min_overdue = 3", "min_overdue = 0", ("25.00", 0, 0, 0)),
    ],
)
def test_conditions_replace_all_those_from_above(
    tmp_path: Path, main: str, named: str, found: tuple[str, int, int, int]
) -> None:
    text = f'[report]\n{main}\n[[reports]]\nname = "a"\noutput = "/a.json"\n{named}\n'
    (one,) = load.load(written(tmp_path, text), {}).reports
    report = one.report
    assert (str(report.min_total), report.min_overdue, report.min_lost, report.overdue_days) == found
    assert report.owing_since is None


def test_the_environment_outweighs_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[report]\nmin_total = 30.00\norgs = ["BR1"]\n')
    environ = {"EVERGREEN_GROUPS_REPORT_MIN_TOTAL": "40", "EVERGREEN_GROUPS_REPORT_ORGS": "BR2, BR3"}
    settings = load.load(path, environ)
    assert settings.report.min_total == Decimal("40.00")
    assert settings.report.orgs == ("BR2", "BR3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[gateway]\nurl = "ftp://x"', ["[gateway] url", "ftp://x", "https://"]),
        ('[gateway]\nurl = "https://me:secret@x"', ["[gateway] url", "without a user name or password"]),
        ("[gateway]\ntimeout = true", ["[gateway] timeout", "1 to 600"]),
        ('[gateway]\nallow_plain_http = "maybe"', ["allow_plain_http", "maybe", "true or false"]),
        ('[gateway]\nlocale = "e n"', ["locale", "en-US"]),
        ("[serve]\nthreads = 1", ["[serve] threads", "2 to 64"]),
        ('[serve]\norigin = "https://ils.example.org/eg2"', ["[serve] origin", "without a path"]),
        ('[serve]\norigin = "ils.example.org"', ["[serve] origin", "https://evergreen.example.org"]),
        ('[serve]\ntrusted_proxies = ["10.0.0.1/8"]', ["trusted_proxies", "host bits"]),
        ('[events]\nallow = "localhost"', ["[events] allow", "127.0.0.1"]),
        ("[events]\nallow = 5", ["[events] allow", "a list such as"]),
        ("[policy]\nlimit = -1", ["[policy] limit", "-1", "0.00 or more"]),
        ("[policy]\nlimit = 5.005", ["[policy] limit", "5.005", "two decimal places"]),
        ("[policy]\nlimit = nan", ["[policy] limit", "NaN"]),
        ('[policy]\nlimit = "ILS"', ["[policy] limit", '"none"; or "ils"']),
        ("[policy]\nlimits = 5", ["[policy] limits", "[[policy.limits]]"]),
        ("[[policy.limits]]\nlimit = 1", ["[policy] limits", "profile, library or both", "[[policy.limits]] 1"]),
        ('[[policy.limits]]\nprofile = "A"', ["limit, with profile, library or both", "[[policy.limits]] 1"]),
        ('[[policy.limits]]\nlimit = 1\nprofile = "A"\nhome = 3', ["limit, with profile, library", '"home"']),
        ('[[policy.limits]]\nlimit = "ils"\nprofile = "A"', ["an amount", '"none"', "[[policy.limits]] 1"]),
        ('[[policy.limits]]\nlimit = 1\nprofile = ""', ["text that isn't empty", "[[policy.limits]] 1"]),
        ('[[policy.limits]]\nlimit = 1\nlibrary = "A"\ncomparison = "at"', ["exceeds", "[[policy.limits]] 1"]),
        ('[[policy.limits]]\nlimit = 1\nlibrary = "A"\n' * 2, ["one table per", "[[policy.limits]] 2"]),
        ('[policy]\ncomparison = "over"', ["comparison", "over", "exceeds"]),
        ("[report]\nmin_total = 0", ["would list nothing", "min_overdue or min_lost"]),
        ("[report]\norgs = [1]", ["orgs", '["BR1", "BR2"]']),
        ('[report]\nformat = "pdf"', ["format", "pdf", "table, csv, json, html"]),
        ("[report\n", ["not valid TOML"]),
        ("reports = 5", ["reports must be [[reports]] tables"]),
        ('[[reports]]\noutput = "x.json"', ["[[reports]] 1 needs a name"]),
        ('[[reports]]\nname = "a"', ["an output or recipients"]),
        ('[[reports]]\nname = "a b"\noutput = "x.json"', ["[[reports]] 1 name", "isn't allowed"]),
        ('[[reports]]\nname = "a"\noutput = "x.json"\ndeadline = 5', ["[[reports]] 1 deadline: unknown key"]),
        ('[[reports]]\nname = "a"\noutput = "x.json"\nmin_total = -5', ["[[reports]] 1 min_total", "isn't allowed"]),
        ('[[reports]]\nname = "a"\noutput = "x"\n[[reports]]\nname = "A"\noutput = "y"', ["2: another report"]),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load.load(written(tmp_path, text), {})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "setting", "code", "advice"),
    [
        ("[gateway]\ntimeout = 0", "gateway.timeout", "setting-not-allowed", "allowed: a whole number from 1 to 600"),
        ("[gateway]\nspeed = 1", "gateway.speed", "unknown-setting", "allowed: url, username"),
        ('[events]\nsecret = "x"', "events.secret_file", "secret-in-configuration", "put it in a file"),
        ("[post]\nhost = 1", None, "unknown-section", "allowed: [gateway], [policy]"),
        ("[reprot]\ntop = 1", None, "unknown-section", "did you mean [report]?"),
        ('gateway = "https://ils"', None, "unknown-section", "did you mean [gateway] url?"),
        ('username = "staff"', None, "unknown-section", "did you mean [gateway] username?"),
        ('[mail]\nattach = "csv"', "mail.attach", "names-in-mail", "set names_in_mail = true"),
        ("[report\n", None, "configuration-invalid", ""),
    ],
)
def test_a_bad_setting_is_named_in_fields(
    tmp_path: Path, text: str, setting: str | None, code: str, advice: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load.load(written(tmp_path, text), {})
    assert (caught.value.setting, caught.value.code) == (setting, code)
    assert caught.value.what_to_do.startswith(advice)


def test_what_is_secret_is_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set password_file to its path") as caught:
        load.load(written(tmp_path, '[gateway]\npassword = "open-sesame"'), {})
    assert "open-sesame" not in f"{caught.value} {caught.value.values}"


def test_the_order_of_the_files(tmp_path: Path) -> None:
    own = tmp_path / "xdg" / "evergreen-groups"
    own.mkdir(parents=True)
    (own / "config.toml").write_text("")
    named, by_variable = written(tmp_path, ""), tmp_path / "variable.toml"
    by_variable.write_text("")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    assert load.find_file(None, environ) == own / "config.toml"
    environ["EVERGREEN_GROUPS_CONFIG"] = str(by_variable)
    assert load.find_file(None, environ) == by_variable
    assert load.find_file(named, environ) == named


def test_a_password_file_open_to_everybody_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret-word\n")
    path.chmod(0o604)
    settings = GatewaySettings(password_file=path)
    with pytest.raises(ConfigurationError, match=r"other users have access to .*; chmod 600"):
        passwords.password(settings, {})
    path.chmod(0o640)
    assert passwords.password(settings, {}) == "secret-word"


def test_what_is_checked_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others can read is swapped for a private one right after it was opened."""
    file, private = tmp_path / "password", tmp_path / "private"
    for path, mode in ((file, 0o644), (private, 0o600)):
        path.write_text("secret")
        path.chmod(mode)
    opened = Path.open

    def exchanged(path: Path, *arguments: object, **more: object) -> object:
        stream = opened(path, *arguments, **more)  # type: ignore[call-overload]  # handed on as it comes
        private.replace(file)
        return stream

    monkeypatch.setattr(Path, "open", exchanged)
    with pytest.raises(ConfigurationError, match="other users have access to"):
        passwords.password(GatewaySettings(password_file=file), {})


def test_where_the_password_comes_from(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from systemd\n")
    settings = GatewaySettings()
    assert passwords.password(settings, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "from systemd"
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "EVERGREEN_GROUPS_PASSWORD": "from the environment"}
    assert passwords.password(settings, environ) == "from the environment"
    with pytest.raises(ConfigurationError, match="no password is set; set password_file"):
        passwords.password(settings, {})


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"\xff\xfe", "isn't UTF-8")])
def test_a_useless_password_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=message):
        passwords.password(GatewaySettings(password_file=path), dict(os.environ, EVERGREEN_GROUPS_PASSWORD=""))


def test_a_password_variable_that_is_no_text() -> None:
    """Invalid UTF-8 in the environment becomes lone surrogates, which can't be sent."""
    environ = {"EVERGREEN_GROUPS_PASSWORD": os.fsdecode(b"na\xefve-secret")}
    with pytest.raises(ConfigurationError, match=r"\$EVERGREEN_GROUPS_PASSWORD isn't UTF-8 text") as caught:
        passwords.password(GatewaySettings(), environ)
    assert "secret" not in str(caught.value).replace("set", "")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://ILS.example.org", "https://ils.example.org"),
        ("https://ils.example.org:443/", "https://ils.example.org"),
        ("http://ils.example.org:443", "http://ils.example.org:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_browsers_do(text: str, origin: str) -> None:
    assert load.load(None, {"EVERGREEN_GROUPS_SERVE_ORIGIN": text}).serve.origin == origin


def test_a_secret_may_be_missing_but_not_short(tmp_path: Path) -> None:
    assert passwords.secret(EventsSettings(), {}) is None
    file = tmp_path / "events_secret"
    file.write_text("too-short")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="16 characters"):
        passwords.secret(EventsSettings(secret_file=file), {})


class TestLines:
    """Each error names its line."""

    TEXT = """\
# what we list
[report]
orgs = [
  "BR1",   # the [main] one
  "BR2",
]
min_totl = 30.00

[mail]
attach = "csv"

[[policy.limits]]
profile = "Juvenile"
limit = 2.50

[[reports]]
name = "old"
output = "/tmp/old"
[[reports]]
name = "other"
output = "/tmp/other"
sort = "names"
[reports.recipients]
"*" = ["a@example.org"]
[gateway]
host = "ils.example.org"
timeout = 0
"""

    def test_every_fault_is_found_with_its_line(self, tmp_path: Path) -> None:
        path = written(tmp_path, self.TEXT)
        faults = load.read(path, {"EVERGREEN_GROUPS_MAIL_PORT": "all"}).faults
        assert [(str(fault.origin), fault.error.code) for fault in faults] == [
            (f"{path}:7", "unknown-setting"),
            (f"{path}:10", "names-in-mail"),
            (f"{path}:22", "setting-not-allowed"),
            (f"{path}:26", "unknown-setting"),
            (f"{path}:27", "setting-not-allowed"),
            ("$EVERGREEN_GROUPS_MAIL_PORT", "setting-not-allowed"),
        ]
        assert all(fault.error.problem.startswith(str(fault.origin)) for fault in faults)

    def test_a_key_of_another_section_is_sent_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"did you mean \[mail\] recipients"):
            load.load(written(tmp_path, '[report]\nrecipients = {"*" = ["a@example.org"]}'), {})

    def test_a_key_below_a_table_is_sent_above_it(self, tmp_path: Path) -> None:
        text = '[mail.recipients]\n"*" = ["a@example.org"]\ntimeout = 9\n[language]\nlibraries.currency = "CAD"\n'
        path = written(tmp_path, text)
        reading = load.read(path, {})
        assert [(fault.error.problem, fault.error.what_to_do) for fault in reading.faults] == [
            (f"{path}:3: [mail.recipients] timeout: unknown key", "did you mean [mail] timeout?"),
            (f"{path}:5: [language.libraries] currency: unknown key", "did you mean [language] currency?"),
        ]
        assert reading.valid_settings.mail.recipients == (("*", ("a@example.org",)),)

    def test_where_values_stand(self, tmp_path: Path) -> None:
        path = written(tmp_path, self.TEXT)
        reading = load.read(path, {"EVERGREEN_GROUPS_REPORT_TOP": "3", "EVERGREEN_GROUPS_REPORT_SORT": ""})
        settings = {setting.key: setting for setting in declared(Settings)}
        places = {key: str(reading.origin(settings[key])) for key in ("report.orgs", "report.top", "report.sort")}
        assert places == {"report.orgs": f"{path}:3", "report.top": "$EVERGREEN_GROUPS_REPORT_TOP", "report.sort": ""}
        assert str(reading.origin(settings["policy.limits"])) == f"{path}:12"
        tables = [str(reading.position("reports", number, "")) for number in range(len(reading.tables))]
        assert tables == [f"{path}:16", f"{path}:19"]

    def test_a_line_is_found_however_toml_writes_it(self) -> None:
        text = 'a.b = 1\r\n"c d" = """\n[x]\ny = 1\n"""\n[ e . "f" ]  # g\n\'h\' = {i = 1, j = {k = 2}}\n'
        text += "[[e.l]]\n[[e.l.m]]\nn=1"
        assert lines_of(text) == {
            **{("a",): 1, ("a", "b"): 1, ("c d",): 2, ("e",): 6, ("e", "f"): 6, ("e", "f", "h"): 7},
            **{("e", "f", "h", "i"): 7, ("e", "f", "h", "j"): 7, ("e", "f", "h", "j", "k"): 7},
            **{("e", "l"): 8, ("e", "l", 0): 8, ("e", "l", 0, "m"): 9, ("e", "l", 0, "m", 0): 9},
            ("e", "l", 0, "m", 0, "n"): 10,
        }


class TestVariables:
    @pytest.mark.parametrize(
        ("variable", "meant"),
        [
            ("EVERGREEN_GROUPS_REPORT_MIN_TOTL", "EVERGREEN_GROUPS_REPORT_MIN_TOTAL"),
            ("EVERGREEN_GROUPS_MIN_TOTAL", "EVERGREEN_GROUPS_REPORT_MIN_TOTAL"),
            ("evergreen_groups_gateway_url", "EVERGREEN_GROUPS_GATEWAY_URL"),
            ("EVERGREEN_GROUPS_GATEWAY_PASSWORD", "EVERGREEN_GROUPS_PASSWORD"),
            ("EVERGREEN_GROUPS_EVENTS_SECRET", "EVERGREEN_GROUPS_EVENTS_SECRET_FILE"),
            ("EVERGREEN_GROUPS_CONFIG_FILE", "EVERGREEN_GROUPS_CONFIG"),
        ],
    )
    def test_an_unknown_one_is_refused_with_the_nearest(self, variable: str, meant: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load.load(None, {"HOME": "/nonexistent", variable: "open-sesame"})
        assert caught.value.code == "unknown-variable"
        assert caught.value.values == {"variable": variable, "meant": meant}
        assert f"${variable}: unknown variable; did you mean ${meant}?" in str(caught.value)
        assert "open-sesame" not in str(caught.value)

    def test_one_that_is_like_no_other_is_refused_as_well(self) -> None:
        with pytest.raises(ConfigurationError, match="unknown variable; unset it"):
            load.load(None, {"EVERGREEN_GROUPS_XYZ": "1"})

    def test_what_is_empty_is_not_set(self) -> None:
        environ = {"EVERGREEN_GROUPS_REPORT_MIN_TOTAL": "", "EVERGREEN_GROUPS_OF_LAST_YEAR": ""}
        assert load.load(None, environ).report.min_total == Decimal("25.00")

    def test_those_that_mean_something_are_known(self) -> None:
        secrets = [setting.secret.variable for setting in declared(Settings) if setting.secret]
        environ = dict.fromkeys(filter(None, secrets), "x") | {"EVERGREEN_GROUPS_LOG_FORMAT": "json"}
        assert load.load(None, environ) == Settings()
