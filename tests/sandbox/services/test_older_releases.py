"""The sandbox as an older release, and with a replica: the differences, their evidence, and who has them.

Recorded exchanges show the differences that have one as evidence.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest
from lxml import etree
from support.gateways import gateway_of
from support.recorded import RELEASES, exchanges, idl_bytes
from support.releases import sandboxes
from support.sandbox_caller import Caller, actor

from evergreen_groups.errors import ConfigurationError, GatewayError, LoginRefusedError
from evergreen_groups.gateway import TOKEN, Gateway, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.data import dataset
from evergreen_groups.sandbox.database import IdlClasses
from evergreen_groups.sandbox.http.server import fm_idl
from evergreen_groups.sandbox.services import Difference, releases

SOURCE = re.compile(r"[\w./-]+\.(?:xml|c|pm|sql|adoc) of (3\.\d+\.\d+)")
TABLE = {difference.name: difference for difference in releases.TABLE}

FIELD = ("name", "{http://open-ils.org/spec/opensrf/IDL/reporter/v1}datatype")
LINK = ("field", "reltype", "key", "class")
LOGIN = "open-ils.auth.login"
CallerOf = Callable[[str], Caller]


@pytest.fixture(scope="module")
def caller_of() -> Iterator[CallerOf]:
    """Return a caller of a release's sandbox, shared by tests that only read."""
    with sandboxes() as found:
        yield cache(lambda release: Caller(found(release).url))


@pytest.fixture
def older() -> Iterator[Caller]:
    """A caller of a 3.12 sandbox that tests may write to."""
    with Sandbox(release="3.12") as sandbox:
        yield Caller(sandbox.url)


def classes(release: str) -> IdlClasses:
    return releases.classes_of(releases.differences(release, ()))


def sent(class_id: str, **values: Any) -> dict[str, Any]:
    """Return an object as a client of 3.12 sends it."""
    return classes("3.12").wire_object(class_id, values)


def shape(idl: bytes) -> dict[str, tuple[list[Any], set[Any]]]:
    """Return each class's fields in order, and its links."""
    return {
        node.get("id"): (
            [tuple(field.get(name) for name in FIELD) for field in node.iter("{*}field")],
            {tuple(link.get(name) for name in LINK) for link in node.iter("{*}link")},
        )
        for node in etree.fromstring(idl).iter("{*}class")
    }


@pytest.mark.parametrize("difference", releases.TABLE, ids=lambda difference: difference.name)
def test_each_difference_has_evidence(difference: Difference) -> None:
    source = SOURCE.fullmatch(difference.evidence)
    if source is None:
        assert difference.evidence in exchanges() or (difference.site and " of OpenSRF " in difference.evidence)
    else:
        assert difference.site or source[1] in (*difference.until, *difference.since)


def test_names_are_unique() -> None:
    assert len(TABLE) == len(releases.TABLE)


@pytest.mark.parametrize(
    ("name", "having", "without"),
    [
        ("hidden-rows-count", ["3.11", "3.13.11"], ["3.14.0", "3.17"]),
        ("key-must-be-selected", ["3.11.0", "3.15"], ["3.16.0", "3.16"]),
        ("password-read", ["3.12", "3.14.10", "3.15.5"], ["3.14.11", "3.14", "3.15.6", "3.16.0"]),
        ("functions-unchecked", ["3.13", "3.14.11", "3.15.0", "3.16.5"], ["3.14.12", "3.15.12", "3.16.6", "3.17.0"]),
        ("nothing-required", ["3.11", "3.12.2"], ["3.12.3", "3.13.0"]),
        ("always-by-penalties", ["3.15.13", "3.15.14", "3.16.7", "3.17.1"], ["3.15.12", "3.16.6", "3.16.8", "3.17.0"]),
        ("xmpp", ["3.11", "3.13"], ["3.14.0", "3.17"]),
        ("replica", [], ["3.11", "3.17"]),
    ],
)
def test_a_difference_applies_to_releases_before_the_change(name: str, having: list[str], without: list[str]) -> None:
    assert {release: TABLE[name].holds_for(release) for release in (*having, *without)} == {
        **dict.fromkeys(having, True),
        **dict.fromkeys(without, False),
    }


@pytest.mark.parametrize("release", ["3.10", "3.18", "3.17.5", "3.12.11", "4", "3", "main", "", "3.12.", "3.1٢"])
def test_an_unknown_release_is_an_error_of_one_line(release: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Sandbox(release=release)
    assert caught.value.code == "release-unknown"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("release", "version"), [(None, "HEAD"), ("3.17", "HEAD"), ("3.12", "3-12-10"), ("3.14.3", "3-14-3")]
)
def test_a_release_reports_its_version(release: str | None, version: str) -> None:
    assert releases.ils_version(release) == version


def test_the_bus_depends_on_the_release_by_default() -> None:
    def xmpp(release: str | None, bus: Any = None) -> bool:
        return releases.XMPP in releases.differences(release, (), bus)

    assert (xmpp("3.12"), xmpp("3.12", "redis"), xmpp("3.12", "xmpp")) == (True, False, True)
    assert (xmpp(None), xmpp(None, "redis"), xmpp(None, "xmpp")) == (False, False, True)


@pytest.mark.parametrize("release", RELEASES)
def test_the_idl_is_that_of_the_release(release: str) -> None:
    served, recorded = (shape(text) for text in (fm_idl(classes(release)), idl_bytes(release)))
    compared = served.keys() & recorded.keys()
    assert len(compared) > 15
    for class_id in compared:
        assert served[class_id] == recorded[class_id], class_id


def test_the_database_applies_limit_and_offset_before_3_14(caller_of: CallerOf) -> None:
    twice = {"order_by": {"au": "id"}, "join": {"mbts": {"fkey": "id", "field": "usr", "type": "left"}}}
    cards = {"order_by": {"au": "id"}, "join": {"ac": {"fkey": "id", "field": "usr"}}}
    everybody = caller_of("3.17").ids("admin", "au", {"id": {">": 1000}}, twice)
    for release, refused in (("3.12", True), ("3.15", False), ("3.17", False)):
        caller = caller_of(release)
        assert caller.ids("admin", "au", {"id": {">": 1000}}, twice) == everybody
        assert caller.refused("admin", "au", {"usrgroup": 1006}, {"limit": -1}) is refused
    # Patrons with two transactions are found twice, and count twice in the older release.
    limited = {**twice, "limit": len(everybody)}
    assert caller_of("3.15").ids("admin", "au", {"id": {">": 1000}}, limited) == everybody
    assert len(caller_of("3.12").ids("admin", "au", {"id": {">": 1000}}, limited)) < len(everybody)
    # Where classes are joined, field names may be ambiguous. Before 3.16, the SQL doesn't check permissions.
    assert caller_of("3.15").ids("north_manager", "au", {"usrgroup": 1006}, {**cards, "limit": 1}) != []


def test_the_password_column_has_a_hash(caller_of: CallerOf) -> None:
    place = classes("3.12")["au"].positions["passwd"]
    caller = caller_of("3.12")
    found = [actor(caller, "admin", "user.retrieve", user)["__p"][place] for user in (1012, 1013, 1012)]
    assert found[0] == found[2] != found[1]
    assert re.fullmatch("[0-9a-f]{32}", found[0])
    assert actor(caller, "admin", "user.fleshed.retrieve", 1012)["__p"][place] is None
    assert caller.ids("admin", "au", {"passwd": found[1]}) == [1013]
    (seen,) = caller.pcrud("admin", "search.au.atomic", {"id": 1012})["payload"][0]
    assert seen["__p"][place] is None


def test_a_silent_bus_reports_no_missing_service() -> None:
    with Sandbox(release="3.12", differences=["silent-bus"]) as sandbox:
        caller = Caller(sandbox.url)
        nothing = {"payload": [], "status": 200}
        assert caller.body("open-ils.nowhere", "open-ils.nowhere.there") == nothing
        assert caller.body("open-ils.auth", LOGIN, {"username": "admin"}) == nothing
        with gateway_of(sandbox.url, "admin", retries=RetryPolicy(tries=1)) as gateway, pytest.raises(GatewayError):
            gateway.call("open-ils.nowhere", "open-ils.nowhere.there")


def test_a_second_factor_required_of_staff() -> None:
    families = dataset.read(None)
    for row in families["pgt"]:
        row["mfa_allowed"] = "t" if row["name"] == "Users" else "f"
    staff = {"username": "north_manager", "password": "sandbox", "type": "staff"}
    patron = {"barcode": "20000000001001", "password": "sandbox", "type": "opac"}
    logins = {"staff": staff, "elsewhere": {**staff, "type": "temp"}, "patron": patron}

    def provisional(sandbox: Sandbox) -> dict[str, Any]:
        answers = {name: Caller(sandbox.url).body("open-ils.auth", LOGIN, login) for name, login in logins.items()}
        return {name: answer["payload"][0]["payload"].get("provisional") for name, answer in answers.items()}

    with Sandbox(differences=["second-factor"]) as sandbox:
        assert provisional(sandbox) == {"staff": None, "elsewhere": 0, "patron": 0}  # no profile allows one
        sandbox.load(families)
        assert provisional(sandbox) == {"staff": 1, "elsewhere": 0, "patron": 0}
        with gateway_of(sandbox.url, "north_manager") as gateway, pytest.raises(LoginRefusedError) as caught:
            gateway.pcrud.id_list("au", {"id": 1013})
        assert caught.value.code == "second-factor"


def test_a_card_marked_as_deleted_stays(older: Caller) -> None:
    (first,) = older.ids("admin", "ac", {"usr": 1052})
    read = classes("3.12").parse_object(actor(older, "admin", "user.fleshed.retrieve", 1052, []))
    assert read is not None
    card = sent("ac", id=first, usr=1052, barcode="x", active="t")
    card["__p"] += [None, None, 1]
    names = [item.name for item in classes("3.12")["au"].fields]
    patron = {**read[1], "cards": [card]}
    answer = actor(older, "admin", "patron.update", {"__c": "au", "__p": [patron.get(name) for name in names]})
    assert answer["__c"] == "au"
    assert older.ids("admin", "ac", {"usr": 1052}) == [first]


@pytest.mark.parametrize(
    ("method", "there"),
    [
        ("user.note.apply", ["3.14", "3.17"]),
        ("user.note.note.update", ["3.14", "3.17"]),
        ("user.penalty.note.update", ["3.12", "3.13"]),
        ("user.penalty.apply", ["3.12", "3.13", "3.14", "3.17"]),
        ("usergroup.members.overdue_count", ["3.17"]),
        ("usergroup.members.overdue_count.authoritative", ["3.17"]),
    ],
)
def test_methods_added_and_removed(caller_of: CallerOf, method: str, there: list[str]) -> None:
    found = []
    for release in ("3.12", "3.13", "3.14", "3.17"):
        answer = caller_of(release).body("open-ils.actor", f"open-ils.actor.{method}", "no token")
        if "not found" not in answer.get("debug", ""):
            found.append(release)
    assert found == there


def test_volatile_functions(caller_of: CallerOf) -> None:
    where = {"expire_date": {">": ["clock_timestamp"]}, "id": 1013}
    assert [caller_of(release).refused("admin", "au", where) for release in ("3.13", "3.14", "3.17")] == [
        False,
        True,
        True,
    ]
    assert not caller_of("3.17").refused("admin", "au", {"expire_date": {">": ["now"]}, "id": 1013})


def fielded(caller: Caller, query: Any) -> Any:
    return caller.body("open-ils.fielder", "open-ils.fielder.aou.atomic", {"query": query, "fields": ["id"]})["payload"]


def test_the_fielder_became_stricter(caller_of: CallerOf) -> None:
    with ExitStack() as stack:
        first = Caller(stack.enter_context(Sandbox(release="3.11.0")).url)
        assert fielded(first, {"id": {"=": {"transform": "abs", "value": 1}}}) == [[{"id": 1}]]
        assert fielded(first, None) == [[]]
    named, listed = {"id": {"=": {"transform": "abs", "value": 1}}}, {"shortname": {"=": ["upper", "cons"]}}
    for release in ("3.11", "3.13", "3.17"):
        caller = caller_of(release)
        assert fielded(caller, named)[0][0]["textcode"] == "BAD_PARAMS"
        assert fielded(caller, {"id": {"in": [1]}, "-or": [{"id": [1]}, {"+aou": {"id": {"not in": [2]}}}]}) == [
            [{"id": 1}]
        ]
        (answer,) = fielded(caller, listed)
        assert ([row.get("textcode") for row in answer] == ["BAD_PARAMS"]) is (release == "3.17")


def searched(caller: Caller, wanted: dict[str, Any], sort: Any = ("family_name ASC",)) -> Any:
    values = (wanted, 100, list(sort), 1, 1)
    answer = caller.body("open-ils.actor", "open-ils.actor.patron.search.advanced", caller.token("admin"), *values)
    return answer["payload"][0] if answer["status"] == 200 and answer["payload"] else answer["status"]


def test_an_unknown_field_made_the_patron_search_fail(caller_of: CallerOf) -> None:
    by_name = {"family_name": {"value": "a", "group": 0}}
    for release, broken in (("3.14", True), ("3.17", False)):
        caller = caller_of(release)
        for more in ({"shoe_size": {"value": "4", "group": 0}}, {"planet": {"value": "M", "group": 1}}):
            assert (searched(caller, {**by_name, **more}) == 500) is broken
        assert (searched(caller, by_name, ["shoe_size"]) == 500) is broken
        assert (searched(caller, by_name, ["family_name ASC", "penalties"]) == 500) is broken
        assert searched(caller, by_name, ["penalties", "family_name ASC"]) != 500


@pytest.mark.long
def test_some_patches_always_sorted_by_penalties() -> None:
    everybody, orders = {"usrname": {"value": "2", "group": 0}}, []
    for release in ("3.16.6", "3.16.7", "3.16.8"):
        with Sandbox(release=release) as sandbox:
            caller = Caller(sandbox.url)
            orders.append(searched(caller, everybody))
            by_penalties = searched(caller, everybody, ["penalties", "family_name ASC"])
    assert orders[0] == orders[2] != orders[1] == by_penalties


def test_an_unknown_difference_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="unknown difference: fax; allowed: hidden-rows-count"):
        releases.differences(None, ["fax"])


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


def test_plain_reads_lag_behind_with_a_replica() -> None:
    with (
        Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox,
        gateway_of(sandbox.url, "admin") as gateway,
    ):
        assert gateway.call("open-ils.actor", "opensrf.open-ils.system.use_authoritative").value == "1"
        (before, _, _) = names(gateway)
        renamed(gateway)
        assert before != "Renée"
        assert names(gateway) == (before, before, "Renée")
        sandbox.catch_up()
        assert names(gateway) == ("Renée",) * 3
        sandbox.reset()
        assert names(gateway) == (before,) * 3


def test_a_replica_catches_up_by_itself() -> None:
    with Sandbox(differences=["replica"], replica_delay=0.0) as sandbox, gateway_of(sandbox.url, "admin") as gateway:
        renamed(gateway)
        assert names(gateway) == ("Renée",) * 3
