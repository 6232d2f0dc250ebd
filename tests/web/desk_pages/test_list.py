"""The list of a group's members."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable
from decimal import Decimal

import lxml.html
import pytest
from support.bills_and_items import lend
from support.circulators import change_rows, make_stock_circulator, take_away
from support.debts import AT_THRESHOLD, CHILD_AT_THRESHOLD, owe, put_at_thresholds
from support.desk_page import GROUP, ClerkNamed, DeskClerk, DeskPage, as_text, with_settings
from support.gateways import gateway_of

from evergreen_groups.audit import AuditCriteria, build_audit
from evergreen_groups.policy import LimitRule
from evergreen_groups.render import StaffClient
from evergreen_groups.render.audit import render_audit
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

Change = Callable[[Sandbox], object]
NGUYEN, WHITFIELD, HALLORAN, DELETED, LIN = 1017, 1036, 1039, 1031, 1019


def test_a_family(clerk: DeskClerk) -> None:
    page = clerk.open(NGUYEN)
    assert page.status == 200
    assert page.heading == "Group Member Details"
    assert list(page.members) == ["Nguyễn, Thị Hương", "Nguyễn, Lan", "Nguyễn, Minh", "Nguyễn, Văn Đức"]
    assert "Group Fines $25.65 Info only" in page.text
    lead = page.members["Nguyễn, Thị Hương"]
    for text in ("group lead", "20000000001015", "$14.75", "HARBOR", "1 Sept 2029", "Over the limit"):
        assert text in lead
    assert page.text.count("$5.00") == 1, "the limit is mentioned once"
    assert "juvenile" in page.members["Nguyễn, Minh"]
    assert "juvenile" not in lead
    assert page.tree.xpath("//tr[@aria-current='true']/th//bdi/text()") == ["Nguyễn, Minh"]
    assert "Over the limit" not in page.members["Nguyễn, Minh"]
    assert not re.search("birth|born", page.response.text.lower())


@pytest.mark.parametrize(("card", "most"), [("", 120), ("20000000001038", 60)], ids=["list", "plan"])
def test_few_words_for_a_family_of_four(clerk: DeskClerk, sandbox: Sandbox, card: str, most: int) -> None:
    """Not counted: names, barcodes, amounts, and texts that aren't shown at first."""
    change_rows(sandbox, "UPDATE au SET usrgroup = 5001, family_name = 'Nguyễn' WHERE id = 1038")
    page = clerk.open(NGUYEN)
    page = page.send("/plan", card=card) if card else page
    for part in page.tree.xpath(
        "//template | //bdi | //option | //*[@class='spoken' or @class='remarks' or @class='for-selected' or @hidden]"
        " | //details/*[not(self::summary)]"
    ):
        part.drop_tree()
    assert 10 < len(re.findall(r"[^\W\d_][\w'’-]*", page.text)) <= most


def test_one_chip_a_member_and_the_rest_in_details(clerk: DeskClerk) -> None:
    page = clerk.open(NGUYEN)
    chips = page.tree.xpath("//td[@class='standing']/span[contains(@class, 'badge')]")
    assert [as_text(chip) for chip in chips] == ["Blocked", "Blocked"]
    (code,) = set(page.tree.xpath("//ul[@class='remarks']//@title"))
    assert code == "PATRON_EXCEEDS_FINES"
    assert (
        "Blocked · Patron exceeds fine threshold (at LAKELAND, since 5 Oct 2026)." in page.members["Nguyễn, Thị Hương"]
    )


@with_settings(policy=PolicySettings(limits=(LimitRule("Adult", None, Decimal("4.00")),)))
def test_limits_that_members_do_not_share_are_in_details(clerk: DeskClerk) -> None:
    page = clerk.open(NGUYEN)
    assert "Over the limit · The limit is $4.00." in page.members["Nguyễn, Thị Hương"]
    assert "Own fines over the limit 2 Blocked" in page.text


@pytest.mark.long
def test_the_two_truths_are_said_apart(clerk: DeskClerk, sandbox: Sandbox) -> None:
    change_rows(sandbox, "DELETE FROM ausp WHERE usr = 1016")
    for patron, penalty in ((1017, 1), (1018, 25)):
        by_staff = {"staff": 3, "org_unit": 11, "set_date": "2026-10-05T08:00:00+0000"}
        sandbox._store.insert("ausp", {"usr": patron, "standing_penalty": penalty, **by_staff})
    page = clerk.open(NGUYEN)
    both, not_yet, within, other = (page.members[f"Nguyễn, {name}"] for name in ("Thị Hương", "Văn Đức", "Minh", "Lan"))
    assert "Blocked · Patron exceeds fine threshold (at LAKELAND, since 5 Oct 2026). Set by Evergreen." in both
    assert "Over the limit" in both
    assert "Over the limit, not blocked" in not_yet
    assert "Patron exceeds fine threshold (at HARBOR, since 5 Oct 2026). Set by Shore, Norbert." in within
    assert "Blocked, but within the limit" in within
    assert "Over the limit" not in within
    assert "Blocked · Alerting block on Circ, Hold and Renew (at HARBOR, since" in other
    plan = page.send("/plan", ("action", "recalculate"), id="selection")
    assert "It may set or lift a block." in plan.text
    done = plan.send("/change", ("do", "apply"))
    assert "No changes." not in (past := clerk.open(NGUYEN, "/history").text)
    assert "Your other changes" not in past
    assert "not blocked" not in done.members["Nguyễn, Văn Đức"]


def blocks_from(cents: int) -> Change:
    """Set the threshold from which Evergreen blocks."""
    return lambda sandbox: change_rows(sandbox, "UPDATE pgpt SET threshold = ? WHERE penalty = 1", cents)


def block(staff: int | None) -> Change:
    penalty = {"usr": 1001, "standing_penalty": 1, "org_unit": 1, "set_date": "2026-10-05T08:00:00+0000"}
    return lambda sandbox: sandbox._store.insert("ausp", {**penalty, "staff": staff})


def row(page: DeskPage, patron: int) -> str:
    (found,) = page.tree.xpath(f"//tr[.//input[@value='{patron}']]")
    return as_text(found)


VIKRAM = 1034
"""He owes 6.00, more than the limit of 5.00, but isn't blocked."""


@pytest.mark.parametrize(
    ("changes", "patron", "offered", "said"),
    [
        ([], VIKRAM, True, "Over the limit, not blocked"),
        ([blocks_from(1000)], VIKRAM, False, "Over the limit, not blocked · Evergreen blocks at $10.00."),
        (
            [lambda sandbox: change_rows(sandbox, "DELETE FROM pgpt WHERE penalty = 1")],
            VIKRAM,
            False,
            "Evergreen has no threshold for this profile and library.",
        ),
        (
            [blocks_from(1000), lambda sandbox: take_away(sandbox, "VIEW_GROUP_PENALTY_THRESHOLD")],
            VIKRAM,
            True,
            "Over the limit, not blocked · Some bills or Evergreen's threshold are hidden from your login, "
            "so recalculating may change nothing.",
        ),
        ([blocks_from(100), block(None)], 1001, False, "Set by Evergreen. Evergreen blocks at $1.00."),
        ([block(3)], 1001, False, "Staff set this block. Remove it in the patron's Notes."),
        # Owes exactly 5.00 at a threshold of 5.00, and a juvenile 3.00 at one of 3.00.
        ([put_at_thresholds], AT_THRESHOLD, False, "Evergreen blocks at $5.00."),
        ([put_at_thresholds], CHILD_AT_THRESHOLD, False, "Evergreen blocks at $3.00."),
    ],
)
def test_recalculation_is_offered_where_it_could_change_something(
    clerk: DeskClerk, sandbox: Sandbox, changes: list[Change], patron: int, offered: bool, said: str
) -> None:
    for change in changes:
        change(sandbox)
    page = clerk.open(patron)
    assert page.tree.xpath("boolean(//button[@value='recalculate'])") is offered
    assert said in row(page, patron)
    assert ("within the limit" in row(page, patron)) is said.startswith("Staff set this block.")
    form = page.form("/plan", "selection")
    asked = page.clerk.post(form.action, [*form.form_values(), ("action", "recalculate")])
    assert (asked.message == "Refreshing penalties would change nothing here.") is not offered


def test_a_stock_circulator_is_not_told_to_lift_the_block_of_a_hidden_threshold(
    clerk_named: ClerkNamed, sandbox: Sandbox
) -> None:
    put_at_thresholds(sandbox)
    sandbox._store.update("au", CHILD_AT_THRESHOLD, {"home_ou": 12})
    page = clerk_named(make_stock_circulator(sandbox)).open(AT_THRESHOLD)
    assert not page.tree.xpath("//button[@value='recalculate']")
    assert "Evergreen blocks at $5.00." in row(page, AT_THRESHOLD)
    assert "Blocked; Evergreen's threshold is hidden from your login" in row(page, CHILD_AT_THRESHOLD)
    assert "within the limit" not in row(page, CHILD_AT_THRESHOLD)


@pytest.mark.long
def test_a_day_is_the_ils_s_own_wherever_the_service_runs(
    clerk: DeskClerk, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as in the panel and in `show`."""
    change_rows(sandbox, "UPDATE ausp SET set_date = '2026-10-05T20:00:00-0500'")
    monkeypatch.setenv("TZ", "UTC+0")
    time.tzset()
    try:
        assert "since 5 Oct 2026" in clerk.open(NGUYEN).members["Nguyễn, Thị Hương"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.long
def test_somebody_alone(clerk: DeskClerk) -> None:
    page = clerk.open(HALLORAN)
    assert "Group 1010: 1 member " in page.text
    chips = page.tree.xpath("//td[@class='standing']/span[contains(@class, 'badge')]")
    assert [as_text(chip) for chip in chips] == ["Barred", "Blocked"], "the sum counts the block"
    assert page.has_form("/plan")


def test_a_deleted_patron_has_no_page(clerk: DeskClerk) -> None:
    assert [clerk.open(DELETED, part).status for part in ("", ".csv", "/history")] == [404] * 3


def test_hidden_members_are_counted(clerk_named: ClerkNamed) -> None:
    """Declan O'Sullivan-Byrne is at a library that Norbert Shore can't see."""
    page = clerk_named("north_manager").open(1026)
    assert len(page.members) == 2
    (row,) = page.tree.xpath("//table[@id='members']/tfoot/tr")
    assert as_text(row).startswith("1 member hidden from your login $")
    (said,) = page.tree.xpath("//p[@class='sums']")
    assert re.fullmatch(
        r"2 of 3 members visible: out \d+, overdue \d+, lost \d+, blocked 1. "
        r"Group Fines \$\d+\.\d\d include the others. Info only",
        as_text(said),
    )


def test_what_is_out_elsewhere_is_said_to_be_more(clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
    due = {"due_date": "2099-01-01T10:00:00+0000", "fine_interval": "1 day"}
    sandbox._store.insert("circ", {"usr": 1017, "circ_lib": 21, **due})
    desk = clerk_named("harbor_desk")
    page = desk.open(NGUYEN)
    explanation = "Some items may be hidden from your login."
    assert f"1+ {explanation}" in page.members["Nguyễn, Minh"]
    assert page.tree.xpath(f"//span[@title='{explanation}']/text()") == ["1+", "1+", "0+"]
    assert explanation not in page.members["Nguyễn, Lan"]
    assert "Items out at least 5 Overdue" in page.text
    assert "Some items may be hidden from your login. Changes to" in page.text
    rows = list(csv.DictReader(io.StringIO(desk.open(NGUYEN, ".csv").response.text.removeprefix("\ufeff"))))
    found = {row["id"]: (row["items_out"], row["items_complete"]) for row in rows}
    assert found == {"1015": ("2", "true"), "1016": ("2", "true"), "1017": ("1", "false"), "1018": ("0", "true")}


def sums(page: DeskPage) -> str:
    return as_text(page.tree.xpath("//*[@class='sums']")[0])


def test_overdue_items_instead_of_zeros(clerk: DeskClerk, sandbox: Sandbox) -> None:
    for patron in range(1015, 1019):
        owe(sandbox, patron)
        change_rows(sandbox, "DELETE FROM ausp WHERE usr = ?", patron)
    assert sums(clerk.open(NGUYEN)).startswith("Group Fines $0.00 Info only Own fines over $5.00 0")
    for patron in (1016, NGUYEN):
        lend(sandbox, patron, "2026-09-20")
    lend(sandbox, NGUYEN, "2026-09-20", state="LOST")
    sandbox._store.insert("ausp", {"usr": NGUYEN, "org_unit": 11, "standing_penalty": 2})
    page = clerk.open(NGUYEN)
    assert sums(page) == "Group 2 items overdue, 1 item lost Info only Blocked 1 Items out 2"
    assert "Blocked for own items · Patron exceeds max overdue item threshold" in page.members["Nguyễn, Minh"]
    assert "Blocked" not in page.members["Nguyễn, Văn Đức"]


def test_overdue_items_of_hidden_members_are_unknown(clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
    change_rows(sandbox, "UPDATE au SET usrgroup = 1004 WHERE id = 1012")
    for patron in (1012, *range(1015, 1019)):
        owe(sandbox, patron)
    lend(sandbox, NGUYEN, "2026-09-20")
    assert sums(clerk_named("harbor_desk").open(NGUYEN)).startswith(
        "Group: at least 1 item overdue. 4 of 5 members visible: out"
    )


@pytest.mark.parametrize(
    ("sort", "first", "direction"),
    [
        ("-fines", "Nguyễn, Thị Hương", "descending"),
        ("fines", "Nguyễn, Lan", "ascending"),
        ("-name", "Nguyễn, Văn Đức", "descending"),
        ("-overdue", "Nguyễn, Minh", "descending"),
        ("; drop", "Nguyễn, Thị Hương", None),
    ],
)
@pytest.mark.long
def test_sorting_by_a_link(clerk: DeskClerk, sort: str, first: str, direction: str | None) -> None:
    page = clerk.open(NGUYEN, query=f"sort={sort}")
    assert next(iter(page.members)) == first
    assert next(iter(page.tree.xpath("//th/@aria-sort")), None) == direction


@pytest.mark.long
def test_each_column_has_a_link_that_sorts_by_it(clerk: DeskClerk) -> None:
    for address in clerk.open(NGUYEN).tree.xpath("//thead//a/@href"):
        page = clerk.get(address)
        assert page.tree.xpath("//th/@aria-sort") in (["ascending"], ["descending"])
        assert len(page.members) == 4
        (again,) = page.tree.xpath("//th[@aria-sort]/a[@class='sorted']/@href")
        assert clerk.get(again).tree.xpath("//th/@aria-sort") != page.tree.xpath("//th/@aria-sort")


@pytest.mark.parametrize(
    ("query", "referrer", "client"),
    [
        ("client=eg2", "", "/eg2"),
        ("client=eg2/fr-CA", "", "/eg2/fr-CA"),
        ("client=eg", "https://x/eg2/en-US/staff/circ/patron/7/checkout", "/eg"),
        ("", "https://ils.example.org/eg2/en-US/staff/circ/patron/7/checkout", "/eg2/en-US"),
        ("", "https://ils.example.org/eg/staff/circ/patron/7/checkout", "/eg"),
        ("client=//evil.example", "", "/eg"),
        ("client=eg2/../..", "", "/eg"),
        ("", "", "/eg"),
    ],
)
@pytest.mark.long
def test_names_lead_back_into_the_client_that_one_came_from(
    clerk: DeskClerk, query: str, referrer: str, client: str
) -> None:
    page = clerk.get(f"{GROUP.format(NGUYEN)}?{query}", Referer=referrer)
    links = page.tree.xpath("//table[@id='members']/tbody/tr[1]/th//a[contains(@href, '/staff/')]/@href")
    assert links == [f"{client}/staff/circ/patron/1015/{tab}" for tab in ("checkout",)]
    assert page.tree.xpath("//a[contains(@href, 'clone')]/@href") == [
        f"{client}/staff/circ/patron/register/clone/{NGUYEN}"
    ]
    assert all(f"client={client[1:]}" in form.action for form in page.tree.forms)


class TestCsv:
    def test_the_list_as_it_is_shown(self, clerk: DeskClerk) -> None:
        answer = clerk.open(NGUYEN, ".csv", "sort=-fines").response
        assert answer.headers["Content-Disposition"] == 'attachment; filename="group-1004.csv"'
        assert answer.content_type.startswith("text/csv")
        assert answer.text.startswith("\ufeff")
        rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
        assert [row["barcode"] for row in rows] == [f"2000000000{id}" for id in (1015, 1016, 1017, 1018)]
        assert rows[0]["own_fines"] == "14.75"
        assert rows[0]["over_limit"] == "true"
        assert rows[0]["limit"] == "5.00"
        assert rows[2]["juvenile"] == "true"
        assert "\r\n" in answer.get_data(as_text=True)

    @pytest.mark.long
    def test_a_name_is_no_formula(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        change_rows(sandbox, "UPDATE au SET family_name = '=cmd()' WHERE id = 1016")
        assert "'=cmd()" in clerk.open(NGUYEN, ".csv").response.text


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "found", "said"), [(" 林, 美 elm ", ["林, 美玲"], ""), ("<b>nobody", [], "No member matches <b>nobody")]
)
def test_search_within_without_a_script(clerk: DeskClerk, text: str, found: list[str], said: str) -> None:
    page = clerk.open(LIN)
    assert len(page.members) == 7
    searched = page.clerk.post(
        f"{GROUP.format(LIN)}/within", [("form", page.form("/plan").fields["form"]), ("within", text)]
    )
    assert list(searched.members) == found
    assert said in searched.text


def test_from_the_audit_to_the_plan_of_who_came_of_age(clerk: DeskClerk, sandbox: Sandbox) -> None:
    sandbox._store.update("au", NGUYEN, {"dob": "1990-05-05"})
    written = io.StringIO()
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        render_audit(build_audit(gateway, AuditCriteria()), "html", written, client=StaffClient("eg2"))
    (link,) = lxml.html.fromstring(written.getvalue()).xpath("//tbody[@data-is='came-of-age']//td[@class='to-do']//a")
    plan = clerk.get(link.get("href")).send("/plan", ("action", "remove"), id="selection")
    assert plan.heading == "Remove Nguyễn, Minh from the group?"


def test_members_are_selected_to_begin_with_as_an_audit_suggests(clerk: DeskClerk) -> None:
    page = clerk.open(1054, query="select=1056,1055")
    assert page.tree.xpath("//input[@name='member'][@checked]/@value") == ["1056", "1055"]
    plan = page.send("/plan", ("action", "remove"), id="selection")
    assert plan.heading == "Remove 2 patrons from the group?"
    assert "Sandoval, Greta and Pine Hill School, Office share an address record" in plan.warnings
    assert clerk.open(1054, query="select=4711").tree.xpath("//input[@name='member'][@checked]") == []
    assert clerk.open(1054, query="select=x").status == 400
