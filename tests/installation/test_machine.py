"""Where the program is, and whether the service's user can start it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.installation import (
    Machine,
    machine,
    refuse_private_program,
    this_machine,
    uncarried_variables,
)
from evergreen_groups.installation.machine import closed_to_others, own_program
from evergreen_groups.state import SYSTEM_DIRECTORY, find_state_directory
from evergreen_groups.state import files as directory


def program_in(path: Path) -> Path:
    path.mkdir(parents=True)
    program = path / "evergreen-groups"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A directory that everybody can enter, which pytest's own aren't."""
    path = tmp_path
    while path != Path("/tmp") and path != path.parent:
        path.chmod(0o755)
        path = path.parent
    return tmp_path


def test_a_link_for_the_command_is_taken_before_what_it_leads_to(open_path: Path) -> None:
    program = program_in(open_path / "venvs" / "evergreen-groups" / "bin")
    link = open_path / "bin" / "evergreen-groups"
    link.parent.mkdir()
    link.symlink_to(program)
    assert own_program(str(link)) == link
    link.parent.chmod(0o700)  # as ~/.local/bin of root is
    assert own_program(str(link)) == program


def test_the_command_of_another_installation_is_not_taken(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one on the path, while this one has a command, even if others can't reach it."""
    own = program_in(open_path / "root" / "bin")
    (open_path / "root").chmod(0o700)
    other = program_in(open_path / "other")
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda _name: str(own.parent))
    assert own_program("/usr/lib/python3/evergreen_groups/__main__.py") == own
    own.unlink()
    assert own_program("/usr/lib/python3/evergreen_groups/__main__.py") == other


def test_a_program_in_a_home_directory_is_refused(open_path: Path) -> None:
    program = program_in(open_path / "root" / "bin")
    (open_path / "root").chmod(0o700)
    assert closed_to_others(program) == open_path / "root"
    with pytest.raises(ConfigurationError) as raised:
        refuse_private_program(Machine(program=program))
    assert raised.value.code == "program-private"
    assert raised.value.values["closed"] == open_path / "root"


@pytest.mark.parametrize("name", ["a b", "50%", "$HOME", "semi;colon", "a:b"])
def test_a_path_that_means_something_else_in_a_unit_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        this_machine(None, {}, root=tmp_path, program=Path("/opt") / name / "evergreen-groups")
    assert raised.value.code == "path-unusual"


def test_the_installers_environment_is_not_the_units(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "evergreen-groups" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[gateway]\nurl = "https://ils.example.org"\n')
    environ = {"EVERGREEN_GROUPS_GATEWAY_URL": "https://other.example.org", "HOME": "/root"}
    found = this_machine(file, environ, root=tmp_path)
    assert found.settings is not None
    assert found.settings.gateway.url == "https://ils.example.org"
    assert found.config_file == Path("/etc/evergreen-groups/config.toml")
    assert uncarried_variables(environ) == ["EVERGREEN_GROUPS_GATEWAY_URL"]


def test_root_finds_the_units_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to it is an own one for root alone, and only where a unit has made the directory."""
    monkeypatch.setattr(directory, "SYSTEM_DIRECTORY", tmp_path / "var")
    environ = {"HOME": str(tmp_path)}
    own = tmp_path / ".local" / "state" / "evergreen-groups"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find_state_directory(environ) == own
    (tmp_path / "var").mkdir()
    assert find_state_directory(environ) == tmp_path / "var"
    assert find_state_directory({**environ, "XDG_STATE_HOME": "/s"}) == Path("/s/evergreen-groups")
    assert find_state_directory({**environ, "STATE_DIRECTORY": "/t"}) == Path("/t")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert find_state_directory(environ) == own
    assert Path("/var/lib/evergreen-groups") == SYSTEM_DIRECTORY
