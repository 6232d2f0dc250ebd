"""Two clerks act at random on three services on PostgreSQL, or one on SQLite: nothing twice, nothing lost.

``tests/bench/clerks.py`` runs a thousand of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest
import requests
from support.clerk_runs import Town, town
from support.desk_caller import group_of, new_key
from support.web_caller import API, bearer

pytestmark = pytest.mark.long

SEQUENCES = 24


@pytest.fixture(scope="module")
def three() -> Iterator[Town]:
    with town(3, SEQUENCES, database="postgresql") as place:
        yield place


def test_three_services_that_are_killed(three: Town) -> None:
    errors = list(chain.from_iterable(three.sequence(number, kill=0.5, outage=0.05) for number in range(SEQUENCES)))
    assert errors == []
    assert three.kills > 0
    assert three.tally.changes > SEQUENCES
    assert three.tally.undone > 0
    assert three.tally.faults.total() > 0
    assert "a bug:" not in three.servers.errors


def test_one_service_with_faults() -> None:
    with town(1, SEQUENCES, database="sqlite") as place:
        errors = list(chain.from_iterable(place.sequence(number, kill=0.1) for number in range(SEQUENCES)))
        assert errors == []
        assert place.tally.changes > SEQUENCES
        assert "a bug:" not in place.servers.errors


def test_without_the_database_they_are_told_to_come_back(three: Town) -> None:
    """Once the database is back, plans, keys and outcomes are unchanged."""
    headers = bearer(three.clerks[0].token)
    family, other, third = next(three._families), next(three._families)[0], next(three._families)

    def ask(path: str, body: object = None, key: str = "") -> requests.Response:
        address = f"{three.next_address()}{API}/{path}"
        return requests.post(address, json=body, headers={**headers, "Idempotency-Key": key or new_key()}, timeout=60)

    def move(patron: int) -> dict[str, object]:
        return {"action": "move", "patrons": [{"id": patron}], "target": {"id": other}}

    made = ask("plans", move(family[0])).json()["id"]
    waiting = ask("plans", {"action": "remove", "patrons": [{"id": third[1]}]}).json()["id"]
    first = ask("changes", {"plan": made}, "first").json()
    assert three.cluster is not None
    three.cluster.stop("immediate")
    for _ in three.names:
        for refused in (
            ask("plans", move(family[1])),
            ask("changes", {"plan": waiting}, "second"),
            ask("changes", {"plan": made}, "first"),
            ask(f"changes/{first['id']}/undo"),
            requests.get(f"{three.next_address()}{API}/changes/{first['id']}", headers=headers, timeout=60),
            requests.get(f"{three.next_address()}{API}/changes", headers=headers, timeout=60),
        ):
            assert refused.status_code == 503, refused.text
            assert refused.json()["code"] == "state-not-available"
            assert int(refused.headers["Retry-After"]) >= 1
        summary = requests.get(f"{three.next_address()}{API}/patrons/{other}/summary", headers=headers, timeout=60)
        assert summary.status_code == 200, "what needs no database goes on"
    three.cluster.run_server()
    assert ask("changes", {"plan": made}, "first").json() == first
    assert ask("changes", {"plan": waiting}, "second").json()["done"] is True
    assert group_of(three.sandbox, third[1]) != group_of(three.sandbox, third[0])
    assert ask(f"changes/{first['id']}/undo").json()["done"] is True
