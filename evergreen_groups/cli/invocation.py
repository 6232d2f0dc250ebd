"""What every command shares: the settings, and a gateway made from them or from the sandbox."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

import click

from evergreen_groups.cli import logs
from evergreen_groups.cli.output import ASKING, output_in_pages, terminal_progress, terminal_width
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import set_language, terminal_language
from evergreen_groups.message import Message
from evergreen_groups.settings import MailSettings, MetricsSettings, Settings
from evergreen_groups.settings import reading as load
from evergreen_groups.state import State

if TYPE_CHECKING:
    from evergreen_groups.client import Client
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.nightly import Rendered
    from evergreen_groups.progress import Progress
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


@dataclass(frozen=True)
class Invocation:
    """One run of the command, with the global options it was given."""

    config_file: Path | None
    use_sandbox: bool
    quiet: bool
    sandbox_file: Path | None = None
    no_pager: bool = False
    verbosity: int = 0
    log_format: str = "text"

    @classmethod
    def of(cls, *, sandbox_file: Path | None, use_sandbox: bool, **options: Any) -> Invocation:
        """One with these options, from which on its lines on standard error are as they say."""
        invocation = cls(use_sandbox=use_sandbox or sandbox_file is not None, sandbox_file=sandbox_file, **options)
        invocation.configure_logs()
        return invocation

    def with_option(self, name: str, value: Any) -> Invocation:
        """The same with another option; that ``verbosity`` is said comes on top of what was said before."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return Invocation.of(**{**options, name: self.verbosity + value if name == "verbosity" else value})

    def configure_logs(self) -> None:
        """Write lines on standard error as the options say."""
        logs.configure(verbosity=self.verbosity, quiet=self.quiet, log_format=self.log_format)

    @cached_property
    def settings(self) -> Settings:
        """The settings, read when they are first needed; in the sandbox, without what belongs to an installation.

        From then on the command writes in the terminal's language, and where it asks for none, in the configured one.
        """
        settings = load.load(self.config_file, os.environ)
        set_language(settings.language.language(terminal_language(os.environ)))
        return _for_the_sandbox(settings) if self.use_sandbox else settings

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """A gateway that is logged out and closed at the end."""
        with self._sandbox() if self.use_sandbox else self._configured() as (gateway, _account):
            yield gateway

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The jobs at that gateway, with the configured limits; the sandbox has a journal that ends with it."""
        from evergreen_groups.changes import Operator, current_seat
        from evergreen_groups.client import Client, adult_rule

        opened = self._sandbox() if self.use_sandbox else self._configured()
        with self.state() as state, opened as (gateway, account):
            yield Client(
                gateway,
                account=Operator(account, seat=current_seat()),
                policy=self.settings.policy,
                state=state,
                adults=adult_rule(self.settings.audit),
            )

    @contextmanager
    def state(self) -> Iterator[State]:
        """Where the journal, the history and the status are kept; the sandbox has one that ends with it."""
        if not self.use_sandbox:
            from evergreen_groups.connect import configured_state

            with configured_state(self.settings, os.environ) as state:
                yield state
            return
        with self.sandbox_place() as place, State(place.directory) as state:
            yield state

    @contextmanager
    def sandbox_place(self) -> Iterator[SandboxPlace]:
        """Where the sandbox of ``--sandbox`` is kept: in its file, held until the command ends, or nowhere."""
        if self._stored_sandbox is not None:
            yield self._stored_sandbox
            return
        with TemporaryDirectory(prefix="evergreen-groups-") as directory:
            yield SandboxPlace(Path(directory))

    @cached_property
    def _stored_sandbox(self) -> SandboxPlace | None:
        if self.sandbox_file is None:
            return None
        return click.get_current_context().with_resource(hold_sandbox(self.sandbox_file))

    def progress(self, doing: str = ASKING) -> AbstractContextManager[Progress]:
        """Shows how far a command is, on a terminal; ``doing`` stands there until it reports more."""
        return terminal_progress(quiet=self.quiet, doing=doing)

    def width(self) -> int:
        """How many columns a table may take."""
        return terminal_width()

    def write(self, rendered: Rendered) -> None:
        """Write a report to standard output."""
        with self.output(rendered.format) as stream:
            stream.write(rendered.text)

    def output(self, output_format: str) -> AbstractContextManager[TextIO]:
        """Standard output; a table that is longer than the terminal is shown page by page there."""
        return output_in_pages(output_format, wanted=not self.no_pager)

    def emit(self, message: str, *, error: bool = False) -> None:
        """Write a line for people on standard error."""
        logs.emit(message, error=error)

    def summarise(self, message: str) -> None:
        """Write a line about what was written and sent; where nobody sits at a terminal, the log has that."""
        if not self.quiet and sys.stderr.isatty():
            logs.emit(message)

    def line(self, message: str, *, error: bool = False) -> str:
        """The line that :meth:`emit` writes, without writing it."""
        return logs.format_line(message, error=error)

    @contextmanager
    def _configured(self) -> Iterator[tuple[Gateway, str]]:
        """The gateway of the configuration, and the account's name."""
        from evergreen_groups.connect import connect, named

        _url, account = named(self.settings)
        with connect(self.settings, os.environ) as gateway:
            yield gateway, account

    @contextmanager
    def _sandbox(self) -> Iterator[tuple[Gateway, str]]:
        """A gateway of an embedded sandbox, and the account's name."""
        from evergreen_groups.gateway import Credentials, Gateway

        with self.sandbox_place() as place, place.sandbox() as sandbox:
            username, password = sandbox.report_account
            credentials = Credentials(username=username, password=password)
            with Gateway(sandbox.url, credentials=credentials) as gateway:
                yield gateway, username


def _for_the_sandbox(settings: Settings) -> Settings:
    """Leave out what names libraries, profiles, files and people: sample data must not take the place of others.

    Nobody gets a message that the nightly report was made, and who knows the sandbox's passwords doesn't get to see it.
    """
    return replace(
        settings,
        policy=replace(settings.policy, limits=()),
        audit=replace(settings.audit, institution_profiles=("Institution",)),
        report=replace(settings.report, orgs=(), output=None, split="none", healthcheck_url=None),
        serve=replace(settings.serve, report=None),
        mail=MailSettings(),
        metrics=MetricsSettings(),
        reports=(),
    )
