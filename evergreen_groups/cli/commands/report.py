"""``evergreen-groups report``."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import click

from evergreen_groups.cli import Invocation, format_given, json_option, setting_options, usage_error
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
    "the history, the status, and the output that is configured. Without either, the figures and the status are kept "
    "unless standard error is a terminal: what somebody makes in the afternoon isn't what tonight is compared with.",
)
@click.option("--mail", is_flag=True, help="Send it to the recipients in [mail] of the configuration.")
@click.pass_context
def report_command(
    context: click.Context,
    /,
    *,
    history: bool | None,
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
    from evergreen_groups.nightly import ReportRun

    # A run makes hundreds of thousands of objects, keeps most to its end, and hardly any in circles: looking for those
    # every 700 objects, as is usual, takes an eighth of its time.
    gc.set_threshold(50_000, 20, 20)
    if history is False and (mail or split == "library"):
        raise usage_error(Message("--no-history only looks: it goes with neither --mail nor --split library."))
    format_given(context.params["as_json"], context.params["format"])
    session: Invocation = context.obj
    if mail and session.use_sandbox:
        raise usage_error(Message("--sandbox has sample data: it doesn't go with --mail."))
    purpose = _purpose(history)
    run = ReportRun(
        session,
        lambda: chosen(context, session.settings, purpose),
        purpose=purpose,
        healthcheck_url=healthcheck_url,
        deadline=deadline,
    )
    return run()


def _purpose(history: bool | None) -> RunPurpose:
    """What the run is for: as it was said, else by whether somebody sits there."""
    from evergreen_groups.nightly import RunPurpose

    if history is False:
        return RunPurpose.LOOK
    at_terminal = history is None and sys.stderr.isatty()
    return RunPurpose.AT_TERMINAL if at_terminal else RunPurpose.NIGHTLY
