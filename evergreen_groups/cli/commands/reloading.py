"""Reading the settings anew while the service runs, as SIGHUP asks for."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evergreen_groups.errors import EvergreenGroupsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Self

    from evergreen_groups.cli import ServiceManager
    from evergreen_groups.settings import Settings
    from evergreen_groups.web import Succession

log = logging.getLogger("evergreen_groups.web")

# Nobody waits for this look, and where the whole site has just been started all of it is slow.
_SECONDS_TO_ANSWER = 20.0


class Reloading:
    """While it is entered, SIGHUP has ``read`` give the settings that count from then on for new requests.

    Settings that are wrong are refused in one line of the log, and those before stay. It happens in a thread of its
    own: requests go on meanwhile, and several signals at once are one.
    """

    def __init__(self, succession: Succession, read: Callable[[], Settings], manager: ServiceManager) -> None:
        self._succession = succession
        self._read = read
        self._manager = manager
        self._asked = threading.Event()
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
        self._asked.set()

    def look_at_gateway(self) -> None:
        """Find out, in a thread of its own, whether the gateway answers; the log says it, or why not and what to do."""
        threading.Thread(target=self._look, name="look at the gateway", daemon=True).start()

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._ending:
                return
            self._manager.reloading()
            taken = self._reload()
            self._succession.counters.reload(taken=taken)
            self._manager.ready()
            if taken:
                self.look_at_gateway()

    def _reload(self) -> bool:
        settings = reread(self._read)
        return settings is not None and take(self._succession, settings)

    def _look(self) -> None:
        look_at_gateway(self._succession)


def reread(read: Callable[[], Settings]) -> Settings | None:
    """The settings as they are now; None where they are wrong, which the log says."""
    with _logged():
        return read()
    return None


def take(succession: Succession, settings: Settings) -> bool:
    """Have new requests use these settings, and log it; whether they do."""
    with _logged():
        not_taken = succession.replace(settings)
        log.info("the settings were read anew from %s", settings.source or "the environment")
        if not_taken:
            log.warning("these settings were changed and take a restart: %s", ", ".join(not_taken))
        return True
    return False


def look_at_gateway(succession: Succession) -> None:
    """Find out whether the gateway answers; the log says it, or why not and what to do."""
    problem = succession.current.health.look_at_gateway(_SECONDS_TO_ANSWER)
    if problem is None:
        log.info("the gateway answers")
    else:
        log.warning("the gateway can't be used: %s", problem)


@contextmanager
def _logged() -> Iterator[None]:
    """Log what goes wrong with settings: a service that runs isn't ended by it."""
    try:
        yield
    except EvergreenGroupsError as error:
        log.error("the settings are wrong, and those before stay: %s", error)  # noqa: TRY400 - it has no more to say
    except Exception as error:  # whatever it is; it may speak of secrets
        log.error("the settings can't be read, and those before stay: %s", type(error).__name__)  # noqa: TRY400
