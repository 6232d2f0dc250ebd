"""An embedded stand-in for an Evergreen gateway, on SQLite, over real HTTP on loopback.

>>> with Sandbox() as sandbox:
...     sandbox.url.startswith("http://127.0.0.1:")
True
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import system_reason
from evergreen_groups.sandbox.data import Contents, fill
from evergreen_groups.sandbox.database import Store
from evergreen_groups.sandbox.demo_desk import CLIENTS, DemoDesk, StaffClients
from evergreen_groups.sandbox.http import CUT_OFF, WORKER_REQUESTS, RustGateway, SandboxServer
from evergreen_groups.sandbox.services import orgs_where, releases

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
    same, of whom ``listed_groups`` groups owe 25.00 and more together (none: as many as is usual, two for each hundred
    people); ``database`` keeps the state in a file, which is taken as it is where it exists; ``prepared`` is a
    directory in which the fresh state is kept, for the next sandbox with the same people; ``port`` 0 takes a free one.
    ``report`` is called with how many steps of making the people are done, and how many there are.
    ``release`` ("3.12", "3.14.10") makes it answer as that release does, by the table of
    :mod:`evergreen_groups.sandbox.services.releases`; ``bus`` is "redis" or "xmpp" (none: that of the release's time);
    ``differences`` names single ones of the table. With ``"replica"``, plain reads see what was written
    ``replica_delay`` seconds later (infinity: after :meth:`catch_up`).
    ``gateway`` ``"rust"`` makes it answer as that gateway does (:mod:`evergreen_groups.sandbox.http.rust_gateway`),
    which cuts off an answer after ``cut_off`` seconds of silence and has a worker serve ``worker_requests`` requests;
    ``slow`` names methods that are silent for so many seconds.

    Raises:
        ConfigurationError: the dataset can't be read, the port is taken, there is no such release or difference, or no
            room for the data.
        ValueError: more listed groups than one for 25 patrons.
    """

    def __init__(  # noqa: PLR0913 - what a sandbox is to be, all by name
        self,
        dataset: Path | None = None,
        patrons: int = 0,
        database: Path | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        listed_groups: int | None = None,
        prepared: Path | None = None,
        report: Callable[[int, int], None] | None = None,
        release: str | None = None,
        bus: Literal["redis", "xmpp"] | None = None,
        differences: Iterable[str] = (),
        replica_delay: float = 5.0,
        gateway: Literal["apache", "rust"] = "apache",
        cut_off: float = CUT_OFF,
        slow: Mapping[str, float] | None = None,
        worker_requests: int = WORKER_REQUESTS,
    ) -> None:
        found = releases.differences(release, differences, bus)
        self._release = release or releases.CURRENT
        contents = Contents(dataset, patrons, listed_groups)
        fresh = prepared / f"{contents.name}.db" if prepared else None
        self._store = Store(contents, database, fresh, report, releases.classes_of(found))
        if prepared:
            contents.remove_former(prepared)
        try:
            self._server = SandboxServer(self._store, host, port, found, releases.ils_version(release))
        except OSError as error:
            self._store.close()
            raise ConfigurationError(
                "port {port} on {host} can't be used: {reason}",
                advice="try another",
                code="port-unusable",
                values={"port": port, "host": host, "reason": system_reason(error)},
            ) from error
        if gateway == "rust":
            self._server.rust = RustGateway(
                partial(self._server.results, sends_nulls=True), self._store.classes, cut_off, slow, worker_requests
            )
        if releases.REPLICA in found:
            self._store.add_replica(replica_delay)
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
    def report_account(self) -> tuple[str, str]:
        """User name and password of an account that sees every patron, not a superuser where there is such a one.

        Raises:
            ConfigurationError: the dataset has no such account.
        """
        orgs = set(self._store.orgs.ids)
        seeing = []
        for account in self.accounts.values():
            rows = self._store.rows("au", {"usrname": account.login}) if account.kind == "staff" else []
            if rows and orgs_where(self._store, rows[0]["id"], "VIEW_USER") == orgs:
                seeing.append((rows[0]["super_user"], account))
        if not seeing:
            raise ConfigurationError(
                "the dataset has no staff account with VIEW_USER for the whole consortium", code="dataset-without-staff"
            )
        _, account = min(seeing, key=lambda item: item[0])
        return account.login, account.password

    @property
    def barcodes(self) -> list[str]:
        """A few patrons' barcodes to try."""
        found = self._store.read().execute(
            "SELECT ac.barcode FROM au JOIN ac ON ac.id = au.card "
            "WHERE ac.active AND NOT au.deleted AND au.master_account AND EXISTS "
            "(SELECT 1 FROM mbts WHERE mbts.usr = au.id AND xact_finish IS NULL AND balance_owed > 0) "
            "ORDER BY au.id LIMIT 5"
        )
        return [barcode for (barcode,) in found]

    def serve_desk(self, service_url: str, clients: str | None = None) -> None:
        """Serve the demo desk's pages as well, and hand ``/evergreen-groups/`` on to the service at ``service_url``.

        They are those of the staff ``clients`` of a release; of its own where none is named.
        """
        self._server.desk = DemoDesk(service_url, StaffClients(clients or self._release))

    @property
    def desk_addresses(self) -> dict[str, str]:
        """Where the demo desk shows a patron of a family that owes, by the staff client's name."""
        patron = self._store.read().execute("SELECT usr FROM ac WHERE barcode = ?", (self.barcodes[0],)).fetchone()[0]
        return {client: self.url + path.format(patron) for client, path in CLIENTS.items()}

    def reset(self) -> None:
        """Put the data back to the fresh state and end all sessions."""
        self._server.reset()

    def catch_up(self) -> None:
        """Let plain reads see everything that has been written; they do anyway where there is no copy."""
        if self._store.replica is not None:
            self._store.replica.catch_up()

    def load(self, content: Mapping[str, Any]) -> None:
        """Serve another dataset from now on, rows by class as in a file; all sessions end, and ``reset`` returns to it.

        Raises:
            ConfigurationError: a row that doesn't fit its class; what was there before stays.
        """
        self._server.refill(lambda connection: fill(connection, content))

    def start(self) -> Sandbox:
        """Serve in a background thread, and return at once."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def wait(self) -> None:
        """Wait until serving ends, or an interrupt comes."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(1)

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
