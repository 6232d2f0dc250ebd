"""The audit's texts: headings, explanations and advice for each kind of finding.

A :class:`Message` serves programs in English as it is, and people through ``gettext``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, GroupFinding, PatronFinding, ThresholdFinding
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
_LEAVE, _LEAVE_TOGETHER = Message("Leave: {leaving}."), Message("Leave together: {leaving}.")
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
    FindingKind.CAME_OF_AGE: Message("Families that changed: adults still marked as juveniles"),
    FindingKind.BORROWED_ADDRESS: Message("Members who use the address of a patron outside the group"),
}
_RECALCULATE = Message("Have Evergreen recalculate their penalties: audit --fix.")
_THRESHOLD = Message(
    "Recalculating changes nothing here. Change the threshold in Evergreen (Group Penalty Thresholds) or the limit in "
    "[policy]: evergreen-groups doctor shows what to set."
)
WHAT_TO_DO = {
    FindingKind.NOT_BLOCKED: _RECALCULATE,
    FindingKind.THRESHOLD_HIGHER: _THRESHOLD,
    FindingKind.NOT_OVER: _RECALCULATE,
    FindingKind.THRESHOLD_LOWER: _THRESHOLD,
    FindingKind.LEFT_ALONE: Message("Remove the block in the staff client."),
    FindingKind.FOR_FAMILY: Message("Ask who set the block, and remove it in the staff client."),
    FindingKind.BY_STAFF: Message("Check whether the block is still needed."),
    FindingKind.ACCIDENTAL: Message(
        "Remove members who don't belong: evergreen-groups remove BARCODE. If the group is right as it is: "
        "evergreen-groups audit --keep GROUP."
    ),
    FindingKind.FOR_REVIEW: Message(
        "Correct the records, most often the lead. If the group is right as it is: evergreen-groups audit --keep GROUP."
    ),
    FindingKind.SEVERAL_ADULTS: Message(
        "Ask the adults whether they want to share a group, and remove those who don't."
    ),
    FindingKind.CAME_OF_AGE: Message("Ask them, and remove them from the group: evergreen-groups remove BARCODE."),
    FindingKind.BORROWED_ADDRESS: Message("Give the borrower a separate address in the staff client."),
}
_BLOCKED_WITHIN_LIMIT = Message("Evergreen blocks them for fines, but their own fines don't exceed the limit.")
MEANINGS = {
    FindingKind.NOT_BLOCKED: Message("Own fines exceed the limit, but Evergreen hasn't blocked the patron yet."),
    FindingKind.NOT_OVER: _BLOCKED_WITHIN_LIMIT,
    FindingKind.LEFT_ALONE: _BLOCKED_WITHIN_LIMIT,
    FindingKind.FOR_FAMILY: Message(
        "Staff blocked them for fines. They owe little themselves, but their group owes a lot. Only a patron's own "
        "fines should lead to a block."
    ),
    FindingKind.BY_STAFF: Message("Staff blocked them, and fines don't explain it."),
    FindingKind.ACCIDENTAL: Message("Members may not belong together, but can learn of each other's fines."),
    FindingKind.FOR_REVIEW: Message("Something about these groups is odd, but the members probably belong together."),
    FindingKind.SEVERAL_ADULTS: Message("Adults in a group can learn of each other's fines."),
    FindingKind.CAME_OF_AGE: Message("Their parents can still learn of their fines and items."),
    FindingKind.BORROWED_ADDRESS: Message("Changing the address in one record changes it in the other."),
}
"""What a kind of finding means; kinds without an entry use their text in ``WHAT_TO_DO``."""

REASONS = {
    "over-limit": Message("over the limit by {over_by}"),
    "limit-reached": Message("at the limit, which counts as over it"),
    "exactly-at-limit": Message("exactly at the limit"),
    "not-over-limit": Message("not over the limit"),
    "counts-fewer-bills": Message(
        "Evergreen blocks at {threshold} ({profile} at {library}), but counts only bills at, above and below {library}"
    ),
    "no-threshold": Message("Evergreen has no threshold for {penalty}"),
    "penalty-blocks-nothing": Message("Evergreen sets {penalty}, which blocks nothing"),
    **dict.fromkeys(
        ("threshold-higher", "threshold-lower", "threshold-at-limit"),
        Message("Evergreen blocks at {threshold} ({profile} at {library})"),
    ),
    "block-elsewhere": Message("the block isn't at the org unit of Evergreen's threshold"),
    "block-without-threshold": Message("Evergreen has no threshold for this profile and library"),
    "block-not-for-fines": Message("own fines are within the limit; staff set a block that isn't for fines"),
    "group-over-limit": Message("own fines are within the limit, but the group's exceed it"),
    "group-within-limit": Message("own fines and the group's are within the limit"),
    "group-not-known": Message("own fines are within the limit; the group's aren't fully known"),
    "no-lead": Message("no lead"),
    "lead-deleted": Message("the lead is deleted"),
    "several-leads": Message("{count} lead", plural="{count} leads"),
    "lead-expired": Message("the account of lead {name} expired on {date}"),
    "stranger": Message("{name} shares no surname, address, phone, e-mail or home library with another adult"),
    "unusually-large": Message("unusually large: {count} member", plural="unusually large: {count} members"),
    "several-adults": Message("{count} adult, more than {most}", plural="{count} adults, more than {most}"),
    "came-of-age": Message("marked as a juvenile, age {age}"),
    "came-of-age-obscured": Message("marked as a juvenile, an adult by date of birth"),
    "borrowed-address": Message("uses an address of {owner}, {library}, group {group}"),
    "borrowed-address-of-hidden": Message("uses an address of a patron hidden from this account"),
}
"""Reasons by their code, without a final period."""
EVIDENCE = {
    **{code: REASONS[code] for code in ("no-lead", "lead-deleted", "several-leads", "lead-expired", "unusually-large")},
    "institution": Message("a member with an institution's card (profile {profile})"),
    "strangers": Message(
        "{count} adult shares nothing with another adult", plural="{count} adults share nothing with another adult"
    ),
    "nothing-shared": Message("no two members share a surname, address, phone or e-mail"),
    "cloned": Message(
        "{count} member cloned from another, sharing only the address",
        plural="{count} members cloned from another, sharing only the address",
    ),
    "surname-shared": Message("each member shares a surname with another"),
    "address-shared": Message("each member shares an address with another"),
    "phone-or-email-shared": Message("each member shares a phone or e-mail with another"),
}
"""Evidence of a confidence, by its code."""
LEVELS = {
    "high": Message("high", context="confidence"),
    "medium": Message("medium", context="confidence"),
    "low": Message("low", context="confidence"),
}


def describe_reason(reason: Reason) -> Message:
    return _with_values(REASONS[reason.code], reason)


def describe_evidence(piece: Evidence) -> Message:
    """Describe a piece of evidence, without its weight."""
    return _with_values(EVIDENCE[piece.code], piece)


def _with_values(words: Message, reason: Reason) -> Message:
    if "at_least" not in reason.values:
        return words.with_values(reason.values)
    # Hidden members may raise the count.
    total = words.with_values({**reason.values, "count": reason.values["at_least"]})
    return Message("at least {total}", values={"total": total})


def with_weight(piece: Evidence) -> str:
    return f"{gettext(describe_evidence(piece))} ({piece.weight:+})"


def describe_confidence(confidence: Confidence) -> str:
    """Describe how certain it is that a group is accidental, with the evidence."""
    return gettext(
        "Confidence that the group is accidental: {level} ({points} of 100). Evidence: {evidence}.",
        level=LEVELS[confidence.level],
        points=confidence.points,
        evidence="; ".join(map(with_weight, confidence.evidence)),
    )


def describe_split(finding: GroupFinding) -> str:
    """Name who would stay, and each family that would leave. Empty without a suggested split."""
    if finding.split is None:
        return ""
    names = {member.id: member.name for member in finding.group.members}

    def listed(family: tuple[int, ...]) -> str:
        if len(family) > _MOST_NAMES:
            return ngettext("{count} member", "{count} members", len(family))
        return "; ".join(names[id] for id in family)

    texts = [gettext("Suggested split. Stay: {staying}.", staying=listed(finding.split.stay))]
    if len(finding.split.leaving) > _MOST_NAMES:
        return f"{texts[0]} {gettext(_LEAVE, leaving=listed(finding.split.leaving))}"
    for family in finding.split.leave:
        texts.append(gettext(_LEAVE if len(family) == 1 else _LEAVE_TOGETHER, leaving=listed(family)))
    return " ".join(texts)


def describe_groups_to_keep(audit: Audit) -> str:
    """Name the groups that staff have marked to be kept, which aren't listed. Empty if there are none."""
    if not audit.to_keep:
        return ""
    numbers = [str(number) for number in audit.to_keep[:_MOST_NUMBERS]]
    if (more := len(audit.to_keep) - _MOST_NUMBERS) > 0:
        numbers.append(ngettext("{count} more", "{count} more", more))
    return gettext(
        "Marked to be kept, so not listed: {groups}. To list them again: audit --list-again.",
        groups=enumeration(numbers),
    )


def explanation(finding: PatronFinding) -> str:
    """Explain a finding in English, for programs, with the limit that was applied if patrons have different ones."""
    reason = str(describe_reason(finding.reason))
    return f"{reason}; {applied_limit(finding.member)}" if finding.limits_differ else reason


def applied_limit(member: Member) -> Message:
    """Return the limit applied to a member, its origin and, where they differ, the fines that count toward it."""
    decision = member.decided
    none = Message("none", context="limit")
    values = {
        "limit": none if decision.limit.amount is None else decision.limit.amount,
        "origin": decision.limit.origin,
        "counted": decision.counted_fines,
    }
    if decision.counted_fines == member.own_fines:
        return Message("limit {limit} ({origin})", values=values)
    return Message("limit {limit} ({origin}), with {counted} counting toward it", values=values)


def describe_scope(criteria: AuditCriteria) -> str:
    """Describe which patrons the audit covers, and which limit it applies."""
    limit = gettext("as configured for each patron") if criteria.limit is None else describe_limit(criteria.limit)
    libraries = enumeration(map(printable, criteria.orgs), "or") if criteria.orgs else gettext("all libraries")
    return gettext(
        "Patrons of {libraries} who owe something or have a penalty. Over the limit: {limit}",
        libraries=libraries,
        limit=limit,
    )


def describe_patron_finding(finding: PatronFinding) -> str:
    """Describe a patron's finding in one line: amounts, reason and blocks."""
    own, together = finding.member.own_fines, finding.group_fines
    amounts = gettext("own fines {own}", own=own)
    if together is not None:
        amounts = gettext("own fines {own}, the group's {together}", own=own, together=together)
    reasons = [describe_reason(finding.reason), *([applied_limit(finding.member)] if finding.limits_differ else [])]
    return "; ".join((amounts, *(printable(gettext(one)) for one in reasons), *map(describe_penalty, finding.blocks)))


def describe_group_finding(finding: GroupFinding) -> str:
    """Describe a group's finding in one line: the number of members and the reasons."""
    reasons = (printable(gettext(describe_reason(reason))) for reason in finding.reasons)
    return "; ".join((ngettext("{count} member", "{count} members", finding.group.member_count), *reasons))


def describe_threshold_finding(finding: ThresholdFinding) -> str:
    """Describe a threshold's finding in one line: patrons affected, what Evergreen does, and the limit."""
    return ngettext(
        "{count} patron: {reason}; limit: {limit}",
        "{count} patrons: {reason}; limit: {limit}",
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
        "{count} more; list all with --output audit.csv or --top 0.",
        "{count} more; list all with --output audit.csv or --top 0.",
        count,
    )


def kinds_found(audit: Audit) -> list[FindingKind]:
    return [kind for kind in FindingKind if audit.count(kind)]


_EXPLAIN = "evergreen-groups audit --explain {barcode}"
_REMOVE = "evergreen-groups remove {barcode}"
_DOCTOR = "evergreen-groups doctor"


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation, and the command to run or the page to open, which are empty for work in the staff client."""

    text: str
    command: str = ""
    page: str = ""


_ADVICE = {
    **dict.fromkeys(("over-limit", "limit-reached"), (Message("Open the patron and select Refresh Penalties."), "")),
    "not-over-limit": (
        Message(
            "Open the patron and select Refresh Penalties. If they stay blocked, an administrator can find out why."
        ),
        _EXPLAIN,
    ),
    **dict.fromkeys(
        (
            *("exactly-at-limit", "threshold-higher", "counts-fewer-bills", "no-threshold", "penalty-blocks-nothing"),
            *("threshold-lower", "threshold-at-limit"),
        ),
        (Message("Change the threshold or the limit. To see what to set:"), _DOCTOR),
    ),
    **dict.fromkeys(("no-lead", "lead-deleted"), (Message("Make a member the lead on the group's page."), "")),
    "several-leads": (Message("Keep only one lead, on the group's page."), ""),
    "lead-expired": (Message("Renew the lead's account, or make another member the lead."), ""),
    "stranger": (Message("Remove {name} if they don't belong."), _REMOVE),
    "unusually-large": (Message("Remove members who don't belong."), ""),
    **dict.fromkeys(("came-of-age", "came-of-age-obscured"), (Message("Remove from the group"), _REMOVE)),
}
"""Advice by the reason's code. Texts take the reason's values, commands a barcode."""


def advice_for(kind: FindingKind, reason: Reason, barcode: str | None) -> Advice:
    """Return the advice for this reason, or else for the ``kind`` of finding; ``barcode`` is the patron's."""
    text, command = _ADVICE.get(reason.code) or (WHAT_TO_DO[kind], "")
    if barcode is None and "{barcode}" in command:
        command = ""
    return Advice(gettext(text, **reason.values), command.format(barcode=barcode))


MOST_SELECTED = 100
"""The highest number of members that the link to a group's page preselects."""


def group_link(finding: GroupFinding, client: StaffClient) -> str:
    """Return the address of a group's page, with the members preselected who would leave in the suggested split."""
    split = finding.split
    patron = split.stay[0] if split else finding.group.lead.id
    # An address has limited room. Beyond the maximum, staff select the members on the page.
    chosen = split.leaving if split and len(split.leaving) <= MOST_SELECTED else ()
    return client.group_page(patron, select=chosen)
