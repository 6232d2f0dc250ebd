"""The IDL is parsed safely, fetched sparingly, and cached on disk."""

import json
import os
import stat
from pathlib import Path

import pytest
from support.gateway_server import Server, connect, hang_up, http, http_error, raw, results, stall
from support.mail_server import free_port
from support.recorded import idl_bytes
from support.waiting import wait_until

from evergreen_groups.errors import DataError, TransportError
from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.gateway.idl import Idl, IdlCache, Link

RECORDED = idl_bytes()
BASE = "http://opensrf.org/spec/IDL/base/v1"


def document(*class_ids, fields="id", note=""):
    """Build an IDL with these classes, all with the same fields."""
    inner = "".join(f'<field name="{name}"/>' for name in fields.split())
    classes = "".join(f'<class id="{class_id}"><fields>{inner}</fields></class>' for class_id in class_ids)
    return f'<IDL xmlns="{BASE}"><!-- {note} -->{classes}</IDL>'


class IdlServer:
    """Serves classes by ``?class=``, with validators, and counts complete answers."""

    def __init__(self, known="au ac aou", validators=None, narrow=None):
        self.known = known.split()
        self.validators = {} if validators is None else validators
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
        etag = self.validators.get("ETag")
        modified = self.validators.get("Last-Modified")
        if (etag and request.headers.get("if-none-match") == etag) or (
            modified and request.headers.get("if-modified-since") == modified
        ):
            line.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")
            return
        self.sent.append(asked)
        body = document(*(class_id for class_id in asked if class_id in self.known))
        raw(http(body, content_type="application/xml", headers=self.validators))(line, request)


class TestReading:
    def test_fields_in_order_with_datatypes(self):
        known = Idl.parse(RECORDED)["ac"]
        assert [field.name for field in known.fields] == ["active", "barcode", "id", "usr"]
        assert [field.datatype for field in known.fields] == ["bool", "text", "id", "link"]
        assert (known.id, known.fieldmapper, known.primary) == ("ac", "actor::card", "id")
        assert known.positions == {
            "active": 0, "barcode": 1, "id": 2, "usr": 3, "isnew": 4, "ischanged": 5, "isdeleted": 6,
        }  # fmt: skip

    def test_links(self):
        patron = Idl.parse(RECORDED)["au"]
        assert patron.field("home_ou").link == Link("has_a", "id", "aou")
        assert patron.field("cards").link == Link("has_many", "usr", "ac")
        assert patron.field("cards").virtual
        assert not patron.field("usrgroup").virtual
        assert patron.field("family_name").link is None

    @pytest.mark.parametrize("name", ["nonesuch", "isnew"])
    def test_unknown_field(self, name):
        with pytest.raises(AttributeError, match=f"ac has no field {name}"):
            Idl.parse(RECORDED)["ac"].field(name)

    def test_all_of_a_servers(self):
        idl = Idl.parse(RECORDED)
        assert len(idl) == len(set(idl)) == 23
        assert "au" in idl
        assert "zzz" not in idl
        assert len(idl["au"].fields) == 74
        assert repr(idl) == "Idl(23 classes)"

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

    def test_huge_ones_are_refused(self):
        with pytest.raises(DataError, match="16 MB"):
            Idl.parse(document("a", note="x" * 17 * 1024**2).encode())


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

    def test_another_answer_in_place_of_the_whole_file_is_not_kept(self, tmp_path):
        """Answers are off by one: instead of the whole file, the answer to the request before arrives."""
        behind = [results("x"), raw(http(document("au"), headers={"ETag": '"1"'}))]
        with Server(behind, IdlServer()) as server, connect(server, cache_directory=tmp_path) as gateway:
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


VALIDATORS = [{"ETag": '"abc-1"'}, {"Last-Modified": "Tue, 24 Nov 2026 22:00:00 GMT"}]


def fetch(answers, folder, *class_ids):
    """Start as a new run would, and return the requests that it makes."""
    with Server(otherwise=answers, port=fetch.port) as server:
        with connect(server, cache_directory=folder) as gateway:
            idl = gateway.idl(*class_ids)
            assert all(class_id in idl for class_id in class_ids)
        return server.requests


@pytest.fixture(autouse=True)
def _same_address_within_a_test():
    fetch.port = free_port()


def with_no_idl(content):
    """Return a cached file that is whole, but has the document "/"."""
    heading = json.loads(content.split(b"\n")[0])
    heading["sha256"] = "8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1"
    return json.dumps(heading).encode() + b"\n/"


class TestCache:
    @pytest.mark.parametrize("validators", VALIDATORS)
    def test_the_next_run_only_asks_whether_it_is_right(self, tmp_path, validators):
        answers = IdlServer(validators=validators)
        fetch(answers, tmp_path, "au")
        [request] = fetch(answers, tmp_path, "au")
        assert answers.sent == [["au"]]
        assert set(validators.values()) <= set(request.headers.values())

    def test_a_changed_file_replaces_it(self, tmp_path):
        answers = IdlServer(validators={"ETag": '"1"'})
        fetch(answers, tmp_path, "au")
        answers.validators["ETag"] = '"2"'
        fetch(answers, tmp_path, "au")
        fetch(answers, tmp_path, "au")
        assert answers.sent == [["au"], ["au"]]
        assert len(list(tmp_path.iterdir())) == 1

    def test_one_without_the_classes_asked_for_is_not_kept(self, tmp_path):
        """The cached answer belonged to another question, and the next one has no validator."""
        other = raw(http(document("ac"), headers={"ETag": '"1"'}))
        with Server([other], IdlServer()) as server, connect(server, cache_directory=tmp_path) as gateway:
            assert "au" in gateway.idl("au")
        assert list(tmp_path.iterdir()) == []

    def test_each_choice_of_classes_has_its_own(self, tmp_path):
        answers = IdlServer(validators={"ETag": '"1"'})
        fetch(answers, tmp_path, "au")
        fetch(answers, tmp_path, "au", "ac")
        fetch(answers, tmp_path, "ac", "au")
        assert answers.sent == [["au"], ["ac", "au"]]

    def test_without_validators_nothing_is_kept(self, tmp_path):
        answers = IdlServer()
        fetch(answers, tmp_path, "au")
        assert list(tmp_path.iterdir()) == []

    def test_readable_by_the_owner_alone(self, tmp_path):
        folder = tmp_path / "new" / "folder"
        fetch(IdlServer(validators={"ETag": '"1"'}), folder, "au")
        [file] = folder.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: b"\n",
            lambda content: content[:-10],
            lambda content: content.replace(b"class", b"klass"),
            lambda content: b"[]" + content[content.index(b"\n") :],
            lambda content: b"{}" + content[content.index(b"\n") :],
            lambda content: content.replace(b"127.0.0.1", b"127.0.0.2", 1),
            lambda content: content.replace(b'"conditions": {', b'"conditions": 7, "x": {', 1),
            lambda content: b"\xff\xfe" + content,
            lambda content: b"x" * 20_000_000,
            with_no_idl,
        ],
    )
    def test_a_broken_one_is_ignored(self, tmp_path, damage):
        answers = IdlServer(validators={"ETag": '"1"'})
        fetch(answers, tmp_path, "au")
        [file] = tmp_path.iterdir()
        file.write_bytes(damage(file.read_bytes()))
        [request] = fetch(answers, tmp_path, "au")
        assert "if-none-match" not in request.headers
        fetch(answers, tmp_path, "au")
        assert answers.sent == [["au"], ["au"]]

    def test_a_folder_that_cannot_be_made_is_no_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        fetch(IdlServer(validators={"ETag": '"1"'}), tmp_path / "file" / "folder", "au")

    def test_a_folder_in_place_of_the_file_is_no_error(self, tmp_path):
        answers = IdlServer(validators={"ETag": '"1"'})
        fetch(answers, tmp_path, "au")
        [file] = tmp_path.iterdir()
        file.unlink()
        file.mkdir()
        fetch(answers, tmp_path, "au")
        assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to(path), lambda path: path.mkdir()])
def test_what_is_no_file_in_the_cache_is_passed_over(tmp_path, plant):
    """Opening a pipe would block forever."""
    cache = IdlCache(tmp_path)
    url = "https://ils.example/idl"
    cache.save(url, b"<IDL/>", {"ETag": "1"})
    (file,) = tmp_path.iterdir()
    file.unlink()
    plant(file)
    assert cache.load(url) is None
