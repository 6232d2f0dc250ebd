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
from evergreen_groups.doctor.finding import CHECK_ADDRESS, CHECK_LOAD, failed, ok, warning
from evergreen_groups.errors import (
    CutOffError,
    HTTPStatusError,
    MethodNotFoundError,
    NotJSONError,
    ServiceNotFoundError,
    UnexplainedError,
)
from evergreen_groups.gateway import OLDEST_RELEASE, Bus, GatewayKind
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, Subject
    from evergreen_groups.gateway import Address, Capabilities, Gateway

_NO_CONNECTION = "no connection to {host}, port {port}: {reason}"
_CHECK_NETWORK = "check [gateway] url, DNS, the firewall and the web server"
_VALID_UNTIL = "valid until {date}; days left: {days:,}"
_NOT_ACCEPTED = "the certificate isn't accepted: {reason}"
_RENEW = "renew the certificate"
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
        unknown = Message("Name or service not known")  # it can't be a host name at all
        reason = system_reason(error) if isinstance(error, OSError) else unknown
        yield failed(
            _NO_CONNECTION,
            _CHECK_NETWORK,
            code="host-unknown",
            values={"host": where.host, "port": _port(where), "reason": reason},
            setting="gateway.url",
        )
        return
    addresses = sorted({str(place[4][0]) for place in found})
    if not where.encrypted and not where.loopback:
        yield warning(
            "{address} ({numbers}) isn't encrypted: others on the network can read passwords and patron data",
            "use https:// and remove allow_plain_http",
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
    # With a proxy, the calls below check the certificate. A direct connection may be blocked.
    if not where.encrypted or _proxy(where):
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
            _NO_CONNECTION,
            "set [gateway] url to an https:// address with the port for HTTPS",
            code="port-without-tls",
            values={"host": where.host, "port": _port(where), "reason": Message("it doesn't use TLS")},
            setting="gateway.url",
        )
    except OSError:
        return  # the gateway's check says why there is no connection
    else:
        end = ssl.cert_time_to_seconds(str(found["notAfter"]))
        days = int((end - time.time()) // _DAY)
        values = {"date": datetime.fromtimestamp(end, UTC).date(), "days": days}
        if days < FEW_DAYS:
            yield warning(_VALID_UNTIL, _RENEW, code="certificate-ends-soon", values=values)
        else:
            yield ok(_VALID_UNTIL, values=values)


def _fetch_certificate(where: Address, context: ssl.SSLContext) -> dict[str, Any]:
    with (
        socket.create_connection((where.host, _port(where)), timeout=_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=where.host) as encrypted,
    ):
        return encrypted.getpeercert() or {}


def _not_accepted(error: ssl.SSLCertVerificationError, where: Address, context: ssl.SSLContext) -> Finding:
    if error.verify_code in (_NAME, _ADDRESS):
        return failed(
            "the certificate is for {names}, not for {host}",
            "use the certificate's name in [gateway] url, or get a certificate for this host",
            code="certificate-for-another-host",
            values={"host": where.host, "names": _names(where, context)},
            setting="gateway.url",
        )
    values = {"reason": error.verify_message}
    if error.verify_code == _EXPIRED:
        return failed(_NOT_ACCEPTED, _RENEW, code="certificate-expired", values=values)
    if error.verify_code == _NOT_YET:
        return failed(_NOT_ACCEPTED, "check this machine's clock", code="certificate-not-yet-valid", values=values)
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return failed(
            _NOT_ACCEPTED,
            "set [gateway] ca_bundle to the authority's certificate, and check that the server sends its chain",
            code="certificate-authority-unknown",
            values=values,
            setting="gateway.ca_bundle",
        )
    return failed(_NOT_ACCEPTED, _RENEW, code="certificate-refused", values=values)


def _names(where: Address, context: ssl.SSLContext) -> list[str]:
    """Return the names in the certificate. Everything except the host name is verified."""
    context.check_hostname = False
    try:
        found = _fetch_certificate(where, context)
    except OSError:
        found = {}
    return [str(name) for _kind, name in found.get("subjectAltName", ())] or ["?"]


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
            CHECK_ADDRESS,
            code="no-gateway",
            values={"address": subject.address.gateway, "problem": Message(error.message, values=error.values)},
            setting="gateway.url",
        )
        return
    if answer not in (_ECHO_TEXT, None):
        yield failed(
            "no gateway at {address}: {problem}",
            CHECK_ADDRESS,
            code="no-echo",
            values={"address": subject.address.gateway, "problem": "unexpected echo"},
        )
        return
    yield ok("{where}", values={"where": subject.address.gateway})


def services(subject: Subject) -> Iterator[Finding]:
    """The services that are used are running, and the gateway exposes them."""
    missing = [service for service in SERVICES if _echo(subject.gateway, service) is None]
    if missing:
        yield failed(
            "missing: {missing}",
            "start these services, and list them among the gateway's services in opensrf_core.xml",
            code="services-missing",
            values={"missing": missing},
        )
    else:
        yield ok("{services}", values={"services": [*SERVICES]})


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
        yield warning("{milliseconds:,.0f} ms", CHECK_LOAD, code="answers-slow", values=values)
    else:
        yield ok("{milliseconds:,.0f} ms", values=values)


def clock(subject: Subject) -> Iterator[Finding]:
    """The clocks of this machine and the server agree."""
    _seconds, ahead = _sample(subject)
    values = {"seconds": round(ahead)}  # never -0
    if abs(ahead) > CLOCK_SECONDS:
        yield warning(_DIFFERENCE, "synchronize both clocks with NTP", code="clocks-apart", values=values)
    else:
        yield ok(_DIFFERENCE, values=values)


_DIFFERENCE = "Evergreen's clock minus this machine's: {seconds:+,.0f} s"
_BUSES = {Bus.REDIS: "Redis", Bus.XMPP: "XMPP", None: "?"}
_GATEWAYS = {GatewayKind.RUST: "Rust", GatewayKind.OPENSRF: "Apache", None: "?"}


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
    details = f"{_BUSES[found.bus]}, {_GATEWAYS[found.gateway]}"
    yield ok("Evergreen {release} ({details})", values={"release": _release(found), "details": details})
    names = {service: version.name for service, version in found.versions.items() if version.name}
    if len(set(names.values())) > 1:
        yield warning(
            "the services run different releases: {services}",
            "restart the services that are still running the old release",
            code="releases-differ",
            values={"services": [f"{service} {name}" for service, name in names.items()]},
        )


def _release(found: Capabilities) -> str:
    version = found.version
    if version.name == "HEAD" and found.at_least is not None:
        return f"git, {found.at_least}+"
    return "?" if version.name in ("", "HEAD") else str(version.release or version.name)
