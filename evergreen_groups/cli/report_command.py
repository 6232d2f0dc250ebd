"""``evergreen-groups report``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evergreen_groups import converters
from evergreen_groups.cli import exit_codes
from evergreen_groups.cli.options import Checked, output_options
from evergreen_groups.cli.output import format_of, standard_output
from evergreen_groups.cli.session import Session
from evergreen_groups.models import SORT_ORDERS, Criteria
from evergreen_groups.policy import Limit

if TYPE_CHECKING:
    from evergreen_groups.config import Settings
    from evergreen_groups.models import Report


@click.command("report", short_help="List the groups whose members together owe a lot.")
@click.option(
    "--min-total",
    type=Checked("amount", converters.amount_above_zero),
    help="List groups that together owe this much or more (25.00).",
)
@click.option(
    "--min-members",
    type=Checked("number", converters.whole_number(1, 1_000_000)),
    help="List groups of this many members or more (2).",
)
@click.option(
    "--org",
    "orgs",
    multiple=True,
    metavar="SHORTNAME",
    help="Only groups with a member at home here or below; the total stays the whole group's. Repeatable.",
)
@click.option(
    "--top", type=Checked("number", converters.whole_number(1, 1_000_000)), help="Only this many, the worst ones."
)
@click.option("--sort", type=click.Choice(SORT_ORDERS), default="total", show_default=True, help="Order of the groups.")
@click.option(
    "--limit",
    type=Checked("amount", converters.limit),
    help='The limit of one person\'s own fines, or "none" (5.00). It decides who is marked as over the limit.',
)
@output_options
@click.option("--details/--no-details", default=True, show_default=True, help="With or without the members.")
@click.option("--bom", is_flag=True, help="CSV: begin with a byte order mark, for spreadsheets that need one.")
@click.pass_context
def command(
    context: click.Context,
    /,
    output_format: str | None,
    output: Path | None,
    details: bool,
    bom: bool,
    **_criteria: object,
) -> int:
    """List the groups whose members together owe --min-total or more, worst first.

    The combined fines are for information only: they block nobody. Members are marked who are over the limit by their
    own fines.
    """
    from evergreen_groups.cli.terminal import terminal_progress
    from evergreen_groups.report import build_report

    session: Session = context.obj
    settings = session.settings
    output = output or settings.report.output
    chosen_format = output_format or format_of(output) or settings.report.format
    with session.gateway() as gateway, terminal_progress(quiet=session.quiet) as progress:
        report = build_report(gateway, criteria(context, settings), progress)
    _write(report, chosen_format, output, details=details, bom=bom)
    if not session.quiet:
        for note in report.notes:
            click.echo(f"evergreen-groups: {note}", err=True)
    return exit_codes.INCOMPLETE if report.totals.incomplete_group_count else exit_codes.DONE


def criteria(context: click.Context, settings: Settings) -> Criteria:
    """The configuration's criteria, with what the command line says in their place."""

    def chosen(option: str, configured: Any) -> Any:
        given = context.get_parameter_source(option) is ParameterSource.COMMANDLINE
        return context.params[option] if given else configured

    return Criteria(
        min_total=chosen("min_total", settings.report.min_total),
        min_members=chosen("min_members", settings.report.min_members),
        orgs=chosen("orgs", settings.report.orgs),
        top=context.params["top"],
        sort=context.params["sort"],
        limit=_limit(context, settings),
    )


def _limit(context: click.Context, settings: Settings) -> Limit:
    """The one limit: the command line's amount, otherwise the configuration's."""
    if context.get_parameter_source("limit") is ParameterSource.COMMANDLINE:
        return Limit(context.params["limit"], settings.policy.comparison)
    return settings.policy.as_limit()


def _write(report: Report, output_format: str, output: Path | None, *, details: bool, bom: bool) -> None:
    from evergreen_groups.cli.terminal import width
    from evergreen_groups.render import render

    if output is not None:
        from evergreen_groups.files import write_atomically

        with write_atomically(output) as stream:
            render(report, output_format, stream, details=details, width=width(), bom=bom)
        return
    color = output_format == "table" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    stream = standard_output(output_format)
    render(report, output_format, stream, details=details, width=width(), color=color, bom=bom)
    stream.flush()
