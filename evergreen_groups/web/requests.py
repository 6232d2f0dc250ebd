"""Parse the untrusted parts of a request: client address, origin, token, ids and barcodes.

Everything here comes from the network, so each function is strict and refuses a value that can't be right, with a
ProblemError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote

from evergreen_groups.groups import barcodes
from evergreen_groups.language import Language, catalogue, first_available
from evergreen_groups.render.desk import client_from
from evergreen_groups.state import record_ids
from evergreen_groups.web.problems import ProblemError, no_session

if TYPE_CHECKING:
    from flask import Request
    from werkzeug.datastructures import Headers

    from evergreen_groups.settings import LanguageSettings, values

Address = IPv4Address | IPv6Address

LARGEST_ID = 2**31 - 1
"""Evergreen's ids and group numbers are PostgreSQL integers."""

LONGEST_BARCODE = 64

COOKIE = "eg.auth.token"
"""The cookie in which both staff clients keep the token. ``eg.auth.token.oc`` and ``.provisional`` are different."""

_ID = re.compile(r"[1-9][0-9]{0,9}")
_BARCODE = re.compile(r"[0-9A-Za-z.$+_-]+")
# Evergreen's own tokens are 32 hexadecimal digits. This excludes characters that could break out of a log or a header.
_TOKEN = re.compile(r"[0-9A-Za-z_-]{16,128}")
_SIGNS_OF_A_PROXY = ("Forwarded", "Via", "X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Proto", "X-Real-IP")


def client_address(peer: str | None, headers: Headers, trusted_proxies: Sequence[values.Network]) -> Address | None:
    """Return the address of the client, or None if it can't be known.

    ``peer`` is the other end of the connection. ``X-Forwarded-For`` counts only if the peer is a trusted proxy. Each
    proxy appends the address that it was contacted from, so the client is the last address that isn't a trusted
    proxy's; anything before may be forged. If a trusted proxy omits this header but sends other proxy headers, the
    result is None: the proxy's own address would pass for the client's.
    """
    address = _address(peer or "")
    if address is None or not _in_any(address, trusted_proxies):
        return address
    chain = [part.strip() for header in headers.getlist("X-Forwarded-For") for part in header.split(",")]
    if not chain and any(name in headers for name in _SIGNS_OF_A_PROXY):
        return None
    # Read from the end: only the entries appended by trusted proxies can be believed.
    for part in reversed(chain):
        address = _address(part)
        if address is None or not _in_any(address, trusted_proxies):
            return address
    return address


def is_allowed(address: Address | None, networks: Iterable[values.Network]) -> bool:
    """Return whether an address is in one of the networks. An unknown address is in none."""
    return address is not None and _in_any(address, networks)


def client_network(address: Address | None) -> str:
    """Return the rate-limit key of an address: the IPv4 address, or the /64 network of an IPv6 one.

    A client can use any address in its /64.
    """
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


def _in_any(address: Address, networks: Iterable[values.Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(1024)  # the same few desks ask all the time
def _address(text: str) -> Address | None:
    """Parse an address. An IPv4-mapped IPv6 address becomes IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


_OTHER_ADDRESS = "This page wasn't opened at the staff client's address."
_CHECK_ORIGIN = "Ask your administrator to check origin in [serve]."


def refuse_other_origins(headers: Headers, origin: str) -> None:
    """Refuse a request made by a page of an origin other than ``origin``.

    Current browsers all send ``Sec-Fetch-Site``; ``none`` means that the user typed the address. Programs send neither
    this header nor ``Origin``.
    """
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") or headers.get("Origin", origin) != origin:
        raise ProblemError(403, _OTHER_ADDRESS, advice=_CHECK_ORIGIN, code="another-origin")


def refuse_foreign_writes(headers: Headers, origin: str) -> None:
    """Refuse a write unless it comes from a page of the same origin, or from a program with a bearer token.

    Current browsers send ``Sec-Fetch-Site`` or ``Origin`` with every request that isn't plain navigation. A request
    with neither comes from a program, which doesn't send a browser's cookie.
    """
    site, sent = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    is_program = site is None and sent is None and has_bearer(headers)
    is_own_page = (site, sent) != (None, None) and site in (None, "same-origin") and sent in (None, origin)
    if not (is_program or is_own_page):
        raise ProblemError(403, _OTHER_ADDRESS, advice=_CHECK_ORIGIN, code="foreign-write")


def has_bearer(headers: Headers) -> bool:
    """Return whether the request sends a token in ``Authorization``."""
    return headers.get("Authorization", "").partition(" ")[0].lower() == "bearer"


def is_followed_link(method: str, headers: Headers) -> bool:
    """Return whether a browser is navigating to a page, for example from a link in an email, a file or another site.

    The site with the link can't read the result. Frames, images and scripts don't count as navigation.
    """
    return (
        method in ("GET", "HEAD")
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def record_id(text: str) -> int:
    """Parse a record's id."""
    if not _ID.fullmatch(text) or int(text) > LARGEST_ID:
        values = {"largest": LARGEST_ID}
        raise ProblemError(400, "An id is a whole number from 1 to {largest}.", code="id-wrong", values=values)
    return int(text)


def change_id(text: str) -> str:
    """Return a change's id if it is one."""
    if not record_ids.is_record_id(text):
        raise ProblemError(
            400,
            "A change's id is a number, a hyphen and six letters or digits, such as 2-k7q4tz.",
            code="change-id-wrong",
        )
    return text


def barcode(text: str) -> str:
    """Return a barcode without spaces."""
    text = barcodes.without_blanks(text)
    if len(text) > LONGEST_BARCODE or not _BARCODE.fullmatch(text):
        raise ProblemError(
            400,
            "A barcode has at most {most} letters, digits and . $ + _ -.",
            code="barcode-wrong",
            values={"most": LONGEST_BARCODE},
        )
    return text


def token_of(headers: Headers) -> str:
    """Return the session token of a request: the bearer token, or the cookie's.

    An ``Authorization`` header of another scheme isn't ours; Apache may ask for a password. Cookies with different
    tokens are refused, because a sibling host could have set one of them.
    """
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found = {credentials.strip()}
    else:
        pairs = (pair.partition("=") for header in headers.getlist("Cookie") for pair in header.split(";"))
        found = {_unpacked(value.strip()) for name, _, value in pairs if name.strip() == COOKIE}
    token = found.pop() if len(found) == 1 else ""
    if not _TOKEN.fullmatch(token):
        raise no_session()
    return token


def _unpacked(value: str) -> str:
    """Decode a cookie's value, a percent-encoded JSON string; "" if it is anything else."""
    try:
        token = json.loads(unquote(value))
    except (ValueError, RecursionError):
        return ""
    return token if isinstance(token, str) else ""


LARGEST_PLAN_BODY = 128 * 1024
"""Maximum size of a body in bytes; holds a thousand barcodes of the maximum length."""

LARGEST_ENTRIES_BODY = 512 * 1024
"""Maximum size of a body with entries of follow-ups, in bytes; holds as many as may be saved at once."""

KEY_HEADER = "Idempotency-Key"

_KEY = re.compile(r"[\x21-\x7e]{1,100}")


def idempotency_key(request: Request) -> str:
    """Return the key under which a change's answer can be requested again.

    The header also protects against forged requests: a form on another site can't send it.
    """
    key = request.headers.get(KEY_HEADER, "")
    if not _KEY.fullmatch(key):
        raise ProblemError(
            400,
            "Send a header {header} of 1 to 100 characters: a new one for each change, the same one for a repeat.",
            code="key-missing",
            values={"header": KEY_HEADER},
        )
    return key


LOCALE_COOKIE = "eg_locale"
"""The cookie in which Evergreen stores the chosen language (``EGWeb.pm``, ``locale.service.ts``)."""


def language_of_reader(request: Request, settings: LanguageSettings) -> Language:
    """Return the reader's preferred language among those that have translations."""
    return settings.language(first_available(_wanted(request)))


def _wanted(request: Request) -> Iterator[str]:
    """Yield language tags by preference: the request's parameter, the staff client's language, the browser's."""
    yield request.args.get("language", "")
    # The Angular client has its language in the URL, AngularJS only in the cookie.
    yield client_from(request.args.get("client"), request.referrer).partition("/")[2]
    yield request.cookies.get(LOCALE_COOKIE, "")
    yield from catalogue.accepted_tags(request.headers.get("Accept-Language", ""))
