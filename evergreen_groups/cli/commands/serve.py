"""``evergreen-groups serve``."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.cli.commands.sandbox import how_to_connect
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import gettext
from evergreen_groups.message import own_pip
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from evergreen_groups.settings import Settings
    from evergreen_groups.web import Server, Service

log = logging.getLogger("evergreen_groups.web")

# This check runs in the background, and a site that has just been started may answer slowly.
_SECONDS_TO_ANSWER = 20.0


def check_gateway(service: Service) -> None:
    """Check in a thread whether the gateway answers, and log the result with advice."""

    def check() -> None:
        problem = service.health.check_gateway(_SECONDS_TO_ANSWER)
        if problem is None:
            log.info("the gateway answers")
        elif not service.is_closed:  # a sandbox stops with the service, perhaps before it has answered
            log.warning("the gateway can't be used: %s", problem)

    begin(check)


LAST_STEP = 5.0
"""Seconds that a long change has for its current step after the server's grace period. Then the process ends."""


@click.command("serve")
@cli.setting_options("serve")
@click.option("--demo-desk", is_flag=True, help="With --sandbox: also serve pages like the staff clients'.")
@click.option(
    "--client",
    "release",
    type=click.Choice([f"3.{minor}" for minor in range(11, 18)]),
    help="Release of Evergreen whose staff clients the demo desk imitates.",
)
@click.pass_context
def serve_command(context: click.Context, /, *, demo_desk: bool, release: str | None, **_options: object) -> int:
    """Run the web service, behind Evergreen's own Apache (see docs/install.md).

    Each request has the permissions of the person who makes it. Ctrl-C or SIGTERM stops the service after the running
    changes and requests, a second Ctrl-C immediately. The settings are read at the start.
    """
    session: cli.Invocation = context.obj
    demo_desk = demo_desk or release is not None
    if demo_desk and not session.use_sandbox:
        raise cli.needs_option("--demo-desk", "--sandbox")

    settings = cli.with_command_line(context, session.settings)
    if not session.use_sandbox:
        return _serve(settings, os.environ)
    session.check_output(settings.serve.report or settings.report.output, writes=False)
    with session.sandbox() as (sandbox, environ):
        gateway = replace(settings.gateway, url=sandbox.url, username=sandbox.report_account[0])

        def announce(service_url: str) -> None:
            click.echo(how_to_connect(sandbox))
            if demo_desk:
                sandbox.serve_desk(service_url, release)
                click.echo()
                click.echo(gettext("Demo desk, for the staff logins above:"))
                for client, address in sandbox.desk_addresses.items():
                    click.echo(f"  {client:9}  {address}")
                click.echo(f"  {gettext('Report'):9}  {sandbox.url}/evergreen-groups/reports/latest")
            click.echo()

        return _serve(replace(settings, gateway=gateway), environ, announce)


def refuse_without_server() -> None:
    """Refuse to serve if a package of the extra ``serve`` isn't installed."""
    for package in ("flask", "limits", "waitress", "prometheus_client"):
        if find_spec(package) is None:
            raise ConfigurationError(
                "{package} isn't installed",
                advice="{pip} install 'evergreen-groups[{extra}]'",
                code="server-not-installed",
                values={"package": package, "pip": own_pip(), "extra": "serve"},
            )


def _serve(settings: Settings, environ: Mapping[str, str], opened: Callable[[str], None] | None = None) -> int:
    """Serve until a signal arrives, and return the exit status. ``opened`` is called with the service's origin."""
    refuse_without_server()
    from evergreen_groups.web import (
        GRACE,
        PREFIX,
        SPARE_REQUESTS,
        TIMEOUT,
        Server,
        close,
        create_app,
        metrics_served,
        open_listener,
        passed_listener,
        reduce_garbage_collection,
        service_of,
    )

    app = create_app(settings, environ)
    service = service_of(app)
    try:
        passed = passed_listener(environ)
        server = Server(app, passed or open_listener(settings.serve), threads=settings.serve.threads + SPARE_REQUESTS)
        with ExitStack() as stack:
            listen = settings.metrics.listen
            metrics_url = listen and stack.enter_context(metrics_served(service.counters, listen))
            stop_on_signals(server, GRACE + LAST_STEP)
            if opened is not None:
                opened(server.url)
            if metrics_url is not None:
                log.info("metrics at %s", metrics_url)
            click.echo(gettext("Serving at {address}", address=f"{server.url}{PREFIX}/"))
            cli.notify_ready(environ, f"serving at {server.url}{PREFIX}/")
            check_gateway(service)
            reduce_garbage_collection()
            # A passed socket has a successor. Unused connections are closed after the timeout anyway.
            reuse = 0.0 if passed is None else TIMEOUT
            finished = server.run(lambda: service.change_runs.is_any_running, reuse=reuse)
    finally:
        close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED


def stop_on_signals(server: Server, seconds: float) -> None:
    """Have SIGTERM or Ctrl-C stop the server gracefully within ``seconds``, and a second Ctrl-C immediately."""
    former = signal.getsignal(signal.SIGINT)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # Another SIGTERM changes nothing: systemd sends one if a reload or a stop follows a reload.
        signal.signal(signal.SIGINT, former)
        if not server.is_stopping:
            signal.alarm(round(seconds))  # ends the process even if a thread hangs
            server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
