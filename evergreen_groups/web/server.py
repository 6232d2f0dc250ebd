"""The web server under the app: waitress, stopped without cutting a request off."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.web.app import LARGEST_BODY

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from evergreen_groups.settings import ServeSettings


MOST_CONNECTIONS = 1000
LARGEST_HEADERS = 32 * 1024
"""Bytes."""

SPARE_THREADS = 6
"""For events, for what needs no ILS, and to turn away who waits in vain, while the others all wait for the ILS."""

GRACE = 35.0
"""Seconds that running requests have to finish in, unless told otherwise."""

_WITH_A_PATH = " while serving "


class Channel(HTTPChannel):
    """A connection whose answer is sent by the thread that works on the request, as long as it does.

    Waitress would have the main loop look again and again whether it may send as well, and go through all connections
    each time: with 200 of them that took five times as long as the requests themselves.
    """

    def writable(self) -> bool:
        """Whether the main loop has something to send, or to close."""
        with_its_thread = self.requests and self.total_outbufs_len < self.adj.outbuf_high_watermark
        return bool(self.will_close or (not with_its_thread and super().writable()))


class Server:
    """Serves a WSGI application at the configured address; port 0 takes a free one.

    ``url`` is the server's root, such as ``http://127.0.0.1:8211``.

    Raises:
        ConfigurationError: the address can't be used.
    """

    def __init__(self, application: WSGIApplication, settings: ServeSettings) -> None:
        self._listener = _listening(settings.host, settings.port)
        host, port = self._listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._map: dict[int, Any] = {}
        self._stopping = self._ended = False
        self._ending = threading.RLock()
        _quieten()
        made = create_server(
            application,
            map=self._map,
            sockets=[self._listener],
            threads=settings.threads + SPARE_THREADS,
            connection_limit=MOST_CONNECTIONS,
            backlog=MOST_CONNECTIONS,
            max_request_body_size=16 * LARGEST_BODY,  # more than the app takes, so that it can say so itself
            max_request_header_size=LARGEST_HEADERS,
            clear_untrusted_proxy_headers=False,  # whom to believe is the app's to decide
            asyncore_use_poll=True,
            ident=None,
        )
        self._waitress = cast(BaseWSGIServer, made)  # as it is for a single socket
        self._waitress.channel_class = Channel

    def stop(self) -> None:
        """Ask it to stop; may be called from a signal handler or another thread."""
        self._stopping = True
        with self._ending:
            if not self._ended:
                self._waitress.pull_trigger()

    def run(self, grace: float = GRACE) -> bool:
        """Serve until it is stopped, then take no more connections and finish the requests that have come.

        Gives back whether all of them were finished within ``grace`` seconds.
        """
        while not self._stopping:
            self._turn(1.0)
        self._stop_listening()
        finished = self._finish(time.monotonic() + grace)
        self._waitress.task_dispatcher.shutdown(timeout=1 if finished else 0)
        with self._ending:
            self._ended = True
            for channel in self._channels():
                channel.handle_close()  # its thread, where it has one, then leaves the others alone
            wasyncore.close_all(self._map)
        return finished

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)

    def _stop_listening(self) -> None:
        """Take in the connections that the kernel has accepted already, then close the door."""
        for _ in range(MOST_CONNECTIONS):
            if not select.select([self._listener], [], [], 0)[0]:
                break
            self._turn(0)
        self._map.pop(self._listener.fileno(), None)
        self._listener.close()

    def _finish(self, deadline: float) -> bool:
        """Serve the requests that have come, closing each connection that has none."""
        while channels := self._channels():
            if time.monotonic() > deadline:
                return False
            self._turn(0.1)
            for channel in channels:
                channel.will_close = channel.will_close or not (
                    channel.requests or channel.request or channel.total_outbufs_len
                )
        return True

    def _channels(self) -> list[HTTPChannel]:
        """The connections of clients."""
        return [entry for entry in self._map.values() if isinstance(entry, HTTPChannel)]


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, ValueError) as error:  # ValueError: the name can't be one at all
        reason = getattr(error, "strerror", None) or "not a host's name"
        raise ConfigurationError(
            "port {port} on {host} can't be used: {reason}",
            advice="try another",
            setting="serve.port",
            code="port-unusable",
            values={"port": port, "host": host, "reason": reason},
        ) from error
    return listener


def _quieten() -> None:
    """Keep waitress from logging a line for each request that waits, and addresses, which have barcodes in them."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.getLogger("waitress").addFilter(_without_the_address)


def _without_the_address(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if _WITH_A_PATH in message:
        record.msg, record.args, record.exc_info = message.split(_WITH_A_PATH, 1)[0], (), None
    return True
