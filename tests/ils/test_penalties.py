"""Which penalties are for fines and block, and where; and which of a patron's penalties are in force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.circulators import change_rows
from support.gateways import gateway_of

from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import OrgUnits, PenaltyKind, PenaltyKinds, PenaltyRow, rows_in_force
from evergreen_groups.sandbox import Sandbox

STOCK, OWN, NOTE, UNKNOWN = (
    PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC", "HOLD")),
    PenaltyKind(101, "OWN_FINES", ("CIRC",)),
    PenaltyKind(102, "NOTE_OF_FINES", ()),
    PenaltyKind(103, "UNKNOWN", ("CIRC",)),
)
STAFF_BLOCK = PenaltyKind(25, "STAFF_C", ("CIRC",))
KNOWN = (STOCK, OWN, NOTE, STAFF_BLOCK)
NORTH, HARBOR, MILL = 2, 11, 21
PATRON = 1012


def kinds_of(at: dict[int, int]) -> PenaltyKinds:
    return PenaltyKinds(KNOWN, at)


class TestKinds:
    @pytest.mark.parametrize(
        ("kind", "home", "for_fines", "blocks"),
        [
            (STOCK, MILL, True, True),
            (STOCK, HARBOR, True, True),  # from before the library had its own penalty
            (OWN, HARBOR, True, True),
            (OWN, MILL, False, False),
            (NOTE, NORTH, True, False),
            (STAFF_BLOCK, HARBOR, False, False),
            (OWN, 99, False, False),
            (STOCK, 99, True, True),
        ],
    )
    def test_what_stands_for_fines_where(self, kind: PenaltyKind, home: int, for_fines: bool, blocks: bool) -> None:
        kinds = kinds_of({NORTH: NOTE.id, HARBOR: OWN.id, MILL: STOCK.id})
        assert (kind.id in kinds.for_fines_at(home)) is for_fines
        assert (kind.id in kinds.blocking_for_fines_at(home)) is blocks

    def test_those_with_these_names(self) -> None:
        assert kinds_of({}).ids_of(["OWN_FINES", "STAFF_C", "NOBODYS"]) == {101: "OWN_FINES", 25: "STAFF_C"}

    @pytest.mark.parametrize(
        ("at", "anywhere", "everywhere"),
        [
            ({NORTH: 1, MILL: 1}, {1}, {1}),
            ({NORTH: 101, MILL: 1}, {1, 101}, {1}),
            ({NORTH: 101, MILL: 101}, {1, 101}, {1, 101}),
            ({NORTH: 102, MILL: 102}, {1}, {1}),  # a note doesn't block
            ({NORTH: 103, MILL: 103}, {1, 103}, {1}),  # unknown whether this one blocks
        ],
    )
    def test_what_blocks_anywhere_and_everywhere(
        self, at: dict[int, int], anywhere: set[int], everywhere: set[int]
    ) -> None:
        kinds = kinds_of(at)
        assert kinds.blocking_for_fines_anywhere == anywhere
        assert kinds.blocking_for_fines_everywhere == everywhere
        assert kinds.for_fines == {1, *at.values()}
        assert kinds.for_fines_at(MILL) == {1, at[MILL]}
        assert kinds.for_fines_at(99) == {1}

    def test_what_blocks_at_a_library(self) -> None:
        kinds = kinds_of({NORTH: NOTE.id, HARBOR: OWN.id, MILL: UNKNOWN.id})
        found = {home: set(kinds.blocking_for_fines_at(home)) for home in (NORTH, HARBOR, MILL, 99)}
        assert found == {NORTH: {1}, HARBOR: {1, 101}, MILL: {1}, 99: {1}}

    @pytest.mark.apache(reason="it counts calls")
    def test_they_are_read_in_three_calls_or_two(self, admin: Gateway) -> None:
        org_units = OrgUnits.read(admin)
        admin.idl("csp")
        before = admin.statistics.calls
        kinds = PenaltyKinds.read(admin, org_units)
        assert (admin.statistics.calls - before, kinds.for_fines) == (3, {1})
        given = PenaltyKinds.read(admin, org_units, {HARBOR: 101})
        assert (admin.statistics.calls - before, given.for_fines) == (5, {1, 101})
        assert len(kinds) == len(given) == 12


def insert(sandbox: Sandbox, kind: int, *, staff: int | None = None, stop: timedelta | None = None) -> int:
    stop_date = None if stop is None else (datetime.now(UTC) + stop).isoformat()
    values = {"usr": PATRON, "standing_penalty": kind, "org_unit": HARBOR, "staff": staff, "stop_date": stop_date}
    return sandbox._store.insert("ausp", {**values, "set_date": "2026-10-01T10:00:00+0000"})


@pytest.fixture
def cleared(sandbox: Sandbox) -> Sandbox:
    change_rows(sandbox, "DELETE FROM ausp")
    return sandbox


class TestInForce:
    def test_until_the_very_moment_at_which_it_stops(self) -> None:
        now = datetime.now(UTC)
        moment = timedelta(microseconds=1)
        found = [PenaltyRow.is_in_force(stop, now) for stop in (None, now - moment, now, now + moment)]
        assert found == [True, False, False, True]

    def test_neither_archived_nor_others(self, cleared: Sandbox) -> None:
        first = insert(cleared, 25, staff=1)
        insert(cleared, 1, stop=timedelta(minutes=-5))
        ends_soon = insert(cleared, 1, stop=timedelta(minutes=5))
        with gateway_of(cleared.url, "consortium_staff") as gateway:
            org_units = OrgUnits.read(gateway)
            rows = list(rows_in_force(gateway, [PATRON, 1013]))
            found = PenaltyKinds.read(gateway, org_units).by_patron(rows, org_units, [PATRON, 1013])
            assert [row.kind for row in rows_in_force(gateway, [PATRON], kinds=[25])] == [25]
        assert found[1013] == []
        assert [penalty.id for penalty in found[PATRON]] == [first, ends_soon]
        assert [penalty.kind.id for penalty in found[PATRON]] == [25, 1]
        assert [penalty.by_staff for penalty in found[PATRON]] == [True, False]
        assert found[PATRON][0].kind.label == "Alerting block on Circ, Hold and Renew"
        assert found[PATRON][1].kind.blocks
        assert found[PATRON][1].kind.label == "Patron exceeds fine threshold"
        assert {penalty.org_unit.shortname for penalty in found[PATRON]} == {"HARBOR"}
        assert {penalty.set_date for penalty in found[PATRON]} == {datetime(2026, 10, 1, 10, tzinfo=UTC)}
        assert [PenaltyRow.count_set_by_ils([row]) for row in rows] == [0, 1]
        assert PenaltyRow.count_set_by_ils(rows) == 1

    @pytest.mark.apache(reason="it counts calls")
    @pytest.mark.parametrize(("all_visible", "calls"), [(False, 2), (True, 1)])
    def test_hidden_rows_may_have_crowded_out_others(self, all_visible: bool, calls: int) -> None:
        """Releases before 3.16 count hidden rows against a limit."""
        with Sandbox(release="3.15.0") as older, gateway_of(older.url, "consortium_staff") as gateway:
            options = {"all_visible": True} if all_visible else {}
            list(rows_in_force(gateway, [PATRON]))  # logs in and finds out the release
            before = gateway.statistics.calls
            list(rows_in_force(gateway, [PATRON], **options))
            assert gateway.statistics.calls - before == calls

    def test_they_are_in_the_order_of_their_ids(self, admin: Gateway) -> None:
        rows = [PenaltyRow(id, PATRON, 25, HARBOR, None, None) for id in (9, 7, 8)]
        found = kinds_of({}).by_patron(rows, OrgUnits.read(admin), [PATRON])
        assert [penalty.id for penalty in found[PATRON]] == [7, 8, 9]

    @pytest.mark.apache(reason="it counts calls")
    @pytest.mark.parametrize(("promised", "calls"), [({}, 2), ({"all_visible": True}, 1)])
    def test_hidden_rows_are_looked_for_unless_none_is_hidden(self, promised: dict[str, bool], calls: int) -> None:
        """Before 3.16, where they count against a page."""
        with Sandbox(release="3.14") as older, gateway_of(older.url, "consortium_staff") as gateway:
            list(rows_in_force(gateway, [1013]))
            before = gateway.statistics.calls
            list(rows_in_force(gateway, [PATRON], **promised))
            assert gateway.statistics.calls - before == calls
