"""``evergreen-groups audit``."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from evergreen_groups import exit_status
from evergreen_groups.audit import FindingKind
from evergreen_groups.cli import (
    Invocation,
    confirmed,
    explain_unknown_barcodes,
    logs,
    output_options,
    requested_format,
    setting_options,
    shared_limit,
    terminal_width,
    usage_error,
    with_command_line,
)
from evergreen_groups.formats import AUDIT_FORMATS, PAGE, format_for
from evergreen_groups.language import current_language, gettext, use_language
from evergreen_groups.message import Message
from evergreen_groups.render.audit import HEADINGS

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.changes import PlanOutcome, StoredStep
    from evergreen_groups.client import Client
    from evergreen_groups.settings import PolicySettings

_FORMATS = ("table", "json")


def _explain_blocks(
    session: Invocation, policy: PolicySettings, barcode: str, output_format: str | None, output: Path | None
) -> int:
    """Explain why the patron with this barcode is or isn't blocked.

    Write the explanation to ``output`` or standard output, and return the exit status.
    """
    from evergreen_groups.audit import BlockExplainer
    from evergreen_groups.render.audit import write_block_explanation, write_block_explanation_json

    format_name = format_for(output, output_format, "table", _FORMATS)
    if format_name not in _FORMATS:
        raise usage_error(Message("--explain is written as table or json."))
    with session.gateway() as gateway, explain_unknown_barcodes(session, gateway, [barcode]), session.progress():
        explanation = BlockExplainer(gateway, policy).of_barcode(barcode)
    language = current_language() if output is None else session.settings.language.language()
    with use_language(language), _opened(session, format_name, output) as stream:
        if format_name == "json":
            write_block_explanation_json(explanation, stream)
        else:
            write_block_explanation(explanation, stream, width=terminal_width())
    if output is not None:
        session.summarise(Message("written: {path}", values={"path": output}))
    return exit_status.DONE if explanation.complete else exit_status.INCOMPLETE


def _opened(session: Invocation, format_name: str, output: Path | None) -> AbstractContextManager[TextIO]:
    """Open the file to write, readable by its owner alone, or standard output."""
    from evergreen_groups.state import write_atomically

    return session.output(format_name) if output is None else write_atomically(output)


_GROUP_NUMBER = click.IntRange(min=0, max=2**31 - 1)
"""A group's number, which is a 32-bit integer in Evergreen."""
_TOP = {"table": 200, PAGE: 500}
"""The default number of findings to list for each kind, by format. A list of thousands isn't useful to people."""


def _help() -> str:
    """Return the command's help, which lists the kinds of findings and those that ``--fix`` resolves."""
    kinds = dict(enumerate(FindingKind, start=1))
    listed = "\n".join(f"{number}. {HEADINGS[kind]}" for number, kind in kinds.items())
    fixed = " and ".join(str(number) for number, kind in kinds.items() if kind.recalculable)
    return (
        "List what stands in the ILS and doesn't fit the rule that only own fines block a member.\n\n"
        f"\b\n{listed}\n\n"
        f"With --fix the ILS recalculates the penalties of {fixed}, after showing whose and asking. Blocks that "
        "staff set are never removed."
    )


@click.command("audit", help=_help())
@click.option(
    "--org",
    "orgs",
    multiple=True,
    metavar="SHORTNAME",
    help="Only patrons of this home library or below, and groups with a member of it. Repeatable.",
)
@setting_options("audit")
@output_options
@click.option(
    "--explain",
    metavar="BARCODE",
    help="Of this one patron alone: step by step which threshold counts which bills, what Evergreen does, what stands "
    "there, and what the rule says.",
)
@click.option(
    "--keep",
    "keep",
    type=_GROUP_NUMBER,
    multiple=True,
    metavar="GROUP",
    help="Keep this group as it is: it isn't listed as accidental or for review as long as its members are the same. "
    "Repeatable; nothing else is done.",
)
@click.option(
    "--list-again",
    "list_again",
    type=_GROUP_NUMBER,
    multiple=True,
    metavar="GROUP",
    help="List this group again, which was to be kept as it is. Repeatable; nothing else is done.",
)
@click.option(
    "--top",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="List the first so many findings of each kind (who owes most, the surest groups), and count the others; "
    f"0: list all. Without it, {_TOP['table']} in a table, {_TOP[PAGE]} on a page, and all in a file for programs.",
)
@click.option("--fix", is_flag=True, help="Have the ILS recalculate the penalties that differ from the rule.")
@click.option("--yes", is_flag=True, help="With --fix: do it without asking, for scripts.")
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

    session: Invocation = context.obj
    output_format = requested_format(as_json, output_format)
    if explain is not None:
        if fix or orgs or keep or list_again or top is not None:
            raise usage_error(
                Message("--explain is about one patron, and changes nothing: leave out the other options.")
            )
        settings = with_command_line(context, session.settings)
        return _explain_blocks(session, settings.policy, explain, output_format, output)
    if (yes or dry_run) and not fix:
        raise usage_error(Message("--yes and --dry-run go with --fix."))
    if fix and not (yes or dry_run) and output is None and output_format not in (None, "table"):
        raise usage_error(Message("--fix asks on the terminal: write the audit to a file with --output, or add --yes."))
    if keep or list_again:
        if fix or output is not None or output_format is not None or top is not None:
            raise usage_error(Message("--keep and --list-again go with nothing else."))
        return _mark_groups(session, keep, list_again)
    format_name = format_for(output, output_format, "table", AUDIT_FORMATS)
    settings = with_command_line(context, session.settings)
    top = (_TOP.get(format_name) if top is None else top) or None
    criteria = AuditCriteria(
        orgs=orgs,
        limit=shared_limit(settings),
        adults=adult_rule(settings.audit),
        institution_profiles=settings.audit.institution_profiles,
        top=None if fix else top,  # recalculate all penalties, not just those of the patrons listed
    )
    with session.client() as client:
        with session.progress() as progress:
            audit = client.audit(criteria, progress)
        # Names and groups link to the staff client. The sandbox has none.
        staff_client = None if session.use_sandbox else StaffClient.of(session.settings, audit.gateway)
        shown = audit if top is None else audit.first(top)
        # Files and pages are in the configured language, text is in the terminal's.
        is_text = output is None and format_name != PAGE
        language = current_language() if is_text else session.settings.language.language()
        with use_language(language), _opened(session, format_name, output) as stream:
            render_audit(shown, format_name, stream, client=staff_client)
        if output is not None:
            count = {"count": sum(audit.count(kind) for kind in FindingKind)}
            findings = Message("{count} finding", plural="{count} findings", values=count)
            session.summarise(Message("written: {path} ({findings})", values={"path": output, "findings": findings}))
        status = exit_status.DONE if audit.complete else exit_status.INCOMPLETE
        return _fix(session, client, audit, yes=yes, dry_run=dry_run) or status if fix else status


def _mark_groups(session: Invocation, keep: tuple[int, ...], list_again: tuple[int, ...]) -> int:
    """Mark groups to be kept as they are, or remove that mark."""
    with session.client() as client:
        client.keep_groups(keep)
        count = client.list_groups_again(list_again)
    unlisted, listed = (
        ", ".join(gettext("group {group}", group=one) for one in groups) for groups in (keep, list_again)
    )
    if keep:
        click.echo(
            gettext("Not listed again as long as the members are the same: {groups}.", groups=unlisted), err=True
        )
    if list_again:
        text = gettext(
            "Had been marked to be kept: {count:,} of {all:,} ({groups}).",
            count=count,
            all=len(list_again),
            groups=listed,
        )
        click.echo(text, err=True)
    return exit_status.DONE


def _fix(session: Invocation, client: Client, audit: Audit, *, yes: bool, dry_run: bool) -> int:
    """Show whose penalties would be recalculated, ask, recalculate, and report the changes."""
    from evergreen_groups.changes import over_limit_of, recalculable
    from evergreen_groups.render.audit import write_recalculation_plan, write_recalculations

    findings = recalculable(audit)
    write_recalculation_plan(findings, sys.stderr)
    if not findings or dry_run:
        return exit_status.DONE
    if not yes and not confirmed(gettext("Do it?")):
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
        text = Message("{problem}; the same command carries on where it stopped", values={"problem": outcome.stopped})
        logs.emit(text, error=True)
        return exit_status.for_interruption(outcome.stopped)
    statuses = [exit_status.for_error(step.error) for step in outcome.steps if step.error is not None]
    failed = any(step.state in (StepState.FAILED, StepState.SENDING) for step in outcome.steps)
    return max(statuses, default=exit_status.FAILED if failed else exit_status.DONE)
