"""The sandbox's web server: the gateway's forms, envelopes and failures, the IDL file, the reset."""

import json
import socket
from http.client import HTTPConnection, RemoteDisconnected

import pytest
from lxml import etree
from support.sandbox_caller import FORM, Caller

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox import Sandbox

ACTOR, ECHO = "open-ils.actor", "opensrf.system.echo"
GATEWAY = "/osrf-gateway-v1"


def echo(caller: Caller, *texts: str, service: str = ACTOR) -> list[object]:
    _, _, body = caller.send("POST", GATEWAY, caller.form(service, ECHO, *texts))
    payload: list[object] = json.loads(body)["payload"]
    return payload


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.10", 1.1),
        ("1000.0", 1000),
        ("-0.0", 0),
        ("+5", 5),
        (".5", 0.5),
        ("007", 7),
        ('"a\\qb"', "aqb"),
        ('"tab\there"', "tab\there"),
        ('"Ñ€𝄞"', "Ñ€𝄞"),
        ('{"__c":"au","__p":[1]}', {"__c": "au", "__p": [1]}),
    ],
)
def test_parameters_are_parsed_like_in_the_gateway(caller: Caller, text: str, value: object) -> None:
    assert echo(caller, text) == [value]


@pytest.mark.parametrize(
    "text", ["", "nul", "abc", '{"a":', '{"a":1,"a":2}', "[1,]", "5 5", '"\\u0000"', "NaN", "--5", '{"__c":"au"}']
)
def test_invalid_json_is_null(caller: Caller, text: str) -> None:
    assert echo(caller, text, service="open-ils.auth") == [None]


def test_c_services_keep_nulls_and_numbers(caller: Caller) -> None:
    for service, answer in (("open-ils.pcrud", b"[null,-0.0,[-0.0],1000.0]"), (ACTOR, b"[0,[0],1000]")):
        _, _, body = caller.send("POST", GATEWAY, caller.form(service, ECHO, "null", "-0.0", "[-0.0]", "1000.0"))
        assert body == b'{"payload":' + answer + b',"status":200}'


def test_pcrud_names_a_number_that_is_no_token_as_it_was_sent(caller: Caller) -> None:
    body = caller.send("POST", GATEWAY, caller.form("open-ils.pcrud", "open-ils.pcrud.retrieve.au", "1000.0", "1"))[2]
    assert b"bad auth token: 1000.0" in body


def test_a_plus_stays_a_plus_and_the_body_is_ascii(caller: Caller) -> None:
    form = f"service={ACTOR}&method={ECHO}&param=%22a+b%C3%91%22&&param=2&=x&param=3".encode()
    status, content_type, body = caller.send("POST", GATEWAY, form)
    assert (status, content_type) == (200, "text/plain")
    assert body == b'{"payload":["a+b\\u00d1",2],"status":200}'


def test_a_query_string_works_too_for_any_other_method(caller: Caller) -> None:
    form = caller.form(ACTOR, ECHO, "1").decode()
    for method in ("GET", "PUT", "DELETE"):
        assert caller.send(method, f"{GATEWAY}?{form}")[2] == b'{"payload":[1],"status":200}'
    assert caller.send("PUT", GATEWAY, form.encode())[0] == 404


def test_rejections_are_logged_without_parameters(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        caller.body(ACTOR, "open-ils.actor.nosuch", "a secret")
    assert "open-ils.actor.nosuch" in caplog.text
    assert "secret" not in caplog.text


def test_xml_answers(caller: Caller) -> None:
    form = caller.form(ACTOR, ECHO, '{"a<b":[1,2.5,null,true]}', format="xml", input_format="json")
    _, content_type, body = caller.send("POST", GATEWAY, form)
    assert content_type == "application/xml"
    assert body.decode() == (
        '<response xmlns="http://opensrf.org/-/namespaces/gateway/v1"><payload><object><element key="a<b"><array>'
        '<number>1</number><number>2.500000</number><null/><boolean value="true"/></array></element></object>'
        "</payload><status>200</status></response>"
    )


def test_xml_parameters(caller: Caller) -> None:
    texts = ['<array class_hint="ac"><string>t</string><number>3</number></array>', "rubbish", '"json"']
    _, _, body = caller.send("POST", GATEWAY, caller.form("open-ils.auth", ECHO, *texts, input_format="xml"))
    assert json.loads(body)["payload"] == [{"__c": "ac", "__p": ["t", 3]}, None, None]


def test_an_unknown_format_hangs_up(caller: Caller) -> None:
    with pytest.raises(RemoteDisconnected):
        caller.send("POST", GATEWAY, caller.form(ACTOR, ECHO, "1", format="yaml"))


@pytest.mark.parametrize(("asked", "announced"), [("close", "close"), ("keep-alive", None)])
def test_the_end_of_a_connection_is_announced(caller: Caller, asked: str, announced: str | None) -> None:
    connection = HTTPConnection(caller.address, timeout=30)
    connection.request("POST", GATEWAY, caller.form(ACTOR, ECHO, "1"), {**FORM, "Connection": asked})
    assert connection.getresponse().headers["Connection"] == announced
    connection.close()


def test_the_idl_can_be_filtered_and_cached(caller: Caller) -> None:
    status, content_type, body = caller.send("GET", "/reports/fm_IDL.xml?class=ac&class=zzz&class=mous")
    assert (status, content_type) == (200, "application/xml; charset=utf-8")
    ids = [node.get("id") for node in etree.fromstring(body)]
    assert ids == ["ac", "mous"]
    connection = HTTPConnection(caller.address, timeout=30)
    connection.request("GET", "/reports/fm_IDL.xml?class=ac")
    answer = connection.getresponse()
    tag = answer.getheader("ETag")
    answer.read()
    assert tag
    connection.request("GET", "/reports/fm_IDL.xml?class=ac", headers={"If-None-Match": tag})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (304, b"")
    connection.close()


def test_a_busy_port_is_a_configuration_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            Sandbox(port=port)
