"""``evergreen-groups report``."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import click

from evergreen_groups.cli import Invocation, at_terminal, format_given, json_option, setting_options, usage_error
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.nightly import RunPurpose


@click.command("report")
@setting_options("report")
@json_option
@click.option(
    "--over-limit/--within-limit",
    default=None,
    help="Only groups with a member over their own limit, or only those with none, who are often worried about for "
    "nothing.",
)
@click.option(
    "--details",
    is_flag=False,
    flag_value="full",
    type=click.Choice(("full", "sums")),
    help="full: with what is owed for, since when, and what is out; sums: only what is owed (full).",
)
@click.option("--no-details", "members", flag_value=False, default=True, help="Without the members.")
@click.option("--bom", is_flag=True, help="CSV: begin with a byte order mark, for spreadsheets that need one.")
@click.option(
    "--history/--no-history",
    default=None,
    help="Keep this run's figures for the next one to compare with (--history), or only look: compare, and leave alone "
    "the history, the status, and the output that is configured. Without either, the figures are kept unless standard "
    "error is a terminal: what somebody makes in the afternoon isn't what tonight is compared with.",
)
@click.option(
    "--scheduled/--manual",
    default=None,
    help="This is the run that was scheduled, which status, doctor and monitoring are about (--scheduled: for timers "
    "and crontabs), or one beside it, which status only mentions (--manual). Without either, it is a manual one where "
    "standard input, output or error is a terminal.",
)
@click.option("--mail", is_flag=True, help="Send it to the recipients in [mail] of the configuration.")
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
    """List the groups whose members together owe --min-total or more, highest combined fines first.

    The combined fines are for information only: they block nobody. Members are marked who are over the limit by their
    own fines. Each group is shown with what changed since the last run.
    """
    from evergreen_groups.cli.commands.report_options import chosen
    from evergreen_groups.nightly import ReportRun, RunPurpose

    # A run makes hundreds of thousands of objects, keeps most to its end, and hardly any in circles: looking for those
    # every 700 objects, as is usual, takes an eighth of its time.
    gc.set_threshold(50_000, 20, 20)
    if history is False and (mail or split == "library"):
        raise usage_error(Message("--no-history only looks: it goes with neither --mail nor --split library."))
    if history is False and scheduled:
        raise usage_error(Message("--no-history only looks: it doesn't go with --scheduled."))
    format_given(context.params["as_json"], context.params["format"])
    session: Invocation = context.obj
    if session.use_sandbox and (mail or scheduled):
        refused = "--mail" if mail else "--scheduled"
        raise usage_error(
            Message("--sandbox has sample data: it doesn't go with {option}.", values={"option": refused})
        )
    purpose = _purpose(history, scheduled)
    run = ReportRun(
        session,
        lambda: chosen(context, session.settings, purpose),
        purpose=purpose,
        scheduled=scheduled if scheduled is not None else purpose is RunPurpose.NIGHTLY and not at_terminal(),
        healthcheck_url=healthcheck_url,
        deadline=deadline,
    )
    return run()


def _purpose(history: bool | None, scheduled: bool | None) -> RunPurpose:
    """What the run is for: as it was said, else by whether somebody sits there."""
    from evergreen_groups.nightly import RunPurpose

    if history is False:
        return RunPurpose.LOOK
    manual = sys.stderr.isatty() if scheduled is None else not scheduled
    return RunPurpose.AT_TERMINAL if history is None and manual else RunPurpose.NIGHTLY
