"""Every recorded exchange that code and pages cite exists in full, and every recorded exchange is cited."""

import json
from functools import cache

from support.recorded import (
    BETWEEN,
    CURRENT,
    DATASET,
    FAMILIES,
    ID,
    RECORDED,
    RELEASES,
    exchanges,
    files,
    is_scenario,
    named_in,
    read,
)
from support.repository import REPOSITORY

LARGEST_FILE = 256 * 1024
ALWAYS = {"id", "note", "as", "http", "form", "response"}
SOMETIMES = {"seq", "elapsed_s", "carry", "connection", "body_bytes", "body_sha256"}
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


def test_the_files_are_well_formed():
    wrong = []
    for file in FILES:
        name, found = file.relative_to(RECORDED), read(file)
        for exchange in found:
            right = (
                ALWAYS <= set(exchange) <= ALWAYS | SOMETIMES
                and exchange["note"]
                and ID.fullmatch(exchange["id"])
                and exchange["id"][:-4] == file.stem
                and exchange["http"]["method"] in {"GET", "POST", "PUT"}
                and set(exchange["response"]) == {"http_status", "content_type", "body"}
                and all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in exchange["form"])
            )
            if not right:
                wrong.append(f"{name}: {exchange.get('id')}")
        numbers = [int(exchange["id"][-3:]) for exchange in found]
        ordered = numbers == sorted(set(numbers))
        if is_scenario(file):  # in older releases, some weren't sent or gave varying answers
            ordered &= numbers[0] == 1 and (name.parts[0] != CURRENT or numbers[-1] == len(numbers))
        if not ordered:
            wrong.append(f"{name}: numbers {numbers}")
        if file.stat().st_size >= LARGEST_FILE:
            wrong.append(f"{name}: {file.stat().st_size} bytes")
    assert not wrong, "\n".join(wrong)


def test_an_id_is_unique():
    for release in RELEASES:
        ids = [exchange["id"] for file in files(release) for exchange in read(file)]
        assert len(set(ids)) == len(ids)


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
