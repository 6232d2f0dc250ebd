"""The mail-merge file: a row for each person who owes something, with their own amount."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

from support.debts import owe
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.letters import CHILDREN, FAMILY, IN_COLLECTIONS, LEAD, OTHER_ADULT, change, penalize

from evergreen_groups.letters import Debtors, NoLetter, Selection, read_debtors
from evergreen_groups.render.letters import write_debtors
from evergreen_groups.report import Criteria, Report, build_report
from evergreen_groups.sandbox import Sandbox

EVERYBODY = Selection()
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
COLUMNS = (
    "group,library,patron,barcode,patron_name,minor,own_fines,owing_since,age_band,contact,contact_role,contact_name,"
    "street1,street2,city,state,post_code,country,day_phone,evening_phone,other_phone,email,locale"
)


def read(sandbox: Sandbox, selection: Selection = EVERYBODY) -> tuple[Report, Debtors]:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(), now=NOW)
        return report, read_debtors(gateway, report, selection)


def rows_of(made: Debtors) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    write_debtors(made, stream)
    assert stream.getvalue().startswith(f"{COLUMNS}\r\n"), "a stable interface: new columns come last"
    return list(csv.DictReader(io.StringIO(stream.getvalue())))


def test_own_amounts_add_up_to_the_report_and_no_group_does(sandbox: Sandbox) -> None:
    for row in sandbox._store.rows("au"):
        change(sandbox, row["id"], mailing_address=1001)
    report, made = read(sandbox)
    rows = rows_of(made)
    owing = [one for group in report.groups for one in group.members if one.own_fines > 0]
    assert sorted(int(row["patron"]) for row in rows) == sorted(one.id for one in owing)
    assert sum(Decimal(row["own_fines"]) for row in rows) == sum(one.own_fines for one in owing)
    credits = sum(min(one.own_fines, Decimal(0)) for group in report.groups for one in group.members)
    hidden = sum(group.hidden_fines or Decimal(0) for group in report.groups)
    assert sum(Decimal(row["own_fines"]) for row in rows) + credits + hidden == report.totals.combined_fines
    values = {value for row in rows for value in row.values()}
    totals = {str(group.combined_fines) for group in report.groups if group.owing_count.at_least > 1}
    assert "28.10" in totals
    assert not totals & values


def test_a_person_with_their_own_contact_data(sandbox: Sandbox) -> None:
    change(sandbox, LEAD, evening_phone="+1 555 0100", locale="fr-CA")
    change(sandbox, OTHER_ADULT, first_given_name="=cmd()")
    _report, made = read(sandbox)
    rows = {int(row["patron"]): row for row in rows_of(made)}
    lead, other, child = rows[LEAD], rows[OTHER_ADULT], rows[CHILDREN[0]]
    assert (lead["own_fines"], lead["minor"]) == ("4.90", "false")
    assert (lead["contact"], lead["contact_role"]) == ("1001", "lead")
    assert (lead["street1"], lead["post_code"], lead["locale"]) == ("14 Harbor Street", "55555", "fr-CA")
    assert (lead["owing_since"], lead["age_band"]) == ("2026-02-02", "90 or more")
    assert lead["evening_phone"] == "'+1 555 0100", "no formula"
    assert (other["contact"], other["contact_name"]) == ("1002", "'=cmd() Okonkwo")
    assert (child["minor"], child["contact"], child["contact_name"]) == ("true", "1001", "Adaeze Okonkwo")


def test_a_minor_without_an_adult_is_reached_by_the_guardian(sandbox: Sandbox) -> None:
    for patron in (LEAD, OTHER_ADULT, *CHILDREN):
        change(sandbox, patron, juvenile="t", dob=None)
    change(sandbox, LEAD, guardian="Ada Obi")
    _report, made = read(sandbox)
    rows = [row for row in rows_of(made) if row["group"] == str(FAMILY)]
    assert {(row["contact_role"], row["contact_name"], row["street1"]) for row in rows} == {
        ("guardian", "Ada Obi", "14 Harbor Street")
    }


def test_selected_by_amount_and_age(sandbox: Sandbox) -> None:
    owe(sandbox, LEAD, (11, "30.00"))  # since 1 October
    owe(sandbox, OTHER_ADULT, (11, "24.99"))
    _report, made = read(sandbox, Selection(Decimal("25.00")))
    assert {one.member.id for one in made.people if one.group == FAMILY} == {LEAD}
    assert all(one.member.own_fines >= 25 for one in made.people)
    _report, made = read(sandbox, Selection(Decimal("25.00"), 300))
    assert LEAD not in [one.member.id for one in made.people]
    _report, made = read(sandbox, Selection(owing_since=60))
    assert {LEAD, OTHER_ADULT}.isdisjoint(one.member.id for one in made.people)
    assert CHILDREN[0] in [one.member.id for one in made.people]


def test_left_out_with_the_reason(sandbox: Sandbox, proxy: FaultProxy) -> None:
    for patron, value in ((LEAD, "true"), (OTHER_ADULT, "false")):
        sandbox._store.insert("aus", {"usr": patron, "name": "circ.collections.exempt", "value": value})
    penalize(sandbox, OTHER_ADULT, IN_COLLECTIONS)
    _report, made = read(sandbox, Selection(collections=True))
    left_out = {one.patron: one.reason for one in made.left_out if one.group == FAMILY}
    assert left_out.pop(LEAD) is NoLetter.EXEMPT
    assert left_out.pop(OTHER_ADULT) is NoLetter.IN_COLLECTIONS
    assert left_out == dict.fromkeys(CHILDREN, NoLetter.IN_COLLECTIONS), "a member of the contact's group is"
    _report, made = read(sandbox)
    assert LEAD in [one.member.id for one in made.people], "only collections leave out who is exempt"
    assert len({one.patron for one in made.left_out} | {one.member.id for one in made.people}) >= 6
    before = len(proxy.calls)
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        read_debtors(gateway, build_report(gateway, Criteria()), Selection(collections=True))
    asked = [call.method for call in proxy.calls[before:]]
    assert len([name for name in asked if ".aus." in name]) == 1, "as a set"
