"""Dates that Evergreen sends in another form than it stores, and dates that Python can't hold."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from support.fault_proxy import Call, HttpAnswer, fault_proxy
from support.gateways import gateway_of
from support.sandbox_caller import Caller

from evergreen_groups.client import Client
from evergreen_groups.groups import ACCOUNT_FIELDS, PatronAccount
from evergreen_groups.ils import OrgUnits, PatronItems, rows_in_force
from evergreen_groups.ils.circulations import CirculationKind
from evergreen_groups.language import day, local, use_language
from evergreen_groups.language.language import Language
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox

HUONG, DUC = 1015, 1016


def store(sandbox: Sandbox, class_id: str, id: int, **values: object) -> None:
    sandbox._store.update(class_id, id, values)


@pytest.mark.parametrize(
    ("stored", "sent", "day_sent"),
    [
        ("infinity", "1970-01-01T00:00:00+0000", "1970-01-01"),
        ("-infinity", "1970-01-01T00:00:00+0000", "1970-01-01"),
        ("20220-05-05 00:00:00-05", "2021-11-30T05:00:00+0000", "2021-11-30"),
        ("9999-12-31 23:59:59-05", "0999-11-30T04:59:59+0000", None),
        ("9999-12-31 00:00:00+00", "9999-12-31T00:00:00+0000", "9999-12-31"),
        ("3000-01-01", "3000-01-01T00:00:00+0000", "3000-01-01"),
        ("0001-01-01 00:00:00+01", "0001-12-31T23:00:00+0000", None),
        ("0201-03-04", "0201-03-04T00:00:00+0000", "0201-03-04"),
        ("0044-03-15 BC", "0044-03-15T00:00:00+0000", "0044-03-15"),
    ],
)
def test_the_sandbox_sends_what_a_real_evergreen_sends(
    sandbox: Sandbox, stored: str, sent: str, day_sent: str | None
) -> None:
    store(sandbox, "au", HUONG, expire_date=stored, dob=stored)
    options = {"select": {"au": ["id", "expire_date", "dob"]}}
    (row,) = Caller(sandbox.url).pcrud("admin", "search.au.atomic", {"id": HUONG}, options)["payload"][0]
    fields = sandbox._store.classes["au"].positions
    assert row["__p"][fields["expire_date"]] == sent
    assert day_sent is None or row["__p"][fields["dob"]] == day_sent


def test_what_is_stored_is_compared(sandbox: Sandbox) -> None:
    for stored, later in (("infinity", True), ("20220-05-05", True), ("-infinity", False), ("0044-03-15 BC", False)):
        store(sandbox, "au", HUONG, expire_date=stored)
        found = Caller(sandbox.url).ids("admin", "au", {"id": HUONG, "expire_date": {">": "9999-12-31"}})
        assert bool(found) is later, stored


@pytest.mark.parametrize("stored", ["infinity", "9999-12-31 23:59:59-05", "0201-03-04"])
def test_an_expiry_that_says_nothing_is_unknown(sandbox: Sandbox, stored: str) -> None:
    store(sandbox, "au", DUC, expire_date=stored, dob="2091-01-01" if stored == "infinity" else "0201-03-04")
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        account = Client(gateway, account="x").details.of_user(DUC).accounts[DUC]
        report = build_report(gateway, Criteria())
    assert (account.expired, account.expire_date, account.expiry_unknown) == (False, None, True)
    assert account.birth_date is None
    (state,) = (
        report.details.of(member).state
        for group in report.groups
        for member in group.members
        if report.details and member.id == DUC
    )
    assert not state.expired


def test_a_penalty_without_end_is_in_force_and_an_item_is_never_due(sandbox: Sandbox) -> None:
    store(sandbox, "ausp", 9016, stop_date="infinity", set_date="infinity")
    store(sandbox, "circ", 70203, due_date="infinity")
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        (penalty,) = rows_in_force(gateway, [DUC])
        org_units = OrgUnits.read(gateway)
        items = PatronItems.read(gateway, org_units, [unit.id for unit in org_units], [DUC])[DUC]
    assert penalty.set_date is None
    (item,) = (item for item in items.items if item.id == 70203)
    assert (item.due, item.kind) == (None, CirculationKind.OUT)


@pytest.fixture
def another_gateway(sandbox: Sandbox) -> Iterator[str]:
    """A server that sends years after 9999 as stored."""
    with fault_proxy(sandbox.url) as proxy:

        def alter(_call: Call, answer: HttpAnswer) -> HttpAnswer:
            body = answer.body.replace(b"2029-09-01T00:00:00+0000", b"20290-09-01T00:00:00+0000")
            return replace(answer, body=body.replace(b"2026-02-02T15:30:00+0000", b"-0044-02-02T15:30:00+0000"))

        proxy.alter = alter
        yield proxy.url


def test_a_date_that_cannot_be_held_is_unknown_with_a_note(another_gateway: str) -> None:
    with gateway_of(another_gateway, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
        details = Client(gateway, account="x").details.of_user(1001)
    assert report.groups
    notes = [str(note) for note in report.notes if "an unreadable date" in note]
    assert len(notes) == 10
    assert "au 1001 has an unreadable date in expire_date, which counts as unknown." in notes
    assert ("mobts", 70001, "xact_start") in gateway.statistics.unreadable_dates
    assert details.accounts[1001].expiry_unknown


def test_days_at_the_edges_of_the_calendar_are_written() -> None:
    last, first = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)
    for zone in ("Pacific/Auckland", "America/Chicago"):
        with use_language(Language("en", timezone=ZoneInfo(zone))):
            assert local(last).year in (9999,)
            assert day(last) in ("31 Dec 9999", "Dec 31, 9999")
            assert day(first) == day(datetime(1970, 1, 1, tzinfo=UTC)) == "unknown"
            assert "1950" in day(date(1950, 5, 5))


@pytest.mark.parametrize(
    ("born", "known"), [(date(2027, 1, 1), False), (date(1890, 1, 1), False), (date(1900, 1, 1), True)]
)
def test_ages_are_those_that_people_have(born: date, known: bool) -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    values = {"active": True, "barred": False, "juvenile": False, "expire_date": None, "dob": born}
    account = PatronAccount.of([values[name] for name in ACCOUNT_FIELDS], now)
    assert (account.birth_date is not None) is known
    assert not account.expiry_unknown
