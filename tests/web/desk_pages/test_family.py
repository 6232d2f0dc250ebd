"""A member's bills and items, the group's history, the family statement, and the same data in the API."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from flask import Flask
from support.bills_and_items import ELM, bill, lend
from support.circulators import change_rows, take_away
from support.desk_caller import caller_of
from support.desk_page import GROUP, ClerkNamed, DeskClerk, with_settings
from support.documents import schema
from support.recorded_nights import record_nights
from support.web_caller import MakeApp, client_of, settings_of

from evergreen_groups import hooks
from evergreen_groups.client import Client
from evergreen_groups.desk import Titles
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import StatementSettings
from evergreen_groups.settings.sections import DeskSettings

HUONG, DUC, MINH, LAN, WHITFIELD = 1015, 1016, 1017, 1018, 1036
TITLE = "The owl who read at night"
BIRTH_DATE = "2016-04-03"


def member_page(clerk: DeskClerk, member: int, patron: int = MINH) -> Any:
    return clerk.get(f"{GROUP.format(patron)}/members/{member}")


def statement(clerk: DeskClerk, patron: int) -> Any:
    return clerk.get(f"{GROUP.format(patron)}/statement")


class TestAMember:
    def test_bills_and_items(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        bill(sandbox, DUC, "3.00", "1.25", library=ELM)
        page = member_page(clerk, DUC)
        assert page.status == 200
        assert page.heading == "Nguyễn, Văn Đức"
        assert "overdue materials 19 Jan 2026 HARBOR $9.30 $0.00 $9.30" in page.part("affairs")
        assert "Photocopies 1 Sept 2026 ELM $3.00 $1.25 $1.75" in page.part("affairs")
        assert "Total $11.05" in page.part("affairs")
        assert "10 Mar 2026 lost" in page.part("affairs")
        assert "15 Jan 2039 out – HARBOR" in page.part("affairs")
        assert "Title" not in page.text
        assert f"/members/{DUC}" in clerk.open(MINH).response.text, "the list leads there"

    def test_penalties_on_the_page_and_not_for_the_script(self, clerk: DeskClerk) -> None:
        said = "Blocked · Patron exceeds fine threshold (at LAKELAND, since 5 Oct 2026)."
        assert said in member_page(clerk, DUC).text
        clerk.headers["Sec-Fetch-Dest"] = "empty"
        assert "Blocked" not in member_page(clerk, DUC).text

    def test_who_else_may_use_the_account(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        names = {"name": "<b>Đức</b> Nguyễn\N{RIGHT-TO-LEFT OVERRIDE}\n20000000001016", "usr": LAN}
        sandbox._store.insert("aupw", names)
        page = member_page(clerk, LAN)
        assert page.text.partition("Others may use this account ")[2].startswith(
            "As staff typed the names. They aren't linked to patrons. "
            "Bà Nguyễn (grandmother): Place holds, Pick up holds "
            "Anyone in our family: Pick up holds, View borrowing history, Check out items "
            "<b>Đức</b> Nguyễn"
        )
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page.text
        assert "Others may use" not in member_page(clerk, MINH).text
        for part in ("", ".csv", "/statement"):
            assert "grandmother" not in clerk.open(LAN, part).response.text

    @pytest.mark.long
    def test_nothing(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        change_rows(sandbox, "DELETE FROM mbts WHERE usr = ?", LAN)
        page = member_page(clerk, LAN)
        assert "No open bills." in page.text
        assert "No items out." in page.text

    @pytest.mark.long
    def test_what_is_hidden_is_said(self, clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
        lend(sandbox, LAN, "2039-01-01", library=ELM)
        lend(sandbox, DUC, "2039-01-01", library=ELM)
        take_away(sandbox, "VIEW_USER_TRANSACTIONS", user=4)
        desk = clerk_named("harbor_desk")
        page = member_page(desk, LAN)
        assert "Own fines are -$1.50. The bills are hidden from your login." in page.text
        assert "Some items may be hidden from your login." in page.text
        assert "Some items may be hidden from your login." in member_page(desk, DUC).text

    @pytest.mark.long
    def test_who_is_no_member(self, clerk: DeskClerk) -> None:
        assert member_page(clerk, WHITFIELD).status == 404
        assert member_page(clerk, 999_999).status == 404
        assert clerk.get(f"{GROUP.format(MINH)}/members/abc").status == 400


@with_settings(desk=DeskSettings(titles="juveniles"))
@pytest.mark.long
def test_a_bill_whose_item_is_hidden(clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
    lend(sandbox, MINH, "2026-07-02", copy=9001, returned=True, billed="0.80", library=ELM)
    desk = clerk_named("harbor_desk")
    assert "overdue materials – not visible to your login 1 Sept 2026 ELM $0.80" in (
        member_page(desk, MINH).text.replace("–not", "– not")
    )


class TestNights:
    def test_a_trend_for_whoever_sees_everybody(self, clerk: DeskClerk, app: Flask, client: Client) -> None:
        record_nights(app, client, ["30.00", "0.00", "27.50"])
        page = clerk.open(MINH)
        assert "Nightly report: $30.00 on" in page.text
        rows = [" ".join(row.itertext()).split() for row in page.tree.xpath("//details[@class='trend']//tbody/tr")]
        assert [row[3:] for row in rows] == [["$27.50"], ["not", "in", "the", "report"], ["$30.00"]]
        picture = page.tree.xpath("//details[@class='trend']//svg")[0]
        assert picture.get("aria-hidden") == "true"

    @pytest.mark.long
    def test_no_trend_beside_hidden_members(
        self, app: Flask, client: Client, sandbox: Sandbox, clerk_named: ClerkNamed
    ) -> None:
        record_nights(app, client, ["30.00", "27.50"])
        desk = clerk_named("harbor_desk")
        assert "Nightly report:" in desk.open(MINH).text
        change_rows(sandbox, "UPDATE au SET home_ou = ? WHERE id = ?", ELM, LAN)
        assert "Nightly report:" not in desk.open(MINH).text

    @pytest.mark.long
    def test_one_night_is_no_trend(self, clerk: DeskClerk, app: Flask, client: Client) -> None:
        record_nights(app, client, ["30.00"])
        assert "Nightly report:" not in clerk.open(MINH).text


class TestStatement:
    def test_the_sheet(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        change_rows(sandbox, "UPDATE au SET dob = ? WHERE id = ?", BIRTH_DATE, MINH)
        page = statement(clerk, HUONG)
        assert page.status == 200
        assert page.heading == "Harbor Street Library"
        for text in ("for Nguyễn, Thị Hương", "owes $14.75", "has a credit of $1.50", "You can pay at the library"):
            assert text in page.text
        assert "1 item was due on 20 Sept 2026. Please bring it back." in page.text
        assert "Total $17.85" in page.text
        assert "Credits of $1.50 aren't subtracted. Less these credits, the total is $16.35." in page.text
        assert "1 item is overdue. Please bring it back now." in page.text
        assert "Next due date" not in page.text
        # The other parent is left out, also of all sums and counts.
        assert "Đức" not in page.text
        for text in (TITLE, BIRTH_DATE, "2016", "9.30", "25.65", "2000000000"):
            assert text not in page.response.text
        assert "statement" in clerk.open(HUONG).response.text

    @pytest.mark.long
    def test_it_does_not_reveal_who_is_left_out(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        """The statement is the same as for a family without a second adult, so it doesn't reveal who is left out."""
        before = statement(clerk, HUONG).part("main")
        change_rows(sandbox, "UPDATE au SET usrgroup = 5001 WHERE id = ?", DUC)
        after = statement(clerk, HUONG).part("main")
        times = {text.rpartition(" at ")[2][:5] for text in (before, after)}
        for time in times:
            before, after = before.replace(time, "TIME"), after.replace(time, "TIME")
        assert before == after

    @pytest.mark.long
    def test_where_to_pay_only_if_anyone_owes(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        assert "You can pay at" in statement(clerk, HUONG).text
        change_rows(sandbox, "DELETE FROM mbts")
        page = statement(clerk, HUONG)
        assert "Total $0.00" in page.text
        assert "You can pay at" not in page.text

    @pytest.mark.long
    def test_what_the_library_sets(self, clerk: DeskClerk, make_app: MakeApp) -> None:
        said = StatementSettings(
            library="Our <Library>", text="Line one.\nLine two.", how_to_pay="Online.", adults=True, titles="all"
        )
        clerk._client = client_of(make_app(settings_of(clerk.origin, statement=said)))
        page = statement(clerk, HUONG)
        assert page.heading == "Our <Library>"
        for text in ("Line one.", "Line two.", "Online.", "Nguyễn, Văn Đức", f"{TITLE}: 1 item was due", "$25.65"):
            assert text in page.text
        clerk._client = client_of(make_app(settings_of(clerk.origin, statement=StatementSettings(page=False))))
        assert statement(clerk, HUONG).status == 404
        assert "Statement" not in clerk.open(HUONG).text


class TestPrograms:
    def test_the_json(self, app: Flask, sandbox: Sandbox, client: Client) -> None:
        lend(sandbox, MINH, "2026-07-02", copy=9001, returned=True, billed="0.80", paid="0.30")
        document = caller_of(app, sandbox).send("GET", f"patrons/{MINH}/group/bills").body
        jsonschema.validate(document, schema("group-bills"))
        assert [member["id"] for member in document["members"]] == [HUONG, LAN, MINH, DUC]
        minh = document["members"][2]
        assert minh["own_fines"] == "3.60"
        assert [(one["for"], one["owed"], one["library"], one["title"]) for one in minh["bills"]] == [
            ("overdue materials", "3.10", "HARBOR", None),
            ("overdue materials", "0.50", "HARBOR", None),
        ]
        assert [(one["state"], one["due"], one["title"]) for one in minh["items"]] == [
            ("overdue", "2026-09-20T23:59:59+00:00", None)
        ]
        jsonschema.validate(hooks.as_json(hooks.group_bills(client, MINH, Titles.ALL)), schema("group-bills"))

    @pytest.mark.long
    def test_what_is_hidden_is_null(self, app: Flask, sandbox: Sandbox) -> None:
        change_rows(sandbox, "DELETE FROM grants WHERE usr = 4 AND permission LIKE 'VIEW_%TRANSACTIONS'")
        take_away(sandbox, "VIEW_CIRCULATIONS", user=4)
        document = caller_of(app, sandbox, "harbor_desk").send("GET", f"patrons/{MINH}/group/bills").body
        jsonschema.validate(document, schema("group-bills"))
        assert [(one["bills"], one["items"], one["all_items"]) for one in document["members"]] == [
            (None, [], False)
        ] * 4
