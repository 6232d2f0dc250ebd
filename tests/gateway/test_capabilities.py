"""Capabilities are asked for once, cached for a while, and asked for again when the server may have changed."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from support.fault_proxy import Call, Fault, FaultProxy, HeldCalls, fault_proxy
from support.gateways import gateway_of
from support.web_caller import Clock

from evergreen_groups.errors import LoginRefusedError, MethodNotFoundError, OldReleaseError, TransportError
from evergreen_groups.gateway import (
    OLDEST_RELEASE,
    TOKEN,
    Bus,
    Gateway,
    GatewayKind,
    IlsRelease,
    RetryPolicy,
    RowChecks,
    Version,
    capabilities,
)
from evergreen_groups.gateway import idl as idl_source
from evergreen_groups.sandbox import Sandbox

VERSION = "opensrf.open-ils.system.ils_version"
AT_HOME = "open-ils.actor.user.penalties.update_at_home"
UPDATE = "open-ils.actor.patron.update"
ECHO = ("open-ils.actor", "opensrf.system.echo", "word")
ABSENT = (404, "osrfMethodException : Method [x] not found for OpenILS::Application::Actor")

Answering = Callable[[str], None]


@pytest.fixture
def calls_itself(proxy: FaultProxy) -> Answering:
    """Make the server behind the proxy report this release."""

    def answering(name: str) -> None:
        proxy.answer = lambda call: name if call.method == VERSION else None

    return answering


@pytest.fixture
def gateway(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff", only_supported=True) as gateway:
        yield gateway


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which cached capabilities expire."""
    clock = Clock()
    monkeypatch.setattr(capabilities, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("3-12-10", IlsRelease(3, 12, 10)),
        ("3-12", IlsRelease(3, 12)),
        ("3-11-0-rc1", IlsRelease(3, 11, 0)),
        ("3-9-0RC1", IlsRelease(3, 9, 0)),
        ("3-16-beta", IlsRelease(3, 16)),
        ("10-2-0", IlsRelease(10, 2, 0)),
        *((name, None) for name in ("HEAD", "", "3", "3-x", "x-3-12", "3.12.10", "3-12-10-", "3-12-1 0", "٣-١٢")),
    ],
)
def test_how_releases_are_named(name: str, meant: IlsRelease | None) -> None:
    assert IlsRelease.named(name) == meant


@pytest.mark.parametrize("name", ["3-10-5", "2-12-0", "3-9-0RC1"])
def test_a_release_that_is_too_old_is_refused(
    gateway: Gateway, proxy: FaultProxy, calls_itself: Answering, name: str
) -> None:
    calls_itself(name)
    with pytest.raises(OldReleaseError) as refused:
        gateway.call(*ECHO)
    assert refused.value.code == "old-release"
    assert str(refused.value) == (
        f"this is Evergreen {IlsRelease.named(name)}, which is too old; upgrade it to {OLDEST_RELEASE} or later"
    )
    with pytest.raises(OldReleaseError):
        gateway.call("open-ils.actor", UPDATE, TOKEN, None, write=True)
    assert UPDATE not in proxy.seen
    calls_itself("3-11-0")
    assert gateway.call(*ECHO).value == "word", "it was upgraded"
    assert AT_HOME not in proxy.seen


def test_nor_is_the_refusal_lost_behind_what_else_goes_wrong(
    gateway: Gateway, proxy: FaultProxy, calls_itself: Answering
) -> None:
    calls_itself("3-10-5")
    proxy.refuse = lambda call: ABSENT if call.method == ECHO[1] else None
    with pytest.raises(OldReleaseError):
        gateway.call(*ECHO)
    calls_itself("3-12-0")
    with pytest.raises(MethodNotFoundError):
        gateway.call(*ECHO)


@pytest.mark.parametrize("name", ["HEAD", "3-x", "ours"])
def test_without_a_number_it_is_what_is_there_that_tells(
    gateway: Gateway, proxy: FaultProxy, calls_itself: Answering, name: str
) -> None:
    calls_itself(name)
    assert gateway.call(*ECHO).value == "word"
    assert proxy.seen.count(AT_HOME) == 1
    with gateway_of(proxy.url, "consortium_staff", only_supported=True) as another:
        proxy.refuse = lambda call: ABSENT if call.method == AT_HOME else None
        with pytest.raises(OldReleaseError, match=f"this is Evergreen {name}, which is too old"):
            another.call(*ECHO)


@pytest.mark.parametrize("fault", ["refused", "lost", "empty", "nonsense"])
def test_a_server_that_does_not_say_is_taken_as_it_is(gateway: Gateway, proxy: FaultProxy, fault: str) -> None:
    if fault == "refused":
        proxy.refuse = lambda call: ABSENT if call.method == VERSION else None
    elif fault == "lost":
        proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == VERSION else Fault.NONE
    elif fault == "empty":
        proxy.nothing = lambda call: call.method == VERSION
    else:
        proxy.answer = lambda call: {"3": [10]} if call.method == VERSION else None
    assert gateway.call(*ECHO).value == "word"
    asked = proxy.seen.count(VERSION)  # twice if the request was lost on a connection that had been idle
    assert asked in (1, 2)
    for _ in range(2):
        assert gateway.call(*ECHO).value == "word"
    assert proxy.seen.count(VERSION) == asked, "nobody's run asks again and again"


def test_nor_does_anybody_wait_long_for_it(
    gateway: Gateway, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "_VERSION_SECONDS", 0.2)
    held = HeldCalls(proxy, lambda call: call.method == VERSION)
    try:
        for _ in range(3):
            assert gateway.call(*ECHO).value == "word"
        assert proxy.seen.count(VERSION) == 1
    finally:
        held.let_go()


def test_it_is_asked_beside_the_first_call(gateway: Gateway, proxy: FaultProxy, calls_itself: Answering) -> None:
    """Make the proxy hold back either answer until both calls have arrived."""
    calls_itself("3-12-10")
    both = threading.Barrier(2)

    def hold(call: Call) -> Fault:
        if call.method in (VERSION, "open-ils.auth.login"):
            both.wait(60)
        return Fault.NONE

    proxy.decide = hold
    gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN)
    assert sorted(proxy.seen) == sorted([VERSION, "open-ils.auth.login", "open-ils.auth.session.retrieve"])


def test_all_views_share_what_is_known_and_nobody_waits_for_it_again(
    gateway: Gateway, proxy: FaultProxy, calls_itself: Answering, time: Clock
) -> None:
    calls_itself("3-12-10")
    for view in (gateway, gateway.within(60), gateway.acting_as(gateway.token), gateway.refusing_old_releases()):
        assert view.call(*ECHO).value == "word"
    assert proxy.seen.count(VERSION) == 1
    held = HeldCalls(proxy, lambda call: call.method == VERSION)
    time.now += capabilities.SECONDS
    try:
        for _ in range(3):
            assert gateway.call(*ECHO).value == "word"
    finally:
        held.let_go()


def test_whoever_looks_may_ask_any_release(proxy: FaultProxy, calls_itself: Answering) -> None:
    calls_itself("3-10-5")
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        assert gateway.call(*ECHO).value == "word"
        assert VERSION not in proxy.seen
        assert gateway.capabilities().version == Version("3-10-5", is_old=True)


def test_a_login_that_is_refused_is_reported_as_that(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "nobody-at-all", only_supported=True) as gateway, pytest.raises(LoginRefusedError):
        gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN)


@pytest.mark.parametrize(
    ("number", "at_least", "checks"),
    [
        ("3.11", "3.11", RowChecks.ROW_BY_ROW),
        ("3.15", "3.11", RowChecks.ROW_BY_ROW),
        ("3.16", "3.16", RowChecks.IN_QUERY),
        (None, "3.17", RowChecks.IN_QUERY),
    ],
)
@pytest.mark.parametrize("bus", list(Bus))
def test_what_a_server_can_do(number: str | None, at_least: str, checks: RowChecks, bus: Bus) -> None:
    with Sandbox(release=number, bus=bus.value) as sandbox, Gateway(sandbox.url) as gateway:
        found = gateway.capabilities()
    assert (str(found.at_least), found.row_checks, found.bus) == (at_least, checks, bus)
    assert found.gateway is GatewayKind.OPENSRF
    named = found.version.release
    assert (named is None) == (number is None)
    assert named is None or f"{named}.".startswith(f"{number}.")
    assert len({version.name for version in found.versions.values()}) == 1


def test_services_of_different_releases_are_all_named(proxy: FaultProxy) -> None:
    def answer(call: Call) -> str | None:
        return ("3-16-2" if call.service == "open-ils.circ" else "3-12-10") if call.method == VERSION else None

    proxy.answer = answer
    missing = (404, "osrfServiceException : Service Not Found")
    proxy.refuse = lambda call: missing if call.service == "open-ils.fielder" else None
    with Gateway(proxy.url) as gateway:
        found = gateway.capabilities()
    assert found.versions == {"open-ils.actor": Version("3-12-10"), "open-ils.circ": Version("3-16-2")}


def shown_to_the_harbor(gateway: Gateway) -> list[int]:
    """The patrons that an account of one library sees, read in pages of twenty."""
    pages = gateway.pcrud.pages("au", select=["id"], page_size=20, concurrency=1)
    return [record.id for page in pages for record in page]


@pytest.fixture(scope="module")
def older() -> Iterator[Sandbox]:
    with Sandbox(release="3.13") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def newer() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def moved(proxy: FaultProxy, sandbox: Sandbox) -> None:
    """Replace the server by another one at the same address."""
    proxy.close()
    proxy._closed = False
    proxy.target = type(proxy.target)(scheme="http", netloc=sandbox.url[7:], path="", query="", fragment="")


@pytest.mark.parametrize("seen", ["a method that is missing", "a service that is missing", "nobody", "the IDL", "time"])
@pytest.mark.parametrize("upgrade", [True, False])
def test_what_was_known_of_another_release_makes_no_answer_shorter(
    older: Sandbox, newer: Sandbox, upgrade: bool, seen: str, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade or a downgrade is noticed by its effects, or else when the cache expires."""
    former, present = (older, newer) if upgrade else (newer, older)
    idl_time = Clock()
    monkeypatch.setattr(idl_source, "time", SimpleNamespace(monotonic=idl_time))
    once = RetryPolicy(tries=1)
    with fault_proxy(former.url) as proxy, gateway_of(proxy.url, "harbor_desk", retries=once) as gateway:
        expected = shown_to_the_harbor(gateway)
        assert expected
        assert gateway.counts_hidden_rows() is upgrade
        moved(proxy, present)
        # The other server doesn't know the session, which is then renewed.
        if seen == "a method that is missing":
            with pytest.raises(MethodNotFoundError):
                gateway.call("open-ils.actor", "open-ils.actor.no.such.method")
        elif seen == "a service that is missing":
            _fails(gateway, proxy, refuse=(404, "Internal Server Error : Transport Error"))
        elif seen == "nobody":
            _fails(gateway, proxy, refuse=None)
        elif seen == "the IDL":
            idl_time.now += idl_source.SECONDS + 1
        else:
            time.now += capabilities.SECONDS + 1
        if seen != "the IDL":
            assert gateway.counts_hidden_rows() is not upgrade
        found = shown_to_the_harbor(gateway)
        assert gateway.counts_hidden_rows() is not upgrade
    assert set(found) - {_own_id(present)} == set(expected) - {_own_id(former)}


def _own_id(sandbox: Sandbox) -> int:
    """The account's own patron; newer releases show it at any library."""
    return int(sandbox._store.rows("au", {"usrname": "harbor_desk"})[0]["id"])


def _fails(gateway: Gateway, proxy: FaultProxy, refuse: tuple[int, str] | None) -> None:
    """Make one call fail as during a restart of the services or (None) of the web server."""
    proxy.refuse = lambda call: refuse
    proxy.decide = lambda call: Fault.DROP_REQUEST if refuse is None else Fault.NONE
    with pytest.raises(TransportError):
        gateway.call(*ECHO)
    proxy.decide, proxy.refuse = lambda call: Fault.NONE, lambda call: None
