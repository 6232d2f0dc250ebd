"""Where it is measured: an Evergreen that is named, or a sandbox in a process of its own."""

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
"""So many patrons take long to make."""


@dataclass(frozen=True)
class Account:
    """Somebody to log in as; ``sees_all`` says that no patron is hidden from them."""

    name: str
    password: str
    sees_all: bool


@dataclass(frozen=True)
class Place:
    """A gateway with accounts; ``size`` says how many patrons there are, ``release`` which Evergreen it is.

    ``directory`` is where programs that are measured may keep things: the IDL, state, output.
    """

    url: str
    accounts: tuple[Account, ...]
    size: str
    release: str
    directory: Path

    @property
    def idl(self) -> Path:
        """The file in which the floor keeps the order of fields."""
        return self.directory / "fields.json"

    def environ(self, account: Account) -> dict[str, str]:
        """The environment for a program of ours or the floor's: with the password, and nothing of the user's own."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_GROUPS_")}
        home = str(self.directory)
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"), home)
        passwords = {"EVERGREEN_GROUPS_PASSWORD": account.password, "FLOOR_PASSWORD": account.password}
        return {**own, **places, **passwords}


@contextlib.contextmanager
def evergreen(url: str, passwords: dict[str, str]) -> Iterator[Place]:
    """The Evergreen at an address, with accounts by their passwords."""
    with tempfile.TemporaryDirectory(prefix="evergreen-groups-bench-") as directory:
        yield _place(url.rstrip("/"), passwords, Path(directory))


@contextlib.contextmanager
def sandbox(
    names: tuple[str, ...], patrons: int, prepared: Path, *, listed_groups: int | None = None
) -> Iterator[Place]:
    """A sandbox of so many patrons, with those of its accounts that are named; a large one is kept in ``prepared``."""
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


def _place(url: str, passwords: dict[str, str], directory: Path) -> Place:
    positions = positions_of(url, directory / "fields.json")
    accounts, highest, release = [], 0, ""
    for name, password in passwords.items():
        bare = Bare(url, positions)
        log_in(bare, name, password)
        with ThreadPoolExecutor(1) as pool:
            libraries = start(bare, pool).libraries
        accounts.append(Account(name, password, sees_all=not libraries))
        order = [{"class": "au", "field": "id", "direction": "desc"}]
        # None where the last patron is hidden: before 3.16 hidden rows count against the limit.
        last = bare.search("au", ("id",), {"id": {">": 0}}, order_by=order, limit=1)
        highest = max(highest, *(id for (id,) in last), 0)
        release = str(bare.call("open-ils.actor", "opensrf.open-ils.system.ils_version"))
        bare.call("open-ils.auth", "open-ils.auth.session.delete", bare.token)
    return Place(url, tuple(accounts), f"patrons' ids up to {highest:,}", release, directory)
