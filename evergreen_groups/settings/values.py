"""The kinds of values that settings accept, from TOML, the environment or the command line.

msgspec converts a value to the kind's type. The functions here check the rest, such as amounts and addresses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from string import Formatter
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from evergreen_groups.formats import FILE_FORMATS
from evergreen_groups.language import catalogue
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, LimitRule
from evergreen_groups.values import ZERO

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

    ``name`` is its placeholder in ``--help``. A value is converted to ``type`` by msgspec, and from that by ``read``,
    which raises ValueError, or NotAllowedError with a more specific text than ``allowed``. Text from a variable or an
    option is first brought into the form that TOML has: ``words`` have a meaning of their own, and ``split`` makes
    lists and tables. With ``several``, the option can be repeated. ``empty`` is the empty value in TOML.

    >>> even = Kind("number", "an even number", int, lambda value: value - value % 2)
    >>> even("60"), even(61)
    (60, 60)
    """

    name: str
    allowed: str
    type: Any
    read: Callable[[Any], Value] = lambda value: value
    choices: tuple[str, ...] = ()
    several: bool = False
    empty: str = "[]"
    words: Mapping[str, Value] = field(default_factory=dict)
    split: Callable[[str], object] = lambda text: text

    def __call__(self, value: object) -> Value:
        from msgspec import convert  # imported late: --help needs no values, and this takes a third of its time

        try:
            if not isinstance(value, str):
                return self.read(convert(value, self.type))
            text = value.strip()
            if text in self.words:
                return self.words[text]
            return self.read(convert(self.split(text), self.type, strict=False))
        except NotAllowedError:
            raise
        except (ValueError, ArithmeticError):
            raise NotAllowedError(self.allowed) from None


Network = IPv4Network | IPv6Network


def whole_number(lowest: int, highest: int, name: str = "number") -> Kind[int]:
    """Return the kind for integers from ``lowest`` to ``highest``, inclusive."""
    allowed = Message("a whole number from {lowest} to {highest}", values={"lowest": lowest, "highest": highest})
    return Kind(name, allowed, int, _if(lambda number: lowest <= number <= highest))


def one_of(*words: str) -> Kind[str]:
    """Return the kind for a fixed set of words."""
    return Kind("choice", Message("one of {words}", values={"words": ", ".join(words)}), Literal[words], choices=words)


def template(*names: str) -> Kind[str]:
    """Return the kind for a line of text with the placeholders ``{name}`` for any of ``names``."""

    def holds(line: str) -> bool:
        fields = [field for _, *field in Formatter().parse(line) if field[0] is not None]
        return line.isprintable() and all(name in names and not spec and not form for name, spec, form in fields)

    placeholders = ", ".join(f"{{{name}}}" for name in names)
    allowed = Message("one line of text, which may contain {placeholders}", values={"placeholders": placeholders})
    return Kind("text", allowed, str, _if(lambda line: line and holds(line)))


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


def closest_name(name: str, names: Iterable[str]) -> str | None:
    """Return the name most similar to ``name``; None if none is similar.

    >>> closest_name("min_totl", ["min_total", "top"]), closest_name("speed", ["url", "timeout"])
    ('min_total', None)
    """
    from difflib import get_close_matches  # imported late: needed only for mistakes

    return next(iter(get_close_matches(name, list(names), 1, 0.7)), None)


def _if(holds: Callable[[Any], object]) -> Callable[[Any], Any]:
    """Return a reader that refuses values for which ``holds`` is false."""

    def read(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return read


def _matching(pattern: str) -> Callable[[Any], Any]:
    return _if(re.compile(pattern).fullmatch)


def _with_detail(allowed: str, more: str) -> Message:
    return Message("{allowed} ({more})", values={"allowed": allowed, "more": more})


def _like(example: str) -> Message:
    return Message("a value such as {example}", values={"example": example})


def _list_like(example: str) -> Message:
    return Message("a list such as {example}", values={"example": example})


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _pairs(text: str) -> dict[str, str]:
    """Split ``BR1=a; BR2=b``."""
    return dict(part.split("=", 1) for part in text.split(";") if part.strip())


def _list_of(name: str, example: str) -> Kind[tuple[str, ...]]:
    def read(parts: tuple[str, ...]) -> Any:
        return _if(all)(tuple(map(str.strip, parts)))

    return Kind(name, _list_like(example), tuple[str, ...], read, several=True, split=_split)


def _url(address: str) -> str:
    parts = urlsplit(address)
    unwanted = parts.query or parts.fragment or parts.username or parts.password or parts.port == 0
    if parts.scheme not in ("http", "https") or not parts.hostname or unwanted:
        raise ValueError
    return address.rstrip("/")


def _origin(address: str) -> str:
    if urlsplit(_url(address)).path:
        raise ValueError
    return origin_of(address)


def _networks(parts: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return tuple(map(ip_network, parts))
    except ValueError as problem:  # its text says which address is wrong, and why
        raise NotAllowedError(_with_detail(NETWORKS.allowed, str(problem))) from None


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the user or the home directory doesn't exist
        missing = f"{text.partition('/')[0]} has no home directory"
        raise NotAllowedError(_with_detail(PATH.allowed, missing)) from None


def _existing_file(text: str) -> Path:
    path = _path(text)
    if not path.is_file():
        raise ValueError
    return path.absolute()  # the configuration is read by runs with other working directories


def _language(text: str) -> str:
    tag = catalogue.tag_of(text)
    if tag is None or catalogue.catalogue_for(tag) is None:
        raise NotAllowedError(Message("one of {words}", values={"words": ", ".join(catalogue.languages())}))
    return tag


def _amount(number: Decimal, *, lowest: Decimal = Decimal(0)) -> Decimal:
    rounded = number.quantize(Decimal("0.01"))
    if rounded != number or not lowest <= number < Decimal(10) ** 8:
        raise ValueError
    return abs(rounded)


def _listen(address: str) -> str:
    if not re.fullmatch(rf"(\[[0-9a-fA-F:]+\]|{_DOMAIN}):[0-9]{{1,5}}", address) or host_and_port(address)[1] > 65_535:
        raise ValueError
    return address


def _split_recipients(text: str) -> dict[str, list[str]]:
    """Split ``BR1=a@example.org, b@example.org; *=c@example.org``. Addresses without a name are for everything."""
    parts = [part if "=" in part else f"*={part}" for part in text.split(";") if part.strip()]
    return {name: addresses.split(",") for name, _, addresses in (part.partition("=") for part in parts)}


def _recipients(found: dict[str, str | list[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    listed = {name.strip(): [one] if isinstance(one, str) else one for name, one in found.items()}
    if not all(listed) or not all(listed.values()):
        raise ValueError
    return tuple((name, tuple(map(MAIL_ADDRESS, addresses))) for name, addresses in listed.items())


@dataclass(frozen=True, slots=True)
class LetterTexts:
    """A library's own texts of letters, for a language (None: any) and everything at or below a library (None: all).

    They are for the letter to a family with this ``number`` and later ones, until a table has a higher number. Texts
    that are None are those of the next library above, or the built-in ones.
    """

    library: str | None = None
    language: str | None = None
    number: int = 1
    opening: str | None = None
    payment: str | None = None
    closing: str | None = None


LETTER_PARTS = ("opening", "payment", "closing")


def _tables(
    setting: str, kinds: Mapping[str, Kind[Any]], needed: Sequence[Collection[str]], keys: Message, record: Any
) -> Kind[tuple[Any, ...]]:
    """Return the kind for tables, each of which becomes a record.

    A table needs a key from each of ``needed``; ``keys`` says so.
    """

    def read(tables: list[dict[str, object]]) -> tuple[Any, ...]:
        found = []
        for number, table in enumerate(tables, 1):
            place, unknown = f"[[{setting}]] {number}", ", ".join(key for key in table if key not in kinds)
            if unknown or not all(table.keys() & some for some in needed):
                raise NotAllowedError(_with_detail(keys, place), unknown)
            try:
                found.append(record(**{key: kinds[key](part) for key, part in table.items()}))
            except NotAllowedError as problem:
                raise NotAllowedError(_with_detail(problem.allowed, place)) from None
        return tuple(found)

    allowed = Message("{name} tables in the configuration file", values={"name": f"[[{setting}]]"})
    return Kind(setting.rpartition(".")[2], allowed, list[dict[str, Any]], read)


def _limit_rule(limit: Decimal | None, **more: Any) -> LimitRule:
    return LimitRule(more.get("profile"), more.get("library"), limit, more.get("comparison"))


def _limit_rules(tables: list[dict[str, object]]) -> tuple[LimitRule, ...]:
    rules = _LIMIT_TABLES.read(tables)
    places = [(str(rule.profile).casefold(), str(rule.library).casefold()) for rule in rules]
    for number, place in enumerate(places):
        if place in places[:number]:
            table = f"[[policy.limits]] {number + 1}"
            raise NotAllowedError(_with_detail(Message("one table per profile and library"), table))
    return rules


_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
DATABASE_EXAMPLE = "postgresql+psycopg://groups@db.example.org/groups"
_FOR_EXAMPLE = {"example": '"https://evergreen.example.org"'}
_TRUE_OR_FALSE = {"yes": True, "on": True, "no": False, "off": False}

TEXT = Kind("text", Message("text that isn't empty"), str, _if(str.strip))
TEXTS = _list_of("shortname", '["BR1", "BR2"]')
KIND_NAMES = _list_of("kind", '["lost materials"]')
PLUGIN_NAMES = _list_of("plug-in", '["chat"]')
PROFILE_NAMES = _list_of("profile", '["Juvenile"]')
NETWORKS = Kind("network", _list_like('["127.0.0.1", "10.1.0.0/16"]'), tuple[str, ...], _networks, split=_split)
REPORT_NAME = Kind(
    "name", Message("up to 40 letters, digits, - and _"), str, _matching("[A-Za-z0-9][A-Za-z0-9_-]{0,39}"), empty='""'
)
ASCENDING_DAYS = Kind(
    "days",
    Message("up to 9 ascending numbers, such as [30, 60, 90]"),
    tuple[int, ...],
    _if(lambda days: len(days) <= 9 and list(days) == sorted({day for day in days if 1 <= day <= 100_000})),
    split=_split,
)
BOOLEAN: Kind[bool] = Kind(
    "flag",
    Message("true or false"),
    bool,
    words={form: meant for word, meant in _TRUE_OR_FALSE.items() for form in (word, word.title(), word.upper())},
)
URL = Kind(
    "url", Message("an address such as {example}, without a user name or password", values=_FOR_EXAMPLE), str, _url
)
ORIGIN = Kind("url", Message("an address such as {example}, without a path", values=_FOR_EXAMPLE), str, _origin)
PATH = Kind("path", Message("a path such as {example}", values={"example": '"/var/lib/evergreen-groups"'}), str, _path)
PASSWORD_FILE = replace(PATH, allowed=Message("the path of a file that has the password on one line"))
DATABASE = Kind(
    "address",
    Message("the address of a PostgreSQL database, such as {example}", values={"example": f'"{DATABASE_EXAMPLE}"'}),
    str,
    _if(str.strip),
)
TEXTFILE = Kind(
    "path",
    _like('"/var/lib/prometheus/node-exporter/evergreen-groups.prom"'),
    str,
    lambda text: _matching(r".*[^/]\.prom")(text) and _path(text),
)
EXISTING_FILE = Kind("file", Message("an existing file"), str, _existing_file)
LOCALE = Kind("locale", _like('"en-US"'), str, _matching("[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"))
LANGUAGE = Kind(
    "language", Message('a language that has a translation, such as "fr-CA" (docs/translating.md)'), str, _language
)
LANGUAGES_OF_LIBRARIES = Kind(
    "shortname=language",
    _like('{BR3 = "fr-CA"}'),
    dict[str, str],
    lambda tags: tuple((TEXT(name), LANGUAGE(tag)) for name, tag in tags.items()),
    empty="{}",
    split=_pairs,
)
CURRENCY = Kind("currency", _like('"CAD" (ISO 4217)'), str, _matching("[A-Z]{3}"))
TIMEZONE = Kind("timezone", _like('"America/Toronto"'), str, _if(catalogue.timezone_of))
_AN_AMOUNT = Message("an amount of {lowest} or more, with at most two decimal places")
AMOUNT_ABOVE_ZERO = Kind(
    "amount", _AN_AMOUNT.with_values({"lowest": "0.01"}), Decimal, partial(_amount, lowest=Decimal("0.01"))
)
_OR = Message("{allowed}; or {word}")
_OR_NONE = _OR.with_values({"allowed": _AN_AMOUNT.with_values({"lowest": "0.00"}), "word": '"none"'})
MINIMUM = Kind("amount", _OR_NONE, Decimal, _amount, words={"none": ZERO})
LIMIT: Kind[Decimal | str | None] = Kind("amount", _OR_NONE, Decimal, _amount, words={"none": None})
_OR_ILS = _OR.with_values({"allowed": LIMIT.allowed, "word": '"ils"'})
LIMIT_OR_ILS = replace(LIMIT, allowed=_OR_ILS, words={"none": None, "ils": "ils"})
COMPARISON: Kind[Comparison] = Kind(
    "comparison", Message("one of {words}", values={"words": "exceeds, reaches"}), Comparison
)
_LIMIT_TABLES = _tables(
    "policy.limits",
    {"profile": TEXT, "library": TEXT, "limit": LIMIT, "comparison": COMPARISON},
    ({"limit"}, {"profile", "library"}),
    Message("limit, with profile, library or both; comparison is optional"),
    _limit_rule,
)
LIMIT_RULES = replace(_LIMIT_TABLES, read=_limit_rules)
LETTER_TEXTS = _tables(
    "letters.texts",
    {"library": TEXT, "language": LANGUAGE, "number": whole_number(1, 9), **dict.fromkeys(LETTER_PARTS, TEXT)},
    (LETTER_PARTS,),
    Message("opening, payment or closing; library, language and number are optional"),
    LetterTexts,
)
FILE_FORMAT_LIST: Kind[tuple[str, ...]] = Kind(
    "formats",
    Message("a list of {formats}", values={"formats": ", ".join(FILE_FORMATS)}),
    tuple[Literal[FILE_FORMATS], ...],  # type: ignore[valid-type]  # for msgspec
    lambda formats: _if(bool)(tuple(dict.fromkeys(formats))),
    split=_split,
)
HOST = Kind("host", _like('"mail.example.org"'), str, _matching(rf"(?=.{{1,253}}$){_DOMAIN}|[0-9a-fA-F:]+"))
LISTEN = Kind("host:port", _like('"127.0.0.1:9821"'), str, _listen)
MAIL_ADDRESS = Kind(
    "address",
    Message('an e-mail address such as "circulation@example.org"; an international domain begins with xn--'),
    str,
    _matching(rf"(?=.{{1,64}}@.{{1,253}}$){_WORD}(\.{_WORD})*@{_DOMAIN}"),
)
RECIPIENTS = Kind(
    "shortname=address",
    _like('"all@example.org", or {BR1 = ["desk@example.org"], "*" = ["all@example.org"]}'),
    dict[str, str | list[str]],
    _recipients,
    empty="{}",
    split=_split_recipients,
)
