"""The report as a worklist: its page with current follow-ups, and a form for entries that works without scripts."""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple, Self

from flask import Blueprint, Response, jsonify, request, url_for

from evergreen_groups.errors import ConfigurationError, NotFoundError, PlanError, StateError
from evergreen_groups.follow_up import DraftEntry, How, What
from evergreen_groups.language import describe_advice, describe_problem, gettext, use_language
from evergreen_groups.message import Message
from evergreen_groups.render import StaffClient, error_sentences, sentence
from evergreen_groups.render.report import (
    FollowUpPage,
    ShownGroup,
    WorklistRow,
    WorklistRows,
    WrittenPage,
    shown_entries,
)
from evergreen_groups.web import requests, static_files
from evergreen_groups.web.bodies import MOST_ENTRIES
from evergreen_groups.web.follow_ups import ReadFollowUps, save_entries
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.report_pages import page_response, settings_of_report
from evergreen_groups.web.service import CHANGES_OFF, service

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from werkzeug.datastructures import MultiDict

    from evergreen_groups.follow_up import Entry
    from evergreen_groups.web.service import DeskRequest, Service

log = logging.getLogger("evergreen_groups.web")

blueprint = Blueprint("worklist", __name__)

SCRIPT = "follow-up.js"
_LARGEST_FORM = 16 * 1024
_LONGEST_NAME = 200
_ANOTHER_SESSION = Message("You have logged in again since this page was opened.")
_SAVE_AGAIN = Message("Check what you typed, then save again.")
_NEWER = Message("A colleague has added an entry. Yours wasn't saved.")
_LOOK = Message("Check the new entry, then save yours.")
_READ_ONLY = Message(
    "To save entries or mark letters as sent, your login needs the permission {permission} at {library}."
)


def filled(running: Service, desk: DeskRequest, page: str, report: str, name: str) -> str | None:
    """Return a report's page with current follow-ups; None if it has no list, or its run wasn't recorded.

    ``report`` is the report's name, ``name`` that of a library's page ("" if the report has one page).
    """
    written = WrittenPage(page)
    if written.language is None:
        return None
    try:
        read = ReadFollowUps.read(running, desk, report)
    except (StateError, ConfigurationError) as error:
        log.warning("the follow-ups can't be read: %s", type(error).__name__)
        return None
    if read.found is None:
        return None
    rows = _rows(running, desk, read)
    script = f"{url_for('worklist.script')}?{static_files.static_file(SCRIPT).digest[:12]}"
    with use_language(running.settings.language.language(written.language)):
        place = {"report": report, "page": name, "language": written.language}
        letters = url_for("letters.letters") if settings_of_report(running, report or None).contact else ""
        action, saved = url_for("worklist.follow_up"), request.args.get("saved", 0, type=int)
        return written.filled(rows, action=action, letters=letters, place=place, script=script, saved=saved)


def _rows(
    running: Service, desk: DeskRequest, read: ReadFollowUps, only: Collection[int] | None = None
) -> dict[int, WorklistRow]:
    """Return the rows of the listed groups (numbers), by default of all."""
    groups = {} if read.found is None else read.found.by_group
    listed = {number: one for number, one in groups.items() if only is None or number in only}
    writable = read.writable(running, desk, {one.group.contact_library for one in listed.values()})
    again_after = running.settings.follow_up.again_after
    return {
        number: WorklistRow(one.state(read.today, again_after), one.group.contact_library in writable)
        for number, one in listed.items()
    }


@blueprint.get(f"/reports/{SCRIPT}")
def script() -> Response:
    """Serve the page's script."""
    return static_files.file_response(SCRIPT)


@dataclass(frozen=True, slots=True)
class Form:
    """What a request is about, and what the reader has typed.

    ``report`` and ``page`` say which page the reader came from, and ``columns`` how many its table has; ``patron`` (id)
    is set if it was the page of that patron's group. ``seen`` are the groups with the last row that the reader has
    seen, ``entry`` is the entry to correct. ``do`` is the button.
    """

    report: str
    page: str
    language: str
    columns: int
    patron: int | None
    seen: Mapping[int, int | None]
    entry: int | None
    do: str
    key: str
    typed: Mapping[str, str]

    @classmethod
    def read(cls, fields: MultiDict[str, str]) -> Self:
        """Parse a form, or the query of an address.

        Raises:
            ProblemError: 400, the pages never send this.
        """
        seen: dict[int, int | None] = {}
        for text in fields.getlist("group"):
            number, _, row = text.partition(":")
            seen[requests.record_id(number)] = requests.record_id(row) if row else None
        key, entry = fields.get("key", "") or secrets.token_hex(16), fields.get("entry", "")
        report, page, patron = (fields.get(name, "") for name in ("report", "page", "patron"))
        if max(len(report), len(page)) > _LONGEST_NAME or not re.fullmatch("[0-9a-f]{32}", key):
            raise ProblemError(400, "The form is incomplete.", code="form-incomplete")
        if len(seen) > MOST_ENTRIES:
            values = {"most": MOST_ENTRIES}
            raise ProblemError(400, "Select at most {most} groups.", code="too-many-groups-selected", values=values)
        if not seen:
            raise ProblemError(400, "Select a group in the report first.", code="no-group-selected")
        return cls(
            report=report,
            page=page,
            language=fields.get("language", "")[:10],
            columns=min(int(fields["columns"]), 99) if re.fullmatch("[0-9]{1,3}", fields.get("columns", "")) else 1,
            patron=requests.record_id(patron) if patron else None,
            seen=seen,
            entry=requests.record_id(entry) if entry else None,
            do=fields.get("do", ""),
            key=key,
            typed={name: fields[name] for name in ("note", "weeks", "remind_on", "day") if fields.get(name)},
        )

    def back(self, saved: int | None = None) -> str:
        """Return the address of the page that the reader came from, which tells that ``saved`` entries were saved."""
        if self.patron is not None:
            return url_for("desk_pages.group", patron=self.patron)
        report = self.report or None
        if self.page:
            return url_for("reports.report_of_library", report=report, name=self.page, saved=saved)
        return url_for("reports.latest_report", report=report, saved=saved)

    def fields(self, token: str) -> list[tuple[str, str]]:
        """Return the form's hidden fields. ``token`` is the session's form token."""
        origin = {
            "report": self.report,
            "page": self.page,
            "language": self.language,
            "columns": str(self.columns),
            "patron": "" if self.patron is None else str(self.patron),
        }
        groups = [("group", f"{number}:{row or ''}") for number, row in self.seen.items()]
        entry = "" if self.entry is None else str(self.entry)
        each = [*origin.items(), ("entry", entry), ("form", token), ("key", self.key), *groups]
        return [(name, value) for name, value in each if value]

    def draft(self, group: int, today: date, entries: Iterable[Entry] = ()) -> DraftEntry:
        """Return the entry to save for a group. A correction of a note or reminder keeps the outcome in ``entries``.

        Raises:
            PlanError: a field can't be read.
        """
        if self.do == "delete":
            return DraftEntry(group, self.seen[group], self.entry, deletes=True)
        what, _, how = self.do.partition(" ")
        before = next((one for one in entries if one.original.id == self.entry), None)
        if self.do == What.NOTE.value and before is not None:
            what, how = before.what.value, before.how.value if before.how else ""
        try:
            weeks = int(self.typed.get("weeks", "0"))
            remind_on = today + timedelta(weeks=weeks) if 0 < weeks < 53 else None
            if "remind_on" in self.typed:
                remind_on = date.fromisoformat(self.typed["remind_on"])
            return DraftEntry(
                group,
                self.seen[group],
                self.entry,
                what=What(what),
                how=How(how) if how else None,
                day=date.fromisoformat(self.typed["day"]) if "day" in self.typed else None,
                remind_on=None if what == What.CLOSED.value else remind_on,
                note=self.typed.get("note", ""),
            )
        except ValueError:
            raise PlanError(
                "the form is incomplete, or its date can't be read",
                code="follow-up-form-unclear",
            ) from None


@blueprint.get("/reports/follow-up")
def follow_up() -> Response:
    """Show what was agreed with some groups of a report, and a form for an entry."""
    running, form = service(), Form.read(request.args)
    with running.desk(request, by_link=True) as desk:
        running.use_session_timezone(desk.client.gateway)
        return _show(running, desk, ReadFollowUps.read(running, desk, form.report), form)


@blueprint.post("/reports/follow-up")
def save() -> Response:
    """Save an entry for each group. Whatever goes wrong, the answer has the form with what was typed."""
    running = service()
    requests.refuse_foreign_writes(request.headers, running.origin)
    try:
        with running.changing_desk(request, largest=_LARGEST_FORM) as desk:
            running.use_session_timezone(desk.client.gateway)
            form = Form.read(request.form)
            read = ReadFollowUps.read(running, desk, form.report)
            token = requests.token_of(request.headers)
            if not requests.is_form_token(request.form.get("form", ""), token, desk.caller.user):
                return _show(running, desk, read, form, NotSaved(403, gettext(_ANOTHER_SESSION), gettext(_SAVE_AGAIN)))
            return _save(running, desk, read, form)
    except ProblemError as error:
        request.max_content_length = _LARGEST_FORM
        return _not_saved(running, Form.read(request.form), error)


def _save(running: Service, desk: DeskRequest, read: ReadFollowUps, form: Form) -> Response:
    listed = {} if read.found is None else read.found.by_group
    try:
        drafts = [
            form.draft(number, read.today(one.group.contact_library if one else ""), one.entries if one else ())
            for number in form.seen
            for one in [listed.get(number)]
        ]
        outcome = save_entries(running, desk, form.report, drafts, form.key, read)
    except (PlanError, NotFoundError) as error:
        if error.code == "key-of-other-entries":  # an earlier attempt was saved, and its answer lost
            form = replace(form, key=secrets.token_hex(16))
        status = 404 if isinstance(error, NotFoundError) else 400
        return _show(running, desk, read, form, NotSaved(status, error_sentences(error)))
    read = ReadFollowUps.read(running, desk, form.report)
    if outcome.newer:
        return _show(running, desk, read, form, NotSaved(409, gettext(_NEWER), gettext(_LOOK)))
    if requests.KEY_HEADER not in request.headers:
        return Response(
            status=303, headers={"Location": form.back(None if form.do == "delete" else len(outcome.entries))}
        )
    written = WorklistRows(form.columns, with_letters=settings_of_report(running, form.report or None).contact)
    rows = _rows(running, desk, read, form.seen)
    return jsonify(rows={str(number): written.row(number, row) for number, row in rows.items()})


def read_only(running: Service, library: str) -> str:
    """Return why a reader may not save entries about the patrons of a library (short name)."""
    if not running.settings.desk.changes:
        return gettext(CHANGES_OFF)
    return gettext(_READ_ONLY, permission=running.settings.follow_up.permission, library=library)


class NotSaved(NamedTuple):
    """Why nothing was saved, and what to do."""

    status: int
    text: str
    advice: str = ""


def _show(
    running: Service, desk: DeskRequest, read: ReadFollowUps, form: Form, problem: NotSaved | None = None
) -> Response:
    """Return the form's page, with the ``problem`` if nothing was saved."""
    listed = {} if read.found is None else read.found.by_group
    groups = [listed[number] for number in form.seen if number in listed]
    if not groups:
        raise ProblemError(404, "The report no longer lists this group.", code="follow-up-of-unlisted")
    user, changes = desk.caller.user, running.settings.desk.changes
    if problem and all(entry.deleted or entry.original.id != form.entry for entry in groups[0].entries):
        form = replace(form, entry=None)  # deleted by now: what was typed can be saved as a new entry
    corrected = None if form.entry is None else groups[0].entry(form.entry)
    is_own = corrected is not None and corrected.original.staff == user
    people = {entry.staff or 0 for one in groups for entry in one.entries} | {one.group.contact for one in groups}
    names = desk.client.patrons.names(people - {0}) if people - {0} else {}
    rows = _rows(running, desk, read, form.seen)
    shown = []
    for one in groups:
        number, library, row = one.group.group, one.group.contact_library, rows[one.group.group]
        refusal = "" if row.may_write or (changes and is_own) else read_only(running, library)
        entries = shown_entries(
            one,
            names,
            may_correct=lambda entry, row=row: row.may_write or entry.original.staff == user,  # type: ignore[misc]
            seen=form.seen[number] or 0 if problem else None,
        )
        owed = one.group.combined_fines if one.group.certain else None
        name = names.get(one.group.contact, "")
        shown.append(ShownGroup(number, name, library, row.state.status, owed, entries, refusal))
    if corrected is not None and problem is None:
        remind_on = corrected.remind_on.isoformat() if corrected.remind_on else ""
        form = replace(form, typed={"note": corrected.note, "remind_on": remind_on, "day": corrected.day.isoformat()})
    accepted = {one.group.group: one.seen for one, view in zip(groups, shown, strict=True) if not view.refusal}
    token = requests.form_token(requests.token_of(request.headers), user)
    page = FollowUpPage(
        shown,
        url_for("worklist.save", language=form.language or None),
        form.back(),
        replace(form, seen=accepted).fields(token),
        form.typed,
        corrected=corrected,
        today=min(read.today(one.group.contact_library) for one in groups),
        problem=(problem.text, problem.advice) if problem else ("", ""),
        with_corrections=changes and len(groups) == 1,
        from_group=form.patron is not None,
    )
    return _answer(page, problem.status if problem else 200)


def _not_saved(running: Service, form: Form, error: ProblemError) -> Response:
    """Return the form as it was sent, and say why nothing was saved."""
    has_ended = error.status == 401
    page = FollowUpPage(
        [ShownGroup(number) for number in form.seen],
        url_for("worklist.save", language=form.language or None),
        form.back(),
        form.fields(request.form.get("form", "")),
        form.typed,
        problem=(sentence(describe_problem(error)), sentence(describe_advice(error))),
        login=StaffClient.of(running.settings, running.gateway.url).login_page() if has_ended else "",
        from_group=form.patron is not None,
    )
    response = _answer(page, error.status)
    response.headers.update(error.headers)
    return response


def _answer(page: FollowUpPage, status: int) -> Response:
    response = page_response(page.html().encode(), status)
    # With no-referrer, browsers would send "Origin: null" with forms, even to the same origin.
    response.headers["Referrer-Policy"] = "same-origin"
    return response
