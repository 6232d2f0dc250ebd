"""Each kind of answer gives a result or its own exception."""

from decimal import Decimal

import pytest
from support.gateway_server import Server, connect, envelope, event, http, http_error, raw, results, says

from evergreen_groups import errors
from evergreen_groups.gateway import RetryPolicy

ONCE = RetryPolicy(tries=1)


def ask(action, expect="one"):
    """Make one call, answered by ``action``."""
    with Server([action]) as server, connect(server, retries=ONCE) as gateway:
        return gateway.call("open-ils.actor", "open-ils.actor.thing", 1, expect=expect)


def refusal(action, kind, expect="one"):
    """Return the answer's error, which must be exactly of ``kind``."""
    with pytest.raises(errors.GatewayError) as caught:
        ask(action, expect)
    assert type(caught.value) is kind
    assert caught.value.service == "open-ils.actor"
    assert caught.value.method == "open-ils.actor.thing"
    assert str(caught.value).startswith("open-ils.actor.thing: ")
    assert "\n" not in str(caught.value)
    return caught.value


def test_result_says_where_it_came_from():
    result = ask(results("x"))
    assert result.raw == '{"payload":["x"],"status":200}'
    assert result.size == len(result.raw)
    assert repr(result) == "Result(30 bytes)"


def test_numbers_stay_exact():
    value = ask(raw(http('{"payload":[[4.10,0.1,12345678901234567890,1e2]],"status":200}'))).value
    assert [str(number) for number in value] == ["4.10", "0.1", "12345678901234567890", "1E+2"]
    assert isinstance(value[0], Decimal)


@pytest.mark.parametrize(
    ("action", "expect", "kind", "words"),
    [
        (results(), "one", errors.UnexpectedAnswerError, "no result"),
        (results(1, 2), "one", errors.UnexpectedAnswerError, "2 results, expected one"),
        (results(1, 2), "optional", errors.UnexpectedAnswerError, "2 results, expected one"),
        (results(1, event("NO_SESSION", 1001)), "many", errors.NoSessionError, ""),
        (raw(http(envelope([1], status=500))), "one", errors.ServerError, ""),  # the status counts even with results
        (raw(http('{"payload":["}')), "one", errors.CutOffError, ""),  # it stops in a text that looks like an end
        (http_error(408), "one", errors.TimedOutError, ""),
    ],
)
def test_what_is_no_result(action, expect, kind, words):
    assert words in str(refusal(action, kind, expect))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, errors.MethodNotFoundError),
        (500, errors.ServerError),
        (503, errors.ServerError),
    ],
)
def test_status_in_the_body(status, kind):
    error = refusal(says(status, "osrfMethodException : Called with secret things of a patron"), kind)
    assert f"status {status}, osrfMethodException" in str(error)
    assert "secret things" not in str(error)
    assert "secret things" in error.raw
    assert error.status == status


@pytest.mark.parametrize("number", [1001, "1001"])
@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: [it], lambda it: [[1], it]])
def test_events_stand_in_for_results_and_in_lists(number, wrap):
    error = refusal(results(wrap(event("NO_SESSION", number))), errors.NoSessionError)
    assert (error.textcode, error.number) == ("NO_SESSION", 1001)


@pytest.mark.parametrize("more", [{}, {"ilspermloc": None}, {"ilspermloc": "", "ilsperm": None}])
def test_permission_denied_without_particulars(more):
    error = refusal(results(event("PERM_FAILURE", "5000", **more)), errors.PermissionDeniedError)
    assert error.org_unit is None


def test_an_event_keeps_its_description_and_may_lack_a_number():
    error = refusal(results(event("SOMETHING", "")), errors.EventError)
    assert (error.textcode, error.number, error.description) == ("SOMETHING", 0, "About SOMETHING")


def test_a_hash_that_is_no_event():
    assert ask(results({"textcode": "NO_SESSION"})).value == {"textcode": "NO_SESSION"}


@pytest.mark.parametrize(
    "body",
    [
        "<!DOCTYPE HTML><html><body>Welcome to the catalogue</body></html>",
        "[1]",
        '"payload"',
        "{}",
        '{"payload":[]}',
        '{"payload":{},"status":200}',
        '{"payload":[1],"status":"200"}',
        '{"payload":[1],"status":true}',
        '{"payload":[NaN],"status":200}',
        '{"payload":[1],"status":200} trailing',
        '{"payload":[1],"status":200}}',
        '{"payload":[' + "9" * 5000 + '],"status":200}',
        '{"payload":[' + "[" * 200_000 + "]" * 200_000 + '],"status":200}',
        b'{"payload":["\xff"],"status":200}',
        "<response xmlns='http://opensrf.org/-/namespaces/gateway/v1'><payload/><status>200</status></response>",
    ],
)
def test_something_else_than_the_gateways_json(body):
    assert refusal(raw(http(body)), errors.NotJSONError).sent


@pytest.mark.parametrize("keep", [0, 1, 12, 30, -2, -1])
def test_json_that_stops_in_the_middle(keep):
    body = envelope({"name": "}", "more": [{"a": 1}]})[:keep]
    assert refusal(raw(http(body)), errors.CutOffError).sent


@pytest.mark.parametrize("status", [400, 403, 404, 413, 500, 502, 503])
def test_the_web_server_itself_refuses(status):
    error = refusal(http_error(status), errors.HTTPStatusError)
    assert error.status == status
    assert f"HTTP {status}" in str(error)
    assert "<h1>No</h1>" in error.raw
    assert error.sent


def test_raw_is_cut_to_a_sane_length():
    assert len(ask(results("x" * 100_000)).raw) == 4000
    assert len(refusal(raw(http("x" * 100_000)), errors.NotJSONError).raw) == 4000


def test_half_a_letter_is_replaced():
    """A single surrogate can't be written to a file or a terminal. Pairs and escaped backslashes stay as they are."""
    body = r'{"payload":["\ud800 \\ud800 \ud83d\ude00 \uDC00x"],"status":200}'
    with Server(otherwise=raw(http(body))) as server, connect(server) as gateway:
        value = gateway.call("open-ils.actor", "opensrf.system.echo").value
    assert value == "\ufffd \\ud800 \U0001f600 \ufffdx"
