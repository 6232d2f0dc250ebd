"""Checks of the connection to the gateway: address, TLS certificate, services, response time, clock and release."""

from __future__ import annotations

import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests.utils

from evergreen_groups.certificates import verifying_context
from evergreen_groups.doctor.finding import failed, ok, warning
from evergreen_groups.errors import (
    CutOffError,
    HTTPStatusError,
    MethodNotFoundError,
    NotJSONError,
    ServiceNotFoundError,
    UnexplainedError,
)
from evergreen_groups.gateway import OLDEST_RELEASE, Bus, GatewayKind, RowChecks
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, Subject
    from evergreen_groups.gateway import Address, Capabilities, Gateway

_SECONDS = 10
_DAY = 86_400
FEW_DAYS = 21
"""Days left of a certificate below which there is a warning. Automatic renewal happens earlier."""

# OpenSSL's verification errors (X509_V_ERR_…).
_EXPIRED, _NOT_YET, _NAME, _ADDRESS = 10, 9, 62, 64
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}


def address(subject: Subject) -> Iterator[Finding]:
    """The host name resolves, and passwords are sent encrypted."""
    where = subject.address
    if not subject.settings.gateway.allow_plain_http:
        where.refuse_plain_http()
    if proxy := _proxy(where):
        yield ok("{address}, through the proxy {proxy}", values={"address": where.base, "proxy": proxy})
        return
    try:
        found = socket.getaddrinfo(where.host, _port(where), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else Message("it can't be a host's name")
        yield failed(
            "the host {host} isn't known ({reason})",
            "check url in [gateway], and this machine's DNS",
            code="host-unknown",
            values={"host": where.host, "reason": reason},
            setting="gateway.url",
        )
        return
    addresses = sorted({str(place[4][0]) for place in found})
    if not where.encrypted and not where.loopback:
        yield warning(
            "{address} ({numbers}) is not encrypted: password and patron data cross the network in clear",
            "use https://, and remove allow_plain_http",
            code="plain-http",
            values={"address": where.base, "numbers": addresses},
            setting="gateway.allow_plain_http",
        )
    elif addresses != [where.host]:
        yield ok("{address} ({numbers})", values={"address": where.base, "numbers": addresses})
    else:
        yield ok("{address}", values={"address": where.base})


def certificate(subject: Subject) -> Iterator[Finding]:
    """The certificate is for this host, from a trusted authority, and valid for some time."""
    where = subject.address
    if not where.encrypted:
        return
    # A direct connection would not take the same way as the calls, and may be blocked.
    if proxy := _proxy(where):
        yield ok("seen through the proxy {proxy} only; the calls below check it", values={"proxy": proxy})
        return
    bundle = _bundle(subject)
    try:
        context = verifying_context(bundle)
    except OSError as error:
        without = Message("it holds no certificate")
        reason = without if isinstance(error, ssl.SSLError) else system_reason(error)
        yield failed(
            "ca_bundle {path} can't be used: {reason}",
            "set ca_bundle in [gateway] to a file with certificates (PEM), or remove it",
            code="ca-bundle-unusable",
            values={"path": bundle, "reason": reason},
            setting="gateway.ca_bundle",
        )
        return
    try:
        found = _fetch_certificate(where, context)
    except ssl.SSLCertVerificationError as error:
        yield _not_accepted(error, where, context)
    except ssl.SSLError:
        yield failed(
            "{host} does not speak TLS at port {port}",
            "check the port, and whether it is https at all",
            code="port-without-tls",
            values={"host": where.host, "port": _port(where)},
            setting="gateway.url",
        )
    except OSError as error:
        yield failed(
            "no connection to {host} at port {port}: {reason}",
            "check url in [gateway], the firewall, and whether the web server is running",
            code="no-connection",
            values={
                "host": where.host,
                "port": _port(where),
                "reason": system_reason(error) if error.strerror else Message("nobody answered"),
            },
            setting="gateway.url",
        )
    else:
        end = ssl.cert_time_to_seconds(str(found["notAfter"]))
        days = int((end - time.time()) // _DAY)
        values = {"date": datetime.fromtimestamp(end, UTC).date(), "days": days}
        if days < FEW_DAYS:
            yield warning(
                "ends on {date}; days left: {days}",
                "renew the certificate; from that day on nothing is read any more",
                code="certificate-ends-soon",
                values=values,
            )
        else:
            yield ok("valid until {date}; days left: {days:,}", values=values)


def _fetch_certificate(where: Address, context: ssl.SSLContext) -> dict[str, Any]:
    with (
        socket.create_connection((where.host, _port(where)), timeout=_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=where.host) as encrypted,
    ):
        return encrypted.getpeercert() or {}


def _not_accepted(error: ssl.SSLCertVerificationError, where: Address, context: ssl.SSLContext) -> Finding:
    if error.verify_code in (_NAME, _ADDRESS):
        return failed(
            "the certificate is not for {host}, but for {names}",
            "write the host in url as in the certificate, or have the certificate made for this name",
            code="certificate-for-another-host",
            values={"host": where.host, "names": _names(where, context)},
            setting="gateway.url",
        )
    if error.verify_code == _EXPIRED:
        return failed("the certificate has expired", "renew the certificate on the server", code="certificate-expired")
    if error.verify_code == _NOT_YET:
        return failed(
            "the certificate is not valid yet",
            "check this machine's clock, then the certificate",
            code="certificate-not-yet-valid",
        )
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return failed(
            "nobody trusted here vouches for the certificate ({reason})",
            "set ca_bundle in [gateway] to the certificate of the authority; check that the server sends its chain",
            code="certificate-authority-unknown",
            values={"reason": error.verify_message},
            setting="gateway.ca_bundle",
        )
    return failed(
        "the certificate is not accepted ({reason})",
        "have the certificate renewed on the server",
        code="certificate-refused",
        values={"reason": error.verify_message},
    )


def _names(where: Address, context: ssl.SSLContext) -> list[str]:
    """Return the names in the certificate. Everything except the host name is verified."""
    context.check_hostname = False
    try:
        found = _fetch_certificate(where, context)
    except OSError:
        found = {}
    return [str(name) for _kind, name in found.get("subjectAltName", ())] or [Message("another host")]


def _bundle(subject: Subject) -> Path:
    """Return the CA bundle that the client uses: the setting, the variables for requests, or requests' default."""
    chosen = subject.settings.gateway.ca_bundle
    if chosen is not None:
        return chosen
    variables = () if subject.address.loopback else ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    named = next((subject.environ[name] for name in variables if subject.environ.get(name)), None)
    return Path(named or requests.utils.DEFAULT_CA_BUNDLE_PATH)


def _port(where: Address) -> int:
    return urlsplit(where.base).port or (443 if where.encrypted else 80)


def _proxy(where: Address) -> str | None:
    """Return the host of the proxy for this address, without any credentials in the proxy's URL."""
    chosen = (
        None
        if where.loopback
        else requests.utils.select_proxy(where.base, requests.utils.get_environ_proxies(where.base))
    )
    return urlsplit(chosen).hostname if chosen else None


SLOW_SECONDS = 1.0
"""A normal gateway answers the simplest call within a few milliseconds."""
CLOCK_SECONDS = 60
"""Maximum clock difference. Sessions, expiry dates and due dates use the server's time; a minute does no harm."""

SERVICES = ("open-ils.actor", "open-ils.auth", "open-ils.pcrud")
"""The services that are used."""
_SERVICE = "open-ils.actor"
_TIME = "opensrf.system.time"
_ECHO_TEXT = "evergreen-groups"
_TRIES = 5


def gateway(subject: Subject) -> Iterator[Finding]:
    """A gateway answers at the address and reaches the service for patrons."""
    try:
        answer = _echo(subject.gateway, SERVICES[0])
    except (HTTPStatusError, NotJSONError, CutOffError) as error:
        yield failed(
            "no gateway at {address}: {problem}",
            "check host, port and path of url in [gateway]: it is the root of an Evergreen's web server",
            code="no-gateway",
            values={"address": subject.address.gateway, "problem": Message(error.message, values=error.values)},
            setting="gateway.url",
        )
        return
    if answer not in (_ECHO_TEXT, None):
        yield failed(
            "it does not give back what it is sent",
            "check what stands between here and the gateway",
            code="no-echo",
        )
        return
    yield ok("{where} answers", values={"where": subject.address.gateway})


def services(subject: Subject) -> Iterator[Finding]:
    """The services that are used are running, and the gateway exposes them."""
    missing = [service for service in SERVICES if _echo(subject.gateway, service) is None]
    if missing:
        yield failed(
            "without {missing}",
            "start what is missing, and name it among the gateway's services in opensrf_core.xml",
            code="services-missing",
            values={"missing": missing},
        )
    else:
        yield ok("{services} are offered", values={"services": [*SERVICES]})


def _echo(asked: Gateway, service: str) -> object:
    """Return a service's echo of a word; None if the service doesn't exist."""
    try:
        return asked.call(service, "opensrf.system.echo", _ECHO_TEXT).value
    except (ServiceNotFoundError, MethodNotFoundError, UnexplainedError):  # every service has this method
        return None


def _sample(subject: Subject) -> tuple[float, float]:
    """Make a simple call. Return its seconds, and by how many the server's clock is ahead of this one's."""
    began, clock = time.monotonic(), time.time()
    server = float(subject.gateway.call(_SERVICE, _TIME).value)
    seconds = time.monotonic() - began
    # Assume that the server read its clock halfway through the call.
    return seconds, server - (clock + seconds / 2)


def answer_time(subject: Subject) -> Iterator[Finding]:
    """A simple call is answered quickly."""
    # The median disregards single slow calls.
    seconds = statistics.median(_sample(subject)[0] for _ in range(_TRIES))
    values = {"milliseconds": seconds * 1000}
    if seconds > SLOW_SECONDS:
        yield warning(
            "{milliseconds:,.0f} ms for a simple call",
            "look for a busy server (free children of open-ils.actor) or a slow network",
            code="answers-slow",
            values=values,
        )
    else:
        yield ok("{milliseconds:,.0f} ms for a simple call", values=values)


def clock(subject: Subject) -> Iterator[Finding]:
    """The clocks of this machine and the server agree."""
    _seconds, ahead = _sample(subject)
    if abs(ahead) > CLOCK_SECONDS:
        yield warning(
            "the clocks of the server and this machine are {seconds:,.0f} s apart: {which}",
            "have both set by NTP: dates are compared with the wrong time otherwise",
            code="clocks-apart",
            values={
                "seconds": abs(ahead),
                "which": Message("the server's is ahead") if ahead > 0 else Message("the server's is behind"),
            },
        )
    else:
        yield ok("this machine and the server agree")


_BUSES = {Bus.REDIS: "Redis", Bus.XMPP: "XMPP", None: Message("an unknown bus")}
_ROW_CHECKS = {
    RowChecks.IN_QUERY: Message("who may be seen is checked in the query, the quickest way"),
    RowChecks.ROW_BY_ROW: Message("who may be seen is checked patron by patron, so a long report takes longer"),
    None: Message("it doesn't tell how it checks who may be seen"),
}


def server(subject: Subject) -> Iterator[Finding]:
    """The release is recent enough, and the same for all services."""
    found = subject.capabilities
    if found.version.is_old:
        yield failed(
            "this is Evergreen {release}, which is too old",
            "upgrade it to {oldest} or later",
            code="old-release",
            values={"release": str(found.version.release or found.version.name), "oldest": str(OLDEST_RELEASE)},
        )
        return
    values = {"release": _release(found), "bus": _BUSES[found.bus], "checks": _ROW_CHECKS[found.row_checks]}
    if found.gateway is GatewayKind.RUST:
        yield ok("{release} on {bus}, behind the Rust gateway; {checks}", values=values)
    else:
        yield ok("{release} on {bus}; {checks}", values=values)
    names = {service: version.name for service, version in found.versions.items() if version.name}
    if len(set(names.values())) > 1:
        yield warning(
            "its services are of different releases: {services}",
            "restart those that were left running by an upgrade",
            code="releases-differ",
            values={"services": [f"{service} {name}" for service, name in names.items()]},
        )


def _release(found: Capabilities) -> Message:
    version = found.version
    if version.name == "HEAD" and found.at_least is not None:
        return Message("Evergreen from git, {release} or later", values={"release": str(found.at_least)})
    if version.name in ("", "HEAD"):
        return Message("Evergreen of an unknown release")
    return Message("Evergreen {version}", values={"version": str(version.release or version.name)})
