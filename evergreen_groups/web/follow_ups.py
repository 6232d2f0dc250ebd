"""Follow-ups: the API for what was agreed with the groups of a report, and the report as a worklist.

The worklist is the report's page with current follow-ups, and a form for entries that works without scripts.
"""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Self

import msgspec
from flask import Blueprint, Response, jsonify, request, url_for
from msgspec import Meta, Struct, structs

from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, NotFoundError, PlanError, StateError
from evergreen_groups.follow_up import (
    Agreed,
    Detail,
    DraftEntry,
    FollowUps,
    FollowUpStatus,
    How,
    ReportFollowUps,
    Today,
    What,
    Written,
    digest_of,
    saved_after,
    today_at,
)
from evergreen_groups.language import describe_advice, describe_problem, gettext, use_language
from evergreen_groups.message import Message
from evergreen_groups.render import (
    StaffClient,
    describe_unreturned,
    entry_document,
    follow_ups_document,
    sentence,
)
from evergreen_groups.render.report import (
    OUTCOMES,
    FollowUpPage,
    ShownGroup,
    WorklistRow,
    WorklistRows,
    WrittenPage,
    shown_entries,
    shown_pending,
    with_results,
)
from evergreen_groups.report import read_phones_and_email
from evergreen_groups.state import record_ids
from evergreen_groups.values import ZERO, Total, plain_amount
from evergreen_groups.web import bodies, requests
from evergreen_groups.web.admission import permitted_at
from evergreen_groups.web.api import file_response, versioned
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.report_pages import (
    location_of,
    name_of_report,
    page_response,
    report_refused,
    settings_of_report,
)
from evergreen_groups.web.service import CHANGES_OFF, service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set

    from werkzeug.datastructures import MultiDict

    from evergreen_groups.follow_up import Entry, FollowUp
    from evergreen_groups.letters import Coverage
    from evergreen_groups.web.service import DeskRequest, Service

log = logging.getLogger("evergreen_groups.web")

blueprint = Blueprint("follow_ups", __name__)


@dataclass(frozen=True, slots=True)
class ReadFollowUps:
    """The follow-ups of a report that the caller of ``desk`` may see.

    ``found`` is None if no run was recorded. ``libraries`` are the ids of org units by short name.
    """

    desk: DeskRequest
    found: ReportFollowUps | None
    libraries: Mapping[str, int]
    today: Today

    @classmethod
    def read(cls, desk: DeskRequest, report: str) -> Self:
        """Read them, or raise a ProblemError: 403, the caller may not read the report; 404, none has this name."""
        running, gateway = desk.service, desk.client.gateway
        location = location_of(running, report or None)
        units = running.reference.org_units(gateway)
        libraries = {unit.shortname: unit.id for unit in units}
        sees_all = desk.sees_everybody()
        if not sees_all and not location.is_dir():
            raise report_refused()
        found = FollowUps(running.state.database, gateway.url).of_report(name_of_report(running, report))
        if found is not None and not sees_all:
            # A library's page shows the groups that have a member there.
            visible = {unit.shortname for unit in units if unit.id in desk.sees_patrons_at}
            mine = {number: one for number, one in found.by_group.items() if visible & one.group.libraries}
            found = replace(found, by_group=_readable(desk, mine, visible))
        configured = running.settings.language.language().timezone
        zones = {} if configured else running.reference.timezones(gateway)
        return cls(desk, found, libraries, today_at(running.state.database.now(), configured, zones, units))

    @property
    def listed(self) -> Mapping[int, FollowUp]:
        """The follow-ups by the groups' numbers."""
        return {} if self.found is None else self.found.by_group

    def rows(self, numbers: Iterable[int]) -> dict[int, WorklistRow]:
        """Return the worklist's rows of those of these groups that are listed."""
        listed = {number: self.listed[number] for number in numbers if number in self.listed}
        writable = writable_at(self.desk, {one.group.contact_library for one in listed.values()})
        again_after, user = self.desk.service.settings.follow_up.again_after, self.desk.caller.user
        return {
            number: WorklistRow(
                one.state(self.today, again_after),
                one.group.contact_library in writable,
                self.today(one.group.contact_library),
                any(entry.original.staff == user and not entry.deleted for entry in one.entries),
            )
            for number, one in listed.items()
        }


def writable_at(desk: DeskRequest, libraries: Iterable[str]) -> frozenset[str]:
    """Return those of these libraries (short names) at which the caller may save entries. Makes one call."""
    settings, gateway = desk.service.settings, desk.client.gateway
    if not settings.desk.changes:
        return frozenset()
    units = {unit.id: unit.shortname for unit in desk.service.reference.org_units(gateway)}
    wanted = frozenset(libraries)
    ids = frozenset(id for id, name in units.items() if name in wanted)
    permitted = permitted_at(gateway, desk.caller, ids, settings.follow_up.permission)
    return frozenset(units[id] for id in permitted)


def _readable(desk: DeskRequest, listed: dict[int, FollowUp], visible: Set[str]) -> dict[int, FollowUp]:
    """Return follow-ups with the entries that the caller may read, who sees the patrons of the ``visible`` libraries.

    Only for groups that have members elsewhere, Evergreen says whom the caller sees.
    """
    mixed = {one.group.group for one in listed.values() if not (one.group.complete and one.group.libraries <= visible)}
    persons = {id for number in mixed for entry in listed[number].entries for id in entry.persons}
    seen = desk.client.patrons.names(persons).keys() if persons else ()
    return {number: one.about(seen) if number in mixed else one for number, one in listed.items()}


@blueprint.get("/api/v1/follow-ups")
def follow_ups() -> Response:
    """Answer with the follow-ups of the groups that a report shows."""
    running = service()
    with running.desk(request) as desk:
        report = request.args.get("report", "")
        read = ReadFollowUps.read(desk, report)
        writable = writable_at(desk, {one.group.contact_library for one in read.listed.values()})
        again_after = running.settings.follow_up.again_after
        return jsonify(follow_ups_document(report, read.found, read.today, again_after, writable=writable))


def save_entries(
    desk: DeskRequest, report: str, drafts: Sequence[DraftEntry], key: str, read: ReadFollowUps | None = None
) -> Written:
    """Save entries for a caller, all or none. ``read`` are the follow-ups if the caller has just read them.

    Raises ProblemError (403) if the caller may not save one of them, PlanError if an entry isn't accepted or the key
    stands for other entries, or NotFoundError if the report doesn't list a group or there is no such entry.
    """
    running, caller = desk.service, desk.caller
    digest = digest_of(report, drafts)
    store = FollowUps(running.state.database, desk.client.gateway.url)
    if saved := store.saved(caller.user, key, digest):
        return Written(saved)
    read = read or ReadFollowUps.read(desk, report)
    found = read.found or ReportFollowUps(report, running.state.database.now(), {})
    each = [(found.group(draft.group), draft) for draft in drafts]
    others = {
        one.group.contact_library
        for one, draft in each
        if draft.corrects is None or one.entry(draft.corrects).original.staff != caller.user
    }
    for library in sorted(others - writable_at(desk, others)):
        raise ProblemError(
            403,
            "your login lacks the permission {permission} at {library}",
            code="follow-up-permission-missing",
            values={"permission": running.settings.follow_up.permission, "library": library},
        )
    checked = [draft.checked(one, read.today(one.group.contact_library)) for one, draft in each]
    written = store.write(
        found,
        checked,
        staff=caller.user,
        workstation=caller.workstation,
        org_unit=caller.library,
        key=key,
        request=digest,
    )
    running.state.plugins.notify("follow_up_added", *written.entries)
    return written


@blueprint.post("/api/v1/follow-ups")
def save() -> Response:
    """Save entries, all or none. Repeating the request with the same key gives the same answer."""
    with service().changing_desk(request, largest=requests.LARGEST_ENTRIES_BODY) as desk:
        report, drafts = bodies.follow_up_entries(request)
        outcome = save_entries(desk, report, drafts, requests.idempotency_key(request))
        if outcome.newer:
            raise _newer_entry(outcome)
        entries = [entry_document(entry) for entry in outcome.entries]
        return jsonify(version=1, kind="follow-up-entries", entries=entries)


def _newer_entry(outcome: Written) -> ProblemError:
    return ProblemError(
        409,
        "A colleague has added an entry. Yours wasn't saved.",
        advice="Check the new entry, then save yours.",
        code="newer-entry",
        more={"newer": [entry_document(entry) for entry in outcome.newer]},
    )


# --- The worklist ---

worklist = Blueprint("worklist", __name__)

SCRIPT = "follow-up.js"
_LARGEST_FORM = 32 * 1024
_COVERS = Message("Covered by letter: {covered} of {owed}.")
_COVERS_ITEMS = Message(
    "Covered by letter: {items} of {unreturned} overdue or lost item.",
    plural="Covered by letter: {items} of {unreturned} overdue or lost items.",
)
_READ_ONLY = Message(
    "To save entries or mark letters as sent, your login needs the permission {permission} at {library}."
)


def filled(desk: DeskRequest, page: str, report: str, name: str) -> str | None:
    """Return a report's page with current follow-ups; None if it has no list, or its run wasn't recorded.

    ``report`` is the report's name, ``name`` that of a library's page ("" if the report has one page).
    """
    written = WrittenPage(page)
    if written.language is None:
        return None
    try:
        read = ReadFollowUps.read(desk, report)
    except (StateError, ConfigurationError) as error:
        log.warning("the follow-ups can't be read: %s", type(error).__name__)
        return None
    if read.found is None:
        return None
    rows = read.rows(read.listed)
    with use_language(desk.service.settings.language.language(written.language)):
        filled = written.filled(
            rows,
            action=url_for("worklist.follow_up"),
            letters=url_for("letters.letters") if settings_of_report(desk.service, report or None).contact else "",
            place={"report": report, "page": name, "language": written.language},
            script=versioned(url_for("worklist.script"), SCRIPT),
            saved=request.args.get("saved", 0, type=int),
            most=bodies.MOST_ENTRIES,
            shown=request.args.get("status", FollowUpStatus.TO_DO.value),
        )
        results = url_for("results.page", report=report or None, language=written.language)
        return with_results(filled, results)


@worklist.get(f"/reports/{SCRIPT}")
def script() -> Response:
    """Serve the page's script."""
    return file_response(SCRIPT)


_GROUP, _AMOUNT = "([1-9][0-9]{0,9})", "([0-9]{1,9}(?:[.][0-9]{2})?)"
_COVERED = re.compile(rf"^{_GROUP}:{_AMOUNT}-{_AMOUNT}([+]?)\Z")
_Name = Annotated[str, Meta(max_length=200)]
_Seen = Annotated[str, Meta(pattern=rf"^{_GROUP}(:({record_ids.PATTERN})?)?\Z")]
_Covered = Annotated[str, Meta(pattern=_COVERED.pattern)]


def covered_text(family: Coverage) -> str:
    """Return what letters cover of what a family owes: ``1017:2.00-33.50``, with a plus sign if more may be owed.

    If they owe nothing, return how many of their overdue and lost items the letters cover: ``1017:2-4``.
    """
    if family.unreturned is not None and family.owed == Total(ZERO):
        covered, total, exact = str(family.items), str(family.unreturned.at_least), family.unreturned.exact
    else:
        covered, total, exact = plain_amount(family.covered), plain_amount(family.owed.at_least), family.owed.exact
    return f"{family.group.number}:{covered}-{total}{'' if exact else '+'}"


class Form(Struct, frozen=True, kw_only=True):
    """What a request is about, and what the reader has typed.

    ``report`` and ``page`` say which page the reader came from, and ``columns`` how many its table has. ``group`` has
    the number of each group and the last row that the reader has seen, ``covers`` what letters cover that don't cover
    everything. Letters are also for groups (numbers) to write to ``anyway``, and patrons (ids) without an address whose
    letters go ``to_lead``. ``entry`` is the entry to correct, ``delete`` the one to delete. ``do`` is the button: it
    saves the ``outcome``, deletes the entry, cancels a promise or a reminder, or saves that letters were sent. What was
    typed remains a text, to show it again.
    """

    report: _Name = ""
    page: _Name = ""
    language: _Name = ""
    columns: Annotated[int, Meta(ge=1, le=99)] = 1
    entry: bodies.RecordId | None = None
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")] = msgspec.field(default_factory=lambda: secrets.token_hex(16))
    group: tuple[_Seen, ...] = ()
    covers: tuple[_Covered, ...] = ()
    anyway: tuple[bodies.Id, ...] = ()
    to_lead: tuple[bodies.Id, ...] = ()
    delete: bodies.RecordId | None = None
    do: str = ""
    outcome: str = ""
    how: str = ""
    reason: str = ""
    note: str = ""
    weeks: str = ""
    remind_on: str = ""
    pay_by: str = ""
    amount: str = ""
    day: str = ""
    __repr__ = object.__repr__  # without the note

    @classmethod
    def read(cls, fields: MultiDict[str, str]) -> Self:
        """Parse a form, or the query of an address. A ProblemError (400) refuses what the pages never send."""
        form = bodies.read_form(fields, cls)
        if len(form.seen) > bodies.MOST_ENTRIES:
            values = {"most": bodies.MOST_ENTRIES}
            raise ProblemError(400, "Select at most {most} groups.", code="too-many-groups-selected", values=values)
        if not form.group:
            raise ProblemError(400, "Select a group in the report first.", code="no-group-selected")
        return structs.replace(form, entry=form.delete, do="delete") if form.delete else form

    @property
    def seen(self) -> dict[int, str | None]:
        """The groups, with the last row that the reader has seen of each."""
        return {int(number): row or None for number, _, row in (text.partition(":") for text in self.group)}

    def with_seen(self, seen: Mapping[int, str | None]) -> Form:
        """Return the form with these groups."""
        return structs.replace(self, group=tuple(f"{number}:{row or ''}" for number, row in seen.items()))

    @property
    def typed(self) -> dict[str, str]:
        """What the reader has typed."""
        names = ("outcome", "how", "reason", "note", "weeks", "remind_on", "pay_by", "amount", "day")
        typed = {name: getattr(self, name) for name in names}
        return {name: text for name, text in typed.items() if text}

    @property
    def action(self) -> str:
        """The address that saves the form."""
        return url_for("worklist.save", language=self.language or None)

    def back(self, saved: int | None = None) -> str:
        """Return the address of the page that the reader came from, which tells that ``saved`` entries were saved."""
        report = self.report or None
        if self.page:
            return url_for("reports.report_of_library", report=report, name=self.page, saved=saved)
        return url_for("reports.latest_report", report=report, saved=saved)

    def fields(self, token: str) -> list[tuple[str, str]]:
        """Return the form's hidden fields. ``token`` is the session's form token."""
        names = ("report", "page", "language", "columns", "entry", "key")
        fields = [("form", token), *((name, getattr(self, name)) for name in names)]
        groups, covers = [("group", text) for text in self.group], [("covers", text) for text in self.covers]
        return [(name, str(value)) for name, value in [*fields, *groups, *covers] if value]

    def asked(self) -> list[tuple[str, str]]:
        """Return the hidden fields with which letters are made again."""
        return [(name, text) for name, text in self.fields("") if name != "key"]

    def draft(self, group: int, today: date, entries: Iterable[Entry] = ()) -> DraftEntry:
        """Return the entry to save for a group. A corrected note still cancels what the one in ``entries`` does.

        A PlanError refuses a field that can't be read, or that doesn't fit the outcome.
        """
        if self.do == "delete":
            return DraftEntry(group, self.seen[group], self.entry, deletes=True)
        before = next((one for one in entries if one.original.id == self.entry), None)
        outcome, how, cancels = self.outcome, self.how, before.cancels if before else None
        if self.do != "save":
            outcome, _, how = self.do.partition(" ")
        try:
            if outcome == "cancel":
                outcome, cancels = What.NOTE.value, Agreed(how)
            what, detail = OUTCOMES[outcome]
            if what is What.CLOSED:
                detail = Detail(self.reason)
            weeks = int(self.weeks or 0)
            remind_on = self.remind_on or ((today + timedelta(weeks=weeks)).isoformat() if 0 < weeks < 53 else "")
            optional = {
                "corrects": self.entry,
                "how": how if what not in (What.CLOSED, What.NOTE) else "",
                "detail": detail and detail.value,
                "day": self.day,
                "remind_on": "" if what is What.CLOSED else remind_on,
                "note": self.note or (self._coverage(group) if how == How.LETTER.value else ""),
                "pay_by": self.pay_by if what is What.PROMISED else "",
                "amount": self.amount.strip().replace(",", ".") if what is What.PROMISED else "",
                "cancels": cancels.value if cancels and what is What.NOTE else "",
            }
            given = {name: value for name, value in optional.items() if value}
            fields = {"group": group, "seen": self.seen[group], "what": what.value, **given}
            draft = msgspec.convert(fields, DraftEntry)
        except (KeyError, ValueError, msgspec.ValidationError):
            raise PlanError(
                "the form is incomplete, or its date can't be read", code="follow-up-form-unclear"
            ) from None
        # A letter, or a talk in person, doesn't miss the family.
        if outcome in ("no-answer", "left-message") and draft.how in (How.LETTER, How.IN_PERSON):
            raise PlanError("Not accepted: select phone or e-mail", code="follow-up-way-unclear")
        return draft

    def _coverage(self, group: int) -> str:
        """Return a note of what the letter to a group covers; "" if it covers everything."""
        for number, covered, owed, more in (_COVERED.findall(text)[0] for text in self.covers):
            if int(number) == group and "." not in owed:
                total = Total(int(owed), not more)
                return gettext(_COVERS_ITEMS, count=int(owed), items=int(covered), unreturned=total)
            if int(number) == group:
                return gettext(_COVERS, covered=Decimal(covered), owed=Total(Decimal(owed), not more))
        return ""


@worklist.get("/reports/follow-up")
def follow_up() -> Response:
    """Show what was agreed with some groups of a report, and a form for an entry."""
    running, form = service(), Form.read(request.args)
    with running.desk(request, by_link=True) as desk:
        running.use_session_timezone(desk.client.gateway)
        return _show(ReadFollowUps.read(desk, form.report), form)


@worklist.post("/reports/follow-up", endpoint="save")
def save_form() -> Response:
    """Save an entry for each group. Whatever goes wrong, the answer has the form with what was typed."""
    running = service()
    requests.refuse_foreign_writes(request.headers, running.origin)
    try:
        with running.changing_desk(request, largest=_LARGEST_FORM) as desk:
            running.use_session_timezone(desk.client.gateway)
            form = Form.read(request.form)
            read = ReadFollowUps.read(desk, form.report)
            if not desk.has_made(request.form):
                return _show(read, form, _another_session(), 403)
            return _save(read, form)
    except ProblemError as error:
        request.max_content_length = _LARGEST_FORM
        return _not_saved(running, Form.read(request.form), error)


def save_or_refuse(read: ReadFollowUps, form: Form) -> tuple[Form, Written | EvergreenGroupsError]:
    """Save an entry for each group of a form. Return what was saved, or why nothing was, with the form to send again.

    Raises ProblemError if the caller may not save one of them.
    """
    try:
        drafts = [
            form.draft(number, read.today(one.group.contact_library if one else ""), one.entries if one else ())
            for number in form.seen
            for one in [read.listed.get(number)]
        ]
        written = save_entries(read.desk, form.report, drafts, form.key, read)
    except (PlanError, NotFoundError) as error:
        if error.code == "key-of-other-entries":  # an earlier attempt was saved, and its answer lost
            form = structs.replace(form, key=secrets.token_hex(16))
        return form, error
    return form, _newer_entry(written) if written.newer else written


def _save(read: ReadFollowUps, form: Form) -> Response:
    form, outcome = save_or_refuse(read, form)
    if isinstance(outcome, PlanError | NotFoundError):
        return _show(read, form, outcome, 404 if isinstance(outcome, NotFoundError) else 400)
    read = ReadFollowUps.read(read.desk, form.report)
    if isinstance(outcome, EvergreenGroupsError):
        return _show(read, form, outcome, 409)
    if requests.KEY_HEADER not in request.headers:
        back = form.back(None if form.do == "delete" else len(outcome.entries))
        return Response(status=303, headers={"Location": back})
    with_letters = settings_of_report(read.desk.service, form.report or None).contact
    written = WorklistRows(form.columns, with_letters=with_letters)
    return jsonify(rows={str(number): written.row(number, row) for number, row in read.rows(form.seen).items()})


def read_only(running: Service, library: str) -> str:
    """Return why a reader may not save entries about the patrons of a library (short name)."""
    if not running.settings.desk.changes:
        return gettext(CHANGES_OFF)
    return gettext(_READ_ONLY, permission=running.settings.follow_up.permission, library=library)


def _another_session() -> ProblemError:
    return ProblemError(
        403,
        "You have logged in again since this page was opened.",
        advice="Check what you typed, then save again.",
        code="form-of-another-session",
    )


def _described(error: EvergreenGroupsError) -> tuple[str, str]:
    return sentence(describe_problem(error)), sentence(describe_advice(error))


def _show(read: ReadFollowUps, form: Form, problem: EvergreenGroupsError | None = None, status: int = 200) -> Response:
    """Return the form's page, with the ``problem`` if nothing was saved."""
    return page_response(form_page(read, form, problem).html().encode(), status, with_form=True)


def form_page(read: ReadFollowUps, form: Form, problem: EvergreenGroupsError | None = None) -> FollowUpPage:
    """Make the form's page, with the ``problem`` if nothing was saved. ProblemError 404: the groups aren't listed."""
    desk, running = read.desk, read.desk.service
    groups = [read.listed[number] for number in form.seen if number in read.listed]
    if not groups:
        raise ProblemError(404, "The report no longer lists this group.", code="follow-up-of-unlisted")
    user, changes = desk.caller.user, running.settings.desk.changes
    if problem and all(entry.deleted or entry.original.id != form.entry for entry in groups[0].entries):
        form = structs.replace(form, entry=None)  # deleted by now: what was typed can be saved as a new entry
    corrected = None if form.entry is None else groups[0].entry(form.entry)
    is_own = corrected is not None and corrected.original.staff == user
    versions = [version for one in groups for entry in one.entries for version in (entry, *entry.earlier)]
    people = {version.staff or 0 for version in versions} | {one.group.contact for one in groups}
    names = desk.client.patrons.names(people - {0}) if people - {0} else {}
    rows = read.rows(form.seen)
    shown = []
    client = StaffClient.of(running.settings, desk.client.gateway.url)
    for one in groups:
        number, library, row = one.group.group, one.group.contact_library, rows[one.group.group]
        refusal = "" if row.may_write or (changes and is_own) else read_only(running, library)
        entries = shown_entries(
            one,
            names,
            may_correct=lambda entry, row=row: row.may_write or entry.original.staff == user,  # type: ignore[misc]
            newer={row.id for row in saved_after(form.seen[number], one.entries)} if problem else (),
        )
        owed = one.group.group_fines if one.group.certain else None
        name = names.get(one.group.contact, "")
        pending = shown_pending(one)
        items = describe_unreturned(one.group.unreturned)
        link = client.patron_page(one.group.contact) if one.group.contact else ""
        shown.append(ShownGroup(number, name, library, row.state.status, owed, items, entries, pending, refusal, link))
    if len(shown) == 1 and settings_of_report(running, form.report or None).contact:
        contact = read_phones_and_email(desk.client.gateway, groups[0].group.contact)
        shown = [replace(shown[0], contact=contact)]
    if corrected is not None and problem is None:
        days = {"remind_on": corrected.remind_on, "pay_by": corrected.pay_by, "day": corrected.day}
        typed = {name: day.isoformat() if day else "" for name, day in days.items()}
        outcomes = {parts: outcome for outcome, parts in OUTCOMES.items()}
        is_closing = corrected.what is What.CLOSED
        form = structs.replace(
            form,
            note=corrected.note,
            amount="" if corrected.amount is None else plain_amount(corrected.amount),
            weeks="",
            outcome=outcomes[corrected.what, None if is_closing else corrected.detail],
            how=corrected.how.value if corrected.how else "",
            reason=corrected.detail.value if is_closing and corrected.detail else "",
            **typed,
        )
    accepted = {one.group.group: one.seen for one, view in zip(groups, shown, strict=True) if not view.refusal}
    return FollowUpPage(
        shown,
        form.action,
        form.back(),
        form.with_seen(accepted).fields(desk.form_token),
        form.typed,
        corrected=corrected,
        deletes=corrected is not None and form.do == "delete",
        today=min(read.today(one.group.contact_library) for one in groups),
        problem=_described(problem) if problem else ("", ""),
        with_corrections=changes and len(groups) == 1,
    )


def _not_saved(running: Service, form: Form, error: ProblemError) -> Response:
    """Return the form as it was sent, and say why nothing was saved."""
    has_ended = error.status == 401
    page = FollowUpPage(
        [ShownGroup(number) for number in form.seen],
        form.action,
        form.back(),
        form.fields(request.form.get("form", "")),
        form.typed,
        problem=_described(error),
        login=StaffClient.of(running.settings, running.gateway.url).login_page() if has_ended else "",
    )
    response = page_response(page.html().encode(), error.status, with_form=True)
    response.headers.update(error.headers)
    return response
