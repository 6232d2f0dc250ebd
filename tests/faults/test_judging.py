"""The judges of the runs notice what is wrong: foreign writes, wrong numbers, and errors in the wrong form."""

from __future__ import annotations

from faults.reading import is_shown_as_incomplete
from faults.verdict import Ending, Judgement, judge_form
from faults.world import NEW, CommandResult, Stores
from support.conversation import differences

from evergreen_groups.sandbox import Sandbox


def test_changes_are_distinguished_from_foreign_writes(sandbox: Sandbox) -> None:
    store = sandbox._store
    before = Stores.of(sandbox)
    with store.transaction():
        store.update("au", 1052, {"usrgroup": store.next_value("actor.usr_usrgroup_seq")})
        store.update("au", 1053, {"usrgroup": 1002, "day_phone": "555-0199"})
    after = Stores.of(sandbox)
    assert after.changes_since(before) == {(1052, "usrgroup"): NEW, (1053, "usrgroup"): 1002}
    assert any("au 1053: day_phone" in text for text in after.foreign_since(before))
    assert after.next_group == before.next_group + 1


def test_only_marked_documents_are_incomplete() -> None:
    group = {"group": 1, "combined_fines": "30.00", "complete": True}
    right = {"groups": [group]}
    less = {**group, "combined_fines": "20.00"}
    assert not is_shown_as_incomplete(right, {"groups": [less]}, 7)
    assert not is_shown_as_incomplete(right, {"groups": []}, 7)
    assert not is_shown_as_incomplete(right, {"groups": [{**less, "complete": False}]}, 0)
    assert is_shown_as_incomplete(right, {"groups": [{**less, "complete": False}]}, 7)
    assert not is_shown_as_incomplete({"complete": True}, {"complete": False}, 0)
    assert [*differences(right, {"groups": [less]})] == ['.groups[0].combined_fines: "30.00" expected, "20.00" came']


def test_an_incomplete_document_is_true_about_its_members() -> None:
    def document(owed: str, hidden: int) -> dict[str, object]:
        members = [{"id": 1, "own_fines": owed, "over_limit": False}]
        return {"hidden_members": {"count": hidden, "fines": "0.00"}, "members": members}

    right = document("3.00", 1)
    assert is_shown_as_incomplete(right, document("3.00", 2), 0)
    assert is_shown_as_incomplete(right, {**document("3.00", 2), "members": []}, 0)
    assert not is_shown_as_incomplete(right, document("2.00", 2), 0)
    assert not is_shown_as_incomplete(right, document("3.00", 0), 0)


def test_an_error_has_one_form() -> None:
    def ending(ran: CommandResult) -> Ending:
        judgement = Judgement()
        judge_form(ran, judgement, endings=frozenset({0}))
        return judgement.ending

    assert ending(CommandResult(0, "{}", "", 0.1)) is Ending.RIGHT
    assert ending(CommandResult(4, "", "evergreen-groups: no answer\n", 0.1)) is Ending.ERROR
    assert ending(CommandResult(4, "", "", 0.1)) is Ending.BAD_ERROR
    assert ending(CommandResult(4, "", "something else\n", 0.1)) is Ending.BAD_ERROR
    assert ending(CommandResult(3, "", "evergreen-groups: no such setting\n", 0.1)) is Ending.BAD_ERROR
    assert ending(CommandResult(1, "", "evergreen-groups: unforeseen\n", 0.1, "Traceback …")) is Ending.TRACEBACK
    assert ending(CommandResult(0, "{}", "", 100.0)) is Ending.SLOW
