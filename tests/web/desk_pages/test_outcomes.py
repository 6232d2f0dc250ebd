"""What the clerk reads when other users, the network or an ended session interfere with a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from support.circulators import take_away
from support.desk_caller import group_of
from support.desk_page import DeskClerk, DeskPage, agreed, card, scanned, selected
from support.fault_proxy import Call, Fault, FaultProxy, HeldCalls, HttpAnswer
from support.web_caller import PASSWORD

from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long  # too slow for a plain pytest run

NGUYEN, WHITFIELD, THOMAS, RUTH = 1017, 1036, 1037, 1038
LOGIN = "open-ils.auth.login"
RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
UPDATE = "open-ils.actor.patron.update"
NO_SESSION = {"ilsevent": 1001, "textcode": "NO_SESSION", "desc": "ended"}
Arrange = Callable[[Callable[[], None]], None]
EndSessions = Callable[[Callable[[Call], bool]], None]
Asks = Callable[..., DeskPage]


@pytest.fixture
def once_under_way(proxy: FaultProxy) -> Arrange:
    """Let ``happen`` run after a plan has been found to fit, just before its first patron is read."""

    def arrange(happen: Callable[[], None]) -> None:
        left = [happen]

        def decide(call: Call) -> Fault:
            if call.method == RETRIEVE and left:
                left.pop()()
            return Fault.NONE

        proxy.decide = decide

    return arrange


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"deleted": "t"}, "not changed: the patron's record was deleted. If that was a mistake, ask your Evergreen"),
        (
            {"usrgroup": 1002},
            "not changed: another user moved the patron to group 1002. "
            "Check the group, then make the change if it's still needed.",
        ),
        ({"usrgroup": 1004}, "already done. Nothing is left to do."),
    ],
    ids=["deleted", "moved", "moved here"],
)
def test_others_change_the_patron_between_the_check_and_the_step(
    clerk: DeskClerk, sandbox: Sandbox, once_under_way: Arrange, values: dict[str, object], text: str
) -> None:
    plan = scanned(clerk.open(NGUYEN), card(RUTH))
    once_under_way(lambda: sandbox._store.update("au", RUTH, values))
    assert text in agreed(plan).outcome


class TestTheIls:
    def test_it_cant_be_reached_in_the_middle(self, clerk: DeskClerk, proxy: FaultProxy, sandbox: Sandbox) -> None:
        plan = selected(clerk.open(WHITFIELD), "remove", THOMAS, RUTH)
        proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == RETRIEVE else Fault.NONE
        page = agreed(plan)
        assert "not changed: Evergreen can't be reached. Try again" in page.outcome
        assert "Not started. Check the group, then make the change if it's still needed." in page.outcome
        assert {group_of(sandbox, patron) for patron in (THOMAS, RUTH)} == {1009}

    def test_it_changes_more_than_was_asked(self, clerk: DeskClerk, sandbox: Sandbox, proxy: FaultProxy) -> None:
        plan = scanned(clerk.open(NGUYEN), card(RUTH))

        def alter(call: Call, answer: HttpAnswer) -> None:
            if call.method == UPDATE:
                sandbox._store.update("au", RUTH, {"day_phone": "555-0100"})

        proxy.carried_out = alter
        done = agreed(plan)
        assert done.outcome.startswith("Done: Whitfield, Ruth is now in this group")
        assert "Check the record: Evergreen also changed day_phone." in done.outcome

    def test_programs_get_the_case_by_its_code(self, clerk: DeskClerk, proxy: FaultProxy) -> None:
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        proxy.answer = lambda call: NO_SESSION if call.method == UPDATE else None
        page = agreed(plan)
        id = parse_qs(urlsplit(page.address).query)["change"][0]
        answer = clerk._client.get(f"/evergreen-groups/api/v1/changes/{id}", headers=clerk.headers)
        (step,) = answer.get_json()["steps"]
        assert (step["code"], step["values"], step["reason"]) == (
            "session-ended",
            {},
            "the session ended before this change",
        )


class TestSessionsThatEnd:
    @pytest.fixture
    def asks(self, clerk: DeskClerk, sandbox: Sandbox) -> Asks:
        """The page that asks for a supervisor's approval to remove members of the Whitfields."""
        take_away(sandbox, "UPDATE_USER", user=2)
        return lambda *members: selected(clerk.open(WHITFIELD), "remove", *members, approve="1")

    @pytest.fixture
    def end_supervisors(self, proxy: FaultProxy) -> EndSessions:
        """End each supervisor's session at the first call that meets a condition."""

        def arrange(begins: Callable[[Call], bool]) -> None:
            tokens: list[str] = []
            over: list[bool] = []

            def alter(call: Call, answer: HttpAnswer) -> None:
                if call.method == LOGIN:
                    tokens.append(json.loads(answer.body)["payload"][0]["payload"]["authtoken"])

            def is_over(call: Call) -> bool:
                if not call.parameters or call.parameters[0] not in tokens or "session" in call.method:
                    return False
                over.extend([True] if begins(call) else [])
                return bool(over)

            proxy.carried_out = alter
            proxy.refuse = lambda call: (401, "session") if "pcrud" in call.method and is_over(call) else None
            proxy.answer = lambda call: NO_SESSION if "pcrud" not in call.method and is_over(call) else None

        return arrange

    def test_the_supervisors_before_anything_is_sent(
        self, clerk: DeskClerk, sandbox: Sandbox, asks: Asks, end_supervisors: EndSessions
    ) -> None:
        page = asks(THOMAS, RUTH)
        end_supervisors(lambda call: True)
        said = agreed(page, username="admin", password=PASSWORD)
        assert said.status == 200, "the clerk's own session goes on"
        assert "The supervisor's session ended before this change. Have it approved again." in said.message
        assert {group_of(sandbox, patron) for patron in (THOMAS, RUTH)} == {1009}

    def test_the_supervisors_in_the_middle(
        self, clerk: DeskClerk, proxy: FaultProxy, sandbox: Sandbox, asks: Asks, end_supervisors: EndSessions
    ) -> None:
        page = asks(THOMAS, RUTH)
        end_supervisors(lambda call: call.method == RETRIEVE and call.parameters[1] == RUTH)
        said = agreed(page, username="admin", password=PASSWORD)
        assert said.status == 200
        assert "1 of 2 done" in said.outcome
        assert "Whitfield, Thomas is now in a new group" in said.outcome
        assert "not changed: the supervisor's session ended before this change." in said.outcome
        assert group_of(sandbox, THOMAS) != group_of(sandbox, RUTH) == 1009
        proxy.refuse = proxy.answer = lambda call: None
        again = agreed(said.send("/plan", id="approve"), username="admin", password=PASSWORD)
        assert "Done: Whitfield, Ruth" in again.outcome

    def test_the_clerks_own(self, clerk: DeskClerk, proxy: FaultProxy, sandbox: Sandbox) -> None:
        plan = selected(clerk.open(WHITFIELD), "remove", THOMAS, RUTH)
        proxy.answer = lambda call: NO_SESSION if call.method == RETRIEVE and call.parameters[1] == RUTH else None
        page = agreed(plan)
        assert "not changed: the session ended before this change." in page.outcome
        assert "Log in to the staff client, then make the changes that are still missing." in page.outcome
        assert not page.has_form("/plan") or page.tree.get_element_by_id("approve", None) is None


def test_what_the_supervisors_login_lacks_is_said(clerk: DeskClerk, sandbox: Sandbox) -> None:
    """The supervisor sees only patrons of another library. The page shows the plan and asks again."""
    take_away(sandbox, "UPDATE_USER", user=2)
    asks = selected(clerk.open(WHITFIELD), "remove", THOMAS, approve="1")
    said = agreed(asks, username="north_manager", password=PASSWORD)
    assert said.status == 200
    assert "The supervisor's login lacks the permission VIEW_USER at ELM." in said.message
    assert agreed(said, username="admin", password=PASSWORD).outcome.startswith("Done")


class TestALongChangeWithoutAScript:
    """The change has too many steps to wait for. The page reloads by itself until the change has ended."""

    MANY = (1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1017, 1018, 1051, 1052, 1053)

    def refresh(self, page: DeskPage) -> list[str]:
        return [str(content) for content in page.tree.xpath("//noscript/meta[@http-equiv='refresh']/@content")]

    def test_it_is_asked_after_until_it_is_over(self, clerk: DeskClerk, proxy: FaultProxy, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(1039), card(self.MANY[0]))
        for patron in self.MANY[1:]:
            plan = plan.send("/change", ("do", "add"), card=card(patron))
        held = HeldCalls(proxy, lambda call: call.method == RETRIEVE and call.parameters[1] == 1003)
        begun = agreed(plan)
        held.wait_for()
        under_way = clerk.get(begun.address)
        assert "In progress" in under_way.outcome
        assert "2 of 13 done. You can leave this page; the changes continue." in under_way.outcome
        assert self.refresh(under_way) == ["3"], "after three seconds, to the same address"
        assert not under_way.has_form("/undo")
        held.let_go()
        page = under_way
        while self.refresh(page):
            page = clerk.get(page.address)
        assert page.status == 200
        assert "Done: 13 patrons moved" in page.outcome
        assert page.has_form("/undo")
        assert {group_of(sandbox, patron) for patron in self.MANY} == {group_of(sandbox, 1039)}
