"""An embedded stand-in for an Evergreen gateway, on SQLite, over real HTTP on loopback.

>>> with Sandbox() as sandbox:
...     sandbox.url.startswith("http://127.0.0.1:")
True
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from evergreen_groups.sandbox import dataset
from evergreen_groups.sandbox.server import SandboxServer
from evergreen_groups.sandbox.store import Store

__all__ = ["Account", "Sandbox"]


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can log in: ``login`` is a user name, for the ``kind`` ``opac`` a barcode."""

    login: str
    password: str
    kind: str
    note: str | None


class Sandbox:
    """A gateway with invented people behind it.

    ``dataset`` is a JSON file of rows (none: the families built in); ``patrons`` adds as many more people, always the
    same; ``database`` keeps the state in a file, which is taken as it is where it exists; ``port`` 0 takes a free one.

    Raises:
        ConfigurationError: the dataset can't be read.
        OSError: the port is taken.
    """

    def __init__(
        self,
        dataset_file: Path | None = None,
        patrons: int = 0,
        database: Path | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._store = Store(lambda connection: dataset.load(connection, dataset_file, patrons), database)
        try:
            self._server = SandboxServer(self._store, host, port)
        except OSError:
            self._store.close()
            raise
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The gateway's root, such as ``http://127.0.0.1:8080``."""
        return self._server.url

    @property
    def accounts(self) -> dict[str, Account]:
        """The accounts to log in with, by name."""
        found = self._store.read().execute("SELECT name, login, password, type, note FROM accounts ORDER BY position")
        return {name: Account(*rest) for name, *rest in found}

    @property
    def barcodes(self) -> list[str]:
        """A few patrons' barcodes to try."""
        found = self._store.read().execute(
            "SELECT ac.barcode FROM ac JOIN au ON au.card = ac.id JOIN mous ON mous.usr = au.id "
            "WHERE ac.active AND NOT au.deleted AND mous.balance_owed > 0 ORDER BY au.id LIMIT 5"
        )
        return [barcode for (barcode,) in found]

    def reset(self) -> None:
        """Put the data back to the fresh state and end all sessions."""
        self._server.reset()

    def start(self) -> Sandbox:
        """Serve in a background thread, and return at once."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def serve_forever(self) -> None:
        """Serve in this thread until it is interrupted."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Stop serving and close the database."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        self._server.close_connections()
        self._store.close()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
