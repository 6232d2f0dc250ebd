"""``docs/upgrading.md``, command for command, on an installation in a virtual environment.

The page's paths are replaced by temporary directories, and ``systemctl`` by a stub that logs its arguments. Steps only
for the Debian package run in a clean Debian by ``packaging/try-deb``.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from support.gateways import PASSWORD
from support.repository import REPOSITORY, build

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state.schema import VERSION

pytestmark = pytest.mark.long

PAGE = REPOSITORY / "docs" / "upgrading.md"
ELSEWHERE = "The Debian package"
PLACES = ("/opt/evergreen-groups", "/usr/local/bin", "/var/lib", "/var/cache", "/var/backups", "/etc/systemd/system")
OLD, NEW = "1.0.0", "1.1.0"
LATER = """
import sqlalchemy as sa
from alembic import op

revision = "{version}"
down_revision = "{former}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer, primary_key=True))
"""


@dataclass(frozen=True)
class Block:
    """One shell block of the page, with the headings above it."""

    section: str
    way: str
    text: str


def blocks() -> Iterator[Block]:
    section = way = ""
    for heading, text in re.findall(r"^(#{2,3} [^\n]*)$|^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M):
        if heading.startswith("## "):
            section, way = heading[3:], ""
        elif heading:
            way = heading[4:]
        else:
            yield Block(section, way, text)


def build_release(source: Path, version: str, *, later_schema: bool = False) -> Path:
    """Build a release's wheel: this source with a version, and a database migration more for a later one."""
    shutil.copytree(REPOSITORY / "evergreen_groups", source / "evergreen_groups")
    shutil.copytree(REPOSITORY / "config", source / "config")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, source / name)
    package = source / "evergreen_groups"
    stated = re.sub('__version__ = ".*"', f'__version__ = "{version}"', (package / "__init__.py").read_text("utf-8"))
    (package / "__init__.py").write_text(stated, "utf-8")
    if later_schema:
        schema = package / "state" / "schema.py"
        step = str(int(VERSION) + 1)
        changed = schema.read_text("utf-8").replace(f'VERSION = "{VERSION}"', f'VERSION = "{step}"')
        schema.write_text(f'{changed}\nTable("later", metadata, Column("id", Integer, primary_key=True))\n', "utf-8")
        migration = package / "state" / "migrations" / "versions" / "later.py"
        migration.write_text(LATER.format(version=step, former=VERSION), "utf-8")
    return build(source, source.parent / version)


class Machine:
    """A directory in place of the machine's root, where blocks of the page run."""

    def __init__(self, root: Path, releases: Path, url: str) -> None:
        self.root = root
        self._releases = releases
        for place in (*PLACES, "/etc/evergreen-groups"):
            self.at(place).mkdir(parents=True)
        self._stub("systemctl", f'echo "$*" >> "{root}/systemctl.log"')
        config = self.at("/etc/evergreen-groups/config.toml")
        password = config.with_name("password")
        password.write_text(PASSWORD)
        config.write_text(f'[gateway]\nurl = "{url}"\nusername = "consortium_staff"\n', "utf-8")
        for file in config.parent.iterdir():
            file.chmod(0o600)
        self.environ = {
            "PATH": f"{root}/stubs:{root}/usr/local/bin:{os.environ['PATH']}",
            "HOME": str(root),
            "LC_ALL": "C.UTF-8",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "EVERGREEN_GROUPS_CONFIG": str(config),
            "EVERGREEN_GROUPS_GATEWAY_PASSWORD_FILE": str(password),
            "STATE_DIRECTORY": str(self.at("/var/lib/evergreen-groups")),
        }
        self._make_environment()

    def at(self, path: str) -> Path:
        """Return the location of a path of the page."""
        return Path(f"{self.root}{path}")

    def run(self, text: str, *, status: int = 0) -> str:
        """Run a block under the root, and return all output. ``install`` and ``uninstall`` get ``--root``."""
        here = re.sub(r"(?<![\w.])/(?=(?:opt|var|etc|usr)\b)", f"{self.root}/", text)
        here = re.sub(r"evergreen-groups (un)?install ", rf"\g<0>--root {self.root} ", here)
        here = here.replace(" -C / ", f" -C {self.root} ").replace(" -C /\n", f" -C {self.root}\n")
        here = here.replace("2026-11-25", f"{date.today():%F}")  # noqa: DTZ011 - as the page's $(date) has it
        done = subprocess.run(
            ["/bin/sh", "-euc", here],
            cwd=self._releases,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{text}\n{done.stdout}"
        return done.stdout

    def follow(self, section: str, way: str = "") -> list[str]:
        """Run a section's blocks in order, and return the output of each."""
        found = [block for block in blocks() if (block.section, block.way) == (section, way)]
        assert found, f"{section}, {way}"
        wheel = f"'./evergreen_groups-{NEW if section == 'Upgrade' else OLD}-py3-none-any.whl[serve]'"
        return [self.run(block.text.replace("'.[serve]'", wheel)) for block in found]

    def schema(self) -> str:
        with closing(sqlite3.connect(self.at("/var/lib/evergreen-groups/state.sqlite3"))) as database:
            return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])

    def asked_of_systemd(self) -> list[str]:
        """Return the arguments of systemctl's calls since the last check."""
        log = self.root / "systemctl.log"
        asked = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return asked

    def _stub(self, name: str, script: str) -> None:
        (self.root / "stubs").mkdir(exist_ok=True)
        file = self.root / "stubs" / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def _make_environment(self) -> None:
        """Make a virtual environment with the old release, which uses the dependencies of the tests."""
        environment = self.at("/opt/evergreen-groups")
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.run(f"/opt/evergreen-groups/bin/pip install './evergreen_groups-{OLD}-py3-none-any.whl[serve]'\n")
        self.run("ln -s /opt/evergreen-groups/bin/evergreen-groups /usr/local/bin/\n")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheels, in place of checkouts."""
    directory = tmp_path_factory.mktemp("releases")
    for built in (build_release(directory / "old", OLD), build_release(directory / "new", NEW, later_schema=True)):
        built.rename(directory / built.name)
    return directory


@pytest.fixture
def machine(tmp_path: Path, releases: Path, sandbox: Sandbox) -> Machine:
    return Machine(tmp_path / "machine", releases, sandbox.url)


def test_a_release_there_and_back_and_away(machine: Machine) -> None:
    machine.run("evergreen-groups --quiet report --output /var/lib/evergreen-groups/report.html\n")
    kept = machine.run("evergreen-groups state export\n")
    assert json.loads(kept.splitlines()[-1])
    machine.follow("Backup")
    (backup,) = machine.at("/var/backups/evergreen-groups").glob("*.sqlite3")
    assert backup.stat().st_mode & 0o777 == 0o600

    machine.follow("Upgrade", "In a virtual environment")
    (output,) = machine.follow("Upgrade", "After the upgrade")
    assert output.startswith(f"evergreen-groups, version {NEW}\n")
    assert "is up to date" in output
    assert machine.schema() == str(int(VERSION) + 1)
    units = "evergreen-groups.socket evergreen-groups.service evergreen-groups-report.timer"
    assert machine.asked_of_systemd()[0] == f"stop {units}"
    assert json.loads(machine.run("evergreen-groups state export\n").splitlines()[-1])

    machine.follow("Downgrade", "In a virtual environment")
    assert OLD in machine.run("evergreen-groups --version\n")
    refused = machine.run("evergreen-groups state check\n", status=1)
    assert "is from a later release" in refused
    assert "from before the upgrade" in refused
    assert machine.schema() == str(int(VERSION) + 1)

    machine.at("/etc/evergreen-groups/config.toml").unlink()
    machine.at("/etc/evergreen-groups/config.toml").touch()
    machine.follow("Restore")
    assert "username" in machine.at("/etc/evergreen-groups/config.toml").read_text()
    assert machine.schema() == VERSION
    assert machine.run("evergreen-groups state export\n") == kept
    machine.run("evergreen-groups --quiet report --output /var/lib/evergreen-groups/report.html\n")

    machine.run("evergreen-groups install --yes nightly serve\n")
    assert len(list(machine.at("/etc/systemd/system").iterdir())) == 6  # with the daily backup
    machine.follow("Removal", "In a virtual environment")
    left = list(machine.root.rglob("*evergreen-groups*"))
    assert not left


def test_every_block_is_run_here_or_in_a_clean_debian() -> None:
    ways = {block.way for block in blocks()}
    assert ways == {"", "In a virtual environment", ELSEWHERE, "After the upgrade"}
    for block in blocks():
        assert ("apt-get" in block.text) <= (block.way == ELSEWHERE)
    assert not re.search(r"```(?!sh\n|$)", PAGE.read_text("utf-8"), re.MULTILINE)
