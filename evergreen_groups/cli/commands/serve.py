"""``evergreen-groups serve``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import Invocation, setting_options, usage_error, with_given
from evergreen_groups.cli.commands.sandbox import how_to_connect
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.sandbox import Sandbox
    from evergreen_groups.settings import Settings
    from evergreen_groups.web import Server


GRACE = 5.0
"""Seconds that running requests have to finish in at the end, beyond what the longest of them may take."""


@click.command("serve")
@setting_options("serve")
@click.option("--demo-desk", is_flag=True, help="With --sandbox: serve patron pages like the staff clients' as well.")
@click.pass_context
def serve_command(context: click.Context, /, *, demo_desk: bool, **_options: object) -> int:
    """Serve the web service that stands behind the ILS's own Apache (docs/install-service.md says how).

    It answers with the rights of whoever asks. Stop it with Ctrl-C or SIGTERM: running requests are finished first; a
    second time, it ends at once.
    """
    session: Invocation = context.obj
    if demo_desk and not session.use_sandbox:
        raise usage_error(Message("--demo-desk goes with the sandbox: evergreen-groups --sandbox serve --demo-desk"))
    settings = with_given(context, session.settings)
    if not session.use_sandbox:
        return _serve(settings, os.environ)
    with _sandbox(session, settings) as (sandbox, settings, environ):
        return _serve(settings, environ, _announced(sandbox, demo_desk=demo_desk))


@contextmanager
def _sandbox(session: Invocation, settings: Settings) -> Iterator[tuple[Sandbox, Settings, Mapping[str, str]]]:
    """A sandbox, and settings and environment that lead to it; its state is where it is itself."""
    from evergreen_groups.settings import PASSWORD_VARIABLE

    with session.sandbox_place() as place, place.sandbox() as sandbox:
        username, password = sandbox.report_account
        gateway = replace(settings.gateway, url=sandbox.url, username=username)
        environ = {**os.environ, **place.environ(), PASSWORD_VARIABLE: password}
        yield sandbox, replace(settings, gateway=gateway), environ


def _announced(sandbox: Sandbox, *, demo_desk: bool) -> Callable[[str], None]:
    """What prints the sandbox's addresses, and opens its demo desk, once the address of the service is known."""

    def announce(service_url: str) -> None:
        click.echo(how_to_connect(sandbox))
        if demo_desk:
            sandbox.serve_desk(service_url)
            click.echo()
            click.echo(gettext("Demo desk, for the staff accounts above:"))
            for client, address in sandbox.desk_addresses.items():
                click.echo(f"  {client:9}  {address}")
        click.echo()

    return announce


def _serve(settings: Settings, environ: Mapping[str, str], opened: Callable[[str], None] | None = None) -> int:
    """Serve until a signal comes; the exit status. ``opened`` is called with the root of the service's address."""
    try:
        from evergreen_groups.web import PREFIX, Server, close, create_app
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            "serving needs {package}, which isn't installed",
            advice="pip install 'evergreen-groups[serve]'",
            code="server-not-installed",
            values={"package": missing.name},
        ) from None

    app = create_app(settings, environ)
    try:
        server = Server(app, settings.serve)
        with _stopped_by_signals(server):
            if opened is not None:
                opened(server.url)
            click.echo(gettext("Serving at {address}", address=f"{server.url}{PREFIX}/"))
            longest = max(settings.serve.timeout, settings.events.deadline)
            finished = server.run(grace=longest + GRACE)
    finally:
        close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED


@contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """Let the first SIGTERM or Ctrl-C stop the server, and a second one do what it always does."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        restore()
        server.stop()

    for number in former:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
