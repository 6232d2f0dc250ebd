"""What to do about one finding: a sentence for its reason, with the command or the member that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


_ADVICE: dict[str, tuple[str, str]] = {
    "over-limit": ("Have Evergreen recalculate.", ""),
    "limit-reached": ("Have Evergreen recalculate.", ""),
    "exactly-at-limit": ("Evergreen blocks at the limit already. The threshold to set says:", _DOCTOR),
    "not-over-limit": ("Have Evergreen recalculate. If the block stays, see which threshold asks for it:", _EXPLAIN),
    "group-over-limit": ("Ask whoever set the block, and remove it in the staff client.", ""),
    "group-within-limit": ("Look whether the block still has a reason.", ""),
    "group-not-known": ("Look whether the block still has a reason.", ""),
    "no-lead": ("Make a member the lead, on the group's page.", ""),
    "lead-deleted": ("Make another member the lead, on the group's page.", ""),
    "several-leads": ("Make all but one ordinary members, on the group's page.", ""),
    "lead-expired": ("Renew the lead's account, or make another member the lead.", ""),
    "stranger": ("Take {name} out if they don't belong:", _REMOVE),
    "unusually-large": ("An institution's card rather than a family? Take those out who don't belong.", ""),
    "several-adults": ("Ask them whether they want that, and take out who doesn't, on the group's page.", ""),
    "borrowed-address": ("Give the borrower an address of their own, in the staff client.", ""),
    "borrowed-address-of-hidden": ("Give the borrower an address of their own, in the staff client.", ""),
}
"""What to do, by the reason's code, and the command for it; the words take the reason's values and a barcode."""


def advice_for(kind: FindingKind, reason: Reason, barcode: str | None) -> Advice:
    """What to do about a finding of a kind with this reason; ``barcode`` is that of the patron whom it is about.

    Of a reason without advice of its own, what is advised for its kind.
    """
    text, command = _ADVICE.get(reason.code, (WHAT_TO_DO[kind], ""))
    if "{barcode}" in command and barcode is None:
        command = ""
        text = text.rstrip(":") + "."
    return Advice(text.format_map({**reason.values}), command.format_map({"barcode": barcode}))
