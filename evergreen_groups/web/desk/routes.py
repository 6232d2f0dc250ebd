"""The routes of the desk's pages: the member list, plans, changes and their outcomes."""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from flask import Blueprint, Response, g, request, url_for
from msgspec import structs
from werkzeug.datastructures import MultiDict

from evergreen_groups.desk import LookupKind, Titles, make_statement
from evergreen_groups.errors import StateError
from evergreen_groups.follow_up import FollowUps, Written
from evergreen_groups.language import catalogue, current_language, gettext, languages, number, own_name, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import describe_entry, isolated, template_text
from evergreen_groups.render import desk as pages
from evergreen_groups.web import (
    DeskRequest,
    ProblemError,
    file_response,
    page_turned_off,
    read_form,
    requests,
    service,
    versioned,
)
from evergreen_groups.web.desk import actions, forms
from evergreen_groups.web.follow_ups import Form, ReadFollowUps, form_page, save_or_refuse, writable_at
from evergreen_groups.web.report_pages import location_of

if TYPE_CHECKING:
    from evergreen_groups.changes import ProposedPlan
    from evergreen_groups.client import Client
    from evergreen_groups.desk import GroupDetails, Lookup
    from evergreen_groups.follow_up import Entry
    from evergreen_groups.render.report import FollowUpPage
    from evergreen_groups.settings import StatementSettings

log = logging.getLogger("evergreen_groups.web")

blueprint = Blueprint("desk_pages", __name__)

_NO_PATRON = {
    "join": Message("Scan a card first."),
    "recalculate": Message("Refreshing penalties would change nothing here."),
}
_WHICH = {
    "join": Message("Move another patron to this group"),
    "move": Message("Move to which group?"),
    "merge": Message("Merge into which group?"),
}
_NOT_CONFIRMED = Message("Nothing was changed. To confirm, use the {button} button.")
_SELECT_FIRST = Message("Select a member first.")
_SHOWN_OF_ALL = Message("{shown} of {all} shown")
_LEAST_SEARCHABLE = 10
"""The search field appears from this many members on."""
_LONGEST_SELECTION = 6000
"""Apache takes request lines of up to 8190 characters."""
_GROUP = "/patrons/<patron>/group"
_FILES = {"style": "desk.css", "script": "desk.js", "colours": "colours.js", "texts": "texts.js"}
"""The pages' static files, by their names in templates."""
_HEADERS = {
    # Styles, scripts and data come only from this service; no inline code is allowed. The staff client, which has
    # the same origin, may frame the page.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    # With no-referrer, browsers would send "Origin: null" with forms, even to the same origin.
    "Referrer-Policy": "same-origin",
}


_SENT_FORM = "desk_form"
"""Name in ``flask.g`` of the submitted form, once its token is verified."""

_PASSING = (502, 503, 504)
_LOGIN = ("username", "password")
"""Fields with a supervisor's login, which must not appear in any response."""


@dataclass(frozen=True, slots=True)
class Clerk:
    """The admitted caller of a page, the patron whose group it shows, and the submitted form if there is one."""

    desk: DeskRequest
    patron: int
    fields: MultiDict[str, str]

    @property
    def client(self) -> Client:
        """The client that acts for the clerk."""
        return self.desk.client

    @property
    def may_change(self) -> bool:
        """Whether the library allows changes."""
        return self.desk.service.settings.desk.changes

    def page(self, template: str, **values: object) -> Response:
        """Render a template into a page with forms."""
        return _html(template, {"form_token": self.desk.form_token, **values})


@contextmanager
def admitted(patron: str, *, writes: bool = False) -> Iterator[Clerk]:
    """Admit the caller of a page. ``writes`` means that the form may change something."""
    running = service.service()
    if not running.settings.desk.page:
        raise page_turned_off("page in [desk]")
    # Links in mails and files lead here too: the page shows only what the caller's session may see.
    largest = forms.LARGEST_FORM if request.method == "POST" else 0
    enter = running.changing_desk if writes else partial(running.desk, by_link=True)
    with enter(request, largest=largest, verify=False) as desk:
        running.use_session_timezone(desk.client.gateway)
        fields: MultiDict[str, str] = MultiDict()
        if request.method == "POST":
            fields = forms.read_fields(request, desk)
            setattr(g, _SENT_FORM, fields)
        yield Clerk(desk, requests.record_id(patron), fields)


@blueprint.get("/desk/<name>")
def page_file(name: str) -> Response:
    """Serve a style sheet or script."""
    if name not in _FILES.values():
        raise ProblemError(404, "There is nothing at this address.", code="no-such-file")
    return file_response(name)


@blueprint.get(_GROUP)
def group(patron: str) -> Response:
    """Show the members of a patron's group, and the outcome of a change if the URL names one.

    ``select`` preselects members, as suggested by an audit. It changes nothing.
    """
    with admitted(patron) as clerk:
        change = request.args.get("change")
        selected = forms.read_selection(request.args.get("select", ""))
        return list_page(clerk, change=requests.change_id(change) if change else None, selected=selected)


@blueprint.post(f"{_GROUP}/within")
def within(patron: str) -> Response:
    """Show the members who match a search. The text is in the body because URLs end up in logs."""
    with admitted(patron) as clerk:
        return list_page(clerk, within=forms.read_text(clerk.fields, "within"))


@blueprint.get(f"{_GROUP}/follow-up")
def follow_up(patron: str) -> Response:
    """Show the group with a form for a follow-up entry."""
    with admitted(patron) as clerk:
        form = Form.read(request.args)
        return list_page(clerk, form=form_page(ReadFollowUps.read(clerk.desk, form.report), form))


@blueprint.post(f"{_GROUP}/follow-up")
def save_entry(patron: str) -> Response:
    """Save an entry, and show the group. If it isn't accepted, show the form again, and why."""
    with admitted(patron, writes=True) as clerk:
        form = Form.read(clerk.fields)
        form, outcome = save_or_refuse(ReadFollowUps.read(clerk.desk, form.report), form)
        if isinstance(outcome, Written):
            return Response(status=303, headers={**_HEADERS, "Location": _here().address(saved="1")})
        return list_page(clerk, form=form_page(ReadFollowUps.read(clerk.desk, form.report), form, outcome))


def list_page(
    clerk: Clerk,
    *,
    within: str = "",
    notice: actions.Notice = actions.NO_NOTICE,
    change: str | None = None,
    selected: tuple[int, ...] = (),
    form: FollowUpPage | None = None,
) -> Response:
    """Render the member list, filtered by ``within`` if given. ``form`` is for a follow-up entry."""
    entry = None if change is None else actions.entry(clerk.client, change)
    changed = {step.patron for step in entry.steps} if entry else set()
    details = clerk.client.details.of_user(clerk.patron, names_of=changed, exact=False)
    sort = _sort()
    rows = pages.member_rows(details, sort)
    members = [member.id for member in details.group.members]
    entries, reports = _follow_up(clerk, details.group.number, members)
    outcome = entry and actions.outcome(clerk.desk, entry, details)
    title = gettext("Group {group}: Group Member Details", group=details.group.number)
    fitting = pages.search_rows(rows, within) if within else rows
    return clerk.page(
        "group.html",
        title=f"{outcome['title']} - {title}" if outcome else title,
        may_change=clerk.may_change,
        needs_approval=clerk.may_change and not actions.may_move_like(clerk.desk, details.group),
        group=details.group,
        rows=fitting,
        heads=pages.column_heads(sort),
        sort=sort,
        late_items=pages.late_items(details),
        sums=pages.group_sums(details),
        visible_sums=pages.visible_sums(details),
        items_hidden=not details.all_circulations.complete,
        within=within,
        shown=gettext(_SHOWN_OF_ALL, shown=number(len(fitting)), all=number(len(rows))),
        shown_of_all=gettext(_SHOWN_OF_ALL),
        searchable=len(rows) >= _LEAST_SEARCHABLE,
        form=forms.ChangeForm("join"),
        **notice._asdict(),
        outcome=outcome,
        selected=selected,
        recalculable=any(forecast.may_change for forecast in details.forecasts.values()),
        sent=request.method == "POST",
        trend=_trend(clerk, details),
        entry_page=form is None and _entry_page(clerk, details.group.number, reports),
        entry_form=form and form.values(),
        follow_up=describe_entry(entries[0], datetime.now(current_language().timezone).date()) if entries else None,
        saved="saved" in request.args,
        with_statement=clerk.desk.service.settings.statement.page,
    )


def _trend(clerk: Clerk, details: GroupDetails) -> dict[str, object] | None:
    """Return the group's debt over the recorded nights. The sums include all members, so all must be visible."""
    if not details.group.complete:
        return None
    try:
        nights = clerk.client.nights.of_group(details.group.number, [member.id for member in details.group.members])
    except StateError as error:
        log.warning("the recorded nights can't be read: %s", error)
        return None
    return pages.trend_view(nights)


def _follow_up(clerk: Clerk, group: int, members: Collection[int]) -> tuple[list[Entry], Mapping[str, str]]:
    """Return the entries of a group's follow-up, the latest first, without those that were deleted.

    With the reports that show the group, by name, and the short name of the contact person's library in each.
    """
    try:
        found, reports = FollowUps(clerk.client.state.database, clerk.client.gateway.url).of_group(group, members)
    except StateError as error:
        log.warning("the follow-up can't be read: %s", error)
        return [], {}
    return [entry for entry in reversed(found) if not entry.deleted], reports


def _entry_page(clerk: Clerk, group: int, reports: Mapping[str, str]) -> str:
    """Return the address where an entry can be added, empty if the caller may not save one in any of the reports."""
    for report, library in reports.items():
        with suppress(ProblemError):  # the report has no page
            is_readable = location_of(clerk.desk.service, report or None).is_dir() or clerk.desk.sees_everybody()
            if is_readable and writable_at(clerk.desk, [library]):
                names = {"report": report} if report else {}
                return _here().address("/follow-up", group=str(group), **names)
    return ""


@blueprint.get(f"{_GROUP}.csv")
def csv(patron: str) -> Response:
    """Download the list for a spreadsheet."""
    with admitted(patron) as clerk:
        details = clerk.client.details.of_user(clerk.patron, exact=False)
        stream = io.StringIO(newline="")
        pages.write_members(pages.member_rows(details, _sort()), stream)
    response = Response(stream.getvalue(), content_type="text/csv; charset=utf-8; header=present")
    # By the number only: file names leak easily and must not name a patron.
    response.headers["Content-Disposition"] = f'attachment; filename="group-{details.group.number}.csv"'
    return response


@blueprint.post(f"{_GROUP}/plan")
def plan(patron: str) -> Response:
    """Show what a change would do. Nothing is changed."""
    with admitted(patron, writes=True) as clerk:
        return _next_step(clerk)


@blueprint.post(f"{_GROUP}/change")
def change(patron: str) -> Response:
    """Apply a plan that was shown, once. If Enter follows a scanned card instead, add the patron to the plan."""
    with admitted(patron, writes=True) as clerk:
        form = forms.read_change(clerk.fields)
        if dropped := forms.read_selection(clerk.fields.get("drop", "")):
            form = structs.replace(form, patrons=tuple(id for id in form.patrons if id not in dropped))
            return _plan_page(clerk, form) if form.patrons else list_page(clerk)
        if family := forms.read_selection(clerk.fields.get("family", "")):
            return _whole_family(clerk, structs.replace(form, patrons=tuple(dict.fromkeys((*form.patrons, *family)))))
        if forms.read_card(clerk.fields):
            return _next_step(clerk)
        if clerk.fields.get("do") not in ("apply", "enter"):
            return _plan_page(clerk, form, warned=True)
        stored, approval = forms.read_plan(clerk.fields), forms.read_approval(clerk.fields)
        done, message = actions.apply(clerk.desk, stored, approval, needs_approval=form.approve)
        if done:
            return _redirect_to_outcome(done)
        # The plan is outdated. Show a new one, and why.
        return _plan_page(clerk, form, notice=actions.Notice(message))


@blueprint.post(f"{_GROUP}/undo")
def undo(patron: str) -> Response:
    """Undo a change. If a supervisor had to approve it and has to again, show the plan instead."""
    with admitted(patron, writes=True) as clerk:
        form = read_form(clerk.fields, forms.UndoForm)
        planned = actions.undo_to_approve(clerk.desk, form.entry)
        if planned is not None:
            return _plan_page(clerk, *planned)
        done, message = actions.undo(clerk.desk, form.entry, form.key)
        return _redirect_to_outcome(done) if done else list_page(clerk, notice=actions.Notice(message))


def _whole_family(clerk: Clerk, form: forms.ChangeForm) -> Response:
    """Move a scanned patron's family as well. Show the plan instead if there is more to check than was shown."""
    made = actions.propose(clerk.client, form, clerk.patron)
    if isinstance(made, str) or not made.draft.steps:
        return _plan_page(clerk, form, made)
    warnings = actions.plan_page(clerk.client, made.draft, form, clerk.patron)["warnings"]
    if not set(clerk.fields.getlist("seen")).issuperset(warnings):
        return _plan_page(clerk, form, made)
    needs_approval = form.approve or actions.lacking(clerk.desk, made.draft) is not None
    approval = forms.read_approval(clerk.fields)
    if needs_approval and approval is None:
        return _plan_page(clerk, form, made)
    done, message = actions.apply(clerk.desk, made.stored.id, approval, needs_approval=needs_approval)
    return _redirect_to_outcome(done) if done else _plan_page(clerk, form, notice=actions.Notice(message))


def _next_step(clerk: Clerk) -> Response:
    """Look up scanned or typed text, and show the next step: the candidates, a request for a target, or the plan."""
    form = forms.read_change(clerk.fields)
    card, again = forms.read_card(clerk.fields), None
    if form.action == "merge":
        form = forms.ChangeForm("merge", (clerk.patron,), form.target)
    elif form.action == "recalculate" and not clerk.fields.getlist("patron"):
        form = forms.ChangeForm("recalculate", actions.recalculable(clerk.client, clerk.patron))
    if not card and not form.patrons:
        return list_page(clerk, notice=actions.Notice(gettext(_NO_PATRON.get(form.action, _SELECT_FIRST))))
    if card:
        planned = actions.propose_with_card(clerk.client, form, card, clerk.patron)
        if planned is not None:
            return _plan_page(clerk, *planned)
        lookup = clerk.client.patrons.find(card)
        if lookup.kind is LookupKind.NOBODY:
            return _not_found(clerk, form, card)
        if lookup.patron is None:
            return _card_page(clerk, form, lookup)
        again = lookup.patron if form.action == "join" and lookup.patron in form.patrons else None
        form = form.with_found(lookup.patron)
    if form.needs_target:
        return _card_page(clerk, form)
    return _plan_page(clerk, form, again=again)


def _not_found(clerk: Clerk, form: forms.ChangeForm, card: str) -> Response:
    """Say that no patron has the card or name, on the page where it was scanned, and keep everything else."""
    notice = actions.describe_unfound(clerk.client, card, sees_everybody=clerk.desk.sees_everybody())
    if form.action != "join":
        return _card_page(clerk, form, notice=notice)
    return _plan_page(clerk, form, notice=notice) if form.patrons else list_page(clerk, notice=notice)


def _unchanged(form: forms.ChangeForm) -> str:
    """Return the address of the group page with the selection kept, unless it is too long for an address."""
    selected = ",".join(map(str, form.selected))
    return _here().address(**({"select": selected} if 0 < len(selected) < _LONGEST_SELECTION else {}))


def _card_page(
    clerk: Clerk, form: forms.ChangeForm, lookup: Lookup | None = None, notice: actions.Notice = actions.NO_NOTICE
) -> Response:
    joins = form.action == "join"
    if lookup:
        notice = actions.describe_found(lookup, forms.read_card(clerk.fields))
    return clerk.page(
        "card.html",
        title=gettext(_WHICH.get(form.action, _WHICH["move"])),
        unchanged=_unchanged(form),
        label=gettext("Card or name") if joins else gettext("Card of any member of the other group"),
        form=form,
        field="patron" if joins else "target_id",
        **notice._asdict(),
        found=lookup.patrons if lookup else (),
        more=lookup is not None and lookup.more,
        plain=lookup is not None and lookup.kind is LookupKind.NAMES,  # several are normal for a name
    )


def _plan_page(
    clerk: Clerk,
    form: forms.ChangeForm,
    made: ProposedPlan | str | None = None,
    *,
    notice: actions.Notice = actions.NO_NOTICE,
    warned: bool = False,
    again: int | None = None,
) -> Response:
    """Show a plan: a new one, unless it was ``made``. ``warned`` means that Enter was pressed on one with warnings.

    ``again`` is the id of a patron whose card was scanned a second time.
    """
    made = made or actions.propose(clerk.client, form, clerk.patron)
    if isinstance(made, str):
        return list_page(clerk, notice=actions.Notice(made), selected=form.selected)
    if form.target is not None and not made.draft.steps:
        nothing = actions.describe_nothing_to_do(clerk.client, form.target, forms.read_card(clerk.fields))
        return _card_page(clerk, structs.replace(form, target=None), notice=nothing)
    form, already = actions.without_members(form, made.draft)
    if already:  # said once, like an unknown card
        notice = notice._replace(message=" ".join(filter(None, (notice.message, already))))
        if not form.patrons:
            return list_page(clerk, notice=actions.Notice(notice.message))
    for name in {step.member.name for step in made.draft.steps if step.patron_id == again}:
        notice = notice._replace(message=gettext("{name} is already here.", name=isolated(name)))
    lacks = actions.lacking(clerk.desk, made.draft)
    if lacks is not None:
        form = structs.replace(form, approve=True)
    page = actions.plan_page(clerk.client, made.draft, form, clerk.patron)
    username = forms.read_username(clerk.fields) if not forms.read_card(clerk.fields) else ""
    if warned and page["warnings"]:
        notice = notice._replace(message=gettext(_NOT_CONFIRMED, button=page["confirm"]))
    return clerk.page(
        "plan.html",
        title=page["title"],
        form=form,
        unchanged=_unchanged(form),
        plan=page,
        stored=made.stored if made.draft.steps else None,
        username=username,
        lacks=lacks,
        **notice._asdict(),
    )


def _redirect_to_outcome(entry: str) -> Response:
    return Response(status=303, headers={**_HEADERS, "Location": _here().address(change=entry)})


def _sort() -> str:
    sort = request.args.get("sort", "")
    return sort if pages.may_sort_by(sort) else ""


@blueprint.get(f"{_GROUP}/members/<member>")
def member(patron: str, member: str) -> Response:
    """Show a member's remarks, bills and checked-out items. The script inserts part of this page into the list."""
    with admitted(patron) as clerk:
        id = requests.record_id(member)
        titles = Titles(clerk.desk.service.settings.desk.titles)
        found = clerk.client.bills.of_user(clerk.patron, member=id, titles=titles, waivers=True)
        theirs = found.member(id)
        counts = None if theirs.items.complete else clerk.client.bills.items_counted(theirs)
        return clerk.page(
            "member.html",
            title=gettext("{name}: bills and items", name=theirs.patron.name),
            group=found.group,
            overview=pages.member_overview(found, theirs, counts),
            remarks=_remarks(clerk, id),
        )


def _remarks(clerk: Clerk, member: int) -> tuple[pages.Remark, ...]:
    """Return what there is to say about a member; nothing to the script, whose list has it."""
    if request.headers.get("Sec-Fetch-Dest") == "empty":
        return ()
    rows = pages.member_rows(clerk.client.details.of_user(clerk.patron, exact=False))
    return next((row.remarks for row in rows if row.member.id == member), ())


@blueprint.get(f"{_GROUP}/statement")
def statement(patron: str) -> Response:
    """Show the printable statement for the family at the desk."""
    with _sheet(patron) as (clerk, settings):
        found = clerk.client.bills.of_user(clerk.patron, titles=Titles(settings.titles))
        sheet = pages.statement_page(make_statement(found, clerk.patron, settings), settings)
        return _sheet_page(clerk, "statement.html", pgettext("a sheet", "Statement"), sheet)


@blueprint.get(f"{_GROUP}/slip")
def slip(patron: str) -> Response:
    """Show the printable slip of what the family at the desk has out and can pick up."""
    with _sheet(patron) as (clerk, settings):
        found = clerk.client.slip(clerk.patron, titles=Titles(settings.titles), adults=settings.adults)
        sheet = pages.slip_page(found, settings)
        return _sheet_page(clerk, "slip.html", pgettext("a sheet", "Family items"), sheet)


@contextmanager
def _sheet(patron: str) -> Iterator[tuple[Clerk, StatementSettings]]:
    """Admit the caller of a sheet to print, if the library offers them."""
    settings = service.service().settings.statement
    with admitted(patron) as clerk:
        if not settings.page:
            raise page_turned_off("page in [statement]")
        yield clerk, settings


def _sheet_page(clerk: Clerk, template: str, title: str, sheet: Mapping[str, object]) -> Response:
    return clerk.page(
        template,
        title=title,
        sheet=sheet,
        # A parent may read a language other than the clerk's, so the URL can choose one.
        languages=[(tag, own_name(tag)) for tag in languages()],
        shown_in=catalogue.catalogue_for(current_language().tag),
    )


@blueprint.get(f"{_GROUP}/history")
def history(patron: str) -> Response:
    """Show the known changes of the group, its follow-up, and the caller's other recent changes."""
    with admitted(patron) as clerk:
        group, members = clerk.client.patrons.family_of(clerk.patron)
        agreed, _reports = _follow_up(clerk, group, members)
        entries, elsewhere, authors = actions.history(clerk.desk, group, members, agreed)
        return clerk.page(
            "history.html",
            title=gettext("Group {group}: History", group=group),
            entries=entries,
            elsewhere=elsewhere,
            follow_up=zip(agreed, map(describe_entry, agreed), authors, strict=True),
        )


def _here() -> pages.DeskLinks:
    """Return the root, patron and client of the requested page."""
    patron = (request.view_args or {}).get("patron", "")
    root = url_for("monitoring.health").removesuffix("/healthz")
    return pages.DeskLinks(
        root,
        int(patron) if patron.isascii() and patron.isdigit() and len(patron) < 11 else 0,
        pages.client_from(request.args.get("client"), request.headers.get("Referer")),
        request.args.get("in") == "tab",
    )


def _html(template: str, values: Mapping[str, object], status: int = 200) -> Response:
    """Render a template into a page."""
    place = _here()
    assets = {use: versioned(f"{place.root}/desk/{name}", name) for use, name in _FILES.items()}
    text = template_text(f"desk/{template}", place=place, assets=assets, **values)
    return Response(text, status=status, headers=_HEADERS, content_type="text/html; charset=utf-8")


def describe_problem(error: ProblemError) -> Response:
    """Render a page that says what went wrong and what can be done."""
    # The form can be sent again unchanged: a plan is applied only once, even if the first response was lost.
    sent = g.get(_SENT_FORM) if error.status in _PASSING else None
    values = pages.describe_failure(error.status, error)
    fields = [(name, value) for name, value in sent.items(multi=True) if name not in _LOGIN] if sent else []
    again = {"again": fields, "address": request.full_path}
    response = _html("problem.html", {"form_token": "", **values, **again}, error.status)
    response.headers.update(error.headers)
    return response
