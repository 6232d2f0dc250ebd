"""The results of the work with a report's families, as a page, JSON, a spreadsheet and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TextIO

from evergreen_groups import language
from evergreen_groups.follow_up import MIN_FAMILIES, WINDOWS, Left, Length
from evergreen_groups.language import gettext, number
from evergreen_groups.message import Message
from evergreen_groups.render.chart import Chart, Line, Value
from evergreen_groups.render.column import Column, known, own
from evergreen_groups.render.pages import template_text
from evergreen_groups.render.sheets import fill, new_workbook, sheet_name
from evergreen_groups.render.text import printable
from evergreen_groups.render.wording import CONFIDENTIAL
from evergreen_groups.values import ZERO, Total, plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.follow_up import Paid, PeriodResults, Results

LEFT = {
    Left.PAID: Message("Paid", context="why a family left the list"),
    Left.BELOW_MINIMUM: Message("Below the minimum"),
    Left.MOVED: Message("Moved", context="why a family left the list"),
    Left.CLOSED: Message("Closed", context="a follow-up"),
    Left.UNKNOWN: Message("Not known"),
}
LENGTHS = {Length.WEEK: Message("Weeks"), Length.MONTH: Message("Months")}
_BEGINNING = {Length.WEEK: Message("Week from"), Length.MONTH: Message("Month from")}
_NOT_YET, _TOO_FEW = Message("not yet", context="known later"), Message("too few")
_CONTACTED, _OTHERS = Message("Families contacted"), Message("Families not contacted")
_HONORED, _BROKEN = Message("Promises kept"), Message("Promises broken")
_WITHIN = Message("Paid within {days} days, per family")
_PER_FAMILY = Message("{amount} per family")
_BY_CONTACTED, _BY_OTHERS = Message("Contacted: paid within {days} days"), Message("Others: paid within {days} days")


def _paid_text(amount: Total[Decimal] | None, paid: Paid) -> str:
    if amount is not None:
        return language.describe_total(amount)
    return gettext(_NOT_YET if paid.contacted is None else _TOO_FEW)


def _per_family(amount: Total[Decimal], families: int) -> Total[Decimal]:
    return Total((amount.at_least / max(families, 1)).quantize(ZERO), amount.exact)


class _Cell(NamedTuple):
    label: str
    text: str
    remark: str = ""


def _row(one: PeriodResults) -> dict[str, Any]:
    """Return what the page's three tables show of a period."""
    counts = [(_CONTACTED, one.contacted), (_HONORED, one.honored), (_BROKEN, one.broken)]
    families = [
        (_CONTACTED, one.contacted, _BY_CONTACTED, [paid.contacted for paid in one.paid]),
        (_OTHERS, one.others, _BY_OTHERS, [paid.others for paid in one.paid]),
    ]
    payments = []
    for label, count, heading, amounts in families:
        payments.append(_Cell(gettext(label), number(count)))
        for paid, amount in zip(one.paid, amounts, strict=True):
            each = (
                "" if not amount else gettext(_PER_FAMILY, amount=language.describe_total(_per_family(amount, count)))
            )
            payments.append(_Cell(gettext(heading, days=paid.days), _paid_text(amount, paid), each))
    return {
        "start": one.start,
        "work": [_Cell(gettext(label), number(count)) for label, count in counts],
        "payments": payments,
        "left": [_Cell(gettext(text), number(one.left.get(reason, 0))) for reason, text in LEFT.items()],
    }


def _charts(periods: Sequence[PeriodResults]) -> list[Chart]:
    days = [language.day(one.start) for one in periods]

    def each(amount: Total[Decimal] | None, families: int) -> Value | None:
        if amount is None:
            return None
        paid = _per_family(amount, families)
        return Value(paid.at_least, language.describe_total(paid))

    contacted = Line(gettext(_CONTACTED), [Value(Decimal(one.contacted), number(one.contacted)) for one in periods])
    paid = [
        Line(gettext(_CONTACTED), [each(one.paid[0].contacted, one.contacted) for one in periods]),
        Line(gettext(_OTHERS), [each(one.paid[0].others, one.others) for one in periods]),
    ]
    found = [Chart.of(contacted.name, days, [contacted]), Chart.of(gettext(_WITHIN, days=WINDOWS[0]), days, paid)]
    return [chart for chart in found if chart is not None]


class Navigation(NamedTuple):
    """Where the page's links and its form lead: to the report, to itself, and to the same as JSON and XLSX.

    ``language`` is the tag that the page's address names, if any.
    """

    report: str
    action: str
    json: str
    workbook: str
    language: str = ""


def results_page(results: Results, library: str, length: Length, navigation: Navigation) -> str:
    """Return the page with the results of a library (short name, "" for all), by week or month."""
    periods = results.of(length).get(library, ())
    rows = [_row(one) for one in reversed(periods)]  # the last ones first
    return template_text(
        "results.html",
        title=gettext("Results"),
        results=results,
        rows=rows,
        library=library,
        libraries=[name for name in results.months if name],
        length=length,
        lengths=LENGTHS,
        beginning=gettext(_BEGINNING[length]),
        charts=_charts(periods),
        navigation=navigation,
        least=MIN_FAMILIES,
        report_name=printable(results.report),
    )


# --- For programs ---


def results_document(results: Results) -> dict[str, Any]:
    """Return the results as a JSON object, version 1: periods of each library, and of all (``library`` null)."""

    def rows(length: Length) -> list[dict[str, Any]]:
        return [_document(one) for some in results.of(length).values() for one in some]

    return {
        "version": 1,
        "kind": "results",
        "report": results.report,
        "as_of": results.at.isoformat(timespec="seconds"),
        "since": results.since and results.since.isoformat(),
        "all_payments_known": results.all_known,
        "min_families": MIN_FAMILIES,
        "weeks": rows(Length.WEEK),
        "months": rows(Length.MONTH),
    }


def _document(one: PeriodResults) -> dict[str, Any]:
    def amount(name: str, total: Total[Decimal] | None) -> dict[str, str | None]:
        least = None if total is None else plain_amount(total.at_least)
        return {name: plain_amount_or_none(None if total is None else total.value), f"{name}_at_least": least}

    return {
        "library": one.library or None,
        "from": one.start.isoformat(),
        "to": (one.end - timedelta(1)).isoformat(),
        "contacted": one.contacted,
        "promises": {"kept": one.honored, "broken": one.broken},
        "not_contacted": one.others,
        "paid": [
            {
                "days": paid.days,
                "over": paid.contacted is not None,
                **amount("contacted", paid.contacted),
                **amount("not_contacted", paid.others),
            }
            for paid in one.paid
        ],
        "left": {reason.value: one.left.get(reason, 0) for reason in Left},
    }


# --- The spreadsheet ---


def _columns(length: Length) -> list[Column[Any]]:
    def paid(place: int, name: str, heading: Message, amount: Callable[[Paid], Total[Decimal] | None]) -> Column[Any]:
        def value(one: PeriodResults) -> object:
            found = amount(one.paid[place])
            return _paid_text(None, one.paid[place]) if found is None else known(found)

        return Column(f"{name}_{WINDOWS[place]}", value, heading.with_values({"days": WINDOWS[place]}), "money")

    return [
        Column("library", lambda one: one.library or gettext("All libraries"), Message("Library")),
        Column("from", lambda one: one.start, _BEGINNING[length], "day", shown=lambda one: one.start),
        own("contacted", _CONTACTED, "number"),
        own("honored", _HONORED, "number"),
        own("broken", _BROKEN, "number"),
        *(paid(place, "contacted_paid", _BY_CONTACTED, lambda one: one.contacted) for place in range(len(WINDOWS))),
        own("others", _OTHERS, "number"),
        *(paid(place, "others_paid", _BY_OTHERS, lambda one: one.others) for place in range(len(WINDOWS))),
        *(
            Column(
                f"left_{reason.value}", partial(_left, reason), Message("Left: {why}", values={"why": text}), "number"
            )
            for reason, text in LEFT.items()
        ),
    ]


def _left(reason: Left, one: PeriodResults) -> int:
    return one.left.get(reason, 0)


def write_results_workbook(results: Results, stream: BinaryIO) -> None:
    """Write a workbook with a sheet of weeks and one of months.

    Raises ConfigurationError if xlsxwriter isn't installed.
    """
    title = gettext("Results")
    with new_workbook(stream, title, gettext(CONFIDENTIAL), results.at) as (workbook, formats):
        for length in (Length.MONTH, Length.WEEK):
            rows = [one for some in results.of(length).values() for one in some]
            sheet = workbook.add_worksheet(sheet_name(gettext(LENGTHS[length])))
            fill(sheet, _columns(length), lambda rows=rows: rows, formats, frozen=2)  # type: ignore[misc]


# --- The terminal ---


def write_results(results: Results, stream: TextIO) -> None:
    """Write the months of all libraries together, the last one first."""
    if results.report:
        print(gettext("{label}:", label=results.report), file=stream)
    if results.since is None:
        print(gettext("The report hasn't run yet."), file=stream)
        return
    for one in reversed(results.months[""]):
        print(gettext("{label}: {value}", label=gettext(_BEGINNING[Length.MONTH]), value=one.start), file=stream)
        row = _row(one)
        left = (cell._replace(label=gettext("Left: {why}", why=cell.label)) for cell in row["left"])
        for cell in (*row["work"], *row["payments"][1:], *left):
            remark = f" ({cell.remark})" if cell.remark else ""
            print(f"  {gettext('{label}: {value}', label=cell.label, value=cell.text)}{remark}", file=stream)
