"""The kinds of values that settings accept, from TOML, the environment or the command line.

Libraries such as msgspec or cattrs would convert only numbers, booleans and strings, which take a few lines here. They
report a bad value as a sentence without the separate fields that our messages need. URLs, networks, limits, recipients
and templates would still be our own code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from string import Formatter
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from evergreen_groups.formats import FILE_FORMATS
from evergreen_groups.language import catalogue
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, LimitRule

Value = TypeVar("Value")


class NotAllowedError(ValueError):
    """A value that a setting doesn't accept. ``allowed`` describes what it accepts, as a translatable text.

    ``part`` is the part of the value that isn't allowed, "" for the whole value.
    """

    def __init__(self, allowed: str, part: str = "") -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.part = part


@dataclass(frozen=True, slots=True)
class Kind(Generic[Value]):
    """A kind of value.

    ``name`` is its placeholder in ``--help``. ``read`` converts a value or raises ValueError, or NotAllowedError with a
    more specific text than ``allowed``. With ``several``, the option can be repeated. ``empty`` is the empty value in
    TOML.

    >>> Kind("number", "a whole number", lambda value: int(str(value)))("60")
    60
    """

    name: str
    allowed: str
    read: Callable[[object], Value]
    choices: tuple[str, ...] = ()
    several: bool = False
    empty: str = "[]"

    def __call__(self, value: object) -> Value:
        try:
            return self.read(value)
        except NotAllowedError:
            raise
        except (ValueError, ArithmeticError):
            raise NotAllowedError(self.allowed) from None


Network = IPv4Network | IPv6Network

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_TAG, _CURRENCY_CODE = re.compile("[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"), re.compile("[A-Z]{3}")
_REPORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL_PART, _DOMAIN = (re.compile(rf"{part}(\.{part})*") for part in (_WORD, _LABEL))


def whole_number(lowest: int, highest: int, name: str = "number") -> Kind[int]:
    """Return the kind for integers from ``lowest`` to ``highest``, inclusive."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(f"[0-9]{{1,{len(str(highest))}}}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError
        return value

    return Kind(
        name, Message("a whole number from {lowest} to {highest}", values={"lowest": lowest, "highest": highest}), read
    )


def one_of(*words: str) -> Kind[str]:
    """Return the kind for a fixed set of words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind("choice", Message("one of {words}", values={"words": ", ".join(words)}), read, choices=words)


def template(*names: str) -> Kind[str]:
    """Return the kind for a line of text with the placeholders ``{name}`` for any of ``names``."""

    def read(value: object) -> str:
        line = _text(value)
        fields = [field for _, *field in Formatter().parse(line) if field[0] is not None]
        if not line.isprintable() or any(field[0] not in names or field[1] or field[2] for field in fields):
            raise ValueError
        return line

    placeholders = ", ".join(f"{{{name}}}" for name in names)
    allowed = Message("one line of text, which may contain {placeholders}", values={"placeholders": placeholders})
    return Kind("text", allowed, read)


def origin_of(address: str) -> str:
    """Return the origin of an http or https URL, in the form that browsers use.

    >>> origin_of("https://Evergreen.example.org:443/")
    'https://evergreen.example.org'
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, usual) else f":{parts.port}")


def host_and_port(address: str) -> tuple[str, int]:
    """Split an address to listen on into host and port.

    >>> host_and_port("127.0.0.1:9187"), host_and_port("[::1]:9187")
    (('127.0.0.1', 9187), ('::1', 9187))
    """
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _with_detail(allowed: str, more: str) -> Message:
    return Message("{allowed} ({more})", values={"allowed": allowed, "more": more})


def _of_table(allowed: str, tables: str, number: int) -> Message:
    return _with_detail(allowed, f"[[{tables}]] {number}")


def _like(example: str) -> Message:
    return Message("a value such as {example}", values={"example": example})


def _list_like(example: str) -> Message:
    return Message("a list such as {example}", values={"example": example})


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _where(read: Callable[[object], Value], holds: Callable[[Value], object]) -> Callable[[object], Value]:
    """Return a reader that refuses values for which ``holds`` is false."""

    def read_and_check(value: object) -> Value:
        found = read(value)
        if not holds(found):
            raise ValueError
        return found

    return read_and_check


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - a value that isn't allowed, whatever its type
    return tuple(_text(part) for part in value)


def _ascending_days(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - a value that isn't allowed, whatever its type
    days = tuple(whole_number(1, 100_000)(one.strip() if isinstance(one, str) else one) for one in value)
    if len(days) > 9 or list(days) != sorted(set(days)):
        raise ValueError
    return days


def _boolean(value: object) -> bool:
    word = str(value).lower()
    if not isinstance(value, (bool, str)) or word not in _TRUE + _FALSE:
        raise ValueError
    return word in _TRUE


def _url(value: object) -> str:
    address = _text(value)
    parts = urlsplit(address)
    unwanted = parts.query or parts.fragment or parts.username or parts.password or parts.port == 0
    if parts.scheme not in ("http", "https") or not parts.hostname or unwanted:
        raise ValueError
    return address.rstrip("/")


def _origin(value: object) -> str:
    address = _url(value)
    if urlsplit(address).path:
        raise ValueError
    return origin_of(address)


def _networks(value: object) -> tuple[Network, ...]:
    parts = _texts(value)
    try:
        return tuple(ip_network(part) for part in parts)
    except ValueError as problem:  # its text says which address is wrong, and why
        raise NotAllowedError(_with_detail(NETWORKS.allowed, str(problem))) from None


def _path(value: object) -> Path:
    text = _text(value)
    if "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the user or the home directory doesn't exist
        missing = f"{text.partition('/')[0]} has no home directory"
        raise NotAllowedError(_with_detail(PATH.allowed, missing)) from None


def _existing_file(value: object) -> Path:
    path = _path(value)
    if not path.is_file():
        raise ValueError
    return path.absolute()  # the configuration is read by runs with other working directories


def _language(value: object) -> str:
    tag = catalogue.tag_of(_text(value))
    if tag is None or catalogue.catalogue_for(tag) is None:
        raise NotAllowedError(LANGUAGE.allowed)
    return tag


def _languages_of_libraries(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str):
        value = dict(part.split("=", 1) for part in value.split(";") if part.strip())
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - a value that isn't allowed, whatever its type
    return tuple((_text(name), _language(tag)) for name, tag in value.items())


def _amount(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError  # noqa: TRY004 - a value that isn't allowed, whatever its type
    number = Decimal(value)
    rounded = number.quantize(Decimal("0.01"))
    if not number.is_finite() or rounded != number or number < 0 or number >= Decimal(10) ** 8:
        raise ValueError
    return abs(rounded)


def _limit(value: object) -> Decimal | None:
    return None if value == "none" else _amount(value)


def _limit_or_ils(value: object) -> Decimal | Literal["ils"] | None:
    return "ils" if value == "ils" else _limit(value)


def _read_tables(
    value: object, setting: str, kinds: Mapping[str, Kind[Any]], needed: Sequence[Collection[str]], keys: Message
) -> Iterator[dict[str, Any]]:
    """Yield the values of each table of a setting. A table needs a key from each of ``needed``; ``keys`` says so."""
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - a value that isn't allowed, whatever its type
    for number, entry in enumerate(value, 1):
        found = entry if isinstance(entry, dict) else {}
        unknown = ", ".join(key for key in found if key not in kinds)
        if unknown or not all(found.keys() & some for some in needed):
            raise NotAllowedError(_of_table(keys, setting, number), unknown)
        try:
            yield {key: kinds[key](part) for key, part in found.items()}
        except NotAllowedError as problem:
            raise NotAllowedError(_of_table(problem.allowed, setting, number)) from None


def _limit_rules(value: object) -> tuple[LimitRule, ...]:
    kinds: dict[str, Kind[Any]] = {"profile": TEXT, "library": TEXT, "limit": LIMIT, "comparison": COMPARISON}
    rules: dict[object, LimitRule] = {}
    tables = _read_tables(value, "policy.limits", kinds, ({"limit"}, {"profile", "library"}), _LIMIT_KEYS)
    for number, table in enumerate(tables, 1):
        rule = LimitRule(table.get("profile"), table.get("library"), table["limit"], table.get("comparison"))
        place = tuple(name and name.casefold() for name in (rule.profile, rule.library))
        if place in rules:
            raise NotAllowedError(_of_table(Message("one table per profile and library"), "policy.limits", number))
        rules[place] = rule
    return tuple(rules.values())


def _file_formats(value: object) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(_texts(value)))
    if not formats or not set(formats) <= set(FILE_FORMATS):
        raise ValueError
    return formats


def _host(value: object) -> str:
    name = _text(value)
    is_name = _DOMAIN.fullmatch(name) and len(name) <= 253
    if not is_name and not re.fullmatch(r"[0-9a-fA-F:]+", name):
        raise ValueError
    return name


def _listen(value: object) -> str:
    address = _text(value)
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^][:\s]+):[0-9]{1,5}", address) or host_and_port(address)[1] > 65_535:
        raise ValueError
    _host(host_and_port(address)[0])
    return address


def _mail_address(value: object) -> str:
    address = _text(value)
    local_part, _, domain = address.rpartition("@")
    fits = len(local_part) <= 64 and len(domain) <= 253
    if not fits or not _LOCAL_PART.fullmatch(local_part) or not _DOMAIN.fullmatch(domain):
        raise ValueError
    return address


def _recipients(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if isinstance(value, str):
        parts = [part if "=" in part else f"*={part}" for part in value.split(";") if part.strip()]
        value = {name: addresses.split(",") for name, _, addresses in (part.partition("=") for part in parts)}
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - a value that isn't allowed, whatever its type
    found = {_text(name): tuple(_addresses(listed)) for name, listed in value.items()}
    return tuple(found.items())


def _addresses(listed: object) -> Iterator[str]:
    addresses = [listed] if isinstance(listed, str) else listed
    if not isinstance(addresses, list) or not addresses:
        raise ValueError
    yield from (MAIL_ADDRESS(address) for address in addresses)


@dataclass(frozen=True, slots=True)
class LetterTexts:
    """A library's own texts of letters, for a language (None: any) and everything at or below a library (None: all).

    Texts that are None are those of the next library above, or the built-in ones.
    """

    library: str | None = None
    language: str | None = None
    opening: str | None = None
    payment: str | None = None
    closing: str | None = None


LETTER_PARTS = ("opening", "payment", "closing")


def _letter_texts(value: object) -> tuple[LetterTexts, ...]:
    kinds = {"library": TEXT, "language": LANGUAGE, **dict.fromkeys(LETTER_PARTS, TEXT)}
    keys = Message("opening, payment or closing; library and language are optional")
    return tuple(LetterTexts(**table) for table in _read_tables(value, "letters.texts", kinds, (LETTER_PARTS,), keys))


TEXT = Kind("text", Message("text that isn't empty"), _text)
TEXTS = Kind("shortname", _list_like('["BR1", "BR2"]'), _texts, several=True)
REPORT_NAME = Kind(
    "name", Message("up to 40 letters, digits, - and _"), _where(_text, _REPORT_NAME.fullmatch), empty='""'
)
KIND_NAMES = Kind("kind", _list_like('["lost materials"]'), _texts, several=True)
PLUGIN_NAMES = Kind("plug-in", _list_like('["chat"]'), _texts, several=True)
PROFILE_NAMES = Kind("profile", _list_like('["Juvenile"]'), _texts, several=True)
ASCENDING_DAYS = Kind("days", Message("up to 9 ascending numbers, such as [30, 60, 90]"), _ascending_days)
BOOLEAN = Kind("flag", Message("true or false"), _boolean)
_EXAMPLE_URL = '"https://evergreen.example.org"'
URL = Kind(
    "url",
    Message("an address such as {example}, without a user name or password", values={"example": _EXAMPLE_URL}),
    _url,
)
ORIGIN = Kind("url", Message("an address such as {example}, without a path", values={"example": _EXAMPLE_URL}), _origin)
NETWORKS = Kind("network", _list_like('["127.0.0.1", "10.1.0.0/16"]'), _networks)
PATH = Kind("path", _like('"/var/lib/evergreen-groups"'), _path)
TEXTFILE = Kind(
    "path",
    _like('"/var/lib/prometheus/node-exporter/evergreen-groups.prom"'),
    _where(_path, lambda path: path.suffix == ".prom"),
)
EXISTING_FILE = Kind("file", Message("an existing file"), _existing_file)
LOCALE = Kind("locale", _like('"en-US"'), _where(_text, _TAG.fullmatch))
LANGUAGE = Kind(
    "language", Message('a language that has a translation, such as "fr-CA" (docs/translating.md)'), _language
)
LANGUAGES_OF_LIBRARIES = Kind("shortname=language", _like('{BR3 = "fr-CA"}'), _languages_of_libraries, empty="{}")
CURRENCY = Kind("currency", _like('"CAD" (ISO 4217)'), _where(_text, _CURRENCY_CODE.fullmatch))
TIMEZONE = Kind("timezone", _like('"America/Toronto"'), _where(_text, catalogue.timezone_of))
_AN_AMOUNT = Message("an amount of {lowest} or more, with at most two decimal places")
AMOUNT = Kind("amount", _AN_AMOUNT.with_values({"lowest": "0.00"}), _amount)
AMOUNT_ABOVE_ZERO = Kind("amount", _AN_AMOUNT.with_values({"lowest": "0.01"}), _where(_amount, bool))
_OR = Message("{allowed}; or {word}")
LIMIT = Kind("amount", _OR.with_values({"allowed": AMOUNT.allowed, "word": '"none"'}), _limit)
LIMIT_OR_ILS = Kind("amount", _OR.with_values({"allowed": LIMIT.allowed, "word": '"ils"'}), _limit_or_ils)
_TABLES = Message("{name} tables in the configuration file")
_LIMIT_KEYS = Message("limit, with profile, library or both; comparison is optional")
LIMIT_RULES = Kind("limits", _TABLES.with_values({"name": "[[policy.limits]]"}), _limit_rules)
LETTER_TEXTS = Kind("texts", _TABLES.with_values({"name": "[[letters.texts]]"}), _letter_texts)
COMPARISON = Kind("comparison", Message("one of {words}", values={"words": "exceeds, reaches"}), Comparison)
FILE_FORMAT_LIST = Kind(
    "formats", Message("a list of {formats}", values={"formats": ", ".join(FILE_FORMATS)}), _file_formats
)
HOST = Kind("host", _like('"mail.example.org"'), _host)
LISTEN = Kind("host:port", _like('"127.0.0.1:9821"'), _listen)
MAIL_ADDRESS = Kind(
    "address",
    Message('an e-mail address such as "circulation@example.org"; an international domain begins with xn--'),
    _mail_address,
)
RECIPIENTS = Kind(
    "shortname=address",
    _like('"all@example.org", or {BR1 = ["desk@example.org"], "*" = ["all@example.org"]}'),
    _recipients,
    empty="{}",
)


def closest_name(name: str, names: Iterable[str]) -> str | None:
    """Return the name most similar to ``name``; None if none is similar.

    >>> closest_name("min_totl", ["min_total", "top"]), closest_name("speed", ["url", "timeout"])
    ('min_total', None)
    """
    from difflib import get_close_matches  # imported late: needed only for mistakes

    return next(iter(get_close_matches(name, list(names), 1, 0.7)), None)
