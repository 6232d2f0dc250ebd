"""New settings while the service runs: what requests share is made anew, and the former goes when its requests end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from evergreen_groups.settings import declared, value_of, with_values
from evergreen_groups.web.service import EXTENSION, Service

if TYPE_CHECKING:
    from flask import Flask

    from evergreen_groups.metrics import ServiceCounters
    from evergreen_groups.settings import Settings
    from evergreen_groups.web.rate_limits import Counters

SUCCESSION = "evergreen-groups-succession"
"""Where the app has it."""

AT_START = ("serve.host", "serve.port", "serve.threads", "serve.processes", "metrics.listen")
"""The settings that count from the start of the process to its end."""


class Succession:
    """One :class:`Service` after the other, each with the settings that it was made with.

    A request keeps the one that it began with (:meth:`enter`, :meth:`leave`). ``environ``, ``clock``, ``counters`` and
    ``asked`` are the process's own. Safe to share between threads.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        counters: ServiceCounters,
        asked: Counters | None = None,
    ) -> None:
        self._extensions = app.extensions
        self._environ = environ
        self._clock = clock
        self.counters = counters
        self._changed = threading.Condition()
        self._under_way: dict[Service, int] = {}
        self._replacing = threading.Lock()
        self._retiring: list[threading.Thread] = []
        self._asked = asked
        self._extensions[EXTENSION] = Service(settings, environ, clock, counters, asked)
        self._extensions[SUCCESSION] = self

    @property
    def current(self) -> Service:
        """The one that new requests get."""
        service: Service = self._extensions[EXTENSION]
        return service

    def enter(self) -> Service:
        """The one for a request that begins now; it stays as it is until the request leaves."""
        with self._changed:
            service = self.current
            self._under_way[service] = self._under_way.get(service, 0) + 1
            return service

    def leave(self, service: Service) -> None:
        """The request has ended."""
        with self._changed:
            self._under_way[service] -= 1
            if not self._under_way[service]:
                del self._under_way[service]
                self._changed.notify_all()

    def replace(self, settings: Settings) -> list[str]:
        """Have new requests use these settings; gives the names of those that take a restart to change.

        Requests under way, and changes that are being made, go on with the former ones. Where this raises, nothing
        has changed.

        Raises:
            ConfigurationError: something is wrong with them, or with a secret that they name.
        """
        with self._replacing:
            former = self.current
            at_start = [one for one in declared(type(settings)) if one.key in AT_START]
            at_work = {one.key: value_of(former.settings, one) for one in at_start}
            new = Service(
                with_values(settings, at_work), self._environ, self._clock, self.counters, self._asked, former=former
            )
            with self._changed:
                self._extensions[EXTENSION] = new
            thread = threading.Thread(target=self._retire, args=(former, new), name="retiring", daemon=True)
            thread.start()
            self._retiring = [one for one in self._retiring if one.is_alive()] + [thread]
        return [one.key for one in at_start if value_of(settings, one) != at_work[one.key]]

    def close(self) -> None:
        """Close the one at work. Those before it close themselves when nobody needs them any more."""
        with self._changed:
            self._under_way.clear()
            self._changed.notify_all()
        self.current.close()
        for thread in self._retiring:
            thread.join(1.0)

    def _retire(self, former: Service, new: Service) -> None:
        with self._changed:
            self._changed.wait_for(lambda: former not in self._under_way)
        former.change_runs.finish()
        former.close(successor=new)


def succession_of(app: Flask) -> Succession:
    """What the requests of an app share, one after the other as settings are read anew."""
    return cast(Succession, app.extensions[SUCCESSION])
