"""The steps of a report run: read, compare, render, write, record and mail. Read :func:`make_reports` first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import quote

from evergreen_groups import exit_status
from evergreen_groups.errors import (
    ConfigurationError,
    DataError,
    DeadlineError,
    EvergreenGroupsError,
    GatewayError,
    StateError,
)
from evergreen_groups.formats import PAGE, output_format, require
from evergreen_groups.ils import OrgUnits
from evergreen_groups.message import Message
from evergreen_groups.nightly.deadline import CUT_OFF, Deadline
from evergreen_groups.nightly.jobs import RunPurpose
from evergreen_groups.nightly.monitoring import note_sent, write_metrics
from evergreen_groups.nightly.output import PreparedReport, Readers, Rendered, remove_failure_page, timezones_for, write
from evergreen_groups.render import SERVICE, StaffClient
from evergreen_groups.report import History, Run, look_up_cleared, read_reports
from evergreen_groups.state import RunOutcome, RunStatus, prune, write_run_status

if TYPE_CHECKING:
    from evergreen_groups.follow_up import Comparison, DuePromise, FollowUp, PaymentsRead, Today
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.mail import Delivery, Mailer
    from evergreen_groups.message import Progress
    from evergreen_groups.nightly.jobs import ReportOptions
    from evergreen_groups.render.report import WritingOptions
    from evergreen_groups.report import Report
    from evergreen_groups.settings import Settings
    from evergreen_groups.state import State, Transactions

log = logging.getLogger("evergreen_groups.report_run")
Value = TypeVar("Value")

NOT_COMPARED = Message("Changes since the last run aren't known: the history can't be read.")


class Environment(Protocol):
    """What a run needs from the command line, which is in a package above: see the class ``Invocation`` there."""

    @property
    def settings(self) -> Settings: ...
    @property
    def quiet(self) -> bool: ...
    def gateway(self) -> AbstractContextManager[Gateway]: ...
    def state(self) -> AbstractContextManager[State]: ...
    def progress(self, doing: str) -> AbstractContextManager[Progress]: ...
    def width(self) -> int: ...
    def write(self, rendered: Rendered) -> None: ...
    def emit(self, message: str, *, error: bool = False) -> None: ...
    def summarise(self, message: str) -> None: ...
    def line(self, message: str, *, error: bool = False) -> str: ...


@dataclass(slots=True)
class Work:
    """What the steps of a run work with, and what they have done so far.

    ``state`` is set once it is open, ``database`` is the run's lease as soon as it has one, and ``options`` are set
    once the settings have been read. ``promises`` says what came of promises, by entry, and ``payments`` what listed
    families paid. ``made`` are the reports that were written. ``problem`` is the first error that doesn't end the run
    at once. ``is_stored`` means that mails, history and status are stored, so that no later run makes these reports
    again.
    """

    environment: Environment
    purpose: RunPurpose
    scheduled: bool
    started: datetime
    state: State = field(init=False)
    database: Transactions = field(init=False)
    options: ReportOptions | None = None
    read: list[PreparedReport] = field(default_factory=list)
    made: list[PreparedReport] = field(default_factory=list)
    promises: dict[str, Comparison] = field(default_factory=dict)
    payments: PaymentsRead | None = None
    recorded: list[Report] = field(default_factory=list)
    delivery: Delivery | None = None
    problem: EvergreenGroupsError | None = None
    database_fails: bool = False
    is_stored: bool = False

    def from_database(self, read: Callable[[], Value], otherwise: Value) -> Value:
        """Return what ``read`` returns, or ``otherwise`` if the database can't be used, now or earlier in this run.

        Without its database, a run still makes the reports. It doesn't compare, record or mail them, and ends with the
        first error.
        """
        if not self.database_fails:
            try:
                return read()
            except (StateError, ConfigurationError) as error:  # it or its lock fails, or is configured wrongly
                self.problem, self.database_fails = self.problem or error, True
        return otherwise

    def deadline(self, options: ReportOptions) -> Deadline:
        return Deadline(options.deadline, message=self.environment.line(CUT_OFF, error=True))

    def now(self) -> datetime:
        """Return the database's time. This machine's will do if the status can't be written either."""
        with suppress(EvergreenGroupsError):
            return self.database.now()
        return datetime.now(UTC)

    def status(self, finished: datetime, exit_code: int, error: BaseException | None) -> RunStatus:
        failed = error is not None and not self.is_stored
        # A group in several reports counts once.
        groups = {group.number: group for one in self.read for group in one.report.groups}
        return RunStatus(
            outcome=RunOutcome.FAILED if failed else RunOutcome.PARTIAL if exit_code else RunOutcome.DONE,
            started=self.started,
            finished=finished,
            exit_code=exit_code,
            error=type(error).__name__ if error else None,
            groups=len(groups) if self.read else None,
            members=sum(group.member_count for group in groups.values()) if self.read else None,
        )


def make_reports(work: Work, options: ReportOptions) -> int:
    """Make everything in order: publish, then record what was published, then mail what was recorded.

    Settings that could fail are checked before publishing. An unusable database, or one report that can't be written,
    doesn't keep the other reports from being made; the error is raised at the end. Return the exit status.
    """
    work.options = options
    with work.deadline(options):
        # Find out now, not after a long reading, whether a format's dependency is missing.
        for job in options.jobs:
            attach = job.mail.attach if job.mail else "none"
            require((*job.target.formats, *((attach,) if attach != "none" else ())))
        mailer = mailer_for(work, options)
        with work.environment.gateway() as gateway:
            _read(work, gateway, options)
            for one in work.read:
                _compare(work, gateway, one)
            _compare_promises(work, gateway)
            _read_payments(work, gateway)
            for one in work.read:
                _read_follow_ups(work, one)
            work.from_database(lambda: _recover(work, gateway), None)
        log.info("%d groups read", max(one.report.totals.group_count for one in work.read))
        for one in work.read:
            _render_mails(work, one)
        for one in work.read:
            _write(work, one)
        if work.problem is not None and not work.made:
            raise work.problem
        incomplete = any(one.report.totals.incomplete_group_count for one in work.read)
        written = exit_status.INCOMPLETE if incomplete else exit_status.DONE
        work.from_database(lambda: _store(work, mailer, written), None)
        sent = mailer is None or work.from_database(lambda: send(work, mailer), False)
        if work.problem is not None:
            raise work.problem
        return written if sent else exit_status.UNSENT


def mailer_for(work: Work, options: ReportOptions) -> Mailer | None:
    """Return the mailer, None if no report is mailed."""
    letters = [job.mail for job in options.jobs if job.mail is not None]
    if not letters:
        return None
    from evergreen_groups.nightly import mailing

    return mailing.mailer_for(work.environment.settings.mail, letters, work.database)


def _read(work: Work, gateway: Gateway, options: ReportOptions) -> None:
    settings = work.environment.settings
    with work.environment.progress(Message("asking the gateway …")) as progress:
        wanted = [job.criteria for job in options.jobs]
        now = work.from_database(work.database.now, datetime.now(UTC))
        reports = read_reports(gateway, wanted, progress, policy=settings.policy, now=now)
        timezones = timezones_for(gateway, options.jobs, settings.language)
    client = StaffClient.of(settings, gateway.url)
    for job, report in zip(options.jobs, reports, strict=True):
        history = History(work.database, gateway.url, job.name)
        readers = Readers(settings.language, report.org_units, timezones)
        work.read.append(PreparedReport(job, replace(report, name=job.name), history, readers, client))


def _compare(work: Work, gateway: Gateway, one: PreparedReport) -> None:
    """Compare a report with its previous run."""
    changes, notes = work.from_database(lambda: one.history.compare(one.report), None), one.report.notes
    if changes is None:
        one.report = replace(one.report, notes=(*notes, NOT_COMPARED))
        return
    # Probably a problem with the data or the permissions rather than a sudden absence of debts.
    if not one.report.groups and (before := len(changes.cleared) + len(changes.hidden)):
        note = Message(
            "No groups are listed, but the previous report listed {count} group. If this is unexpected, "
            "run the report again.",
            plural="No groups are listed, but the previous report listed {count} groups. If this is "
            "unexpected, run the report again.",
            values={"count": before},
        )
        notes = (*notes, note)
    one.report = look_up_cleared(gateway, replace(one.report, changes=changes, notes=notes))


def _today(work: Work, one: PreparedReport) -> Today:
    from evergreen_groups.follow_up import today_at

    timezone = work.environment.settings.language.language().timezone
    return today_at(one.report.generated_at, timezone, one.readers.timezones, one.report.org_units)


def _compare_promises(work: Work, gateway: Gateway) -> None:
    """Find out what came of promises whose day is over. If the gateway fails, they stay as the last night found them.

    Only recorded runs do: the outcome must be the same wherever it is read.
    """
    if work.purpose is not RunPurpose.NIGHTLY:
        return
    from evergreen_groups.follow_up import FollowUps, compare_promises

    one = work.read[0]
    follow_ups = FollowUps(work.database, one.report.gateway)
    due: list[DuePromise] = work.from_database(lambda: follow_ups.due_promises(_today(work, one)), [])
    try:
        work.promises = compare_promises(gateway, OrgUnits(one.report.org_units), due)
    except (DataError, GatewayError) as error:
        log.warning("the payments since promises couldn't be read: %s", type(error).__name__)


def _read_payments(work: Work, gateway: Gateway) -> None:
    """Read what listed families paid, for the results. If the gateway fails, the next night reads it."""
    if work.purpose is not RunPurpose.NIGHTLY:
        return
    from evergreen_groups.follow_up import Stays, read_payments

    report = work.read[0].report
    stays, org_units = Stays(work.database, report.gateway), OrgUnits(report.org_units)
    try:
        now = work.from_database(work.database.now, report.generated_at)
        persons: frozenset[int] = work.from_database(lambda: stays.watched(now), frozenset())
        work.payments = read_payments(gateway, org_units, persons, now)
    except (DataError, GatewayError) as error:
        log.warning("the payments of listed families couldn't be read: %s", type(error).__name__)


def _read_follow_ups(work: Work, one: PreparedReport) -> None:
    """Read what was agreed with groups of a report that is mailed, or written in a format that shows it."""
    target, report, mail = one.job.target, one.report, one.job.mail
    shows = target.path is not None and any("follow_ups" in output_format(name).options for name in target.formats)
    if mail is None and not shows:
        return
    from evergreen_groups.follow_up import FollowUps

    settings, today = work.environment.settings, _today(work, one)
    entries = FollowUps(work.database, report.gateway)
    found: Mapping[int, FollowUp] = work.from_database(
        lambda: entries.of_run(lambda: Run.of(report), work.promises), {}
    )
    again_after = settings.follow_up.again_after
    states = {number: follow_up.state(today, again_after) for number, follow_up in found.items()}
    # The files and mails of several libraries show a group: only with entries that the readers of each may see.
    of_libraries = {
        group.number: found[group.number].for_libraries((one.id, one.library) for one in group.members)
        for group in report.groups
        if group.number in found
    }
    one.mailed = {number: follow_up.state(today, again_after) for number, follow_up in of_libraries.items()}
    one.follow_ups = one.mailed if target.split else states


def _recover(work: Work, gateway: Gateway) -> None:
    """Look up the outcome of unfinished changes, without sending any. The report doesn't depend on this."""
    if work.purpose is RunPurpose.PREVIEW:
        return
    from evergreen_groups import changes

    try:
        # Nearly always nothing is open: then the modules that send changes aren't loaded.
        database = work.state.database
        is_open = database.is_there and changes.Journal(database).open_steps(gateway.url)
        ended = changes.recover_left_open(gateway, work.state) if is_open else []
    except EvergreenGroupsError as error:
        log.warning("changes that were left open could not be looked up: %s", type(error).__name__)
    else:
        if ended:
            log.info("%d changes that were left open were looked up", len(ended))


def _render_mails(work: Work, one: PreparedReport) -> None:
    """Render the mails of a report, if it has recipients."""
    mail, target = one.job.mail, one.job.target
    if mail is None:
        return
    from evergreen_groups.nightly.mailing import messages

    origin = work.environment.settings.serve.origin
    if mail.link is None and origin is not None and target.path is not None and PAGE in target.formats:
        named = f"/named/{quote(one.job.name, safe='')}" if one.job.name else ""
        library = "/{library}" if target.split else ""
        mail = replace(mail, link=f"{origin}{SERVICE}/reports{named}/latest{library}")
    served = origin is not None and (mail.link or "").startswith(f"{origin}{SERVICE}/reports/")
    with_name = not one.job.own_subject
    options: WritingOptions = {"client": one.client, "dialect": target.dialect}
    found = messages(one.report, mail, one.readers, one.mailed, with_name=with_name, links_to_list=served, **options)
    one.letters = list(found)


def _write(work: Work, one: PreparedReport) -> None:
    """Write a report to its target. A failure doesn't keep the others from being written."""
    environment, target = work.environment, one.job.target
    try:
        with environment.progress(Message("writing …")) as progress:
            if target.formats:  # not only mailed
                one.output = write(one, environment.width(), progress)
    except DeadlineError:
        raise
    except EvergreenGroupsError as error:
        if work.problem is not None:  # only the first error ends the run, so print the others
            text = Message("the report couldn't be written either: {problem}", values={"problem": error})
            if one.job.name:
                text = Message("{label}: {value}", values={"label": one.job.name, "value": text})
            environment.emit(text, error=True)
        work.problem = work.problem or error
    else:
        work.made.append(one)
        if work.purpose is not RunPurpose.PREVIEW:
            remove_failure_page(target)
        log.info("written to %s", target.path or "standard output")


def _store(work: Work, mailer: Mailer | None, written: int) -> None:
    """Store mails, history and status in one transaction.

    If the run is killed, the next one finds either all of this or none and starts over. ``written`` is the exit status
    if all mails are sent.
    """
    letters = [letter for one in work.made for letter in one.letters]
    is_recorded = work.purpose is RunPurpose.NIGHTLY
    if not letters and not is_recorded:
        return
    with work.database.writing() as connection:
        if mailer:
            mailer.outbox.add(letters, connection)
        if is_recorded:
            from evergreen_groups.follow_up import note_listed, record_outcomes, record_payments, record_stays

            record_outcomes(connection, work.promises)
            url = work.made[0].report.gateway
            for one in work.made:
                one.history.record(one.report, connection)
                record_stays(connection, url, one.report, Run.of(one.report), work.payments)
            if work.payments is not None:
                record_payments(connection, url, work.payments)
            runs = (Run.of(one.report) for one in work.made)
            note_listed(connection, url, runs, all_reports=len(work.made) == len(work.read))
        # The status that applies if the run gets no further.
        status = work.status(work.now(), exit_status.UNSENT if letters else written, work.problem)
        write_run_status(work.database, status, manual=not work.scheduled, within=connection)
    work.is_stored = work.problem is None
    if is_recorded:
        work.recorded = [one.report for one in work.made]
        log.info("recorded in the history")
        _prune(work.environment.settings, work.database)


def _prune(settings: Settings, database: Transactions) -> None:
    days = {
        "history": settings.history.keep_days,
        "journal": settings.journal.keep_days,
        "events": settings.events.keep_days,
        "follow-ups": settings.follow_up.keep_days,
    }
    for name, rows in prune(database, days, database.now()).items():
        if rows:
            log.info("%d rows of the %s were too old and are removed", rows, name)


def send(work: Work, mailer: Mailer) -> bool:
    """Send the queued mails, also those of other runs. Return False if some couldn't be sent."""
    work.delivery = delivery = mailer.deliver()
    log.info("%d mails sent", delivery.sent)
    if delivery.dropped:
        log.error("%d mails were given up: they had waited too long", delivery.dropped)
    if delivery.queued:
        log.error("%d mails are queued for the next run: %s", delivery.queued, delivery.reason)
    is_in_own_status = work.scheduled and work.made
    if delivery.is_complete and not is_in_own_status and (status := note_sent(work.database)):
        write_metrics(work.environment.settings, status, work.database)
    if held := mailer.outbox.held().count:
        log.error("%d mails of a restored backup are held: run `evergreen-groups state mails`", held)
    return delivery.is_complete
