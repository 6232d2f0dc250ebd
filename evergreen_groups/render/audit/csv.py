"""The audit as CSV (RFC 4180): a row for each person found, and one for each member in sight of each group found."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.money import plain_amount
from evergreen_groups.render import harmless
from evergreen_groups.render.audit.wording import block_words, explanation, reason_words

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.groups import Member

COLUMNS = (
    "kind",
    "group",
    "member_id",
    "member_barcode",
    "member_name",
    "member_library",
    "member_own_fines",
    "group_fines",
    "blocks",
    "reason",
)


def write_rows(audit: Audit, stream: TextIO) -> None:
    """Write the header and the rows, each ended by CR LF; no text in them can be calculated."""
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(audit))


def _rows(audit: Audit) -> Iterator[list[str]]:
    for person in audit.people:
        fines = "" if person.group_fines is None else plain_amount(person.group_fines)
        blocks = harmless("; ".join(map(block_words, person.blocks)))
        yield [
            person.kind.value,
            str(person.group),
            *_member(person.member),
            fines,
            blocks,
            harmless(explanation(person)),
        ]
    for found in audit.groups:
        group = found.group
        fines = "" if group.hidden_fines is None else plain_amount(group.combined_fines)
        for member in group.members:
            reasons = harmless(" ".join(map(reason_words, found.reasons)))
            yield [found.kind.value, str(group.group), *_member(member), fines, "", reasons]


def _member(member: Member) -> list[str]:
    texts = (member.barcode or "", member.name, member.library)
    return [str(member.id), *map(harmless, texts), plain_amount(member.own_fines)]
