"""Report, audit and explanations for one large dataset, compared with a second computation."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from random import Random

from reckoning.auditing import audit, explanation
from reckoning.library import Content, Library, Row
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
FIRST_OF_POPULATION = 100_001
INSTITUTION = "Institution"


def content_of(sandbox: Sandbox, account: str, dataset: Path | None) -> Content:
    """Return a sandbox's current data, with this account's questions: groups that owe 25.00, and every finding of the
    audit.

    ``dataset`` has the permissions, by default those of the built-in families.
    """
    built_in = resources.files("evergreen_groups.sandbox.data").joinpath("families.json")
    permissions = json.loads((dataset or built_in).read_text(encoding="utf-8"))
    names = {row["name"] for row in sandbox._store.rows("pgt")}
    return {
        **{class_id: sandbox._store.rows(class_id) for class_id in CLASSES},
        **{name: permissions.get(name, {}) for name in ("staff_permissions", "group_permissions")},
        "_question": {
            "account": account,
            "policy": {"limit": "5.00", "comparison": "exceeds", "limits": []},
            "report": {"min_total": "25.00", "min_members": 2, "orgs": [], "top": None, "sort": "total"},
            "audit": {
                "orgs": [],
                "max_adults": 2,
                "adults_from_age": 18,
                "institutions": sorted({INSTITUTION} & names),
            },
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
    return [text for id in sorted(wanted) for text in _of_one(explainer, library, id)], len(wanted)


def _of_one(explainer: BlockExplainer, library: Library, patron: int) -> Iterator[str]:
    stream = io.StringIO()
    write_block_explanation_json(explainer.of_user(patron), stream)
    found = differences(json.loads(stream.getvalue()), explanation(library, patron))
    yield from (f"{patron}: {text}" for text in found)


def add_contacts(sandbox: Sandbox) -> None:
    """Give the people of a large population birth dates, addresses, phones and e-mail, always the same.

    Most families live at the lead's address. Some use the lead's row, some have a row with the same street spelled
    differently, and a few use another group's row. One group in fifty is accidental: strangers whose records are
    clones. Some leads expired long ago, some groups have two leads, and a few are institutions or large.
    """
    people = [row for row in sandbox._store.rows("au") if row["id"] >= FIRST_OF_POPULATION]
    profile = next((row["id"] for row in sandbox._store.rows("pgt") if row["name"] == INSTITUTION), None)
    chance = Random(len(people))
    groups: dict[int, list[Row]] = {}
    for person in people:
        groups.setdefault(person["usrgroup"], []).append(person)
    settled: list[Row] = []
    for members in groups.values():
        family = list(_family(chance, members))
        if chance.random() < 0.02:
            _make_strangers(chance, family, people)
        if profile is not None and chance.random() < 0.001:
            family = [{**member, "profile": profile} for member in family]
        settled += family
    if not settled:  # a dataset that isn't changed
        return
    _join(chance, settled)
    lent = [one["mailing_address"] for one in settled if one["mailing_address"]]
    for one in settled:
        if chance.random() < 0.003:
            one["billing_address"] = chance.choice(lent)
    _write(sandbox, settled)


def _family(chance: Random, members: list[Row]) -> Iterator[Row]:
    """Return the data of a group's members; ``street`` is in an address row with the patron's id."""
    year, lead = datetime.now(UTC).year, members[0]["id"]
    street, phone = f"{chance.randint(1, 999)} {chance.choice(_STREETS)}", f"555-{chance.randint(0, 9_999_999):07}"
    for place, member in enumerate(members):
        child = (member["juvenile"] == "t") is (chance.random() < 0.97)
        born = chance.randint(year - 18, year - 1) if child else chance.randint(year - 90, year - 19)
        own = place == 0 or chance.random() < 0.2
        uses = member["id"] if own else lead if chance.random() < 0.8 else None
        is_lead = member["master_account"] == "t" or chance.random() < 0.003
        # No birthday is close to today, except for those who turn 18 on the last day of this year.
        birth_date = f"{born}-12-31" if born == year - 18 else f"{born}-06-15"
        yield {
            "id": member["id"],
            "usrgroup": member["usrgroup"],
            "family_name": member["family_name"],
            "home_ou": member["home_ou"],
            "master_account": int(is_lead),
            "create_date": member["create_date"],
            "expire_date": "2015-01-01T00:00:00+0000" if chance.random() < 0.005 else member["expire_date"],
            "dob": birth_date if chance.random() < 0.9 else None,
            "street": None if not own else street if chance.random() < 0.9 else f" {street.upper()}",
            "mailing_address": uses,
            "billing_address": uses if chance.random() < 0.8 else None,
            "day_phone": phone if chance.random() < 0.4 else None,
            "evening_phone": f"({member['id']}) 010" if chance.random() < 0.2 else None,
            "email": f"Family{lead}@Example.org" if chance.random() < 0.2 else None,
            "profile": member["profile"],
        }


def _make_strangers(chance: Random, family: list[Row], people: list[Row]) -> None:
    """Turn the members after the first into strangers, whose records are clones of the first one's."""
    for member in family[1:]:
        other = chance.choice(people)
        member.update(
            {"family_name": other["family_name"], "home_ou": other["home_ou"], "day_phone": None, "email": None}
        )
        if chance.random() < 0.5:
            member["create_date"] = family[0]["create_date"]
        if chance.random() < 0.5:
            member.update({"mailing_address": None, "billing_address": None, "street": None})


def _join(chance: Random, settled: list[Row]) -> None:
    """Make a few large groups of patrons with neighboring ids."""
    for _ in range(len(settled) // 20_000):
        first = chance.randrange(len(settled))
        for member in settled[first : first + chance.randint(9, 40)]:
            member["usrgroup"] = settled[first]["usrgroup"]


_STREETS = ("Ferry Lane", "Orchard Hill", "Weir Street", "Lantern Row", "Canal Street", "Old Mill")


def _write(sandbox: Sandbox, settled: list[Row]) -> None:
    streets = [(one["id"], one["id"], one["street"]) for one in settled if one["street"]]
    with sandbox._store.transaction() as connection:
        # They replace those of the population, which are less varied.
        connection.execute("DELETE FROM aua WHERE usr >= ?", [FIRST_OF_POPULATION])
        connection.executemany(
            "INSERT INTO aua (id, usr, street1, post_code, city, country, valid, within_city_limits, pending) "
            "VALUES (?, ?, ?, '55555', 'Lakeland', 'USA', 1, 1, 0)",
            streets,
        )
        names = ", ".join(f"{name} = :{name}" for name in settled[0] if name not in ("id", "street"))
        connection.executemany(f"UPDATE au SET {names} WHERE id = :id", settled)
