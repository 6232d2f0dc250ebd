"""Follow-ups for tests: runs that list groups, and entries for those groups."""

import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from support.gateways import gateway_of
from support.report_samples import GATEWAY

from evergreen_groups.follow_up import DraftEntry, FollowUps, How, What, Written, digest_of, note_listed
from evergreen_groups.report import Criteria, History, Report, Run, build_report
from evergreen_groups.state import State

STAFF = (5, 6)
"""The staff user and the workstation of entries."""
ORG_UNIT = 11
"""Where that user works."""


def note_run(state: State, *reports: Report, all_reports: bool = True) -> None:
    """Record the reports of a run, as the nightly run does."""
    with state.database.writing() as connection:
        for report in reports:
            History(state.database, report.gateway, report.name).record(report, connection)
        runs = [Run.of(report) for report in reports]
        note_listed(connection, reports[0].gateway, runs, all_reports=all_reports)


def record_report(state: State, url: str, **criteria: Any) -> Report:
    """Record a run of the report, and return the report."""
    with gateway_of(url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(**criteria))
    note_run(state, report)
    return report


def draft(group: int, what: What = What.CONTACTED, **fields: Any) -> DraftEntry:
    """Return an entry to save. Nobody has seen an earlier one by default."""
    return DraftEntry(group, **{"seen": None, "what": what, "how": How.PHONE, **fields})


def save(
    state: State,
    *drafts: DraftEntry,
    staff: int = STAFF[0],
    key: str = "",
    url: str = GATEWAY,
    report: str = "",
    sees: Collection[int] | None = None,
) -> Written:
    """Save entries for groups of the report, by default under a new key. The writer ``sees`` all patrons, or these."""
    store = FollowUps(state.database, url)
    found = store.of_report(report)
    assert found is not None
    if sees is not None:
        found = replace(found, by_group={number: one.about(sees) for number, one in found.by_group.items()})
    today = state.database.now().date()
    checked = [one.checked(found.group(one.group), today) for one in drafts]
    who = {"staff": staff, "workstation": STAFF[1], "org_unit": ORG_UNIT, "key": key or secrets.token_hex()}
    return store.write(found, checked, **who, request=digest_of(report, drafts))
