"""Install into a directory in place of the machine's root, and uninstall again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Command

from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.installation import Machine, plan_installation, plan_removal, run_command
from evergreen_groups.installation import plan as installation_plan
from evergreen_groups.installation.files import is_ours, with_digest, without_digest
from evergreen_groups.settings import reading as load

UNITS = Path("etc/systemd/system")
SERVICE = UNITS / "evergreen-groups-report.service"
TIMER = UNITS / "evergreen-groups-report.timer"
BACKUP = {str(UNITS / f"evergreen-groups-backup.{kind}") for kind in ("service", "timer")}


class Root:
    """A directory in place of ``/``, with a configuration, and the commands that work on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "root"
        self.configuration = self.directory / "etc" / "evergreen-groups"
        self.configuration.mkdir(parents=True)
        (self.configuration / "password").write_text("x\n")
        self.configure('[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\n')
        self.command = Command(directory, None)
        del self.command.environ["EVERGREEN_GROUPS_CONFIG"]

    def configure(self, text: str) -> None:
        (self.configuration / "config.toml").write_text(text)

    def __call__(self, *words: str, answer: str = "", status: int = 0) -> str:
        done = self.command(*words, "--root", str(self.directory), answer=answer)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def files(self) -> set[str]:
        return {str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_a_text_is_known_again_until_it_is_changed() -> None:
    text = with_digest("a = 1\nb = 2\n")
    assert is_ours(text)
    assert without_digest(text) == "a = 1\nb = 2\n"
    for changed in (text + "\n", text.replace("1", "2", 1), "a = 1\nb = 2\n", "", f"\n{text}"):
        assert not is_ours(changed)


@pytest.mark.long
def test_what_is_installed_is_shown_asked_for_and_taken_back(root: Root) -> None:
    before = root.files()
    printed = root("install", "nightly", answer="\n", status=130)
    assert "new: /etc/systemd/system/evergreen-groups-report.service" in printed
    assert "LoadCredential=password:/etc/evergreen-groups/password" in printed
    assert "Continue? [y/N]" in printed
    assert root.files() == before
    root("install", "nightly", answer="y\n")
    assert root.files() - before == {str(SERVICE), str(TIMER), *BACKUP}
    assert (root.directory / SERVICE).stat().st_mode & 0o777 == 0o644
    shown = root("install", "--show", "nightly")
    for file in (SERVICE, TIMER):
        assert without_digest((root.directory / file).read_text()) in shown
    assert (root.directory / "var/lib/evergreen-groups").stat().st_mode & 0o777 == 0o700
    assert root("install", "nightly").count("unchanged: /etc/systemd/system/") == 4
    assert "removed: " in root("uninstall", answer="y\n")
    assert root.files() == before
    assert not (root.directory / "var/lib/evergreen-groups").exists()
    assert "Nothing to remove" in root("uninstall")


@pytest.mark.long
def test_what_the_configuration_has_new_is_written_and_what_somebody_changed_is_not(root: Root) -> None:
    root("install", "nightly", "--yes")
    timer = root.directory / TIMER
    timer.write_text(timer.read_text().replace("03:15", "04:15"))
    (root.configuration / "database-password").write_text("x")
    with (root.configuration / "config.toml").open("a") as file:
        file.write('[state]\ndatabase = "postgresql+psycopg://g@db/g"\n')
    printed = root("install", "nightly", "--yes", status=1)
    assert "updated: /etc/systemd/system/evergreen-groups-report.service" in printed
    assert "+LoadCredential=database_password:/etc/evergreen-groups/database-password" in printed
    assert "skipped, because it was changed: /etc/systemd/system/evergreen-groups-report.timer" in printed
    assert "-OnCalendar=*-*-* 04:15:00" in printed
    assert "04:15" in timer.read_text()
    assert "database_password" in (root.directory / SERVICE).read_text()
    printed = root("uninstall", "--yes")
    assert "skipped, because it was changed" in printed
    assert timer.exists()
    assert not (root.directory / SERVICE).exists()


@pytest.mark.long
def test_a_file_of_the_same_name_from_elsewhere_is_left(root: Root, tmp_path: Path) -> None:
    service = root.directory / SERVICE
    service.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("[Unit]\n")
    service.symlink_to(tmp_path / "elsewhere")
    root("install", "nightly", "--yes", status=1)
    assert (tmp_path / "elsewhere").read_text() == "[Unit]\n"
    root("uninstall", "--yes")
    assert service.is_symlink()


@pytest.mark.long
def test_what_makes_no_sense_is_refused_before_anything_is_written(root: Root) -> None:
    before = root.files()
    assert "/etc/apache2 doesn't exist on this machine" in root("install", "nightly", "apache", "--yes", status=3)
    root("install", status=2)
    root("install", "nightly", "--show", "nightly", status=2)
    (root.configuration / "password").unlink()
    assert "the account's password isn't in a file" in root("install", "nightly", "--yes", status=3)
    assert root.files() == before - {"etc/evergreen-groups/password"}
    (root.directory / "etc/cron.d").mkdir()
    (root.directory / "etc/cron.d/evergreen-groups").touch()
    (root.configuration / "password").write_text("x")
    assert "/etc/cron.d/evergreen-groups already runs the report" in root("install", "nightly", "--yes", status=3)


@pytest.mark.long
def test_for_a_package_no_configuration_is_needed(root: Root) -> None:
    (root.configuration / "config.toml").unlink()
    root("install", "nightly", "serve", "--yes", "--program", "/usr/bin/evergreen-groups")
    service = (root.directory / UNITS / "evergreen-groups.service").read_text()
    assert "ExecStart=/usr/bin/evergreen-groups -v serve" in service


@pytest.mark.long
def test_what_apache_includes_stays_until_it_does_not(root: Root) -> None:
    sites = root.directory / "etc" / "apache2" / "sites-enabled"
    sites.mkdir(parents=True)
    assert "Include evergreen-groups.conf" in root("install", "apache", "--yes")
    (sites / "eg.conf").write_text("<VirtualHost>\n    Include eg_vhost.conf\n    Include evergreen-groups.conf\n")
    assert "eg.conf includes" in root("uninstall", "--yes", status=3)
    (sites / "eg.conf").write_text("# Include evergreen-groups.conf\n")
    root("uninstall", "apache", "--yes")
    assert not (root.directory / "etc/apache2/evergreen-groups.conf").exists()


@pytest.mark.long
def test_instances_are_installed_updated_and_removed(root: Root) -> None:
    (root.directory / "etc/apache2").mkdir()
    balancer = root.directory / "etc/apache2/evergreen-groups-balancer.conf"
    assert "needs serve" in root("install", "nightly", "--instances", "2", "--yes", status=2)
    assert "enable --now evergreen-groups evergreen-groups@8212" in root(
        "install", "serve", "--instances", "2", "--yes"
    )
    second = root.directory / UNITS / "evergreen-groups@8212.service"
    assert balancer.read_text().count('    BalancerMember "http://127.0.0.1:') == 2
    assert root("install", "--show", "balancer") in balancer.read_text()
    # The number of instances stays, and their files follow the configuration.
    root.configure('[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\n[serve]\nport = 9000\n')
    printed = root("install", "serve", "--yes")
    assert "restart apache2" in printed
    assert f"removed: {second}" in printed
    assert (root.directory / UNITS / "evergreen-groups@9001.socket").exists()
    assert "127.0.0.1:9001" in balancer.read_text()
    root("install", "serve", "--instances", "3", "--yes")
    third = root.directory / UNITS / "evergreen-groups@9002.service"
    third.write_text(f"{third.read_text()}\n# changed\n")
    assert "To remove it: rm /etc/systemd" in root("install", "serve", "--instances", "1", "--yes", status=1)
    assert third.exists()
    assert not balancer.exists()
    third.unlink()
    root("install", "serve", "--instances", "2", "--yes")
    root("uninstall", "--yes")
    assert not [file for file in root.files() if "evergreen-groups@" in file or "balancer" in file]


@pytest.mark.long
def test_only_a_purge_takes_configuration_and_state(root: Root) -> None:
    root("install", "serve", "--yes")
    private = root.directory / "var/lib/private/evergreen-groups"
    private.mkdir(parents=True)
    (private / "state.sqlite3").touch()
    (root.directory / "var/lib/evergreen-groups").rmdir()
    (root.directory / "var/lib/evergreen-groups").symlink_to("private/evergreen-groups")
    root("uninstall", "--yes")
    assert (private / "state.sqlite3").exists()
    assert (root.configuration / "password").exists()
    root("uninstall", "serve", "--purge", status=2)
    printed = root("uninstall", "--purge", "--yes")
    assert "to be removed: " in printed
    assert root.files() == set()
    assert not private.exists()
    assert not (root.directory / "var/lib/evergreen-groups").is_symlink()


def test_the_links_of_an_enabled_unit_go_with_it_and_what_is_gone_already_is_an_error(tmp_path: Path) -> None:
    timer = tmp_path / TIMER
    link = timer.parent / "timers.target.wants" / timer.name
    link.parent.mkdir(parents=True)
    timer.write_text(with_digest("[Timer]\n"))
    link.symlink_to(f"/{TIMER}")
    plan = plan_removal(Machine(root=tmp_path), ["nightly"])
    list(plan.remove())
    assert not link.is_symlink()
    with pytest.raises(ConfigurationError, match="cannot write"):
        list(plan.remove())


# --- The commands that an installation ends with ---


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o700)
    file = directory / "config.toml"
    file.write_text('[gateway]\nurl = "https://ils.example.org"\nusername = "groups"\n')
    (directory / "password").write_text("x")
    for private in directory.iterdir():
        private.chmod(0o600)
    return Machine(config_file=file, settings=load.load(file, {}), state_directory=tmp_path / "state")


def test_crons_user_is_made_and_may_read_what_it_must(machine: Machine) -> None:
    commands = plan_installation(machine, ["cron"]).commands
    directory = machine.config_file.parent
    assert [" ".join(command) for command in commands[-5:]] == [
        f"install -d -o evergreen-groups -g evergreen-groups -m 700 {machine.state_directory}",
        f"chgrp evergreen-groups {directory}",
        f"chmod g+rx {directory}",
        f"chgrp evergreen-groups {directory / 'config.toml'} {directory / 'password'}",
        f"chmod g+r {directory / 'config.toml'} {directory / 'password'}",
    ]
    assert plan_installation(machine, ["cron"], starts=False).commands == ()


def test_systemd_is_asked_to_start_what_was_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert plan_installation(machine, ["nightly"]).commands == ()
    monkeypatch.setattr(installation_plan, "_BOOTED", tmp_path)
    commands = plan_installation(machine, ["nightly", "serve"]).commands
    assert [" ".join(command) for command in commands] == [
        "systemctl daemon-reload",
        "systemctl enable evergreen-groups-report.timer",
        "systemctl restart evergreen-groups-report.timer",
        "systemctl enable evergreen-groups.socket evergreen-groups.service",
        "systemctl restart evergreen-groups.socket evergreen-groups.service",
    ]
    several = plan_installation(machine, ["serve"], instances=2).commands
    assert " ".join(several[-1]).endswith(
        "evergreen-groups.service evergreen-groups@8212.socket evergreen-groups@8212.service"
    )
    assert plan_installation(Machine(settings=machine.settings, root=tmp_path), ["serve"]).commands == ()
    removal = plan_removal(machine, ["nightly"])
    assert (removal.before, removal.after) == ((), ())  # nothing of it is there


def test_a_machine_without_a_configuration_gets_nothing() -> None:
    with pytest.raises(ConfigurationError, match="no configuration found; run `evergreen-groups init`"):
        plan_installation(Machine(), ["nightly"])


def test_a_command_that_fails_is_an_error_with_what_it_wrote() -> None:
    run_command(["true"])
    with pytest.raises(EvergreenGroupsError, match=r"sh -c 'echo no >&2; exit 3' failed: no"):
        run_command(["sh", "-c", "echo no >&2; exit 3"])
    with pytest.raises(EvergreenGroupsError, match="failed: 4"):
        run_command(["sh", "-c", "exit 4"])
    with pytest.raises(EvergreenGroupsError, match="No such file"):
        run_command(["no-such-command-here"])
