"""Bills and own fines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.bills_and_items import bill as bill_of
from support.bills_and_items import billing, lend
from support.gateway_server import TOKEN, Server, connect, http, raw, results
from support.gateways import gateway_of as session_of
from support.gateways import recorded_families
from support.recorded import gateway_of, idl_bytes, idl_of, payload

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.ils import Bill, BillKind, read_fines_within, read_own_fines
from evergreen_groups.ils.bills import Billed
from evergreen_groups.sandbox import Sandbox

IDL = idl_of()

OVERDUE, PROCESSING = (
    BillKind("circulation", "Overdue Materials"),
    BillKind("circulation", "Lost Materials Processing Fee"),
)
MISC = BillKind("grocery", "Misc")


def open_transactions() -> list[dict[str, Any]]:
    """``mobts`` rows with all that is asked for: those of family-001, with the libraries of family-002.

    The view has the columns of both (``500.view.cross-schema.sql``), and family-002 asked for some alone.
    """
    summary, view = IDL["mbts"], IDL["mobts"]
    libraries = {row["__p"][view.positions["id"]]: row["__p"][-1] for row in payload("family-002")[0]}
    rows = []
    for row in payload("family-001")[0]:
        values: list[Any] = [None] * (view.positions["billing_location"] + 1)
        for name, position in summary.positions.items():
            if position < len(row["__p"]):
                values[view.positions[name]] = row["__p"][position]
        values[-1] = libraries[values[view.positions["id"]]]
        rows.append({"__c": "mobts", "__p": values})
    return rows


@contextmanager
def answering(rows: list[dict[str, Any]]) -> Iterator[Gateway]:
    """A gateway with these open transactions, which looks at nothing but whose they are."""
    usr = IDL["mobts"].positions["usr"]

    def answer(line: Any, request: Any) -> None:
        if request.method == "GET":
            raw(http(idl_bytes()))(line, request)
        elif request.osrf_method == "open-ils.pcrud.count.aou":
            results("1")(line, request)
        elif request.osrf_method == "open-ils.pcrud.search.mb.atomic":
            results([])(line, request)
        else:
            asked = request.params[1]["-and"][-1]["usr"] if "-and" in request.params[1] else request.params[1]["usr"]
            results([row for row in rows if row["__p"][usr] in asked])(line, request)

    with Server(otherwise=answer) as server, connect(server, token=TOKEN, retries=RetryPolicy(tries=1)) as gateway:
        yield gateway


def bill(id: int, patron: int, balance: str, kind: BillKind = MISC) -> Bill:
    owed = Decimal(balance)
    return Bill(id, patron, kind, owed, owed, Decimal(0), datetime(2026, 3, 2, tzinfo=UTC), None, 4)


def test_what_is_owed_for_since_when_and_where() -> None:
    with answering(open_transactions()) as gateway:
        bills = Bill.read(gateway, [5012, 5041, 5038, 5004])
    assert [(it.id, it.kind, str(it.balance), it.library) for it in bills[5041] if it.balance] == [
        (50055, PROCESSING, "23.00", 4),
        (50054, OVERDUE, "0.50", 4),
    ]
    (credit,) = bills[5012]
    assert (credit.balance, credit.billed, credit.paid) == (Decimal("-3.25"), Decimal("1.75"), Decimal("5.00"))
    assert credit.since == datetime(2026, 3, 13, 10, tzinfo=UTC)
    assert credit.last_payment == datetime(2026, 3, 13, 11, tzinfo=UTC)
    assert 5004 not in bills


def test_hidden_bills_are_not_no_bills() -> None:
    """An account without the permission gets an empty answer (family-017, family-018)."""
    assert payload("family-017") == payload("family-018") == [[]]
    with answering([]) as gateway:
        found = Bill.verify(gateway, {5001: Decimal("4.50"), 5004: Decimal(0)})
        hidden = Bill.verify(gateway, {5004: Decimal(0)}, hidden={5004})
    assert found == {5001: None, 5004: ()}
    assert hidden == {5004: None}


def test_all_recorded_bills_add_up_to_the_own_fines() -> None:
    """Evergreen's own sums (pcrud-051) of the patrons that it was asked about there."""
    owed = {5001: Decimal("4.50"), 5012: Decimal("-3.25"), 5014: Decimal("0.00"), 5042: Decimal("0.00")}
    with gateway_of("pcrud-051", alike=False) as gateway:
        assert read_own_fines(gateway, [5001, 5004, 5012, 5014, 5042]) == owed
    with answering(open_transactions()) as gateway:
        found = Bill.verify(gateway, owed)
    assert {id: Bill.balance_of(theirs) for id, theirs in found.items() if theirs is not None} == owed


def test_as_a_real_evergreen_answers_the_question() -> None:
    """A lost item with a fee, of which a part is paid; a credit; overdue fines of what came back."""
    with recorded_families("context_staff") as gateway:
        found = Bill.read(gateway, range(301, 317))
    assert {id: [(bill.id, str(bill.balance), bill.library) for bill in theirs] for id, theirs in found.items()} == {
        301: [(701, "2.40", 4), (731, "4.00", 4)],
        302: [(703, "19.00", 4)],
        304: [(732, "11.00", 6)],
        307: [(708, "1.90", 4)],
        308: [(734, "-1.00", 5)],
        312: [(733, "0.50", 4)],
    }
    assert [bill.kind for bill in found[301]] == [OVERDUE, BillKind("grocery", "Photocopies")]
    (lost,) = found[302]
    assert (lost.kind, lost.billed, lost.paid) == (PROCESSING, Decimal("24.00"), Decimal("5.00"))
    assert lost.last_payment == datetime(2026, 6, 1, 10, tzinfo=UTC)


def test_bills_of_patrons_of_elsewhere_are_left_out() -> None:
    """308 has another home library; what 304 owes elsewhere is visible, for the home library is what counts."""
    with recorded_families("context_branch") as gateway:
        assert sorted(Bill.read(gateway, range(301, 317))) == [301, 302, 304, 307, 312]


def test_who_paid_between_the_two_looks_is_looked_at_once_more() -> None:
    """The own fines are those after the payment; the bills were read before it."""
    with answering(open_transactions()) as gateway:
        found = Bill.verify(gateway, {5001: Decimal("4.50")}, {5001: (bill(50001, 5001, "9.00"),)})
        stale = Bill.verify(gateway, {5001: Decimal("9.00")}, {5001: (bill(50001, 5001, "4.50"),)})
    assert found[5001] is not None
    assert Bill.balance_of(found[5001]) == Decimal("4.50")
    assert stale == {5001: None}


def test_a_bill_without_a_beginning_is_refused() -> None:
    rows = open_transactions()[:1]
    rows[0]["__p"][IDL["mobts"].positions["xact_start"]] = None
    with answering(rows) as gateway, pytest.raises(DataError, match="xact_start"):
        Bill.read(gateway, [5001])


def test_overdue_fines_are_overdue_materials_however_the_ils_writes_it() -> None:
    """Those that it makes itself are called "Overdue materials", unlike the billing type (``CircCommon.pm``)."""
    with answering(payload("desk-003")[0]) as gateway:
        assert [bill.kind for bill in Bill.read(gateway, [245])[245] if bill.kind != MISC] == [OVERDUE]
    rows = [row for row in open_transactions() if row["__p"][IDL["mobts"].positions["xact_type"]] == "circulation"][:2]
    for row, written in zip(rows, ("Overdue materials", "Overdue Materials"), strict=True):
        row["__p"][IDL["mobts"].positions["last_billing_type"]] = written
    with answering(rows) as gateway:
        found = Bill.read(gateway, {row["__p"][IDL["mobts"].positions["usr"]] for row in rows})
    assert [bill.kind for theirs in found.values() for bill in theirs] == [OVERDUE, OVERDUE]
    assert BillKind.of("grocery", "Overdue materials").text == "Overdue materials", "somebody has called it that"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (OVERDUE, "overdue materials"),
        (PROCESSING, "processing of lost materials"),
        (BillKind("circulation", "Rebinding"), "Rebinding (item)"),
        (BillKind("grocery", "Rebinding"), "Rebinding"),
        (BillKind("grocery", "Overdue Materials"), "Overdue Materials"),
        (BillKind("reservation", "Room"), "Room (reservation)"),
        (BillKind("circulation"), "items"),
        (BillKind("grocery"), "other bills"),
    ],
)
def test_kinds_are_called(kind: BillKind, text: str) -> None:
    assert kind.text == text
    assert kind.matches_name(text.upper())
    assert kind.matches_name(kind.transaction)
    assert not kind.matches_name("")


TOME, LOST_ITEM = 1058, 70052


def test_a_lost_item_with_its_fee_is_a_lost_item(sandbox: Sandbox) -> None:
    """What was billed last was the fee; the rows are those that a real Evergreen wrote."""
    with session_of(sandbox.url, "admin") as gateway:
        (lost,) = Bill.read(gateway, [TOME])[TOME]
    assert (lost.id, lost.kind.text, lost.balance) == (LOST_ITEM, "lost materials", Decimal("17.99"))
    assert lost.by_type == (
        Billed("Lost Materials", Decimal("12.99")),
        Billed("Lost Materials Processing Fee", Decimal("5.00")),
    )
    assert lost.describe_billings() == "lost materials: $12.99, processing of lost materials: $5.00"


def test_the_largest_billing_type_leads(sandbox: Sandbox) -> None:
    """Voided and adjusted billings don't count, nor does what was billed last."""
    one = bill_of(sandbox, TOME, "27.00", "20.00", kind="Misc")
    billing(sandbox, one, "6.00", "Room", 101)
    billing(sandbox, one, "1.00", "Misc", 101)
    billing(sandbox, one, "90.00", "Copies", 101, voided=True)
    billing(sandbox, one, "20.00", "Replacement Card", 101, adjusted="20.00")
    with session_of(sandbox.url, "admin") as gateway:
        found = {bill.id: bill for bill in Bill.read(gateway, [TOME])[TOME]}
    assert found[one].kind == BillKind("grocery", "Room")
    assert found[one].describe_billings() == "Room: $6.00, Misc: $1.00, other bills: $20.00"


@pytest.mark.parametrize(
    ("stopped", "rows", "text"),
    [
        ("LOST", [("12.99", "Lost Materials", 3), ("5.00", "Lost Materials Processing Fee", 4)], "lost materials"),
        ("LOST", [("2.00", "Overdue materials", 1)], "lost materials"),
        ("LONGOVERDUE", [("12.99", "Long-Overdue Materials", 10)], "long overdue materials"),
        ("CLAIMSRETURNED", [("2.00", "Overdue materials", 1)], "items claimed returned"),
        ("CLAIMSNEVERCHECKEDOUT", [("2.00", "Misc", 101)], "items claimed never checked out"),
        (None, [("2.00", "Overdue materials", 1)], "overdue materials"),
        ("MAXFINES", [("2.00", "Overdue materials", 1)], "overdue materials"),
        ("CHECKIN", [("9.00", "Damaged Item", 7), ("2.00", "Overdue materials", 1)], "damage"),
        ("CHECKIN", [("9.00", "Damaged Item", 7), ("12.00", "Overdue materials", 1)], "overdue materials"),
        ("LOST", [("9.00", "Damaged Item", 7), ("5.00", "Damaged Item Processing Fee", 8)], "damage"),
        (None, [("3.00", "System: Deposit", 5)], "deposit"),
    ],
)
def test_the_bill_for_an_item_is_what_happened_to_it(
    sandbox: Sandbox, stopped: str | None, rows: list[tuple[str, str, int]], text: str
) -> None:
    billed = sum((Decimal(amount) for amount, _, _ in rows), Decimal(0))
    loan = lend(sandbox, TOME, "2026-08-01", state=stopped, kind=rows[-1][1], billed=str(billed))
    for row in rows:
        billing(sandbox, loan, *row)
    with session_of(sandbox.url, "admin") as gateway:
        bills = Bill.read(gateway, [TOME])[TOME]
    (kind,) = (bill.kind for bill in Bill.with_item_kinds(bills, {loan: stopped}, {11, 12}) if bill.id == loan)
    assert kind.text == text
    assert kind.matches_name(text)


def test_an_item_at_a_library_that_is_hidden_keeps_its_billing_type(sandbox: Sandbox) -> None:
    with session_of(sandbox.url, "admin") as gateway:
        bills = Bill.read(gateway, [TOME])[TOME]
    assert Bill.with_item_kinds(bills, {LOST_ITEM: "LONGOVERDUE"}, {11}) == bills
    assert Bill.with_item_kinds(bills, {LOST_ITEM: "LONGOVERDUE"}, {12})[0].kind.text == "long overdue materials"


HERE, THERE = 4, 5
EVEN = [(HERE, Decimal("2.00")), (HERE, Decimal("-2.00"))]


@pytest.mark.parametrize(
    ("transactions", "owed"),
    [
        ([], None),
        ([(THERE, Decimal("3.00"))], None),
        ([(None, Decimal("3.00"))], None),
        ([(HERE, Decimal("0.00"))], Decimal("0.00")),
        (EVEN, Decimal("0.00")),
        ([*EVEN, (THERE, Decimal("3.00"))], Decimal("0.00")),
    ],
)
def test_within_a_scope(transactions: list[tuple[int | None, Decimal]], owed: Decimal | None) -> None:
    """Evergreen's sum over no transaction reaches no threshold, not even 0.00; a sum of 0.00 reaches that."""
    rows = [(5001, library, amount) for library, amount in transactions]
    pcrud = SimpleNamespace(columns_by_values=lambda *_arguments: iter(rows))
    gateway = cast(Gateway, SimpleNamespace(pcrud=pcrud))
    assert read_fines_within(gateway, {5001: frozenset({HERE})}, {}) == {5001: owed}
