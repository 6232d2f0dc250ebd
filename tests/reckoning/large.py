"""Report, audit and explanations for one large dataset, compared with a second computation."""

from __future__ import annotations

import io
import json
from importlib import resources
from pathlib import Path
from random import Random

from reckoning.auditing import audit, explanation
from reckoning.library import Content, Library
from reckoning.product import differences
from reckoning.reckoning import report

from evergreen_groups.audit import AuditCriteria, BlockExplainer, build_audit
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import AdultRule
from evergreen_groups.nightly import choice_of
from evergreen_groups.render.audit import render_audit, write_block_explanation_json
from evergreen_groups.render.report import render
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings, ReportSettings

CLASSES = ("aou", "aout", "pgt", "csp", "pgpt", "aous", "au", "ac", "aua", "mb", "maa", "mbts", "mg", "circ", "ausp")


def content_of(sandbox: Sandbox, account: str, dataset: Path | None) -> Content:
    """Return a sandbox's current data, with this account's questions: groups that owe 25.00, and every finding of the
    audit.

    ``dataset`` has the permissions, by default those of the built-in families.
    """
    built_in = resources.files("evergreen_groups.sandbox.data").joinpath("families.json")
    permissions = json.loads((dataset or built_in).read_text(encoding="utf-8"))
    return {
        **{class_id: sandbox._store.rows(class_id) for class_id in CLASSES},
        **{name: permissions.get(name, {}) for name in ("staff_permissions", "group_permissions")},
        "_question": {
            "account": account,
            "policy": {"limit": "5.00", "comparison": "exceeds", "limits": []},
            "report": {"min_total": "25.00", "min_members": 2, "orgs": [], "top": None, "sort": "total"},
            "audit": {"orgs": [], "max_adults": 2, "adults_from_age": 18, "institutions": []},
        },
    }


def report_differences(gateway: Gateway, content: Content) -> tuple[list[str], int]:
    """Return the differences between the product's report and the computed one, and the number of groups."""
    choice = content["_question"]["report"]["choice"]
    settings = ReportSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in choice.items()})
    stream = io.StringIO()
    render(build_report(gateway, Criteria(choice=choice_of(settings))), "json", stream)
    said, expected = json.loads(stream.getvalue()), report(Library(content))
    if expected is None:
        return ["nothing to reckon"], 0
    expected.pop("_notes")
    return list(differences(said, expected)), len(expected["groups"])


def audit_differences(gateway: Gateway, content: Content) -> tuple[list[str], dict[str, int]]:
    """Return the differences between the audits, and the number of findings by kind."""
    asked = content["_question"]["audit"]
    criteria = AuditCriteria(
        adults=AdultRule(asked["adults_from_age"], asked["max_adults"]),
        institution_profiles=tuple(asked["institutions"]),
    )
    stream = io.StringIO()
    render_audit(build_audit(gateway, criteria), "json", stream)
    said, expected = json.loads(stream.getvalue()), audit(Library(content))
    if expected is None:
        return ["nothing to reckon"], {}
    for one in said["groups"]:
        one["reasons"].sort()
    said["counts"] = {kind["kind"]: kind["count"] for kind in said["kinds"]}
    return list(differences(said, expected)), expected["counts"]


def explanation_differences(gateway: Gateway, content: Content, patrons: int) -> tuple[list[str], int]:
    """Return the differences between the explanations of so many patrons, half of them with a penalty.

    And their number.
    """
    library, chance = Library(content), Random(patrons)
    everybody = [patron["id"] for patron in library.patrons.values()]
    blocked = [id for id in everybody if library.in_force(id)]
    wanted = {id for ids in (everybody, blocked) for id in chance.sample(ids, min(len(ids), patrons // 2))}
    explainer = BlockExplainer(gateway, PolicySettings())
    found = []
    for patron in sorted(wanted):
        stream = io.StringIO()
        write_block_explanation_json(explainer.of_user(patron), stream)
        unlike = differences(json.loads(stream.getvalue()), explanation(library, patron))
        found += [f"{patron}: {text}" for text in unlike]
    return found, len(wanted)
