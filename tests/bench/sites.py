"""The sites to measure: a named Evergreen, or a sandbox in another process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .floor import Bare, log_in, positions_of, start

SANDBOX = """
import json, signal, sys
from pathlib import Path
from evergreen_groups.sandbox import Sandbox
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that it takes away what it has kept
options = json.loads(sys.argv[1])
with Sandbox(**options, prepared=Path(sys.argv[2]) if sys.argv[2:] else None) as sandbox:
    accounts = [(name, account.password) for name, account in sandbox.accounts.items() if account.kind == "staff"]
    print(json.dumps([sandbox.url, accounts]), flush=True)
    sandbox.wait()
"""


LARGE = 100_000
"""From this number of patrons on, generating them takes long."""


@dataclass(frozen=True)
class Account:
    """A login; ``sees_all`` says that no patron is hidden."""

    name: str
    password: str
    sees_all: bool


@dataclass(frozen=True)
class Site:
    """A gateway with accounts; ``size`` is the number of patrons, ``release`` the Evergreen release.

    ``directory`` is for the files of measured programs: the IDL, state, output.
    """

    url: str
    accounts: tuple[Account, ...]
    size: str
    release: str
    directory: Path

    @property
    def idl(self) -> Path:
        """The file where the floor caches the order of fields."""
        return self.directory / "fields.json"

    def environ(self, account: Account) -> dict[str, str]:
        """Return the environment of a measured program, with the password, but without the user's own settings.

        Python may write compiled modules, as it does when the package is installed; compiling takes a second.
        """
        left_out = ("EVERGREEN_GROUPS_", "PYTHONDONTWRITEBYTECODE")
        own = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        home = str(self.directory)
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"), home)
        passwords = {"EVERGREEN_GROUPS_PASSWORD": account.password, "FLOOR_PASSWORD": account.password}
        return {**own, **places, **passwords}


@contextlib.contextmanager
def evergreen(url: str, passwords: dict[str, str]) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="evergreen-groups-bench-") as directory:
        yield _place(url.rstrip("/"), passwords, Path(directory))


@contextlib.contextmanager
def sandbox(
    names: tuple[str, ...], patrons: int, prepared: Path, *, listed_groups: int | None = None
) -> Iterator[Site]:
    """Start a sandbox with so many patrons and some of its accounts; a large one is cached in ``prepared``."""
    command = [sys.executable, "-c", SANDBOX, json.dumps({"patrons": patrons, "listed_groups": listed_groups})]
    if patrons >= LARGE:
        prepared.mkdir(mode=0o700, parents=True, exist_ok=True)
        command.append(str(prepared))
    with (
        tempfile.TemporaryDirectory(prefix="evergreen-groups-bench-") as directory,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            url, accounts = json.loads(process.stdout.readline())
            yield _place(url, {name: password for name, password in accounts if name in names}, Path(directory))
        finally:
            process.terminate()


def _place(url: str, passwords: dict[str, str], directory: Path) -> Site:
    positions = positions_of(url, directory / "fields.json")
    accounts, highest, release = [], 0, ""
    for name, password in passwords.items():
        bare = Bare(url, positions)
        log_in(bare, name, password)
        with ThreadPoolExecutor(1) as pool:
            libraries = start(bare, pool).libraries
        accounts.append(Account(name, password, sees_all=not libraries))
        order = [{"class": "au", "field": "id", "direction": "desc"}]
        # None if the last patron is hidden: before 3.16, hidden rows count toward the limit.
        last = bare.search("au", ("id",), {"id": {">": 0}}, order_by=order, limit=1)
        highest = max(highest, *(id for (id,) in last), 0)
        release = str(bare.call("open-ils.actor", "opensrf.open-ils.system.ils_version"))
        bare.call("open-ils.auth", "open-ils.auth.session.delete", bare.token)
    return Site(url, tuple(accounts), f"patrons' ids up to {highest:,}", release, directory)
