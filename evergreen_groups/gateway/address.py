"""The gateway's address, and whether secrets may be sent to it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import requests

from evergreen_groups.errors import ConfigurationError

GATEWAY_PATH = "/osrf-gateway-v1"
IDL_PATH = "/reports/fm_IDL.xml"

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
        """Parse ``https://host[:port][/prefix]``, with or without the gateway's path. Raises ConfigurationError."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
            host, path = _normalized(parts.hostname, parts.path) if parts.hostname else ("", "")
        except (ValueError, requests.RequestException):
            raise _invalid_address("address-unreadable", "can't be parsed") from None
        if parts.scheme not in _USUAL_PORTS or not host:
            raise _invalid_address("address-without-host", "no https:// or http://, or no host")
        # Errors, logs and reports show the address, and would show the password with it.
        if "@" in parts.netloc:
            raise _invalid_address("address-with-account", "contains a user name or password")
        if parts.query or parts.fragment:
            raise _invalid_address("address-with-query", "contains a query or fragment")
        # People copy the address with the gateway's path as often as without it.
        path = path.rstrip("/").removesuffix(GATEWAY_PATH).rstrip("/")
        place = f"[{host}]" if ":" in host else host
        if port not in (None, _USUAL_PORTS[parts.scheme]):
            place += f":{port}"
        return cls(f"{parts.scheme}://{place}{path}", host, parts.scheme == "https")

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
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name; any but this one can point elsewhere tomorrow
            return self.host == "localhost"

    def refuse_plain_http(self) -> None:
        """Raise ConfigurationError if a password or token would cross the network unencrypted."""
        if not self.encrypted and not self.loopback:
            raise ConfigurationError(
                "{address} isn't encrypted: passwords and patron data would cross the network in plain text",
                advice="use https://, or set allow_plain_http = true",
                setting="gateway.allow_plain_http",
                code="not-encrypted",
                values={"address": self.base},
            )


def _invalid_address(code: str, detail: str) -> ConfigurationError:
    return ConfigurationError(
        "the gateway's address is invalid: {detail}",
        advice="write it as https://host",
        setting="gateway.url",
        code=code,
        values={"detail": detail},
    )


def _normalized(host: str, path: str) -> tuple[str, str]:
    """Return a host in lower case, ASCII and without a trailing dot, and a path as requests sends it, or raises."""
    if not unquote(host).isprintable():  # urllib3 before 2.8 would accept it
        raise ValueError(host)
    place = f"[{ipaddress.IPv6Address(host).compressed}]" if ":" in host else host
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://{place}{path}", None)
    parts = urlsplit(prepared.url or "")
    return (parts.hostname or "").removesuffix("."), parts.path
