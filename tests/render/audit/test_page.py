"""The audit's page: a table per kind of finding, no empty columns, and an action in each row."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import lxml.html
import pytest
from support.audit_samples import sample_audit

from evergreen_groups.audit import (
    Audit,
    AuditCriteria,
    Confidence,
    Evidence,
    FindingKind,
    GroupFinding,
    PatronFinding,
    Reason,
)
from evergreen_groups.audit.findings import GroupSplit
from evergreen_groups.groups import Group, Member, Patron
from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.policy import Limit, decide
from evergreen_groups.render import StaffClient
from evergreen_groups.render.audit import HEADINGS, render_audit
from evergreen_groups.render.audit.wording import WHAT_TO_DO, advice_for, describe_split

NOW = datetime(2026, 11, 25, 3, 15, tzinfo=UTC)
SYS1, BR1, BR2 = (OrgUnit(id, name, name, None) for id, name in ((2, "SYS1"), (4, "BR1"), (5, "BR2")))
ADA = Member(Patron(7, 3, "Okafor, Ada", "Okafor", "2999", BR1, 2, group_lead=True), Decimal("1234.50"))
BO = Member(Patron(8, 3, "Okafor, Bo", "Okafor", None, BR2, 2, group_lead=False), Decimal("0.00"))
BLOCKS = (
    Penalty(1, 8, PenaltyKind(25, "STAFF_CHR", ("CIRC",)), BR1, 4, datetime(2026, 11, 2, tzinfo=UTC)),
    Penalty(2, 8, PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC",)), SYS1, None, None),
)
OVER = PatronFinding(FindingKind.NOT_BLOCKED, ADA, Reason("over-limit", {"over_by": Decimal("1229.50")}))
FAMILY = PatronFinding(FindingKind.FOR_FAMILY, BO, Reason("group-over-limit"), BLOCKS, Decimal("1234.50"))
GROUP = GroupFinding(
    Group(3, (ADA, BO), 2, Decimal("1.00")), (Reason("no-lead"), Reason("stranger", {"name": ADA.name}))
)


def tree_of(audit: Audit, client: StaffClient | None = None) -> lxml.html.HtmlElement:
    stream = io.StringIO()
    render_audit(audit, "html", stream, client=client)
    return lxml.html.document_fromstring(stream.getvalue().encode(), parser=lxml.html.HTMLParser(encoding="utf-8"))


def page(
    *patrons: PatronFinding, groups: tuple[GroupFinding, ...] = (), client: StaffClient | None = None
) -> lxml.html.HtmlElement:
    audit = Audit(NOW, "https://ils.example.org", AuditCriteria(), patrons, groups, ("Two members can't be seen.",))
    return tree_of(audit, client)


def texts(row: lxml.html.HtmlElement) -> list[list[str]]:
    return [[text.strip() for text in cell.itertext() if text.strip()] for cell in row]


def findings(tree: lxml.html.HtmlElement) -> list[list[list[str]]]:
    return [texts(row) for row in tree.xpath("//table[contains(@class, 'findings')]/tbody/tr[1]")]


def headings(tree: lxml.html.HtmlElement) -> list[list[str]]:
    return [table.xpath("thead/tr/th/text()") for table in tree.xpath("//table[contains(@class, 'findings')]")]


def test_each_kind_has_a_table_of_its_own_findings() -> None:
    tree = page(OVER, FAMILY, groups=(GROUP,))
    assert [heading.text_content() for heading in tree.xpath("//section[@class='kind']/h2")] == [
        f"{HEADINGS[FindingKind.NOT_BLOCKED]} (1)",
        f"{HEADINGS[FindingKind.FOR_FAMILY]} (1)",
        "Groups that look accidental (1)",
    ]
    over, family, accidental = findings(tree)
    assert over == [
        ["Okafor, Ada", "2999"],
        ["BR1"],
        ["3"],
        ["$1,234.50"],
        ["over the limit by $1,229.50"],
        ["Open the patron and select Refresh Penalties."],
    ]
    assert family[:5] == [["Okafor, Bo", "no card"], ["BR2"], ["3"], ["$0.00"], ["$1,234.50"]]
    assert family[5] == [
        "own fines are within the limit, but the group's exceed it",
        "STAFF_CHR at BR1, by staff, since 2 Nov 2026",
        "PATRON_EXCEEDS_FINES at SYS1",
    ]
    assert accidental[:5] == [["Okafor, Ada", "2999"], ["BR1"], ["3"], ["4"], ["$1,235.50"]]


def test_the_tiles_lead_to_the_tables() -> None:
    tree = page(OVER, FAMILY, groups=(GROUP,))
    tiles = {
        link.get("href"): link.getparent().getparent().findtext("dd") for link in tree.xpath("//dl[@class='sums']//a")
    }
    assert tiles == {"#over-limit-not-blocked": "1", "#blocked-for-family": "1", "#accidental-group": "1"}
    assert all(tree.get_element_by_id(target[1:]).tag == "h2" for target in tiles)


def test_no_column_is_empty_and_what_is_not_known_is_said() -> None:
    assert headings(page(OVER)) == [["Name", "Library", "Group", "Own fines", "Why", "What to do"]]
    unknown = replace(GROUP, group=Group(3, (ADA,), 1, None))
    assert headings(page(groups=(unknown,))) == [["Name", "Library", "Group", "Members", "Why", "What to do"]]
    tree = page(groups=(GROUP, unknown))
    assert headings(tree) == [["Name", "Library", "Group", "Members", "Group Fines", "Why", "What to do"]]
    assert findings(tree)[1][4] == ["not known"]


@pytest.mark.parametrize("times", [1, 3])
def test_every_cell_of_every_kind_says_something(times: int) -> None:
    tree = tree_of(sample_audit(times))
    for table in tree.xpath("//table[contains(@class, 'findings')]"):
        heads = table.xpath("thead/tr/th")
        assert table.findtext("caption")
        assert {head.get("scope") for head in heads} == {"col"}
        # Thresholds have no names that could be the headings of their rows.
        assert {row[0].get("scope") for row in table.xpath("tbody/tr[1]")} == {
            "row" if heads[0].text == "Name" else None
        }
        for row in table.xpath("tbody/tr[1]"):
            assert len(row) == len(heads)
            assert all(texts(row))
            numbers = ["amount" in (head.get("class") or "") for head in heads]
            assert ["amount" in (cell.get("class") or "") for cell in row] == numbers


def test_what_to_do_names_the_card_that_it_is_about() -> None:
    stale = PatronFinding(FindingKind.NOT_OVER, ADA, Reason("not-over-limit"), BLOCKS[1:])
    (found,) = findings(page(stale))
    assert found[-1][-1] == "evergreen-groups audit --explain 2999"
    (found,) = findings(page(groups=(GROUP,)))
    assert found[-1] == [
        "Make a member the lead on the group's page.",
        "Remove Okafor, Ada if they don't belong.",
        "evergreen-groups remove 2999",
    ]
    (found,) = findings(page(replace(stale, member=BO)))
    assert found[-1] == [
        "Open the patron and select Refresh Penalties. If they stay blocked, an administrator can find out why."
    ]


def test_a_reason_without_its_own_advice_gets_its_kinds_advice() -> None:
    for kind in FindingKind:
        advice = advice_for(kind, Reason("something-new"), "2999")
        assert (advice.text, advice.command) == (WHAT_TO_DO[kind], "")


def test_how_sure_it_is_and_by_which_evidence_and_what_to_do_about_it() -> None:
    confidence = Confidence.from_evidence([Evidence("no-lead"), Evidence("strangers", {"count": 1})])
    split = GroupSplit((8,), ((7,),))
    known = GroupFinding(Group(3, (ADA, BO)), (Reason("no-lead"),), confidence=confidence, split=split)
    client = StaffClient(url="https://ils.example.org")
    tree = page(groups=(known,), client=client)
    (found,) = findings(tree)
    assert headings(tree)[0][-3:] == ["Confidence", "Why", "What to do"]
    assert found[5:7] == [["45", "medium"], ["no lead", "(+10)", "1 adult shares nothing with another adult", "(+35)"]]
    assert found[7] == [
        "Make a member the lead on the group's page.",
        "Suggested split. Stay: Okafor, Bo. Leave: Okafor, Ada.",
        "If the group is right, an administrator can stop listing it:",
        "evergreen-groups audit --keep 3",
    ]
    # The link opens a staying member's page, with the members to take out selected.
    assert tree.xpath("//td[@data-label='Group']/a/@href") == [client.group_page(8, select=[7])]
    assert client.group_page(8, select=[7]).endswith("/patrons/8/group?client=eg&select=7")
    in_tab = StaffClient(url="https://ils.example.org", groups_in_tab=True)
    assert "select" not in in_tab.group_page(8, select=[7])


def test_each_family_of_a_suggested_split_is_told_apart() -> None:
    members = tuple(replace(ADA, patron=replace(ADA.patron, id=id, name=f"M{id}")) for id in range(1, 5))
    found = GroupFinding(Group(3, members), (Reason("no-lead"),), split=GroupSplit((1,), ((2, 3), (4,))))
    assert describe_split(found) == "Suggested split. Stay: M1. Leave together: M2; M3. Leave: M4."


def test_groups_that_are_to_be_kept_are_named() -> None:
    audit = Audit(NOW, "https://ils.example.org", AuditCriteria(), (OVER,), (), to_keep=(12, 13))
    (text,) = tree_of(audit).xpath("//main/p[not(@id)]/text()")
    assert "not listed: 12 and 13." in text


def test_the_limit_that_counted_is_said_where_there_are_several() -> None:
    limit = Limit(Decimal("5.00"), origin="configuration: Child at BR1")
    member = replace(ADA, decision=decide(Decimal("7.00"), limit))
    (found,) = findings(page(replace(OVER, member=member, limits_differ=True)))
    assert found[4][1] == "limit $5.00 (configuration: Child at BR1), with $7.00 counting toward it"


def test_members_unfold_with_their_cards_and_hidden_ones_are_counted() -> None:
    tree = page(groups=(GROUP,))
    (details,) = tree.xpath("//tr[@class='members']//details")
    assert details.findtext("summary") == "4 members"
    assert [texts(row) for row in details.xpath(".//tbody/tr")] == [
        [["Okafor, Ada", "group lead"], ["2999"], ["BR1"], ["$1,234.50"]],
        [["Okafor, Bo"], ["no card"], ["BR2"], ["$0.00"]],
    ]
    assert details.findtext("p") == "2 hidden members."


def test_names_lead_into_the_staff_client_and_groups_to_their_pages() -> None:
    client = StaffClient(url="https://ils.example.org")
    tree = page(FAMILY, groups=(GROUP,), client=client)
    links = {link.text_content(): link.get("href") for link in tree.xpath("//table//a")}
    assert links == {
        "Okafor, Ada": client.patron_page(7),
        "Okafor, Bo": client.patron_page(8),
        "3": client.group_page(7),
    }
    assert page(FAMILY, groups=(GROUP,)).xpath("//table//a") == []


def test_who_came_of_age_is_selected_on_the_groups_page_where_staff_can_remove_them() -> None:
    found = PatronFinding(FindingKind.CAME_OF_AGE, BO, Reason("came-of-age", {"age": 18}))
    (link,) = page(found, client=StaffClient("eg2")).xpath("//td[@class='to-do']//a")
    assert link.text_content() == "Remove from the group"
    assert link.get("href") == "/evergreen-groups/patrons/8/group?client=eg2&select=8"
    ada = replace(found, member=ADA)
    (cell,) = page(ada).xpath("//td[@class='to-do']")  # without a web service, a command does it
    assert cell.xpath("code")[0].text_content() == "evergreen-groups remove 2999"
    assert cell.xpath(".//a") == []


def test_the_page_asks_nobody_for_anything_and_allows_its_own_script_alone() -> None:
    tree = page(OVER)
    policy = tree.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")
    hashed = "'sha256-[A-Za-z0-9+/]{43}='"
    assert re.fullmatch(
        rf"default-src 'none'; style-src {hashed} {hashed}; script-src {hashed}; base-uri 'none'; form-action 'none'",
        policy,
    )
    assert len(tree.xpath("//script")) == 1
    assert not tree.xpath("//*[@style or @onclick or @src]")
