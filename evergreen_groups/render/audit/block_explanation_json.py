"""Why a patron is blocked for fines or not as JSON, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import penalty_document
from evergreen_groups.render.report import limit_document, text

if TYPE_CHECKING:
    from evergreen_groups.audit import BillLooked, BlockExplanation

SCHEMA = "evergreen-groups/block-explanation/1"


def write_block_explanation_json(explanation: BlockExplanation, stream: TextIO) -> None:
    """Write one JSON object; amounts are strings with two places, and null says that something isn't visible."""
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
        "threshold": _threshold(explanation),
        "bills": None if bills is None else list(map(_bill, bills)),
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
        "rule": _rule(explanation),
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


def _threshold(explanation: BlockExplanation) -> dict[str, Any] | None:
    threshold = explanation.threshold
    if threshold is None:
        return None
    return {
        "org_unit": threshold.org_unit.shortname,
        "profile": threshold.profile,
        "amount": plain_amount_or_none(threshold.amount),
        "counts_bills_of": [unit.shortname for unit in explanation.scope],
    }


def _bill(one: BillLooked) -> dict[str, Any]:
    bill = one.bill
    return {
        "since": bill.since.isoformat(timespec="seconds"),
        "kind": bill.kind.text,
        "library": one.library.shortname if one.library is not None else None,
        "balance": plain_amount(bill.balance),
        "counts": one.counts,
    }


def _rule(explanation: BlockExplanation) -> dict[str, Any] | None:
    decision = explanation.member.decision
    if decision is None:
        return None
    return {
        "over_limit": decision.over_limit,
        "counted": plain_amount(decision.own_balance),
        "limit": {**limit_document(decision.limit), "origin": decision.limit.origin},
    }
