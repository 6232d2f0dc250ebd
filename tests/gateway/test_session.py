"""Logging in, renewing an ended session, and logging out."""

import threading

import pytest
from support.gateway_server import (
    TOKEN,
    Server,
    connect,
    connect_as_staff,
    event,
    hang_up,
    http_error,
    logged_in,
    results,
    says,
    session_server,
)

from evergreen_groups import errors
from evergreen_groups.gateway import TOKEN as TOKEN_PLACE
from evergreen_groups.gateway import Credentials

LOGIN = "open-ils.auth.login"
LOGOUT = "open-ils.auth.session.delete"
THING = "open-ils.actor.thing"
OVER = results(event("NO_SESSION", 1001))


def call(gateway, **how):
    return gateway.call("open-ils.actor", THING, TOKEN_PLACE, 6001, **how).value


class Sessions:
    """Answers calls only for the latest token; ``end`` expires it."""

    def __init__(self, over=OVER):
        self.over = over
        self.tokens = []
        self.live = None
        self.lock = threading.Lock()

    def __call__(self, line, request):
        if request.osrf_method == LOGIN:
            with self.lock:
                self.live = f"{len(self.tokens):032x}"
                self.tokens.append(self.live)
            results(logged_in(self.live))(line, request)
        elif request.osrf_method == LOGOUT:
            results(request.params[0])(line, request)
        elif request.params[0] == self.live:
            results("good")(line, request)
        else:
            self.over(line, request)

    def end(self):
        self.live = None


class TestLogin:
    def test_with_the_first_call_that_needs_it(self):
        with Server(otherwise=session_server(results("good"))) as server, connect_as_staff(server) as gateway:
            assert gateway.call("open-ils.actor", THING).value == "good"
            assert server.posts == [THING]
            call(gateway)
            call(gateway)
            assert server.posts == [THING, LOGIN, THING, THING]
            assert server.requests[2].params == [TOKEN, 6001]
            assert gateway.token == TOKEN

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ({"username": "desk"}, {"username": "desk", "type": "staff"}),
            ({"barcode": "2999"}, {"barcode": "2999", "type": "staff"}),
            (
                {"username": "desk", "workstation": "BR1-desk", "login_type": "temp"},
                {"username": "desk", "workstation": "BR1-desk", "type": "temp"},
            ),
        ],
    )
    def test_what_is_sent(self, given, sent):
        credentials = Credentials(password="pw", **given)
        with Server(otherwise=session_server(says(404))) as server, connect(server, credentials=credentials) as gateway:
            gateway.login()
            assert server.requests[0].params == [sent | {"password": "pw"}]

    @pytest.mark.parametrize(
        "given",
        [{"password": "pw"}, {"username": "a", "barcode": "b", "password": "pw"}, {"username": "a", "password": ""}],
    )
    def test_credentials_that_cannot_be(self, given):
        with pytest.raises(errors.ConfigurationError):
            Credentials(**given)

    def test_without_credentials(self):
        with Server() as server, connect(server) as gateway:
            with pytest.raises(errors.ConfigurationError, match="credentials"):
                call(gateway)
            assert server.requests == []

    @pytest.mark.parametrize(
        "textcode", ["LOGIN_FAILED", "PATRON_INACTIVE", "PATRON_CARD_INACTIVE", "WORKSTATION_NOT_FOUND"]
    )
    def test_refused(self, textcode):
        with Server(otherwise=results(event(textcode, 1000))) as server, connect_as_staff(server) as gateway:
            with pytest.raises(errors.LoginRefusedError, match=f"login refused .{textcode}") as caught:
                call(gateway)
            assert server.posts == [LOGIN]
        assert caught.value.textcode == textcode
        assert caught.value.method == LOGIN

    @pytest.mark.parametrize("provisional", [1, "1"])
    def test_a_second_factor_is_owed(self, provisional):
        answer = results(logged_in(provisional=provisional))
        with Server(otherwise=answer) as server, connect_as_staff(server) as gateway:
            with pytest.raises(errors.LoginRefusedError, match="second factor"):
                call(gateway)
            assert server.posts == [LOGIN]

    @pytest.mark.parametrize(
        "answer",
        [
            "yes",
            [],
            {},
            event("SUCCESS", 0),
            event("SUCCESS", 0, payload={"authtoken": None}),
            event("SUCCESS", 0, payload=7),
        ],
    )
    def test_success_without_a_token(self, answer):
        with (
            Server(otherwise=results(answer)) as server,
            connect_as_staff(server) as gateway,
            pytest.raises(errors.UnexpectedAnswerError),
        ):
            gateway.login()

    def test_tried_again_like_any_read(self):
        script = [hang_up, http_error(503), results(logged_in())]
        with Server(script, results(1)) as server, connect_as_staff(server) as gateway:
            gateway.login()
            assert server.posts == [LOGIN] * 3


class TestRenewal:
    @pytest.mark.parametrize("write", [False, True])
    @pytest.mark.parametrize("over", [OVER, says(401), results([event("NO_SESSION", "1001")])])
    def test_once_and_the_call_repeated(self, over, write):
        sessions = Sessions(over)
        with Server(otherwise=sessions) as server, connect_as_staff(server) as gateway:
            call(gateway)
            sessions.end()
            assert call(gateway, write=write) == "good"
            assert server.posts == [LOGIN, THING, THING, LOGIN, THING]
            assert server.requests[-1].params == [sessions.tokens[1], 6001]

    def test_not_twice(self):
        with Server(otherwise=session_server(OVER)) as server, connect_as_staff(server) as gateway:
            with pytest.raises(errors.NoSessionError):
                call(gateway)
            assert server.posts == [LOGIN, THING, LOGIN, THING]

    def test_not_for_a_call_without_the_token(self):
        with Server(otherwise=session_server(OVER)) as server, connect_as_staff(server) as gateway:
            with pytest.raises(errors.NoSessionError):
                gateway.call("open-ils.actor", THING, "some token")
            assert server.posts == [THING]

    def test_several_threads_cause_one_login(self):
        sessions = Sessions()
        arrived = threading.Barrier(6)

        def over_together(line, request):
            arrived.wait(60)  # all six hold the same expired token
            OVER(line, request)

        sessions.over = over_together
        with Server(otherwise=sessions) as server, connect_as_staff(server, concurrency=6) as gateway:
            gateway.login()
            sessions.end()
            assert list(gateway.map(lambda _: call(gateway), range(6))) == ["good"] * 6
            assert server.posts.count(LOGIN) == 2
            assert server.posts.count(THING) == 12

    def test_that_fails_is_reported_as_such(self):
        sessions = Sessions()
        with Server(otherwise=sessions) as server, connect_as_staff(server) as gateway:
            gateway.login()
            server.otherwise = lambda line, request: (
                results(event("LOGIN_FAILED", 1000)) if request.osrf_method == LOGIN else OVER
            )(line, request)
            with pytest.raises(errors.LoginRefusedError):
                call(gateway)


class TestLogout:
    def test_not_without_a_login(self):
        with Server(otherwise=session_server(results(1))) as server:
            with connect_as_staff(server) as gateway:
                gateway.call("open-ils.actor", THING)
            assert server.posts == [THING]

    def test_also_after_an_error(self):
        def work(server):
            with connect_as_staff(server) as gateway:
                call(gateway)

        with Server(otherwise=session_server(says(404))) as server:
            with pytest.raises(errors.MethodNotFoundError):
                work(server)
            assert server.posts == [LOGIN, THING, LOGOUT]
            assert server.requests[-1].params == [TOKEN]

    @pytest.mark.parametrize("failure", [hang_up, says(500), http_error(500), OVER, results(), results(1, 2)])
    def test_errors_are_not_raised_and_not_tried_again(self, failure):
        with Server([results(logged_in())], failure) as server:
            with connect_as_staff(server) as gateway:
                gateway.login()
            assert server.posts.count(LOGOUT) == 1 + (failure is hang_up)  # the stale connection, and a new one

    def test_then_another_login(self):
        with Server(otherwise=Sessions()) as server, connect_as_staff(server) as gateway:
            call(gateway)
            gateway.logout()
            gateway.logout()
            call(gateway)
            assert server.posts == [LOGIN, THING, LOGOUT, LOGIN, THING]


class TestTokenHandedIn:
    def test_used_and_left_alone(self):
        with Server(otherwise=session_server(results("good"))) as server:
            with connect(server, token="e" * 32) as gateway:
                assert call(gateway) == "good"
                gateway.logout()
                assert call(gateway) == "good"
                assert gateway.token == "e" * 32
            assert server.posts == [THING, THING]
            assert server.requests[0].params == ["e" * 32, 6001]

    def test_not_together_with_credentials(self):
        with Server() as server, pytest.raises(errors.ConfigurationError):
            connect_as_staff(server, token="e" * 32)
