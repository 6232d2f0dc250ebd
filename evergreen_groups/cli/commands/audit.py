"""``evergreen-groups audit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.audit import FindingKind
from evergreen_groups.formats import AUDIT_FORMATS, PAGE, format_for
from evergreen_groups.language import current_language, gettext, use_language
from evergreen_groups.render.audit import HEADINGS
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.changes import PlanOutcome, StoredStep
    from evergreen_groups.client import Client
    from evergreen_groups.settings import PolicySettings

_FORMATS = ("table", "json")


def _explain_blocks(
    session: cli.Invocation, policy: PolicySettings, barcode: str, output_format: str | None, output: Path | None
) -> int:
    """Explain why the patron with this barcode is or isn't blocked.

    Write the explanation to ``output`` or standard output, and return the exit status.
    """
    from evergreen_groups.audit import BlockExplainer
    from evergreen_groups.render.audit import write_block_explanation, write_block_explanation_json

    format_name = format_for(output, output_format, "table", _FORMATS)
    if format_name not in _FORMATS:
        raise cli.conflicting_options("--explain", f"--format {format_name}")
    with session.gateway() as gateway, cli.explain_unknown_barcodes(session, gateway, [barcode]), session.progress():
        explanation = BlockExplainer(gateway, policy).of_barcode(barcode)
    language = current_language() if output is None else session.settings.language.language()
    with session.opened(format_name, output) as stream, use_language(language):
        if format_name == "json":
            write_block_explanation_json(explanation, stream)
        else:
            write_block_explanation(explanation, stream, width=cli.terminal_width())
    return exit_status.DONE if explanation.complete else exit_status.INCOMPLETE


_NUMBER = cli.CheckedType(values.whole_number(0, 2**31 - 1))
"""A 32-bit integer, as group numbers are in Evergreen."""
_TOP = {"table": 200, PAGE: 500}
"""The default number of findings to list for each kind, by format. A list of thousands isn't useful to people."""


def _help() -> str:
    """Return the command's help, which lists the kinds of findings and those that ``--fix`` resolves."""
    kinds = dict(enumerate(FindingKind, start=1))
    listed = "\n".join(f"{number}. {HEADINGS[kind]}" for number, kind in kinds.items())
    fixed = " and ".join(str(number) for number, kind in kinds.items() if kind.recalculable)
    return (
        "List what doesn't fit the rule that only a member's own fines count.\n\n"
        f"\b\n{listed}\n\n"
        f"With --fix, Evergreen recalculates the penalty for fines of the patrons in {fixed} after you confirm. Blocks "
        "set by staff are never removed."
    )


@click.command("audit", help=_help())
@click.option(
    "--org",
    "orgs",
    multiple=True,
    metavar="SHORTNAME",
    help="Only patrons of this home library or below, and their groups. Repeatable.",
)
@cli.setting_options("audit")
@cli.output_options
@click.option(
    "--explain",
    metavar="BARCODE",
    help="Explain step by step why this patron is or isn't blocked: thresholds, bills, penalties and the rule.",
)
@click.option(
    "--keep",
    "keep",
    type=_NUMBER,
    multiple=True,
    metavar="GROUP",
    help="Don't list this group as accidental or for review until its members change. Repeatable; does nothing else.",
)
@click.option(
    "--list-again",
    "list_again",
    type=_NUMBER,
    multiple=True,
    metavar="GROUP",
    help="Undo --keep for this group. Repeatable; does nothing else.",
)
@click.option(
    "--top",
    type=_NUMBER,
    metavar="NUMBER",
    help="List this many findings of each kind, and count the rest; 0: list all. Default: "
    f"{_TOP['table']} in a table, {_TOP[PAGE]} on a page, all in other formats.",
)
@click.option("--fix", is_flag=True, help="Have Evergreen recalculate the penalties that differ from the rule.")
@click.option("--yes", is_flag=True, help="With --fix: don't ask for confirmation.")
@click.option("--dry-run", is_flag=True, help="With --fix: only show whose penalties would be recalculated.")
@click.pass_context
def audit_command(  # noqa: PLR0913 - an option each
    context: click.Context,
    /,
    *,
    orgs: tuple[str, ...],
    output_format: str | None,
    as_json: bool,
    output: Path | None,
    explain: str | None,
    keep: tuple[int, ...],
    list_again: tuple[int, ...],
    top: int | None,
    fix: bool,
    yes: bool,
    dry_run: bool,
    **_limit_option: object,
) -> int:
    """Run the audit, write it, and with ``fix`` have Evergreen recalculate penalties."""
    from evergreen_groups.audit import AuditCriteria
    from evergreen_groups.client import adult_rule
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.audit import render_audit

    session: cli.Invocation = context.obj
    output_format = cli.requested_format(as_json, output_format)
    if explain is not None:
        given = {"--fix": fix, "--org": orgs, "--keep": keep, "--list-again": list_again, "--top": top is not None}
        if other := next((option for option, is_given in given.items() if is_given), None):
            raise cli.conflicting_options("--explain", other)
        settings = cli.with_command_line(context, session.settings)
        return _explain_blocks(session, settings.policy, explain, output_format, output)
    if (yes or dry_run) and not fix:
        raise cli.needs_option("--yes" if yes else "--dry-run", "--fix")
    if fix and not (yes or dry_run) and output is None and output_format not in (None, "table"):
        raise cli.needs_option(f"--fix --format {output_format}", "--output")
    if keep or list_again:
        given = {"--fix": fix, "--output": output, "--format": output_format, "--top": top is not None}
        if other := next((option for option, is_given in given.items() if is_given), None):
            raise cli.conflicting_options("--keep" if keep else "--list-again", other)
        return _mark_groups(session, keep, list_again)
    format_name = format_for(output, output_format, "table", AUDIT_FORMATS)
    settings = cli.with_command_line(context, session.settings)
    # With --fix, the terminal shows only what would be recalculated, unless the findings are asked for as well.
    lists_findings = not fix or output is not None or output_format is not None or top is not None
    top = (_TOP.get(format_name) if top is None else top) or None
    criteria = AuditCriteria(
        orgs=orgs,
        limit=cli.shared_limit(settings),
        adults=adult_rule(settings.audit),
        institution_profiles=settings.audit.institution_profiles,
        top=None if fix else top,  # recalculate all penalties, not just those of the patrons listed
    )
    with session.client() as client:
        with session.progress() as progress:
            audit = client.audit(criteria, progress)
        if lists_findings:
            # Names and groups link to the staff client. The sandbox has none.
            staff_client = None if session.use_sandbox else StaffClient.of(session.settings, audit.gateway)
            shown = audit if top is None else audit.first(top)
            # Files and pages are in the configured language, text is in the terminal's.
            is_text = output is None and format_name != PAGE
            language = current_language() if is_text else session.settings.language.language()
            with session.opened(format_name, output) as stream, use_language(language):
                render_audit(shown, format_name, stream, client=staff_client)
        status = exit_status.DONE if audit.complete else exit_status.INCOMPLETE
        return _fix(session, client, audit, yes=yes, dry_run=dry_run) or status if fix else status


def _mark_groups(session: cli.Invocation, keep: tuple[int, ...], list_again: tuple[int, ...]) -> int:
    """Mark groups to be kept as they are, or remove that mark."""
    with session.client() as client:
        client.keep_groups(keep)
        count = client.list_groups_again(list_again)
    unlisted, listed = (
        ", ".join(gettext("group {group}", group=one) for one in groups) for groups in (keep, list_again)
    )
    if keep:
        click.echo(gettext("Not listed again until the members change: {groups}.", groups=unlisted), err=True)
    if list_again:
        text = gettext(
            "Marks removed: {count:,} of {all:,} ({groups}).", count=count, all=len(list_again), groups=listed
        )
        click.echo(text, err=True)
    return exit_status.DONE


def _fix(session: cli.Invocation, client: Client, audit: Audit, *, yes: bool, dry_run: bool) -> int:
    """Show whose penalties would be recalculated, ask, recalculate, and report the changes."""
    from evergreen_groups.changes import over_limit_of, recalculable
    from evergreen_groups.render.audit import write_recalculation_plan, write_recalculations

    findings = recalculable(audit)
    write_recalculation_plan(findings, sys.stderr)
    if not findings:
        return exit_status.DONE
    if dry_run or (not yes and not cli.confirmed(gettext("Continue?"))):
        click.echo(gettext("Nothing was changed."), err=True)
        return exit_status.DONE
    with session.progress() as progress:
        outcome = client.changes.recalculate(over_limit_of(findings), progress)
    write_recalculations(findings, outcome, sys.stderr)
    return _status(outcome)


def _status(outcome: PlanOutcome[StoredStep]) -> int:
    """Return the exit status: of the error that stopped the run, else of a patron's error, else failed or done."""
    from evergreen_groups.changes import StepState

    if outcome.stopped is not None:
        return cli.logs.emit_interruption(outcome.stopped)
    statuses = [exit_status.for_error(step.error) for step in outcome.steps if step.error is not None]
    failed = any(step.state in (StepState.FAILED, StepState.SENDING) for step in outcome.steps)
    return max(statuses, default=exit_status.FAILED if failed else exit_status.DONE)
