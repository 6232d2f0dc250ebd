"""Follow-ups as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from textwrap import fill
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evergreen_groups.follow_up import Agreed, Detail, FollowUpStatus, How, PromiseOutcome, What
from evergreen_groups.language import day, describe_total, gettext, ngettext, number, price
from evergreen_groups.message import Message
from evergreen_groups.render.json_documents import fields
from evergreen_groups.render.text import capitalized, printable
from evergreen_groups.values import Total, plain_amount

if TYPE_CHECKING:
    from datetime import date
    from typing import TextIO

    from evergreen_groups.follow_up import Entry, FollowUp, FollowUpState, ReportFollowUps, Today

STATUSES = {
    FollowUpStatus.TO_DO: Message("To do"),
    FollowUpStatus.WAITING: Message("Waiting", context="for a patron"),
    FollowUpStatus.CLOSED: Message("Closed", context="a follow-up"),
}
WHAT = {
    What.CONTACTED: Message("Contacted"),
    What.PROMISED: Message("Promised to pay"),
    What.NO_ANSWER: Message("Not reached"),
    What.CLOSED: Message("Closed", context="a follow-up"),
    What.NOTE: Message("Note"),
}
DETAILS = {
    Detail.LEFT_MESSAGE: Message("Left a message"),
    Detail.WRONG_CONTACT: Message("Wrong number or address"),
    Detail.PAID: Message("paid", context="why closed"),
    Detail.WAIVED: Message("waived", context="why closed"),
    Detail.GIVEN_UP: Message("given up", context="why closed"),
    Detail.OTHER: Message("other reason", context="why closed"),
}
"""What happened to a family that wasn't reached, and why a follow-up was closed."""
OUTCOMES = {
    PromiseOutcome.PAID: Message("Promise kept"),
    PromiseOutcome.BROKEN: Message("Promise broken"),
    PromiseOutcome.NOT_OWED: Message("No longer owed"),
    PromiseOutcome.CHECK: Message("Check: not all payments are visible"),
}
PROMISED_ITEMS = Message("Promised to return items")
_PROMISED_ITEMS_BY = Message("Promised to return items by {day}")
_PROMISED_AMOUNT = Message("Promised to pay {amount}")
_PROMISED_AMOUNT_BY = Message("Promised to pay {amount} by {day}")
AGREED = {
    Agreed.PROMISE: Message("Promised to pay by {day}"),
    Agreed.REMINDER: Message("Reminder on {day}"),
}
_CANCELED = {
    Agreed.PROMISE: Message("Promise canceled"),
    Agreed.REMINDER: Message("Reminder canceled"),
}
_WAITING_UNTIL = Message("Waiting until {day}")
HOW = {
    How.PHONE: Message("by phone"),
    How.EMAIL: Message("by e-mail"),
    How.LETTER: Message("by letter"),
    How.IN_PERSON: Message("in person"),
}


def follow_ups_document(
    report: str,
    found: ReportFollowUps | None,
    today: Today,
    again_after: int,
    *,
    only: Collection[FollowUpStatus] = tuple(FollowUpStatus),
    writable: Collection[str] | None = None,
    names: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Return the follow-ups of a report as a JSON object, version 1; ``counts`` are of all groups.

    Groups with broken promises are first. ``only`` selects groups. ``names`` are those of contact persons, as far as
    the reader sees them (None: left out). ``writable`` are the libraries at which the reader may save entries
    (None: left out).
    """
    groups = _with_state(found, today, again_after) if found else []
    counts = Counter(state.status for _one, state in groups)
    return {
        "version": 1,
        "kind": "follow-ups",
        "report": report,
        "as_of": found.at.isoformat() if found else None,
        "again_after": again_after,
        "counts": {status.value: counts[status] for status in FollowUpStatus},
        "groups": [_group_document(one, state, writable, names) for one, state in groups if state.status in only],
    }


def _with_state(found: ReportFollowUps, today: Today, again_after: int) -> list[tuple[FollowUp, FollowUpState]]:
    states = [(one, one.state(today, again_after)) for one in found.by_group.values()]
    return sorted(states, key=lambda pair: not pair[1].is_broken)


def _group_document(
    one: FollowUp, state: FollowUpState, writable: Collection[str] | None, names: Mapping[int, str] | None
) -> dict[str, Any]:
    group, pending = one.group, one.pending
    document = {
        "group": group.group,
        "status": state.status.value,
        "contact": group.contact or None,
        **({} if names is None else {"name": names.get(group.contact)}),
        "library": group.contact_library,
        "group_fines": plain_amount(group.group_fines) if group.certain else None,
        **({} if group.unreturned is None else {"unreturned_at_least": group.unreturned}),
        **{agreed.value: pending[agreed].day.isoformat() if agreed in pending else None for agreed in Agreed},
        "due": [agreed.value for agreed in Agreed if agreed in state.due],
        "broken": state.is_broken,
        "seen": one.seen,
        "entries": [entry_document(entry) for entry in one.entries],
    }
    return document if writable is None else {**document, "may_write": group.contact_library in writable}


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return an entry as a JSON object. ``id`` stays the same when it is corrected, ``revision`` doesn't."""
    return {
        "id": entry.corrects or entry.id,
        "revision": entry.id,
        **fields(entry, "group", "contact"),
        "saved_at": entry.at.isoformat(),
        **fields(entry, "staff", "workstation", "what", "detail", "how"),
        "date": entry.day.isoformat(),
        **fields(entry, "remind_on", "pay_by", "amount", "outcome", "paid", "forgiven", "cancels", "note", "deleted"),
        "earlier": [entry_document(version) for version in entry.earlier],
    }


def write_follow_ups(
    report: str,
    found: ReportFollowUps | None,
    today: Today,
    again_after: int,
    stream: TextIO,
    *,
    only: Collection[FollowUpStatus] = tuple(FollowUpStatus),
    names: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Write each group, without notes: what it owes, who has to act, and below it the latest entry.

    Groups with broken promises are first. ``names`` are those of contact persons that the reader sees.
    """
    if report:
        print(f"{report}:", file=stream)
    if found is None:
        print(gettext("The report hasn't run yet."), file=stream)
        return
    print(gettext("Data as of {moment}", moment=found.at), file=stream)
    followed = _with_state(found, today, again_after)
    for status in FollowUpStatus:
        groups = [(one, state) for one, state in followed if state.status is status]
        print(gettext("{label}: {value}", label=STATUSES[status], value=number(len(groups))), file=stream)
        for one, state in groups if status in only else ():
            group = one.group
            owed = price(group.group_fines) if group.certain else gettext("not known")
            about = capitalized(gettext("group {group}", group=group.group))
            name = [printable(names[group.contact])] if group.contact in names else []
            items = filter(None, [describe_unreturned(group.unreturned)])
            outcome_of = [gettext(OUTCOMES[PromiseOutcome.BROKEN])] if state.is_broken else []
            line = " · ".join((about, *name, group.contact_library, owed, *items, *outcome_of))
            print(fill(line, 80, initial_indent="  ", subsequent_indent="    "), file=stream)
            if entries := [entry for entry in one.entries if not entry.deleted]:
                latest = describe_entry(entries[-1])
                print(fill(latest, 80, initial_indent="    ", subsequent_indent="      "), file=stream)


def describe_unreturned(count: int | None) -> str:
    """Describe a group's items where the report counts them; empty if there are none."""
    return ngettext("{count} item overdue or lost", "{count} items overdue or lost", count) if count else ""


def describe_status(state: FollowUpState) -> str:
    """Describe the status, with the day until which a group waits unless the latest entry already names that.

    Of a group with a broken promise, say so.
    """
    if state.is_broken:
        return gettext(OUTCOMES[PromiseOutcome.BROKEN])
    if state.waits_for is None or state.waits_for.entry is state.latest:
        return gettext(STATUSES[state.status])
    return gettext(_WAITING_UNTIL, day=day(state.waits_for.day))


def describe_latest(state: FollowUpState) -> str:
    """Describe the latest entry, empty if there is none. The status already says that a follow-up is closed."""
    latest = state.latest
    if latest is None:
        return ""
    is_closing = state.status is FollowUpStatus.CLOSED and latest.what is What.CLOSED
    return " · ".join([day(latest.day), *_reason(latest)]) if is_closing else describe_entry(latest)


def outcome(what: What, detail: Detail | None) -> Message:
    """Return the name of an outcome. Of a closing, the detail is the reason, which isn't part of it."""
    return WHAT[what] if detail is None or what is What.CLOSED else DETAILS[detail]


def _reason(entry: Entry) -> list[str]:
    return [gettext(DETAILS[entry.detail])] if entry.what is What.CLOSED and entry.detail is not None else []


def describe_promise(entry: Entry, by: date | None) -> str:
    """Describe what was promised, and ``by`` when."""
    if entry.promised_items:
        return gettext(PROMISED_ITEMS) if by is None else gettext(_PROMISED_ITEMS_BY, day=day(by))
    if entry.amount is None:
        return gettext(WHAT[What.PROMISED]) if by is None else gettext(AGREED[Agreed.PROMISE], day=day(by))
    if by is None:
        return gettext(_PROMISED_AMOUNT, amount=price(entry.amount))
    return gettext(_PROMISED_AMOUNT_BY, amount=price(entry.amount), day=day(by))


def _outcome(entry: Entry) -> list[str]:
    """Describe what came of a promise: ``Promise broken · paid: $2.00 · forgiven or work: $1.00``."""
    if entry.outcome is None or entry.paid is None or entry.forgiven is None:
        return []
    amounts = [(gettext("paid since"), entry.paid), (gettext("forgiven or work"), entry.forgiven)]
    exact = entry.outcome is not PromiseOutcome.CHECK
    return [
        gettext(OUTCOMES[entry.outcome]),
        *(
            gettext("{label}: {value}", label=label, value=describe_total(Total(amount, exact)))
            for label, amount in amounts
            if amount or label == amounts[0][0]
        ),
    ]


def describe_entry(entry: Entry, today: date | None = None) -> str:
    """Describe an entry without its note: ``3 Nov 2026, by phone · Promised to pay · reminder on 15 Nov 2026``.

    A reminder of ``today`` says that it is due.
    """
    how = [] if entry.how is None else [gettext(HOW[entry.how])]
    if entry.cancels is not None:
        what = gettext(_CANCELED[entry.cancels])
    elif entry.what is What.PROMISED:
        what = describe_promise(entry, entry.pay_by)
    else:
        what = gettext(outcome(entry.what, entry.detail))
    parts = [", ".join([day(entry.day), *how]), what, *_reason(entry)]
    parts += _outcome(entry)
    if entry.remind_on is not None and entry.remind_on == today:
        parts.append(gettext("reminder due today"))
    elif entry.remind_on is not None:
        parts.append(gettext("reminder on {day}", day=day(entry.remind_on)))
    return " · ".join(parts)
