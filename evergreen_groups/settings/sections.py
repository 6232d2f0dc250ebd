"""All settings, section by section.

A field is all that a setting needs: :mod:`evergreen_groups.settings.declaration` describes what derives from it. All
sections are in this module so that there is one place to find a setting or add one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from evergreen_groups import arguments
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import CSV_DIALECTS, FILE_FORMATS, REPORT_FORMATS, SORT_ORDERS, SPLITS, TEXT_FORMATS
from evergreen_groups.language import Language, catalogue
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.settings import values as v
from evergreen_groups.settings.declaration import Option, Question, Secret, Setting, declared_in, section, setting
from evergreen_groups.values import ZERO

LOOPBACK: tuple[v.Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1"))
_INIT, _REPORT, _AUDIT, _SERVE = ("init",), ("report",), ("audit",), ("serve",)
_TITLES = ("none", "juveniles", "all")
_FILES_ONLY = ", ".join(name for name in REPORT_FORMATS if name not in TEXT_FORMATS)
_CA_BUNDLE = setting(
    help="A file with certificates of authorities to trust instead of the system's.",
    example="/etc/ssl/certs/library-ca.pem",
    options=Option("--ca-bundle", _INIT, "Certificates to trust.", v.EXISTING_FILE),
)


@dataclass(frozen=True)
class GatewaySettings:
    """Section ``[gateway]``; ``timeout`` is in seconds."""

    url: Annotated[str | None, v.URL] = setting(
        help="The address of the Evergreen server, without /osrf-gateway-v1.",
        example="https://evergreen.example.org",
        essential=True,
        options=Option("--url", _INIT),
        question=Question(Message("Address of the Evergreen server")),
    )
    username: Annotated[str | None, v.TEXT] = setting(
        help="The service account: a staff account with the permissions in docs/permissions.md.",
        example="groups_report",
        essential=True,
        options=Option("--username", _INIT, "User name of the service account."),
        question=Question(Message("User name of the service account")),
    )
    password_file: Annotated[Path | None, v.PASSWORD_FILE] = setting(
        help="The file with the password, on one line. Run chmod 600 on it: other users must not have access.",
        example="/etc/evergreen-groups/password",
        essential=True,
        options=Option(
            "--password-file",
            _INIT,
            "An existing file with the password. By default, init takes the password from "
            "$EVERGREEN_GROUPS_PASSWORD or asks for it, and writes it to a file next to the configuration.",
            v.EXISTING_FILE,
        ),
        secret=Secret("password", "password", "EVERGREEN_GROUPS_PASSWORD", account="username"),
    )
    workstation: Annotated[str | None, v.TEXT] = setting(
        help="A registered workstation to log in with.", example="BR1-reports", options=Option("--workstation", _INIT)
    )
    locale: Annotated[str | None, v.LOCALE] = setting(help="The language of Evergreen's own messages.", example="en-US")
    timeout: Annotated[int, v.whole_number(1, 600)] = setting(
        60,
        help="How many seconds a call of the report or another command may take. The web service has timeout in "
        "[serve].",
    )
    concurrency: Annotated[int, v.whole_number(1, 16)] = setting(
        3,
        help="How many calls the report or another command may make at once. Keep it low, to leave room for staff. The "
        "web service has threads in [serve].",
    )
    ca_bundle: Annotated[Path | None, v.PATH] = _CA_BUNDLE
    allow_plain_http: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="Send the password unencrypted, over plain HTTP. Only for a network that no one else can listen on.",
        options=Option("--allow-plain-http", _INIT, "Send the password unencrypted to another machine."),
    )


@dataclass(frozen=True)
class PolicySettings:
    """Section ``[policy]``: the limit on a person's own fines (None: no limit; ``"ils"``: Evergreen's thresholds)."""

    limit: Annotated[Decimal | Literal["ils"] | None, v.LIMIT_OR_ILS] = setting(
        Decimal("5.00"),
        help='The limit for a member\'s own fines; "none"; or "ils" for Evergreen\'s own threshold for each patron. '
        "An Evergreen threshold counts only fines at the org unit where it is set, and at those above and below. It "
        "blocks as soon as fines reach it. Other members' fines never count.",
        options=(
            Option(
                "--limit",
                _REPORT,
                'The limit for a member\'s own fines, or "none". Members above it are marked as over the limit.',
                v.LIMIT,
            ),
            Option("--limit", _AUDIT, 'The limit for a member\'s own fines, or "none".', v.LIMIT),
            Option("--limit", _INIT, 'The limit for a member\'s own fines, "none", or "ils".'),
        ),
        question=Question(Message('Limit for a member\'s own fines, "none", or "ils" for Evergreen\'s thresholds')),
    )
    comparison: Annotated[Comparison, v.COMPARISON] = setting(
        Comparison.EXCEEDS,
        help='Who is over the limit. "exceeds": members who owe more. "reaches": also members who owe exactly the '
        "limit, as in Evergreen. With a limit of 0.00, that includes members with open transactions that add up to "
        "0.00.",
        options=Option(
            "--comparison", _INIT, 'Who is over the limit: who owes more ("exceeds"), or also who owes it ("reaches").'
        ),
        question=Question(Message('Over the limit: more than {limit} ("exceeds"), or {limit} and more ("reaches")')),
    )
    limits: Annotated[tuple[LimitRule, ...], v.LIMIT_RULES] = setting(
        (),
        help="Limits for patrons of a profile, a home library, or both, including everything below. They override the "
        "limit above. If several apply, the nearest library's limit counts, then the nearest profile's.",
        example=[{"profile": "Juvenile", "library": "BR1", "limit": Decimal("2.00"), "comparison": "reaches"}],
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
        """Return the limit for everyone."""
        if self.limit == "ils" or self.limits:
            raise ConfigurationError(
                "this needs one limit for all patrons, but [policy] has several",
                advice="set an amount with --limit, or check single patrons with `evergreen-groups check`",
                setting="policy.limits" if self.limits else "policy.limit",
                code="limits-differ",
            )
        return Limit(self.limit, self.comparison)


@dataclass(frozen=True)
class ReportSettings:
    """Section ``[report]``. ``deadline`` applies to the whole run, in seconds."""

    orgs: Annotated[tuple[str, ...], v.TEXTS] = setting(
        (),
        help="List only groups with a member whose home library is at or below one of these org units (short names). "
        "An empty list means all.",
        options=(
            Option(
                "--org",
                _REPORT,
                "Only groups with a member whose home library is here or below. The total is still the whole group's. "
                "Repeatable.",
            ),
            Option(
                "--org",
                ("letters",),
                "Only groups with a member whose home library is here or below, and letters only to people at these "
                "libraries. Repeatable.",
            ),
            Option("--org", _INIT, "List only groups of this library. Repeatable."),
        ),
        question=Question(Message("Libraries, separated by commas"), empty=Message("all", context="libraries")),
    )
    min_total: Annotated[Decimal, v.MINIMUM] = setting(
        Decimal("25.00"),
        help="List groups whose combined fines are at least this amount. 0: don't list groups by fines, the default "
        "with min_overdue or min_lost. A group that meets one of the three is listed.",
        options=(
            Option("--min-total", (*_REPORT, "letters"), "Only groups whose combined fines are at least this amount."),
            Option("--min-total", _INIT),
        ),
        question=Question(Message("Minimum combined fines of a group to list")),
    )
    min_overdue: Annotated[int, v.whole_number(0, 1_000_000)] = setting(
        0,
        help="List groups whose members together have at least this many items overdue. 0: don't list groups by "
        "overdue items.",
        options=Option(
            "--min-overdue",
            (*_REPORT, "letters", *_INIT),
            "Groups with at least this many items overdue. --min-total, --min-overdue and --min-lost replace the "
            "configured ones; a group that meets one is listed.",
        ),
        question=Question(Message("Minimum number of overdue items of a group to list"), unless="report.min_total"),
    )
    min_lost: Annotated[int, v.whole_number(0, 1_000_000)] = setting(
        0,
        help="List groups whose members together have at least this many items lost. 0: don't list groups by lost "
        "items.",
        options=Option("--min-lost", (*_REPORT, "letters", *_INIT), "Groups with at least this many items lost."),
        question=Question(Message("Minimum number of lost items of a group to list"), unless="report.min_total"),
    )
    overdue_days: Annotated[int, v.whole_number(0, 100_000, "days")] = setting(
        0,
        help="For min_overdue, count only items that have been overdue for at least this many days.",
        options=Option(
            "--overdue-days",
            (*_REPORT, "letters", *_INIT),
            "For --min-overdue, count only items overdue for at least this many days.",
        ),
    )
    min_members: Annotated[int, v.whole_number(1, 1_000_000)] = setting(
        2,
        help="List groups with at least this many members.",
        options=Option("--min-members", _REPORT, "Only groups with at least this many members."),
    )
    details: Annotated[str, v.one_of("full", "sums")] = setting(
        "full",
        help='"full": for each member and group, also what the fines are for, since when they are owed, overdue and '
        'lost items, and who is a juvenile, barred or expired. "sums": amounts only, with fewer calls.',
    )
    owing_since: Annotated[int | None, v.whole_number(1, 100_000, "days")] = setting(
        help="List only groups that have owed something for at least this many days.",
        example=60,
        options=Option("--owing-since", _REPORT, "Only groups that have owed something for at least this many days."),
    )
    contact: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="Name a person to contact for each group, with phone numbers, e-mail and postal address. This adds "
        "personal data to every file of the report, but never to mails. See docs/security.md.",
    )
    age_bands: Annotated[tuple[int, ...], v.ASCENDING_DAYS] = setting(
        (30, 60, 90),
        help="Age bands: the report puts groups into bands by how many days they have owed something, and totals each "
        "band. Each number starts a band. An empty list turns bands off.",
    )
    kinds: Annotated[tuple[str, ...], v.KIND_NAMES] = setting(
        (),
        help="List only groups that owe something of these kinds: what the report says under Owed for, such as "
        '"overdue materials"; one of the library\'s billing types; or "circulation", "grocery" or "reservation".',
        options=Option(
            "--kind",
            _REPORT,
            'Only groups that owe something of this kind, such as "lost materials", a billing type, or grocery. '
            "Repeatable.",
        ),
    )
    with_items_out: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="List only groups with overdue items that can still be returned.",
        options=Option("--with-items-out", _REPORT, "Only groups with overdue items that can still be returned."),
    )
    with_juvenile: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="List only groups with a juvenile member.",
        options=Option("--with-juvenile", _REPORT, "Only groups with a juvenile member."),
    )
    profiles: Annotated[tuple[str, ...], v.PROFILE_NAMES] = setting(
        (),
        help="List only groups with a member who has one of these permission profiles (names), or one below.",
        options=Option(
            "--profile", _REPORT, "Only groups with a member who has this permission profile, or one below. Repeatable."
        ),
    )
    over_limit: Annotated[str, v.one_of("any", "somebody", "nobody")] = setting(
        "any",
        help='"somebody": list only groups with a member over the limit. "nobody": only groups without one. "any": '
        "both.",
    )
    blocked: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="List only groups with a member who is blocked for fines in Evergreen.",
        options=Option("--blocked", _REPORT, "Only groups with a member who is blocked for fines in Evergreen."),
    )
    sort: Annotated[str, v.one_of(*SORT_ORDERS)] = setting(
        "total",
        help="The order of the groups: total (highest combined fines first), age (oldest debt first), members, name, "
        "or library.",
        options=Option("--sort", _REPORT, "Order of the groups."),
    )
    top: Annotated[int | None, v.whole_number(1, 1_000_000)] = setting(
        help="List only this many groups, those with the highest combined fines. What changed since the last run is "
        "worked out for all groups.",
        example=50,
        options=Option("--top", _REPORT, "Only this many groups, those with the highest combined fines."),
    )
    format: Annotated[str, v.one_of(*REPORT_FORMATS)] = setting(
        "table",
        help=f"The format: {', '.join(TEXT_FORMATS)}, or {_FILES_ONLY} for a file.",
        options=Option("--format", _REPORT, f"Output format; {_FILES_ONLY} requires --output."),
    )
    output: Annotated[Path | None, v.PATH] = setting(
        help="The file to write. Standard output by default.",
        example="/var/lib/evergreen-groups/report.html",
        options=Option(
            "--output",
            _REPORT,
            "Write to this file, which only its owner can read, instead of standard output. Without --format, its "
            "extension sets the format. With --split library, it is a directory.",
        ),
    )
    split: Annotated[str, v.one_of(*SPLITS)] = setting(
        "none",
        help='"none": output is one file. "library": output is a directory. Each day gets a subdirectory with a file '
        'per library and format and an index page; the link "latest" leads to the last one.',
        options=Option(
            "--split",
            _REPORT,
            "library: --output is a directory. Each day gets a subdirectory with a file per library and format and "
            "an index page; the link latest leads to the last one.",
        ),
    )
    formats: Annotated[tuple[str, ...], v.FILE_FORMAT_LIST] = setting(
        ("html", "csv", "json"), help=f"The formats of the files with split: any of {', '.join(FILE_FORMATS)}."
    )
    csv: Annotated[str, v.one_of(*CSV_DIALECTS)] = setting(
        "plain",
        help='The dialect of CSV. "plain": for programs. "spreadsheet": with a byte order mark, so that spreadsheets '
        'show accented letters correctly. "semicolon": also with semicolons between values and decimal commas, as '
        "spreadsheets in many languages expect.",
    )
    keep_days: Annotated[int, v.whole_number(1, 100_000)] = setting(
        400, help="With split, delete the files of a day after this many days."
    )
    deadline: Annotated[int, v.whole_number(1, 86_400, "seconds")] = setting(
        3600,
        help="End a run after this many seconds.",
        options=Option("--deadline", _REPORT, "End the run after this many seconds."),
    )
    hours_between_runs: Annotated[int, v.whole_number(0, 10_000)] = setting(
        0,
        help="Skip the run (exit status 0) if a report was written less than this many hours ago, here or on another "
        "server that shares the database; if one is in progress, wait for it. With the same timer on several servers, "
        "12 makes one report a night.",
    )
    healthcheck_url: Annotated[str | None, v.URL] = setting(
        help="An address to call after a successful run; after a failed one, the same with /fail.",
        example="https://healthchecks.example.org/ping/0123",
        options=Option(
            "--healthcheck-url",
            _REPORT,
            "Call this address after a successful run, and the same with /fail after a failed one.",
        ),
    )


CONDITIONS = ("min_total", "min_overdue", "min_lost", "overdue_days")
"""The settings of ``[report]`` that say which groups are listed, of which a group must meet one."""


def all_conditions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each of the conditions if any is ``given``, else none: together they replace others.

    Fines don't count if only items are asked for.

    >>> all_conditions({"min_lost": 1})
    {'min_total': Decimal('0.00'), 'min_overdue': 0, 'min_lost': 1, 'overdue_days': 0}
    """
    found = {name: given[name] for name in CONDITIONS if name in given}
    if not found:
        return {}
    by_items = found.get("min_overdue") or found.get("min_lost")
    defaults = {"min_total": ZERO if by_items else ReportSettings.min_total}
    return {name: found.get(name, defaults.get(name, 0)) for name in CONDITIONS}


def replacing(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a report that override those from above where some are ``given``.

    These are all conditions if one is given, and without the condition on fines also what narrows only that.
    """
    conditions = all_conditions(given)
    if conditions and not conditions["min_total"]:
        conditions |= {"owing_since": None, "kinds": ()}
    return {**conditions, **given}


class Conditions(Protocol):
    """What lists groups, in settings and in a report's criteria."""

    @property
    def min_total(self) -> Decimal: ...
    @property
    def min_overdue(self) -> int: ...
    @property
    def min_lost(self) -> int: ...
    @property
    def overdue_days(self) -> int: ...


class ConditionsOnFines(Protocol):
    """What narrows the condition on fines."""

    @property
    def owing_since(self) -> int | None: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...


def require_conditions(asked: Conditions, narrowed: ConditionsOnFines) -> None:
    """Raise ConfigurationError if nothing is asked for, or something that has no effect."""
    if asked.overdue_days and not asked.min_overdue:
        raise ConfigurationError(
            "overdue_days has no effect without min_overdue",
            advice="set min_overdue",
            setting="report.overdue_days",
            code="overdue-days-without-items",
        )
    if not (asked.min_total or asked.min_overdue or asked.min_lost):
        raise ConfigurationError(
            "the report would list nothing",
            advice="set min_total, min_overdue or min_lost",
            setting="report.min_total",
            code="no-condition",
        )
    if not asked.min_total and (narrowed.owing_since is not None or narrowed.kinds):
        name = "kinds" if narrowed.owing_since is None else "owing_since"
        raise ConfigurationError(
            "{name} has no effect if groups aren't listed by fines",
            advice="set min_total as well",
            setting=f"report.{name}",
            code="choice-without-fines",
            values={"name": name},
        )


@dataclass(frozen=True)
class NamedReport:
    """A table of ``[[reports]]``: a further report from the same reading. ``report`` has what it lists."""

    name: Annotated[str, v.REPORT_NAME] = setting(
        "",
        help="The report's name, in its title and mails. Each name has its own history.",
        example="old-debts",
        essential=True,
    )
    recipients: Annotated[tuple[tuple[str, tuple[str, ...]], ...], v.RECIPIENTS] = setting(
        (), help="Who gets it with --mail, in the form of recipients in [mail]."
    )
    subject: Annotated[str | None, v.template("date", "groups", "members", "total", "libraries")] = setting(
        help="The subject of its mails. By default, the report's name and the subject from [mail].",
        example="Old debts, {date}: {groups} listed",
    )
    link: Annotated[str | None, v.template("date", "library")] = setting(
        help="The address of the report, which may contain {date} and {library}. The web service publishes it below "
        "reports/named, as in the example, for staff who may see its patrons.",
        example="https://evergreen.example.org/evergreen-groups/reports/named/old-debts/latest/{library}",
    )
    report: ReportSettings = field(default_factory=ReportSettings)


@dataclass(frozen=True)
class HistorySettings:
    keep_days: Annotated[int, v.whole_number(1, 100_000)] = setting(
        400, help="How many days of past runs to keep, to find changes since earlier runs."
    )


@dataclass(frozen=True)
class AuditSettings:
    """Section ``[audit]``. ``max_adults`` 0 allows any number of adults in a group."""

    max_adults: Annotated[int, v.whole_number(0, 1_000)] = setting(
        0,
        help="The audit finds groups with more adults than this, and a move into one gets a warning; 0: don't look for "
        "them. Members of a group can learn of each other's fines at the desk, so some libraries group only one parent "
        "with the children. Nothing is refused.",
        options=Option("--max-adults", _AUDIT, "Find groups with more adults than this; 0: don't look for them."),
    )
    adults_from_age: Annotated[int, v.whole_number(1, 120)] = setting(
        18,
        help="The age from which a patron counts as an adult. A known birth date decides; without one, everyone who "
        "isn't marked as a juvenile is an adult. The audit also lists juveniles of this age who are in a group with an "
        "adult. Birth dates are never shown, and ages only where circ.obscure_dob is off in Evergreen.",
    )
    institution_profiles: Annotated[tuple[str, ...], v.PROFILE_NAMES] = setting(
        (),
        help="Profiles of institutions (schools, care homes, offices), including those below. If a member has one, the "
        "audit counts that as evidence that the group isn't a family.",
        example=["Institution"],
    )


@dataclass(frozen=True)
class StateSettings:
    database: Annotated[str | None, v.DATABASE] = setting(
        help="A PostgreSQL database (13 or later) that several servers share. By default, a file in the state "
        "directory. The password goes in password_file.",
        example=v.DATABASE_EXAMPLE,
    )
    password_file: Annotated[Path | None, v.PASSWORD_FILE] = setting(
        help="The file with the password, on one line. Run chmod 600 on it: other users must not have access.",
        example="/etc/evergreen-groups/database-password",
        secret=Secret("password", "database_password", "EVERGREEN_GROUPS_DATABASE_PASSWORD"),
    )
    backups: Annotated[int, v.whole_number(1, 10_000)] = setting(
        14, help="How many daily backups to leave in the state directory; the timer makes one every day."
    )


@dataclass(frozen=True)
class JournalSettings:
    keep_days: Annotated[int, v.whole_number(1, 100_000)] = setting(
        730, help="How many days to keep changes. Until then, they can be undone."
    )


@dataclass(frozen=True)
class MailSettings:
    """Section ``[mail]``. ``timeout`` is in seconds.

    ``recipients`` pairs short names of libraries or systems (``*``: the whole report) with mail addresses.
    """

    host: Annotated[str | None, v.HOST] = setting(
        help="The mail server for the report, used with --mail.",
        example="mail.example.org",
        options=Option("--mail-host", _INIT, "The mail server for the report."),
        question=Question(
            Message("Mail server for the report"), empty=Message("none", context="answer"), opens_section=True
        ),
    )
    security: Annotated[str, v.one_of("starttls", "tls", "none")] = setting(
        "starttls",
        help='"starttls", "tls" (from the start), or "none" for a server on this machine.',
        options=Option("--mail-security", _INIT, "starttls, tls or none."),
        question=Question(Message("Mail security (starttls, tls, none)")),
    )
    port: Annotated[int | None, v.whole_number(1, 65_535, "port")] = setting(
        help="The port. By default 587, 465 or 25, depending on security.",
        example=587,
        options=Option("--mail-port", _INIT, "The mail server's port."),
        question=Question(Message("Mail server port"), empty=Message("default")),
    )
    ca_bundle: Annotated[Path | None, v.PATH] = _CA_BUNDLE
    username: Annotated[str | None, v.TEXT] = setting(
        help="The user name on the mail server, in ASCII, if the server requires a login.",
        example="groups",
        options=Option("--mail-username", _INIT, "The user name on the mail server."),
        question=Question(Message("Mail user name"), empty=Message("none", context="answer")),
    )
    password_file: Annotated[Path | None, v.PASSWORD_FILE] = setting(
        help="The file with the mail password, in ASCII.",
        example="/etc/evergreen-groups/mail-password",
        options=Option("--mail-password-file", _INIT, "An existing file with the mail password.", v.EXISTING_FILE),
        secret=Secret("password", "mail_password", "EVERGREEN_GROUPS_MAIL_PASSWORD", account="username"),
    )
    sender: Annotated[str | None, v.MAIL_ADDRESS] = setting(
        help="The sender's address.",
        example="groups@example.org",
        options=Option("--mail-sender", _INIT),
        question=Question(Message("Sender address")),
    )
    recipients: Annotated[tuple[tuple[str, tuple[str, ...]], ...], v.RECIPIENTS] = setting(
        (),
        help="Who gets which libraries' groups: short names with addresses. A system includes everything below it; "
        '"*" is the whole report. Each address gets one mail. If orgs in [report] is set, only the recipients of these '
        'libraries and of "*" get mail.',
        example={"BR1": ["circulation@example.org"], "*": ["director@example.org"]},
        options=Option(
            "--mail-recipients",
            _INIT,
            'Who gets the report by mail: "all@example.org", or "BR1=a@example.org; *=all@example.org".',
        ),
        question=Question(Message('Recipients, as one address or "SHORTNAME=ADDRESS; *=ADDRESS"')),
    )
    subject: Annotated[str, v.template("date", "groups", "members", "total", "libraries")] = setting(
        Message("Groups with high combined fines, {date}: {groups} listed, {total}"),
        help="The subject, which may contain {date}, {groups}, {members}, {total} and {libraries}.",
    )
    names_in_mail: Annotated[bool, v.BOOLEAN] = setting(
        False, help="Put patrons' names in mails. Mail passes through many hands, so the default is false."
    )
    attach: Annotated[str, v.one_of("none", *FILE_FORMATS)] = setting(
        "none",
        help=f"Attach the report, as {', '.join(FILE_FORMATS)}; or none. Requires names_in_mail, because the report "
        "contains names.",
    )
    link: Annotated[str | None, v.template("date", "library")] = setting(
        help="The address of the report, to link in mails; it may contain {date} and {library}. The web service shows "
        "each library's page to staff who may see its patrons, as in the example. By default, mails link to the "
        "service if origin in [serve] is set and the report has pages.",
        example="https://evergreen.example.org/evergreen-groups/reports/latest/{library}",
        options=Option("--mail-link", _INIT, "The address of the report, which may contain {date} and {library}."),
        question=Question(Message("Link to the report"), empty=Message("none", context="answer")),
    )
    send_empty: Annotated[bool, v.BOOLEAN] = setting(
        True, help="Also send a mail when no group is listed, so that a missing mail means a problem."
    )
    timeout: Annotated[int, v.whole_number(1, 600)] = setting(30, help="How many seconds to wait for the mail server.")
    tries: Annotated[int, v.whole_number(1, 5)] = setting(3, help="How many times a run tries to send a mail.")
    keep_days: Annotated[int, v.whole_number(1, 365)] = setting(
        14, help="How many days to keep a mail that can't be sent."
    )

    def __post_init__(self) -> None:
        """Check that no settings combine to send names or a password where they don't belong."""
        if self.attach != "none" and not self.names_in_mail:
            raise ConfigurationError(
                "[mail] attach: the report contains patrons' names",
                advice="set names_in_mail = true, or send a link instead",
                setting="mail.attach",
                code="names-in-mail",
            )
        if self.security == "none" and self.username and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError(
                '[mail] security: "none" would send the password unencrypted to another machine',
                advice='use "starttls" or "tls", or remove username',
                setting="mail.security",
                code="password-unencrypted",
            )


@dataclass(frozen=True)
class ClientSettings:
    """Section ``[client]``. If ``url`` is None, it is ``[serve] origin``, or else the gateway's."""

    url: Annotated[str | None, v.URL] = setting(
        help="The address of the staff client, for links in the report. By default origin in [serve], or else the "
        "gateway's host.",
        example="https://evergreen.example.org",
    )
    kind: Annotated[str, v.one_of("angularjs", "angular")] = setting(
        "angularjs",
        help='Which staff client: "angularjs" (/eg/staff), to which the menus of a stock Evergreen lead, or "angular" '
        "(/eg2/staff).",
    )
    groups: Annotated[str, v.one_of("page", "tab")] = setting(
        "page",
        help="Where a group's link leads: to the web service's \"page\" (/evergreen-groups/patrons/ID/group), or, if "
        "you don't run the service, to the client's own \"tab\" Group Member Details.",
    )


@dataclass(frozen=True)
class ServeSettings:
    """Section ``[serve]``. ``timeout`` is in seconds, ``rate_limit`` in requests per minute.

    If ``origin`` is None, it is the gateway's. If ``report`` is None, it is ``[report] output`` if that is a page or a
    directory of a split report, or else ``reports`` in the state directory.
    """

    host: Annotated[str, v.TEXT] = setting(
        "127.0.0.1",
        help="The address where the web service listens, behind Apache (docs/install.md).",
        options=Option("--host", _SERVE, "Address to listen on."),
    )
    port: Annotated[int, v.whole_number(0, 65_535, "port")] = setting(
        8211,
        help="The port where the web service listens.",
        options=Option("--port", _SERVE, "Port to listen on; 0: any free port."),
    )
    threads: Annotated[int, v.whole_number(2, 64)] = setting(
        8,
        help="How many requests to the web service may query Evergreen at once. Each may use a connection to the "
        "gateway.",
    )
    origin: Annotated[str | None, v.ORIGIN] = setting(
        help="The address at which browsers open the staff client. By default, that of url in [gateway].",
        example="https://evergreen.example.org",
    )
    timeout: Annotated[int, v.whole_number(1, 60)] = setting(
        10, help="How many seconds a request may take, including all calls to Evergreen."
    )
    rate_limit: Annotated[int, v.whole_number(1, 1_000_000)] = setting(
        600,
        help="How many requests per minute each session may make, and for requests without a session, each address.",
    )
    trusted_proxies: Annotated[tuple[v.Network, ...], v.NETWORKS] = setting(
        LOOPBACK, help="The proxies whose X-Forwarded-For is trusted."
    )
    report: Annotated[Path | None, v.PATH] = setting(
        help="The page to publish at /evergreen-groups/reports/latest, or the directory of a report by library. By "
        'default output in [report] if it is a page or such a directory, or else "reports" in the state directory. A '
        "library's page requires VIEW_USER there, a page for all libraries requires it for the whole consortium.",
        example="/var/lib/evergreen-groups/reports",
    )


@dataclass(frozen=True)
class RedisSettings:
    url: Annotated[str | None, v.TEXT] = setting(
        help="A Redis or Valkey server where several servers share their rate-limit counters. By default, each server "
        "counts separately. The password goes in password_file.",
        example="redis://db.example.org:6379/1",
    )
    password_file: Annotated[Path | None, v.PASSWORD_FILE] = setting(
        help="The file with the password, on one line. Run chmod 600 on it: other users must not have access.",
        example="/etc/evergreen-groups/redis-password",
        secret=Secret("password", "redis_password", "EVERGREEN_GROUPS_REDIS_PASSWORD"),
    )


@dataclass(frozen=True)
class EventsSettings:
    """Section ``[events]``. Without a secret, events are disabled. ``deadline`` is in seconds."""

    secret_file: Annotated[Path | None, v.PATH] = setting(
        help="The file with the secret that Evergreen sends with events: one line of at least 16 characters, not "
        "readable by other users. Without a secret, events are disabled.",
        example="/etc/evergreen-groups/events-secret",
        secret=Secret("secret", "events_secret", shortest=16),
    )
    allow: Annotated[tuple[v.Network, ...], v.NETWORKS] = setting(
        LOOPBACK, help="The addresses that events may come from."
    )
    recalculate: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="After an event, have Evergreen recalculate the patron's penalty for fines, unless staff set a block.",
    )
    deadline: Annotated[int, v.whole_number(1, 120)] = setting(
        20, help="How many seconds the handling of an event may take."
    )
    keep_days: Annotated[int, v.whole_number(1, 100_000)] = setting(
        90, help="How many days to keep the outcome of events, so that no event is handled twice."
    )


@dataclass(frozen=True)
class DeskSettings:
    """Section ``[desk]``. If ``undo_others`` is None, users can undo only what they made or approved."""

    page: Annotated[bool, v.BOOLEAN] = setting(
        True, help="Serve the group page (/evergreen-groups/patrons/ID/group), to which the panel links."
    )
    changes: Annotated[bool, v.BOOLEAN] = setting(
        True,
        help="Let staff change groups on the group page, with their own accounts. If false, the page is read-only.",
    )
    tab: Annotated[bool, v.BOOLEAN] = setting(
        True,
        help="Show the group page in place of the list in the staff client's tab Group Member Details. One click "
        "brings the client's list back, and it also appears when the service is down.",
    )
    panel_link: Annotated[str, v.one_of("same", "new")] = setting(
        "same", help='Whether the panel\'s link opens the group page in the "same" browser tab or in a "new" one.'
    )
    undo_others: Annotated[str | None, v.TEXT] = setting(
        help="The Evergreen permission that lets staff undo other users' changes. By default, staff can undo only "
        "what they made or approved.",
        example="MERGE_USERS",
    )
    titles: Annotated[str, v.one_of(*_TITLES)] = setting(
        "none",
        help="Which members' item titles to show in Details and in the HTTP API: "
        '"none", "juveniles" (as marked in their record), or "all". Each view is logged.',
    )


@dataclass(frozen=True)
class FollowUpSettings:
    again_after: Annotated[int, v.whole_number(1, 10_000)] = setting(
        30, help='After how many days without an entry a group of the report becomes "to do" again.'
    )
    permission: Annotated[str, v.TEXT] = setting(
        "UPDATE_USER",
        help="The Evergreen permission that lets staff save entries. They need it at the home library of the person to "
        "contact.",
    )
    keep_days: Annotated[int, v.whole_number(1, 100_000)] = setting(
        400, help="How many days to keep a group's entries after a report last listed it."
    )


@dataclass(frozen=True)
class StatementSettings:
    """Section ``[statement]``. If ``library`` is None, it is the patron's home library as named in Evergreen."""

    page: Annotated[bool, v.BOOLEAN] = setting(
        True, help="Offer the family statement and family items, pages to print for patrons at the desk (docs/desk.md)."
    )
    library: Annotated[str | None, v.TEXT] = setting(
        help="The library's name on the statement. By default, the name of the patron's home library in Evergreen.",
        example="Lakeland Public Library",
    )
    text: Annotated[str | None, v.TEXT] = setting(
        help="Text at the top of the statement; each line is a paragraph.",
        example="Children pay no fines from January on.",
    )
    how_to_pay: Annotated[str, v.TEXT] = setting(
        "You can pay at the library's front desk.",
        help="Where and how to pay, at the bottom of the statement; each line is a paragraph.",
    )
    adults: Annotated[bool, v.BOOLEAN] = setting(
        False,
        help="Include other adults of the group. If false, neither page reveals that there are any, and no "
        "total includes their fines.",
    )
    bills: Annotated[bool, v.BOOLEAN] = setting(True, help="Include what the fines are for.")
    items: Annotated[bool, v.BOOLEAN] = setting(True, help="Include items out with their due dates.")
    titles: Annotated[str, v.one_of(*_TITLES)] = setting(
        "none",
        help='Which members\' item titles to show on the statement and in family items: "none", "juveniles" or "all". '
        "Each view is logged.",
    )


@dataclass(frozen=True)
class LetterSettings:
    envelope: Annotated[str, v.one_of("us10", "din")] = setting(
        "us10",
        help='The window envelope for letters: "us10", a US no. 10 envelope with a left window, for Letter paper; or '
        '"din", for A4 paper folded as in DIN 5008, form B.',
    )
    min_own: Annotated[Decimal, v.MINIMUM] = setting(
        Decimal("5.00"),
        help="Write to adults who owe this much or more: the person to contact together with the children, each other "
        "adult alone. In reports by items, everyone with overdue or lost items gets a letter.",
        options=Option(
            "--min-own",
            ("letters",),
            "Only people who owe this much or more; for letters, the contact together with the children.",
        ),
    )
    texts: Annotated[tuple[v.LetterTexts, ...], v.LETTER_TEXTS] = setting(
        (),
        help="The library's own opening, payment and closing. Each line is a paragraph, and may contain {name} (of the "
        "addressee) and {library}. A table can be for a library and everything below it, for a language, or both. The "
        "table of the nearest library counts; if it has several, the one for the letter's language, and then the one "
        "with the highest number. The number 2 is for the second letter to a family, and later ones.",
        example=[{"library": "BR1", "language": "fr-CA", "payment": "Vous pouvez payer au comptoir."}],
    )

    pay_within: Annotated[int, v.whole_number(0, 365, "days")] = setting(
        0, help="Letters ask to pay within this many days, and name the day. 0: they name no day."
    )
    notes_for: Annotated[tuple[str, ...], v.KIND_NAMES] = setting(
        (),
        help="Billing types that say nothing. In letters, the note that staff wrote on the bill follows.",
        example=["Misc"],
    )

    def text(self, part: str, libraries: Sequence[str], tag: str, number: int = 1) -> str | None:
        """Return the library's own text of a ``part`` in the language ``tag``, None if there is none.

        ``libraries`` are the short names of the addressee's library and those above, nearest first. ``number`` is that
        of the letter to the family.
        """
        near = {name.casefold(): place for place, name in enumerate(libraries)}
        found = [
            (near.get((one.library or "").casefold(), len(near)), one.language is None, -one.number, place, text)
            for place, one in enumerate(self.texts)
            if (text := getattr(one, part)) is not None
            and one.number <= number
            and (one.library is None or one.library.casefold() in near)
            and (one.language is None or catalogue.catalogue_for(one.language) == catalogue.catalogue_for(tag))
        ]
        return min(found)[-1] if found else None


@dataclass(frozen=True)
class LanguageSettings:
    """Section ``[language]``: the language, currency and time zone of readers."""

    default: Annotated[str, v.LANGUAGE] = setting(
        "en",
        help="The language of the report, and of pages and commands unless the reader asks for another. A country "
        '("en-US") sets the format of dates for all readers.',
        options=Option("--language", _INIT, "Language, with the country whose dates to write (en-US)."),
        question=Question(Message("Language, with the country whose dates to write, such as en-US, en-GB or fr-CA")),
    )
    libraries: Annotated[tuple[tuple[str, str], ...], v.LANGUAGES_OF_LIBRARIES] = setting(
        (),
        help="Libraries whose pages and mails are in another language, including the libraries below them.",
        example={"BR3": "fr-CA"},
    )
    currency: Annotated[str, v.CURRENCY] = setting("USD", help="The currency of all amounts (ISO 4217).")
    timezone: Annotated[str | None, v.TIMEZONE] = setting(
        help="The time zone of all times. By default the library's in Evergreen (lib.timezone), or else this "
        "machine's.",
        example="America/Toronto",
    )

    def language(self, tag: str | None = None, timezone: tzinfo | None = None) -> Language:
        """Return the language for a reader who asked for ``tag``, or for none.

        ``timezone`` is the library's own in Evergreen; the configured one takes precedence.
        """
        configured = catalogue.timezone_of(self.timezone) if self.timezone else None
        # Everybody at a library reads one form of dates, whichever country a browser names.
        region = Language(self.default).date_locale.territory or ""
        return Language(tag or self.default, self.currency, configured or timezone, region)


@dataclass(frozen=True)
class MetricsSettings:
    """Section ``[metrics]``. No metrics are published unless one of these is set."""

    listen: Annotated[str | None, v.LISTEN] = setting(
        help="The address where the web service publishes metrics, at /metrics, for everyone who can reach it "
        "(docs/monitoring.md). They contain no patron data.",
        example="127.0.0.1:9821",
        options=Option("--metrics", _SERVE, "Address to publish metrics at."),
    )
    token_file: Annotated[Path | None, v.PATH] = setting(
        help="The file with the token that clients of /evergreen-groups/metrics send (Authorization: Bearer): one line "
        "of at least 16 characters, not readable by other users. Without a token, that address is disabled.",
        example="/etc/evergreen-groups/metrics-token",
        secret=Secret("token", "metrics_token", shortest=16),
    )
    textfile: Annotated[Path | None, v.TEXTFILE] = setting(
        help="A file for the nightly run's metrics, for node_exporter's textfile collector. Its name must end in "
        ".prom.",
        example="/var/lib/prometheus/node-exporter/evergreen-groups.prom",
    )


@dataclass(frozen=True)
class PluginSettings:
    """Section ``[plugins]``; ``timeout`` is in seconds."""

    enabled: Annotated[tuple[str, ...], v.PLUGIN_NAMES] = setting(
        (), help="The plug-ins to call, by name and in this order (docs/plugins.md)."
    )
    timeout: Annotated[int, v.whole_number(1, 60)] = setting(
        5,
        help="How many seconds to wait for each plug-in. A plug-in that takes longer is logged, and not called again "
        "while it is busy.",
    )


@dataclass(frozen=True)
class Settings:
    """All settings. ``source`` is the file that they were read from, if any."""

    gateway: GatewaySettings = section(GatewaySettings, "The Evergreen server and the service account.")
    policy: PolicySettings = section(PolicySettings, "The limit. Only a member's own fines count toward it.")
    report: ReportSettings = section(ReportSettings, "What the nightly report lists, its files, and the run.")
    audit: AuditSettings = section(AuditSettings, "What the audit finds.")
    history: HistorySettings = section(HistorySettings, "The history of reports.")
    state: StateSettings = section(StateSettings, "The state database.")
    journal: JournalSettings = section(JournalSettings, "The journal of changes.")
    mail: MailSettings = section(MailSettings, "The mail server, and who gets the report.")
    language: LanguageSettings = section(LanguageSettings, "Language, currency and time zone.")
    client: ClientSettings = section(ClientSettings, "The staff client, for links in the report.")
    serve: ServeSettings = section(ServeSettings, "The web service.")
    desk: DeskSettings = section(DeskSettings, "The group page, and the panel in the staff client.")
    follow_up: FollowUpSettings = section(FollowUpSettings, "Follow-ups of groups in the report.")
    statement: StatementSettings = section(StatementSettings, "The family statement.")
    letters: LetterSettings = section(LetterSettings, "Letters to families (docs/letters.md).")
    redis: RedisSettings = section(RedisSettings, "Counters that several servers share.")
    events: EventsSettings = section(EventsSettings, "Events from Evergreen (evergreen-groups install --show events).")
    metrics: MetricsSettings = section(MetricsSettings, "Monitoring (docs/monitoring.md).")
    plugins: PluginSettings = section(PluginSettings, "Plug-ins that are called after reports, changes and follow-ups.")
    reports: tuple[NamedReport, ...] = ()
    source: Path | None = None


SECTION = "reports"
HELP = (
    "More reports from the same data, with a [[reports]] table for each. Nightly runs make them; runs at a terminal "
    "don't. A table has name, recipients, subject and link, and the keys of [report] that set what is listed and how "
    "it is written. Except for output, those default to the values in [report]."
)
_OF_THE_RUN = {"details", "deadline", "hours_between_runs", "healthcheck_url"}
"""Settings of ``[report]`` that apply to the whole run."""


def own_settings() -> tuple[Setting, ...]:
    """Return the settings that only tables of ``[[reports]]`` have."""
    return declared_in(SECTION, NamedReport)


def shared_settings() -> tuple[Setting, ...]:
    """Return the settings of ``[report]`` that a table can override."""
    return tuple(setting for setting in declared_in("report", ReportSettings) if setting.name not in _OF_THE_RUN)
