"""Where the sandbox of ``--sandbox`` is kept, with what commands keep of their own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.sandbox import Sandbox

_WAIT = 10.0
"""How long to wait, in seconds, for another command that uses the same sandbox."""
_PORTS = range(20_000, 30_000)
"""Below those that systems give to whoever asks for any, so that nobody else is likely to have it the next time."""
_TRIALS = 50
_PORT = "port"
_STATE = "state.sqlite3*"


@dataclass(frozen=True)
class SandboxPlace:
    """Where a sandbox's data are (``database``; None: nowhere for long), with its users' state directory."""

    directory: Path
    database: Path | None = None

    def environ(self) -> dict[str, str]:
        """What names the directories of those who use it in the environment, so that nothing is left in the user's."""
        return dict.fromkeys(("STATE_DIRECTORY", "CACHE_DIRECTORY"), str(self.directory))

    def sandbox(self) -> Sandbox:
        """The sandbox, not serving yet. One that is kept has the same address each time, by which the journal knows it.

        Raises:
            ConfigurationError: the file is no sandbox's, or can't be used, or its port is taken.
        """
        from evergreen_groups.sandbox import Sandbox
        from evergreen_groups.state import write_atomically

        if self.database is None:
            return Sandbox()
        noted = self.directory / _PORT
        if noted.exists():
            return Sandbox(database=self.database, port=_number(noted))
        sandbox = _on_a_free_port(self.database)
        with write_atomically(noted) as stream:
            stream.write(sandbox.url.rpartition(":")[2])
        return sandbox


@contextmanager
def hold_sandbox(file: Path) -> Iterator[SandboxPlace]:
    """The place of a sandbox that is kept in a file; nobody else has it meanwhile.

    Raises:
        BusyError: another command has it.
        ConfigurationError: nothing can be kept beside the file.
    """
    from evergreen_groups.state import hold, make_state_directory

    directory = make_state_directory(file.with_name(f"{file.name}.state"))
    doing = Message("another command is using the sandbox {file}", values={"file": file})
    with hold(directory / "sandbox.lock", doing, _WAIT):
        if not file.exists():
            _forget_former(file, directory)
        yield SandboxPlace(directory, file)


def _forget_former(file: Path, directory: Path) -> None:
    """Remove what is left of a sandbox whose file was deleted: its journal is nobody's any more."""
    if (directory / _PORT).exists():
        for left in (file.with_name(f"{file.name}.fresh"), directory / _PORT, *directory.glob(_STATE)):
            left.unlink(missing_ok=True)


def _on_a_free_port(file: Path) -> Sandbox:
    from evergreen_groups.sandbox import Sandbox

    for trial in range(_TRIALS):
        try:
            return Sandbox(database=file, port=random.choice(_PORTS))  # noqa: S311 - no secret
        except ConfigurationError as error:
            if error.code != "port-unusable" or trial == _TRIALS - 1:
                raise
    raise AssertionError


def _number(noted: Path) -> int:
    try:
        return int(noted.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
