"""Bills and items of a group's members as the session may see them, the log of who viewed titles, and statements."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from support.bills_and_items import ELM, bill, lend
from support.circulators import change_rows, take_away
from support.fault_proxy import Call, FaultProxy, HttpAnswer
from support.gateways import gateway_of

from evergreen_groups.client import Client
from evergreen_groups.desk import GroupBills, Statement, Titles, is_minor, make_statement
from evergreen_groups.errors import NotFoundError
from evergreen_groups.groups import PatronAccount
from evergreen_groups.ils import Waiver
from evergreen_groups.render import desk as pages
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import StatementSettings

HUONG, DUC, MINH, LAN, WHITFIELD, DELETED, MEERA = 1015, 1016, 1017, 1018, 1036, 1031, 1042
STAFF = 2


def test_a_family(sandbox: Sandbox, client: Client) -> None:
    bill(sandbox, MINH, "3.00", "1.25", library=ELM)
    circulation = lend(sandbox, MINH, "2026-08-01", returned=True, billed="0.60")
    found = client.bills.of_user(MINH)
    assert [member.patron.id for member in found.members] == [HUONG, LAN, MINH, DUC]
    assert found.complete
    minh = found.member(MINH)
    assert minh.own_fines == Decimal("5.45")
    assert minh.bills is not None
    assert [(one.kind.text, one.balance, one.paid, found.library(one.library)) for one in minh.bills] == [
        ("overdue materials", Decimal("3.10"), Decimal(0), "HARBOR"),
        ("Photocopies", Decimal("1.75"), Decimal("1.25"), "ELM"),
        ("overdue materials", Decimal("0.60"), Decimal(0), "HARBOR"),
    ]
    assert [item and item.id for item in map(minh.item_of, minh.bills)] == [70019, None, circulation]
    assert (found.library(None), found.library(4711)) == ("", "")
    assert all(member.titles is None for member in found.members)


@pytest.mark.differs("copies-unsaid", reason="the primary database is asked as well")
def test_what_it_costs(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        reader = Client(gateway, account="x").bills
        reader.of_user(MINH, titles=Titles.ALL)
        proxy.seen.clear()
        reader.of_user(MINH, member=DUC)
        assert sorted(method.split(".")[-2] for method in proxy.seen) == [
            "au", "circ", "mb", "mobts", "mous",
        ]  # fmt: skip
        proxy.seen.clear()
        reader.of_user(MINH, titles=Titles.ALL)
        assert len(proxy.seen) == 8
        reader.of_user(MINH, member=LAN, waivers=True)
        proxy.seen.clear()
        reader.of_user(MINH, member=LAN, waivers=True)
        assert sorted(method.split(".")[-2] for method in proxy.seen) == [
            "au", "aupw", "circ", "mb", "mobts", "mous",
        ]  # fmt: skip


def test_waivers_are_read_only_when_asked_for(sandbox: Sandbox, client: Client) -> None:
    assert client.bills.of_user(MINH).member(LAN).waivers == ()
    found = client.bills.of_user(MINH, waivers=True)
    assert {member.patron.id: len(member.waivers) for member in found.members} == {HUONG: 0, LAN: 2, MINH: 0, DUC: 0}
    grandmother, anyone = found.member(LAN).waivers
    assert grandmother == Waiver("Bà Nguyễn (grandmother)", True, True, False, False)
    change_rows(sandbox, "UPDATE aupw SET checkout_items = NULL WHERE id = 2")
    assert client.bills.of_user(MINH, waivers=True).member(LAN).waivers[1] == replace(anyone, checkout_items=False)


def test_an_ils_without_waivers_is_not_asked_for_any(proxy: FaultProxy) -> None:
    def older(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method:
            return None
        body = answer.body.replace(b'"aupw"', b'"other"').replace(b"waiver_entries", b"other_entries")
        return replace(answer, body=body)

    proxy.alter = older
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        assert Client(gateway, account="x").bills.of_user(LAN, waivers=True).member(LAN).waivers == ()
    assert "open-ils.pcrud.search.aupw.atomic" not in proxy.seen


@pytest.mark.differs("oneself-hidden", reason="they don't see themselves either")
def test_ones_own_waivers_are_not_asked_for_without_permission(sandbox: Sandbox, proxy: FaultProxy) -> None:
    take_away(sandbox, "VIEW_USER")
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        client = Client(gateway, account="x")
        assert client.bills.of_user(STAFF, waivers=True).member(STAFF).waivers == ()
    assert "open-ils.pcrud.search.aupw.atomic" not in proxy.seen


@pytest.mark.parametrize(
    ("titles", "shown"),
    [
        (Titles.NONE, {}),
        (Titles.JUVENILES, {MINH: ["A river in four seasons", "The owl who read at night"], LAN: ["The tide tables"]}),
        (Titles.ALL, None),
    ],
)
def test_titles_of_whom_the_setting_says(
    client: Client, caplog: pytest.LogCaptureFixture, titles: Titles, shown: dict[int, list[str]] | None
) -> None:
    with caplog.at_level(logging.INFO, "evergreen_groups"):
        found = client.bills.of_user(MINH, titles=titles)
    logged = [record.getMessage() for record in caplog.records if record.name == "evergreen_groups.desk"]
    assert logged == ([] if titles is Titles.NONE else ["titles: user 2 views those of group 1004"])
    assert "owl" not in caplog.text
    theirs = titles_of(found)
    if shown is None:
        assert theirs.keys() == {HUONG, DUC, MINH, LAN}
        assert theirs[DUC] == [
            *("Feathers, fins and fur <a field book>", "Kites over Pine Hill", "Lakeland soups"),
            "The owl who read at night",
        ]
    else:
        assert theirs == shown


def test_nobody_looks_where_there_is_nothing_to_show(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evergreen_groups"):
        found = client.bills.of_user(MEERA, member=MEERA, titles=Titles.ALL)
        client.bills.of_user(MINH, member=DUC, titles=Titles.JUVENILES)
    assert titles_of(found) == {MEERA: []}
    assert "titles" not in caplog.text


def test_who_is_no_visible_member(sandbox: Sandbox, client: Client) -> None:
    for patron, member in ((MINH, WHITFIELD), (MINH, 999_999), (999_999, None), (DELETED, None)):
        with pytest.raises(NotFoundError):
            client.bills.of_user(patron, member=member)
    with gateway_of(sandbox.url, "north_manager") as gateway, pytest.raises(NotFoundError):
        Client(gateway, account="x").bills.of_user(1026, member=1027)
    with pytest.raises(NotFoundError):
        client.bills.of_user(MINH).member(WHITFIELD)


def titles_of(found: GroupBills) -> dict[int, list[str]]:
    """Return the titles shown for each member whose titles may be shown."""
    return {one.patron.id: sorted(one.titles.values()) for one in found.members if one.titles is not None}


# --- Statements ---


def account(*, juvenile: bool, born: date | None) -> PatronAccount:
    return PatronAccount(active=True, barred=False, juvenile=juvenile, expired=False, expire_date=None, birth_date=born)


def statement(client: Client, patron: int, settings: StatementSettings) -> Statement:
    return make_statement(client.bills.of_user(patron), patron, settings)


def on_it(found: Statement) -> list[int]:
    return [member.patron.id for member in found.members]


@pytest.mark.parametrize(
    ("juvenile", "born", "minor"),
    [
        (True, None, True),
        (False, None, False),
        (True, date(2008, 8, 14), False),  # turned 18 today, so the flag is outdated
        (False, date(2008, 8, 15), True),  # turns 18 tomorrow
        (False, date(2012, 2, 29), True),
        (True, date(1980, 1, 1), False),
    ],
)
def test_who_is_under_age(juvenile: bool, born: date | None, minor: bool) -> None:
    assert is_minor(account(juvenile=juvenile, born=born), date(2026, 8, 14)) is minor


def test_the_other_adults_are_left_out_of_sums_as_well(client: Client) -> None:
    settings = StatementSettings()
    assert on_it(statement(client, HUONG, settings)) == [HUONG, LAN, MINH]
    assert statement(client, HUONG, settings).owed == Decimal("17.85")
    assert on_it(statement(client, DUC, settings)) == [LAN, MINH, DUC]
    assert on_it(statement(client, MINH, settings)) == [LAN, MINH]
    everybody = statement(client, HUONG, StatementSettings(adults=True))
    assert on_it(everybody) == [HUONG, LAN, MINH, DUC]
    assert everybody.owed == Decimal("27.15")
    assert everybody.credit == Decimal("1.50"), "it doesn't pay what others owe"


def test_an_adult_by_the_date_of_birth_is_left_out(sandbox: Sandbox, client: Client) -> None:
    change_rows(sandbox, "UPDATE au SET dob = '1999-05-05' WHERE id = ?", MINH)
    assert on_it(statement(client, HUONG, StatementSettings())) == [HUONG, LAN]


def test_what_a_sheet_says(sandbox: Sandbox, client: Client) -> None:
    lend(sandbox, MINH, "2039-02-01")
    lend(sandbox, MINH, "2039-02-01", copy=9002)
    lend(sandbox, MINH, "2026-05-01", copy=9005, state="LOST", kind="Lost Materials", billed="18.00", paid="3.00")
    bill(sandbox, MINH, "1.00")
    bill(sandbox, MINH, "2.00")
    settings = StatementSettings(text="One.\n\n Two. ", library="Our Library")
    sheet = pages.statement_page(statement(client, HUONG, settings), settings)
    assert (sheet["library"], sheet["name"], sheet["paragraphs"]) == (
        "Our Library",
        "Nguyễn, Thị Hương",
        ("One.", "Two."),
    )
    minh = sheet["members"][-1]
    assert [(line.text, line.amount) for line in minh["owed_for"]] == [
        ("overdue materials", Decimal("3.10")),
        ("lost materials", Decimal("15.00")),
        ("Photocopies", Decimal("3.00")),
    ]
    assert sum(line.amount for line in minh["owed_for"]) == minh["owed"]
    assert [text for _title, text in minh["due"]] == [
        "1 item, due on 1 May 2026, is considered lost.",
        "1 item was due on 20 Sept 2026. Please bring it back.",
        "2 items are due on 1 Feb 2039.",
    ]
    assert sum(line.amount for line in sheet["kinds"]) == sheet["owed"]
    assert (sheet["overdue"], sheet["next_due"]) == (1, date(2039, 1, 15))
    assert sheet["at"] <= datetime.now(UTC)


def test_a_title_is_said_with_what_is_to_be_done_about_it(sandbox: Sandbox, client: Client) -> None:
    lend(sandbox, MINH, "2039-02-01", copy=9001)
    lend(sandbox, MINH, "2039-02-01", copy=9002)
    lend(sandbox, MINH, "2038-02-01", copy=9005, state="LOST")
    lend(sandbox, MINH, "2038-03-01", copy=9006, state="CLAIMSRETURNED")
    found = statement(client, HUONG, StatementSettings())
    titles = {9001: "The Hobbit", 9002: "The Hobbit", 9005: "Matilda", 9006: "Heidi"}
    *others, minh = found.members
    late = {item.copy: "Momo" for item in minh.items.out if item.copy not in titles}
    found = replace(found, members=(*others, replace(minh, titles={**titles, **late})))
    sheet = pages.statement_page(found, StatementSettings())
    assert [f"{title}: {text}" for title, text in sheet["members"][-1]["due"]] == [
        "Momo: 1 item was due on 20 Sept 2026. Please bring it back.",
        "Matilda: 1 item, due on 1 Feb 2038, is considered lost.",
        "Heidi: 1 item was reported as returned, but not found.",
        "The Hobbit: 2 items are due on 1 Feb 2039.",
    ]
    assert sheet["next_due"] == date(2039, 1, 15), "neither lost nor returned"


def test_what_the_library_leaves_out(client: Client) -> None:
    settings = StatementSettings(bills=False, items=False)
    sheet = pages.statement_page(statement(client, HUONG, settings), settings)
    assert [(member["owed_for"], member["due"]) for member in sheet["members"]] == [((), [])] * 3
    assert (sheet["kinds"], sheet["next_due"], sheet["overdue"]) == ((), None, 0)
    assert sheet["owed"] == Decimal("17.85")


def test_what_is_not_known_is_said_and_counted(sandbox: Sandbox, client: Client) -> None:
    take_away(sandbox, "VIEW_USER_TRANSACTIONS", user=2)
    take_away(sandbox, "VIEW_CIRCULATIONS", user=2)
    settings = StatementSettings()
    sheet = pages.statement_page(statement(client, HUONG, settings), settings)
    assert [(line.text, line.amount) for line in sheet["kinds"]] == [("other charges", Decimal("17.85"))]
    assert [member["all_items"] for member in sheet["members"]] == [False] * 3
