"""Whether what the service stands on is there: the gateway, and the state's database."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State
    from evergreen_groups.web.overload import Breaker, RequestOutcome

# Anybody may ask, monitoring does every minute or so: neither the ILS nor the database is asked for each.
FRESH_SECONDS = 15.0
"""How long a state of the gateway, or of the database, is taken to last."""

# An echo touches no database; what takes longer isn't well.
_ECHO_SECONDS = 2.0
# Nor does a transaction that reads nothing; whoever asks waits no longer for it, however long it takes to fail.
_DATABASE_SECONDS = 2.0
_SERVICES = ("open-ils.auth", "open-ils.actor", "open-ils.pcrud")  # what a request of a desk asks


class Health:
    """Looks at both, seldom, and one request at a time: all threads would wait for a server that hangs.

    ``breaker`` knows of the gateway what requests have seen. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], gateway: Gateway, breaker: Breaker, state: State) -> None:
        self._gateway = gateway
        self._breaker = breaker
        self._state = state
        self._looking, self._looking_at_database = threading.Lock(), threading.Lock()
        self._database_seen: TimeToLiveCache[bool] = TimeToLiveCache(clock, FRESH_SECONDS)
        self._database_answers = True

    def gateway_outcome(self) -> RequestOutcome | None:
        """Whether the gateway answers, as last seen; it is asked where that was too long ago. None: not known yet."""
        last = self._breaker.last_outcome()
        if (last is None or last.seconds_ago > FRESH_SECONDS) and self._looking.acquire(blocking=False):
            try:
                self.look_at_gateway()
            finally:
                self._looking.release()
            last = self._breaker.last_outcome()
        return last

    def look_at_gateway(self, seconds: float = _ECHO_SECONDS) -> EvergreenGroupsError | None:
        """Ask each service that a desk needs for a sign of life; gives what went wrong, None where all is well.

        They have so many ``seconds`` together. While the gateway is known to be dead it isn't asked.
        """
        try:
            with self._breaker.watching():
                gateway = self._gateway.within(seconds)
                for name in _SERVICES:
                    gateway.call(name, "opensrf.system.echo", "evergreen-groups")
        except EvergreenGroupsError as error:
            return error
        return None

    def database_answers(self) -> bool:
        """Whether the state's database can be used, as seen in the last seconds."""
        if self._looking_at_database.acquire(blocking=False):
            looking = threading.Thread(target=self._look_at_database, name="state", daemon=True)
            looking.start()
            looking.join(_DATABASE_SECONDS)
            if looking.is_alive():
                self._database_answers = False
        return self._database_answers

    def _look_at_database(self) -> None:
        try:
            self._database_answers = self._database_seen.get("", self._database_can_be_read)
        finally:
            self._looking_at_database.release()

    def _database_can_be_read(self) -> bool:
        try:
            if self._state.database.is_there:
                with self._state.database.reading():
                    pass
        except EvergreenGroupsError:
            return False
        return True
