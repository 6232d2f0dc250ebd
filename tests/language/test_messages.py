"""Texts with their values, in several languages; errors for people."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from gettext import NullTranslations
from threading import Thread
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.errors import ConfigurationError, TimedOutError
from evergreen_groups.language import (
    Language,
    clock_time,
    current_language,
    day,
    describe_error,
    enumeration,
    gettext,
    minute,
    ngettext,
    pgettext,
    time_with_zone,
    use_language,
)
from evergreen_groups.language.catalogue import PseudoTranslations, translations_for
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message, system_reason
from evergreen_groups.settings import LanguageSettings

MOMENT = datetime(2026, 11, 25, 20, 14, tzinfo=UTC)
PLAIN = st.text(st.characters(exclude_characters="{}<>%&"), max_size=40)
TORONTO = ZoneInfo("America/Toronto")


def test_values_are_written_as_the_language_has_them() -> None:
    with use_language(Language("fr-CA", "CAD")):
        assert gettext("{owed}|{count:,}|{group}", owed=Decimal("1234.5"), count=1200, group=1200) == (
            "1\xa0234,50\xa0$|1\xa0200|1200"
        )
        assert ngettext("{count}", "{count}", 1200) == "1\xa0200"


def test_a_text_without_values_is_taken_as_it_is() -> None:
    assert gettext("{braces} and 100%") == "{braces} and 100%"


def test_a_text_among_the_values_is_translated() -> None:
    with use_language(Language(PSEUDO)):
        assert "לוסט" in gettext("{what}", what=Message("lost", context="items"))
        assert gettext("{what}", what="BR1").startswith("BR1")


def test_a_context_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(NullTranslations):
        def pgettext(self, context: str, message: str) -> str:
            return f"{context}: {message}"

    monkeypatch.setattr("evergreen_groups.language.messages.translations_for", lambda _tag: Two())
    assert pgettext("items", "lost") == gettext(Message("lost", context="items")) == "items: lost"


def test_an_error_in_words() -> None:
    error = ConfigurationError(
        "{name} takes {allowed}", advice="look at {name}", values={"name": "a.b", "allowed": Message("a word")}
    )
    assert describe_error(error) == str(error) == "a.b takes a word; look at a.b"
    with use_language(Language(PSEUDO)):
        assert "a.b" in describe_error(error)
        assert "takes" not in describe_error(error)
        assert "word" not in describe_error(error)
        assert str(error) == "a.b takes a word; look at a.b"  # what goes into logs
    assert describe_error(TimedOutError("no answer", asked="open-ils.auth")) == "open-ils.auth: no answer"


def test_the_language_ends_with_its_block_and_is_that_of_one_thread() -> None:
    seen = []
    with use_language(Language("cs")):
        thread = Thread(target=lambda: seen.append(current_language().tag))
        thread.start()
        thread.join()
        assert current_language().tag == "cs"
    assert [*seen, current_language().tag] == ["en", "en"]


@given(PLAIN, PLAIN)
def test_the_pseudo_language_leaves_values_and_tags(before: str, after: str) -> None:
    text = (
        f"{before.replace('{', '').replace('}', '')}<b>{{name}}</b>%(count)s{after.replace('{', '').replace('}', '')}"
    )
    changed = PseudoTranslations().gettext(text)
    for kept in ("<b>{name}</b>", "%(count)s"):
        assert kept in changed


def test_the_pseudo_language_is_forty_percent_longer() -> None:
    text = "Nothing is moved before you have seen who it is."
    assert 1.3 * len(text) < len(PseudoTranslations().gettext(text)) < 1.5 * len(text)


def test_a_language_without_a_catalogue_is_english_with_its_own_numbers() -> None:
    with use_language(Language("fi", "EUR")):
        assert gettext("{owed} owed", owed=Decimal("1234.5")) == "1\xa0234,50\xa0€ owed"
    assert type(translations_for("fi")) is NullTranslations


def test_days_and_times_are_those_of_the_readers_place() -> None:
    with use_language(Language("en", timezone=TORONTO)):
        assert (day(MOMENT), minute(MOMENT), clock_time(MOMENT)) == ("25 Nov 2026", "25 Nov 2026, 15:14", "15:14")
        assert time_with_zone(MOMENT) == "25 Nov 2026, 15:14 EST"
        assert day(datetime(2026, 11, 26, 3, tzinfo=UTC)) == "25 Nov 2026"
    with use_language(Language("en-US", timezone=TORONTO)):
        assert minute(MOMENT) == "Nov 25, 2026, 3:14\u202fPM"
    with use_language(Language("cs", timezone=TORONTO)):
        assert (day(MOMENT), day(date(2026, 3, 1))) == ("25. 11. 2026", "1. 3. 2026")
    with use_language(Language("fr-CA")):
        assert [day(date(2026, 8, 1)), day(date(2026, 8, 11))] == ["1er août 2026", "11 août 2026"]


@pytest.mark.parametrize(
    ("default", "written"), [("en", "25 Nov 2026"), ("en-US", "Nov 25, 2026"), ("cs", "25 Nov 2026")]
)
def test_all_readers_at_a_library_see_one_form_of_dates(default: str, written: str) -> None:
    """The staff client of one desk asks for American English, the browser of another for none in particular."""
    settings = LanguageSettings(default=default)
    for tag in ("en", "en-US") if default != "cs" else ("en",):
        with use_language(settings.language(tag)):
            assert day(date(2026, 11, 25)) == written
    with use_language(settings.language("cs-CZ")):
        assert day(date(2026, 11, 25)) == "25. 11. 2026"


def test_enumerations() -> None:
    assert [enumeration(list("abc")[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
    with use_language(Language("fr-CA")):
        assert enumeration(["a", "b"], "or") == "a ou b"
    with use_language(Language("es")):
        assert [enumeration(["Ana", name]) for name in ("Inés", "Hilda", "Íñigo", "Hiedra", "Juan y Inés")] == [
            *("Ana e Inés", "Ana e Hilda", "Ana e Íñigo", "Ana y Hiedra", "Ana y Juan y Inés")
        ]
        assert [enumeration(["siete", some], "or") for some in ("ocho", "nueve")] == ["siete u ocho", "siete o nueve"]


def test_a_text_brings_its_values() -> None:
    inner = Message("{count} patron", plural="{count} patrons", values={"count": 1200})
    outer = Message("{who}: {amount}", values={"who": inner, "amount": Decimal("1234.5")})
    assert str(outer) == "1,200 patrons: 1,234.50"
    assert gettext(outer) == "1,200 patrons: $1,234.50"
    with use_language(Language("fr-CA", "CAD", TORONTO)):
        assert gettext(Message("{amount}, {moment:time}", values={"amount": Decimal("1.5"), "moment": MOMENT})) == (
            "1,50\xa0$, 15 h 14"
        )
    with use_language(Language(PSEUDO)):
        assert not set("patrons") & set(gettext(outer))


@pytest.mark.parametrize(
    "values",
    [
        {"a": Message("a word"), "b": 7},
        {"a": Message("{count:,} bytes", values={"count": 32000}), "b": "text"},
        {"a": (Message("one"), Message("another")), "b": Message("{x}", values={"x": "y"})},
        {"a": date(2026, 8, 1).year, "b": TimedOutError("no answer", asked=Message("the IDL"))},
    ],
)
def test_logs_and_people_read_the_same_english(values: dict[str, object]) -> None:
    error = ConfigurationError("{a}: {b}", advice="look at {a}", values=values)
    assert describe_error(error) == str(error)


def test_what_the_system_says_is_translated() -> None:
    reason = system_reason(PermissionError(13, "Permission denied"))
    assert reason == "Permission denied"
    with use_language(Language(PSEUDO)):
        assert "Permission" not in gettext("{reason}", reason=reason)
    assert system_reason(OSError()) == "OSError"
