"""``evergreen-groups init``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any

import click

from evergreen_groups import cli, doctor, nightly
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import ENGLISH, gettext
from evergreen_groups.message import Message
from evergreen_groups.render import SERVICE
from evergreen_groups.settings import (
    Question,
    Setting,
    Settings,
    as_toml,
    declared,
    declared_sections,
    passwords,
    require_conditions,
    value_of,
    with_values,
)
from evergreen_groups.settings import reading as load
from evergreen_groups.settings import values as kinds

if TYPE_CHECKING:
    from evergreen_groups.doctor import Finding, Subject
    from evergreen_groups.ils import OrgUnits


@click.command("init")
@cli.setting_options("init", checked=False)
@click.option("--yes", is_flag=True, help="Don't ask: use the defaults for everything not given.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.pass_obj
def init_command(session: cli.Invocation, /, yes: bool, force: bool, **given: Any) -> int:
    """Create a configuration: ask for address, account, libraries, limit, minimum total and mail; test each answer.

    The file is that of the global --config or $EVERGREEN_GROUPS_CONFIG, by default /etc/evergreen-groups/config.toml
    for root and ~/.config/evergreen-groups/config.toml for others. Passwords go to files next to it. All are readable
    only by their owner. Nothing is written until all answers are accepted. Existing files are overwritten only after
    you confirm, or with --force. The answers of an existing configuration are offered as defaults, its other settings
    stay, and its old text is saved as config.toml.former. At the end, doctor runs.
    """
    from evergreen_groups.cli.commands.doctor import examine
    from evergreen_groups.settings import initial_configuration

    target = (session.config_file or _default_file()).absolute()  # password files are named by absolute paths
    if not force:
        _confirm_overwriting(target, interactive=not yes)
    answers = {name: value for name, value in given.items() if value not in (None, ())}
    former = load.read(target, {}) if target.is_file() and not yes else None
    existing = former.valid_settings if former else None
    interview = Interview(answers, os.environ, target.parent, interactive=not yes, existing=existing)
    try:
        settings = interview.settings()
    except click.Abort:
        # Click also aborts at the end of input. Without a terminal, that means that an answer is missing.
        if sys.stdin.isatty():
            raise
        raise cli.UnansweredError from None
    text = initial_configuration(settings, former.tables if former else ())
    _write(target, text, interview.secrets, force=force, interactive=not yes)
    with doctor.Subject(target, os.environ) as subject:
        return examine(subject, quiet=session.quiet)


def _default_file() -> Path:
    """Return the default path of the configuration: $EVERGREEN_GROUPS_CONFIG, root's system file, or the user's own."""
    if os.environ.get(load.CONFIG_VARIABLE):
        return Path(os.environ[load.CONFIG_VARIABLE])
    if os.geteuid() == 0:
        return load.SYSTEM_FILE
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "evergreen-groups" / "config.toml"


def _confirm_overwriting(file: Path, *, interactive: bool) -> None:
    """Ask before overwriting an existing file."""
    if not file.exists():
        return
    if not interactive:
        raise ConfigurationError(
            "{path} already exists",
            advice="name another file with --config, or use --force",
            code="file-is-there",
            values={"path": file},
        )
    if not cli.confirmed(gettext("{file} already exists. Overwrite it at the end?", file=file)):
        raise click.Abort


def _write(target: Path, text: str, secrets: Mapping[Path, str], *, force: bool, interactive: bool) -> None:
    """Write the secrets to their files, and then the configuration. Each file is replaced atomically."""
    from evergreen_groups.state import write_atomically, write_errors

    with write_errors(target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not force:
        for file in secrets:
            _confirm_overwriting(file, interactive=interactive)
    if target.is_file():
        former = target.with_name(f"{target.name}.former")
        with write_atomically(former) as stream:  # keep the old text, whose comments aren't carried over
            stream.write(target.read_text(encoding="utf-8", errors="replace"))
    for file, content in [*((file, f"{secret}\n") for file, secret in secrets.items()), (target, text)]:
        with write_atomically(file) as stream:
            stream.write(content)
        cli.logs.emit(Message("written: {path}", values={"path": file}))


_GATEWAY_CHECKS = ("configuration", "address", "certificate", "gateway", "services")
_ACCOUNT_CHECKS = ("login", "idl", "account", "permission.VIEW_USER")
_UNTRIED = "untried"
_FIRST_SECTIONS = ("gateway", "report")
"""The sections to ask about first. The report's contents come before the rule; other sections keep their order."""


class Interview:
    """Asks for settings that ``given`` lacks; its keys are the names of command line parameters.

    New secrets will be written to files in ``directory``. Without ``interactive``, missing settings take their
    defaults, and an invalid one is an error. ``existing`` settings are offered as answers, and kept if there is no
    question.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        environ: Mapping[str, str],
        directory: Path,
        *,
        interactive: bool,
        existing: Settings | None = None,
    ) -> None:
        self._given = dict(given)
        self._environ = environ
        self._directory = directory
        self._interactive = interactive
        self._existing = existing or Settings()
        self._settings = replace(self._existing, source=None)
        self._answers: dict[str, Any] = {}
        self._accepted: dict[str, Any] = {}
        self._passwords: dict[str, str | None] = {}
        self._used: set[str] = set()
        self._org_units: OrgUnits | None = None

    def settings(self) -> Settings:
        """Ask all questions and return the resulting settings."""
        options = {
            setting.key: option
            for setting in declared(Settings)
            if not setting.question and not setting.secret
            if (option := setting.option("init")) is not None and option.name in self._given
        }
        self._settings = with_values(self._settings, {key: self._given[option.name] for key, option in options.items()})
        for option in options.values():
            self._given.pop(option.name, None)  # an option may set the same key in several sections
        if {"min_overdue", "min_lost"} & self._given.keys():
            self._given.setdefault("min_total", "none")
        sections = declared_sections(Settings)
        for name in sorted(sections, key=lambda name: name not in _FIRST_SECTIONS):
            asked = tuple(setting for setting in sections[name] if setting.question is not None)
            opened = any(setting.question is not None and setting.question.opens_section for setting in asked)
            # Ask about an optional section as a whole, so that the user can still skip it after a mistake.
            for batch in (asked,) if opened else ((setting,) for setting in asked):
                self._repeat_until_valid(partial(self._ask_for, sections[name], batch), batch)
        return self._settings

    @property
    def secrets(self) -> Mapping[Path, str]:
        """The secrets entered, by the file that each will be written to."""
        return {
            value_of(self._settings, setting): password
            for setting in declared(Settings)
            if setting.secret is not None and (password := self._passwords.get(setting.section)) is not None
        }

    def _ask_for(self, section: tuple[Setting, ...], batch: tuple[Setting, ...]) -> None:
        """Ask for some settings of a section, and run their checks."""
        values: dict[str, object] = {}
        for setting in batch:
            is_accepted = setting.key in self._accepted
            answer = values[setting.key] = self._accepted.pop(setting.key) if is_accepted else self._answer(setting)
            self._answers[setting.key] = answer
            if setting.question is not None and setting.question.opens_section and answer is None:
                # Without questions, options for a section that is left out are an error.
                options = [option for one in section if (option := one.option("init")) is not None]
                more = next((option for option in options if option.name in self._given), None)
                if more is not None and not self._interactive:
                    raise ConfigurationError(
                        "{option} needs {other}",
                        setting=setting.key,
                        code="option-needs-another",
                        values={"option": more.flag, "other": _flag(setting)},
                    )
                self._settings = with_values(self._settings, {one.key: one.default for one in section})
                return
            values |= self._password_setting(section, setting, answer, is_accepted=is_accepted)
        settings = with_values(self._settings, values)
        for key in (batch[-1].key, batch[-1].section):
            settings = self._check(key, settings)
        self._settings = settings

    def _password_setting(
        self, section: tuple[Setting, ...], account: Setting, answer: object, *, is_accepted: bool
    ) -> dict[str, object]:
        """Return the setting for an account's password file, asking for the password unless a file exists.

        If the account ``is_accepted`` and only another answer was wrong, its password is kept.
        """
        setting = next((other for other in section if other.secret and other.secret.account == account.name), None)
        if setting is None:
            return {}
        option, secret = setting.option("init"), passwords.secret_of(setting)
        file = self._directory / secret.credential.replace("_", "-")
        if is_accepted and setting.section in self._passwords:
            return {setting.key: file}
        self._passwords.pop(setting.section, None)
        if answer is None:
            return {}
        if option is not None and option.name in self._given:
            return {setting.key: self._given.pop(option.name)}
        former = value_of(self._existing, setting)
        if former is not None and answer == value_of(self._existing, account) and setting.key not in self._used:
            self._used.add(setting.key)  # offer it once: after a failed login, ask for another
            return {setting.key: former}
        self._passwords[setting.section] = self._password(setting, gettext("Password for {account}", account=answer))
        return {setting.key: file}

    def _check(self, key: str, settings: Settings) -> Settings:
        """Run the checks that follow a setting, or all settings of a section (``key``).

        Returns the settings, with the names of libraries as Evergreen spells them.
        """
        match key:
            case "gateway.url":
                untried = with_values(settings, {"gateway.username": _UNTRIED})
                self._run_checks(untried, _GATEWAY_CHECKS, {"gateway": _UNTRIED})
            case "gateway.username":
                self._run_checks(settings, _ACCOUNT_CHECKS)
                with self._subject(settings, self._passwords) as subject:
                    self._org_units = subject.org_units
            case "report.orgs" if self._org_units is not None:
                found = tuple(self._org_units.find(name).shortname for name in settings.report.orgs)
                return with_values(settings, {"report.orgs": found})
            case "report.min_lost":
                if not settings.report.min_total:  # what narrows fines has no effect
                    settings = with_values(settings, {"report.owing_since": None, "report.kinds": ()})
                require_conditions(settings.report, settings.report)
            case "policy.comparison":
                self._run_checks(settings, ("thresholds",))  # either side may be right, so this never fails
            case "mail":
                places = [place for place, _addresses in settings.mail.recipients if place != nightly.EVERYTHING]
                try:
                    if self._org_units is not None:
                        self._org_units.named(places)
                except ConfigurationError as error:
                    error.setting = "mail.recipients"
                    raise
                self._run_checks(settings, ("mail",))
        return settings

    def _run_checks(
        self, settings: Settings, checks: tuple[str, ...], passwords: Mapping[str, str] | None = None
    ) -> None:
        """Run some of doctor's checks on these settings. Warnings are shown here, and doctor repeats them."""
        with self._subject(settings, passwords or self._passwords) as subject:
            findings = doctor.run(subject, only=checks).findings
        for finding in findings:
            if finding.verdict in (doctor.Verdict.FAILED, doctor.Verdict.WARNING):
                refused = ConfigurationError(
                    "{problem}",
                    advice="{advice}",
                    setting=finding.setting,
                    code="trial-failed",
                    values={"problem": finding.found, "advice": self._advice(finding)},
                )
                if finding.verdict is doctor.Verdict.FAILED:
                    raise refused
                _emit(gettext("warning: {problem}", problem=refused), indent="  ")
        last = findings[-1]
        if last.verdict is doctor.Verdict.OK:
            found = Message("{place}: {problem}", values={"place": last.title, "problem": last.found})
            _emit(gettext("ok: {found}", found=found), indent="  ")

    def _answer(self, setting: Setting) -> Any:
        """Return the value given for a setting, or ask. A given value is used only once, so that a wrong one is asked
        for.
        """
        option, question = setting.option("init"), setting.question
        if option is not None and option.name in self._given:
            value = self._given.pop(option.name)
            try:
                return setting.kind(list(value) if setting.kind.several else value)
            except kinds.NotAllowedError as problem:
                raise ConfigurationError(
                    "{place}: {problem}",
                    setting=setting.key,
                    code="option-not-allowed",
                    values={"place": option.flag, "problem": cli.expected(problem)},
                ) from None
        by_name = {one.key: one for one in declared(Settings)}
        if question is not None and question.unless and value_of(self._settings, by_name[question.unless]):
            return value_of(self._settings, setting)
        default = setting.default
        may_be_empty = question is not None and question.empty != ""
        if not self._interactive:
            if default in (None, ()) and not may_be_empty:
                raise ConfigurationError(
                    "{option} needs {other}",
                    setting=setting.key,
                    code="option-missing",
                    values={"option": "--yes", "other": _flag(setting)},
                )
            return default
        if setting.key == "policy.comparison" and not isinstance(self._settings.policy.limit, Decimal):
            return value_of(self._existing, setting)  # nothing to compare with
        self._introduce(setting)
        return setting.default if question is None else self._prompt(setting, question)

    def _introduce(self, setting: Setting) -> None:
        """Say what helps to answer the question about a setting."""
        match setting.key:
            case "report.orgs" if self._org_units is not None:
                names = sorted(unit.shortname for unit in self._org_units)
                _emit(gettext("Libraries: {libraries}", libraries=", ".join(names[:40])))
            case "policy.comparison":
                with self._subject(self._settings, self._passwords) as subject:
                    for threshold in doctor.describe_thresholds(subject):
                        _emit(gettext(threshold))
            case "report.min_total":
                _emit(gettext('Without overdue fines, answer "none" to list groups by overdue or lost items.'))
            case "mail.link":
                origin = self._settings.serve.origin or self._settings.gateway.url
                _emit(gettext("The web service has it at {link}", link=f"{origin}{SERVICE}/reports/latest/{{library}}"))

    def _prompt(self, setting: Setting, question: Question) -> Any:
        """Ask until the setting accepts the answer, offering the previous answer or the configured value."""
        current = self._answers.get(setting.key, value_of(self._existing, setting))
        if setting.key == "language.default" and current == ENGLISH.tag:
            current = self._language_of_dates()
        is_empty = current in (None, ()) and setting.default in (None, ())
        text, for_empty = gettext(question.text, limit=self._settings.policy.limit), None
        if question.empty and is_empty:
            text = gettext("{question} ({empty})", question=question.text, empty=question.empty)
            for_empty = ""
        elif question.empty:
            text = gettext("{question} (- for {empty})", question=question.text, empty=question.empty)
            for_empty = "-"
        offered = for_empty if for_empty == "" else None if is_empty else _as_typed(current)
        question_text = fill(text, cli.terminal_width() - 1, break_long_words=False, break_on_hyphens=False)
        while True:
            answer = click.prompt(
                question_text,
                default=offered,
                show_default=offered != "",
                prompt_suffix=cli.after_question(),
                err=True,
            )
            if answer == for_empty:
                return setting.default
            try:
                return setting.kind(answer)
            except kinds.NotAllowedError as problem:
                _emit(gettext("Not accepted: {problem}", problem=cli.expected(problem)))

    def _language_of_dates(self) -> str:
        """Return English with the country that writes dates in the order in which Evergreen's pages show them.

        Without a setting, they show the month first (staff client's ``FormatService``).
        """
        from evergreen_groups.ils import OrgUnits

        with self._subject(self._settings, self._passwords) as subject:
            formats = OrgUnits.read_setting(subject.gateway, "webstaff.format.dates")
            return "en-GB" if str(formats.get(subject.org_units.root.id)).startswith("d") else "en-US"

    def _password(self, setting: Setting, question: str) -> str:
        variable = passwords.secret_of(setting).variable or ""
        if self._environ.get(variable) and not (self._interactive and variable in self._used):
            self._used.add(variable)  # use it once: after a failed login, ask for another
            return self._environ[variable]
        if not self._interactive:
            raise ConfigurationError(
                "no password is set",
                advice="use {option}, or set ${variable}",
                setting=setting.key,
                code="secret-not-given",
                values={"option": _flag(setting), "variable": variable},
            )
        password = click.prompt(
            question,
            default="",
            show_default=False,
            hide_input=True,
            prompt_suffix=cli.after_question(),
            err=True,
        )
        if not password:
            raise cli.UnansweredError(Message("nothing was written: no password was entered"))
        return str(password)

    def _repeat_until_valid(self, ask: Callable[[], None], batch: tuple[Setting, ...]) -> None:
        """Ask until the answers pass their checks; without questions, try once. After a failure, ask only for what was
        wrong.
        """
        while True:
            try:
                ask()
            except ConfigurationError as error:
                if not self._interactive:
                    raise
                _emit(gettext("Not accepted: {problem}", problem=error))
                keys = [setting.key for setting in batch]
                # Ask for everything again if it's unclear which answer was wrong, or if it was the section's first
                # question, which offers to skip the section.
                wrong = {error.setting} if error.setting in keys[1:] else {*keys}
                self._accepted = {key: self._answers[key] for key in keys if key in self._answers and key not in wrong}
            else:
                return

    def _subject(self, settings: Settings, passwords: Mapping[str, str | None]) -> Subject:
        environ = dict(self._environ)
        for setting in declared(Settings):
            if setting.secret is not None and setting.secret.variable is not None:
                environ.pop(setting.secret.variable, None)
                password = passwords.get(setting.section)
                if password is not None:
                    environ[setting.secret.variable] = password
        return doctor.Subject(None, environ, settings=settings)

    def _advice(self, finding: Finding) -> Message:
        """Return a finding's advice. It names the command line option if the user won't be asked again."""
        advice = finding.advice
        setting = next((setting for setting in declared(Settings) if setting.key == finding.setting), None)
        if setting is None or setting.option("init") is None or (setting.question is not None and self._interactive):
            return advice
        return Message("{advice}; here, use {option}", values={"option": _flag(setting), "advice": advice})


def _emit(text: str, indent: str = "") -> None:
    """Write a line for the user, wrapped between words."""
    width = cli.terminal_width()
    lines = wrap(text, width - len(indent), break_long_words=False, break_on_hyphens=False)
    click.echo("\n".join(f"{indent}{line}" for line in lines), err=True)


def _as_typed(value: Any) -> str:
    """Return a value as a user would type it.

    >>> _as_typed(("BR1", "BR2")), _as_typed((("*", ("a@b.example", "c@d.example")),))
    ('BR1, BR2', '*=a@b.example,c@d.example')
    """
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return "; ".join(f"{name}={','.join(addresses)}" for name, addresses in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return as_toml(value).strip('"')


def _flag(setting: Setting) -> str:
    """Return the option that sets a setting on the command line of ``init``."""
    option = setting.option("init")
    return option.flag if option is not None else setting.key
