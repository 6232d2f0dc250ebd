"""The audit as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.changes import PlanOutcome, StepOutcome, StepState, StoredStep
from evergreen_groups.formats import output_format
from evergreen_groups.language import gettext, ngettext, number, time_with_zone
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.render.audit import wording
from evergreen_groups.render.plans import describe_reason
from evergreen_groups.render.text import capitalized
from evergreen_groups.render.wording import CONFIDENTIAL

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit, GroupFinding, PatronFinding
    from evergreen_groups.render import StaffClient


def write_listing(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the findings by kind, two lines for each. With a staff ``client``, groups have their page's address."""
    stream.writelines(f"{line}\n" for line in _lines(audit, client))


def _lines(audit: Audit, client: StaffClient | None) -> Iterator[str]:
    moment = time_with_zone(audit.generated_at)
    yield f"{gettext(wording.TITLE)}, {moment}, {printable(audit.gateway)}"
    yield wording.describe_scope(audit.criteria)
    yield from (
        gettext("{label}: {value}", label=gettext("Note"), value=printable(gettext(note))) for note in audit.notes
    )
    if to_keep := wording.describe_groups_to_keep(audit):
        yield to_keep
    kinds = wording.kinds_found(audit)
    if not kinds:
        yield gettext(wording.NOTHING_FOUND)
        return
    for kind in kinds:
        yield ""
        yield f"{gettext(wording.HEADINGS[kind])} ({number(audit.count(kind))})"
        yield f"  {gettext(wording.WHAT_TO_DO[kind])}"
        yield from (f"  {wording.describe_threshold_finding(finding)}" for finding in audit.thresholds_of_kind(kind))
        for group in audit.groups_of_kind(kind):
            yield from _group(group, client)
        for person in audit.of_kind(kind):
            yield f"  {person_heading(person)}"
            yield f"    {wording.describe_patron_finding(person)}"
        if more := wording.describe_unlisted(audit, kind):
            yield f"  {more}"
    yield ""
    yield gettext(CONFIDENTIAL)


def person_heading(finding: PatronFinding) -> str:
    """Return the patron's name, card, library and group in one line."""
    member = finding.member
    return gettext(
        "{name} ({card}), {library}, group {group}",
        name=printable(member.name),
        card=printable(member.barcode) if member.barcode else gettext("no card"),
        library=printable(member.library),
        group=member.patron.group,
    )


def _group(finding: GroupFinding, client: StaffClient | None) -> Iterator[str]:
    group = finding.group
    found = wording.describe_group_finding(finding)
    label = capitalized(gettext("group {group}", group=group.number))
    yield f"  {gettext('{label}: {value}', label=label, value=found)}"
    if finding.confidence is not None:
        yield f"    {printable(wording.describe_confidence(finding.confidence))}"
    members = [f"{printable(member.name)}, {printable(member.library)}" for member in group.members]
    if group.hidden_member_count:
        members.append(ngettext("{count} hidden member", "{count} hidden members", group.hidden_member_count))
    yield f"    {'; '.join(members)}"
    if split := wording.describe_split(finding):
        yield f"    {printable(split)}"
    if client is not None:
        yield f"    {wording.group_link(finding, client)}"


def write_recalculation_plan(findings: Sequence[PatronFinding], stream: TextIO) -> None:
    """Write whose penalties would be recalculated, and why."""
    heading = ngettext(
        "Refresh the penalties of {count} patron:", "Refresh the penalties of {count} patrons:", len(findings)
    )
    print(heading if findings else gettext("No penalties to refresh."), file=stream)
    for finding in findings:
        described = wording.describe_patron_finding(finding)
        text = gettext("{label}: {value}", label=wording.HEADINGS[finding.kind], value=described)
        print(f"  {person_heading(finding)}", f"    {text}", sep="\n", file=stream)


def write_recalculations(findings: Sequence[PatronFinding], outcome: PlanOutcome[StoredStep], stream: TextIO) -> None:
    """Write what changed for each finding's patron, or why nothing did."""
    resolved = sum(step.resolved for step in outcome.steps)
    print(gettext("Findings resolved: {resolved:,} of {all:,}.", resolved=resolved, all=len(findings)), file=stream)
    for finding, step in zip(findings, outcome.steps, strict=True):
        text = gettext("{label}: {value}", label=person_heading(finding), value=_describe_recalculation(step))
        print(f"  {text}", file=stream)


_STATES = {
    StepState.NOT_DONE: Message("not done"),
    StepState.FAILED: Message("failed"),
    StepState.SENDING: Message("not known yet"),
}


def _describe_recalculation(step: StepOutcome[StoredStep]) -> str:
    reason = describe_reason(step.reason)
    state = _STATES.get(step.state)
    return gettext("{label}: {value}", label=state, value=reason) if state else reason


def render_audit(audit: Audit, format: str, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write ``audit`` to ``stream`` in ``format``, one of ``AUDIT_FORMATS``; ``client`` is the staff client to link to.

    Open a stream for CSV with ``newline=""``.

    Raises:
        ValueError: the format is unknown, or audits can't be written in it.
    """
    resolve_name(output_format(format).audit or "")(audit, stream, client=client)
