"""Where a gateway is, and whether secrets may travel there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import requests

from evergreen_groups.errors import ConfigurationError

GATEWAY_PATH = "/osrf-gateway-v1"
IDL_PATH = "/reports/fm_IDL.xml"

_SETTING = "gateway.url"
_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """The root of an Evergreen web server: ``base`` has no slash at its end.

    Leases, the journal and caches go by ``base``, so every spelling of an address has the same.
    """

    base: str
    host: str
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``https://host[:port][/prefix]``, with or without the gateway's own path at the end.

        Raises ConfigurationError for anything else. A password in the address is refused, and not repeated.
        """
        try:
            parts = urlsplit(url.strip())
            host, port = _normalized_host(parts.hostname or ""), parts.port
            path = _normalized_path(parts.path) if host else ""
        except (ValueError, requests.RequestException):
            raise ConfigurationError(
                "the gateway's address can't be read",
                advice="give it as https://host",
                setting=_SETTING,
                code="address-unreadable",
            ) from None
        if parts.scheme not in {"http", "https"} or not host:
            raise ConfigurationError(
                "the gateway's address must begin with https:// (or http://) and name a host",
                setting=_SETTING,
                code="address-without-host",
            )
        # The address is shown in errors, logs and reports, and a password in it would be as well.
        if "@" in parts.netloc:
            raise ConfigurationError(
                "the gateway's address must not hold a user name or password",
                setting=_SETTING,
                code="address-with-account",
            )
        if parts.query or parts.fragment:
            raise ConfigurationError(
                "the gateway's address must not hold a query or a fragment (? or #)",
                setting=_SETTING,
                code="address-with-query",
            )
        # People copy the address from where they see it, as often with the gateway's own path as without.
        path = path.rstrip("/").removesuffix(GATEWAY_PATH).rstrip("/")
        place = f"[{host}]" if ":" in host else host
        if port not in (None, _USUAL_PORTS[parts.scheme]):
            place += f":{port}"
        return cls(urlunsplit((parts.scheme, place, path, "", "")), host, parts.scheme == "https")

    @property
    def gateway(self) -> str:
        """Where calls are posted."""
        return self.base + GATEWAY_PATH

    @property
    def idl(self) -> str:
        """Where the server keeps its IDL."""
        return self.base + IDL_PATH

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine itself."""
        # The one name that is always this machine; any other may lead elsewhere tomorrow, so it has to be a literal
        # address.
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def refuse_plain_http(self) -> None:
        """Raise ConfigurationError where a password or token would cross the network unencrypted."""
        if not self.encrypted and not self.loopback:
            raise ConfigurationError(
                "{address} is not encrypted: the password and patron data would cross the network in clear",
                advice="use https://, or set allow_plain_http = true if that is really meant",
                setting="gateway.allow_plain_http",
                code="not-encrypted",
                values={"address": self.base},
            )


def _normalized_host(host: str) -> str:
    """Return a host in the one form that DNS knows: lower case, ASCII, no dot at the end.

    Raises what requests would raise when it first sends something there.
    """
    if not host:
        return host
    if ":" in host:
        return ipaddress.IPv6Address(host).compressed
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://{host}", None)
    return (urlsplit(prepared.url or "").hostname or "").removesuffix(".")


def _normalized_path(path: str) -> str:
    """Return a path as requests sends it: without dot segments, and with the least percent-encoding."""
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://host{path}", None)
    return urlsplit(prepared.url or "").path
