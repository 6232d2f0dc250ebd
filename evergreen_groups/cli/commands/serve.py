"""``evergreen-groups serve``."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import Invocation, ServiceManager, setting_options, usage_error, with_given
from evergreen_groups.cli.commands.reloading import Reloading
from evergreen_groups.cli.commands.sandbox import how_to_connect
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.sandbox import Sandbox
    from evergreen_groups.settings import Settings
    from evergreen_groups.web import Server


log = logging.getLogger("evergreen_groups.web")

GRACE = 5.0
"""Seconds that running requests have to finish in at the end, beyond what the longest of them may take."""


@click.command("serve")
@setting_options("serve")
@click.option("--demo-desk", is_flag=True, help="With --sandbox: serve patron pages like the staff clients' as well.")
@click.option(
    "--client",
    "release",
    type=click.Choice([f"3.{minor}" for minor in range(11, 18)]),
    help="The demo desk as the staff clients of this release of Evergreen are.",
)
@click.pass_context
def serve_command(context: click.Context, /, *, demo_desk: bool, release: str | None, **_options: object) -> int:
    """Serve the web service that stands behind the ILS's own Apache (docs/install-service.md says how).

    It answers with the rights of whoever asks. Stop it with Ctrl-C or SIGTERM: running requests are finished first; a
    second time, it ends at once. SIGHUP has it read the settings anew; where they are wrong, those before stay.
    """
    session: Invocation = context.obj
    demo_desk = demo_desk or release is not None
    if demo_desk and not session.use_sandbox:
        raise usage_error(Message("--demo-desk goes with the sandbox: evergreen-groups --sandbox serve --demo-desk"))

    def read() -> Settings:
        return with_given(context, replace(session).settings)  # another reads the file anew

    if not session.use_sandbox:
        return _serve(read, os.environ)
    with _sandbox(session) as (sandbox, environ):
        username, _password = sandbox.report_account

        def read_for_sandbox() -> Settings:
            settings = read()
            gateway = replace(settings.gateway, url=sandbox.url, username=username)
            # The sandbox is in this process, at work in threads of its own, so no other is forked from it.
            return replace(settings, gateway=gateway, serve=replace(settings.serve, processes=1))

        return _serve(read_for_sandbox, environ, _announced(sandbox, release, demo_desk=demo_desk))


@contextmanager
def _sandbox(session: Invocation) -> Iterator[tuple[Sandbox, Mapping[str, str]]]:
    """A sandbox, and an environment that leads to it; its state is where it is itself."""
    from evergreen_groups.settings import PASSWORD_VARIABLE

    with session.sandbox_place() as place, place.sandbox() as sandbox:
        _username, password = sandbox.report_account
        yield sandbox, {**os.environ, **place.environ(), PASSWORD_VARIABLE: password}


def _announced(sandbox: Sandbox, release: str | None, *, demo_desk: bool) -> Callable[[str], None]:
    """What prints the sandbox's addresses, and opens its demo desk, once the address of the service is known.

    The desk is that of the ``release``'s staff clients; of the sandbox's own release where none is named.
    """

    def announce(service_url: str) -> None:
        click.echo(how_to_connect(sandbox))
        if demo_desk:
            sandbox.serve_desk(service_url, release)
            click.echo()
            click.echo(gettext("Demo desk, for the staff accounts above:"))
            for client, address in sandbox.desk_addresses.items():
                click.echo(f"  {client:9}  {address}")
        click.echo()

    return announce


def _serve(
    read: Callable[[], Settings], environ: Mapping[str, str], opened: Callable[[str], None] | None = None
) -> int:
    """Serve until a signal comes; the exit status.

    ``read`` reads the settings; ``opened`` is called with the root of the service's address.
    """
    settings = read()
    try:
        from evergreen_groups.web import (
            PREFIX,
            MetricsListener,
            Server,
            close,
            collect_garbage_seldom,
            create_app,
            succession_of,
        )
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            "serving needs {package}, which isn't installed",
            advice="pip install 'evergreen-groups[serve]'",
            code="server-not-installed",
            values={"package": missing.name},
        ) from None

    manager = ServiceManager(environ)
    if settings.serve.processes > 1:
        from evergreen_groups.cli.commands.serving_processes import serve_in_processes

        return serve_in_processes(settings, read, environ, manager)
    app = create_app(settings, environ)
    try:
        server = Server(app, settings.serve)
        with ExitStack() as stack:
            listen = settings.metrics.listen
            metrics = stack.enter_context(MetricsListener(listen, succession_of(app).counters)) if listen else None
            stack.enter_context(stopped_by_signals(server, manager))
            reloading = stack.enter_context(Reloading(succession_of(app), read, manager))
            if opened is not None:
                opened(server.url)
            if metrics is not None:
                log.info("metrics are shown at %s", metrics.url)
            click.echo(gettext("Serving at {address}", address=f"{server.url}{PREFIX}/"))
            manager.ready(f"serving at {server.url}{PREFIX}/")
            reloading.look_at_gateway()
            collect_garbage_seldom()
            finished = server.run(grace=lambda: grace_of(succession_of(app).current.settings))
    finally:
        close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED


def grace_of(settings: Settings) -> float:
    """How many seconds running requests have to finish in at the end."""
    return max(settings.serve.timeout, settings.events.deadline) + GRACE


@contextmanager
def stopped_by_signals(server: Server, manager: ServiceManager) -> Iterator[None]:
    """Let the first SIGTERM or Ctrl-C stop the server, and a second one do what it always does."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        restore()
        manager.stopping()
        server.stop()

    for number in former:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
