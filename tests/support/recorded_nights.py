"""Recorded nights, for a group's trend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from flask import Flask
from support.report_samples import report_of

from evergreen_groups.client import Client
from evergreen_groups.report import History


def record_nights(app: Flask, clerk_client: Client, amounts: list[str], patron: int = 1017) -> None:
    """Record reports of the last nights, with given totals of a patron's family."""
    service = app.extensions["evergreen-groups"]
    history = History(service.state.database, service.gateway.url)
    group = clerk_client.details.of_user(patron).group
    for night, amount in enumerate(amounts):
        found = replace(group.members[0], own_fines=Decimal(amount) - sum(one.own_fines for one in group.members[1:]))
        listed = replace(group, members=(found, *group.members[1:]))
        at = datetime.now(UTC) - timedelta(days=len(amounts) - night)
        history.record(replace(report_of([listed] if Decimal(amount) else []), generated_at=at))
