"""The gateway written in Rust: answers are believed only if they belong to their questions; failures have no reason."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.fault_proxy import Fault, FaultProxy, HttpAnswer, fault_proxy
from support.gateways import PASSWORD, gateway_of
from support.sandbox_caller import Caller

from evergreen_groups import errors
from evergreen_groups.gateway import TOKEN, Gateway, GatewayKind, RetryPolicy
from evergreen_groups.gateway import sender as sender_module
from evergreen_groups.sandbox import Sandbox

ACTOR, PCRUD, ECHO = "open-ils.actor", "open-ils.pcrud", "opensrf.system.echo"
SEARCH = "open-ils.pcrud.search.aou.atomic"
NEW_GROUP = "open-ils.actor.usergroup.new"
QUICK = RetryPolicy(tries=3, first_delay=0.001, longest_delay=0.002)
REFUSED = HttpAnswer(b'{"payload":[],"status":400}', 400, "text/json")

Connect = Callable[..., Gateway]


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(gateway="rust") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def fresh_workers() -> Iterator[Sandbox]:
    """A gateway whose workers serve one request each, so that each answer belongs to its question."""
    with Sandbox(gateway="rust", worker_requests=1) as sandbox:
        yield sandbox


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def connected(sandbox: Sandbox, account: str = "admin", **options: Any) -> Gateway:
            sandbox.reset()
            return stack.enter_context(gateway_of(sandbox.url, account, retries=QUICK, **options))

        yield connected


@pytest.fixture
def rust(running: Sandbox, connect: Connect) -> Gateway:
    return connect(running)


@pytest.fixture
def proxy(fresh_workers: Sandbox) -> Iterator[FaultProxy]:
    fresh_workers.reset()
    with fault_proxy(fresh_workers.url) as proxy:
        yield proxy


def leave_an_answer(sandbox: Sandbox) -> None:
    """Have the first worker keep an answer that belongs to no later question."""
    caller = Caller(sandbox.url)
    form = caller.form(PCRUD, SEARCH, '"nobody\'s"', '{"id": 1}')
    assert [caller.send("POST", "/osrf-gateway-v1", form)[0] for _ in range(2)] == [400, 400]
    caller.send("POST", "/osrf-gateway-v1", caller.form(PCRUD, ECHO, "[]"))


def orgs(gateway: Gateway, id: int = 1) -> list[int]:
    return [org.id for org in gateway.pcrud.search("aou", {"id": id})]


@pytest.mark.apache(reason="the shared sandbox is to be the other gateway")
def test_each_gateway_is_known_by_its_answers(rust: Gateway, sandbox: Sandbox) -> None:
    assert rust.kind is None
    assert (orgs(rust), rust.kind) == ([1], GatewayKind.RUST)
    with gateway_of(sandbox.url, "admin") as other:
        assert (orgs(other), other.kind) == ([1], GatewayKind.OPENSRF)


def test_a_failure_says_what_is_known_of_it(rust: Gateway) -> None:
    with pytest.raises(errors.UnexplainedError) as caught:
        rust.call(ACTOR, "open-ils.actor.nosuch", 1)
    assert (caught.value.code, caught.value.status) == ("unexplained", 400)
    assert str(caught.value) == (
        "open-ils.actor.nosuch: the call failed, and the gateway gave no reason (HTTP 400); "
        "the reason is in the server's log"
    )


def test_a_read_that_failed_is_tried_again_a_few_times(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "admin", retries=QUICK) as gateway:
        assert orgs(gateway) == [1]
        left = [REFUSED, REFUSED]
        proxy.instead = lambda call: left.pop() if call.method == SEARCH and left else None
        assert orgs(gateway) == [1]
        proxy.instead = lambda call: REFUSED if call.method == SEARCH else None
        proxy.seen.clear()
        with pytest.raises(errors.UnexplainedError):
            orgs(gateway)
        assert proxy.seen.count(SEARCH) == QUICK.tries


def test_a_write_that_failed_is_not(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "admin", retries=QUICK) as gateway:
        assert orgs(gateway) == [1]
        proxy.alter = lambda call, answer: REFUSED if call.method == NEW_GROUP else None
        proxy.seen.clear()
        with pytest.raises(errors.UnexplainedError):
            gateway.call(ACTOR, NEW_GROUP, TOKEN, gateway_user(gateway), write=True)
        assert proxy.seen.count(NEW_GROUP) == 1


def gateway_user(gateway: Gateway) -> int:
    return int(gateway.pcrud.search("au", {"usrname": "admin"}, limit=1)[0].id)


def test_where_a_session_has_ended_pcrud_is_not_asked(running: Sandbox, rust: Gateway) -> None:
    assert orgs(rust) == [1]
    view = rust.acting_as("0" * 32)
    with pytest.raises(errors.NoSessionError):
        orgs(view)
    assert orgs(rust, -1) == []


def test_a_session_that_was_idle_for_long_is_renewed(
    running: Sandbox, rust: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert orgs(rust) == [1]
    running.reset()
    monkeypatch.setattr(sender_module, "_SURE_SECONDS", -1.0)
    assert orgs(rust) == [1]


def test_a_session_that_ended_is_renewed(fresh_workers: Sandbox, connect: Connect) -> None:
    gateway = connect(fresh_workers)
    assert orgs(gateway) == [1]
    fresh_workers.reset()
    assert orgs(gateway) == [1]
    token = gateway.token
    view = gateway.acting_as(token)
    assert orgs(view) == [1]
    fresh_workers.reset()
    with pytest.raises(errors.NoSessionError):
        orgs(view)


class TestAnswersToOtherQuestions:
    def test_an_empty_one_is_not_believed(self, running: Sandbox, rust: Gateway) -> None:
        assert orgs(rust, -1) == []
        leave_an_answer(running)
        with pytest.raises(errors.DataError) as caught:
            orgs(rust, -1)
        assert caught.value.code == "answers-mixed-up"
        assert "EG_HTTP_GATEWAY_MAX_REQUESTS=1" in str(caught.value)

    def test_a_failure_is_named_as_what_it_is(self, running: Sandbox, rust: Gateway) -> None:
        assert orgs(rust) == [1]
        with pytest.raises(errors.DataError, match="belongs to another request"):
            rust.pcrud.search("aou", {"nosuch": 1})

    def test_nothing_is_written(self, running: Sandbox) -> None:
        running.reset()
        with fault_proxy(running.url) as proxy, gateway_of(proxy.url, "admin", retries=QUICK) as gateway:
            user = gateway_user(gateway)
            leave_an_answer(running)
            with pytest.raises(errors.TransportError, match="not sent, because") as caught:
                gateway.call(ACTOR, NEW_GROUP, TOKEN, user, write=True)
            assert (caught.value.code, caught.value.sent) == ("write-withheld", False)
            assert NEW_GROUP not in proxy.seen

    def test_nor_where_that_cannot_be_found_out(self, proxy: FaultProxy) -> None:
        with gateway_of(proxy.url, "admin", retries=QUICK) as gateway:
            user = gateway_user(gateway)
            proxy.decide = lambda call: Fault.DROP_ANSWER if call.proves_answers else Fault.NONE
            with pytest.raises(errors.TransportError) as caught:
                gateway.call(ACTOR, NEW_GROUP, TOKEN, user, write=True)
            assert not caught.value.sent
            assert NEW_GROUP not in proxy.seen

    def test_a_login_is_not_believed(self, running: Sandbox, connect: Connect) -> None:
        gateway = connect(running)
        with gateway_of(running.url, "desk", retries=QUICK) as another:
            leave_an_answer(running)
            caller = Caller(running.url)
            login = f'{{"username":"admin","password":"{PASSWORD}","type":"staff"}}'
            caller.send("POST", "/osrf-gateway-v1", caller.form("open-ils.auth", "open-ils.auth.login", login))
            with pytest.raises(errors.DataError, match="belongs to another request"):
                another.login()
        gateway.close()


LONGEST = 0.3
"""In seconds."""


def test_an_answer_is_given_up_long_before_it_may_be_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    method = "open-ils.actor.user.fines.summary"

    def fines(cut_off: float) -> object:
        with (
            Sandbox(gateway="rust", cut_off=cut_off, slow={method: 30.0}) as sandbox,
            gateway_of(sandbox.url, "admin", retries=RetryPolicy(tries=1), timeout=1000.0) as gateway,
        ):
            user = gateway_user(gateway)
            if cut_off > LONGEST:
                monkeypatch.setattr(sender_module, "LONGEST_CALL", LONGEST)
            return gateway.call(ACTOR, method, TOKEN, user, expect="optional").value

    # An empty answer, as for a patron who owes nothing, can be the rest of an answer that was cut off.
    assert fines(cut_off=LONGEST / 2) is None
    with pytest.raises(errors.TimedOutError):
        fines(cut_off=30.0)


def test_what_is_left_of_a_list_is_no_list() -> None:
    with (
        Sandbox(gateway="rust", cut_off=0.1, slow={"open-ils.pcrud.search.pgt.atomic": 30.0}) as sandbox,
        gateway_of(sandbox.url, "admin", retries=QUICK) as gateway,
        pytest.raises(errors.UnexpectedAnswerError) as caught,
    ):
        gateway.pcrud.search("pgt", {"id": {">": 0}})
    assert caught.value.code == "no-result"


def test_a_row_that_isn_t_there_is_an_empty_list(rust: Gateway) -> None:
    assert orgs(rust) == [1]
    found = rust.pcrud.retrieve("aou", 1)
    assert found is not None
    assert found.id == 1
    assert rust.pcrud.retrieve("aou", 10**6) is None


@pytest.mark.long
def test_older_releases_are_read_as_well() -> None:
    ids = {}
    for gateway_kind in ("apache", "rust"):
        with (
            Sandbox(release="3.12", gateway=gateway_kind) as sandbox,  # type: ignore[arg-type]  # one of the two
            gateway_of(sandbox.url, "north_manager", retries=QUICK) as gateway,
        ):
            pages = gateway.pcrud.pages("au", {"deleted": "f"}, select=["id"], page_size=10)
            ids[gateway_kind] = sorted(patron.id for page in pages for patron in page)
    assert ids["rust"] == ids["apache"] != []


def test_a_parameter_of_an_unknown_class_is_a_failure_without_a_reason(
    fresh_workers: Sandbox, connect: Connect
) -> None:
    gateway = connect(fresh_workers)
    with pytest.raises(errors.UnexplainedError):
        gateway.call(ACTOR, ECHO, {"__c": "nosuch", "__p": []}, write=True)


def test_other_refusals_of_a_web_server_are_not_its(proxy: FaultProxy) -> None:
    proxy.instead = lambda call: HttpAnswer(b"<html></html>", 400, "text/html")
    with gateway_of(proxy.url, "admin", retries=QUICK) as gateway, pytest.raises(Exception, match="HTTP 400") as caught:
        gateway.call(ACTOR, ECHO, 1)
    assert caught.value.code == "web-server-refused"  # type: ignore[attr-defined]
