"""Where the classes of the IDL come from: memory, the disk, or the server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode

from evergreen_groups.errors import DataError, HTTPStatusError
from evergreen_groups.gateway.call import IDL_CALL
from evergreen_groups.gateway.deadline import held
from evergreen_groups.gateway.idl import Idl
from evergreen_groups.gateway.idl_cache import IdlCache
from evergreen_groups.gateway.transport import Reply

log = logging.getLogger("evergreen_groups.gateway")

Fetch = Callable[[str, Mapping[str, str]], Reply]

SECONDS = 300.0
"""How long classes are taken to be current. An upgrade of the ILS may put fields into another order at any time."""


class IdlSource:
    """Gets the classes that are needed, each once in a while. Safe to share between threads.

    The server is asked for single classes (``?class=``, Apache's idlchunk
    module); where it refuses, or answers without them, for its whole IDL, once.
    """

    def __init__(self, url: str, cache: IdlCache | None) -> None:
        self._url = url
        self._cache = cache
        self._idl = Idl()
        self._complete = False
        self._ends = time.monotonic() + SECONDS
        self._lock = threading.Lock()

    def require(self, class_ids: Iterable[str], fetch: Fetch, until: float | None) -> Idl:
        """Return the classes known so far, with at least ``class_ids`` among them.

        ``fetch`` gets an address with some headers. While another thread does that, this one waits, but not beyond
        ``until``, a time of the monotonic clock (None: however long that takes).

        Raises DataError for a class that the server doesn't have, and for an IDL that can't be read, TimedOutError
        when it is too late.
        """
        with held(self._lock, until, IDL_CALL):
            wanted = set(class_ids)
            if time.monotonic() > self._ends:
                wanted |= set(self._idl)  # somebody may be about to read an answer with them
                self._idl, self._complete = Idl(), False
                self._ends = time.monotonic() + SECONDS
            missing = sorted(wanted - set(self._idl))
            if missing and not self._complete:
                self._narrow(missing, fetch)
            if not self._complete and any(class_id not in self._idl for class_id in missing):
                self._idl.add(self._get(self._url, fetch))
                self._complete = True
            idl = self._idl
        for class_id in missing:
            _ = idl[class_id]  # raises for what isn't there
        return idl

    def _narrow(self, class_ids: Sequence[str], fetch: Fetch) -> None:
        query = urlencode([("class", class_id) for class_id in class_ids], quote_via=quote)
        try:
            self._idl.add(self._get(f"{self._url}?{query}", fetch))
        except (HTTPStatusError, DataError) as error:
            log.debug("the server does not narrow its IDL (%s)", type(error).__name__)

    def _get(self, url: str, fetch: Fetch) -> Idl:
        kept = self._cache.load(url) if self._cache else None
        known = _parsed(kept.document) if kept else None
        reply = fetch(url, kept.conditions if kept and known else {})
        if known is not None and reply.status == 304:
            return known
        idl = Idl.parse(reply.body)
        if self._cache:
            self._cache.save(url, reply.body, reply.headers)
        return idl


def _parsed(document: bytes) -> Idl | None:
    try:
        return Idl.parse(document)
    except DataError:
        return None
