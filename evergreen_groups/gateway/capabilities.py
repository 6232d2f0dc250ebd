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
from typing import TYPE_CHECKING, Final

from evergreen_groups.errors import (
    EventError,
    EvergreenGroupsError,
    GatewayError,
    MethodNotFoundError,
    OldReleaseError,
    ServiceNotFoundError,
    UnexplainedError,
)
from evergreen_groups.gateway.call import PCRUD, GatewayKind, RetryPolicy
from evergreen_groups.gateway.record import unrequested_rows
from evergreen_groups.gateway.sender import TOKEN

if TYPE_CHECKING:
    from evergreen_groups.gateway.gateway import Gateway

_METHOD = "opensrf.open-ils.system.use_authoritative"
# The answer comes from the site's opensrf.xml, and services have to be restarted after a change there.
REPLICAS_SECONDS = 300.0
# Perl's truth: None, an empty string (releases-056) and zero are false.
_ANSWERS = {None: False, "": False, "0": False, 0: False, "1": True, 1: True}


def uses_replicas(gateway: Gateway) -> bool:
    """Return whether the site reads, or may read, from database replicas.

    Elsewhere, the ``.authoritative`` form of a method is an alias of the plain one (``OpenILS/Application.pm``).
    """
    try:
        result = gateway.call("open-ils.actor", _METHOD, expect="optional")
    except (MethodNotFoundError, UnexplainedError):
        # Servers before 3.12 lack the method (3.11/releases-056), and the Rust gateway gives no reason for a failure.
        # Assuming replicas is safe: an .authoritative form always reads from the primary database.
        return True
    if isinstance(result.value, dict | list) or result.value not in _ANSWERS:
        raise result.unexpected("a boolean")
    return _ANSWERS[result.value]


# Examples: "3-12-10", "3-12" from a branch, "3-11-0-rc1" and "3-9-0RC1" before a release (OpenILS/Application.pm,
# ils_version).
_RELEASE_NAME = re.compile(r"(\d{1,3})-(\d{1,3})(?:-(\d{1,3}))?(?:-?([A-Za-z][A-Za-z0-9]{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class IlsRelease:
    """A release such as 3.12.10; ``patch`` is None for a whole series.

    All releases of a series, release candidates included, have the same capabilities.

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
        if found is None:
            return None
        major, minor, patch, _suffix = found.groups()
        return cls(int(major), int(minor), None if patch is None else int(patch))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + ("" if self.patch is None else f".{self.patch}")

    @property
    def series(self) -> tuple[int, int]:
        """The major and minor number."""
        return self.major, self.minor


OLDEST_RELEASE = IlsRelease(3, 11)
"""The first release that recalculates penalties at a patron's home library (Evergreen's commit 20a752e24f)."""


SECONDS = 60.0
"""How long capabilities stay cached. An upgrade or a downgrade takes longer."""

NO_TOKEN: Final = "0" * 32
"""A token that no session has. It probes for a method without running it (``errors-028``, ``pcrud-148``)."""

_ACTOR = "open-ils.actor"
_VERSION = "opensrf.open-ils.system.ils_version"
_VERSION_SERVICES = (_ACTOR, "open-ils.circ", "open-ils.fielder")  # services written in C lack this method
# A run can go on without the version, so it shouldn't wait long for one.
_VERSION_SECONDS = 5.0
_NAME = re.compile(r"[A-Za-z0-9._-]{1,24}", re.ASCII)  # anything longer might be a token, and isn't shown
_COUNT_SINCE = IlsRelease(3, 16)
_NO_SERVICE = "open-ils.evergreen-groups"
_ONCE = RetryPolicy(tries=1)
_NO_REASON_NO_RETRY = RetryPolicy(unexplained=False)
_AT_HOME = (_ACTOR, "open-ils.actor.user.penalties.update_at_home", NO_TOKEN, -1)
_COUNT = (PCRUD, "open-ils.pcrud.count.aou", NO_TOKEN, {"id": 1})
_OVERDUE_COUNT = (_ACTOR, "open-ils.actor.usergroup.members.overdue_count", NO_TOKEN, -1)


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
        # Behind the Rust gateway, a token that pcrud refuses would leave a worker one answer behind.
        has_count = None if gateway.kind is GatewayKind.RUST else _offers(once, *_COUNT)
        signs = ((overdue_count, IlsRelease(3, 17)), (has_count, _COUNT_SINCE), (at_home, OLDEST_RELEASE))
        kind, bus = _kind_and_bus(once)
        return cls(
            versions,
            next((release for is_there, release in signs if is_there), None),
            kind,
            bus,
            None if has_count is None else RowChecks.IN_QUERY if has_count else RowChecks.ROW_BY_ROW,
        )


class KnownCapabilities:
    """Cached capabilities of a server, shared by a gateway and its views. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._forgotten = 0
        self._hidden_rows: tuple[float, bool] | None = None
        self._version: Version | None = None
        self._asking: Future[Version] | None = None
        self._expires = 0.0

    def forget_rows(self) -> None:
        """Drop what is cached about pcrud's row checks: the server may have been replaced or upgraded."""
        self._forgotten += 1
        self._hidden_rows = None

    def counts_hidden_rows(self, gateway: Gateway) -> bool:
        """Return whether hidden rows may count against ``limit``.

        They don't if pcrud has the method ``count``, which arrived together with permission checks in SQL. Releases
        without it differ (``3.14/releases-044``). Assuming that hidden rows count costs some calls and nothing else.
        """
        with self._counting:
            known = self._hidden_rows
            if known is None or time.monotonic() > known[0]:
                forgotten = self._forgotten
                # The Rust gateway doesn't explain a failure.
                asked = gateway.for_probes(_NO_REASON_NO_RETRY if gateway.kind is GatewayKind.RUST else None)
                service, method, _token, where = _COUNT
                try:
                    found = asked.call(service, method, TOKEN, where, own_connection=True).value
                    if str(found) not in ("0", "1"):
                        raise unrequested_rows()
                    counts_hidden = False
                except (MethodNotFoundError, UnexplainedError):  # 3.12/releases-059
                    counts_hidden = True
                known = (time.monotonic() + SECONDS, counts_hidden)
                if forgotten == self._forgotten:
                    self._hidden_rows = known
            return known[1]

    def release(self, gateway: Gateway) -> Version | Future[Version]:
        """Return the release, or the request for it if it isn't known yet. An empty one if the server doesn't answer.

        After the first answer, later ones are fetched in the background.
        """
        with self._lock:
            if self._asking is not None and self._asking.done():
                self._version, self._asking = self._asking.result(), None
            if self._asking is None and time.monotonic() >= self._expires:
                self._expires = time.monotonic() + SECONDS
                once = gateway.for_probes(_ONCE)

                def version() -> Version:
                    try:
                        return _version(once, _ACTOR) or Version()
                    except EvergreenGroupsError:  # leave it to other calls to report an answer that can't be trusted
                        return Version()

                self._asking = gateway.begin(version)
            return self._version or self._asking or Version()

    def refuse_old(self, asked: Version | Future[Version]) -> None:
        """Raise OldReleaseError if what :meth:`release` returned is, or becomes, older than :data:`OLDEST_RELEASE`."""
        version = asked if isinstance(asked, Version) else asked.result()
        if version.is_old:
            with self._lock:
                # Ask again at the next call, after an upgrade perhaps.
                self._version, self._asking, self._expires = None, None, 0.0
            raise OldReleaseError(
                "this is Evergreen {release}, which is too old",
                advice="upgrade it to {oldest} or later",
                values={"release": str(version.release or version.name), "oldest": str(OLDEST_RELEASE)},
            )


def _version(gateway: Gateway, service: str) -> Version | None:
    """Return a service's name for its release, None if the service isn't running."""
    in_time = gateway.within(_VERSION_SECONDS)
    try:
        answer = in_time.call(service, _VERSION, expect="optional").value
    except ServiceNotFoundError:
        return None
    except GatewayError:
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
    except MethodNotFoundError:
        return False
    except EventError:
        return True
    except GatewayError:
        return None
    return True


def _kind_and_bus(gateway: Gateway) -> tuple[GatewayKind | None, Bus | None]:
    """Tell the gateway's kind and its bus from the way it refuses a service that doesn't exist."""
    try:
        gateway.call(_NO_SERVICE, "opensrf.system.echo")
    except ServiceNotFoundError as error:
        return GatewayKind.OPENSRF, Bus.XMPP if error.undelivered else Bus.REDIS
    except GatewayError:
        pass
    # The Rust gateway refuses everything in the same way, and works over Redis only (http-gateway.rs).
    return (GatewayKind.RUST, Bus.REDIS) if gateway.kind is GatewayKind.RUST else (None, None)
