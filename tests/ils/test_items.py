"""Items that are out: kinds of circulations, titles, overdue and lost ones of many patrons, hidden ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.bills_and_items import HARBOR
from support.circulators import change_rows
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of, recorded_families
from support.recorded import gateway_of as recorded_gateway_of
from support.recorded import idl_of, payload

from evergreen_groups.errors import DataError
from evergreen_groups.ils import ItemOut, OrgUnits, PatronItems, UnreturnedItems
from evergreen_groups.ils.bills import STOPPED
from evergreen_groups.ils.circulations import CirculationKind, kind_of, seconds_of
from evergreen_groups.sandbox import Sandbox

HUONG, DUC, MINH, LAN = 1015, 1016, 1017, 1018


@pytest.fixture(scope="module")
def recorded_units() -> OrgUnits:
    with recorded_gateway_of("contacts-021", "contacts-022") as gateway:
        return OrgUnits.read(gateway)


def test_as_a_real_evergreen_tells_them(recorded_units: OrgUnits) -> None:
    """Of 307 something came back and is owed for, something else is paid; the one that 312 lost is paid as well."""
    every = [unit.id for unit in recorded_units]
    with recorded_gateway_of("items-004") as gateway:
        found = PatronItems.read(gateway, recorded_units, every, range(301, 317))
    overdue, long_overdue = CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE
    assert [(item.id, item.kind) for item in found[301].items] == [(701, overdue), (702, CirculationKind.OUT)]
    assert [(item.id, item.kind) for item in found[307].items] == [(708, None)]
    assert found[307].out == ()
    assert {id: theirs.items[0].kind for id, theirs in found.items() if theirs.items and id not in (301, 307)} == {
        302: CirculationKind.LOST,
        303: overdue,
        304: long_overdue,
        305: CirculationKind.CLAIMS_RETURNED,
        306: overdue,
        308: CirculationKind.OUT,
        311: CirculationKind.LOST,
        312: None,
        314: overdue,
        315: overdue,
    }
    assert all(theirs.complete for theirs in found.values())
    (first,) = found[314].items
    assert (first.due, first.library, first.copy) == (datetime(2026, 6, 12, 23, 59, 59, tzinfo=UTC), 4, 9302)


def test_an_older_release_has_its_fields_in_another_order(recorded_units: OrgUnits) -> None:
    """It has no ``circ.renewal``, so that fields after it stand elsewhere; what was asked for here had some alone."""
    every, patrons = [unit.id for unit in recorded_units], range(5001, 5053)
    with recorded_gateway_of("family-003", alike=False) as gateway:
        found = PatronItems.read(gateway, recorded_units, every, patrons)
    with recorded_gateway_of("3.12/family-003", alike=False) as gateway:
        assert PatronItems.read(gateway, recorded_units, every, patrons) == found
    assert [item.copy for item in found[5041].items] == [520, 519, 518]


def test_hidden_ones_as_a_real_evergreen_tells_of_them(recorded_units: OrgUnits) -> None:
    with recorded_gateway_of("items-005", "items-006") as gateway:
        found = PatronItems.read(gateway, recorded_units, [4, 8], range(301, 317))
        assert PatronItems.read(gateway, recorded_units, (), [303]) == {303: PatronItems((), complete=False)}
    assert [id for id, items in found.items() if not items.complete] == [303]
    assert found[303].items == ()


def test_titles_as_a_real_evergreen_has_them() -> None:
    """Two items aren't cataloged; one of them has no title at all."""
    with recorded_gateway_of("items-007", "items-008", "items-009") as gateway:
        assert ItemOut.read_titles(gateway, [4182, 4183, 4216, 4482, 9301, 9302]) == {
            4182: "Stardust",
            4183: "Coraline",
            4216: "Stardust",
            4482: "Cláudia",
            9301: "Borrowed from elsewhere",
        }


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (datetime(2026, 11, 2, 23, 59, tzinfo=UTC), 0),
        (datetime(2026, 11, 3, 0, 1, tzinfo=UTC), 1),
        (datetime(2026, 12, 2, 12, tzinfo=UTC), 30),
        (datetime(2026, 11, 2, 22, tzinfo=timezone(timedelta(hours=-5))), 1),
    ],
)
def test_days_overdue_go_by_the_servers_calendar(now: datetime, days: int) -> None:
    due = datetime(2026, 11, 2, 23, 59, 59, tzinfo=UTC)
    assert ItemOut(1, 2, 3, HARBOR, due, CirculationKind.OVERDUE).days_overdue(now) == days
    assert ItemOut(1, 2, 3, HARBOR, due, CirculationKind.CLAIMS_RETURNED).days_overdue(now) == 0
    assert ItemOut(1, 2, 3, HARBOR, None, None).days_overdue(now) == 0


def test_titles_in_three_calls(sandbox: Sandbox, proxy: FaultProxy) -> None:
    change_rows(sandbox, "UPDATE acp SET dummy_title = 'A former name' WHERE id = 9001")
    change_rows(sandbox, "UPDATE rmsr SET title = NULL WHERE id = 7004")
    with gateway_of(proxy.url, "harbor_desk") as desk:
        desk.login()
        desk.idl("acp", "acn", "rmsr")
        proxy.seen.clear()
        found = ItemOut.read_titles(desk, [9001, 9002, 9003, 9004, 9005, 9006, 99_999])
        assert proxy.seen == [f"open-ils.pcrud.search.{name}.atomic" for name in ("acp", "acn", "rmsr")]
        assert ItemOut.read_titles(desk, []) == {}
    assert found == {
        9001: "Seagulls at the window",
        9002: "Lakeland soups",
        9003: "The owl who read at night",
        9004: "The owl who read at night",
        9006: "Garden paths on loan from Elm",
    }


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


def test_what_is_asked_for_holds_what_is_overdue() -> None:
    """The overdue circulations in family-003 are the ones that family-004 finds by due date."""
    places = idl_of()["circ"].positions
    now = datetime(2026, 11, 20, tzinfo=UTC)
    kinds = {}
    for values in (row["__p"] for row in payload("family-003")[0]):
        due = datetime.strptime(values[places["due_date"]], "%Y-%m-%dT%H:%M:%S%z")
        stopped = values[places["stop_fines"]]
        kinds[values[places["id"]]] = kind_of(stopped, due, "1 day", finished=False, now=now)
    found = {row["__p"][places["id"]] for row in payload("family-004")[0]}
    assert {id for id, kind in kinds.items() if kind is CirculationKind.OVERDUE} == found
    assert [id for id, kind in kinds.items() if kind is CirculationKind.LOST] == [50055]


def test_unreturned_items_as_a_real_evergreen_tells_them(recorded_units: OrgUnits) -> None:
    """A lost item counts even before its due date; paid, claimed and returning items don't count."""
    every = [unit.id for unit in recorded_units]
    with recorded_families("context_staff") as gateway:
        read = PatronItems.read(gateway, recorded_units, every, range(301, 317), late_only=True)
    found = {id: items.unreturned for id, items in read.items()}
    stop_fines = {id: stopped for items in read.values() for id, stopped in items.stop_fines.items()}
    stopped = {id: why for id, why in stop_fines.items() if why in STOPPED}
    assert stopped == {703: "LOST", 705: "LONGOVERDUE", 706: "CLAIMSRETURNED", 711: "LOST", 712: "LOST"}
    overdue, lost = UnreturnedItems(1, 0), UnreturnedItems(0, 1)
    expected = dict.fromkeys((301, 303, 304, 306, 314, 315), overdue) | dict.fromkeys((302, 311), lost)
    assert found == dict.fromkeys(range(301, 317), UnreturnedItems()) | expected


def test_hidden_unreturned_items_as_a_real_evergreen_tells_of_them(recorded_units: OrgUnits) -> None:
    """303 has an item at a branch whose circulations are hidden; 306 has one too, but is hidden altogether."""
    with recorded_families("context_branch") as gateway:
        found = PatronItems.read(gateway, recorded_units, [4, 8], range(301, 317), late_only=True)
        assert PatronItems.read(gateway, recorded_units, (), [301], late_only=True)[301].unreturned is None
        assert PatronItems.read(gateway, recorded_units, [4, 8], (), late_only=True) == {}
    assert [id for id, items in found.items() if items.unreturned is None] == [303]
    assert found[301].unreturned == UnreturnedItems(1, 0)
