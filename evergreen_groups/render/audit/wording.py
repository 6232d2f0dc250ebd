"""The audit's sentences: a heading for each kind of finding, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, GroupFinding, PatronFinding
from evergreen_groups.money import amount
from evergreen_groups.render import counted, describe_limit, describe_penalty, printable

if TYPE_CHECKING:
    from evergreen_groups.audit import Confidence, Evidence, Reason
    from evergreen_groups.groups import Member

TITLE = "Audit of blocks and groups"
NOTHING_FOUND = "Nothing found."
_MOST_NUMBERS = 20
_MOST_NAMES = 12

HEADINGS = {
    FindingKind.NOT_BLOCKED: "Over the limit, not blocked in the ILS",
    FindingKind.NOT_OVER: "Blocked for fines in the ILS, not over the limit",
    FindingKind.FOR_FAMILY: "Blocked by staff, probably for the family's fines",
    FindingKind.BY_STAFF: "Blocked by staff within the limit, for review",
    FindingKind.ACCIDENTAL: "Groups that look accidental",
    FindingKind.FOR_REVIEW: "Groups that look like families, for review",
    FindingKind.SEVERAL_ADULTS: "Groups with several adults",
    FindingKind.BORROWED_ADDRESS: "Addresses borrowed from outside the group",
}
WHAT_TO_DO = {
    FindingKind.NOT_BLOCKED: "Have the ILS recalculate their penalties: audit --fix.",
    FindingKind.NOT_OVER: (
        "Have the ILS recalculate their penalties: audit --fix. Where that changes nothing, the ILS's own threshold "
        "is lower than the limit, or blocks when it is reached."
    ),
    FindingKind.FOR_FAMILY: (
        "Nobody is to be blocked for the fines of others. Ask whoever set the block, and remove it in the staff client."
    ),
    FindingKind.BY_STAFF: "Look whether the block still has a reason.",
    FindingKind.ACCIDENTAL: (
        "The members see each other's fines. Take those out who don't belong, on the group's page or by "
        "evergreen-groups remove BARCODE; where all of them do: evergreen-groups audit --keep GROUP."
    ),
    FindingKind.FOR_REVIEW: (
        "What the members have in common outweighs what is odd about the group, so nothing speaks for an accident. Set "
        "right what is odd, on the group's page; where all is as it should be: evergreen-groups audit --keep GROUP."
    ),
    FindingKind.SEVERAL_ADULTS: (
        "Adults in a group see each other's affairs. Ask them whether they want that, and take out who doesn't."
    ),
    FindingKind.BORROWED_ADDRESS: (
        "A change of the address in one of the two records changes it in the other. Give the borrower an address of "
        "their own in the staff client."
    ),
}
MEANINGS = {
    FindingKind.NOT_BLOCKED: (
        "They owe more than they may themselves, and nothing in Evergreen stops them until it recalculates."
    ),
    FindingKind.NOT_OVER: "Evergreen blocks them for fines, and what they owe themselves is not over the limit.",
    FindingKind.FOR_FAMILY: (
        "Staff blocked them, they owe little themselves, and their group a lot. Nobody is to be blocked for the fines "
        "of others."
    ),
    FindingKind.BY_STAFF: "Staff blocked them, and fines don't explain it.",
    FindingKind.ACCIDENTAL: "Their members see each other's fines, and may not belong together.",
    FindingKind.FOR_REVIEW: (
        "What their members have in common outweighs what is odd about them, so nothing speaks for an accident."
    ),
    FindingKind.SEVERAL_ADULTS: "Adults in a group see each other's affairs.",
    FindingKind.BORROWED_ADDRESS: "A change of the address in one of the two records changes it in the other.",
}
"""What it means that there are findings of a kind, where that isn't in what to do about it."""

REASONS = {
    "over-limit": "Own fines are over the limit by {over_by:,.2f}, and the ILS has no block for fines.",
    "limit-reached": "Own fines are at the limit, and the ILS has no block for fines.",
    "exactly-at-limit": "Own fines are exactly at the limit: the ILS blocks there already.",
    "not-over-limit": "Own fines are not over the limit: the block is stale, or the ILS has a lower threshold.",
    "group-over-limit": "Own fines are within the limit, the group's are over it: probably blocked for the family's.",
    "group-within-limit": "Own fines and the group's are within the limit: blocked for another reason, perhaps.",
    "group-not-known": "Own fines are within the limit; what the group owes isn't known whole.",
    "no-lead": "It has no lead.",
    "lead-deleted": "Its lead is deleted.",
    "several-leads": "It has {count} leads.",
    "lead-expired": "The account of its lead {name} expired on {date:%Y-%m-%d}.",
    "stranger": "{name} shares no surname, address, phone, e-mail or home library with another adult.",
    "unusually-large": "It is unusually large: {count} members.",
    "several-adults": "It has {count} adults, more than {most}.",
    "borrowed-address": "Uses an address that belongs to the record of {owner}, {library}, group {group}.",
    "borrowed-address-of-hidden": "Uses an address that belongs to the record of a patron hidden from the account.",
}
EVIDENCE = {
    "no-lead": "no lead",
    "lead-deleted": "its lead is deleted",
    "several-leads": "{count} leads",
    "lead-expired": "its lead expired on {date:%Y-%m-%d}",
    "unusually-large": "{count} members",
    "institution": "an institution's card among them (profile {profile})",
    "strangers": "adults who share nothing with another adult: {count}",
    "nothing-shared": "no two members share a surname, address, phone or e-mail",
    "cloned": "made within a day by cloning, with nothing shared but the address that was cloned: {count}",
    "surname-shared": "each member shares a surname with another",
    "address-shared": "each member shares an address with another",
    "phone-or-email-shared": "each member shares a phone or an e-mail with another",
}
"""Each piece of evidence of a confidence, by its code."""


_SHORT_REASONS = {
    "over-limit": "over the limit by ${over_by:,.2f}",
    "limit-reached": "at the limit, which is over it here",
    "exactly-at-limit": "exactly at the limit",
    "not-over-limit": "not over the limit",
    "group-over-limit": "own fines within the limit, the group's over it",
    "group-within-limit": "own fines and the group's within the limit",
    "group-not-known": "own fines within the limit; the group's aren't known whole",
}
"""Reasons where the heading above them says the rest."""


def short_reason(reason: Reason) -> str:
    """A reason in a few words, below a heading of its kind."""
    return _SHORT_REASONS.get(reason.code, REASONS[reason.code]).format_map(reason.values)


def describe_reason(reason: Reason) -> str:
    """Put a reason into a sentence."""
    return REASONS[reason.code].format_map(reason.values)


def describe_evidence(piece: Evidence) -> str:
    """Put a piece of evidence into words, with its weight."""
    return f"{EVIDENCE[piece.code].format_map(piece.values)} {piece.weight:+}"


def describe_confidence(confidence: Confidence) -> str:
    """How sure it is that a group is accidental, and by which evidence."""
    pieces = "; ".join(map(describe_evidence, confidence.evidence))
    return f"Confidence {confidence.level}, {confidence.points} of 100: {pieces}."


def describe_split(finding: GroupFinding) -> str:
    """Who would stay together and who would be taken out, family by family; empty where no split is suggested."""
    if finding.split is None:
        return ""
    names = {member.id: member.name for member in finding.group.members}

    def listed(*families: tuple[int, ...]) -> str:
        count = sum(map(len, families))
        if count > _MOST_NAMES:
            return counted(count, "member")
        return " / ".join("; ".join(names[id] for id in family) for family in families)

    return f"Suggested split: stay: {listed(finding.split.stay)}. Out: {listed(*finding.split.leave)}."


def describe_groups_to_keep(audit: Audit) -> str:
    """Which groups aren't listed because somebody decided so; empty where there are none."""
    if not audit.to_keep:
        return ""
    numbers = ", ".join(map(str, audit.to_keep[:_MOST_NUMBERS]))
    more = f" and {len(audit.to_keep) - _MOST_NUMBERS:,} more" if len(audit.to_keep) > _MOST_NUMBERS else ""
    return (
        f"Not listed, for they are to be kept as they are: groups {numbers}{more}. List them again: audit --list-again."
    )


def explanation(finding: PatronFinding) -> str:
    """Why somebody was found, and which limit counted where there are several."""
    sentence = describe_reason(finding.reason)
    if not finding.limits_differ:
        return sentence
    return f"{sentence} {limit_that_counted(finding.member)}."


def limit_that_counted(member: Member) -> str:
    """The limit that counted for a member, where it comes from, and what of their fines it counts."""
    decision = member.decided
    limit = "none" if decision.limit.amount is None else f"{decision.limit.amount:,.2f}"
    counted = decision.own_balance
    counts = "" if counted == member.own_fines else f"; it counts {counted:,.2f}"
    return f"Limit {limit} ({decision.limit.origin}){counts}"


def looked_at(criteria: AuditCriteria) -> str:
    """Say whom the audit went over, and against which limit."""
    where = f" with home library {', '.join(map(printable, criteria.orgs))} or below" if criteria.orgs else ""
    limit = "as configured for each" if criteria.limit is None else describe_limit(criteria.limit)
    return f"Everyone{where} who owes something or has a penalty; the limit of own fines: {limit}"


def describe_patron_finding(finding: PatronFinding) -> str:
    """The finding's own amounts, reason and blocks, in a line."""
    words = [f"own fines {amount(finding.member.own_fines)}"]
    if finding.group_fines is not None:
        words.append(f"the group's {amount(finding.group_fines)}")
    blocks = "".join(f" {describe_penalty(block)}." for block in finding.blocks)
    return f"{', '.join(words)}. {explanation(finding)}{blocks}"


def describe_group_finding(finding: GroupFinding) -> str:
    """How many members a group has and why it is listed, in a line."""
    return f"{finding.group.member_count} members. {printable(' '.join(map(describe_reason, finding.reasons)))}"


def kinds_found(audit: Audit) -> list[FindingKind]:
    """The kinds of which there is a finding."""
    return [kind for kind in FindingKind if audit.count(kind)]
