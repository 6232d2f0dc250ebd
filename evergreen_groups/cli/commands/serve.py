"""``evergreen-groups serve``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status, web
from evergreen_groups.cli import Invocation, ServiceManager, setting_options, usage_error, with_command_line
from evergreen_groups.cli.commands.sandbox import how_to_connect
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from evergreen_groups.sandbox import Sandbox
    from evergreen_groups.settings import Settings
    from evergreen_groups.web import ReloadableService, Server, Worker

log = logging.getLogger("evergreen_groups.web")

# This check runs in the background, and a site that has just been started may answer slowly.
_SECONDS_TO_ANSWER = 20.0


class SettingsReloader:
    """Within this context, SIGHUP reloads the settings with ``read``, and new requests use them.

    Invalid settings are logged on one line, and the previous ones stay in effect. A reload runs in a thread, so
    requests continue. Several signals in a row cause a single reload.
    """

    def __init__(self, reloadable: ReloadableService, read: Callable[[], Settings], manager: ServiceManager) -> None:
        self._reloadable = reloadable
        self._read = read
        self._manager = manager
        self._request_counters = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="reloading", daemon=True)

    def __enter__(self) -> Self:
        self._former = signal.signal(signal.SIGHUP, self._ask)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGHUP, self._former)
        self._ending = True
        self._request_counters.set()

    def check_gateway(self) -> None:
        """Check in a thread whether the gateway answers, and log the result."""
        target, name = partial(check_gateway, self._reloadable), "look at the gateway"
        threading.Thread(target=target, name=name, daemon=True).start()

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self._request_counters.set()

    def _run(self) -> None:
        while True:
            self._request_counters.wait()
            self._request_counters.clear()
            if self._ending:
                return
            self._manager.reloading()
            settings = reread(self._read)
            taken = settings is not None and apply_settings(self._reloadable, settings)
            self._reloadable.counters.reload(taken=taken)
            self._manager.ready()
            if taken:
                self.check_gateway()


def reread(read: Callable[[], Settings]) -> Settings | None:
    """Read the settings again. Invalid ones are logged, and None is returned."""
    with _log_setting_errors():
        return read()
    return None


def apply_settings(reloadable: ReloadableService, settings: Settings) -> bool:
    """Use these settings for new requests, log it, and return whether they were accepted."""
    with _log_setting_errors():
        not_taken = reloadable.replace(settings)
        log.info("the settings were read anew from %s", settings.source or "the environment")
        if not_taken:
            log.warning("these settings were changed and take a restart: %s", ", ".join(not_taken))
        return True
    return False


def check_gateway(reloadable: ReloadableService) -> None:
    """Check whether the gateway answers, and log the result with advice."""
    problem = reloadable.current.health.check_gateway(_SECONDS_TO_ANSWER)
    if problem is None:
        log.info("the gateway answers")
    else:
        log.warning("the gateway can't be used: %s", problem)


@contextmanager
def _log_setting_errors() -> Iterator[None]:
    """Log errors in settings instead of raising them, because a running service must not stop because of them."""
    try:
        yield
    except EvergreenGroupsError as error:
        log.error("the settings are wrong, and those before stay: %s", error)  # noqa: TRY400 - a traceback adds nothing
    except Exception as error:  # log only its type, because its text may contain secrets
        log.error("the settings can't be read, and those before stay: %s", type(error).__name__)  # noqa: TRY400


GRACE = 5.0
"""Seconds added to the longest request timeout when waiting for running requests at shutdown."""


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
        return with_command_line(context, replace(session).settings)  # a copy doesn't have the settings cached

    if not session.use_sandbox:
        return _serve(read, os.environ)
    with _sandbox(session) as (sandbox, environ):
        username, _password = sandbox.report_account

        def read_for_sandbox() -> Settings:
            settings = read()
            gateway = replace(settings.gateway, url=sandbox.url, username=username)
            # The sandbox runs in threads of this process, which rules out forking workers.
            return replace(settings, gateway=gateway, serve=replace(settings.serve, processes=1))

        return _serve(read_for_sandbox, environ, _announcer(sandbox, release, demo_desk=demo_desk))


@contextmanager
def _sandbox(session: Invocation) -> Iterator[tuple[Sandbox, Mapping[str, str]]]:
    """Open a sandbox, and return it with an environment that points to it and to its state."""
    from evergreen_groups.settings import PASSWORD_VARIABLE

    with session.sandbox_files() as files, files.sandbox() as sandbox:
        _username, password = sandbox.report_account
        yield sandbox, {**os.environ, **files.environ(), PASSWORD_VARIABLE: password}


def _announcer(sandbox: Sandbox, release: str | None, *, demo_desk: bool) -> Callable[[str], None]:
    """Return a function that prints the sandbox's addresses and opens its demo desk, given the service's address.

    The desk mimics the staff clients of ``release``; by default of the sandbox's own release.
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
    """Serve until a signal arrives, and return the exit status.

    ``read`` reads the settings; ``opened`` is called with the service's origin.
    """
    settings = read()
    try:
        from evergreen_groups.web import (
            PREFIX,
            SPARE_REQUESTS,
            MetricsListener,
            Server,
            close,
            create_app,
            open_listener,
            open_metrics_listener,
            reduce_garbage_collection,
            reloadable_service,
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
        return serve_in_processes(settings, read, environ, manager)
    app = create_app(settings, environ)
    try:
        server = Server(app, open_listener(settings.serve), threads=settings.serve.threads + SPARE_REQUESTS)
        with ExitStack() as stack:
            listen = settings.metrics.listen
            metrics = None
            if listen is not None:
                counters = reloadable_service(app).counters
                metrics = stack.enter_context(MetricsListener(counters, open_metrics_listener(listen)))
            stack.enter_context(stop_on_signals(server, manager))
            reloading = stack.enter_context(SettingsReloader(reloadable_service(app), read, manager))
            if opened is not None:
                opened(server.url)
            if metrics is not None:
                log.info("metrics are shown at %s", metrics.url)
            click.echo(gettext("Serving at {address}", address=f"{server.url}{PREFIX}/"))
            manager.ready(f"serving at {server.url}{PREFIX}/")
            reloading.check_gateway()
            reduce_garbage_collection()
            finished = server.run(grace=lambda: grace_of(reloadable_service(app).current.settings))
    finally:
        close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED


def grace_of(settings: Settings) -> float:
    """Return how many seconds to wait for running requests at shutdown."""
    return max(settings.serve.timeout, settings.events.deadline) + GRACE


@contextmanager
def stop_on_signals(server: Server, manager: ServiceManager) -> Iterator[None]:
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


def serve_in_processes(
    settings: Settings, read: Callable[[], Settings], environ: Mapping[str, str], manager: ServiceManager
) -> int:
    """Serve from several worker processes until a signal arrives, and return the exit status.

    Returns in each worker process, too, when it ends.

    Raises:
        ConfigurationError: an address can't be used.
    """
    listener, metrics_listener = _listeners(settings)
    supervisor = web.Supervisor(
        settings,
        manager,
        reread=lambda: reread(read),
        opened=lambda url: click.echo(gettext("Serving at {address}", address=f"{url}{web.PREFIX}/")),
        grace=grace_of,
        listeners=tuple(one for one in (listener, metrics_listener) if one is not None),
    )
    web.reduce_garbage_collection()  # before forking, so that workers share the memory of existing objects
    worker = supervisor.run()
    return supervisor.status if worker is None else _run_worker(worker, listener, metrics_listener, read, environ)


def _listeners(settings: Settings) -> tuple[socket.socket, socket.socket | None]:
    """Open the sockets shared by all processes, for requests and, if configured, for metrics."""
    with ExitStack() as stack:
        listener = stack.enter_context(web.open_listener(settings.serve))
        address = settings.metrics.listen
        metrics_listener = None if address is None else web.open_metrics_listener(address)
        stack.pop_all()
    return listener, metrics_listener


def _run_worker(
    worker: Worker,
    listener: socket.socket,
    metrics_listener: socket.socket | None,
    read: Callable[[], Settings],
    environ: Mapping[str, str],
) -> int:
    """Answer requests in a worker process until told to stop, and return the exit status."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor tells workers when to reload
    settings = worker.settings
    app = web.create_app(settings, environ, request_counters=worker.request_counters)
    reloadable = web.reloadable_service(app)

    def reload() -> bool:
        settings = reread(read)
        return settings is not None and apply_settings(reloadable, web.worker_settings(settings))

    try:
        server = web.Server(app, listener, threads=settings.serve.threads + web.SPARE_REQUESTS)
        with ExitStack() as stack:
            # Only the supervisor reports to the service manager.
            stack.enter_context(stop_on_signals(server, ServiceManager({})))
            if metrics_listener is not None:
                metrics = stack.enter_context(web.MetricsListener(reloadable.counters, metrics_listener))
                if worker.is_first:
                    log.info("metrics are shown at %s", metrics.url)
            worker.serve(server, reloadable, reload)
            if worker.is_first:
                threading.Thread(target=check_gateway, args=(reloadable,), daemon=True).start()
            web.reduce_garbage_collection()
            finished = server.run(grace=lambda: grace_of(reloadable.current.settings))
    finally:
        web.close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED
