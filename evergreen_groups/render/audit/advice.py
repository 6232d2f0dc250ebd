"""What to do about one finding: a sentence for its reason, with the command or the member that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.render.audit.wording import WHAT_TO_DO

if TYPE_CHECKING:
    from evergreen_groups.audit import FindingKind, Reason

_EXPLAIN = "evergreen-groups audit --explain {barcode}"
_REMOVE = "evergreen-groups remove {barcode}"
_DOCTOR = "evergreen-groups doctor"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: a sentence, and the command for it, empty where the staff client is the place."""

    text: str
    command: str = ""


class _Advised(NamedTuple):
    """A sentence, the command for it, and the sentence where the patron has no card that the command could name."""

    text: Message
    command: str = ""
    without_card: Message | None = None


_ADVICE = {
    "over-limit": _Advised(Message("Have Evergreen recalculate.")),
    "limit-reached": _Advised(Message("Have Evergreen recalculate.")),
    "exactly-at-limit": _Advised(
        Message("Evergreen blocks at the limit already. This command names the threshold to set:"), _DOCTOR
    ),
    "not-over-limit": _Advised(
        Message("Have Evergreen recalculate. If the block stays, this command shows which threshold asks for it:"),
        _EXPLAIN,
        Message("Have Evergreen recalculate. If the block stays, see which threshold asks for it."),
    ),
    "block-elsewhere": _Advised(Message("Remove the block in the staff client.")),
    "block-without-threshold": _Advised(Message("Remove the block in the staff client.")),
    **{
        code: _Advised(Message("Change the threshold or the limit. This command shows what to set:"), _DOCTOR)
        for code in (
            *("threshold-higher", "counts-fewer-bills", "no-threshold", "penalty-blocks-nothing"),
            *("threshold-lower", "threshold-at-limit"),
        )
    },
    "group-over-limit": _Advised(Message("Ask whoever set the block, and remove it in the staff client.")),
    "group-within-limit": _Advised(Message("Look whether the block still has a reason.")),
    "group-not-known": _Advised(Message("Look whether the block still has a reason.")),
    "no-lead": _Advised(Message("Make a member the lead, on the group's page.")),
    "lead-deleted": _Advised(Message("Make another member the lead, on the group's page.")),
    "several-leads": _Advised(Message("Make all but one ordinary members, on the group's page.")),
    "lead-expired": _Advised(Message("Renew the lead's account, or make another member the lead.")),
    "stranger": _Advised(
        Message("Take {name} out if they don't belong:"), _REMOVE, Message("Take {name} out if they don't belong.")
    ),
    "unusually-large": _Advised(
        Message("An institution's card rather than a family? Take those out who don't belong.")
    ),
    "several-adults": _Advised(
        Message("Ask them whether they want that, and take out who doesn't, on the group's page.")
    ),
    "borrowed-address": _Advised(Message("Give the borrower an address of their own, in the staff client.")),
    "borrowed-address-of-hidden": _Advised(Message("Give the borrower an address of their own, in the staff client.")),
}
"""What to do, by the reason's code; the sentences take the reason's values, and the commands a barcode."""


def advice_for(kind: FindingKind, reason: Reason, barcode: str | None) -> Advice:
    """What to do about a finding of a kind with this reason; ``barcode`` is that of the patron whom it is about.

    Of a reason without advice of its own, what is advised for its kind.
    """
    advised = _ADVICE.get(reason.code) or _Advised(WHAT_TO_DO[kind])
    if barcode is None and advised.without_card:
        return Advice(gettext(advised.without_card, **reason.values))
    return Advice(gettext(advised.text, **reason.values), advised.command.format(barcode=barcode))
