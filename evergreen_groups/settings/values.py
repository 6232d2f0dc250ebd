"""What a setting may be: each converter takes a value from TOML, the environment or the command line.

Each gives back the value in its real type, or raises :class:`NotAllowedError` with what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from string import Formatter
from typing import Literal
from urllib.parse import urlsplit

from evergreen_groups.formats import FILE_FORMATS
from evergreen_groups.policy import Comparison, LimitRule

Network = IPv4Network | IPv6Network


TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL_PART, _DOMAIN = (re.compile(rf"{part}(\.{part})*") for part in (_WORD, _LABEL))


class NotAllowedError(ValueError):
    """A value that a setting doesn't take; the message says what is allowed."""


def text(value: object) -> str:
    """Take a text that isn't empty."""
    if not isinstance(value, str) or not value.strip():
        raise NotAllowedError("a text that isn't empty")
    return value.strip()


def url(value: object) -> str:
    """Take an http or https address without query, user name or password."""
    allowed = 'an address such as "https://evergreen.example.org"'
    address = text(value)
    try:
        parts = urlsplit(address)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise NotAllowedError(allowed) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine or parts.query or parts.fragment:
        raise NotAllowedError(allowed)
    if parts.username or parts.password:
        raise NotAllowedError(f"{allowed}, without a user name or password in it")
    return address.rstrip("/")


def origin(value: object) -> str:
    """Take an origin as browsers write it: scheme, host, and the port where it isn't the usual one.

    >>> origin("https://Evergreen.example.org:443/")
    'https://evergreen.example.org'
    """
    allowed = 'an origin such as "https://evergreen.example.org", without a path'
    try:
        parts = urlsplit(url(value))
    except NotAllowedError:
        raise NotAllowedError(allowed) from None
    if parts.path:
        raise NotAllowedError(allowed)
    return origin_of(parts.geturl())


def origin_of(address: str) -> str:
    """The origin of an http or https address."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, usual) else f":{parts.port}")


def networks(value: object) -> tuple[Network, ...]:
    """Take a list of addresses and networks, or one text with commas."""
    allowed = 'a list of addresses or networks such as ["127.0.0.1", "10.1.0.0/16"]'
    try:
        return tuple(ip_network(part) for part in texts(value))
    except NotAllowedError:
        raise NotAllowedError(allowed) from None
    except ValueError as problem:
        raise NotAllowedError(f"{allowed} ({problem})") from None


def path(value: object) -> Path:
    """Take a path; ``~`` is the home directory."""
    return Path(text(value)).expanduser()


def locale(value: object) -> str:
    """Take a language tag."""
    tag = text(value)
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", tag):
        raise NotAllowedError('a language tag such as "en-US"')
    return tag


def boolean(value: object) -> bool:
    """Take true or false, from TOML or as a word."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUE_WORDS + FALSE_WORDS:
        return value.lower() in TRUE_WORDS
    raise NotAllowedError("true or false")


def whole_number(lowest: int, highest: int) -> Callable[[object], int]:
    """Make a converter for whole numbers from ``lowest`` to ``highest``."""

    def convert(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise NotAllowedError(f"a whole number from {lowest} to {highest}")
        return value

    return convert


def amount(value: object) -> Decimal:
    """Read an amount of money, at least zero, with at most two decimal places.

    >>> amount("5")
    Decimal('5.00')

    Raises:
        ValueError: what is allowed, for a message.
    """
    allowed = "an amount such as 5.00, not below zero, with at most two decimal places"
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise NotAllowedError(allowed)
    try:
        number = Decimal(value)
        rounded = number.quantize(Decimal("0.01"))
    except InvalidOperation:
        raise NotAllowedError(allowed) from None
    if not number.is_finite() or rounded != number or number < 0 or number >= Decimal(10) ** 8:
        raise NotAllowedError(allowed)
    return abs(rounded)


def amount_above_zero(value: object) -> Decimal:
    """Take an amount of money above zero."""
    number = amount(value)
    if not number:
        raise NotAllowedError("an amount above zero such as 25.00")
    return number


def limit(value: object) -> Decimal | None:
    """Take an amount of money, or the word ``none`` for no limit."""
    if value == "none":
        return None
    try:
        return amount(value)
    except NotAllowedError as problem:
        raise NotAllowedError(f'{problem}, or "none"') from None


def limit_or_ils(value: object) -> Decimal | Literal["ils"] | None:
    """Take a limit, or the word ``ils`` for the ILS's own thresholds."""
    if value == "ils":
        return "ils"
    try:
        return limit(value)
    except NotAllowedError as problem:
        raise NotAllowedError(f'{problem}, or "ils"') from None


def limit_rules(value: object) -> tuple[LimitRule, ...]:
    """Take the tables ``[[policy.limits]]``; no two of them may be for the same profile and library."""
    if not isinstance(value, list):
        raise NotAllowedError("tables [[policy.limits]] in the configuration file")
    rules = tuple(_limit_rule(number, entry) for number, entry in enumerate(value, 1))
    seen = set()
    for number, rule in enumerate(rules, 1):
        place = tuple(name and name.casefold() for name in (rule.profile, rule.library))
        if place in seen:
            raise NotAllowedError(f"one table for each profile and library (table {number} is a second one)")
        seen.add(place)
    return rules


def _limit_rule(number: int, entry: object) -> LimitRule:
    allowed = {"profile", "library", "limit", "comparison"}
    if not isinstance(entry, dict) or not entry.keys() <= allowed or "limit" not in entry:
        raise NotAllowedError(f"a limit with a profile or library or both, and a comparison, only (table {number})")
    if "profile" not in entry and "library" not in entry:
        raise NotAllowedError(f"a profile or a library in each table (table {number}); limit is for everybody else")
    try:
        return LimitRule(
            profile=text(entry["profile"]) if "profile" in entry else None,
            library=text(entry["library"]) if "library" in entry else None,
            amount=limit(entry["limit"]),
            comparison=comparison(entry["comparison"]) if "comparison" in entry else None,
        )
    except NotAllowedError as problem:
        raise NotAllowedError(f"{problem} (table {number})") from None


def comparison(value: object) -> Comparison:
    """Take the name of a comparison."""
    try:
        return Comparison(value)
    except ValueError:
        raise NotAllowedError('"exceeds" (over the limit) or "reaches" (at it as well)') from None


def texts(value: object) -> tuple[str, ...]:
    """Take a list of texts, or one text with commas."""
    if isinstance(value, str):
        value = [part for part in (part.strip() for part in value.split(",")) if part]
    if not isinstance(value, list) or not all(isinstance(part, str) and part.strip() for part in value):
        raise NotAllowedError('a list of short names such as ["BR1", "BR2"]')
    return tuple(part.strip() for part in value)


def file_formats(value: object) -> tuple[str, ...]:
    """Take the formats that each library gets a file in."""
    allowed = "a list of " + ", ".join(FILE_FORMATS)
    try:
        formats = tuple(dict.fromkeys(texts(value)))
    except NotAllowedError:
        raise NotAllowedError(allowed) from None
    if not formats or not set(formats) <= set(FILE_FORMATS):
        raise NotAllowedError(allowed)
    return formats


def one_of(*words: str) -> Callable[[object], str]:
    """Make a converter that takes one of some words."""

    def convert(value: object) -> str:
        if value not in words:
            raise NotAllowedError("one of " + ", ".join(words))
        return str(value)

    return convert


def host(value: object) -> str:
    """Take the name or the address of a machine."""
    name = text(value)
    is_name = _DOMAIN.fullmatch(name) and len(name) <= 253
    if not is_name and not re.fullmatch(r"[0-9a-fA-F:]+", name):
        raise NotAllowedError('the name of a machine such as "mail.example.org"')
    return name


def mail_address(value: object) -> str:
    """Take one address for mail, without a display name; a domain with other letters as ``xn--…``."""
    address = value.strip() if isinstance(value, str) else ""
    local_part, _, domain = address.rpartition("@")
    fits = len(local_part) <= 64 and len(domain) <= 253
    if not fits or not _LOCAL_PART.fullmatch(local_part) or not _DOMAIN.fullmatch(domain):
        raise NotAllowedError('an address such as "circulation@example.org", with a domain of other letters as xn--…')
    return address


def recipients(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Take a table of short names with their addresses, or a text such as ``BR1=a@example.org,b@example.org; *=…``."""
    allowed = 'short names with addresses such as {BR1 = ["desk@example.org"], "*" = ["all@example.org"]}'
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(";") if part.strip()]
        value = {name.strip(): addresses.split(",") for name, _, addresses in pairs}
    if not isinstance(value, dict) or not all(isinstance(name, str) and name.strip() for name in value):
        raise NotAllowedError(allowed)
    found = {}
    for name, addresses in value.items():
        listed = [addresses] if isinstance(addresses, str) else addresses
        if not isinstance(listed, list) or not listed:
            raise NotAllowedError(allowed)
        try:
            found[name.strip()] = tuple(mail_address(address) for address in listed)
        except NotAllowedError as problem:
            raise NotAllowedError(f"for each short name {problem}") from None
    return tuple(found.items())


def template(*names: str) -> Callable[[object], str]:
    """Make a converter for a line of text in which ``{name}`` stands for something, for each of ``names``."""
    allowed = "one line of text, with " + ", ".join(f"{{{name}}}" for name in names) + " in it or not"

    def convert(value: object) -> str:
        line = text(value)
        try:
            fields = [field for _, *field in Formatter().parse(line) if field[0] is not None]
        except ValueError:
            raise NotAllowedError(allowed) from None
        if not line.isprintable() or any(field[0] not in names or field[1] or field[2] for field in fields):
            raise NotAllowedError(allowed)
        return line

    return convert
