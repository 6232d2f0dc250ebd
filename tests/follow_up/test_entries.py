"""The rule that says whether somebody has to act, and what is accepted as an entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.errors import NotFoundError, PlanError
from evergreen_groups.follow_up import (
    Agreed,
    DraftEntry,
    Entry,
    FollowUp,
    FollowUpState,
    FollowUpStatus,
    How,
    What,
    digest_of,
    today_at,
)
from evergreen_groups.follow_up.entries import current_entries, pending_in, status_of
from evergreen_groups.ils import OrgUnit
from evergreen_groups.report import Listing

TODAY = date(2026, 11, 29)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
OWED = Decimal("30.00")
GROUP = Listing(7, OWED, True, 2, (71, 72), "BR1", frozenset({"BR1"}), 71, "BR1")
TO_DO, WAITING, CLOSED = FollowUpStatus.TO_DO, FollowUpStatus.WAITING, FollowUpStatus.CLOSED


def id_of(number: int) -> str:
    return f"{number}-k7q4tz"


def entry(
    id: int = 1, what: What = What.CONTACTED, *, ago: int = 0, remind: int | None = None, **more: object
) -> Entry:
    """Return an entry of ``ago`` days ago, with a reminder ``remind`` days from today."""
    day = TODAY - timedelta(ago)
    remind_on = None if remind is None else TODAY + timedelta(remind)
    made = Entry(
        id_of(id),
        1,
        NOON,
        day,
        7,
        71,
        what,
        How.PHONE,
        day,
        remind_on,
        "secret",
        OWED,
        staff=5,
        workstation=6,
        persons=(71,),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def status(
    *entries: Entry, owed: Decimal = OWED, after: int = 30, days: int = 0, collections: bool = False
) -> FollowUpStatus:
    return status_of(entries, owed, TODAY + timedelta(days), after, in_collections=collections)


def test_to_do_without_an_entry() -> None:
    assert status() is status(entry(deleted=True)) is TO_DO


@pytest.mark.parametrize(
    ("ago", "remind", "found"),
    [(0, None, WAITING), (30, None, WAITING), (31, None, TO_DO), (0, 1, WAITING), (0, 0, TO_DO), (9, -1, TO_DO)],
)
def test_reminders_and_days(ago: int, remind: int | None, found: FollowUpStatus) -> None:
    assert status(entry(ago=ago, remind=remind)) is found
    assert status(entry(1, ago=90, remind=-40), entry(2, What.NO_ANSWER, ago=ago, remind=remind)) is found, (
        "the latest counts"
    )


def test_again_after_can_be_shorter() -> None:
    assert status(entry(ago=8), after=7) is TO_DO


def test_closed_until_the_total_rises_or_the_group_returns() -> None:
    closing = entry(2, What.CLOSED, ago=90)
    assert status(entry(1), closing) is CLOSED
    assert status(closing, owed=OWED - 10) is CLOSED
    assert status(closing, owed=OWED + Decimal("0.01")) is TO_DO
    assert status(entry(1), replace(closing, reopened=True)) is TO_DO


@pytest.mark.parametrize(
    ("before", "now", "found"), [(4, 4, CLOSED), (4, 3, CLOSED), (4, 5, TO_DO), (None, 5, CLOSED), (4, None, CLOSED)]
)
def test_closed_until_there_are_more_items(before: int | None, now: int | None, found: FollowUpStatus) -> None:
    """None: the report that lists the group doesn't count items."""
    closing = entry(2, What.CLOSED, ago=90, group_fines=Decimal("0.00"), unreturned=before)
    group = GROUP._replace(group_fines=Decimal("0.00"), unreturned=now)
    assert FollowUp(group, (closing,)).status(TODAY, 30) is found
    correction = entry(3, What.CLOSED, ago=90, corrects=closing.id, unreturned=None)
    assert FollowUp(group, current_entries([closing, correction])).status(TODAY, 30) is found


def test_a_note_or_letter_doesnt_open_a_closed_group_and_anything_else_does() -> None:
    closing = entry(1, What.CLOSED)
    assert status(closing, entry(2, What.NOTE)) is CLOSED
    assert status(closing, entry(2, how=How.LETTER)) is CLOSED
    assert status(closing, entry(2, how=How.EMAIL)) is WAITING
    assert status(closing, entry(2, What.PROMISED, how=How.LETTER)) is WAITING
    assert status(closing, entry(2, What.PROMISED, remind=9)) is WAITING


def test_a_group_in_collections_waits_until_it_leaves() -> None:
    due = entry(remind=-5)
    assert status(due) is TO_DO
    assert status(due, collections=True) is status(collections=True) is WAITING
    assert replace(FollowUp(GROUP, (due,)), group=GROUP._replace(in_collections=True)).status(TODAY, 30) is (WAITING)


# --- Promises and reminders ---


def at(
    saved: int, what: What = What.CONTACTED, pay: int | None = None, remind: int | None = None, **more: object
) -> Entry:
    """Return an entry saved on a day of December, with a promise and a reminder for days of December."""
    days = {"pay_by": pay, "remind_on": remind, "day": saved, "saved_on": saved}
    dates = {name: None if day is None else date(2026, 12, day) for name, day in days.items()}
    return entry(saved, what, **{**dates, **more})


NOTE, PROMISED, NO_ANSWER, CLOSING, CONTACTED = What.NOTE, What.PROMISED, What.NO_ANSWER, What.CLOSED, What.CONTACTED
PROMISE = at(1, PROMISED, pay=10)
REMINDER = at(1, NOTE, remind=16)
LETTER = {"how": How.LETTER}
OTHERS = {"persons": (81, 82), "group": 8}
MERGED = {"persons": (71, 81, 82)}


@pytest.mark.parametrize(
    ("entries", "to_do_on", "waiting_on"),
    [
        # Until its day the family waits, however old its last entry; a promise's day is still the family's.
        ([PROMISE], [11, 31], [1, 10]),
        ([REMINDER], [16, 31], [1, 15]),
        ([at(1, NOTE, remind=31, day=date(2026, 1, 1))], [31], [1, 30]),
        ([at(1, PROMISED, remind=10)], [10, 11], [9]),
        ([at(1, PROMISED, pay=10, remind=5)], [5], [4]),
        ([at(1, PROMISED, pay=5, remind=10)], [6, 10], [5]),
        ([PROMISE, at(2, NOTE, remind=20)], [11, 20], [10]),
        # A new promise replaces the promise, and a new reminder the reminder.
        ([PROMISE, at(2, PROMISED, pay=20)], [21], [11, 20]),
        ([PROMISE, at(12, PROMISED, pay=20)], [21], [12, 20]),
        ([at(1, NOTE, remind=5), at(2, NOTE, remind=20)], [20], [5, 19]),
        ([REMINDER, at(2, PROMISED, pay=20)], [16], [15]),
        # Once a promise's day is over, a new reminder puts it off. A reminder from before doesn't.
        ([PROMISE, at(11, NOTE, remind=20)], [20, 21], [11, 19]),
        ([PROMISE, at(11, NOTE, remind=20), at(20, CONTACTED)], [21], [20]),
        ([PROMISE, at(10, NOTE, remind=20)], [11], [10]),
        # A contact on or after a reminder's day answers it; one before that day, a note or a letter doesn't.
        ([REMINDER, at(16, NO_ANSWER)], [], [16, 31]),
        ([REMINDER, at(15, CONTACTED)], [16], [15]),
        ([REMINDER, at(16, NOTE)], [16, 31], []),
        ([REMINDER, at(17, **LETTER)], [17, 31], []),
        ([REMINDER, at(17, PROMISED, **LETTER)], [], [17, 31]),
        ([PROMISE, at(11, CONTACTED)], [11, 31], []),
        # Letters before that day cancel nothing.
        ([REMINDER, at(2, **LETTER)], [16], [2, 15]),
        ([PROMISE, at(2, **LETTER)], [11], [2, 10]),
        # Staff cancel the one or the other; a closing ends both.
        ([PROMISE, at(2, NOTE, cancels=Agreed.PROMISE)], [], [11, 31]),
        ([PROMISE, at(2, NOTE, cancels=Agreed.REMINDER)], [11], [10]),
        ([REMINDER, at(2, NOTE, cancels=Agreed.REMINDER)], [], [16, 31]),
        ([PROMISE, REMINDER, at(2, CLOSING, reopened=True), at(3, CONTACTED)], [], [11, 16]),
        ([at(2, CLOSING), at(3, NOTE, remind=16)], [16], []),
        # A correction counts as saved with the original; what a deleted entry ended stands again.
        ([REMINDER, replace(at(17), earlier=(at(3),))], [16], [15]),
        ([PROMISE, at(2, PROMISED, pay=20, deleted=True)], [11], [10]),
        ([REMINDER, at(16, deleted=True)], [16], [15]),
        ([PROMISE, at(2, NOTE, cancels=Agreed.PROMISE, deleted=True)], [11], [10]),
        # Of merged families, the earliest day counts, until an entry about both.
        ([at(1, PROMISED, pay=20), at(2, PROMISED, pay=10, **OTHERS)], [11], [10]),
        ([at(1, PROMISED, pay=10), at(2, PROMISED, pay=20, **OTHERS)], [11], [10]),
        ([at(1, NOTE, remind=20), at(16, **OTHERS), at(2, NOTE, remind=16, **OTHERS)], [16], [15]),
        ([PROMISE, at(2, PROMISED, pay=12, **OTHERS), at(3, PROMISED, pay=20, **MERGED)], [21], [13, 20]),
    ],
)  # fmt: skip
def test_promises_and_reminders(entries: list[Entry], to_do_on: list[int], waiting_on: list[int]) -> None:
    found = {day: status_of(entries, OWED, date(2026, 12, day), 60) for day in (*to_do_on, *waiting_on)}
    assert found == {**dict.fromkeys(to_do_on, TO_DO), **dict.fromkeys(waiting_on, WAITING)}


def test_what_a_waiting_family_waits_for() -> None:
    def state(day: int, *entries: Entry) -> FollowUpState:
        return FollowUp(GROUP, entries).state(lambda _library: date(2026, 12, day), 30)

    assert (state(3, PROMISE, REMINDER).waits_for, state(3, PROMISE).waits_until) == (
        (PROMISE, PROMISE.pay_by),
        PROMISE.pay_by,
    )
    assert [state(11, PROMISE).waits_until, state(3, at(2)).waits_until] == [None, None]
    assert [state(3, PROMISE, at(2, CLOSING)).is_closed, state(3, PROMISE).is_closed] == [True, False]


ENTRIES = st.lists(
    st.builds(
        entry,
        what=st.sampled_from(What),
        ago=st.integers(0, 60),
        remind=st.none() | st.integers(-60, 60),
        cancels=st.none() | st.sampled_from(Agreed),
        reopened=st.booleans(),
        deleted=st.booleans(),
        group_fines=st.decimals(0, 99, places=2),
    ),
    max_size=5,
)
AMOUNTS = st.decimals(0, 99, places=2)


@given(ENTRIES, AMOUNTS, AMOUNTS, st.integers(1, 60), st.integers(0, 99))
def test_what_holds_for_any_entries(
    entries: Sequence[Entry], owed: Decimal, more: Decimal, after: int, days: int
) -> None:
    before = status(*entries, owed=owed, after=after)
    if before is TO_DO:
        assert status(*entries, owed=owed, after=after, days=days) is TO_DO, "until an entry is saved"
    if before is not CLOSED:
        assert status(*entries, owed=owed + more, after=after) is before, "owing more closes nothing"
    later = status(*entries, owed=owed, after=after, days=999)
    assert later is not CLOSED or before is CLOSED, "time alone doesn't close"
    in_collections = status(*entries, owed=owed, after=after, collections=True)
    assert in_collections is (WAITING if before is TO_DO else before)
    assert status(*(replace(one, reopened=True) for one in entries), owed=owed) is not CLOSED
    assert status(*entries, entry(9, what=What.PROMISED), owed=owed) is (
        TO_DO if any(one.day <= TODAY for one in pending_in([*entries, entry(9, What.PROMISED)]).values()) else WAITING
    )
    assert status(*entries, entry(9, What.CLOSED, group_fines=owed), owed=owed) is CLOSED


# --- Versions ---


def test_a_correction_keeps_the_entrys_place_and_the_former_version() -> None:
    first, second = entry(1), entry(2, What.NO_ANSWER)
    corrected, again = entry(3, What.PROMISED, corrects=id_of(1)), entry(4, What.PROMISED, corrects=id_of(1), note="x")
    found = current_entries([first, second, corrected, again])
    assert [(one.id, one.original.id) for one in found] == [(id_of(4), id_of(1)), (id_of(2), id_of(2))]
    assert found[0].earlier == (first, corrected)


def test_a_corrected_closing_still_knows_that_the_group_reopened() -> None:
    closing = entry(1, What.CLOSED, reopened=True)
    assert status(*current_entries([closing, entry(2, What.CLOSED, corrects=id_of(1))])) is TO_DO
    promised = replace(closing, what=What.PROMISED, reopened=False)
    assert status(*current_entries([promised, entry(2, What.CLOSED, corrects=id_of(1))])) is CLOSED


def test_the_last_row_is_what_a_writer_must_have_seen() -> None:
    follow_up = FollowUp(GROUP, current_entries([entry(1), entry(2), entry(3, corrects=id_of(1))]))
    assert (follow_up.seen, FollowUp(GROUP).seen) == (id_of(3), None)


def test_in_files_of_several_libraries_are_entries_about_a_member_of_each() -> None:
    follow_up = FollowUp(GROUP, (entry(1, persons=(71, 72)), entry(2, persons=(73, 74))))
    one, both = [(71, "BR1"), (72, "BR1")], [(71, "BR1"), (72, "BR1"), (73, "BR2")]
    found = [[kept.id for kept in follow_up.for_libraries(members).entries] for members in (one, both)]
    assert found == [[id_of(1)], []]


# --- What is accepted ---


def checked(draft: DraftEntry, *rows: Entry) -> DraftEntry:
    return draft.checked(FollowUp(GROUP, current_entries(rows)), TODAY)


def test_today_is_the_default_and_blanks_are_trimmed() -> None:
    found = checked(DraftEntry(7, None, note=" two\n lines "))
    assert (found.day, found.note) == (TODAY, "two lines")


@pytest.mark.parametrize(
    "draft",
    [
        DraftEntry(7, None, what=What.PROMISED),
        DraftEntry(7, None, note=""),
        DraftEntry(7, None, note="\u200b\u202e \xad"),
        DraftEntry(7, None, note="x", day=TODAY + timedelta(1)),
        DraftEntry(7, None, note="x", remind_on=TODAY - timedelta(1)),
        DraftEntry(7, None, what=What.CLOSED, remind_on=TODAY),
        DraftEntry(7, None, note="x" * 301),
        DraftEntry(7, None, note="\x1b[1m"),
        DraftEntry(7, None, note="\ud800"),
        DraftEntry(7, None, deletes=True),
        DraftEntry(7, None, note="x", pay_by=TODAY),
        DraftEntry(7, None, what=What.PROMISED, how=How.PHONE, pay_by=TODAY - timedelta(1)),
        DraftEntry(7, None, cancels=Agreed.PROMISE),
        DraftEntry(7, None, what=What.CLOSED, cancels=Agreed.REMINDER),
    ],
)
def test_refused(draft: DraftEntry) -> None:
    with pytest.raises(PlanError) as refusal:
        checked(draft)
    assert refusal.value.code == "follow-up-unclear"


@pytest.mark.parametrize("row", [entry(9), entry(8, deleted=True)])
def test_only_an_entry_that_is_there_can_be_corrected(row: Entry) -> None:
    with pytest.raises(NotFoundError):
        checked(DraftEntry(7, id_of(9), corrects=id_of(8), note="x"), row)


def test_a_past_reminder_may_stay_in_a_correction() -> None:
    before = entry(1, remind=-5)
    assert checked(DraftEntry(7, id_of(1), corrects=id_of(1), note="x", remind_on=before.remind_on), before).remind_on
    with pytest.raises(PlanError):
        checked(DraftEntry(7, id_of(1), corrects=id_of(1), note="x", remind_on=TODAY - timedelta(4)), before)


def test_a_deletion_keeps_what_it_deletes_without_the_text() -> None:
    found = checked(
        DraftEntry(7, id_of(1), corrects=id_of(1), deletes=True, note="x"), entry(1, What.PROMISED, remind=-5)
    )
    assert (found.what, found.how, found.note, found.deletes) == (What.PROMISED, How.PHONE, "", True)


def test_notes_are_in_no_text_form() -> None:
    assert "secret" not in repr([entry(), DraftEntry(7, None, note="secret")])


def test_a_digest_tells_requests_apart() -> None:
    draft = DraftEntry(7, None, note="x")
    assert digest_of("", [draft]) == digest_of("", [replace(draft)])
    others = [digest_of("old", [draft]), digest_of("", [replace(draft, note="y")]), digest_of("", [draft, draft])]
    assert len({digest_of("", [draft]), *others}) == 4


def test_today_is_in_the_librarys_time_zone() -> None:
    now = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)
    zones = {4: ZoneInfo("Asia/Tokyo"), 5: ZoneInfo("America/Toronto")}
    units = [OrgUnit(4, "BR1", "Branch 1", None), OrgUnit(5, "BR2", "Branch 2", None)]
    today = today_at(now, None, zones, units)
    assert [today(name).day for name in ("BR1", "BR2")] == [30, 29]
    assert today_at(now, ZoneInfo("UTC"), zones, units)("BR1").day == 29
