"""All settings, section by section.

A field is all that a setting needs: :mod:`evergreen_groups.settings.declaration` describes what derives from it. All
sections are in this module so that there is one place to find a setting or add one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evergreen_groups import arguments
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import (
    CSV_DIALECTS,
    FILE_FORMATS,
    REPORT_FORMATS,
    SORT_ORDERS,
    SPLITS,
    TEXT_FORMATS,
)
from evergreen_groups.language import Language, catalogue_for, timezone_of
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.settings import values as v
from evergreen_groups.settings.declaration import (
    Option,
    Question,
    Secret,
    Setting,
    declared_in,
    section,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from evergreen_groups.policy import LimitRule
    from evergreen_groups.settings.values import LetterTexts, Network

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1"))
_INIT, _REPORT, _AUDIT, _SERVE = ("init",), ("report",), ("audit",), ("serve",)
_TITLES = ("none", "juveniles", "all")
_FILES_ONLY = ", ".join(name for name in REPORT_FORMATS if name not in TEXT_FORMATS)
_CA_BUNDLE = setting(
    v.PATH,
    None,
    help="A file with the certificates of the authorities to trust, where the system's own do not do.",
    example="/etc/ssl/certs/library-ca.pem",
    options=(Option("--ca-bundle", _INIT, "Certificates to trust.", v.EXISTING_FILE),),
)


@dataclass(frozen=True)
class GatewaySettings:
    """Section ``[gateway]``; ``timeout`` is in seconds."""

    url: str | None = setting(
        v.URL,
        None,
        help="The address of the Evergreen server. /osrf-gateway-v1 is added.",
        example="https://evergreen.example.org",
        essential=True,
        options=(Option("--url", _INIT),),
        question=Question(Message("Address of the Evergreen server")),
    )
    username: str | None = setting(
        v.TEXT,
        None,
        help="The service account: a staff account with STAFF_LOGIN and VIEW_USER for the whole consortium.",
        example="groups_report",
        essential=True,
        options=(Option("--username", _INIT, "User name of the service account."),),
        question=Question(Message("User name of the service account")),
    )
    password_file: Path | None = setting(
        v.PATH,
        None,
        help="The file with its password, alone on one line; it must not be open to everybody (chmod 600).",
        example="/etc/evergreen-groups/password",
        essential=True,
        options=(
            Option(
                "--password-file",
                _INIT,
                "A file that has the password already. Otherwise it is asked for, or taken from "
                "$EVERGREEN_GROUPS_PASSWORD, and written beside the configuration.",
                v.EXISTING_FILE,
            ),
        ),
        secret=Secret("password", "password", "EVERGREEN_GROUPS_PASSWORD", account="username"),
    )
    workstation: str | None = setting(
        v.TEXT,
        None,
        help="A registered workstation to log in with.",
        example="BR1-reports",
        options=(Option("--workstation", _INIT),),
    )
    locale: str | None = setting(v.LOCALE, None, help="The language of the ILS's own messages.", example="en-US")
    timeout: int = setting(
        v.whole_number(1, 600), 60, help="How many seconds the gateway waits for the service behind it."
    )
    concurrency: int = setting(
        v.whole_number(1, 16), 3, help="How many calls may be under way at once. A few are polite."
    )
    ca_bundle: Path | None = _CA_BUNDLE
    allow_plain_http: bool = setting(
        v.BOOLEAN,
        False,
        help="Send the password over plain HTTP to another machine. Only for a network that nobody else can listen on.",
        options=(Option("--allow-plain-http", _INIT, "Send the password unencrypted to another machine."),),
    )


@dataclass(frozen=True)
class PolicySettings:
    """Section ``[policy]``: the limit on a person's own fines (None: no limit; ``"ils"``: Evergreen's thresholds)."""

    limit: Decimal | Literal["ils"] | None = setting(
        v.LIMIT_OR_ILS,
        Decimal("5.00"),
        help='The limit of one person\'s own fines; "none"; or "ils": for each patron the threshold that Evergreen '
        "itself would use, which counts the fines of some libraries only and blocks when it is reached. What the rest "
        "of the group owes never counts.",
        options=(
            Option(
                "--limit",
                _REPORT,
                'The limit of one person\'s own fines, or "none" ({default}). It decides who is marked as over the '
                "limit.",
                v.LIMIT,
            ),
            Option("--limit", _AUDIT, 'The limit of one person\'s own fines, or "none" ({default}).', v.LIMIT),
            Option("--limit", _INIT, 'The limit of one person\'s own fines, "none", or "ils" ({default}).'),
        ),
        question=Question(Message('Limit of one person\'s own fines, "none", or "ils"')),
    )
    comparison: Comparison = setting(
        v.COMPARISON,
        Comparison.EXCEEDS,
        help='How fines are held against that amount. "exceeds": over the limit, not at it. "reaches": at the limit as '
        "well, as Evergreen itself does. A limit of 0.00 is reached by open transactions that add up to 0.00, and by "
        "nobody who has none.",
    )
    limits: tuple[LimitRule, ...] = setting(
        v.LIMIT_RULES,
        (),
        help="Limits for the patrons of a profile, with a home library, or both, each with all below it. They come "
        "before the limit above. Where several would do, the one for the nearest library counts, among those the "
        "nearest profile's.",
        sample='[[policy.limits]]\nprofile = "Juvenile"\nlibrary = "BR1"\nlimit = 2.00\ncomparison = "reaches"',
    )

    def __post_init__(self) -> None:
        """Check the type of a limit that a program passes in. Raises ArgumentError."""
        if self.limit is not None and self.limit != "ils":
            arguments.money("limit", self.limit)

    @property
    def uniform(self) -> bool:
        """Whether the same limit applies to everyone."""
        return self.limit != "ils" and not self.limits

    def as_limit(self) -> Limit:
        """Return the limit for everyone.

        Raises:
            ConfigurationError: the limits depend on the patron.
        """
        if self.limit == "ils" or self.limits:
            raise ConfigurationError(
                "this needs one limit for everybody, and [policy] has limits that depend on profile and library",
                advice="name an amount with --limit, or look at single patrons with evergreen-groups check",
                setting="policy.limits" if self.limits else "policy.limit",
                code="limits-differ",
            )
        return Limit(self.limit, self.comparison)


@dataclass(frozen=True)
class ReportSettings:
    """Section ``[report]``. ``deadline`` applies to the whole run, in seconds. ``keep_days`` None keeps all files."""

    orgs: tuple[str, ...] = setting(
        v.TEXTS,
        (),
        help="Only groups with a member whose home library is one of these org units or below (short names); an empty "
        "list is everywhere.",
        options=(
            Option(
                "--org",
                _REPORT,
                "Only groups with a member whose home library is here or below; the total stays the whole group's. "
                "Repeatable.",
            ),
            Option(
                "--org",
                ("letters",),
                "Only groups with a member whose home library is here or below, and only people whose own is. "
                "Repeatable.",
            ),
            Option("--org", _INIT, "List groups of this library only. Repeatable."),
        ),
        question=Question(Message("Libraries, with commas"), empty=Message("all", context="libraries")),
    )
    min_total: Decimal = setting(
        v.AMOUNT_ABOVE_ZERO,
        Decimal("25.00"),
        help="List groups that together owe this much or more.",
        options=(Option("--min-total", (*_REPORT, "letters", *_INIT)),),
        question=Question(Message("List groups that together owe this much or more")),
    )
    min_members: int = setting(
        v.whole_number(1, 1_000_000),
        2,
        help="List groups of this many members or more.",
        options=(Option("--min-members", _REPORT),),
    )
    details: str = setting(
        v.one_of("full", "sums"),
        "full",
        help='"full": of each member and group also what is owed for, since when, which items are overdue or lost, and '
        'who is a juvenile, barred or expired. "sums": what is owed alone, with fewer calls.',
    )
    owing_since: int | None = setting(
        v.whole_number(1, 100_000, "days"),
        None,
        help="List only groups that have owed something for this many days.",
        example=60,
        options=(Option("--owing-since", _REPORT, "Only groups that have owed something for this many days."),),
    )
    contact: bool = setting(
        v.BOOLEAN,
        False,
        help="Say whom to contact about each group, with phone numbers, e-mail and postal address. This puts more "
        "personal data into every file of the report, but never into mails. See docs/security.md.",
    )
    age_bands: tuple[int, ...] = setting(
        v.ASCENDING_DAYS,
        (30, 60, 90),
        help="The days of owing at which a new band begins. The report says which band each group is in, and adds up "
        "what the groups of each band owe. An empty list turns bands off.",
    )
    kinds: tuple[str, ...] = setting(
        v.KIND_NAMES,
        (),
        help="List only groups that owe something of these kinds: as the report calls them (overdue materials), as the "
        "library's billing types are called, or circulation, grocery or reservation.",
        options=(
            Option(
                "--kind",
                _REPORT,
                'Only groups that owe something of this kind, such as "lost materials", a billing type\'s name, or '
                "grocery. Repeatable.",
            ),
        ),
    )
    with_items_out: bool = setting(
        v.BOOLEAN,
        False,
        help="List only groups with overdue items that can still be returned.",
        options=(Option("--with-items-out", _REPORT, "Only groups with overdue items that can still be returned."),),
    )
    with_juvenile: bool = setting(
        v.BOOLEAN,
        False,
        help="List only groups with a member whose record says juvenile.",
        options=(Option("--with-juvenile", _REPORT, "Only groups with a member whose record says juvenile."),),
    )
    profiles: tuple[str, ...] = setting(
        v.PROFILE_NAMES,
        (),
        help="List only groups with a member who has one of these permission profiles, or one below it (names).",
        options=(
            Option(
                "--profile",
                _REPORT,
                "Only groups with a member who has this permission profile, or one below it. Repeatable.",
            ),
        ),
    )
    over_limit: str = setting(
        v.one_of("any", "somebody", "nobody"),
        "any",
        help='"somebody": list only groups with a member over their own limit. "nobody": only those without.',
    )
    blocked: bool = setting(
        v.BOOLEAN,
        False,
        help="List only groups with a member who is blocked for fines in Evergreen.",
        options=(Option("--blocked", _REPORT, "Only groups with a member who is blocked for fines in Evergreen."),),
    )
    sort: str = setting(
        v.one_of(*SORT_ORDERS),
        "total",
        help="The order of the groups: total (the highest combined fines first), age (who has owed longest first), "
        "members, name or library.",
        options=(Option("--sort", _REPORT, "Order of the groups ({default})."),),
    )
    top: int | None = setting(
        v.whole_number(1, 1_000_000),
        None,
        help="List only so many groups, those with the highest combined fines; all where it isn't set. What changed "
        "since the last run is found out of all of them.",
        example=50,
        options=(Option("--top", _REPORT, "Only this many, the highest."),),
    )
    format: str = setting(
        v.one_of(*REPORT_FORMATS),
        "table",
        help=f"The format: {', '.join(TEXT_FORMATS)}, or for a file {_FILES_ONLY}, which needs an extra package "
        "(evergreen-groups[xlsx]).",
        options=(Option("--format", _REPORT, f"Output format ({{default}}); {_FILES_ONLY} goes with --output only."),),
    )
    output: Path | None = setting(
        v.PATH,
        None,
        help="The file to write. Standard output where there is none.",
        example="/var/lib/evergreen-groups/report.html",
        options=(
            Option(
                "--output",
                _REPORT,
                "Write to this file, readable by its owner alone, instead of standard output. Its ending chooses the "
                "format where --format doesn't. With --split library it is a directory.",
            ),
        ),
    )
    split: str = setting(
        v.one_of(*SPLITS),
        "none",
        help='"library": output is a directory that gets one file for each library and format, in a directory for each '
        'day, with an index page and a link "latest".',
        options=(
            Option(
                "--split",
                _REPORT,
                "library: --output is a directory that gets a file for each library and format, in a directory for "
                "each day, with an index page and a link to the latest ({default}).",
            ),
        ),
    )
    formats: tuple[str, ...] = setting(
        v.FILE_FORMAT_LIST,
        ("html", "csv", "json"),
        help=f"The formats of those files, out of {', '.join(FILE_FORMATS)}.",
    )
    csv: str = setting(
        v.one_of(*CSV_DIALECTS),
        "plain",
        help='For whom CSV is written. "plain": programs. "spreadsheet": the same with a byte order mark, by which a '
        'spreadsheet knows the letters of names. "semicolon": with semicolons between values and commas in amounts as '
        "well, as spreadsheets of many languages read it by themselves.",
    )
    keep_days: int | None = setting(
        v.whole_number(1, 100_000),
        None,
        help="How many days of them to keep; all are kept where it isn't set.",
        example=90,
    )
    deadline: int = setting(
        v.whole_number(1, 86_400, "seconds"),
        3600,
        help="After this many seconds a run is ended, whatever it is waiting for.",
        options=(
            Option("--deadline", _REPORT, "End the run after this many seconds, whatever it waits for ({default})."),
        ),
    )
    hours_between_runs: int = setting(
        v.whole_number(0, 10_000),
        0,
        help="Make no report, with exit status 0, where one was written less than so many hours ago, here or on "
        "another server that shares the database; wait for one that is being made. With the same timer on several "
        "servers, 12 makes it once a night.",
    )
    healthcheck_url: str | None = setting(
        v.URL,
        None,
        help="An address to call when a run has ended well; /fail is added to it where it has not.",
        example="https://healthchecks.example.org/ping/0123",
        options=(
            Option(
                "--healthcheck-url",
                _REPORT,
                "Call this address when the run has ended well, and the same with /fail when it has not.",
            ),
        ),
    )


@dataclass(frozen=True)
class NamedReport:
    """A table of ``[[reports]]``: a further report from the same reading. ``report`` has what it lists."""

    name: str = setting(
        v.REPORT_NAME,
        "",
        help="What it is called, in its title, its mails and the history, which it has for itself.",
        example="old-debts",
        essential=True,
    )
    recipients: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        v.RECIPIENTS, (), help="Who gets it when a run has --mail, as recipients in [mail] say it."
    )
    subject: str | None = setting(
        v.template("date", "groups", "members", "total", "libraries"),
        None,
        help="The subject of its mails; where it isn't given, its name and the subject in [mail].",
        example="Old debts, {date}: {groups} listed",
    )
    link: str | None = setting(
        v.template("date", "library"),
        None,
        help="Where it is to be found, with {date} and {library} in it or not. The service hands it out below "
        "reports/named, as in the example, to those who may see the patrons on it.",
        example="https://evergreen.example.org/evergreen-groups/reports/named/old-debts/latest/{library}",
    )
    report: ReportSettings = field(default_factory=ReportSettings)


@dataclass(frozen=True)
class HistorySettings:
    """Section ``[history]``."""

    keep_days: int = setting(
        v.whole_number(1, 100_000),
        400,
        help="How many days of past runs to keep, for what changed since the last one.",
    )


@dataclass(frozen=True)
class AuditSettings:
    """Section ``[audit]``. ``max_adults`` 0 allows any number of adults in a group."""

    max_adults: int = setting(
        v.whole_number(0, 1_000),
        0,
        help="More adults than this in one group are found by the audit, and warned of before somebody is moved there; "
        "0: any number will do. Adults in a group see each other's affairs, so most libraries group one parent with "
        "the children alone. Nothing is refused by it.",
        options=(Option("--max-adults", _AUDIT, "Find groups with more adults than this; 0: any number will do."),),
    )
    adults_from_age: int = setting(
        v.whole_number(1, 120),
        18,
        help="From how many years on somebody counts as an adult for that. A birth date that is known decides, "
        "whatever the mark of a juvenile says; without one, whoever isn't marked as a juvenile counts as an adult. "
        "Birth dates are read to tell adults from children, and shown by the audit and by plans nowhere.",
    )
    institution_profiles: tuple[str, ...] = setting(
        v.PROFILE_NAMES,
        (),
        help="The profiles of institutions (schools, care homes, offices), with all below them: a group with such a "
        "member is no family, which the audit counts among the evidence.",
        example=("Institution",),
    )


@dataclass(frozen=True)
class StateSettings:
    """Section ``[state]``."""

    database: str | None = setting(
        v.TEXT,
        None,
        help="The PostgreSQL database that several servers share, from release 13 on; without one, everything is kept "
        "in a file in the state directory of this machine. The password has a file of its own.",
        example="postgresql+psycopg://groups@db.example.org/groups",
    )
    password_file: Path | None = setting(
        v.PATH,
        None,
        help="The file with the password of its user, alone on one line; it must not be open to everybody (chmod 600).",
        example="/etc/evergreen-groups/database-password",
        secret=Secret("password", "database_password", "EVERGREEN_GROUPS_DATABASE_PASSWORD"),
    )


@dataclass(frozen=True)
class JournalSettings:
    """Section ``[journal]``."""

    keep_days: int = setting(
        v.whole_number(1, 100_000),
        730,
        help="How many days to keep changes that were made; for as long each can be taken back.",
    )


@dataclass(frozen=True)
class MailSettings:
    """Section ``[mail]``. ``timeout`` is in seconds.

    ``recipients`` pairs short names of libraries or systems (``*``: the whole report) with mail addresses.
    """

    host: str | None = setting(
        v.HOST,
        None,
        help="The mail server that takes the report when a run has --mail.",
        example="mail.example.org",
        options=(Option("--mail-host", _INIT, "The mail server for the report."),),
        question=Question(
            Message("Mail server for the report"), empty=Message("none", context="answer"), opens_section=True
        ),
    )
    security: str = setting(
        v.one_of("starttls", "tls", "none"),
        "starttls",
        help='"starttls", "tls" (from the start), or "none" for a server on this machine.',
        options=(Option("--mail-security", _INIT, "starttls, tls or none ({default})."),),
        question=Question(Message("Its security (starttls, tls, none)")),
    )
    port: int | None = setting(
        v.whole_number(1, 65_535, "port"),
        None,
        help="The usual port for the security where none is set: 587, 465 or 25.",
        example=587,
        options=(Option("--mail-port", _INIT, "Its port."),),
        question=Question(Message("Its port"), empty=Message("the usual one")),
    )
    ca_bundle: Path | None = _CA_BUNDLE
    username: str | None = setting(
        v.TEXT,
        None,
        help="The login, where the server wants one, of ASCII characters alone.",
        example="groups",
        options=(Option("--mail-username", _INIT, "The login there, where one is wanted."),),
        question=Question(Message("User name there"), empty=Message("none", context="answer")),
    )
    password_file: Path | None = setting(
        v.PATH,
        None,
        help="The file with its password, of ASCII characters alone.",
        example="/etc/evergreen-groups/mail-password",
        options=(Option("--mail-password-file", _INIT, "A file that has its password already.", v.EXISTING_FILE),),
        secret=Secret("password", "mail_password", "EVERGREEN_GROUPS_MAIL_PASSWORD", account="username"),
    )
    sender: str | None = setting(
        v.MAIL_ADDRESS,
        None,
        help="Who the mails come from.",
        example="groups@example.org",
        options=(Option("--mail-sender", _INIT),),
        question=Question(Message("From")),
    )
    recipients: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        v.RECIPIENTS,
        (),
        help="Who gets the groups of which library: short names with their addresses. A system stands for everything "
        'below it, and "*" for the whole report. Whoever stands at several gets one mail. A report of some libraries '
        'alone (orgs) goes to theirs, and to "*".',
        sample='[mail.recipients]\nBR1 = ["circulation@example.org"]\n"*" = ["director@example.org"]',
        options=(
            Option(
                "--mail-recipients",
                _INIT,
                'Who gets them: "all@example.org", or "BR1=a@example.org; *=all@example.org".',
            ),
        ),
        question=Question(Message('Recipients: one address for the whole report, or "SHORTNAME=ADDRESS; *=ADDRESS"')),
    )
    subject: str = setting(
        v.template("date", "groups", "members", "total", "libraries"),
        Message("Groups with high combined fines, {date}: {groups} listed, {total}"),
        help="The subject, with {date}, {groups}, {members}, {total} and {libraries} in it or not.",
    )
    names_in_mail: bool = setting(
        v.BOOLEAN,
        False,
        help="Mail goes through many hands: names of patrons are in it only where this is true.",
    )
    attach: str = setting(
        v.one_of("none", *FILE_FORMATS),
        "none",
        help=f"The format in which the report goes along: {', '.join(FILE_FORMATS)}; or none. It has names in it, so "
        "it needs names_in_mail.",
    )
    link: str | None = setting(
        v.template("date", "library"),
        None,
        help="Where the report is to be found instead, with {date} and {library} in it or not. Of a report by library "
        "the service hands each library's page to those who may see its patrons, as in the example. Without "
        "it, mails link to the service if origin in [serve] is set and the report has pages.",
        example="https://evergreen.example.org/evergreen-groups/reports/latest/{library}",
        options=(
            Option("--mail-link", _INIT, "Where the report is to be found, with {date} and {library} in it or not."),
        ),
        question=Question(Message("Link to the report in the mails"), empty=Message("none", context="answer")),
    )
    send_empty: bool = setting(
        v.BOOLEAN,
        True,
        help="Send a mail when no group is listed as well, so that silence means trouble.",
    )
    timeout: int = setting(v.whole_number(1, 600), 30, help="How many seconds the mail server may take for an answer.")
    tries: int = setting(v.whole_number(1, 5), 3, help="How often one run tries to send a mail.")
    keep_days: int = setting(
        v.whole_number(1, 365), 14, help="How many days a mail that can't be sent waits at the most."
    )

    def __post_init__(self) -> None:
        """Check that no settings combine to send names or a password where they don't belong.

        Raises:
            ConfigurationError: two settings contradict each other.
        """
        if self.attach != "none" and not self.names_in_mail:
            raise ConfigurationError(
                "[mail] attach: the report holds names of patrons",
                advice="set names_in_mail = true as well, or give a link",
                setting="mail.attach",
                code="names-in-mail",
            )
        if self.security == "none" and self.username and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError(
                '[mail] security: "none" would send the password unencrypted to another machine',
                advice='use "starttls" or "tls", or no username',
                setting="mail.security",
                code="password-unencrypted",
            )


@dataclass(frozen=True)
class ClientSettings:
    """Section ``[client]``. If ``url`` is None, it is ``[serve] origin``, or else the gateway's."""

    url: str | None = setting(
        v.URL,
        None,
        help="Where the staff client is that links of the report lead to. Where it isn't given, origin in [serve], "
        "else the gateway's host.",
        example="https://evergreen.example.org",
    )
    kind: str = setting(
        v.one_of("angularjs", "angular"),
        "angularjs",
        help='Which of the two: "angularjs" (/eg/staff), where the menus of a stock Evergreen lead, or "angular" '
        "(/eg2/staff).",
    )
    groups: str = setting(
        v.one_of("page", "tab"),
        "page",
        help='Where a group\'s link leads: to the "page" of the service (/evergreen-groups/patrons/ID/group), or to '
        'the client\'s own "tab" Group Member Details, for those who run no service.',
    )


@dataclass(frozen=True)
class ServeSettings:
    """Section ``[serve]``. ``timeout`` is in seconds, ``rate_limit`` in requests per minute.

    If ``origin`` is None, it is the gateway's. If ``report`` is None, it is ``[report] output`` if that is a page or a
    directory of a split report, or else ``reports`` in the state directory.
    """

    host: str = setting(
        v.TEXT,
        "127.0.0.1",
        help="The address where the web service listens, behind Apache (docs/install.md).",
        options=(Option("--host", _SERVE, "Address to listen on, in place of the configured one."),),
    )
    port: int = setting(
        v.whole_number(0, 65_535, "port"),
        8211,
        help="Its port.",
        options=(Option("--port", _SERVE, "Port to listen on, in place of the configured one; 0 takes a free one."),),
    )
    threads: int = setting(
        v.whole_number(2, 64),
        8,
        help="How many requests may ask the ILS something at once. Each may use a connection to the gateway.",
    )
    origin: str | None = setting(
        v.ORIGIN,
        None,
        help="The staff client's own origin; where it isn't given, the gateway's.",
        example="https://evergreen.example.org",
    )
    timeout: int = setting(
        v.whole_number(1, 60),
        10,
        help="How many seconds a request may take, with everything that the ILS is asked for.",
    )
    rate_limit: int = setting(
        v.whole_number(1, 1_000_000),
        600,
        help="How many requests a minute each session may make, and how many without one may come from each address.",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        v.NETWORKS, LOOPBACK, help="The proxies whose X-Forwarded-For is believed."
    )
    report: Path | None = setting(
        v.PATH,
        None,
        help="The page at reports/latest, or the directory of a report by library, of which reports/latest/BR1 is that "
        "of BR1. Where it isn't given, [report] output if that is either, else reports in the state directory. Staff "
        "with VIEW_USER for the whole consortium may see the page, and of a report by library each one those of the "
        "libraries where they have it. A report of [[reports]] is at reports/named/NAME/latest by itself.",
        example="/var/lib/evergreen-groups/reports",
    )


@dataclass(frozen=True)
class RedisSettings:
    """Section ``[redis]``."""

    url: str | None = setting(
        v.TEXT,
        None,
        help="A Redis or Valkey where several servers count together how often somebody asks; without one, each counts "
        "by itself. The password has a file of its own.",
        example="redis://db.example.org:6379/1",
    )
    password_file: Path | None = setting(
        v.PATH,
        None,
        help="The file with its password, alone on one line; it must not be open to everybody (chmod 600).",
        example="/etc/evergreen-groups/redis-password",
        secret=Secret("password", "redis_password", "EVERGREEN_GROUPS_REDIS_PASSWORD"),
    )


@dataclass(frozen=True)
class EventsSettings:
    """Section ``[events]``. Without a secret, events are disabled. ``deadline`` is in seconds."""

    secret_file: Path | None = setting(
        v.PATH,
        None,
        help="The file with the secret that the ILS sends along, alone on one line, 16 characters or more; it must not "
        "be open to everybody. Without a secret, no events are taken.",
        example="/etc/evergreen-groups/events-secret",
        secret=Secret("secret", "events_secret", shortest=16),
    )
    allow: tuple[Network, ...] = setting(v.NETWORKS, LOOPBACK, help="The addresses that events may come from.")
    recalculate: bool = setting(v.BOOLEAN, False, help="Ask the ILS to recalculate the patron's penalties.")
    deadline: int = setting(v.whole_number(1, 120), 20, help="How many seconds the work for one event may take.")
    keep_days: int = setting(
        v.whole_number(1, 100_000), 90, help="How many days to keep what came of each, so that none is taken twice."
    )


@dataclass(frozen=True)
class DeskSettings:
    """Section ``[desk]``. If ``undo_others`` is None, users can undo only their own changes."""

    page: bool = setting(
        v.BOOLEAN,
        True,
        help="Serve the page of a patron's group (/evergreen-groups/patrons/ID/group), to which the panel links.",
    )
    changes: bool = setting(
        v.BOOLEAN,
        True,
        help="Let the desk change groups, each with the account of whoever asks; false: it looks, and changes nothing.",
    )
    tab: bool = setting(
        v.BOOLEAN,
        True,
        help="Put that page into the place of the list in the staff client's own tab Group Member Details. One click "
        "brings the client's list back, and where the service is down that list is there by itself.",
    )
    panel_link: str = setting(
        v.one_of("same", "new"),
        "same",
        help='Where the panel\'s link to that page opens it: in the "same" tab of the browser, or in a "new" one.',
    )
    undo_others: str | None = setting(
        v.TEXT,
        None,
        help="The permission of the ILS, by name, that lets somebody undo what others changed; without one, everybody "
        "undoes their own changes alone.",
        example="MERGE_USERS",
    )
    titles: str = setting(
        v.one_of(*_TITLES),
        "none",
        help="Whose items are shown with their titles when bills and items are unfolded, and in the JSON: "
        '"none" of them, those of "juveniles" (by the flag in their record), or "all". Each look is in the log.',
    )


@dataclass(frozen=True)
class FollowUpSettings:
    """Section ``[follow_up]``."""

    again_after: int = setting(
        v.whole_number(1, 10_000),
        30,
        help="After how many days without an entry a group of the report is to do again.",
    )
    permission: str = setting(
        v.TEXT,
        "UPDATE_USER",
        help="The permission of Evergreen, by name, that lets staff save entries: at the home library of the person to "
        "contact.",
    )
    keep_days: int = setting(
        v.whole_number(1, 100_000),
        400,
        help="How many days to keep the entries of a group after a report last listed it.",
    )


@dataclass(frozen=True)
class StatementSettings:
    """Section ``[statement]``. If ``library`` is None, it is the patron's home library as named in Evergreen."""

    page: bool = setting(
        v.BOOLEAN,
        True,
        help="Offer the family statement, a page to print for whoever stands at the desk (docs/desk.md).",
    )
    library: str | None = setting(
        v.TEXT,
        None,
        help="The library's name on it; where it isn't given, that of the patron's home library in the ILS.",
        example="Lakeland Public Library",
    )
    text: str | None = setting(
        v.TEXT,
        None,
        help="A text of the library's own above it; each line is a paragraph.",
        example="Children pay no fines from January on.",
    )
    how_to_pay: str = setting(
        v.TEXT,
        "You can pay at the desk of the library.",
        help="Where and how to pay, below the sums; each line is a paragraph.",
    )
    adults: bool = setting(
        v.BOOLEAN,
        False,
        help="Whether adults are on it beside the patron whose page it is. Where they aren't, nothing tells that there "
        "are any, and what they owe is in no sum.",
    )
    bills: bool = setting(v.BOOLEAN, True, help="Whether it says what is owed for what, beside the sums.")
    items: bool = setting(v.BOOLEAN, True, help="Whether it says which items are due when.")
    titles: str = setting(
        v.one_of(*_TITLES),
        "none",
        help='Whose titles are on it: "none", those of "juveniles", or "all" on it. Each look is in the log.',
    )


@dataclass(frozen=True)
class LetterSettings:
    """Section ``[letters]``."""

    envelope: str = setting(
        v.one_of("us10", "din"),
        "us10",
        help='The window envelope in which letters are sent: "us10", a US no. 10 envelope with a left window, for '
        'Letter paper; "din", for A4 paper folded as in DIN 5008, form B.',
    )
    texts: tuple[LetterTexts, ...] = setting(
        v.LETTER_TEXTS,
        (),
        help="The library's own opening, payment and closing, each line a paragraph, with {name} of the addressee and "
        "{library} in them or not. A table with a library is for it and everything below, one with a language for "
        "letters in that language. The table of the nearest library counts, and among those one with a language.",
        sample='[[letters.texts]]\nlanguage = "en"\npayment = "Pay at any desk, or online."\n'
        '[[letters.texts]]\nlibrary = "BR1"\nlanguage = "fr-CA"\npayment = "Vous pouvez payer au comptoir."',
    )

    def text(self, part: str, libraries: Sequence[str], tag: str) -> str | None:
        """Return the library's own text of a ``part`` in the language ``tag``, None if there is none.

        ``libraries`` are the short names of the addressee's library and those above, nearest first.
        """
        near = {name.casefold(): place for place, name in enumerate(libraries)}
        found = [
            (near.get((one.library or "").casefold(), len(near)), one.language is None, place, text)
            for place, one in enumerate(self.texts)
            if (text := getattr(one, part)) is not None
            and (one.library is None or one.library.casefold() in near)
            and (one.language is None or catalogue_for(one.language) == catalogue_for(tag))
        ]
        return min(found)[-1] if found else None


@dataclass(frozen=True)
class LanguageSettings:
    """Section ``[language]``: the language, currency and time zone of readers."""

    default: str = setting(
        v.LANGUAGE,
        "en",
        help="The language of the report, and of pages and commands where the reader asks for no other. With a country "
        '("en-US") dates are written as they are there.',
    )
    libraries: tuple[tuple[str, str], ...] = setting(
        v.LANGUAGES_OF_LIBRARIES,
        (),
        help="The languages of libraries that have another: their pages and mails of the report are written in it, "
        "as are those of the libraries below them.",
        sample='[language.libraries]\nBR3 = "fr-CA"',
    )
    currency: str = setting(v.CURRENCY, "USD", help="The currency of all amounts (ISO 4217).")
    timezone: str | None = setting(
        v.TIMEZONE,
        None,
        help="The time zone of all times; where it isn't given, the library's own in the ILS (lib.timezone), else this "
        "machine's.",
        example="America/Toronto",
    )

    def language(self, tag: str | None = None, timezone: tzinfo | None = None) -> Language:
        """Return the language for a reader who asked for ``tag``, or for none.

        ``timezone`` is the library's own in Evergreen; the configured one takes precedence.
        """
        configured = timezone_of(self.timezone) if self.timezone else None
        return Language(tag or self.default, self.currency, configured or timezone)


@dataclass(frozen=True)
class MetricsSettings:
    """Section ``[metrics]``. No metrics are published unless one of these is set."""

    listen: str | None = setting(
        v.LISTEN,
        None,
        help="The address where the web service shows its metrics (docs/monitoring.md) to whoever can reach it, at "
        "/metrics. There is nothing of a patron in them.",
        example="127.0.0.1:9821",
        options=(Option("--metrics", _SERVE, "Address to show the metrics at, in place of the configured one."),),
    )
    token_file: Path | None = setting(
        v.PATH,
        None,
        help="The file with the token that whoever asks for /evergreen-groups/metrics at the service's own address "
        "sends along (Authorization: Bearer), alone on one line, 16 characters or more; it must not be open to "
        "everybody. Without a token nothing is shown there.",
        example="/etc/evergreen-groups/metrics-token",
        secret=Secret("token", "metrics_token", shortest=16),
    )
    textfile: Path | None = setting(
        v.PATH,
        None,
        help="A file that the nightly run writes its figures to, for node_exporter's textfile collector; its name has "
        "to end in .prom there.",
        example="/var/lib/prometheus/node-exporter/evergreen-groups.prom",
    )


@dataclass(frozen=True)
class PluginSettings:
    """Section ``[plugins]``; ``timeout`` is in seconds."""

    enabled: tuple[str, ...] = setting(
        v.PLUGIN_NAMES, (), help="The plug-ins to call, by name and in this order (docs/plugins.md)."
    )
    timeout: int = setting(
        v.whole_number(1, 60),
        5,
        help="How many seconds to wait for each plug-in; one that takes longer is logged, and skipped as long as it "
        "is busy.",
    )


@dataclass(frozen=True)
class Settings:
    """All settings. ``source`` is the file that they were read from, if any."""

    gateway: GatewaySettings = section(GatewaySettings, "Where the ILS is, and who asks.")
    policy: PolicySettings = section(PolicySettings, "The rule: only a person's own fines count.")
    report: ReportSettings = section(
        ReportSettings, "What the nightly report lists, how it is written, and how its run is watched."
    )
    audit: AuditSettings = section(AuditSettings, "What the audit finds, and what it needn't find again.")
    history: HistorySettings = section(HistorySettings, "What is kept of past runs.")
    state: StateSettings = section(StateSettings, "Where everything is kept.")
    journal: JournalSettings = section(JournalSettings, "What is kept of changes.")
    mail: MailSettings = section(MailSettings, "Who gets the report, and the server that takes it.")
    language: LanguageSettings = section(LanguageSettings, "How people read: language, currency, time zone.")
    client: ClientSettings = section(ClientSettings, "The staff client, into which names in the report lead.")
    serve: ServeSettings = section(ServeSettings, "The web service.")
    desk: DeskSettings = section(DeskSettings, "The page of a patron's group, and what of it the staff client shows.")
    follow_up: FollowUpSettings = section(FollowUpSettings, "What was agreed with the groups of the report.")
    statement: StatementSettings = section(StatementSettings, "What may be on the family statement.")
    letters: LetterSettings = section(LetterSettings, "Letters to families (docs/letters.md).")
    redis: RedisSettings = section(RedisSettings, "What several servers count together.")
    events: EventsSettings = section(
        EventsSettings, "Events that the ILS sends (evergreen-groups install --show events)."
    )
    metrics: MetricsSettings = section(MetricsSettings, "What is shown to monitoring (docs/monitoring.md).")
    plugins: PluginSettings = section(PluginSettings, "Plug-ins that are called after reports, changes and follow-ups.")
    reports: tuple[NamedReport, ...] = ()
    source: Path | None = None


SECTION = "reports"
HELP = (
    "More reports of the same night, each a table, made from one reading with [report] in runs that are kept in the "
    "history. Each has a history of its own. Besides the keys below, a table takes those of [report] that say what is "
    "listed and how it is written; where it doesn't say one, that is as in [report], but for the output."
)
_OF_THE_RUN = {"details", "deadline", "hours_between_runs", "healthcheck_url"}
"""Settings of ``[report]`` that apply to the whole run."""


def own_settings() -> tuple[Setting, ...]:
    """Return the settings that only tables of ``[[reports]]`` have."""
    return declared_in(SECTION, NamedReport)


def shared_settings() -> tuple[Setting, ...]:
    """Return the settings of ``[report]`` that a table can override."""
    return tuple(setting for setting in declared_in("report", ReportSettings) if setting.name not in _OF_THE_RUN)
