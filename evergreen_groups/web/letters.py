"""Letters to selected groups of a report, made with the caller's session: a page to print, and the mail-merge file."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, Response, request, url_for
from msgspec import structs

from evergreen_groups.errors import TimedOutError
from evergreen_groups.ils import OrgUnits
from evergreen_groups.letters import LeftOut, LetterChoice, NoLetter, Selection, read_debtors, read_letters
from evergreen_groups.nightly import Readers
from evergreen_groups.render.letters import LettersBar, held_back, write_debtors, write_letters
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.web.follow_ups import Form, ReadFollowUps, covered_text, read_only, writable_at
from evergreen_groups.web.problems import ProblemError, page_turned_off
from evergreen_groups.web.report_pages import page_response, settings_of_report
from evergreen_groups.web.service import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.letters import Letters
    from evergreen_groups.report import Report
    from evergreen_groups.web.service import DeskRequest

blueprint = Blueprint("letters", __name__)

_WHATEVER_THEY_OWE = Decimal(-1_000_000_000)


class Selected(NamedTuple):
    """The selected groups as the caller sees them now, and those that get no letter because of what is hidden."""

    form: Form
    follow_ups: ReadFollowUps
    report: Report
    left_out: tuple[LeftOut, ...]
    readers: Readers

    @property
    def follow_up_states(self) -> dict[int, FollowUpState]:
        """How far the follow-ups of the selected groups are."""
        read = self.follow_ups
        again_after = read.desk.service.settings.follow_up.again_after
        return {number: read.listed[number].state(read.today, again_after) for number in self.form.seen}


@contextmanager
def _selected(desk: DeskRequest) -> Iterator[Selected]:
    """Read the selected groups, and run the block within the deadline for a request.

    ProblemErrors: 404, letters are off or a group isn't listed; 504, there are too many groups.
    """
    form, running, gateway = Form.read(request.args), desk.service, desk.client.gateway
    settings = settings_of_report(running, form.report or None)
    if not settings.contact:
        raise page_turned_off("contact in [report]")
    read = ReadFollowUps.read(desk, form.report)
    if not form.seen.keys() <= read.listed.keys():
        raise ProblemError(404, "The report no longer lists this group.", code="follow-up-of-unlisted")
    visible = desk.sees_patrons_at
    # Among the visible members, another adult would be the person to contact.
    hidden = [
        number
        for number in form.seen
        if (library := read.listed[number].group.contact_library) and read.libraries.get(library) not in visible
    ]
    by_items = bool(settings.min_overdue or settings.min_lost)
    criteria = Criteria(
        _WHATEVER_THEY_OWE, min_members=1, orgs=settings.orgs, age_bands=settings.age_bands, min_overdue=int(by_items)
    )
    try:
        report = build_report(gateway, criteria, groups=form.seen.keys() - hidden)
        gone = form.seen.keys() - hidden - {group.number for group in report.groups}
        left_out = [LeftOut(number, NoLetter.WITHHELD) for number in hidden]
        left_out += [LeftOut(number, NoLetter.NO_CONTACT) for number in sorted(gone)]
        zones = {} if running.settings.language.timezone else running.reference.timezones(gateway)
        readers = Readers(running.settings.language, report.org_units, zones)
        yield Selected(form, read, report, tuple(left_out), readers)
    except TimedOutError as error:
        if len(form.seen) == 1:
            raise
        # Says nothing about Evergreen: other requests ask for less.
        raise ProblemError(
            504, "Evergreen didn't answer in time", advice="select fewer groups", code="too-many-groups-for-letters"
        ) from error


@blueprint.get("/reports/letters")
def letters() -> Response:
    """Show the letters to the selected groups."""
    with service().desk(request) as desk, _selected(desk) as selected:
        form, running = selected.form, desk.service
        states, settings = selected.follow_up_states, running.settings.letters
        held, sent = held_back(states, form.anyway), {number: state.letters_sent for number, state in states.items()}
        choice = LetterChoice(settings.min_own, held, form.to_lead, sent, settings.notes_for)
        made = read_letters(desk.client.gateway, selected.report, choice)
        made = replace(made, left_out=(*selected.left_out, *made.left_out))
        bar = _bar(selected, made)
    stream, readers = io.StringIO(), selected.readers
    upwards = OrgUnits.shortnames_upwards(readers.org_units)
    write_letters(made, stream, settings, readers.of_library, upwards.__getitem__, bar)
    return page_response(stream.getvalue().encode(), with_form=True)


def _bar(selected: Selected, made: Letters) -> LettersBar:
    form, read, desk = selected.form, selected.follow_ups, selected.follow_ups.desk
    library_of = {letter.group: read.listed[letter.group].group.contact_library for letter in made.letters}
    writable = writable_at(desk, library_of.values())
    marked = {number: read.listed[number].seen for number, library in library_of.items() if library in writable}
    refusals = {read_only(desk.service, library): None for library in library_of.values() if library not in writable}
    covers = [covered_text(one) for one in made.coverage if one.group.number in marked and not one.everything]
    states = selected.follow_up_states
    written = [number for number in form.seen if number not in held_back(states, form.anyway)]
    return LettersBar(
        file=url_for("letters.mail_merge_file", report=form.report or None, group=written) if written else "",
        action=form.action,
        fields=structs.replace(form.with_seen(marked), covers=tuple(covers)).fields(desk.form_token),
        count=len(marked),
        refusals=tuple(refusals),
        follow_ups=states,
        again=url_for("letters.letters"),
        choices=form.asked(),
        anyway=form.anyway,
    )


@blueprint.get("/reports/letters.csv")
def mail_merge_file() -> Response:
    """Serve the people of the selected groups who owe something, as ``evergreen-groups letters --format csv`` does."""
    with service().desk(request) as desk, _selected(desk) as selected:
        made = read_debtors(desk.client.gateway, selected.report, Selection())
    write_debtors(made, stream := io.StringIO(newline=""))
    response = Response(stream.getvalue().encode(), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="letters.csv"'
    return response
