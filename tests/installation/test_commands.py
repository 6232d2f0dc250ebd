"""The commands that an installation ends with: which they are, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.installation import Machine, plan, plan_installation, plan_removal, run_command
from evergreen_groups.settings import reading as load


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
    monkeypatch.setattr(plan, "_BOOTED", tmp_path)
    commands = plan_installation(machine, ["nightly", "serve"]).commands
    assert [" ".join(command) for command in commands] == [
        "systemctl daemon-reload",
        "systemctl enable evergreen-groups-report.timer",
        "systemctl restart evergreen-groups-report.timer",
        "systemctl enable evergreen-groups.service",
        "systemctl restart evergreen-groups.service",
    ]
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
