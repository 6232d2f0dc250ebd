"""``evergreen-groups report``."""

from __future__ import annotations

from pathlib import Path

import click

from evergreen_groups.cli import Checked, Invocation
from evergreen_groups.formats import REPORT_FORMATS, SPLITS, TEXT_FORMATS
from evergreen_groups.report import SORT_ORDERS
from evergreen_groups.settings import values

_FILES_ONLY = [name for name in REPORT_FORMATS if name not in TEXT_FORMATS]


@click.command("report")
@click.option(
    "--min-total",
    type=Checked("amount", values.amount_above_zero),
    help="List groups that together owe this much or more (25.00).",
)
@click.option(
    "--min-members",
    type=Checked("number", values.whole_number(1, 1_000_000)),
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
    "--top", type=Checked("number", values.whole_number(1, 1_000_000)), help="Only this many, the worst ones."
)
@click.option("--sort", type=click.Choice(SORT_ORDERS), default="total", show_default=True, help="Order of the groups.")
@click.option(
    "--limit",
    type=Checked("amount", values.limit),
    help='The limit of one person\'s own fines, or "none" (5.00). It decides who is marked as over the limit.',
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(REPORT_FORMATS),
    help=f"Output format (table); {', '.join(_FILES_ONLY)} goes with --output only.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write to this file, readable by its owner alone, instead of standard output. Its ending chooses the format "
    "where --format doesn't. With --split library it is a directory.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    help="library: --output is a directory that gets a file for each library and format, in a directory for each day, "
    "with an index page and a link to the latest (none).",
)
@click.option("--details/--no-details", default=True, show_default=True, help="With or without the members.")
@click.option("--bom", is_flag=True, help="CSV: begin with a byte order mark, for spreadsheets that need one.")
@click.option(
    "--history/--no-history",
    default=True,
    help="Keep this run's figures for the next one to compare with (--history), or only look: compare, and leave alone "
    "the history, the status, and the output that is configured.",
)
@click.option("--mail", is_flag=True, help="Send it to the recipients in [mail] of the configuration.")
@click.option(
    "--deadline",
    type=Checked("seconds", values.whole_number(1, 86_400)),
    help="End the run after this many seconds, whatever it waits for (3600).",
)
@click.option(
    "--healthcheck-url",
    type=Checked("url", values.url),
    help="Call this address when the run has ended well, and the same with /fail when it has not.",
)
@click.pass_context
def report_command(
    context: click.Context,
    /,
    *,
    history: bool,
    mail: bool,
    split: str | None,
    healthcheck_url: str | None,
    **_options: object,
) -> int:
    """List the groups whose members together owe --min-total or more, worst first.

    The combined fines are for information only: they block nobody. Members are marked who are over the limit by their
    own fines. Each group is shown with what changed since the last run.
    """
    from evergreen_groups.cli.commands.report_options import chosen
    from evergreen_groups.nightly import ReportRun

    if not history and (mail or split == "library"):
        raise click.UsageError("--no-history only looks: it goes with neither --mail nor --split library.")
    session: Invocation = context.obj
    if mail and session.use_sandbox:
        raise click.UsageError("--sandbox has made-up families: it doesn't go with --mail.")
    run = ReportRun(
        session, lambda: chosen(context, session.settings), recorded=history, healthcheck_url=healthcheck_url
    )
    return run()
