"""The sandbox with the 52 patrons of recorded exchanges: each release responds like a real Evergreen of that release.

``nox -s replay`` does the same with all recorded traffic, if it lies next to the checkout.
"""

import json
from pathlib import Path

import pytest
from support.conversation import Conversation, Exchange, can_be_sent_again
from support.recorded import (
    BETWEEN,
    CURRENT,
    DATASET,
    FAMILIES,
    ON_FAMILIES,
    RECORDED,
    RELEASES,
    files,
    is_scenario,
    read,
)

from evergreen_groups.sandbox import Sandbox

ELSEWHERE = {*ON_FAMILIES, "desk", "members"}
"""Files recorded with other people."""


def recorded_from(file: Path) -> str:
    """Return the release of the server that gave these responses."""
    return file.relative_to(RECORDED).parts[0]


def kept_whole(file: Path) -> list[Exchange]:
    """Return the exchanges, without sequences that are only kept in part."""
    whole = recorded_from(file) in BETWEEN or is_scenario(file)
    return [one for one in read(file) if whole or "seq" not in one]


def differences(release: str, chosen: list[Path], dataset: Path = DATASET) -> dict[str, str]:
    """Return the responses of a release's sandbox that differ from the files, by the exchange's id."""
    found = {}
    bus = "redis" if release in BETWEEN else None  # as recorded, with any bus
    accounts = json.loads(dataset.read_text(encoding="utf-8"))["staff_permissions"]
    with (
        Sandbox(dataset=dataset, release=release, bus=bus) as sandbox,
        Conversation(sandbox.url, accounts) as conversation,
    ):
        for file in chosen:
            conversation.reset()
            for exchange in filter(can_be_sent_again, kept_whole(file)):
                if text := conversation.difference(exchange):
                    found[f"{recorded_from(file)}/{exchange['id']}"] = text
    return found


@pytest.mark.parametrize("release", ["3.11", "3.12", "3.14"])
def test_exchanges_that_differ_between_releases(release: str) -> None:
    assert differences(release, [RECORDED / release / "releases.jsonl"]) == {}


@pytest.mark.parametrize(
    "release",
    [release if release == CURRENT else pytest.param(release, marks=pytest.mark.long) for release in RELEASES],
)
def test_everything(release: str) -> None:
    found = [file for file in files(release) if file.stem not in ELSEWHERE]
    assert any(map(is_scenario, found))
    assert differences(release, found) == {}


def test_exchanges_with_other_families() -> None:
    assert differences(CURRENT, [RECORDED / CURRENT / f"{topic}.jsonl" for topic in ON_FAMILIES], FAMILIES) == {}


def test_a_different_answer_is_noticed() -> None:
    """The other tests prove nothing unless a difference is noticed."""
    found = differences("3.12", [RECORDED / "3.16" / "releases.jsonl"])
    assert "3.16/releases-044" in found
    assert found["3.16/releases-059"] == ".status: 200 expected, 404 came"
