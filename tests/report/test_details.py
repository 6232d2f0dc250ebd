"""What members owe for, since when, and items out: consistent or unknown, and cheap to read."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.bills_and_items import bill, lend
from support.fault_proxy import Call, Fault, FaultProxy
from support.gateways import gateway_of

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import PATRON_FIELDS
from evergreen_groups.ils import UnreturnedItems
from evergreen_groups.report import Choice, Criteria, Report, ReportDetails, build_report
from evergreen_groups.sandbox import Sandbox

CONSORTIUM_STAFF = 2


def revoke(sandbox: Sandbox, permission: str) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE usr = ? AND permission = ?", [CONSORTIUM_STAFF, permission])


def details_of(report: Report) -> ReportDetails:
    assert report.details is not None
    return report.details


def test_what_is_known_of_a_family(staff: Gateway) -> None:
    report = build_report(staff, Criteria())
    (group,) = (one for one in report.groups if one.number == 1004)
    found = details_of(report).of_group(group)
    assert [(one.kind.text, str(one.balance), one.bill_count) for one in found.kinds] == [
        ("overdue materials", "25.65", found.kinds[0].bill_count)
    ]
    assert found.owing_since is not None
    assert found.last_payment is not None
    assert (f"{found.owing_since:%Y-%m-%d}", f"{found.last_payment:%Y-%m-%d}") == ("2026-01-19", "2026-04-09")
    assert (found.items, found.items_certain, found.returnable) == (UnreturnedItems(2, 1), True, True)
    by_id = {member.id: details_of(report).of(member) for member in group.members}
    assert {id for id, one in by_id.items() if one.state.juvenile} == {1017, 1018}
    assert by_id[1016].items == UnreturnedItems(1, 1)  # items claimed returned or not yet due don't count
    assert by_id[1015].items == UnreturnedItems(0, 0)
    assert by_id[1018].owing_since is None  # a credit isn't owed
    assert by_id[1017].profile == "Child"


def test_a_small_credit_is_not_owed(staff: Gateway, sandbox: Sandbox) -> None:
    bill(sandbox, 1015, "0.00", "0.50", kind="Deposit", since="2025-01-01T10:00:00+0000")
    report = build_report(staff, Criteria(min_total=Decimal("20.00")))
    (group,) = (one for one in report.groups if one.number == 1004)
    since = details_of(report).of_group(group).owing_since
    assert since is not None
    assert f"{since:%Y-%m-%d}" == "2026-01-19", "the deposit is older"


def test_what_the_account_may_not_see_is_not_known(sandbox: Sandbox, staff: Gateway) -> None:
    revoke(sandbox, "VIEW_USER_TRANSACTIONS")
    report = build_report(staff, Criteria())
    for group in report.groups:
        summed = details_of(report).of_group(group)
        assert (summed.kinds, summed.not_known, summed.certain) == ((), group.group_fines, False)
        assert summed.owing_since is None
        assert {details_of(report).of(member).kinds for member in group.members} == {None}
    assert any("VIEW_USER_TRANSACTIONS" in note for note in report.notes)


def test_a_payment_between_two_looks_leaves_nothing_that_does_not_add_up(proxy: FaultProxy, sandbox: Sandbox) -> None:
    """After a payment between reading bills and fines, the kinds must not come from an outdated sum."""
    paid = 0

    def pay(call: Call) -> Fault:
        nonlocal paid
        if call.method == "open-ils.pcrud.search.mous.atomic":
            paid += 1
            for id in (70001, 70002):
                sandbox._store.update("mbts", id, {"balance_owed": "4.50", "total_paid": "0.40"})
        return Fault.NONE

    proxy.decide = pay
    with gateway_of(proxy.url, "consortium_staff", concurrency=1) as gateway:
        report = build_report(gateway, Criteria())
    assert paid == 1
    for group in report.groups:
        for member in group.members:
            kinds = details_of(report).of(member).kinds
            assert kinds is None or sum((one.balance for one in kinds), Decimal(0)) == member.own_fines


def test_sums_alone_make_none_of_the_new_calls(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(details=False))
    assert report.details is None
    assert not {"mobts", "mb", "circ", "pgt"} & {
        call.method.split(".")[3] for call in proxy.calls if "pcrud" in call.method
    }
    searches = [call for call in proxy.calls if call.method == "open-ils.pcrud.search.au.atomic"]
    selected = {field for call in searches for field in call.parameters[2].get("select", {}).get("au", ())}
    assert selected <= {*PATRON_FIELDS, "last_update_time"}


def test_no_title_and_no_birth_date_is_asked_for(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        build_report(gateway, Criteria())
    selected = [name for call in proxy.calls for name in str(call.parameters).replace("'", '"').split('"')]
    assert not {"dob", "target_copy", "title", "acp", "mvr"} & set(selected)
    searched = [call.method.split(".")[3] for call in proxy.calls if call.method.startswith("open-ils.pcrud.search")]
    assert (searched.count("mobts"), searched.count("mb")) == (1, 1), "billings take one call more"


def test_at_most_sixty_percent_more_calls(proxy: FaultProxy) -> None:
    counts = []
    for details in (False, True):
        proxy.seen.clear()
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            build_report(gateway, Criteria(details=details))
        counts.append(len(proxy.seen))
    assert counts[1] <= 1.6 * counts[0]


@pytest.mark.long
def test_as_few_with_many_groups() -> None:
    """1,100 groups, in several batches."""
    counts = []
    with Sandbox(patrons=60_000) as running:
        username, _password = running.report_account
        for details in (False, True):
            with gateway_of(running.url, username) as gateway:
                report = build_report(gateway, Criteria(details=details))
                counts.append(gateway.statistics.calls)
    assert report.totals.group_count > 1000
    assert counts[1] <= 1.6 * counts[0]


def test_a_choice_of_what_is_not_read_is_refused(staff: Gateway) -> None:
    for criteria in (
        Criteria(details=False, choice=Choice(kinds=("lost materials",))),
        Criteria(details=False, sort="age"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            build_report(staff, criteria)
        assert refused.value.setting == "report.details"


def test_without_circulations_the_kind_is_the_billing_type_and_a_note_says_so(sandbox: Sandbox) -> None:
    lend(sandbox, 1058, "2026-08-01", state="CLAIMSRETURNED", library=12, billed="2.00")
    criteria = Criteria(min_total=Decimal("15.00"), orgs=("PINE",))
    notes = []
    for permitted in (True, False):
        if not permitted:
            revoke(sandbox, "VIEW_CIRCULATIONS")
        with gateway_of(sandbox.url, "consortium_staff") as gateway:
            report = build_report(gateway, criteria)
        (member,) = (one for group in report.groups for one in group.members if one.id == 1058)
        kinds = {one.kind.text for one in details_of(report).of(member).kinds or ()}
        assert kinds == {"lost materials", "overdue materials" if not permitted else "items claimed returned"}
        notes.append([str(note) for note in report.notes if "by billing type" in note])
    assert notes[0] == []
    (note,) = notes[1]
    assert "the account lacks VIEW_CIRCULATIONS" in note
