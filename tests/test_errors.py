"""Errors, findings and warnings have fields, and the docs list every code."""

import ast
import re
from collections import defaultdict

from support.error_catalog import (
    PAGE,
    Site,
    default_code,
    error_classes,
    errors,
    findings,
    names_in,
    page,
    records,
    sources,
    unused_findings,
)

from evergreen_groups.errors import (
    ConfigurationError,
    EventError,
    EvergreenGroupsError,
    NotFoundError,
    RecordNotFoundError,
    TimedOutError,
    not_visible,
)
from evergreen_groups.message import filled
from evergreen_groups.render.audit.wording import REASONS
from evergreen_groups.render.plans import WARNINGS

CODE = re.compile(r"[a-z]+(-[a-z]+)*")


class Anything:
    """A value that fits any format in a template."""

    def __format__(self, _spec: str) -> str:
        return "anything"


def sites() -> list[Site]:
    return [*errors(), *findings()]


def places(sites: list[Site]) -> list[str]:
    return [f"{site.place}: {site.message}" for site in sites]


# --- The source ---


def test_every_message_is_a_literal_template() -> None:
    assert places([site for site in sites() if site.message is None]) == []


def test_templates_have_the_names_of_their_values() -> None:
    """Values given one by one are all used; advice chosen elsewhere may use other values."""
    wrong = []
    for site in sites():
        values, named = site.values or frozenset(), names_in(site.message or "") | names_in(site.advice or "")
        unused = values - named if site.exact and site.advice is not None and site.message is not None else set()
        filled_in = [filled(text or "", dict.fromkeys(values, Anything())) for text in (site.message, site.advice)]
        if named - values or unused or any("{" in text for text in filled_in):
            wrong.append(site)
    assert places(wrong) == []


def test_a_message_is_one_line_without_a_full_stop_or_the_joiner_at_its_end() -> None:
    messages = [site for site in sites() if site.kind != "ProblemError"]
    assert places([site for site in messages if "\n" in (site.message or "")]) == []
    ends = (".", ";", ":", " ")
    assert (
        places([one for one in messages if (one.message or "").endswith(ends) or (one.advice or "").endswith(ends)])
        == []
    )


def test_codes_are_lower_case_with_hyphens() -> None:
    codes = {site.code or default_code(site.kind) for site in errors() if site.code is not None}
    codes |= {site.code for site in findings() if site.code} | set(REASONS) | set(WARNINGS)
    codes |= {default_code(name) for name in error_classes()}
    assert [code for code in codes if not CODE.fullmatch(code)] == []


def test_a_code_means_one_thing() -> None:
    meanings: defaultdict[str, set[tuple[str, str | None]]] = defaultdict(set)
    for site in errors():
        if site.code is not None:
            kind = "problem" if site.kind == "ProblemError" else site.kind
            meanings[f"{kind == 'problem'} {site.code or default_code(site.kind)}"].add((kind, site.message))
    assert {code: meant for code, meant in meanings.items() if len(meant) > 1} == {}
    found: defaultdict[str, set[tuple[str, str | None]]] = defaultdict(set)
    for site in findings():
        if site.kind != "ok" and site.code is not None:
            assert site.code, site.place
            found[site.code].add((site.kind, site.message))
    assert {code: meant for code, meant in found.items() if len(meant) > 1} == {}


def test_every_row_of_a_table_of_findings_is_used() -> None:
    assert unused_findings() == []


def test_warnings_and_reasons_have_words_for_exactly_their_values() -> None:
    texts = {
        node.value
        for path, tree in sources().items()
        if path.startswith(("audit/", "changes/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
    }
    for name, words in (("Reason", REASONS), ("PlanWarning", WARNINGS)):
        made = dict(records(name))
        assert made == {
            code: names_in(template) | ({"count"} if template.plural else set())  # which chooses the form
            for code, template in words.items()
            if code in made
        }
        assert set(words) <= texts


def test_every_code_is_in_the_docs() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: nox -s docs"


# --- The fields themselves ---


def test_text_is_made_from_the_fields() -> None:
    error = ConfigurationError(
        "cannot read {path}", advice="name another than {path}", setting="mail.host", code="x", values={"path": "a{b}"}
    )
    assert (error.problem, error.what_to_do) == ("cannot read a{b}", "name another than a{b}")
    assert str(error) == "cannot read a{b}; name another than a{b}"
    assert (error.setting, error.code, error.values) == ("mail.host", "x", {"path": "a{b}"})


def test_without_values_a_message_is_taken_as_it_is() -> None:
    error = EvergreenGroupsError("{not a template", advice="{nor this}")
    assert str(error) == "{not a template; {nor this}"


def test_what_was_asked_for_stands_apart_from_what_came_back() -> None:
    error = TimedOutError("no answer", asked="open-ils.a.b", advice="try again later")
    assert error.problem == "open-ils.a.b: no answer"
    assert str(error) == "open-ils.a.b: no answer; try again later"


def test_a_class_has_its_own_code() -> None:
    kinds = ("HTTPStatusError", "NotJSONError", "TimedOutError")
    assert [default_code(kind) for kind in kinds] == ["http-status", "not-json", "timed-out"]


def test_what_is_not_found_is_an_event_only_where_the_ils_gave_one() -> None:
    assert not isinstance(not_visible("nobody", code="nobody"), EventError)
    error = RecordNotFoundError("no such card", textcode="ACTOR_CARD_NOT_FOUND", number=1589)
    assert isinstance(error, NotFoundError)
    assert isinstance(error, EventError)
    assert (error.textcode, error.number, error.code) == ("ACTOR_CARD_NOT_FOUND", 1589, "record-not-found")
