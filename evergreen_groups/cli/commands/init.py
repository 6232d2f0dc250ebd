"""``evergreen-groups init``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evergreen_groups.cli import Invocation, UnansweredError, confirmed, logs, setting_options
from evergreen_groups.doctor import Diagnosis, Finding, Subject, Verdict, run
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.nightly import EVERYTHING
from evergreen_groups.render import SERVICE
from evergreen_groups.settings import (
    CONFIG_VARIABLE,
    NotAllowedError,
    Option,
    Question,
    Setting,
    Settings,
    as_toml,
    declared,
    declared_sections,
    secret_of,
    value_of,
    with_values,
)
from evergreen_groups.settings import reading as load

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits


@click.command("init")
@setting_options("init", checked=False)
@click.option("--yes", is_flag=True, help="Ask nothing: what isn't given has its default.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.pass_obj
def init_command(session: Invocation, /, yes: bool, force: bool, **given: Any) -> int:
    """Ask for the address, the account, libraries, limits and mail; try each answer at once; write the configuration.

    It goes to the file named with the global --config or $EVERGREEN_GROUPS_CONFIG, otherwise to
    /etc/evergreen-groups/config.toml for root and ~/.config/evergreen-groups/config.toml for others, and the passwords
    to files beside it; all are readable by their owner alone. Nothing is overwritten without asking, and nothing is
    written before every answer does. Where there is a configuration already, what it says is offered as the answer,
    other settings stay as they are, and its former text is kept beside it (config.toml.former). In the end it says what
    doctor says.
    """
    from evergreen_groups.settings import initial_configuration

    target = (session.config_file or _default()).absolute()  # it names the files beside it, wherever runs are started
    if not force:
        _may_be_overwritten(target, interactive=not yes)
    answers = {name: value for name, value in given.items() if value not in (None, ())}
    former = load.read(target, {}) if target.is_file() and not yes else None
    existing = former.valid_settings if former else None
    interview = Interview(answers, os.environ, target.parent, interactive=not yes, existing=existing)
    settings = _answered(interview)
    text = initial_configuration(settings, [table for table, _origin in former.tables] if former else ())
    _write(target, text, interview.secrets, force=force, interactive=not yes)
    return _examine(session, target)


def _answered(interview: Interview) -> Settings:
    """The settings that come of it; without a terminal, nobody broke off: nobody was there."""
    try:
        return interview.settings()
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UnansweredError from None


def _default() -> Path:
    """Where the configuration goes: the environment's file, the system's place for root, otherwise the user's own."""
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE])
    if os.geteuid() == 0:
        return load.SYSTEM_FILE
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "evergreen-groups" / "config.toml"


def _may_be_overwritten(file: Path, *, interactive: bool) -> None:
    """Ask before a file that is there is overwritten.

    Raises:
        ConfigurationError: nobody can be asked.
    """
    from evergreen_groups.errors import ConfigurationError

    if not file.exists():
        return
    if not interactive:
        raise ConfigurationError(
            "{file} is there already",
            advice="name another file with --config, or add --force",
            code="file-is-there",
            values={"file": file},
        )
    if not confirmed(gettext("{file} is there already. Overwrite it in the end?", file=file)):
        raise click.Abort


def _write(target: Path, text: str, secrets: Mapping[Path, str], *, force: bool, interactive: bool) -> None:
    """Write the secrets, each to its file, and then the configuration, each whole or not at all."""
    from evergreen_groups.state import write_atomically, writing_in

    with writing_in(target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not force:
        for file in secrets:
            _may_be_overwritten(file, interactive=interactive)
    if target.is_file():
        former = target.with_name(f"{target.name}.former")
        with write_atomically(former) as stream:  # it may have comments
            stream.write(target.read_text(encoding="utf-8", errors="replace"))
    for file, content in [*((file, f"{secret}\n") for file, secret in secrets.items()), (target, text)]:
        with write_atomically(file) as stream:
            stream.write(content)
        logs.emit(Message("written: {file}", values={"file": file}))


def _examine(session: Invocation, target: Path) -> int:
    """What doctor says of the new configuration."""
    from evergreen_groups.cli.commands.doctor import examine
    from evergreen_groups.doctor import Subject

    with Subject(target, os.environ) as subject:
        return examine(subject, quiet=session.quiet)


_REACHED = ("configuration", "address", "certificate", "gateway", "services")
_LOGGED_IN = ("login", "idl", "account", "permission.VIEW_USER")
_UNTRIED = "untried"
_FIRST_SECTIONS = ("gateway", "report")
"""The sections that are asked for first: what is listed comes before the rule, and the rest in its own order."""


class RefusedError(ConfigurationError):
    """An answer was tried and doesn't do."""


class Interview:
    """Asks for what ``given`` doesn't say: values from the command line by the names of its parameters.

    Secrets that are asked for belong into files in ``directory``. ``interactive`` False asks nothing: what isn't given
    has its default, and a bad answer is an error. ``existing`` are settings to go on from: each is offered as the
    answer, and what isn't asked for stays as it is.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        environ: Mapping[str, str],
        directory: Path,
        *,
        interactive: bool,
        schema: type[Settings] = Settings,
        existing: Settings | None = None,
    ) -> None:
        self._given = dict(given)
        self._environ = environ
        self._directory = directory
        self._interactive = interactive
        self._schema = schema
        self._existing = existing or schema()
        self._settings = replace(self._existing, source=None)
        self._answers: dict[str, Any] = {}
        self._right: dict[str, Any] = {}
        self._passwords: dict[str, str | None] = {}
        self._taken: set[str] = set()
        self._org_units: OrgUnits | None = None
        self._trials: dict[str, Callable[[Settings], Settings]] = {
            "gateway.url": self._reach,
            "gateway.username": self._log_in,
            "report.orgs": self._find_libraries,
            "policy.limit": self._hold_against_thresholds,
            "mail": self._log_in_to_mail,
        }
        """What is tried after the answer for a setting, or after all answers for a section."""

    def settings(self) -> Settings:
        """Ask for all settings that are asked for, and give what comes of it.

        Raises:
            RefusedError: without questions, something given doesn't do.
        """
        self._take_what_is_not_asked()
        sections = declared_sections(self._schema)
        for name in sorted(sections, key=lambda name: name not in _FIRST_SECTIONS):
            asked = tuple(setting for setting in sections[name] if setting.question is not None)
            opened = any(setting.question is not None and setting.question.opens_section for setting in asked)
            # A section that can be left out is asked for as a whole: after a mistake there, it can still be left out.
            for batch in (asked,) if opened else ((setting,) for setting in asked):
                self._until_it_does(partial(self._ask_for, sections[name], batch), batch)
        return self._settings

    @property
    def secrets(self) -> Mapping[Path, str]:
        """The secrets that were given, with the files that they are still to be written to."""
        return {
            value_of(self._settings, setting): password
            for setting in declared(self._schema)
            if setting.secret is not None and (password := self._passwords.get(setting.section)) is not None
        }

    def _take_what_is_not_asked(self) -> None:
        """Set what has an option and no question."""
        options = {setting.key: option for setting in declared(self._schema) if (option := self._plain_option(setting))}
        values = {key: self._given[option.name] for key, option in options.items()}
        for option in options.values():
            self._given.pop(option.name, None)  # some stand for the same setting of several sections
        self._settings = with_values(self._settings, values)

    def _plain_option(self, setting: Setting) -> Option | None:
        """The option that was given for a setting for which nothing is asked."""
        option = None if setting.question or setting.secret else setting.option("init")
        return option if option is not None and option.name in self._given else None

    def _ask_for(self, section: tuple[Setting, ...], batch: tuple[Setting, ...]) -> None:
        """Ask for some settings of a section, and try them."""
        values: dict[str, object] = {}
        for setting in batch:
            is_right = setting.key in self._right
            answer = values[setting.key] = self._right.pop(setting.key) if is_right else self._answer(setting)
            self._answers[setting.key] = answer
            if setting.question is not None and setting.question.opens_section and answer is None:
                self._leave_out(section, setting)
                return
            values |= self._secret_of_account(section, setting, answer, is_right=is_right)
        settings = with_values(self._settings, values)
        for key in (batch[-1].key, batch[-1].section):
            if key in self._trials:
                settings = self._trials[key](settings)
        self._settings = settings

    def _secret_of_account(
        self, section: tuple[Setting, ...], account: Setting, answer: object, *, is_right: bool
    ) -> dict[str, object]:
        """Where the password of an account is that was just named, asked for unless a file has it.

        That of an account that ``is_right``, because another answer was wrong, stays as well.
        """
        setting = next((other for other in section if other.secret and other.secret.account == account.name), None)
        if setting is None:
            return {}
        option, secret = setting.option("init"), secret_of(setting)
        file = self._directory / secret.credential.replace("_", "-")
        if is_right and setting.section in self._passwords:
            return {setting.key: file}
        self._passwords.pop(setting.section, None)
        if answer is None:
            return {}
        if option is not None and option.name in self._given:
            return {setting.key: self._given.pop(option.name)}
        former = value_of(self._existing, setting)
        if former is not None and answer == value_of(self._existing, account) and setting.key not in self._taken:
            self._taken.add(setting.key)  # one that was tried and doesn't do is asked for
            return {setting.key: former}
        self._passwords[setting.section] = self._password(setting, gettext("Password of {account}", account=answer))
        return {setting.key: file}

    def _leave_out(self, section: tuple[Setting, ...], opening: Setting) -> None:
        """Leave a section as it is by default; without questions, nothing that is given for it is passed over."""
        options = [option for setting in section if (option := setting.option("init")) is not None]
        more = next((option for option in options if option.name in self._given), None)
        if more is not None and not self._interactive:
            raise RefusedError(
                "{option} needs {other}",
                setting=opening.key,
                code="option-needs-another",
                values={"option": more.flag, "other": _flag(opening)},
            )
        self._settings = with_values(self._settings, {setting.key: setting.default for setting in section})

    def _reach(self, settings: Settings) -> Settings:
        """Go to the gateway."""
        untried = with_values(settings, {"gateway.username": _UNTRIED})
        self._look(untried, _REACHED, {"gateway": _UNTRIED})
        return settings

    def _log_in(self, settings: Settings) -> Settings:
        """Log in at the gateway."""
        self._look(settings, _LOGGED_IN)
        with self._subject(settings, self._passwords) as subject:
            self._org_units = subject.org_units
        return settings

    def _hold_against_thresholds(self, settings: Settings) -> Settings:
        """Say where the ILS blocks otherwise than this limit; either may be right."""
        self._look(settings, ("thresholds",))
        return settings

    def _find_libraries(self, settings: Settings) -> Settings:
        """Look the libraries up, and call them as the ILS does."""
        if self._org_units is None:
            return settings
        found = tuple(self._org_units.find(name).shortname for name in settings.report.orgs)
        return with_values(settings, {"report.orgs": found})

    def _log_in_to_mail(self, settings: Settings) -> Settings:
        """Look the libraries of the recipients up, and log in to the mail server."""
        if self._org_units is not None:
            try:
                self._org_units.named(place for place, _addresses in settings.mail.recipients if place != EVERYTHING)
            except ConfigurationError as error:
                error.setting = "mail.recipients"
                raise
        self._look(settings, ("mail",))
        return settings

    def _look(self, settings: Settings, checks: tuple[str, ...], passwords: Mapping[str, str] | None = None) -> None:
        """Make some of doctor's checks of these settings; raises what :meth:`_report` does."""
        with self._subject(settings, passwords or self._passwords) as subject:
            self._report(run(subject, only=checks))

    def _answer(self, setting: Setting) -> Any:
        """What was given for a setting, or the answer to its question; a given value is used once."""
        option, question = setting.option("init"), setting.question
        if option is not None and option.name in self._given:
            value = self._given.pop(option.name)
            try:
                return setting.kind(list(value) if setting.kind.several else value)
            except NotAllowedError as problem:
                raise ConfigurationError(
                    "{option} takes {allowed}",
                    setting=setting.key,
                    code="option-not-allowed",
                    values={"option": option.flag, "allowed": problem.allowed},
                ) from None
        default = setting.default
        may_be_empty = question is not None and question.empty != ""
        if not self._interactive:
            if default in (None, ()) and not may_be_empty:
                raise RefusedError(
                    "{option} is needed with --yes",
                    setting=setting.key,
                    code="option-missing",
                    values={"option": _flag(setting)},
                )
            return default
        if setting.key == "report.orgs" and self._org_units is not None:
            names = sorted(unit.shortname for unit in self._org_units)
            click.echo(gettext("There are {libraries}.", libraries=", ".join(names[:40])), err=True)
        if setting.key == "mail.link":
            link = f"{self._settings.serve.origin or self._settings.gateway.url}{SERVICE}/reports/latest/{{library}}"
            click.echo(gettext("Where the service runs, it is at {link}.", link=link), err=True)
        return self._prompt(setting)

    def _prompt(self, setting: Setting) -> Any:
        """Ask until the answer is one that the setting takes."""
        if setting.question is None:
            return setting.default
        while True:
            try:
                return self._asked(setting, setting.question)
            except NotAllowedError as problem:
                click.echo(gettext("That doesn't do: this takes {allowed}", allowed=problem.allowed), err=True)

    def _asked(self, setting: Setting, question: Question) -> Any:
        """Ask once; what was answered before, or is configured, is offered."""
        current = self._answers.get(setting.key, value_of(self._existing, setting))
        is_empty = current in (None, ()) and setting.default in (None, ())
        shown = None if is_empty else _as_typed(current)
        if not question.empty:
            return setting.kind(click.prompt(gettext(question.text), default=shown, err=True))
        if is_empty:
            text = gettext("{question} ({empty})", question=question.text, empty=question.empty)
            answer = click.prompt(text, default="", show_default=False, err=True)
            return setting.kind(answer) if answer else setting.default
        text = gettext("{question} (- for {empty})", question=question.text, empty=question.empty)
        answer = click.prompt(text, default=shown, err=True)
        return setting.default if answer == "-" else setting.kind(answer)

    def _password(self, setting: Setting, question: str) -> str:
        variable = secret_of(setting).variable or ""
        if self._environ.get(variable) and not (self._interactive and variable in self._taken):
            self._taken.add(variable)  # one that was tried and doesn't do is asked for
            return self._environ[variable]
        if not self._interactive:
            raise RefusedError(
                "no password is set",
                advice="give {option}, or set ${variable}",
                setting=setting.key,
                code="secret-not-given",
                values={"option": _flag(setting), "variable": variable},
            )
        return str(click.prompt(question, hide_input=True, err=True))

    def _until_it_does(self, ask: Callable[[], None], batch: tuple[Setting, ...]) -> None:
        """Ask until the answers do; without questions, once. After a mistake only what was wrong is asked again."""
        while True:
            try:
                ask()
            except ConfigurationError as error:
                if not self._interactive:
                    raise
                click.echo(gettext("That doesn't do: {problem}", problem=error), err=True)
                keys = [setting.key for setting in batch]
                # Where nobody knows which was wrong, or the first is, by which a section can still be left out, all.
                wrong = {error.setting} if error.setting in keys[1:] else {*keys}
                self._right = {key: self._answers[key] for key in keys if key in self._answers and key not in wrong}
            except NotAllowedError as problem:
                click.echo(gettext("That doesn't do: this takes {allowed}", allowed=problem.allowed), err=True)
            else:
                return

    @contextmanager
    def _subject(self, settings: Settings, passwords: Mapping[str, str | None]) -> Iterator[Subject]:
        environ = dict(self._environ)
        for setting in declared(self._schema):
            if setting.secret is not None and setting.secret.variable is not None:
                environ.pop(setting.secret.variable, None)
                password = passwords.get(setting.section)
                if password is not None:
                    environ[setting.secret.variable] = password
        with Subject(None, environ, settings=settings) as subject:
            yield subject

    def _report(self, diagnosis: Diagnosis) -> None:
        """Say how a trial went; warnings are shown, and doctor shows them again.

        Raises:
            RefusedError: something failed.
        """
        for finding in diagnosis.findings:
            if finding.verdict in (Verdict.FAILED, Verdict.WARNING):
                refused = RefusedError(
                    "{title}: {found}",
                    advice="{advice}",
                    setting=finding.setting,
                    code="trial-failed",
                    values={"title": finding.title, "found": finding.found, "advice": self._advice(finding)},
                )
                if finding.verdict is Verdict.FAILED:
                    raise refused
                click.echo("  " + gettext("warning: {problem}", problem=refused), err=True)
        click.echo("  " + gettext("ok: {found}", found=diagnosis.findings[-1].found), err=True)

    def _advice(self, finding: Finding) -> Message:
        """What a finding advises, with the option: there is no configuration yet where the setting could be set."""
        advice = finding.advice
        setting = next((setting for setting in declared(self._schema) if setting.key == finding.setting), None)
        is_asked_again = setting is not None and setting.question is not None and self._interactive
        if setting is None or setting.option("init") is None or is_asked_again:
            return advice
        here = {"option": _flag(setting), "advice": advice}
        if not advice:
            return Message("here, give {option}", values=here)
        return Message("{advice}; here, give {option}", values=here)


def _as_typed(value: Any) -> str:
    """A value as somebody would type it.

    >>> _as_typed(("BR1", "BR2")), _as_typed((("*", ("a@b.example", "c@d.example")),))
    ('BR1, BR2', '*=a@b.example,c@d.example')
    """
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return "; ".join(f"{name}={','.join(addresses)}" for name, addresses in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return as_toml(value).strip('"')


def _flag(setting: Setting) -> str:
    """How a setting is called on the command line of ``init``."""
    option = setting.option("init")
    return option.flag if option is not None else setting.key
