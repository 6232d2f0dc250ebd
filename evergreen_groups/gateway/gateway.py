"""The gateway: calls to one server in one session, by several threads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from evergreen_groups import arguments
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway.address import Address
from evergreen_groups.gateway.answer import Redactor
from evergreen_groups.gateway.call import Call, GatewayKind, RetryPolicy
from evergreen_groups.gateway.capabilities import Capabilities, KnownCapabilities
from evergreen_groups.gateway.idl import IdlSource
from evergreen_groups.gateway.pcrud import Pcrud
from evergreen_groups.gateway.record import decode, objects_by_class
from evergreen_groups.gateway.sender import Credentials, Sender, Session
from evergreen_groups.gateway.transport import Transport
from evergreen_groups.threads import begin, ordered_map

if TYPE_CHECKING:
    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.call import CallObserver
    from evergreen_groups.gateway.idl import Idl

Item = TypeVar("Item")
Value = TypeVar("Value")


class Gateway:
    """An Evergreen gateway. Safe to share between threads. Close it, or use it in a ``with`` statement.

    ``url`` is the server's root (``https://host``), with or without ``/osrf-gateway-v1``. Give ``credentials``, or an
    existing ``token``, which is neither renewed nor logged out; calls without a session need neither. ``locale`` (such
    as ``fr-CA``) sets the language of descriptions. ``timeout`` is how long the gateway waits for the service, in
    seconds; the whole answer must arrive within ``grace`` more seconds. ``concurrency`` is the maximum number of calls
    at once. ``ca_bundle`` is a PEM file of certificates to trust instead of the usual ones; TLS is always verified.
    ``allow_plain_http`` permits sending secrets unencrypted to another machine. ``on_call`` is called after each
    request. Proxies come from the environment, except for this machine itself.

    ``only_supported`` refuses releases before 3.11 with OldReleaseError. The release is read in parallel with the first
    call. The result of a read is held back, and a write isn't sent, until the release is known.

    Raises ConfigurationError for invalid settings and ArgumentError for arguments of a wrong type.
    """

    def __init__(  # noqa: PLR0913  # the settings of a connection, all by name and with a default
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        token: str | None = None,
        locale: str | None = None,
        # The gateway's own answer to a timeout (errors-034) says more than our giving up, so it gets a little longer.
        timeout: float = 60.0,
        grace: float = 5.0,
        connect_timeout: float = 10.0,
        # A service has few processes, and each handles one request at a time. Three calls at once took 2.5 s for what
        # one at a time took 4.1 s for (10,901 members); dozens would keep the circulation desks waiting.
        concurrency: int = 3,
        ca_bundle: Path | str | None = None,
        allow_plain_http: bool = False,
        retries: RetryPolicy | None = None,
        on_call: CallObserver | None = None,
        only_supported: bool = False,
    ) -> None:
        self._address = Address.parse(arguments.text("url", url))
        if not allow_plain_http:
            self._address.refuse_plain_http()
        for name, seconds in (("timeout", timeout), ("grace", grace), ("connect_timeout", connect_timeout)):
            arguments.seconds(name, seconds)
        if min(timeout, grace, connect_timeout, arguments.integer("concurrency", concurrency)) <= 0:
            raise ConfigurationError("timeouts and concurrency must be greater than 0", code="timeouts-not-positive")
        self.concurrency = concurrency
        self._known = KnownCapabilities()
        transport = Transport(self._address, connect_timeout, concurrency, Path(ca_bundle) if ca_bundle else None)
        self._sender = Sender(
            transport, retries or RetryPolicy(), locale, timeout, grace, on_call, self._known.forget_rows
        )
        self.statistics = transport.statistics
        self._session = Session(self._sender, credentials=credentials, token=token)
        self._idl_source = IdlSource(self._address.idl, self._known.forget_rows)
        self._only_supported = only_supported

    def __repr__(self) -> str:
        return f"Gateway({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The server's root, without a trailing slash."""
        return self._address.base

    @property
    def timeout(self) -> float:
        """How long the gateway waits for a service, in seconds, unless a call overrides it."""
        return self._sender.timeout

    @property
    def kind(self) -> GatewayKind | None:
        """The kind of gateway, None before its first answer."""
        return self._sender.transport.kind

    @property
    def token(self) -> str:
        """The session's token. Logs in if necessary."""
        return self._session.token(self._sender)

    @property
    def seconds_left(self) -> float | None:
        """Seconds in which calls may still begin after :meth:`within`; None without a limit."""
        left = self._sender.deadline - time.monotonic()
        return None if left == math.inf else max(0.0, left)

    @property
    def reads_replicas(self) -> bool:
        """Whether plain reads, and pcrud's, may lag some seconds behind writes, because they use replicas.

        If so, the ``.authoritative`` forms of methods read from the primary database. Makes a call now and then.
        """
        return self._known.reads_replicas(self)

    @property
    def pcrud(self) -> Pcrud:
        """Searches through open-ils.pcrud."""
        return Pcrud(self)

    def acting_as(self, token: str) -> Self:
        """Return this gateway for another session, which is neither renewed nor logged out.

        Closing the returned gateway leaves this one open. Errors don't show ``token``, and nothing stores it.
        """
        return self._for_session(token=arguments.text("token", token))

    @contextmanager
    def logged_in(self, credentials: Credentials) -> Iterator[Self]:
        """Return this gateway for a session that lasts for the block only, otherwise as in :meth:`acting_as`."""
        view = self._for_session(credentials=credentials)
        try:
            yield view
        finally:
            view.logout()

    def within(self, seconds: float) -> Self:
        """Return this gateway and its session, for calls that must all end ``seconds`` from now.

        Calls that run longer, or begin later, raise TimedOutError. Closing the returned gateway closes nothing.
        """
        arguments.seconds("seconds", seconds)
        return self._view(deadline=min(time.monotonic() + seconds, self._sender.deadline))

    def refusing_old_releases(self) -> Self:
        """Return this gateway and its session with ``only_supported``. Closing the returned gateway closes nothing."""
        return self._view(only_supported=True)

    def for_probes(self, retries: RetryPolicy | None = None) -> Self:
        """Return this gateway and its session for probing any release, if given with other ``retries``."""
        return self._view(only_supported=False, retries=retries or self._sender.retries)

    def _for_session(self, **login: Any) -> Self:
        view = self._view(redactor=Redactor())
        view._session = Session(view._sender, **login)
        return view

    def _view(self, *, only_supported: bool | None = None, **changes: Any) -> Self:
        """Return a gateway over the same connections that can be closed separately, with changes to its sender."""
        view = copy(self)
        view._sender = replace(self._sender, origin=self._sender, **changes)
        if only_supported is not None:
            view._only_supported = only_supported
        return view

    def capabilities(self) -> Capabilities:
        """Ask the server for its capabilities, without a login. Raises GatewayError if it can't be asked."""
        return Capabilities.read(self)

    def counts_hidden_rows(self) -> bool:
        """Return whether hidden rows may count against ``limit``, cached for a minute. Raises GatewayError."""
        return self._known.counts_hidden_rows(self)

    def login(self) -> None:
        """Log in now instead of with the first call. Raises LoginRefusedError if Evergreen refuses."""
        self._session.token(self._sender)

    def logout(self) -> None:
        """End the session on the server if it was opened here. The next call that needs a session logs in again."""
        self._session.logout()

    def close(self) -> None:
        """Stop calls in other threads, log out and close all connections. A view only stops accepting calls."""
        self._sender.close(self._session.logout)

    def call(
        self,
        service: str,
        method: str,
        *params: object,
        expect: Expect = "one",
        write: bool = False,
        own_connection: bool = False,
        timeout: float | None = None,
    ) -> Result:
        """Call a method and return its result.

        :data:`TOKEN` among ``params`` is replaced with the session's token. ``expect`` is the number of results that
        the method promises: ``"one"``, ``"optional"`` (one or none), or ``"many"`` for streaming methods. Prefer their
        ``.atomic`` form with ``"one"``, because a truncated stream looks complete. ``own_connection`` sends a read over
        a new connection. Use it when an answer doesn't show what it belongs to, such as a count or an empty list.

        A read is retried if the failure may pass. A ``write`` is sent once, over its own connection; the
        TransportError's ``sent`` says whether the server may have executed it. After the session has ended, it is
        renewed and the call repeated, even a write, because NO_SESSION means that nothing was done.

        An answer is believed only if it belongs to its question: behind the Rust gateway, an echo verifies every empty
        result and every failure, and precedes every write. Raises a GatewayError, and DataError for another answer.
        """
        if timeout is not None:
            arguments.seconds("timeout", timeout)
        call = Call(arguments.text("service", service), arguments.text("method", method))
        release = self._known.release(self) if self._only_supported else None
        if write and release is not None:
            self._known.refuse_old(release)
        try:
            return self._session.send(
                self._sender, call, params, expect=expect, write=write, own_connection=own_connection, timeout=timeout
            )
        finally:
            if release is not None:
                self._known.refuse_old(release)

    def idl(self, *class_ids: str) -> Idl:
        """Return the classes known so far, fetching missing ones. Raises DataError for a class that doesn't exist."""
        return self._idl_source.require(class_ids, self._sender.fetch, self._sender.deadline)

    def decode(self, value: Any) -> Any:
        """Turn every fieldmapper object in ``value`` into a Record. Raises DataError for a class that doesn't exist."""
        return decode(value, self.idl(*objects_by_class(value)))

    def map(self, function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
        """Yield ``function(item)`` in the items' order. Takes them as needed; makes ``concurrency`` calls at once."""
        return ordered_map(function, items, self.concurrency)

    def in_parallel(self, *functions: Callable[[], Any]) -> list[Any]:
        """Call functions in parallel, and return their results in order. The first exception is raised."""
        return list(ordered_map(lambda function: function(), functions, self.concurrency))

    def begin(self, function: Callable[[], Value]) -> Future[Value]:
        """Start reading in another thread. The read uses one of the ``concurrency`` connections."""
        return begin(function)


def connect(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    workstation: str | None = None,
    locale: str | None = None,
    timeout: float = 60.0,
) -> Gateway:
    """Open a gateway: ``connect("https://evergreen.example.org", username="…", password="…")``.

    Nothing is sent before the first call. The first call that needs a session logs in, and closing the gateway logs
    out. Without an account, only calls that need no session work. :class:`Gateway` has more options. Raises
    ConfigurationError, and ArgumentError if an argument has the wrong type or one of name and password is missing.
    """
    credentials = None
    if username is not None or password is not None:
        credentials = Credentials(
            username=arguments.text("username", username),
            password=arguments.text("password", password),
            workstation=workstation,
        )
    return Gateway(url, credentials=credentials, locale=locale, timeout=timeout)
