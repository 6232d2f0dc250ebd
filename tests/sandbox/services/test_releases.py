"""Differences between releases and between sites: the sandbox as another release, and with a replica."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from support.gateways import gateway_of

from evergreen_groups.errors import (
    ConfigurationError,
    ServerError,
    ServiceNotFoundError,
)
from evergreen_groups.gateway import TOKEN, Gateway, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services import releases

ONCE = RetryPolicy(tries=1)


@pytest.fixture
def house() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def gateway(house: ExitStack, account: str, **options: object) -> Gateway:
    sandbox = house.enter_context(Sandbox(**options))  # type: ignore[arg-type]  # handed on as they come
    return house.enter_context(gateway_of(sandbox.url, account, retries=ONCE))


def ids(gateway: Gateway, after: int, limit: int) -> list[int]:
    return gateway.pcrud.id_list("au", {"id": {">": after}}, order_by="id", limit=limit)


def test_unknown_names_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match="unknown difference: fax; allowed: hidden-rows-count"):
        releases.differences(None, ["fax"])
    with pytest.raises(ConfigurationError, match="unknown release three"):
        releases.differences("three", [])


def test_hidden_rows_count_toward_the_limit(house: ExitStack) -> None:
    latest = gateway(house, "north_manager")
    seen = set(ids(latest, 1000, 1000))
    everybody = gateway(house, "admin", differences=["hidden-rows-count"])
    there = ids(everybody, 1000, 1000)
    before, hidden = next(pair for pair in pairwise(there) if pair[0] in seen and pair[1] not in seen)
    older = gateway(house, "north_manager", differences=["hidden-rows-count"])
    page = ids(older, before - 1, 10)
    assert page == [id for id in there if id >= before and id in seen and id < before + 10]
    assert len(page) < 10
    assert hidden not in page
    assert ids(older, before, 1) == []  # "is there more?" comes back empty although there is more
    assert ids(latest, before, 1) != []
    assert len(ids(everybody, 1000, 10)) == 10


def test_a_select_without_the_key_fails_if_a_row_matches(house: ExitStack) -> None:
    older = gateway(house, "admin", differences=["key-must-be-selected"])

    def search(class_id: str, where: object, *names: str) -> list[object]:
        """Search like a program that doesn't know of the difference: the product always selects the key."""
        options = {"select": {class_id: names}}
        found: list[object] = older.call(
            "open-ils.pcrud", f"open-ils.pcrud.search.{class_id}.atomic", TOKEN, where, options
        ).value
        return found

    with pytest.raises(ServerError):
        search("au", {"usrgroup": 1001}, "usrgroup")
    assert search("au", {"usrgroup": 1001}, "id", "usrgroup")
    assert search("au", {"usrgroup": -7}, "usrgroup") == []
    assert search("aou", {"id": 1}, "shortname")  # anyone may see those
    assert older.pcrud.search("au", {"usrgroup": 1001}, select=("usrgroup",))


def test_on_xmpp_a_missing_service_is_a_transport_error(house: ExitStack) -> None:
    older = gateway(house, "admin", differences=["xmpp"])
    with pytest.raises(ServiceNotFoundError) as caught:
        older.call("open-ils.nowhere", "open-ils.nowhere.there")
    assert "Internal Server Error : Transport Error" in caught.value.raw


def renamed(gateway: Gateway) -> None:
    record = gateway.call("open-ils.actor", "open-ils.actor.user.retrieve.authoritative", TOKEN, 1052).value
    changed = gateway.decode(record).replace(first_given_name="Renée", passwd=None).to_wire(changed=True)
    gateway.call("open-ils.actor", "open-ils.actor.patron.update", TOKEN, changed, write=True)


def names(gateway: Gateway) -> tuple[str, str, str]:
    """Return a patron's name: by pcrud, by a plain read, and by an authoritative read."""
    (by_pcrud,) = gateway.pcrud.search("au", {"id": 1052})
    reads = (
        gateway.decode(gateway.call("open-ils.actor", f"open-ils.actor.user.retrieve{form}", TOKEN, 1052).value)
        for form in ("", ".authoritative")
    )
    plain, original = (record.first_given_name for record in reads)
    return by_pcrud.first_given_name, plain, original


def test_plain_reads_lag_behind_with_a_replica(house: ExitStack) -> None:
    sandbox = house.enter_context(Sandbox(differences=["replica"], replica_delay=math.inf))
    gateway = house.enter_context(gateway_of(sandbox.url, "admin"))
    (before, _, _) = names(gateway)
    renamed(gateway)
    assert before != "Renée"
    assert names(gateway) == (before, before, "Renée")
    sandbox.catch_up()
    assert names(gateway) == ("Renée",) * 3
    sandbox.reset()
    assert names(gateway) == (before,) * 3


@pytest.mark.parametrize(("differences", "answer"), [([], ""), (["replica"], "1")])
def test_a_site_reports_whether_it_has_a_replica(house: ExitStack, differences: list[str], answer: str) -> None:
    asked = gateway(house, "admin", differences=differences)
    assert asked.call("open-ils.actor", "opensrf.open-ils.system.use_authoritative").value == answer


def test_a_replica_catches_up_by_itself(house: ExitStack) -> None:
    gateway_ = gateway(house, "admin", differences=["replica"], replica_delay=0.0)
    renamed(gateway_)
    assert names(gateway_) == ("Renée",) * 3
