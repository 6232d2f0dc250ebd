"""Explain in six steps, as text or JSON, why a patron is or isn't blocked for fines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

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
from evergreen_groups.render import printable
from evergreen_groups.render.columns import Cell, Columns, TextColumn
from evergreen_groups.render.json_documents import limit_document, penalty_document, text
from evergreen_groups.render.wording import CONFIDENTIAL, describe_penalty
from evergreen_groups.values import ZERO, plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.audit import BlockExplanation

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
    member = explanation.member
    about = gettext(
        "{name} ({card}), {library}, profile {profile}, owes {owed} themselves",
        name=printable(member.name),
        card=printable(member.barcode) if member.barcode else gettext("no card"),
        library=printable(member.library),
        profile=printable(explanation.profile),
        owed=member.own_fines,
    )
    moment, gateway = time_with_zone(explanation.generated_at), printable(explanation.gateway)
    source = gettext("Data as of {moment}, {gateway}", moment=moment, gateway=gateway)
    print(about, source, sep="\n", file=stream)
    steps = (
        (gettext("What Evergreen sets for fines"), _penalty(explanation)),
        (gettext("Which threshold it holds against them"), _threshold(explanation)),
        (gettext("Which bills that threshold counts"), _bills(explanation, width)),
        (gettext("What Evergreen does when it recalculates"), _verdict(explanation)),
        (gettext("What stands in Evergreen now"), _standing(explanation)),
        (gettext("What the rule says"), _rule(explanation)),
    )
    for number, (heading, lines) in enumerate(steps, start=1):
        print(f"\n{number}. {heading}", *(f"   {line}" for line in lines), sep="\n", file=stream)
    print(f"\n{gettext(CONFIDENTIAL)}", file=stream)


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
    headings = (
        TextColumn(pgettext("a bill", "Since")),
        TextColumn(pgettext("a bill", "For"), least=14),
        TextColumn(gettext("Library")),
        TextColumn(pgettext("a bill", "Owed"), right=True),
        TextColumn(pgettext("a bill", "Counts")),
    )
    rows = []
    for one in explanation.bills:
        library = printable(one.library.shortname) if one.library is not None else gettext("not known")
        counts = (gettext("yes") if one.counts else gettext("no")) if explanation.threshold is not None else ""
        kind, owed = printable(one.bill.kind.describe()), price(one.bill.balance)
        rows.append([Cell(text) for text in (day(one.bill.since), kind, library, owed, counts)])
    yield from (f"  {line}" for line in Columns(headings, rows, width - 5).lines(rows))
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


def _verdict(explanation: BlockExplanation) -> Iterator[str]:
    threshold, reached = explanation.threshold, explanation.reaches_threshold
    if reached is None:
        yield gettext("Not known, for what is missing above.")
        return
    if threshold is None or threshold.amount is None:
        yield gettext("Nothing: without a threshold it neither sets nor removes a penalty for fines.")
        return
    values = {
        "counted": explanation.counted or ZERO,
        "threshold": threshold.amount,
        "penalty": printable(explanation.penalty.name),
        "library": printable(threshold.org_unit.shortname),
    }
    if reached:
        blocks = Message(
            "{counted} is {threshold} or more: it sets {penalty} at {library}, a penalty that blocks them."
        )
        note = Message(
            "{counted} is {threshold} or more: it sets {penalty} at {library}, a penalty that blocks nothing."
        )
        yield gettext(blocks if explanation.penalty.blocks else note, **values)
        return
    if explanation.any_open:
        yield gettext("{counted} is less than {threshold}: it sets no {penalty}.", **values)
    else:
        yield gettext("There is no open transaction that counts: it sets no {penalty}.", **values)
    yield gettext("One that stands at {library} is removed.", library=values["library"])


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
        agrees_now = explanation.standing.blocked_for_fines == decision.over_limit
        agrees_then = explanation.would_block == decision.over_limit
        sentence = gettext(_AGREEMENT[agrees_now, agrees_then, explanation.would_block])
        if not agrees_then:
            sentence += f" {gettext('evergreen-groups doctor says which thresholds differ from the rule.')}"
        yield sentence


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
    member, threshold, decision = explanation.member, explanation.threshold, explanation.member.decision
    looked_at, bills = explanation.looked_at, explanation.bills
    document = {
        "schema": SCHEMA,
        "generated_at": explanation.generated_at.isoformat(timespec="seconds"),
        "gateway": explanation.gateway,
        "complete": explanation.complete,
        "patron": {
            "id": member.id,
            "name": member.name,
            "barcode": member.barcode,
            "library": member.library,
            "profile": explanation.profile,
            "own_fines": plain_amount(member.own_fines),
        },
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
        "threshold": None
        if threshold is None
        else {
            "org_unit": threshold.org_unit.shortname,
            "profile": threshold.profile,
            "amount": plain_amount_or_none(threshold.amount),
            "counts_bills_of": [unit.shortname for unit in explanation.scope],
        },
        "bills": None
        if bills is None
        else [
            {
                "since": one.bill.since.isoformat(timespec="seconds"),
                "kind": one.bill.kind.text,
                "library": one.library.shortname if one.library is not None else None,
                "balance": plain_amount(one.bill.balance),
                "counts": one.counts,
            }
            for one in bills
        ],
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
        "rule": None
        if decision is None
        else {
            "over_limit": decision.over_limit,
            "counted": plain_amount(decision.own_balance),
            "limit": {**limit_document(decision.limit), "origin": decision.limit.origin},
        },
    }
    stream.write(text(document) + "\n")
