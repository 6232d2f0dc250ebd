"""``evergreen-groups follow-ups``."""

from __future__ import annotations

import click

from evergreen_groups import cli


@click.command("follow-ups")
@click.option("--due", is_flag=True, help='Only groups with the status "to do".')
@cli.json_option
@click.pass_obj
def follow_ups_command(invocation: cli.Invocation, due: bool, as_json: bool) -> None:
    """List the groups of the last reports: the contact person, what they owe, the status, and the latest entry.

    A group has the status "to do" if its reminder is due, if its promise is over and wasn't kept, or if it has neither
    and no recent entry ([follow_up] again_after). Broken promises are first. --json includes all entries with their
    notes.
    """
    from evergreen_groups.follow_up import FollowUpStatus
    from evergreen_groups.render import follow_ups_document, write_follow_ups

    only = (FollowUpStatus.TO_DO,) if due else tuple(FollowUpStatus)
    again_after = invocation.settings.follow_up.again_after
    with invocation.client() as client:
        database = client.state.database  # first, because it imports SQLAlchemy under a lock
        from evergreen_groups.follow_up import FollowUps, today_at
        from evergreen_groups.ils import OrgUnits

        store, configured = FollowUps(database, client.gateway.url), invocation.settings.language.language().timezone
        zones = {} if configured else OrgUnits.read_timezones(client.gateway)
        today = today_at(database.now(), configured, zones, OrgUnits.read(client.gateway) if zones else ())
        names = ("", *(named.name for named in invocation.settings.reports))
        found = {name: store.of_report(name) for name in names}
        contacts = {follow_up.group.contact for one in found.values() if one for follow_up in one.by_group.values()}
        people = client.patrons.names(contacts - {0}) if contacts - {0} else {}
    if as_json:
        reports = [
            follow_ups_document(name, one, today, again_after, only=only, names=people) for name, one in found.items()
        ]
        cli.write_json({"version": 1, "kind": "follow-ups-of-reports", "reports": reports})
        return
    with invocation.output("table") as stream:
        for name, one in found.items():
            write_follow_ups(name, one, today, again_after, stream, only=only, names=people)
