"""``evergreen-groups letters``."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.errors import ConfigurationError, NotFoundError
from evergreen_groups.formats import format_for
from evergreen_groups.language import use_language
from evergreen_groups.settings import values
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from evergreen_groups.client import Client
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.letters import Letters
    from evergreen_groups.report import Report
    from evergreen_groups.settings import Settings

_FORMATS = ("html", "csv")


@click.command("letters")
@cli.setting_options("letters")
@click.option("--due", is_flag=True, help='Only groups with the status "to do" in the last recorded report.')
@click.option(
    "--include",
    type=cli.CheckedType(values.whole_number(1, 1_000_000_000)),
    multiple=True,
    help="Write to a family (group number) although it is closed, or waits for a promise or reminder. Repeatable.",
)
@click.option(
    "--lead-address",
    type=cli.CheckedType(values.whole_number(1, 1_000_000_000)),
    multiple=True,
    help="Send the letter to a patron (id) without an address to the group lead's, this once. Repeatable.",
)
@click.option(
    "--preview",
    type=cli.CheckedType(values.whole_number(1, 9), "number"),
    is_flag=False,
    flag_value="1",
    help="Write only one letter, as the family would get it as its first, or the one with this number.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(_FORMATS),
    help="html: letters to print, one page per family; csv: one row per person who owes, for mailing houses and "
    "collection agencies.  [default: html]",
)
@click.option(
    "--owing-since",
    type=cli.CheckedType(values.whole_number(1, 100_000, "days")),
    help="CSV: only people who have owed for at least this many days.",
)
@click.option("--collections", is_flag=True, help="CSV: leave out people whom Evergreen exempts from collections.")
@cli.output_option
@cli.json_option
@click.pass_context
def letters_command(  # noqa: PLR0913 - an option each
    context: click.Context,
    /,
    *,
    due: bool,
    include: tuple[int, ...],
    lead_address: tuple[int, ...],
    preview: int | None,
    output_format: str | None,
    owing_since: int | None,
    min_own: Decimal | None,
    collections: bool,
    output: Path | None,
    as_json: bool,
    **_setting_options: object,
) -> int:
    """Write letters to the families of the report, or a mail-merge file.

    Each adult who owes enough gets a letter; the contact's also lists what the children owe. None mentions other
    adults. [report] determines which groups get letters. At the end, the command lists what the letters cover, who gets
    none and why, and which families to check: those with other debts or hidden members. --json prints this for all
    families, with ids. Nothing is marked as sent.
    """
    from evergreen_groups.ils import OrgUnits
    from evergreen_groups.letters import Debtors, LetterChoice, Selection, read_debtors, read_letters
    from evergreen_groups.nightly import Readers, criteria_of
    from evergreen_groups.render.letters import (
        describe_coverage,
        held_back,
        letters_document,
        write_debtors,
        write_letters,
    )
    from evergreen_groups.report import build_report

    session: cli.Invocation = context.obj
    format_name = format_for(output, output_format, _FORMATS[0], _FORMATS)
    is_file = format_name == "csv"
    of_letters = {"--preview": preview, "--include": include, "--lead-address": lead_address}
    _refuse_options("html", of_letters if is_file else {})
    _refuse_options("csv", {} if is_file else {"--owing-since": owing_since, "--collections": collections})
    settings = cli.with_command_line(context, session.settings)
    if not settings.report.contact:
        raise ConfigurationError(
            "letters need contact data",
            advice="set [report] contact = true",
            setting="report.contact",
            code="letters-without-contact",
        )
    # Letters read the contact data themselves, with more of it.
    criteria = replace(criteria_of(settings.report, cli.shared_limit(settings)), details=True, contact=False)
    with session.client() as client, session.progress() as progress:
        report = build_report(client.gateway, criteria, progress, policy=settings.policy)
        configured = settings.language.language().timezone
        zones = {} if configured else OrgUnits.read_timezones(client.gateway)
        if due:
            report = _only_due(client, report, settings, zones)
        follow_ups = _follow_ups(client, report, settings, zones)
        made: Letters | Debtors
        if is_file:
            selection = Selection(min_own or ZERO, owing_since, collections)
            made = read_debtors(client.gateway, report, selection)
        else:
            held, sent = (
                held_back(follow_ups, include),
                {number: one.letters_sent for number, one in follow_ups.items()},
            )
            choice = LetterChoice(settings.letters.min_own, held, lead_address, sent, settings.letters.notes_for)
            made = read_letters(client.gateway, report, choice)
            if preview is not None:
                made = _only_first(made, preview)
    readers, upwards = (
        Readers(settings.language, report.org_units, zones),
        OrgUnits.shortnames_upwards(report.org_units),
    )
    if output is not None or not as_json:
        with session.opened(format_name, output) as stream, use_language(readers.of_all):
            if isinstance(made, Debtors):
                write_debtors(made, stream)
            else:
                write_letters(made, stream, settings.letters, readers.of_library, upwards.__getitem__)
    if as_json:
        cli.write_json(letters_document(made, follow_ups))
    elif not session.quiet and preview is None:
        click.echo("".join(f"{line}\n" for line in describe_coverage(made, follow_ups)), err=True, nl=False)
    return exit_status.INCOMPLETE if report.totals.incomplete_group_count else exit_status.DONE


def _refuse_options(needed: str, options: Mapping[str, object]) -> None:
    """Refuse options that only the format ``needed`` has."""
    for name, value in options.items():
        if value:
            raise cli.needs_option(name, f"--format {needed}")


def _only_first(made: Letters, number: int) -> Letters:
    """Return the first letter as the one with this number."""
    if not made.letters:
        raise NotFoundError(
            "the report has no family to write to", advice="choose more groups or a lower --min-own", code="no-letter"
        )
    return replace(made, letters=(replace(made.letters[0], number=number),))


def _follow_ups(
    client: Client, report: Report, settings: Settings, zones: Mapping[int, tzinfo]
) -> dict[int, FollowUpState]:
    """Return how far the follow-ups of a report's groups are. The report needn't be recorded."""
    database = client.state.database  # first, because it imports SQLAlchemy under a lock
    from evergreen_groups.follow_up import FollowUps, today_at
    from evergreen_groups.report import Run

    found = FollowUps(database, client.gateway.url).of_run(lambda: Run.of(report))
    today = today_at(database.now(), settings.language.language().timezone, zones, report.org_units)
    return {number: one.state(today, settings.follow_up.again_after) for number, one in found.items()}


def _only_due(client: Client, report: Report, settings: Settings, zones: Mapping[int, tzinfo]) -> Report:
    """Return the report of the groups whose follow-up is to do."""
    database = client.state.database  # first, because it imports SQLAlchemy under a lock
    from evergreen_groups.follow_up import FollowUps, FollowUpStatus, today_at
    from evergreen_groups.report import Totals

    found = FollowUps(database, client.gateway.url).of_report("")
    if found is None:
        raise NotFoundError(
            "no report has been recorded yet", advice="run the report first, or omit --due", code="no-recorded-report"
        )
    today = today_at(database.now(), settings.language.language().timezone, zones, report.org_units)
    due = {
        number
        for number, one in found.by_group.items()
        if one.status(today(one.group.contact_library), settings.follow_up.again_after) is FollowUpStatus.TO_DO
    }
    groups = tuple(group for group in report.groups if group.number in due)
    return replace(report, groups=groups, totals=Totals.of(groups))
