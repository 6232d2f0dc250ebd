"""The IDL is parsed safely, and fetched sparingly."""

from pathlib import Path

import pytest
from support.gateway_server import Server, connect, hang_up, http, http_error, raw, results, stall
from support.recorded import idl_bytes
from support.waiting import wait_until

from evergreen_groups.errors import DataError, TransportError
from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.gateway.idl import Idl

RECORDED = idl_bytes()
BASE = "http://opensrf.org/spec/IDL/base/v1"


def document(*class_ids, fields="id", note=""):
    """Build an IDL with these classes, all with the same fields."""
    inner = "".join(f'<field name="{name}"/>' for name in fields.split())
    classes = "".join(f'<class id="{class_id}"><fields>{inner}</fields></class>' for class_id in class_ids)
    return f'<IDL xmlns="{BASE}"><!-- {note} -->{classes}</IDL>'


class IdlServer:
    """Serves classes by ``?class=``, and counts complete answers."""

    def __init__(self, known="au ac aou", narrow=None):
        self.known = known.split()
        self.narrow = narrow
        self.sent = []

    def __call__(self, line, request):
        assert request.method == "GET"
        assert request.path.startswith("/reports/fm_IDL.xml")
        _, _, query = request.path.partition("?")
        if query and self.narrow:
            self.narrow(line, request)
            return
        asked = [part.removeprefix("class=") for part in query.split("&")] if query else self.known
        self.sent.append(asked)
        body = document(*(class_id for class_id in asked if class_id in self.known))
        raw(http(body, content_type="application/xml"))(line, request)


class TestReading:
    def test_fields_in_order_with_datatypes(self):
        known = Idl.parse(RECORDED)["ac"]
        assert [field.name for field in known.fields] == ["active", "barcode", "id", "usr"]
        assert [field.datatype for field in known.fields] == ["bool", "text", "id", "link"]
        assert (known.id, known.primary) == ("ac", "id")
        assert known.positions == {
            "active": 0, "barcode": 1, "id": 2, "usr": 3, "isnew": 4, "ischanged": 5, "isdeleted": 6,
        }  # fmt: skip

    def test_links(self):
        patron = Idl.parse(RECORDED)["au"]
        assert patron.field("home_ou").is_link
        assert patron.field("cards").is_link
        assert patron.field("cards").virtual
        assert not patron.field("usrgroup").virtual
        assert not patron.field("family_name").is_link

    def test_unknown_field(self):
        with pytest.raises(AttributeError, match="ac has no field nonesuch"):
            Idl.parse(RECORDED)["ac"].field("nonesuch")

    def test_all_of_a_servers(self):
        idl = Idl.parse(RECORDED)
        assert len(idl) == len(set(idl)) == 25
        assert "au" in idl
        assert "zzz" not in idl
        assert len(idl["au"].fields) == 74
        assert repr(idl) == "Idl(25 classes)"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "not XML",
            "<html><body>Welcome</body></html>",
            f'<IDL xmlns="{BASE}"><class id="au">',
            "<IDL/>",
            f'<!DOCTYPE IDL><IDL xmlns="{BASE}"/>',
            f'<!DOCTYPE IDL [<!ENTITY a "b">]><IDL xmlns="{BASE}"/>',
            f'<!DOCTYPE IDL SYSTEM "http://127.0.0.1:9/x.dtd"><IDL xmlns="{BASE}"/>',
            f'<!DOCTYPE IDL [<!ENTITY a SYSTEM "{Path(__file__).as_uri()}">]><IDL xmlns="{BASE}">&a;</IDL>',
            f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE IDL [<!ENTITY a "b">]><IDL xmlns="{BASE}"/>',
        ],
    )
    def test_anything_else_is_refused(self, text):
        with pytest.raises(DataError) as caught:
            Idl.parse(text.encode("utf-16" if "UTF-16" in text else "utf-8"))
        assert ("document type" in str(caught.value)) is ("DOCTYPE" in text)

    @pytest.mark.parametrize(
        "broken",
        [
            '<class id=""/>',
            '<class id="a"><fields><field/></fields></class>',
            '<class id="a"><fields><field name="id"/><field name="id"/></fields></class>',
        ],
    )
    def test_a_class_without_clear_positions_is_left_out(self, broken):
        """Evergreen's IDL of August 2026 names a field of ``auml`` twice."""
        idl = Idl.parse(f'<IDL xmlns="{BASE}">{broken}<class id="b"/></IDL>'.encode())
        assert list(idl) == ["b"]


class TestAsking:
    def test_only_for_the_classes_needed_and_once(self):
        with Server(otherwise=IdlServer()) as server, connect(server) as gateway:
            assert "au" in gateway.idl("au")
            assert {"au", "ac"} <= set(gateway.idl("ac", "au"))
            gateway.idl("au", "ac")
            assert [request.path for request in server.requests] == [
                "/reports/fm_IDL.xml?class=au",
                "/reports/fm_IDL.xml?class=ac",
            ]
            gateway.idl()

    @pytest.mark.parametrize(
        "refusal",
        [
            http_error(403),
            http_error(404),
            http_error(500),
            raw(http("", status=301, headers={"Location": "/"})),
            raw(http("<html/>")),
            raw(http("not XML")),
            raw(http(document())),
        ],
    )
    def test_the_whole_file_where_narrowing_is_refused_and_once(self, refusal):
        answers = IdlServer(narrow=refusal)
        with Server(otherwise=answers) as server, connect(server) as gateway:
            gateway.idl("au")
            gateway.idl("ac", "aou")
            assert answers.sent == [["au", "ac", "aou"]]
            assert server.requests[-1].path == "/reports/fm_IDL.xml"

    def test_a_server_that_ignores_the_narrowing(self):
        with Server(otherwise=raw(http(document("au", "ac")))) as server, connect(server) as gateway:
            gateway.idl("au")
            gateway.idl("ac")
            assert len(server.requests) == 1

    def test_an_unknown_class(self):
        answers = IdlServer()
        with Server(otherwise=answers) as server, connect(server) as gateway:
            for _ in range(3):
                with pytest.raises(DataError, match="no class zzz"):
                    gateway.idl("zzz")
            # One narrowed request, then the whole file, each time: the answer may have been meant for another request.
            assert len(server.requests) == 6
            assert "ac" in gateway.idl("ac")
            assert len(server.requests) == 6

    def test_another_answer_in_place_of_the_whole_file_is_not_kept(self):
        """Answers are off by one: instead of the whole file, the answer to the request before arrives."""
        behind = [results("x"), raw(http(document("au"), headers={"ETag": '"1"'}))]
        with Server(behind, IdlServer()) as server, connect(server) as gateway:
            assert "au" in gateway.idl("au")
            assert "ac" in gateway.idl("ac")

    def test_failures_that_may_pass_are_tried_again(self):
        with Server([hang_up, http_error(503)], IdlServer()) as server, connect(server) as gateway:
            gateway.idl("au")
            assert [request.path for request in server.requests] == ["/reports/fm_IDL.xml?class=au"] * 3

    def test_failures_that_stay_are_raised(self):
        settings = {"timeout": 0.1, "grace": 0.1, "retries": RetryPolicy(tries=1)}
        with Server(otherwise=stall) as server, connect(server, **settings) as gateway:
            with pytest.raises(TransportError, match="the IDL"):
                gateway.idl("au")
            wait_until(lambda: server.requests)  # the server may read more slowly than the call ends
            assert len(server.requests) == 1

    def test_an_upgraded_server_is_noticed_after_a_while(self, monkeypatch):
        before, after = document("au", fields="id name"), document("au", fields="name id")
        with Server([raw(http(before))], raw(http(after))) as server, connect(server) as gateway:
            assert gateway.idl("au")["au"].positions["id"] == 0
            assert gateway.idl("au")["au"].positions["id"] == 0
            monkeypatch.setattr(gateway._idl_source, "_expires", 0.0)
            assert gateway.idl()["au"].positions["id"] == 1
            assert [request.path for request in server.requests] == ["/reports/fm_IDL.xml?class=au"] * 2

    def test_an_unrequested_not_modified(self):
        answer = raw(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        with Server(otherwise=answer) as server, connect(server) as gateway, pytest.raises(TransportError):
            gateway.idl("au")
