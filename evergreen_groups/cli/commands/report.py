"""``evergreen-groups report``."""

from __future__ import annotations

import gc
import os
import sys

import click

from evergreen_groups import cli
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import FILE_FORMATS, TEXT_FORMATS, format_for, format_of_file, is_document, output_format
from evergreen_groups.nightly import ReportJob, ReportOptions, RunPurpose, Target, criteria_of, named_job, target_of
from evergreen_groups.settings import Settings, declared, reading, value_of, with_values

_SOURCES = ("gateway.url", "gateway.username", "gateway.workstation")
"""Settings that decide what a report can see."""
_CONTENT = {setting.key for setting in declared(Settings) if setting.section == "report"} - {
    *("report.output", "report.format", "report.formats", "report.keep_days"),  # formats are compared as written
    *("report.deadline", "report.hours_between_runs", "report.healthcheck_url"),
}
"""Settings that decide what a report says."""


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
    "--publish",
    is_flag=True,
    help="Write the configured output even if this run differs from the configuration. Without it, such a run at a "
    "terminal prints the report instead.",
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
    publish = context.params["publish"]
    if history is False and (mail or split == "library"):
        raise cli.conflicting_options("--no-history", "--mail" if mail else "--split library")
    if history is False and (scheduled or publish):
        raise cli.conflicting_options("--no-history", "--scheduled" if scheduled else "--publish")
    if publish and context.params["output"]:
        raise cli.conflicting_options("--output", "--publish")
    cli.requested_format(context.params["as_json"], context.params["format"])
    session: cli.Invocation = context.obj
    if session.use_sandbox and (mail or scheduled):
        raise cli.conflicting_options("--sandbox", "--mail" if mail else "--scheduled")
    if publish and session.use_sandbox and session.sandbox_file is None:
        raise cli.conflicting_options("--sandbox", "--publish")
    # Timers and crontabs start commands without a terminal. Users who redirect all three streams chose that.
    at_terminal = any(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    if history is False:
        purpose = RunPurpose.PREVIEW
    else:
        manual = at_terminal if scheduled is None else not scheduled
        purpose = RunPurpose.AT_TERMINAL if history is None and manual else RunPurpose.NIGHTLY
    run = ReportRun(
        session,
        lambda: report_options(context, session, purpose),
        purpose=purpose,
        scheduled=scheduled if scheduled is not None else purpose is RunPurpose.NIGHTLY and not at_terminal,
        healthcheck_url=healthcheck_url,
        deadline=deadline,
    )
    return run()


def report_options(context: click.Context, session: cli.Invocation, purpose: RunPurpose) -> ReportOptions:
    """Return what this run is to do.

    Configured output is left alone with ``--no-history``, and by a run at a terminal that differs from the
    configuration. The reports in ``[[reports]]`` are only made by nightly runs.
    """
    settings, mails = session.settings, context.params["mail"]
    wanted = _wanted(context, settings)
    differences: tuple[str, ...] = ()
    own_output = context.params["output"] or context.params["publish"]
    if purpose is RunPurpose.AT_TERMINAL and settings.report.output is not None and not own_output:
        differences = _differences(context, wanted, _configuration(session))
    target = _target(context, settings, RunPurpose.PREVIEW if differences else purpose)
    if target.path is not None and not context.params["output"]:
        session.check_output(target.path, writes=True)
    main = ReportJob(
        criteria=criteria_of(wanted.report, cli.shared_limit(wanted)),
        target=target,
        mail=settings.mail if mails else None,
    )
    named = [
        named_job(report, settings, limit=cli.shared_limit(settings), mails=mails)
        for report in (settings.reports if purpose is RunPurpose.NIGHTLY else ())
    ]
    return ReportOptions((main, *named), wanted.report.deadline, wanted.report.healthcheck_url, differences)


def _wanted(context: click.Context, settings: Settings) -> Settings:
    """Return the settings overridden by the command line."""
    details, over_limit = context.params["details"], context.params["over_limit"]
    changes = {} if details is None else {"report.details": details}
    if over_limit is not None:
        changes["report.over_limit"] = "somebody" if over_limit else "nobody"
    return with_values(cli.with_command_line(context, settings), changes)


def _configuration(session: cli.Invocation) -> Settings:
    """Return the configuration that the output belongs to: the file alone, unless the environment names the output."""
    names = [name for name in os.environ if not name.startswith(reading.PREFIX) or name == reading.CONFIG_VARIABLE]
    in_file = reading.read(session.config_file, {name: os.environ[name] for name in names}).valid_settings
    return in_file if in_file.report.output == session.settings.report.output else session.settings


def _differences(context: click.Context, wanted: Settings, configured: Settings) -> tuple[str, ...]:
    """Return in which settings and options a run differs from the configuration."""
    given = context.params
    found = [*([] if given["members"] else ["--no-members"]), *(["--bom"] if given["bom"] else [])]
    requested = cli.requested_format(given["as_json"], given["format"])
    if requested is not None and target_of(configured.report).formats != (requested,):
        found.append("report.formats")
    for setting in declared(Settings):
        value, usual = value_of(wanted, setting), value_of(configured, setting)
        # A server or an account that only the environment names is the configured one.
        is_source = setting.key in _SOURCES and usual is not None
        if value != usual and (is_source or setting.section == "policy" or setting.key in _CONTENT):
            found.append(setting.key)
    return tuple(found)


def _target(context: click.Context, settings: Settings, purpose: RunPurpose) -> Target:
    given, configured = context.params, settings.report
    wanted = cli.requested_format(given["as_json"], given["format"])
    only_looks = purpose is RunPurpose.PREVIEW
    path = given["output"] or (None if only_looks else configured.output)
    # A name like today.html means a single file. So does today.pdf, which is then rejected as a format.
    as_one_file = only_looks or format_of_file(given["output"]) or is_document(given["output"])
    split = (given["split"] or ("none" if as_one_file else configured.split)) == "library"
    details, bom = given["members"], given["bom"]
    advice = "set [report] output, or use --output"
    if configured.output and given["history"] is not False:
        advice = "use --output, or --publish"
    if not split:
        # The configured format applies to the configured file. Another file's ending determines its own.
        otherwise = TEXT_FORMATS[0] if given["output"] and given["output"].suffix else configured.format
        if path is None and configured.output is not None and output_format(otherwise).binary:
            otherwise = TEXT_FORMATS[0]
        name = format_for(path, wanted, otherwise)
        chosen_format = output_format(name)
        if chosen_format.binary and path is None:
            raise ConfigurationError(
                "the format {format} needs a file",
                advice=advice,
                setting="report.output",
                code="format-not-for-terminal",
                values={"format": chosen_format.name},
            )
        return Target(path, (name,), details=details, bom=bom, dialect=configured.csv)
    if path is None:
        raise ConfigurationError(
            "a report per library needs a directory",
            advice=advice,
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
    # Only the report of the night deletes older editions.
    keep_days = configured.keep_days if purpose is RunPurpose.NIGHTLY else None
    return Target(path, formats, split=True, keep_days=keep_days, details=details, bom=bom, dialect=configured.csv)
