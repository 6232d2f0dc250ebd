"""``evergreen-groups show``, ``check`` and ``slip``."""

from __future__ import annotations

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.settings import values

_NUMBER = cli.CheckedType(values.whole_number(1, 2**31 - 1))
_USER = click.option("--user", type=_NUMBER, help="The patron's id, instead of the barcode.")
_FORMAT = click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), help="Output format.  [default: table]"
)


@click.command("show")
@click.argument("barcode", required=False)
@_USER
@click.option("--group", type=_NUMBER, help="The group's number.")
@click.option("--name", help='The patron\'s name: "Okonkwo, A". You choose if several match.')
@_FORMAT
@cli.json_option
@click.pass_obj
def show_command(
    session: cli.Invocation,
    /,
    *,
    barcode: str | None,
    user: int | None,
    group: int | None,
    name: str | None,
    output_format: str | None,
    as_json: bool,
) -> int:
    """Show all members of the group of the patron with BARCODE.

    For each: own fines, items out, overdue and lost, and whether they are over the limit; then the totals. Combined
    fines are for information only. Exit status 7: the account can't see all members or their items.
    """
    if sum(given is not None for given in (barcode, user, group, name)) != 1:
        raise cli.one_required("BARCODE", "--name", "--user", "--group")
    chosen_format = cli.requested_format(as_json, output_format) or "table"
    from evergreen_groups.render import group as writers

    with session.client() as client, cli.explain_unknown_barcodes(session, client.gateway, [barcode or ""]):
        if name is not None:
            user = cli.choose_patron(client, name, accept_single_match=True)
        with session.progress():
            if barcode is not None:
                details = client.details.of_barcode(barcode)
            elif user is not None:
                details = client.details.of_user(user)
            else:
                details = client.details.of_group(group or 0)
    with session.output(chosen_format) as stream:
        if chosen_format == "json":
            writers.write_json(details, stream)
        else:
            writers.write_details(details, stream, width=cli.terminal_width())
    return exit_status.DONE if details.complete else exit_status.INCOMPLETE


@click.command("check")
@click.argument("barcode", required=False)
@_USER
@click.option("--all-members", is_flag=True, help="Check all members of the patron's group, each by their own fines.")
@_FORMAT
@cli.json_option
@click.pass_obj
def check_command(
    session: cli.Invocation,
    /,
    barcode: str | None,
    user: int | None,
    all_members: bool,
    output_format: str | None,
    as_json: bool,
) -> int:
    """Show whether the patron with BARCODE is over the limit, which limit applies, and Evergreen's blocks.

    Combined fines are for information only. Exit status 0: not over the limit; 10: over it, or with --all-members, at
    least one member is.
    """
    if (barcode is None) == (user is None):
        raise cli.one_required("BARCODE", "--user")
    chosen_format = cli.requested_format(as_json, output_format) or "table"
    from evergreen_groups.render import group as writers

    with (
        session.client() as client,
        cli.explain_unknown_barcodes(session, client.gateway, [barcode or ""]),
        session.progress(),
    ):
        if barcode is not None:
            check = client.checks.of_barcode(barcode, all_members=all_members)
        else:
            check = client.checks.of_user(user or 0, all_members=all_members)
    with session.output(chosen_format) as stream:
        if chosen_format == "json":
            writers.write_check_json(check, stream)
        else:
            writers.write_check(check, stream, width=cli.terminal_width())
    if check.over_limit:
        return exit_status.BLOCKED
    return exit_status.DONE if check.complete else exit_status.INCOMPLETE


@click.command("slip")
@click.argument("barcode", required=False)
@_USER
@_FORMAT
@cli.json_option
@click.pass_obj
def slip_command(
    session: cli.Invocation, /, *, barcode: str | None, user: int | None, output_format: str | None, as_json: bool
) -> int:
    """List what the patron with BARCODE and the children of the group have out, overdue items first.

    With the holds that they can pick up, and what they owe. [statement] says whose titles are shown, and whether other
    adults are included. For receipt paper, set COLUMNS=42. Exit status 7: the account can't see everything.
    """
    if (barcode is None) == (user is None):
        raise cli.one_required("BARCODE", "--user")
    chosen_format = cli.requested_format(as_json, output_format) or "table"
    from evergreen_groups.desk import Titles
    from evergreen_groups.render.desk import write_slip

    settings = session.settings.statement
    with (
        session.client() as client,
        cli.explain_unknown_barcodes(session, client.gateway, [barcode or ""]),
        session.progress(),
    ):
        titles, patron = Titles(settings.titles), barcode if barcode is not None else user or 0
        family = client.slip(patron, titles=titles, adults=settings.adults)
    if chosen_format == "json":
        from evergreen_groups.hooks import as_json as hook_document

        cli.write_json(hook_document(family))
    else:
        with session.output(chosen_format) as stream:
            write_slip(family, settings, stream, width=cli.terminal_width())
    return exit_status.DONE if family.complete else exit_status.INCOMPLETE
