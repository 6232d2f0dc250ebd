"""Changes made with the pages' plain forms, and what the clerk reads about them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from support.change_ids import number_of
from support.circulators import add_members, change_rows, take_away
from support.desk_caller import caller_of, group_of, leads
from support.desk_page import (
    GROUP,
    ClerkNamed,
    DeskClerk,
    DeskPage,
    agreed,
    as_text,
    card,
    scanned,
    selected,
    with_settings,
)
from support.fault_proxy import Call, Fault, FaultProxy, HeldCalls, HttpAnswer
from support.web_caller import PASSWORD, MakeApp, client_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.settings.sections import DeskSettings
from evergreen_groups.state import State
from evergreen_groups.state.backup import back_up, restore
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.web import close

pytestmark = pytest.mark.long  # too slow for a plain pytest run

LOGIN, UPDATE = "open-ils.auth.login", "open-ils.actor.patron.update"
RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
NO_SESSION = {"ilsevent": 1001, "textcode": "NO_SESSION", "desc": "ended"}
Arrange = Callable[[Callable[[], None]], None]
EndSessions = Callable[[Callable[[Call], bool]], None]
Asks = Callable[..., DeskPage]
NGUYEN, LAN, WHITFIELD, THOMAS, RUTH, HALLORAN = 1017, 1018, 1036, 1037, 1038, 1039
NEEDS_APPROVAL = "Changes to this group need a supervisor's approval."
HIDDEN = "The patron may belong to a library whose patrons your login can't see."
OLD_CARD, ITS_OWNER = "20000000901049", 1049
UNKNOWN_CARD = "20000000009999"


class TestMovingSomebodyIn:
    def test_from_the_scan_to_the_record_in_the_list(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(NGUYEN), card(WHITFIELD))
        assert plan.heading == "Move Whitfield, Grace here?", "she leads the group that she comes from"
        assert group_of(sandbox, WHITFIELD) == 1009, "nothing happens before it was agreed to"
        assert "Whitfield, Grace's group: 3 → 2 members, fines $24.99 → $15.00" in plan.text
        assert "This group: 4 → 5 members, fines $25.65 → $35.64" in plan.text
        assert "Whitfield, Ruth 20000000001038, ELM stays behind" in plan.text
        assert plan.text.count("Cancel") == 1
        assert "shares no surname, address, phone or e-mail with anyone in this group" in plan.warnings
        assert (
            "Whitfield, Grace's group will be left without a lead: afterwards, make another member its lead."
            in plan.warnings
        )
        done = agreed(plan)
        assert done.outcome.startswith("Done: Whitfield, Grace is now in this group")
        assert "Whitfield, Grace" in done.members
        assert group_of(sandbox, WHITFIELD) == 1004

    def test_enter_moves_only_without_warnings(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        warned = scanned(clerk.open(NGUYEN), card(WHITFIELD))
        assert warned.default == "look"
        assert "Check" in warned.warnings
        assert "To go ahead, select Move anyway . Pressing Enter isn't enough." in warned.warnings
        assert "Move anyway" in warned.text
        change_rows(sandbox, "UPDATE au SET usrgroup = 5001, family_name = 'Nguyễn' WHERE id = ?", RUTH)
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        assert not plan.warnings
        assert plan.default == "enter"
        assert "press Enter to move" in plan.text
        assert plan.send("/change", ("do", "look")).heading == plan.heading, "Look up without a card"

    def test_several_cards_make_one_change(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        first = scanned(clerk.open(NGUYEN), card(THOMAS))
        both = first.send("/change", ("do", first.default), card=card(RUTH))  # a scanner types a card, then Enter
        assert both.heading == "Move 2 patrons here?"
        assert group_of(sandbox, THOMAS) == 1009, "a card in the field is no yes"
        same = both.send("/change", ("do", "look"), card=card(RUTH))
        assert same.heading == "Move 2 patrons here?"
        done = agreed(same)
        assert done.outcome.startswith("Done: 2 patrons moved")
        assert {group_of(sandbox, patron) for patron in (THOMAS, RUTH)} == {1004}
        assert len(clerk.open(NGUYEN, "/history").tree.xpath("//section[@class='entry']")) == 1

    def test_a_wrong_card_is_dropped(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(NGUYEN), card(THOMAS))
        assert not plan.tree.xpath("//button[@name='drop']"), "Cancel does the same"
        plan = plan.send("/change", ("do", "look"), card=card(RUTH)).send(
            "/change", ("do", "look"), card=card(HALLORAN)
        )
        again = plan.send("/change", ("do", "enter"), card=card(RUTH))
        assert again.message == "Whitfield, Ruth is already here."
        assert again.heading == "Move 3 patrons here?"
        left = again.send("/change", ("drop", str(RUTH)))
        assert left.heading == "Move 2 patrons here?"
        assert not left.message
        agreed(left)
        assert [group_of(sandbox, patron) for patron in (THOMAS, RUTH, HALLORAN)] == [1004, 1009, 1004]

    def test_a_whole_family_moves_with_one_button(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        change_rows(sandbox, "UPDATE au SET family_name = 'Nguyễn', master_account = 0 WHERE usrgroup = 1009")
        plan = scanned(clerk.open(NGUYEN), card(THOMAS))
        button = plan.tree.xpath("//button[@name='family']")[0]
        assert as_text(button) == "Move all 3 of this family"
        done = plan.send("/change", ("family", button.get("value")))
        assert done.outcome.startswith("Done: 3 patrons moved")
        family = (WHITFIELD, THOMAS, RUTH)
        assert {group_of(sandbox, patron) for patron in family} == {1004}
        assert done.send("/undo").outcome.startswith("Undone: 3 patrons moved back")
        assert {group_of(sandbox, patron) for patron in family} == {1009}

    def test_a_family_is_checked_as_a_whole(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(NGUYEN), card(THOMAS))
        assert "several leads" not in plan.warnings
        value = plan.tree.xpath("//button[@name='family']")[0].get("value")
        more = plan.send("/change", ("family", value))
        assert more.heading == "Move 3 patrons here?"
        assert "several leads" in more.warnings
        assert not more.tree.xpath("//button[@name='family']")
        assert group_of(sandbox, THOMAS) == 1009
        assert agreed(more).outcome.startswith("Done: 3 patrons moved")

    def test_hidden_members_of_a_family_stay(self, clerk_named: ClerkNamed) -> None:
        plan = scanned(clerk_named("north_manager").open(1007), card(1026))
        text = as_text(plan.tree.xpath("//button[@name='family']")[0])
        assert text == "Move the 2 whom you can see; 1 stays, hidden"

    @pytest.mark.parametrize(
        ("account", "text", "message"),
        [
            ("consortium_staff", "  ", "Scan a card first."),
            ("consortium_staff", "Zzyzx, Q", "Zzyzx, Q not found. Check the spelling, or scan the card."),
            ("consortium_staff", UNKNOWN_CARD, f"Card {UNKNOWN_CARD} not found. Scan it again, or type the name."),
            ("harbor_desk", "Whitfield", "Whitfield not found. Check the spelling, or scan the card."),
            ("harbor_desk", card(1036), f"Card {card(1036)} not found. Scan it again, or type the name."),
        ],
    )
    def test_nobody_is_found(self, clerk_named: ClerkNamed, account: str, text: str, message: str) -> None:
        page = scanned(clerk_named(account).open(NGUYEN), text)
        assert page.message.startswith(message)
        assert (HIDDEN in page.message) is (account == "harbor_desk")
        assert "Whitfield, Grace" not in page.text, "a hidden patron is nobody"
        assert (page.tree.get_element_by_id("card").get("value") or "") == text.strip()
        assert len(page.members) == 4, "the list stays"

    def test_an_unknown_card_keeps_the_patrons_scanned_so_far(self, clerk: DeskClerk) -> None:
        plan = scanned(clerk.open(NGUYEN), card(THOMAS)).send("/change", ("do", "look"), card=card(RUTH))
        page = plan.send("/change", ("do", "enter"), card="20000000001083")
        known = "Card 20000000001083 not found. Scan it again, or type the name."
        assert page.message.startswith(known)
        assert page.part("similar").startswith("Similar cards: 200000000010 38 ")
        assert "Whitfield, Ruth" not in page.part("similar")
        assert page.tree.xpath("//*[@id='similar']//button[1]/mark/text()") == ["38"]
        assert page.tree.get_element_by_id("card").get("value") == "20000000001083"
        assert page.heading == "Move 2 patrons here?"
        assert page.send("/change", ("do", page.default)).message.startswith(known), "Enter looks it up again"
        assert "Done: 2 patrons moved" in agreed(page).outcome, "the button moves the patrons shown"

    def test_a_similar_card_shows_its_name_in_the_preview(self, clerk: DeskClerk) -> None:
        for page in (clerk.open(NGUYEN), scanned(clerk.open(NGUYEN), card(THOMAS))):
            unknown = page.send("/plan" if page.has_form("/plan") else "/change", card="20000000001083")
            assert "Whitfield" not in unknown.part("similar"), "the screen may stand at a public desk"
            plan = unknown.send("/plan", ("card", card(RUTH)), id="similar")
            assert "Whitfield, Ruth" in plan.text
        assert plan.heading == "Move 2 patrons here?"

    def test_an_unknown_card_for_the_other_group(self, clerk: DeskClerk) -> None:
        asks = selected(clerk.open(WHITFIELD), "move", THOMAS)
        page = scanned(asks, UNKNOWN_CARD)
        assert page.message.startswith(f"Card {UNKNOWN_CARD} not found. Scan it again, or type the name.")
        assert page.tree.get_element_by_id("card").get("value") == UNKNOWN_CARD
        assert scanned(page, card(NGUYEN)).heading == "Move Whitfield, Thomas to Nguyễn, Thị Hương's group?"

    def test_a_card_that_is_not_active_moves_nobody_unasked(self, clerk: DeskClerk) -> None:
        page = scanned(clerk.open(NGUYEN), OLD_CARD)
        assert "This card is inactive. Is this the patron?" in page.message
        assert "Haddad, Noor juvenile 20000000001049" in page.part("found")
        assert "ELM Haddad, Layla (1014) 4 members" in page.part("found")
        assert not page.has_form("/change")
        plan = page.clerk.post(
            page.tree.forms[1].action, [*page.tree.forms[1].form_values(), ("patron", str(ITS_OWNER))]
        )
        assert plan.heading == "Move Haddad, Noor here from Haddad, Layla's group?"

    def test_by_name(self, clerk: DeskClerk) -> None:
        page = scanned(clerk.open(NGUYEN), "whitf")
        assert page.message == "Who is it?"
        assert page.tree.xpath("//button[@name='patron']/text()") == ["Select"] * 3
        assert page.part("found").count("Whitfield, Grace (1009) 3 members") == 3
        for text in ("Whitfield, Grace", "Grace Whitfield", "Whitfield Grace"):
            one = scanned(page, text)
            assert one.message == "Who is it?", "one alone isn't taken either"
            assert one.tree.xpath("//button[@name='patron']/@value") == [str(WHITFIELD)]

    def test_two_of_one_name_can_be_told_apart(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        with sandbox._store.transaction() as connection:
            for patron, born in ((THOMAS, "1950-01-01"), (RUTH, "2001-01-01")):
                connection.execute(
                    "UPDATE au SET first_given_name = 'Kim', dob = ?, usrgroup = ? WHERE id = ?", (born, patron, patron)
                )
                # Rows that another patron may own: cloning makes records share them.
                sandbox._store.insert("aua", {"id": patron + 9000, "usr": WHITFIELD, "street1": f"{patron} Elm Street"})
                sandbox._store.update("au", patron, {"mailing_address": patron + 9000})
        rows = [as_text(row) for row in scanned(clerk.open(NGUYEN), "Whitfield, Kim").tree.xpath("//tbody/tr")]
        assert len(rows) == 2
        assert "age 7" in rows[0]
        assert "age 2" in rows[1]
        assert f"{THOMAS} Elm Street ELM Whitfield, Kim ({THOMAS}) 1 member" in rows[0]
        both = scanned(clerk.open(NGUYEN), card(THOMAS)).send("/change", ("do", "look"), card=card(RUTH))
        assert f"{THOMAS} Elm Street, age 7" in both.text
        assert f"{RUTH} Elm Street, age 2" in both.text
        ends = both.tree.xpath("//li/span/strong")
        assert {as_text(end) for end in ends} == {str(THOMAS), str(RUTH)}, "the last digits stand out"

    def test_what_tells_namesakes_apart_is_shown_of_them_alone(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        change_rows(sandbox, "UPDATE au SET dob = '2001-01-01' WHERE family_name = 'Whitfield'")
        names = scanned(clerk.open(NGUYEN), "Whitfield")
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        assert not [page.heading for page in (names, plan) if re.search(r"\bage \d|Street|Address", page.text)]

    def test_others_of_the_family_name_are_near(self, clerk: DeskClerk) -> None:
        page = scanned(clerk.open(NGUYEN), "Whitfield, Jan")
        assert page.message == "No Whitfield, Jan; 3 others"
        assert page.tree.xpath("//input[@id='card']/@value") == ["Whitfield, Jan"]
        assert len(page.tree.xpath("//button[@name='patron']")) == 3

    def test_a_card_of_the_same_group_is_named_and_the_selection_stays(self, clerk: DeskClerk) -> None:
        which = selected(clerk.open(WHITFIELD), "move", THOMAS)
        nothing = scanned(which, card(RUTH))
        assert nothing.message == f"Nothing to do: Whitfield, Ruth, card {card(RUTH)}, is in this same group."
        back = clerk.get(str(nothing.tree.xpath("//nav/a/@href")[0]))
        assert back.tree.xpath("//input[@name='member' and @checked]/@value") == [str(THOMAS)]
        found = scanned(nothing, "Whitfield, Ruth")
        by_name = found.send("/plan", ("target_id", str(RUTH)), card="")
        assert by_name.message == "Nothing to do: Whitfield, Ruth is in this same group."
        other = scanned(by_name, card(NGUYEN))
        assert other.heading == "Move Whitfield, Thomas to Nguyễn, Thị Hương's group?"

    def test_several_matches_are_shown_and_none_is_taken(self, clerk: DeskClerk, proxy: FaultProxy) -> None:
        """Libraries may allow shortened barcodes, so several patrons can match."""
        two = [{"type": "actor", "id": patron, "barcode": card(patron)} for patron in (THOMAS, RUTH)]
        proxy.answer = lambda call: two if call.method == "open-ils.actor.get_barcodes" else None
        page = scanned(clerk.open(NGUYEN), "103")
        assert "Several cards end in these digits" in page.message
        assert page.tree.xpath("//button[@name='patron']/@value") == [str(THOMAS), str(RUTH)]
        proxy.answer = lambda call: two[:1] if call.method == "open-ils.actor.get_barcodes" else None
        assert scanned(page, "37").heading == "Move Whitfield, Thomas here from Whitfield, Grace's group?"

    def test_who_is_left_alone_is_said(self, clerk: DeskClerk) -> None:
        plan = scanned(clerk.open(NGUYEN), card(1044))
        warning = (
            "Adeyemi-Clarke, Samuel will stay behind alone: check whether Adeyemi-Clarke, Samuel should leave too."
        )
        assert warning in plan.warnings

    def test_who_is_there_already(self, clerk: DeskClerk) -> None:
        page = scanned(clerk.open(NGUYEN), card(LAN))
        assert page.message == "Nguyễn, Lan is already in this group (1004)."
        assert len(page.members) == 4, "the list stays"
        assert page.tree.xpath("//*[@autofocus]/@id") == ["card"]
        first = scanned(page, card(THOMAS))
        both = first.send("/change", ("do", first.default), card=card(LAN))
        assert both.heading.startswith("Move Whitfield, Thomas here")
        assert both.message == "Nguyễn, Lan is already in this group (1004)."
        assert both.tree.xpath("//*[@autofocus]/@id") == ["card"]
        then = both.send("/change", ("do", both.default), card=card(RUTH))
        assert then.heading == "Move 2 patrons here?"
        assert "already in this group" not in then.text, "said once"
        assert agreed(then).outcome.startswith("Done: 2 patrons moved")

    def test_a_deleted_patron(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        change_rows(sandbox, "UPDATE au SET deleted = 1 WHERE id = ?", RUTH)
        for page in (plan.send("/change", ("do", "look")), scanned(clerk.open(NGUYEN), card(RUTH))):
            assert page.message == (
                "The patron's record was deleted. "
                "If that was a mistake, ask your Evergreen administrator to restore the record."
            )


class TestSelectedMembers:
    def test_nobody_selected(self, clerk: DeskClerk) -> None:
        assert selected(clerk.open(NGUYEN), "remove").message == "Select a member first."

    def test_remove(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = selected(clerk.open(WHITFIELD), "remove", THOMAS, RUTH)
        assert plan.heading == "Remove 2 patrons from the group?"
        assert "Whitfield, Grace" not in plan.heading
        assert "Each removed patron gets a separate new group." in plan.text
        done = agreed(plan)
        assert "Done: 2 patrons moved" in done.outcome
        assert list(done.members) == ["Whitfield, Grace"]
        assert len({group_of(sandbox, patron) for patron in (WHITFIELD, THOMAS, RUTH)}) == 3
        assert not leads(sandbox, THOMAS)

    def test_cancel_keeps_the_selection(self, clerk: DeskClerk) -> None:
        checked = "//input[@name='member' and @checked]/@value"
        for action in ("remove", "move"):
            page = selected(clerk.open(WHITFIELD), action, THOMAS, RUTH)
            back = clerk.get(page.tree.xpath("//a[@accesskey='b']/@href")[0])
            assert sorted(back.tree.xpath(checked)) == [str(THOMAS), str(RUTH)]
        plan = scanned(page, card(NGUYEN))
        assert plan.tree.xpath("//*[@autofocus]/@aria-labelledby") == ["warnings"], "where Enter does nothing"
        assert clerk.get(plan.tree.xpath("//a[@accesskey='b']/@href")[0]).tree.xpath(checked)
        merge = scanned(selected(clerk.open(WHITFIELD), "merge"), card(NGUYEN))
        assert merge.tree.xpath("//*[@autofocus]/@aria-labelledby") == ["warnings"]
        assert not clerk.get(merge.tree.xpath("//a[@accesskey='b']/@href")[0]).tree.xpath(checked)

    def test_a_lead_who_is_removed_stays_one_and_the_plan_says_so(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = selected(clerk.open(WHITFIELD), "remove", WHITFIELD)
        assert "will stay a group lead" in plan.text
        agreed(plan)
        assert leads(sandbox, WHITFIELD)

    def test_move_to_another_group(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        asks = selected(clerk.open(WHITFIELD), "move", THOMAS)
        assert asks.heading == "Move to which group?"
        assert selected(clerk.open(WHITFIELD), "merge").heading == "Merge into which group?"
        assert "Card of any member of the other group" in asks.text
        plan = scanned(asks, card(NGUYEN))
        assert plan.heading == "Move Whitfield, Thomas to Nguyễn, Thị Hương's group?"
        assert "This group: 3 → 2 members" in plan.text
        assert "Nguyễn, Thị Hương's group: 4 → 5 members" in plan.text
        done = agreed(plan)
        assert "Whitfield, Thomas is now in Nguyễn, Thị Hương's group" in done.outcome
        assert group_of(sandbox, THOMAS) == 1004

    def test_a_group_has_its_number_if_its_name_cannot_be_read(self, clerk: DeskClerk, proxy: FaultProxy) -> None:
        plan = scanned(selected(clerk.open(WHITFIELD), "move", THOMAS), card(NGUYEN))

        def no_leads(call: Call) -> tuple[int, str] | None:
            asked = json.dumps(call.parameters)
            return (500, "error") if UPDATE in proxy.seen and "search.au" in call.method and "[1004]" in asked else None

        proxy.refuse = no_leads
        assert "Whitfield, Thomas is now in group 1004" in agreed(plan).outcome, "it was moved, and says so"

    def test_merge(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(selected(clerk.open(WHITFIELD), "merge"), card(NGUYEN))
        assert plan.heading == "Merge this group into Nguyễn, Thị Hương's group?"
        done = agreed(plan)
        assert "Done: 3 patrons moved" in done.outcome
        assert {group_of(sandbox, patron) for patron in (WHITFIELD, THOMAS, RUTH)} == {1004}
        assert len(done.members) == 7

    def test_leads(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        lead = selected(clerk.open(WHITFIELD), "lead", THOMAS)
        assert "This group will have several leads: Whitfield, Grace; Whitfield, Thomas." in lead.warnings
        assert "To go ahead, select Make group lead" in lead.warnings
        no_lead = selected(clerk.open(NGUYEN), "no-lead", 1015)
        assert "This group will be left without a lead: afterwards, make another member its lead." in no_lead.warnings
        assert "To go ahead, select Remove as lead" in no_lead.warnings
        for plan, patron in ((lead, THOMAS), (no_lead, 1015)):
            assert "group lead" in agreed(plan).outcome
            assert leads(sandbox, patron) is (plan is lead)

    def test_a_card_of_the_same_group(self, clerk: DeskClerk) -> None:
        page = scanned(selected(clerk.open(WHITFIELD), "merge"), card(RUTH))
        assert page.message == f"Nothing to do: Whitfield, Ruth, card {card(RUTH)}, is in this same group."
        assert scanned(page, card(NGUYEN)).heading == "Merge this group into Nguyễn, Thị Hương's group?"

    def test_hidden_members_keep_a_group_from_merging(self, clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
        page = scanned(selected(clerk_named("north_manager").open(1026), "merge"), card(1007))
        assert page.message == (
            "Nothing was moved: group 1006 has hidden members, who would be left behind. Move the members you see "
            "instead of merging the groups, or ask someone who can see all of them."
        )
        assert group_of(sandbox, 1026) == 1006


class TestUndo:
    def test_it_stands_at_the_outcome(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        done = agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
        undone = done.send("/undo", times=2)
        assert "Undone: Whitfield, Ruth is back in Whitfield, Grace's group" in undone.outcome
        assert group_of(sandbox, RUTH) == 1009
        assert len(clerk.open(NGUYEN, "/history").tree.xpath("//section[@class='entry']")) == 2
        assert undone.form("/undo").xpath(".//button")[0].text == "Redo"
        assert done.form("/undo").xpath(".//button")[0].text == "Undo"
        again = done.send("/undo", key="0" * 32)
        assert re.fullmatch(r"Change 1-\w{6} is already undone\.", again.message)

    def test_what_is_undone_is_struck_through_and_says_by_whom(self, clerk: DeskClerk, clerk_named: ClerkNamed) -> None:
        undone = agreed(scanned(clerk.open(NGUYEN), card(RUTH))).send("/undo")
        entries = clerk.open(NGUYEN, "/history").tree.xpath("//section[@class='entry']")
        assert [bool(entry.xpath(".//s")) for entry in entries] == [False, True]
        assert re.match(r"Undone · by you · \d", as_text(entries[1].xpath("./p")[0]))
        seen = clerk_named("admin").open(NGUYEN, "/history").text
        assert "Undone · by Whitlock, Constance · " in seen
        undone.send("/undo")  # a redo
        entries = clerk.open(NGUYEN, "/history").tree.xpath("//section[@class='entry']")
        assert [bool(entry.xpath(".//s")) for entry in entries] == [False, True, False]

    def test_outcomes_and_history_lead_to_the_patrons(self, clerk: DeskClerk) -> None:
        done = agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
        for page, place in ((done, "//h2[@id='outcome-heading']//a"), (clerk.open(NGUYEN, "/history"), "//li//a")):
            assert [(as_text(link), link.get("href")) for link in page.tree.xpath(place)] == [
                ("Whitfield, Ruth", f"/eg2/staff/circ/patron/{RUTH}/checkout")
            ]

    def test_a_redo_is_done_and_can_be_undone(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        redone = agreed(scanned(clerk.open(NGUYEN), card(RUTH))).send("/undo").send("/undo")
        assert redone.outcome.startswith("Done: Whitfield, Ruth is now in this group")
        assert redone.form("/undo").xpath(".//button")[0].text == "Undo"
        past = clerk.open(NGUYEN, "/history")
        entries = [as_text(heading).split(": ")[1] for heading in past.tree.xpath("//section[@class='entry']/h3")]
        assert entries == ["Redone · by you", "Undone · by you", "Moved · by you"]
        assert past.form("/undo").xpath(".//button")[0].text == "Undo"
        undone = redone.send("/undo")
        assert undone.outcome.startswith("Undone: Whitfield, Ruth is back in Whitfield, Grace's group")
        assert group_of(sandbox, RUTH) == 1009

    def test_what_a_supervisor_approved_needs_approval_again(self, clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
        take_away(sandbox, "UPDATE_USER", user=2)
        new = clerk_named("consortium_staff")
        done = agreed(scanned(new.open(NGUYEN), card(WHITFIELD)), username="admin", password=PASSWORD)
        asks = done.send("/undo")
        assert asks.heading == "Undo this change?"
        assert "Supervisor approval" in asks.text
        assert "This group: 5 → 4 members" in asks.text
        assert not asks.warnings
        assert agreed(asks).message == "Type the supervisor's user name and password."
        undone = agreed(asks, username="admin", password=PASSWORD)
        assert undone.outcome.startswith("Undone: Whitfield, Grace is back in group 1009")
        assert done.send("/undo").message.endswith(" is already undone.")
        asks = undone.send("/undo")
        assert asks.heading == "Redo this change?"
        assert agreed(asks, username="admin", password=PASSWORD).outcome.startswith("Done: Whitfield, Grace")
        assert "refused" not in new.open(NGUYEN, "/history").text

    def test_what_could_not_be_undone_can_be_undone_later(
        self, clerk: DeskClerk, proxy: FaultProxy, sandbox: Sandbox
    ) -> None:
        done = agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
        collision = {"ilsevent": 1512, "textcode": "XACT_COLLISION", "desc": "changed"}
        proxy.answer = lambda call: collision if call.method == UPDATE else None
        assert "Nothing was changed" in done.send("/undo").outcome
        proxy.answer = lambda call: None
        assert "Undone" in clerk.open(NGUYEN, "/history").send("/undo").outcome
        assert group_of(sandbox, RUTH) == 1009
        entries = clerk.open(NGUYEN, "/history").tree.xpath("//section[@class='entry']")
        assert [bool(entry.xpath(".//form")) for entry in entries] == [True, False, False]

    def test_it_is_not_offered_for_what_was_reversed_elsewhere(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
        agreed(selected(clerk.open(WHITFIELD), "lead", THOMAS))
        assert clerk.open(NGUYEN, "/history").text.count("Undo") == 2
        change_rows(sandbox, "UPDATE au SET usrgroup = 1009 WHERE id = ?", RUTH)
        change_rows(sandbox, "UPDATE au SET master_account = 0 WHERE id = ?", THOMAS)
        assert not clerk.open(NGUYEN, "/history").has_form("/undo")

    def test_changes_that_move_no_one_belong_to_the_group(self, clerk: DeskClerk) -> None:
        agreed(selected(clerk.open(WHITFIELD), "lead", THOMAS))
        seen = clerk.open(WHITFIELD, "/history")
        assert "becomes group lead" in seen.text
        assert "Your other changes" not in seen.text
        assert "Your other changes" in clerk.open(NGUYEN, "/history").text
        agreed(scanned(clerk.open(NGUYEN), card(THOMAS)))
        there = clerk.open(NGUYEN, "/history").text
        assert there.index("this group") < there.index("Your other changes") < there.index("becomes group lead")

    def test_only_by_who_did_it(self, clerk: DeskClerk, clerk_named: ClerkNamed) -> None:
        done = agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
        other = clerk_named("admin")
        seen = other.get(done.address)
        assert "Done: Whitfield, Ruth" in seen.outcome
        assert not seen.has_form("/undo")
        assert "by Whitlock, Constance" in other.open(NGUYEN, "/history").text
        assert not other.open(NGUYEN, "/history").has_form("/undo")

    def test_patrons_and_staff_whom_the_reader_cannot_see(self, clerk: DeskClerk, clerk_named: ClerkNamed) -> None:
        agreed(scanned(clerk.open(1001), card(1052)))
        agreed(scanned(clerk.open(1001), card(RUTH)))
        past = clerk_named("harbor_desk").open(1001, "/history")
        assert "Desrosiers" in past.text
        assert "Whitfield" not in past.text
        assert "by a colleague (name hidden from your login)" in past.text
        assert "user 2" not in past.text


class TestOnce:
    def test_back_and_once_more_after_an_undo(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        """Going back and resubmitting doesn't apply an undone plan again."""
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        agreed(plan).send("/undo")
        assert agreed(plan).outcome == ""
        assert group_of(sandbox, RUTH) == 1009

    @pytest.mark.parametrize("action", ["remove", "no-lead"])
    def test_back_to_an_outcome_that_was_undone(self, clerk: DeskClerk, action: str) -> None:
        done = agreed(selected(clerk.open(WHITFIELD), action, WHITFIELD, THOMAS))
        assert clerk.get(done.address).outcome == done.outcome
        undone = done.send("/undo")
        back = clerk.get(done.address)
        assert back.outcome == ""
        assert not back.has_form("/undo")
        redone = undone.send("/undo")
        assert clerk.get(undone.address).outcome == ""
        assert clerk.get(redone.address).outcome.startswith("Done")

    def test_another_user_moved_the_patron_in_between(
        self, clerk: DeskClerk, clerk_named: ClerkNamed, sandbox: Sandbox
    ) -> None:
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        agreed(scanned(clerk_named("admin").open(1007), card(RUTH)))
        again = agreed(plan)
        assert "The group has changed. Nothing was moved" in again.message
        assert again.heading == "Move Whitfield, Ruth here from Lindqvist, Åsa's group?"
        assert group_of(sandbox, RUTH) == 1002
        assert "Done" in agreed(again).outcome


class TestWhatGoesWrong:
    def test_a_permission_is_missing(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        assert NEEDS_APPROVAL not in clerk.open(NGUYEN).text
        take_away(sandbox, "UPDATE_USER", user=2)
        refused = agreed(plan)
        assert "Nothing was changed" in refused.outcome
        assert "your login lacks the permission UPDATE_USER at ELM" in refused.outcome
        assert group_of(sandbox, RUTH) == 1009
        asks = refused.send("/plan", id="approve")
        assert "Your login isn't allowed to make this change. A supervisor can approve it here." in asks.text
        done = agreed(asks, username="admin", password=PASSWORD)
        assert "Done: Whitfield, Ruth is now in this group" in done.outcome
        assert agreed(asks).address == done.address, "without another login"
        assert "approved by Administrator, Ada" in clerk.open(NGUYEN, "/history").text

    def test_a_scan_in_the_field_for_the_user_name_is_a_card(self, clerk: DeskClerk) -> None:
        """The field has the focus. Nothing but digits without a password is a card."""
        asks = clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=card(THOMAS))
        both = asks.send("/change", ("do", asks.default), username=card(RUTH))
        assert both.heading == "Move 2 patrons here?"
        assert both.tree.get_element_by_id("username").get("value") == ""
        unknown = both.send("/change", ("do", both.default), username=UNKNOWN_CARD)
        assert unknown.message.startswith(f"Card {UNKNOWN_CARD} not found.")
        assert unknown.heading == "Move 2 patrons here?"
        login = unknown.send("/change", ("do", "enter"), username=card(1001), password="none")
        assert login.message == "The supervisor couldn't log in. Check the user name and password. Nothing was changed."
        done = login.send("/change", ("do", "apply"), username="admin", password=PASSWORD)
        assert "Done: 2 patrons moved" in done.outcome

    def test_enter_with_a_warning_says_that_it_moves_nobody(self, clerk: DeskClerk) -> None:
        warned = scanned(clerk.open(NGUYEN), card(WHITFIELD)).send("/change", ("do", "look"))
        assert warned.message == "Nothing was changed. To confirm, use the Move anyway button."

    def test_enter_after_a_supervisors_password_confirms_what_was_shown(
        self, clerk: DeskClerk, sandbox: Sandbox
    ) -> None:
        asks = clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=card(WHITFIELD))
        assert "shares no surname" in asks.warnings
        assert "Pressing Enter isn't enough" not in asks.text
        page = asks.send("/change", ("do", asks.default))
        assert page.message == "Type the supervisor's user name and password."
        page = page.send("/change", ("do", page.default), username="admin")
        assert page.message == "Type the supervisor's user name and password."
        assert page.tree.get_element_by_id("username").get("value") == "admin"
        assert group_of(sandbox, WHITFIELD) == 1009
        assert page.send("/change", ("do", page.default), password=PASSWORD).outcome.startswith("Done")

    def test_enter_after_a_supervisors_password_confirms_nothing_new(
        self, clerk: DeskClerk, clerk_named: ClerkNamed, sandbox: Sandbox
    ) -> None:
        asks = clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=card(WHITFIELD))
        agreed(scanned(clerk_named("admin").open(NGUYEN), card(RUTH)))
        page = asks.send("/change", ("do", asks.default), username="admin", password=PASSWORD)
        assert "The group has changed. Nothing was moved" in page.message
        assert group_of(sandbox, WHITFIELD) == 1009

    def test_the_request_says_why_it_is_needed(self, clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
        take_away(sandbox, "UPDATE_USER", user=2)
        asks = scanned(clerk_named("consortium_staff").open(NGUYEN), card(RUTH))
        assert "Your login lacks UPDATE_USER at ELM. A supervisor can approve the change here." in asks.text

    @pytest.mark.parametrize(("profile", "needed"), [(12, True), (3, False)])
    def test_a_profiles_permission_counts(
        self, clerk_named: ClerkNamed, sandbox: Sandbox, profile: int, *, needed: bool
    ) -> None:
        """Evergreen requires the permission of the profile, or of the nearest profile above that has one."""
        sandbox._store.update("au", RUTH, {"profile": profile})
        take_away(sandbox, "group_application.user.patron", user=2)
        change_rows(sandbox, "INSERT INTO grants VALUES (2, 'group_application.user.staff', 0)")
        page = clerk_named("consortium_staff").open(NGUYEN)
        assert NEEDS_APPROVAL in page.text, "all members have a patron's profile"
        assert ("Supervisor approval" in scanned(page, card(RUTH)).text) is needed

    def test_a_supervisors_login_is_refused(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        asks = clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=card(RUTH))
        wrong = agreed(asks, username='admin "<b>', password="not-this-one")
        assert wrong.message == "The supervisor couldn't log in. Check the user name and password. Nothing was changed."
        assert "not-this-one" not in wrong.response.text
        assert wrong.tree.get_element_by_id("username").get("value") == 'admin "<b>'
        for _ in range(2):
            again = agreed(wrong, username="admin", password="not-this-one")
        at_once = agreed(again, username="admin", password=PASSWORD)
        assert at_once.message == "Too many attempts. Try again in a moment."
        assert agreed(wrong, username="admin", password="").message == "Type the supervisor's user name and password."
        assert group_of(sandbox, RUTH) == 1009

    def test_not_sure_whether_it_arrived(self, clerk: DeskClerk, proxy: FaultProxy) -> None:
        """The removal's request may or may not have arrived, so it isn't sent again."""
        plan = selected(clerk.open(WHITFIELD), "remove", RUTH)
        new = "open-ils.actor.usergroup.new"
        proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == new else Fault.NONE
        page = agreed(plan)
        assert "We don't know yet whether the change went through" in page.outcome
        assert "Don't repeat it: the result will be checked automatically." in page.outcome
        assert not page.has_form("/undo")
        proxy.let_go()
        assert "Done" in clerk.get(page.address).outcome

    def test_the_ils_is_gone_before_anything_is_sent(
        self, clerk: DeskClerk, proxy: FaultProxy, sandbox: Sandbox
    ) -> None:
        """The page sends the form again, without the supervisor's login."""
        asks = clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=card(RUTH))
        proxy.decide = lambda call: Fault.DROP_REQUEST
        gone = agreed(asks, username="a-supervisor", password="a-password")
        assert gone.status in (502, 503, 504)
        assert "nothing is done twice" in gone.text
        assert not re.search("a-supervisor|a-password", gone.response.text)
        proxy.decide = lambda call: Fault.NONE
        again = gone.send("/change")
        assert again.message == "Type the supervisor's user name and password."
        assert again.tree.xpath("//input[@name='password' and not(@value)]")
        assert "Done" in agreed(again, username="admin", password=PASSWORD).outcome
        assert group_of(sandbox, RUTH) == 1004

    @pytest.mark.parametrize("patron", ["0", "abc", "9" * 20, "1017 "])
    def test_an_id_that_is_none(self, clerk: DeskClerk, patron: str) -> None:
        page = clerk.get(f"/evergreen-groups/patrons/{patron}/group")
        assert page.status == 400
        assert page.response.content_type.startswith("text/html")

    def test_nobody_of_that_id(self, clerk_named: ClerkNamed) -> None:
        for patron in (WHITFIELD, 999_999):
            page = clerk_named("harbor_desk").open(patron)
            assert page.status == 404
            assert page.heading == "Patron not found"
            assert "belongs to a library whose patrons your login can't see" in page.text
            assert "Show the group's page" not in page.text


@with_settings(desk=DeskSettings(undo_others="MERGE_USERS"))
def test_what_others_did_is_undone_with_a_permission_asked_for_once(
    clerk: DeskClerk, clerk_named: ClerkNamed, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    for patron in (THOMAS, RUTH, 1002):
        done = agreed(scanned(clerk.open(NGUYEN), card(patron)))
    assert not clerk_named("harbor_desk").get(done.address).has_form("/undo")
    other = clerk_named("admin")
    other.open(NGUYEN)
    before = len(proxy.seen)
    page = other.open(NGUYEN, "/history")
    assert len(page.tree.xpath("//form[contains(@action, '/undo')]")) == 3
    assert proxy.seen[before:].count("open-ils.actor.user.perm.check.multi_org") == 1
    assert "Undone" in page.send("/undo").outcome
    assert group_of(sandbox, 1002) == 1001


def test_who_approved_a_change_may_undo_it(clerk: DeskClerk, clerk_named: ClerkNamed, sandbox: Sandbox) -> None:
    asks = clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=card(THOMAS))
    done = agreed(asks, username="admin", password=PASSWORD)
    assert not clerk_named("harbor_desk").get(done.address).has_form("/undo")
    supervisor = clerk_named("admin")
    assert supervisor.open(NGUYEN, "/history").has_form("/undo")
    assert supervisor.get(done.address).send("/undo").outcome.startswith("Undone: Whitfield, Thomas")
    assert group_of(sandbox, THOMAS) == 1009
    agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
    buttons = supervisor.open(NGUYEN, "/history").tree.xpath("//form[contains(@action, '/undo')]//button/text()")
    assert buttons == ["Redo"], "only of the supervisor's own undo: no one approved the clerk's other change"


@with_settings(desk=DeskSettings(changes=False))
def test_without_changes_there_is_a_list_to_look_at(clerk: DeskClerk) -> None:
    page = clerk.open(NGUYEN)
    assert len(page.members) == 4
    assert not page.has_form("/plan")
    assert not page.tree.xpath("//input[@type='checkbox']")
    answer = clerk.post(f"{GROUP.format(NGUYEN)}/plan", [("form", "x"), ("action", "remove"), ("member", "1017")])
    assert answer.status == 403
    assert "Your library has turned changes off" in answer.text


def test_a_page_from_before_a_backup_was_restored_undoes_nothing(
    clerk: DeskClerk, app: Flask, desk_settings: Settings, make_app: MakeApp, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A later change may have the same number."""
    agreed(scanned(clerk.open(NGUYEN), card(1052)))
    with State(tmp_path / "state") as state:
        back_up(state.database, tmp_path / "backup")
    page = agreed(scanned(clerk.open(NGUYEN), card(RUTH)))
    old = page.form("/undo").fields["entry"]
    close(app)
    for file in (tmp_path / "state").glob(f"{FILE_NAME}*"):
        file.unlink()
    with State(tmp_path / "state") as state:
        restore(state.database, tmp_path / "backup")
    restored = make_app(desk_settings)
    clerk._client = client_of(restored)
    made = agreed(scanned(clerk.open(NGUYEN), card(THOMAS)))
    assert number_of(made.form("/undo").fields["entry"]) == number_of(old)
    group = group_of(sandbox, THOMAS)
    assert f"here is no change {old}" in page.send("/undo").message
    caller = caller_of(restored, sandbox)
    for answer in (caller.undo(old), caller.change(old), caller.plan("undo", change=old)):
        assert answer.status == 404, answer.body
    assert group_of(sandbox, THOMAS) == group
    assert "Undone" in made.send("/undo").outcome
    assert group_of(sandbox, THOMAS) != group


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
        self, sandbox: Sandbox, asks: Asks, end_supervisors: EndSessions
    ) -> None:
        page = asks(THOMAS, RUTH)
        end_supervisors(lambda call: True)
        said = agreed(page, username="admin", password=PASSWORD)
        assert said.status == 200, "the clerk's own session goes on"
        assert "The supervisor's session ended before this change. Have it approved again." in said.message
        assert {group_of(sandbox, patron) for patron in (THOMAS, RUTH)} == {1009}

    def test_the_supervisors_in_the_middle(
        self, proxy: FaultProxy, sandbox: Sandbox, asks: Asks, end_supervisors: EndSessions
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

    def test_the_clerks_own(self, clerk: DeskClerk, proxy: FaultProxy) -> None:
        plan = selected(clerk.open(WHITFIELD), "remove", THOMAS, RUTH)
        proxy.answer = lambda call: NO_SESSION if call.method == RETRIEVE and call.parameters[1] == RUTH else None
        page = agreed(plan)
        assert "not changed: the session ended before this change." in page.outcome
        assert "Log in to the staff client, then make the changes that are still missing." in page.outcome
        assert not page.has_form("/plan") or page.tree.get_element_by_id("approve", None) is None


class TestMoreThanAPlanTakes:
    """A group of more than 1,000 members."""

    @pytest.fixture
    def many(self, sandbox: Sandbox) -> None:
        add_members(sandbox, 1009, 998)

    @pytest.mark.usefixtures("many")
    def test_its_family_button_says_what_to_do_instead(self, clerk: DeskClerk) -> None:
        assert len(clerk.open(WHITFIELD).members) == 1001
        plan = scanned(clerk.open(NGUYEN), card(RUTH))
        assert not plan.tree.xpath("//button[@name='family']")
        assert "To move all 1,001 of this family, merge their group from its own page." in plan.text
        assert "Whitfield, Grace's group: 1,001 → 1,000 members" in plan.text
        assert agreed(plan).outcome.startswith("Done: Whitfield, Ruth")
        next_one = scanned(clerk.open(NGUYEN), card(THOMAS))
        assert next_one.tree.xpath("//button[@name='family']/text()") == ["Move all 1,000 of this family"]

    @pytest.mark.usefixtures("many")
    def test_all_selected_are_too_many(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        page = clerk.open(WHITFIELD)
        everyone = [int(id) for id in page.tree.xpath("//input[@name='member']/@value")]
        refused = selected(page, "remove", *everyone)
        assert (refused.status, "Change at most 1000 patrons at once." in refused.text) == (400, True)
        assert selected(page, "remove", *everyone[:1000]).heading == "Remove 1,000 patrons from the group?"
        assert group_of(sandbox, RUTH) == 1009

    @pytest.mark.usefixtures("many")
    def test_it_merges_as_a_whole(self, clerk: DeskClerk, sandbox: Sandbox) -> None:
        plan = scanned(selected(clerk.open(WHITFIELD), "merge"), card(NGUYEN))
        assert "1,001 patrons" in plan.text
        done = agreed(plan)
        while "In progress" in done.outcome:
            done = clerk.get(done.address)
        assert "Done: 1,001 patrons moved" in done.outcome
        assert group_of(sandbox, 6998) == group_of(sandbox, WHITFIELD) == 1004


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
