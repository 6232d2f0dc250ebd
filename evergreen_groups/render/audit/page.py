"""The audit as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.audit import Audit, FindingKind
from evergreen_groups.money import amount
from evergreen_groups.render import (
    Markup,
    asset,
    beginning,
    counted,
    element,
    ending,
    local_time,
    notes_section,
    opening,
    printable,
)
from evergreen_groups.render.audit.wording import (
    HEADINGS,
    NOTHING_FOUND,
    TITLE,
    WHAT_TO_DO,
    block_words,
    kinds_found,
    looked_at,
)

if TYPE_CHECKING:
    from evergreen_groups.groups import Member

_PERSON_HEADINGS = ("Name", "Barcode", "Library", "Group", "Own fines", "Group's fines", "Why", "Blocks")
_GROUP_HEADINGS = ("Group", "Members", "Combined fines", "Why", "Who")


def write_page(audit: Audit, stream: TextIO) -> None:
    """Write the page: a section with a table for each kind of finding."""
    stream.write(beginning(TITLE, audit.generated_at, asset("page.css")))
    stream.write(_introduction(audit))
    stream.write("<main>\n")
    stream.write(notes_section(audit.notes))
    kinds = kinds_found(audit)
    if not kinds:
        stream.write(element("p", NOTHING_FOUND, class_="empty"))
    for kind in kinds:
        stream.writelines(_section(audit, kind))
    stream.write("</main>\n")
    stream.write(ending())


def _introduction(audit: Audit) -> Markup:
    moment = element("time", local_time(audit.generated_at), datetime=audit.generated_at.isoformat(timespec="seconds"))
    facts = (
        ("Looked at", looked_at(audit.criteria)),
        ("Time of the data", moment),
        ("Gateway", printable(audit.gateway)),
    )
    rows = [element("div", element("dt", term), element("dd", fact)) for term, fact in facts]
    rule = element("p", "A member is blocked only for own fines, never for those of the group.", class_="rule")
    return element("header", element("h1", TITLE), rule, element("dl", *rows, class_="facts"))


def _section(audit: Audit, kind: FindingKind) -> Iterator[Markup]:
    """One kind, row by row, so that a long one is never in memory as a whole."""
    yield opening("section", aria_labelledby=kind.value)
    yield element("h2", f"{HEADINGS[kind]}: {audit.count(kind):,}", id=kind.value)
    yield element("p", WHAT_TO_DO[kind])
    yield opening("table")
    headings = _GROUP_HEADINGS if kind is FindingKind.ACCIDENTAL else _PERSON_HEADINGS
    yield element("thead", element("tr", *[element("th", heading, scope="col") for heading in headings]))
    yield opening("tbody")
    yield from _groups(audit) if kind is FindingKind.ACCIDENTAL else _people(audit, kind)
    yield Markup("</tbody></table></section>\n")


def _people(audit: Audit, kind: FindingKind) -> Iterator[Markup]:
    for finding in audit.of_kind(kind):
        member = finding.member
        yield _row(
            _name(member),
            printable(member.barcode or ""),
            printable(member.library),
            str(member.patron.group),
            amount(member.own_fines),
            "" if finding.group_fines is None else amount(finding.group_fines),
            finding.reason,
            "; ".join(map(block_words, finding.blocks)),
        )


def _groups(audit: Audit) -> Iterator[Markup]:
    for finding in audit.groups:
        group = finding.group
        members = [element("li", _name(one), f", {printable(one.library)}") for one in group.members]
        if group.hidden_member_count:
            members.append(element("li", f"{counted(group.hidden_member_count, 'member')} out of sight"))
        yield _row(
            str(group.number),
            str(group.member_count),
            "" if group.hidden_fines is None else amount(group.combined_fines),
            _list([element("li", printable(reason)) for reason in finding.reasons]),
            _list(members),
        )


def _list(items: Sequence[Markup]) -> Markup:
    return element("ul", *items)


def _name(member: Member) -> Markup:
    return element("bdi", printable(member.name))


def _row(first: str, *others: str) -> Markup:
    return element("tr", element("th", first, scope="row"), *[element("td", cell) for cell in others], "\n")
