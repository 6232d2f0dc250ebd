"""Explain in six steps, as text or JSON, why a patron is or isn't blocked for fines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size

from evergreen_groups.audit import PenaltyFate
from evergreen_groups.ils import PenaltyKinds
from evergreen_groups.language import enumeration, gettext, ngettext, pgettext, price, time_with_zone
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.render.column import Column
from evergreen_groups.render.columns import text_table
from evergreen_groups.render.json_documents import fields, limit_document, patron_document, penalty_document, text
from evergreen_groups.render.wording import CONFIDENTIAL, NOT_DECIDED, describe_other_block, describe_penalty
from evergreen_groups.values import ZERO, plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.audit import BlockExplanation, CheckedBill

_FATES = {
    PenaltyFate.STAYS: Message("{penalty}: stays when Evergreen recalculates"),
    PenaltyFate.REMOVED: Message("{penalty}: removed when Evergreen recalculates (audit --fix, unless set by staff)"),
    PenaltyFate.UNTOUCHED: Message("{penalty}: recalculating doesn't change it"),
}
_MOST_PLACES = 12


def write_block_explanation(explanation: BlockExplanation, stream: TextIO, *, width: int) -> None:
    """Write the six steps as text. Tables are kept within ``width`` columns where possible."""
    member = explanation.member
    about = gettext(
        "{name} ({card}), {library}, profile {profile}, own fines {owed}",
        name=printable(member.name),
        card=printable(member.barcode) if member.barcode else gettext("no card"),
        library=printable(member.library),
        profile=printable(explanation.profile),
        owed=member.own_fines,
    )
    moment, gateway = time_with_zone(explanation.generated_at), printable(explanation.gateway)
    source = f"{gettext('Data as of {moment}', moment=moment)}, {gateway}"
    print(about, source, sep="\n", file=stream)
    steps = (
        (gettext("Penalty for fines"), _penalty(explanation)),
        (gettext("Threshold"), _threshold(explanation)),
        (gettext("Bills that count"), _bills(explanation, width)),
        (gettext("Effect of recalculating"), _verdict(explanation)),
        (gettext("Penalties now"), _standing(explanation)),
        (gettext("Rule"), _rule(explanation)),
    )
    for number, (heading, lines) in enumerate(steps, start=1):
        print(f"\n{number}. {heading}", *(f"   {line}" for line in lines), sep="\n", file=stream)
    print(f"\n{gettext(CONFIDENTIAL)}", file=stream)


def _penalty(explanation: BlockExplanation) -> Iterator[str]:
    kind = explanation.penalty
    library, penalty = printable(explanation.member.library), printable(kind.name)
    yield gettext("For patrons of {library}, Evergreen sets {penalty}.", library=library, penalty=penalty)
    if explanation.penalty_is_custom:
        yield gettext("{label}: {value}", label=PenaltyKinds.SETTING, value=penalty)
    if kind.blocks:
        yield gettext("It blocks {actions}.", actions=enumeration(map(printable, kind.blocks)))
    else:
        yield gettext("It blocks nothing.")


def _threshold(explanation: BlockExplanation) -> Iterator[str]:
    if explanation.looked_at is None:
        yield gettext(_LACKS, permission="VIEW_GROUP_PENALTY_THRESHOLD")
        return
    yield gettext(
        "Evergreen looks for the profile, then for those above it, first at the home library, then at each org unit "
        "above. The first threshold applies."
    )
    places = [(printable(one.org_unit.shortname), printable(one.profile)) for one in explanation.looked_at]
    widths = [max(map(cell_len, texts)) for texts in zip(*places, strict=True)]
    for texts, one in zip(places, explanation.looked_at, strict=True):
        place = "  ".join(set_cell_size(text, width) for text, width in zip(texts, widths, strict=True))
        if one.amount is None:
            yield f"  {place}  {pgettext('threshold', 'none')}"
        else:
            yield f"  {place}  {price(one.amount)}  <-"


def _bills(explanation: BlockExplanation, width: int) -> Iterator[str]:
    if explanation.threshold is not None:
        yield _scope(explanation, printable(explanation.threshold.org_unit.shortname))
    elif explanation.looked_at is not None:
        yield gettext("Without a threshold, no bills count.")
    if explanation.bills is None:
        yield gettext(_LACKS, permission="VIEW_USER_TRANSACTIONS")
        return
    if not explanation.bills:
        yield gettext("No open bills.")
        return
    counts = Message("Counts", context="a bill")
    columns = (
        *_BILL,
        Column("", lambda one: one.counts, counts, "flag")
        if explanation.threshold
        else Column("", lambda _: "", counts),
    )
    yield from (f"  {line}" for line in text_table(columns, explanation.bills, width - 5))
    if explanation.threshold is not None:
        total = pgettext("last line of a table", "Total")
        yield gettext("{label}: {value}", label=total, value=explanation.counted or ZERO)


_BILL: tuple[Column[CheckedBill], ...] = (
    Column("", lambda one: one.bill.since, Message("Since", context="a bill"), "day"),
    Column("", lambda one: one.bill.kind.describe(), Message("For", context="a bill"), least=14),
    Column(
        "",
        lambda one: gettext("not known") if one.library is None else printable(one.library.shortname),
        Message("Library"),
        "words",
    ),
    Column("", lambda one: one.bill.balance, Message("Owed", context="a bill"), "money"),
)


def _scope(explanation: BlockExplanation, place: str) -> str:
    names = [printable(unit.shortname) for unit in explanation.scope]
    if (more := len(names) - _MOST_PLACES) > 0:
        names[_MOST_PLACES:] = [ngettext("{count} more", "{count} more", more)]
    libraries = gettext("all libraries") if explanation.scope_is_everywhere else enumeration(names)
    return gettext("Bills at, above and below {library} count: {libraries}", library=place, libraries=libraries)


def _verdict(explanation: BlockExplanation) -> Iterator[str]:
    threshold, reached = explanation.threshold, explanation.reaches_threshold
    penalty = printable(explanation.penalty.name)
    if reached is None:
        yield gettext("not known")
    elif threshold is None:
        yield gettext("Without a threshold, Evergreen neither sets nor removes {penalty}.", penalty=penalty)
    else:
        text = (
            Message("The bills reach the threshold: recalculating sets {penalty} at {library}.")
            if reached
            else Message("The bills don't reach the threshold: recalculating removes {penalty} at {library} if set.")
        )
        yield gettext(text, penalty=penalty, library=printable(threshold.org_unit.shortname))


def _standing(explanation: BlockExplanation) -> Iterator[str]:
    for penalty in explanation.penalties_for_fines:
        fate = explanation.fates.get(penalty.id)
        described = describe_penalty(penalty)
        yield described if fate is None else gettext(_FATES[fate], penalty=described)
    if not explanation.penalties_for_fines:
        yield gettext("No penalty for fines.")
    if explanation.to_be_set:
        yield gettext(
            "{penalty}: set when Evergreen recalculates (audit --fix)", penalty=printable(explanation.penalty.name)
        )
    yield from map(describe_other_block, explanation.standing.other_blocks)


def _rule(explanation: BlockExplanation) -> Iterator[str]:
    decision = explanation.member.decision
    if decision is None:
        yield gettext(NOT_DECIDED)
        return
    yield gettext(decision.explanation)
    origin = printable(gettext(decision.limit.origin))
    yield gettext("{label}: {value}", label=gettext("Source of the limit"), value=origin)
    if explanation.would_block is not None:
        agrees_now = explanation.standing.blocked_for_fines == decision.over_limit
        agrees_then = explanation.would_block == decision.over_limit
        yield gettext(_AGREEMENT[agrees_now, agrees_then])


_LACKS = Message("Not known: the account lacks {permission}.")
_AGREEMENT = {
    (True, True): Message("Evergreen agrees with the rule."),
    (False, True): Message("Evergreen disagrees with the rule until it recalculates."),
    (True, False): Message("Evergreen will disagree with the rule once it recalculates: see evergreen-groups doctor."),
    (False, False): Message("Evergreen disagrees with the rule: see evergreen-groups doctor."),
}
"""Keyed by: agrees now, agrees after a recalculation."""


SCHEMA = "evergreen-groups/block-explanation/1"


def write_block_explanation_json(explanation: BlockExplanation, stream: TextIO) -> None:
    """Write one JSON object. Amounts are strings with two decimal places; null is what the account can't see."""
    member, threshold, decision = explanation.member, explanation.threshold, explanation.member.decision
    looked_at, bills = explanation.looked_at, explanation.bills
    document = {
        "schema": SCHEMA,
        **fields(explanation, "generated_at", "gateway", "complete"),
        "patron": {
            **patron_document(member.patron),
            "profile": explanation.profile,
            "own_fines": plain_amount(member.own_fines),
        },
        "penalty": {
            **fields(explanation.penalty, "name", "blocks"),
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
            **fields(threshold, "profile", "amount"),
            "counts_bills_of": [unit.shortname for unit in explanation.scope],
        },
        "bills": None
        if bills is None
        else [
            {
                **fields(one.bill, "since"),
                "kind": one.bill.kind.text,
                "library": one.library.shortname if one.library is not None else None,
                **fields(one.bill, "balance"),
                "counts": one.counts,
            }
            for one in bills
        ],
        **fields(explanation, "counted", "reaches_threshold", "would_block"),
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
            "counted": plain_amount(decision.counted_fines),
            "limit": {**limit_document(decision.limit), "origin": decision.limit.origin},
        },
    }
    stream.write(text(document) + "\n")
