"""Letters: who gets one, what it says, and who gets none. Read from the sandbox and written as they are printed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import lxml.html
import pytest
from support.bills_and_items import bill, billing, lend
from support.circulators import make_stock_circulator
from support.debts import owe
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.letters import (
    CHILDREN,
    FAMILY,
    FROM_FIVE,
    HARBOR,
    IN_COLLECTIONS,
    INVALID_ADDRESS,
    LEAD,
    OTHER_ADULT,
    change,
    document_of,
    library_address,
    of_family,
    opening_hours,
    penalize,
    read_for,
)

from evergreen_groups.letters import (
    Debtors,
    LeftOut,
    LetterChoice,
    Letters,
    NoLetter,
    Selection,
    read_debtors,
    read_letters,
)
from evergreen_groups.render.letters import describe_coverage, letters_document, write_debtors
from evergreen_groups.report import GUARDIAN, Criteria, Report, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import LanguageSettings, LetterSettings
from evergreen_groups.settings.values import LetterTexts
from evergreen_groups.values import Total

EVERY, STOCK, IN_UTC = Criteria(), LetterSettings(), LanguageSettings(timezone="UTC")
NAMES = ("Adaeze", "Chidi", "Ifeoma", "Emeka", "Ngozi", "Obinna")


def read(sandbox: Sandbox, criteria: Criteria = EVERY) -> tuple[Report, Letters]:
    return read_for(sandbox, criteria)


def document(
    report: Report, made: Letters, settings: LetterSettings = STOCK, language: LanguageSettings = IN_UTC
) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(document_of(report, made, settings, language))


def sheet_of_family(sandbox: Sandbox, *settings: Any) -> lxml.html.HtmlElement:
    report, made = read(sandbox)
    place = made.letters.index(of_family(made))
    return document(report, made, *settings).xpath("//article")[place]


def reason_of_family(sandbox: Sandbox, criteria: Criteria = EVERY) -> NoLetter | None:
    _report, made = read(sandbox, criteria)
    found = [one.reason for one in made.left_out if one.group == FAMILY]
    assert bool(found) is (FAMILY not in [letter.group for letter in made.letters])
    return next(iter(found), None)


def test_a_letter_is_about_the_addressee_and_the_children(sandbox: Sandbox) -> None:
    sheet = sheet_of_family(sandbox)
    text = sheet.text_content()
    assert [name for name in NAMES if name in text] == [name for name in NAMES if name != "Chidi"]
    amounts = [one.text for one in sheet.xpath(".//h2/span[@class='number']")]
    assert amounts == ["$4.90", "$4.85", "$4.80", "$4.60", "$4.20", "$23.35"]
    assert "4.75" not in text, "the other adult's"
    assert "28.10" not in text, "the group's"
    assert "Only your own fines and those of any children in your family are included." in text
    assert [line.text for line in sheet.xpath(".//address/span")] == [
        "Adaeze Okonkwo",
        "14 Harbor Street",
        "Lakeland, MN 55555",
    ]


def test_it_reads_alike_without_another_adult(sandbox: Sandbox) -> None:
    with_other = sheet_of_family(sandbox).text_content()
    change(sandbox, OTHER_ADULT, usrgroup=OTHER_ADULT)
    report, made = read(sandbox, Criteria(min_total=Decimal("20.00")))
    (alone,) = document(report, replace(made, letters=(of_family(made),))).xpath("//article")
    assert alone.text_content() == with_other


def test_an_adult_by_date_of_birth_is_another_adult(sandbox: Sandbox) -> None:
    change(sandbox, CHILDREN[0], dob="1999-05-05")
    assert "Ifeoma" not in sheet_of_family(sandbox).text_content()


def test_a_letter_to_a_guardian_is_about_the_children_alone(sandbox: Sandbox) -> None:
    change(sandbox, OTHER_ADULT, usrgroup=OTHER_ADULT)
    change(sandbox, LEAD, juvenile="t", dob="1999-05-05", guardian="Ada Obi")
    report, made = read(sandbox, Criteria(min_total=Decimal("20.00")))
    letter = of_family(made)
    assert letter.addressee.contact.role == GUARDIAN
    text = document(report, replace(made, letters=(letter,))).xpath("//article")[0].text_content()
    assert "Dear Ada Obi" in text
    assert "Adaeze" not in text, "an adult, whatever the mark of a juvenile says"
    assert "Only the fines of children in your care are included." in text


@pytest.mark.differs("fields-of-3.16", reason="records have no e-mail address of a guardian")
def test_a_guardian_whose_name_is_not_known(sandbox: Sandbox) -> None:
    change(sandbox, OTHER_ADULT, usrgroup=OTHER_ADULT)
    change(sandbox, LEAD, juvenile="t", dob="1999-05-05", guardian_email="ada@example.org")
    report, made = read(sandbox, Criteria(min_total=Decimal("20.00")))
    (sheet,) = document(report, replace(made, letters=(of_family(made),))).xpath("//article")
    assert "Dear parent or guardian," in sheet.text_content()
    assert "Adaeze" not in sheet.text_content(), "an adult, whatever the mark of a juvenile says"


@pytest.mark.parametrize(
    ("reason", "prepare"),
    [
        (NoLetter.NO_ADDRESS, lambda box: change(box, LEAD, mailing_address=None, billing_address=None, email="a@b.c")),
        (NoLetter.NO_ADDRESS, lambda box: penalize(box, LEAD, INVALID_ADDRESS)),
        (NoLetter.INACTIVE, lambda box: change(box, LEAD, active="f")),
        (NoLetter.IN_COLLECTIONS, lambda box: penalize(box, LEAD, IN_COLLECTIONS)),
        (NoLetter.MINOR, lambda box: change(box, LEAD, dob="2015-05-05")),
        (NoLetter.NO_CONTACT, lambda box: [change(box, id, juvenile="t") for id in (LEAD, OTHER_ADULT)]),
        (None, lambda _box: None),
    ],
)
def test_who_gets_none(sandbox: Sandbox, reason: NoLetter | None, prepare: Callable[[Sandbox], object]) -> None:
    prepare(sandbox)
    assert reason_of_family(sandbox) is reason


def test_credits_do_not_pay_the_debts_of_others(sandbox: Sandbox) -> None:
    for child in CHILDREN:
        owe(sandbox, child, (HARBOR, "-0.75"))
    bill(sandbox, LEAD, "0.00", "1.00", kind="Deposit")
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    change(sandbox, OTHER_ADULT, active="f")
    report, made = read_for(sandbox, EVERY, choice=LetterChoice(Decimal("3.90")))
    letter = of_family(made)
    assert (letter.statement.owed, letter.statement.credit) == (Decimal("3.90"), Decimal("3.00"))
    (sheet,) = document(report, replace(made, letters=(letter,))).xpath("//article")
    amounts = [one.text for one in sheet.xpath(".//h2/span[@class='number']")]
    assert amounts == ["$3.90", *["has a credit of $0.75"] * 4, "$3.90"]
    text = " ".join(sheet.text_content().split())
    assert "Credits of $3.00 aren't subtracted. Less these credits, the total is $0.90." in text
    assert "Deposit $1.00 (credit)" in text
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert (family.covered, family.owed) == (Decimal("3.90"), Total(Decimal("33.90")))


def test_the_credit_of_the_contact_does_not_lower_the_childrens_letter(sandbox: Sandbox) -> None:
    owe(sandbox, LEAD, (HARBOR, "-20.00"))
    owe(sandbox, OTHER_ADULT, (HARBOR, "40.00"))
    _report, made = read(sandbox)
    letter = of_family(made)
    assert (letter.addressee.patron, letter.statement.owed) == (LEAD, Decimal("18.45"))


def letters_of_family(made: Letters) -> dict[int, Decimal]:
    """Return the amounts of the family's letters by addressee."""
    return {one.addressee.patron: one.statement.owed for one in made.letters if one.group == FAMILY}


def test_each_adult_who_owes_enough_gets_a_letter(sandbox: Sandbox) -> None:
    owe(sandbox, OTHER_ADULT, (HARBOR, "4.99"))
    change(sandbox, OTHER_ADULT, mailing_address=1001)
    _report, made = read(sandbox)
    assert letters_of_family(made) == {LEAD: Decimal("23.35")}
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert [(one.patron, one.reason) for one in family.left_out] == [(OTHER_ADULT, NoLetter.BELOW_MINIMUM)]
    owe(sandbox, OTHER_ADULT, (HARBOR, "5.00"))
    report, made = read(sandbox)
    assert letters_of_family(made) == {LEAD: Decimal("23.35"), OTHER_ADULT: Decimal("5.00")}
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert (family.letter_count, family.covered, family.everything) == (2, Decimal("28.35"), True)
    theirs = next(one for one in made.letters if one.addressee.patron == OTHER_ADULT)
    text = document(report, replace(made, letters=(theirs,))).xpath("//article")[0].text_content()
    assert [name for name in NAMES if name in text] == ["Chidi"]
    assert "Only your own fines are included." in text


def test_the_childrens_fines_count_toward_the_contacts_minimum(sandbox: Sandbox) -> None:
    for patron in (LEAD, *CHILDREN[1:]):
        owe(sandbox, patron)
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    owe(sandbox, CHILDREN[0], (HARBOR, "5.00"))
    _report, made = read(sandbox)
    assert letters_of_family(made) == {LEAD: Decimal("5.00"), OTHER_ADULT: Decimal("30.00")}
    owe(sandbox, CHILDREN[0], (HARBOR, "4.99"))
    _report, made = read(sandbox)
    assert letters_of_family(made) == {OTHER_ADULT: Decimal("30.00")}


def test_children_are_not_covered_if_the_contact_gets_no_letter(sandbox: Sandbox) -> None:
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    change(sandbox, LEAD, active="f")
    _report, made = read(sandbox)
    assert letters_of_family(made) == {OTHER_ADULT: Decimal("30.00")}
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert {one.patron: one.reason for one in family.left_out} == dict.fromkeys((LEAD, *CHILDREN), NoLetter.INACTIVE)
    assert FAMILY not in [one.group for one in made.left_out]


def test_who_owes_nothing_is_not_left_out(sandbox: Sandbox) -> None:
    owe(sandbox, CHILDREN[0])
    owe(sandbox, OTHER_ADULT, (HARBOR, "0.50"))
    change(sandbox, LEAD, active="f")
    _report, made = read(sandbox, Criteria(min_total=Decimal("5.00")))
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert {one.patron: one.reason for one in family.left_out} == {
        **dict.fromkeys((LEAD, *CHILDREN[1:]), NoLetter.INACTIVE),
        OTHER_ADULT: NoLetter.BELOW_MINIMUM,
    }


def test_an_adult_who_was_deleted_since_the_report_is_left_out(sandbox: Sandbox) -> None:
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, EVERY)
        change(sandbox, OTHER_ADULT, deleted="t")
        made = read_letters(gateway, report, FROM_FIVE)
    assert letters_of_family(made) == {LEAD: Decimal("23.35")}
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert [(one.patron, one.reason) for one in family.left_out] == [(OTHER_ADULT, NoLetter.INACTIVE)]


def test_none_if_only_a_hidden_member_owes(sandbox: Sandbox) -> None:
    make_stock_circulator(sandbox)
    change(sandbox, CHILDREN[0], home_ou=22)
    owe(sandbox, CHILDREN[0], (HARBOR, "30.00"))
    for patron in (LEAD, OTHER_ADULT, *CHILDREN[1:]):
        owe(sandbox, patron)
    _report, made = read_for(sandbox, EVERY, "harbor_desk")
    assert [one.reason for one in made.left_out if one.group == FAMILY] == [NoLetter.NOTHING_OWED]


def test_a_letter_to_the_leads_address_for_an_adult_who_has_none(sandbox: Sandbox) -> None:
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    change(sandbox, OTHER_ADULT, mailing_address=None, billing_address=None)
    _report, made = read(sandbox)
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert [(one.patron, one.reason) for one in family.left_out] == [(OTHER_ADULT, NoLetter.NO_ADDRESS)]
    assert [(one.member.id, one.to_lead) for one in family.without_address] == [(OTHER_ADULT, False)]
    chosen = replace(FROM_FIVE, to_lead=(OTHER_ADULT,))
    report, made = read_for(sandbox, EVERY, choice=chosen)
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert (family.everything, [one.to_lead for one in family.without_address]) == (True, [True])
    theirs = next(one for one in made.letters if one.addressee.patron == OTHER_ADULT)
    (sheet,) = document(report, replace(made, letters=(theirs,))).xpath("//article")
    assert [line.text for line in sheet.xpath(".//address/span")][:2] == ["Chidi Okonkwo", "14 Harbor Street"]
    assert "Adaeze" not in sheet.text_content()
    penalize(sandbox, LEAD, INVALID_ADDRESS)
    _report, made = read_for(sandbox, EVERY, choice=chosen)
    assert OTHER_ADULT not in letters_of_family(made)
    assert all(one.group.number != FAMILY or not one.without_address for one in made.coverage)


def test_no_letter_to_the_address_of_a_lead_of_another_library(sandbox: Sandbox) -> None:
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    change(sandbox, OTHER_ADULT, mailing_address=None, billing_address=None)
    change(sandbox, LEAD, home_ou=12)
    _report, made = read(sandbox, Criteria(orgs=("HARBOR",)))
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    reasons = {one.patron: one.reason for one in family.left_out}
    assert (reasons[OTHER_ADULT], family.without_address) == (NoLetter.NO_ADDRESS, ())


@pytest.mark.parametrize("why", [NoLetter.CLOSED, NoLetter.WAITING])
def test_a_family_that_is_held_back_gets_none(sandbox: Sandbox, why: NoLetter) -> None:
    owe(sandbox, OTHER_ADULT, (HARBOR, "30.00"))
    _report, made = read_for(sandbox, EVERY, choice=replace(FROM_FIVE, held_back={FAMILY: why}))
    assert letters_of_family(made) == {}
    assert [one.reason for one in made.left_out if one.group == FAMILY] == [why]


@pytest.mark.parametrize(("fines", "owed"), [("-2.00", Total(Decimal("23.25"))), ("7.00", Total(Decimal("30.25")))])
def test_what_is_owed_with_a_hidden_member(sandbox: Sandbox, fines: str, owed: Total[Decimal]) -> None:
    make_stock_circulator(sandbox)  # sees the patrons of a system
    change(sandbox, CHILDREN[0], home_ou=22)
    owe(sandbox, CHILDREN[0], (HARBOR, fines))
    _report, made = read_for(sandbox, Criteria(min_total=Decimal("1.00")), "harbor_desk")
    assert not of_family(made).complete
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert (family.covered, family.owed, family.everything) == (Decimal("18.50"), owed, False)
    change(sandbox, CHILDREN[1], home_ou=22)
    _report, made = read_for(sandbox, Criteria(min_total=Decimal("1.00")), "harbor_desk")
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert not family.owed.exact, "two hidden members may have a debt and a credit"


def test_few_groups_are_named(sandbox: Sandbox) -> None:
    _report, made = read(sandbox)
    left_out = [LeftOut(number, NoLetter.NO_ADDRESS) for number in range(1, 3001)]
    (line,) = [
        one
        for one in describe_coverage(replace(made, left_out=tuple(left_out)), {})
        if one.startswith("No letter: no valid")
    ]
    assert line == "No letter: no valid address (3,000 groups: 1, 2, 3, 4, 5, …)"
    lines = [*describe_coverage(replace(made, coverage=made.coverage * 100), {})]
    assert (len(lines) < 100, lines[-1]) == (True, "680 more families to check (--json)")


def test_none_if_only_another_adult_owes_too_little(sandbox: Sandbox) -> None:
    for patron in (LEAD, *CHILDREN):
        for row in sandbox._store.rows("mbts", {"usr": patron, "xact_finish": None}):
            sandbox._store.update("mbts", row["id"], {"xact_finish": "2026-01-01T12:00:00+0000"})
    assert reason_of_family(sandbox, Criteria(min_total=Decimal("4.00"))) is NoLetter.BELOW_MINIMUM


def test_none_to_patrons_of_other_libraries(sandbox: Sandbox) -> None:
    harbor = Criteria(orgs=("harbor",))
    assert reason_of_family(sandbox, harbor) is None
    change(sandbox, LEAD, home_ou=12)
    assert reason_of_family(sandbox, harbor) is NoLetter.WITHHELD
    assert reason_of_family(sandbox, Criteria(orgs=("NORTH",))) is None


def test_what_is_owed_for_and_what_can_be_returned(sandbox: Sandbox) -> None:
    lend(sandbox, LEAD, "2026-05-01", copy=9005, state="LOST", kind="Lost Materials", billed="18.00", paid="3.00")
    lend(sandbox, LEAD, "2039-02-01", copy=9002)
    lend(sandbox, LEAD, "2026-06-01", copy=9006)
    bill(sandbox, CHILDREN[0], "40.00")
    sheet = sheet_of_family(sandbox)
    (lead, *_others) = sheet.xpath(".//section")
    assert lead.xpath("string(.//bdi)") == "Adaeze Okonkwo", "the addressee comes first"
    assert [" ".join(one.text_content().split()) for one in lead.xpath(".//li")] == [
        "overdue materials $4.90",
        "lost materials $15.00",
        "1 item was due on 1 Jun 2026. Please bring it back.",
    ]


@pytest.mark.parametrize("field", ["mailing_address", "billing_address"])
def test_the_librarys_address_and_a_country_only_abroad(sandbox: Sandbox, field: str) -> None:
    library_address(sandbox, "mailing_address", valid="f", street1="9 Old Road")
    library_address(sandbox, field, valid="t")
    sheet = sheet_of_family(sandbox)
    assert [one.text_content() for one in sheet.xpath(".//p[@class='sender']/*")] == [
        "Harbor Street Library",
        "1 Harbor Street",
        "Lakeland, MN 55550",
        "555-0111",
    ]
    assert sheet.xpath(".//address/span")[-1].text == "Lakeland, MN 55555"


@pytest.mark.parametrize(("currency", "printed"), [("USD", False), ("CAD", True), ("EUR", True)])
def test_without_an_address_the_currency_tells_the_country(sandbox: Sandbox, currency: str, *, printed: bool) -> None:
    language = LanguageSettings(timezone="UTC", currency=currency)
    lines = [one.text for one in sheet_of_family(sandbox, STOCK, language).xpath(".//address/span")]
    assert ("USA" in lines) is printed


def test_the_country_of_the_library_above(sandbox: Sandbox) -> None:
    library_address(sandbox, country="United States")
    assert sheet_of_family(sandbox).xpath(".//address/span")[-1].text == "Lakeland, MN 55555"
    units = sandbox._store.rows("aou")
    (harbor,) = (row for row in units if row["id"] == HARBOR)
    sandbox._store.update("aou", HARBOR, {"mailing_address": None})
    sandbox._store.update("aou", harbor["parent_ou"], {"billing_address": harbor["mailing_address"]})
    sheet = sheet_of_family(sandbox)
    assert sheet.xpath(".//address/span")[-1].text == "Lakeland, MN 55555"
    assert len(sheet.xpath(".//p[@class='sender']/*")) == 2, "the name, and the phone number"


def test_when_the_library_is_open(sandbox: Sandbox) -> None:
    assert "Opening hours" not in sheet_of_family(sandbox).text_content()
    opening_hours(sandbox, *["09:00-17:00"] * 4, "09:00-18:30", "10:00-14:00", "00:00-00:00")
    said = [one.text_content() for one in sheet_of_family(sandbox).xpath("./p")]
    assert "Opening hours: Mon–Thu 09:00–17:00, Fri 09:00–18:30, Sat 10:00–14:00" in said
    french = LanguageSettings(libraries=(("NORTH", "fr-CA"),), currency="CAD")
    text = sheet_of_family(sandbox, STOCK, french).text_content()
    assert "Heures d’ouverture : lun.–jeu. 09 h 00–17 h 00, ven. 09" in text.replace("\xa0", " ")


def test_staff_are_warned_of_a_library_that_no_one_can_reach(sandbox: Sandbox) -> None:
    _report, made = read(sandbox)
    assert "Harbor Street Library" in made.incomplete_libraries
    assert "Harbor Street Library has neither" in "\n".join(describe_coverage(made, {}))
    sandbox._store.update("aou", HARBOR, {"phone": "555-0111"})
    _report, made = read(sandbox)
    assert "Harbor Street Library" not in made.incomplete_libraries


def test_cards_and_the_day_to_pay_by(sandbox: Sandbox) -> None:
    assert "Please pay by" not in sheet_of_family(sandbox).text_content()
    report, made = read_for(sandbox, EVERY)
    made = replace(made, letters=(of_family(made),))
    report = replace(report, generated_at=NOW)
    letter = replace(made.letters[0], statement=replace(made.letters[0].statement))
    group = replace(letter.statement.group, at=NOW)
    made = replace(made, letters=(replace(letter, statement=replace(letter.statement, group=group)),))
    (sheet,) = document(report, made, LetterSettings(pay_within=14)).xpath("//article")
    assert "Please pay by 29 Nov 2026." in sheet.text_content()
    assert sheet.xpath("string(.//h2//small)") == "card 20000000001001"


def test_notes_only_of_kinds_that_say_nothing(sandbox: Sandbox) -> None:
    for kind, note in (("Misc", "broken case"), ("Misc", "broken\ncase"), ("Photocopies", "secret")):
        transaction = bill(sandbox, LEAD, "1.00", kind=kind)
        billing(sandbox, transaction, "1.00", kind, 101)
        (row,) = sandbox._store.rows("mb", {"xact": transaction})
        sandbox._store.update("mb", row["id"], {"note": note})
    text = sheet_of_family(sandbox).text_content()
    assert "broken" not in text
    report, made = read_for(sandbox, EVERY, choice=replace(FROM_FIVE, notes_for=("misc",)))
    lead = document(report, replace(made, letters=(of_family(made),))).xpath("//article//section")[0]
    assert [" ".join(one.text_content().split()) for one in lead.xpath(".//li")] == [
        "overdue materials $4.90",
        "Misc: broken case $2.00",
        "Photocopies $1.00",
    ]


@pytest.mark.parametrize(("locale", "name"), [("vi-VN", "Okonkwo Adaeze"), ("cs-CZ", "Adaeze Okonkwo")])
def test_names_in_the_order_of_their_language(sandbox: Sandbox, locale: str, name: str) -> None:
    change(sandbox, LEAD, locale=locale)
    assert sheet_of_family(sandbox).xpath(".//address/span")[0].text == name
    change(sandbox, LEAD, first_given_name="小明", family_name="李")
    assert sheet_of_family(sandbox).xpath(".//address/span")[0].text == "李小明"


def test_later_letters_have_other_texts(sandbox: Sandbox) -> None:
    settings = LetterSettings(
        texts=(
            LetterTexts(opening="First", closing="Any"),
            LetterTexts(number=2, opening="Second"),
            LetterTexts(number=3, opening="Third"),
            LetterTexts(library="VALLEY", number=2, opening="Elsewhere"),
        )
    )
    report, made = read_for(sandbox, EVERY, choice=replace(FROM_FIVE, sent={FAMILY: 1}))
    assert of_family(made).number == 2
    for number, said in ((1, "First"), (2, "Second"), (3, "Third"), (4, "Third")):
        letter = replace(of_family(made), number=number)
        sheet = document(report, replace(made, letters=(letter,)), settings).xpath("//article")[0]
        assert sheet.find("p").text == said
        assert "Any" in sheet.text_content()


@pytest.mark.parametrize(("locale", "tag"), [("cs-CZ", "cs-CZ"), ("hy-AM", "fr-CA"), (None, "fr-CA")])
def test_the_addressees_language_or_else_the_librarys(sandbox: Sandbox, locale: str | None, tag: str) -> None:
    change(sandbox, LEAD, locale=locale)
    language = LanguageSettings(libraries=(("NORTH", "fr-CA"),), currency="CAD")
    sheet = sheet_of_family(sandbox, LetterSettings(), language)
    assert sheet.get("lang") == tag
    assert ("comptoir" in sheet.text_content()) is (tag == "fr-CA")


def test_a_librarys_own_texts(sandbox: Sandbox) -> None:
    settings = LetterSettings(
        envelope="din",
        texts=(
            LetterTexts(opening="All: {name}", closing="All closing"),
            LetterTexts(library="north", closing="Any language\nof {library}"),
            LetterTexts(library="NORTH", language="en", closing="English\nof {library}"),
            LetterTexts(library="NORTH", language="fr-CA", closing="Français"),
            LetterTexts(library="VALLEY", opening="Elsewhere"),
        ),
    )
    said = [one.text_content() for one in sheet_of_family(sandbox, settings).xpath("./p")]
    assert said == [
        "All: Adaeze Okonkwo",
        "Only your own fines and those of any children in your family are included.",
        "You can pay at the library's front desk.",
        "English",
        "of Harbor Street Library",
    ]
    assert settings.text("closing", ("HARBOR", "NORTH"), "es") == "Any language\nof {library}"
    assert settings.text("opening", ("MILL", "VALLEY"), "es") == "Elsewhere"
    assert settings.text("payment", ("HARBOR",), "en") is None


@pytest.mark.long
def test_at_most_ten_calls_more_for_a_thousand_groups() -> None:
    with Sandbox(patrons=60_000) as running:
        username, _password = running.report_account
        with gateway_of(running.url, username) as gateway:
            report = build_report(gateway, Criteria(top=1000))
            before = gateway.statistics.calls
            made = read_letters(gateway, report, FROM_FIVE)
            calls = gateway.statistics.calls - before
    assert len({one.group for one in made.letters}) + len(made.left_out) == 1000
    assert len(made.letters) > 500
    # The command's report lacks the two calls for contacts (tests/report/test_contact.py).
    assert calls - 2 <= 10


def test_classes_that_the_report_lacks_come_in_one_request(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, EVERY)
        before = len(proxy.calls)
        read_letters(gateway, report, FROM_FIVE)
    assert [call.method for call in proxy.calls[before:]].count("") == 1, "of the IDL, which has no method"


def test_only_penalties_that_letters_depend_on_are_read(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, EVERY)
        before = len(proxy.calls)
        read_letters(gateway, report, FROM_FIVE)
    (asked,) = (call for call in proxy.calls[before:] if ".ausp." in call.method)
    (kinds,) = (one["standing_penalty"] for one in asked.parameters[1]["-and"] if "standing_penalty" in one)
    assert set(kinds) == {INVALID_ADDRESS, IN_COLLECTIONS, *range(31, 35)}


@pytest.mark.parametrize("min_overdue", [0, 500])
def test_a_report_without_groups_takes_no_queries(proxy: FaultProxy, min_overdue: int) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(min_total=Decimal("9000.00"), min_overdue=min_overdue))
        before = len(proxy.calls)
        assert read_letters(gateway, report, FROM_FIVE) == Letters((), (), ())
    assert not [call.method for call in proxy.calls[before:] if ".pcrud." in call.method]


def test_a_report_without_details_or_blocks_is_refused(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        sums, report = (build_report(gateway, Criteria(details=details)) for details in (False, True))
        for refused, missing in ((sums, "details"), (replace(report, blocks=None), "blocks")):
            with pytest.raises(ValueError, match=missing):
                read_letters(gateway, refused, FROM_FIVE)
        with pytest.raises(ValueError, match="details"):
            read_debtors(gateway, sums, Selection())


def test_an_address_with_a_second_line_only(sandbox: Sandbox) -> None:
    address = sandbox._store.row("au", LEAD)["mailing_address"]
    sandbox._store.update("aua", address, {"street1": "", "street2": "PO Box 7"})
    assert [line.text for line in sheet_of_family(sandbox).xpath(".//address/span")] == [
        "Adaeze Okonkwo",
        "PO Box 7",
        "Lakeland, MN 55555",
    ]


# --- The mail-merge file: a row for each person who owes something, with their own amount ---

EVERYBODY = Selection()
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
COLUMNS = (
    "group,library,patron,barcode,patron_name,minor,own_fines,owing_since,age_band,contact,contact_role,contact_name,"
    "street1,street2,city,state,post_code,country,day_phone,evening_phone,other_phone,email,locale"
)


def read_people(sandbox: Sandbox, selection: Selection = EVERYBODY) -> tuple[Report, Debtors]:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(), now=NOW)
        return report, read_debtors(gateway, report, selection)


def rows_of(made: Debtors) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    write_debtors(made, stream)
    assert stream.getvalue().startswith(f"{COLUMNS}\r\n"), "a stable interface: new columns come last"
    return list(csv.DictReader(io.StringIO(stream.getvalue())))


def test_own_amounts_add_up_to_the_report_and_no_group_does(sandbox: Sandbox) -> None:
    for row in sandbox._store.rows("au"):
        change(sandbox, row["id"], mailing_address=1001)
    report, made = read_people(sandbox)
    rows = rows_of(made)
    owing = [one for group in report.groups for one in group.members if one.own_fines > 0]
    assert sorted(int(row["patron"]) for row in rows) == sorted(one.id for one in owing)
    assert sum(Decimal(row["own_fines"]) for row in rows) == sum(one.own_fines for one in owing)
    credits = sum(min(one.own_fines, Decimal(0)) for group in report.groups for one in group.members)
    hidden = sum(group.hidden_fines or Decimal(0) for group in report.groups)
    assert sum(Decimal(row["own_fines"]) for row in rows) + credits + hidden == report.totals.group_fines
    values = {value for row in rows for value in row.values()}
    totals = {str(group.group_fines) for group in report.groups if group.owing_count.at_least > 1}
    assert "28.10" in totals
    assert not totals & values


def test_a_person_with_their_own_contact_data(sandbox: Sandbox) -> None:
    change(sandbox, LEAD, evening_phone="+1 555 0100", locale="fr-CA")
    change(sandbox, OTHER_ADULT, first_given_name="=cmd()")
    _report, made = read_people(sandbox)
    rows = {int(row["patron"]): row for row in rows_of(made)}
    lead, other, child = rows[LEAD], rows[OTHER_ADULT], rows[CHILDREN[0]]
    assert (lead["own_fines"], lead["minor"]) == ("4.90", "false")
    assert (lead["contact"], lead["contact_role"]) == ("1001", "lead")
    assert (lead["street1"], lead["post_code"], lead["locale"]) == ("14 Harbor Street", "55555", "fr-CA")
    assert (lead["owing_since"], lead["age_band"]) == ("2026-02-02", "90 or more")
    assert lead["evening_phone"] == "'+1 555 0100", "no formula"
    assert (other["contact"], other["contact_name"]) == ("1002", "'=cmd() Okonkwo")
    assert (child["minor"], child["contact"], child["contact_name"]) == ("true", "1001", "Adaeze Okonkwo")


def test_a_minor_without_an_adult_is_reached_by_the_guardian(sandbox: Sandbox) -> None:
    for patron in (LEAD, OTHER_ADULT, *CHILDREN):
        change(sandbox, patron, juvenile="t", dob=None)
    change(sandbox, LEAD, guardian="Ada Obi")
    _report, made = read_people(sandbox)
    rows = [row for row in rows_of(made) if row["group"] == str(FAMILY)]
    assert {(row["contact_role"], row["contact_name"], row["street1"]) for row in rows} == {
        ("guardian", "Ada Obi", "14 Harbor Street")
    }


def test_selected_by_amount_and_age(sandbox: Sandbox) -> None:
    owe(sandbox, LEAD, (11, "30.00"))  # since 1 October
    owe(sandbox, OTHER_ADULT, (11, "24.99"))
    owe(sandbox, CHILDREN[1], (11, "25.00"))
    _report, made = read_people(sandbox, Selection(Decimal("25.00")))
    assert {one.member.id for one in made.people if one.group == FAMILY} == {LEAD, CHILDREN[1]}
    assert all(one.member.own_fines >= 25 for one in made.people)
    _report, made = read_people(sandbox, Selection(Decimal("25.00"), 300))
    assert LEAD not in [one.member.id for one in made.people]
    _report, made = read_people(sandbox, Selection(owing_since=60))
    assert {LEAD, OTHER_ADULT}.isdisjoint(one.member.id for one in made.people)
    assert CHILDREN[0] in [one.member.id for one in made.people]


def test_selected_from_the_first_moment_on(sandbox: Sandbox) -> None:
    owe(sandbox, LEAD, (HARBOR, "0.50"))
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(min_total=Decimal("5.00")))
        assert report.details is not None
        since = report.details.members[LEAD].owing_since
        assert since is not None
        for seconds, listed in ((0, True), (-1, False)):
            at = since + timedelta(days=60, seconds=seconds)
            made = read_debtors(gateway, replace(report, generated_at=at), Selection(owing_since=60))
            assert (LEAD in [one.member.id for one in made.people]) is listed
    assert {one.letter_count for one in made.coverage} == {0}


def test_left_out_with_the_reason(sandbox: Sandbox, proxy: FaultProxy) -> None:
    for patron, value in ((LEAD, "true"), (OTHER_ADULT, "false")):
        sandbox._store.insert("aus", {"usr": patron, "name": "circ.collections.exempt", "value": value})
    sandbox._store.insert("aus", {"usr": CHILDREN[0], "name": "opac.hits_per_page", "value": "true"})
    penalize(sandbox, OTHER_ADULT, IN_COLLECTIONS)
    _report, made = read_people(sandbox, Selection(collections=True))
    left_out = {one.patron: one.reason for one in made.left_out if one.group == FAMILY}
    assert left_out.pop(LEAD) is NoLetter.EXEMPT
    assert left_out.pop(OTHER_ADULT) is NoLetter.IN_COLLECTIONS
    assert left_out == dict.fromkeys(CHILDREN, NoLetter.IN_COLLECTIONS), "a member of the contact's group is"
    _report, made = read_people(sandbox)
    assert LEAD in [one.member.id for one in made.people], "only collections leave out who is exempt"
    assert len({one.patron for one in made.left_out} | {one.member.id for one in made.people}) >= 6
    before = len(proxy.calls)
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        read_debtors(gateway, build_report(gateway, Criteria()), Selection(collections=True))
    asked = [call.method for call in proxy.calls[before:]]
    assert len([name for name in asked if ".aus." in name]) == 1, "as a set"


# --- Letters about overdue items, where the report lists groups by items ---

BY_ITEMS = Criteria(min_total=Decimal(0), min_overdue=1)


@pytest.fixture
def without_money(sandbox: Sandbox) -> Sandbox:
    """The family owes nothing, and four items are overdue: one of the lead, one of a child, two of another adult."""
    for patron in (LEAD, OTHER_ADULT, *CHILDREN):
        owe(sandbox, patron)
    lend(sandbox, LEAD, "2026-06-01", copy=9006)  # 20.00
    lend(sandbox, CHILDREN[0], "2026-05-01", copy=9003)  # 12.50
    lend(sandbox, OTHER_ADULT, "2026-05-01", copy=9001)
    lend(sandbox, OTHER_ADULT, "2026-05-01", copy=9002)
    return sandbox


def test_a_letter_about_items_alone(without_money: Sandbox) -> None:
    report, made = read(without_money, BY_ITEMS)
    (sheet,) = document(report, replace(made, letters=(of_family(made),))).xpath("//article")
    text = " ".join(sheet.text_content().split())
    assert text.endswith(
        "Dear Adaeze Okonkwo, This letter lists items that are overdue. "
        "Adaeze Okonkwo card 20000000001001 1 item was due on 1 Jun 2026. Please bring it back. "
        "Ifeoma Okonkwo card 20000000001003 1 item was due on 1 May 2026. Please bring it back. "
        "Estimated replacement price of the overdue items: $32.50. It isn't part of any amount owed. "
        "Only your own items and those of any children in your family are included. "
        "Please contact us if you have questions. Sincerely, Harbor Street Library"
    )


def test_no_price_that_is_not_known(without_money: Sandbox) -> None:
    for price, said in ((["DELETE FROM acp WHERE id = 9006"], "at least $12.50"), (["DELETE FROM acp"], None)):
        for statement in price:
            with without_money._store.transaction() as connection:
                connection.execute(statement)
        report, made = read(without_money, BY_ITEMS)
        text = document(report, replace(made, letters=(of_family(made),))).text_content()
        assert ("replacement price" in text) is (said is not None)
        assert said is None or f"overdue items: {said}. It" in text


def test_a_price_without_hidden_items_is_a_lower_bound(without_money: Sandbox) -> None:
    (item,) = without_money._store.rows("circ", {"usr": CHILDREN[0], "target_copy": 9003})
    without_money._store.update("circ", item["id"], {"circ_lib": 22})
    _report, made = read_for(without_money, BY_ITEMS, "north_manager")
    assert of_family(made).replacement_price == Total(Decimal("20.00"), exact=False)


def test_a_guardian_gets_the_childrens_items(without_money: Sandbox) -> None:
    change(without_money, OTHER_ADULT, usrgroup=OTHER_ADULT)
    change(without_money, LEAD, juvenile="t", dob="1999-05-05", guardian="Ada Obi")
    report, made = read(without_money, BY_ITEMS)
    text = document(report, replace(made, letters=(of_family(made),))).text_content()
    assert "Only the items of children in your care are included." in text
    assert of_family(made).replacement_price == Total(Decimal("12.50"))


def test_what_letters_about_items_cover(without_money: Sandbox) -> None:
    _report, made = read(without_money, BY_ITEMS)
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert (family.items, family.unreturned, family.letter_count, family.everything) == (4, Total(4), 2, True)
    change(without_money, OTHER_ADULT, active="f")
    _report, made = read(without_money, BY_ITEMS)
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    assert (family.items, family.unreturned, family.everything) == (2, Total(4), False)
    assert [(one.patron, one.unreturned) for one in family.left_out] == [(OTHER_ADULT, 2)]
    only = replace(made, letters=(of_family(made),), coverage=(family,), left_out=())
    assert [*describe_coverage(only, {})] == [
        "1 letter covers 2 of 4 overdue or lost items",
        "Harbor Street Library has neither an address nor a phone number in Evergreen",
        "Okonkwo, Adaeze · group 1001 · 2 of 4 overdue or lost items in 1 letter",
        "  Okonkwo, Chidi: 2 items overdue or lost, the account is inactive or deleted",
    ]
    bill(without_money, OTHER_ADULT, "3.00")
    _report, made = read(without_money, BY_ITEMS)
    (family,) = (one for one in made.coverage if one.group.number == FAMILY)
    only = replace(made, letters=(of_family(made),), coverage=(family,), left_out=())
    assert [line.split("· ")[-1] for line in describe_coverage(only, {})] == [
        "1 letter covers $0.00 of $3.00, 2 of 4 overdue or lost items",
        "Harbor Street Library has neither an address nor a phone number in Evergreen",
        "$0.00 of $3.00, 2 of 4 overdue or lost items in 1 letter",
        "  Okonkwo, Chidi: $3.00, 2 items overdue or lost, the account is inactive or\n    deleted",
    ]
    assert letters_document(only, {})["families"] == [
        {
            **{"group": FAMILY, "covered": "0.00", "owed": "3.00", "owed_at_least": "3.00"},
            **{"items_covered": 2, "unreturned": 4, "unreturned_at_least": 4},
            **{"hidden_member_count": 0, "follow_up": None},
        }
    ]


def test_a_letter_to_another_adult_about_items(without_money: Sandbox) -> None:
    for patron in (LEAD, CHILDREN[0]):
        for row in without_money._store.rows("circ", {"usr": patron, "checkin_time": None}):
            without_money._store.update("circ", row["id"], {"checkin_time": "2026-11-01T12:00:00+0000"})
    report, made = read(without_money, BY_ITEMS)
    assert letters_of_family(made) == {OTHER_ADULT: Decimal("0.00")}
    text = document(report, replace(made, letters=(of_family(made),))).text_content()
    assert "2 items were due on 1 May 2026." in text
    assert "Only your own items are included." in text
    for row in without_money._store.rows("circ", {"usr": OTHER_ADULT, "checkin_time": None}):
        without_money._store.update("circ", row["id"], {"stop_fines": "LOST"})
    lost = Criteria(min_total=Decimal(0), min_lost=1)
    report, made = read(without_money, lost)
    assert letters_of_family(made) == {OTHER_ADULT: Decimal("0.00")}
    text = document(report, replace(made, letters=(of_family(made),))).text_content()
    assert "This letter lists items that are overdue or lost." in text
    assert "2 items, due on 1 May 2026, are considered lost." in text
    assert "replacement price" not in text


def test_no_letter_about_items_where_the_report_is_about_money(without_money: Sandbox) -> None:
    owe(without_money, OTHER_ADULT, (HARBOR, "30.00"))
    _report, made = read(without_money)
    assert letters_of_family(made) == {OTHER_ADULT: Decimal("30.00")}


def test_people_with_overdue_items_are_in_the_mail_merge_file(without_money: Sandbox) -> None:
    """Unless people are selected by what they owe."""
    change(without_money, OTHER_ADULT, mailing_address=1001)
    bill(without_money, LEAD, "3.00")
    with gateway_of(without_money.url, "consortium_staff") as gateway:
        report = build_report(gateway, BY_ITEMS)
        every, owing = (read_debtors(gateway, report, one) for one in (EVERYBODY, Selection(Decimal("1.00"))))
    write_debtors(every, stream := io.StringIO(newline=""))
    assert stream.getvalue().startswith(f"{COLUMNS},items_overdue,items_lost\r\n")
    rows = [row for row in csv.DictReader(io.StringIO(stream.getvalue())) if row["group"] == str(FAMILY)]
    assert {int(row["patron"]): (row["own_fines"], row["items_overdue"]) for row in rows} == {
        **{LEAD: ("3.00", "1"), CHILDREN[0]: ("0.00", "1"), OTHER_ADULT: ("0.00", "2")},
    }
    assert [one.member.id for one in owing.people if one.group == FAMILY] == [LEAD]
