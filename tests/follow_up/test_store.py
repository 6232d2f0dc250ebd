"""Follow-ups stay with their families, and nothing is saved over a newer entry. On each engine."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from support.follow_ups import GATEWAY, STAFF, draft, note_run, save
from support.report_samples import member, report_of

from evergreen_groups.errors import NotFoundError, PlanError
from evergreen_groups.follow_up import Entry, FollowUp, FollowUps, FollowUpStatus, How, What
from evergreen_groups.groups import Group
from evergreen_groups.ils import UnreturnedItems
from evergreen_groups.render.follow_ups import describe_entry
from evergreen_groups.report import Criteria, MemberItems, Report, ReportItems
from evergreen_groups.state import State, forget, prune, record_ids, schema
from evergreen_groups.state.backup import back_up, export, restore

TONIGHT = datetime(2026, 11, 29, 3, tzinfo=UTC)
A, B, C, D, E = 71, 72, 73, 74, 75


def report(groups: Mapping[int, Sequence[int]], night: int = 0, hidden: Sequence[str] = ()) -> Report:
    """Return a report of groups with these members. The first member is the lead, and each owes 10.00."""
    found = [
        Group(number, tuple(member(id, "Secret, Name", "10.00", group_lead=id == ids[0]) for id in ids))
        for number, ids in groups.items()
    ]
    at = TONIGHT + timedelta(night)
    return replace(report_of(found), generated_at=at, hidden_libraries=frozenset(hidden))


def listed(state: State, groups: Mapping[int, Sequence[int]], night: int = 0, **more: Sequence[str]) -> None:
    note_run(state, report(groups, night, **more))


def listed_by_items(state: State, unreturned: int, night: int, *, by_money: bool = False) -> None:
    """Record a run whose report finds so many overdue items of group 7, with a report that doesn't count, or alone."""
    found = report({7: [A, B]}, night)
    items = {A: MemberItems(UnreturnedItems(unreturned)), B: MemberItems()}
    of_items = replace(found, items=ReportItems(items, {}, found.generated_at), name="items")
    note_run(state, *([of_items, found] if by_money else [of_items]))


def follow_up(state: State, number: int, name: str = "") -> FollowUp:
    found = FollowUps(state.database, GATEWAY).of_report(name)
    assert found is not None
    return found.group(number)


def notes_of(found: FollowUp | tuple[tuple[Entry, ...], dict[str, str]]) -> list[str]:
    entries = found.entries if isinstance(found, FollowUp) else found[0]
    return [entry.note for entry in entries]


def notes(state: State, number: int) -> list[str]:
    return notes_of(follow_up(state, number))


def status(state: State, number: int, name: str = "") -> FollowUpStatus:
    return follow_up(state, number, name).status(TONIGHT.date(), 30)


def empty(state: State) -> None:
    """Remove what an earlier example of the same test has stored."""
    with state.database.writing() as connection:
        connection.execute(delete(schema.follow_ups))
        connection.execute(delete(schema.series))


MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
"""For properties of the store. Each example begins with an empty one."""


@pytest.mark.parametrize("by_money", [False, True])
def test_closed_until_more_items_are_overdue(state: State, by_money: bool) -> None:
    """Whether or not the group is in another report, which doesn't count items."""
    listed_by_items(state, 4, night=0, by_money=by_money)
    save(state, draft(7, What.CLOSED, how=None), report="items")
    listed_by_items(state, 3, night=1, by_money=by_money)
    listed_by_items(state, 4, night=2, by_money=by_money)
    assert status(state, 7, "items") is FollowUpStatus.CLOSED
    listed_by_items(state, 5, night=3, by_money=by_money)
    assert status(state, 7, "items") is FollowUpStatus.TO_DO
    listed_by_items(state, 2, night=4, by_money=by_money)
    assert status(state, 7, "items") is FollowUpStatus.TO_DO, "it was reopened"


def test_letters_sent_since_the_family_came_onto_the_list(state: State) -> None:
    listed(state, {7: [A, B]})
    (first,) = save(state, draft(7, how=How.LETTER)).entries
    save(state, draft(7, how=How.PHONE, seen=first.id))
    listed(state, {7: [A, B]}, 1)
    assert follow_up(state, 7).letters_sent == 1
    listed(state, {8: [C]}, 2)
    listed(state, {7: [A, B]}, 3)
    assert follow_up(state, 7).letters_sent == 0
    seen = follow_up(state, 7).seen
    save(state, draft(7, how=How.LETTER, seen=seen, corrects=first.id, note="it was the first"))
    assert follow_up(state, 7).letters_sent == 0, "a correction doesn't send it again"
    save(state, draft(7, how=How.LETTER, seen=follow_up(state, 7).seen))
    assert follow_up(state, 7).letters_sent == 1
    last = follow_up(state, 7).entries[-1]
    save(state, draft(7, seen=follow_up(state, 7).seen, corrects=last.id, deletes=True))
    assert follow_up(state, 7).letters_sent == 0


@pytest.mark.parametrize(("owed", "items", "compared"), [("0.00", 2, 0), ("10.00", 2, 1), ("0.00", 0, 1)])
def test_a_promise_to_return_items_is_not_compared_with_payments(
    state: State, owed: str, items: int, compared: int
) -> None:
    found = report_of(
        [Group(7, (member(A, "Secret, Name", owed, group_lead=True), member(B, "Secret, Other", "0.00")))]
    )
    counts = {A: MemberItems(UnreturnedItems(items)), B: MemberItems()}
    note_run(state, replace(found, generated_at=TONIGHT, items=ReportItems(counts, {}, TONIGHT), name="items"))
    day = state.database.now().date()
    save(state, draft(7, What.PROMISED, pay_by=day), report="items")
    (promised,) = follow_up(state, 7, "items").entries
    assert promised.promised_items == (not compared)
    assert ("Promised to return items by" in describe_entry(promised)) == (not compared)
    after = day + timedelta(1)
    assert len(FollowUps(state.database, GATEWAY).due_promises(lambda _library: after)) == compared
    assert follow_up(state, 7, "items").status(after, 30) is FollowUpStatus.TO_DO


def test_an_entry_is_stored_as_a_whole(state: State) -> None:
    listed(state, {7: [A, B]})
    [saved] = save(state, draft(7, note="by the 15th")).entries
    [found] = follow_up(state, 7).entries
    assert found == saved
    assert (found.group, found.contact, found.note, found.staff, found.workstation) == (7, A, "by the 15th", *STAFF)
    assert (str(found.group_fines), found.reopened, found.deleted) == ("20.00", False, False)


def test_without_a_run_there_is_nothing(state: State) -> None:
    assert FollowUps(state.database, GATEWAY).of_report("") is None
    listed(state, {7: [A]})
    assert FollowUps(state.database, GATEWAY).of_report("other") is None
    assert FollowUps(state.database, "https://other.example.org").of_report("") is None


def test_only_groups_that_the_report_shows_are_there(state: State) -> None:
    found = report({7: [A], 8: [B]})
    note_run(state, replace(found, groups=found.groups[:1], left_out=found.groups[1:], left_out_count=1))
    with pytest.raises(NotFoundError):
        follow_up(state, 8)


def test_the_contact_person_is_the_lead_or_who_owes_the_most(state: State) -> None:
    lead = (member(A, "a", "1.00"), member(B, "b", "2.00", group_lead=True, library="BR2"), member(C, "c", "3.00"))
    nobody = (member(D, "d", "1.00"), member(E, "e", "2.00"))
    note_run(state, report_of([Group(7, lead), Group(8, nobody)]))
    assert [follow_up(state, number).group.contact for number in (7, 8)] == [B, E]
    assert follow_up(state, 7).group.contact_library == "BR2"


# --- With its family ---


def test_it_follows_a_new_number(state: State) -> None:
    listed(state, {7: [A, B]})
    save(state, draft(7, note="one"))
    listed(state, {9: [A, B]}, 1)
    assert notes(state, 9) == ["one"]
    listed(state, {11: [B, A, C], 7: [D]}, 2)
    assert (notes(state, 11), notes(state, 7)) == (["one"], [])


def test_a_merged_group_shows_both_histories(state: State) -> None:
    listed(state, {7: [A, B], 8: [C, D]})
    save(state, draft(7, note="one"))
    save(state, draft(8, note="two"))
    listed(state, {8: [C, D, A, B]}, 1)
    assert notes(state, 8) == ["one", "two"]
    save(state, draft(8, seen=follow_up(state, 8).seen, note="three"))
    assert notes(state, 8) == ["one", "two", "three"]


def test_a_split_group_s_goes_with_the_contact_person(state: State) -> None:
    listed(state, {7: [A, B, C]})
    save(state, draft(7, note="one"))
    listed(state, {7: [B, C], 9: [A]}, 1)
    assert (notes(state, 7), notes(state, 9)) == ([], ["one"])


def test_it_goes_with_the_contact_person_as_of_the_entry(state: State) -> None:
    listed(state, {7: [A, B, C]})
    save(state, draft(7, note="one"))
    listed(state, {7: [B, A, C]}, 1)
    save(state, draft(7, seen=follow_up(state, 7).seen, note="two"))
    listed(state, {7: [A, C], 9: [B]}, 2)
    assert (notes(state, 7), notes(state, 9)) == (["one"], ["two"])


def test_a_month_with_a_merge_that_was_undone(state: State) -> None:
    """Two families of two branches, merged by mistake on the 10th. The entries come back with their families."""
    apart, merged = {1014: [A, B], 1005: [C, D]}, {1005: [C, D, A, B]}
    for night in range(31):
        listed(state, merged if 10 <= night < 20 else apart, night)
        if night == 3:
            save(state, draft(1014, note="3rd: A"), draft(1005, note="3rd: C"))
        if night == 12:
            wrong = follow_up(state, 1005)
            about_a, _about_c = wrong.entries
            assert [notes_of(wrong.about(who)) for who in ([A], [D], [E])] == [["3rd: A"], ["3rd: C"], []]
            save(state, draft(1005, seen=wrong.seen, corrects=about_a.original.id, note="12th: A, corrected"))
        if night == 14:
            before = follow_up(state, 1005).about([C, D])
            assert notes_of(before) == ["3rd: C"], "a clerk who doesn't see A"
            assert save(state, draft(1005, seen=before.seen, note="14th: all"), sees=[C, D]).entries
            assert notes(state, 1005) == ["12th: A, corrected", "3rd: C", "14th: all"]
    assert (notes(state, 1014), notes(state, 1005)) == (["12th: A, corrected"], ["3rd: C", "14th: all"])
    store = FollowUps(state.database, GATEWAY)
    assert [notes_of(store.of_group(number, apart[number])) for number in apart] == [
        ["12th: A, corrected"],
        ["3rd: C", "14th: all"],
    ]


def test_at_the_desk_a_group_with_hidden_members_shows_only_entries_about_visible_ones(state: State) -> None:
    hidden = Group(7, (member(A, "n", "30.00"),), 1, None)
    note_run(state, replace(report_of([hidden]), generated_at=TONIGHT))
    save(state, draft(7, note="about A"))
    assert FollowUps(state.database, GATEWAY).of_group(7, [B])[0] == ()


def test_it_stays_with_the_family_when_the_contact_person_is_gone(state: State) -> None:
    listed(state, {7: [A, B, C], 8: [D, E]})
    save(state, draft(7, note="one"))
    save(state, draft(8, note="two"))
    listed(state, {7: [B, C], 9: [E]}, 1)
    assert notes(state, 7) == ["one"]
    assert notes(state, 9) == []  # one of two is no majority


def test_hidden_members_change_nothing(state: State) -> None:
    def with_hidden(*visible: int) -> Report:
        group = Group(7, tuple(member(id, "n", "30.00") for id in visible), 1, None)
        return replace(report_of([group]), generated_at=TONIGHT)

    note_run(state, with_hidden(A))
    save(state, draft(7, What.CLOSED))
    note_run(state, with_hidden(B))  # the contact person is hidden now
    assert len(follow_up(state, 7).entries) == 1
    assert status(state, 7) is FollowUpStatus.CLOSED


def test_a_group_as_the_desk_sees_it(state: State) -> None:
    store = FollowUps(state.database, GATEWAY)
    assert store.of_group(7, [A, B]) == ((), {})
    listed(state, {7: [A, B, C]})
    [entry] = save(state, draft(7)).entries
    for number, members in ((7, [A, B, C]), (9, [A, D]), (9, [B, C]), (7, [C]), (9, [B, C, *range(100, 200)])):
        assert store.of_group(number, members)[0] == (entry,), (number, members)
    for number, members in ((9, [C]), (7, [D]), (9, [711, 712]), (9, [C, *range(100, 200)])):
        assert store.of_group(number, members) == ((), {}), (number, members)
    assert FollowUps(state.database, "https://other.example.org").of_group(7, [A, B, C]) == ((), {})


def test_the_desk_finds_entries_of_a_contact_person_who_left_for_a_group_that_isnt_listed(state: State) -> None:
    listed(state, {7: [A, B]})
    save(state, draft(7, note="one"))
    listed(state, {7: [B]}, 1)
    assert notes_of(FollowUps(state.database, GATEWAY).of_group(9, [A])) == ["one"]


def test_the_reports_that_show_a_group(state: State) -> None:
    store = FollowUps(state.database, GATEWAY)
    note_run(state, report({7: [A, B], 8: [C]}), replace(report({7: [A, B]}), name="old"))
    assert [store.of_group(number, members)[1] for number, members in ((7, [B]), (8, [C]), (8, [D]))] == [
        {"": "BR1", "old": "BR1"},
        {"": "BR1"},
        {},
    ]
    note_run(state, replace(report({}, 1), criteria=Criteria(min_members=3)))  # another series
    assert store.of_group(7, [A])[1] == {"old": "BR1"}


# --- Closed ---


NIGHTS = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([(), ("",), ("old",), ("", "old")])), max_size=6)
"""For each night, how many members of a group owe 10.00, and the reports that list the group."""


@given(members=st.integers(1, 4), nights=NIGHTS)
@MANY
def test_closed_until_it_owes_more_or_no_report_lists_it(
    state: State, members: int, nights: list[tuple[int, tuple[str, ...]]]
) -> None:
    empty(state)
    people = [A, B, C, D]
    holds = True
    for night, (count, names) in enumerate([(members, ("", "old")), *nights, (1, ("", "old"))]):
        groups = {7: people[:count]}
        note_run(state, *(replace(report(groups if name in names else {}, night), name=name) for name in ("", "old")))
        if night == 0:
            save(state, draft(7, What.CLOSED))
        holds = holds and bool(names) and count <= members
        expected = FollowUpStatus.CLOSED if holds else FollowUpStatus.TO_DO
        assert [status(state, 7, name) for name in names] == [expected for _name in names]


@given(
    nights=st.lists(
        st.tuples(st.dictionaries(st.sampled_from([A, B, C, D, E]), st.sampled_from([7, 8, 9])), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
@MANY
def test_reports_agree_and_lose_nothing_of_groups_that_are_listed(
    state: State, nights: list[tuple[dict[int, int], bool]]
) -> None:
    empty(state)
    saved = []
    for night, (numbers, in_old) in enumerate(nights):
        groups = {number: [id for id, of in numbers.items() if of == number] for number in sorted({*numbers.values()})}
        name = "old" if in_old else ""
        note_run(state, report(groups, night), replace(report(groups, night), name="old"))
        for number in groups:
            [entry] = save(
                state, draft(number, seen=follow_up(state, number, name).seen, note=f"{night}"), report=name
            ).entries
            saved.append(entry.id)
        found = {number: follow_up(state, number).entries for number in groups}
        assert found == {number: follow_up(state, number, "old").entries for number in groups}
        assert found == {
            number: FollowUps(state.database, GATEWAY).of_group(number, groups[number])[0] for number in groups
        }
        everything = [entry.id for entries in found.values() for entry in entries]
        assert len(everything) == len({*everything}), "no entry is in two groups"
    # The whole family again, in one group: everything is there.
    note_run(state, report({11: [A, B, C, D, E]}, 9), replace(report({}, 9), name="old"))
    assert [entry.id for entry in follow_up(state, 11).entries] == saved


def test_a_report_that_couldnt_be_made_may_have_listed_it(state: State) -> None:
    listed(state, {7: [A, B]})
    save(state, draft(7, What.CLOSED))
    note_run(state, report({}, 1), all_reports=False)
    listed(state, {7: [A, B]}, 2)
    assert status(state, 7) is FollowUpStatus.CLOSED


def test_a_library_that_was_hidden_for_a_night(state: State) -> None:
    listed(state, {7: [A, B]})
    save(state, draft(7, What.CLOSED))
    listed(state, {}, 1, hidden=["BR1"])
    listed(state, {7: [A, B]}, 2)
    assert status(state, 7) is FollowUpStatus.CLOSED


# --- Two people at once ---


def test_of_many_at_once_one_is_first(state: State) -> None:
    listed(state, {7: [A]})
    barrier = threading.Barrier(8)

    def at_once(number: int) -> tuple[Entry, ...]:
        barrier.wait()
        return save(state, draft(7, note=f"{number}")).entries

    with ThreadPoolExecutor(8) as pool:
        saved = [entries for entries in pool.map(at_once, range(8)) if entries]
    assert len(saved) == 1


def test_a_correction_is_newer_too(state: State) -> None:
    listed(state, {7: [A]})
    [first] = save(state, draft(7, note="first")).entries
    [second] = save(state, draft(7, seen=first.id, note="corrected", corrects=first.id)).entries
    assert save(state, draft(7, seen=first.id)).newer == (second,)
    [found] = follow_up(state, 7).entries
    assert (found.note, [(one.id, one.note) for one in found.earlier]) == ("corrected", [(first.id, "")])


def test_a_deletion_is_on_record(state: State) -> None:
    listed(state, {7: [A]})
    [first] = save(state, draft(7, What.CLOSED, note="wrong family")).entries
    [second] = save(state, draft(7, What.CLOSED, seen=first.id, corrects=first.id, note="the wrong family")).entries
    save(state, draft(7, seen=second.id, corrects=first.id, deletes=True), staff=99)
    [found] = follow_up(state, 7).entries
    assert (found.deleted, found.staff, found.original.staff) == (True, 99, STAFF[0])
    assert status(state, 7) is FollowUpStatus.TO_DO
    export(state.database, everything := io.StringIO())
    assert "wrong family" not in everything.getvalue()


def test_after_a_restore_an_open_form_neither_changes_nor_hides_the_entry_with_its_number(
    state: State, tmp_path: Path
) -> None:
    listed(state, {7: [A]})
    back_up(state.database, tmp_path / "backup")
    [lost] = save(state, draft(7, note="lost")).entries
    with State(tmp_path / "restored") as restored:
        restore(restored.database, tmp_path / "backup")
        [other] = save(restored, draft(7, note="a colleague's")).entries
        assert record_ids.number_of(lost.id) == record_ids.number_of(other.id)
        with pytest.raises(NotFoundError):
            save(restored, draft(7, seen=lost.id, corrects=lost.id, deletes=True))
        assert save(restored, draft(7, seen=lost.id)).newer == (other,)


def test_a_repeated_request_saves_nothing_again(state: State) -> None:
    listed(state, {7: [A], 8: [B]})
    drafts = (draft(7, note="one"), draft(8, note="two"))
    saved = save(state, *drafts, key="k").entries
    assert save(state, *drafts, key="k").entries == saved
    assert save(state, *drafts, key="k", staff=99).newer  # keys belong to staff
    with pytest.raises(PlanError) as refusal:
        save(state, drafts[0], key="k")
    assert refusal.value.code == "key-of-other-entries"
    assert (notes(state, 7), notes(state, 8)) == (["one"], ["two"])


def test_entries_go_some_days_after_the_group_was_last_listed(state: State) -> None:
    days = {"history": 9999, "journal": 9999, "events": 9999, "follow-ups": 3}
    listed(state, {7: [A], 8: [B]})
    save(state, draft(7, note="one"), draft(8, note="two"))
    for night in range(1, 7):
        listed(state, {7: [A]}, night)
        prune(state.database, days, TONIGHT + timedelta(night))
    listed(state, {7: [A], 8: [B]}, 7)
    assert (notes(state, 7), notes(state, 8)) == (["one"], [])


# --- Forgotten ---


def test_a_family_keeps_its_entries_without_the_person_who_was_contacted(state: State) -> None:
    listed(state, {7: [A, B, C]})
    save(state, draft(7, note="with A"))
    listed(state, {7: [B, A, C]}, 1)
    save(state, draft(7, seen=follow_up(state, 7).seen, note="with B"))
    assert forget(state.database, B).entries == 1
    assert (notes(state, 7), follow_up(state, 7).group.contact) == (["with A"], 0)
    listed(state, {9: [A, C]}, 2)
    assert notes(state, 9) == ["with A"]


def test_a_corrected_or_deleted_entry_of_theirs_doesnt_come_back(state: State) -> None:
    listed(state, {7: [A, B]})
    [first, other] = [
        save(state, draft(7, note=note, seen=follow_up(state, 7).seen)).entries[0] for note in ("one", "two")
    ]
    listed(state, {7: [B, A]}, 1)
    save(state, draft(7, seen=other.id, corrects=first.id, deletes=True))
    save(state, draft(7, seen=follow_up(state, 7).seen, corrects=other.id, note="corrected"))
    assert forget(state.database, B).entries == 2
    assert follow_up(state, 7).entries == ()


def test_entries_of_forgotten_staff_lose_their_id(state: State) -> None:
    listed(state, {7: [A]})
    save(state, draft(7, note="one"), key="k")
    assert forget(state.database, STAFF[0]).entries == 0
    [entry] = follow_up(state, 7).entries
    assert (entry.note, entry.staff, entry.workstation) == ("one", None, None)
    assert FollowUps(state.database, GATEWAY).saved(STAFF[0], "k", "") == ()


@given(
    contacts=st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=6),
    corrected=st.lists(st.integers(0, 5), max_size=6),
    gone=st.sampled_from([A, B, C]),
)
@MANY
def test_forgetting_leaves_no_trace_and_nothing_else_changes(
    state: State, contacts: list[int], corrected: list[int], gone: int
) -> None:
    empty(state)
    for night, who in enumerate(contacts):
        listed(state, {7: [who, *{A, B, C} - {who}]}, night)
        before = follow_up(state, 7)
        originals = [entry.original.id for entry in before.entries]
        wrong = next((originals[at] for at in corrected[night : night + 1] if at < len(originals)), None)
        save(state, draft(7, seen=before.seen, note=f"{night}", corrects=wrong))

    def versions(entry: Entry) -> set[int]:
        return {entry.contact, *(version.contact for version in entry.earlier)}

    def without(entry: Entry) -> Entry:
        persons = tuple(id for id in entry.persons if id != gone)
        return replace(entry, persons=persons, earlier=tuple(map(without, entry.earlier)))

    kept = [without(entry) for entry in follow_up(state, 7).entries if gone not in versions(entry)]
    forget(state.database, gone)
    assert list(follow_up(state, 7).entries) == kept
    with state.database.reading() as connection:
        for row in connection.execute(select(schema.follow_ups)):
            assert gone != row.contact
            assert gone not in json.loads(row.members)
