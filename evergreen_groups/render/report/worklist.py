"""The report's page as the service shows it: with current follow-ups in place of those at the time of writing.

The written page has markers. No other text in it can look like one, because names are escaped. Filling them in doesn't
parse the page, because it may have thousands of groups.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import escape

from evergreen_groups import follow_up
from evergreen_groups.follow_up import (
    LONGEST_NOTE,
    Agreed,
    Detail,
    Entry,
    FollowUp,
    FollowUpState,
    FollowUpStatus,
    How,
    What,
)
from evergreen_groups.language import day, gettext, minute
from evergreen_groups.message import Message
from evergreen_groups.render.follow_ups import (
    AGREED,
    DETAILS,
    HOW,
    PROMISED_ITEMS,
    STATUSES,
    describe_entry,
    describe_latest,
    describe_promise,
    describe_status,
    outcome,
)
from evergreen_groups.render.pages import RowTemplate, environment, template_text
from evergreen_groups.render.report.columns import FOLLOW_UP

if TYPE_CHECKING:
    from evergreen_groups.report import Contact

DUE = "due"
"""Among the statuses to filter by: groups to do because of a promise or a reminder."""
_GROUP_START, _GROUP_END = '<tbody class="group"', "</tbody>"
_ROW, _MARKER_END, _ROW_END = "<!--follow-up group ", "-->", "<!--follow-up row end-->"
_FORM = re.compile("<!--follow-up list ([0-9]+) ([A-Za-z-]+)-->")
_FILTER, _END = "<!--follow-up filter-->", "<!--follow-up end-->"
_NAVIGATION = "<!--follow-up navigation-->"
_HEADS, _FOOT = "<!--follow-up heads-->", "<!--follow-up foot-->"

_LONG_AGO, _SOON = 30, 7  # days
_MARKS = {
    "soon": Message("promise or reminder in the next {days} days", values={"days": _SOON}),
    "long-ago": Message("not contacted for {days} days", values={"days": _LONG_AGO}),
    "never": Message("never contacted"),
}
_MINE = "mine"
_DUE = Message("Due: promises and reminders")


def with_results(page: str, results: str) -> str:
    """Return a written page with a link to the address of the results, in the current language."""
    return page.replace(_NAVIGATION, str(_macros().results_link(results)), 1)


def _macros() -> Any:
    return environment().get_template("report_follow_up.html").make_module({})


def replaceable_row(group: int, state: FollowUpState | None, columns: int) -> str:
    """Return a group's follow-up for the end of its line in the written page, after a marker.

    Without an entry, there is only the marker. The line ends without a tag: here the service adds cells.
    """
    row = ""
    if state is not None and state.latest is not None:
        macros = _macros()
        row = f"{macros.row_form(columns, _status(state), '', _agreed(macros.agreed_form, state), '')}{_ROW_END}"
    return f"{_ROW}{group}{_MARKER_END}{row}"


def _status(state: FollowUpState) -> str:
    return f"{state.status.value} {DUE}" if state.due else state.status.value


def _agreed(form: Any, state: FollowUpState) -> Any:
    text = describe_latest(state)
    return form(describe_status(state), text) if text else ""


class WorklistRow(NamedTuple):
    """How far a group's follow-up is, and whether the reader may save entries (None: it has no form).

    ``today`` is the date at its library. It ``is_mine`` if an entry is by the reader.
    """

    state: FollowUpState
    may_write: bool | None
    today: date = date.min
    is_mine: bool = False

    @property
    def marks(self) -> str:
        """The marks by which the page's script filters."""
        last, next_day, today = self.state.last_contact, self.state.next_day, self.today
        marks = {
            "soon": next_day is not None and 0 < (next_day - today).days <= _SOON,
            "long-ago": last is not None and (today - last).days >= _LONG_AGO,
            "never": last is None,
            _MINE: self.is_mine,
        }
        return " ".join(mark for mark, applies in marks.items() if applies)


_UNRECORDED = WorklistRow(FollowUpState(FollowUpStatus.TO_DO, None), None)


class WorklistRows:
    """Writes what groups' lines end with, and the rows below with their follow-ups, in the current language.

    ``columns`` is the written table's count.

    Groups can be selected by readers who may save entries, and ``with_letters`` by all.
    """

    def __init__(self, columns: int, *, with_letters: bool) -> None:
        self._columns = columns + len(FOLLOW_UP)
        macros = _macros()
        self._day_cell = cache(lambda one: str(macros.day_cell(one.toordinal(), day(one)) if one else macros.no_day()))
        self._status_cells = {
            status: str(macros.status_cell(place, STATUSES[status])) for place, status in enumerate(FollowUpStatus)
        }
        self._row, self._agreed, self._write, self._read = map(
            RowTemplate,
            (
                macros.row_form,
                macros.agreed_form,
                macros.write_form,
                macros.select_and_read_form if with_letters else macros.read_form,
            ),
        )

    def row(self, group: int, row: WorklistRow) -> str:
        """Return the last cells of a group's line, and the row below with a button that opens its follow-up."""

        def agreed(status: str, text: str) -> str:
            return self._agreed.filled({"status": escape(status), "text": escape(text)})

        controls = self._write if row.may_write else self._read
        state = row.state
        cells = "".join(
            [self._status_cells[state.status], self._day_cell(state.last_contact), self._day_cell(state.next_day)]
        )
        return cells + self._row.filled(
            {
                "columns": self._columns,
                "status": _status(state),
                "marks": row.marks,
                "agreed": _agreed(agreed, state),
                "controls": "" if row.may_write is None else controls.filled({"group": group}),
            }
        )


class WrittenPage:
    """A page as the nightly run wrote it. ``language`` is its language (a tag), None if it has no list to fill in."""

    def __init__(self, page: str) -> None:
        self._page = page
        self._form = _FORM.search(page)
        self.language = self._form[2] if self._form else None

    def filled(
        self,
        rows: Mapping[int, WorklistRow],
        *,
        action: str,
        letters: str,
        place: Mapping[str, str],
        script: str,
        saved: int = 0,
        most: int = 200,
        shown: str = FollowUpStatus.TO_DO.value,
    ) -> str:
        """Return the page with current follow-ups by group number, in the current language.

        The page's form sends ``place`` to the address ``action``, or to that of the ``letters`` (empty: there are
        none). ``script`` is the address of the script. The page says that ``saved`` entries were saved, and lets
        the reader select at most ``most`` groups at once. It opens with the groups whose status is ``shown``, broken
        promises first. Groups without a row are from a run that wasn't recorded: they are to do, and have no form.
        """
        if self._form is None:
            return self._page
        columns = self._form[1]
        macros, written = _macros(), WorklistRows(int(columns), with_letters=bool(letters))
        counts: Counter[str] = Counter()
        head, _, rest = self._page.partition(self._form[0])
        groups, _, tail = rest.partition(_END)
        first, *others = groups.split(_GROUP_START)
        broken: list[str] = []
        unbroken: list[str] = []
        between = [first]
        for piece in others:  # a regular expression takes twice as long
            before, _, rest = piece.partition(_ROW)
            marker, _, after = rest.partition(_MARKER_END)
            _, is_written, rest = after.partition(_ROW_END)
            end, _, following = (rest if is_written else after).partition(_GROUP_END)
            number = int(marker)
            row = rows.get(number, _UNRECORDED)
            counts[row.state.status.value] += 1
            counts[DUE] += bool(row.state.due)
            text = f"{_GROUP_START}{before}{written.row(number, row)}{end}{_GROUP_END}"
            (broken if row.state.is_broken else unbroken).append(text)
            between.append(following)
        between[0] = between[0].replace(_HEADS, macros.heads([(column.page, column.title) for column in FOLLOW_UP]), 1)
        between[-1] = between[-1].replace(_FOOT, macros.foot(len(FOLLOW_UP)), 1)
        ordered = chain.from_iterable(zip_longest(between, [*broken, *unbroken], fillvalue=""))
        texts = {one.value: gettext(STATUSES[one]) for one in FollowUpStatus} | {DUE: gettext(_DUE)}
        filters = macros.filter([(value, text, counts[value]) for value, text in texts.items()], shown, _MARKS, _MINE)
        start = macros.form_start(action, letters, {**place, "columns": columns}, script, saved, most)
        return "".join([head.replace(_FILTER, filters, 1), start, *ordered, macros.form_end(), tail])


# --- The page with the form ---


OUTCOMES: dict[str, tuple[What, Detail | None]] = {
    "no-answer": (What.NO_ANSWER, None),
    "left-message": (What.NO_ANSWER, Detail.LEFT_MESSAGE),
    "contacted": (What.CONTACTED, None),
    "promised": (What.PROMISED, None),
    "wrong-contact": (What.NO_ANSWER, Detail.WRONG_CONTACT),
    "closed": (What.CLOSED, None),
    "note": (What.NOTE, None),
}
"""What the form offers, in the order of a day on the phone."""


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A group on the form's page.

    ``patron_page`` is the contact's in Evergreen. ``contact`` says how to reach them, if reports may.
    ``status`` is None if only the number is known, and ``owed`` if the fines of hidden members are unknown. ``items``
    says how many are overdue or lost where the report counts them. ``pending`` are the promise and the reminder that
    stand, as text. ``refusal`` says why the reader may not save entries for it.
    """

    number: int
    name: str = ""
    library: str = ""
    status: FollowUpStatus | None = None
    owed: Decimal | None = None
    items: str = ""
    entries: Sequence[Mapping[str, object]] = ()
    pending: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    patron_page: str = ""
    contact: Contact | None = None


def shown_entries(
    follow_up: FollowUp, names: Mapping[int, str], *, may_correct: Callable[[Entry], bool], newer: Collection[str] = ()
) -> list[dict[str, object]]:
    """Return what the form's page shows of a follow-up's entries, the latest first, and who saved replaced ones when.

    ``names`` are those of staff, ``newer`` the ids of rows that the reader hasn't seen.
    """

    def by(entry: Entry) -> str:
        return " · ".join(filter(None, (names.get(entry.staff or 0, ""), minute(entry.at))))

    return [
        {
            "id": entry.original.id,
            "text": describe_entry(entry),
            "note": entry.note,
            "by": by(entry),
            "versions": [f"{describe_entry(one)} · {by(one)}" for one in entry.earlier],
            "deleted": entry.deleted,
            "may_correct": not entry.deleted and may_correct(entry),
            "is_newer": entry.id in newer,
        }
        for entry in reversed(follow_up.entries)
    ]


def shown_pending(follow_up: FollowUp) -> dict[str, str]:
    """Return the promise and the reminder that stand, as text."""
    return {
        agreed.value: describe_promise(one.entry, one.day)
        if agreed is Agreed.PROMISE
        else gettext(AGREED[agreed], day=day(one.day))
        for agreed, one in follow_up.pending.items()
    }


@dataclass(frozen=True, slots=True)
class FollowUpPage:
    """The page with what was agreed with some groups, and a form for an entry.

    The form sends ``fields`` and what the reader has ``typed`` to the address ``action``. ``back`` is the address of
    the report. With a ``corrected`` entry, the form replaces that one; if it ``deletes``, it asks first. The
    ``problem`` says why nothing was saved, and what to do; ``login`` is the login page if the session has ended.
    Entries can be corrected only on a page ``with_corrections``.
    """

    groups: Sequence[ShownGroup]
    action: str
    back: str
    fields: Sequence[tuple[str, str]]
    typed: Mapping[str, str]
    corrected: Entry | None = None
    deletes: bool = False
    today: date | None = None
    problem: tuple[str, str] = ("", "")
    login: str = ""
    with_corrections: bool = False

    def html(self) -> str:
        return template_text("follow_up.html", **self.values())

    def values(self) -> dict[str, Any]:
        """Return the values for a template with the form."""
        title = gettext("Follow-up") if self.corrected is None else gettext("Correct an entry")
        if self.deletes:
            title = gettext("Delete the entry")
        # Families that owe nothing promise to return what they have.
        only_items = all(group.owed == 0 and group.items for group in self.groups)
        outcomes = {one: gettext(outcome(*parts)) for one, parts in OUTCOMES.items()}
        if only_items:
            outcomes[What.PROMISED.value] = gettext(PROMISED_ITEMS)
        return {
            "title": title,
            "page": self,
            "corrected_text": "" if self.corrected is None else describe_entry(self.corrected),
            "outcomes": outcomes,
            "only_items": only_items,
            "ways": {how.value: gettext(HOW[how]) for how in How},
            "reasons": {one.value: gettext(DETAILS[one]) for one in follow_up.DETAILS[What.CLOSED]},
            "longest_note": LONGEST_NOTE,
            "statuses": STATUSES,
            "writable": any(not group.refusal for group in self.groups),
        }
