"""``evergreen-groups serve``."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.cli.commands.sandbox import how_to_connect
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.language import gettext
from evergreen_groups.message import own_pip
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from evergreen_groups.settings import Settings
    from evergreen_groups.web import ReloadableService, Server

log = logging.getLogger("evergreen_groups.web")

# This check runs in the background, and a site that has just been started may answer slowly.
_SECONDS_TO_ANSWER = 20.0


@contextmanager
def reload_on_sighup(
    reloadable: ReloadableService, read: Callable[[], Settings], manager: cli.ServiceManager
) -> Iterator[None]:
    """Within this context, SIGHUP reloads the settings with ``read``, and new requests use them.

    Invalid settings are logged on one line, and the previous ones stay in effect. A reload runs in a thread, so
    requests continue. Several signals in a row cause a single reload.
    """
    asked = threading.Event()
    is_ending = False

    def reload_when_asked() -> None:
        while asked.wait():
            asked.clear()
            if is_ending:
                return
            manager.reloading()
            taken = reload(reloadable, read)
            reloadable.counters.reload(taken=taken)
            manager.ready()
            if taken:
                check_gateway(reloadable)

    former = signal.signal(signal.SIGHUP, lambda _signal, _frame: asked.set())
    begin(reload_when_asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)
        is_ending = True
        asked.set()


def reload(reloadable: ReloadableService, read: Callable[[], Settings]) -> bool:
    """Read the settings and use them for new requests. Return whether they were accepted.

    Errors are logged instead of raised, because a running service must not stop because of them.
    """
    try:
        settings = read()
        not_taken = reloadable.replace(settings)
    except EvergreenGroupsError as error:
        log.error("invalid settings, so the previous ones stay in effect: %s", error)  # noqa: TRY400 - a traceback adds nothing
        return False
    except Exception as error:  # log only its type, because its text may contain secrets
        log.error("can't read the settings, so the previous ones stay in effect: %s", type(error).__name__)  # noqa: TRY400
        return False
    log.info("settings reloaded from %s", settings.source or "the environment")
    if not_taken:
        log.warning("these changed settings need a restart: %s", ", ".join(not_taken))
    return True


def check_gateway(reloadable: ReloadableService) -> None:
    """Check in a thread whether the gateway answers, and log the result with advice."""

    def check() -> None:
        problem = reloadable.current.health.check_gateway(_SECONDS_TO_ANSWER)
        if problem is None:
            log.info("the gateway answers")
        elif not reloadable.is_closed:  # a sandbox stops with the service, perhaps before it has answered
            log.warning("the gateway can't be used: %s", problem)

    begin(check)


GRACE = 5.0
"""Seconds added to the longest request timeout when waiting for running requests at shutdown."""


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
    requests, a second one immediately. SIGHUP reloads the settings; if they are invalid, the previous ones stay in
    effect.
    """
    session: cli.Invocation = context.obj
    demo_desk = demo_desk or release is not None
    if demo_desk and not session.use_sandbox:
        raise cli.needs_option("--demo-desk", "--sandbox")

    def read() -> Settings:
        return cli.with_command_line(context, replace(session).settings)  # a copy doesn't have the settings cached

    if not session.use_sandbox:
        return _serve(read, os.environ)
    with session.sandbox() as (sandbox, environ):

        def read_for_sandbox() -> Settings:
            settings = read()
            gateway = replace(settings.gateway, url=sandbox.url, username=sandbox.report_account[0])
            return replace(settings, gateway=gateway)

        def announce(service_url: str) -> None:
            click.echo(how_to_connect(sandbox))
            if demo_desk:
                sandbox.serve_desk(service_url, release)
                click.echo()
                click.echo(gettext("Demo desk, for the staff logins above:"))
                for client, address in sandbox.desk_addresses.items():
                    click.echo(f"  {client:9}  {address}")
            click.echo()

        return _serve(read_for_sandbox, environ, announce)


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


def _serve(
    read: Callable[[], Settings], environ: Mapping[str, str], opened: Callable[[str], None] | None = None
) -> int:
    """Serve until a signal arrives, and return the exit status.

    ``read`` reads the settings; ``opened`` is called with the service's origin.
    """
    settings = read()
    refuse_without_server()
    from evergreen_groups.web import (
        PREFIX,
        SPARE_REQUESTS,
        Server,
        close,
        create_app,
        metrics_served,
        open_listener,
        reduce_garbage_collection,
        reloadable_service,
    )

    manager = cli.ServiceManager(environ)
    app = create_app(settings, environ)
    reloadable = reloadable_service(app)
    try:
        server = Server(app, open_listener(settings.serve), threads=settings.serve.threads + SPARE_REQUESTS)
        with ExitStack() as stack:
            listen = settings.metrics.listen
            metrics_url = listen and stack.enter_context(metrics_served(reloadable.counters, listen))
            stack.enter_context(stop_on_signals(server, manager))
            stack.enter_context(reload_on_sighup(reloadable, read, manager))
            if opened is not None:
                opened(server.url)
            if metrics_url is not None:
                log.info("metrics at %s", metrics_url)
            click.echo(gettext("Serving at {address}", address=f"{server.url}{PREFIX}/"))
            manager.ready(f"serving at {server.url}{PREFIX}/")
            check_gateway(reloadable)
            reduce_garbage_collection()

            def grace() -> float:
                serving = reloadable.current.settings
                return max(serving.serve.timeout, serving.events.deadline) + GRACE

            finished = server.run(grace)
    finally:
        close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED


@contextmanager
def stop_on_signals(server: Server, manager: cli.ServiceManager) -> Iterator[None]:
    """Let the first SIGTERM or Ctrl-C stop the server gracefully, and restore the default handling for a second one."""
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
