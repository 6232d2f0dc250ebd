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
    from evergreen_groups.doctor.finding import Finding, Found, Subject
    from evergreen_groups.gateway import Address, Capabilities, Gateway

_SECONDS = 10
_DAY = 86_400
FEW_DAYS = 21
"""Days left of a certificate below which there is a warning. Automatic renewal happens earlier."""

# OpenSSL's verification errors (X509_V_ERR_…).
_EXPIRED, _NOT_YET, _NAME, _ADDRESS = 10, 9, 62, 64
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}

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
_BUSES = {Bus.REDIS: "Redis", Bus.XMPP: "XMPP", None: "?"}
_GATEWAYS = {GatewayKind.RUST: "Rust", GatewayKind.OPENSRF: "Apache", None: "?"}

_NO_CONNECTION = "no connection to {host}, port {port}: {reason}"
_NOT_ACCEPTED = "the certificate isn't accepted: {reason}"
_VALID_UNTIL = "valid until {date}; days left: {days:,}"
_RENEW = "renew the certificate"
_NOT_THERE = "no gateway at {address}: {problem}"
_MILLISECONDS = "{milliseconds:,.0f} ms"
_DIFFERENCE = "Evergreen's clock minus this machine's: {seconds:+,.0f} s"

_HOST_UNKNOWN = failed(
    "host-unknown", _NO_CONNECTION, "check [gateway] url, DNS, the firewall and the web server", "gateway.url"
)
_PLAIN_HTTP = warning(
    "plain-http",
    "{address} ({numbers}) isn't encrypted: others on the network can read passwords and patron data",
    "use https:// and remove allow_plain_http",
    "gateway.allow_plain_http",
)
_CA_BUNDLE_UNUSABLE = failed(
    "ca-bundle-unusable",
    "ca_bundle {path} can't be used: {reason}",
    "set ca_bundle in [gateway] to a file with certificates (PEM), or remove it",
    "gateway.ca_bundle",
)
_PORT_WITHOUT_TLS = failed(
    "port-without-tls",
    _NO_CONNECTION,
    "set [gateway] url to an https:// address with the port for HTTPS",
    "gateway.url",
)
_CERTIFICATE_ENDS_SOON = warning("certificate-ends-soon", _VALID_UNTIL, _RENEW)
_CERTIFICATE_FOR_ANOTHER_HOST = failed(
    "certificate-for-another-host",
    "the certificate is for {names}, not for {host}",
    "use the certificate's name in [gateway] url, or get a certificate for this host",
    "gateway.url",
)
_CERTIFICATE_EXPIRED = failed("certificate-expired", _NOT_ACCEPTED, _RENEW)
_CERTIFICATE_NOT_YET_VALID = failed("certificate-not-yet-valid", _NOT_ACCEPTED, "check this machine's clock")
_CERTIFICATE_AUTHORITY_UNKNOWN = failed(
    "certificate-authority-unknown",
    _NOT_ACCEPTED,
    "set [gateway] ca_bundle to the authority's certificate, and check that the server sends its chain",
    "gateway.ca_bundle",
)
_CERTIFICATE_REFUSED = failed("certificate-refused", _NOT_ACCEPTED, _RENEW)
_NO_GATEWAY = failed("no-gateway", _NOT_THERE, CHECK_ADDRESS, "gateway.url")
_NO_ECHO = failed("no-echo", _NOT_THERE, CHECK_ADDRESS)
_SERVICES_MISSING = failed(
    "services-missing",
    "missing: {missing}",
    "start these services, and list them among the gateway's services in opensrf_core.xml",
)
_ANSWERS_SLOW = warning("answers-slow", _MILLISECONDS, CHECK_LOAD)
_CLOCKS_APART = warning("clocks-apart", _DIFFERENCE, "synchronize both clocks with NTP")
_OLD_RELEASE = failed("old-release", "this is Evergreen {release}, which is too old", "upgrade it to {oldest} or later")
_RELEASES_DIFFER = warning(
    "releases-differ",
    "the services run different releases: {services}",
    "restart the services that are still running the old release",
)


def address(subject: Subject) -> Finding:
    """The host name resolves, and passwords are sent encrypted."""
    where = subject.address
    if not subject.settings.gateway.allow_plain_http:
        where.refuse_plain_http()
    if proxy := _proxy(where):
        return ok("{address}, through the proxy {proxy}", address=where.base, proxy=proxy)
    try:
        found = socket.getaddrinfo(where.host, _port(where), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        unknown = Message("Name or service not known")  # it can't be a host name at all
        reason = system_reason(error) if isinstance(error, OSError) else unknown
        return _HOST_UNKNOWN(host=where.host, port=_port(where), reason=reason)
    addresses = sorted({str(place[4][0]) for place in found})
    if not where.encrypted and not where.loopback:
        return _PLAIN_HTTP(address=where.base, numbers=addresses)
    if addresses != [where.host]:
        return ok("{address} ({numbers})", address=where.base, numbers=addresses)
    return ok("{address}", address=where.base)


def certificate(subject: Subject) -> Found:
    """The certificate is for this host, from a trusted authority, and valid for some time."""
    where = subject.address
    # With a proxy, the calls below check the certificate. A direct connection may be blocked.
    if not where.encrypted or _proxy(where):
        return ()
    bundle = _bundle(subject)
    try:
        context = verifying_context(bundle)
    except OSError as error:
        without = Message("it holds no certificate")
        reason = without if isinstance(error, ssl.SSLError) else system_reason(error)
        return _CA_BUNDLE_UNUSABLE(path=bundle, reason=reason)
    try:
        found = _fetch_certificate(where, context)
    except ssl.SSLCertVerificationError as error:
        return _not_accepted(error, where, context)
    except ssl.SSLError:
        return _PORT_WITHOUT_TLS(host=where.host, port=_port(where), reason=Message("it doesn't use TLS"))
    except OSError:
        return ()  # the gateway's check says why there is no connection
    end = ssl.cert_time_to_seconds(str(found["notAfter"]))
    date, days = datetime.fromtimestamp(end, UTC).date(), int((end - time.time()) // _DAY)
    return _CERTIFICATE_ENDS_SOON(date=date, days=days) if days < FEW_DAYS else ok(_VALID_UNTIL, date=date, days=days)


def _fetch_certificate(where: Address, context: ssl.SSLContext) -> dict[str, Any]:
    with (
        socket.create_connection((where.host, _port(where)), timeout=_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=where.host) as encrypted,
    ):
        return encrypted.getpeercert() or {}


def _not_accepted(error: ssl.SSLCertVerificationError, where: Address, context: ssl.SSLContext) -> Finding:
    if error.verify_code in (_NAME, _ADDRESS):
        return _CERTIFICATE_FOR_ANOTHER_HOST(host=where.host, names=_names(where, context))
    reason = error.verify_message
    if error.verify_code == _EXPIRED:
        return _CERTIFICATE_EXPIRED(reason=reason)
    if error.verify_code == _NOT_YET:
        return _CERTIFICATE_NOT_YET_VALID(reason=reason)
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return _CERTIFICATE_AUTHORITY_UNKNOWN(reason=reason)
    return _CERTIFICATE_REFUSED(reason=reason)


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


def gateway(subject: Subject) -> Finding:
    """A gateway answers at the address and reaches the service for patrons."""
    where = subject.address.gateway
    try:
        answer = _echo(subject.gateway, SERVICES[0])
    except (HTTPStatusError, NotJSONError, CutOffError) as error:
        return _NO_GATEWAY(address=where, problem=Message(error.message, values=error.values))
    return (
        ok("{where}", where=where)
        if answer in (_ECHO_TEXT, None)
        else _NO_ECHO(address=where, problem="unexpected echo")
    )


def services(subject: Subject) -> Finding:
    """The services that are used are running, and the gateway exposes them."""
    missing = [service for service in SERVICES if _echo(subject.gateway, service) is None]
    return _SERVICES_MISSING(missing=missing) if missing else ok("{services}", services=[*SERVICES])


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


def answer_time(subject: Subject) -> Finding:
    """A simple call is answered quickly."""
    # The median disregards single slow calls.
    seconds = statistics.median(_sample(subject)[0] for _ in range(_TRIES))
    milliseconds = seconds * 1000
    if seconds > SLOW_SECONDS:
        return _ANSWERS_SLOW(milliseconds=milliseconds)
    return ok(_MILLISECONDS, milliseconds=milliseconds)


def clock(subject: Subject) -> Finding:
    """The clocks of this machine and the server agree."""
    ahead = _sample(subject)[1]
    seconds = round(ahead)  # never -0
    return _CLOCKS_APART(seconds=seconds) if abs(ahead) > CLOCK_SECONDS else ok(_DIFFERENCE, seconds=seconds)


def server(subject: Subject) -> Iterator[Finding]:
    """The release is recent enough, and the same for all services."""
    found = subject.capabilities
    if found.version.is_old:
        yield _OLD_RELEASE(release=str(found.version.release or found.version.name), oldest=str(OLDEST_RELEASE))
        return
    details = f"{_BUSES[found.bus]}, {_GATEWAYS[found.gateway]}"
    yield ok("Evergreen {release} ({details})", release=_release(found), details=details)
    names = {service: version.name for service, version in found.versions.items() if version.name}
    if len(set(names.values())) > 1:
        yield _RELEASES_DIFFER(services=[f"{service} {name}" for service, name in names.items()])


def _release(found: Capabilities) -> str:
    version = found.version
    if version.name == "HEAD" and found.at_least is not None:
        return f"git, {found.at_least}+"
    return "?" if version.name in ("", "HEAD") else str(version.release or version.name)
