"""Every recorded exchange that code and pages cite exists in full, and every recorded exchange is cited."""

import json
from functools import cache

from support.recorded import (
    BETWEEN,
    CURRENT,
    DATASET,
    FAMILIES,
    RECORDED,
    RELEASES,
    exchanges,
    files,
    is_scenario,
    named_in,
    read,
)
from support.repository import REPOSITORY

FILES = [file for release in RELEASES for file in files(release)]


@cache
def cited() -> dict[str, set[str]]:
    """Return the cited ids with the citing files; in Python, strings count too, so that none is overlooked."""
    suffixes = {".py", ".pyi", ".md", ".html", ".js", ".j2", ".json"}
    paths = [path for path in REPOSITORY.glob("*.md") if path.name != "CHANGELOG.md"]
    for folder in ("evergreen_groups", "docs", "tests"):
        paths += [path for path in (REPOSITORY / folder).rglob("*") if path.suffix in suffixes]
    found: dict[str, set[str]] = {}
    for path in paths:
        if RECORDED not in path.parents:
            for name in named_in(path.read_text(encoding="utf-8")):
                found.setdefault(name, set()).add(str(path.relative_to(REPOSITORY)))
    return found


def test_every_cited_exchange_is_recorded():
    assert {"pcrud-034", "errors-001", "penalties-update-005"} <= set(cited())
    assert {name: where for name, where in cited().items() if name not in exchanges()} == {}


def test_every_recorded_exchange_is_cited():
    idle = set()
    for file in FILES:
        release = file.relative_to(RECORDED).parts[0]
        if release in BETWEEN:  # tests/sandbox/test_recorded_releases.py sends all of them
            continue
        ids = {one["id"] if release == CURRENT else f"{release}/{one['id']}" for one in read(file)}
        if not (is_scenario(file) and ids & set(cited())):
            idle |= ids - set(cited())
    assert idle == set()


def test_no_token_of_a_session_is_recorded():
    for exchange in exchanges().values():
        if '"authtoken"' in exchange["response"]["body"]:
            [event] = json.loads(exchange["response"]["body"])["payload"]
            assert event["payload"]["authtoken"] == "$TOKEN"


def test_every_file_there_has_its_use():
    known = {"README.md", "results.json", "tried.toml", *(f"{release}/idl.xml" for release in RELEASES)}
    known |= {str(file.relative_to(RECORDED)) for file in [*FILES, FAMILIES, DATASET]}
    assert {
        str(path.relative_to(RECORDED)) for path in RECORDED.rglob("*") if path.is_file() and "state" not in path.parts
    } == known
