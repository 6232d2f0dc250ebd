"""The table of releases that were tried says what the tests found, and no more."""

from support.conversation import can_be_sent_again
from support.recorded import BETWEEN, files, read
from support.releases import RELEASES
from support.tried_releases import PAGE, page, renewed, results, trials

FOUND = {"3.12": {"tests": 1200, "recorded": 10, "replayed": 10}}


def test_the_page_has_the_table_of_what_was_found() -> None:
    assert PAGE.read_text("utf-8") == page(results(), trials()), "run: nox -s docs"


def test_each_release_was_tried_on_the_sandbox() -> None:
    assert set(results()) == set(RELEASES)
    assert all(counts["tests"] >= 1000 for counts in results().values())
    assert all(counts.get("replayed") == counts.get("recorded") for counts in results().values())


def test_what_the_repository_has_of_a_release_is_counted() -> None:
    """All of it is answered alike: tests/sandbox/test_recorded_releases.py. ``nox -s replay`` has more of others."""
    for release in BETWEEN:
        count = sum(len(list(filter(can_be_sent_again, read(file)))) for file in files(release))
        assert results()[release]["replayed"] >= count


def test_what_failed_and_a_table_that_says_more_than_was_found_are_wrong() -> None:
    for outcome in ("failed", "skipped", "error"):
        found = {"3.12": {"passed": 1300, outcome: 2}}
        assert renewed(FOUND, found, {})[1] == ["3.12: 2 tests failed, or were skipped"]
    assert renewed(FOUND, {"3.12": {"passed": 1199}}, {})[1] == ["3.12: the table says 1200 tests, and 1199 passed"]
    assert renewed(FOUND, {}, {"3.12": {"recorded": 12, "replayed": 11}})[1] == ["3.12: 11 of 12 exchanges are alike"]
