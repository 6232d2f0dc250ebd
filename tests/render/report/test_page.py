"""The page: nothing in it comes from outside or from a name, and it is built as a page should be."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace
from datetime import date
from decimal import Decimal
from importlib import resources
from typing import Any

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import report_samples as samples
from support.rendered import written

from evergreen_groups.follow_up import Entry, FollowUpState, FollowUpStatus, How, What
from evergreen_groups.render import StaffClient, printable
from evergreen_groups.render.report import WorklistRow, WrittenPage, wording
from evergreen_groups.report import WAYS, Changes, Criteria, Report

ELEMENTS = """
    html head meta title style body header main footer section h1 h2 p strong small dl div dt dd time ul ol li
    a meter span svg rect table caption thead tbody tfoot tr th td bdi details summary script
    g polyline line circle text tspan figure figcaption
    label input select option button noscript
"""
ATTRIBUTES = """
    lang dir data-money data-column
    charset http-equiv content name id class datetime aria-labelledby aria-label aria-hidden aria-sort
    focusable viewbox preserveaspectratio width height scope colspan data-kind role x y
    points x1 x2 y1 y2 cx cy r dy text-anchor tabindex data-label
    hidden href target max type autocomplete placeholder spellcheck value checked data-is data-for data-value data-noun
"""
CSS = resources.files("evergreen_groups.render").joinpath("templates", "page.css").read_text("utf-8")


def page(report: Report, **options: Any) -> lxml.html.HtmlElement:
    parser = lxml.html.HTMLParser(remove_comments=True, encoding="utf-8")
    return lxml.html.document_fromstring(written(report, "html", **options).encode(), parser=parser)


def texts(found: list[lxml.html.HtmlElement]) -> list[str]:
    return [one.text_content() for one in found]


def test_members_with_different_limits_have_theirs_beside_the_verdict() -> None:
    tree = page(samples.report_with_limits())
    assert texts(tree.xpath("//tr[@class='members']//tbody//td[4]")) == [
        "yeslimit: more than $5.00",
        "yeslimit: $2.00 or more",
        "nolimit: none",
    ]
    assert "which depends on profile and home library" in tree.xpath("string(//p[@class='rule'])")
    assert not page(samples.sample_report()).xpath("//tr[@class='members']//td/small")


def test_over_the_limit_and_blocked_in_evergreen_are_columns_of_their_own() -> None:
    tree = page(samples.blocked_report())
    rows = {row.xpath("string(th/bdi)"): row for row in tree.xpath("//tr[@class='members']//tbody/tr")}
    headings = texts(tree.xpath("(//tr[@class='members']//thead)[1]//th"))
    places = [headings.index(heading) for heading in ("Over the limit", "Blocked in Evergreen")]
    found = {name: [texts(list(row))[place] for place in places] for name, row in rows.items() if len(row) > 1}
    assert found["Castellanos-Whitfield, Maximiliana Josephine"] == [
        "yes",
        "yes, for finesPATRON_EXCEEDS_FINES at CONS, since 1 Aug 2026",
    ]
    assert found["Castellanos-Whitfield, Theo"] == ["yes", "noover the limit, not yet blocked in Evergreen"]
    assert found["Whitfield, Rosa"] == [
        "no",
        "yes, for finesPATRON_EXCEEDS_FINES at CONS, by staffblocked in Evergreen, own fines within the limit",
    ]
    assert texts(tree.xpath("//td//strong[@class='blocked']")) == ["yes, for fines"] * 2, "red is for a block alone"
    sums = " ".join(tree.xpath("string(//dl[@class='sums'])").split())
    assert "6 members not yet blocked in Evergreen" in sums
    assert "1 member with own fines within the limit" in sums
    assert "Blocked in Evergreen" not in page(samples.sample_report()).xpath("string(//body)")


@settings(deadline=None, max_examples=60)
@given(samples.hostile_reports() | samples.hostile_changed_reports(), st.booleans())
def test_no_element_or_attribute_comes_from_a_name(report: Report, details: bool) -> None:
    tree = page(report, details=details)
    for one in tree.iter():
        assert one.tag in ELEMENTS.split()
        assert set(one.attrib) <= set(ATTRIBUTES.split())
    assert (len(tree.findall(".//script")), len(tree.findall(".//style"))) == (1, 2)
    groups = tree.xpath("//table[@id='groups']/tbody")
    assert len(groups) == len(report.groups)
    for body, group in zip(groups, report.groups, strict=True):
        names = [group.lead.name] + ([one.name for one in group.members] if details else [])
        assert texts(body.xpath(".//bdi[not(ancestor::small[@class='contact'])]")) == [*map(printable, names)]
        contact = report.contacts and report.contacts[group.number]
        shown = [contact.name, *filter(None, (getattr(contact, way) for way in WAYS))] if contact else []
        assert texts(body.xpath(".//small[@class='contact']//bdi")) == [*map(printable, shown)]
        links = body.xpath(".//small[@class='contact']//a/@href")
        assert all(re.match(r"tel:\+?\d+(;ext=\d+)?$|mailto:[^?&\s]+$", link) for link in links)


def test_page_asks_nobody_for_anything() -> None:
    tree = page(samples.sample_report())
    assert not tree.xpath(
        "//@src | //@href[not(starts-with(., '#'))] | //@action | //@style | //@onclick | //link | //iframe | //img"
    )
    assert "url(" not in CSS
    assert "@import" not in CSS
    policy = tree.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for name in ("style", "script"):
        digests = [hashlib.sha256(one.text.encode()).digest() for one in tree.iter(name)]
        allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
        assert f"{name}-src {allowed};" in policy


def test_head() -> None:
    tree = page(samples.sample_report())
    assert tree.get("lang") == "en"
    assert tree.xpath("string(//meta[@name='robots']/@content)") == "noindex, nofollow"
    assert tree.xpath("string(//meta[@name='referrer']/@content)") == "no-referrer"
    assert "width=device-width" in tree.xpath("string(//meta[@name='viewport']/@content)")
    assert re.fullmatch(r"Groups with high combined fines, \d\d? Aug 2026", tree.findtext(".//title") or "")
    assert written(samples.sample_report(), "html").startswith('<!DOCTYPE html>\n<html lang="en" dir="ltr" data-money=')


@pytest.mark.parametrize("report", [samples.sample_report(), samples.changed_report(), samples.empty_report()])
def test_headings_and_names_of_sections(report: Report) -> None:
    tree = page(report)
    levels = [one.tag for one in tree.iter("h1", "h2", "h3", "h4")]
    assert levels[0] == "h1"
    assert set(levels[1:]) <= {"h2"}
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert set(tree.xpath("//@aria-labelledby")) <= set(ids)


def test_tables() -> None:
    tree = page(samples.sample_report())
    [table] = tree.xpath("//table[@id='groups']")
    assert table.findtext("caption") == "5 groups"
    heads = table.xpath("thead/tr/th")
    assert {one.get("scope") for one in heads} == {"col"}
    assert [one.text for one in heads if one.get("aria-sort")] == ["Group Fines"]
    for row in table.xpath("tbody/tr[1]"):
        assert len(row) == len(heads)
        assert row[0].get("scope") == "row"
    for inner in table.xpath(".//details/table"):
        assert re.fullmatch(r"Members of group \d+", inner.get("aria-label"))
        # Heading cells in a row without data cells are column headings without a scope too.
        assert {one.tag for one in inner.xpath("thead/tr/*")} == {"th"}
        assert all(row[0].get("scope") == "row" for row in inner.xpath("tbody/tr"))


@pytest.mark.parametrize(
    ("sort", "heading", "order"),
    [
        ("total", "Group Fines", "descending"),
        ("members", "Members", "descending"),
        ("name", "Name", "ascending"),
        ("library", "Library", "ascending"),
    ],
)
def test_says_how_it_is_sorted(sort: str, heading: str, order: str) -> None:
    report = samples.sample_report()
    tree = page(Report(report.generated_at, report.gateway, Criteria(sort=sort), report.groups, report.totals))
    assert [(one.text, one.get("aria-sort")) for one in tree.xpath("//th[@aria-sort]")] == [(heading, order)]


def test_facts_notes_and_marks() -> None:
    tree = page(samples.sample_report())
    shown = tree.find("body").text_content()
    assert "For information only." in shown
    assert "https://ils.example.org/osrf-gateway-v1" in shown
    assert texts(tree.xpath("//section[@class='notes']//li")) == [samples.INCOMPLETE_NOTE, samples.TOP_NOTE]
    assert texts(tree.xpath("//tfoot/tr/*")) == ["Total", "19", "at least 13", "unknown", "", "at least 7"]
    rows = {row[0].text: row for row in tree.xpath("//table[@id='groups']/tbody/tr[1]")}
    assert rows["902"][7].text_content() == "none"
    assert rows["1187"][7].text_content() == "2"
    assert rows["2240"].xpath("string(td/strong[@class='incomplete'])") == "incomplete"
    folded = {number: row.getnext().text_content() for number, row in rows.items()}
    assert "2 members are hidden from this account (fines: $6.40)" in folded["2240"]
    assert "1 member is hidden from this account (fines: unknown)" in folded["31007"]
    assert texts(rows["2240"])[4:8] == ["at least 2", "$28.39", "at least $12.00", "at least 2"]
    assert texts(rows["31007"])[5] == "unknown"
    assert "no group lead" in folded["85"]
    assert not [number for number, row in rows.items() if "no group lead" in row[1].text_content()]
    assert texts(tree.xpath("//summary"))[2] == "2 of 4 members"
    [theo] = tree.xpath("//details//tr[th/bdi='Castellanos-Whitfield, Theo']")
    assert texts(list(theo))[:5] == ["Castellanos-Whitfield, Theo", "29999000000413", "BR1", "$88.10", "yes"]


def test_changes_have_a_column_that_sorts_by_the_difference() -> None:
    tree = page(samples.changed_report())
    [table] = tree.xpath("//table[@id='groups']")
    heads = table.xpath("thead/tr/th")
    assert (heads[-1].text, heads[-1].get("data-kind")) == ("Change", "number")
    cells = {row[0].text: row[-1] for row in table.xpath("tbody/tr[1]")}
    assert {group: [(cell.text or "").strip(), *texts(list(cell))] for group, cell in cells.items()} == {
        "1187": ["+$85.35", "owes more"],
        "902": ["", "new"],
        "2240": ["-$11.61", "owes less"],
        "85": ["$0.00"],
        "31007": ["unknown", "not certain"],
    }
    assert {len(row) for row in table.xpath("tbody/tr[1]")} == {len(heads)}
    assert set(table.xpath("tbody/tr[2]/td/@colspan")) == {str(len(heads))}
    total = table.xpath("tfoot/tr/*")[-1]
    assert total.text_content() == "unknown"
    assert "formerly group 11; 2 members left" in texts(table.xpath("tbody/tr[2]//details//small"))


def test_what_is_owed_for_since_when_and_what_is_out() -> None:
    tree = page(samples.detailed())
    [table] = tree.xpath("//table[@id='groups']")
    heads = {head.get("data-column"): place for place, head in enumerate(table.xpath("thead/tr/th"))}
    rows = {row[0].text: row for row in table.xpath("tbody/tr[1]")}
    since = {number: row[heads["age"]] for number, row in rows.items()}
    assert since["85"].text_content() == "3 May 2026 (90+)"
    assert since["85"].get("data-value") == str(date(2026, 5, 3).toordinal())
    assert since["902"].text_content() == "29 Apr 2026 (90+) not certain"
    assert [rows[number][heads["overdue"]].text_content() for number in ("1187", "902")] == ["2", "unknown"]
    assert "since 3 May 2026" in rows["85"].getnext().xpath("string(.//details//small[2])")
    kinds = {one.get("value"): one.text for one in tree.xpath("//select[@id='kind']/option")}
    assert list(kinds.values()) == ["any kind", "lost materials", "=Photocopies"]
    owed_for = {
        body.xpath("string(tr/th)"): {kinds[one] for one in body.get("data-for").split()}
        for body in table.xpath("tbody")
    }
    assert owed_for["1187"] == {"lost materials", "=Photocopies"}
    assert owed_for["902"] == {"lost materials"}
    assert not page(samples.sample_report()).xpath("//select[@id='kind'] | //tbody[@data-for]")


def test_a_named_report_has_its_name_in_the_title_and_on_each_sheet_of_paper() -> None:
    tree = page(replace(samples.sample_report(), name='"old"; </style>'))
    assert tree.findtext(".//h1") == 'Groups with high combined fines ("old"; </style>)'
    styles = texts(tree.xpath("//style"))
    assert '@top-left { content: "Groups with high combined fines (\\22 old\\22 ; \\3c /style>), ' in styles[1]
    assert '@bottom-left { content: "Contains names and barcodes of patrons: keep it confidential."; }' in styles[1]


def test_sums_say_what_changed() -> None:
    [tile] = page(samples.changed_report()).xpath("//dl[@class='sums']/div[starts-with(dt, 'Change')]")
    assert tile.findtext("dd") == "unknown"
    said = tile.xpath("string(.//small)")
    assert said.startswith("1 group owes more, 1 group owes less, 2 groups unchanged since ")
    assert said.endswith("; not included: 1 group newly listed ($29.00), 2 groups no longer listed (unknown)")


def test_sums_say_how_the_list_changed_if_its_groups_were_others_before() -> None:
    report = replace(samples.changed_report(), left_out_count=0)
    assert report.changes
    known = {number: one for number, one in report.changes.by_group.items() if one.certain}
    changes = replace(report.changes, by_group=known, cleared=())
    [said] = page(replace(report, changes=changes)).xpath("//dl[@class='sums']//small[contains(., 'since')]/text()")
    assert said.endswith("; +$10.00 in the list's total, because groups moved here or away")
    nightly = changes.difference or Decimal(0)
    same = tuple(replace(one, group_fines=nightly * place) for place, one in enumerate(changes.trend))
    [said] = page(replace(report, changes=replace(changes, trend=same))).xpath(
        "//dl[@class='sums']//small[contains(., 'since')]/text()"
    )
    assert "joined" not in said


def test_cleared_groups_have_a_section() -> None:
    [section] = page(samples.changed_report()).xpath("//section[@aria-labelledby='cleared']")
    assert [texts(list(row)) for row in section.xpath(".//tbody/tr")] == [
        ["611", "Featherstonehaugh, Hildegard Maria", "BR1", "$1,260.10", "$3.00", "now group 612; now 3 members"],
        [
            "17",
            "not known",
            "BR1",
            "unknown",
            "not known",
            "not found: its members may be in several groups, or hidden; not certain",
        ],
    ]
    assert not section.xpath(".//details")
    changes = samples.changed_report().changes
    assert changes
    same = replace(changes.cleared[0], member_count=3)
    assert wording.cleared_remarks(same) == "now group 612", "it has as many members as before"


def test_many_cleared_groups_are_folded_and_an_empty_report_shows_them_too() -> None:
    changes = samples.changed_report().changes
    assert changes
    many = replace(samples.empty_report(), changes=replace(changes, by_group={}, cleared=changes.cleared * 6))
    [summary] = page(many).xpath("//section[@aria-labelledby='cleared']//summary")
    assert summary.text == "12 groups"
    assert len(page(many).xpath("//section[@aria-labelledby='cleared']//tbody/tr")) == 12


def test_the_first_screen_has_five_figures_and_one_trend_and_the_list_comes_next() -> None:
    tree = page(replace(samples.blocked_report(), changes=samples.changed_report().changes))
    [sums] = tree.xpath("//dl[@class='sums']")
    terms = [one.text for one in sums.iter("dt")]
    assert terms == [
        "Groups",
        "Group Fines",
        "Members over the limit",
        "Members blocked in Evergreen",
        "Change in Group Fines",
        "Group Fines, last 30 reports",
    ]
    [summary] = sums.iter("summary")
    label = r"From \$1,000\.00 \(1\d Jul 2026, \d\d:\d\d\) to \$1,290\.00 \(1\d Aug 2026, \d\d:\d\d\)"
    assert re.fullmatch(label, summary.xpath("string(span[@class='spoken'])"))
    # Each point is a stop of the keyboard, and says its day and value.
    points = sums.xpath(".//figure//*[@tabindex='0']")
    assert [points[at].get("aria-label") for at in (0, -1)] == ["16 Jul 2026: $1,000.00", "14 Aug 2026: $1,290.00"]
    assert [points[at].xpath("string(text)") for at in (0, -1)] == ["16 Jul 2026: $1,000.00", "14 Aug 2026: $1,290.00"]
    heights = [150 - float(circle.get("cy")) for circle in sums.iter("circle")]
    zero = 150 - float(sums.xpath("string(.//figure//line[@class='zero']/@y1)"))
    assert (len(heights), len(points)) == (30, 30)
    assert (heights[0] - zero) / (heights[-1] - zero) == pytest.approx(1000 / 1290, abs=0.001)
    rows = [texts(list(row)) for row in sums.xpath(".//tbody/tr")]
    assert (len(rows), rows[0][1], rows[-1][1]) == (30, "$1,290.00", "$1,000.00")
    parts = [one.get("id") or one.get("class") for one in tree.find(".//main")]
    assert parts[:3] == ["sums", "tools", "groups"]
    assert tree.xpath("//main/*[contains(@class, 'tools')]//@id[. = 'shown']")
    foot = " ".join(tree.xpath("string(//footer/dl)").split())
    assert foot.startswith("ListedGroups")
    assert "Evergreen serverhttps://ils.example.org" in foot
    assert tree.xpath("//header//a/@href") == ["#notes"]
    assert tree.xpath("//section[h2/@id='notes']")


def test_the_first_run_has_no_trend_and_no_column() -> None:
    changes = samples.changed_report().changes
    assert changes
    tree = page(replace(samples.sample_report(), changes=Changes(None, {}, trend=changes.trend[:1])))
    assert not tree.xpath("//dl//svg | //section[@aria-labelledby='cleared']")
    assert "Change" not in texts(tree.xpath("//table[@id='groups']/thead//th"))


def test_names_lead_into_the_staff_client_and_numbers_to_the_groups_page() -> None:
    tree = page(samples.sample_report(), client=StaffClient("eg2", "https://ils.example"))
    table = tree.xpath("//table[@id='groups']")[0]
    lead = "https://ils.example/eg2/staff/circ/patron/412/checkout"
    [row] = table.xpath("tbody/tr[1][th/a='1187']")
    assert row.xpath("th/a/@href") == ["https://ils.example/evergreen-groups/patrons/412/group?client=eg2"]
    assert row.xpath("td/a/@href") == [lead]
    members = sum(len(group.members) for group in samples.sample_report().groups)
    assert len(table.xpath(".//tr[@class='members']//th/a")) == members
    assert tree.xpath("string(//base/@target)") == "_blank"
    assert page(samples.sample_report()).xpath("//a/@href | //base") == ["#notes"]


def test_a_librarys_page_leads_back_to_the_index() -> None:
    [link, _notes] = page(samples.sample_report(), index="index.html").xpath("//header//a")
    assert (link.text, link.get("href"), link.get("target")) == ("All libraries", "index.html", "_self")


def test_groups_are_marked_by_what_they_can_be_shown_by() -> None:
    tree = page(samples.changed_report())
    marks = {body.xpath("string(tr/th)"): set(body.get("data-is").split()) for body in tree.xpath("//tbody[@data-is]")}
    assert marks["1187"] == {"over", "worse"}
    assert {"within", "new"} <= marks["902"]
    assert {"incomplete", "better"} <= marks["2240"]
    offered = tree.xpath("//select[@id='only']/option/@value")
    assert offered == ["", "over", "within", "new", "worse", "better", "unchanged", "incomplete"]
    assert "blocked" in page(samples.blocked_report()).xpath("//select[@id='only']/option/@value")


def test_without_details() -> None:
    tree = page(samples.sample_report(), details=False)
    assert not tree.xpath("//details")
    assert "2 members are hidden from this account (fines: $6.40)" in tree.xpath(
        "string(//table[@id='groups']/tbody[3]/tr/td[1])"
    )
    assert len(tree.xpath("//table")) == 1


def test_empty_report() -> None:
    tree = page(samples.empty_report())
    assert not tree.xpath("//table")
    assert texts(tree.xpath("//p[@class='empty']")) == ["No groups to list."]


def test_large_report_stays_small_and_fast() -> None:
    report = samples.large_report()
    started = time.process_time()
    size = len(written(report, "html").encode())
    assert time.process_time() - started < 2
    assert size < 6_000_000


def luminance(color: str) -> float:
    if len(color) == 4:
        color = "#" + "".join(digit * 2 for digit in color[1:])
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def palettes() -> list[dict[str, str]]:
    """The colours of light, dark and print."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark", "print"])
def test_contrast(palette: dict[str, str]) -> None:
    """WCAG AA: 4.5 for text, 3 for what the bars show."""
    for text in ("ink", "soft", "green", "blocked", "mark"):
        for ground in ("paper", "card", "shade"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for ground in ("paper", "mark-paper"):
        assert contrast(palette["mark"], palette[ground]) >= 4.5
    assert contrast(palette["card"], palette["mark"]) >= 4.5
    for bar in ("rest", "mark", "green"):
        for ground in ("paper", "shade"):
            assert contrast(palette[bar], palette[ground]) >= 3, (bar, ground)


def test_what_was_agreed_is_below_the_group_without_the_note() -> None:
    report = samples.sample_report()
    first, second, *_ = report.groups
    entry = Entry(
        id="1-k7q4tz",
        follow_up=1,
        at=report.generated_at,
        saved_on=date(2026, 8, 3),
        group=first.number,
        contact=first.lead.id,
        what=What.PROMISED,
        how=How.PHONE,
        day=date(2026, 8, 3),
        remind_on=date(2026, 8, 15),
        note="SECRET",
        group_fines=first.known_fines,
    )
    states = {
        first.number: FollowUpState(FollowUpStatus.WAITING, entry),
        second.number: FollowUpState(FollowUpStatus.TO_DO, None),
    }
    text = written(report, "html", follow_ups=states)
    agreed = page(report, follow_ups=states).find_class("agreed")
    assert [one.text_content() for one in agreed] == [
        "Waiting · 3 Aug 2026, by phone · Promised to pay · reminder on 15 Aug 2026"
    ]
    assert "SECRET" not in text
    closed = FollowUpState(FollowUpStatus.CLOSED, replace(entry, what=What.CLOSED, how=None, remind_on=None))
    [said] = page(report, follow_ups={first.number: closed}).find_class("agreed")
    assert said.text_content() == "Closed · 3 Aug 2026"
    assert "<button" not in "".join(re.findall('<tr class="follow-up.*?</tr>', text))
    assert not page(report).find_class("agreed")
    # The service replaces what was written by what is so now.
    rows = {group.number: WorklistRow(FollowUpState(FollowUpStatus.TO_DO, None), True) for group in report.groups}
    served = WrittenPage(text).filled(rows, action="a", letters="", place={}, script="s")
    assert "Promised" not in served
    assert "Saved for" not in served
    served = WrittenPage(text).filled(rows, action="a", letters="", place={}, script="s", saved=2)
    assert "Saved for 2 groups." in served
    assert served.count('data-status="to-do"') == len(report.groups)
    assert WrittenPage(served).filled(rows, action="a", letters="", place={}, script="s") == served


def test_each_group_of_a_long_list_gets_its_current_follow_up() -> None:
    report = samples.large_report(300)
    row = WorklistRow(FollowUpState(FollowUpStatus.TO_DO, None), may_write=True)
    rows = {group.number: row for group in report.groups}
    served = WrittenPage(written(report, "html")).filled(rows, action="a", letters="", place={}, script="s")
    buttons = lxml.html.fromstring(served).xpath("//tr[@class='follow-up']//button/@value")
    assert buttons == [str(group.number) for group in report.groups]
    assert served.count("<noscript") == served.count("</noscript>") == 1
