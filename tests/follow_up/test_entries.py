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
from evergreen_groups.follow_up import DraftEntry, Entry, FollowUp, FollowUpStatus, How, What, digest_of, today_at
from evergreen_groups.follow_up.entries import current_entries, status_of
from evergreen_groups.ils import OrgUnit
from evergreen_groups.report import Listing

TODAY = date(2026, 11, 29)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
OWED = Decimal("30.00")
GROUP = Listing(7, OWED, True, 2, (71, 72), "BR1", frozenset({"BR1"}), 71, "BR1")
TO_DO, WAITING, CLOSED = FollowUpStatus.TO_DO, FollowUpStatus.WAITING, FollowUpStatus.CLOSED


def entry(
    id: int = 1, what: What = What.CONTACTED, *, ago: int = 0, remind: int | None = None, **more: object
) -> Entry:
    """Return an entry of ``ago`` days ago, with a reminder ``remind`` days from today."""
    remind_on = None if remind is None else TODAY + timedelta(remind)
    made = Entry(
        id, 1, NOON, 7, 71, what, How.PHONE, TODAY - timedelta(ago), remind_on, "secret", OWED, staff=5, workstation=6
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
    assert status(entry(1, ago=90, remind=-5), entry(2, What.NO_ANSWER, ago=ago, remind=remind)) is found, (
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


ENTRIES = st.lists(
    st.builds(
        entry,
        what=st.sampled_from(What),
        ago=st.integers(0, 60),
        remind=st.none() | st.integers(-60, 60),
        reopened=st.booleans(),
        deleted=st.booleans(),
        combined_fines=st.decimals(0, 99, places=2),
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
    assert (later is CLOSED) is (before is CLOSED), "time alone neither closes nor opens"
    in_collections = status(*entries, owed=owed, after=after, collections=True)
    assert in_collections is (WAITING if before is TO_DO else before)
    assert status(*(replace(one, reopened=True) for one in entries), owed=owed) is not CLOSED
    assert status(*entries, entry(9), owed=owed) is WAITING
    assert status(*entries, entry(9, What.CLOSED, combined_fines=owed), owed=owed) is CLOSED


# --- Versions ---


def test_a_correction_keeps_the_entrys_place_and_the_former_version() -> None:
    first, second = entry(1), entry(2, What.NO_ANSWER)
    corrected, again = entry(3, What.PROMISED, corrects=1), entry(4, What.PROMISED, corrects=1, note="x")
    found = current_entries([first, second, corrected, again])
    assert [(one.id, one.original.id) for one in found] == [(4, 1), (2, 2)]
    assert found[0].earlier == (first, corrected)


def test_a_corrected_closing_still_knows_that_the_group_reopened() -> None:
    closing = entry(1, What.CLOSED, reopened=True)
    assert status(*current_entries([closing, entry(2, What.CLOSED, corrects=1)])) is TO_DO
    promised = replace(closing, what=What.PROMISED, reopened=False)
    assert status(*current_entries([promised, entry(2, What.CLOSED, corrects=1)])) is CLOSED


def test_the_last_row_is_what_a_writer_must_have_seen() -> None:
    follow_up = FollowUp(GROUP, current_entries([entry(1), entry(2), entry(3, corrects=1)]))
    assert (follow_up.seen, FollowUp(GROUP).seen) == (3, None)


def test_in_files_of_several_libraries_are_entries_about_a_member_of_each() -> None:
    follow_up = FollowUp(GROUP, (entry(1, persons=(71, 72)), entry(2, persons=(73, 74))))
    one, both = [(71, "BR1"), (72, "BR1")], [(71, "BR1"), (72, "BR1"), (73, "BR2")]
    found = [[kept.id for kept in follow_up.for_libraries(members).entries] for members in (one, both)]
    assert found == [[1], []]


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
        DraftEntry(7, None, note="x", day=TODAY + timedelta(1)),
        DraftEntry(7, None, note="x", remind_on=TODAY - timedelta(1)),
        DraftEntry(7, None, what=What.CLOSED, remind_on=TODAY),
        DraftEntry(7, None, note="x" * 301),
        DraftEntry(7, None, note="\x1b[1m"),
        DraftEntry(7, None, note="\ud800"),
        DraftEntry(7, None, deletes=True),
    ],
)
def test_refused(draft: DraftEntry) -> None:
    with pytest.raises(PlanError) as refusal:
        checked(draft)
    assert refusal.value.code == "follow-up-unclear"


@pytest.mark.parametrize("row", [entry(9), entry(8, deleted=True)])
def test_only_an_entry_that_is_there_can_be_corrected(row: Entry) -> None:
    with pytest.raises(NotFoundError):
        checked(DraftEntry(7, 9, corrects=8, note="x"), row)


def test_a_past_reminder_may_stay_in_a_correction() -> None:
    before = entry(1, remind=-5)
    assert checked(DraftEntry(7, 1, corrects=1, note="x", remind_on=before.remind_on), before).remind_on
    with pytest.raises(PlanError):
        checked(DraftEntry(7, 1, corrects=1, note="x", remind_on=TODAY - timedelta(4)), before)


def test_a_deletion_keeps_what_it_deletes() -> None:
    found = checked(DraftEntry(7, 1, corrects=1, deletes=True), entry(1, What.PROMISED, remind=-5))
    assert (found.what, found.how, found.note, found.deletes) == (What.PROMISED, How.PHONE, "secret", True)


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
