"""The product, asked over HTTP like its users do, and the comparison of its documents with the computed ones."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import lxml.html
from hypothesis import HealthCheck, Phase, settings
from reckoning.auditing import audit, explanation, in_order
from reckoning.changes import changes
from reckoning.contacts import parts, with_contact_data
from reckoning.desk import check, decision, details, summary
from reckoning.late_items import late_report, with_late_items
from reckoning.library import Content, Library
from reckoning.mailing import letters, mailable, mailable_by_items, statement
from reckoning.populations import PASSWORD, earlier
from reckoning.reckoning import Document, may_refuse, report
from reckoning.two_nights import change_in_fines
from support.states import state_in

from evergreen_groups import hooks
from evergreen_groups.audit import AuditCriteria
from evergreen_groups.client import Client
from evergreen_groups.desk import make_statement
from evergreen_groups.errors import DataError, EvergreenGroupsError, NotFoundError, PermissionDeniedError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import AdultRule
from evergreen_groups.ils import OrgUnits
from evergreen_groups.letters import (
    FamilyLetter,
    LetterChoice,
    Letters,
    NoLetter,
    Selection,
    read_debtors,
    read_letters,
)
from evergreen_groups.nightly import Readers, choice_of, library_file_names
from evergreen_groups.nightly.output import publish
from evergreen_groups.render.audit import render_audit, write_block_explanation_json
from evergreen_groups.render.desk import statement_page
from evergreen_groups.render.group import write_check_json
from evergreen_groups.render.letters import letters_document, write_letters
from evergreen_groups.render.report import render
from evergreen_groups.report import Criteria, History, Report, look_up_cleared
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import StatementSettings
from evergreen_groups.settings import reading as load
from evergreen_groups.settings.sections import LanguageSettings, LetterSettings
from evergreen_groups.state import State
from evergreen_groups.values import ZERO, plain_amount

CLASSES = ("aou", "aout", "pgt", "csp", "pgpt", "aous", "au", "ac", "aua", "mb", "maa", "mbts", "mg", "circ", "ausp")

REFUSALS = (PermissionDeniedError, NotFoundError, DataError)
"""Errors that may be right; any other error is a difference, whatever the account may see."""


@dataclass
class Product:
    """A sandbox that loads one population after another, and the product that reads it.

    ``directory`` is for the configuration and the history.
    """

    sandbox: Sandbox
    gateway: Gateway
    directory: Path
    runs: int = 0
    # Not in the repr, which hypothesis shows: a population takes 45 kB.
    _loaded: Content | None = field(default=None, repr=False)
    _client: Client | None = field(default=None, repr=False)
    _made: Report | None = field(default=None, repr=False)

    def differences(self, content: Content, job: str) -> list[str]:
        """Return where the product's document for one of ``JOBS`` differs from the computed one, and how."""
        return list(_JOBS[job](self, content))

    def client(self, content: Content) -> Client:
        """Return a client for a sandbox with this dataset, logged in as the account that asks."""
        if self._client is None or self._loaded is not content:
            self.sandbox.load(content)
            account = {"username": content["_question"]["account"], "password": PASSWORD, "type": "staff"}
            token = self.gateway.call("open-ils.auth", "open-ils.auth.login", account).value["payload"]["authtoken"]
            self.use(content, self.gateway.acting_as(token))
        assert self._client is not None
        return self._client

    def use(self, content: Content, gateway: Gateway) -> None:
        """Ask about a dataset that the sandbox has already, over a gateway of the account that asks."""
        path = self.directory / "config.toml"
        path.write_text(configuration(content))
        policy, state = load.load(path, {}).policy, state_in(self.directory)
        self._client = Client(gateway, account=content["_question"]["account"], policy=policy, state=state)
        self._loaded, self._made = content, None

    def report(self, content: Content) -> Report:
        """Return the report for this dataset, cached until another dataset is loaded."""
        client = self.client(content)
        if self._made is None:
            self._made = client.report(_criteria(client, content))
        return self._made


def over_random_consortia(count: int) -> settings:
    """Return hypothesis's settings for a test of so many seeds, the same each time."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # a seed can't be shrunk; the bench shrinks the population itself
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextmanager
def product(directory: Path, release: str | None = None) -> Iterator[Product]:
    """Yield the product with a new sandbox that imitates a release, by default the latest."""
    with Sandbox(release=release) as sandbox, Gateway(sandbox.url, token="nobody's") as gateway:
        yield Product(sandbox, gateway, directory)


def content_of(sandbox: Sandbox, account: str, dataset: Path | None = None, *, patrons: int = 400) -> Content:
    """Return a sandbox's own data, with questions: groups that owe 25.00, every finding of the audit, and some patrons.

    Half of the patrons have a penalty. ``dataset`` has the permissions, by default those of the built-in families.
    """
    built_in = resources.files("evergreen_groups.sandbox.data").joinpath("families.json")
    permissions = json.loads((dataset or built_in).read_text(encoding="utf-8"))
    content = {
        **{class_id: sandbox._store.rows(class_id) for class_id in CLASSES},
        **{name: permissions.get(name, {}) for name in ("staff_permissions", "group_permissions")},
        "_question": {
            "account": account,
            "policy": {"limit": "5.00", "comparison": "exceeds", "limits": []},
            "report": {"min_total": "25.00", "min_members": 2, "orgs": [], "top": None, "sort": "total"},
            "audit": {"orgs": [], "max_adults": 2, "adults_from_age": 18, "institutions": []},
        },
    }
    library, chance = Library(content), Random(patrons)
    blocked = [id for id in library.patrons if library.in_force(id)]
    asked = {id for ids in (list(library.patrons), blocked) for id in chance.sample(ids, min(len(ids), patrons // 2))}
    content["_question"]["check"] = sorted(asked)
    return content


def configuration(content: Content) -> str:
    def amount(limit: str) -> str:
        return limit if limit[0].isdigit() else json.dumps(limit)

    policy, criteria = content["_question"]["policy"], content["_question"]["report"]
    lines = ["[policy]", f"limit = {amount(policy['limit'])}", f'comparison = "{policy["comparison"]}"']
    for rule in policy["limits"]:
        lines.append("[[policy.limits]]")
        lines += [f"{key} = {amount(value) if key == 'limit' else json.dumps(value)}" for key, value in rule.items()]
    lines += ["[report]", f"min_total = {criteria['min_total']}", f"min_members = {criteria['min_members']}"]
    lines += [f"{key} = {criteria[key]}" for key in ("min_overdue", "min_lost", "overdue_days") if key in criteria]
    lines += [f"{key} = {json.dumps(value)}" for key, value in criteria.get("choice", {}).items()]
    return "\n".join([*lines, f"orgs = {json.dumps(criteria['orgs'])}", ""])


def _criteria(client: Client, content: Content) -> Criteria:
    wanted, settings = content["_question"]["report"], client._policy
    configured = load.load(client.state.directory / "config.toml", {}).report
    return Criteria(
        min_total=configured.min_total,
        min_members=configured.min_members,
        orgs=configured.orgs,
        top=wanted["top"],
        sort=wanted["sort"],
        limit=settings.as_limit() if settings.uniform else None,
        choice=choice_of(configured),
        details=wanted.get("details", True),
        min_overdue=configured.min_overdue,
        min_lost=configured.min_lost,
        overdue_days=configured.overdue_days,
    )


def audit_criteria(client: Client, content: Content) -> AuditCriteria:
    policy, wanted = client._policy, content["_question"]["audit"]
    return AuditCriteria(
        orgs=tuple(wanted["orgs"]),
        limit=policy.as_limit() if policy.uniform else None,
        adults=AdultRule(wanted["adults_from_age"], wanted["max_adults"]),
        institution_profiles=tuple(wanted["institutions"]),
    )


def _report(product: Product, content: Content) -> Iterator[str]:
    library = Library(content)
    yield from _said_of(product, content, report(library), may_refuse(library, "report"))


def _said_of(product: Product, content: Content, expected: Document | None, may: bool) -> Iterator[str]:
    """Compare the report's document and notes."""

    def answer() -> Document:
        said = document(lambda stream: render(product.report(content), "json", stream))
        return {**said, "_notes": " ".join(said["notes"])}

    notes = {} if expected is None else expected.pop("_notes")
    for said, reckoned in _judged(answer, expected, may):
        yield from _unlike(said, reckoned)
        for words, due in notes.items() if isinstance(said, dict) else ():
            if due is not (words in said["_notes"]):
                yield f"notes: {words!r} is {'not ' if due else ''}there"


def _late_items(product: Product, content: Content) -> Iterator[str]:
    """Compare the report by overdue and lost items."""
    content = with_late_items(content)
    library = Library(content)
    every = {**content["_question"], "report": {**content["_question"]["report"], "min_total": "-1000000.00"}}
    may = may_refuse(Library({**content, "_question": every}), "report")
    yield from _said_of(product, content, late_report(library), may)


def _contacts(product: Product, content: Content) -> Iterator[str]:
    """Compare what the files of the whole report and of each library say about the persons to contact."""
    content = with_contact_data(content)
    client, library = product.client(content), Library(content)

    def answer() -> Document:
        made = client.report(replace(_criteria(client, content), contact=True))
        said = {"": document(lambda stream: render(made, "json", stream))}
        latest = publish(made, product.directory / "parts", ("json",)).path / "latest"
        for shortname, file in library_file_names([unit.shortname for unit in made.org_units]).items():
            if (path := latest / f"{file}.json").exists():
                said[shortname] = json.loads(path.read_text("utf-8"))
        return {name: {str(one["group"]): one for one in part["groups"]} for name, part in said.items()}

    for said, expected in _judged(
        answer, parts(library) if library.visible_orgs else None, may_refuse(library, "report")
    ):
        yield from _unlike(said, expected)
        if isinstance(said, dict):
            for name in said.keys() | expected.keys():
                numbers = {*map(int, said.get(name, ()))}
                if numbers != {*expected.get(name, ())}:
                    yield f"groups in {name}: {sorted(numbers)} instead of {sorted(expected.get(name, ()))}"


def _audit(product: Product, content: Content) -> Iterator[str]:
    client, library = product.client(content), Library(content)

    def answer() -> Document:
        audited = client.audit(audit_criteria(client, content))
        said = document(lambda stream: render_audit(audited, "json", stream))
        for one in said["groups"]:
            one["reasons"].sort()
        said["thresholds"].sort(key=in_order)
        return {**said, "counts": {kind["kind"]: kind["count"] for kind in said["kinds"]}}

    for said, expected in _judged(answer, audit(library), may_refuse(library, "audit")):
        yield from _unlike(said, expected)


def _ask_why(client: Client, patron: int) -> Document:
    return document(lambda stream: write_block_explanation_json(client.explanations.of_user(patron), stream))


def _ask_check(client: Client, patron: int) -> Document:
    checked = client.checks.of_user(patron, all_members=True)
    said = document(lambda stream: write_check_json(checked, stream))
    said["patrons"].sort(key=lambda one: int(one["id"]))
    for one in said["patrons"]:
        one["difference_count"] = len(one["differences"])
    return said


QUESTIONS: dict[str, tuple[str, Callable[[Client, int], Document], Callable[[Library, int], Document | None]]] = {
    "explanation": ("check", _ask_why, explanation),
    "check": ("check", _ask_check, check),
    "summary": ("summary", lambda client, patron: hooks.as_json(hooks.patron_summary(client, patron)), summary),
    "decision": ("decision", lambda client, patron: hooks.as_json(hooks.block_decision(client, patron)), decision),
    # The totals of groups in the API; the desk's page and the command write the same record.
    "group": ("check", lambda client, patron: hooks.as_json(client.details.of_user(patron)), details),
}
"""About each of the checked patrons: what may be refused, how the product is asked, and what is expected."""


def _each(product: Product, content: Content, *names: str) -> Iterator[str]:
    """Compare the documents about each of the checked patrons."""
    client, library = product.client(content), Library(content)
    for name in names:
        what, ask, expect = QUESTIONS[name]
        for patron in content["_question"]["check"]:
            may = may_refuse(library, f"{what} {patron}")
            for said, expected in _judged(partial(ask, client, patron), expect(library, patron), may):
                yield from (f"{what} {patron}: {text}" for text in _unlike(said, expected))


def _comparison(product: Product, content: Content) -> Iterator[str]:
    """Compare two runs; only the comparison is judged here."""
    before, library = Library(earlier(content)), Library(content)
    product.runs += 1
    with State(product.directory) as state:
        history = History(state.database, f"{product.sandbox.url}/{product.runs}")
        try:
            history.record(product.report(earlier(content)))
        except EvergreenGroupsError:
            return  # tested by the report
        client = product.client(content)

        def answer() -> Document:
            made = product.report(content)
            made = look_up_cleared(client.gateway, replace(made, changes=history.compare(made)))
            said = document(lambda stream: render(made, "json", stream))
            return {**said["changes"], "by_group": {str(one["group"]): one["change"] for one in said["groups"]}}

        whole = report(library)
        expected = None if whole is None or report(before) is None else changes(before, library, whole["groups"])
        for said, reckoned in _judged(answer, expected, may_refuse(library, "report")):
            if isinstance(said, dict) and not library.may_count:  # the state of cleared groups isn't requested
                for one, other in zip(said["cleared"], reckoned["cleared"], strict=False):
                    other["present"] = one["present"] and other["present"]
            yield from _unlike(said, reckoned)


def _two_nights(product: Product, content: Content) -> Iterator[str]:
    """Compare by how much debts changed: between the two runs, and if only debts changed in between."""
    same_people = {**content, "_before": {"mbts": content["_before"]["mbts"]}}
    for nights in (same_people, content):
        before, library = Library(earlier(nights)), Library(nights)
        expected = report(library)
        if expected is None or report(before) is None or not library.may_count or not before.may_count:
            continue
        product.runs += 1
        with State(product.directory) as state:
            history = History(state.database, f"{product.sandbox.url}/{product.runs}")
            try:
                history.record(product.report(earlier(nights)))
                made = product.report(nights)
            except EvergreenGroupsError:
                continue  # tested by the report
            changes = replace(made, changes=history.compare(made))
            made = look_up_cleared(product.client(nights).gateway, changes)
        said = document(lambda stream, made=made: render(made, "json", stream))["changes"]
        yield from differences(said, change_in_fines(before, library, [one["group"] for one in expected["groups"]]))
        if nights is same_people:
            for one in said["cleared"]:
                if one["present"] and one["present"]["member_count"] != one["member_count"]:
                    yield f"cleared {one['group']}: other members, though nobody moved"


def _letters(product: Product, content: Content) -> Iterator[str]:
    """Compare letters and the mail-merge file: to whom, about whom, how much, what they cover, and who gets none."""
    content = mailable(content)
    library = Library(content)
    yield from _said_in_letters(product, content, library, may_refuse(library, "report"))


def _letters_by_items(product: Product, content: Content) -> Iterator[str]:
    content = mailable_by_items(content)
    every = {**content["_question"], "report": {**content["_question"]["report"], "min_total": "-1000000.00"}}
    may = may_refuse(Library({**content, "_question": every}), "report")
    yield from _said_in_letters(product, content, Library(content), may)


def _said_in_letters(product: Product, content: Content, library: Library, may: bool) -> Iterator[str]:
    for said, reckoned in _judged(lambda: written_letters(product, content), letters(library), may):
        for name in ("left_out", "people_left_out") if isinstance(said, dict) else ():
            for key, allowed in reckoned[name].items():  # of several reasons, one is given
                if said[name].get(key) in allowed:
                    said[name][key] = allowed
        for name, theirs in reckoned.items() if isinstance(said, dict) else ():
            yield from differences(sorted(said[name]), sorted(theirs), f"{name}: keys")
        yield from _unlike(said, reckoned)


def written_letters(product: Product, content: Content) -> Document:
    """Return the letters and the mail-merge file, with what the printed letters say."""
    found, sheets = printed_letters(product, content)
    needs = {str(one.group.number): sorted(to.member.id for to in one.without_address) for one in found.coverage}
    people = read_debtors(product.client(content).gateway, product.report(content), Selection())
    written, of_people = letters_document(found, {}), letters_document(people, {})
    return {
        "letters": dict(_sheet(one, sheet) for one, sheet in zip(found.letters, sheets, strict=True)),
        "families": {(key := str(one["group"])): {**one, "needs_address": needs[key]} for one in written["families"]},
        "left_out": {
            " ".join(str(one[key]) for key in ("group", "patron") if key in one): one["reason"]
            for one in written["left_out"]
        },
        "people": {
            str(one.member.id): {"contact": one.addressee.patron, "owed": plain_amount(one.member.own_fines)}
            for one in people.people
        },
        "people_left_out": {str(one["patron"]): one["reason"] for one in of_people["left_out"]},
    }


def printed_letters(product: Product, content: Content) -> tuple[Letters, list[Any]]:
    """Return the letters to the groups of the report, and an HTML element for each."""
    made = product.report(content)
    asked = content["_question"]["letters"]
    held_back = {number: NoLetter(why) for number, why in asked["held_back"].items()}
    choice = LetterChoice(Decimal(asked["min_own"]), held_back, asked["to_lead"])
    found = read_letters(product.client(content).gateway, made, choice)
    stream, readers = io.StringIO(), Readers(LanguageSettings(timezone="UTC"), made.org_units)
    upwards = OrgUnits.shortnames_upwards(made.org_units)
    write_letters(found, stream, LetterSettings(), readers.of_library, upwards.__getitem__)
    return found, list(lxml.html.document_fromstring(stream.getvalue()).xpath("//article"))


def _sheet(letter: FamilyLetter, sheet: Any) -> tuple[str, Document]:
    """Return to whom a letter goes, and what it says. With one member, it has no total."""
    printed = sheet.xpath("string(.//section[@class='total']//span[@class='number'])")
    owed = {str(one.patron.id): plain_amount(one.own_fines) for one in letter.statement.members}
    total = printed.removeprefix("$").replace(",", "") if len(owed) > 1 else plain_amount(letter.statement.owed)
    to = letter.addressee
    guardian = " guardian" if to.contact.role == "guardian" else ""
    return f"{letter.group} {to.patron}{guardian}", {
        "members": {id: amount for id, amount in owed.items() if amount != "0.00"},
        "owed": total or "0.00",
        "street": to.address.street1,
        "says_all_members": "are included." in sheet.text_content(),
        "wrong_sums": [
            section.text_content()
            for section in sheet.xpath(".//section[not(@class)][.//li/span[@class='number']]")
            if sum(map(_amount, section.xpath(".//li/span[@class='number']"))) != _amount(section.find("h2/span[2]"))
        ],
    }


def _amount(printed: Any) -> Decimal:
    """Return a printed amount. That of a credit is negative."""
    text = printed.text_content()
    amount = Decimal(re.sub("[^0-9.]", "", text))
    return -amount if "credit" in text else amount


def _statement(product: Product, content: Content) -> Iterator[str]:
    """Compare the totals of each patron's statement."""
    client, library, settings = product.client(content), Library(content), StatementSettings()

    def answer(patron: int) -> Document:
        made = make_statement(client.bills.of_user(patron), patron, settings)
        sheet = statement_page(made, settings)
        return {
            "members": {str(one.patron.id): plain_amount(one.own_fines) for one in made.members},
            "member_count": len(made.members),
            "owed": plain_amount(sheet["owed"]),
            "of_kinds": plain_amount(sum((line.amount for line in sheet["kinds"]), ZERO)),
            "credit": plain_amount(made.credit),
            "overdue": sheet["overdue"],
            "next_due": sheet["next_due"] and sheet["next_due"].isoformat(),
        }

    for patron, row in library.people.items():
        if library.is_asking(row) and not library.visible(row):
            continue  # the account sees itself, or not, depending on the release
        expected, may = statement(library, patron), may_refuse(library, f"check {patron}")
        for said, reckoned in _judged(partial(answer, patron), expected, may):
            yield from (f"statement {patron}: {text}" for text in _unlike(said, reckoned))


_JOBS: dict[str, Callable[[Product, Content], Iterator[str]]] = {
    "comparison": _comparison,  # first, because it starts with another dataset
    "two nights": _two_nights,
    "report": _report,
    "late items": _late_items,
    "contacts": _contacts,
    "audit": _audit,
    "explanation": lambda product, content: _each(product, content, "explanation"),
    "check": lambda product, content: _each(product, content, "check"),
    "summary": lambda product, content: _each(product, content, "summary", "decision"),
    "group": lambda product, content: _each(product, content, "group"),
    "statement": _statement,
    "letters": _letters,  # last, because they add to the dataset
    "letters by items": _letters_by_items,
}
JOBS = tuple(_JOBS)
"""What is compared."""


def _judged(
    answer: Callable[[], Document], expected: Document | None, may_refuse: bool
) -> Iterator[tuple[Any, Document]]:
    """Return the answer and the computed document; if one of them is an error, a sentence replaces the answer."""
    try:
        said = answer()
    except EvergreenGroupsError as error:
        if not isinstance(error, REFUSALS) or (expected is not None and not may_refuse):
            yield f"{type(error).__name__}: {error}", {}
        return
    if expected is None:
        yield "an answer where there is none to give", {}
    else:
        yield said, expected


def _unlike(said: Any, expected: Document) -> Iterator[str]:
    """Return the sentence in place of an answer, or where the answer differs."""
    return iter([said]) if isinstance(said, str) else differences(said, expected)


def document(write: Callable[[io.StringIO], object]) -> Document:
    stream = io.StringIO()
    write(stream)
    document = json.loads(stream.getvalue())
    assert isinstance(document, dict)
    return document


def differences(said: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Return where a document differs from the expected one; unexpected keys may have any value."""
    if isinstance(expected, dict) and isinstance(said, dict):
        for key, value in expected.items():
            yield from differences(said.get(str(key)), value, f"{where}.{key}".lstrip("."))
    elif isinstance(expected, list) and isinstance(said, list) and len(expected) == len(said):
        for place, (one, other) in enumerate(zip(said, expected, strict=True)):
            yield from differences(one, other, f"{where}[{place}]")
    elif said != expected:
        yield f"{where}: {_short(said)} instead of {_short(expected)}"


def _short(value: Any) -> str:
    """Shorten a value for one line; lists and documents are reduced to what identifies them."""
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, dict):
        named = {key: value[key] for key in ("kind", "group", "id", "reasons", "penalty") if key in value}
        inner = value["member"]["id"] if "member" in value else None
        return json.dumps({**named, **({"member": inner} if inner else {})} or value)
    return json.dumps(value)
