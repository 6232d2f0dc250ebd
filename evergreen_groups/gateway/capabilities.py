"""What a server can do.

Capabilities decide only how to ask a question, and whether to ask it at all; no answer depends on them. They are cached
for a short time. After a server was unreachable, sent another IDL or lacked a method, they are asked for again, because
it may have been upgraded.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from evergreen_groups import errors
from evergreen_groups.gateway.call import PCRUD, GatewayKind, RetryPolicy
from evergreen_groups.gateway.record import unrequested_rows
from evergreen_groups.gateway.sender import TOKEN
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from evergreen_groups.gateway.gateway import Gateway

SECONDS = 60.0
"""How long capabilities stay cached. An upgrade or a downgrade takes longer."""
# Replicas are configured in the site's opensrf.xml, and services have to be restarted after a change there.
_REPLICAS_SECONDS = 300.0
# A run can go on without the version, so it shouldn't wait long for one.
_VERSION_SECONDS = 5.0
_ONCE = RetryPolicy(tries=1)
_NO_REASON_NO_RETRY = RetryPolicy(unexplained=False)

NO_TOKEN: Final = "0" * 32
"""A token that no session has. It probes for a method without running it (``errors-028``, ``pcrud-148``)."""

_ACTOR = "open-ils.actor"
_VERSION = "opensrf.open-ils.system.ils_version"
_VERSION_SERVICES = (_ACTOR, "open-ils.circ", "open-ils.fielder")  # services written in C lack this method
_AT_HOME = (_ACTOR, "open-ils.actor.user.penalties.update_at_home", NO_TOKEN, -1)
_COUNT = (PCRUD, "open-ils.pcrud.count.aou", NO_TOKEN, {"id": 1})
_OVERDUE_COUNT = (_ACTOR, "open-ils.actor.usergroup.members.overdue_count", NO_TOKEN, -1)
# Perl's truth: None, an empty string (releases-056) and zero are false.
_USES_REPLICAS = {None: False, "": False, "0": False, 0: False, "1": True, 1: True}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,24}", re.ASCII)  # anything longer might be a token, and isn't shown
# Examples: "3-12-10", "3-12" from a branch, "3-11-0-rc1" and "3-9-0RC1" before a release (OpenILS/Application.pm,
# ils_version).
_RELEASE_NAME = re.compile(r"(\d{1,3})-(\d{1,3})(?:-(\d{1,3}))?(?:-?[A-Za-z][A-Za-z0-9]{0,9})?", re.ASCII)


class IlsRelease(NamedTuple):
    """A release such as 3.12.10; ``patch`` is None for a whole series. All of a series can do the same.

    >>> str(IlsRelease(3, 12, 10)), IlsRelease(3, 12, 10).series < IlsRelease(3, 16).series
    ('3.12.10', True)
    """

    major: int
    minor: int
    patch: int | None = None

    @classmethod
    def named(cls, name: str) -> IlsRelease | None:
        """Parse a release name such as ``3-12-10``; None for a build from git (``HEAD``) and for anything else."""
        found = _RELEASE_NAME.fullmatch(name)
        return None if found is None else cls(*(int(number) for number in found.groups() if number))

    def __str__(self) -> str:
        return ".".join(str(number) for number in self if number is not None)

    @property
    def series(self) -> tuple[int, int]:
        """The major and minor number."""
        return self.major, self.minor


OLDEST_RELEASE = IlsRelease(3, 11)
"""The first release that recalculates penalties at a patron's home library (Evergreen's commit 20a752e24f)."""


class Bus(Enum):
    """The message bus of a site's OpenSRF."""

    REDIS = "redis"
    XMPP = "xmpp"


class RowChecks(Enum):
    """How pcrud checks which rows an account may see."""

    IN_QUERY = "in-query"
    ROW_BY_ROW = "row-by-row"


@dataclass(frozen=True, slots=True)
class Version:
    """A server's name for its release: ``HEAD`` for a build from git, an empty string if the server doesn't say.

    ``is_old`` means older than :data:`OLDEST_RELEASE`, judged by its number or, for a build from git, by its methods.
    """

    name: str = ""
    is_old: bool = False

    @property
    def release(self) -> IlsRelease | None:
        """The release, None if the name isn't one."""
        return IlsRelease.named(self.name)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a server; None for anything that couldn't be determined.

    ``versions`` are by service. ``at_least`` is the latest release of which a method was found.
    """

    versions: Mapping[str, Version]
    at_least: IlsRelease | None
    gateway: GatewayKind | None
    bus: Bus | None
    row_checks: RowChecks | None

    @property
    def version(self) -> Version:
        """The version according to the service for patrons."""
        return self.versions.get(_ACTOR, Version())

    @classmethod
    def read(cls, gateway: Gateway) -> Capabilities:
        """Ask for everything, without a login: about ten calls, three at a time."""
        once = gateway.for_probes(_ONCE)
        found = gateway.map(lambda service: _version(once, service), _VERSION_SERVICES)
        versions = {service: version for service, version in zip(_VERSION_SERVICES, found, strict=True) if version}
        overdue_count, at_home = gateway.map(lambda method: _offers(once, *method), (_OVERDUE_COUNT, _AT_HOME))
        # Behind the Rust gateway, pcrud is asked nothing with an invalid token.
        has_count = None if gateway.kind is GatewayKind.RUST else _offers(once, *_COUNT)
        signs = {IlsRelease(3, 17): overdue_count, IlsRelease(3, 16): has_count, OLDEST_RELEASE: at_home}
        at_least = next((release for release, is_there in signs.items() if is_there), None)
        row_checks = {None: None, True: RowChecks.IN_QUERY, False: RowChecks.ROW_BY_ROW}[has_count]
        return cls(versions, at_least, *_kind_and_bus(once), row_checks)


class KnownCapabilities:
    """Cached capabilities of a server, shared by a gateway and its views. Safe to share between threads."""

    def __init__(self) -> None:
        self._replicas = TimeToLiveCache[bool](time.monotonic, _REPLICAS_SECONDS)
        self._hidden_rows = TimeToLiveCache[bool](time.monotonic, SECONDS)
        self._counting = threading.Lock()
        self._lock = threading.Lock()
        self._former: Future[Version] | None = None
        self._asked: Future[Version] | None = None
        self._expires = 0.0

    def reads_replicas(self, gateway: Gateway) -> bool:
        """Return whether the site reads, or may read, from database replicas.

        Elsewhere, the ``.authoritative`` form of a method is an alias of the plain one (``OpenILS/Application.pm``).
        """

        def ask() -> bool:
            try:
                result = gateway.call(_ACTOR, "opensrf.open-ils.system.use_authoritative", expect="optional")
            except (errors.MethodNotFoundError, errors.UnexplainedError):
                # Servers before 3.12 lack the method (3.11/releases-056), and the Rust gateway gives no reason for a
                # failure. Assuming replicas is safe: an .authoritative form always reads from the primary database.
                return True
            with result.understood("a boolean"):
                return _USES_REPLICAS[result.value]

        return self._replicas.get("", ask)

    def forget_rows(self) -> None:
        """Drop what is cached about pcrud's row checks: the server may have been replaced or upgraded."""
        self._hidden_rows.forget("")

    def counts_hidden_rows(self, gateway: Gateway) -> bool:
        """Return whether hidden rows may count against ``limit``.

        They don't if pcrud has the method ``count``, which arrived together with permission checks in SQL. Releases
        without it differ (``3.14/releases-044``). Assuming that hidden rows count costs some calls and nothing else.
        """

        def ask() -> bool:
            # The Rust gateway doesn't explain a failure.
            asked = gateway.for_probes(_NO_REASON_NO_RETRY if gateway.kind is GatewayKind.RUST else None)
            service, method, _token, where = _COUNT
            try:
                found = asked.call(service, method, TOKEN, where, own_connection=True).value
            except (errors.MethodNotFoundError, errors.UnexplainedError):  # 3.12/releases-059
                return True
            if str(found) not in ("0", "1"):
                raise unrequested_rows()
            return False

        with self._counting:  # so that one thread asks for all
            return self._hidden_rows.get("", ask)

    def release(self, gateway: Gateway) -> Future[Version]:
        """Return the release, or the request for it if it isn't known yet. An empty one if the server doesn't answer.

        After the first answer, later ones are fetched in the background.
        """

        def ask() -> Version:
            try:
                return _version(gateway.for_probes(_ONCE), _ACTOR) or Version()
            except errors.EvergreenGroupsError:  # leave it to other calls to report an answer that can't be trusted
                return Version()

        with self._lock:
            if self._asked is None or (self._asked.done() and time.monotonic() >= self._expires):
                self._expires = time.monotonic() + SECONDS
                self._former, self._asked = self._asked, gateway.begin(ask)
            return self._asked if self._former is None or self._asked.done() else self._former

    def refuse_old(self, release: Future[Version]) -> None:
        """Raise OldReleaseError if what :meth:`release` returned is, or becomes, older than :data:`OLDEST_RELEASE`."""
        version = release.result()
        if version.is_old:
            with self._lock:
                self._former = self._asked = None  # ask again at the next call, after an upgrade perhaps
            raise errors.OldReleaseError(
                "this is Evergreen {release}, which is too old",
                advice="upgrade it to {oldest} or later",
                values={"release": str(version.release or version.name), "oldest": str(OLDEST_RELEASE)},
            )


def _version(gateway: Gateway, service: str) -> Version | None:
    """Return a service's name for its release, None if the service isn't running."""
    in_time = gateway.within(_VERSION_SECONDS)
    try:
        answer = in_time.call(service, _VERSION, expect="optional").value
    except errors.ServiceNotFoundError:
        return None
    except errors.GatewayError:
        return Version()
    name = answer if isinstance(answer, str) and _NAME.fullmatch(answer) else ""
    release = IlsRelease.named(name)
    if release is not None:
        return Version(name, release.series < OLDEST_RELEASE.series)
    # A build from git says HEAD, even from an old branch (Application.pm).
    return Version(name, _offers(in_time, *_AT_HOME) is False)


def _offers(gateway: Gateway, service: str, method: str, *parameters: object) -> bool | None:
    """Return whether a service has a method that does nothing with these parameters; None if unknown."""
    try:
        gateway.call(service, method, *parameters, expect="optional")
    except errors.MethodNotFoundError:
        return False
    except errors.EventError:
        return True
    except errors.GatewayError:
        return None
    return True


def _kind_and_bus(gateway: Gateway) -> tuple[GatewayKind | None, Bus | None]:
    """Tell the gateway's kind and its bus from the way it refuses a service that doesn't exist."""
    try:
        gateway.call("open-ils.evergreen-groups", "opensrf.system.echo")
    except errors.ServiceNotFoundError as error:
        return GatewayKind.OPENSRF, Bus.XMPP if error.undelivered else Bus.REDIS
    except errors.GatewayError:
        pass
    # The Rust gateway refuses everything in the same way, and works over Redis only (http-gateway.rs).
    return (GatewayKind.RUST, Bus.REDIS) if gateway.kind is GatewayKind.RUST else (None, None)
