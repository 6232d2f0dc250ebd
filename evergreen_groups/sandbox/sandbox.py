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
    """A login of the dataset: ``login`` is a user name, or a barcode if ``kind`` is ``opac``."""

    login: str
    password: str
    kind: str
    note: str | None


class Sandbox:
    """An Evergreen gateway with sample data.

    Args:
        dataset: a JSON file of rows by class; the built-in families by default.
        patrons: how many people to generate in addition; the same number always gives the same people.
        database: a file for the state; an existing one is used as it is.
        port: 0 picks a free port.
        listed_groups: how many groups of generated people owe 25.00 or more; by default two per hundred people.
        prepared: a directory that caches generated data for the next sandbox with the same people.
        report: called with the number of finished steps and of all steps while data are generated.
        release: the Evergreen release to imitate ("3.12", "3.14.10"); ``sandbox/services/releases.py`` describes them.
        bus: by default the message bus usual for the release.
        differences: names of further entries of that table. With ``"replica"``, plain reads lag behind writes.
        replica_delay: the lag in seconds; with infinity, reads see nothing new before :meth:`catch_up`.
        gateway: ``"rust"`` imitates Evergreen's other gateway (``sandbox/http/rust_gateway.py``).
        cut_off: seconds of silence after which the Rust gateway ends a response.
        slow: seconds of silence by method, for the Rust gateway.
        worker_requests: how many requests a worker of the Rust gateway serves.

    Raises:
        ConfigurationError: the dataset can't be read, the disk is full, or the port or the release can't be used.
        ValueError: more than one listed group for 25 patrons.
    """

    def __init__(  # noqa: PLR0913 - options, passed by name
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
            contents.remove_outdated(prepared)
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
        """The gateway's base URL, for example ``http://127.0.0.1:8080``."""
        return self._server.url

    @property
    def accounts(self) -> dict[str, Account]:
        """The dataset's logins by name."""
        found = self._store.read().execute("SELECT name, login, password, type, note FROM accounts ORDER BY position")
        return {name: Account(*rest) for name, *rest in found}

    @property
    def report_account(self) -> tuple[str, str]:
        """User name and password of a staff account that sees every patron; a superuser only as a last resort.

        Raises:
            ConfigurationError: no staff account of the dataset sees every patron.
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
        """Barcodes of up to five lead accounts who owe money, as examples."""
        found = self._store.read().execute(
            "SELECT ac.barcode FROM au JOIN ac ON ac.id = au.card "
            "WHERE ac.active AND NOT au.deleted AND au.master_account AND EXISTS "
            "(SELECT 1 FROM mbts WHERE mbts.usr = au.id AND xact_finish IS NULL AND balance_owed > 0) "
            "ORDER BY au.id LIMIT 5"
        )
        return [barcode for (barcode,) in found]

    def serve_desk(self, service_url: str, clients: str | None = None) -> None:
        """Serve the demo desk's pages too, and proxy ``/evergreen-groups/`` to the service at ``service_url``.

        The pages imitate the staff clients of the release ``clients``, by default the sandbox's own release.
        """
        self._server.desk = DemoDesk(service_url, StaffClients(clients or self._release))

    @property
    def desk_addresses(self) -> dict[str, str]:
        """URLs of the demo desk's page for a patron who owes money, by name of the staff client."""
        patron = self._store.read().execute("SELECT usr FROM ac WHERE barcode = ?", (self.barcodes[0],)).fetchone()[0]
        return {client: self.url + path.format(patron) for client, path in CLIENTS.items()}

    def reset(self) -> None:
        """Restore the fresh data and end all sessions."""
        self._server.reset()

    def catch_up(self) -> None:
        """Bring the replica up to date; does nothing without a replica."""
        if self._store.replica is not None:
            self._store.replica.catch_up()

    def load(self, content: Mapping[str, Any]) -> None:
        """Switch to another dataset (rows by class, as in a file) and end all sessions; ``reset`` returns to it.

        Raises:
            ConfigurationError: a row doesn't fit its class; the data stay unchanged.
        """
        self._server.refill(lambda connection: fill(connection, content))

    def start(self) -> Sandbox:
        """Serve in a background thread."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def wait(self) -> None:
        """Block until the background thread ends."""
        # A join without a timeout would delay Ctrl-C on some platforms.
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(1)

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted."""
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
