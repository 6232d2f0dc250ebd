"""Serving in several processes, as ``[serve] processes`` asks for."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import ServiceManager
from evergreen_groups.cli.commands.reloading import look_at_gateway, reread, take
from evergreen_groups.cli.commands.serve import grace_of, stopped_by_signals
from evergreen_groups.language import gettext
from evergreen_groups.settings import values
from evergreen_groups.web import (
    PREFIX,
    UNUSABLE,
    MetricsListener,
    Server,
    Supervisor,
    Worker,
    close,
    collect_garbage_seldom,
    create_app,
    listening_socket,
    metrics_unusable,
    port_unusable,
    share_of,
    succession_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evergreen_groups.settings import Settings

log = logging.getLogger("evergreen_groups.web")


def serve_in_processes(
    settings: Settings, read: Callable[[], Settings], environ: Mapping[str, str], manager: ServiceManager
) -> int:
    """Serve until a signal comes; the exit status. Returns in each of the processes, when it has ended.

    Raises:
        ConfigurationError: an address can't be used.
    """
    listener, for_metrics = _listeners(settings)
    supervisor = Supervisor(
        settings,
        manager,
        reread=lambda: reread(read),
        opened=lambda url: click.echo(gettext("Serving at {address}", address=f"{url}{PREFIX}/")),
        grace=grace_of,
        listeners=tuple(one for one in (listener, for_metrics) if one is not None),
    )
    collect_garbage_seldom()  # before they are started, so that they share what is there by now
    worker = supervisor.run()
    return supervisor.status if worker is None else _work(worker, listener, for_metrics, read, environ)


def _listeners(settings: Settings) -> tuple[socket.socket, socket.socket | None]:
    """The sockets that all processes take requests from, those for metrics where there is an address for them."""
    try:
        listener = listening_socket(settings.serve.host, settings.serve.port)
    except UNUSABLE as refusal:
        raise port_unusable(settings.serve, refusal) from refusal
    address = settings.metrics.listen
    if address is None:
        return listener, None
    try:
        return listener, listening_socket(*values.host_and_port(address))
    except UNUSABLE as refusal:
        listener.close()
        raise metrics_unusable(address, refusal) from refusal


def _work(
    worker: Worker,
    listener: socket.socket,
    for_metrics: socket.socket | None,
    read: Callable[[], Settings],
    environ: Mapping[str, str],
) -> int:
    """Answer requests in one of the processes until it is told to stop; the exit status."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the process that watches over this one reads the settings
    settings = worker.settings
    app = create_app(settings, environ, asked=worker.asked)
    succession = succession_of(app)

    def reload() -> bool:
        settings = reread(read)
        return settings is not None and take(succession, share_of(settings))

    try:
        server = Server(app, settings.serve, listener=listener)
        with ExitStack() as stack:
            # The service manager listens to that process alone.
            stack.enter_context(stopped_by_signals(server, ServiceManager({})))
            if for_metrics is not None and settings.metrics.listen is not None:
                metrics = MetricsListener(settings.metrics.listen, succession.counters, listener=for_metrics)
                stack.enter_context(metrics)
                if worker.is_first:
                    log.info("metrics are shown at %s", metrics.url)
            worker.serve(server, succession, reload)
            if worker.is_first:
                threading.Thread(target=look_at_gateway, args=(succession,), daemon=True).start()
            collect_garbage_seldom()
            finished = server.run(grace=lambda: grace_of(succession.current.settings))
    finally:
        close(app)
    return exit_status.DONE if finished else exit_status.TERMINATED
