"""IDL files on disk, so that the next run only has to ask whether they are still right."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evergreen_groups.gateway.idl import IDL_LIMIT

log = logging.getLogger("evergreen_groups.gateway")

_HEADING_LIMIT = 8192
_VALIDATORS = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))


@dataclass(frozen=True, slots=True)
class CachedIdl:
    """An IDL file and the headers that ask a server whether it is still the current one."""

    document: bytes
    conditions: Mapping[str, str]


class IdlCache:
    """A directory of IDL files, each with its address and its checksum. Broken and foreign files are ignored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, url: str) -> CachedIdl | None:
        """Return what was kept for ``url``, or None."""
        try:
            with self._path(url).open("rb") as file:
                heading = json.loads(file.readline(_HEADING_LIMIT))
                document = file.read(IDL_LIMIT + 1)
            whole = (heading["url"], heading["sha256"]) == (url, hashlib.sha256(document).hexdigest())
            conditions = {str(name): str(value) for name, value in heading["conditions"].items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.debug("ignoring a broken file in the IDL cache (%s)", type(error).__name__)
            return None
        return CachedIdl(document, conditions) if whole else None

    def save(self, url: str, document: bytes, headers: Mapping[str, str]) -> None:
        """Keep a file that came with ``headers``, readable by its owner alone.

        One that came with neither ETag nor Last-Modified isn't kept: nobody could tell when it is out of date. A
        directory that can't be written is no error.
        """
        conditions = {condition: headers[name] for name, condition in _VALIDATORS if headers.get(name)}
        if not conditions:
            return
        heading = {"url": url, "sha256": hashlib.sha256(document).hexdigest(), "conditions": conditions}
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(self._path(url), json.dumps(heading).encode() + b"\n" + document)
        except OSError as error:
            log.debug("can't write the IDL cache (%s)", type(error).__name__)

    def _path(self, url: str) -> Path:
        return self._directory / (hashlib.sha256(url.encode()).hexdigest() + ".idl")

    def _write(self, path: Path, content: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._directory, prefix=".idl-")  # 0600 from the start
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
