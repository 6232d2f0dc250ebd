"""Where the classes of the IDL come from: memory, the disk, or the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode

from evergreen_groups.errors import DataError, HTTPStatusError
from evergreen_groups.gateway.idl import Idl
from evergreen_groups.gateway.idl_cache import IdlCache
from evergreen_groups.gateway.transport import Reply

log = logging.getLogger("evergreen_groups.gateway")


class IdlSource:
    """Gets the classes that are needed, each once. Safe to share between threads.

    ``fetch`` gets an address with some headers. The server is asked for single classes (``?class=``, Apache's idlchunk
    module); where it refuses, or answers without them, for its whole IDL, once.
    """

    def __init__(self, url: str, fetch: Callable[[str, Mapping[str, str]], Reply], cache: IdlCache | None) -> None:
        self._url = url
        self._fetch = fetch
        self._cache = cache
        self._idl = Idl()
        self._complete = False
        self._lock = threading.Lock()

    def require(self, class_ids: Iterable[str]) -> Idl:
        """Return the classes known so far, with at least ``class_ids`` among them.

        Raises DataError for a class that the server doesn't have, and for an IDL that can't be read.
        """
        with self._lock:
            missing = sorted(set(class_ids) - set(self._idl))
            if missing and not self._complete:
                self._narrow(missing)
            if not self._complete and any(class_id not in self._idl for class_id in missing):
                self._idl.add(self._get(self._url))
                self._complete = True
        for class_id in missing:
            _ = self._idl[class_id]  # raises for what isn't there
        return self._idl

    def _narrow(self, class_ids: Sequence[str]) -> None:
        query = urlencode([("class", class_id) for class_id in class_ids], quote_via=quote)
        try:
            self._idl.add(self._get(f"{self._url}?{query}"))
        except (HTTPStatusError, DataError) as error:
            log.debug("the server does not narrow its IDL (%s)", type(error).__name__)

    def _get(self, url: str) -> Idl:
        kept = self._cache.load(url) if self._cache else None
        known = _parsed(kept.document) if kept else None
        reply = self._fetch(url, kept.conditions if kept and known else {})
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
