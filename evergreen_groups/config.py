"""Configuration: a TOML file and environment variables become one frozen :class:`Settings` object.

An environment variable ``EVERGREEN_GROUPS_<SECTION>_<KEY>`` outweighs the file. Unknown keys and bad values are
errors that name the key, the value and what is allowed.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from evergreen_groups import converters
from evergreen_groups.converters import Network
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.models import LimitRule
from evergreen_groups.policy import Comparison, Limit

CONFIG_VARIABLE = "EVERGREEN_GROUPS_CONFIG"
PASSWORD_VARIABLE = "EVERGREEN_GROUPS_PASSWORD"  # noqa: S105 - the name of a variable
CREDENTIAL_NAME = "password"
MAIL_PASSWORD_VARIABLE = "EVERGREEN_GROUPS_MAIL_PASSWORD"  # noqa: S105 - the name of a variable
MAIL_CREDENTIAL_NAME = "mail_password"
EVENTS_CREDENTIAL_NAME = "events_secret"
SHORTEST_SECRET = 16
"""How many characters the secret of the events has at least."""

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1"))


@dataclass(frozen=True)
class GatewaySettings:
    """Section ``[gateway]``: where the ILS is and who asks. ``timeout`` is in seconds."""

    url: str | None = None
    username: str | None = None
    password_file: Path | None = None
    workstation: str | None = None
    locale: str | None = None
    timeout: int = 60
    concurrency: int = 3
    ca_bundle: Path | None = None
    allow_plain_http: bool = False


@dataclass(frozen=True)
class PolicySettings:
    """Section ``[policy]``: the limit of one person's own fines (None: no limit; ``"ils"``: the ILS's thresholds).

    ``comparison`` goes with an amount. ``limits`` are for some patrons and come before ``limit``.
    """

    limit: Decimal | Literal["ils"] | None = Decimal("5.00")
    comparison: Comparison = Comparison.EXCEEDS
    limits: tuple[LimitRule, ...] = ()

    @property
    def uniform(self) -> bool:
        """Whether there is one limit for everybody."""
        return self.limit != "ils" and not self.limits

    def as_limit(self) -> Limit:
        """The one limit for everybody.

        Raises:
            ConfigurationError: the configuration has different limits for different patrons.
        """
        if self.limit == "ils" or self.limits:
            raise ConfigurationError(
                "this needs one limit for everybody, and [policy] has limits that depend on profile and library: "
                "name an amount with --limit, or look at single patrons with evergreen-groups check"
            )
        return Limit(self.limit, self.comparison)


@dataclass(frozen=True)
class ReportSettings:
    """Section ``[report]``: what the nightly report lists, how it is written, and how its run is watched.

    With ``split`` "library", ``output`` is a directory that gets ``formats`` for each library, and keeps those of the
    last ``keep_days`` days (None: all). ``deadline`` is in seconds, for the whole run.
    """

    min_total: Decimal = Decimal("25.00")
    min_members: int = 2
    orgs: tuple[str, ...] = ()
    format: str = "table"
    output: Path | None = None
    split: str = "none"
    formats: tuple[str, ...] = ("html", "csv", "json")
    keep_days: int | None = None
    deadline: int = 3600
    healthcheck_url: str | None = None


@dataclass(frozen=True)
class HistorySettings:
    """Section ``[history]``: how many days of past runs are kept to compare with."""

    keep_days: int = 400


@dataclass(frozen=True)
class MailSettings:
    """Section ``[mail]``: who gets the report, and the server that takes it. ``timeout`` is in seconds.

    ``recipients`` are short names of libraries or systems (``*``: everything), each with its addresses. ``port`` None
    is the usual one for the security. ``attach`` is a format, or ``none``. ``tries`` is how often one run tries.
    """

    host: str | None = None
    port: int | None = None
    security: str = "starttls"
    ca_bundle: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    sender: str | None = None
    recipients: tuple[tuple[str, tuple[str, ...]], ...] = ()
    subject: str = "Groups with high combined fines, {date}: {groups} listed, {total}"
    names_in_mail: bool = False
    attach: str = "none"
    link: str | None = None
    send_empty: bool = True
    timeout: int = 30
    tries: int = 3
    spool: Path | None = None
    keep_days: int = 14

    def __post_init__(self) -> None:
        if self.attach != "none" and not self.names_in_mail:
            raise ConfigurationError(
                "[mail] attach: the report holds names of patrons: set names_in_mail = true as well, or give a link"
            )
        if self.security == "none" and self.username and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError(
                '[mail] security: "none" would send the password unencrypted to another machine: use "starttls" or '
                '"tls", or no username'
            )


@dataclass(frozen=True)
class ServeSettings:
    """Section ``[serve]``: the web service.

    ``origin`` is the staff client's own (None: the gateway's); ``timeout`` is how many seconds a request may take in
    all; ``rate_limit`` is requests a minute for each session. ``trusted_proxies`` are the networks whose
    ``X-Forwarded-For`` is believed. ``report`` is the page that the nightly run writes (None: the file of
    ``[report] output`` where that is HTML).
    """

    host: str = "127.0.0.1"
    port: int = 8211
    threads: int = 8
    origin: str | None = None
    timeout: int = 10
    rate_limit: int = 600
    trusted_proxies: tuple[Network, ...] = LOOPBACK
    report: Path | None = None


@dataclass(frozen=True)
class EventsSettings:
    """Section ``[events]``: events from the ILS.

    ``secret_file`` holds what the ILS has to send along (None, and no systemd credential: no events are taken);
    ``allow`` are the networks they may come from; ``deadline`` is how many seconds one may take.
    """

    secret_file: Path | None = None
    allow: tuple[Network, ...] = LOOPBACK
    recalculate: bool = False
    deadline: int = 20


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured. ``source`` is the file it was read from, None where there is none."""

    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    mail: MailSettings = field(default_factory=MailSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)
    events: EventsSettings = field(default_factory=EventsSettings)
    source: Path | None = None


_SECTIONS: dict[str, Any] = {
    "gateway": GatewaySettings,
    "policy": PolicySettings,
    "report": ReportSettings,
    "history": HistorySettings,
    "mail": MailSettings,
    "serve": ServeSettings,
    "events": EventsSettings,
}

_SECRETS = ("password", "secret")

_CONVERTERS: dict[str, dict[str, Callable[[object], object]]] = {
    "gateway": {
        "url": converters.url,
        "username": converters.text,
        "password_file": converters.path,
        "workstation": converters.text,
        "locale": converters.locale,
        "timeout": converters.whole_number(1, 600),
        "concurrency": converters.whole_number(1, 16),
        "ca_bundle": converters.path,
        "allow_plain_http": converters.boolean,
    },
    "policy": {
        "limit": converters.limit_or_ils,
        "comparison": converters.comparison,
        "limits": converters.limit_rules,
    },
    "report": {
        "min_total": converters.amount_above_zero,
        "min_members": converters.whole_number(1, 1_000_000),
        "orgs": converters.texts,
        "format": converters.one_of(*converters.REPORT_FORMATS),
        "output": converters.path,
        "split": converters.one_of(*converters.SPLITS),
        "formats": converters.file_formats,
        "keep_days": converters.whole_number(1, 100_000),
        "deadline": converters.whole_number(1, 86_400),
        "healthcheck_url": converters.url,
    },
    "history": {"keep_days": converters.whole_number(1, 100_000)},
    "mail": {
        "host": converters.host,
        "port": converters.whole_number(1, 65_535),
        "security": converters.one_of("starttls", "tls", "none"),
        "ca_bundle": converters.path,
        "username": converters.text,
        "password_file": converters.path,
        "sender": converters.mail_address,
        "recipients": converters.recipients,
        "subject": converters.template("date", "groups", "members", "total", "libraries"),
        "names_in_mail": converters.boolean,
        "attach": converters.one_of("none", "html", "csv", "json", "xlsx"),
        "link": converters.template("date", "library"),
        "send_empty": converters.boolean,
        "timeout": converters.whole_number(1, 600),
        "tries": converters.whole_number(1, 5),
        "spool": converters.path,
        "keep_days": converters.whole_number(1, 365),
    },
    "serve": {
        "host": converters.text,
        "port": converters.whole_number(0, 65535),
        "threads": converters.whole_number(2, 64),
        "origin": converters.origin,
        "timeout": converters.whole_number(1, 60),
        "rate_limit": converters.whole_number(1, 1_000_000),
        "trusted_proxies": converters.networks,
        "report": converters.path,
    },
    "events": {
        "secret_file": converters.path,
        "allow": converters.networks,
        "recalculate": converters.boolean,
        "deadline": converters.whole_number(1, 120),
    },
}


def find_file(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Say which configuration file counts: the one named, the environment's, the user's own, the system's.

    Raises:
        ConfigurationError: a file that was named explicitly isn't there.
    """
    named = explicit or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(f"no configuration file at {named}: create it, or name another with --config")
        return named
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")
    candidates = (home / "evergreen-groups" / "config.toml", Path("/etc/evergreen-groups/config.toml"))
    return next((path for path in candidates if path.is_file()), None)


def load(explicit: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from the file that counts and the environment.

    Raises:
        ConfigurationError: a file that can't be read, an unknown key, or a value that isn't allowed.
    """
    path = find_file(explicit, environ)
    document = _read(path) if path else {}
    for name, content in document.items():
        if name not in _SECTIONS or not isinstance(content, dict):
            raise ConfigurationError(f"{path}: unknown section [{name}]; allowed are [{'], ['.join(_SECTIONS)}]")
    sections = {name: _section(name, kind, document.get(name, {}), path, environ) for name, kind in _SECTIONS.items()}
    return Settings(**sections, source=path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


def _section(name: str, kind: Any, content: dict[str, Any], path: Path | None, environ: Mapping[str, str]) -> Any:
    known = _CONVERTERS[name]
    for key in content:
        if key in _SECRETS:
            raise ConfigurationError(f"{path}: [{name}] {key}: a {key} belongs in its own file: {key}_file")
        if key not in known:
            raise ConfigurationError(f"{path}: [{name}] {key}: unknown key; allowed are {', '.join(known)}")
    values = {}
    for key, convert in known.items():
        variable = f"EVERGREEN_GROUPS_{name.upper()}_{key.upper()}"
        if environ.get(variable):
            origin, value = f"${variable}", environ[variable]
        elif key in content:
            origin, value = f"{path}: [{name}] {key}", content[key]
        else:
            continue
        try:
            values[key] = convert(value)
        except converters.NotAllowedError as problem:
            raise ConfigurationError(f"{origin}: {value!s:.80} isn't allowed; it takes {problem}") from None
    return kind(**values)


def password(settings: GatewaySettings, environ: Mapping[str, str]) -> str:
    """Find the service account's password: environment, ``password_file``, or systemd's credentials.

    Raises:
        ConfigurationError: there is none, or its file can't be read or is readable by everybody.
    """
    return _password("gateway", settings.password_file, PASSWORD_VARIABLE, CREDENTIAL_NAME, environ)


def mail_password(settings: MailSettings, environ: Mapping[str, str]) -> str:
    """Find the password for the mail server in the same places, as ``mail_password``; raises what those do."""
    return _password("mail", settings.password_file, MAIL_PASSWORD_VARIABLE, MAIL_CREDENTIAL_NAME, environ)


def _password(section: str, file: Path | None, variable: str, name: str, environ: Mapping[str, str]) -> str:
    if environ.get(variable):
        return environ[variable]
    found = _from_file("password", file, name, environ)
    if found is not None:
        return found
    raise ConfigurationError(
        f'no password: set password_file in [{section}], ${variable}, or the systemd credential "{name}"'
    )


def events_secret(settings: EventsSettings, environ: Mapping[str, str]) -> str | None:
    """Find the secret of the events: ``secret_file`` or systemd's credentials; None where neither is there.

    Raises:
        ConfigurationError: its file can't be read or is readable by everybody, or the secret is too short.
    """
    secret = _from_file("secret", settings.secret_file, EVENTS_CREDENTIAL_NAME, environ)
    if secret is not None and len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"the secret of the events is too short: it takes {SHORTEST_SECRET} characters; "
            "`openssl rand -hex 24` makes one"
        )
    return secret


def _from_file(what: str, file: Path | None, credential_name: str, environ: Mapping[str, str]) -> str | None:
    """What the configured file holds, or systemd's credential of that name; None where neither is there."""
    if file is not None:
        return _secret_in(what, file, must_be_private=True)
    if environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(environ["CREDENTIALS_DIRECTORY"]) / credential_name
        if credential.is_file():
            return _secret_in(what, credential, must_be_private=False)
    return None


def _secret_in(what: str, path: Path, *, must_be_private: bool) -> str:
    try:
        with path.open(encoding="utf-8") as stream:
            mode = stat.S_IMODE(path.stat().st_mode)
            if must_be_private and mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigurationError(f"{what} file {path} is open to everybody: chmod 600 {path}")
            text = stream.read(4096).rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{what} file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{what} file {path} is not UTF-8 text") from error
    if not text:
        raise ConfigurationError(f"{what} file {path} is empty")
    return text
