"""The audit's texts: headings, explanations and advice for each kind of finding.

A :class:`Message` serves programs in English as it is, and people through ``gettext``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.audit import (
    Audit,
    AuditCriteria,
    FindingKind,
    GroupFinding,
    PatronFinding,
    ThresholdFinding,
)
from evergreen_groups.language import enumeration, gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.render.wording import describe_limit, describe_penalty

if TYPE_CHECKING:
    from evergreen_groups.audit import Confidence, Evidence, Reason
    from evergreen_groups.groups import Member
    from evergreen_groups.render import StaffClient

TITLE = Message("Audit of blocks and groups")
NOTHING_FOUND = Message("Nothing found.")
_MOST_NUMBERS = 20
_MOST_NAMES = 12

HEADINGS = {
    FindingKind.NOT_BLOCKED: Message("Over the limit, not blocked: Evergreen hasn't recalculated"),
    FindingKind.THRESHOLD_HIGHER: Message("Over the limit, not blocked: Evergreen's threshold is higher"),
    FindingKind.NOT_OVER: Message("Blocked for fines, not over the limit: Evergreen hasn't recalculated"),
    FindingKind.THRESHOLD_LOWER: Message("Blocked for fines, not over the limit: Evergreen's threshold is lower"),
    FindingKind.LEFT_ALONE: Message("Blocked for fines, not over the limit: recalculating leaves the block"),
    FindingKind.FOR_FAMILY: Message("Blocked by staff, probably for the family's fines"),
    FindingKind.BY_STAFF: Message("Blocked by staff within the limit, for review"),
    FindingKind.ACCIDENTAL: Message("Groups that look accidental"),
    FindingKind.FOR_REVIEW: Message("Groups that look like families, for review"),
    FindingKind.SEVERAL_ADULTS: Message("Groups with several adults"),
    FindingKind.BORROWED_ADDRESS: Message("Addresses borrowed from outside the group"),
}
WHAT_TO_DO = {
    FindingKind.NOT_BLOCKED: Message("Have Evergreen recalculate their penalties: audit --fix."),
    FindingKind.THRESHOLD_HIGHER: Message(
        "Recalculating doesn't block these patrons. Change the threshold in Evergreen (Group Penalty Thresholds) or "
        "the limit in [policy]: evergreen-groups doctor shows what to set."
    ),
    FindingKind.NOT_OVER: Message("Have Evergreen recalculate their penalties: audit --fix."),
    FindingKind.THRESHOLD_LOWER: Message(
        "Recalculating doesn't lift these blocks. Change the threshold in Evergreen (Group Penalty Thresholds) or the "
        "limit in [policy]: evergreen-groups doctor shows what to set."
    ),
    FindingKind.LEFT_ALONE: Message("Remove the block in the staff client."),
    FindingKind.FOR_FAMILY: Message(
        "Nobody is to be blocked for the fines of others. Ask whoever set the block, and remove it in the staff client."
    ),
    FindingKind.BY_STAFF: Message("Look whether the block still has a reason."),
    FindingKind.ACCIDENTAL: Message(
        "The members see each other's fines. Take those out who don't belong, on the group's page or by "
        "evergreen-groups remove BARCODE; where all of them do: evergreen-groups audit --keep GROUP."
    ),
    FindingKind.FOR_REVIEW: Message(
        "What the members have in common outweighs what is odd about the group, so nothing speaks for an accident. Set "
        "right what is odd, on the group's page; where all is as it should be: evergreen-groups audit --keep GROUP."
    ),
    FindingKind.SEVERAL_ADULTS: Message(
        "Adults in a group see each other's affairs. Ask them whether they want that, and take out who doesn't."
    ),
    FindingKind.BORROWED_ADDRESS: Message(
        "A change of the address in one of the two records changes it in the other. Give the borrower an address of "
        "their own in the staff client."
    ),
}
MEANINGS = {
    FindingKind.NOT_BLOCKED: Message("Their own fines exceed the limit, but Evergreen hasn't blocked them yet."),
    FindingKind.NOT_OVER: Message("Evergreen blocks them for fines, but their own fines don't exceed the limit."),
    FindingKind.LEFT_ALONE: Message(
        "Evergreen blocks them for fines, but their own fines don't exceed the limit. Recalculating changes nothing."
    ),
    FindingKind.FOR_FAMILY: Message(
        "Staff blocked them, they owe little themselves, and their group a lot. Nobody is to be blocked for the fines "
        "of others."
    ),
    FindingKind.BY_STAFF: Message("Staff blocked them, and fines don't explain it."),
    FindingKind.ACCIDENTAL: Message("Their members see each other's fines, and may not belong together."),
    FindingKind.FOR_REVIEW: Message(
        "What their members have in common outweighs what is odd about them, so nothing speaks for an accident."
    ),
    FindingKind.SEVERAL_ADULTS: Message("Adults in a group see each other's affairs."),
    FindingKind.BORROWED_ADDRESS: Message("A change of the address in one of the two records changes it in the other."),
}
"""What a kind of finding means; kinds without an entry use their text in ``WHAT_TO_DO``."""

REASONS = {
    "over-limit": Message("Own fines are over the limit by {over_by}, and the ILS has no block for fines."),
    "limit-reached": Message("Own fines are at the limit, and the ILS has no block for fines."),
    "exactly-at-limit": Message("Own fines are exactly at the limit: the ILS blocks there already."),
    "not-over-limit": Message(
        "Own fines are not over the limit: the block is stale, or the ILS has a lower threshold."
    ),
    "threshold-higher": Message("Evergreen blocks at {threshold} ({profile} at {library})."),
    "counts-fewer-bills": Message(
        "Evergreen blocks at {threshold} ({profile} at {library}), but counts only bills at, above and below {library}."
    ),
    "no-threshold": Message("Evergreen has no threshold for {penalty}."),
    "penalty-blocks-nothing": Message("Evergreen sets {penalty}, which blocks nothing."),
    "threshold-lower": Message("Evergreen blocks at {threshold} ({profile} at {library})."),
    "threshold-at-limit": Message("Evergreen blocks at {threshold} already ({profile} at {library})."),
    "block-elsewhere": Message("The block isn't at the org unit of Evergreen's threshold."),
    "block-without-threshold": Message("Evergreen has no threshold for this profile and library."),
    "group-over-limit": Message(
        "Own fines are within the limit, the group's are over it: probably blocked for the family's."
    ),
    "group-within-limit": Message(
        "Own fines and the group's are within the limit: blocked for another reason, perhaps."
    ),
    "group-not-known": Message("Own fines are within the limit; not all of the group's combined fines are known."),
    "no-lead": Message("It has no lead."),
    "lead-deleted": Message("Its lead is deleted."),
    "several-leads": Message("It has {count} lead.", plural="It has {count} leads."),
    "lead-expired": Message("The account of its lead {name} expired on {date}."),
    "stranger": Message("{name} shares no surname, address, phone, e-mail or home library with another adult."),
    "unusually-large": Message(
        "It is unusually large: {count} member.", plural="It is unusually large: {count} members."
    ),
    "several-adults": Message(
        "It has {count} adult, more than {most}.", plural="It has {count} adults, more than {most}."
    ),
    "borrowed-address": Message("Uses an address that belongs to the record of {owner}, {library}, group {group}."),
    "borrowed-address-of-hidden": Message(
        "Uses an address that belongs to the record of a patron hidden from the account."
    ),
}
REASONS_AT_LEAST = {
    "several-leads": Message("It has at least {at_least:,} leads."),
    "several-adults": Message("It has at least {at_least:,} adults, more than {most}."),
}
"""Used in place of ``REASONS`` where hidden members may raise the count."""
EVIDENCE = {
    "no-lead": Message("no lead"),
    "lead-deleted": Message("its lead is deleted"),
    "several-leads": Message("{count} lead", plural="{count} leads"),
    "lead-expired": Message("its lead expired on {date}"),
    "unusually-large": Message("{count} member", plural="{count} members"),
    "institution": Message("an institution's card among them (profile {profile})"),
    "strangers": Message("adults who share nothing with another adult: {count}"),
    "nothing-shared": Message("no two members share a surname, address, phone or e-mail"),
    "cloned": Message("made within a day by cloning, with nothing shared but the address that was cloned: {count}"),
    "surname-shared": Message("each member shares a surname with another"),
    "address-shared": Message("each member shares an address with another"),
    "phone-or-email-shared": Message("each member shares a phone or an e-mail with another"),
}
"""Evidence of a confidence, by its code."""
EVIDENCE_AT_LEAST = {
    "several-leads": Message("at least {at_least:,} leads"),
    "cloned": Message(
        "made within a day by cloning, with nothing shared but the address that was cloned: at least {at_least:,}"
    ),
}


_SHORT_REASONS = {
    "over-limit": Message("over the limit by {over_by}"),
    "limit-reached": Message("at the limit, which is over it here"),
    "exactly-at-limit": Message("exactly at the limit"),
    "not-over-limit": Message("not over the limit"),
    "group-over-limit": Message("own fines within the limit, the group's over it"),
    "group-within-limit": Message("own fines and the group's within the limit"),
    "group-not-known": Message("own fines within the limit; not all of the group's combined fines known"),
}
"""Shorter reasons for tables whose heading already names the kind."""
LEVELS = {
    "high": Message("high", context="confidence"),
    "medium": Message("medium", context="confidence"),
    "low": Message("low", context="confidence"),
}


def short_reason(reason: Reason) -> str:
    """Describe a reason briefly, for a table under its kind's heading."""
    return gettext(_SHORT_REASONS.get(reason.code, REASONS[reason.code]), **reason.values)


def describe_reason(reason: Reason) -> Message:
    """Return a reason as a sentence."""
    words = REASONS_AT_LEAST if "at_least" in reason.values else REASONS
    return words[reason.code].with_values(reason.values)


def describe_evidence(piece: Evidence) -> Message:
    """Describe a piece of evidence, without its weight."""
    words = EVIDENCE_AT_LEAST if "at_least" in piece.values else EVIDENCE
    return words[piece.code].with_values(piece.values)


def with_weight(piece: Evidence) -> str:
    """Describe a piece of evidence with its weight."""
    return f"{gettext(describe_evidence(piece))} {piece.weight:+}"


def describe_confidence(confidence: Confidence) -> str:
    """Describe how certain it is that a group is accidental, with the evidence."""
    return gettext(
        "Confidence {level}, {points} of 100: {evidence}.",
        level=LEVELS[confidence.level],
        points=confidence.points,
        evidence="; ".join(map(with_weight, confidence.evidence)),
    )


def describe_split(finding: GroupFinding) -> str:
    """Name who would stay and who would leave, by family. Empty without a suggested split."""
    if finding.split is None:
        return ""
    names = {member.id: member.name for member in finding.group.members}

    def listed(*families: tuple[int, ...]) -> str:
        count = sum(map(len, families))
        if count > _MOST_NAMES:
            return ngettext("{count} member", "{count} members", count)
        return " / ".join("; ".join(names[id] for id in family) for family in families)

    return gettext(
        "Suggested split: stay: {staying}. Out: {leaving}.",
        staying=listed(finding.split.stay),
        leaving=listed(*finding.split.leave),
    )


def describe_groups_to_keep(audit: Audit) -> str:
    """Name the groups that staff have marked to be kept, which aren't listed. Empty if there are none."""
    if not audit.to_keep:
        return ""
    numbers = [str(number) for number in audit.to_keep[:_MOST_NUMBERS]]
    if (more := len(audit.to_keep) - _MOST_NUMBERS) > 0:
        numbers.append(ngettext("{count} more", "{count} more", more))
    return ngettext(
        "Not listed, for it is to be kept as it is: group {groups}. List it again: audit --list-again.",
        "Not listed, for they are to be kept as they are: groups {groups}. List them again: audit --list-again.",
        len(audit.to_keep),
        groups=enumeration(numbers),
    )


def explanation(finding: PatronFinding) -> str:
    """Explain a finding in English, for programs, with the limit that was applied if patrons have different ones."""
    reason = str(describe_reason(finding.reason))
    return f"{reason} {applied_limit(finding.member)}." if finding.limits_differ else reason


def applied_limit(member: Member) -> Message:
    """Return the limit applied to a member, its origin and, where they differ, the fines that count toward it."""
    decision = member.decided
    none = Message("none", context="limit")
    values = {
        "limit": none if decision.limit.amount is None else decision.limit.amount,
        "origin": decision.limit.origin,
        "counted": decision.own_balance,
    }
    if decision.own_balance == member.own_fines:
        return Message("Limit {limit} ({origin})", values=values)
    return Message("Limit {limit} ({origin}); it counts {counted}", values=values)


def describe_scope(criteria: AuditCriteria) -> str:
    """Describe which patrons the audit covers, and which limit it applies."""
    limit = gettext("as configured for each patron") if criteria.limit is None else describe_limit(criteria.limit)
    if not criteria.orgs:
        return gettext("Everyone who owes something or has a penalty; the limit of own fines: {limit}", limit=limit)
    return gettext(
        "Everyone with home library {libraries} or below who owes something or has a penalty; the limit of own fines: "
        "{limit}",
        libraries=enumeration(map(printable, criteria.orgs), "or"),
        limit=limit,
    )


def describe_patron_finding(finding: PatronFinding) -> str:
    """Describe a patron's finding in one line: amounts, reason and blocks."""
    return " ".join(_sentences(finding))


def _sentences(finding: PatronFinding) -> Iterator[str]:
    own, together = finding.member.own_fines, finding.group_fines
    if together is None:
        yield gettext("own fines {own}.", own=own)
    else:
        yield gettext("own fines {own}, the group's {together}.", own=own, together=together)
    yield printable(gettext(describe_reason(finding.reason)))
    if finding.limits_differ:
        yield f"{printable(gettext(applied_limit(finding.member)))}."
    yield from (f"{describe_penalty(block)}." for block in finding.blocks)


def describe_group_finding(finding: GroupFinding) -> str:
    """Describe a group's finding in one line: the number of members and the reasons."""
    reasons = " ".join(gettext(describe_reason(reason)) for reason in finding.reasons)
    return f"{ngettext('{count} member.', '{count} members.', finding.group.member_count)} {printable(reasons)}"


def describe_threshold_finding(finding: ThresholdFinding) -> str:
    """Describe a threshold's finding in one line: patrons affected, what Evergreen does, and the limit."""
    return ngettext(
        "{count} patron: {reason} The limit: {limit}.",
        "{count} patrons: {reason} The limit: {limit}.",
        finding.patron_count,
        reason=printable(gettext(describe_reason(finding.reason))),
        limit=describe_limit(finding.limit),
    )


def describe_unlisted(audit: Audit, kind: FindingKind) -> str:
    """Say how many findings of a kind aren't listed, and where to find them. Empty if all are listed."""
    count = audit.count(kind) - audit.listed(kind)
    if not count:
        return ""
    return ngettext(
        "{count} more, which weighs less: a file for programs has it (--output audit.csv), or --top 0.",
        "{count} more, which weigh less: a file for programs has them (--output audit.csv), or --top 0.",
        count,
    )


def kinds_found(audit: Audit) -> list[FindingKind]:
    """Return the kinds that have findings."""
    return [kind for kind in FindingKind if audit.count(kind)]


_EXPLAIN = "evergreen-groups audit --explain {barcode}"
_REMOVE = "evergreen-groups remove {barcode}"
_DOCTOR = "evergreen-groups doctor"


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation, and the command to run, which is empty for work in the staff client."""

    text: str
    command: str = ""


class _Advised(NamedTuple):
    """A recommendation with its command, and the text to use for a patron without a card to name in the command."""

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
"""Advice by the reason's code. Texts take the reason's values, commands a barcode."""


def advice_for(kind: FindingKind, reason: Reason, barcode: str | None) -> Advice:
    """Return the advice for a finding of ``kind`` with this reason; ``barcode`` is the patron's.

    A reason that has no entry gets the general advice for its kind.
    """
    advised = _ADVICE.get(reason.code) or _Advised(WHAT_TO_DO[kind])
    if barcode is None and advised.without_card:
        return Advice(gettext(advised.without_card, **reason.values))
    return Advice(gettext(advised.text, **reason.values), advised.command.format(barcode=barcode))


MOST_SELECTED = 100
"""The highest number of members that the link to a group's page preselects."""


def group_link(finding: GroupFinding, client: StaffClient) -> str:
    """Return the address of a group's page, with the members preselected who would leave in the suggested split."""
    split = finding.split
    patron = split.stay[0] if split else finding.group.lead.id
    # An address has limited room. Beyond the maximum, staff select the members on the page.
    chosen = split.leaving if split and len(split.leaving) <= MOST_SELECTED else ()
    return client.group_page(patron, select=chosen)
