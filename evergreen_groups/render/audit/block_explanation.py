"""Explain in six steps, as text or JSON, why a patron is or isn't blocked for fines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len, set_cell_size

from evergreen_groups.audit import PenaltyFate
from evergreen_groups.ils import PENALTY_OVERRIDE
from evergreen_groups.language import (
    day,
    enumeration,
    gettext,
    ngettext,
    pgettext,
    price,
    time_with_zone,
)
from evergreen_groups.message import Message
from evergreen_groups.money import ZERO, plain_amount, plain_amount_or_none
from evergreen_groups.render import printable
from evergreen_groups.render.columns import PLAIN, Cell, Columns, TextColumn
from evergreen_groups.render.json_documents import limit_document, penalty_document, text
from evergreen_groups.render.wording import CONFIDENTIAL, describe_penalty

if TYPE_CHECKING:
    from evergreen_groups.audit import BlockExplanation, CheckedBill

_FATES = {
    PenaltyFate.STAYS: Message("{penalty}: it stays when Evergreen recalculates."),
    PenaltyFate.REMOVED: Message("{penalty}: it goes when Evergreen recalculates (audit --fix, unless staff set it)."),
    PenaltyFate.UNTOUCHED: Message(
        "{penalty}: it stands elsewhere than the threshold, so recalculating at the home library leaves it."
    ),
}
_NO_THRESHOLD = Message("{penalty}: there is no threshold, so recalculating leaves it.")
"""Takes the place of the ``UNTOUCHED`` text where no threshold exists at all."""
_MOST_PLACES = 12


def write_block_explanation(explanation: BlockExplanation, stream: TextIO, *, width: int) -> None:
    """Write the six steps as text. Tables are kept within ``width`` columns where possible."""
    stream.writelines(f"{line}\n" for line in _lines(explanation, width))


def _lines(explanation: BlockExplanation, width: int) -> Iterator[str]:
    member = explanation.member
    yield gettext(
        "{name} ({card}), {library}, profile {profile}, owes {owed} themselves",
        name=printable(member.name),
        card=printable(member.barcode) if member.barcode else gettext("no card"),
        library=printable(member.library),
        profile=printable(explanation.profile),
        owed=member.own_fines,
    )
    moment, gateway = time_with_zone(explanation.generated_at), printable(explanation.gateway)
    yield gettext("Data as of {moment}, {gateway}", moment=moment, gateway=gateway)
    steps = (
        (gettext("What Evergreen sets for fines"), _penalty(explanation)),
        (gettext("Which threshold it holds against them"), _threshold(explanation)),
        (gettext("Which bills that threshold counts"), _bills(explanation, width)),
        (gettext("What Evergreen does when it recalculates"), _verdict(explanation)),
        (gettext("What stands in Evergreen now"), _standing(explanation)),
        (gettext("What the rule says"), _rule(explanation)),
    )
    for number, (heading, lines) in enumerate(steps, start=1):
        yield ""
        yield f"{number}. {heading}"
        yield from (f"   {line}" for line in lines)
    yield ""
    yield gettext(CONFIDENTIAL)


def _penalty(explanation: BlockExplanation) -> Iterator[str]:
    kind = explanation.penalty
    values = {"library": printable(explanation.member.library), "penalty": printable(kind.name)}
    if explanation.penalty_is_custom:
        yield gettext(
            "For patrons of {library}, Evergreen sets {penalty}, by the setting {setting}.",
            **values,
            setting=PENALTY_OVERRIDE,
        )
    else:
        yield gettext("For patrons of {library}, Evergreen sets {penalty}.", **values)
    if kind.blocks:
        yield gettext("It blocks {actions}.", actions=enumeration(map(printable, kind.blocks)))
    else:
        yield gettext("It is a note, which blocks nothing.")


def _threshold(explanation: BlockExplanation) -> Iterator[str]:
    if explanation.looked_at is None:
        yield gettext(
            "Not known: the account may not see Evergreen's thresholds ({permission}).",
            permission="VIEW_GROUP_PENALTY_THRESHOLD",
        )
        return
    yield gettext("Up the profiles at the home library, then at each org unit above; the first one counts.")
    places = [(printable(one.org_unit.shortname), printable(one.profile)) for one in explanation.looked_at]
    widths = [max(map(cell_len, texts)) for texts in zip(*places, strict=True)]
    for texts, one in zip(places, explanation.looked_at, strict=True):
        place = "  ".join(set_cell_size(text, width) for text, width in zip(texts, widths, strict=True))
        if one.amount is None:
            yield f"  {place}  {pgettext('threshold', 'none')}"
        else:
            yield f"  {place}  {gettext('{amount}  <- this one counts', amount=one.amount)}"


def _bills(explanation: BlockExplanation, width: int) -> Iterator[str]:
    if explanation.threshold is not None:
        yield _scope(explanation, printable(explanation.threshold.org_unit.shortname))
    elif explanation.looked_at is not None:
        yield gettext("None: there is no threshold that would count any.")
    if explanation.bills is None:
        permission = "VIEW_USER_TRANSACTIONS"
        yield gettext("Not known: the account may not see the bills ({permission}).", permission=permission)
        return
    if not explanation.bills:
        yield gettext("There is no open bill.")
        return
    rows = [_bill(explanation, one) for one in explanation.bills]
    columns = Columns(_bill_columns(), rows, width - 5)
    written = "".join(segment.text for segment in columns.heading(PLAIN))
    written += "".join(segment.text for row in rows for segment in columns.row(row))
    yield from (f"  {line}" for line in written.splitlines())
    if explanation.threshold is not None:
        yield gettext("Counted: {amount}.", amount=explanation.counted or ZERO)


def _scope(explanation: BlockExplanation, place: str) -> str:
    if explanation.scope_is_everywhere:
        return gettext("Those billed at, above and below {library}: everywhere.", library=place)
    names = [printable(unit.shortname) for unit in explanation.scope]
    if (more := len(names) - _MOST_PLACES) > 0:
        names[_MOST_PLACES:] = [ngettext("{count} org unit more", "{count} org units more", more)]
    libraries = enumeration(names)
    return gettext("Those billed at, above and below {library}: {libraries}.", library=place, libraries=libraries)


def _bill_columns() -> tuple[TextColumn, ...]:
    return (
        TextColumn(pgettext("a bill", "Since")),
        TextColumn(pgettext("a bill", "For"), least=14),
        TextColumn(gettext("Library")),
        TextColumn(pgettext("a bill", "Owed"), right=True),
        TextColumn(pgettext("a bill", "Counts")),
    )


def _bill(explanation: BlockExplanation, one: CheckedBill) -> list[Cell]:
    library = printable(one.library.shortname) if one.library is not None else gettext("not known")
    counts = (gettext("yes") if one.counts else gettext("no")) if explanation.threshold is not None else ""
    bill = one.bill
    texts = (day(bill.since), printable(bill.kind.describe()), library, price(bill.balance), counts)
    return [Cell(text) for text in texts]


def _verdict(explanation: BlockExplanation) -> Iterator[str]:
    threshold, reached = explanation.threshold, explanation.reaches_threshold
    if reached is None:
        yield gettext("Not known, for what is missing above.")
        return
    if threshold is None or threshold.amount is None:
        yield gettext("Nothing: without a threshold it neither sets nor removes a penalty for fines.")
        return
    place = printable(threshold.org_unit.shortname)
    values = {
        "counted": explanation.counted or ZERO,
        "threshold": threshold.amount,
        "penalty": printable(explanation.penalty.name),
        "library": place,
    }
    if reached:
        if explanation.penalty.blocks:
            yield gettext(
                "{counted} is {threshold} or more: it sets {penalty} at {library}, a penalty that blocks them.",
                **values,
            )
        else:
            yield gettext(
                "{counted} is {threshold} or more: it sets {penalty} at {library}, a penalty that blocks nothing.",
                **values,
            )
        return
    if explanation.any_open:
        yield gettext("{counted} is less than {threshold}: it sets no {penalty}.", **values)
    else:
        yield gettext("There is no open transaction that counts: it sets no {penalty}.", **values)
    yield gettext("One that stands at {library} is removed.", library=place)


def _standing(explanation: BlockExplanation) -> Iterator[str]:
    for penalty in explanation.penalties_for_fines:
        fate = explanation.fates.get(penalty.id)
        if fate is None:
            yield f"{describe_penalty(penalty)}."
        elif fate is PenaltyFate.UNTOUCHED and explanation.threshold is None:
            yield gettext(_NO_THRESHOLD, penalty=describe_penalty(penalty))
        else:
            yield gettext(_FATES[fate], penalty=describe_penalty(penalty))
    if not explanation.penalties_for_fines:
        yield gettext("No penalty for fines.")
    if explanation.to_be_set:
        penalty_name = printable(explanation.penalty.name)
        yield gettext("{penalty} is missing; it comes when Evergreen recalculates: audit --fix.", penalty=penalty_name)
    for penalty in explanation.standing.other_blocks:
        yield gettext("Blocked for something else: {penalty}.", penalty=describe_penalty(penalty))


def _rule(explanation: BlockExplanation) -> Iterator[str]:
    decision = explanation.member.decision
    if decision is None:
        yield gettext("Not decided: the account may not see the limit.")
        return
    values = {"origin": printable(gettext(decision.limit.origin)), "owed": decision.own_balance}
    least = decision.limit.least_over
    if least is None:
        yield gettext("{origin}: there is no limit; with {owed} that is not over the limit.", **values)
    elif decision.over_limit:
        yield gettext(
            "{origin}: over the limit from {least} on; with {owed} that is over the limit.", **values, least=least
        )
    else:
        yield gettext(
            "{origin}: over the limit from {least} on; with {owed} that is not over the limit.", **values, least=least
        )
    if explanation.would_block is not None:
        yield _agreement(explanation, explanation.would_block, over_limit=decision.over_limit)


def _agreement(explanation: BlockExplanation, then: bool, *, over_limit: bool) -> str:
    """Say whether Evergreen's blocks match the rule, now and after a recalculation (``then``: it would block)."""
    agrees_now, agrees_then = explanation.standing.blocked_for_fines == over_limit, then == over_limit
    sentence = gettext(_AGREEMENT[agrees_now, agrees_then, then])
    if agrees_then:
        return sentence
    return f"{sentence} {gettext('evergreen-groups doctor says which thresholds differ from the rule.')}"


_AGREEMENT = {
    (True, True, True): Message("Evergreen and the rule agree: blocked."),
    (True, True, False): Message("Evergreen and the rule agree: not blocked."),
    (False, True, True): Message("Evergreen differs now, and agrees once it recalculates: blocked."),
    (False, True, False): Message("Evergreen differs now, and agrees once it recalculates: not blocked."),
    (True, False, True): Message(
        "Evergreen agrees now, and differs once it recalculates: blocked, and not over the limit."
    ),
    (True, False, False): Message(
        "Evergreen agrees now, and differs once it recalculates: not blocked, and over the limit."
    ),
    (False, False, True): Message("Evergreen differs: blocked, and not over the limit."),
    (False, False, False): Message("Evergreen differs: not blocked, and over the limit."),
}
"""Keyed by: agrees now, agrees after a recalculation, blocks after a recalculation."""


SCHEMA = "evergreen-groups/block-explanation/1"


def write_block_explanation_json(explanation: BlockExplanation, stream: TextIO) -> None:
    """Write one JSON object. Amounts are strings with two decimal places; null means that the account can't see the
    value.
    """
    stream.write(text(_document(explanation)) + "\n")


def _document(explanation: BlockExplanation) -> dict[str, Any]:
    looked_at, bills = explanation.looked_at, explanation.bills
    return {
        "schema": SCHEMA,
        "generated_at": explanation.generated_at.isoformat(timespec="seconds"),
        "gateway": explanation.gateway,
        "complete": explanation.complete,
        "patron": _patron(explanation),
        "penalty": {
            "name": explanation.penalty.name,
            "blocks": list(explanation.penalty.blocks),
            "custom": explanation.penalty_is_custom,
        },
        "looked_at": None
        if looked_at is None
        else [
            {"org_unit": one.org_unit.shortname, "profile": one.profile, "threshold": plain_amount_or_none(one.amount)}
            for one in looked_at
        ],
        "threshold": _threshold_json(explanation),
        "bills": None if bills is None else list(map(_bill_json, bills)),
        "counted": plain_amount_or_none(explanation.counted),
        "reaches_threshold": explanation.reaches_threshold,
        "would_block": explanation.would_block,
        "penalties": [
            {
                **penalty_document(penalty),
                "after_recalculation": explanation.fates[penalty.id].value if explanation.fates else None,
            }
            for penalty in explanation.penalties_for_fines
        ],
        "other_blocks": list(map(penalty_document, explanation.standing.other_blocks)),
        "rule": _rule_json(explanation),
    }


def _patron(explanation: BlockExplanation) -> dict[str, Any]:
    member = explanation.member
    return {
        "id": member.id,
        "name": member.name,
        "barcode": member.barcode,
        "library": member.library,
        "profile": explanation.profile,
        "own_fines": plain_amount(member.own_fines),
    }


def _threshold_json(explanation: BlockExplanation) -> dict[str, Any] | None:
    threshold = explanation.threshold
    if threshold is None:
        return None
    return {
        "org_unit": threshold.org_unit.shortname,
        "profile": threshold.profile,
        "amount": plain_amount_or_none(threshold.amount),
        "counts_bills_of": [unit.shortname for unit in explanation.scope],
    }


def _bill_json(one: CheckedBill) -> dict[str, Any]:
    bill = one.bill
    return {
        "since": bill.since.isoformat(timespec="seconds"),
        "kind": bill.kind.text,
        "library": one.library.shortname if one.library is not None else None,
        "balance": plain_amount(bill.balance),
        "counts": one.counts,
    }


def _rule_json(explanation: BlockExplanation) -> dict[str, Any] | None:
    decision = explanation.member.decision
    if decision is None:
        return None
    return {
        "over_limit": decision.over_limit,
        "counted": plain_amount(decision.own_balance),
        "limit": {**limit_document(decision.limit), "origin": decision.limit.origin},
    }
