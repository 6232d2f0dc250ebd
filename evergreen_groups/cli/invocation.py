"""What commands share: settings, gateway, state and output, for an installation or for a sandbox."""

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
from evergreen_groups.language import catalogue, set_language
from evergreen_groups.message import Message
from evergreen_groups.settings import MailSettings, MetricsSettings, PluginSettings, Settings
from evergreen_groups.settings import reading as load
from evergreen_groups.state import State

if TYPE_CHECKING:
    from evergreen_groups.client import Client
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.message import Progress
    from evergreen_groups.nightly import Rendered
    from evergreen_groups.sandbox import Sandbox

_WAIT = 10.0
"""Seconds to wait for another command that uses the same sandbox."""
_PORTS = range(20_000, 30_000)
"""Below the ephemeral ports that systems assign, so that the port is probably still free the next time."""
_MOST_ATTEMPTS = 50
_PORT = "port"
_STATE = "state.sqlite3*"
_OUTPUTS = "outputs"
"""The file with the paths of the configured outputs that a stored sandbox has written, one on a line."""


@dataclass(frozen=True)
class SandboxFiles:
    """The files of a sandbox: its ``database`` (None: temporary) and a state directory for commands that use it."""

    directory: Path
    database: Path | None = None

    def own_output(self, output: Path, *, writes: bool) -> None:
        """Refuse an output with a report of another gateway. With ``writes``, it is this sandbox's own from now on."""
        from evergreen_groups.state import write_atomically

        file, name = self.directory / _OUTPUTS, str(output.absolute())
        own = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        if name in own:
            return
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise ConfigurationError(
                "{path} has a report of another gateway",
                advice="set another output in the configuration, or move the report away",
                setting="report.output",
                code="output-of-another-gateway",
                values={"path": output},
            )
        if writes:
            with write_atomically(file) as stream:
                stream.writelines(f"{line}\n" for line in (*own, name))

    def sandbox(self) -> Sandbox:
        """Return the sandbox, which isn't serving yet.

        A stored sandbox keeps its port, because journal entries refer to the gateway by its address.
        """
        from evergreen_groups.sandbox import Sandbox
        from evergreen_groups.state import write_atomically

        if self.database is None:
            return Sandbox()
        port_file = self.directory / _PORT
        if port_file.exists():
            try:
                port = int(port_file.read_text(encoding="ascii"))
            except (OSError, ValueError):
                port = 0
            return Sandbox(database=self.database, port=port)
        sandbox = _on_a_free_port(self.database)
        with write_atomically(port_file) as stream:
            stream.write(sandbox.url.rpartition(":")[2])
        return sandbox


@contextmanager
def hold_sandbox_files(file: Path) -> Iterator[SandboxFiles]:
    """Hold the files of a stored sandbox, so that no other command uses them."""
    from evergreen_groups.state import hold, make_state_directory

    directory = make_state_directory(file.with_name(f"{file.name}.state"))
    doing = Message("another command is using the sandbox {file}", values={"file": file})
    with hold(directory / "sandbox.lock", doing, _WAIT):
        if not file.exists() and (directory / _PORT).exists():
            # The database was deleted. Remove what it left behind, such as its journal.
            for left in (file.with_name(f"{file.name}.fresh"), directory / _PORT, *directory.glob(_STATE)):
                left.unlink(missing_ok=True)
        yield SandboxFiles(directory, file)


def _on_a_free_port(file: Path) -> Sandbox:
    from evergreen_groups.sandbox import Sandbox

    for attempt in range(_MOST_ATTEMPTS):
        try:
            return Sandbox(database=file, port=random.choice(_PORTS))  # noqa: S311 - no secret
        except ConfigurationError as error:
            if error.code != "port-unusable" or attempt == _MOST_ATTEMPTS - 1:
                raise
    raise AssertionError


@dataclass(frozen=True)
class Invocation:
    """One run of the command, with its global options."""

    config_file: Path | None
    use_sandbox: bool
    quiet: bool
    sandbox_file: Path | None = None
    no_pager: bool = False
    verbosity: int = 0
    log_format: str = "text"

    @classmethod
    def of(cls, *, sandbox_file: Path | None, use_sandbox: bool, **options: Any) -> Invocation:
        """Create an invocation, and configure logging accordingly."""
        invocation = cls(use_sandbox=use_sandbox or sandbox_file is not None, sandbox_file=sandbox_file, **options)
        logs.configure(verbosity=invocation.verbosity, quiet=invocation.quiet, log_format=invocation.log_format)
        return invocation

    def with_option(self, name: str, value: Any) -> Invocation:
        """Return the same with one option changed. ``verbosity`` is added to the previous value."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return Invocation.of(**{**options, name: self.verbosity + value if name == "verbosity" else value})

    @cached_property
    def settings(self) -> Settings:
        """The settings, read on first use. With a sandbox, those that belong to an installation are reset.

        Reading them sets the language: the terminal's or, if it has none, the configured one.
        """
        settings = load.load(self.config_file, os.environ)
        apply_language(settings)
        return _without_installation(settings, stored=self.sandbox_file is not None) if self.use_sandbox else settings

    def check_output(self, output: Path | None, *, writes: bool) -> None:
        """Refuse a configured output with a report of another gateway, if this is a stored sandbox."""
        if output is not None and self._stored_sandbox is not None:
            self._stored_sandbox.own_output(output, writes=writes)

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """Open a gateway; at the end, log out and close it."""
        with self._gateway() as (gateway, _account):
            yield gateway

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client for the gateway, with the configured limits. A temporary sandbox has a temporary journal."""
        from evergreen_groups.changes import Operator, TerminalUser
        from evergreen_groups.client import Client, adult_rule

        with self.state() as state, self._gateway() as (gateway, account):
            yield Client(
                gateway,
                account=Operator(account, terminal_user=TerminalUser.current()),
                policy=self.settings.policy,
                state=state,
                adults=adult_rule(self.settings.audit),
            )

    @contextmanager
    def state(self) -> Iterator[State]:
        """Open the journal, history and status. A temporary sandbox has temporary ones."""
        if not self.use_sandbox:
            from evergreen_groups.configured import configured_state

            with configured_state(self.settings, os.environ) as state:
                yield state
            return
        with self.sandbox_files() as files, State(files.directory) as state:
            yield state

    @contextmanager
    def sandbox_files(self) -> Iterator[SandboxFiles]:
        """Open the files of the sandbox. A stored sandbox is held until the command ends."""
        if self._stored_sandbox is not None:
            yield self._stored_sandbox
            return
        with TemporaryDirectory(prefix="evergreen-groups-") as directory:
            yield SandboxFiles(Path(directory))

    @cached_property
    def _stored_sandbox(self) -> SandboxFiles | None:
        if self.sandbox_file is None:
            return None
        return click.get_current_context().with_resource(hold_sandbox_files(self.sandbox_file))

    @contextmanager
    def sandbox(self) -> Iterator[tuple[Sandbox, dict[str, str]]]:
        """Open the sandbox; yield it with an environment that has its password, and directories for its state."""
        from evergreen_groups.settings import passwords

        with self.sandbox_files() as files, files.sandbox() as sandbox:
            _username, password = sandbox.report_account
            own = dict.fromkeys(("STATE_DIRECTORY", "CACHE_DIRECTORY"), str(files.directory))
            yield sandbox, {**os.environ, **own, passwords.PASSWORD_VARIABLE: password}

    def progress(self, doing: str = ASKING) -> AbstractContextManager[Progress]:
        """Show progress on a terminal; ``doing`` is shown until the first report."""
        return terminal_progress(quiet=self.quiet, doing=doing)

    width = staticmethod(terminal_width)
    emit = staticmethod(logs.emit)
    line = staticmethod(logs.format_line)

    def write(self, rendered: Rendered) -> None:
        """Write a report to standard output."""
        with self.output(rendered.format) as stream:
            stream.write(rendered.text)

    def output(self, output_format: str) -> AbstractContextManager[TextIO]:
        """Open standard output. A table longer than the terminal goes through a pager."""
        return output_in_pages(output_format, wanted=not self.no_pager)

    @contextmanager
    def opened(self, output_format: str, path: Path | None) -> Iterator[TextIO]:
        """Open a file, readable only by its owner, and say at the end that it was written; without one, see above."""
        from evergreen_groups.state import write_atomically

        with self.output(output_format) if path is None else write_atomically(path) as stream:
            yield stream
        if path is not None:
            self.summarise(Message("written: {path}", values={"path": path}))

    def summarise(self, message: str) -> None:
        """Say what was written or sent. Without a terminal this is left out, because the log has it."""
        if not self.quiet and sys.stderr.isatty():
            logs.emit(message)

    @contextmanager
    def _gateway(self) -> Iterator[tuple[Gateway, str]]:
        """Open the configured gateway, or one to an embedded sandbox; yield it with the account's name."""
        if not self.use_sandbox:
            from evergreen_groups.configured import connect, gateway_account

            account = gateway_account(self.settings)
            with connect(self.settings, os.environ) as gateway:
                yield gateway, account
            return
        from evergreen_groups.gateway import Credentials, Gateway

        with self.sandbox() as (sandbox, _environ):
            username, password = sandbox.report_account
            credentials = Credentials(username=username, password=password)
            with Gateway(sandbox.url, credentials=credentials) as gateway:
                yield gateway, username


def apply_language(settings: Settings) -> None:
    """Use the terminal's language or, if it has none, the configured one."""
    set_language(settings.language.language(catalogue.terminal_language(os.environ)))


def _without_installation(settings: Settings, *, stored: bool) -> Settings:
    """Reset settings that name libraries, profiles, files and people, so that sample data never replaces real data.

    This also keeps the sandbox from sending mail, and from showing the real report to users with a sandbox password. A
    ``stored`` sandbox writes and shows the configured report, if no other gateway has written it.
    """
    report, serve = settings.report, settings.serve
    if not stored:
        report, serve = replace(report, output=None, split="none"), replace(serve, report=None)
    return replace(
        settings,
        policy=replace(settings.policy, limits=()),
        audit=replace(settings.audit, institution_profiles=("Institution",)),
        report=replace(report, orgs=(), healthcheck_url=None),
        serve=serve,
        mail=MailSettings(),
        metrics=MetricsSettings(),
        plugins=PluginSettings(),
        reports=(),
    )
