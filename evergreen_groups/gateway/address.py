"""The gateway's address, and whether secrets may be sent to it."""

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
    """The root of an Evergreen web server. ``base`` has no trailing slash.

    ``base`` identifies the server in leases, the journal and caches, so all spellings of an address have the same one.
    """

    base: str
    host: str
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse ``https://host[:port][/prefix]``, with or without the gateway's path at the end.

        Raises ConfigurationError for anything else, including an address with a password. The error doesn't repeat the
        password.
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
        # Errors, logs and reports show the address, and would show the password with it.
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
        # People copy the address with the gateway's path as often as without it.
        path = path.rstrip("/").removesuffix(GATEWAY_PATH).rstrip("/")
        place = f"[{host}]" if ":" in host else host
        if port not in (None, _USUAL_PORTS[parts.scheme]):
            place += f":{port}"
        return cls(urlunsplit((parts.scheme, place, path, "", "")), host, parts.scheme == "https")

    @property
    def gateway(self) -> str:
        """The URL that calls are posted to."""
        return self.base + GATEWAY_PATH

    @property
    def idl(self) -> str:
        """The URL of the server's IDL."""
        return self.base + IDL_PATH

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""
        # "localhost" is the only name that always means this machine. Any other name can point elsewhere tomorrow, so
        # only literal addresses count.
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def refuse_plain_http(self) -> None:
        """Raise ConfigurationError if a password or token would cross the network unencrypted."""
        if not self.encrypted and not self.loopback:
            raise ConfigurationError(
                "{address} is not encrypted: the password and patron data would cross the network in clear",
                advice="use https://, or set allow_plain_http = true if that is really meant",
                setting="gateway.allow_plain_http",
                code="not-encrypted",
                values={"address": self.base},
            )


def _normalized_host(host: str) -> str:
    """Return a host in canonical form: lower case, ASCII, no trailing dot.

    Raises the exceptions that requests would raise when sending.
    """
    if not host:
        return host
    if ":" in host:
        return ipaddress.IPv6Address(host).compressed
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://{host}", None)
    return (urlsplit(prepared.url or "").hostname or "").removesuffix(".")


def _normalized_path(path: str) -> str:
    """Return a path as requests sends it, without dot segments and with minimal percent-encoding."""
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://host{path}", None)
    return urlsplit(prepared.url or "").path
