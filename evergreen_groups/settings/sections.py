"""What can be configured, section by section, each a frozen record with the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.policy import Comparison, Limit, LimitRule

if TYPE_CHECKING:
    from evergreen_groups.settings.values import Network

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

    ``threads`` is how many requests may ask the ILS something at once. ``origin`` is the staff client's own (None: the
    gateway's); ``timeout`` is how many seconds a request may take in
    all; ``rate_limit`` is requests a minute for each session, and for those without one from each address.
    ``trusted_proxies`` are the networks whose ``X-Forwarded-For`` is believed. ``report`` is the page that the nightly
    run writes, or the directory of a report by library (None: ``[report] output`` where that is either, else
    ``reports`` in the state directory).
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
