"""A PostgreSQL for tests: Debian's programs, a cluster in a temporary directory, a database for each test."""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import psycopg
from support.waiting import wait_until

DIRECTORY_VARIABLE = "TESTS_POSTGRESQL"
"""The variable with the cluster's directory, set by the main process and shared by all workers."""
VERSION_VARIABLE = "TESTS_POSTGRESQL_VERSION"
"""The variable that selects an installed major version; by default the newest."""
_USER = "postgres"
_INSTALLED = Path("/usr/lib/postgresql")
"""Debian's directory of programs, by major version."""


class Cluster:
    """A cluster of databases, started on first use, and reached through a socket in its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._data = directory / "data"
        self.log_of_changes = self._data / "pg_wal"

    def start(self) -> None:
        """Start it unless another process has."""
        with (self.directory / "starting").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not self._data.exists():
                self._run(
                    "initdb", "-A", "trust", "-U", _USER, "-N", "-E", "UTF8", "--no-locale", "-D", str(self._data)
                )
            if not self.runs:
                self.run_server()

    def run_server(self) -> None:
        """Start the server, and wait until it accepts connections."""
        # No fsync, because tests needn't survive a power failure; and enough connections for four workers.
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self.directory}' -c fsync=off -c max_connections=200"
        )
        log = str(self.directory / "log")
        self._run("pg_ctl", "-w", "-s", "-D", str(self._data), "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server if it runs."""
        if self.runs:
            self._run("pg_ctl", "-w", "-s", "-D", str(self._data), "-m", mode, "stop")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://{_USER}@/{name}?host={self.directory}"

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def execute(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(host=str(self.directory), user=_USER, dbname=name, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]  # the tests' own

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(host=str(self.directory), user=_USER, dbname="postgres", autocommit=True) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]  # the tests' own

    def cut_connections(self, name: str) -> None:
        """Close all connections to a database, like a restart, and wait until the server has ended them."""
        # Without the timeout in milliseconds, the function returns before the connections have ended.
        self.execute(f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{name}'")

    def kill(self) -> None:
        """Kill all its processes at once, as a machine does that loses power."""
        with self.frozen() as processes:
            for process in processes:
                os.kill(process, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, processes)))
        # They hold its id, and an ended process that its parent hasn't waited for counts as running.
        (self._data / "postmaster.pid").unlink()
        (self.directory / ".s.PGSQL.5432.lock").unlink()

    @contextmanager
    def frozen(self) -> Iterator[list[int]]:
        """Freeze all its processes during the block: connections stay open, but get no responses."""
        postmaster = self.postmaster
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no other
        processes = [postmaster, *_children(postmaster)]
        try:
            for process in processes[1:]:
                os.kill(process, signal.SIGSTOP)
            yield processes
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    @property
    def runs(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    @property
    def postmaster(self) -> int:
        """The id of the process that starts the others."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    @contextmanager
    def database(self) -> Iterator[str]:
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root. In Python, because runuser isn't in the PATH after plain su.
        as_user: dict[str, Any] = {"user": _USER, "group": _USER, "extra_groups": ()} if os.geteuid() == 0 else {}
        command = [_program(program), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **as_user)


def new_directory() -> Path:
    """Return a new directory for a cluster, writable for its user."""
    directory = Path(mkdtemp(prefix="evergreen-groups-postgresql-"))
    if os.geteuid() == 0:
        with suppress(KeyError):  # not installed; the first test that needs it reports that
            user = pwd.getpwnam(_USER)
            os.chown(directory, user.pw_uid, user.pw_gid)
    return directory


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """Yield a running cluster that nothing else uses, so that it can be frozen or stopped."""
    cluster = Cluster(new_directory())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def shared_cluster() -> Cluster:
    """Return the running cluster shared by all workers."""
    cluster = Cluster(Path(os.environ[DIRECTORY_VARIABLE]))
    cluster.start()
    return cluster


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _program(name: str) -> str:
    """Return the path of a program of the chosen version."""
    chosen = os.environ.get(VERSION_VARIABLE)
    installed = sorted((path.parents[1].name for path in _INSTALLED.glob("*/bin/initdb")), key=int)
    versions = [chosen] if chosen else installed
    path = _INSTALLED / versions[-1] / "bin" / name if versions else None
    found = str(path) if path is not None and path.exists() else None if chosen else shutil.which(name)
    if found is None:
        package = f"postgresql-{chosen}" if chosen else "postgresql"
        raise RuntimeError(f"the tests need PostgreSQL's {name}: apt install {package}")
    return found
