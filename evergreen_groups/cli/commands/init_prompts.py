"""The questions of ``init``: each answer is checked and tried before the next question is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from evergreen_groups.doctor import Diagnosis, Subject, Verdict, run
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.nightly import EVERYTHING
from evergreen_groups.settings import (
    GatewaySettings,
    MailSettings,
    NotAllowedError,
    PolicySettings,
    ReportSettings,
    Settings,
    passwords,
    values,
)

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits

_REACHED = ("configuration", "address", "certificate", "gateway", "services")
_LOGGED_IN = ("login", "idl", "account", "permission.VIEW_USER")
_UNTRIED = "untried"
_SETTING = re.compile(r"\b([a-z_]+) in (?:section )?\[(gateway|mail)\]|\bset (allow_plain_http) = true")
_SHARED = ("ca_bundle",)
"""Settings of ``[mail]`` that have no option of their own."""

Answer = TypeVar("Answer")


class RefusedError(ConfigurationError):
    """An answer was tried and doesn't do."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords that were given, to be written to files of their own; None where a file is there already."""

    gateway: str | None = None
    mail: str | None = None


class Interview:
    """Asks for what ``given`` doesn't say: values by option name, from the command line.

    ``interactive`` False asks nothing: what isn't given has its default, and a bad answer is an error.
    """

    def __init__(self, given: Mapping[str, Any], environ: Mapping[str, str], *, interactive: bool) -> None:
        self._given = dict(given)
        self._environ = environ
        self._interactive = interactive
        self._taken: set[str] = set()
        self._org_units: OrgUnits | None = None

    def gateway(self, password_file: Path) -> tuple[GatewaySettings, str | None]:
        """The gateway and the account, tried; and a password that is still to be written to ``password_file``.

        Raises:
            RefusedError: without questions, something given doesn't do.
        """
        settings = GatewaySettings(
            ca_bundle=self._given.get("ca_bundle"),
            allow_plain_http=bool(self._given.get("allow_plain_http")),
            workstation=self._given.get("workstation"),
        )
        settings = self._until_it_does(lambda: self._reached(settings))
        return self._until_it_does(lambda: self._logged_in(settings, password_file))

    def libraries(self, settings: GatewaySettings, password: str | None) -> tuple[str, ...]:
        """The libraries whose groups are listed (short names; none: all)."""

        def ask() -> tuple[str, ...]:
            if "orgs" in self._given:
                wanted = values.texts(list(self._given.pop("orgs")))
            elif self._interactive:
                click.echo(f"There are {', '.join(sorted(unit.shortname for unit in org_units)[:40])}.", err=True)
                answer = click.prompt("Libraries, with commas (all)", default="", show_default=False, err=True)
                wanted = values.texts(answer)
            else:
                wanted = ()
            return tuple(org_units.find(name).shortname for name in wanted)

        with self._subject(Settings(gateway=settings), password) as subject:
            org_units = self._org_units = subject.org_units
        return self._until_it_does(ask)

    def report(self, orgs: tuple[str, ...]) -> ReportSettings:
        """What the report lists."""
        question, default = "List groups that together owe this much or more", ReportSettings().min_total
        ask = partial(self._value, "min_total", question, values.amount_above_zero, default)
        return ReportSettings(min_total=self._until_it_does(ask), orgs=orgs)

    def policy(self) -> PolicySettings:
        """The limit of one person's own fines."""
        question, default = 'Limit of one person\'s own fines, "none", or "ils"', PolicySettings().limit
        ask = partial(self._value, "limit", question, values.limit_or_ils, default)
        return PolicySettings(self._until_it_does(ask))

    def mail(self, password_file: Path) -> tuple[MailSettings, str | None]:
        """The mail server, tried; and a password that is still to be written to ``password_file``.

        Raises:
            RefusedError: without questions, something given doesn't do.
        """
        return self._until_it_does(lambda: self._mailed(password_file))

    def _reached(self, settings: GatewaySettings) -> GatewaySettings:
        """Ask where the gateway is, and go there."""
        url = self._value("url", "Address of the Evergreen server", values.url, None)
        settings = replace(settings, url=url, username=_UNTRIED)
        with self._subject(Settings(gateway=settings), _UNTRIED) as subject:
            self._tell(run(subject, only=_REACHED))
        return settings

    def _logged_in(self, settings: GatewaySettings, password_file: Path) -> tuple[GatewaySettings, str | None]:
        """Ask for the account, and log in."""
        username = self._value("username", "User name of the service account", values.text, None)
        file: Path | None = self._given.pop("password_file", None)
        settings = replace(settings, username=username, password_file=file or password_file)
        password = None if file else self._password(passwords.PASSWORD_VARIABLE, f"Password of {username}")
        with self._subject(Settings(gateway=settings), password) as subject:
            self._tell(run(subject, only=_LOGGED_IN))
        return settings, password

    def _mailed(self, password_file: Path) -> tuple[MailSettings, str | None]:
        """Ask for the mail settings, unless there is to be no mail, and log in to the mail server."""
        defaults = MailSettings()
        host = self._value("mail_host", "Mail server for the report (none)", _or_none(values.host), "")
        if host is None:
            self._refuse_more_about_mail()
            return defaults, None
        security = self._value(
            "mail_security", "Its security (starttls, tls, none)", values.one_of("starttls", "tls", "none"),
            defaults.security,
        )  # fmt: skip
        port = self._value("mail_port", "Its port (the usual one)", _or_none(values.whole_number(1, 65_535)), "")
        username = self._value("mail_username", "User name there (none)", _or_none(values.text), "")
        file: Path | None = self._given.pop("mail_password_file", None)
        password = None
        if username and file is None:
            password = self._password(passwords.MAIL_PASSWORD_VARIABLE, f"Password of {username}")
        settings = MailSettings(
            host=host,
            port=port,
            security=security,
            ca_bundle=self._given.get("ca_bundle"),
            username=username,
            password_file=(file or password_file) if username else None,
            sender=self._value("mail_sender", "From", values.mail_address, None),
            recipients=self._value(
                "mail_recipients", 'Recipients, as "*=ADDRESS; SHORTNAME=ADDRESS"', values.recipients, None
            ),
        )
        if self._org_units is not None:
            self._org_units.named(place for place, _addresses in settings.recipients if place != EVERYTHING)
        with self._subject(Settings(mail=settings), None, password) as subject:
            self._tell(run(subject, only=("mail",)))
        return settings, password

    def _refuse_more_about_mail(self) -> None:
        """Without questions, nothing that is given is passed over."""
        more = next((name for name in self._given if name.startswith("mail_")), None)
        if more is not None and not self._interactive:
            raise RefusedError(f"{_option(more)} needs {_option('mail_host')}")

    def _value(self, name: str, question: str, convert: Callable[[object], Any], default: object) -> Any:
        """What was given under a name, or the answer to the question; a given value is used once."""
        if name in self._given:
            try:
                return convert(self._given.pop(name))
            except NotAllowedError as problem:
                raise ConfigurationError(f"{_option(name)} takes {problem}") from None
        if not self._interactive:
            if default is None:
                raise RefusedError(f"{_option(name)} is needed with --yes")
            return convert(str(default))
        shown = None if default is None else str(default)
        return convert(click.prompt(question, default=shown, show_default=bool(shown), err=True))

    def _password(self, variable: str, question: str) -> str:
        if self._environ.get(variable) and not (self._interactive and variable in self._taken):
            self._taken.add(variable)  # one that was tried and doesn't do is asked for
            return self._environ[variable]
        if not self._interactive:
            raise RefusedError(f"no password: give --password-file (for mail --mail-password-file), or set ${variable}")
        return str(click.prompt(question, hide_input=True, err=True))

    def _until_it_does(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until an answer does; without questions, once."""
        while True:
            try:
                return ask()
            except (NotAllowedError, ConfigurationError) as problem:
                words = str(problem) if isinstance(problem, ConfigurationError) else f"this takes {problem}"
                if not self._interactive:
                    raise RefusedError(words) from None
                click.echo(f"That doesn't do: {words}", err=True)

    @contextmanager
    def _subject(self, settings: Settings, password: str | None, mail_password: str | None = None) -> Iterator[Subject]:
        environ = dict(self._environ)
        for variable, value in (
            (passwords.PASSWORD_VARIABLE, password),
            (passwords.MAIL_PASSWORD_VARIABLE, mail_password),
        ):
            if value is None:
                environ.pop(variable, None)
            else:
                environ[variable] = value
        with Subject(None, environ, settings=settings) as subject:
            yield subject

    def _tell(self, diagnosis: Diagnosis) -> None:
        """Say how a trial went; warnings are told, and doctor tells them again.

        Raises:
            RefusedError: something failed.
        """
        for finding in diagnosis.findings:
            words = f"{finding.title}: {finding.found}" + (f"; {finding.advice}" if finding.advice else "")
            words = _SETTING.sub(_as_option, words)
            if finding.verdict is Verdict.FAILED:
                raise RefusedError(words)
            if finding.verdict is Verdict.WARNING:
                click.echo(f"  warning: {words}", err=True)
        click.echo(f"  ok: {diagnosis.findings[-1].found}", err=True)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_option(setting: re.Match[str]) -> str:
    """The option for a setting: there is no configuration yet where it could be set."""
    name, section, plain = setting.groups()
    if plain:
        return f"give {_option(plain)}"
    return _option(f"mail_{name}" if section == "mail" and name not in _SHARED else name)


def _or_none(convert: Callable[[object], Answer]) -> Callable[[object], Answer | None]:
    """Make a converter that takes nothing as well."""
    return lambda value: convert(value) if value else None
