"""``evergreen-groups report``."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import FILE_FORMATS, TEXT_FORMATS, format_for, format_of_file, is_document, output_format
from evergreen_groups.nightly import ReportJob, ReportOptions, RunPurpose, Target, choice_of, criteria_of, named_job

if TYPE_CHECKING:
    from evergreen_groups.settings import Settings


@click.command("report")
@cli.setting_options("report")
@cli.json_option
@click.option(
    "--over-limit/--within-limit",
    default=None,
    help="Only groups with a member over the limit, or only groups without one.",
)
@click.option(
    "--details",
    is_flag=False,
    flag_value="full",
    type=click.Choice(("full", "sums")),
    help="full: what is owed for, since when, and items out; sums: only the amounts.  [default: full]",
)
@click.option("--no-members", "members", flag_value=False, default=True, help="List groups without their members.")
@click.option("--bom", is_flag=True, help="CSV: start with a byte order mark, which some spreadsheets need.")
@click.option(
    "--history/--no-history",
    default=None,
    help="--history: record this run for the next one to compare with, as timers do by default. --no-history: don't "
    "record it, and don't write the configured output. Without either, a run at a terminal writes the configured "
    "output, but isn't recorded.",
)
@click.option(
    "--scheduled/--manual",
    default=None,
    help="A scheduled run is what status, doctor and monitoring look at; use --scheduled in timers and crontabs. "
    "By default, a run at a terminal is manual: status mentions it, but doesn't count it.",
)
@click.option("--mail", is_flag=True, help="Mail the report to the recipients in [mail].")
@click.pass_context
def report_command(
    context: click.Context,
    /,
    *,
    history: bool | None,
    scheduled: bool | None,
    mail: bool,
    split: str | None,
    healthcheck_url: str | None,
    deadline: int | None,
    **_options: object,
) -> int:
    """List the groups with combined fines of --min-total or more, highest first.

    Combined fines are for information only: only a member's own fines count toward the limit. Members over the limit
    are marked. Each group is shown with what changed since the last run.
    """
    from evergreen_groups.nightly import ReportRun

    # A run makes hundreds of thousands of objects, keeps most until the end, and has hardly any reference cycles. With
    # the default threshold of 700 objects, garbage collection takes an eighth of the run's time.
    gc.set_threshold(50_000, 20, 20)
    if history is False and (mail or split == "library"):
        raise cli.conflicting_options("--no-history", "--mail" if mail else "--split library")
    if history is False and scheduled:
        raise cli.conflicting_options("--no-history", "--scheduled")
    cli.requested_format(context.params["as_json"], context.params["format"])
    session: cli.Invocation = context.obj
    if session.use_sandbox and (mail or scheduled):
        raise cli.conflicting_options("--sandbox", "--mail" if mail else "--scheduled")
    if history is False:
        purpose = RunPurpose.PREVIEW
    else:
        manual = sys.stderr.isatty() if scheduled is None else not scheduled
        purpose = RunPurpose.AT_TERMINAL if history is None and manual else RunPurpose.NIGHTLY
    # Timers and crontabs start commands without a terminal. Users who redirect all three streams chose that.
    at_terminal = any(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    run = ReportRun(
        session,
        lambda: report_options(context, session.settings, purpose),
        purpose=purpose,
        scheduled=scheduled if scheduled is not None else purpose is RunPurpose.NIGHTLY and not at_terminal,
        healthcheck_url=healthcheck_url,
        deadline=deadline,
    )
    return run()


def report_options(context: click.Context, settings: Settings, purpose: RunPurpose) -> ReportOptions:
    """Return what this run is to do.

    With ``--no-history``, configured output is left alone. The reports in ``[[reports]]`` are only made by nightly
    runs.
    """
    wanted = cli.with_command_line(context, settings)
    mails, over_limit = context.params["mail"], context.params["over_limit"]
    choice = choice_of(wanted.report)
    main = ReportJob(
        criteria=replace(
            criteria_of(wanted.report, cli.shared_limit(wanted)),
            choice=choice if over_limit is None else replace(choice, over_limit=over_limit),
            details=(context.params["details"] or wanted.report.details) == "full",
        ),
        target=_target(context, settings),
        mail=settings.mail if mails else None,
    )
    named = [
        named_job(report, settings, limit=cli.shared_limit(settings), mails=mails)
        for report in (settings.reports if purpose is RunPurpose.NIGHTLY else ())
    ]
    return ReportOptions(
        jobs=(main, *named), deadline=wanted.report.deadline, healthcheck_url=wanted.report.healthcheck_url
    )


def _target(context: click.Context, settings: Settings) -> Target:
    given, configured = context.params, settings.report
    wanted = cli.requested_format(given["as_json"], given["format"])
    only_looks = given["history"] is False
    path = given["output"] or (None if only_looks else configured.output)
    # A name like today.html means a single file. So does today.pdf, which is then rejected as a format.
    as_one_file = only_looks or format_of_file(given["output"]) or is_document(given["output"])
    split = (given["split"] or ("none" if as_one_file else configured.split)) == "library"
    details, bom = given["members"], given["bom"]
    if not split:
        # The configured format applies to the configured file. Another file's ending determines its own.
        otherwise = TEXT_FORMATS[0] if given["output"] and given["output"].suffix else configured.format
        name = format_for(path, wanted, otherwise)
        chosen_format = output_format(name)
        if chosen_format.binary and path is None:
            raise ConfigurationError(
                "the format {format} needs a file",
                advice="set [report] output, or use --output",
                setting="report.output",
                code="format-not-for-terminal",
                values={"format": chosen_format.name},
            )
        return Target(path, (name,), details=details, bom=bom, dialect=configured.csv)
    if path is None:
        raise ConfigurationError(
            "a report per library needs a directory",
            advice="set [report] output, or use --output",
            setting="report.output",
            code="split-without-directory",
        )
    if wanted not in (None, *FILE_FORMATS):
        raise ConfigurationError(
            "a report per library can only be written as {formats}",
            setting="report.formats",
            code="split-format-unknown",
            values={"formats": ", ".join(FILE_FORMATS)},
        )
    formats = (wanted,) if wanted else configured.formats
    return Target(
        path, formats, split=True, keep_days=configured.keep_days, details=details, bom=bom, dialect=configured.csv
    )
