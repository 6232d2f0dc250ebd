"""``evergreen-groups results``."""

from __future__ import annotations

from pathlib import Path

import click

from evergreen_groups import cli


@click.command("results")
@click.option("--report", "name", default="", metavar="NAME", help="A report in [[reports]] instead of [report].")
@click.option(
    "--xlsx",
    "workbook",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a spreadsheet to this file, readable only by its owner.",
)
@cli.json_option
@click.pass_obj
def results_command(invocation: cli.Invocation, name: str, workbook: Path | None, as_json: bool) -> None:
    """Show what the work with the families of a report achieved, by month.

    That is how many were contacted, how many promises were kept and broken, what contacted families and others paid
    within 30, 60 and 90 days, and who left the list and why. --json and --xlsx also have weeks, and each library.
    Amounts are payments in Evergreen that the nightly report has read. Contacted families differ from others, so the
    figures don't show what contacting achieves.
    """
    from evergreen_groups.render import results_document, write_results, write_results_workbook

    if as_json and workbook is not None:
        raise cli.conflicting_options("--json", "--xlsx")
    with invocation.client() as client:
        database = client.state.database  # first, because it imports SQLAlchemy under a lock
        from evergreen_groups.follow_up import FollowUps, Stays, reckon, timezone_at
        from evergreen_groups.ils import OrgUnits

        url, configured = client.gateway.url, invocation.settings.language.language().timezone
        zones = {} if configured else OrgUnits.read_timezones(client.gateway)
        zone_of = timezone_at(configured, zones, OrgUnits.read(client.gateway) if zones else ())
        store, entries = Stays(database, url), FollowUps(database, url).entries()
        found = reckon(name, store.of_report(name), entries, store.payments(), zone_of, database.now())
    if workbook is not None:
        from evergreen_groups.state import write_bytes_atomically

        with write_bytes_atomically(workbook) as binary:
            write_results_workbook(found, binary)
    elif as_json:
        cli.write_json(results_document(found))
    else:
        with invocation.output("table") as stream:
            write_results(found, stream)
