"""Where the account sees patrons: only a complete, well-formed answer proves that nothing is missing."""

from __future__ import annotations

import pytest
from support.fault_proxy import Fault, FaultProxy
from support.gateways import gateway_of

from evergreen_groups.errors import UnexpectedAnswerError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.ils import Access, OrgUnits, account_of_session, highest_view_user_orgs, missing_permissions

ONE, SEVERAL = "open-ils.actor.user.perm.check", "open-ils.actor.user.perm.check.multi_org"
WORK = "open-ils.actor.user.has_work_perm_at.batch"
MALFORMED = [{}, "", 0, False, "VIEW_USER", {"VIEW_USER": []}, ["SOMETHING_ELSE"], [None], [[]]]


@pytest.mark.parametrize("answer", [*MALFORMED, [["VIEW_USER", 5]], [[5]], [[999, "VIEW_USER"]], [[5, "UPDATE_USER"]]])
def test_where_permissions_are_missing(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if call.method == SEVERAL else None
    with gateway_of(proxy.url, "north_manager") as gateway, pytest.raises(UnexpectedAnswerError, match="multi_org"):
        Access.read(gateway, OrgUnits.read(gateway), highest_view_user_orgs(gateway))


@pytest.mark.parametrize("answer", MALFORMED)
def test_which_permissions_are_missing(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if call.method == ONE else None
    with (
        gateway_of(proxy.url, "north_manager") as gateway,
        pytest.raises(UnexpectedAnswerError, match=r"perm\.check"),
    ):
        missing_permissions(gateway, 1, 1, ["VIEW_USER"])


@pytest.mark.parametrize(
    "answer", [{}, "", [], {"VIEW_USER": {}}, {"VIEW_USER": ""}, {"VIEW_USER": [None]}, {"VIEW_USER": [True]}]
)
def test_where_they_are_held(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if call.method == WORK else None
    with (
        gateway_of(proxy.url, "north_manager") as gateway,
        pytest.raises(UnexpectedAnswerError, match="has_work"),
    ):
        highest_view_user_orgs(gateway)


@pytest.mark.parametrize("units", [(1,), (1, 10)])
def test_only_org_units_above_the_libraries_are_missing(proxy: FaultProxy, units: tuple[int, ...]) -> None:
    """These org units can be home libraries too, so the account doesn't see all patrons; the missing ones are named."""
    with gateway_of(proxy.url, "north_manager") as gateway:
        org_units = OrgUnits.read(gateway)
        above = [unit for unit in org_units if len(org_units.with_descendants(unit.id)) > 1][: len(units)]
        answer = [[unit.id, "VIEW_USER"] for unit in above]
        proxy.answer = lambda call: answer if call.method == SEVERAL else None
        access = Access.read(gateway, org_units, highest_view_user_orgs(gateway))
    assert not access.everywhere
    assert access.missing_names == ", ".join(unit.shortname for unit in above)
    assert not access.visible_orgs & {unit.id for unit in above}


@pytest.mark.apache(reason="whatever is empty is held against an echo")
def test_an_empty_list_that_answers_another_question_is_no_yes(proxy: FaultProxy) -> None:
    """An empty list doesn't show which query it answers, so a connection of this query alone must deliver it."""
    with gateway_of(proxy.url, "north_manager", concurrency=1) as gateway:
        user = account_of_session(gateway).id
        proxy.decide = lambda call: Fault.ANSWERS_BEHIND
        assert gateway.call("open-ils.pcrud", "open-ils.pcrud.search.au.atomic", TOKEN, {"id": -1}).value == []
        assert missing_permissions(gateway, user, 1, ["VIEW_USER"]) == {"VIEW_USER"}
