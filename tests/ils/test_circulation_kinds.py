"""The kinds of open circulations, as the ILS's own view has them; see the IDL's ``ocirccount``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from evergreen_groups.errors import DataError
from evergreen_groups.ils import CirculationKind
from evergreen_groups.ils.circulations import kind_of, seconds_of

OUT, OVERDUE = CirculationKind.OUT, CirculationKind.OVERDUE
NEW_YORK = timezone(timedelta(hours=-5))
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("due", "interval", "kind"),
    [
        ("2026-11-26T00:00:00+0000", "1 day", OUT),  # fined by the day: not before the day is over
        ("2026-11-25T23:59:59+0000", "1 day", OVERDUE),
        ("2026-11-26T11:59:59+0000", "7 days", OUT),
        ("2026-11-26T11:59:59+0000", "01:00:00", OVERDUE),  # fined by the hour: from the moment on
        ("2026-11-26T12:00:01+0000", "01:00:00", OUT),
        ("2026-11-25T23:59:59+0000", "24:00:00", OVERDUE),  # as long as a day is one
        ("2026-11-26T11:00:00+0000", "24:00:00", OUT),
        ("2026-11-26T11:00:00+0000", "23:59:59", OVERDUE),
    ],
)
def test_out_and_overdue(due: str, interval: str, kind: CirculationKind) -> None:
    assert kind_of(None, at(due), interval, finished=False, now=NOON) is kind
    assert kind_of("MAXFINES", at(due), interval, finished=True, now=NOON) is kind


def test_today_begins_by_the_servers_clock() -> None:
    """At 03:00 UTC it is still yesterday evening in New York, and what was due then isn't overdue yet."""
    now = datetime(2026, 11, 26, 3, tzinfo=UTC)
    due = datetime(2026, 11, 25, 23, 59, 59, tzinfo=NEW_YORK)
    assert kind_of(None, due - timedelta(hours=20), "1 day", finished=False, now=now) is OUT
    assert kind_of(None, due - timedelta(days=1), "1 day", finished=False, now=now) is OVERDUE
    assert kind_of(None, due.astimezone(UTC) - timedelta(hours=20), "1 day", finished=False, now=now) is OVERDUE


@pytest.mark.parametrize(
    ("stop_fines", "open_kind", "paid_kind"),
    [
        ("LOST", CirculationKind.LOST, None),
        ("LONGOVERDUE", CirculationKind.LONG_OVERDUE, None),
        ("CLAIMSRETURNED", CirculationKind.CLAIMS_RETURNED, CirculationKind.CLAIMS_RETURNED),
    ],
)
def test_what_stopped_counts_until_it_is_paid(
    stop_fines: str, open_kind: CirculationKind, paid_kind: CirculationKind | None
) -> None:
    due = at("2026-03-10T23:59:59+0000")
    assert kind_of(stop_fines, due, "1 day", finished=False, now=NOON) is open_kind
    assert kind_of(stop_fines, due, "1 day", finished=True, now=NOON) is paid_kind


def test_what_the_view_counts_nowhere() -> None:
    assert kind_of(None, None, "1 day", finished=False, now=NOON) is None
    assert kind_of(None, NOON, None, finished=False, now=NOON) is None


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("1 year 2 mons 3 days 04:05:06", 360 * 86_400 + 63 * 86_400 + 4 * 3600 + 5 * 60 + 6),
        ("00:00:00", 0),
        ("-1 days +23:00:00", -3600),
        ("-00:10:00", -600),
        ("100:00:00.5", 360_000),
    ],
)
def test_intervals(interval: str, seconds: int) -> None:
    assert seconds_of(interval) == seconds


@pytest.mark.parametrize("interval", ["", " ", "soon", "1 fortnight", "1 day soon", "P1D", "1:2:3"])
def test_what_is_no_interval(interval: str) -> None:
    with pytest.raises(DataError, match="fine interval"):
        seconds_of(interval)
