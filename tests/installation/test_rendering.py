"""The files of ``config/``: unchanged for the default paths, and filled in for others."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation import RENDERED, Machine, data_text, render_file, render_files
from evergreen_groups.installation.instances import further_files, render_balancer
from evergreen_groups.settings import reading as load

CONFIG = REPOSITORY / "config"
REPORT = "systemd/evergreen-groups-report.service"
SERVICE = "systemd/evergreen-groups.service"
BACKUP = "systemd/evergreen-groups-backup.service"
SOCKET = "systemd/evergreen-groups.socket"
CRONTAB = "cron.d/evergreen-groups"
APACHE = "apache/evergreen-groups.conf"
BALANCER = "apache/evergreen-groups-balancer.conf"
EVENTS = "evergreen/action-trigger.sql"
PERMISSIONS = "evergreen/permissions.sql"


def machine(root: Path, configuration: str, **files: str) -> Machine:
    """Return a machine under ``root`` with this configuration and more files (``mail_password``: mail-password)."""
    directory = root / "etc" / "evergreen-groups"
    directory.mkdir(mode=0o700, parents=True)
    for name, text in files.items():
        (directory / name.replace("_", "-")).write_text(text)
    (directory / "config.toml").write_text(configuration)
    return Machine(
        program=Path("/usr/local/bin/evergreen-groups"),
        panel_script=Path("/usr/lib/evergreen_groups/panel.js"),
        settings=load.load(directory / "config.toml", {}),
        root=root,
    )


def unit(text: str) -> dict[str, list[str]]:
    """Return a unit's settings: each name with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


GATEWAY = '[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\n'


def further(here: Machine, instances: int) -> dict[str, dict[str, list[str]]]:
    """Return the units of further instances, by file name."""
    return {path.name: unit(text) for path, text in further_files(here, instances) if path.parent.name == "system"}


def test_each_instance_has_a_port_and_follows_the_first() -> None:
    before = unit((CONFIG / SERVICE).read_text("utf-8"))
    after = further(Machine(), 2)["evergreen-groups@8212.service"]
    assert {name: after[name] for name in after if before.get(name) != after[name]} == {
        "Requires": ["evergreen-groups@8212.socket"],
        "Also": ["evergreen-groups@8212.socket"],
        "PartOf": ["evergreen-groups.service"],
        "ReloadPropagatedFrom": ["evergreen-groups.service"],
        "WantedBy": ["evergreen-groups.service"],
    }
    assert before.keys() <= after.keys()
    before = unit((CONFIG / SOCKET).read_text("utf-8"))
    after = further(Machine(), 2)["evergreen-groups@8212.socket"]
    assert {name: after[name] for name in after if before.get(name) != after[name]} == {
        "ListenStream": ["127.0.0.1:8212"],
        "PartOf": ["evergreen-groups.socket"],
    }
    assert further(Machine(), 1) == {}


def test_instances_have_their_own_ports_for_metrics_too(tmp_path: Path) -> None:
    configuration = f'{GATEWAY}[serve]\nhost = "::1"\nport = 9000\n[metrics]\nlisten = "127.0.0.1:9821"\n'
    units = further(machine(tmp_path, configuration, password="x"), 3)
    assert units["evergreen-groups@9002.socket"]["ListenStream"] == ["[::1]:9002"]
    (command,) = units["evergreen-groups@9002.service"]["ExecStart"]
    assert command.endswith("evergreen-groups -v serve --metrics 127.0.0.1:9823")


def test_the_balancer_has_every_instance(tmp_path: Path) -> None:
    assert render_balancer(Machine(), 2) == (CONFIG / BALANCER).read_text("utf-8")
    text = render_balancer(machine(tmp_path, f"{GATEWAY}[serve]\nport = 9000\n", password="x"), 3)
    members = re.findall(r'^ *BalancerMember "http://(\S+)"', text, re.MULTILINE)
    assert members == ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"]


def test_the_backup_gets_the_password_of_the_database_alone(tmp_path: Path) -> None:
    configuration = f'{GATEWAY}[mail]\nhost = "mail"\n[state]\ndatabase = "postgresql+psycopg://g@db/g"\n'
    text = render_file(BACKUP, machine(tmp_path, configuration, password="x", database_password="x", mail_password="x"))
    assert [line.partition(":")[0] for line in unit(text)["LoadCredential"]] == ["config.toml", "database_password"]


@pytest.mark.parametrize("name", RENDERED)
def test_for_the_default_paths_a_part_is_the_file_in_config(name: str) -> None:
    for _, source in RENDERED[name]:
        assert render_file(source, Machine()) == (CONFIG / source).read_text("utf-8") == data_text(source)


def test_every_file_of_config_can_be_shown() -> None:
    files = {
        path.relative_to(CONFIG).as_posix() for path in CONFIG.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    shown = {source for rendered in RENDERED.values() for _, source in rendered}
    assert files - shown == {"evergreen-groups.toml"}


def test_several_files_are_shown_with_their_paths() -> None:
    assert re.findall("^(?:#|--) ---- (.+) ----$", render_files("nightly", Machine()), re.MULTILINE) == [
        "/etc/systemd/system/evergreen-groups-report.service",
        "/etc/systemd/system/evergreen-groups-report.timer",
    ]
    everything = render_files("all", Machine())
    assert all(
        (CONFIG / source).read_text("utf-8") in everything
        for name, rendered in RENDERED.items()
        for _, source in rendered
        if name != "dashboard"  # JSON, and shown alone
    )


def test_a_part_that_did_not_come_along_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="is missing from the installed package"):
        data_text("systemd/no.service")


def test_the_reports_unit_has_the_password_that_is_there(tmp_path: Path) -> None:
    found = unit(render_file(REPORT, machine(tmp_path, GATEWAY, password="x")))
    assert found["LoadCredential"] == [
        "config.toml:/etc/evergreen-groups/config.toml",
        "password:/etc/evergreen-groups/password",
    ]
    assert found["Environment"] == [
        "EVERGREEN_GROUPS_CONFIG=%d/config.toml",
        "EVERGREEN_GROUPS_GATEWAY_PASSWORD_FILE=%d/password",
        "MALLOC_ARENA_MAX=1",
        "MALLOC_MMAP_THRESHOLD_=65536",
    ]
    assert found["ExecStart"] == [
        "/usr/local/bin/evergreen-groups --quiet report --scheduled --split library "
        "--output %S/evergreen-groups/reports"
    ]
    assert "ReadWritePaths" not in found
    parser = ConfigParser(strict=False, interpolation=None)
    parser.read_string(render_file(REPORT, machine(tmp_path / "again", GATEWAY, password="x")))


def test_with_mail_in_the_configuration_the_unit_mails(tmp_path: Path) -> None:
    configuration = (
        f'{GATEWAY}password_file = "/etc/evergreen-groups/password"\n[mail]\nhost = "mail.example.org"\n'
        'username = "groups"\nsender = "groups@example.org"\n[mail.recipients]\n"*" = ["d@example.org"]\n'
        '[state]\ndatabase = "postgresql+psycopg://groups@db/groups"\n[redis]\nurl = "redis://db/1"\n'
    )
    here = machine(tmp_path, configuration, password="x", mail_password="x", database_password="x", redis_password="x")
    found = unit(render_file(REPORT, here))
    assert found["ExecStart"][0].endswith("/reports --mail")
    names = ["config.toml", "password", "database_password", "mail_password"]
    assert [value.partition(":")[0] for value in found["LoadCredential"]] == names
    assert "EVERGREEN_GROUPS_MAIL_PASSWORD_FILE=%d/mail_password" in found["Environment"]
    served = unit(render_file(SERVICE, here))
    assert [value.partition(":")[0] for value in served["LoadCredential"]] == [
        *("config.toml", "database_password", "redis_password")
    ]


def test_the_services_unit_has_password_and_secret_where_it_takes_events(tmp_path: Path) -> None:
    configuration = f'{GATEWAY}[events]\nsecret_file = "/etc/evergreen-groups/the-secret"\n'
    text = render_file(SERVICE, machine(tmp_path, configuration, password="x", the_secret="x"))
    found = unit(text)
    checked = "+/usr/local/bin/evergreen-groups --config /etc/evergreen-groups/config.toml config check"
    assert found["ExecReload"] == [checked, "/bin/kill -TERM $MAINPID"]
    assert "EVERGREEN_GROUPS_CONFIG=%d/config.toml" in found["Environment"]
    assert found["LoadCredential"] == [
        "config.toml:/etc/evergreen-groups/config.toml",
        "password:/etc/evergreen-groups/password",
        "events_secret:/etc/evergreen-groups/the-secret",
    ]
    assert "# LoadCredential" not in text
    assert "%d/events_secret" in " ".join(found["Environment"])


def test_certificates_that_others_may_not_read_are_handed_over(tmp_path: Path) -> None:
    configuration = f'{GATEWAY}ca_bundle = "/etc/evergreen-groups/ca.pem"\n'
    here = machine(tmp_path, configuration, password="x", **{"ca.pem": "x"})
    found = unit(render_file(SERVICE, here))
    assert "gateway_ca_bundle:/etc/evergreen-groups/ca.pem" in found["LoadCredential"]
    assert "EVERGREEN_GROUPS_GATEWAY_CA_BUNDLE=%d/gateway_ca_bundle" in found["Environment"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("", "unit-without-password"),
        ('password_file = "/etc/evergreen-groups/other"\n', "unit-file-missing"),
        ('password_file = "/etc/evergreen-groups/pass word"\n', "path-unusual"),
        ('ca_bundle = "ca.pem"\n', "path-unusual"),
    ],
)
def test_a_unit_that_would_not_start_is_refused(tmp_path: Path, more: str, code: str) -> None:
    here = machine(tmp_path, GATEWAY + more)
    with pytest.raises(ConfigurationError) as raised:
        render_file(REPORT, here)
    assert raised.value.code == code


def test_a_configured_output_is_left_to_the_configuration(tmp_path: Path) -> None:
    configuration = f'{GATEWAY}[report]\noutput = "/srv/reports/today.html"\n'
    here = machine(tmp_path, configuration, password="x")
    with pytest.raises(ConfigurationError, match="/srv/reports"):
        render_file(REPORT, here)
    (tmp_path / "srv" / "reports").mkdir(parents=True)
    found = unit(render_file(REPORT, here))
    assert found["ExecStart"] == ["/usr/local/bin/evergreen-groups --quiet report --scheduled"]
    assert found["ReadWritePaths"] == ["/srv/reports"]
    assert " --quiet report --scheduled;" in render_file(CRONTAB, here)


def test_the_line_for_cron_names_what_the_configuration_does_not(tmp_path: Path) -> None:
    lines = render_file(CRONTAB, machine(tmp_path, GATEWAY, password="x")).splitlines()
    at = lines.index("STATE_DIRECTORY=/var/lib/evergreen-groups")
    assert lines[at + 1] == "EVERGREEN_GROUPS_GATEWAY_PASSWORD_FILE=/etc/evergreen-groups/password"
    assert (
        " do /usr/local/bin/evergreen-groups --quiet report --scheduled --split library --output /var/lib" in lines[-1]
    )


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:9000"),
        ("0.0.0.0", "0.0.0.0:9000"),
        ("::", "[::]:9000"),
        ("::1", "[::1]:9000"),
        ("no.such.host.invalid", "no.such.host.invalid:9000"),
    ],
)
def test_the_socket_listens_at_the_configured_address(tmp_path: Path, host: str, address: str) -> None:
    configuration = f'{GATEWAY}[serve]\nhost = "{host}"\nport = 9000\n'
    text = render_file(SOCKET, machine(tmp_path, configuration, password="x"))
    assert unit(text)["ListenStream"] == [address]


def test_a_host_name_is_looked_up_for_the_socket(tmp_path: Path) -> None:
    text = render_file(SOCKET, machine(tmp_path, f'{GATEWAY}[serve]\nhost = "localhost"\n', password="x"))
    assert unit(text)["ListenStream"][0] in ("127.0.0.1:8211", "[::1]:8211")


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:9000"), ("0.0.0.0", "127.0.0.1:9000"), ("::1", "[::1]:9000")]
)
def test_apache_hands_on_to_where_the_service_listens(tmp_path: Path, host: str, address: str) -> None:
    here = machine(tmp_path, f'{GATEWAY}[serve]\nhost = "{host}"\nport = 9000\n')
    assert f'"http://{address}/evergreen-groups/" connectiontimeout' in render_file(APACHE, here)
    assert 'Alias "/evergreen-groups/panel.js" "/usr/lib/evergreen_groups/panel.js"' in render_file(APACHE, here)
    assert f'BalancerMember "http://{address}"' in render_file(BALANCER, here)
    assert f"\\set url http://{address}/evergreen-groups/events" in render_file(EVENTS, here)


def test_the_account_gets_the_rights_that_the_configuration_needs(tmp_path: Path) -> None:
    configuration = f'{GATEWAY}[report]\ndetails = "sums"\n[policy]\nlimit = "ils"\n[events]\nrecalculate = true\n'
    text = render_file(PERMISSIONS, machine(tmp_path, configuration))
    for line in (
        "\\if :{?account} \\else \\set account 'groups' \\endif",
        "\\if :{?details} \\else \\set details 0 \\endif",
        "\\if :{?ils_limits} \\else \\set ils_limits 1 \\endif",
        "\\if :{?recalculate} \\else \\set recalculate 1 \\endif",
        "\\if :{?changes} \\else \\set changes 0 \\endif",
    ):
        assert line in text
