"""The audit's page: a table for each kind of finding, that a screen reader and a narrow screen can do with."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from decimal import Decimal

import lxml.html

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, GroupFinding, PatronFinding, Reason
from evergreen_groups.groups import Group, Member, Patron
from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.render.audit import HEADINGS, render_audit

NOW = datetime(2026, 11, 25, 3, 15, tzinfo=UTC)
SYS1, BR1, BR2 = (OrgUnit(id, name, name, None) for id, name in ((2, "SYS1"), (4, "BR1"), (5, "BR2")))
ADA = Member(Patron(7, 3, "Okafor, Ada", "Okafor", "2999", BR1, 2, group_lead=True), Decimal("1234.50"))
BO = Member(Patron(8, 3, "Okafor, Bo", "Okafor", None, BR2, 2, group_lead=False), Decimal("0.00"))
BLOCKS = (
    Penalty(1, 8, PenaltyKind(25, "STAFF_CHR", ("CIRC",)), BR1, 4, datetime(2026, 11, 2, tzinfo=UTC)),
    Penalty(2, 8, PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC",)), SYS1, None, None),
)


def page(
    *patrons: PatronFinding, groups: tuple[GroupFinding, ...] = (), notes: tuple[str, ...] = ()
) -> lxml.html.HtmlElement:
    stream = io.StringIO()
    audit = Audit(NOW, "https://ils.example.org", AuditCriteria(), patrons, groups, notes)
    render_audit(audit, "html", stream)
    return lxml.html.document_fromstring(stream.getvalue().encode(), parser=lxml.html.HTMLParser(encoding="utf-8"))


def full_page() -> lxml.html.HtmlElement:
    return page(
        PatronFinding(FindingKind.NOT_BLOCKED, ADA, Reason("over-limit", {"over_by": Decimal("1229.50")}), (), None),
        PatronFinding(FindingKind.FOR_FAMILY, BO, Reason("group-over-limit"), BLOCKS, Decimal("1234.50")),
        groups=(GroupFinding(Group(3, (ADA, BO), 2, Decimal("1.00")), (Reason("no-lead"),)),),
        notes=("Two members can't be seen.",),
    )


def cells(row: lxml.html.HtmlElement) -> list[str]:
    return [cell.text_content() for cell in row]


def test_each_kind_has_a_table_of_its_own_findings() -> None:
    tree = full_page()
    assert tree.xpath("//h2/text()") == [
        "Please note",
        "Over the limit, not blocked in the ILS: 1",
        f"{HEADINGS[FindingKind.FOR_FAMILY]}: 1",
        "Groups that look accidental: 1",
    ]
    over, family, accidental = (cells(row) for row in tree.xpath("//tbody/tr"))
    why = "Own fines are over the limit by 1,229.50, and the ILS has no block for fines."
    assert over == ["Okafor, Ada", "2999", "BR1", "3", "1,234.50", "", why, ""]
    assert family[1:6] == ["", "BR2", "3", "0.00", "1,234.50"]
    assert family[7].split("; ")[0].startswith("STAFF_CHR at BR1")
    assert family[7].split("; ")[1] == "PATRON_EXCEEDS_FINES at SYS1"
    assert accidental[:4] == ["3", "4", "1,235.50", "It has no lead."]
    assert tree.xpath("//tbody/tr[td/ul]/td[last()]//li[last()]")[0].text_content() == "2 hidden members"


def test_what_a_group_owes_is_left_open_where_it_is_not_known() -> None:
    tree = page(groups=(GroupFinding(Group(3, (ADA,), 1, None), (Reason("no-lead"),)),))
    assert cells(tree.xpath("//tbody/tr")[0])[2] == ""
    assert "1 hidden member" in tree.xpath("//tbody/tr/td[last()]//li/text()")


def test_tables_have_names_and_can_be_scrolled_by_keyboard() -> None:
    tree = full_page()
    for table in tree.iter("table"):
        [around] = table.xpath("parent::div[@role='region'][@tabindex='0']")
        assert tree.get_element_by_id(around.get("aria-labelledby")).text.startswith(table.findtext("caption"))
        assert {head.get("scope") for head in table.xpath("thead//th")} == {"col"}
        for row in table.xpath("tbody/tr"):
            assert row[0].get("scope") == "row"
            assert len(row) == len(table.xpath("thead/tr/th"))
            numbers = [head.get("class") == "amount" for head in table.xpath("thead/tr/th")]
            assert [cell.get("class") == "amount" for cell in row] == numbers


def test_the_page_needs_no_script_and_allows_none() -> None:
    policy = full_page().xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'", policy
    )
    assert not full_page().xpath("//script")
