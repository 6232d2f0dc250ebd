"""Why a patron is blocked for fines or not, in six steps for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.audit import PenaltyFate
from evergreen_groups.ils import PENALTY_OVERRIDE
from evergreen_groups.money import NOTHING
from evergreen_groups.render import (
    CONFIDENTIAL,
    PLAIN,
    Cell,
    Columns,
    TextColumn,
    counted,
    describe_penalty,
    local_time,
    price,
    printable,
)

if TYPE_CHECKING:
    from evergreen_groups.audit import BillLooked, BlockExplanation

_FATES = {
    PenaltyFate.STAYS: "it stays when Evergreen recalculates",
    PenaltyFate.REMOVED: "it goes when Evergreen recalculates (audit --fix, unless staff set it)",
    PenaltyFate.UNTOUCHED: "it stands elsewhere than the threshold, so recalculating at the home library leaves it",
}
_NO_THRESHOLD = "there is no threshold, so recalculating leaves it"
_MOST_PLACES = 12
_BILLS = (
    TextColumn("Since"),
    TextColumn("For", least=14),
    TextColumn("Library"),
    TextColumn("Owed", right=True),
    TextColumn("Counts"),
)


def write_block_explanation(explanation: BlockExplanation, stream: TextIO, *, width: int) -> None:
    """Write the steps, ``width`` columns wide where tables allow it."""
    stream.writelines(f"{line}\n" for line in _lines(explanation, width))


def _lines(explanation: BlockExplanation, width: int) -> Iterator[str]:
    member = explanation.member
    barcode = printable(member.barcode or "no card")
    yield (
        f"{printable(member.name)} ({barcode}), {printable(member.library)}, profile {printable(explanation.profile)}, "
        f"owes {price(member.own_fines)} themselves"
    )
    yield f"Data as of {local_time(explanation.generated_at)}, {printable(explanation.gateway)}"
    steps = (
        ("What Evergreen sets for fines", _penalty(explanation)),
        ("Which threshold it holds against them", _threshold(explanation)),
        ("Which bills that threshold counts", _bills(explanation, width)),
        ("What Evergreen does when it recalculates", _verdict(explanation)),
        ("What stands in Evergreen now", _standing(explanation)),
        ("What the rule says", _rule(explanation)),
    )
    for number, (heading, lines) in enumerate(steps, start=1):
        yield ""
        yield f"{number}. {heading}"
        yield from (f"   {line}" for line in lines)
    yield ""
    yield CONFIDENTIAL


def _penalty(explanation: BlockExplanation) -> Iterator[str]:
    kind = explanation.penalty
    blocks = f"it blocks {', '.join(map(printable, kind.blocks))}" if kind.blocks else "a note, which blocks nothing"
    custom = f", by the setting {PENALTY_OVERRIDE}" if explanation.penalty_is_custom else ""
    yield f"For patrons of {printable(explanation.member.library)} {printable(kind.name)}{custom}: {blocks}."


def _threshold(explanation: BlockExplanation) -> Iterator[str]:
    if explanation.looked_at is None:
        yield "Not known: the account may not see Evergreen's thresholds (VIEW_GROUP_PENALTY_THRESHOLD)."
        return
    yield "Up the profiles at the home library, then at each org unit above; the first one counts."
    places = [(printable(one.org_unit.shortname), printable(one.profile)) for one in explanation.looked_at]
    widths = [max(map(len, texts)) for texts in zip(*places, strict=True)]
    for (org_unit, profile), one in zip(places, explanation.looked_at, strict=True):
        found = "none" if one.amount is None else f"{price(one.amount)}  <- this one counts"
        yield f"  {org_unit:<{widths[0]}}  {profile:<{widths[1]}}  {found}"


def _bills(explanation: BlockExplanation, width: int) -> Iterator[str]:
    if explanation.threshold is not None:
        place = printable(explanation.threshold.org_unit.shortname)
        yield f"Those billed at, above and below {place}: {_scope(explanation)}."
    elif explanation.looked_at is not None:
        yield "None: there is no threshold that would count any."
    if explanation.bills is None:
        yield "Not known: the account may not see the bills (VIEW_USER_TRANSACTIONS)."
        return
    if not explanation.bills:
        yield "There is no open bill."
        return
    rows = [_bill(explanation, one) for one in explanation.bills]
    columns = Columns(_BILLS, rows, width - 5)
    written = "".join(segment.text for segment in columns.heading(PLAIN))
    written += "".join(segment.text for row in rows for segment in columns.row(row))
    yield from (f"  {line}" for line in written.splitlines())
    if explanation.threshold is not None:
        yield f"Counted: {price(explanation.counted or NOTHING)}."


def _scope(explanation: BlockExplanation) -> str:
    if explanation.scope_is_everywhere:
        return "everywhere"
    names = [printable(unit.shortname) for unit in explanation.scope]
    more = len(names) - _MOST_PLACES
    return ", ".join(names[:_MOST_PLACES]) + (f" and {counted(more, 'org unit')} more" if more > 0 else "")


def _bill(explanation: BlockExplanation, one: BillLooked) -> list[Cell]:
    library = printable(one.library.shortname) if one.library is not None else "not known"
    counts = {True: "yes", False: "no"}[one.counts] if explanation.threshold is not None else ""
    bill = one.bill
    texts = (f"{bill.since.astimezone():%Y-%m-%d}", printable(bill.kind.text), library, price(bill.balance), counts)
    return [Cell(text) for text in texts]


def _verdict(explanation: BlockExplanation) -> Iterator[str]:
    threshold, reached = explanation.threshold, explanation.reaches_threshold
    name = printable(explanation.penalty.name)
    if reached is None:
        yield "Not known, for what is missing above."
        return
    if threshold is None or threshold.amount is None:
        yield "Nothing: without a threshold it neither sets nor removes a penalty for fines."
        return
    place, amount = printable(threshold.org_unit.shortname), price(threshold.amount)
    if reached:
        blocks = "which blocks them" if explanation.penalty.blocks else "which blocks nothing"
        yield f"{price(explanation.counted or NOTHING)} is {amount} or more: it sets {name} at {place}, {blocks}."
        return
    if not explanation.any_open:
        yield f"There is no open transaction that counts: it sets no {name}."
    else:
        yield f"{price(explanation.counted or NOTHING)} is less than {amount}: it sets no {name}."
    yield f"One that stands at {place} is removed."


def _standing(explanation: BlockExplanation) -> Iterator[str]:
    for penalty in explanation.penalties_for_fines:
        fate = explanation.fates.get(penalty.id)
        if fate is None:
            yield f"{describe_penalty(penalty)}."
        elif fate is PenaltyFate.UNTOUCHED and explanation.threshold is None:
            yield f"{describe_penalty(penalty)}: {_NO_THRESHOLD}."
        else:
            yield f"{describe_penalty(penalty)}: {_FATES[fate]}."
    if not explanation.penalties_for_fines:
        yield "No penalty for fines."
    if explanation.to_be_set:
        yield f"{printable(explanation.penalty.name)} is missing; it comes when Evergreen recalculates: audit --fix."
    for penalty in explanation.standing.other_blocks:
        yield f"Blocked for something else: {describe_penalty(penalty)}."


def _rule(explanation: BlockExplanation) -> Iterator[str]:
    decision = explanation.member.decision
    if decision is None:
        yield "Not decided: the account may not see the limit."
        return
    over = "over the limit" if decision.over_limit else "not over the limit"
    least = decision.limit.least_over
    limit = "there is no limit" if least is None else f"over the limit from {price(least)} on"
    yield f"{printable(decision.limit.origin)}: {limit}; with {price(decision.own_balance)} that is {over}."
    if explanation.would_block is not None:
        yield from _agreement(
            over_limit=decision.over_limit,
            now=explanation.standing.blocked_for_fines,
            then=explanation.would_block,
        )


def _agreement(*, over_limit: bool, now: bool, then: bool) -> Iterator[str]:
    """Whether Evergreen blocks as the rule says, ``now`` and after recalculating (``then``)."""
    if now == then == over_limit:
        yield f"Evergreen and the rule agree: {'blocked' if now else 'not blocked'}."
    elif then == over_limit:
        yield f"Evergreen differs now, and agrees once it recalculates: {'blocked' if then else 'not blocked'}."
    else:
        begins = "Evergreen agrees now, and differs once it recalculates" if now == over_limit else "Evergreen differs"
        how = "blocked, and not over the limit" if then else "not blocked, and over the limit"
        yield f"{begins}: {how}. evergreen-groups doctor says which thresholds differ from the rule."
