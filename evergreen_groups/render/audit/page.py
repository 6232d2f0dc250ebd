"""The audit as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.render import describe_penalty, write_template
from evergreen_groups.render.audit.wording import (
    HEADINGS,
    NOTHING_FOUND,
    TITLE,
    WHAT_TO_DO,
    describe_confidence,
    describe_reason,
    describe_split,
    explanation,
    group_page,
    kinds_found,
    looked_at,
)

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit


def write_page(audit: Audit, stream: TextIO) -> None:
    """Write the page: a section with a table for each kind of finding."""
    write_template(
        "audit.html",
        stream,
        title=TITLE,
        audit=audit,
        kinds=kinds_found(audit),
        headings=HEADINGS,
        what_to_do=WHAT_TO_DO,
        audit_nothing_found=NOTHING_FOUND,
        looked_at=looked_at,
        describe_penalty=describe_penalty,
        explanation=explanation,
        describe_reason=describe_reason,
        describe_confidence=describe_confidence,
        describe_split=describe_split,
        group_page=group_page,
    )
