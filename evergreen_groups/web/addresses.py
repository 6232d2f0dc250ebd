"""Where a request comes from, also behind a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from werkzeug.datastructures import Headers

from evergreen_groups.converters import Network

Address = IPv4Address | IPv6Address

_SIGNS_OF_A_PROXY = ("Forwarded", "Via", "X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Proto", "X-Real-IP")


def client_address(peer: str | None, headers: Headers, trusted_proxies: Sequence[Network]) -> Address | None:
    """The address that a request was made from; None where that can't be known.

    ``peer`` is the other end of the connection. Only where that is a trusted proxy, ``X-Forwarded-For`` counts: each
    proxy adds the address it was asked from at the end, and what stands before the last one that isn't a trusted
    proxy's may be made up. A trusted proxy that leaves the header out, but others in, tells nothing: its own address
    would pass for the client's.
    """
    address = _address(peer or "")
    if address is None or not _within(address, trusted_proxies):
        return address
    chain = [part.strip() for header in headers.getlist("X-Forwarded-For") for part in header.split(",")]
    if not chain and any(name in headers for name in _SIGNS_OF_A_PROXY):
        return None
    for part in reversed(chain):
        address = _address(part)
        if address is None or not _within(address, trusted_proxies):
            return address
    return address


def is_allowed(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of the networks; one that isn't known is in none."""
    return address is not None and _within(address, networks)


def neighbourhood(address: Address | None) -> str:
    """What counts as one place: an IPv4 address, or the 64 bits of an IPv6 network, in which one may take any."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """Read an address; an IPv4 address in IPv6's clothes is taken out of them."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
