"""The audit in other languages: as a page, on the terminal and for one patron. Data for programs stays English."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from support.audit_samples import FINES, LIBRARIES, ROOT, member, penalty, sample_audit
from support.rendered import latin_words, texts_of_page

from evergreen_groups.audit import (
    Audit,
    AuditCriteria,
    BlockExplanation,
    CheckedBill,
    Confidence,
    Evidence,
    FindingKind,
    GroupFinding,
    PatronFinding,
    Reason,
)
from evergreen_groups.audit.explanation import PenaltyFate, ThresholdPlace
from evergreen_groups.groups import Group, Standing
from evergreen_groups.ils import Bill
from evergreen_groups.ils.bills import BillKind
from evergreen_groups.language import Language, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit, decide
from evergreen_groups.render import StaffClient
from evergreen_groups.render.audit import render_audit, write_block_explanation, write_block_explanation_json
from evergreen_groups.render.audit.wording import EVIDENCE, REASONS

NOW = datetime(2026, 11, 25, 3, 15, tzinfo=UTC)
MIRRORED = Language(PSEUDO, timezone=UTC)
CONFIGURATION = Message("configuration: {profile} at {library}", values={"profile": "Child", "library": "BR1"})
VALUES = {
    "over_by": Decimal("1229.50"),
    "age": 18,
    "count": 12,
    "most": 2,
    "name": "Okafor, Ada",
    "date": date(2023, 5, 1),
    "owner": "Petrov, Omar",
    "library": "BR2",
    "group": 4711,
    "profile": "School",
    "threshold": Decimal("7.50"),
    "penalty": "PATRON_EXCEEDS_FINES",
}
DATA = (
    *("Okafor", "Lindqvist", "Wojciechowska", "van der Meer", "Ní Bhraonáin", "Østergård", "Li", "Petrov, Omar"),
    *("Ada", "Bo", "Chidi", "Maria Guadalupe", "Jean-Baptiste", "Ümit", "School", "Child", "UTC"),
    *("PATRON_EXCEEDS_FINES", "STAFF_CHR", "VIEW_USER", "CONS", "https://ils.example.org", "BR1", "US"),
)
"""Names of patrons, profiles, penalties, permissions, libraries, the time zone and the program, which are data."""


def everything() -> Audit:
    """Return an audit with every reason and every piece of evidence, for an account that doesn't see all patrons."""
    audit = sample_audit()
    limit = Limit(Decimal("5.00"), Comparison.EXCEEDS, CONFIGURATION)
    owing = replace(member(1000, "12.00"), decision=decide(Decimal("7.00"), limit))
    patrons = tuple(
        PatronFinding(
            FindingKind.NOT_BLOCKED, owing, Reason(code, VALUES), (penalty(1, FINES, ROOT, 4),), limits_differ=True
        )
        for code in REASONS
    )
    group = Group(3, (member(1000, "12.00"), member(1001)), 2, Decimal("1.00"))
    confidence = Confidence.from_evidence(Evidence(code, VALUES) for code in EVIDENCE)
    found = GroupFinding(group, tuple(Reason(code, VALUES) for code in REASONS), confidence=confidence)
    return replace(
        audit,
        criteria=AuditCriteria(("BR1", "BR2"), None),
        patrons=audit.patrons + patrons,
        groups=(*audit.groups, found),
        notes=(Message("Incomplete: {permission}", values={"permission": "VIEW_USER"}),),
        complete=False,
        to_keep=tuple(range(12, 40)),
    )


def rendered(audit: Audit, format: str, language: Language) -> str:
    stream = io.StringIO()
    with use_language(language):
        render_audit(audit, format, stream, client=StaffClient(url="https://ils.example.org"))
    return stream.getvalue()


def test_every_text_of_the_page_is_in_the_catalogue() -> None:
    page = rendered(everything(), "html", MIRRORED)
    assert '<html lang="ar-XB" dir="rtl"' in page
    assert latin_words(texts_of_page(page), DATA) == []


def test_every_line_on_the_terminal_is_in_the_catalogue() -> None:
    listing = rendered(everything(), "table", MIRRORED)
    assert latin_words(listing, DATA) == []
    nothing = rendered(replace(everything(), patrons=(), groups=(), to_keep=()), "table", MIRRORED)
    assert latin_words(nothing, DATA) == []


def test_what_programs_read_is_the_same_in_every_language() -> None:
    for format in ("json", "csv"):
        assert rendered(everything(), format, MIRRORED) == rendered(everything(), format, Language())
    found = json.loads(rendered(everything(), "json", Language("fr-CA", "CAD")))
    reasons = {person["reason_code"]: person["reason"] for person in found["people"]}
    assert reasons["lead-expired"] == (
        "the account of lead Okafor, Ada expired on 2023-05-01; limit 5.00 (configuration: Child at BR1), with 7.00 "
        "counting toward it"
    )


def test_amounts_days_and_counts_are_those_of_the_language() -> None:
    page = rendered(everything(), "html", Language("fr-CA", "CAD", UTC))
    for text in ("1\xa0229,50\xa0$", "2 nov. 2026", "1er mai 2023", "25 nov. 2026"):
        assert text in page


def explanation(**changes: object) -> BlockExplanation:
    limit = Limit(Decimal("5.00"), Comparison.EXCEEDS, Message("configuration"))
    patron = replace(member(1000, "12.00"), decision=decide(Decimal("12.00"), limit))
    fines = (penalty(1, FINES, ROOT, None), penalty(2, FINES, LIBRARIES[1], 4), penalty(3, FINES, ROOT, None))
    bill = Bill(
        *(1, 1000, BillKind("circulation", "Overdue Materials"), Decimal("1234.50"), Decimal("1234.50")),
        *(Decimal("0.00"), datetime(2026, 5, 4, tzinfo=UTC), None, 11),
    )
    made = BlockExplanation(
        generated_at=NOW,
        gateway="https://ils.example.org",
        member=patron,
        profile="Child",
        penalty=FINES,
        penalty_is_custom=True,
        looked_at=(ThresholdPlace(LIBRARIES[0], "Child", None), ThresholdPlace(ROOT, "Child", Decimal("5.01"))),
        scope=LIBRARIES * 2,
        scope_is_everywhere=False,
        bills=(CheckedBill(bill, LIBRARIES[0], counts=True), CheckedBill(bill, None, counts=False)),
        counted=Decimal("1234.50"),
        any_open=True,
        standing=Standing(True, (fines[0],), (penalty(4, FINES, ROOT, None),)),
        penalties_for_fines=fines,
        fates=dict(zip((1, 2, 3), PenaltyFate, strict=True)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


NOT_SEEN = {"looked_at": None, "scope": (), "bills": None, "counted": None, "fates": {}}
NO_THRESHOLD = {"looked_at": (ThresholdPlace(ROOT, "Child", None),), "scope": (), "counted": None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "scope_is_everywhere": True,
            "penalty_is_custom": False,
            "counted": Decimal("1.00"),
            "penalties_for_fines": (),
        },
        {"any_open": False, "counted": None, "bills": (), "penalty": replace(FINES, blocks=())},
        NOT_SEEN,
        NO_THRESHOLD,
        {"member": member(29, "12.00")},
        {"member": replace(member(1000), decision=None)},
        {
            "member": replace(
                member(1000), decision=decide(Decimal("1.00"), Limit(None, origin=Message("configuration")))
            )
        },
    ],
)
def test_every_line_about_one_patron_is_in_the_catalogue(changes: dict[str, object]) -> None:
    stream = io.StringIO()
    with use_language(MIRRORED):
        write_block_explanation(explanation(**changes), stream, width=80)
    data = (*DATA, "circ.custom_penalty_override", "VIEW_GROUP_PENALTY_THRESHOLD", "VIEW_USER_TRANSACTIONS")
    data += FINES.blocks
    assert latin_words(stream.getvalue(), data) == []


def test_what_programs_read_about_one_patron_is_english() -> None:
    written = []
    for language in (MIRRORED, Language()):
        stream = io.StringIO()
        with use_language(language):
            write_block_explanation_json(explanation(), stream)
        written.append(stream.getvalue())
    assert written[0] == written[1]
